"""The temporal loss, its train step, and runs that begin with another run's networks."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import (
    anonymize128,
    anonymize128_projected,
    shared,
    video128,
)
from dp3_jax import models
from dp3_jax.common import images
from dp3_jax.common.errors import UserError
from dp3_jax.models import generator_file
from dp3_jax.training import (
    anonymizer_steps,
    checkpoint,
    configuration,
    export,
    loop,
    run_config,
    sharding,
    temporal_steps,
    warm_start,
)
from dp3_jax.training.objectives import Samples, anonymizer
from dp3_jax.vision import inpainting_losses, masks, warping
from tests import runs

SIZE = 32


def tiny_config(**changes):
    """A config that compiles in seconds; `changes` with dots written as two underscores."""
    config = video128.get_config("smoke").unlock()
    config.data.update(image_size=16, train_examples=64)
    config.model.update(latent_dim=8, style_dim=8, generator_widths=(8, 16))
    config.model.update(discriminator_widths=(8, 8))
    config.train.update(r1_weight=0.0, epochs=1.0)
    config.log.update(checkpoint_steps=4, grid_images=4, ssim_generated=4, ssim_real=16)
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config.lock()


def pictures(count=4, size=SIZE, seed=0):
    return jax.random.uniform(jax.random.key(seed), (count, size, size, 3), minval=-1)


def pixel_batch(config, count=8):
    return {"image": images.to_uint8(np.asarray(pictures(count, config.data.image_size)))}


move = jax.jit(temporal_steps.move_stills)


def test_a_face_that_moves_with_the_scene_costs_nothing_and_one_that_stays_does():
    first = pictures()
    views = move(jax.random.key(1), first, masks.random_masks(jax.random.key(2), 4, SIZE))
    assert 0.1 < views.region.mean() < views.mask.mean()
    face = pictures(seed=5)  # whatever is generated, moved exactly with the scene
    follows = temporal_steps.difference(face, warping.warp(face, views.flow), views)
    stays = temporal_steps.difference(face, face, views)
    assert follows == 0 and stays > 0.05
    # Pixels outside the region count for nothing.
    elsewhere = face + 9.0 * (1 - views.region)
    warped = warping.warp(face, views.flow)
    changed = temporal_steps.difference(face, warped + elsewhere - face, views)
    assert changed == pytest.approx(0, abs=1e-6)


def test_only_pixels_hidden_in_both_views_are_compared():
    mask = masks.random_masks(jax.random.key(2), 16, SIZE)
    views = move(jax.random.key(3), pictures(16), mask)
    assert (views.region <= views.mask).all()
    # A sample of the first view never mixes with a pixel that its mask does not hide.
    exposed = warping.warp(1.0 - mask, views.flow)
    assert not (exposed * views.region > 1e-3).any()
    assert not ((1 - warping.inside(views.flow)) * views.region).any()
    # Some masks go with the face, the others stay where they are.
    still = np.asarray((views.mask == mask).all((1, 2, 3)))
    carried = np.asarray((views.mask == warping.carried(mask, views.flow)).all((1, 2, 3)))
    assert (still | carried).all() and 3 < still.sum() < 13


def test_without_its_factor_the_step_is_the_anonymizers_own():
    plain = runs.parts(tiny_config(losses__temporal=0.0)).train_step
    assert plain.func is anonymizer_steps.train_step
    assert runs.parts(tiny_config()).train_step.func is temporal_steps.train_step
    assert anonymize128.get_config().losses.temporal == 0


def test_the_gradient_is_the_plain_steps_plus_that_of_the_temporal_loss():
    config = tiny_config(losses__temporal=3.0)
    state = runs.fresh_state(config)
    options = runs.step_options(config)
    weights = anonymizer_steps.LossOptions(**config.losses)
    apply_fn = state.generator.apply_fn
    batch = pixel_batch(config)

    @jax.jit
    def gradients(state):
        real, mask, z, keys = anonymizer_steps.draw(state, batch, options)
        stills = temporal_steps.move_stills(jax.random.key(7), real[::4], mask[::2])
        settings = {"apply_fn": apply_fn, "z": z, "stills": stills, "clips": None}
        extra = functools.partial(temporal_steps.temporal_loss, weight=3.0, **settings)
        both = [
            anonymizer_steps.anonymizer_gradients(
                state, real, mask, z, keys, options=options, weights=weights, extra=loss
            )
            for loss in (None, extra)
        ]

        def plainly(params):  # written down from the images alone
            first = apply_fn({"params": params}, real[::4], mask[::2], z[::4], train=True)
            second = apply_fn({"params": params}, stills.second, stills.mask, z[::4], train=True)
            moved = warping.warp(first, stills.flow)
            return inpainting_losses.region_l1(second, moved, stills.region)

        return both, jax.value_and_grad(plainly)(state.generator.params)

    (without, with_it), (value, wanted) = gradients(state)
    assert with_it[2]["temporal"] == pytest.approx(float(value), rel=1e-4)
    found = jax.tree.map(lambda a, b: (b - a) / 3.0, without[0], with_it[0])
    for a, b in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 + 0.02 * float(jnp.abs(b).max()))
    for a, b in zip(*(jax.tree.leaves(part[1]) for part in (without, with_it)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)  # the discriminator sees none of it


def clip_file(path, count=6, size=16, seed=0):
    """Pairs of views with exact flow, in the file form of `dp3_jax.data.clips`."""
    first = pictures(count, size, seed)
    flow = warping.random_motion(jax.random.key(seed), count, size)
    views = [images.to_uint8(np.asarray(v)) for v in (first, warping.warp(first, flow))]
    names = np.array([f"{n % 3}.mp4" for n in range(count)])
    np.savez(path, first=views[0], second=views[1], flow=np.asarray(flow, np.float16),
             visible=np.asarray(warping.inside(flow))[..., 0] > 0, clip=names)  # fmt: skip
    return str(path)


def temporal_losses(workdir):
    """The metrics temporal and temporal_clips of a run, f64[records, 2]."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    records = [r for r in map(json.loads, lines) if "temporal" in r]
    return np.array([[r["temporal"], r["temporal_clips"]] for r in records])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of a run of 40 updates on stills and clips, its config)."""
    folder = tmp_path_factory.mktemp("temporal")
    config = tiny_config(data__clips=clip_file(folder / "clips.npz"), losses__temporal=30.0,
                         log__metrics_steps=1, train__epochs=10.0, log__checkpoint_steps=20)  # fmt: skip
    loop.train(config, folder / "whole")
    return folder / "whole", config


def test_training_lowers_the_temporal_loss_of_stills_and_clips(trained, tmp_path):
    workdir, config = trained
    loose = config.copy_and_resolve_references()
    loose.losses.temporal = 0.01
    loop.train(loose, tmp_path)
    held, free = temporal_losses(workdir), temporal_losses(tmp_path)
    assert len(held) == len(free) == 40
    assert (held[-10:].mean(0) < 0.75 * free[-10:].mean(0)).all()


def pairs_of(config):
    """The pairs of frames that a run learns from, and how it measures itself on those held out."""
    sections = configuration.parse(config)
    data, train, losses = sections.data, sections.train, sections.losses
    pairs = anonymizer.companions(data, losses, train.micro_batch, sections.seed)
    samples = Samples.of(sections.log, sections.model, sections.seed)
    return pairs, functools.partial(anonymizer.measure, pairs, samples)


def test_each_checkpoint_has_the_warping_error_of_people_who_are_held_out(trained):
    """The pairs move by their flow exactly, but for rounding: the source's own error is next to nothing."""
    workdir, config = trained
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    measured = {r["step"]: r for r in records if "ssim" in r}
    assert list(measured) == [20, 40]
    assert all(
        0 < r["warping_error"] < 1 and r["warping_error_ratio"] > 0 for r in measured.values()
    )
    pairs, measure = pairs_of(config)
    assert pairs.count == 4 and len(pairs.heldout["clip_first"]) == 2

    def as_they_are(inputs):
        return np.asarray(inputs[0])

    own = measure(as_they_are)
    assert own["warping_error_ratio"] == pytest.approx(1, abs=1e-3)
    assert own["warping_error"] < 1e-4

    def jittering(inputs):  # other light in the second view
        jittering.calls += 1
        return np.asarray(inputs[0]) + 0.2 * (jittering.calls % 2)

    jittering.calls = 0
    shaken = measure(jittering)
    assert shaken["warping_error"] == pytest.approx(0.1**2, rel=0.1)
    config = config.copy_and_resolve_references()
    config.data.clips_held_out = 0.0
    none, measure = pairs_of(config)
    assert none.count == 6 and measure(as_they_are) == {}


