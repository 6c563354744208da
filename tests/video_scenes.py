"""Clips with drawn faces in a signal colour, whose places are known and whose shown pixels can be counted."""

import dataclasses

import numpy as np

from dp3_jax.cli.main import main
from dp3_jax.detection.face_detection import Detection
from dp3_jax.media.video import reading
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import face_tracks
from tests.face_photos import stand_in_generator
from tests.video_makers import Clip

SIGNAL = (255, 0, 255)
WIDTH, HEIGHT = 160, 96
SIZE = (32, 40)  # of a face


def background(number=0, width=WIDTH, height=HEIGHT):
    """u8[h, w, 3]: waves in brown and green, moving slowly to the right."""
    y, x = np.mgrid[:height, :width]
    wave = np.sin((x - number) / 9) + np.cos(y / 7)
    return np.stack([110 + 20 * wave, 120 - 15 * wave, 60 + 0 * wave], -1).astype(np.uint8)


def draw(image, box, colour=SIGNAL):
    """Draws the ellipse in a box, in place."""
    x, y, w, h = box
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    inside = ((columns + 0.5 - x - w / 2) / (w / 2)) ** 2 + (
        (rows + 0.5 - y - h / 2) / (h / 2)
    ) ** 2 < 1
    image[inside] = colour


def paths(frames, *starts_and_speeds):
    """The boxes of several faces in every frame: [frame][person]."""
    return [
        [(x + vx * f, y + vy * f, *SIZE) for (x, y), (vx, vy) in starts_and_speeds]
        for f in range(frames)
    ]


def scene(path, boxes, **more):
    """A clip with faces at these boxes ([frame][person]); lossless where the name ends in .mkv."""
    if path.suffix == ".mkv":
        more = {"codec": "ffv1", "options": {}, "pixel_format": "yuv444p", **more}

    def image(number, width, height):
        picture = background(number, width, height)
        for box in boxes[number]:
            draw(picture, box)
        return picture

    more = {"frames": len(boxes), "width": WIDTH, "height": HEIGHT, "image": image, **more}
    return Clip(path, **more).write()


def stand_in(monkeypatch, owner=face_tracks, name="VideoDetector", finder=None):
    """Replaces the networks of the command, the detector `name` of `owner` by `finder`, which is returned.

    Without one by a `Finder`, which may be told what to find.
    """
    finder = Finder() if finder is None else finder
    monkeypatch.setattr(owner, name, finder)
    monkeypatch.setattr(Anonymizer, "detector", None)
    stand_in_generator(monkeypatch)
    return finder


def run(*arguments):
    """The exit status of `dp3 anonymize`."""
    return main(["anonymize", *map(str, arguments)])


def rows(boxes):
    """The text of a CSV file for --boxes."""
    lines = ["frame,x,y,w,h"]
    for number, many in enumerate(boxes):
        lines += [",".join(map(str, (number, *box))) for box in many]
    return "\n".join(lines) + "\n"


def images(path):
    """u8[frames, h, w, 3]."""
    with reading.read_frames(path) as frames:
        found = np.stack([frame.image for frame in frames])
    assert frames.damage is None
    return found


def signal(pictures):
    """bool[...]: the pixels in the signal colour, also after a lossy codec."""
    red, green, blue = np.moveaxis(pictures.astype(int), -1, 0)
    return (red > 170) & (green < 85) & (blue > 170)


@dataclasses.dataclass
class Finder:
    """In place of the detector: says what it is told to, or finds what has the signal colour.

    Attributes:
      told: faces by frame; None to look at the picture.
      missed: numbers of frames in which it sees nothing.
    """

    told: list | None = None
    missed: frozenset = frozenset()
    chunk: int = 8

    def __call__(self, min_confidence=0.5, **_):
        return self

    def chunk_of(self, image):
        return self.chunk

    def find(self, frames, is_cut, before=(), last=None):
        for frame in frames:
            cut = is_cut(frame.image)
            faces = [] if frame.number in self.missed else self._faces(frame)
            yield frame.number, faces, cut, {}

    def _faces(self, frame):
        if self.told is not None:
            return [Detection(box, None, 0.9, "detected") for box in self.told[frame.number]]
        y, x = np.nonzero(signal(np.asarray(frame.image)))
        if not len(x):
            return []
        box = (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
        return [Detection(tuple(map(float, box)), None, 0.9, "detected")]
