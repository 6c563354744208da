"""Training the fusion network: its losses, what each kind of pair teaches, and the run as a whole."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import fusion128
from dp3_jax.common.errors import UserError
from dp3_jax.models import fusion, generator_file
from dp3_jax.models.fusion import FusionParts
from dp3_jax.training import configuration, export, fusion_steps, loop, sharding, steps, warm_start
from dp3_jax.training.objectives.fusion import OBJECTIVE
from dp3_jax.vision import losses, masks
from tests import runs
from tests.training.test_anonymizer_training import tiny_config as anonymizer_config

SIZE = 16


def tiny_config(**losses_changes):
    config = fusion128.get_config("smoke").unlock()
    config.data.update(image_size=SIZE, train_examples=64)
    config.model.update(style_dim=8, generator_widths=(8, 16), discriminator_widths=(8, 8))
    config.log.update(checkpoint_steps=4, grid_images=4, ssim_generated=4, ssim_real=16)
    config.losses.update(losses_changes)
    return config.lock()


def batch(count=4, seed=0):
    image = np.random.default_rng(seed).integers(0, 255, (count, SIZE, SIZE, 3), np.uint8)
    return {"image": jnp.asarray(image)}


@pytest.fixture(scope="module")
def state():
    return runs.fresh_state(tiny_config())


def parts_like(real, **values):
    blank = jnp.zeros_like(real)
    given = {"fill": blank, "alpha": blank[..., :1], "gain": blank, "bias": blank} | values
    return FusionParts(**given)


def inputs_of(real, donor_mask=None):
    mask = jnp.broadcast_to(jnp.asarray(masks.inference_mask(SIZE)), (*real.shape[:3], 1))
    donor_mask = mask if donor_mask is None else donor_mask
    return fusion_steps.FusionInputs(real, mask, jnp.zeros_like(real), donor_mask)


def test_losses_have_the_values_that_their_formulas_give():
    real = jnp.zeros((2, SIZE, SIZE, 3))
    fake = real.at[0].set(0.5).at[1].set(-0.25)  # a self pair, then a cross pair
    ones = jnp.ones_like(real)
    parts = parts_like(real, gain=0.1 * ones, bias=0.2 * ones, alpha=0.75 * ones[..., :1])
    factors = fusion_steps.FusionLosses(pixel=2.0, tone=4.0, correction=10.0)
    whole = inputs_of(real, jnp.ones((2, SIZE, SIZE, 1)))
    total, by_name = fusion_steps.generator_losses(fake, parts, whole, factors)
    found = {name: float(value) for name, value in by_name.items()}
    assert found["pixel"] == pytest.approx(0.5, rel=1e-4)  # of the self pair alone
    assert found["tone"] == pytest.approx(0.25, rel=1e-4)  # of the cross pair alone
    assert found["surroundings"] < 1e-6  # there are none round a donor that covers all
    assert found["correction"] == pytest.approx(0.1**2 + 0.2**2, rel=1e-4)
    assert found["keep"] == pytest.approx(0.25, rel=1e-2)
    assert float(total) == pytest.approx(2 * 0.5 + 4 * 0.25 + 10 * 0.05, rel=1e-4)


def test_round_the_donor_cross_pairs_are_held_to_the_photo_and_on_it_they_are_free():
    real = jnp.zeros((2, SIZE, SIZE, 3))
    inputs = inputs_of(real, jnp.zeros((2, SIZE, SIZE, 1)).at[:, 5:12, 5:12].set(1.0))
    options = fusion_steps.FusionLosses()

    def surroundings(fake):
        parts = parts_like(real)
        return float(fusion_steps.generator_losses(fake, parts, inputs, options)[1]["surroundings"])

    assert surroundings(real.at[1, 5:12, 5:12].set(0.7)) == 0
    assert surroundings(real.at[0].set(0.7)) == 0  # of the self pair
    assert surroundings(real.at[1].set(0.7)) == pytest.approx(0.7, rel=1e-3)


def test_the_tone_loss_asks_for_light_and_not_for_detail():
    real = jnp.zeros((2, SIZE, SIZE, 3))
    grain = jnp.where(jnp.indices((SIZE, SIZE)).sum(0) % 2, 0.4, -0.4)[None, :, :, None]
    inputs = inputs_of(real, jnp.ones((2, SIZE, SIZE, 1)))
    inputs = fusion_steps.FusionInputs(real, jnp.ones_like(inputs.mask), real, inputs.donor_mask)
    options = fusion_steps.FusionLosses()

    def tone(fake):
        return fusion_steps.generator_losses(fake, parts_like(real), inputs, options)[1]["tone"]

    assert float(tone(real + grain)) < 1e-6
    assert float(tone(real + 0.1)) == pytest.approx(0.1, rel=1e-4)


def test_gradients_are_those_of_the_two_losses_written_down_plainly(state):
    weights = {"pixel": 3.0, "boundary": 2.0, "total_variation": 0.5, "tone": 1.5, "keep": 1.0,
               "correction": 0.5}  # fmt: skip
    options = runs.step_options(tiny_config()).__class__(latent_dim=0)
    weights = fusion_steps.FusionLosses(**weights)
    inputs, keys = fusion_steps.draw(state, batch())
    wide = jnp.ones_like(inputs.donor_mask).at[:, :1].set(0.0)
    inputs = dataclasses.replace(inputs, mask=wide, donor_mask=wide)
    assert fusion_steps.fuse_core(wide).any()
    given = (inputs.real, inputs.mask, inputs.donor, inputs.donor_mask)
    g_apply, d_apply = state.generator.apply_fn, state.discriminator.apply_fn

    def logits(d_params, image):
        return d_apply({"params": d_params}, image, inputs.mask, train=True).logits

    def generator(params):
        fake = g_apply({"params": params}, *given)
        parts = g_apply({"params": params}, *given, method="parts")
        pixel, _ = fusion_steps.generator_losses(fake, parts, inputs, weights)
        # Inside the donor the discriminator teaches nothing.
        fixed = fusion_steps.fuse_core(inputs.donor_mask)
        judged = jnp.where(fixed > 0, jax.lax.stop_gradient(fake), fake)
        return pixel + losses.generator_bce(logits(state.discriminator.params, judged))

    def discriminator(params):
        fake = g_apply({"params": state.generator.params}, *given)
        return losses.discriminator_bce(logits(params, inputs.real), logits(params, fake), 0.0)

    @jax.jit
    def both(state):
        return fusion_steps.fusion_gradients(state, inputs, keys, options=options, weights=weights)

    g_grads, d_grads, _ = both(state)
    for found, function, params in (
        (g_grads, generator, state.generator.params),
        (d_grads, discriminator, state.discriminator.params),
    ):
        expected = jax.jit(jax.grad(function))(params)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-5)


def test_donors_change_their_light_and_self_pairs_change_more():
    donor = jnp.full((64, 8, 8, 3), 0.2)
    changed = np.asarray(fusion_steps.change_donor(jax.random.key(0), donor))
    change = np.abs(changed - 0.2).mean((1, 2, 3))
    assert np.abs(changed).max() <= 1 and (change > 0.01).mean() > 0.9
    assert change[::2].mean() > 1.3 * change[1::2].mean()


def test_donor_masks_stay_round_the_oval_they_come_from():
    oval = fusion_steps.mean_oval(32, 128)
    found = np.asarray(fusion_steps.donor_masks(jax.random.key(0), oval, 128))
    area = found.sum((1, 2, 3)) / np.asarray(masks.polygon(oval, 128)).sum((1, 2, 3))
    assert 0.72 < area.min() < 0.86 and 0.96 < area.max() < 1.06  # 0.86^2 to 1.02^2
    assert len(np.unique(area)) > 20


def test_golden_losses():
    """Of three updates; they change when the networks, the losses or the random numbers do."""
    config = tiny_config()
    state = runs.fresh_state(config)
    step = jax.jit(runs.parts(config).train_step)
    found = []
    for number in range(3):
        state, metrics = step(state, batch(8, number))
        found.append([float(metrics[name]) for name in ("loss_d", "pixel", "tone", "boundary")])
    np.testing.assert_allclose(found, GOLDEN, rtol=2e-3)


GOLDEN = [
    [1.385737, 0.413856, 0.085704, 0.491471],
    [1.376124, 0.381985, 0.051085, 0.464719],
    [1.375601, 0.386922, 0.068284, 0.463385],
]


def test_a_run_that_was_cut_short_goes_on_with_the_same_bits_and_is_exported(tmp_path):
    config = tiny_config().unlock()
    config.train.update(epochs=1.0, batch_size=16, accumulation=2)
    loop.train(config, tmp_path / "whole")
    runs.cut(tmp_path / "whole", tmp_path / "cut", 4)
    loop.train(config, tmp_path / "cut")
    runs.assert_same_bits(*(runs.final_state(tmp_path / name, config) for name in ("whole", "cut")))
    export.export(tmp_path / "cut", tmp_path / "g.safetensors", half=True)
    model, variables, step = generator_file.read_generator(tmp_path / "g.safetensors")
    assert model["family"] == "fusion" and step == 8 and variables["params"]["style"].shape == (8,)


def test_it_can_begin_with_an_anonymizers_weights(tmp_path):
    other = anonymizer_config().unlock()
    other.model.update(style_dim=8)
    built = runs.fresh_state(other)
    model = configuration.model_section(other)
    generator_file.save_generator(tmp_path / "a.safetensors", built.generator.variables, model)
    config = tiny_config().unlock()
    config.train.initial_generator = str(tmp_path / "a.safetensors")
    layout = sharding.make_layout()
    fresh = runs.fresh_state(config)
    source = str(tmp_path / "a.safetensors")
    begun = warm_start.begin(source, OBJECTIVE, fresh, layout).generator.params
    expected = fusion.from_anonymizer(fresh.generator.params, built.generator.params)
    for one, two in zip(jax.tree.leaves(begun), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_impossible_configs_are_told_in_one_line():
    config = tiny_config().unlock()
    config.data.donors = "runs/donors"
    with pytest.raises(UserError, match=r"data.donors needs data.source=packed, not shapes"):
        configuration.parse(config)
    config = tiny_config(keep=-1.0)
    with pytest.raises(UserError, match=r"losses.keep=-1.0 is not a number of 0 or more"):
        configuration.parse(config)
    assert isinstance(runs.step_options(tiny_config()), steps.StepOptions)
