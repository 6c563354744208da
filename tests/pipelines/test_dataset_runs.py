"""`dp3 dataset` on Ray, with processes that are killed: no record missing, none twice, none unanonymized."""

import dataclasses
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from dp3_jax.pipelines.dataset import rows, storage, treatment, worker
from dp3_jax.pipelines.dataset.format import Reading
from dp3_jax.pipelines.dataset.treatment import Settings
from dp3_jax.replacement.face_actions import FaceAction
from tests.dataset_makers import manifest, pixels, tar, untar
from tests.face_photos import BOX, MASTER_KEY, astronaut, detector_or_skip, face

SHARDS, RECORDS, BAD = 6, 4, "3.tar/3-2.png"


def portrait(number):
    """The content of a PNG of 160 x 160 px with a face of 52 px; each number has pixels of its own."""
    small = Image.fromarray(astronaut()[:320, 60:380]).resize((160, 160))
    values = np.array(small)
    values[:8, :8] = number
    opened = io.BytesIO()
    Image.fromarray(values).save(opened, "PNG")
    return opened.getvalue()


@pytest.fixture
def data_set(tmp_path):
    """Tar shards; the name and content of each record, of which one is damaged."""
    pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    detector_or_skip()
    (tmp_path / "in").mkdir()
    contents = {}
    for shard in range(SHARDS):
        members = []
        for record in range(RECORDS):
            content = portrait(shard * RECORDS + record)
            if f"{shard}.tar/{shard}-{record}.png" == BAD:
                content = content[:200]
            members.append((f"{shard}-{record}.png", content))
        tar(tmp_path / f"in/{shard}.tar", members)
        contents |= {f"{shard}.tar/{name}": content for name, content in members}
    return tmp_path / "in", contents


def check(output, contents):
    """Every record is there once and with a covered face, or reported and not there."""
    found = manifest(storage.open_storage(str(output)))
    made = [
        (f"{path.name}/{name}", content)
        for path in sorted(output.glob("*.tar"))
        for name, content in untar(path)
    ]
    assert len(dict(made)) == len(made)  # none twice
    assert found.keys() == contents.keys()  # none missing
    assert dict(made).keys() == contents.keys() - {BAD}
    assert found[BAD]["error"] and not found[BAD]["output"]
    x, y, width, height = (round(value / 2) for value in (BOX[0] - 60, *BOX[1:]))
    for name, content in made:
        old, new = pixels(contents[name]).astype(int), pixels(content).astype(int)
        inside = np.abs(old - new)[y : y + height, x : x + width]
        assert inside.mean() > 5 and found[name]["actions"] == ["blurred"]
        assert np.array_equal(old[:8, :8], new[:8, :8])  # of this record and no other one
        assert found[name]["output_sha256"] == hashlib.sha256(content).hexdigest()


def test_a_killed_driver_goes_on_with_the_same_command(data_set, tmp_path):
    source, contents = data_set
    output = tmp_path / "out"
    command = [
        *(sys.executable, "-c", "from dp3_jax.cli.main import run; run()", "dataset"),
        *(str(source), "-o", str(output), "--method", "blur", "--workers", "2", "--json"),
    ]
    begun = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while begun.poll() is None and not list(output.glob("_dp3/parts/*.parquet")):
        time.sleep(0.01)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    assert list(output.glob("_dp3/parts/*.parquet"))
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr  # of the damaged record
    assert BAD in ended.stderr or json.loads(ended.stdout)["done_before"]
    check(output, contents)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(data_set, tmp_path):
    from dp3_jax.pipelines.dataset.ray_engine import Engine, open_pool

    source, contents = data_set
    output = tmp_path / "out"
    reading, settings = Reading(), Settings(anonymizer={"method": "blur"}, master_key=MASTER_KEY)
    work = worker.Work(source=str(source), output=str(output), reading=reading, settings=settings)
    opened, target = storage.open_storage(str(source)), storage.open_storage(str(output))
    shards = worker.FORMATS["webdataset"].find(opened, reading, opened.sizes(), {}).shards
    with open_pool(Engine(workers=1), work, len(shards)) as pool:
        first = pool.processes()[0]
        died = 0
        for number, progress in enumerate(pool.run(shards)):
            died += progress.died
            if number == 0:
                os.kill(first, signal.SIGKILL)
        assert died == 1 and first not in pool.processes()
    rows.Ledger(target, rows.part_files(target)).merge()
    check(output, contents)


def test_records_that_share_an_id_share_the_person_of_their_largest_face():
    small = dataclasses.replace(face(), box=(0.0, 0.0, 20.0, 20.0))
    key = {one: bytes([one]) * 32 for one in range(4)}
    first = [FaceAction(small, key=key[0]), FaceAction(face(), key=key[1])]
    second = [FaceAction(face(), key=key[2])]
    linked = treatment.with_person(first, b"p" * 32)
    assert linked[0] == first[0] and linked[1].key != key[1]
    assert treatment.with_person(second, b"p" * 32)[0].key == linked[1].key
    assert treatment.with_person(second, b"q" * 32)[0].key != linked[1].key


def test_links_need_a_key_that_is_kept(tmp_path):
    pytest.importorskip("ray")
    from dp3_jax.cli.main import main

    (tmp_path / "a.jpg").write_bytes(b"")
    arguments = ["dataset", str(tmp_path), "-o", str(tmp_path / "out"), "--link-people", "person"]
    assert main(arguments) == 2
