"""The GPU kits, end to end and tiny: what is packed, what a run leaves, and how it goes on."""

import itertools
import json
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy

from configs import celeba128, fusion256
from dp3_jax import models
from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.data import DataOptions, donors, load_arrays
from dp3_jax.data.feed import ImageSet
from dp3_jax.data.packed import open_packed
from dp3_jax.models import generator_file, mesh, prior, prior_heads
from dp3_jax.models.prior_heads import COEFFICIENTS
from dp3_jax.training import configuration
from dp3_jax.training.objectives import OBJECTIVES
from kits import celeba_gpu, common, fusion_gpu, rendering, webp_pack

SIZE, WIDTH, CHANNELS = 16, 512, 8


def small_prior():
    """Parameters of a prior of four layers of few channels, with its head for 128 px, at random."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)  # noqa: E731
    params = {"input": draw(4, 4, CHANNELS), "entry.noise": draw(4, 4)}
    params |= {"entry.kernel": draw(3, 3, CHANNELS, CHANNELS), "entry.bias": draw(CHANNELS)}
    widths = {"entry.style": CHANNELS}
    for i in range(prior.MAPPING_LAYERS):
        params[f"mapping.{i}.kernel"] = draw(WIDTH, WIDTH) / np.float32(WIDTH**0.5)
        params[f"mapping.{i}.bias"] = draw(WIDTH)
    for i, part in itertools.product(range(4), ("up", "conv1", "conv2")):
        name, entering = f"layers.{i}.{part}", CHANNELS // 4 if part == "conv1" else CHANNELS
        if part == "up":
            widths[name] = CHANNELS
            continue
        widths[f"{name}.style"] = entering
        params |= {
            f"{name}.depthwise": draw(3, 3, entering),
            f"{name}.kernel": draw(entering, CHANNELS),
            f"{name}.noise": draw(8 * 2**i, 8 * 2**i),
            f"{name}.bias": draw(CHANNELS),
        }
    for part in ("entry", "conv1", "conv2", "exit"):
        name, entering = f"heads.128.{part}", CHANNELS
        leaving = {"entry": CHANNELS + COEFFICIENTS, "exit": COEFFICIENTS}.get(part, CHANNELS)
        widths[f"{name}.style"] = entering
        params |= {f"{name}.kernel": draw(entering, leaving), f"{name}.bias": draw(leaving)}
        params |= {f"{name}.depthwise": draw(3, 3, entering)} if "conv" in part else {}
    for name, width in widths.items():
        params |= {f"{name}.kernel": draw(WIDTH, width) / 20, f"{name}.bias": draw(width) + 1}
    return params


def located(image):
    """A stand-in for the mesh: where FFHQ's faces are, some px off as the picture's content says."""
    points = np.zeros((mesh.POINTS, 3), np.float32)
    angle = np.linspace(0, 2 * np.pi, mesh.POINTS, endpoint=False)
    points[:, 0], points[:, 1] = 64 + 36 * np.cos(angle), 70 + 46 * np.sin(angle)
    eyes, nose, mouth = (48.0, 80.0), (64.0, 79.0), ((50.0, 94.0), (78.0, 94.0))
    points[list(mesh.LEFT_EYE), :2], points[list(mesh.RIGHT_EYE), :2] = (eyes[0], 61), (eyes[1], 61)
    points[[1, mesh.NOSE_TIP], :2] = nose
    points[list(mesh.MOUTH_CORNERS), :2] = mouth
    points[list(mesh.MOUTH_CORNERS), 1] += int(image[64, 64, 0]) % 5
    return points


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit with the small prior, and files that nothing here opens in place of the networks."""
    folder = tmp_path_factory.mktemp("kit")
    fusion_gpu.write_half(folder / fusion_gpu.PRIOR, small_prior())
    for name in fusion_gpu.ASSETS:
        (folder / assets.ASSETS[name].filename).touch()
    return folder