def test_a_run_on_clips_alone_needs_no_other_images(tmp_path):
    path = clip_file(tmp_path / "clips.npz", count=12)
    config = tiny_config(
        data__source="clips", data__path=path, train__epochs=2.0, train__batch_size=8
    )
    loop.train(config, tmp_path / "run")
    records = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "temporal_clips" in records and "warping_error_ratio" in records


def test_a_run_with_clips_goes_on_exactly_where_it_was_cut(trained, tmp_path):
    workdir, config = trained
    cut = tmp_path / "cut"
    runs.cut(workdir, cut, 20)
    loop.train(config, cut)
    runs.assert_same_bits(runs.final_state(workdir, config), runs.final_state(cut, config))


def begun(name, features=None, **changes):
    config = tiny_config(train__initial_generator=str(name), **changes)
    layout = sharding.make_layout()
    fresh = runs.fresh_state(config, features)
    return fresh, warm_start.begin(str(name), anonymizer.OBJECTIVE, fresh, layout)


def same(a, b):
    return all(
        (np.asarray(x) == y).all() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )


def test_a_run_can_begin_with_both_networks_of_another(trained):
    workdir, config = trained
    saved = runs.final_state(workdir, config)
    average = checkpoint.restore_generator(workdir).variables["params"]
    fresh, state = begun(workdir)
    assert same(state.generator.params, average) and same(state.ema_params, average)
    kept = {name: x for name, x in saved.items() if name.startswith(".discriminator.params")}
    found = jax.tree.leaves(state.discriminator.params)
    assert len(kept) == len(found) and same(list(kept.values()), found)
    assert int(state.step) == 0 and same(state.generator.opt_state, fresh.generator.opt_state)


