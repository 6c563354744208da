"""A new face only for what surely is one: confidence, and the mesh's opinion where it can have one."""

import dataclasses

import numpy as np
import pytest

from dp3_jax.common import assets
from dp3_jax.detection import second_opinion
from dp3_jax.detection.detections import Detection, once_each
from dp3_jax.media.photos import read_photo
from dp3_jax.models.mesh import Pose, mean_shape
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.replacement.face_shape import turn
from tests.face_photos import BOX, POINTS, Painter, astronaut, detector_or_skip, face


class Opinion:
    """A mesh that has one opinion of everything."""

    def __init__(self, score, yaw=0.0):
        self.score, self.asked = score, 0
        self.mesh = 60 * (mean_shape()[0] @ turn(Pose(yaw, 0, 0)).T)

    def points(self, image, box=None, five=None):
        self.asked += 1
        return self.mesh, self.score


def sources(one, mesh):
    return [f.source for f in second_opinion.low_confidence_faces(astronaut(), [one], mesh)]


def test_doubts():
    sure = dataclasses.replace(face(), confidence=0.9, source="detected")
    small = dataclasses.replace(sure, box=(200.0, 90.0, 40.0, 52.0))
    weak = dataclasses.replace(sure, confidence=0.75)
    believes, doubts = Opinion(0.99), Opinion(0.6)
    assert sources(sure, believes) == ["detected"]
    assert sources(sure, doubts) == ["unsure"]
    assert sources(sure, None) == ["detected"]
    assert sources(small, doubts) == ["detected"]  # of so small a face the mesh knows nothing
    assert sources(weak, believes) == ["unsure"]
    assert sources(face(), doubts) == ["user"]


@pytest.mark.parametrize(
    ("yaw", "kept"), [(-50.0, True), (50.0, True), (60.0, False), (-60.0, False)]
)
def test_a_head_in_profile_gets_no_new_face(yaw, kept):
    sure = dataclasses.replace(face(), confidence=0.9, source="detected")
    assert (sources(sure, Opinion(0.99, yaw)) == ["detected"]) == kept


def test_an_unsure_face_is_covered_and_a_sure_one_replaced():
    detector_or_skip()
    done = []
    for opinion in (Opinion(0.99), Opinion(0.1)):
        anonymizer = Anonymizer(generator=Painter(), face_check=False)
        anonymizer.__dict__.update(_mesh=opinion)
        (face_result,) = anonymizer(astronaut()).face_results
        done.append(face_result.done)
    assert done == ["generated", "pixelated"]


def test_covering_asks_nobody():
    detector_or_skip()
    anonymizer, opinion = Anonymizer(method="blur"), Opinion(0.0)
    anonymizer.__dict__["_mesh"] = opinion
    (face_result,) = anonymizer(astronaut()).face_results
    assert (face_result.done, opinion.asked) == ("blurred", 0)


def test_a_part_of_a_face_is_not_a_second_one():
    points = POINTS.astype(np.float32)
    whole = Detection(BOX, points, 0.95)
    part = Detection((200.0, 100.0, 50.0, 60.0), points + 0.5, 0.74)
    neighbour = Detection((260.0, 68.0, 85.0, 112.0), points + np.float32([80, 0]), 0.9)
    assert once_each([whole, part, neighbour]) == [whole, neighbour]


def test_dogs_get_no_face_and_the_astronaut_does(shared_data):
    if not assets.is_cached("face_mesh"):
        pytest.skip("the face mesh has not been fetched")
    detector_or_skip()
    anonymizer = Anonymizer()
    assert [f.source for f in anonymizer.find(astronaut())] == ["detected"]
    for name in ("dlib_dogs.jpg", "ap10k_leopard.jpg"):
        frame = read_photo(shared_data / "photos" / name).pixels
        large = [f for f in anonymizer.find(frame) if min(f.box[2:]) >= 60]
        assert {f.source for f in large} <= {"unsure"}
