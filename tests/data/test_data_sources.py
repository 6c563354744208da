"""CelebA in all its layouts, plain folders, tensorflow_datasets and drawings, from files on disk."""

import io
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from dp3_jax.common.errors import UserError
from dp3_jax.data import DataOptions, load_arrays, open_feed
from dp3_jax.data.celeba import open_celeba
from dp3_jax.data.decode import load_image
from tests import data_makers as make

COUNT = 20


def options(path, source="celeba", **changes):
    changes = {"image_size": 16, "train_examples": 0, **changes}
    return DataOptions(source=source, path=str(path), **changes)


def split_names(path, split):
    return load_arrays(options(path), split).names


def kaggle(root):
    make.celeba(root / "img_align_celeba", COUNT, partition=False, identity=False)
    rows = make.partition_text(COUNT, ",")
    make.write(root / "list_eval_partition.csv", "image_id,partition\n" + rows)
    return root


def drive(root):
    make.celeba_zip(root / "Img" / "img_align_celeba.zip", COUNT)
    make.write(root / "Eval" / "list_eval_partition.txt", make.partition_text(COUNT))
    make.write(root / "Anno" / "identity_CelebA.txt", make.identity_text(COUNT))
    return root


def drive_extracted(root):
    drive(root)
    with zipfile.ZipFile(root / "Img" / "img_align_celeba.zip") as archive:
        archive.extractall(root / "Img")
    return root


def zip_beside(root):
    make.write(root / "list_eval_partition.txt", make.partition_text(COUNT))
    return make.celeba_zip(root / "img_align_celeba.zip", COUNT, compression=zipfile.ZIP_STORED)


def kaggle_archive(root):
    partition = {
        "list_eval_partition.csv": "image_id,partition\n" + make.partition_text(COUNT, ",")
    }
    folder = "img_align_celeba/img_align_celeba/"
    return make.celeba_zip(root / "archive.zip", COUNT, folder, extra=partition)


def image_folder(root):
    return make.celeba(root, COUNT) / "img_align_celeba"


LAYOUTS = [
    lambda root: make.celeba(root, COUNT),
    kaggle,
    drive,
    drive_extracted,
    zip_beside,
    kaggle_archive,
    image_folder,
    lambda root: drive(root) / "Img" / "img_align_celeba.zip",
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_images_and_the_official_split(tmp_path, layout):
    path = layout(tmp_path / "data")
    partition, pictures = make.partition_of(COUNT), make.pictures(COUNT)
    for number, split in enumerate(("train", "validation", "test")):
        found = load_arrays(options(path), split)
        wanted = [n for n, p in zip(make.names(COUNT), partition, strict=True) if p == number]
        assert list(found.names) == wanted
        for name, image in zip(found.names, found.images, strict=True):
            assert np.array_equal(image, load_image(pictures[name], options(path)))


def test_identities_come_with_the_images(tmp_path):
    found = load_arrays(options(make.celeba(tmp_path, COUNT)), "train")
    assert found.identities.tolist() == [100 + index // 2 for index in range(12)]
    shutil.rmtree(tmp_path)
    path = make.celeba(tmp_path, COUNT, identity=False)
    assert load_arrays(options(path), "train").identities is None


def test_without_a_partition_no_person_is_in_two_splits(tmp_path):
    path = make.celeba(tmp_path, COUNT, partition=False)
    persons = {
        split: set(load_arrays(options(path), split).identities.tolist())
        for split in ("train", "validation", "test")
    }
    assert persons["train"] | persons["validation"] | persons["test"] == set(range(100, 110))
    assert sum(len(found) for found in persons.values()) == 10
    assert [len(persons[split]) for split in persons] == [8, 1, 1]


def test_the_train_subset_is_seeded_and_from_the_train_split(tmp_path):
    path = make.celeba(tmp_path, COUNT)
    subsets = {
        seed: load_arrays(options(path, train_examples=5, subset_seed=seed), "train").names
        for seed in (0, 0, 1)
    }
    everything = split_names(path, "train")
    assert all(len(names) == 5 and set(names) <= set(everything) for names in subsets.values())
    assert subsets[0] != subsets[1]
    assert subsets[0] == load_arrays(options(path, train_examples=5), "train").names


def break_partition(text):
    return lambda root: make.write(make.celeba(root) / "list_eval_partition.txt", text)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            break_partition("000001.jpg 0\n"),
            "has no row for 19 of 20 images, the first is 000002.jpg",
        ),
        (break_partition("000001.jpg 7\n"), "line 1 is '000001.jpg 7'"),
        (break_partition("<html>\nno\n"), "line 1 is '<html>'"),
        (lambda root: root.mkdir(), "no CelebA images"),
        (lambda root: None, "does not exist"),
        (lambda root: (root / "img_align_celeba").mkdir(parents=True), "no CelebA images"),
        (
            lambda root: make.write(root / "img_align_celeba.zip", "<html>quota"),
            "is not a zip file",
        ),
        (
            lambda root: make.celeba_zip(root / "img_align_celeba.zip", 2, "other/"),
            "no img_align_ce",
        ),
    ],
)
def test_what_is_wrong_with_a_celeba_folder_is_said_in_one_line(tmp_path, spoil, message):
    spoil(tmp_path / "data")
    with pytest.raises(UserError, match=message) as caught:
        open_celeba(options(tmp_path / "data"))
    assert "\n" not in str(caught.value)


