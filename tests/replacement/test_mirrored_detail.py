"""Detail mirrored at a mask's edge: goes on where it fits, and nowhere else."""

import numpy as np
import pytest

from dp3_jax.replacement import mirrored_detail
from dp3_jax.vision.geometry import Region

SCALE = 4.0  # frame px for each canonical px
TARGET = Region(60, 80, np.ones((100, 120), bool))


def striped(period=5, level=120.0, amplitude=12.0):
    """u8[220, 280, 3]: stripes across, and a smooth patch where the face was."""
    rows = level + amplitude * np.sin(2 * np.pi * np.arange(220) / period)
    frame = np.repeat(np.repeat(rows[:, None], 280, 1)[..., None], 3, 2)
    frame[60:160, 80:200] = level
    return np.rint(frame).astype(np.uint8)


def added(frame, colour, target=TARGET):
    detail = mirrored_detail.look(frame, TARGET, SCALE)
    return detail.at(target, np.full((*target.inside.shape, 3), colour, np.float32))


def test_texture_goes_on_inside_where_colours_are_alike():
    finer = added(striped(), 120.0)
    shown = finer[10:90, 2:20, 0]  # beside the left edge: stripes go on straight
    beside = striped()[70:150, 62:80, 0].astype(float) - 120.0
    assert np.corrcoef(shown.mean(1), beside.mean(1))[0, 1] > 0.95
    assert 0.5 * beside.std() < shown.std() < 1.05 * beside.std()


def test_edges_of_things_do_not_go_on_as_scratches():
    strong = added(striped(amplitude=100.0), 120.0)
    assert np.abs(strong).max() < 1  # of 100


def test_small_faces_are_as_the_network_draws_them():
    frame, colour = striped(), np.full((100, 120, 3), 120, np.float32)
    least = mirrored_detail.look(frame, TARGET, mirrored_detail.MIN_SCALE)
    assert np.abs(least.at(TARGET, colour)).max() == 0


def test_texture_of_another_colour_stays_outside():
    assert np.abs(added(striped(), 230.0)).max() < 1.0


def test_there_is_nothing_to_add_beside_a_plain_wall():
    assert np.abs(added(np.full((220, 280, 3), 90, np.uint8), 90.0)).max() == 0


def test_what_lies_in_the_region_has_no_part_in_it():
    """Nothing of it is copied: places mirrored into the region itself count as unknown."""
    frame = striped()
    other = frame.copy()
    other[100:120, 120:160] = np.random.default_rng(0).integers(0, 255, (20, 40, 3))
    near = np.s_[:25, :]  # further in, the blur of the coarse picture may reach
    assert (added(frame, 120.0)[near] == added(other, 120.0)[near]).all()


@pytest.mark.parametrize("rows", [13, 40])
def test_bands_are_parts_of_the_whole(rows):
    whole, frame = added(striped(7), 120.0), striped(7)
    for top in range(0, 100, rows):
        height = min(rows, 100 - top)
        band = Region(60 + top, 80, np.ones((height, 120), bool))
        part = added(frame, 120.0, band)
        assert np.abs(part - whole[top : top + height]).max() < 1e-3


def test_a_region_that_fills_the_frame_gets_nothing():
    frame = striped()
    whole = Region(0, 0, np.ones(frame.shape[:2], bool))
    detail = mirrored_detail.look(frame, whole, SCALE)
    assert (detail.at(whole, frame.astype(np.float32)) == 0).all()


def test_larger_parts_are_looked_at_coarsely_with_about_the_same_result(monkeypatch):
    exact = added(striped(9), 120.0)
    monkeypatch.setattr(mirrored_detail, "_LARGEST", 140)
    coarse = added(striped(9), 120.0)
    assert np.corrcoef(exact[:, :20].ravel(), coarse[:, :20].ravel())[0, 1] > 0.8
