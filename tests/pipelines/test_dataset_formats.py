"""Every format of data sets: what is a picture gets new pixels, all else stays, and nothing slips through."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.pipelines.dataset import contents, job, rows, storage
from dp3_jax.pipelines.dataset.format import Reading
from tests.dataset_makers import (
    Inverter,
    is_new,
    json_bytes,
    manifest,
    picture,
    run,
    tar,
    untar,
)

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def array(values):
    opened = io.BytesIO()
    np.save(opened, values)
    return opened.getvalue()


def check(row, old, new):
    assert row["error"] == "" and row["faces"] == 1 and row["actions"] == ["blurred"]
    assert row["input_sha256"] == hashlib.sha256(old).hexdigest()
    assert row["output_sha256"] == hashlib.sha256(new).hexdigest()
    assert is_new(old, new)


def test_a_folder_keeps_its_names_and_a_bad_record_is_reported_and_not_there(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    old = {f"a/{n}.png": picture(n) for n in range(5)} | {"b.jpg": picture(9, "JPEG")}
    for name, content in {**old, "bad.png": old["a/0.png"][:90], "notes.txt": b"x"}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    found = run(source, output, "folder", reading=Reading(shard_records=3))
    assert found.keys() == {*old, "bad.png"}
    assert found["bad.png"]["error"] and found["bad.png"]["output"] == ""
    written = set(storage.open_storage(str(output)).sizes())
    assert written == {*old, rows.MANIFEST}
    for name in old:
        if name.endswith(".png"):
            check(found[name], old[name], (output / name).read_bytes())


def test_what_is_done_is_not_done_again_and_what_has_changed_is(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for n in range(4):
        (source / f"{n}.png").write_bytes(picture(n))
    first, again, third = Inverter(), Inverter(), Inverter()
    run(source, output, "folder", models=first, reading=Reading(shard_records=2))
    before = manifest(storage.open_storage(str(output)))
    run(source, output, "folder", models=again, reading=Reading(shard_records=2))
    assert len(first.seen) == 4 and again.seen == []
    (source / "9.png").write_bytes(picture(9))
    (output / "3.png").unlink()
    found = run(source, output, "folder", models=third, reading=Reading(shard_records=2))
    assert {name for name, _ in third.seen} == {"9.png", "2.png", "3.png"}
    assert found == before | {"9.png": found["9.png"]}


def robot_samples():
    """Two cameras, a state, a text."""
    return [
        (f"run.1/{n:03d}.{ending}", content)
        for n in range(3)
        for ending, content in (
            ("wrist.png", picture(2 * n)),
            ("front.jpg", picture(2 * n + 1, "PNG")),
            ("state.npy", array(np.arange(7.0))),
            ("json", json_bytes(person=f"p{n % 2}", n=n)),
        )
    ]


def test_a_robot_sample_keeps_its_members_their_order_and_all_but_pictures(tmp_path):
    (tmp_path / "in").mkdir()
    members = robot_samples()
    tar(tmp_path / "in/000.tar", members)
    found = run(tmp_path / "in", tmp_path / "out", "webdataset")
    made = untar(tmp_path / "out/000.tar")
    assert [name for name, _ in made] == [name for name, _ in members]
    for (name, old), (_, new) in zip(members, made, strict=True):
        if name.endswith(("png", "jpg")):
            check(found[f"000.tar/{name}"], old, new)
        else:
            assert old == new and f"000.tar/{name}" not in found


@pytest.mark.parametrize(
    "slipping",
    [
        ("wrist.txt", picture(8)),  # a picture under another name
        ("depth.npy", array(np.zeros((80, 80), np.uint8))),
        ("more.pickle", b"\x80\x04"),
        ("cam.heic", b"\0\0\0\x18ftypheic" + bytes(40)),
        ("cam.png", picture(1)[:60]),
    ],
    ids=lambda one: one[0],
)
def test_a_sample_with_what_cannot_be_treated_is_left_out_as_a_whole(tmp_path, slipping):
    ending, content = slipping
    (tmp_path / "in").mkdir()
    tar(tmp_path / "in/0.tar", [*robot_samples(), (f"run.1/002.{ending}", content)])
    found = run(tmp_path / "in", tmp_path / "out", "webdataset")
    made = dict(untar(tmp_path / "out/0.tar"))
    assert content not in made.values()
    if ending != "wrist.txt":  # that is a picture after all, and treated as one
        assert not any(name.startswith("run.1/002") for name in made)
        errors = {name: row["error"] for name, row in found.items() if "/002" in name}
        assert len(errors) == 3 and all(errors.values())


@pytest.mark.parametrize("cut", ["between members", "in a member"])
def test_an_archive_that_ends_early_is_reported_and_what_is_whole_is_done(tmp_path, cut):
    (tmp_path / "in").mkdir()
    path = tar(tmp_path / "in/0.tar", robot_samples())
    with tarfile.open(path) as archive:
        fifth = archive.getmembers()[5].offset
    path.write_bytes(path.read_bytes()[: fifth + (0 if cut == "between members" else 700)])
    found = run(tmp_path / "in", tmp_path / "out", "webdataset")
    assert "ends early" in found["0.tar"]["error"]
    assert len(untar(tmp_path / "out/0.tar")) == 4


def test_records_that_share_an_id_are_linked_by_column_or_by_file(tmp_path):
    (tmp_path / "in").mkdir()
    tar(tmp_path / "in/0.tar", robot_samples())
    (tmp_path / "people.csv").write_text("source,id\n0.tar/run.1/001,ann\nother,bob\n")
    from dp3_jax.pipelines.dataset.links import open_links

    by_column, by_file = (
        Inverter(open_links("person")),
        Inverter(open_links(str(tmp_path / "people.csv"))),
    )
    run(tmp_path / "in", tmp_path / "a", "webdataset", models=by_column)
    run(tmp_path / "in", tmp_path / "b", "webdataset", models=by_file)
    assert [person for _, person in by_column.seen] == ["p0", "p0", "p1", "p1", "p0", "p0"]
    assert [person for _, person in by_file.seen] == [None, None, "ann", "ann", None, None]


def hugging_face(number):
    return {"bytes": picture(number), "path": f"{number}.png"}


def test_parquet_keeps_its_schema_and_every_other_value(tmp_path):
    (tmp_path / "in").mkdir()
    table = pa.table(
        {
            "label": pa.array(range(7), pa.int16()),
            "image": [picture(n) if n != 3 else None for n in range(7)],
            "cam": pa.array([hugging_face(n + 10) for n in range(7)]),
            "blob": [b"\x01\x02"] * 7,
            "who": ["a", "b"] * 3 + [None],
        }
    ).replace_schema_metadata({"huggingface": '{"info": 1}'})
    pq.write_table(table, tmp_path / "in/x.parquet", row_group_size=3, compression="zstd")
    found = run(tmp_path / "in", tmp_path / "out", "parquet", link="who")
    made = pq.read_table(tmp_path / "out/x.parquet")
    assert made.schema.equals(table.schema, check_metadata=True)
    assert made.drop(["image", "cam"]).equals(table.drop(["image", "cam"]))
    for n in range(7):
        old, new = table["image"][n].as_py(), made["image"][n].as_py()
        assert (old is None and new is None) or is_new(old, new)
        assert made["cam"][n].as_py()["path"] == f"{n + 10}.png"
        check(found[f"x.parquet/{n}/cam"], picture(n + 10), made["cam"][n].as_py()["bytes"])
    assert len(found) == 13
    file = pq.ParquetFile(tmp_path / "out/x.parquet")
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.metadata.num_row_groups == 3


def test_a_row_with_a_bad_picture_or_one_in_another_column_is_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    images = [picture(n) for n in range(70)]
    images[4] = images[4][:50]
    blobs = [b"x"] * 69 + [picture(99)]
    pq.write_table(pa.table({"n": range(70), "i": images, "b": blobs}), tmp_path / "in/x.parquet")
    found = run(tmp_path / "in", tmp_path / "out", "parquet")
    made = pq.read_table(tmp_path / "out/x.parquet")
    assert made["n"].to_pylist() == [n for n in range(69) if n != 4]
    assert found["x.parquet/4/i"]["error"] and "--column b" in found["x.parquet/69/b"]["error"]
    assert found["x.parquet/69/i"]["output"] == ""


def test_columns_that_may_hold_pictures_as_arrays_are_refused_until_the_user_says_they_do_not(
    tmp_path,
):
    (tmp_path / "in").mkdir()
    grid = pa.array([[[1, 2], [3, 4]]] * 2, pa.list_(pa.list_(pa.uint8())))
    pq.write_table(
        pa.table({"i": [picture(0), picture(1)], "grid": grid}), tmp_path / "in/x.parquet"
    )
    refused = run(tmp_path / "in", tmp_path / "a", "parquet")
    assert "--copy grid" in refused["x.parquet"]["error"]
    assert not (tmp_path / "a/x.parquet").exists()
    found = run(tmp_path / "in", tmp_path / "b", "parquet", reading=Reading(copied=("grid",)))
    assert (
        len(found) == 2
        and pq.read_table(tmp_path / "b/x.parquet")["grid"].to_pylist() == grid.to_pylist()
    )


def test_a_record_at_which_workers_die_is_left_out_and_said(tmp_path):
    (tmp_path / "in").mkdir()
    tar(tmp_path / "in/0.tar", robot_samples())
    found = run(tmp_path / "in", tmp_path / "out", "webdataset", skipped={2: "it kills"})
    assert found["0.tar/run.1/001.wrist.png"]["error"] == "it kills"
    assert "left out with" in found["0.tar/run.1/001.front.jpg"]["error"]
    assert len(untar(tmp_path / "out/0.tar")) == 8


def test_an_address_of_fsspec_is_read_and_written(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    tar(tmp_path / "0.tar", robot_samples())
    memory.pipe_file("/bucket/in/0.tar", (tmp_path / "0.tar").read_bytes())
    try:
        found = run("memory://bucket/in", "memory://bucket/out", "webdataset")
        (tmp_path / "1.tar").write_bytes(memory.cat_file("/bucket/out/0.tar"))
        assert len(untar(tmp_path / "1.tar")) == 12 and len(found) == 6
        again = Inverter()
        run("memory://bucket/in", "memory://bucket/out", "webdataset", models=again)
        assert again.seen == []
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.json", b"{}", "OTHER"),
        ("a.cls", b"BMW and others, a long text of a class", "OTHER"),
        ("", b"\xff\xd8\xff\xe0", "PICTURE"),
        ("a.bin", b"\x1aE\xdf\xa3", "CLIP"),
        ("a.mp4", b"", "CLIP"),
        ("a.npz", b"PK", "UNKNOWN"),
        ("a.npy", array(np.zeros(3)), "OTHER"),
        ("a.npy", array(np.array([{}], object)), "UNKNOWN"),
    ],
)
def test_what_a_content_is(name, content, kind):
    assert contents.kind_of(name, content).name == kind


def test_the_format_is_told_by_the_files():
    assert job.format_of({"meta/info.json": 1, "data/x.parquet": 1}) == "lerobot"
    assert job.format_of({"a/0.tar": 1, "README.md": 1}) == "webdataset"
    assert job.format_of({"x.parquet": 1}) == "parquet"
    assert job.format_of({"x.jpg": 1, "manifest.parquet": 3}) == "folder"


def test_an_output_that_is_another_runs_or_somebody_elses_is_refused(tmp_path):
    output = storage.open_storage(str(tmp_path))
    rows.begin(output, "one", redo=False)
    rows.begin(output, "one", redo=False)
    with pytest.raises(UserError, match="other options"):
        rows.begin(output, "two", redo=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file.txt").write_text("mine")
    with pytest.raises(UserError, match="none of dp3 dataset"):
        rows.begin(storage.open_storage(str(tmp_path / "other")), "one", redo=False)
    assert json.loads((tmp_path / "_dp3/run.json").read_text())["digest"] == "one"
