"""Bodies, heads and plates in clips: what the renderer shows of them."""

import dataclasses

import numpy as np

from dp3_jax.detection import body_outline
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.kinds import BODY, FACE, HEAD, PLATE
from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.face_actions import Done, Settings

SHAPE = (120, 160, 3)
KEYS = {number: bytes([number]) * 32 for number in range(1, 9)}
IMAGES = [np.random.default_rng(i).integers(0, 255, SHAPE, np.uint8) for i in range(4)]


def _track(number: int, kind, box, method=None, source=FaceSource.DETECTED) -> Track:
    seen = tuple(Observation(f, box, None, 0.9, source, kind=kind) for f in range(len(IMAGES)))
    return Track(number, seen, method=method)


def _rendered(tracks, outlines=None, method="pixelate"):
    renderer = Renderer(Settings(method=method), None, KEYS, outlines=outlines)
    return [
        renderer.render(image, [(track, track.observations[i]) for track in tracks])
        for i, image in enumerate(IMAGES)
    ]


def test_bodies_and_plates_are_covered_in_each_frame_by_their_own_methods():
    body = _track(1, BODY, (20.0, 10.0, 40.0, 100.0), "silhouette")
    plate = _track(2, PLATE, (100.0, 80.0, 40.0, 12.0), "solid")
    for image, (shown, results) in zip(IMAGES, _rendered([body, plate]), strict=True):
        assert [one.done for one in results] == [Done.SILHOUETTE, Done.SOLID]
        assert (shown[80:92, 100:140] == 128).all()
        assert (shown[20:100, 22:58] != image[20:100, 22:58]).any(-1).mean() > 0.98
        np.testing.assert_array_equal(shown[:, 152:], image[:, 152:])


def test_a_hole_of_one_frame_in_an_outline_does_not_show_the_body():
    box = (20.0, 10.0, 40.0, 100.0)
    calls = []

    def outlines(frame, box, *, loose=False):
        whole = body_outline.of_box(box, frame.shape)
        inside = whole.region.inside.copy()
        if len(calls) == 2:
            inside[40:60] = False
        calls.append(loose)
        region = dataclasses.replace(whole.region, inside=inside)
        return body_outline.Outline(region)

    shown = _rendered([_track(1, BODY, box, "silhouette")], outlines)
    assert (shown[2][0][30:90, 25:55] != IMAGES[2][30:90, 25:55]).any(-1).mean() > 0.98


def test_a_head_is_covered_with_its_hair_where_a_face_is_not():
    box = (60.0, 50.0, 24.0, 30.0)
    above = slice(32, 40), slice(66, 78)
    head, _ = _rendered([_track(1, HEAD, box)], method="solid")[0]
    face, _ = _rendered([_track(1, FACE, box)], method="solid")[0]
    assert (head[above] == 128).all()
    np.testing.assert_array_equal(face[above], IMAGES[0][above])
