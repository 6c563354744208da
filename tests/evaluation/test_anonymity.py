import json

import jax
import numpy as np
import pytest
from PIL import Image

from configs import anonymize128
from dp3_jax import models
from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.data import ImageSet
from dp3_jax.detection.face_detection import Detector
from dp3_jax.evaluation import anonymity, compared_methods, composites, people
from dp3_jax.evaluation.attacks import verify
from dp3_jax.metrics import identification, image_similarity, verification
from dp3_jax.models import generator_file
from dp3_jax.replacement.generator import load_anonymizer
from dp3_jax.training.configuration import model_section
from dp3_jax.vision import masks
from tests import runs
from tests.verifiers import Colours


def unit(rng, *shape):
    values = rng.normal(size=shape)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def smoke_config(**changes):
    config = anonymize128.get_config("smoke")
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    config.update_from_flattened_dict(dotted)
    return config


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An untrained anonymizer of the :smoke config in a file."""
    model = model_section(smoke_config().to_dict())
    network = models.build_generator(model)
    # Drawn here: compiling the initialization takes longer than all that follows.
    inputs = models.generator_inputs(model)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs))
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), shapes)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    generator_file.save_generator(path, variables, model, step=12)
    return path


def some_people(count=6, each=3, size=16):
    rng = np.random.default_rng(0)
    pictures = rng.integers(1, 255, (count * each, size, size, 3), dtype=np.uint8)
    identities = np.repeat(np.arange(count, dtype=np.int32) + 10, each)
    return ImageSet(pictures, identities, tuple(str(i) for i in range(count * each)))


def test_gallery_and_probes_share_people_but_no_picture():
    pictures = some_people()
    drawn = people.choose_people("some", pictures, probes_each=2, seed=1)
    assert sorted(drawn.gallery_people) == sorted(set(pictures.identities.tolist()))
    assert len(drawn.probes) == 12
    gallery, probes = ({p.tobytes() for p in group} for group in (drawn.gallery, drawn.probes))
    assert len(gallery) == 6 and len(probes) == 12 and not gallery & probes
    of = {p.tobytes(): i for p, i in zip(pictures.images, pictures.identities, strict=True)}
    assert [of[p.tobytes()] for p in drawn.probes] == drawn.probe_people.tolist()
    other = drawn.others()
    assert sorted(other) == list(range(12))
    assert (drawn.probe_people[other] != drawn.probe_people).all()
    assert drawn.first(2).probe_people.tolist() == drawn.probe_people[:4].tolist()


def test_people_who_are_not_known_or_seen_once_are_not_drawn():
    pictures = some_people(count=4, each=2)
    pictures.identities[:2] = -1
    assert len(people.choose_people("some", pictures).gallery) == 3
    assert people.choose_people("some", ImageSet(pictures.images, None, pictures.names)) is None


def test_a_perfect_hiding_is_at_the_floor_and_no_hiding_is_not():
    rng = np.random.default_rng(0)
    faces = unit(rng, 300, 32)
    everyone = np.arange(300)
    seen = np.ones(300, bool)
    near = faces + 0.3 * unit(rng, 300, 32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    half = seen & (everyone % 2 == 0)
    result = verify.recognize(
        (faces, seen),
        {"original": (near, seen), "hidden": (unit(rng, 300, 32), seen), "part": (near, half)},
        everyone, everyone,
    )  # fmt: skip
    original, anonymized, part = (result["rows"][k] for k in ("original", "hidden", "part"))
    assert original["true_accept_rate"]["far_1e-3"]["value"] == 1.0
    assert original["rank_1"]["value"] == 1.0
    assert anonymized["true_accept_rate"]["far_1e-2"]["value"] < 0.04
    assert anonymized["rank_1"]["value"] < 0.03
    assert abs(anonymized["area_under_curve"] - 0.5) < 0.1
    floor = result["rows"]["another_person"]
    assert floor["rank_1"] == {**floor["rank_1"], "value": 0.0, "n": 20 * 300}
    assert floor["true_accept_rate"]["far_1e-2"]["value"] == pytest.approx(0.01, abs=0.004)
    # A face that is not found is no success of hiding: it leaves the rate, and is counted.
    assert part["face_not_found"] == 150
    assert part["rank_1"]["n"] == 150 and part["rank_1"]["value"] == 1.0
    assert result["different_pairs"] == 300 * 299


def test_no_face_found_at_all_is_no_rate():
    faces, seen = unit(np.random.default_rng(0), 20, 8), np.ones(20, bool)
    result = verify.recognize(
        (faces, seen),
        {"original": (faces, seen), "covered": (np.zeros((20, 1)), ~seen)},
        np.arange(20), np.arange(20),
    )  # fmt: skip
    covered = result["rows"]["covered"]
    assert covered["face_not_found"] == 20
    assert covered["rank_1"]["value"] is None and covered["mean_cosine"] is None
    assert covered["true_accept_rate"]["far_1e-2"]["value"] is None
    assert covered["true_accept_rate"]["far_1e-3"] is None  # 380 pairs cannot tell 1 in 1000


def test_everything_but_the_hole_stays_and_nothing_in_it_does(weights):
    subject = compared_methods.open_subject(weights)
    size = subject.generator.size
    drawn = people.choose_people("some", some_people(size=size), seed=0)
    anonymized = compared_methods.anonymize_pictures(subject, drawn, seed=0)
    masked = masks.inference_mask(size)[..., 0] > 0
    for name in ("generated", "copy_paste", "mean_face"):
        report = composites.outside(drawn.probes, anonymized[name])
        assert report == {"identical_pictures": 6, "pictures": 6, "psnr_db": None}
        assert (anonymized[name] != drawn.probes)[:, masked].mean() > 0.9
    for name in ("blur", "pixelate", "solid"):
        assert (anonymized[name] != drawn.probes)[:, masked].mean() > 0.9
    assert (anonymized["solid"][:, masked] == 128).all()
    changed = drawn.probes.copy()
    changed[:, masked] = 255 - changed[:, masked]
    np.testing.assert_array_equal(
        compared_methods.fill(subject, changed, seed=0), anonymized["generated"]
    )  # of the original face nothing is known
    report = composites.outside(drawn.probes, 255 - drawn.probes)
    assert report["identical_pictures"] == 0 and report["psnr_db"] < 10


def test_a_subject_is_the_same_from_an_exported_file_and_knows_its_step(weights):
    subject = compared_methods.open_subject(weights)
    assert subject.step == 12
    assert subject.generator.fingerprint == load_anonymizer(weights).fingerprint


def test_diversity_is_none_between_equal_latents_and_some_between_others(weights):
    subject = compared_methods.open_subject(weights)
    pictures = some_people(size=subject.generator.size).images[:4]
    np.testing.assert_array_equal(
        compared_methods.fill(subject, pictures, 0, draw=1),
        compared_methods.fill(subject, pictures, 0, draw=1),
    )
    report = composites.diversity(subject, pictures, Colours(), seed=0)
    assert report["mean_pixel_difference"] > 0
    assert 0.9 < report["cosine"] <= 1.0


def test_the_command_on_an_exported_file_where_nobody_is_known(weights, tmp_path):
    file = tmp_path / "exported.safetensors"
    file.write_bytes(weights.read_bytes())
    done = runs.launch(
        "--config=configs/anonymize128.py:smoke", f"--workdir={file}", "--mode=evaluate"
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "exported_evaluation"
    result = json.loads((folder / "anonymity.json").read_text())
    assert result["step"] == 12
    assert "not_measured" in result["recognition"]["heldout"]["all"]
    assert result["outside_mask"]["psnr_db"] is None
    floor, covered = (result["quality"]["rows"][kind]["kid"] for kind in ("original", "solid"))
    assert covered > floor
    assert {row["outside"] for row in result["ssim"].values()} == {1.0}
    assert "random_conv" in result["perceptual_distance"]["not_measured"]
    assert "does not tell who is who" in result["attacks"]["not_measured"]
    for words in ("PSNR infinite, SSIM 1.0000", "does not tell who is who", "grey levels"):
        assert words in done.stdout
    size = Image.open(folder / "anonymity.png").size
    assert size == (5 * (32 + 2) + 2, 16 * (32 + 2) + 2)


def test_another_picture_size_is_refused_in_one_line(weights):
    with pytest.raises(UserError, match=r"takes pictures of 32 px, config.data.image_size is 64"):
        anonymity.evaluate_anonymizer(weights, smoke_config(data__image_size=64))


def test_a_wrong_name_of_a_judge_or_a_folder_is_refused_in_one_line(weights):
    config = smoke_config()
    with config.unlocked():
        config.evaluate.judges = ("sfaec",)
    with pytest.raises(
        UserError, match=r"config\.evaluate\.judges names 'sfaec'; there are: sface"
    ):
        anonymity.evaluate_anonymizer(weights, config)
    with pytest.raises(UserError, match="nowhere"):
        compared_methods.open_subject(weights.parent / "nowhere")


def test_a_folder_without_people_is_refused(tmp_path):
    with pytest.raises(UserError, match="a folder for each person"):
        people.read_folder(tmp_path)


def _cached(*names):
    folder = assets.cache_folder()
    missing = [n for n in names if not (folder / assets.ASSETS[n].filename).is_file()]
    if missing:
        pytest.skip(f"needs the cached assets {', '.join(missing)}")


@pytest.fixture(scope="module")
def photos(shared_data, tmp_path_factory):
    _cached("yunet")
    folder = tmp_path_factory.mktemp("photos")
    for name in ("Tony_Shalhoub", "Steve_Nash", "Oprah_Winfrey", "Hun_Sen"):
        (folder / name).mkdir()
        for file in sorted((shared_data / "lfw" / name).iterdir())[:3]:
            (folder / name / file.name).write_bytes(file.read_bytes())
    return people.read_folder(folder)


def test_photos_of_people_are_brought_into_the_canonical_frame(photos):
    pictures, missed = photos
    assert missed == 0
    assert pictures.images.shape[1:] == (128, 128, 3)
    assert set(pictures.identities.tolist()) == {0, 1, 2, 3}
    detector = Detector(rotations=False)
    points = [detector.detect(image)[0].keypoints for image in pictures.images[:4]]
    assert np.abs(np.array(points) - masks.CANONICAL_POINTS).mean() < 4


def test_landmarks_of_a_shifted_face_are_off_by_the_shift(photos):
    pictures = photos[0].images[:4]
    shifted = np.roll(pictures, 4, axis=2)
    grey = np.full_like(pictures, 128)
    report = composites.landmarks({"original": pictures, "shifted": shifted, "grey": grey}, 4)
    still = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0}
    assert report["original"] == {
        "pictures": 4, "found": 4, "point_error": 0.0, "pose_error": still
    }  # fmt: skip
    assert report["shifted"]["found"] == 4
    assert report["shifted"]["point_error"] == pytest.approx(4 / 27.8, rel=0.3)
    assert max(report["shifted"]["pose_error"].values()) < 5
    assert report["grey"]["found"] == 0 and report["grey"]["point_error"] is None


def test_the_rim_is_a_part_of_the_hole():
    pictures = some_people(size=32).images
    masked = masks.inference_mask(32)[..., 0] > 0
    outside_changed = np.where(masked[..., None], pictures, 255 - pictures)
    assert composites.boundary_psnr(pictures, outside_changed) is None
    inside_changed = np.where(masked[..., None], pictures ^ 1, pictures)
    assert composites.boundary_psnr(pictures, inside_changed) == pytest.approx(48.13, abs=0.01)


def test_ssim_is_one_where_nothing_changed_and_tells_rim_from_outside():
    pictures = some_people(size=64).images[:3]
    masked = masks.inference_mask(64)[..., 0] > 0
    inside_changed = np.where(masked[..., None], 255 - pictures, pictures)
    assert composites.ssim(pictures, pictures) == {"outside": 1.0, "rim": 1.0}
    report = composites.ssim(pictures, inside_changed)
    assert report["outside"] == 1.0 and report["rim"] < 0.5
    outside_changed = np.where(masked[..., None], pictures, 255 - pictures)
    report = composites.ssim(pictures, outside_changed)
    assert report["outside"] < 0 and report["rim"] > -0.5


def test_the_map_of_ssim_has_the_mean_that_ssim_has():
    a, b = some_people(size=32).images[:2]
    found = composites.ssim_map(a, b)[5:-5, 5:-5].mean()  # windows inside the picture
    assert found == pytest.approx(image_similarity.ssim_pairs(a[None], b[None])[0], abs=1e-4)


@pytest.mark.parametrize("name", ["dlib", "sface_forced"])
def test_judges_tell_real_people_apart(photos, name):
    if name == "dlib":
        pytest.importorskip("dlib", reason="needs dlib, the extra `audit`")
        _cached("dlib_face", "dlib_points")
        verifier = verification.open_verifier("dlib")
        assert not verifier.embed(np.full((1, 128, 128, 3), 128, np.uint8))[1].any()
    else:
        _cached("sface")
        verifier = verification.open_verifier("sface_forced")
    pictures, _ = photos
    embeddings, found = verifier.embed(pictures.images)
    assert found.mean() > 0.8
    np.testing.assert_allclose(np.linalg.norm(embeddings[found], axis=1), 1, atol=1e-5)
    same, different = verification.identity_pairs(np.where(found, pictures.identities, -1), 12, 0)
    cosine = embeddings @ embeddings.T
    area = identification.area_under_curve(cosine[tuple(same.T)], cosine[tuple(different.T)])
    assert area > 0.9
    assert (cosine[tuple(same.T)] >= verifier.threshold).mean() > 0.7
    assert (cosine[tuple(different.T)] >= verifier.threshold).mean() < 0.2
