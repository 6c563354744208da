"""Correcting videos: tracks, single frames drawn with them, any frame by its number, the whole made anew."""

import json

import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.data import feedback
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.tracks import Observation, Track, Tracking
from dp3_jax.media.video import probing, reading
from dp3_jax.media.video.encoding import EncoderSettings
from dp3_jax.pipelines.video import job, track_file
from dp3_jax.pipelines.video.track_file import TrackFile
from dp3_jax.replacement.face_actions import Settings
from dp3_jax.review import track_edits
from dp3_jax.review.edits import Edit
from dp3_jax.review.frame_access import FrameAccess
from tests import review_makers, video_makers

BOX = (10.0, 10.0, 20.0, 24.0)


def moving(number, first, last, speed=2.0):
    return Track(
        number,
        tuple(
            Observation(frame, (10 + speed * frame, 20.0, 20.0, 24.0), None, 0.9)
            for frame in range(first, last + 1)
        ),
    )


def read(*tracks, cuts=(), frames=60):
    tracking = Tracking(frames, 200, 100, tuple(cuts), tracks)
    return track_edits.with_keys(TrackFile(tracking, {}, Settings(), None))


def edited(file, **edit):
    new, number = track_edits.apply(file, Edit(**edit))
    # It must be a file that can be read again, and say the same.
    content = track_file.encode(new.tracking, new.settings, new.keys, new.generator)
    again = track_file.parse(json.loads(content), "tracks")
    assert again.keys == new.keys
    assert [(t.first, t.last) for t in again.tracking.tracks] == [
        (t.first, t.last) for t in new.tracking.tracks
    ]
    return new, number


def track(file, number):
    return track_edits.find(file.tracking, number)


def test_a_longer_track_goes_on_as_it_moved_and_a_shorter_one_is_cut_off():
    file = read(moving(1, 20, 30))
    longer = track(edited(file, action="range", face=1, first=16, last=34)[0], 1)
    assert (longer.first, longer.last) == (16, 34)
    for seen in longer.observations:
        x, _, width, _ = seen.box
        assert x <= 10 + 2 * seen.frame and x + width >= 30 + 2 * seen.frame  # covers the face
    shorter = track(edited(file, action="range", face=1, first=22)[0], 1)
    assert (shorter.first, shorter.last) == (22, 30)
    assert all(seen.source == FaceSource.DETECTED for seen in shorter.observations)


def test_a_drawn_face_is_led_to_where_it_is_drawn_again():
    file, number = edited(read(), action="missed", box=BOX, frame=10, first=8, last=12)
    file, same = edited(file, action="missed", face=number, box=(50.0, 10.0, 20.0, 24.0), frame=32)
    assert same == number
    led = track(file, number)
    assert (led.first, led.last) == (8, 32) and led.observations[-1].box[0] == 50.0
    middle = led.observations[22 - 8].box
    assert middle[0] <= 30 and middle[0] + middle[2] >= 50  # half way, and no narrower
    assert file.keys.keys() == {number}


def test_split_and_merge_are_each_other_s_undoing_but_for_the_key():
    file = read(moving(1, 0, 20))
    apart, _ = edited(file, action="split", face=1, frame=10)
    assert [(t.first, t.last) for t in apart.tracking.tracks] == [(0, 9), (10, 20)]
    assert apart.keys[1] == file.keys[1] != apart.keys[2]
    both, _ = edited(apart, action="merge", face=1, other=2)
    assert [(t.first, t.last) for t in both.tracking.tracks] == [(0, 20)]
    assert both.keys == {1: file.keys[1]}


def test_the_same_person_after_a_cut_has_the_same_key():
    file = read(moving(1, 0, 9), moving(2, 10, 20), cuts=(10,))
    assert edited(file, action="same_person", face=2, other=1)[0].keys[2] == file.keys[1]
    with pytest.raises(UserError, match="cut"):
        track_edits.apply(file, Edit(action="merge", face=1, other=2))


def test_keeping_can_be_taken_back_and_another_method_ends_it():
    file = read(moving(1, 0, 9))
    kept, _ = edited(file, action="not_a_face", face=1)
    assert track(kept, 1).keep and track(kept, 1).reason == track_edits.NOT_A_FACE
    assert not track(edited(kept, action="unkeep", face=1)[0], 1).keep
    blurred = track(edited(kept, action="method", face=1, method="blur")[0], 1)
    assert not blurred.keep and blurred.method == "blur"


