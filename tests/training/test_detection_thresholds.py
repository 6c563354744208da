import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.data.feedback import Feedback
from dp3_jax.detection.detections import Detection, overlap
from dp3_jax.training.detection_thresholds import (
    HIGHEST,
    LOWEST,
    Example,
    choose,
    examples,
    rates,
    report,
)

known = st.lists(
    st.builds(Example, st.booleans(), st.floats(0, 1), st.sampled_from("abcdef")), max_size=30
)


def test_missed_faces_lower_and_other_things_raise_the_threshold():
    faces = [Example(True, 0.42, "a"), Example(True, 0.8, "b")]
    dogs = [Example(False, 0.6, name) for name in "abcdefgh"]
    assert choose(faces, 0.5) <= 0.42
    assert 0.6 < choose(dogs, 0.5) <= HIGHEST
    # A face that would be shown counts as much as four things that would be covered.
    assert choose([*faces, *dogs[:3]], 0.5) <= 0.42
    assert choose([*faces, *dogs], 0.5) > 0.6


@given(known, st.floats(LOWEST, HIGHEST))
def test_the_chosen_threshold_never_costs_more_than_the_usual_one(examples, usual):
    def cost(threshold):
        return sum(
            4 * (e.confidence < threshold) if e.is_face else e.confidence >= threshold
            for e in examples
        )

    assert LOWEST <= choose(examples, usual) <= HIGHEST
    assert cost(choose(examples, usual)) <= cost(usual)


def test_what_was_said_is_matched_to_what_is_detected():
    found = [Detection((0, 0, 10, 10), None, 0.4), Detection((50, 50, 20, 20), None, 0.7)]
    usual = 0.3
    said = [
        Feedback(action="missed", kind="photo", source="a", sha256="1", box=(1, 1, 10, 10)),
        Feedback(action="missed", kind="photo", source="a", sha256="1", box=(200, 1, 10, 10)),
        Feedback(action="not_a_face", kind="photo", source="a", sha256="1", box=(50, 50, 20, 22)),
        Feedback(action="keep", kind="photo", source="a", sha256="1", box=(50, 50, 20, 22)),
    ]
    assert examples(said, found, usual) == [
        Example(True, 0.4, "1"), Example(True, 0.0, "1"), Example(False, 0.7, "1"),
    ]  # fmt: skip


def test_what_nobody_drew_in_a_corrected_photo_is_no_face():
    found = [
        Detection((0, 0, 10, 10), None, 0.45),  # drawn as missed
        Detection((50, 50, 20, 20), None, 0.7),  # shown, and nothing said of it
        Detection((52, 51, 20, 20), None, 0.35),  # the same thing again
        Detection((90, 90, 20, 20), None, 0.32),
    ]
    a = {"kind": "photo", "source": "a", "sha256": "1"}
    missed = Feedback(action="missed", box=(0, 0, 10, 10), **a)
    unshown = Example(False, 0.32, "1")
    assert examples([missed], found, 0.5) == [Example(True, 0.45, "1"), unshown]
    # Of a photo of which faces were only rated, and of one frame of a clip, that cannot be said.
    rate = Feedback(action="rate", box=(50, 50, 20, 20), **a)
    assert examples([rate], found, 0.5) == [Example(True, 0.7, "1")]
    clip = Feedback(action="missed", box=(0, 0, 10, 10), **{**a, "kind": "video"}, frame=3)
    assert examples([clip], found, 0.5) == [Example(True, 0.45, "1")]


def test_the_report_is_of_originals_that_did_not_teach():
    rows = [Example(True, 0.4, str(i)) for i in range(20)]
    rows += [Example(False, 0.2, str(i)) for i in range(20)]
    told = report(rows, 0.5)
    assert told["threshold"] == pytest.approx(0.4)
    assert (told["before"]["recall"], told["after"]["recall"]) == (0.0, 1.0)
    assert told["before"]["faces"] == 10
    assert rates([], 0.5)["recall"] is None


def test_overlap_is_that_of_rectangles():
    assert overlap((0, 0, 2, 2), (1, 1, 2, 2)) == pytest.approx(1 / 7)
    assert overlap((0, 0, 2, 2), (5, 5, 2, 2)) == overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0
