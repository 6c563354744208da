import dataclasses
import json

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common.errors import UserError
from dp3_jax.detection import tracking, tracks
from dp3_jax.detection.tracks import Observation, Track, Tracking
from dp3_jax.pipelines.video import track_file
from dp3_jax.pipelines.video.detection_pass import treated
from dp3_jax.replacement.face_actions import Settings
from dp3_jax.replacement.identities import Wishes
from dp3_jax.replacement.options import IdentityOptions
from tests.track_makers import HEIGHT, WIDTH, seen, straight

SCHEMA = json.loads(track_file.SCHEMA.read_text())
KEYS = {1: bytes(range(32)), 2: bytes(32)}


def two_people():
    """A clip of 60 frames with a cut at 40; two persons before it, one after."""
    paths = [straight(30, (60, 100), (3, 0)), straight(30, (400, 200), (0, 1))]
    found = seen(paths, missing=lambda person, frame: person == 0 and 10 <= frame < 14)
    found |= {50: seen([straight(1, (300, 100), (0, 0))])[0]}
    cuts = (40,)
    return Tracking(60, WIDTH, HEIGHT, cuts, tracking.link(60, found, cuts, WIDTH, HEIGHT))


def written(path, content=None, **changes):
    """A valid file with changes at its top level; its content."""
    track_file.write(path, two_people(), Settings(method="blur"), KEYS, "abc")
    content = json.loads(path.read_text()) if content is None else content
    path.write_text(json.dumps(content | changes))
    return content


def same(a, b):
    """Whether two trackings are equal to the last bit."""

    def plain(observation):
        points = (
            None
            if observation.keypoints is None
            else (observation.keypoints.dtype, observation.keypoints.tobytes())
        )
        return (
            observation.frame,
            observation.box,
            points,
            observation.confidence,
            observation.source,
        )

    heads = [dataclasses.replace(one, tracks=()) for one in (a, b)]
    bodies = [
        [
            (
                t.number,
                t.keep,
                t.method,
                t.reason,
                t.low_confidence,
                [plain(s) for s in t.observations],
            )
            for t in one.tracks
        ]
        for one in (a, b)
    ]
    return heads[0] == heads[1] and bodies[0] == bodies[1]


def test_what_was_written_is_read_back_and_follows_the_schema(tmp_path):
    path = tmp_path / "clip.tracks.json"
    made = two_people()
    track_file.write(path, made, Settings(method="blur"), KEYS, "abc")
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    back = track_file.read(path)
    assert same(back.tracking, made)
    assert (back.keys, back.settings, back.generator) == (KEYS, Settings(method="blur"), "abc")
    assert {s.source for t in made.tracks for s in t.observations} == {"detected", "filled"}


numbers = st.floats(-1e6, 1e6)
sizes = st.floats(1e-3, 1e6)
singles = st.floats(-1e6, 1e6, width=32)


@given(
    st.lists(st.tuples(numbers, numbers, sizes, sizes), min_size=1, max_size=4),
    st.lists(singles, min_size=10, max_size=10) | st.none(),
    st.floats(0, 1),
    st.tuples(st.sampled_from(["detected", "unsure", "filled", "user"]), st.text(max_size=20)),
)
def test_every_float_and_text_comes_back_exactly(
    tmp_path_factory, boxes, points, confidence, labels
):
    source, reason = labels
    path = tmp_path_factory.mktemp("exact") / "a.tracks.json"
    points = None if points is None else np.array(points, np.float32).reshape(5, 2)
    observations = [Observation(i + 3, b, points, confidence, source) for i, b in enumerate(boxes)]
    made = Tracking(9, 100, 50, (2,), (Track(4, tuple(observations), False, "solid", reason),))
    track_file.write(path, made, Settings(), {}, None)
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    assert same(track_file.read(path).tracking, made)


def test_a_track_is_kept_or_changed_by_a_word_in_it(tmp_path):
    content = written(tmp_path / "a.json")
    content["tracks"][0]["keep"] = True
    content["tracks"][1]["method"] = "solid"
    written(tmp_path / "a.json", content)
    first, second, third = track_file.read(tmp_path / "a.json").tracking.tracks
    assert (first.keep, first.reason) == (True, "by the tracks file")
    assert (second.keep, second.method, third.keep, third.method) == (False, "solid", False, None)


