"""Licence plates: those of benchmarks/made_plates.py are found, wherever they lie, and little else."""

import numpy as np
import pytest

from benchmarks import made_plates
from dp3_jax.detection.kinds import PLATE
from dp3_jax.detection.plates import find_plates
from dp3_jax.vision import geometry


def covered(made: made_plates.Made) -> float:
    """Share of the plate's surrounding box that the masks of what is found replace."""
    replaced = np.zeros(made.image.shape[:2], bool)
    for plate in find_plates(made.image):
        alignment = plate.alignment()
        region = geometry.region(alignment, plate.kind.mask(alignment, plate.box), replaced.shape)
        replaced[region.slices] |= region.inside
    left, top = made.corners.min(0).astype(int)
    right, bottom = made.corners.max(0).astype(int)
    return float(replaced[top : bottom + 1, left : right + 1].mean())


@pytest.mark.parametrize("layout", made_plates.LAYOUTS)
def test_plates_of_many_countries_are_covered(layout):
    rng = np.random.default_rng(5)
    shares = []
    for width in (40, 90, 180):
        background = made_plates.car(rng, 400, 300, width)
        made = made_plates.scene(background, layout, width, rng, np.array([200.0, 150.0]))
        shares.append(covered(made))
    assert np.median(shares) > 0.85, shares


@pytest.mark.parametrize("place", [(40, 30), (256, 128), (200, 256), (470, 370)])
def test_a_plate_is_found_wherever_it_lies(place):
    rng = np.random.default_rng(1)
    background = np.full((400, 500, 3), (70, 90, 80), np.uint8)
    made = made_plates.scene(background, "eu", 60, rng, np.array(place, float))
    plates = find_plates(made.image)
    assert len(plates) == 1 and plates[0].kind is PLATE
    x, y, width, height = plates[0].box
    assert np.hypot(x + width / 2 - place[0], y + height / 2 - place[1]) < 12


def test_where_there_is_none_none_is_found():
    across, down = np.meshgrid(np.arange(700), np.arange(300))
    picture = np.stack([across // 3, down // 2, (across + down) // 5], -1).astype(np.uint8)
    assert find_plates(picture) == []
    assert find_plates(picture[:5, :7]) == []  # smaller than any plate