def image_set(count, start=0, side=SIZE):
    rng = np.random.default_rng(start)
    blocks = rng.integers(0, 255, (count, 4, 4, 3), np.uint8)
    pictures = blocks.repeat(side // 4, 1).repeat(side // 4, 2)
    names = tuple(f"{start + i:06d}.jpg" for i in range(count))
    return ImageSet(pictures, np.arange(count, dtype=np.int32) // 2, names)


def fusion_settings(kit, folder, **changes):
    given = {"donors": 12, "targets": 60, "rendered": 128, "minutes": 60.0, **changes}
    return fusion_gpu.Settings(kit=kit, work=folder / "work", output=folder / "out", **given)


def fusion_config(settings, epochs):
    config = fusion_gpu.configure(fusion256.get_config("smoke"), settings)
    with config.unlocked():
        config.data.image_size = SIZE
        config.model.update(style_dim=8, generator_widths=(8, 16), discriminator_widths=(8, 8))
        config.train.update(epochs=epochs, batch_size=8, r1_weight=0.0)  # R1 takes long to compile
        config.log.update(metrics_steps=1, grid_images=4, ssim_generated=2, ssim_real=8)
        config.log.update(grid_steps=100, checkpoint_steps=0)
    return config


@pytest.fixture
def own_environment(monkeypatch):
    """Where a run looks for assets is as before afterwards."""
    monkeypatch.setenv("DP3_ASSETS", "")


def test_the_fusion_kit_renders_trains_and_exports_and_goes_on(kit, tmp_path, own_environment):
    settings = fusion_settings(kit, tmp_path)
    report = fusion_gpu.run(settings, fusion_config(settings, 1.0), located)
    assert report["pictures"]["donors"] == 12 and report["pictures"]["targets"] == 60
    assert report["training"]["step"] == 8  # 57 pictures in updates of 8
    names = {path.name for path in settings.output.iterdir()}
    assert names == {
        "fusion16.safetensors", "metrics.jsonl", "curves.png", "grid_first.png", "grid_last.png",
        "pictures.png", "config.json", "report.json",
    }  # fmt: skip
    model, variables, step = generator_file.read_generator(settings.output / "fusion16.safetensors")
    assert (model["family"], model["image_size"], step) == ("fusion", SIZE, 8)
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(variables))
    # Again: the pictures are there, and training goes on where it was.
    again = fusion_gpu.run(settings, fusion_config(settings, 2.0), located)
    assert again["pictures"] == {"there_already": True}
    assert again["training"]["step"] == 15
    assert json.loads((settings.output / "report.json").read_text()) == again


def test_interrupted_rendering_gives_the_same_pictures(kit, tmp_path, own_environment):
    params = fusion_gpu.load_kit(kit)
    wanted = {"donors": 6, "targets": 20}
    made = {"size": SIZE, "rendered": 128, "locate": located}
    whole, _ = rendering.render_pictures(params, tmp_path / "a", wanted, seconds=1e6, **made)
    # One batch is always made.
    for _ in range(2):
        rendering.render_pictures(params, tmp_path / "b", wanted, seconds=1e-6, **made)
    parts, _ = rendering.render_pictures(params, tmp_path / "b", wanted, seconds=1e6, **made)
    for kind, (pictures, measured) in whole.items():
        np.testing.assert_array_equal(parts[kind][0], pictures)
        np.testing.assert_array_equal(parts[kind][1].points, measured.points)
        # Eyes and mouth lie where the canonical frame has them, in px of 128.
        off = measured.points - donors.CANONICAL_POINTS
        assert np.abs(off).max() < 4.0


def test_photos_are_targets_too(kit, tmp_path, own_environment, monkeypatch):
    settings = fusion_settings(kit, tmp_path, photos=tmp_path / "photos.zip")
    webp_pack.write_pack(settings.photos, "some", {"train": image_set(10)}, 10**6)
    monkeypatch.setattr(mesh, "FaceMesh", Everywhere)
    config = fusion_config(settings, 1.0)
    params = fusion_gpu.load_kit(kit)
    report = fusion_gpu.prepare(settings, config, params, 1e6, located)
    assert report["photos"] == 10
    packed = open_packed(config.data.path)
    names = [str(name) for name in packed.names]
    faces = donors.load(settings.work / "pictures" / donors.FACES)
    assert len(names) == len(faces.score) == 70
    for row, name in enumerate(names):
        assert (faces.score[row] == np.float32(0.9)) == (not name.startswith("rendered"))
    row = names.index("000003.jpg")
    # WebP is lossy, and has half of the pixels' colours.
    away = np.abs(packed.images[row].astype(int) - image_set(10).images.astype(int)).mean((1, 2, 3))
    assert away.argmin() == 3 and away[3] < 25


class Everywhere:
    """A mesh that is as sure of each picture."""

    def points(self, image, box=None, five=None):
        return located(np.zeros((128, 128, 3), np.uint8)) * (len(image) / 128), 0.9


def celeba_config(work):
    config = celeba_gpu.configure(celeba128.get_config("smoke"), work)
    with config.unlocked():
        config.data.update(image_size=SIZE, train_examples=24, validation_examples=0)
        config.model.update(latent_dim=8, generator_widths=(8, 8), discriminator_widths=(8, 8))
        config.train.update(epochs=2.0, batch_size=8, accumulation=2)
        config.log.update(metrics_steps=1, grid_images=4, ssim_generated=2, ssim_real=8)
        config.evaluate.update(num_generated=4, num_heldout=8, batch_size=4)
    return config


def test_the_celeba_kit_trains_measures_and_exports(tmp_path, own_environment):
    path = tmp_path / "pack" / "celeba.zip"
    sets = {"train": image_set(24), "validation": image_set(8, 100)}
    webp_pack.write_pack(path, "CelebA", sets, 10**6)
    settings = celeba_gpu.Settings(
        pack=path, work=tmp_path / "work", output=tmp_path / "out", minutes=60.0
    )
    report = celeba_gpu.run(settings, celeba_config(settings.work))
    assert report["training"]["passes"] == 2.0
    for control in ("generated_vs_matched_train", "heldout_vs_matched_train"):
        assert 0 <= report["ssim"][control]["mean"] <= 1
    names = {path.name for path in settings.output.iterdir()}
    assert names == {
        "celeba128.safetensors", "metrics.jsonl", "curves.png", "evaluation.json", "report.json",
        "evaluation_pairs.png", "samples_grid.png", "samples_interpolation.png",
    }  # fmt: skip


def test_the_clock_ends_a_training_and_the_next_one_goes_on(tmp_path, own_environment):
    path = tmp_path / "celeba.zip"
    webp_pack.write_pack(
        path, "CelebA", {"train": image_set(24), "validation": image_set(8, 100)}, 10**6
    )
    config = celeba_config(tmp_path / "work")
    options = DataOptions(
        source="folder", path="pack", image_size=SIZE, crop=None, train_examples=24
    )
    celeba_gpu.write_packed(webp_pack.open_pack(path), options, config.data.path)
    with config.unlocked():
        config.train.epochs = 1e6
    first = common.train_until(config, tmp_path / "training", 0.1)
    assert 1 <= first["step"] < 6e6
    second = common.train_until(config, tmp_path / "training", 0.1)
    assert second["step"] > first["step"]
    with pytest.raises(UserError, match="no time is left"):
        common.train_until(config, tmp_path / "training", 0.0)


def test_a_pack_is_as_good_as_its_size_allows(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (30, 64, 64, 3), np.uint8)
    sets = {"train": ImageSet(noise, None, tuple(map(str, range(30))))}
    path, qualities, limit = tmp_path / "pack.zip", [], 10**6
    for _ in range(2):
        told = webp_pack.write_pack(path, "noise", sets, limit)
        assert path.stat().st_size <= limit
        with zipfile.ZipFile(path) as opened:
            qualities.append(json.loads(opened.read("pack.json"))["quality"])
        assert f"quality {qualities[-1]}" in told
        limit = path.stat().st_size * 2 // 3
    assert qualities[0] == webp_pack.QUALITIES[0] > qualities[1]
    with pytest.raises(UserError, match=r"30 pictures do not fit into 0.01 MB"):
        webp_pack.write_pack(path, "noise", sets, 10_000)


def test_a_pack_holds_the_configs_own_subset(shared_data, tmp_path):
    config = celeba128.get_config()
    options = DataOptions(
        source="celeba", path=str(shared_data / "celeba"), train_examples=20, validation_examples=5
    )
    celeba_gpu.pack(tmp_path / "pack.zip", options, 1.0)
    wanted = load_arrays(options, "train")
    catalog = webp_pack.open_pack(tmp_path / "pack.zip")
    assert catalog.names[:20] == wanted.names and config.data.subset_seed == options.subset_seed
    near = catalog.load(0, options).astype(int) - wanted.images[0]
    assert np.abs(near).mean() < 8


def test_weights_of_half_the_size_are_a_beginning():
    config = fusion256.get_config()
    configuration.parse(config)
    shapes = []
    for size in (128, 256):
        model = {**configuration.model_section(config), "image_size": size}
        network, inputs = models.build_generator(model), models.generator_inputs(model)
        made = jax.eval_shape(
            lambda n=network, i=inputs: n.init(jax.random.key(0), *i, train=False)
        )
        shapes.append(made["params"])
    small = jax.tree.map(lambda x: np.ones(x.shape, np.float32), shapes[0])
    adopted = OBJECTIVES["fusion"].adopt({"family": "fusion"}, small, shapes[1])
    assert jax.tree.map(lambda x: x.shape, adopted) == jax.tree.map(lambda x: x.shape, shapes[1])
    np.testing.assert_allclose(adopted["place"], 1.0, rtol=1e-6)


def test_what_is_too_much_to_carry_is_refused(tmp_path):
    (tmp_path / "prior").write_bytes(bytes(3 * 2**20))
    assert "5.0 MiB to carry" in common.check_carried(tmp_path, 2 * 2**20)
    with pytest.raises(UserError, match=r"3\.0 MiB.*repository \(62\.0 MiB\) are more than 64 MiB"):
        common.check_carried(tmp_path, 62 * 2**20)


def test_the_priors_pack_is_half_as_large_and_gives_the_same_faces(kit, own_environment):
    params, half = small_prior(), fusion_gpu.load_kit(kit)
    stored = safetensors.numpy.load_file(kit / fusion_gpu.PRIOR)
    assert {value.dtype for value in stored.values()} == {np.dtype(np.float16)}
    w = np.random.default_rng(0).normal(size=(2, WIDTH)).astype(np.float32)
    render = jax.jit(prior_heads.render, static_argnums=2)
    np.testing.assert_allclose(render(half, w, 128), render(params, w, 128), atol=0.02)


def test_mistakes_are_told_in_one_line(kit, tmp_path, own_environment):
    with pytest.raises(UserError, match=r"lacks prior_half.safetensors, .* pack, and carry it"):
        fusion_gpu.main(["run", f"--kit={tmp_path}", f"--work={tmp_path}"])
    with pytest.raises(UserError, match=r"--minutes=0.5 leaves nothing to train in"):
        fusion_gpu.main(["run", f"--kit={kit}", "--minutes=0.5"])
    with pytest.raises(UserError, match="--donors and --targets are 1 or more"):
        fusion_gpu.main(["run", "--donors=0"])
    with pytest.raises(UserError, match="there is no pack"):
        celeba_gpu.main(["run", f"--pack={tmp_path / 'none.zip'}", f"--work={tmp_path / 'work'}"])
    (tmp_path / "other.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"cannot read .*other.zip"):
        webp_pack.open_pack(tmp_path / "other.zip")
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(UserError, match=r"foreign.zip is no pack of a kit"):
        webp_pack.open_pack(tmp_path / "foreign.zip")
    settings = fusion_settings(kit, tmp_path / "slow", targets=200)
    with pytest.raises(UserError, match=r"only .* pictures with a face were made"):
        fusion_gpu.run(settings, fusion_config(settings, 1.0), lambda image: None)
