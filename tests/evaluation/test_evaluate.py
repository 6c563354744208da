import json

import numpy as np
import pytest
from PIL import Image

from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.evaluate import evaluate
from tests import saved_run

SMALL = {
    "evaluate__num_generated": 12, "evaluate__num_heldout": 24, "evaluate__batch_size": 12,
    "evaluate__seed": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, saved_run.write(workdir, **SMALL)


def test_the_report_has_every_measure_with_its_controls(run, capsys):
    workdir, config = run
    result = evaluate(workdir, config)
    printed = capsys.readouterr().out
    assert json.loads((workdir / "evaluation.json").read_text()) == result
    assert result["checkpoint_step"] == 1
    ssim = {name: row["mean"] for name, row in result["ssim"].items()}
    # Each comparison has a direction that holds for any pictures.
    assert ssim["generated_vs_matched_train"] > ssim["generated_vs_random_train"]
    assert ssim["heldout_vs_matched_train"] > ssim["random_train_vs_random_train"]
    assert result["psnr_db"].keys() == result["ssim"].keys()
    untrained, floor = (result["kid"][f"{name}_vs_train"] for name in ("generated", "heldout"))
    assert untrained["value"] > floor["value"] + 3 * floor["standard_error"]
    assert result["kid"]["features"] == "untrained random convolutions"
    assert "not_measured" in result["face_verification"]
    for words in ("SSIM", "KID (untrained random convolutions)", "not measured", "heldout / train"):
        assert words in printed
    picture = Image.open(workdir / "evaluation_pairs.png")
    assert picture.size == (4 * (2 * 16 + 4) + 4, 3 * (16 + 4) + 4)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(run):
    workdir, config = run
    first, second = evaluate(workdir, config), evaluate(workdir, config)
    assert first == second
    changed = config.copy_and_resolve_references()
    changed.evaluate.seed = 6
    assert evaluate(workdir, changed)["ssim"] != first["ssim"]


def test_without_network_the_rest_is_measured(run, monkeypatch, tmp_path):
    workdir, config = run
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "empty"))
    nowhere = (assets.Url("http://127.0.0.1:9/file"),)
    for name, asset in assets.ASSETS.items():
        replaced = assets.Asset(asset.filename, asset.sha256, asset.licence, nowhere)
        monkeypatch.setitem(assets.ASSETS, name, replaced)
    config = config.copy_and_resolve_references()
    config.evaluate.update(judge="sface", kid_features="mobilenet_v2", match="l2")
    result = evaluate(workdir, config)
    for section in (
        result["kid"],
        result["face_verification"],
        result["memorisation"]["face_cosine_distance"],
    ):
        assert "cannot fetch" in section["not_measured"]
    assert np.isfinite(result["ssim"]["generated_vs_matched_train"]["mean"])


def test_another_image_size_is_one_clear_line(run):
    config = run[1].copy_and_resolve_references()
    config.data.image_size = 32
    with pytest.raises(UserError, match=r"16 px pictures, config\.data\.image_size is 32"):
        evaluate(run[0], config)


def test_a_folder_without_a_run_is_one_clear_line(run, tmp_path):
    with pytest.raises(UserError, match="no run in"):
        evaluate(tmp_path, run[1])
