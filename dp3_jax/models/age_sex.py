"""Age and sex of a face, as a recogniser trained on photographs calls them.

Two small networks by Cydral (dlib-models, CC0; assets `age` and `sex`), run by OpenCV: about 3 ms a face
together. They are wrong about single people, ages by ten years and more: good for distributions and
for directions.
"""

import numpy as np

from dp3_jax.common.opencv import Network
from dp3_jax.vision import geometry

# Where the five points lie in dlib's 150 px chip with a padding of .25.
_CHIP_POINTS = np.array(
    [[47.8, 46.5], [100.2, 46.5], [74.0, 76.6], [50.4, 103.0], [97.6, 103.0]], np.float64
)
_CHIP = 150
_MEAN = np.array([122.782, 117.001, 104.298], np.float32)  # of dlib's training images, RGB
_AGE_SIDE, _SEX_SIDE = 64, 32
_AGES = np.append(0.25, np.arange(1, 81))  # years that the classes stand for


class AgeSex:
    """Both networks."""

    def __init__(self):
        """Loads them, fetching them once.

        Raises:
          UserError: they cannot be fetched.
        """
        self._age, self._sex = Network("age"), Network("sex")

    def __call__(self, image: np.ndarray, five: np.ndarray) -> tuple[float, float]:
        """(age in years, probability of being called a woman).

        Args:
          image: u8[h, w, 3] RGB.
          five: f[5, 2] px, as YuNet reports them.

        Raises:
          ValueError: the points coincide.
        """
        (ages,) = self._age(_chip(image, five, _AGE_SIDE))
        ((female, _),) = self._sex(_chip(image, five, _SEX_SIDE))
        return float(ages @ _AGES), float(female)


def _chip(image: np.ndarray, five: np.ndarray, side: int) -> np.ndarray:
    """f32[side, side, 3]: the face where the networks expect it, normalised."""
    alignment = geometry.align_points(five, _CHIP_POINTS * side / _CHIP)
    chip = geometry.extract(image, alignment, side, quick=True)
    return (chip.astype(np.float32) - _MEAN) / 256
