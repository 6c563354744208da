"""Training pairs from video: two frames of one face in the canonical view, and the flow between them.

    python launch.py --config=configs/video128.py --config.data.clips=FOLDER

FOLDER holds video files, at any depth; a subfolder holds one person's, or people who belong together. The
pairs are found once and kept in the cache; `python -m dp3_jax.data.clips FOLDER OUTPUT.npz` writes them to a
file instead, which --config.data.clips takes too. Every frame of a pair is aligned by its own detection, as
it is when a video is anonymized, so the flow holds what alignment leaves over: turning, talking and the
detector's own jitter. The file (NumPy's npz) holds
  first, second  u8[N, S, S, 3], RGB; neighbouring frames, or up to three frames apart
  flow           f16[N, S, S, 2]; what is at p in `second` is at p + flow in `first`; (x, y) in px
  visible        bool[N, S, S], in `second`: seen in both and of certain flow
  clip           U[N], name of the file it is from, in the folder
  person         i32[N], the same for clips that share a person (`clip_people`)
"""

import hashlib
import itertools
import json
import os
import pathlib
import sys
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging

from dp3_jax.common import assets, files
from dp3_jax.common.errors import UserError, fail
from dp3_jax.data import clip_people, order
from dp3_jax.detection import face_detection
from dp3_jax.detection.detections import FaceSource, overlap
from dp3_jax.models import embedders
from dp3_jax.vision import flow, geometry, masks

GAPS = (1, 2, 3)  # frames between the two of a pair, in turn
STRIDE = 10  # frames from one pair to the next
MAX_PAIRS = 200  # pairs of one clip

_CONFIDENCE = 0.7  # asked of both detections
_LARGEST_SCALE = (
    2.0  # canonical px for each px of the frame: smaller faces are too blurred to learn from
)
_SAME_IOU = 0.3  # two boxes in neighbouring frames that overlap more show one face
_MIN_VISIBLE = 0.5  # of the face: less is a cut, or a flow that went wrong

