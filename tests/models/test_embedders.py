"""Networks that tell people apart. What needs downloaded weights is left out without them."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from dp3_jax.common import assets
from dp3_jax.models import dlib_resnet, embedders
from dp3_jax.vision import geometry
from dp3_jax.vision.masks import CANONICAL_POINTS

NEEDED = {
    "sface": ("sface",),
    "dlib_resnet": ("dlib_resnet", "dlib_resnet_manifest"),
    "faceres": ("faceres", "faceres_graph"),
}
# The astronaut's face, by YuNet in the picture of 512 px.
POINTS = np.array([[199, 102], [244, 98], [226, 130], [206, 151], [247, 148]], np.float32)


class Thumbnail:
    """An embedder that needs no weights: the picture itself, small."""

    name, side, points, threshold = "thumbnail", 64, CANONICAL_POINTS / 2 - 0.25, 0.9

    def __call__(self, faces):
        return faces[:, ::8, ::8].reshape(len(faces), 192).astype(np.float32)


@pytest.fixture(params=NEEDED)
def embedder(request):
    for name in NEEDED[request.param]:
        if not (assets.cache_folder() / assets.ASSETS[name].filename).exists():
            pytest.skip(f"needs the asset {name}; an evaluation fetches it")
    return embedders.EMBEDDERS[request.param]()


def test_faces_are_aligned_wherever_and_however_large_they_are():
    rng = np.random.default_rng(0)
    face = cv2.GaussianBlur(rng.integers(0, 256, (128, 128, 3), np.uint8), (0, 0), 4)
    straight = embedders.align(face, CANONICAL_POINTS, Thumbnail())
    for scale, angle in ((1.0, 30.0), (5.0, -70.0), (0.6, 10.0)):
        turn = cv2.getRotationMatrix2D((64.0, 64.0), angle, scale)
        turn[:, 2] += 300 - 64
        there = cv2.warpAffine(face, turn, (600, 600), flags=cv2.INTER_CUBIC)
        points = CANONICAL_POINTS @ turn[:, :2].T + turn[:, 2]
        aligned = embedders.align(there, points, Thumbnail())
        error = np.abs(aligned[8:-8, 8:-8].astype(int) - straight[8:-8, 8:-8])
        assert error.mean() < 2.0


def test_no_faces_give_no_rows(embedder):
    assert embedders.embed(embedder, [], []).shape[0] == 0


def test_a_person_is_like_themselves_and_not_like_the_next(embedder):
    woman = skimage.data.astronaut()
    dimmer = (woman * 0.7).astype(np.uint8)
    mirrored = POINTS.copy()
    mirrored[:, 0] = 511 - mirrored[:, 0]
    pictures = [woman, dimmer, woman[:, ::-1], skimage.data.coffee()]
    points = [POINTS, POINTS, mirrored[[1, 0, 2, 4, 3]], POINTS]
    # More than one batch: the rows must not depend on their neighbours.
    rows = embedders.unit(embedders.embed(embedder, pictures * 5, points * 5))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(rows[:4], rows[16:], atol=1e-4)
    assert rows[0] @ rows[1] > embedder.threshold
    assert rows[0] @ rows[2] > embedder.threshold
    assert rows[0] @ rows[3] < embedder.threshold


def test_sface_is_opencvs():
    if not (assets.cache_folder() / assets.ASSETS["sface"].filename).exists():
        pytest.skip("needs the asset sface; an evaluation fetches it")
    picture = skimage.data.astronaut()
    embedder = embedders.SFace()
    row = np.zeros(15, np.float32)
    row[4:14] = POINTS.ravel()
    bgr = np.ascontiguousarray(picture[..., ::-1])
    theirs = embedder.recognizer.feature(embedder.recognizer.alignCrop(bgr, row))
    ours = embedders.embed(embedder, [picture], [POINTS])
    assert float(embedders.unit(ours)[0] @ embedders.unit(theirs)[0]) > 0.99


def test_dlibs_network_can_be_differentiated():
    shapes = {"conv32_down": (7, 7, 3, 32)}
    for name, halve in dlib_resnet.UNITS:
        width = int(name[4:].split("_")[0])
        shapes[f"{name}/conv1"] = (
            3,
            3,
            width // 2 if halve and "out" not in name else width,
            width,
        )
        shapes[f"{name}/conv2"] = (3, 3, width, width)
    rng = np.random.default_rng(0)
    parameters = {"fc": rng.normal(size=(256, 128)).astype(np.float32)}
    for name, shape in shapes.items():
        scale = np.sqrt(1 / np.prod(shape[:3]))
        parameters[f"{name}/kernel"] = (scale * rng.normal(size=shape)).astype(np.float32)
        parameters[f"{name}/bias"] = np.zeros(shape[-1], np.float32)
    x = jnp.asarray(rng.uniform(0, 255, (2, 150, 150, 3)), jnp.float32)
    rows, gradient = jax.jit(
        lambda x: (dlib_resnet.apply(parameters, x),
                   jax.grad(lambda x: (dlib_resnet.apply(parameters, x)[0] ** 2).sum())(x))
    )(x)  # fmt: skip
    assert rows.shape == (2, dlib_resnet.WIDTH)
    assert float(jnp.abs(gradient[0]).max()) > 0
    assert float(jnp.abs(gradient[1]).max()) == 0  # one picture does not depend on another


def test_the_canonical_face_lies_well_within_each_networks_picture():
    for kind in embedders.EMBEDDERS.values():
        alignment = geometry.align_points(CANONICAL_POINTS, kind.points)
        corners = alignment.apply(np.array([[34.0, 40.0], [94.0, 115.0]]))
        assert (corners > -0.15 * kind.side).all() and (corners < 1.15 * kind.side).all()
