"""Where a face will be in a frame in which it is not seen: the one model of how faces move.

A face goes on at its speed and, the longer nobody sees it, the more it comes to rest. How fast it is says a
Kalman filter over the places where it was seen (constant velocity, with white noise in the acceleration),
in files for either direction of time. What is known of a face's size serves as the unit of all uncertainty.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dp3_jax.detection.detections import Detection

# Standard deviations, in sizes of the face.
NOISE = 0.05  # of a detected box
_FIRST_SPEED = 0.3  # of the speed of a new face, sizes a frame
_ACCELERATION = 0.05  # of the change of speed in a frame

SIZE_RATIO = 2.0  # at most, between a face's box as it was seen and as it is expected
CALM = 12.0  # frames in which a face that is lost comes to rest


def coasting(steps: np.ndarray | float) -> np.ndarray:
    """How many frames' way a face goes in a number of frames after it was lost, while it comes to rest."""
    return CALM * np.tanh(np.asarray(steps, np.float64) / CALM)


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
    """How a face moves, as far as is known after one of the frames in which it was seen.

    Box centre, width and height have the same noise in sizes of the face, so one covariance serves all four.

    Attributes:
      frame: number of that frame.
      value: f64[4] px: centre x and y, width, height.
      change: f64[4] px a frame.
      covariance: f64[2, 2], of value and change, in sizes.
    """

    frame: int
    value: np.ndarray
    change: np.ndarray
    covariance: np.ndarray

    @classmethod
    def begun(cls, frame: int, box: Sequence[float]) -> "Motion":
        """Of a face that was seen once, in an (x, y, width, height) box."""
        return cls(frame, measured(box), np.zeros(4), np.diag([NOISE**2, _FIRST_SPEED**2]))

    @classmethod
    def through(cls, seen: Sequence[tuple[int, Sequence[float]]]) -> "Motion":
        """Of a face that was seen in boxes, (frame, box) each, in the order of their frames."""
        motion = cls.begun(*seen[0])
        for frame, box in seen[1:]:
            motion = motion.seen(frame, box)
        return motion

    @property
    def speed(self) -> np.ndarray:
        """f64[2] px a frame, of the box's centre."""
        return self.change[:2]

    def expect(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """As `value` and `covariance`, in a later frame."""
        steps = frame - self.frame
        value = self.value + self.change * coasting(steps)
        size = self.value[2:]
        value[2:] = np.clip(value[2:], size / SIZE_RATIO, size * SIZE_RATIO)
        forward = np.array([[1.0, steps], [0.0, 1.0]])
        shaken = np.array([[steps**3 / 3, steps**2 / 2], [steps**2 / 2, steps]])
        return value, forward @ self.covariance @ forward.T + _ACCELERATION**2 * shaken

    def seen(self, frame: int, box: Sequence[float]) -> "Motion":
        """What is known once it has been seen in a later frame."""
        expected, covariance = self.expect(frame)
        gain = covariance[:, 0] / (covariance[0, 0] + NOISE**2)
        error = measured(box) - expected
        return Motion(
            frame,
            expected + gain[0] * error,
            self.change + gain[1] * error,
            covariance - np.outer(gain, covariance[0]),
        )

    def way(self, frame: int) -> np.ndarray:
        """f64[2] px that the face is expected to go from where it was seen last up to a later frame."""
        return self.speed * coasting(frame - self.frame)


def measured(box: Sequence[float]) -> np.ndarray:
    """f64[4]: centre x and y, width and height of (x, y, width, height)."""
    x, y, width, height = box
    return np.array([x + width / 2, y + height / 2, width, height], np.float64)


def moved(face: Detection, way: np.ndarray) -> Detection:
    """The face f64[2] px further on."""
    x, y, width, height = face.box
    points = None if face.keypoints is None else (face.keypoints + way).astype(np.float32)
    box = (x + float(way[0]), y + float(way[1]), width, height)
    return dataclasses.replace(face, box=box, keypoints=points)
