"""Blur, pixelate and solid: what they cover, and that nothing fine is left below."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common.choices import EXTENTS, OBFUSCATIONS
from dp3_jax.replacement import obfuscation
from dp3_jax.vision import geometry
from tests.face_photos import BOX, POINTS, astronaut, face, masked


def test_the_face_is_covered_with_a_rim_and_the_head_with_hair():
    alignment = geometry.align(BOX, POINTS)
    regions = {cover: obfuscation.extent(alignment, BOX, cover, (512, 512)) for cover in EXTENTS}
    inside = {cover: np.zeros((512, 512), bool) for cover in regions}
    for cover, target in regions.items():
        inside[cover][target.slices] = target.inside
    new = masked(face())
    assert inside["face"][new].all() and inside["face"].sum() > 1.1 * new.sum()
    assert inside["head"][new].all() and inside["head"].sum() > 1.6 * inside["face"].sum()
    # Hair from 118 to 232 px across, chin and ears included.
    assert all(inside["head"][y, x] for y, x in ((20, 220), (180, 220), (110, 165), (110, 285)))


@pytest.mark.parametrize("method", OBFUSCATIONS)
@pytest.mark.parametrize("size", [20, 128, 900])
def test_what_is_left_of_a_face_does_not_grow_with_its_size(method, size):
    """Faces that differ only in what is finer than a cell give the same cover."""
    scale = 66.0 / size
    rng = np.random.default_rng(0)
    cells = rng.integers(40, 200, (5, 5, 3), np.uint8)
    coarse = np.repeat(np.repeat(cells, size // 5, 0), size // 5, 1)
    checks = np.indices(coarse.shape[:2]).sum(0) % 2 * 40 - 20
    fine = (coarse + checks[..., None]).astype(np.uint8)
    a, b = (getattr(obfuscation, method)(part, scale).astype(int) for part in (coarse, fine))
    assert a.shape == coarse.shape
    assert np.abs(a - b).max() <= (0 if method == "solid" else 12)


def test_pixelate_shows_means_of_squares():
    part = np.random.default_rng(1).integers(0, 256, (100, 100, 3), np.uint8)
    shown = obfuscation.pixelate(part, 66 / 100)
    means = part.reshape(5, 20, 5, 20, 3).mean((1, 3))
    np.testing.assert_allclose(shown[10::20, 10::20], means, atol=0.51)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 25


def test_solid_tells_nothing_at_all():
    assert (obfuscation.solid(astronaut()[:50, :60], 1.0) == 128).all()


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.02, 10))
def test_any_size_of_part_and_face_is_handled(height, width, scale):
    part = np.full((height, width, 3), 77, np.uint8)
    for method in ("blur", "pixelate"):
        assert (getattr(obfuscation, method)(part, scale) == 77).all()
