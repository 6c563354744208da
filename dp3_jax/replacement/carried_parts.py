"""What the fusion network said of one frame, carried to the next ones, where head and background have moved.

It runs in every few frames. Alpha belongs to the donor: it is kept relative to the softened mask of the donor
that it was made for, and takes the mask of the donor that is shown. Gain and bias are smooth and are averaged
over time. The fill, hair between the donor and the photo, is moved: at the mask's boundary with what is seen
to move outside of it, further in with the head, which stands still in the canonical frame. Where background
shows (`background`), it is that of the background-filled frame itself.
"""

import dataclasses
import functools

import cv2
import numpy as np

from dp3_jax.replacement.fusing import Parts, to_floats
from dp3_jax.vision import flow
from dp3_jax.vision.masks import SIZE

_GRID = 32  # cells of what is smooth
_CELL = SIZE // _GRID  # px
_KNOWN = 0.3  # of the softened mask, from which on its ratio to alpha says something
_SPREAD = 4.0  # px, standard deviation by which what is known there is carried on
_SMOOTH = np.array([1, 2, 1], np.float32) / 4

_MIN_SHARE = 0.04  # weight of what was said last in the average of gain and bias
_FADING = 8  # frames in which a new fill takes over from the one before
_REACH = 16.0  # px inside the mask over which motion seen outside of it dies away
_CARRIED = 2.0  # cells, standard deviation by which it is carried inward
_FASTEST = 4.0  # px a frame; what seems faster was not found
_BAND = 8  # px outside the mask that are compared
_SECTORS = 8
_STALE = 18.0  # levels of difference in any sector from which on a fill is out of date


@dataclasses.dataclass(frozen=True, eq=False)
class Carried:
    """What is kept of a track's parts; all but the count are arrays.

    Attributes:
      tone: f32[G, G, 7], average of relative alpha, gain and bias.
      latest: f32[G, G, 7], the same as they were said last.
      fill: f32[S, S, 4], as it was said last, and how far the background-filled frame shows instead.
      offset: f32[G, G, 2] px, where each place of this frame lies in `fill`.
      before, before_offset: those of the run before, while they still show.
      view: u8[S, S, 3], the background-filled view of the last frame.
      key_view: u8[S, S, 3], the one that `fill` was made for.
      frames: since then.
    """

    tone: np.ndarray
    latest: np.ndarray
    fill: np.ndarray
    offset: np.ndarray
    before: np.ndarray
    before_offset: np.ndarray
    view: np.ndarray
    key_view: np.ndarray
    frames: int


ARRAYS = tuple(f.name for f in dataclasses.fields(Carried) if f.name != "frames")


def softened(mask: np.ndarray) -> np.ndarray:
    """f32[S, S, 1]: a donor's mask of 0 and 1 as the network softens it (`models.fusion._softened`)."""
    smooth = mask[..., 0].astype(np.float32)
    for _ in range(2):
        smooth = cv2.sepFilter2D(
            smooth, cv2.CV_32F, _SMOOTH, _SMOOTH, borderType=cv2.BORDER_REPLICATE
        )
    return (np.clip(2 * smooth - 1, 0, 1) * mask[..., 0])[..., None]


def _tone(parts: Parts, mask: np.ndarray) -> np.ndarray:
    """f32[G, G, 7]: alpha relative to the softened mask, carried on beyond it; gain; bias."""
    edge = softened(mask)[..., 0]
    known = (edge >= _KNOWN).astype(np.float32)
    ratio = np.minimum(parts.alpha[..., 0] / np.maximum(edge, _KNOWN), 1.0) * known
    around = cv2.GaussianBlur(ratio, (0, 0), _SPREAD), cv2.GaussianBlur(known, (0, 0), _SPREAD)
    carried = np.where(around[1] > 1e-3, around[0] / np.maximum(around[1], 1e-3), 1.0)
    alpha = np.where(known > 0, ratio, carried)
    both = np.dstack([alpha, parts.gain, parts.bias]).astype(np.float32)
    return cv2.resize(both, (_GRID, _GRID), interpolation=cv2.INTER_AREA)


def said(
    parts: Parts,
    share: np.ndarray,
    mask: np.ndarray,
    view: np.ndarray,
    carried: Carried | None = None,
) -> Carried:
    """What is kept after a run of the network.

    Args:
      parts: what it said.
      share: f32[S, S, 1], how far the background-filled view shows in place of its fill.
      mask: f32[S, S, 1] of the donor that it was said of.
      view: u8[S, S, 3], the background-filled view.
      carried: of the frame before, already moved to this one; None at the beginning.
    """
    tone, still = _tone(parts, mask), np.zeros((_GRID, _GRID, 2), np.float32)
    fill = np.dstack([parts.fill, share]).astype(np.float32)
    if carried is None:
        return Carried(tone, tone, fill, still, fill, still, view, view, _FADING)
    return Carried(carried.tone, tone, fill, still, _fill(carried), still, view, view, 0)


