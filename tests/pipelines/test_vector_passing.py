"""Measured vectors on their way: first pass, journal, tracks file, live; never where nobody was seen."""

import dataclasses
import json
import pathlib

import jsonschema
import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.tracks import Observation, Track, Tracking
from dp3_jax.media.video import reading
from dp3_jax.pipelines.live.quality_controller import LEVELS
from dp3_jax.pipelines.video import detection_pass, track_file, work_folder
from dp3_jax.replacement.face_actions import Settings
from tests import live_scenes
from tests.live_scenes import Walk
from tests.pipelines.test_live import make_policy
from tests.video_scenes import Finder, paths, scene

FRAMES = 20


def told(number, face):
    """A vector that says what it was measured of."""
    return FaceVector(number + 0.1234, round(float(face.box[0]), 2), 0.1 + number / 1000)


def meter(number, image, faces, every=1):
    """In place of the networks; every fifth frame is not looked at."""
    return tuple(None if number % 5 == 4 else told(number, face) for face in faces)


@pytest.fixture
def clip(tmp_path):
    return reading.open_video(scene(tmp_path / "a.mkv", paths(FRAMES, ((10, 20), (2, 0)))))


def first(clip, folder, **more):
    folder.mkdir(exist_ok=True)
    work = work_folder.WorkFolder(folder, resumed=False)
    return detection_pass.detect(
        clip, Finder(missed=frozenset({6, 7})), None, work, more.pop("progress", int), **more
    )


def test_each_detection_has_its_vector_and_what_is_filled_has_none(clip, tmp_path):
    found = first(clip, tmp_path, meter=meter)
    (track,) = detection_pass.link(clip, found).tracks
    for observation in track.observations:
        if observation.source == "filled" or observation.frame % 5 == 4:
            assert observation.vector is None
        else:
            face = found[observation.frame].faces[0]
            assert observation.vector == told(observation.frame, face)
    assert {s.frame for s in track.observations if s.source == "filled"} >= {6, 7}
    assert all(
        s.vector is None
        for s in detection_pass.link(clip, first(clip, tmp_path / "b")).tracks[0].observations
    )


class Killed(Exception):
    """In place of the signal."""


@pytest.mark.parametrize("at", [3, 9, 17])
def test_a_killed_first_pass_goes_on_with_the_same_vectors(clip, tmp_path, at):
    whole, left = (tmp_path / name for name in "ab")
    done = 0

    def killed(count):
        nonlocal done
        done += count
        if done == at:
            raise Killed

    with pytest.raises(Killed):
        first(clip, left, meter=meter, progress=killed)
    again, once = first(clip, left, meter=meter), first(clip, whole, meter=meter)
    assert [one.vectors for one in again] == [one.vectors for one in once]
    assert any(one.vectors for one in once)
    assert (left / detection_pass.JOURNAL).read_bytes() == (
        whole / detection_pass.JOURNAL
    ).read_bytes()


def test_given_boxes_are_measured_too(clip):
    box = Detection((10.0, 20.0, 32.0, 40.0), None, 1.0, "user")
    found = detection_pass.given(clip, FRAMES, {2: [box], 3: [box]}, None, meter)
    assert [one.vectors for one in found[1:5]] == [(), (told(2, box),), (told(3, box),), ()]
    (track,) = detection_pass.link(clip, found).tracks
    assert {s.frame for s in track.observations if s.vector is not None} == {2, 3}


VECTORS = (
    None,
    FaceVector(0.1, -59.9999),
    FaceVector(3.0, 1e-4, 0.1, 0.9, 0.4, 0.41, -0.05, 0.3333),
)


def tracking(vectors):
    seen = (
        Observation(i, (1.0, 2.0, 3.0, 4.0), None, 0.9, vector=v) for i, v in enumerate(vectors)
    )
    return Tracking(9, 100, 50, (), (Track(1, tuple(seen)),))


def test_vectors_come_back_from_a_tracks_file(tmp_path):
    schema = json.loads(track_file.SCHEMA.read_text())
    path = tmp_path / "a.tracks.json"
    for vectors in (VECTORS, (None, None)):
        track_file.write(path, tracking(vectors), Settings(), {}, None)
        content = json.loads(path.read_text())
        jsonschema.validate(content, schema)
        assert ("vectors" in content["tracks"][0]) == any(vectors)
        (track,) = track_file.read(path).tracking.tracks
        assert tuple(one.vector for one in track.observations) == vectors


@pytest.mark.parametrize("wrong", [[1.0] * 7, [None] * 8, ["1"] * 8, 5, {"yaw": 1}])
def test_a_wrong_vector_is_named(tmp_path, wrong):
    path = pathlib.Path(tmp_path) / "a.tracks.json"
    track_file.write(path, tracking(VECTORS), Settings(), {}, None)
    content = json.loads(path.read_text())
    content["tracks"][0]["vectors"][1] = wrong
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="track 1, frame 1: vector"):
        track_file.read(path)


@pytest.mark.parametrize("fails", [False, True])
def test_live_each_frame_has_the_vectors_of_its_own_faces(fails):
    asked = []

    def live(number, image, faces, every):
        asked.append(every)
        if fails:
            raise RuntimeError("network lost")
        return tuple(FaceVector(float(face.box[0]), 0.0) for face in faces)

    finder = live_scenes.Finder(misses={6})
    policy = make_policy(finder, delay=2, meter=live)
    released = []
    for frame in live_scenes.frames([([Walk(0, 11, 60, 80, 4), Walk(3, 11, 170, 80, 0)], 12)]):
        released += policy.take(frame, dataclasses.replace(LEVELS[0], every=1))
    released += policy.finish()
    assert len(released) == 12 and set(asked) == {1}
    for tracked in released:
        for _, observation in tracked.observations():
            seen = observation.source != "filled" and not fails
            expected = FaceVector(float(observation.box[0]), 0.0) if seen else None
            assert observation.vector == expected or observation.vector.yaw == pytest.approx(
                expected.yaw, abs=0.01
            )
    kinds = {s.source for tracked in released for _, s in tracked.observations()}
    assert "filled" in kinds and len(kinds) > 1


def test_the_meter_waits_rather_than_holding_all_frames():
    """The pictures of a slow meter's frames are let go before more are taken."""
    import threading

    from dp3_jax.detection import vector_meter

    free, held = threading.Event(), []

    def slow(number, image, faces, every=1):
        free.wait()
        held.append(number)
        return (None,)

    face = Detection((0.0, 0.0, 10.0, 10.0), None, 0.9)
    with vector_meter.BesideMeter(slow) as beside:
        image = np.zeros((2, 2, 3), np.uint8)
        assert beside.submit(0, image, []) is None
        futures = [beside.submit(n, image, [face]) for n in range(vector_meter.AHEAD)]
        more = threading.Thread(target=beside.submit, args=(99, image, [face]))
        more.start()
        more.join(0.05)
        assert more.is_alive() and not held
        free.set()
        more.join()
        assert [future.result() for future in futures] == [(None,)] * len(futures)
