"""Reading numbered pictures as the frames of a video."""

import pathlib
from collections.abc import Generator

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.media import alpha, image_sequences
from dp3_jax.media.photos import Photo, read_photo
from dp3_jax.media.video.frames import Frame, FrameReader


def shown(photo: Photo) -> np.ndarray:
    """u8[h, w, 3]: the picture as viewers show it; over grey, where faces of light and of dark stand out."""
    if photo.alpha is None or photo.alpha.min() == 255:
        return photo.pixels
    return alpha.over(photo.pixels, photo.alpha, alpha.GREY)


class SequenceReader(FrameReader):
    """The pictures as frames, from a number (counted from 0) on.

    A picture that cannot be read, or has another size than the first one, ends the iteration with a
    UserError, so `damage` stays None.
    """

    def __init__(self, pattern: pathlib.Path, start: int = 0):
        super().__init__(self._read(pattern, image_sequences.numbers(pattern), start))

    @staticmethod
    def _read(pattern: pathlib.Path, found: range, start: int) -> Generator[Frame]:
        first = image_sequences.path_of(pattern, found[0])
        size = None if start == 0 else read_photo(first).pixels.shape
        for number in range(start, len(found)):
            path = image_sequences.path_of(pattern, found[number])
            pixels = shown(read_photo(path))
            size = size or pixels.shape
            if pixels.shape != size:
                raise UserError(
                    f"{path} has {pixels.shape[1]}x{pixels.shape[0]} pixels, {first} {size[1]}x{size[0]}; "
                    "scale them to one size"
                )
            yield Frame(number, number, 1, np.require(pixels, requirements=["C", "W"]))
