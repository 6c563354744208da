"""The exit status and the words of an audit: a leak first, and no promise."""

from collections import Counter

import pytest

from dp3_jax.evaluation.audit import console_table, coverage, page, verdicts
from dp3_jax.evaluation.audit.verdicts import Risk, Seen


def risks(*found):
    return [Risk(f"r{i}", f"Risk {i}", one, "A sentence.") for i, one in enumerate(found)]


@pytest.mark.parametrize(
    ("found", "skipped", "status"),
    [
        ((False, False), 0, 0),
        ((False, False), 1, 1),
        ((False, None), 1, 4),
        ((True, None), 1, 3),
        ((False, True), 0, 3),
    ],
)
def test_a_leak_goes_before_what_was_not_judged_and_that_before_skipped_files(
    found, skipped, status
):
    assert verdicts.status(risks(*found), skipped) == status


@pytest.mark.parametrize("found", [(False,), (None,), (True,)])
def test_nothing_is_ever_called_anonymous(found):
    said = verdicts.summary(risks(*found), 0).lower()
    assert "anonymous" not in said and "safe" not in said


def seen(**states):
    names = {"shown": coverage.SHOWN, "little": coverage.TOO_LITTLE, "kept": coverage.KEPT}
    counts = Counter({names.get(k, coverage.CHANGED): v for k, v in states.items()})
    return Seen(counts, Counter(), 3)


def test_coverage_counts_what_should_have_been_changed():
    shown, little = verdicts.of_coverage(seen(changed=38, shown=2, kept=7))
    assert shown.found and "2 of 40 faces" in shown.sentence and "kept on purpose" in shown.sentence
    assert little.found is False and little.sentence.startswith("None of 40 faces")
    assert [risk.found for risk in verdicts.of_coverage(seen())] == [None, None]
    assert verdicts.of_coverage(seen(kept=3))[0].found is None


def test_spots_that_may_be_no_faces_are_named_but_decide_nothing():
    found = Seen(Counter({coverage.CHANGED: 40}), Counter({coverage.SHOWN: 2}), 3)
    shown, _ = verdicts.of_coverage(found)
    assert shown.found is False and "2 spots that may be no face" in shown.sentence


def report(name):
    """What an audit of one file says, which nothing was recognised in."""
    face = {
        "box": [1.0, 2.0, 30.0, 40.0], "confidence": 0.9, "sure": True, "state": coverage.SHOWN,
        "difference": 0.5, "outside": 0.4, "alike": 1.0, "cosines": {}, "recognised_by": [], "risk": 1.0,
    }  # fmt: skip
    file = {"name": name, "error": "", "states": {coverage.SHOWN: 1}, "faces": [face], "risk": 1.0}
    return {
        "version": "1", "status": 3, "summary": "Do not release this yet.", "recognition": [],
        "risks": [verdicts.as_dict(risk) for risk in risks(True, None)], "attacks": [], "skipped": [],
        "coverage": {"files": 1, "states": {coverage.SHOWN: 1}, "low_confidence": {}},
        "compared": {"faces": 1, "different": 1, "people": 0, "left_out": 0}, "thresholds": "",
        "without_result": [], "without_original": ["b.jpg"], "files": [file],
    }  # fmt: skip


def test_the_page_takes_nothing_from_names_and_from_elsewhere():
    made = page.render(report("<script>alert(1)</script>.jpg"))
    assert "<script" not in made and "&lt;script&gt;" in made
    assert "default-src 'none'" in made
    assert "http://" not in made and "https://" not in made and "src=" not in made
    assert "prefers-color-scheme: dark" in made


def test_the_table_names_the_worst_face_and_what_was_not_judged():
    said = console_table.format_report(report("a.jpg"))
    assert "a.jpg: face at 1,2,30,40: shown" in said and "1 without an original" in said
