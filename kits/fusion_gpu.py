"""The fusion network at 256 px on a machine with a GPU: renders, trains and exports, in minutes.

    python -m kits.fusion_gpu pack [--photos CELEBA]     where there is a network
    python -m kits.fusion_gpu run [--minutes N]          there; needs the repository and runs/kit/ alone

`run` renders donors and targets with the prior on the device, trains configs/fusion256.py on them until its
time is over, and writes the weights, what was measured and pictures into a folder. The same command goes on
where it was, as long as its --work folder is there; elsewhere, --weights goes on with exported weights.
Sizes, and what comes back: kits/README.md.
"""

import argparse
import dataclasses
import os
import pathlib
import shutil
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl import logging
from ml_collections import ConfigDict

from configs import fusion256
from dp3_jax.common import assets, console, files, images
from dp3_jax.common.asset_sources import CACHE_VARIABLE
from dp3_jax.common.errors import UserError
from dp3_jax.data import DataOptions, donors, load_arrays
from dp3_jax.data.catalog import Catalog
from dp3_jax.data.donors import Measured
from dp3_jax.data.options import SPLITS
from dp3_jax.data.packing import write_packed
from dp3_jax.data.splits import parallel_map
from dp3_jax.models import mesh, prior, prior_heads
from dp3_jax.models.modulated import Params
from dp3_jax.training.configuration import data_options
from kits import common, rendering, webp_pack

PRIOR = "prior_half.safetensors"
PHOTOS = "photos.zip"
ASSETS = ("face_mesh", "person_mask", "mobilenet_v2")
_CROP = (0, 20, 178, 198)  # of CelebA's pictures: the canonical frame, 178 px of it
_HELD_OUT = 20  # one of so many pictures is for validation
_RENDERING_SHARE = 0.35  # of the time, at most
_RESERVE = 45.0  # seconds, to save and to export in
_MIN_PICTURES = 64  # of each kind
_SHOWN = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What `run` is told.

    Attributes:
      kit: folder that `pack` wrote.
      work: folder for pictures and checkpoints.
      output: folder for the results.
      minutes: for all of it.
      donors, targets: pictures to render.
      photos: pack of photos, or None.
      rendered: px of the renderings that pictures are cut from.
      reserve: seconds to save and to export in.
    """

    kit: pathlib.Path
    work: pathlib.Path
    output: pathlib.Path
    minutes: float
    donors: int = 5000
    targets: int = 10000
    photos: pathlib.Path | None = None
    rendered: int = 256
    reserve: float = _RESERVE


def pack(folder: pathlib.Path, photos: str = "", count: int = 1500, megabytes: float = 8.0) -> str:
    """Writes into `folder` what `run` needs beside the repository; one line about the sizes.

    Args:
      folder: made if need be.
      photos: CelebA, as `data.path` of the celeba source; "" for none.
      count: photos of its train split.
      megabytes: size of them all, at most.

    Raises:
      UserError: something cannot be fetched, read or written, or it is more than may be carried.
    """
    files.check_place(folder / PRIOR)
    write_half(folder / PRIOR, prior.load_prior())
    for path in assets.fetch_all(ASSETS).values():
        if not (folder / path.name).exists() or not files.same_file(path, folder / path.name):
            with files.atomic_target(folder / path.name) as temporary:
                shutil.copyfile(path, temporary)
    if photos:
        options = DataOptions(
            source="celeba", path=photos, crop=_CROP, image_size=_CROP[2], train_examples=count
        )
        chosen = {"train": load_arrays(options, "train")}
        print(webp_pack.write_pack(folder / PHOTOS, "CelebA", chosen, int(megabytes * 1e6)))
    return common.check_carried(folder, common.repository_bytes())


def write_half(path: pathlib.Path, params: Params) -> None:
    """The prior's parameters in half precision."""
    half = {name: np.ascontiguousarray(value, np.float16) for name, value in params.items()}
    files.write_bytes(path, safetensors.numpy.save(half))


