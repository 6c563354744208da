"""A clip of a person who does not exist, and who turns, speaks and blinks before a camera.

Each frame is a rendering by the face prior, with its own background: the person's latent is moved along the
directions of pose and mouth, and the lids are closed by warping. So what stands for an original shows nobody.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from dp3_jax.replacement import eyelids, key_derivation
from dp3_jax.replacement.attributes import AttributeReader
from dp3_jax.replacement.directions import load_directions
from dp3_jax.replacement.prior_identities import PriorIdentities

RATE = 25  # frames a second
SECONDS = 4.0  # after which the person is as at the start

_SEED, _CANDIDATE = 204, 15  # a woman before a plain wall, whatever rules choose persons elsewhere
_RENDERED = 256, 512  # px
_MAX_ENLARGED = 1.5
_NOISE = 1.5  # levels, standard deviation of a camera's
_YAW, _PITCH = 13.0, 2.5  # degrees to each side
_OPENING = 0.2  # eye distances, of the mouth at most
_SYLLABLES = ((2.1, 0.0), (3.3, 1.0))  # a second, and radians from which each begins
_SPEAKS = (0.5, 3.4)  # s
_BLINKS = (1.2, 3.0)  # s
_BLINK = 0.14  # s from open to closed


class Expression(NamedTuple):
    """How the person looks: what is added to pose and mouth, and how far the eyes are open."""

    yaw: float
    pitch: float
    mouth_opening: float
    eyes: float


def expression_at(seconds: float) -> Expression:
    """How the person looks at a time, smooth and repeating after SECONDS."""
    now = seconds % SECONDS
    turn = 2 * math.pi * now / SECONDS
    speech = sum(0.5 * math.sin(2 * math.pi * rate * now + start) for rate, start in _SYLLABLES)
    loud = _smooth((now - _SPEAKS[0]) / 0.4) * _smooth((_SPEAKS[1] - now) / 0.4)
    from_blink = min(abs(now - blink) for blink in _BLINKS)
    return Expression(
        _YAW * math.sin(turn),
        _PITCH * math.sin(2 * turn),
        _OPENING * loud * min(max(speech, 0.0), 1.0),
        _smooth(from_blink / _BLINK),
    )


def _smooth(share: float) -> float:
    """From 0 to 1, starting and ending gently."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def talking(source: PriorIdentities, frames: int, side: int) -> Iterator[np.ndarray]:
    """u8[side, side, 3] RGB, one frame after the other."""
    table, reader, random = load_directions(), AttributeReader(), np.random.default_rng(0)
    (w,) = source.candidates(key_derivation.master_key_from_seed(_SEED), _CANDIDATE, 1)
    own = table.predict(w)
    size = next((s for s in _RENDERED if side <= _MAX_ENLARGED * s), _RENDERED[-1])
    for number in range(frames):
        shown = expression_at(number / RATE)
        moves = {
            "yaw": shown.yaw - float(own["yaw"]),
            "pitch": shown.pitch - float(own["pitch"]),
            "mouth_opening": shown.mouth_opening,
        }
        picture = source.picture(table.move(w, moves), size)
        located = reader.locate(picture) if shown.eyes < 1 else None
        if located is not None:
            picture, _ = eyelids.moved(picture, located[0], (shown.eyes, shown.eyes))
        picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
        noise = random.standard_normal(picture.shape, np.float32) * _NOISE
        yield np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)
