"""Training the anonymizer: its gradients, its losses' schedules, its configs, and the run as a whole."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import anonymize128, shared
from dp3_jax.common.errors import UserError
from dp3_jax.replacement import generator
from dp3_jax.training import anonymizer_steps, configuration, export, loop, steps
from dp3_jax.vision import losses, masks
from tests import runs


def tiny_config(**losses_changes):
    config = anonymize128.get_config("smoke").unlock()
    config.data.update(image_size=16, train_examples=64)
    config.model.update(latent_dim=8, style_dim=8, generator_widths=(8, 16))
    config.model.update(discriminator_widths=(8, 8))
    config.log.update(checkpoint_steps=4, grid_images=4, ssim_generated=4, ssim_real=16)
    config.losses.update(losses_changes)
    return config.lock()


def step_parts(config, count=4, features=None):
    state = runs.fresh_state(config, features)
    size = config.data.image_size
    real = jax.random.uniform(jax.random.key(1), (count, size, size, 3), minval=-1)
    mask = masks.random_masks(jax.random.key(2), count // 2, size)
    z = jax.random.normal(jax.random.key(3), (count, config.model.latent_dim))
    return state, real, mask, z


def test_gradients_are_those_of_the_two_losses_written_down_plainly():
    weights = {"adversarial": 1.0, "adversarial_rampup": 0.0, "hole": 3.0, "fade_floor": 1.0, "rim": 2.0,
               "total_variation": 0.5, "feature_matching": 2.0, "diversity": 1.5}  # fmt: skip
    config = tiny_config(**weights).unlock()
    config.train.update(r1_weight=0.0, augment=())
    state, real, mask, z = step_parts(config)
    options = runs.step_options(config)
    weights = anonymizer_steps.LossOptions(**config.losses)
    g_apply, d_apply = state.generator.apply_fn, state.discriminator.apply_fn
    target, masked = jnp.repeat(real[::2], 2, 0), jnp.repeat(mask, 2, 0)

    def fakes(params):
        return g_apply({"params": params}, target, masked, z, train=True)

    def judge(params, image):
        return d_apply({"params": params}, image, masked, train=True)[:2]

    @jax.jit
    def discriminator(params):
        fake = fakes(state.generator.params)
        return losses.discriminator_bce(judge(params, real)[0], judge(params, fake)[0])

    def generator_total(params):
        fake = fakes(params)
        logits, of_fake = judge(state.discriminator.params, fake)
        of_real = judge(state.discriminator.params, target)[1]
        pixel, _ = anonymizer_steps.generator_losses(
            fake, real[::2], mask, state.generator.opt_state.gradient_step, weights
        )
        matching = jnp.stack(
            [jnp.abs(f - r).mean() for f, r in zip(of_fake, of_real, strict=True)]
        ).mean()
        return losses.generator_bce(logits) + pixel + 2.0 * matching

    keys = {"augment": jax.random.key(5)}
    g_grads, d_grads, metrics = jax.jit(
        lambda s: anonymizer_steps.anonymizer_gradients(
            s, real, mask, z, keys, options=options, weights=weights
        )
    )(state)
    for found, loss, params in [
        (g_grads, generator_total, state.generator.params),
        (d_grads, discriminator, state.discriminator.params),
    ]:
        expected = jax.jit(jax.grad(loss))(params)
        for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
    assert metrics["loss_d"] == pytest.approx(
        float(discriminator(state.discriminator.params)), rel=1e-4
    )


def test_the_pixel_loss_of_the_hole_falls_to_its_floor():
    config = tiny_config(hole=8.0, fade_floor=0.125, fade_halflife=10.0, rim=0.0,
                         total_variation=0.0, diversity=0.0)  # fmt: skip
    weights = anonymizer_steps.LossOptions(**config.losses)
    fake, real = jnp.zeros((4, 16, 16, 3)), jnp.full((2, 16, 16, 3), 0.5)
    mask = masks.random_masks(jax.random.key(0), 2, 16)
    for updates, factor in [(0, 8.0), (10, 4.5), (1000, 1.0)]:
        total, _ = anonymizer_steps.generator_losses(fake, real, mask, jnp.array(updates), weights)
        assert total == pytest.approx(0.5 * factor, rel=1e-4)


def test_two_faces_of_one_context_are_compared_with_its_truth_and_with_each_other():
    config = tiny_config(hole=1.0, fade_floor=1.0, rim=0.0, total_variation=0.0, diversity=1.0,
                         diversity_target=0.3)  # fmt: skip
    weights = anonymizer_steps.LossOptions(**config.losses)
    real = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))
    mask = masks.random_masks(jax.random.key(0), 2, 16)

    def parts(offset):
        offset = offset * jnp.where(jnp.arange(16) < 9, 1.0, -1.0)[None, :, None, None]
        pair = jnp.stack([real + offset, real - offset], 1).reshape(4, 16, 16, 3)
        return anonymizer_steps.generator_losses(pair, real, mask, jnp.array(0), weights)[1]

    same, apart, far = parts(0.0), parts(0.1), parts(0.2)
    assert [p["hole"] for p in (same, apart, far)] == pytest.approx([0, 0.1, 0.2], abs=1e-5)
    assert same["diversity"] == 1 > apart["diversity"] > far["diversity"] == 0


def test_augmentation_moves_real_fake_and_mask_together():
    image = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3), minval=0.1)
    both = jnp.repeat(image, 2, 0)
    mask = masks.random_masks(jax.random.key(1), 2, 16)
    args = jax.random.key(2), both, both, mask, ("translation",)
    real, fake, moved_mask = anonymizer_steps.augment_pairs(*args)
    np.testing.assert_array_equal(real, fake)
    assert (np.asarray(real) != np.asarray(both)).any()
    cut = jnp.repeat(mask, 2, 0) * both
    _, moved_cut, _ = anonymizer_steps.augment_pairs(args[0], both, cut, mask, args[4])
    np.testing.assert_allclose(moved_cut, moved_mask * real, atol=1e-6)


def shades(image):
    """Any differentiable feature maps will do."""
    return [image[:, ::2, ::2] ** 2, image[:, ::4, ::4].mean(-1, keepdims=True)]


def looking_at_shades(config):
    state, real, mask, z = step_parts(config, features=shades)

    def gradients(options=None, **weights):
        weights = {**config.losses, **weights}
        return jax.jit(
            lambda: anonymizer_steps.anonymizer_gradients(
                state, real, mask, z, {"augment": jax.random.key(5)},
                options=options or runs.step_options(config),
                weights=anonymizer_steps.LossOptions(**weights),
            )
        )()  # fmt: skip

    return gradients, (state, real, mask, z)


def change(a, b):
    leaves = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return max(float(jnp.abs(x - y).max()) for x, y in leaves)


def test_losses_on_perceptual_features_reach_the_generator_only():
    gradients, _ = looking_at_shades(tiny_config(content=1.0, style=1.0))
    with_g, with_d, metrics = gradients()
    without_g, without_d, _ = gradients(content=0.0, style=0.0)
    assert metrics["content"] > 0 and metrics["style"] > 0
    assert change(with_g, without_g) > 1e-4 and change(with_d, without_d) < 1e-6
    diverse_g, diverse_d, _ = gradients(feature_diversity=1.0, feature_diversity_target=9.0)
    assert change(with_g, diverse_g) > 1e-4 and change(with_d, diverse_d) < 1e-6


def test_projected_heads_judge_place_by_place_and_r1_leaves_them_out():
    config = tiny_config(hole=0.0, rim=0.0, total_variation=0.0, feature_matching=0.0).unlock()
    config.model.projected = True
    config.train.update(augment=(), r1_weight=0.0)
    gradients, (state, real, mask, _) = looking_at_shades(config)
    variables = {"params": state.discriminator.params}
    masked = jnp.repeat(mask, 2, 0)
    judged = state.discriminator.apply_fn(variables, real, masked)
    own = state.discriminator.apply_fn(variables, real, masked, own_only=True)
    assert judged.logits.shape == (len(real), 32) and own.logits.shape == (len(real),)
    np.testing.assert_array_equal(judged.logits[:, :16], np.repeat(own.logits[:, None], 16, 1))
    # A change in one corner is noticed by the heads of that corner, and not by those of the opposite one.
    corner = real.at[:, :4, :4].add(0.5)
    other = state.discriminator.apply_fn(variables, corner, masked).logits
    moved = np.abs(other - judged.logits)[:, 16:].reshape(-1, 4, 4)
    assert moved[:, 0, 0].min() > 0 and moved[:, 3, 3].max() == 0
    _, plain, _ = gradients()
    options = dataclasses.replace(runs.step_options(config), r1_weight=10.0, r1_every=1)
    _, punished, _ = gradients(options)
    heads = {name for name in plain if name.startswith("head_")}
    assert heads == {"head_0"}  # on all maps but the finest
    assert all(change(plain[n], punished[n]) == 0 for n in heads)
    assert change(plain["down_0"], punished["down_0"]) > 0
    assert all(np.abs(leaf).max() > 0 for n in heads for leaf in jax.tree.leaves(plain[n]))


def test_accumulated_micro_batches_equal_one_batch():
    """8 images in one batch, or in two micro-batches of 4: the same update of both networks."""
    config = tiny_config().unlock()
    config.train.update(augment=(), r1_weight=0.0, batch_size=8)
    config.losses.update(rim=0.0, total_variation=0.0, hole=0.0, adversarial_rampup=0.0)
    weights = anonymizer_steps.LossOptions(**config.losses)
    options = runs.step_options(config)
    ends = []
    for accumulation in (1, 2):
        config.train.accumulation = accumulation
        state, real, mask, z = step_parts(config, 8)

        @jax.jit
        def update(state, real, mask, z):
            grads = anonymizer_steps.anonymizer_gradients(
                state, real, mask, z, {"augment": jax.random.key(0)},
                options=options, weights=weights,
            )  # fmt: skip
            return steps.apply_gradients(state, *grads, options)[0]

        for k in range(accumulation):
            part = slice(8 // accumulation * k, 8 // accumulation * (k + 1))
            half = slice(4 // accumulation * k, 4 // accumulation * (k + 1))
            state = update(state, real[part], mask[half], z[part])
        ends.append((state.generator.params, state.discriminator.params))
    start = runs.fresh_state(config)
    moved = jax.tree.leaves(
        jax.tree.map(lambda a, b: jnp.abs(a - b).max(), ends[0][0], start.generator.params)
    )
    assert max(map(float, moved)) > 1e-5
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5)


def test_a_run_goes_on_where_it_was_cut(tmp_path):
    """Through the real loop: 8 steps at once equal 4 steps and then, in a new run, 4 more."""
    config = tiny_config()
    config.train.epochs = 2.0  # 64 images in batches of 16: 4 steps each
    assert loop.train(config, tmp_path / "whole") is None
    assert runs.finished_steps(tmp_path / "whole") == [4, 8]
    runs.cut(tmp_path / "whole", tmp_path / "cut", 4)
    loop.train(config, tmp_path / "cut")
    runs.assert_same_bits(*(runs.final_state(tmp_path / name, config) for name in ("whole", "cut")))
    # And what is exported from it is an anonymizer that works.
    export.export(tmp_path / "whole", tmp_path / "weights.safetensors", half=True)
    faces = generator.load_anonymizer(tmp_path / "weights.safetensors")
    image = np.full((1, 16, 16, 3), 100, np.uint8)
    assert faces.generate(image, masks.inference_mask(16)[None], np.zeros((1, 8))).any()
    assert list((tmp_path / "whole" / "grids").iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.batch_size": 6, "train.accumulation": 2}, "even number"),
        ({"train.augment": ("color",)}, "not color"),
        ({"losses.style": -1.0}, "losses.style"),
        ({"losses.fade_halflife": 0.0}, "above 0"),
        ({"model.style_dim": 0}, "style_dim"),
        ({"model.generator_widths": (8,) * 9}, "generator_widths"),
    ],
)
def test_impossible_configs_are_named(change, message):
    config = anonymize128.get_config("smoke")
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        configuration.parse(config)


@pytest.mark.parametrize("variant", shared.VARIANTS)
def test_configs_are_possible(variant):
    configuration.parse(anonymize128.get_config(variant))
