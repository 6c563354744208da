"""Clips are audited by frames, and by their tracks files where there are such."""

import dataclasses

import av
import cv2
import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.detection.tracks import Observation, Track, Tracking
from dp3_jax.evaluation.audit import clips, coverage
from dp3_jax.evaluation.audit.gathering import count_states
from dp3_jax.evaluation.audit.pairing import Pair
from dp3_jax.evaluation.audit.store import Store
from dp3_jax.pipelines.video import job, track_file
from dp3_jax.replacement.face_actions import Settings
from tests.face_photos import BOX, astronaut, detector_or_skip

FRAMES, STEP = 6, 6  # px that the person moves in a frame
PLACE = (90, 30, 120, 160)  # of the frame: the head in the first one, with room


def scene():
    """u8[FRAMES, 240, 320, 3]: a person who moves to the right."""
    head = astronaut()[10:250, 60:380]
    shifts = (np.float32([[1, 0, STEP * i], [0, 1, 0]]) for i in range(FRAMES))
    return [
        cv2.warpAffine(head, shift, (320, 240), borderMode=cv2.BORDER_REFLECT) for shift in shifts
    ]


def hidden(frames, missed=()):
    """The frames with one colour over the head, but for those `missed`."""
    made = [frame.copy() for frame in frames]
    x, y, width, height = PLACE
    for i, frame in enumerate(made):
        if i not in missed:
            frame[y : y + height, x + STEP * i : x + STEP * i + width] = 128
    return made


def write(path, frames):
    """Lossless, two frames a second, so that each is looked at."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=2)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def audit(tmp_path):
    """Audits what became of the scene."""
    detector = detector_or_skip()

    def run(result, tracking=None):
        ends = write(tmp_path / "in.mkv", scene()), write(tmp_path / "out.mkv", result)
        if tracking is not None:
            track_file.write(job.sidecar_path(ends[1]), tracking, Settings(), {}, None)
        return clips.clip_faces(*ends, detector, lambda *_: None)

    return run


def tracked(*, keep=False):
    x, y = BOX[0] - 60, BOX[1] - 10
    seen = [Observation(i, (x + STEP * i, y, *BOX[2:]), None, 0.9) for i in range(FRAMES)]
    return Tracking(FRAMES, 320, 240, (), (Track(7, tuple(seen), keep=keep),))


def test_a_person_in_a_clip_counts_once_by_the_worst_frame(audit):
    faces = audit(hidden(scene(), missed=(3,)))
    assert {face.frame for face in faces} == set(range(FRAMES))
    assert [face.frame for face in faces if face.state == coverage.SHOWN] == [3]
    assert len({face.track for face in faces}) == 1
    assert count_states([faces]).states == {coverage.SHOWN: 1}


def test_a_clip_that_is_covered_in_every_frame_shows_nobody(audit):
    assert count_states([audit(hidden(scene()))]).states == {coverage.CHANGED: 1}


def test_the_tracks_file_says_who_it_is_and_who_is_kept(audit):
    faces = audit(hidden(scene()), tracked())
    assert {face.track for face in faces} == {7} and len(faces) == FRAMES
    kept = audit(scene(), tracked(keep=True))
    assert count_states([kept]).states == {coverage.KEPT: 1}


def test_a_tracks_file_that_misses_somebody_does_not_hide_it(audit):
    nobody = dataclasses.replace(tracked(), tracks=())
    assert count_states([audit(scene(), nobody)]).states == {coverage.SHOWN: 1}


def test_clips_of_two_sizes_are_refused(audit):
    with pytest.raises(UserError, match="must be equal"):
        audit([frame[:200] for frame in scene()])


def test_parts_come_back_as_they_were_written(audit, tmp_path):
    faces = audit(hidden(scene()))
    pair = Pair(tmp_path / "in.mkv", tmp_path / "out.mkv", "in.mkv")
    store = Store(tmp_path / "report")
    assert pair not in store
    store.write(pair, faces)
    read, error = store.read(pair, views=True)
    assert pair in store and not error and len(read) == len(faces)
    for one, other in zip(read, faces, strict=True):
        np.testing.assert_array_equal(one.views, other.views)
        np.testing.assert_array_equal(one.mask, other.mask)
        assert (one.box, one.state, one.track, one.frame) == (
            other.box, other.state, other.track, other.frame,
        )  # fmt: skip
    (tmp_path / "out.mkv").write_bytes(b"another result")
    assert pair not in store
