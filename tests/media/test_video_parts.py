"""Small parts of a video job: spans, the work folder, boxes from files, the background thread."""

import json
import math
import os
import stat
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common import stages
from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.pipelines.video import boxes, detection_pass, time_ranges
from dp3_jax.pipelines.video.work_folder import work_folder

times = st.floats(0, 1e5)


def test_spans_are_read_in_every_form():
    read = time_ranges.parse_time_ranges("5-9.5, 0:30-1:02:03.25,7200-")
    assert read == (
        time_ranges.TimeRange(5, 9.5),
        time_ranges.TimeRange(30, 3723.25),
        time_ranges.TimeRange(7200, math.inf),
    )
    assert time_ranges.parse_time_ranges("-4") == (time_ranges.TimeRange(0, 4),)


@given(times, times, times)
def test_a_moment_is_hidden_from_the_start_of_a_span_up_to_its_end(a, b, moment):
    start, end = min(a, b), max(a, b)
    if start < end:
        assert time_ranges.masked_at((time_ranges.TimeRange(start, end),), moment) == (
            start <= moment < end
        )


def test_without_spans_faces_are_hidden_always():
    assert time_ranges.masked_at((), 0.0) and time_ranges.masked_at((), 1e9)


@pytest.mark.parametrize("text", ["5", "9-5", "a-b", "1:75-", "", "5-5", "1-2,", "1--2"])
def test_a_text_that_is_no_span_is_answered_in_one_line(text):
    with pytest.raises(UserError, match=r"^--spans .*(range|ends)"):
        time_ranges.parse_time_ranges(text)


def test_a_job_goes_on_where_it_was_killed_and_leaves_nothing_when_done(tmp_path):
    target, job = tmp_path / "out.mp4", {"source": "a", "seed": 1}
    with pytest.raises(KeyboardInterrupt), work_folder(target, job) as folder:
        assert not folder.resumed
        master_key = folder.master_key()
        folder.append("journal", {"frame": 1})
        (folder.path / "journal").open("a").write('{"frame": 2, "fa')  # the kill came here
        raise KeyboardInterrupt
    assert not target.exists()
    with work_folder(target, job) as folder:
        assert folder.resumed and folder.master_key() == master_key
        assert list(folder.entries("journal")) == [{"frame": 1}]
        folder.append("journal", {"frame": 2})
        assert list(folder.entries("journal")) == [{"frame": 1}, {"frame": 2}]
        assert stat.S_IMODE(os.stat(folder.path / "secret").st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_another_job_does_not_go_on_with_what_this_one_left(tmp_path):
    target = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt), work_folder(target, {"method": "blur"}) as folder:
        folder.append("journal", {"frame": 1})
        raise KeyboardInterrupt
    with work_folder(target, {"method": "solid"}) as folder:
        assert not folder.resumed and list(folder.entries("journal")) == []


def test_two_processes_do_not_work_on_one_target(tmp_path):
    target = tmp_path / "out.mp4"
    with (
        work_folder(target, {}),
        pytest.raises(UserError, match="another process is at work"),
        work_folder(target, {}),
    ):
        pass


def test_boxes_of_frames_and_over_spans(tmp_path):
    by_frame, over, listed = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.json"
    by_frame.write_text("frame,x,y,w,h\n0,1,2,3,4\n0,9,9,3,4\n2,1,2,3,5\n")
    over.write_text("first,last,x,y,width,height\n1,3,1,2,3,4\n")
    listed.write_text(
        json.dumps([{"frames": [1, 2], "box": [1, 2, 3, 4]}, {"frame": 0, "box": [5, 5, 5, 5]}])
    )
    found = boxes.read(by_frame, 3)
    assert {n: [f.box for f in faces] for n, faces in found.items()} == {
        0: [(1, 2, 3, 4), (9, 9, 3, 4)],
        2: [(1, 2, 3, 5)],
    }
    assert sorted(boxes.read(over, 4)) == [1, 2, 3]
    assert {n: f[0].box for n, f in boxes.read(listed, 3).items()}[2] == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "x,y,w,h\n1,2,3,4\n", "line 2: it must name a frame"),
        ("a.csv", "frame,x,y,w,h\n7,1,2,3,4\n", "names frame 7; the video's last one is 4"),
        ("a.csv", "first,last,x,y,w,h\n3,2,1,2,3,4\n", "line 2: it must name a frame"),
        ("a.csv", "frame,x,y,w,h\n1,1,2,0,4\n", "line 2: a box is"),
        ("a.json", "{}", "expected a list"),
        ("a.json", '[{"box": [1, 2, 3, 4]}]', "entry 0: it must name a frame"),
        ("a.json", '[{"frames": 3, "box": [1, 2, 3, 4]}]', r"entry 0: frames is \[first, last\]"),
    ],
)
def test_wrong_boxes_are_named_with_their_place(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=says):
        boxes.read(tmp_path / name, 5)


