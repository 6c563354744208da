"""Where a face lies in a frame: into the canonical face frame and back.

Frames are u8[h, w, 3] RGB. Coordinates are (x, y) in pixels with pixel centres at whole numbers; a box is
(x, y, width, height). The canonical frame is described in `dp3_jax.vision.masks`.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from dp3_jax.vision.masks import CANONICAL_POINTS, SIZE, turned_mask

# The box that YuNet draws round a face in the canonical frame: means over 300 CelebA images.
CANONICAL_BOX = (33.4, 35.4, 62.3, 82.4)

# Five points of a turned head lie closer together, which makes the head look smaller than it is; the box
# stays. The face is taken to be at most this much smaller than its box says.
_SMALLEST_FOR_BOX = 0.9

_COVERED = (
    0.92  # of the ellipse in a face's box, which the usual mask covers, or else it is made larger
)

# How much less than a whole number of px a canonical one may have for blocks of so many px to be averaged.
_NEARLY = 0.25
_MAX_QUICK = 4.0  # times that a view is enlarged before a bilinear warp does the rest

_ANGLES = np.linspace(0, 2 * np.pi, 64, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)


def _numbers(points: np.ndarray) -> list[complex]:
    return [complex(x, y) for x, y in np.asarray(points, np.float64).tolist()]


_CANONICAL = _numbers(CANONICAL_POINTS)

_MARGIN = 6  # canonical px round the square that Lanczos may look at

_SMOOTH = 1.0  # canonical px, standard deviation of the blur under which a mask's outline is smooth


@dataclasses.dataclass(frozen=True)
class Alignment:
    """A similarity from frame to canonical coordinates: z -> a * z + b with z = x + iy.

    Attributes:
      a: complex; its modulus is canonical px for each frame px, its angle the rotation.
      b: complex, the shift in canonical px.
    """

    a: complex
    b: complex

    @property
    def scale(self) -> float:
        """Canonical px for each frame px; below 1 where the face is larger than the canonical one."""
        return abs(self.a)

    @property
    def matrix(self) -> np.ndarray:
        """f64[2, 3], frame -> canonical, as OpenCV takes it."""
        return _matrix(self.a, self.b)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """f64[..., 2] frame -> canonical."""
        return _real(self.a * _complex(points) + self.b)

    def invert(self, points: np.ndarray) -> np.ndarray:
        """f64[..., 2] canonical -> frame."""
        return _real((_complex(points) - self.b) / self.a)

    def shifted(self, x: float, y: float) -> "Alignment":
        """The alignment to a canvas on which the canonical frame's origin lies at (x, y)."""
        return Alignment(self.a, self.b + complex(x, y))


