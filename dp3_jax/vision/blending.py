"""Making a new face sit in its picture: with nothing but pixels from outside the hidden regions.

`fill_background` comes first. Everything after it works on the background-filled frame, so no later step
can let anything of a hidden face through, whatever it does.
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from dp3_jax.vision.geometry import Region, feather, place

FEATHER = 5.0  # canonical px inside the mask over which the new face takes over

_COARSE = 48  # px, the longer side at which the surroundings are carried into a region
_REACH = 0.3  # of a region's size: how far round it the surroundings count
_PRIOR = 1e-3  # weight of the coarser level where a cell is partly known

_BOUNDARY_WIDTH = (
    4.0  # canonical px inside the mask where the new face should continue its surroundings
)
_CELL = 4  # canonical px, the side of a cell of a coarse correction
_CORRECTION_SIGMA = 7.0  # canonical px: only differences in colour and light, not in texture
_CORRECTION_DEPTH = 14.0  # canonical px after which the correction has fallen to 1/e

MIN_GRAIN = 0.6  # levels of standard deviation that nobody sees
MAX_GRAIN = 12.0
_GRAIN_SHARE = 0.85  # of the missing grain is added: too little looks better than too much
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def union(regions: Sequence[Region], shape: Sequence[int]) -> np.ndarray:
    """bool[h, w]: pixels of a frame of `shape` that lie in any region."""
    masked = np.zeros(shape[:2], bool)
    for one in regions:
        masked[one.slices] |= one.inside
    return masked


def neighbourhood(
    target: Region, shape: Sequence[int], share: float = _REACH
) -> tuple[tuple[slice, slice], np.ndarray]:
    """The part of a frame of `shape` round a region, and bool[h, w], which of its pixels are the region's."""
    part = _dilated(target, shape, share)
    own = np.zeros([s.stop - s.start for s in part], bool)
    top, left = target.top - part[0].start, target.left - part[1].start
    own[top : top + target.inside.shape[0], left : left + target.inside.shape[1]] = target.inside
    return part, own


def _dilated(target: Region, shape: Sequence[int], share: float) -> tuple[slice, slice]:
    """The part that `target` describes, larger by `share` of its size on each side."""
    height, width = target.inside.shape
    margin = max(2, round(share * max(height, width)))
    top, left = max(target.top - margin, 0), max(target.left - margin, 0)
    bottom = min(target.top + height + margin, shape[0])
    right = min(target.left + width + margin, shape[1])
    return slice(top, bottom), slice(left, right)