def test_missing_celeba_names_three_ways_and_the_smoke_config(tmp_path):
    with pytest.raises(UserError) as caught:
        open_celeba(options(tmp_path / "nothing"))
    for part in ("mmlab.ie.cuhk.edu.hk", "Kaggle", "tensorflow_datasets", "celeba128.py:smoke"):
        assert part in str(caught.value)


def test_a_folder_is_any_tree_of_pictures(tmp_path):
    contents = {
        "a/one.jpg": make.encoded(make.photo(1)),
        "a/b/two.PNG": make.encoded(make.photo(2), "PNG"),
        "three.webp": make.encoded(make.photo(3), "WEBP"),
    }
    ignored = {".hidden/x.jpg": b"", "a/._one.jpg": b"", "notes.txt": b"", "__MACOSX/x.jpg": b""}
    for name, content in (contents | ignored).items():
        make.write(tmp_path / name, content)
    choice = options(tmp_path, "folder", crop=None)
    found = {}
    for split in ("train", "validation", "test"):
        images = load_arrays(choice, split)
        found |= dict(zip(images.names, images.images, strict=True))
    assert sorted(found) == sorted(contents)
    for name, content in contents.items():
        assert np.array_equal(found[name], load_image(content, choice))


def test_an_empty_or_absent_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no pictures"):
        open_feed(options(tmp_path, "folder"), "train", batch_size=1, seed=0)
    with pytest.raises(UserError, match="is not a folder"):
        open_feed(options(tmp_path / "none", "folder"), "train", batch_size=1, seed=0)


def test_drawn_shapes_are_repeatable_varied_and_called_what_they_are():
    choice = options("", "shapes", image_size=32, train_examples=40)
    first, again = (load_arrays(choice, "train") for _ in range(2))
    assert np.array_equal(first.images, again.images)
    assert len({image.tobytes() for image in first.images}) == 40
    assert first.images.std(axis=0).mean() > 20  # Not one drawing with noise on it.
    larger = load_arrays(options("", "shapes", image_size=32, train_examples=60), "train")
    assert set(first.names) <= set(larger.names)
    summary = open_feed(choice, "train", batch_size=4, seed=0).summary
    assert "drawn shapes, not photos: 40 of" in summary


def test_an_eye_is_where_celeba_has_it():
    images = load_arrays(options("", "shapes", image_size=64, train_examples=60), "train").images
    mean = images.mean(axis=(0, 3))
    eye, forehead = mean[30:36, 22:28].min(), mean[24:27, 30:34].mean()
    assert eye < forehead  # Eyes and their shadows are darker than the forehead on average.


@pytest.fixture(scope="module")
def prepared_tfds(tmp_path_factory):
    """A really prepared, tiny `celeb_a`, its images stored without loss."""
    tfds = pytest.importorskip("tensorflow_datasets")
    root = tmp_path_factory.mktemp("tfds")
    pictures = list(make.pictures(COUNT).values())

    def examples(first, stop):
        for index in range(first, stop):
            image = np.asarray(Image.open(io.BytesIO(pictures[index])))
            yield index, {"image": image, "identity": {"Identity_No": 100 + index // 2}}

    tfds.dataset_builders.store_as_tfds_dataset(
        name="celeb_a",
        version="2.1.0",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(218, 178, 3), encoding_format="png"),
                "identity": tfds.features.FeaturesDict({"Identity_No": np.int64}),
            }
        ),
        split_datasets={
            "train": examples(0, 12),
            "validation": examples(12, 16),
            "test": examples(16, 20),
        },
        data_dir=root,
        disable_shuffling=True,
    )
    return root


@pytest.mark.parametrize("below", ["", "celeb_a/2.1.0"])
def test_tfds_gives_the_images_persons_and_split_it_was_prepared_with(prepared_tfds, below):
    choice = options(prepared_tfds / below, "tfds")
    pictures = list(make.pictures(COUNT).values())
    for split, first, stop in (("train", 0, 12), ("validation", 12, 16), ("test", 16, 20)):
        found = load_arrays(choice, split)
        assert found.identities.tolist() == [100 + index // 2 for index in range(first, stop)]
        for image, content in zip(found.images, pictures[first:stop], strict=True):
            assert np.array_equal(image, load_image(content, choice))


def test_tfds_that_cannot_be_had_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(UserError, match=r"data.download is false; get CelebA in one of three ways"):
        load_arrays(options(tmp_path, "tfds"), "train")
    # An address that refuses at once, as a machine without network does.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    with pytest.raises(
        UserError, match=r"could not be downloaded .* in one of three ways"
    ) as caught:
        load_arrays(options(tmp_path, "tfds", download=True), "train")
    assert "\n" not in str(caught.value)


def refuse(*_, **__):
    raise OSError("no network in this test")


def test_a_truncated_tfrecord_is_one_line(prepared_tfds, tmp_path):
    shutil.copytree(prepared_tfds, tmp_path / "copy")
    record = next((tmp_path / "copy").rglob("*train*tfrecord*"))
    record.write_bytes(record.read_bytes()[:-30])
    with pytest.raises(UserError, match="ends within a record; prepare celeb_a again"):
        load_arrays(options(tmp_path / "copy", "tfds"), "train")