def rendered(path, **entry):
    """The first track of a file, as it is rendered where faces are pixelated."""
    content = written(path)
    content["tracks"][0] |= {"method": "blur", "reason": "not surely a face", **entry}
    written(path, content)
    back = track_file.read(path).tracking
    return treated(back, Settings(method="pixelate")).tracks[0]


def test_doubts_that_a_track_is_a_face_come_back_and_end_where_the_user_decides(tmp_path):
    path = tmp_path / "a.json"
    seen = two_people().tracks[0].observations
    track = Track(1, seen, False, "blur", "any words", low_confidence=True)
    made = Tracking(60, WIDTH, HEIGHT, (), (track,))
    track_file.write(path, made, Settings(), {}, None)
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    assert same(track_file.read(path).tracking, made)
    assert rendered(path, reason="any words", low_confidence=True).method is None
    assert rendered(path).method is None  # as files were written before
    assert rendered(path, low_confidence=False).method == "blur"
    assert rendered(path, method="solid", low_confidence=True).method == "solid"
    assert not tracks.change_method(made, 1, "blur").tracks[0].low_confidence


def test_all_edits_can_be_written_by_hand(tmp_path):
    path = tmp_path / "a.json"
    edits = [
        {"do": "split", "track": 1, "frame": 20},
        {"do": "box", "box": [10, 20, 30, 40], "first": 35, "last": 44, "method": "solid"},
        {"do": "keep", "track": 2},
        {"do": "method", "track": 3, "method": "pixelate"},
        {"do": "merge", "tracks": [1, 4]},
    ]
    written(path, edits=edits)
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    result = track_file.read(path)
    by_number = {track.number: track for track in result.tracking.tracks}
    before = two_people()
    assert sorted(by_number) == [1, 2, 3, 5, 6]  # 4 was split off and merged again
    assert [s.frame for s in by_number[1].observations] == [
        s.frame for s in before.tracks[0].observations
    ]
    assert by_number[2].keep and by_number[3].method == "pixelate"
    # The box goes across the cut at 40, so it became two tracks.
    assert [(by_number[n].first, by_number[n].last) for n in (5, 6)] == [(35, 39), (40, 44)]
    assert by_number[5].observations[0].box == (10, 20, 30, 40)
    assert by_number[5].observations[0].source == "user" and by_number[6].method == "solid"
    assert result.keys == KEYS  # the new tracks have none yet


def test_what_was_edited_is_written_without_its_edits(tmp_path):
    path = tmp_path / "a.json"
    written(path, edits=[{"do": "split", "track": 1, "frame": 20}, {"do": "keep", "track": 4}])
    once = track_file.read(path)
    track_file.write(path, once.tracking, once.settings, once.keys, once.generator)
    assert json.loads(path.read_text())["edits"] == []
    assert same(track_file.read(path).tracking, once.tracking)


def change(content, path, value):
    *way, last = path
    for step in way:
        content = content[step]
    content[last] = value