def load_kit(folder: pathlib.Path) -> dict[str, jax.Array]:
    """Parameters f32 of the prior and its heads; from here on assets are looked for in `folder`.

    Raises:
      UserError: it is not complete.
    """
    wanted = [PRIOR, *(assets.ASSETS[name].filename for name in ASSETS)]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {', '.join(missing)}; write it with python -m kits.fusion_gpu pack, and carry it"
        )
    os.environ[CACHE_VARIABLE] = str(folder.absolute())
    heads = prior_heads.WEIGHTS
    parts = [*([heads] if heads.exists() else []), folder / PRIOR]
    tensors = [safetensors.numpy.load_file(path) for path in parts]
    return {name: jnp.float32(value) for part in tensors for name, value in part.items()}


def prepare(
    settings: Settings,
    config: ConfigDict,
    params: Params,
    seconds: float,
    locate: rendering.Locate | None = None,
) -> dict[str, Any]:
    """Makes the packed set and the donors that `config` names, or leaves them as they are.

    Returns:
      What to report.

    Raises:
      UserError: too few pictures could be made in the time.
    """
    packed, folder = pathlib.Path(config.data.path), pathlib.Path(config.data.donors)
    if (folder / donors.MEASURED).exists():
        logging.info("pictures are in %s and %s already", packed, folder)
        return {"there_already": True}
    made, report = rendering.render_pictures(
        params,
        folder,
        {"donors": settings.donors, "targets": settings.targets},
        size=config.data.image_size,
        rendered=settings.rendered,
        seconds=seconds,
        locate=locate,
    )
    counts = {kind: len(made[kind][0]) if kind in made else 0 for kind in rendering.KINDS}
    few = {kind: n for kind, n in counts.items() if n < min(_MIN_PICTURES, getattr(settings, kind))}
    if few:
        raise UserError(
            f"only {few} pictures with a face were made in {seconds:.0f} s; the same command goes on with "
            "them, or give more --minutes"
        )
    options = dataclasses.replace(
        data_options(config.data), source="folder", path="rendered", on_device=False
    )
    catalog, measured = _catalog(settings, options, *made["targets"])
    print(write_packed(catalog, options, packed))
    of_row = np.concatenate([np.flatnonzero(catalog.partitions == i) for i in range(len(SPLITS))])
    faces = Measured(*(part[of_row] for part in vars(measured).values()))
    donors.save(folder / donors.FACES, faces)
    _draw_pictures(settings.output, made)
    donors.save(folder / donors.MEASURED, made["donors"][1])  # last: it says that all is there
    (folder / "targets.npy").unlink()
    return {**report, **counts, "photos": len(catalog.names) - counts["targets"]}


def _catalog(
    settings: Settings, options: DataOptions, pictures: np.ndarray, measured: Measured
) -> tuple[Catalog, Measured]:
    """Rendered targets, and photos after them; with their measurements in the same order."""
    count, photos = len(pictures), None
    names = [f"rendered{i:06d}" for i in range(count)]
    if settings.photos:
        photos = webp_pack.open_pack(settings.photos)
        names += photos.names
        measured = _with_photos(measured, photos, options)

    def load(example: int, options: DataOptions) -> np.ndarray:
        if example < count:
            return np.asarray(pictures[example])
        return photos.load(example - count, options)

    held_out = np.arange(len(names)) % _HELD_OUT == _HELD_OUT - 1
    split = np.where(held_out, SPLITS.index("validation"), SPLITS.index("train"))
    catalog = Catalog(
        title="rendered faces" + (f" and {photos.title}" if photos else ""),
        names=tuple(names),
        partitions=split.astype(np.int8),
        identities=None,
        load=load,
        partition_note=f"one in {_HELD_OUT} held out",
    )
    return catalog, measured


def _with_photos(measured: Measured, photos: Catalog, options: DataOptions) -> Measured:
    """`measured`, and behind it the photos' measurements."""
    loaded = parallel_map(
        lambda i: photos.load(i, options), range(len(photos.names)), options.workers
    )
    found = donors.measure(loaded, mesh.FaceMesh())
    pairs = zip(vars(measured).values(), vars(found).values(), strict=True)
    return Measured(*(np.concatenate(pair) for pair in pairs))


def _draw_pictures(output: pathlib.Path, made: dict[str, tuple[np.ndarray, Measured]]) -> None:
    """pictures.png: some donors in the upper half, some targets in the lower."""
    shown = np.concatenate([np.asarray(made[kind][0][:_SHOWN]) for kind in rendering.KINDS])
    images.write_png(output / "pictures.png", images.make_grid(shown, columns=8))


