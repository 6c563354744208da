"""Numbered pictures as the frames of a video, and a video's frames as numbered pictures.

Each picture is read and written as a photo is (`anonymization.photos`): upright, in 8 bits, with nothing of
its metadata, and written with its transparency, its colour profile and, where the format stays, its strength
of compression. In a video there is no room for the first two: transparency is laid over grey.
"""

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.common.files import atomic_target
from dp3_jax.media import alpha, image_sequences
from dp3_jax.media.names import is_pattern
from dp3_jax.media.photos import Photo, read_photo, write_photo
from dp3_jax.media.video.colours import Colours
from dp3_jax.media.video.encoding import SEQUENCE, EncoderSettings, Encoding
from dp3_jax.media.video.probing import VideoInfo, open_video, plain_info
from dp3_jax.media.video.segments import PacketWriter, SegmentWriter, read_segment
from dp3_jax.media.video.sequence_reading import shown


def open_sequence(pattern: pathlib.Path, rate: Fraction) -> VideoInfo:
    """What is known of pictures that are shown at a rate; a tick is the time from one to the next.

    Raises:
      UserError: there are none, one is missing, or the first one cannot be read.
    """
    found = image_sequences.numbers(pattern)
    height, width, _ = read_photo(image_sequences.path_of(pattern, found[0])).pixels.shape
    return plain_info(
        pattern,
        width,
        height,
        rate,
        1 / rate,
        container=SEQUENCE,
        codec="pictures",  # which no video is written with: the target decides
        frames_estimate=len(found),
        duration_seconds=float(len(found) / rate),
        pixel_format="rgb24",
        colours=Colours(matrix=0),
    )


def open_input(path: str | os.PathLike, rate: Fraction, deinterlace: bool = False) -> VideoInfo:
    """What is known of a video file, or of numbered pictures that are shown at a rate.

    Raises:
      UserError: as `open_sequence` and `probing.open_video`.
    """
    return (
        open_sequence(pathlib.Path(path), rate)
        if is_pattern(path)
        else open_video(path, deinterlace)
    )


def with_shown(photo: Photo, image: np.ndarray) -> Photo:
    """The picture with `image`, u8[h, w, 3], to be shown in the place of `shown`."""
    if photo.alpha is None or photo.alpha.min() == 255:
        return photo.with_pixels(image)
    pixels, opacity = alpha.changed(photo.pixels, photo.alpha, shown(photo), image)
    return dataclasses.replace(photo.with_pixels(pixels), alpha=opacity)


@dataclasses.dataclass(frozen=True)
class Pictures:
    """How a sequence is written as pictures, in the place of an `Encoding`.

    Attributes:
      source, target: patterns.
      first: number of the first picture.
      keep_metadata, mark: as of `photos.write_photo`.
    """

    source: pathlib.Path
    target: pathlib.Path
    first: int
    keep_metadata: bool
    mark: bool

    def photo(self, index: int) -> Photo:
        """The source's picture at a place, counted from 0."""
        return read_photo(image_sequences.path_of(self.source, self.first + index))


def choose_pictures(
    source: pathlib.Path,
    target: pathlib.Path,
    settings: EncoderSettings,
    keep_metadata: bool,
    mark: bool = False,
) -> Pictures:
    """How the pictures are written.

    Raises:
      UserError: `settings` are not the usual ones, which only videos have a use for.
    """
    if settings != EncoderSettings():
        raise UserError(
            f"--codec, --crf, --preset and --hardware are of videos; leave them out for {target}"
        )
    return Pictures(source, target, image_sequences.numbers(source)[0], keep_metadata, mark)


class PictureWriter(PacketWriter):
    """Writes frames as pictures, as `SegmentWriter` does as video: each is a packet of the segment."""

    def __init__(self, path: str | os.PathLike, pictures: Pictures):
        super().__init__(path)
        self._pictures = pictures
        # Beside the segment and named like it, so that it is removed with it after a kill.
        self._one = pathlib.Path(path).with_suffix(pictures.target.suffix)
        self._packets: list[tuple[int, int, int, bool]] = []

    def write(self, image: np.ndarray, pts: int, duration: int | None = None) -> None:
        """Adds the picture u8[h, w, 3], RGB, which is the one at `pts` in the sequence."""
        photo = self._pictures.photo(pts)
        if photo.pixels.shape != image.shape:
            raise UserError(f"a picture of {self._pictures.source} has changed; run it again")
        chosen = {"keep_metadata": self._pictures.keep_metadata, "mark": self._pictures.mark}
        write_photo(self._one, with_shown(photo, image), **chosen)
        content = self._one.read_bytes()
        self._one.unlink()
        self._add(content)
        self._packets.append((len(content), pts, duration or 1, True))

    def _index(self) -> tuple[bytes, list[tuple[int, int, int, bool]]]:
        return b"", self._packets


def segment_writer(
    path: pathlib.Path, info: VideoInfo, chosen: Encoding | Pictures
) -> SegmentWriter | PictureWriter:
    """What writes a segment as pictures or as video."""
    if isinstance(chosen, Pictures):
        return PictureWriter(path, chosen)
    return SegmentWriter(path, info, chosen)


def assemble(target: pathlib.Path, pictures: Pictures, segments: Sequence[pathlib.Path]) -> None:
    """Writes the pictures of all segments into the folder `target`, which is there only when all are in it.

    They are numbered as their sources are.

    Raises:
      UserError: a segment is damaged, or the folder cannot be written.
    """
    shutil.rmtree(target, ignore_errors=True)
    with atomic_target(target) as temporary:
        temporary.mkdir()
        for path in segments:
            segment = read_segment(path)
            for (_, index, *_), content in zip(segment.packets, segment.payloads(), strict=True):
                name = image_sequences.path_of(pictures.target, pictures.first + index).name
                (temporary / name).write_bytes(content)
