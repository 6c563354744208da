"""Model families: what each registers, and what their objectives may ask of the batches."""

import itertools

import jax
import numpy as np
import pytest

from dp3_jax import data, models
from dp3_jax.evaluation import suites
from dp3_jax.training import configuration, objectives, sharding, steps
from dp3_jax.training.feeding import DeviceBatches
from tests import runs


def test_every_family_can_be_trained_and_measured():
    assert set(models.FAMILIES) == set(objectives.OBJECTIVES) == set(suites.SUITES)
    for name, family in models.FAMILIES.items():
        assert family.name == name and models.family_of({"family": name}) is family
        assert callable(suites.SUITES[name]())


def test_an_unknown_family_is_named():
    for function in (models.family_of, models.build_generator, models.build_discriminator):
        with pytest.raises(
            ValueError, match="unknown model family 'vae', known: dcgan, anonymizer"
        ):
            function({"family": "vae"})


def test_a_families_objective_samples_what_its_generator_takes():
    config = runs.tiny_config()
    model = {**config.model.to_dict(), "image_size": config.data.image_size}
    sections = configuration.parse(config)
    samples = objectives.Samples.of(sections.log, sections.model, sections.seed)
    objective = objectives.OBJECTIVES[sections.model.family]
    inputs = objective.sample_inputs(samples, sections.data, None)
    wanted = models.generator_inputs(model, len(inputs[0]))
    assert [x.shape for x in inputs] == [x.shape for x in wanted]
    assert len(inputs[0]) >= config.log.grid_images
    network = models.build_generator(model)
    variables = network.init(jax.random.key(0), *inputs, train=False)
    assert steps.generate(network.apply, variables, inputs).shape[1:] == (16, 16, 3)


class Copies:
    """Companions that give every image of a batch once more, found by its row in the packed folder."""

    def __init__(self, images, count):
        self.images, self.count = images, count

    @property
    def shapes(self):
        return {"copy": ((self.count, *self.images.shape[1:]), self.images.dtype)}

    def batch(self, number, rows, mirrored):
        copies = self.images[rows]
        copies[mirrored] = copies[mirrored][:, :, ::-1]
        return {"copy": copies, "number": np.full(len(rows), number)}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A folder with 40 packed drawings to train on."""
    folder = tmp_path_factory.mktemp("drawings") / "packed"
    source = data.DataOptions(
        source="shapes", image_size=16, crop=None, train_examples=40, validation_examples=8
    )
    data.prepare(source, folder)
    return folder


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("subset", [0, 24])
def test_companions_are_told_where_each_image_of_a_batch_comes_from(packed, on_device, subset):
    options = data.DataOptions(
        source="packed", path=str(packed), image_size=16, crop=None, flip=True,
        train_examples=subset or 40, validation_examples=8, on_device=on_device,
    )  # fmt: skip
    feed = data.open_feed(options, "train", batch_size=8, seed=3)
    companions = Copies(np.load(packed / "images.npy"), 8)
    batches = DeviceBatches(
        feed, sharding.make_layout(), 2, on_device=on_device, companions=companions
    )
    for number, batch in zip((2, 3, 4, 5), batches, strict=False):
        np.testing.assert_array_equal(batch["copy"], batch["image"])
        assert (np.asarray(batch["number"]) == number).all()
    batches.close()


def test_images_that_are_not_packed_come_from_nowhere_in_particular():
    options = data.DataOptions(source="shapes", image_size=16, crop=None, train_examples=40)
    feed = data.open_feed(options, "train", batch_size=8, seed=3)
    assert feed.rows(0) == (None, None)
    assert len(next(itertools.islice(feed.batches(), 1))["image"]) == 8
