"""Remarks on results: what is written can be read back, moved, taken back, and survives a kill."""

import os
import stat

import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.data import feedback
from dp3_jax.data.feedback import Feedback


def remark(folder, **more):
    known = {"action": "rate", "kind": "photo", "source": str(folder / "a.jpg"), "sha256": "0" * 64}
    return Feedback(**(known | more))


def test_what_was_written_is_read_back_in_its_order(tmp_path):
    path = tmp_path / "state" / "feedback.jsonl"
    first = remark(
        tmp_path,
        verdicts=("eyes", "recognised"),
        box=(1.0, 2.0, 3.5, 4.0),
        key="ab" * 32,
        vector={"yaw": -3.0, "pitch": 2.0},
    )
    second = remark(tmp_path, action="missed", kind="video", frame=7, frames=(3, 9))
    for entry in (first, second):
        feedback.append(path, entry)
    assert feedback.read(path) == [first, second]


def test_paths_hold_when_everything_is_moved_together(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    feedback.append(old / "r.review" / "feedback.jsonl", remark(old))
    old.rename(new)
    (entry,) = feedback.read(new / "r.review" / "feedback.jsonl")
    assert entry.source == str(new / "a.jpg")


def test_only_the_owner_may_read_it_for_it_holds_keys(tmp_path):
    path = tmp_path / "feedback.jsonl"
    feedback.append(path, remark(tmp_path))
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_that_a_kill_cut_off_takes_no_other_with_it(tmp_path):
    path = tmp_path / "feedback.jsonl"
    feedback.append(path, first := remark(tmp_path))
    with path.open("ab") as opened:
        opened.write(path.read_bytes()[:40])
    feedback.append(path, second := remark(tmp_path, verdicts=("mouth",)))
    assert feedback.read(path) == [first, second]


def test_what_was_taken_back_is_not_read_and_can_be_said_again(tmp_path):
    path = tmp_path / "feedback.jsonl"
    feedback.append(path, first := remark(tmp_path))
    feedback.append(path, remark(tmp_path, action="undo", of=first.id))
    assert feedback.read(path) == []
    again = feedback.again(feedback.find(path, first.id))
    feedback.append(path, again)
    assert [entry.id for entry in feedback.read(path)] == [again.id] != [first.id]


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"format": "dp3 manifest 1"}\n')
    with pytest.raises(UserError, match="no feedback"):
        feedback.read(path)


@pytest.mark.parametrize("wrong", [{"action": "praise"}, {"verdicts": ("nose",)}])
def test_words_that_nobody_reads_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"not (one )?of"):
        remark(tmp_path, **wrong)
