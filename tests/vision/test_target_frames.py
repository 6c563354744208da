"""Where heads, bodies and plates lie, and what of them is covered."""

import numpy as np
import pytest

from dp3_jax.detection.kinds import BODY, FACE, HEAD, PLATE
from dp3_jax.replacement import obfuscation
from dp3_jax.vision import geometry

SHAPE = (480, 640, 3)
BOXES = {
    BODY.name: (BODY, (200.0, 60.0, 90.0, 300.0)),
    PLATE.name: (PLATE, (300.0, 200.0, 104.0, 22.0)),
    "tiny plate": (PLATE, (300.0, 200.0, 12.0, 3.0)),
    HEAD.name: (HEAD, (300.0, 200.0, 60.0, 80.0)),
}


def _covered(target: geometry.Region) -> np.ndarray:
    whole = np.zeros(SHAPE[:2], bool)
    whole[target.slices] = target.inside
    return whole


@pytest.mark.parametrize("name", BOXES)
def test_a_target_is_covered_to_its_edges_and_not_far_beyond(name):
    kind, box = BOXES[name]
    x, y, width, height = (round(v) for v in box)
    covered = _covered(obfuscation.extent(kind.frame(box, None), box, "head", SHAPE, kind=kind))
    inner = covered[y : y + height, x : x + width]
    assert inner[:, width // 2].all() and inner[height // 2].all()
    assert inner.mean() > 0.97
    assert covered.sum() < 4 * width * height + 200


def test_a_head_is_what_covering_the_head_of_a_face_covers():
    _, box = BOXES[HEAD.name]
    of_face = _covered(obfuscation.extent(FACE.frame(box, None), box, "head", SHAPE))
    of_head = _covered(geometry.region(HEAD.frame(box, None), HEAD.mask(None, box), SHAPE))
    assert (of_face & of_head).sum() > 0.98 * (of_face | of_head).sum()


def test_each_kind_names_a_default_that_it_can_do():
    for kind in (FACE, HEAD, BODY, PLATE):
        assert kind.default in kind.methods
