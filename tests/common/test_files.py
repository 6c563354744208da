import os
import pathlib
import stat

import pytest

from dp3_jax.common import files
from dp3_jax.common.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_target(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_failed_is_removed_whole(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.atomic_target(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("x")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_the_operating_systems_refusal_is_one_line_naming_the_target(tmp_path):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "below" / "a.txt"
    with pytest.raises(UserError, match=r"cannot write .*below/a\.txt: .*; free space or"):
        files.write_bytes(target, b"x")


def test_a_write_protected_file_stays(tmp_path):
    """Also for who may do anything, as in a container."""
    target = tmp_path / "a"
    target.write_text("mine")
    target.chmod(0o444)
    with pytest.raises(UserError, match="a is write-protected"):
        files.write_bytes(target, b"other")
    assert target.read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_missing_source_inside_the_block_is_not_blamed_on_the_target(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic_target(tmp_path / "out") as temporary:
        temporary.write_bytes(pathlib.Path("/nonexistent/source").read_bytes())


def test_written_bytes_are_there_with_normal_permissions(tmp_path):
    files.write_json(tmp_path / "deep" / "a.json", {"b": [1, 2]})
    path = tmp_path / "deep" / "a.json"
    assert path.read_text() == '{\n  "b": [\n    1,\n    2\n  ]\n}\n'
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
