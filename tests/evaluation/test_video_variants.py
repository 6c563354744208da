"""The ways to anonymize a clip that are compared, who lends a face, and what is aimed at."""

import dataclasses
import itertools
import types
from fractions import Fraction

import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.detection import tracks
from dp3_jax.detection.tracks import Track, Tracking
from dp3_jax.evaluation import (
    evaluate_video,
    real_people,
    video_report,
    video_targets,
    video_variants,
)
from dp3_jax.media.video import reading
from dp3_jax.models.mesh import Pose
from dp3_jax.pipelines.anonymize import Anonymizer
from tests.face_photos import Broken, Painter
from tests.moving_portrait import FRAMES, SIDE, frame, observation, tracking, written


class Unchecked(Anonymizer):
    """Takes what `Painter` paints for a face."""

    def __init__(self):
        super().__init__(generator=Painter(), face_check=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return written(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def source(clip, tmp_path_factory):
    """The clip's first frames, with its tracks."""
    folder = tmp_path_factory.mktemp("variants")
    written = video_variants.write_source(clip, folder, 4, Fraction(25))
    return video_variants.with_tracks(written, tracking())


def test_the_standard_variants_run_and_hide_the_face(clip, source):
    anonymizer = Unchecked()
    notes = []
    variants = video_variants.standard(source, anonymizer, note=notes.append, keys=2)
    assert notes == []
    assert set(video_variants.NAMES) - {video_variants.REAL_PERSON} <= set(variants)
    assert "no smooth alignment" in variants
    few = video_variants.shortened(tracking(), source.frames)
    found = evaluate_video.evaluate(clip, variants, few, verifiers=(), frames=4)
    rows = found["variants"]
    assert all(rows[name]["coverage"]["shown_faces"] == 0 for name in variants)
    assert len(rows[video_variants.GENERATE]["keys"]) == 2
    found["targets"] = video_targets.targets(found)
    assert found["targets"]["faces shown"] == {"value": 0, "limit": 0, "met": True}
    assert found["targets"]["identity all pairs / source's"]["met"] is None  # without a judge
    assert "Target faces shown: 0.00, limit 0: met" in video_report.format_report(found)


def test_a_seed_decides_on_all_faces_of_all_variants(source):
    def drawn(seed):
        anonymizer = Unchecked()
        made = video_variants.standard(source, anonymizer, keys=2, seed=seed, ablations=False)
        pictures = {}
        for name in (video_variants.GENERATE, video_variants.HEAD):
            for i, pattern in enumerate(made[name]):
                with reading.read_frames(pattern) as frames:
                    pictures[name, i] = np.stack([one.image for one in frames])
        alone = made[video_variants.PER_FRAME][0]
        faces = tracks.by_frame(tracking())
        pictures["alone"] = np.stack([alone(frame(n), faces(n), n == 0) for n in range(2)])
        return pictures

    first, again, other = drawn(3), drawn(3), drawn(None)
    for name, pictures in first.items():
        np.testing.assert_array_equal(pictures, again[name])
        assert (pictures != other[name]).any()
    ours = video_variants.GENERATE
    assert (first[ours, 0] != first[ours, 1]).any()


def test_variants_are_made_of_exactly_the_sources_frames(clip, source):
    with reading.read_frames(clip) as wanted, reading.read_frames(source.pattern) as found:
        for before, after in zip(itertools.islice(wanted, 4), found, strict=True):
            np.testing.assert_array_equal(before.image, after.image)


def test_faces_that_had_to_be_covered_are_noted(source):
    notes = []
    broken = Anonymizer(generator=Broken("raises"))
    video_variants.standard(source, broken, note=notes.append, keys=1, ablations=False)
    assert len(notes) == 3 and "new faces: a face was covered in 4 of 4 frames" in notes[0]


def test_tracks_are_cut_to_the_frames_that_are_compared():
    late = Track(2, tuple(dataclasses.replace(observation(n)) for n in range(6, FRAMES)))
    whole = Tracking(FRAMES, SIDE, SIDE, (2, 7), (*tracking().tracks, late))
    short = video_variants.shortened(whole, 5)
    assert (short.frames, short.cuts) == (5, (2,))
    assert [track.number for track in short.tracks] == [1]
    assert [one.frame for one in short.tracks[0].observations] == [0, 1, 2, 3, 4]


def test_what_does_not_fit_on_the_disk_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"GB are free; compare fewer frames with --frames"):
        video_variants.check_room((1920, 1080), 10**7, tmp_path, keys=6, ablations=True, real=None)


class _Lender:
    """An identity source with a person for each pose; three of them."""

    name, fingerprint = "lender", "0"

    def render(self, key, classes, pose, expression, size, *, mended=True):
        person = (key[0] + int(pose.yaw)) % 3
        return types.SimpleNamespace(person=str(person))


def test_a_real_person_stays_the_same_over_a_track_and_is_lent_once():
    lent = real_people.OnePerson(_Lender())
    keys = [bytes([n]) * 32 for n in range(3)]
    given = [
        {lent.render(key, None, Pose(yaw, 0, 0), None, 128).person for yaw in range(9)}
        for key in keys
    ]
    assert all(len(persons) == 1 for persons in given)
    assert set.union(*given) == {"0", "1", "2"}
    with pytest.raises(ValueError, match="no further person"):
        lent.render(bytes(32 * [9]), None, Pose(0, 0, 0), None, 128)


def test_targets_compare_with_the_source_and_with_real_people():
    def row(known, linked, **motion):
        rate = {"linked": {"value": linked}}
        judged = {"own": {}, "keys": 2, "keys_known": known}
        measures = {name: {"ratio": 1.0} for name in ("warping_error_own", "identity_all_pairs")}
        return {
            **measures,
            "landmark_jitter": {"ratio": 1.5},
            "flicker": {"ratio": None},
            "coverage": {"shown_faces": 0},
            "recognition": {"sface": judged},
            "linked": {"sface": {"best_pair": rate, "mean": rate}},
            "motion": {"yaw": motion or {"value": 0.97, "reason": ""}},
        }

    def met(own, real, none=None):
        rows = {video_variants.GENERATE: own, video_variants.REAL_PERSON: real}
        found = video_targets.targets(
            {"variants": rows | ({video_variants.NONE: none} if none else {})}
        )
        return {name: target["met"] for name, target in found.items()}

    found = met(row(1, 0.5), row(1, 0.4))
    assert found["keys known again by sface"] is True  # as often as a real person
    assert found["two keys linked by sface, mean / two real donors"] is False  # 1.25
    assert found["landmark jitter / source's"] is False and found["flicker / source's"] is None
    assert found["yaw follows the source's"] is True
    found = met(row(2, 0.0), row(1, 0.0))
    assert found["keys known again by sface"] is False
    assert found["two keys linked by sface, mean / two real donors"] is True  # nothing is linked
    assert (
        met(row(0, 0.1), row(0, 0.0))["two keys linked by sface, mean / two real donors"] is False
    )
    still = row(0, 0, value=None, reason="no variance")
    found = met(still, row(0, 0), still)
    assert found["yaw follows the source's"] is False
    assert found["yaw does not, with --motion none"] is True