@pytest.mark.parametrize(
    ("way", "value", "said"),
    [
        (["format"], "dp3 faces 1", "its format is 'dp3 faces 1'"),
        (["trcks"], [], "'trcks'"),
        (["video", "frames"], 50, "track 3 begins at 40 and has 20 frames"),
        (["video", "width"], 0, "video: width"),
        (["cuts"], [40, 10], "cuts"),
        (["cuts"], [12], "track 1 goes across the cut at frame [12]"),
        (["settings", "method"], "smear", "smear"),
        (["tracks", 1, "number"], 1, "two tracks are numbered 1"),
        (["tracks", 0, "number"], "x", "entry 0 of tracks"),
        (["tracks", 1, "keep"], "yes", "track 2: keep"),
        (["tracks", 1, "kep"], True, "entry 1 of tracks has ['kep']"),
        (["tracks", 0, "method"], "smear", "track 1: method"),
        (["tracks", 0, "key"], "12", "track 1: key"),
        (["tracks", 0, "sources", 0, 1], 1, "track 1: boxes has"),
        (["tracks", 0, "sources", 0, 0], "seen", "track 1: sources"),
        (["tracks", 0, "boxes", 2], [1, 2, 3], "track 1, frame 2: a box is"),
        (["tracks", 0, "boxes", 2], [1, 2, 3, -1], "track 1, frame 2: a box is"),
        (["tracks", 0, "boxes", 2, 0], float("nan"), "track 1, frame 2: a box is"),
        (["tracks", 0, "points", 3], [[1, 2]], "track 1, frame 3: points"),
        (["tracks", 0, "confidence", 1], 2, "track 1, frame 1: confidence"),
        (["edits"], [{"do": "paint"}], "entry 0 of edits: do is one of"),
        (["edits"], [{"do": "keep", "track": 77}], "entry 0 of edits: there is no track 77"),
        (["edits"], [{"do": "split", "track": 1, "frame": 0}], "entry 0 of edits: track 1 cannot"),
        (["edits"], [{"do": "merge", "tracks": [1, 2]}], "both were seen in frame 0"),
        (["edits"], [{"do": "merge", "tracks": [1, 3]}], "a cut lies between"),
        (["edits"], [{"do": "merge", "tracks": [1, 1]}], "the same track"),
        (["edits"], [{"do": "merge", "tracks": [1]}], "entry 0 of edits: tracks"),
        (["edits"], [{"do": "box", "box": [1, 2, 3], "first": 0, "last": 2}], "edits: a box is"),
        (["edits"], [{"do": "box", "box": [1, 2, 3, 4], "first": 5, "last": 60}], "frames 5 to 60"),
        (["edits"], [{"do": "box", "box": [1, 2, 3, 4], "first": 5}], "edits: last is"),
        (["edits"], [{"do": "method", "track": 1, "method": "smear"}], "entry 0 of edits: method"),
    ],
)
def test_a_mistake_is_answered_in_one_line_that_names_the_place(tmp_path, way, value, said):
    path = tmp_path / "clip.tracks.json"
    content = written(path)
    change(content, way, value)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as raised:
        track_file.read(path)
    message = str(raised.value)
    assert said in message and str(path) in message and "\n" not in message


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "dp3 tracks 1"}'])
def test_something_else_is_not_a_tracks_file(tmp_path, text):
    path = tmp_path / "clip.tracks.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"clip\.tracks\.json"):
        track_file.read(path)
    with pytest.raises(UserError, match="check the path"):
        track_file.read(tmp_path / "nothing.json")


def test_an_hour_of_one_face_takes_a_few_megabytes(tmp_path):
    path = tmp_path / "hour.tracks.json"
    rng = np.random.default_rng(0)
    count = 30 * 60 * 6  # six minutes; all grows in proportion
    boxes = np.round(rng.uniform(100, 900, (count, 4)), 2)
    points = np.round(rng.uniform(100, 900, (count, 5, 2)), 2).astype(np.float32)
    one = tuple(
        Observation(i, tuple(boxes[i].tolist()), points[i], 0.9123, "detected")
        for i in range(count)
    )
    made = Tracking(count, 1280, 720, (), (Track(1, one),))
    track_file.write(path, made, Settings(), {1: bytes(32)}, None)
    assert path.stat().st_size < 1.5e6
    assert same(track_file.read(path).tracking, made)


@pytest.mark.parametrize("wishes", [Wishes(), Wishes(female=True, age=30.0, smile=True)])
def test_who_the_new_faces_are_is_written_and_read_back(tmp_path, wishes):
    path = tmp_path / "a.tracks.json"
    identity = IdentityOptions(source="prior", wishes=wishes)
    track_file.write(path, two_people(), Settings(), KEYS, "abc", identity=identity)
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    assert track_file.read(path).identity == identity


def test_an_identity_that_is_none_is_named(tmp_path):
    path = tmp_path / "a.tracks.json"
    written(path, identity={"source": "cloud"})
    with pytest.raises(UserError, match="cloud"):
        track_file.read(path)
