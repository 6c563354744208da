"""Training pairs from video: two frames of one face in the canonical view, and the flow between them.

    python -m dp3_jax.data.clips FOLDER OUTPUT.npz

FOLDER holds video files, at any depth. Train on them with configs/video128.py --config.data.clips=OUTPUT.npz.
Every frame of a pair is aligned by its own detection, as it is when a video is anonymized, so the flow holds
what alignment leaves over: turning, talking and the detector's own jitter. The file (NumPy's npz) holds
  first, second  u8[N, S, S, 3], RGB; neighbouring frames, or up to three frames apart
  flow           f16[N, S, S, 2]; what is at p in `second` is at p + flow in `first`; (x, y) in px
  visible        bool[N, S, S], in `second`: seen in both and of certain flow
  clip           U[N], name of the file it is from
"""

import itertools
import os
import pathlib
import sys
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np

from dp3_jax import files, flow, masks
from dp3_jax.anonymization import detection, geometry
from dp3_jax.data import order
from dp3_jax.errors import UserError, fail

GAPS = (1, 2, 3)  # frames between the two of a pair, in turn
STRIDE = 10  # frames from one pair to the next
MOST = 200  # pairs of one clip

_CONFIDENCE = 0.7  # asked of both detections
_LARGEST_SCALE = (
    2.0  # canonical px for each px of the frame: smaller faces are too blurred to learn from
)
_SAME_IOU = 0.3  # two boxes in neighbouring frames that overlap more show one face
_LEAST_VISIBLE = 0.5  # of the face: less is a cut, or a flow that went wrong

Pair = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _frame_pairs(path: pathlib.Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames u8[h, w, 3] of a clip in twos: STRIDE frames from pair to pair, GAPS between the two."""
    gaps = itertools.cycle(GAPS)
    first, start, gap = None, 0, next(gaps)
    from dp3_jax.video import reading  # late: whoever trains needs no PyAV

    with reading.read_frames(path) as frames:
        for frame in frames:
            if frame.number == start:
                first = frame.image
            elif first is not None and frame.number == start + gap:
                yield first, frame.image
                first, start, gap = None, start + STRIDE, next(gaps)


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def _same_faces(
    before: Sequence[detection.Face], after: Sequence[detection.Face]
) -> Iterator[tuple[detection.Face, detection.Face]]:
    """Faces of two neighbouring frames that are each other's best match."""
    table = np.array([[_overlap(a.box, b.box) for b in after] for a in before])
    for row, column in enumerate(table.argmax(1) if table.size else ()):
        if table[row, column] > _SAME_IOU and table[:, column].argmax() == row:
            yield before[row], after[column]


def view_pair(first: np.ndarray, second: np.ndarray) -> Pair | None:
    """(first, second, flow, visible) of two canonical views u8[S, S, 3]; None when little is seen in both."""
    back, forth = flow.dense_flow(second, first), flow.dense_flow(first, second)
    seen = flow.visible(back, forth)
    face = masks.inference_mask(len(first))[..., 0] > 0
    if seen[face].mean() < _LEAST_VISIBLE:
        return None
    return first, second, back.astype(np.float16), seen


def _usable(detector: detection.Detector, frame: np.ndarray) -> list[detection.Face]:
    def is_large(face: detection.Face) -> bool:
        return geometry.align(face.box, face.points).scale <= _LARGEST_SCALE

    found = detector.detect(frame)
    return [f for f in found if f.source == "detected" and f.points is not None and is_large(f)]


def clip_pairs(path: pathlib.Path, detector: detection.Detector) -> list[Pair]:
    """All pairs of one clip, MOST at most; none of a file that is no video."""
    found: list[Pair] = []
    try:
        for frames in _frame_pairs(path):
            faces = [_usable(detector, frame) for frame in frames]
            for face_pair in _same_faces(*faces):
                aligned = (geometry.align(face.box, face.points) for face in face_pair)
                pair = view_pair(*map(geometry.extract, frames, aligned))
                found += [] if pair is None else [pair]
            if len(found) >= MOST:
                break
    except UserError as error:
        print(f"left out: {error}", file=sys.stderr)
    return found[:MOST]


def prepare_clips(folder: str | os.PathLike, output: str | os.PathLike) -> str:
    """Writes the pairs of all clips under `folder` to the file `output`; returns one line for the console.

    Raises:
      UserError: no clips there, no face in them, or the file cannot be written.
    """
    from dp3_jax.video import reading

    paths = sorted(p for p in pathlib.Path(folder).rglob("*") if reading.is_video_name(p))
    if not paths:
        raise UserError(f"no video files in {folder}; name a folder that holds some")
    detector = detection.Detector(_CONFIDENCE, rotations=False)
    pairs, clips = [], []
    for path in paths:
        own = clip_pairs(path, detector)
        print(f"{path.name}: {len(own)} pairs")
        pairs += own
        clips += [path.name] * len(own)
    if not pairs:
        raise UserError(f"no face was found in two neighbouring frames of the clips in {folder}")
    first, second, motion, seen = map(np.stack, zip(*pairs, strict=True))
    with files.atomic_target(output) as temporary, temporary.open("wb") as opened:
        np.savez(
            opened, first=first, second=second, flow=motion, visible=seen, clip=np.array(clips)
        )
    return f"{len(pairs)} pairs of {len(set(clips))} clips in {output}"


class ClipPairs:
    """Batches of the pairs in a file of `prepare_clips` (`feed.Companions`); the order is that of `order`."""

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        image_size: int,
        batch_size: int,
        seed: int,
        flip: bool,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """Reads the file into memory; batches are of `batch_size` pairs over all processes.

        Raises:
          UserError: it cannot be read, or has pictures of another size.
        """
        try:
            with np.load(path, allow_pickle=False) as opened:
                self._arrays = {
                    f"clip_{name}": opened[name] for name in ("first", "second", "flow", "visible")
                }
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"cannot read pairs of clips from {path}: {reason}; "
                "write it with python -m dp3_jax.data.clips"
            ) from error
        self.count = len(self._arrays["clip_first"])
        side = self._arrays["clip_first"].shape[1]
        if side != image_size:
            raise UserError(
                f"the pairs in {path} are of {side} px, config.data.image_size is {image_size}"
            )
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
