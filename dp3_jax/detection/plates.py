"""Finding licence plates: a small network of our own over a pyramid of sizes and in tiles.

The network says where plates of 16 to 48 px lie (`models.plate_net`); larger ones are found in the frame made
smaller. What is no plate and is covered is a blemish, a plate that shows tells whose car it is: so the
threshold is low, and boxes of the same plate at two sizes are joined.
"""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dp3_jax.detection import pyramid
from dp3_jax.detection.detections import Detection, overlap
from dp3_jax.detection.kinds import PLATE
from dp3_jax.models import plate_net

MIN_CONFIDENCE = 0.7
_WEIGHTS = pathlib.Path(__file__).parent.parent / "weights" / "plates.safetensors"
_TILE = 256  # px: all tiles have this size, so that the network is compiled once
_OVERLAP = 56  # px that neighbouring tiles share at least: the largest plate that the network knows
_STEP = 2.0  # between two sizes: the network sees plates of three times the size of the smallest
_MAX_SHARE = 0.9  # of the frame's width: a plate that is wider is not looked for
_SAME_IOU = 0.25  # boxes that overlap more show one plate
_INSIDE = 0.6  # share of a box in that of another, surer plate: a part of it
_WHOLE = 0.8  # share of a box in that of a less sure plate: that shows the same, and more of it
_MAX_RATIO = (
    4.0  # times the area of the surer box: what holds it and is larger shows something else
)
_IN_LINE = 0.6  # share of the height of the higher of two boxes that both have: ends of one plate
_LONGEST = (
    6.5  # width over height of a plate's box: the longest plates measure 4.7, seen from above more
)

Network = Callable[[np.ndarray], np.ndarray]


@functools.cache
def _network() -> Network:
    """u8[_TILE, _TILE, 3] -> f32[_TILE / STRIDE, _TILE / STRIDE, OUTPUTS]."""
    import jax
    from safetensors.numpy import load_file

    params = {name: jax.numpy.asarray(value) for name, value in load_file(_WEIGHTS).items()}
    compiled = jax.jit(lambda tile: plate_net.apply(params, tile[None])[0])
    return lambda tile: np.asarray(compiled(tile))


def find_plates(image: np.ndarray, min_confidence: float = MIN_CONFIDENCE) -> list[Detection]:
    """The licence plates in u8[H, W, 3] RGB, surest first: boxes in px, of kind PLATE, without points.

    Plates from about 20 px wide to most of the frame; pure but for the weights, which are read once.
    """
    found = [
        _detection(row, image.shape[1] / resized.shape[1], image.shape[0] / resized.shape[0])
        for resized, rows in candidates(image, min_confidence)
        for row in rows
    ]
    return _once_each([plate for plate in found if _in_frame(plate, image.shape)])