def test_the_background_keeps_the_order_and_hands_over_everything():
    seen = []
    with stages.Background(seen.append, 3) as work:
        for i in range(100):
            work.put(i)
    assert seen == list(range(100))


def test_an_exception_in_the_background_reaches_the_caller():
    def fail(item):
        if item == 3:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), stages.Background(fail, 1) as work:
        for i in range(100):
            work.put(i)


def test_after_an_exception_of_the_caller_the_background_is_not_waited_for():
    seen = []
    with pytest.raises(KeyError), stages.Background(seen.append, 50) as work:
        raise KeyError
    assert not work._thread.is_alive()


def seen_in(frames, box, confidence):
    return {n: [Detection(box, None, confidence)] for n in frames}


def joined(*parts):
    return [
        detection_pass.FrameDetections(
            n, n, False, tuple(f for part in parts for f in part.get(n, ()))
        )
        for n in range(30)
    ]


def test_a_doubtful_box_on_a_clear_face_is_no_second_face_but_one_beside_it_is_blurred():
    clear = seen_in(range(30), (100, 50, 60, 80), 0.9)
    on_it, beside = seen_in([7, 8], (90, 40, 90, 120), 0.5), seen_in([7, 8], (300, 50, 60, 80), 0.5)
    info = types.SimpleNamespace(canvas_size=(640, 360), rate=25)
    (only,) = detection_pass.link(info, joined(clear, on_it)).tracks
    assert only.method is None and len(only.observations) == 30
    tracks = detection_pass.link(info, joined(clear, beside)).tracks
    assert sorted(str(track.method) for track in tracks) == ["None", "blur"]
    # Alone it is nobody else's face.
    (alone,) = detection_pass.link(info, joined(on_it)).tracks
    assert alone.method == "blur" and {7, 8} <= {s.frame for s in alone.observations}


@pytest.mark.parametrize(
    ("confidences", "method"),
    [
        ([0.9] + [0.5] * 29, None),
        ([0.79] * 30, "blur"),  # a crest of arms
        ([0.82] + [0.5] * 29, "blur"),  # a face in somebody's hair
        ([0.82] * 20 + [0.5] * 10, None),
    ],
)
def test_only_what_is_surely_a_face_gets_a_new_one(confidences, method):
    info = types.SimpleNamespace(canvas_size=(640, 360), rate=25)
    box = (100, 50, 60, 80)
    found = [
        detection_pass.FrameDetections(n, n, False, (Detection(box, None, c),))
        for n, c in enumerate(confidences)
    ]
    (track,) = detection_pass.link(info, found).tracks
    assert track.method == method


@pytest.mark.parametrize("known", [False, True])
def test_a_large_face_that_the_mesh_never_knows_gets_no_new_one(known):
    info = types.SimpleNamespace(canvas_size=(640, 360), rate=25)
    one, other = Detection((100, 50, 90, 99), None, 0.9), Detection((400, 50, 90, 99), None, 0.9)
    told = FaceVector(1.0, 2.0, 0.1, 0.9)
    found = [
        detection_pass.FrameDetections(
            n, n, False, (one, other), vectors=(told, told if known else None)
        )
        for n in range(30)
    ]
    first, second = sorted(
        detection_pass.link(info, found).tracks, key=lambda track: track.observations[0].box
    )
    assert first.method is None
    assert second.method == (None if known else "blur")