Pair = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def frame_pairs(path: pathlib.Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames u8[h, w, 3] of a clip in twos: STRIDE frames from pair to pair, GAPS between the two."""
    gaps = itertools.cycle(GAPS)
    first, start, gap = None, 0, next(gaps)
    from dp3_jax.media.video import reading  # late: whoever trains needs no PyAV

    with reading.read_frames(path) as frames:
        for frame in frames:
            if frame.number == start:
                first = frame.image
            elif first is not None and frame.number == start + gap:
                yield first, frame.image
                first, start, gap = None, start + STRIDE, next(gaps)


def same_faces(
    before: Sequence[face_detection.Detection], after: Sequence[face_detection.Detection]
) -> Iterator[tuple[face_detection.Detection, face_detection.Detection]]:
    """Faces of two neighbouring frames that are each other's best match."""
    table = np.array([[overlap(a.box, b.box) for b in after] for a in before])
    for row, column in enumerate(table.argmax(1) if table.size else ()):
        if table[row, column] > _SAME_IOU and table[:, column].argmax() == row:
            yield before[row], after[column]


def view_pair(first: np.ndarray, second: np.ndarray) -> Pair | None:
    """(first, second, flow, visible) of two canonical views u8[S, S, 3]; None when little is seen in both."""
    back, forth = flow.dense_flow(second, first), flow.dense_flow(first, second)
    seen = flow.visible(back, forth)
    face = masks.inference_mask(len(first))[..., 0] > 0
    if seen[face].mean() < _MIN_VISIBLE:
        return None
    return first, second, back.astype(np.float16), seen


def _usable(detector: face_detection.Detector, frame: np.ndarray) -> list[face_detection.Detection]:
    def is_large(face: face_detection.Detection) -> bool:
        return face.alignment().scale <= _LARGEST_SCALE

    found = detector.detect(frame)
    return [
        f
        for f in found
        if f.source == FaceSource.DETECTED and f.keypoints is not None and is_large(f)
    ]


def clip_pairs(path: pathlib.Path, detector: face_detection.Detector) -> list[Pair]:
    """All pairs of one clip, MOST at most; where it ends early because it is damaged, those before.

    Raises:
      UserError: it is no video, or damaged before any pair.
    """
    found: list[Pair] = []
    try:
        for frames in frame_pairs(path):
            faces = [_usable(detector, frame) for frame in frames]
            for face_pair in same_faces(*faces):
                aligned = (face.alignment() for face in face_pair)
                pair = view_pair(*map(geometry.extract, frames, aligned))
                found += [] if pair is None else [pair]
            if len(found) >= MAX_PAIRS:
                break
    except UserError as error:
        if not found:
            raise
        print(f"left out from here on: {error}", file=sys.stderr)
    return found[:MAX_PAIRS]


def clips_in(folder: str | os.PathLike) -> list[pathlib.Path]:
    """The video files under `folder`, by name.

    Raises:
      UserError: there are none.
    """
    from dp3_jax.media.video import reading

    paths = sorted(p for p in pathlib.Path(folder).rglob("*") if reading.is_video_name(p))
    if not paths:
        raise UserError(f"no video files in {folder}; name a folder that holds some")
    return paths


def all_pairs(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, list[Pair]]:
    """Pairs by clip, of those that have some."""
    detector = face_detection.Detector(_CONFIDENCE, rotations=False)
    found, unread = {}, []
    for path in paths:
        try:
            own = clip_pairs(path, detector)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            unread.append(str(error))
            continue
        print(f"{path.name}: {len(own)} pairs", file=sys.stderr)
        if own:
            found[path] = own
    if len(unread) == len(paths):
        raise UserError(f"none of the {len(paths)} clips can be read; the first: {unread[0]}")
    return found


def _people(folder: pathlib.Path, pairs: dict[pathlib.Path, list[Pair]]) -> dict[pathlib.Path, int]:
    """The number of the people of each clip; see `clip_people`."""
    verifier: embedders.SFace | None = None
    try:
        verifier = embedders.SFace()
    except UserError as error:
        logging.warning("who is in two clips is not known, each has people of its own: %s", error)

    def name(path: pathlib.Path) -> str:
        inside = path.relative_to(folder)
        return inside.parts[0] if len(inside.parts) > 1 else inside.name

    faces: dict[str, list[np.ndarray]] = {}
    for path, own in pairs.items():
        rows = faces.setdefault(name(path), [])
        if verifier is not None:
            views = [pair[0] for pair in own]
            points = [masks.CANONICAL_POINTS] * len(views)
            rows.append(embedders.unit(embedders.embed(verifier, views, points)))
    empty = np.zeros((0, 1), np.float32)
    numbers = clip_people.numbered(
        {group: np.concatenate(rows) if rows else empty for group, rows in faces.items()}
    )
    return {path: numbers[name(path)] for path in pairs}


def prepare_clips(folder: str | os.PathLike, output: str | os.PathLike, identity: str = "") -> str:
    """Writes the pairs of all clips under `folder` to the file `output`; returns one line for the console.

    Args:
      folder: of the clips.
      output: npz file.
      identity: is written into it.

    Raises:
      UserError: no clips there that can be read, no face in them, or the file cannot be written.
    """
    folder = pathlib.Path(folder)
    found = all_pairs(clips_in(folder))
    if not found:
        raise UserError(f"no face was found in two neighbouring frames of the clips in {folder}")
    people = _people(folder, found)
    pairs = [pair for own in found.values() for pair in own]
    clips = [str(path.relative_to(folder)) for path, own in found.items() for _ in own]
    persons = [people[path] for path, own in found.items() for _ in own]
    first, second, motion, seen = map(np.stack, zip(*pairs, strict=True))
    with files.atomic_target(output) as temporary, temporary.open("wb") as opened:
        np.savez(
            opened,
            first=first,
            second=second,
            flow=motion,
            visible=seen,
            clip=np.array(clips),
            person=np.array(persons, np.int32),
            identity=np.array(identity),
        )
    return f"{len(pairs)} pairs of {len(set(persons))} people (at least) in {len(found)} clips in {output}"


def pairs_file(path: str | os.PathLike) -> pathlib.Path:
    """The file with the pairs of a folder of clips, written if it is not there; a file is that file.

    Raises:
      UserError: as `prepare_clips`.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        return path
    described = [
        [str(clip.relative_to(path)), clip.stat().st_size, clip.stat().st_mtime_ns]
        for clip in clips_in(path)
    ]
    rules = [1, GAPS, STRIDE, MAX_PAIRS, _CONFIDENCE, _LARGEST_SCALE, _SAME_IOU, _MIN_VISIBLE]
    identity = hashlib.sha256(json.dumps([rules, described]).encode()).hexdigest()
    target = kept_path(path)
    if _identity(target) != identity:
        logging.info("looking for faces in the clips of %s, once", path)
        target.parent.mkdir(parents=True, exist_ok=True)
        logging.info("%s", prepare_clips(path, target, identity))
    return target


def kept_path(folder: pathlib.Path) -> pathlib.Path:
    """Where the pairs of a folder are kept."""
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return assets.cache_folder() / "clips" / f"{place}.npz"


def _identity(path: pathlib.Path) -> str | None:
    try:
        with np.load(path, allow_pickle=False) as opened:
            return str(opened["identity"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


class Pairs:
    """The pairs in a file or of a folder, by whether their people are trained on or held out.

    Attributes:
      train, heldout: arrays clip_first, clip_second, clip_flow, clip_visible, and clip_person, clip_name.
    """

    def __init__(self, path: str | os.PathLike, share: float):
        """Reads them; about `share` of the pairs are held out, 0 for none.

        Raises:
          UserError: they cannot be read or made, or all are of one person and some are to be held out.
        """
        names = ("first", "second", "flow", "visible")
        try:
            with np.load(pairs_file(path), allow_pickle=False) as opened:
                arrays = {f"clip_{name}": opened[name] for name in names}
                clips = (
                    opened["clip"] if "clip" in opened else np.array([""] * len(opened["first"]))
                )
                # Files of before do not say who is in them: each clip has people of its own.
                people = np.unique(clips, return_inverse=True)[1]
                if "person" in opened:
                    people = opened["person"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"cannot read pairs of clips from {path}: {reason}; name a folder of clips, or a file "
                "that python -m dp3_jax.data.clips wrote"
            ) from error
        arrays |= {"clip_person": np.asarray(people, np.int32), "clip_name": clips}
        if share and len(np.unique(people)) < 2:
            raise UserError(
                f"the {len(people)} pairs in {path} are all of one person, or of people who share clips; add "
                "clips of someone else, or set config.data.clips_held_out=0 to train without measuring"
            )
        out = clip_people.held_out(people, share)
        self.train = {name: array[~out] for name, array in arrays.items()}
        self.heldout = {name: array[out] for name, array in arrays.items()}

    @property
    def summary(self) -> str:
        """For the console."""

        def counted(arrays: dict[str, np.ndarray]) -> str:
            people = len(np.unique(arrays["clip_person"]))
            clips = len(np.unique(arrays["clip_name"]))
            return f"{len(arrays['clip_first'])} pairs of {people} people in {clips} clips"

        return f"trained on {counted(self.train)}, held out {counted(self.heldout)}"


class ClipPairs:
    """Batches of the pairs that are trained on (`feed.Companions`); the order is that of `order`.

    Attributes:
      heldout: arrays as in a batch, of all pairs that are held out; none of them in any batch.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        image_size: int,
        batch_size: int,
        seed: int,
        flip: bool,
        held_out: float = 0.0,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """Reads all into memory; batches are of `batch_size` pairs over all processes.

        Raises:
          UserError: as `Pairs`, or the pictures have another size.
        """
        pairs = Pairs(path, held_out)
        side = pairs.train["clip_first"].shape[1]
        if side != image_size:
            raise UserError(
                f"the pairs in {path} are of {side} px, config.data.image_size is {image_size}"
            )
        logging.info("clips: %s", pairs.summary)

        def for_the_step(arrays: dict[str, Any]) -> dict[str, np.ndarray]:
            return {
                name: a for name, a in arrays.items() if name not in ("clip_person", "clip_name")
            }

        self._arrays, self.heldout = for_the_step(pairs.train), for_the_step(pairs.heldout)
        self.count = len(self._arrays["clip_first"])
        self._seed, self._flip, self._batch_size = seed, flip, batch_size
        self._process = (process_index, process_count)

    @property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape over all processes, and dtype, of each array of a batch."""
        return {
            name: ((self._batch_size, *array.shape[1:]), array.dtype)
            for name, array in self._arrays.items()
        }

    def batch(
        self, number: int, rows: np.ndarray | None = None, mirrored: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """This process's rows of batch `number`: clip_first, clip_second, clip_flow, clip_visible.

        They do not depend on which images are in it.
        """
        del rows, mirrored
        first = order.first_position(number, self._batch_size, *self._process)
        count = order.local_batch_size(self._batch_size, self._process[1])
        chosen, mirrored = order.elements(self._seed, first, count, self.count)
        batch = {name: array[chosen] for name, array in self._arrays.items()}
        if self._flip and mirrored.any():
            for array in batch.values():
                array[mirrored] = array[mirrored][:, :, ::-1]
            batch["clip_flow"][mirrored] *= np.float16([-1, 1])
        return batch


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    try:
        print(prepare_clips(*sys.argv[1:]))
    except UserError as mistake:
        sys.exit(fail(str(mistake)))
