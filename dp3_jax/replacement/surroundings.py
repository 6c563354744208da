"""What a new face must share with its surroundings: sharpness, and the colours of a grey or sepia photo.

Everything here looks at background-filled frames, so at no pixel of a face that was there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

_SAMPLED = 160  # px, the longer side at which a photo's tones are looked at
_COLOURS = 32  # px, the same for its colours: the noise of cameras and codecs is averaged away
# Levels from one curve of colours, of all but the last percent: of 400 photos from CelebA the one in sepia
# has 7; so have frames of brown hair before a beige wall, whose faces must not turn sepia.
_MAX_DEVIATION = 3.0  # of a grey photo
_MAX_TONED_DEVIATION = 6.5  # of one whose curve is on average further than _TONED from grey
_MAX_TONED_IN_CLIPS = 4.0  # of a frame: in a clip of such a woman frames have 5.3 to 9.8
_TONED = 10.0  # levels
_TELLING = 40.0  # levels of luma that are seen, or else it may be a bare wall that has a colour
_HYSTERESIS = 1.5  # times as far until a clip that was grey no longer is
_ALL_BUT = 99
_BIN = 16  # levels of luma that share a colour
_MIN_IN_BIN = 3  # px

# A photo whose tones, without the outermost percent, span less than a limit is dark or hazy; the network,
# which has seen ordinary portraits, gets it stretched, and what it says is shrunk again. One in which
# something is black is seldom dark as a whole: a flash lights the face, which is masked. Of 40 held-out
# photos of CelebA with a range of 65 to 150 round the face, faces that were shrunk came out 13 levels of L
# too dark, and 2 too dark as they were; the few below 100 are taken for dark rooms. Where nothing is black
# there is haze, and stretching brings faces nearer.
_TONES = 1, 99
# Levels that photos usually span, where the darkest places are black, and where they are grey: with 200 for
# both, faces in a photo at .35 of its light were 24% too light.
_USUAL_RANGES = 235.0, 200.0
_MAX_SCALE = 3.0  # a lit face before a wall and clothes that are black came out 25% too dark with 4
_MIN_RANGES = 100.0, 150.0  # where the darkest places are black, and where they are grey
_GREY = 36.0, 80.0  # levels
_SOFTLY = 15.0  # levels of range below the limit until a photo is stretched wholly
_BLACK = 16.0  # levels, the most that the darkest places have afterwards

_REBLUR = 1.0  # px, standard deviation of the blur that edges are compared under
_EDGES = 97.0  # percentile of the gradient from which on a pixel lies on an edge
_MIN_GRADIENT = 6.0  # levels for each px
_MIN_EDGES = 40  # px on edges, to say anything
_SHARP_SHARE = 25  # percentile over the edges: what is out of focus behind a person does not count
_MAX_SIGMA = 8.0  # px
_CLEARLY = 1.15  # times as blurred as the new face: less is not seen


def colour_curve(
    background_fill: np.ndarray, *, was_toned: bool = False, in_clip: bool = False
) -> np.ndarray | None:
    """The colours of a photo that has one for each brightness, grey or toned; None for others.

    Args:
      background_fill: u8[h, w, 3] RGB.
      was_toned: whether the frame before had one; it is then not given up for a little noise.
      in_clip: of many frames one that is taken for toned by mistake is enough to be seen.

    Returns:
      u8[256, 3], the colour of each luma.
    """
    step = max(1, max(background_fill.shape[:2]) // (4 * _SAMPLED))
    background_fill = np.ascontiguousarray(background_fill[::step, ::step])
    factor = min(1.0, _COLOURS / max(background_fill.shape[:2]))
    size = tuple(max(1, round(n * factor)) for n in background_fill.shape[1::-1])
    pixels = cv2.resize(background_fill, size, interpolation=cv2.INTER_AREA).reshape(-1, 3)
    luma = _luma(pixels[None])[0]
    chroma = pixels.astype(np.float64) - luma[:, None]
    bins = (luma / _BIN).astype(int)
    counts = np.bincount(bins, minlength=256 // _BIN)
    known = np.flatnonzero(counts >= _MIN_IN_BIN)
    if not len(known):
        return None
    sums = np.stack([np.bincount(bins, c, minlength=256 // _BIN) for c in chroma.T], 1)
    middles = _BIN * (known + 0.5) - 0.5
    means = sums[known] / counts[known, None]

    def curve(levels: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(levels, middles, channel) for channel in means.T], 1)

    toned = np.abs(curve(luma)).max(1).mean() > _TONED
    if toned and np.subtract(*np.percentile(luma, (95, 5))) < _TELLING:
        return None
    most_toned = _MAX_TONED_IN_CLIPS if in_clip else _MAX_TONED_DEVIATION
    limit = most_toned if toned else _MAX_DEVIATION
    limit *= _HYSTERESIS if was_toned else 1
    if np.percentile(np.abs(chroma - curve(luma)).max(1), _ALL_BUT) > limit:
        return None
    levels = np.arange(256.0)
    return np.rint(levels[:, None] + curve(levels)).clip(0, 255).astype(np.uint8)


def _luma(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)


def coloured(image: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """u8[h, w, 3] with its brightness alone, in the colours of `colour_curve`."""
    luma = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return cv2.LUT(cv2.merge([luma] * 3), curve[None])


class Exposure(NamedTuple):
    """How a photo that is dark or hazy comes from one with the usual tones: x / scale + shift.

    The same for all channels: a blue wall or a red cap is no tint, and a face must not take its colour.

    Attributes:
      scale: above 1 for a photo that is dark or hazy.
      shift: levels.
    """

    scale: float
    shift: float

    @property
    def is_usual(self) -> bool:
        """Whether the photo is as it should be."""
        return self.scale == 1

    def normalised(self, image: np.ndarray) -> np.ndarray:
        """u8[h, w, 3] with the usual tones."""
        levels = (image.astype(np.float32) - np.float32(self.shift)) * np.float32(self.scale)
        return np.rint(levels).clip(0, 255).astype(np.uint8)

    def restored(self, image: np.ndarray) -> np.ndarray:
        """u8[h, w, 3] of a normalised picture, with the photo's tones."""
        levels = image.astype(np.float32) / np.float32(self.scale) + np.float32(self.shift)
        return np.rint(levels).clip(0, 255).astype(np.uint8)


