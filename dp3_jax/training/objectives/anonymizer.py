"""The objective of the family `anonymizer`: `anonymizer_steps`, with a temporal loss `temporal_steps`."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.data.clips import ClipPairs
from dp3_jax.training import anonymizer_steps, temporal_steps
from dp3_jax.training.anonymizer_steps import LossOptions
from dp3_jax.training.objectives import masked
from dp3_jax.training.objectives.objective import Generate, Objective, Samples, TrainStep
from dp3_jax.training.sections import DataSection, Sections
from dp3_jax.training.steps import StepOptions
from dp3_jax.vision import masks

_DIVISORS = ("fade_halflife", "diversity_target", "feature_diversity_target")
_IMAGES_FOR_A_PAIR = 8  # one pair of video frames for so many images of a batch
_MEASURED = 64  # held-out pairs that are measured at a checkpoint
_AT_ONCE = 16  # of them


def problems(sections: Sections) -> Iterator[str]:
    """See Objective."""
    yield from masked.problems(sections, _DIVISORS)
    if sections.data.clips and not sections.losses.temporal:
        yield "data.clips is used by losses.temporal alone, which is 0; set both or neither"


def train_step(options: StepOptions, losses: LossOptions) -> TrainStep:
    """See Objective."""
    step = temporal_steps.train_step if losses.temporal else anonymizer_steps.train_step
    return functools.partial(step, options=options, weights=losses)


def sample_inputs(
    samples: Samples, data: DataSection, pairs: ClipPairs | None
) -> tuple[jax.Array, ...]:
    """See Objective: held-out images, the mask, latents."""
    return *masked.sample_pictures(samples, data), samples.latents()


def companions(
    data: DataSection, losses: LossOptions, micro_batch: int, seed: int
) -> ClipPairs | None:
    """Pairs of video frames, one for every _IMAGES_FOR_A_PAIR images; None without clips.

    Those of `data.clips`, or where the images come from clips too, of these; see `data.clips`.

    Raises:
      UserError: the file cannot be read or does not fit.
    """
    path = data.clips
    if data.source == "clips" and losses.temporal:
        path = path or data.path
    if not path:
        return None
    devices = jax.device_count()
    return ClipPairs(
        path,
        image_size=data.image_size,
        batch_size=max(1, micro_batch // _IMAGES_FOR_A_PAIR // devices) * devices,
        seed=seed,
        flip=data.flip,
        held_out=data.clips_held_out,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def measure(pairs: ClipPairs | None, samples: Samples, generate: Generate) -> dict[str, float]:
    """See Objective: `temporal_steps.warping_error` of pairs of frames of people who are held out."""
    if pairs is None or not len(pairs.heldout["clip_first"]):
        return {}
    count = len(pairs.heldout["clip_first"])
    chosen = np.linspace(0, count - 1, min(count, _MEASURED)).round().astype(int)
    size = pairs.heldout["clip_first"].shape[1]
    key = jax.random.fold_in(jax.random.key(samples.seed), 2)
    latents = jax.random.normal(key, (_AT_ONCE, samples.latent_dim))
    errors = []
    for start in range(0, len(chosen), _AT_ONCE):
        rows = np.resize(chosen[start : start + _AT_ONCE], _AT_ONCE)  # the last ones repeat
        batch = {name: array[rows] for name, array in pairs.heldout.items()}
        mask = jnp.repeat(masks.inference_mask(size)[None], _AT_ONCE, axis=0)
        first, views = temporal_steps.clip_views(batch, mask)
        drawn = [generate((view, mask, latents)) for view in (first, views.second)]
        pair = (temporal_steps.warping_error(*two, views) for two in (drawn, (first, views.second)))
        left = min(_AT_ONCE, len(chosen) - start)
        errors.append(np.stack([np.asarray(each)[:left] for each in pair], 1))
    own, source = np.concatenate(errors).mean(0)
    return {"warping_error": float(own), "warping_error_ratio": float(own / max(source, 1e-12))}


OBJECTIVE = Objective(
    train_step=train_step,
    sample_inputs=sample_inputs,
    losses=LossOptions,
    problems=problems,
    measure=measure,
    perceptual_features=masked.perceptual_features,
    companions=companions,
)