def moved(
    carried: Carried, view: np.ndarray, mask: np.ndarray, change_score: float = 0.0
) -> Carried:
    """What is kept, brought to the next frame.

    Args:
      carried: of the frame before.
      view: u8[S, S, 3], the background-filled view of this frame.
      mask: f32[S, S, 1], the masked region.
      change_score: share of the average of gain and bias that is out of date, 0 to 1.
    """
    step = _motion(carried.view, view, mask)
    share = np.float32(_MIN_SHARE + (1 - _MIN_SHARE) * change_score)
    return dataclasses.replace(
        carried,
        tone=carried.tone + share * (carried.latest - carried.tone),
        offset=_advanced(carried.offset, step),
        before_offset=_advanced(carried.before_offset, step),
        view=view,
        frames=carried.frames + 1,
    )


def is_stale(carried: Carried, view: np.ndarray, mask: np.ndarray) -> bool:
    """Whether what lies beside the mask differs much from what its fill was made for, moved here."""
    sectors = _sectors((mask > 0).tobytes(), mask.shape[:2])
    there = _warped(carried.key_view, carried.offset)
    places, sector, counts = sectors
    differences = cv2.absdiff(there, view).reshape(-1, 3)[places].max(1)
    sums = np.bincount(sector, differences, _SECTORS)
    return bool((sums > _STALE * counts).any())


def placed(carried: Carried, mask: np.ndarray) -> Parts:
    """The parts for a donor with this mask, f32[S, S, 1]."""
    tone = cv2.resize(carried.tone, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    alpha, gain, bias = _channels(tone, (0,), (1, 2, 3), (4, 5, 6))
    shown, share = _channels(_fill(carried), (0, 1, 2), (3, 3, 3))
    shown += cv2.multiply(share, to_floats(carried.view) - shown)
    return Parts(shown, alpha * softened(mask), gain, bias)


def _channels(image: np.ndarray, *chosen: tuple[int, ...]) -> list[np.ndarray]:
    """f32[h, w, n] of n channels for each choice; NumPy would go through three numbers at a time."""
    parts = [np.empty((*image.shape[:2], len(numbers)), np.float32) for numbers in chosen]
    pairs = enumerate(number for numbers in chosen for number in numbers)
    cv2.mixChannels([image], parts, [n for to, source in pairs for n in (source, to)])
    return parts


def _fill(carried: Carried) -> np.ndarray:
    """f32[S, S, 4]: the fill in this frame."""
    fill = _warped(carried.fill, carried.offset)
    if carried.frames >= _FADING:
        return fill
    share = (carried.frames + 1) / (_FADING + 1)
    before = _warped(carried.before, carried.before_offset)
    return cv2.addWeighted(fill, share, before, 1 - share, 0)


def _warped(image: np.ndarray, offset: np.ndarray) -> np.ndarray:
    if not offset.any():
        return image
    fine = cv2.resize(offset, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    places = flow.pixels(*image.shape[:2]) + fine
    return cv2.remap(image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _advanced(offset: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Where each cell lies in a picture, one frame later; `step`: where it was in the frame before."""
    return flow.sample(offset, step / _CELL) + step


def _motion(before: np.ndarray, now: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """f32[G, G, 2] px: where what is in each cell was before, by what is seen outside of the mask."""
    outside, reach = _weights((mask > 0).tobytes(), mask.shape[:2])
    greys = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (now, before))
    back = flow.dense_flow(*greys, preset="lean")
    found = outside * (cv2.magnitude(*cv2.split(back)) <= _FASTEST)
    size = (_GRID, _GRID)
    seen = cv2.multiply(back, cv2.merge([found] * 2))
    seen = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(found, size, interpolation=cv2.INTER_AREA)
    seen, weight = (cv2.GaussianBlur(one, (0, 0), _CARRIED) for one in (seen, weight))
    return seen / np.maximum(weight, 1e-3)[..., None] * reach


@functools.lru_cache(maxsize=64)  # all faces of a run share a few masks
def _weights(inside: bytes, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """f32[S, S], 1 outside of a mask; f32[G, G, 1], how far motion outside reaches."""
    pixels = np.frombuffer(inside, np.uint8).reshape(shape)
    depth = cv2.distanceTransform(pixels, cv2.DIST_L2, 5)
    reach = np.clip(1 - depth / _REACH, 0, 1).astype(np.float32)
    reach = cv2.resize(reach, (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    return (1 - pixels).astype(np.float32), reach[..., None]


@functools.lru_cache(maxsize=64)
def _sectors(inside: bytes, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The band outside of a mask: i[n] flat places, i[n] the direction of each, i[_SECTORS] counts."""
    pixels = np.frombuffer(inside, np.uint8).reshape(shape)
    band = (cv2.distanceTransform(1 - pixels, cv2.DIST_L2, 5) <= _BAND) & (pixels == 0)
    y, x = np.mgrid[: shape[0], : shape[1]] - np.array(shape).reshape(2, 1, 1) / 2
    sector = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * _SECTORS).astype(int) % _SECTORS
    return np.flatnonzero(band), sector[band], np.bincount(sector[band], minlength=_SECTORS)
