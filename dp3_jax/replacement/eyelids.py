"""Lids that close and irises that move, on a picture of open eyes: the face prior cannot draw closed ones.

Each eye has coordinates of its own: x from its left corner, 0, to its right one, 1, and y down, in widths of
the eye. In them the lids' edges are curves through the mesh's points. To close an eye, the upper lid's edge
with its lashes moves down as it is, over an eyeball that stands still; the skin between it and the brow
stretches; the lower lid rises a little to meet it.
"""

from typing import NamedTuple

import cv2
import numpy as np

_MEET = 0.86  # of the way from the upper lid's edge to the lower one's: where they meet
_LASHES = 0.10  # widths of the eye above the edge that move with it unstretched
# The mesh's edges lie a little inside of the eye; of what is open, so much more is above and below them.
_MORE = 0.02, 0.22
_SKIN = 0.9  # of the way from the edge to the brow that stretches
_BELOW = 0.35  # widths of the eye below the lower lid's edge that stretch
_SOFT = 0.025  # widths of the eye over which one part passes into another
_MIN_SOFT = 0.7  # px, likewise
_ROOM = 0.12  # widths of the eye beside its corners that are worked on
_NEAR_BROW = 0.15  # widths of the eye that a brow is above the lid's edge at least
_MAX_GAZE = 0.10, 0.035  # widths of the eye that an iris is moved across, and up or down
_IRIS = 0.24  # widths of the eye: radius of what moves as a whole
_RIDGE = 1e-5
_EPSILON = np.float32(1e-6)


class Eye(NamedTuple):
    """Numbers of mesh points from the viewer's left to right.

    Attributes:
      corners: left and right.
      upper, lower: of the lids' edges, between the corners.
      brow: of the lower edge of the brow.
    """

    corners: tuple[int, int]
    upper: tuple[int, ...]
    lower: tuple[int, ...]
    brow: tuple[int, ...]


EYES = (
    Eye(
        (33, 133),
        (246, 161, 160, 159, 158, 157, 173),
        (7, 163, 144, 145, 153, 154, 155),
        (46, 53, 52, 65, 55),
    ),
    Eye(
        (362, 263),
        (398, 384, 385, 386, 387, 388, 466),
        (382, 381, 380, 374, 373, 390, 249),
        (285, 295, 282, 283, 276),
    ),
)


class _Frame(NamedTuple):
    """An eye's coordinates: p = origin + width * (x along + y down)."""

    origin: np.ndarray
    along: np.ndarray
    down: np.ndarray
    width: float

    def local(self, points: np.ndarray) -> np.ndarray:
        """f64[..., 2] of f[..., 2] px."""
        offset = (np.asarray(points, np.float64) - self.origin) / self.width
        return np.stack([offset @ self.along, offset @ self.down], -1)


class _Curves(NamedTuple):
    """Polynomials of x: the lids' edges, which are zero at the corners, and the brow's."""

    upper: np.ndarray
    lower: np.ndarray
    brow: np.ndarray


def moved(
    image: np.ndarray,
    mesh: np.ndarray,
    shares: tuple[float, float],
    gaze: tuple[float, float] = (0.0, 0.0),
) -> tuple[np.ndarray, np.ndarray]:
    """A picture with its lids closed and its irises moved by some way, and its mesh.

    Args:
      image: u8[S, S, 3] RGB of open eyes.
      mesh: f32[468, 3] px.
      shares: how far the viewer's left and right eye are open, 0 closed to 1 as in the picture.
      gaze: how far to move the irises to the viewer's right and down, widths of the eye; it is limited.

    Returns:
      A new u8[S, S, 3] and f32[468, 3], unless nothing is to be done.
    """
    limited = [float(np.clip(v, -most, most)) for v, most in zip(gaze, _MAX_GAZE, strict=True)]
    shares = [float(np.clip(share, 0.0, 1.0)) for share in shares]
    if min(shares) == 1 and not any(limited):
        return image, mesh
    image, mesh = image.copy(), mesh.copy()
    for eye, share in zip(EYES, shares, strict=True):
        frame = _frame(eye, mesh)
        if share < 1 or any(limited):
            curves = _curves(eye, mesh, frame)
            _redraw(image, frame, curves, share, limited)
            _move_points(mesh, eye, frame, share)
    return image, mesh


def _frame(eye: Eye, mesh: np.ndarray) -> _Frame:
    left, right = np.asarray(mesh, np.float64)[list(eye.corners), :2]
    across = right - left
    width = max(float(np.hypot(*across)), 1e-3)
    along = across / width
    return _Frame(left, along, np.array([-along[1], along[0]]), width)


def _curves(eye: Eye, mesh: np.ndarray, frame: _Frame) -> _Curves:
    def fitted(numbers: tuple[int, ...], behind) -> np.ndarray:
        """Coefficients of 1, x, x^2 behind a factor of x; a little ridge, for eyes seen from the side."""
        x, y = frame.local(mesh[list(numbers), :2]).T
        basis = np.stack([np.ones_like(x), x, x * x], 1) * behind(x)[:, None]
        return np.linalg.solve(basis.T @ basis + _RIDGE * np.eye(3), basis.T @ y)

    def edge(x: np.ndarray) -> np.ndarray:
        return x * (1 - x)

    return _Curves(fitted(eye.upper, edge), fitted(eye.lower, edge), fitted(eye.brow, np.ones_like))


