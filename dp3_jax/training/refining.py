"""Refining the fusion network by ratings: `launch.py --config=configs/refine128.py`.

Half of the places that were rated teach: a scorer is fitted to their ratings (`preference`), and the network
is moved a little so that its pictures there score higher. The other half judges: a second scorer, fitted to
its ratings alone, says whether pictures of its own places became better. The refined network is given away
only if

- the first scorer tells right from wrong on the other half, so that there is something to learn, and
- by the second scorer those pictures score higher than before, at the lower end of the 95% interval.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from absl import logging

from dp3_jax.common import files, images
from dp3_jax.common.errors import UserError
from dp3_jax.data.rated import RatedFaces
from dp3_jax.metrics.resampling import interval
from dp3_jax.models.fusion import FusionGenerator
from dp3_jax.models.preference import Maps, Scorer, features
from dp3_jax.training import preference

_AT_ONCE = 16  # faces measured at a time
_MIN_AGREEMENT = 0.5  # of a scorer that knows nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefineOptions:
    """How far a network is moved.

    Attributes:
      updates: of the network.
      batch_size: rated faces per update.
      learning_rate: of Adam.
      stay: factor of the mean squared change of pictures in [-1, 1] under the mask.
      seed: of the split into halves and of the batches.

    Raises:
      UserError: a value out of range, named as the config has it.
    """

    updates: int = 60
    batch_size: int = 8
    learning_rate: float = 1e-4
    stay: float = 20.0
    seed: int = 0

    def __post_init__(self):
        for name in ("updates", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise UserError(f"refine.{name} is above 0, not {getattr(self, name)}")
        if not self.stay >= 0:
            raise UserError(f"refine.stay is 0 or more, not {self.stay}")
        if self.seed < 0:
            raise UserError(f"seed is 0 or more, not {self.seed}")


@dataclasses.dataclass(frozen=True, eq=False)
class Refined:
    """What came of it.

    Attributes:
      params: of the refined network.
      report: numbers, as report.json has them.
      improved: whether the network may be given away.
      scorer: fitted to all ratings, for choosing among candidates.
      before, after: u8[n, S, S, 3], faces of the half that judges.
    """

    params: Any
    report: Mapping[str, Any]
    improved: bool
    scorer: Scorer
    before: np.ndarray
    after: np.ndarray


def halves(context: np.ndarray, seed: int) -> np.ndarray:
    """bool[n]: which faces teach; those of one place stay together."""
    places = np.unique(context)
    chosen = np.random.default_rng(seed).permutation(places)[: (len(places) + 1) // 2]
    return np.isin(context, chosen)


def refine(
    network: FusionGenerator,
    params: Any,
    rated: RatedFaces,
    maps: Maps,
    options: RefineOptions,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Refined:
    """Moves a network towards what its ratings ask for, and measures on places that it was not moved for.

    Args:
      network: the fusion network.
      params: where it begins.
      rated: the faces, with their ratings.
      maps: perceptual features, see `preference`.
      options: how far it is moved.
      progress: told after each update how many are done.

    Raises:
      ValueError: the ratings of one half all say the same.
    """
    teaches = halves(rated.context, options.seed)
    teaching, judging = rated.of(teaches), rated.of(~teaches)
    draw = jax.jit(lambda p, batch: _drawn(network, p, batch))
    measure = jax.jit(lambda image, mask: features(maps, image, mask))

    def measured(p: Any, faces: RatedFaces) -> np.ndarray:
        return _in_parts(lambda part: measure(draw(p, part), part["mask"]), faces)

    first, second = (
        preference.fit(measured(params, half), half.wrong, half.context)
        for half in (teaching, judging)
    )
    before = measured(params, judging)

    def score(image: jax.Array, mask: jax.Array) -> jax.Array:
        return first(features(maps, image, mask))

    moved = _moved(network, params, teaching, score, options, progress=progress)
    after = measured(moved, judging)
    report = _report(judging, first, second, before, after)
    everything = measured(params, rated)
    return Refined(
        moved,
        report,
        improved=not report["refused"],
        scorer=preference.fit(everything, rated.wrong, rated.context),
        before=_pictures(draw, params, judging),
        after=_pictures(draw, moved, judging),
    )


def _drawn(network: FusionGenerator, params: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
    names = ("image", "mask", "donor", "donor_mask")
    return network.apply({"params": params}, *(batch[name] for name in names))


def _batch(faces: RatedFaces) -> dict[str, np.ndarray]:
    """The network's inputs, f32."""
    return {
        "image": images.to_float(faces.image),
        "mask": faces.mask.astype(np.float32),
        "donor": images.to_float(faces.donor),
        "donor_mask": faces.donor_mask.astype(np.float32),
    }


