"""Folders as `dp3 anonymize --sidecar` leaves them, made in a moment: faces are given, and become grey."""

import json
import pathlib

import numpy as np

from dp3_jax.detection.detections import Detection
from dp3_jax.media.photos import decode_photo, read_photo, replace_file
from dp3_jax.pipelines import records, sidecar
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import job
from dp3_jax.review import exporting, library
from dp3_jax.review.models import Models
from dp3_jax.review.session import Session
from tests import data_makers, video_makers

SIZE = (160, 120)
BOX = (60.0, 30.0, 40.0, 50.0)
VIDEO_SIZE = (96, 64)
FRAMES = 30
VIDEO_BOX = (30.0, 12.0, 30.0, 36.0)


def photos(folder, count, *, method="solid"):
    """Photos with a face each in folder/originals, results and sidecars in folder/results."""
    anonymizer = Anonymizer(method=method)
    options = records.RecordOptions(anonymizer=anonymizer)
    for number in range(count):
        name = f"photo_{number:03d}.png"
        source = folder / "originals" / name
        data_makers.write(source, data_makers.encoded(data_makers.photo(number, SIZE), "PNG"))
        photo = read_photo(source)
        actions = records.action_list(photo, options, bytes([number % 256]) * 32, [face(number)])
        made = records.render_record(photo, actions, anonymizer.settings, options)
        target = folder / "results" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, made.content)
        sidecar.write(target.with_name(name + sidecar.SUFFIX), made.sidecar)


def face(number=0):
    """A face; every tenth one is not surely there."""
    return Detection(BOX, None, 0.6 if number % 10 == 0 else 0.95)


def clip(folder, video=None, audio=()):
    """A clip with one face from its 6th to its 20th frame, beside the photos.

    `video` are the options of its result; `audio` its tracks of sound, as `video_makers.Clip` has them.
    """
    source, target = folder / "originals" / "clip.mp4", folder / "results" / "clip.mp4"
    for path in (source, target):
        path.parent.mkdir(parents=True, exist_ok=True)
    width, height = VIDEO_SIZE
    video_makers.Clip(source, frames=FRAMES, width=width, height=height, audio=audio).write()
    boxes = folder / "boxes.csv"
    rows = [f"{frame},{','.join(map(str, VIDEO_BOX))}" for frame in range(5, 20)]
    boxes.write_text("\n".join(["frame,x,y,w,h", *rows]) + "\n")
    more = {} if video is None else {"video": video}
    request = job.Request(
        source=source, target=target, given_boxes=str(boxes), sidecar=True, **more
    )
    job.process(request, Anonymizer(method="solid"), lambda *_: None)
    boxes.unlink()
    return target


def session(folder, **more):
    """A review of folder/results, and what exports it."""
    return opened(folder / "results", folder / "originals", **more)


def opened(path, originals=None, **more):
    """A review of what lies at a path."""
    items, state = library.find(path, originals), library.state_folder(path)
    made = Session(items, state, Models(), **more)
    return made, exporting.Exporter(made, state.with_suffix(exporting.ENDING))


def by_name(made, name):
    """The id of an item."""
    return next(key for key, work in made.works.items() if work.item.name == name)


def read(content):
    """u8[h, w, 3] of a file's content."""
    return np.asarray(decode_photo(content).pixels)


def pixels(path):
    """u8[h, w, 3] of a photo."""
    return np.asarray(read_photo(path).pixels)


def faces(path):
    """The faces of a sidecar."""
    return json.loads(pathlib.Path(path).read_text())["faces"]