def candidates(
    image: np.ndarray, min_confidence: float, network: Network | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What a network takes for plates in u8[H, W, 3] RGB, repetitions and all; by default the shipped one.

    Yields:
      For each size that it is shown, the image resized, u8[h, w, 3], and f32[n, 5]: x, y, width and height
      in px of that, and confidence.
    """
    network = network or _network()
    sizes = pyramid.Pyramid(image)
    for factor in _factors(image.shape[1]):
        resized = sizes.resized(factor)
        found = []
        for left, top, tile in _tiles(resized):
            rows = _decoded(network(tile), min_confidence)
            found.append(rows + np.array([left, top, 0, 0, 0], rows.dtype))
        yield resized, np.concatenate(found)


def _factors(width: int) -> Iterator[float]:
    """By which the frame is resized, finest first: until its widest plates are as the network knows them."""
    factor = 1.0
    while True:
        yield factor
        if width * _MAX_SHARE * factor <= plate_net.LARGEST:
            return
        factor /= _STEP


def _tiles(image: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """(left, top, u8[_TILE, _TILE, 3]) that cover the image; grey beyond it."""
    for top, left in itertools.product(_starts(image.shape[0]), _starts(image.shape[1])):
        part = image[top : top + _TILE, left : left + _TILE]
        tile = np.full((_TILE, _TILE, 3), 127, np.uint8)
        tile[: part.shape[0], : part.shape[1]] = part
        yield left, top, tile


def _starts(length: int) -> list[int]:
    """Where tiles begin along a side of the image."""
    count = max(1, -(-(length - _OVERLAP) // (_TILE - _OVERLAP)))
    return np.linspace(0, max(length - _TILE, 0), count).round().astype(int).tolist()


def _decoded(said: np.ndarray, min_confidence: float) -> np.ndarray:
    """f32[n, 5]: x, y, width, height in px of the tile and confidence, of cells that see a plate."""
    confidence = 1 / (1 + np.exp(-said[..., 0]))
    rows, columns = np.nonzero(confidence >= min_confidence)
    cells = np.stack([columns, rows], 1) + 0.5
    values = said[rows, columns]
    middles = (cells + values[:, 1:3]) * plate_net.STRIDE
    sizes = np.exp(np.clip(values[:, 3:5], -2, 2)) * np.array(plate_net.SIZE)
    return np.concatenate([middles - sizes / 2, sizes, confidence[rows, columns, None]], 1)


def _detection(row: np.ndarray, x_scale: float, y_scale: float) -> Detection:
    x, y, width, height, confidence = (float(v) for v in row)
    box = (x * x_scale, y * y_scale, width * x_scale, height * y_scale)
    return Detection(box, None, confidence, kind=PLATE)


def _in_frame(plate: Detection, shape: tuple[int, ...]) -> bool:
    x, y, width, height = plate.box
    return 0 <= x + width / 2 <= shape[1] and 0 <= y + height / 2 <= shape[0]


def _once_each(plates: list[Detection]) -> list[Detection]:
    """Plates without repetitions, surest first; of one whose ends were found the whole."""
    kept: list[Detection] = []
    for plate in sorted(plates, key=lambda plate: -plate.confidence):
        same = [i for i, other in enumerate(kept) if _same(plate, other)]
        if not same:
            kept.append(plate)
        elif _holds(plate, kept[same[0]]):
            kept[same[0]] = dataclasses.replace(
                kept[same[0]], box=_around(plate.box, kept[same[0]].box)
            )
    joined: list[Detection] = []
    for plate in kept:
        ends = [i for i, other in enumerate(joined) if _ends_of_one(plate, other)]
        if ends:
            joined[ends[0]] = dataclasses.replace(
                joined[ends[0]], box=_around(plate.box, joined[ends[0]].box)
            )
        else:
            joined.append(plate)
    return joined


def _same(plate: Detection, other: Detection) -> bool:
    """Whether a plate is a surer one once more, or a part of it."""
    return overlap(plate.box, other.box) > _SAME_IOU or _share(plate, other) > _INSIDE


def _holds(plate: Detection, other: Detection) -> bool:
    """Whether a plate is a surer one whole: that may be an end of it, seen in a size too large."""
    area, of_other = (box[2] * box[3] for box in (plate.box, other.box))
    return _share(other, plate) > _WHOLE and area < _MAX_RATIO * of_other


def _ends_of_one(plate: Detection, other: Detection) -> bool:
    """Whether two boxes that overlap lie in one line: a plate larger than the network knows is found so."""
    (x, y, width, height), (left, top, across, down) = plate.box, other.box
    common = min(y + height, top + down) - max(y, top)
    whole = _around(plate.box, other.box)
    return (
        max(x, left) < min(x + width, left + across)
        and common > _IN_LINE * max(height, down)
        and whole[2] <= _LONGEST * whole[3]
    )


def _around(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float, float]:
    """The smallest box that holds both."""
    left, top = min(a[0], b[0]), min(a[1], b[1])
    right, bottom = max(a[0] + a[2], b[0] + b[2]), max(a[1] + a[3], b[1] + b[3])
    return left, top, right - left, bottom - top


def _share(plate: Detection, other: Detection) -> float:
    """How much of a plate's box lies in another's."""
    x, y, width, height = plate.box
    left, top, across, down = other.box
    common = max(min(x + width, left + across) - max(x, left), 0.0)
    common *= max(min(y + height, top + down) - max(y, top), 0.0)
    return common / (width * height)
