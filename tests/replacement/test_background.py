"""The background-filled photo shows beyond the far cheek of a turned head and where it is drawn anyway,
only there.
"""

import numpy as np
import pytest

from dp3_jax.models.mesh import Expression, Pose
from dp3_jax.replacement import background
from dp3_jax.replacement.fusing import Donor, Parts
from dp3_jax.replacement.identities import Rendering
from dp3_jax.vision.geometry import Alignment


def blended(parts, one, background_fill):
    share = background.background(parts, one, background_fill)
    return background.with_background(parts, share, background_fill)


LEFT, RIGHT = (80, slice(8, 20)), (80, slice(108, 120))


def donor(yaw):
    y, x = np.mgrid[:128, :128]
    mask = (((x - 64) / 30) ** 2 + ((y - 80) / 38) ** 2 <= 1).astype(np.float32)[..., None]
    view = np.zeros((128, 128, 3), np.uint8)
    points = np.zeros((468, 2), np.float32)
    shown = Rendering(view, points[:5], points, Pose(yaw, 0, 0), Expression(0, 1, 0), False, "")
    return Donor(shown, Alignment(1, 0), view, mask)


@pytest.mark.parametrize(("yaw", "far", "near"), [(25, LEFT, RIGHT), (-25, RIGHT, LEFT)])
def test_who_looks_to_one_side_has_the_background_there(yaw, far, near):
    share = background.far_side(donor(yaw))[..., 0]
    assert share[far].min() == 1 and share[near].max() == 0
    assert not share[donor(yaw).mask[..., 0] > 0].any()  # never over the face
    assert not share[:40].any() and not share[126:].any()  # nor over hair and neck


def test_who_looks_ahead_has_none_and_between_it_grows_steadily():
    sums = [background.far_side(donor(yaw)).sum() for yaw in (0, 11, 14, 17, 20, 35)]
    assert sums[0] == sums[1] == 0 < sums[2] < sums[3] < sums[4] == sums[5]


def test_the_fill_becomes_the_erased_photo_and_the_rest_stays():
    rng = np.random.default_rng(0)
    fill, tone = rng.normal(-0.5, 0.1, (2, 128, 128, 3)).astype(np.float32)
    parts = Parts(fill, fill[..., :1], tone, tone)
    background_fill = np.full((128, 128, 3), 255, np.uint8)
    changed = blended(parts, donor(30), background_fill)
    np.testing.assert_allclose(changed.fill[LEFT], 1, atol=1e-6)
    np.testing.assert_array_equal(changed.fill[RIGHT], fill[RIGHT])
    assert changed.alpha is parts.alpha and changed.gain is parts.gain
    np.testing.assert_array_equal(blended(parts, donor(0), background_fill).fill, fill)


def test_specks_on_what_the_erased_photo_shows_go_and_other_things_stay():
    rng = np.random.default_rng(0)
    background_fill = np.full((128, 128, 3), (150, 160, 170), np.uint8)
    fill = (
        background_fill / np.float32(127.5)
        - 1
        + rng.normal(0, 0.05, (128, 128, 3)).astype(np.float32)
    )
    fill[:, 64:] -= 0.4  # hair
    tone = np.zeros_like(fill)
    parts = Parts(fill.astype(np.float32), tone[..., :1], tone, tone)
    cleaned = blended(parts, donor(0), background_fill).fill
    np.testing.assert_allclose(cleaned[:, :58], (background_fill / 127.5 - 1)[:, :58], atol=0.02)
    np.testing.assert_array_equal(cleaned[:, 70:], parts.fill[:, 70:])
