"""Made-up live pictures whose faces have a colour that must never be shown, and what looks at them."""

import dataclasses
import time

import cv2
import numpy as np

from dp3_jax.detection.face_detection import Detection
from dp3_jax.media.live.sources import Frame

SIGNAL = (255, 0, 255)  # of the faces
WIDTH, HEIGHT = 240, 160
_INTERPOLATED = 0.85  # of a face's box, by the ellipse that is painted


@dataclasses.dataclass(frozen=True)
class Walk:
    """A face of a scene: in which of its frames, and how it moves; px and frames."""

    first: int
    last: int
    x: float
    y: float
    speed: float
    size: float = 60.0

    def box(self, frame):
        """Its box in a frame of the scene, or None."""
        if not self.first <= frame <= self.last:
            return None
        x = self.x + self.speed * (frame - self.first)
        return (x - self.size / 2, self.y - self.size / 1.6, self.size, self.size * 1.25)


def picture(walks, frame, scene):
    """u8[HEIGHT, WIDTH, 3] of one frame; the background is that of the scene."""
    image = np.full((HEIGHT, WIDTH, 3), 40 + 30 * (scene % 6), np.uint8)
    for box in filter(None, (walk.box(frame) for walk in walks)):
        x, y, w, h = box
        axes = (_INTERPOLATED * w / 2, _INTERPOLATED * h / 2)
        cv2.ellipse(image, ((x + w / 2, y + h / 2), (2 * axes[0], 2 * axes[1]), 0), SIGNAL, -1)
    return image


def shows_a_face(image):
    """Whether any pixel has the colour of a face."""
    return bool((image == SIGNAL).all(-1).any())


class SceneChange:
    """Sees cuts by the background."""

    def __init__(self):
        self._before = None

    def __call__(self, image):
        before, self._before = self._before, int(image[0, 0, 0])
        return before is not None and before != self._before


class Finder:
    """Finds painted faces as `LiveDetector` does: new ones only in passes over the picture.

    Calls whose number is in `fails` raise; in those in `misses` no known face is found; `slow` sleeps.
    """

    def __init__(self, fails=(), misses=(), slow=()):
        self.fails, self.misses, self.slow = set(fails), set(misses), set(slow)
        self.budgets = []

    def __call__(self, image, predicted, budget):
        number = len(self.budgets)
        self.budgets.append(budget)
        if number in self.slow:
            time.sleep(0.01)
        if number in self.fails:
            raise RuntimeError("detector\nlost")
        found = []
        for face in self._all(image):
            known = any(_holds(p.box, face.box) for p in predicted)
            if (known and number not in self.misses) or (not known and budget.side is not None):
                found.append(face)
        return found

    @staticmethod
    def _all(image):
        painted = (image == SIGNAL).all(-1).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(painted)
        for x, y, w, h, _ in stats[1:].astype(float):
            width, height = w / _INTERPOLATED, h / _INTERPOLATED
            box = (x - (width - w) / 2, y - (height - h) / 2, width, height)
            yield Detection(box, None, 0.9)


def _holds(box, other):
    x, y = other[0] + other[2] / 2, other[1] + other[3] / 2
    return box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]


def frames(scenes, gap=0.0):
    """Frames of scenes, each (walks, number of frames), `gap` seconds apart."""
    number = 0
    for scene, (walks, count) in enumerate(scenes):
        for frame in range(count):
            yield Frame(number, number / 30, picture(walks, frame, scene))
            number += 1
            if gap:
                time.sleep(gap)


class Collector:
    """A sink that keeps what it is given; `slow` is the number of seconds that it takes."""

    name = "collector"

    def __init__(self, slow=0.0):
        self.images, self.times, self.slow = [], [], slow

    def write(self, image, seconds):
        time.sleep(self.slow)
        self.images.append(image)
        self.times.append(seconds)
