"""Boxes that someone else has found: what they hold."""

import json

import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.detection.kinds import BODY, FACE, PLATE
from dp3_jax.pipelines import boxes
from dp3_jax.pipelines.video import boxes as clip_boxes


def test_a_file_says_what_each_box_holds(tmp_path):
    table, listed = tmp_path / "boxes.csv", tmp_path / "boxes.json"
    table.write_text(
        "file,x,y,w,h,kind\na.jpg,1,2,30,10,plate\na.jpg,5,6,20,20,\nb.jpg,0,0,9,40,body\n"
    )
    listed.write_text(
        json.dumps(
            {
                "a.jpg": [{"box": [1, 2, 30, 10], "kind": "plate"}, [5, 6, 20, 20]],
                "b.jpg": [{"box": [0, 0, 9, 40], "kind": "body"}],
            }
        )
    )
    for path in (table, listed):
        read = boxes.Boxes(path)
        assert [face.kind for face in read.of(tmp_path / "a.jpg")] == [PLATE, FACE]
        assert [face.kind for face in read.of(tmp_path / "b.jpg")] == [BODY]


def test_so_does_one_for_a_video(tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text("first,last,x,y,w,h,kind\n0,1,1,2,30,10,plate\n")
    found = clip_boxes.read(table, 3, (2.0, 1.0))
    assert {n: [(f.kind, f.box) for f in faces] for n, faces in found.items()} == {
        n: [(PLATE, (2.0, 2.0, 60.0, 10.0))] for n in (0, 1)
    }


@pytest.mark.parametrize(
    "entry, complaint",
    [
        ({"box": [0, 0, 9, 9], "kind": "cat"}, "kind is one of face, head, body, plate"),
        ({"box": [0, 0, 9, 9], "kind": 3}, "kind is one of"),
        (
            {"box": [0, 0, 9, 9], "kind": "plate", "points": [[0, 0]] * 5},
            "points are read of faces",
        ),
    ],
)
def test_what_it_cannot_mean_is_said(tmp_path, entry, complaint):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([entry]))
    with pytest.raises(UserError, match=f"face 0: {complaint}"):
        boxes.Boxes(path)