def _parabola(coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
    a, b, c = (np.float32(v) for v in coefficients)
    return a + x * (b + x * c)


def _lines(curves: _Curves, x: np.ndarray, share: float) -> tuple[np.ndarray, ...]:
    """Edges of the lids as they are and as they become: upper, lower, new upper, new lower."""
    x = np.minimum(np.maximum(x, 0), 1)
    taper = x * (1 - x)
    upper = taper * _parabola(curves.upper, x)
    open_by = np.maximum(taper * _parabola(curves.lower, x) - upper, 0)
    upper, lower = upper - _MORE[0] * open_by, upper + (1 + _MORE[1]) * open_by
    meet = upper + _MEET * (lower - upper)
    return upper, lower, meet + share * (upper - meet), meet + share * (lower - meet)


def _redraw(
    image: np.ndarray, frame: _Frame, curves: _Curves, share: float, gaze: list[float]
) -> None:
    """One eye, in place."""
    part, columns, rows = _around(image, frame, curves)
    if not columns.size:
        return
    along, down = ((v / frame.width).astype(np.float32) for v in (frame.along, frame.down))
    right, below = columns - np.float32(frame.origin[0]), rows - np.float32(frame.origin[1])
    x, y = right * along[0] + below * along[1], right * down[0] + below * down[1]
    upper, lower, new_upper, new_lower = _lines(curves, x, share)
    lifted = new_upper - upper
    brow = _parabola(curves.brow, np.minimum(np.maximum(x, -0.1), 1.1))
    top = upper + _SKIN * (np.minimum(brow, upper - _NEAR_BROW) - upper)

    def seen(down_by: np.ndarray, right_by: np.ndarray | float = 0.0) -> np.ndarray:
        """The picture at places that lie so many widths of the eye below and beside each pixel."""
        a, d = ((v * frame.width).astype(np.float32) for v in (frame.along, frame.down))
        at_x = columns + down_by * d[0] + right_by * a[0]
        at_y = rows + down_by * d[1] + right_by * a[1]
        return cv2.remap(image, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    # The skin above the lashes stretches, the lashes move as they are.
    room = np.maximum(new_upper - _LASHES - top, _EPSILON)
    upper_lid = seen(-lifted * np.minimum(np.maximum((y - top) / room, 0), 1))
    bottom = lower + _BELOW
    room = bottom - new_lower
    lower_lid = seen((lower - new_lower) * np.minimum(np.maximum((bottom - y) / room, 0), 1))
    ball = seen(*_gazed(x, y, upper, lower, gaze)) if any(gaze) else image[part]
    soft = max(_SOFT, _MIN_SOFT / frame.width)
    shown = ball + _rising((y - new_lower) / soft) * (lower_lid.astype(np.float32) - ball)
    shown += _rising((new_upper - y) / soft) * (upper_lid - shown)
    image[part] = cv2.convertScaleAbs(shown)


def _around(
    image: np.ndarray, frame: _Frame, curves: _Curves
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """(slices of an eye's part of a picture, x and y of its pixels, f32[h, w] each)."""
    above = min(float(_parabola(curves.brow, np.float32(0.5))), -0.3) - 0.1
    box = [(x, y) for x in (-_ROOM, 1 + _ROOM) for y in (above, 0.25 + _BELOW)]
    corners = np.array(
        [frame.origin + frame.width * (x * frame.along + y * frame.down) for x, y in box]
    )
    limit = np.array(image.shape[1::-1])
    low = np.floor(corners.min(0)).astype(int).clip(0, limit)
    high = (np.ceil(corners.max(0)).astype(int) + 1).clip(0, limit)
    rows, columns = np.mgrid[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    return (slice(low[1], high[1]), slice(low[0], high[0])), columns, rows


def _rising(t: np.ndarray) -> np.ndarray:
    """f[..., 1]: from 0 below -1/2 to 1 above 1/2."""
    return np.clip(t + 0.5, 0.0, 1.0)[..., None].astype(np.float32)


def _gazed(
    x: np.ndarray, y: np.ndarray, upper: np.ndarray, lower: np.ndarray, gaze: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Where what is seen lies when an iris has moved, (below, beside): it moves as a whole, the white
    stretches."""
    free = np.minimum(np.maximum((0.5 - np.abs(x - 0.5)) / (0.5 - _IRIS), 0), 1)
    half = np.maximum((lower - upper) / 2, 1e-3)
    inner = np.minimum(np.maximum(3 - 2 * np.abs(y - (upper + lower) / 2) / half, 0), 1)
    return -gaze[1] * free * inner, -gaze[0] * free


def _move_points(mesh: np.ndarray, eye: Eye, frame: _Frame, share: float) -> None:
    """The lids' points of a mesh to where its lids are then, in place."""
    upper, lower = list(eye.upper), list(eye.lower)
    meet = mesh[upper, :2] + _MEET * (mesh[lower, :2] - mesh[upper, :2])
    for chosen in (upper, lower):
        down = (mesh[chosen, :2] - meet) @ frame.down  # lids move up and down, not along the eye
        mesh[chosen, :2] -= ((1 - share) * down)[:, None] * frame.down
