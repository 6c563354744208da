import pathlib

import numpy as np
import pytest
from PIL import Image

from dp3_jax.cli.main import main
from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.evaluation import demo, demo_clip, demo_person
from dp3_jax.media.video import reading
from dp3_jax.metrics.verification import open_verifier
from dp3_jax.pipelines.anonymize import Anonymizer
from tests.face_photos import Painter


@pytest.fixture(scope="module")
def verifier():
    try:
        assets.fetch("yunet")
        return open_verifier("sface")
    except UserError as error:
        pytest.skip(f"needs the face models: {error}")


@pytest.fixture(scope="module")
def made(verifier, tmp_path_factory):
    """(folder, report) of a demo with a short clip."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo.run_demo(folder, verifier, seed=1, frames=12)


def test_the_demo_hides_the_astronaut_and_touches_nothing_else(made):
    folder, report = made
    cosines = dict(report["cosine_to_original"])
    # The judge works: the same face in other light is still the same person.
    assert cosines.pop("the same photo, brighter") > 0.8
    anonymized = [value for value in cosines.values() if value is not None]
    assert all(value < report["same_person_from"] for value in anonymized)
    photo = np.asarray(Image.open(folder / "astronaut.png"))
    changed = np.asarray(Image.open(folder / "astronaut_generate.png")) != photo
    assert changed.any() and not changed[300:].any() and not changed[:, :100].any()
    assert Image.open(folder / "preview.png").size == (3 * 512, 512)


def test_the_demo_hides_whom_the_clip_shows_in_every_frame(made):
    folder, report = made
    video = report["video"]
    assert (video["frames"], video["tracks"]) == (12, 1)
    assert (video["faces_judged"], video["faces_shown"]) == (12, 0)
    assert video["best_cosine"] is None or video["best_cosine"] < video["same_person_from"]
    assert video["warping_to_original"] > 0 and video["identity_to_original"] > 0.8
    for name in (demo_clip.ORIGINAL, demo_clip.ANONYMIZED):
        info = reading.open_video(folder / name)
        size = (384, 384) if report["identity"] == "prior" else (640, 480)
        assert (info.width, info.height, info.codec, info.rate) == (*size, "h264", 25)
        with reading.read_frames(folder / name) as frames:
            assert sum(1 for _ in frames) == 12


def test_the_demo_tells_what_to_look_at(made):
    folder, report = made
    text = demo.format_report(report, folder)
    assert "not the same person" in text and "in 0 of 12 frames" in text
    named = [word for word in text.split() if word.startswith(str(folder))]
    assert len(named) == 3 and all(pathlib.Path(name).is_file() for name in named)


def test_the_camera_sees_nothing_but_the_photo():
    """A photo of one colour stays it: the path never leaves the photo, where its border would be mirrored."""
    photo = np.full((512, 512, 3), 90, np.uint8)
    photo[[0, -1]] = photo[:, [0, -1]] = 255
    frames = list(demo_clip.pan(photo, 40))
    assert len(frames) == 40 and frames[0].shape == (480, 640, 3)
    assert max(frame.max() for frame in frames) < 150
    assert np.abs(frames[0].astype(int) - frames[1]).mean() > 1  # the noise of a camera


def test_without_the_prior_the_clip_is_the_photo():
    anonymizer = Anonymizer(generator=Painter())
    assert anonymizer.renderer.identity == "builtin"
    clip = demo_clip.original(np.full((512, 512, 3), 90, np.uint8), anonymizer, 3)
    assert [picture.shape for picture in clip.pictures] == [(480, 640, 3)] * clip.frames
    assert "photo" in clip.what


def test_the_generated_person_moves_smoothly_blinks_and_begins_anew():
    steps = 4 * demo_person.RATE
    looks = np.array([demo_person.expression_at(i / demo_person.RATE) for i in range(steps + 1)])
    np.testing.assert_allclose(looks[-1], looks[0], atol=1e-9)
    yaw, pitch, opening, eyes = looks.T
    assert np.abs(np.diff(yaw)).max() < 1 and np.abs(np.diff(pitch)).max() < 1  # degrees a frame
    assert yaw.max() > 10 and yaw.min() < -10
    assert opening.min() == 0 and 0.1 < opening.max() <= 0.2
    assert eyes.min() < 0.1 and np.mean(eyes == 1) > 0.7


def test_a_folder_that_cannot_be_written_is_one_line(verifier, tmp_path, capsys):
    blocked = pathlib.Path(tmp_path / "file")
    blocked.write_text("")
    assert main(["demo", "-o", str(blocked / "below"), "--seed", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write") and "below" in line
