"""Frames as they are stored: components in the levels of the file, with nothing lost that it has.

That is what must survive where a picture is only drawn in, not made: more than 8 bits, curves of HDR,
transparency, colours outside of RGB. A component array is u8 or u16 [h, w, 3], YUV or RGB; a fourth channel
is the opacity. The colour of each 4:2:0 sample is held for all of its pixels, and written back as their mean.
"""

import dataclasses
import functools

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from dp3_jax.media.video.colours import PLANAR, Colours, enlarged, is_yuv, samples, yuv_to_rgb

_DEPTHS = (8, 10, 12, 16)  # bits per component that arrays are made of
_ENDS = {8: "", 10: "10le", 12: "12le", 16: "16le"}


def has_alpha(pixel_format: str) -> bool:
    """Whether FFmpeg's pixel format can hold transparency."""
    return pixel_format.startswith(("yuva", "ya", "rgba", "bgra", "argb", "abgr", "gbrap", "pal8"))


@dataclasses.dataclass(frozen=True)
class Levels:
    """What the numbers of a component array mean.

    Attributes:
      matrix: None where the components are R, G and B.
      range: `colours.FULL` or LIMITED; of RGB FULL.
      depth: bits of each, and of the opacity.
    """

    matrix: Colorspace | None
    range: int
    depth: int

    @classmethod
    def of(cls, colours: Colours, pixel_format: str, width: int, height: int) -> "Levels":
        """Those of a pixel format, with the tags and the size (px) of its stream."""
        bits = max(c.bits for c in av.VideoFormat(pixel_format).components)
        depth = next((d for d in _DEPTHS if d >= bits), _DEPTHS[-1])
        if not is_yuv(pixel_format):
            return cls(None, 2, depth)
        return cls(*colours.resolved(width, height), depth)

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """Of a component array."""
        return np.uint8 if self.depth == 8 else np.uint16

    @property
    def most(self) -> int:
        """The greatest level."""
        return 2**self.depth - 1

    def to_rgb(self, white: float = 1.0) -> np.ndarray:
        """f64[3, 4]: levels to R'G'B' from 0 to `white`."""
        if self.matrix is None:
            return np.hstack([np.eye(3) * (white / self.most), np.zeros((3, 1))])
        return yuv_to_rgb(self.matrix, self.range, self.depth) * (white / 255)

    def from_rgb(self, white: float = 1.0) -> np.ndarray:
        """f64[3, 4]: the inverse of `to_rgb`."""
        return _inverse(self.to_rgb(white))