def configure(
    config: ConfigDict, settings: Settings, weights: str = "", batch: int = 0
) -> ConfigDict:
    """`config` with the places of `settings`, the weights to begin with and the batch size, if given."""
    with config.unlocked():
        config.data.update(source="packed", path=str(settings.work / "packed"))
        config.data.update(donors=str(settings.work / "pictures"), train_examples=0)
        config.data.validation_examples = 0
        config.train.epochs = 1000.0  # the clock ends it
        if weights:
            config.train.initial_generator = weights
        if batch:
            config.train.batch_size = batch
    return config


def run(
    settings: Settings, config: ConfigDict, locate: rendering.Locate | None = None
) -> dict[str, Any]:
    """Renders, trains and exports within `settings.minutes`; returns what report.json holds.

    Args:
      settings: see there.
      config: of `configure`.
      locate: finds the mesh in a rendering; by default the face mesh.

    Raises:
      UserError: the kit is not complete, or the time does not do.
    """
    clock = common.Clock(settings.minutes, settings.reserve)
    params = load_kit(settings.kit)
    files.check_place(settings.output / "report.json")
    common.use_compilation_cache(settings.work / "compiled")
    logging.info("on %s", common.device())
    report: dict[str, Any] = {"device": common.device(), "minutes": settings.minutes}
    seconds = _RENDERING_SHARE * clock.seconds
    report["pictures"] = prepare(settings, config, params, seconds, locate)
    report["seconds_until_training"] = round(clock.passed, 1)
    del params
    training = settings.work / "training"
    report["training"] = common.train_until(config, training, clock.to_train)
    grids = sorted((training / "grids").glob("*.png"))
    others = [(grids[0], "grid_first.png"), (grids[-1], "grid_last.png")]
    others.append((training / "config.json", "config.json"))
    name = f"fusion{config.data.image_size}.safetensors"
    report["seconds"] = round(clock.passed, 1)
    common.write_results(training, settings.output, name, others, report)
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("kits.fusion_gpu", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write what `run` needs")
    packing.add_argument("--kit", type=pathlib.Path, default=pathlib.Path("runs/kit"))
    packing.add_argument("--photos", default="", metavar="CELEBA", help="also photos, as targets")
    packing.add_argument("--count", type=int, default=1500, help="photos")
    packing.add_argument("--megabytes", type=float, default=8.0, help="of photos, at most")
    running = commands.add_parser("run", help="render, train, export")
    running.add_argument("--kit", type=pathlib.Path, default=pathlib.Path("runs/kit"))
    running.add_argument("--work", type=pathlib.Path, default=pathlib.Path("runs/fusion256"))
    running.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("runs/fusion256/results")
    )
    running.add_argument("--minutes", type=float, default=9.0, help="for all of it")
    running.add_argument("--donors", type=int, default=5000, help="pictures to render")
    running.add_argument("--targets", type=int, default=10000, help="pictures to render")
    running.add_argument("--photos", type=pathlib.Path, metavar="ZIP", help="pack of photos")
    running.add_argument("--weights", default="", metavar="FILE", help="to begin with")
    running.add_argument("--batch", type=int, default=0, help="pictures per update")
    return parser


def main(argv: list[str]) -> int:
    """The command; returns the exit status."""
    given = _parser().parse_args(argv)
    if given.command == "pack":
        if given.count < 1 or not given.megabytes > 0:
            raise UserError("--count and --megabytes are above 0")
        print(pack(given.kit, given.photos, given.count, given.megabytes))
        return 0
    if min(given.donors, given.targets) < 1 or given.batch < 0:
        raise UserError("--donors and --targets are 1 or more, --batch 0 or more")
    settings = Settings(
        kit=given.kit, work=given.work, output=given.output, minutes=given.minutes,
        donors=given.donors, targets=given.targets, photos=given.photos,
    )  # fmt: skip
    run(settings, configure(fusion256.get_config(), settings, given.weights, given.batch))
    return 0


if __name__ == "__main__":
    sys.exit(console.run_command(main, sys.argv[1:]))
