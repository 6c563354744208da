"""A video's frames, wherever they come from."""

import dataclasses
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Self

import numpy as np

from dp3_jax.media.video.lazy_pictures import Image


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """A frame as it is shown.

    Attributes:
      number: in the order of showing, from 0.
      pts: when it is shown, in ticks of the stream's `time_base`; strictly rising.
      duration: ticks; None if the file does not say.
      image: u8[h, w, 3], RGB, upright, in square pixels (`VideoInfo.canvas_size`); a `LazyPicture` only where
        that was asked for.
      stored: the same picture as it is stored, for `canvas.Canvas.merged`; None where `image` is that, or
        nobody asked for it.
    """

    number: int
    pts: int
    duration: int | None
    image: Image
    stored: np.ndarray | None = None


class FrameReader(Iterator[Frame]):
    """The frames of a video in order, as a context manager; see `read_frames`.

    Attributes:
      damage: None, or in words what could not be read; final once the iteration has ended.
      jumps: see `clocks.Restarts`; complete once the iteration has ended.
      captions: whether there are some inside the pictures; final once the iteration has ended.
    """

    def __init__(self, frames: Generator[Frame]):
        self.damage: str | None = None
        self.jumps: list[Fraction] = []
        self.captions = False
        self._frames = frames

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Closes what is read; also happens at the end of the iteration."""
        self._frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
