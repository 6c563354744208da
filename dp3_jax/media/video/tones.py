"""HDR as it is looked at and drawn in: the curves of HLG and PQ, to and from ordinary (sRGB) levels.

Light is counted in shares of white as SDR has it: 203 cd/m2 of PQ, 75% of HLG's signal (ITU-R BT.2408-7,
section 3). HLG is converted by the light of the scene, without the display's gamma, so that a picture that
was made from an SDR one comes back as it was. What is brighter than white, for which SDR has no room, is
compressed into the uppermost levels; a face is rarely there, and the way back knows how.
"""

import functools

import cv2
import numpy as np

PQ, HLG = 16, 18  # transfer characteristics, ITU-T H.273

_PQ_WHITE = 203 / 10_000  # of PQ's greatest light
_HLG_WHITE = 0.265  # what HLG's signal of 75% stands for
# SMPTE ST 2084, and ITU-R BT.2100-2, table 5.
_M1, _M2, _C1, _C2, _C3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073

_KNEE = 0.8  # of white: from here on light is compressed, so that it never reaches 1
_MAX_LIGHT = 64.0  # times white; more is as bright

# Linear RGB of these primaries (H.273) to BT.709's; rows sum to 1.
_TO_709 = {
    9: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    12: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}

_STEPS = 65536  # of the signal from 0 to _MAX_SIGNAL, and of the square root of light, in tables
_HAS_WIDE_TABLES = int(cv2.__version__.split(".")[0]) >= 5
_MAX_SIGNAL = 1.1  # cameras use what lies above HLG's 100%


def is_hdr(transfer: int) -> bool:
    """Whether the transfer characteristics are PQ's or HLG's."""
    return transfer in (PQ, HLG)


def light_of(signal: np.ndarray, transfer: int) -> np.ndarray:
    """Light in shares of white, f64, for a signal of 0 to 1."""
    signal = np.maximum(np.asarray(signal, np.float64), 0)
    if transfer == PQ:
        root = np.minimum(signal, 1) ** (1 / _M2)
        light = (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
        return light / _PQ_WHITE
    light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12)
    return light / _HLG_WHITE


def signal_of(light: np.ndarray, transfer: int) -> np.ndarray:
    """The inverse of `light_of`."""
    light = np.maximum(np.asarray(light, np.float64), 0)
    if transfer == PQ:
        root = np.minimum(light * _PQ_WHITE, 1) ** _M1
        return ((_C1 + _C2 * root) / (1 + _C3 * root)) ** _M2
    light = light * _HLG_WHITE
    upper = _A * np.log(np.maximum(12 * light - _B, 1e-9)) + _C
    return np.where(light <= 1 / 12, np.sqrt(3 * light), upper)


def _shown(light: np.ndarray) -> np.ndarray:
    """Shares of white to sRGB's 0 to 1."""
    over = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
    light = np.where(light <= _KNEE, light, _KNEE + (1 - _KNEE) * over / (1 + over))
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _unshown(levels: np.ndarray) -> np.ndarray:
    """The inverse of `_shown`, at most _MAX_LIGHT."""
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    over = np.clip((light - _KNEE) / (1 - _KNEE), 0, 1 - 1e-6)
    bright = _KNEE + (1 - _KNEE) * over / (1 - over)
    return np.minimum(np.where(light <= _KNEE, light, bright), _MAX_LIGHT)


class Tones:
    """The tone mapping of one clip."""

    def __init__(self, transfer: int, primaries: int):
        """Takes the clip's tags (H.273); unknown primaries are taken for BT.2020's."""
        self._transfer = transfer
        to_709 = np.eye(3) if primaries == 1 else np.array(_TO_709.get(primaries, _TO_709[9]))
        self._to_709 = to_709 / to_709.sum(1, keepdims=True)
        self._from_709 = np.linalg.inv(self._to_709)

    @property
    def scale(self) -> float:
        """Levels of `shown`'s input for a signal of 1."""
        return (_STEPS - 1) / _MAX_SIGNAL

    @functools.cached_property
    def _light(self) -> np.ndarray:
        steps = np.arange(_STEPS) / self.scale
        return light_of(steps, self._transfer).astype(np.float32)

    def shown(self, signal: np.ndarray) -> np.ndarray:
        """u16[h, w, 3] R'G'B' in steps of 1/`scale` to u8[h, w, 3], sRGB; about 0.1 s for 1920x1080."""
        light = cv2.transform(_looked_up(signal, self._light), self._to_709.astype(np.float32))
        roots = cv2.sqrt(cv2.max(light, 0.0))
        roots = cv2.multiply(roots, (_STEPS - 1) / np.sqrt(_MAX_LIGHT), dtype=cv2.CV_16U)
        return _looked_up(roots, _levels())

    def signal(self, shown: np.ndarray) -> np.ndarray:
        """u8[n, 3] to f64[n, 3]: R'G'B', 1 being the greatest signal of the standard."""
        light = _unshown(np.arange(256) / 255)[shown]
        return signal_of(light @ self._from_709.T, self._transfer)


@functools.cache
def _levels() -> np.ndarray:
    """u8[_STEPS]: the level of each square root of light."""
    light = (np.arange(_STEPS) / (_STEPS - 1)) ** 2 * _MAX_LIGHT
    return np.rint(255 * _shown(light)).astype(np.uint8)


def _looked_up(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`table[values]`; OpenCV before 5 has no tables of 16 bits."""
    return cv2.LUT(values, table) if _HAS_WIDE_TABLES else table[values]
