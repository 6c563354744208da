"""Pictures that are converted where they are looked at.

Most frames of a clip are looked at in a few places only, and converting all of a frame of 1920x1080 to RGB
takes as long as decoding it. What such a picture shows is to the last bit what `canvas.Canvas` gives.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np

from dp3_jax.vision.geometry import Region

_CHROMA = 2  # px of the picture for each sample of colour, down and along
Planes: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]  # u8: Y, and smaller ones of U and V
Part: TypeAlias = tuple[slice, slice]  # rows and columns of a picture


class LazyPicture:
    """A decoded 4:2:0 frame of 8 bits, seen as u8[h, w, 3] RGB; a part of it is converted when asked for.

    It takes the place of the array where only `shape`, `nbytes` and parts (`picture[rows, columns]`, slices)
    are wanted; `np.asarray` gives the whole.
    """

    ndim, dtype = 3, np.dtype(np.uint8)

    def __init__(self, planes: Planes, to_rgb: np.ndarray):
        """Takes what is stored.

        Args:
          planes: u8[h, w] of Y, and u8[ceil(h / 2), ceil(w / 2)] each of U and V.
          to_rgb: f64[3, 4], as of `colours.yuv_to_rgb`.
        """
        self._planes = planes
        self._to_rgb = to_rgb

    @property
    def shape(self) -> tuple[int, int, int]:
        """As of the array."""
        return (*self._planes[0].shape, 3)

    @property
    def nbytes(self) -> int:
        """As of the array."""
        return 3 * self._planes[0].size

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: Part) -> np.ndarray:
        spans = [one.indices(length) for one, length in zip(part, self.shape[:2], strict=True)]
        y = self._planes[0][part]
        if not y.size:
            return np.zeros((*y.shape, 3), np.uint8)
        shown = self._whole_px if all(step == 1 for *_, step in spans) else self._some_px
        return cv2.transform(cv2.merge([np.ascontiguousarray(y), *shown(spans)]), self._to_rgb)

    def _whole_px(self, spans: Sequence[tuple[int, int, int]]) -> Iterator[np.ndarray]:
        """U and V of each px in a part without gaps: rows and columns as of `slice.indices`."""
        inside = tuple(slice(a // _CHROMA, -(-b // _CHROMA)) for a, b, _ in spans)
        cut = tuple(slice(a % _CHROMA, a % _CHROMA + b - a) for a, b, _ in spans)
        for plane in self._planes[1:]:
            height, width = plane[inside].shape
            size = width * _CHROMA, height * _CHROMA
            yield cv2.resize(plane[inside], size, interpolation=cv2.INTER_NEAREST)[cut]

    def _some_px(self, spans: Sequence[tuple[int, int, int]]) -> Iterator[np.ndarray]:
        """The same with gaps."""
        rows, columns = (np.arange(*one) // _CHROMA for one in spans)
        top, left = rows.min(), columns.min()
        rows, columns = rows - top, columns - left
        inside = np.s_[top : top + rows.max() + 1, left : left + columns.max() + 1]
        for plane in self._planes[1:]:
            # Along first, then down: whole rows are copied faster than single samples.
            yield np.take(np.take(plane[inside], columns, 1), rows, 0)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the pixels are not there yet")
        y, *colours = self._planes
        height, width = y.shape
        size = colours[0].shape[1] * _CHROMA, colours[0].shape[0] * _CHROMA
        shown = (cv2.resize(c, size, interpolation=cv2.INTER_NEAREST) for c in colours)
        merged = cv2.merge([y, *(c[:height, :width] for c in shown)])
        whole = cv2.transform(merged, self._to_rgb)
        return whole if dtype is None else whole.astype(dtype, copy=False)

    @property
    def planes(self) -> Planes:
        """What is stored."""
        return self._planes

    @property
    def to_rgb(self) -> np.ndarray:
        """f64[3, 4], as of `colours.yuv_to_rgb`."""
        return self._to_rgb

    def shown_in(self, parts: Iterable[Part]) -> np.ndarray:
        """u8[h, w, 3]: the picture where it is in one of some parts, and black elsewhere."""
        result = np.zeros(self.shape, np.uint8)
        for part in parts:
            result[part] = self[part]
        return result

    def changed(self, image: np.ndarray, regions: Sequence[Region]) -> "LazyPicture":
        """The picture with other pixels in some regions; all other samples are the same to the last bit.

        A sample of colour is another one if one of its pixels is in a region.

        Args:
          image: u8[h, w, 3] RGB, of which only these regions matter, and the px beside them.
          regions: whole within the picture.
        """
        planes = tuple(plane.copy() for plane in self._planes)
        for region in regions:
            if region.inside.any():
                _put(planes, image, region, _from_rgb(self._to_rgb.tobytes()))
        return LazyPicture(planes, self._to_rgb)

    def grey(self) -> np.ndarray:
        """u8[h, w]: brightness as it is stored, a view."""
        return self._planes[0]

    def shrunk(self, width: int, height: int) -> np.ndarray:
        """u8[height, width, 3]: the picture in another size, hardly different from the whole one resized."""
        planes = (_resized(plane, width, height) for plane in self._planes)
        return cv2.transform(cv2.merge([*planes]), self._to_rgb)


Image: TypeAlias = np.ndarray | LazyPicture  # u8[h, w, 3] RGB


@functools.lru_cache(maxsize=16)
def _from_rgb(to_rgb: bytes) -> np.ndarray:
    """f64[3, 4]: the way back of `colours.yuv_to_rgb`."""
    there = np.frombuffer(to_rgb, np.float64).reshape(3, 4)
    back = np.linalg.inv(there[:, :3])
    return np.hstack([back, -back @ there[:, 3:]])


def _put(planes: Planes, image: np.ndarray, region: Region, from_rgb: np.ndarray) -> None:
    """Changes the samples of a region in place."""
    height, width = image.shape[:2]
    # Whole samples of colour; those at the end of a picture of an odd size have fewer px.
    rows, columns = region.slices
    top, left = rows.start // _CHROMA * _CHROMA, columns.start // _CHROMA * _CHROMA
    bottom, right = (-(-end // _CHROMA) * _CHROMA for end in (rows.stop, columns.stop))
    part = np.s_[top : min(bottom, height), left : min(right, width)]
    beyond = 0, bottom - min(bottom, height), 0, right - min(right, width)
    inside = np.zeros((bottom - top, right - left), np.uint8)
    inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = (
        region.inside
    )
    shown = cv2.transform(np.ascontiguousarray(image[part]), from_rgb)
    shown = cv2.copyMakeBorder(shown, *beyond, cv2.BORDER_REPLICATE)
    y, *colours = cv2.split(shown)
    size = y[: height - top, : width - left].shape
    cv2.copyTo(y[: size[0], : size[1]], inside[: size[0], : size[1]], planes[0][part])
    any_inside = inside[0::2] | inside[1::2]
    any_inside = np.ascontiguousarray(any_inside[:, 0::2] | any_inside[:, 1::2])
    samples = np.s_[top // _CHROMA : bottom // _CHROMA, left // _CHROMA : right // _CHROMA]
    for plane, colour in zip(planes[1:], colours, strict=True):
        mean = cv2.resize(colour, any_inside.shape[1::-1], interpolation=cv2.INTER_AREA)
        cv2.copyTo(mean, any_inside, plane[samples])


def _resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    # Averaging costs three times as much as interpolating, which is as good where little is made smaller.
    shrinks = image.shape[1] > 1.75 * width or image.shape[0] > 1.75 * height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def grey(image: Image) -> np.ndarray:
    """u8[h, w]: how bright a picture is; where it is stored so, in the levels that are stored."""
    return (
        image.grey() if isinstance(image, LazyPicture) else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    )


def resized(image: Image, factor: float) -> np.ndarray:
    """u8[h, w, 3]: a picture in another size."""
    height, width = image.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if isinstance(image, LazyPicture):
        return image.shrunk(*size)
    if size == (width, height):
        return image
    return _resized(image, *size)


class GreyParts:
    """How bright a picture is, as u8[h, w] of which parts are converted when asked for."""

    def __init__(self, image: Image):
        """Takes the picture."""
        self._image = image
        self.shape = image.shape[:2]

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        return cv2.cvtColor(np.ascontiguousarray(self._image[part]), cv2.COLOR_RGB2GRAY)
