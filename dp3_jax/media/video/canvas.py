"""The picture in which faces are found and drawn, where it is not the stored one.

Detectors and networks know ordinary pictures: 8 bits of sRGB, square pixels, opaque. So a stored picture of
another kind is shown to them as a player shows it: stretched to square pixels, HDR tone-mapped, transparency
laid over grey, where both light and dark show. Of what they give back only the pixels that have changed are
mapped into the stored picture, whose others stay what they are to the last bit.
"""

import functools

import av
import cv2
import numpy as np

from dp3_jax.media import alpha
from dp3_jax.media.video.colours import PLANAR, ToRgb, samples
from dp3_jax.media.video.lazy_pictures import Image, LazyPicture
from dp3_jax.media.video.levels import Levels, Unpack
from dp3_jax.media.video.probing import VideoInfo
from dp3_jax.media.video.tones import Tones, is_hdr

_TURNS = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}
_BACKGROUND = 128  # level of the grey that transparent pictures are looked at over


def upright(image: np.ndarray, rotation: int, mirrored: bool) -> np.ndarray:
    """The picture as shown (see `VideoInfo`), contiguous."""
    if mirrored:
        image = cv2.flip(image, 1)
    return cv2.rotate(image, _TURNS[rotation]) if rotation else image


class Canvas:
    """What is looked at and drawn in, for the frames of one clip."""

    def __init__(self, info: VideoInfo, keep: bool = False):
        """Takes what is known of the clip; `keep`: give the stored pictures too, which `merged` needs."""
        self._info = info
        self._coded = info.coded_width, info.coded_height
        self._squeezed = info.canvas_size != (info.width, info.height) and not info.squared
        self._hdr = is_hdr(info.colours.transfer)
        self._shows_alpha = info.has_alpha and not info.flattened
        self._keep = keep
        ordinary = info.canvas_size == (info.width, info.height) and not self._hdr
        self._plain = ordinary and not (keep or info.has_alpha)
        self._levels = Levels.of(info.colours, info.pixel_format, *self._coded)
        self._unpack = Unpack(self._levels, info.has_alpha)
        self._tones = Tones(info.colours.transfer, info.colours.primaries) if self._hdr else None

    @property
    def levels(self) -> Levels:
        """Of the stored pictures."""
        return self._levels

    @functools.cached_property
    def _to_rgb(self) -> ToRgb:
        return ToRgb(self._info.colours, *self._coded)

    def __call__(self, frame: av.VideoFrame) -> tuple[np.ndarray, np.ndarray | None]:
        """A decoded frame, upright.

        A frame that has not the size of the clip's first one is scaled down or up into that, with black bars.

        Returns:
          u8[h, w, 3], the canvas, of `info.canvas_size`; and, if kept, the components of the stored picture
          (see `levels`), [height, width, 3 or 4].
        """
        info = self._info
        is_usual = (frame.width, frame.height) == self._coded
        if self._plain:
            to_rgb = self._to_rgb if is_usual else ToRgb(info.colours, frame.width, frame.height)
            image = to_rgb(frame)
            image = image if is_usual else _with_bars(image, self._coded, np.zeros(3))
            return upright(image, info.rotation, info.mirrored), None
        stored = self._unpack(frame)
        if not is_usual:
            stored = _with_bars(stored, self._coded, self._black(stored.shape[-1]))
        stored = upright(stored, info.rotation, info.mirrored)
        if info.squared and stored.shape[1::-1] != info.canvas_size:
            stored = cv2.resize(stored, info.canvas_size, interpolation=cv2.INTER_LINEAR)
        if info.has_alpha:
            stored = self._cleared(stored) if self._shows_alpha else self._flat(stored)
        return self._shown(stored), stored if self._keep else None

    def lazily(self, frame: av.VideoFrame) -> Image:
        """The canvas of a decoded frame, converted where it is looked at if it can be."""
        info, name = self._info, frame.format.name
        ordinary = "420" in name and PLANAR.get(name) == 8
        whole = (frame.width, frame.height) == self._coded
        even = not (frame.width % 2 or frame.height % 2)
        turned = info.rotation or info.mirrored
        if not (self._plain and ordinary and whole and (even or not turned)):
            return self(frame)[0]
        # Copies: many decoded frames that are kept for a while leave memory in pieces.
        planes = (upright(samples(p, 8).copy(), info.rotation, info.mirrored) for p in frame.planes)
        return LazyPicture(tuple(planes), self._to_rgb.matrix)

    def _black(self, channels: int) -> np.ndarray:
        black = np.full(channels, float(self._levels.most))
        black[:3] = self._levels.from_rgb()[:, 3]
        return np.rint(black)

    def _cleared(self, stored: np.ndarray) -> np.ndarray:
        """With nothing under what is wholly transparent: nobody has seen what is there."""
        stored[stored[..., 3] == 0] = [*self._black(3), 0]
        return stored

    def _flat(self, stored: np.ndarray) -> np.ndarray:
        """Laid over black."""
        black = self._black(3)
        share = stored[..., 3:].astype(np.float32) / self._levels.most
        colour = stored[..., :3] * share + (1 - share) * black.astype(np.float32)
        return np.rint(colour).astype(stored.dtype)

    def _shown(self, stored: np.ndarray) -> np.ndarray:
        colour = np.ascontiguousarray(stored[..., :3])
        if self._tones is not None:
            to_signal = self._levels.to_rgb(self._tones.scale)
            image = self._tones.shown(cv2.transform(colour.astype(np.uint16), to_signal))
        else:
            image = cv2.transform(colour, self._levels.to_rgb(255))
            image = image if image.dtype == np.uint8 else np.minimum(image, 255).astype(np.uint8)
        if self._shows_alpha:
            share = stored[..., 3:].astype(np.float32) / self._levels.most
            image = np.rint(image * share + (1 - share) * _BACKGROUND).astype(np.uint8)
        if self._squeezed:
            image = cv2.resize(image, self._info.canvas_size, interpolation=cv2.INTER_LINEAR)
        return image

    def merged(self, stored: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The stored picture with what was drawn.

        Args:
          stored: as given with the canvas.
          before, after: u8[h, w, 3], the canvas as it was given, and with what was drawn.

        Returns:
          Like `stored`, which is not changed; itself where nothing was drawn.
        """
        if after is before:
            return stored
        changed = cv2.absdiff(before, after).any(-1)
        if self._squeezed:
            size = stored.shape[1::-1]
            share = cv2.resize(changed.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            changed = share > 0
            after = cv2.resize(after, size, interpolation=cv2.INTER_AREA)
        pixels, result = after[changed], stored.copy()
        if self._shows_alpha:
            result[..., 3] = self._opacity(stored[..., 3], changed)
            pixels = _uncovered(pixels, result[changed][:, 3:] / self._levels.most)
        signal = pixels / 255 if self._tones is None else self._tones.signal(pixels)
        matrix = self._levels.from_rgb()
        levels = np.rint(signal @ matrix[:, :3].T + matrix[:, 3]).clip(0, self._levels.most)
        result[changed, :3] = levels
        return result

    def _opacity(self, opacity: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """The opacity [h, w] where a picture was changed: as before, unless a face could lie in it alone."""
        of_255 = np.rint(opacity * (255 / self._levels.most)).astype(np.uint8)
        mask = np.repeat(changed[..., None].astype(np.uint8), 3, -1)
        _, new = alpha.changed(mask, of_255, np.zeros_like(mask), mask)
        scaled = np.rint(new * (self._levels.most / 255)).astype(opacity.dtype)
        return np.where(new == of_255, opacity, scaled)


def _uncovered(pixels: np.ndarray, share: np.ndarray) -> np.ndarray:
    """u8[n, 3]: the colours that, laid over the background with f[n, 1] opacity, give those of u8[n, 3]."""
    over = pixels - (1 - share) * _BACKGROUND
    alone = np.where(share > 0, over / np.maximum(share, 1e-6), 0)
    return np.rint(alone).clip(0, 255).astype(np.uint8)


def _with_bars(image: np.ndarray, size: tuple[int, int], black: np.ndarray) -> np.ndarray:
    """The whole picture, as large as it can be in the middle of one of `size` (width, height)."""
    height, width = image.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    inner = max(1, round(scale * width)), max(1, round(scale * height))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    result = np.empty((size[1], size[0], image.shape[-1]), image.dtype)
    result[:] = black.astype(image.dtype)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    result[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        image, inner, interpolation=way
    )
    return result