def exposure(background_fill: np.ndarray) -> Exposure:
    """What is unusual in a photo's tones, by how far its darkest and lightest places lie apart.

    Args:
      background_fill: u8[h, w, 3] RGB.
    """
    step = max(1, max(background_fill.shape[:2]) // (4 * _SAMPLED))
    few = np.ascontiguousarray(background_fill[::step, ::step])
    low, high = level_percentiles(cv2.cvtColor(few, cv2.COLOR_RGB2GRAY), _TONES)
    lack = np.interp(low, _GREY, _MIN_RANGES) - (high - low)
    if lack <= 0:
        return Exposure(1.0, 0.0)
    usual = float(np.interp(low, _GREY, _USUAL_RANGES))
    scale = min(usual / max(float(high - low), 1.0), _MAX_SCALE)
    scale = 1 + (scale - 1) * min(float(lack) / _SOFTLY, 1.0)
    return Exposure(scale, float(low) - min(float(low), _BLACK) / scale)


def level_percentiles(levels: np.ndarray, shares: Sequence[float]) -> list[float]:
    """As `np.percentile` of u8, by counting: for a part of a frame that takes 10 ms less."""
    below = np.cumsum(cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel().astype(np.int64))
    found = []
    for share in shares:
        place = share / 100 * (levels.size - 1)
        first = int(place)
        near = np.searchsorted(below, (first, min(first + 1, levels.size - 1)), side="right")
        found.append(float(near[0] + (place - first) * (near[1] - near[0])))
    return found


def edge_blur(luma: np.ndarray, where: np.ndarray) -> float | None:
    """Standard deviation in px of the blur of the sharper edges; None where there are too few.

    A step blurred by s has 1/s of its gradient; blurred once more by r, sqrt(1 + r^2/s^2) times less
    (Zhuo and Sim, 2011).

    Args:
      luma: f32[h, w].
      where: bool[h, w], what of it counts.
    """
    first = _gradient(luma)
    inside = first[where]
    if inside.size < _MIN_EDGES:
        return None
    limit = max(float(np.percentile(inside, _EDGES)), _MIN_GRADIENT)
    edges = where & (first >= limit)
    if np.count_nonzero(edges) < _MIN_EDGES:
        return None
    second = _gradient(cv2.GaussianBlur(luma, (0, 0), _REBLUR))
    ratio = np.maximum(first[edges] / np.maximum(second[edges], 1e-3), 1.0 + 1e-3)
    sigma = _REBLUR / np.sqrt(ratio**2 - 1.0)
    return float(min(np.percentile(sigma, _SHARP_SHARE), _MAX_SIGMA))


def _gradient(luma: np.ndarray) -> np.ndarray:
    across = cv2.Sobel(luma, cv2.CV_32F, 1, 0, scale=1 / 8)
    return cv2.magnitude(across, cv2.Sobel(luma, cv2.CV_32F, 0, 1, scale=1 / 8))


def missing_blur(wanted: float | None, there: float | None) -> float:
    """Standard deviation of the blur that takes one sharpness to the other; 0 where none is needed."""
    if wanted is None or there is None or wanted < _CLEARLY * there:
        return 0.0
    return float(np.sqrt(wanted**2 - there**2))
