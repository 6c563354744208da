"""A frame as a detector of faces of a limited range of sizes is shown it: in sizes, tiles, turned."""

import cv2
import numpy as np

from dp3_jax.vision import geometry

# YuNet finds faces of about 10 to 300 px at the size it is shown, best between 20 and 150.
STEP = 3.0  # between scales
COARSEST = 320  # px, the longer side of the coarsest pass: faces that fill the frame
_UPSCALE_BELOW = 1000  # px: pictures with a shorter longer side are looked at in double size
TILE = 1100  # px, the side of a tile; larger ones do not fit the caches
OVERLAP = 128  # px that tiles share; larger faces are found in the next coarser pass


def tiles(length: int, most: int = TILE) -> list[tuple[int, int]]:
    """Intervals of about `most` px at most that cover 0..length; neighbours share _OVERLAP px."""
    count = max(1, -(-(length - OVERLAP) // (most - OVERLAP)))
    size = -(-(length + (count - 1) * OVERLAP) // count)
    starts = [min(i * (size - OVERLAP), length - size) for i in range(count)]
    return [(start, start + size) for start in starts]


def scales(height: int, width: int) -> list[float]:
    """Factors by which a frame is resized for its passes, finest first."""
    longer = max(height, width)
    factor = 2.0 if longer < _UPSCALE_BELOW else 1.0
    found = [factor]
    while longer * factor > COARSEST * STEP:
        factor /= STEP
        found.append(factor)
    return [*found, min(1.0, COARSEST / longer)]


def turned(image: np.ndarray, degrees: float) -> tuple[np.ndarray, geometry.Alignment]:
    """The image turned by an angle, with black in the corners; and how its pixels moved."""
    a = complex(np.exp(1j * np.radians(degrees)))
    height, width = image.shape[:2]
    corners = np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)])
    moved = geometry.Alignment(a, 0j).apply(corners)
    turn = geometry.Alignment(a, -complex(*moved.min(0)))
    size = np.round(np.ptp(moved, axis=0)).astype(int) + 1
    return cv2.warpAffine(np.asarray(image), turn.matrix, (int(size[0]), int(size[1]))), turn


class Pyramid:
    """A frame in several sizes; small ones are made from a smaller one that is at least twice as large."""

    def __init__(self, frame: np.ndarray, *smaller: np.ndarray):
        """Takes the frame, and it in sizes that are there already."""
        self.frame = frame
        self._shrunk = [frame, *smaller]
        self._made: dict[float, np.ndarray] = {}

    def resized(self, factor: float) -> np.ndarray:
        """The frame resized by `factor`."""
        if factor not in self._made:
            self._made[factor] = self._resized(factor)
        return self._made[factor]

    def _resized(self, factor: float) -> np.ndarray:
        height, width = self.frame.shape[:2]
        size = max(1, round(width * factor)), max(1, round(height * factor))
        if factor == 1:
            return self.frame
        if factor > 1:
            return cv2.resize(np.asarray(self.frame), size, interpolation=cv2.INTER_LINEAR)
        large = [image for image in self._shrunk if image.shape[1] >= 2 * size[0]]
        source = np.asarray(min(large, key=len) if large else self.frame)
        self._shrunk.append(cv2.resize(source, size, interpolation=cv2.INTER_AREA))
        return self._shrunk[-1]

    def scale(self, image: np.ndarray) -> np.ndarray:
        """f64[2]: how many px of `image` a px of the frame is, in x and y."""
        return np.array(image.shape[1::-1]) / np.array(self.frame.shape[1::-1])