def _halved(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    size = max(1, (width + 1) // 2), max(1, (height + 1) // 2)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _surroundings(colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Known colours carried smoothly into unknown places (push-pull: Gortler et al., 1996, section 3.4).

    Args:
      colour: f32[h, w, 3], sums of known colours times their weight.
      weight: f32[h, w], how much of each cell is known; 0 where nothing is.

    Returns:
      f32[h, w, 3]; mid-grey when nothing is known anywhere.
    """
    if max(weight.shape) == 1:
        known = max(float(weight.max()), 0.0)
        return colour / known if known > 0 else np.full_like(colour, 128.0)
    coarser = _surroundings(_halved(colour), _halved(weight))
    height, width = weight.shape
    coarser = cv2.resize(coarser, (width, height), interpolation=cv2.INTER_LINEAR)
    return (colour + _PRIOR * coarser) / (weight + _PRIOR)[..., None]


def _reduced(
    part: np.ndarray, masked: np.ndarray, quick: bool
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Arguments of `_surroundings` with _COARSE px, and the (height, width) that they stand for.

    Args:
      part: u8[h, w, 3].
      masked: bool[h, w], what of it is not known.
      quick: halve it first, as often as leaves enough; up to that h and w are filled up.
    """
    height, width = masked.shape
    steps = 0
    while quick and max(height, width) >> steps >= 6 * _COARSE:
        steps += 1
    shape = -(-height >> steps) << steps, -(-width >> steps) << steps
    if steps:
        colour, weight = _blocks(part, masked, shape, steps)
    else:
        colour, weight = part, np.where(masked, np.uint8(0), np.uint8(255))
    colour = cv2.copyTo(colour, weight, np.zeros_like(colour))
    factor = min(1.0, _COARSE / max(shape))
    size = max(1, round(shape[1] * factor)), max(1, round(shape[0] * factor))
    colour = cv2.resize(colour.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(weight.astype(np.float32) / 255, size, interpolation=cv2.INTER_AREA)
    return colour, weight, shape


def _blocks(
    part: np.ndarray, masked: np.ndarray, shape: tuple[int, int], steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means of blocks u8[h, w, 3] of a part filled up to `shape`, and u8[h, w], 255 where all was known.

    Blocks of which one pixel is not known are not known; at least none of theirs shows in the fill.
    """
    height, width = masked.shape
    more = (0, shape[0] - height, 0, shape[1] - width)
    colour = cv2.copyMakeBorder(part, *more, cv2.BORDER_REPLICATE)
    unknown = np.ones(shape, bool)
    unknown[:height, :width] = masked
    for _ in range(steps):  # quicker than blocks of so many px at once
        colour = _halved(colour)
        unknown = unknown[0::2] | unknown[1::2]
        unknown = unknown[:, 0::2] | unknown[:, 1::2]
    return colour, np.where(unknown, np.uint8(0), np.uint8(255))


def fill_background(
    frame: np.ndarray,
    regions: Sequence[Region],
    *,
    others: Sequence[Region] = (),
    quick: bool = False,
) -> np.ndarray:
    """A copy of u8[h, w, 3] in which no pixel depends on any that lay in a region.

    The regions show a smooth continuation of what is round them, but nothing of `others`, which stay as they
    are: the caller covers them. `quick` finds it in half the time, up to rounding, for video.
    """
    masked = union([*regions, *others], frame.shape)
    background_fill = frame.copy()
    for target in regions:
        if not target.inside.any():
            continue
        part = _dilated(target, frame.shape, _REACH)
        colour, weight, (height, width) = _reduced(frame[part], masked[part], quick)
        coarse = _surroundings(colour, weight)
        if quick:  # smooth enough for whole levels
            coarse = cv2.convertScaleAbs(coarse)
        filled = cv2.resize(coarse, (width, height))
        top, left = target.top - part[0].start, target.left - part[1].start
        own = slice(top, top + target.inside.shape[0]), slice(left, left + target.inside.shape[1])
        shown = filled[own] if quick else cv2.convertScaleAbs(filled[own])
        place(background_fill, target, shown)
    return background_fill


def _boundary(mask: np.ndarray) -> np.ndarray:
    """f32[h, w]: 1 in the band of _RIM px inside the mask's rim."""
    alpha = feather(mask, _BOUNDARY_WIDTH)
    return ((alpha > 0) & (alpha < 1)).astype(np.float32)


def boundary_error(background_fill: np.ndarray, generated: np.ndarray, mask: np.ndarray) -> float:
    """How badly a new face continues its surroundings: RMS difference of light and colour, in levels.

    Args:
      background_fill: u8[S, S, 3], the canonical view of the background-filled frame.
      generated: u8[S, S, 3], the new face in it.
      mask: [S, S] or [S, S, 1], 1 where it is new.
    """
    return float(np.sqrt((correction(background_fill, generated, mask) ** 2).mean()))


def correction(
    background_fill: np.ndarray, generated: np.ndarray, mask: np.ndarray, *, quick: bool = False
) -> np.ndarray:
    """f32[S, S, 3]: differences in light and colour on the mask's rim, smoothed along it and carried inward.

    Arguments as of `boundary_error`; `generated` may be f32. `quick`: f32[S / 4, S / 4, 3], the same seen
    coarsely, for video.
    """
    if quick:
        inside = np.asarray(mask).reshape(mask.shape[0], mask.shape[1]) > 0.5
        boundary, weight = _coarse_boundary(inside.tobytes(), inside.shape)
        difference = cv2.multiply(
            cv2.subtract(background_fill, generated, dtype=cv2.CV_32F), boundary
        )
        cells = cv2.resize(difference, weight.shape[1::-1], interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(cells, (0, 0), _CORRECTION_SIGMA / _CELL) / weight
    boundary = _boundary(mask)
    difference = (background_fill.astype(np.float32) - generated) * boundary[..., None]
    smooth = cv2.GaussianBlur(difference, (0, 0), _CORRECTION_SIGMA)
    weight = cv2.GaussianBlur(boundary, (0, 0), _CORRECTION_SIGMA)
    return smooth / np.maximum(weight, 1e-3)[..., None]


@functools.lru_cache(maxsize=64)
def _coarse_boundary(inside: bytes, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The rim of a mask, f32[h, w, 3], and f32[h / 4, w / 4, 1], its weight in each cell."""
    boundary = _boundary(np.frombuffer(inside, np.uint8).reshape(shape))
    size = max(1, shape[1] // _CELL), max(1, shape[0] // _CELL)
    cells = cv2.resize(boundary, size, interpolation=cv2.INTER_AREA)
    weight = cv2.GaussianBlur(cells, (0, 0), _CORRECTION_SIGMA / _CELL)
    return cv2.merge([boundary] * 3), np.maximum(weight, 1e-3)[..., None]


def shares(mask: np.ndarray, width: float = FEATHER) -> tuple[np.ndarray, np.ndarray]:
    """For each depth in a mask, f32[h, w, 3] twice: of the new face, and of the correction that is left.

    Args:
      mask: [h, w] or [h, w, 1], 1 inside.
      width: canonical px over which the new face takes over.
    """
    inside = np.asarray(mask).reshape(mask.shape[0], mask.shape[1]) > 0.5
    return _shares(inside.tobytes(), inside.shape, float(width))


@functools.lru_cache(maxsize=64)  # all faces of a run share a few masks
def _shares(inside: bytes, shape: tuple[int, int], width: float) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.frombuffer(inside, np.uint8).reshape(shape)
    depth = cv2.distanceTransform(pixels, cv2.DIST_L2, 5)
    alpha = feather(pixels, width)
    return cv2.merge([alpha] * 3), cv2.merge([np.exp(-depth / _CORRECTION_DEPTH) * alpha] * 3)


def blend(
    background_fill: np.ndarray,
    generated: np.ndarray,
    mask: np.ndarray,
    correct: np.ndarray | None = None,
    width: float = FEATHER,
) -> np.ndarray:
    """The new face with its colours matched to the surroundings and its rim softened, inside the mask.

    Light and colour are matched on the rim and ever less towards the middle; at the rim itself the smooth
    continuation of the surroundings shows, and `width` px further in only the new face.

    Args:
      background_fill, generated, mask: as of `boundary_error`; `generated` may be f32.
      correct: f32[S, S, 3] or smaller, what `correction` gives; None to find it here.
      width: canonical px.

    Returns:
      u8[S, S, 3]; outside the mask equal to `background_fill`.
    """
    alpha, fade = shares(mask, width)
    if correct is None:
        correct = correction(background_fill, generated, mask)
    elif correct.shape != alpha.shape:
        correct = cv2.resize(correct, alpha.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    change = cv2.multiply(cv2.subtract(generated, background_fill, dtype=cv2.CV_32F), alpha)
    # Outside the mask both shares are 0.
    return cv2.add(background_fill, cv2.add(change, cv2.multiply(correct, fade)), dtype=cv2.CV_8U)


def _noise(luma: np.ndarray, where: np.ndarray) -> float:
    """Standard deviation of the grain (Immerkaer, 1996, with a median against edges), in levels."""
    response = np.abs(cv2.filter2D(luma, cv2.CV_32F, _NOISE_KERNEL))[where]
    if response.size < 50:
        return 0.0
    if response.size > 50_000:
        response = response[:: response.size // 50_000]
    # The kernel's norm is 6; the median of |N(0, 1)| is 0.6745.
    return float(np.median(response)) / (6 * 0.6745)


def add_grain(
    frame: np.ndarray, target: Region, masked: np.ndarray, random: np.random.Generator
) -> None:
    """Gives the new face in `frame`, changed in place, the grain of its surroundings.

    Args:
      frame: u8[h, w, 3], erased and with the new faces in it.
      target: pixels of this face.
      masked: bool[h, w], pixels of all faces.
      random: of the grain.
    """
    sigma = grain_level(frame, target, masked)
    if sigma < MIN_GRAIN:
        return
    view = frame[target.slices]
    count = int(target.inside.sum())
    grain = random.standard_normal(count, np.float32) * min(sigma, MAX_GRAIN)
    noisy = np.round(view[target.inside] + grain[:, None])
    view[target.inside] = np.clip(noisy, 0, 255).astype(np.uint8)


def grain_level(frame: np.ndarray, target: Region, masked: np.ndarray) -> float:
    """Standard deviation, in levels, of the grain that a new face lacks; arguments as of `add_grain`."""
    part, own = neighbourhood(target, frame.shape, 0.15)
    luma = cv2.cvtColor(np.ascontiguousarray(frame[part]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    wanted, there = _noise(luma, ~masked[part]), _noise(luma, own)
    return _GRAIN_SHARE * np.sqrt(max(wanted**2 - there**2, 0.0))