def test_heads_that_a_run_did_not_have_begin_afresh(trained):
    def shades(image):
        return [image, image[:, ::4, ::4]]

    fresh, state = begun(trained[0], shades, model__projected=True)
    _, plain = begun(trained[0], model__projected=False)
    before, after = fresh.discriminator.params, dict(state.discriminator.params)
    assert same(after.pop("head_0"), before["head_0"])
    assert after.keys() == plain.discriminator.params.keys()
    assert same(after, plain.discriminator.params) and not same(
        after, {name: before[name] for name in after}
    )


def test_a_run_can_begin_with_an_exported_generator(trained, tmp_path):
    path = tmp_path / "weights.safetensors"
    export.export(trained[0], path, half=True)
    fresh, state = begun(path)
    assert same(state.generator.params, generator_file.read_generator(path)[1]["params"])
    assert same(state.discriminator.params, fresh.discriminator.params)
    with pytest.raises(
        UserError, match=r"generator in .*weights.* does not fit .*set config.model"
    ):
        begun(path, model__style_dim=16)


def test_a_first_stage_that_is_missing_is_named_with_both_ways_to_have_it(tmp_path, monkeypatch):
    config = video128.get_config()
    (tmp_path / "configs").symlink_to(runs.REPOSITORY / "configs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="runs/anonymize128 is not there; train that run") as caught:
        warm_start.check(config.train.initial_generator)
    told = str(caught.value)
    assert "python launch.py --config=configs/anonymize128.py," in told
    found = re.search(r"--config\.(train\.initial_generator)=(\S+) --config\.(\S+)=(\d+)", told)
    config.update_from_flattened_dict({found[1]: found[2], found[3]: float(found[4])})
    configuration.parse(config)
    warm_start.check(config.train.initial_generator)


def test_a_file_to_begin_with_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.safetensors"):
        begun(tmp_path / "nowhere.safetensors")


def test_a_run_of_a_version_without_these_keys_can_go_on(tmp_path):
    config = anonymize128.get_config("smoke")
    run_config.claim(tmp_path, run_config.record_of(config))
    path = tmp_path / "config.json"
    old = json.loads(path.read_text())
    del old["losses"]["temporal"], old["data"]["clips"], old["train"]["initial_generator"]
    del old["losses"]["feature_diversity"], old["model"]["projected"]
    path.write_text(json.dumps(old))
    run_config.claim(tmp_path, run_config.record_of(config))
    path.write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"temporal was 0\.0"):
        run_config.claim(tmp_path, run_config.record_of(video128.get_config("smoke")))


@pytest.mark.parametrize("variant", shared.VARIANTS)
def test_the_stages_share_data_and_generator(variant):
    first = anonymize128.get_config(variant)
    for later in (anonymize128_projected, video128):
        config = later.get_config(variant)
        configuration.parse(config)
        assert config.is_locked and config.data.to_dict() == first.data.to_dict()
        model = configuration.model_section(config)
        assert models.build_generator(model) == models.build_generator(
            configuration.model_section(first)
        )
        assert bool(config.train.initial_generator) == (not variant)


@pytest.mark.parametrize("variant", shared.VARIANTS)
def test_the_config_is_possible_locked_and_shares_all_else_with_the_anonymizers(variant):
    config, base = video128.get_config(variant), anonymize128.get_config(variant)
    configuration.parse(config)
    assert config.is_locked and config.losses.temporal > 0
    for section in ("data", "model", "log", "evaluate"):
        assert config[section].to_dict() == base[section].to_dict()
    assert bool(config.train.initial_generator) == (not variant)


def test_clips_without_the_loss_that_uses_them_are_a_mistake():
    config = anonymize128.get_config("smoke")
    config.data.clips = "clips.npz"
    with pytest.raises(UserError, match=r"losses\.temporal alone"):
        configuration.parse(config)