def _in_parts(call: Callable[[dict], jax.Array], faces: RatedFaces) -> np.ndarray:
    """`call` for all faces, in batches of one size, so that it is compiled once."""
    found = []
    for start in range(0, len(faces), _AT_ONCE):
        rows = np.arange(start, start + _AT_ONCE).clip(max=len(faces) - 1)
        found.append(np.asarray(call(_batch(faces.of(rows)))))
    return np.concatenate(found)[: len(faces)]


def _pictures(draw: Callable, params: Any, faces: RatedFaces) -> np.ndarray:
    return images.to_uint8(_in_parts(lambda part: draw(params, part), faces))


def _moved(
    network: FusionGenerator,
    params: Any,
    faces: RatedFaces,
    score: Callable[[jax.Array, jax.Array], jax.Array],
    options: RefineOptions,
    *,
    progress: Callable[[int], None],
) -> Any:
    """The parameters after training on some faces towards a higher score of (picture, mask)."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(options.learning_rate))

    def loss(p: Any, start: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        now, was = _drawn(network, p, batch), _drawn(network, start, batch)
        wrong = jax.nn.softplus(-score(now, batch["mask"]))
        away = ((now - was) ** 2 * batch["mask"]).sum() / (3.0 * batch["mask"].sum())
        return wrong.mean() + options.stay * away

    @jax.jit
    def update(p: Any, state: Any, start: Any, batch: Mapping[str, jax.Array]) -> tuple[Any, Any]:
        changes, state = optimizer.update(jax.grad(loss)(p, start, batch), state)
        return optax.apply_updates(p, changes), state

    rng, now, state = np.random.default_rng(options.seed), params, optimizer.init(params)
    for done in range(1, options.updates + 1):
        rows = rng.choice(len(faces), options.batch_size, replace=len(faces) < options.batch_size)
        now, state = update(now, state, params, _batch(faces.of(rows)))
        progress(done)
    return now


def _report(
    judging: RatedFaces, first: Scorer, second: Scorer, before: np.ndarray, after: np.ndarray
) -> dict[str, Any]:
    """What the half that judges says."""
    agreed = preference.agreement(np.asarray(first(before)), judging.wrong)
    agreements = _agreements(np.asarray(first(before)), judging)
    gain = np.asarray(second(after)) - np.asarray(second(before))
    gained = interval(gain, judging.context)
    refused = ""
    if gained["low"] is None:
        refused = "the refined network gives no numbers; a smaller refine.learning_rate may help"
    elif not agreements[0] > _MIN_AGREEMENT:
        refused = (
            "what one half of the ratings says does not foretell the other half, "
            f"agreement {agreed:.2f} (95%: {agreements[0]:.2f} to {agreements[1]:.2f}, chance .50): "
            "rate more faces"
        )
    elif not gained["low"] > 0:
        refused = (
            f"held-out faces did not get better: score {gained['value']:+.2f} "
            f"(95%: {gained['low']:+.2f} to {gained['high']:+.2f})"
        )
    return {
        "judging_faces": len(judging),
        "agreement": {"value": agreed, "low": agreements[0], "high": agreements[1]},
        "score_gain": gained,
        "looks_right_before": float((np.asarray(second(before)) > 0).mean()),
        "looks_right_after": float((np.asarray(second(after)) > 0).mean()),
        "refused": refused,
    }


def _agreements(scores: np.ndarray, judging: RatedFaces) -> tuple[float, float]:
    """The 95% interval of the agreement, by drawing places again."""
    rng, places = np.random.default_rng(0), np.unique(judging.context)
    rows = {place: np.flatnonzero(judging.context == place) for place in places}
    drawn = []
    for _ in range(500):
        chosen = np.concatenate([rows[p] for p in rng.choice(places, len(places))])
        drawn.append(preference.agreement(scores[chosen], judging.wrong[chosen]))
    drawn = [value for value in drawn if np.isfinite(value)]
    return tuple(float(v) for v in np.quantile(drawn, (0.025, 0.975))) if drawn else (0.0, 1.0)


def write_report(path: pathlib.Path, report: Mapping[str, Any]) -> None:
    """Writes report.json."""
    files.write_bytes(path, json.dumps(report, indent=1).encode() + b"\n")
    logging.info("wrote %s", path)
