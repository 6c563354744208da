"""Many photos: workers, the manifest by which a killed run goes on, and the summary of what was skipped."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from dp3_jax.cli.main import main
from dp3_jax.pipelines import outputs, reports, workers
from dp3_jax.pipelines.batch import Options
from dp3_jax.pipelines.manifest import FORMAT, Manifest, print_of
from tests.face_photos import astronaut

BOX = [50, 30, 40, 50]


def photos(folder, count):
    folder.mkdir(exist_ok=True)
    for number in range(count):
        picture = Image.fromarray(np.roll(astronaut(), number, 1)).resize((160, 120))
        picture.save(folder / f"{number:03}.png")
    boxes = {f"{number:03}.png": [BOX] for number in range(count)}
    (folder.parent / "boxes.json").write_text(json.dumps(boxes))
    return folder


def run(folder, *arguments):
    boxes = folder.parent / "boxes.json"
    command = ["anonymize", folder, "--boxes", boxes, "--method", "pixelate", *arguments]
    return main(list(map(str, command)))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# The manifest.


def test_what_is_done_is_not_done_again(tmp_path, capsys):
    folder = photos(tmp_path / "in", 4)
    assert run(folder, "-o", tmp_path / "out") == 0
    manifest = tmp_path / "out.manifest.jsonl"
    entries = lines(manifest)
    assert [entry["faces"] for entry in entries] == [1] * 4
    assert all(entry["format"] == FORMAT and entry["done"] == {"pixelated": 1} for entry in entries)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "001.png").unlink()  # a result that is gone,
    Image.fromarray(astronaut()[:120, :160]).save(folder / "002.png")  # another source,
    Image.new("RGB", (9, 9)).save(tmp_path / "out" / "003.png")  # another result
    capsys.readouterr()
    assert run(folder, "-o", tmp_path / "out") == 0
    assert "3 photos" in (said := capsys.readouterr().out) and "1 file done before" in said
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert sum(before[p] == after[p] for p in before) == 1
    assert len(lines(manifest)) == 7
    assert run(folder, "-o", tmp_path / "out", "--redo") == 0
    assert len(lines(manifest)) == 11


def test_other_settings_and_other_boxes_do_it_again(tmp_path, capsys):
    folder = photos(tmp_path / "in", 3)
    assert run(folder, "-o", tmp_path / "out") == 0
    assert run(folder, "-o", tmp_path / "out", "--cover", "head") == 0
    assert "before" not in capsys.readouterr().out
    boxes = json.loads((tmp_path / "boxes.json").read_text())
    boxes["001.png"] = []  # of one photo
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    assert run(folder, "-o", tmp_path / "out", "--cover", "head", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [pathlib.Path(file["input"]).name for file in report["files"]] == ["001.png"]
    assert report["summary"]["done_before"] == 2
    assert run(folder, "-o", tmp_path / "out", "--cover", "head", "--sidecar", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["files"]) == 3


def test_in_place_a_photo_is_anonymized_once(tmp_path):
    folder = photos(tmp_path / "in", 2)
    assert run(folder, "--in-place") == 0
    first = contents(folder)
    assert run(folder, "--in-place") == 0
    assert contents(folder) == first
    Image.fromarray(astronaut()).resize((160, 120)).save(folder / "001.png")
    assert run(folder, "--in-place") == 0
    assert contents(folder)["000.png"] == first["000.png"]


def test_skipped_photos_are_tried_again_and_summed_up_by_reason(tmp_path, capsys):
    folder = photos(tmp_path / "in", 4)
    whole = (folder / "001.png").read_bytes()
    for name in ("001.png", "002.png", "003.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[: 300 + len(name)])
    (folder / "003.png").write_bytes(b"no picture")
    assert run(folder, "-o", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "skipped 3 of 4 files:" in said and "  2: cannot read FILE" in said
    (folder / "001.png").write_bytes(whole)
    assert run(folder, "-o", tmp_path / "out", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["summary"]["done_before"] == 1 and report["summary"]["photos"] == 1


def test_moved_together_everything_is_still_known(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    folder = photos(tmp_path / "a" / "in", 2)
    assert run(folder, "-o", tmp_path / "a" / "out") == 0
    (tmp_path / "a").rename(tmp_path / "b")
    assert run(tmp_path / "b" / "in", "-o", tmp_path / "b" / "out", "--json") == 0
    # The boxes are another argument, but the same content.
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1])["summary"]["done_before"] == 2


def test_a_manifest_with_a_torn_line_goes_on(tmp_path):
    path, source, target = (tmp_path / name for name in ("m.jsonl", "a.png", "b.png"))
    source.write_bytes(b"a")
    target.write_bytes(b"b")
    entry = {"input": vars(print_of(source)), "output": vars(print_of(target)), "error": ""}
    first = Manifest(path)
    first.add(source, target, "x", entry)
    first.close()
    with path.open("a") as opened:
        opened.write('{"format": "dp3 ma')
    again = Manifest(path)
    assert again.done(source, target, "x") and not again.done(source, target, "y")
    again.add(source, tmp_path / "c.png", "x", entry)
    again.close()
    assert Manifest(path).done(source, target, "x")
    target.write_bytes(b"c" * 9)
    assert not Manifest(path).done(source, target, "x")


def test_a_file_that_is_no_manifest_is_not_touched(tmp_path, capsys):
    folder = photos(tmp_path / "in", 2)
    (tmp_path / "mine.txt").write_text("my notes")
    arguments = ["-o", tmp_path / "out", "--manifest", tmp_path / "mine.txt"]
    assert run(folder, *arguments) == 2
    assert "is no manifest" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "my notes"
    assert not (tmp_path / "out").exists()


def command(folder, *arguments):
    call = [sys.executable, "-m", "dp3_jax.cli", "anonymize", folder, "--method", "pixelate"]
    call += ["--boxes", folder.parent / "boxes.json", *arguments]
    return subprocess.Popen(
        list(map(str, call)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("more", [[], ["--workers", "2"]])
def test_a_killed_run_goes_on_where_it_was(tmp_path, more):
    folder = photos(tmp_path / "in", 60)
    process = command(folder, "-o", tmp_path / "out", *more)
    manifest = tmp_path / "out.manifest.jsonl"
    while process.poll() is None and (not manifest.exists() or len(manifest.read_bytes()) < 2000):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    whole = manifest.read_text().rpartition("\n")[0]  # the last line may be torn
    known = {json.loads(line)["target"] for line in whole.splitlines()}
    assert 0 < len(known) <= 60
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in known}
    leftover = tmp_path / "out" / f".030.png.{process.pid}.tmp"
    leftover.write_bytes(b"half")
    again = command(folder, "-o", tmp_path / "out", "--json", *more)
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert json.loads(out)["summary"]["done_before"] == len(known)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in known} == before
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == [f"{number:03}.png" for number in range(60)]


# Workers.


def test_workers_give_the_same_files_in_the_same_order(tmp_path, capsys):
    folder = photos(tmp_path / "in", 7)
    (folder / "003.png").write_bytes(b"no picture")
    assert run(folder, "-o", tmp_path / "one", "--json") == 1
    alone = json.loads(capsys.readouterr().out)
    assert run(folder, "-o", tmp_path / "two", "--workers", 2, "--json") == 1
    shared = json.loads(capsys.readouterr().out)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert [f["input"] for f in alone["files"]] == [f["input"] for f in shared["files"]]
    assert alone["summary"]["skipped"] == shared["summary"]["skipped"] == 1


@pytest.mark.parametrize(
    "arguments", [["--workers", 0], ["--workers", 65], ["--min-confidence", 7]]
)
def test_a_mistake_is_said_before_the_first_photo(tmp_path, arguments, capsys):
    folder = photos(tmp_path / "in", 2)
    call = ["anonymize", folder, "-o", tmp_path / "out", "--workers", 2, *arguments]
    assert main(list(map(str, call))) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_a_worker_that_dies_takes_one_photo_with_it(tmp_path):
    folder = photos(tmp_path / "in", 5)
    tasks, _ = outputs.tasks_of([str(folder)], str(tmp_path / "out"))
    options = Options(boxes=str(tmp_path / "boxes.json"))
    with workers.Workers(1, {"method": "solid"}, options) as team:
        done = team.run(tasks)
        found = [next(done)]
        os.kill(team._workers[0].process.pid, signal.SIGSTOP)
        os.kill(team._workers[0].process.pid, signal.SIGKILL)
        found += list(done)
    errors = [report.error for report in found if report.error]
    assert len(found) == 5 and len(errors) <= 1
    assert all("signal 9" in error for error in errors)
    assert reports.exit_status(found) == (1 if errors else 0)
    with contextlib.suppress(StopIteration):
        next(done)