@dataclasses.dataclass(frozen=True)
class Region:
    """Pixels of a frame.

    Attributes:
      top, left: of the part of the frame that `inside` describes.
      inside: bool[h, w], which pixels of that part belong to the region.
    """

    top: int
    left: int
    inside: np.ndarray

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of the part in the frame."""
        height, width = self.inside.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def _complex(points: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(points, np.float64).view(np.complex128)[..., 0]


def _real(z: np.ndarray) -> np.ndarray:
    return np.asarray(z, np.complex128)[..., None].view(np.float64)


def _matrix(a: complex, b: complex) -> np.ndarray:
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align_points(points: np.ndarray, target: np.ndarray = CANONICAL_POINTS) -> Alignment:
    """The similarity that takes five points closest to the canonical ones, in the least-squares sense.

    Umeyama, 1991. In two dimensions and without reflection his solution is a linear regression over
    complex numbers: a = sum(conj(p) q) / sum(|p|^2) with p, q the centred points.

    Args:
      points: [5, 2] px in the frame, in YuNet's order (the viewer's left eye first).
      target: [5, 2], where another frame than the canonical one has them.

    Raises:
      ValueError: the points coincide or are not finite.
    """
    rows = np.asarray(points, np.float64)
    if rows.shape != (5, 2):
        raise ValueError(f"a face has five finite points (x, y), not {points!r}")
    # Five numbers are summed sooner than NumPy has been called: it takes a tenth of the time.
    p, q = _numbers(rows), _CANONICAL if target is CANONICAL_POINTS else _numbers(target)
    middle, wanted = sum(p) / 5, sum(q) / 5
    centred = [z - middle for z in p]
    spread = sum(z.real * z.real + z.imag * z.imag for z in centred)
    if not math.isfinite(spread):
        raise ValueError(f"a face has five finite points (x, y), not {points!r}")
    a = sum(z.conjugate() * (w - wanted) for z, w in zip(centred, q, strict=True))
    if spread < 1e-6 or abs(a) < 1e-6 * spread:
        raise ValueError("the five points of a face coincide")
    a /= spread
    return Alignment(a, wanted - a * middle)


def align_box(box: Sequence[float]) -> Alignment:
    """The alignment of a face of which only the box is known: by position and scale, upright.

    The box is taken to run from brow or forehead to chin and from cheek to cheek, as YuNet draws it.

    Raises:
      ValueError: the box is empty or not finite.
    """
    x, y, width, height = (float(v) for v in box)
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise ValueError(f"a box is (x, y, width, height) with a positive size, not {box!r}")
    left, top, own_width, own_height = CANONICAL_BOX
    a = complex(math.sqrt(own_width * own_height / (width * height)))
    target = complex(left + own_width / 2, top + own_height / 2)
    return Alignment(a, target - a * complex(x + width / 2, y + height / 2))


def align(box: Sequence[float], points: np.ndarray | None) -> Alignment:
    """The alignment of a face: by its points, held against its box; by the box where there are no points.

    The points of a head in profile lie close together; without the box it would count as a small face and
    be covered in part. Points whose centre is not in the box belong to another face and are not used.
    """
    by_box = align_box(box)
    if points is None:
        return by_box
    centre = sum(_numbers(points)) / len(points)
    x, y, width, height = box
    if not (x <= centre.real <= x + width and y <= centre.imag <= y + height):
        return by_box
    try:
        by_points = align_points(points)
    except ValueError:
        return by_box
    largest = by_box.scale / _SMALLEST_FOR_BOX
    if by_points.scale <= largest:
        return by_points
    a = by_points.a * (largest / by_points.scale)
    return Alignment(a, by_points.a * centre + by_points.b - a * centre)


def _bounds(
    alignment: Alignment, low: tuple[float, float], high: tuple[float, float], shape: Sequence[int]
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of the canonical rectangle low..high in a frame of `shape`, clipped."""
    a, b = 1 / alignment.a, -alignment.b / alignment.a
    corners = [a * complex(x, y) + b for x in (low[0], high[0]) for y in (low[1], high[1])]
    across, down = [z.real for z in corners], [z.imag for z in corners]
    left, top = math.floor(min(across)), math.floor(min(down))
    right, bottom = math.ceil(max(across)) + 1, math.ceil(max(down)) + 1
    height, width = shape[:2]
    return max(top, 0), min(bottom, height), max(left, 0), min(right, width)