def _inverse(affine: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(affine[:, :3])
    return np.hstack([linear, -linear @ affine[:, 3:]])


class Unpack:
    """Frames of one stream to component arrays of its `Levels`."""

    def __init__(self, levels: Levels, alpha: bool):
        """`alpha`: with the opacity."""
        self._levels = levels
        self._alpha = alpha
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """[h, w, 3 or 4] in the frame's own size, an array of its own."""
        levels, end = self._levels, _ENDS[self._levels.depth]
        name = frame.format.name
        base = "yuv" + name.removeprefix("yuva") if name.startswith("yuva") else name
        same = PLANAR.get(base) == levels.depth and levels.matrix is not None
        if same and (not self._alpha or base != name):
            planes = [samples(plane, levels.depth) for plane in frame.planes]
            shape = planes[0].shape
            planes = [enlarged(p, shape) if p.shape != shape else p for p in planes]
            return cv2.merge(planes[: 4 if self._alpha else 3])
        if levels.matrix is None:
            frame = self._reformatter.reformat(frame, format="rgba" if not end else "rgba64le")
            components = _interleaved(frame, levels.dtype, 4)
            if end:
                components >>= 16 - levels.depth
            return components if self._alpha else np.ascontiguousarray(components[..., :3])
        kept = {"src_colorspace": levels.matrix, "dst_colorspace": levels.matrix}
        if is_yuv(name):
            kept |= {"src_color_range": levels.range}
        kept |= {"dst_color_range": levels.range}
        wanted = f"yuv{'a' if self._alpha else ''}444p{end}"
        frame = self._reformatter.reformat(frame, format=wanted, threads=1, **kept)
        return cv2.merge([samples(plane, levels.depth).copy() for plane in frame.planes])


def _interleaved(frame: av.VideoFrame, dtype: type, channels: int) -> np.ndarray:
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    pixels = rows[: frame.height].view(dtype)[:, : frame.width * channels]
    return pixels.reshape(frame.height, frame.width, channels).copy()


class Pack:
    """Component arrays to frames in a pixel format."""

    def __init__(self, source: Levels, target: Levels, pixel_format: str):
        """`source`: of the arrays; `target`: of the frames (`Levels.of`)."""
        self._source, self._target, self._format = source, target, pixel_format
        self._alpha = has_alpha(pixel_format)
        self._reformatter = VideoReformatter()

    @functools.cached_property
    def _matrix(self) -> np.ndarray | None:
        """f64[3, 4]: the source's levels to the target's; None where they are the same."""
        if self._source == self._target:
            return None
        back, to = self._target.from_rgb(), self._source.to_rgb()
        return np.hstack([back[:, :3] @ to[:, :3], back[:, :3] @ to[:, 3:] + back[:, 3:]])

    def __call__(self, components: np.ndarray) -> av.VideoFrame:
        """A new frame without a time; an opacity that the format has no room for is left away."""
        colour, opacity = components[..., :3], None
        if self._alpha:
            opacity = self._opacity(components)
        if self._matrix is not None:
            colour = cv2.transform(colour.astype(np.float32), self._matrix)
            colour = np.rint(colour).clip(0, self._target.most).astype(self._target.dtype)
        if self._target.matrix is None:
            return self._rgb(colour, opacity)
        planes = [*cv2.split(np.ascontiguousarray(colour)), *([] if opacity is None else [opacity])]
        return self._yuv(planes)

    def _opacity(self, components: np.ndarray) -> np.ndarray:
        most, dtype = self._target.most, self._target.dtype
        if components.shape[-1] < 4:
            return np.full(components.shape[:2], most, dtype)
        if most == self._source.most:
            return np.ascontiguousarray(components[..., 3])
        scaled = components[..., 3].astype(np.float32) * (most / self._source.most)
        return np.rint(scaled).astype(dtype)

    def _rgb(self, colour: np.ndarray, opacity: np.ndarray | None) -> av.VideoFrame:
        if opacity is None:
            opacity = np.full(colour.shape[:2], self._target.most, colour.dtype)
        pixels = np.dstack([colour, opacity])
        name = "rgba"
        if pixels.dtype == np.uint16:
            depth = self._target.depth
            pixels, name = (pixels << (16 - depth)) | (pixels >> (2 * depth - 16)), "rgba64le"
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format=name)
        return (
            frame
            if name == self._format
            else self._reformatter.reformat(frame, format=self._format)
        )

    def _yuv(self, planes: list[np.ndarray]) -> av.VideoFrame:
        height, width = planes[0].shape
        name = self._format if self._format.startswith("yuv") else "yuv420p"  # of nv12
        frame = av.VideoFrame(width, height, name)
        for plane, full in zip(frame.planes, planes, strict=True):
            levels = _reduced(full, (plane.height, plane.width))
            rows = np.zeros((plane.height, plane.line_size), np.uint8)
            rows.view(levels.dtype)[:, : plane.width] = levels
            plane.update(rows.tobytes())
        return (
            frame
            if name == self._format
            else self._reformatter.reformat(frame, format=self._format)
        )


def _reduced(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The mean of the pixels of each sample; the last one of an odd size has fewer."""
    if plane.shape == shape:
        return plane
    factors = [-(-large // small) for large, small in zip(plane.shape, shape, strict=True)]
    missing = [
        f * small - large for f, small, large in zip(factors, shape, plane.shape, strict=True)
    ]
    if any(missing):
        plane = np.pad(plane, [(0, n) for n in missing], mode="edge")
    return cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_AREA)
