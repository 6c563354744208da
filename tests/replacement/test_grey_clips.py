"""Faces in black-and-white and sepia clips that are stored in three channels."""

import numpy as np
import pytest

from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.replacement import face_actions, key_derivation, surroundings
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.renderers import BuiltinRenderer
from tests.face_photos import Painter, astronaut, everyone

SHAPE = (200, 260, 3)
BOX = (90.0, 60.0, 46.0, 60.0)


def clip_frame(tint):
    """u8[h, w, 3]: one colour for each brightness, through the noise of a codec."""
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    luma = (np.sin(x / 17) + np.cos(y / 23) + 2) * 60
    image = luma[..., None] + toned(luma, tint)
    noise = np.random.default_rng(0).normal(0, 2, SHAPE)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def toned(luma, tint):
    return np.array(tint) * np.sin(luma / 255 * np.pi)[..., None]


def render(frame):
    seen = Observation(0, BOX, None, 1.0)
    track = Track(1, (seen,))
    keys = {1: key_derivation.track_key(b"s" * 32, 1)}
    one = Renderer(face_actions.Settings(), BuiltinRenderer(Painter()), keys, is_face=everyone)
    shown, (face_result,) = one.render(frame, [(track, seen)])
    assert face_result.done == "generated"
    return shown, one


@pytest.mark.parametrize("tint", [(0, 0, 0), (24, 0, -45), (-30, 10, 30)])
def test_a_clip_of_one_colour_for_each_brightness_gets_faces_of_these(tint):
    frame = clip_frame(tint)
    shown, _ = render(frame)
    new = shown[(shown != frame).any(-1)].astype(float)
    assert len(new) > 1000
    luma = new @ [0.299, 0.587, 0.114]
    assert np.abs(new - luma[:, None] - toned(luma, tint)).mean() < 4


def test_colour_photos_are_not_taken_for_grey_ones():
    assert surroundings.colour_curve(astronaut()) is None
    # Grey surroundings of a person with some skin to see.
    portrait = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (256, 1))[..., None], 3, -1)
    portrait[180:230, 100:160] = (205, 160, 140)
    assert surroundings.colour_curve(portrait) is None


def test_a_bare_wall_does_not_make_a_photo_sepia():
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    shade = 150 + 8 * np.sin(x / 60) * np.cos(y / 50)
    wall = np.dstack([shade * 1.1, shade, shade * 0.75]).clip(0, 255).astype(np.uint8)
    assert surroundings.colour_curve(wall) is None
    grey = np.repeat(shade[..., None], 3, -1).astype(np.uint8)
    assert surroundings.colour_curve(grey) is not None


def test_a_clip_that_was_grey_is_not_given_up_for_a_little_noise():
    """Else faces would blink between grey and coloured."""
    frame = clip_frame((0, 0, 0)).astype(float)
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    frame[..., 0] += 5 * np.sin(x / 40) * np.cos(y / 40)
    frame = frame.clip(0, 255).astype(np.uint8)
    assert surroundings.colour_curve(frame) is None
    assert surroundings.colour_curve(frame, was_toned=True) is not None


def test_brown_hair_before_a_beige_wall_makes_no_frame_of_a_clip_sepia():
    frame = clip_frame((24, 0, -45)).astype(float)
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    frame[..., 0] += 5 * np.sin(x / 40) * np.cos(y / 40)
    frame = frame.clip(0, 255).astype(np.uint8)
    assert surroundings.colour_curve(frame) is not None
    assert surroundings.colour_curve(frame, in_clip=True) is None