def region(alignment: Alignment, mask: np.ndarray, shape: Sequence[int]) -> Region:
    """The pixels of a frame that a mask in the canonical frame stands for.

    Args:
      alignment: of the face, to the canvas that `mask` is drawn on.
      mask: [h, w] or [h, w, 1], 1 inside and 0 outside.
      shape: of the frame, (height, width, ...).

    Returns:
      A region, which may be empty where the face lies outside the frame.
    """
    mask = np.ascontiguousarray(mask, np.float32).reshape(mask.shape[0], mask.shape[1])
    mask, (left, top, width, height) = _smoothed(mask.tobytes(), mask.shape)
    if not width:
        return Region(0, 0, np.zeros((0, 0), bool))
    low, high = (left - 1.0, top - 1.0), (left + float(width), top + float(height))
    top, bottom, left, right = _bounds(alignment, low, high, shape)
    if bottom <= top or right <= left:
        return Region(0, 0, np.zeros((0, 0), bool))
    matrix = _matrix(alignment.a, alignment.b + alignment.a * complex(left, top))
    warped = cv2.warpAffine(
        mask, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    return Region(top, left, warped >= 0.5)


@functools.lru_cache(maxsize=64)  # most faces of a run share a few masks
def _smoothed(mask: bytes, shape: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A mask f32[h, w] blurred, and the box of what is inside: left, top, width, height.

    Where a canonical px is several of the frame, the stairs of a mask's outline would be seen.
    """
    pixels = np.frombuffer(mask, np.float32).reshape(shape)
    box = cv2.boundingRect((pixels != 0).astype(np.uint8))
    return cv2.GaussianBlur(pixels, (0, 0), _SMOOTH, borderType=cv2.BORDER_CONSTANT), box


def joined(first: Region, second: Region) -> Region:
    """The pixels that lie in either region."""
    if not first.inside.size or not second.inside.size:
        return first if first.inside.size else second
    top, left = min(first.top, second.top), min(first.left, second.left)
    bottom, right = np.maximum(
        *(np.add((one.top, one.left), one.inside.shape) for one in (first, second))
    )
    inside = np.zeros((bottom - top, right - left), bool)
    for one in (first, second):
        height, width = one.inside.shape
        inside[
            one.top - top : one.top - top + height, one.left - left : one.left - left + width
        ] |= one.inside
    return Region(top, left, inside)


def place(frame: np.ndarray, target: Region, shown: np.ndarray) -> None:
    """Puts u8[h, w, 3], for the part that `target` describes, into its pixels of `frame`, in place."""
    if target.inside.size:
        cv2.copyTo(np.ascontiguousarray(shown), target.inside.view(np.uint8), frame[target.slices])


def face_mask(
    alignment: Alignment, box: Sequence[float], enough: float = _COVERED, yaw: float = 0.0
) -> np.ndarray:
    """What of the canonical view is to be synthesised for one face, f32[128, 128, 1], 1 inside.

    The mask of `vision.masks`, as long as that covers what the detector took for the face: the ellipse in
    its box. Of heads in profile or bent down, parts lie outside; their mask is the convex hull of both.

    Args:
      alignment, box: of the face.
      enough: share of the ellipse that counts as covered. With 1 the mask never jumps when a head turns.
      yaw: degrees; the mask of a turned head lies further to its near side (`masks.turned_mask`).
    """
    x, y, width, height = box
    centre = np.array([x + width / 2, y + height / 2])
    outline = alignment.apply(_CIRCLE * (width / 2, height / 2) + centre)
    outline = np.round(outline).clip(-2 * SIZE, 3 * SIZE).astype(np.int32)
    seen = cv2.fillConvexPoly(np.zeros((SIZE, SIZE), np.uint8), outline, 1)
    mask = turned_mask(yaw)
    usual, usual_hull = _usual(mask.tobytes())
    if cv2.countNonZero(cv2.bitwise_and(seen, usual)) >= enough * cv2.countNonZero(seen):
        return mask
    hull = cv2.convexHull(np.concatenate([usual_hull, outline]))
    return cv2.fillConvexPoly(np.zeros((SIZE, SIZE), np.float32), hull, 1.0)[..., None]


@functools.lru_cache(maxsize=128)  # there are a few dozen
def _usual(mask: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A mask f32[S, S] as u8, and the corners of its convex hull, i32[n, 2]."""
    usual = np.frombuffer(mask, np.float32).reshape(SIZE, SIZE).astype(np.uint8)
    return usual, cv2.convexHull(cv2.findNonZero(usual))[:, 0]


def _resize(image: np.ndarray, width: int, height: int, quick: bool = False) -> np.ndarray:
    """Lanczos with its support scaled to the source when shrinking, as the training images were made.

    `quick` averages when shrinking and takes a cubic kernel when enlarging.
    """
    if quick:
        larger = width > image.shape[1]
        method = cv2.INTER_CUBIC if larger else cv2.INTER_AREA
        return cv2.resize(image, (width, height), interpolation=method)
    return np.asarray(
        Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    )


def _scaled(image: np.ndarray, factor: float, quick: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """`image` resized by `factor`; and f64[2, 2] rows (scale, shift): new = scale * x + shift."""
    height, width = image.shape[:2]
    new = np.maximum(np.round(np.array([width, height]) * factor), 1).astype(int)
    scale = new / np.array([width, height])
    return _resize(image, int(new[0]), int(new[1]), quick), np.stack([scale, scale / 2 - 0.5], 1)


def _block_means(image: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """As `_scaled`: the means of blocks of side x side px; what is left over at the end is left out."""
    height, width = (max(n // side, 1) for n in image.shape[:2])
    if min(image.shape[:2]) < side:
        return _scaled(image, 1 / side, quick=True)
    blocks = image[: height * side, : width * side]
    made = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_AREA)
    return made, np.array([[1 / side, 0.5 / side - 0.5]] * 2)


def extract(
    frame: np.ndarray, alignment: Alignment, size: int = SIZE, *, quick: bool = False
) -> np.ndarray:
    """The canonical view of a face, u8[size, size, 3], antialiased; outside the frame its rim repeats.

    Args:
      frame: u8[h, w, 3].
      alignment: of the face to the canonical frame of 128 px; `size` is that canvas's side.
      quick: resample in less time and a little softer, for video.

    Raises:
      ValueError: the canonical square lies outside the frame.
    """
    end = size - 1.0 + _MARGIN
    top, bottom, left, right = _bounds(alignment, (-_MARGIN, -_MARGIN), (end, end), frame.shape)
    if bottom <= top or right <= left:
        raise ValueError("the face lies outside the frame")
    part = np.ascontiguousarray(frame[top:bottom, left:right])
    to_part = np.array([[1.0, -left], [1.0, -top]])  # part = scale * frame + shift
    whole = math.floor(1 / alignment.scale + _NEARLY)
    if quick and whole > 1:  # a quarter of the time that averaging over parts of pixels takes
        part, shrunk = _block_means(part, whole)
        to_part = np.stack([shrunk[:, 0], shrunk[:, 0] * to_part[:, 1] + shrunk[:, 1]], 1)
    elif alignment.scale < 1:
        part, shrunk = _scaled(part, alignment.scale, quick)
        to_part = np.stack([shrunk[:, 0], shrunk[:, 0] * to_part[:, 1] + shrunk[:, 1]], 1)
    # canonical -> frame -> part
    inverse = _matrix(1 / alignment.a, -alignment.b / alignment.a)
    matrix = inverse * to_part[:, :1]
    matrix[:, 2] += to_part[:, 1]
    return cv2.warpAffine(
        part,
        matrix,
        (size, size),
        flags=(cv2.INTER_CUBIC if quick else cv2.INTER_LANCZOS4) | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def project(
    crop: np.ndarray, alignment: Alignment, target: Region, *, quick: bool = False
) -> np.ndarray:
    """A canonical view seen from the frame: u8[h, w, 3] for the part of the frame that `target` describes.

    Args:
      crop: u8[size, size, 3] canonical view.
      alignment: of the face.
      target: the part; its `inside` does not matter here.
      quick: resample in a tenth of the time and a little softer, for video.
    """
    height, width = target.inside.shape
    to_crop = np.array([[1.0, 0.0], [1.0, 0.0]])
    if alignment.scale > 1 or quick:  # the face is smaller than its crop
        crop, to_crop = _scaled(crop, min(1 / alignment.scale, _MAX_QUICK), quick)
    origin = complex(target.left, target.top)
    matrix = _matrix(alignment.a, alignment.b + alignment.a * origin) * to_crop[:, :1]
    matrix[:, 2] += to_crop[:, 1]
    return cv2.warpAffine(
        crop,
        matrix,
        (width, height),
        flags=(cv2.INTER_LINEAR if quick else cv2.INTER_LANCZOS4) | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def feather(mask: np.ndarray, width: float) -> np.ndarray:
    """f32[h, w]: 0 outside the mask, rising inside it from its rim to 1 at a depth of `width` px."""
    inside = (np.asarray(mask).reshape(mask.shape[0], mask.shape[1]) > 0.5).astype(np.uint8)
    return _feather(inside.tobytes(), inside.shape, float(width))


@functools.lru_cache(maxsize=16)  # all faces of a run share one mask
def _feather(inside: bytes, shape: tuple[int, int], width: float) -> np.ndarray:
    pixels = np.frombuffer(inside, np.uint8).reshape(shape)
    depth = cv2.distanceTransform(pixels, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    alpha = np.clip(depth / (width + 1.0), 0.0, 1.0)
    alpha = alpha * alpha * (3.0 - 2.0 * alpha)  # smoothstep: no visible kink at either end
    alpha.flags.writeable = False
    return alpha
