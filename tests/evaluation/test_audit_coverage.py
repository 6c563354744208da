"""Pixels tell whether a face was changed: storing it again does not count, hiding it does."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from dp3_jax.evaluation.audit import coverage
from dp3_jax.vision import geometry, masks
from tests.face_photos import BOX, POINTS, astronaut

MASK = masks.inference_mask()[..., 0] > 0


@pytest.fixture(scope="module")
def face():
    return geometry.extract(astronaut(), geometry.align(BOX, POINTS))


def stored_again(view, quality):
    content = io.BytesIO()
    Image.fromarray(view).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def masked(view, shown):
    return np.where(MASK[..., None], shown, view).astype(np.uint8)


def pixelated(view):
    small = cv2.resize(view, (8, 8), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (128, 128), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize("quality", [95, 75, 40])
def test_a_face_that_was_only_stored_again_shows(face, quality):
    assert coverage.compare(face, stored_again(face, quality), MASK).state == coverage.SHOWN


def test_the_same_pixels_show_also_where_a_face_has_no_details():
    dark = np.full((128, 128, 3), 7, np.uint8)
    assert coverage.compare(dark, dark, MASK).state == coverage.SHOWN
    assert coverage.compare(dark, dark + 40, MASK).state == coverage.CHANGED


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_veil_changes_too_little(face, share):
    veiled = masked(face, (1 - share) * face + share * 128)
    assert coverage.compare(face, veiled, MASK).state == coverage.TOO_LITTLE


def test_a_weak_blur_changes_too_little(face):
    weak = masked(face, cv2.GaussianBlur(face, (0, 0), 3))
    assert coverage.compare(face, weak, MASK).state == coverage.TOO_LITTLE


@pytest.mark.parametrize(
    "hide",
    [
        lambda view: np.full_like(view, 120),
        pixelated,
        lambda view: cv2.GaussianBlur(view, (0, 0), 14),
        lambda view: view[::-1, ::-1],
    ],
    ids=["solid", "pixelated", "blurred", "turned round"],
)
def test_what_anonymizers_do_is_a_change(face, hide):
    change = coverage.compare(face, masked(face, hide(face)), MASK)
    assert change.state == coverage.CHANGED
    assert change.outside == 0
