"""Embeddings in batches are those of one face at a time."""

import numpy as np
import pytest

from dp3_jax.common import assets
from dp3_jax.metrics import batch_embedding
from dp3_jax.metrics.verification import canonical_points
from dp3_jax.models import embedders
from dp3_jax.vision import geometry
from tests.face_photos import BOX, POINTS, astronaut

FILES = {
    "sface": ("sface",),
    "dlib_resnet": ("dlib_resnet", "dlib_resnet_manifest"),
    "faceres": ("faceres", "faceres_graph"),
}


@pytest.fixture(scope="module")
def views():
    """u8[18, 128, 128, 3]: one face in many lights, more than a batch."""
    view = geometry.extract(astronaut(), geometry.align(BOX, POINTS)).astype(float)
    lights = np.linspace(0.5, 1.2, 18)
    return np.stack([np.clip(view * light, 0, 255) for light in lights]).astype(np.uint8)


@pytest.mark.parametrize("name", batch_embedding.VERIFIERS)
def test_rows_are_those_of_one_face_at_a_time(views, name):
    if missing := [file for file in FILES[name] if not assets.is_cached(file)]:
        pytest.skip(f"needs the assets {', '.join(missing)}")
    rows = batch_embedding.embed(views, (name,))[name]
    single = embedders.EMBEDDERS[name]()
    for row in (0, 17):
        wanted = embedders.embed(single, views[row : row + 1], canonical_points(views[:1]))
        cosine = float((embedders.unit(wanted)[0] * rows[row]).sum())
        assert cosine > 0.9999
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)


def test_points_say_where_the_face_is_and_unknown_ones_give_no_row(views):
    if not assets.is_cached("sface"):
        pytest.skip("needs the asset sface")
    points = [POINTS, np.full((5, 2), np.nan, np.float32)]
    rows = batch_embedding.embed([astronaut(), views[0]], ("sface",), points)["sface"]
    brightness = int(np.abs(np.linspace(0.5, 1.2, 18) - 1).argmin())
    known = batch_embedding.embed(views[brightness : brightness + 1], ("sface",))["sface"]
    assert float((rows[0] * known[0]).sum()) > 0.9
    assert np.isnan(rows[1]).all()
    assert batch_embedding.embed(views[:0], ("sface",))["sface"].shape == (0, 128)
