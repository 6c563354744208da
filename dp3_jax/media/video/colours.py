"""RGB to and from the YUV of video files: which matrix, which range, and the conversion itself (libswscale).

Tags are the numbers of ITU-T H.273, as files and PyAV hold them; 2 is "unspecified" (0 for the range).
"""

import dataclasses
import functools

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from dp3_jax.common.errors import UserError

FULL, LIMITED = 2, 1  # of `Colours.range`
UNSPECIFIED = 2
_BT709, _BT601, _RGB = 1, 6, 0  # of `Colours.matrix`
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}

_WEIGHTS = {  # of red and blue in the luminance
    Colorspace.ITU709: (0.2126, 0.0722),
    Colorspace.FCC: (0.30, 0.11),
    Colorspace.ITU601: (0.299, 0.114),
    Colorspace.SMPTE240M: (0.212, 0.087),
    Colorspace.BT2020: (0.2627, 0.0593),
}
_ENDINGS = (("", "", 8), ("j", "", 8), ("", "10le", 10), ("", "12le", 12), ("", "16le", 16))
PLANAR = {  # pixel formats and their bits per component
    f"yuv{full}{sampling}p{end}": depth
    for sampling in (420, 422, 444)
    for full, end, depth in _ENDINGS
}


@dataclasses.dataclass(frozen=True)
class Colours:
    """The colour tags of a stream.

    Attributes:
      matrix: RGB to YUV (H.273 MatrixCoefficients); 0 is RGB itself.
      primaries: H.273 ColourPrimaries.
      transfer: H.273 TransferCharacteristics.
      range: 0 unspecified, 1 limited (16 to 235), 2 full (0 to 255).
    """

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    range: int = 0

    def check(self, name: str) -> None:
        """Raises UserError if libswscale cannot convert this matrix; `name` is of the file."""
        if self.matrix not in (*_MATRICES, _RGB, UNSPECIFIED, 10):
            raise UserError(
                f"{name} stores its colours in an unusual way (matrix {self.matrix} of H.273);"
                " convert it to BT.709 first"
            )

    def resolved(self, width: int, height: int) -> tuple[Colorspace, int]:
        """The matrix and range (LIMITED or FULL) that hold, guessed as players do where unspecified."""
        large = width >= 1280 or height > 576
        guess = Colorspace.ITU709 if large else Colorspace.ITU601
        if self.matrix == 10:  # BT.2020 constant luminance: treated as the usual one
            return Colorspace.BT2020, self.range or LIMITED
        return _MATRICES.get(self.matrix, guess), self.range or LIMITED

    def for_yuv(self, width: int, height: int) -> "Colours":
        """The tags to write when RGB pixels, which have no matrix, become YUV."""
        if self.matrix not in (_RGB, UNSPECIFIED):
            return self
        matrix = self.matrix
        if matrix == _RGB:
            large = width >= 1280 or height > 576
            matrix = _BT709 if large else _BT601
        return dataclasses.replace(self, matrix=matrix)


class ToRgb:
    """Frames of one stream to u8[h, w, 3]; about 1 ms per frame of 1280x720 from 8-bit 4:2:0.

    Planar YUV is converted here, rounded to the nearest level and with the colour of each 4:2:0 sample for
    all of its pixels, which `FromRgb` undoes: libswscale's fast way is 1 or 2 levels too dark on average.
    """

    def __init__(self, colours: Colours, width: int, height: int):
        """Takes the tags and the size of the output in px (frames of other sizes are resized)."""
        self._size = width, height
        self._matrix, self._range = colours.resolved(width, height)
        self._reformatter = VideoReformatter()

    @property
    def matrix(self) -> np.ndarray:
        """f64[3, 4]: levels of Y, U and V of 8 bits to those of R, G and B."""
        return yuv_to_rgb(self._matrix, self._range, 8)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame as RGB, an array of its own."""
        depth = PLANAR.get(frame.format.name)
        if depth and (frame.width, frame.height) == self._size:
            y, u, v = (samples(plane, depth) for plane in frame.planes)
            if u.shape != y.shape:
                u, v = (enlarged(plane, y.shape) for plane in (u, v))
            to_rgb = yuv_to_rgb(self._matrix, self._range, depth)
            rgb = cv2.transform(cv2.merge([y, u, v]), to_rgb)
            return rgb if depth == 8 else np.minimum(rgb, 255).astype(np.uint8)
        rgb = self._reformatter.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format="rgb24",
            src_colorspace=self._matrix,
            src_color_range=self._range if is_yuv(frame.format.name) else 0,
            threads=1,
        )
        return rgb.to_ndarray()


def samples(plane: av.video.plane.VideoPlane, depth: int) -> np.ndarray:
    """The levels of a plane of 8 or, in 16, of more bits: a view."""
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    rows = rows if depth == 8 else rows.view("<u2")
    return rows[: plane.height, : plane.width]


def enlarged(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Each sample repeated once down (4:2:0) and along; cut to an odd size."""
    rows = 2 if plane.shape[0] < shape[0] else 1
    size = plane.shape[1] * 2, plane.shape[0] * rows
    return cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST)[: shape[0], : shape[1]]


@functools.lru_cache(maxsize=16)
def yuv_to_rgb(matrix: Colorspace, value_range: int, depth: int) -> np.ndarray:
    """f64[3, 4]: levels of Y, U and V to the 255 levels of R, G and B (ITU-T H.273, section 8.3)."""
    red, blue = _WEIGHTS[matrix]
    green = 1 - red - blue
    to_rgb = np.array(
        [
            [1, 0, 2 - 2 * red],
            [1, -blue * (2 - 2 * blue) / green, -red * (2 - 2 * red) / green],
            [1, 2 - 2 * blue, 0],
        ]
    )
    step = 2 ** (depth - 8)
    if value_range == FULL:
        zero, span = np.array([0, 128, 128]) * step, np.full(3, 2**depth - 1)
    else:
        zero, span = np.array([16, 128, 128]) * step, np.array([219, 224, 224]) * step
    to_rgb = to_rgb * (255 / span)
    return np.hstack([to_rgb, (-to_rgb @ zero)[:, None]])


class FromRgb:
    """u8[h, w, 3] to frames in a YUV format; about 2.3 ms per frame of 1280x720 to 4:2:0."""

    def __init__(self, colours: Colours, width: int, height: int, pixel_format: str):
        """Takes the tags, the size in px, and the format of the frames to make."""
        self._matrix, self._range = colours.resolved(width, height)
        self._format = pixel_format
        self._reformatter = VideoReformatter()

    def __call__(self, image: np.ndarray) -> av.VideoFrame:
        """The image as a new frame without a time."""
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="rgb24")
        if self._format == "rgb24":
            return frame
        return self._reformatter.reformat(
            frame,
            format=self._format,
            src_color_range=FULL,
            dst_colorspace=self._matrix,
            dst_color_range=self._range,
            threads=1,
        )


def is_yuv(pixel_format: str) -> bool:
    """Whether FFmpeg's pixel format is one of YUV: what has a matrix and a range."""
    return pixel_format.startswith(("yuv", "nv", "uyvy", "yvyu", "p0", "p2", "p4", "y2", "xv"))
