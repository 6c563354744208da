"""Attacks that give the original back: a trained network, and the undoing of blur and mosaic."""

import cv2
import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.attacks.inversion import Inversion
from dp3_jax.evaluation.attacks.restoration import Restoration, deblurred, enlarged
from tests.evaluation import attack_makers as made

KNOWN, TRIED = made.faces(1, people=40), made.faces(2, people=30)


def attacked(attack, change):
    fitted = attack.fit(made.anonymized(KNOWN, change), seed=0)
    return fitted.score(made.anonymized(TRIED, change))


def other_colours(part):
    """Every pixel's channels in another order, and negative."""
    return 255 - part[..., [1, 2, 0]]


def mosaic(part):
    small = [cv2.resize(p, (4, 4), interpolation=cv2.INTER_AREA) for p in part]
    return np.array([cv2.resize(p, (16, 16), interpolation=cv2.INTER_NEAREST) for p in small])


def inner(pictures):
    return {"inner": made.embed(pictures)["inner"]}


@pytest.mark.parametrize("leak", [made.LEAKS["half-transparent"], other_colours])
def test_a_network_restores_what_is_left_of_a_face(leak):
    result = made.caught(attacked(Inversion(inner, updates=30), leak))
    assert result.value > 0.9 and result.control > 0.9


def test_a_network_restores_nothing_from_one_grey():
    result = made.not_caught(attacked(Inversion(inner, updates=16), made.solid))
    assert abs(result.value - result.floor) < 0.1


@pytest.mark.parametrize("leak", [*made.LEAKS.values(), mosaic])
def test_what_a_linear_map_can_undo_is_undone(leak):
    made.caught(attacked(Restoration(inner, inner), leak))


def test_one_grey_is_not_undone():
    made.not_caught(attacked(Restoration(inner, inner), made.solid))


def test_pictures_in_another_order_are_told_apart_only_after_restoring():
    change = made.LEAKS["pixel-swapped"]
    result = attacked(Restoration(inner, inner), change)
    assert "linear map" in result.sentence


def test_deconvolution_sharpens_a_blurred_edge():
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    picture[:, :, 32:] = 200
    blurred = cv2.GaussianBlur(picture[0], (0, 0), 4)[None]
    before, after = (
        np.abs(x.astype(float) - picture).mean() for x in (blurred, deblurred(blurred, 4))
    )
    assert after < 0.8 * before


def test_a_mosaic_is_enlarged_from_its_cells():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None], (64, 64))
    picture = np.stack([ramp] * 3, -1)
    cells = cv2.resize(picture, (8, 8), interpolation=cv2.INTER_AREA)
    squares = cv2.resize(cells, (64, 64), interpolation=cv2.INTER_NEAREST)[None]
    apart = [
        np.abs(x[0].astype(float) - picture)[8:-8].mean() for x in (squares, enlarged(squares, 8))
    ]
    assert apart[1] < 0.4 * apart[0]


def test_too_few_faces_to_learn_from_are_refused_in_one_line():
    with pytest.raises(UserError, match="12 faces are too few to learn from"):
        Inversion(inner).fit(made.faces(1, people=4), seed=0)
