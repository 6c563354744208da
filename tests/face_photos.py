"""A real photo with one face, and stand-ins for a trained generator, for tests of photos and commands."""

import functools

import numpy as np
import pytest
import skimage.data

from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_detection import Detection, Detector
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.vision import geometry

MASTER_KEY = b"k" * 32  # that faces are drawn from
# Where the face is in `astronaut()`, as YuNet reports it, rounded.
BOX = (180.0, 68.0, 85.0, 112.0)
POINTS = np.array([[203, 104], [245, 106], [222, 128], [204, 146], [241, 147]], np.float32)


def astronaut():
    """u8[512, 512, 3], a public-domain portrait by NASA."""
    return skimage.data.astronaut().copy()


def face():
    return Detection(BOX, POINTS, 1.0, "user")


@functools.cache
def _detector():
    try:
        return Detector()
    except UserError as error:
        return str(error)


def detector_or_skip():
    """YuNet; skips the test where it can neither be found nor fetched."""
    found = _detector()
    if isinstance(found, str):
        pytest.skip(f"no detector: {found}")
    return found


class Painter:
    """Paints a smooth pattern that depends on the context and z, as a generator does, without training."""

    latent_dim = 8
    size = 128
    fingerprint = "0" * 64

    def __init__(self):
        self.seen = []

    def generate(self, image, mask, z):
        masked = mask > 0
        context = np.where(masked, 0, image).astype(np.float64)
        self.seen.append((image.copy(), mask.copy(), z.copy()))
        mean = context.sum((1, 2), keepdims=True) / (~masked).sum((1, 2), keepdims=True)
        y, x = np.mgrid[0:128, 0:128] / 20.0
        waves = np.sin(x + z[:, :1, None]) + np.cos(y * z[:, 1:2, None])
        painted = np.clip(mean + 25 * waves[..., None], 0, 255).astype(np.uint8)
        return np.where(masked, painted, image)


class Broken(Painter):
    """Fails in the way it is told to."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def generate(self, image, mask, z):
        if self.how == "raises":
            raise RuntimeError("out of\nmemory")
        if self.how == "floats":
            return np.full(image.shape, np.nan)
        if self.how == "shape":
            return image[:, :64]
        return np.where(mask > 0, np.uint8(0), image)  # flat


def everyone(batch):
    """A verdict on new faces: every one is a face."""
    return np.ones(len(batch), bool)


def stand_in_generator(monkeypatch):
    """Lets all `Anonymizer`s, those of the commands too, paint instead of loading trained networks."""
    monkeypatch.setattr(Anonymizer, "generator", Painter())
    monkeypatch.setattr(Anonymizer, "is_face", staticmethod(everyone))


def masked(one, shape=(512, 512), yaw=0.0):
    """bool of `shape`: the pixels that a new face replaces, of one that is turned by `yaw` degrees."""
    alignment = one.alignment()
    target = geometry.region(alignment, geometry.face_mask(alignment, one.box, yaw=yaw), shape)
    inside = np.zeros(shape, bool)
    inside[target.slices] = target.inside
    return inside
