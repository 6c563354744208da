import pathlib

import numpy as np
import pytest
from PIL import Image

from dp3_jax import assets
from dp3_jax.anonymization import demo
from dp3_jax.cli import main
from dp3_jax.errors import UserError
from dp3_jax.evaluation.verification import open_verifier


@pytest.fixture(scope="module")
def verifier():
    try:
        assets.fetch("yunet")
        return open_verifier("sface")
    except UserError as error:
        pytest.skip(f"needs the face models: {error}")


def test_the_demo_hides_the_astronaut_and_touches_nothing_else(verifier, tmp_path):
    report = demo.run(tmp_path, verifier, seed=1)
    cosines = report["cosine_to_original"]
    # The judge works: the same face in other light is still the same person.
    assert cosines.pop("the same photo, brighter") > 0.8
    hidden = [value for value in cosines.values() if value is not None]
    assert all(value < report["same_person_from"] for value in hidden)
    photo = np.asarray(Image.open(tmp_path / "astronaut.png"))
    changed = np.asarray(Image.open(tmp_path / "astronaut_generate.png")) != photo
    assert changed.any() and not changed[300:].any() and not changed[:, :100].any()
    assert Image.open(tmp_path / "preview.png").size == (3 * 512, 512)
    text = demo.format_report(report, tmp_path)
    assert "not the same person" in text and str(tmp_path / "preview.png") in text


def test_a_folder_that_cannot_be_written_is_one_line(verifier, tmp_path, capsys):
    blocked = pathlib.Path(tmp_path / "file")
    blocked.write_text("")
    assert main(["demo", "-o", str(blocked / "below"), "--seed", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write") and "below" in line