@pytest.mark.parametrize(
    "edit",
    [
        {"action": "keep", "face": 9},
        {"action": "split", "face": 1, "frame": 0},
        {"action": "split", "face": 1},
        {"action": "range", "face": 1, "first": 15, "last": 12},
        {"action": "range", "face": 1, "last": 60},
        {"action": "range", "face": 1, "last": 30},  # a cut lies in between
        {"action": "merge", "face": 1, "other": 1},
        {"action": "missed", "box": BOX},
        {"action": "missed", "box": BOX, "frame": 99},
        {"action": "missed", "box": BOX, "frame": 30, "face": 1},
        {"action": "adjust", "face": 1, "box": BOX, "frame": 25},
    ],
)
def test_what_cannot_be_done_is_said(edit):
    with pytest.raises(UserError):
        track_edits.apply(read(moving(1, 0, 20), cuts=(25,)), Edit(**edit))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: video_makers.Clip(path, frames=50, options={"crf": "10", "bf": "2", "g": "12"}).write(),
        lambda path: video_makers.rotated(path.with_suffix(".mp4"), 90).write(),
        lambda path: video_makers.Clip(path, frames=20, times=[n * n * 7 for n in range(20)]).write(),
        lambda path: video_makers.Clip(path.with_suffix(".ts"), frames=20).write(),
    ],
    ids=["b-frames", "rotated", "uneven", "broadcast"],
)  # fmt: skip
def test_any_frame_is_the_one_of_its_number(tmp_path, make):
    path = make(tmp_path / "a.mkv")
    with reading.read_frames(path) as frames:
        expected = [frame.image for frame in frames]
    access = FrameAccess(path, len(expected))
    last = len(expected) - 1
    for number in (last, 0, last // 2, last // 2 + 1, 3, last, 1):
        assert np.array_equal(access.frame(number), expected[number]), number
    with pytest.raises(UserError, match="no frame"):
        access.frame(len(expected))
    access.close()


@pytest.fixture
def folder(tmp_path):
    review_makers.clip(tmp_path)
    return tmp_path


def shown(session, name, frame):
    """The frame as the page shows it after a change, and as it is in the result."""
    work = session.work(name)
    return work.drawn(work.read(), frame), work.result(frame)


def test_a_change_is_seen_at_once_and_in_the_file_after_the_export(folder):
    session, exporter = review_makers.session(folder)
    name = review_makers.by_name(session, "clip.mp4")
    known = session.describe(name)
    assert [(t["first"], t["last"]) for t in known["faces"]] and known["frames"] == 30
    box, middle = [2.0, 30.0, 20.0, 24.0], (slice(38, 46), slice(8, 16))
    sent = {"action": "missed", "box": box, "frame": 8, "first": 4, "last": 12}
    done = session.edit(name, {"revision": known["revision"], **sent})
    assert done["pending"] and len(done["faces"]) == 2
    now, file = shown(session, name, 8)
    assert now[middle].std((0, 1)).max() < 1 < file[middle].std((0, 1)).max()
    assert np.array_equal(
        shown(session, name, 20)[0][middle], session.work(name).original(20)[middle]
    )
    exporter.run(False)
    assert not exporter.progress()["problems"] and not session.describe(name)["pending"]
    _, file = shown(session, name, 8)
    assert file[middle].std((0, 1)).max() < 4  # lossy
    assert (folder / "results.release" / "clip.mp4").is_file()
    assert not list((folder / "results.release").glob("*.json"))
    (said,) = feedback.read(session.feedback_path)
    assert (said.kind, said.frame, said.frames, said.box) == ("video", 8, (4, 12), tuple(box))


@pytest.mark.parametrize(("codec", "audio"), [("hevc", "drop"), (None, "copy")])
def test_an_export_has_codec_and_sound_as_the_result_had(tmp_path, codec, audio):
    review_makers.photos(tmp_path, 1)
    video = job.VideoOptions(encoder=EncoderSettings(codec=codec), audio=audio)
    target = review_makers.clip(tmp_path, video, audio=(("aac", "eng"),))
    before = probing.open_video(target)
    session, exporter = review_makers.session(tmp_path)
    name = review_makers.by_name(session, "clip.mp4")
    known = session.describe(name)
    number = known["faces"][0]["number"]
    session.edit(
        name, {"revision": known["revision"], "action": "range", "face": number, "last": 10}
    )
    exporter.run(False)
    assert not exporter.progress()["problems"]
    after = probing.open_video(tmp_path / "results.release" / "clip.mp4")
    assert after.codec == before.codec == (codec or "h264")
    assert len(after.audio) == len(before.audio) == (audio == "copy")


def test_what_was_not_exported_yet_is_known_in_the_next_review(folder):
    session, _ = review_makers.session(folder)
    name = review_makers.by_name(session, "clip.mp4")
    known = session.describe(name)
    number = known["faces"][0]["number"]
    session.edit(
        name, {"revision": known["revision"], "action": "range", "face": number, "last": 10}
    )
    again, exporter = review_makers.session(folder)
    again.recover()
    known = again.describe(name)
    assert known["pending"] and known["faces"][0]["last"] == 10
    undone = again.step(name, -1, {"revision": known["revision"]})
    assert undone["faces"][0]["last"] > 10
    exporter.run(False)
    assert not again.describe(name)["pending"]
