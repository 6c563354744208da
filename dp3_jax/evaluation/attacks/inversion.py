"""Inversion: a network learns to draw the original from the result, and verifiers say whom it drew.

It is a small U-Net (Ronneberger et al., 2015) on half the canonical resolution, trained on pairs that an
attacker can make of any photos with the anonymizer. The same network, trained alike on pictures with a
blanked masked region, draws what surroundings let one guess: hair colour, age, sex. What the first one
draws better comes from inside the masked region.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.attacks import restoring
from dp3_jax.evaluation.attacks.attack import AttackResult, FaceSet
from dp3_jax.evaluation.attacks.remembering import remembered
from dp3_jax.evaluation.attacks.restoring import Restore
from dp3_jax.evaluation.attacks.verifiers import FACE_VERIFIERS, Embed
from dp3_jax.models.anonymizer import space_to_depth
from dp3_jax.models.dcgan import depth_to_space

SIDE = 64  # px, of what is drawn
BATCH = 16
_MIN_FACES = 2 * BATCH  # to learn from
_AT_ONCE = 64  # pictures restored in one call


class UNet(nn.Module):
    """f32[B, S, S, 3] in [-1, 1] to the same: what it draws is added to what it sees.

    Attributes:
      widths: channels at S/2, S/4, ... px. Four neighbouring pixels are one place of the first map, which
        costs a third of a map of all pixels.
    """

    widths: tuple[int, ...] = (24, 48, 96)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Draws."""
        shown, kept = x, []
        x = space_to_depth(x)
        for level, width in enumerate(self.widths):
            x = nn.Conv(width, (3, 3), strides=2 if level else 1)(x)
            x = nn.silu(nn.GroupNorm(8)(x))
            x = nn.silu(nn.Conv(width, (3, 3))(x))
            kept.append(x)
        for width, skip in zip(self.widths[-2::-1], kept[-2::-1], strict=True):
            x = jax.image.resize(x, (*skip.shape[:3], x.shape[-1]), "nearest")
            x = nn.Conv(width, (3, 3))(jnp.concatenate([x, skip], -1))
            x = nn.silu(nn.GroupNorm(8)(x))
        drawn = nn.Conv(12, (3, 3), kernel_init=nn.initializers.zeros)(x)
        return shown + depth_to_space(drawn)


def _small(pictures: np.ndarray) -> np.ndarray:
    """f32[n, SIDE, SIDE, 3] in [-1, 1] of u8[n, S, S, 3]."""
    shrunk = [cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in pictures]
    return np.array(shrunk, np.float32).reshape(-1, SIDE, SIDE, 3) / 127.5 - 1


def _loss(params: Any, batch: tuple[jax.Array, ...]) -> jax.Array:
    """L1 under the mask, of the picture and of its differences between neighbours."""
    shown, wanted, mask = batch
    error = (UNet().apply(params, shown) - wanted) * mask
    across = jnp.abs(jnp.diff(error, axis=2)).mean() + jnp.abs(jnp.diff(error, axis=1)).mean()
    return jnp.abs(error).mean() + across


def _optimizer(updates: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(2e-3, updates), b2=0.99)


# Compiled once for all networks, which takes as long as a hundred updates.
@functools.partial(jax.jit, static_argnums=0)
def _update(updates: int, params: Any, state: Any, batch: tuple[jax.Array, ...]) -> tuple[Any, Any]:
    change, state = _optimizer(updates).update(jax.grad(_loss)(params, batch), state)
    return optax.apply_updates(params, change), state


_init, _apply = jax.jit(UNet().init), jax.jit(UNet().apply)


@remembered
def train(
    pictures: np.ndarray, originals: np.ndarray, masks: np.ndarray, updates: int, seed: int
) -> Restore:
    """Trains a U-Net to draw `originals` from `pictures`, both u8[n, S, S, 3]; half the time mirrored.

    Args:
      pictures, originals: pairs.
      masks: bool[n, S, S], where it counts.
      updates: of BATCH pairs.
      seed: of parameters and order.
    """
    rng = np.random.default_rng(seed)
    shown, wanted = _small(pictures), _small(originals)
    weight = np.stack([cv2.resize(m.astype(np.float32), (SIDE, SIDE)) for m in masks])[..., None]
    params = _init(jax.random.key(seed), shown[:1])
    state = _optimizer(updates).init(params)
    for _ in range(updates):
        rows = rng.integers(0, len(shown), BATCH)
        step = -1 if rng.random() < 0.5 else 1
        batch = tuple(x[rows][:, :, ::step] for x in (shown, wanted, weight))
        params, state = _update(updates, params, state, batch)

    def restore(given: np.ndarray) -> np.ndarray:
        size, drawn = given.shape[1], []
        for start in range(0, len(given), _AT_ONCE):
            part = _small(given[start : start + _AT_ONCE])
            padded = np.pad(part, [(0, _AT_ONCE - len(part)), (0, 0), (0, 0), (0, 0)])
            drawn.append(np.asarray(_apply(params, padded))[: len(part)])
        levels = np.clip(np.rint((np.concatenate(drawn) + 1) * 127.5), 0, 255).astype(np.uint8)
        return np.array(
            [cv2.resize(x, (size, size), interpolation=cv2.INTER_CUBIC) for x in levels]
        )

    return restore


@dataclasses.dataclass(frozen=True, eq=False)
class FittedInversion:
    """The trained networks by kind of picture, and the number of pairs."""

    attack: "Inversion"
    restore: Mapping[str, Restore]
    pairs: int

    def score(self, faces: FaceSet) -> AttackResult:
        """See `FittedAttack`."""
        how = f"trained a network on {self.pairs} pairs to draw the original from the result"
        return restoring.score(self.attack, faces, self.restore, self.attack.embed, how)


@dataclasses.dataclass(frozen=True)
class Inversion:
    """The attack.

    Attributes:
      embed: the verifiers that judge.
      updates: of each network.
    """

    embed: Embed = FACE_VERIFIERS
    updates: int = 300

    name: ClassVar[str] = "inversion"
    title: ClassVar[str] = "Network trained to restore the original"
    trains: ClassVar[bool] = True
    needs_people: ClassVar[bool] = True

    def fit(self, faces: FaceSet, seed: int) -> FittedInversion:
        """See `Attack`.

        Raises:
          UserError: fewer than _MIN_FACES faces.
        """
        if len(faces) < _MIN_FACES:
            raise UserError(
                f"{self.title.lower()}: {len(faces)} faces are too few to learn from; it takes "
                f"{_MIN_FACES}"
            )
        given = {"anonymized": faces.anonymized, "blanked": faces.blanked}
        restore = {
            kind: train(pictures, faces.originals, faces.masks, self.updates, seed)
            for kind, pictures in given.items()
        }
        return FittedInversion(self, restore, len(faces))
