"""Writing the packed form (see packed.py), streaming: memory does not grow with the data set."""

import hashlib
import json
import os
import pathlib
import shutil

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.common.files import atomic_target
from dp3_jax.data import packed
from dp3_jax.data.catalog import Catalog, subset_size
from dp3_jax.data.options import SPLITS, DataOptions
from dp3_jax.data.splits import FileSplit, parallel_map


def write_packed(catalog: Catalog, options: DataOptions, output: str | os.PathLike) -> str:
    """Decodes the subsets that the options ask for, of all splits, into the folder `output`.

    The train rows are those of the seeded subset (`train_examples`, 0 is all), likewise validation;
    test is whole. What is there already and was made with the same settings is kept.

    Returns:
      One line for the console.

    Raises:
      UserError: `output` holds something else, the disk is full, too many files are unreadable.
    """
    output = pathlib.Path(output)
    splits = [
        FileSplit(catalog, name, options)
        for index, name in enumerate(SPLITS)
        if np.any(catalog.partitions == index)
    ]
    settings = _settings(catalog, options, splits)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        return _keep(output, settings)
    count, side = settings["examples"], options.image_size
    _check_space(output, count * side * side * 3)
    readable = np.ones(count, bool)
    with atomic_target(output) as temporary:
        temporary.mkdir()
        settings["sha256"] = _write_images(temporary / packed.IMAGES, splits, side, readable)
        _write_index(temporary / packed.INDEX, splits, readable)
        settings["unreadable"] = {
            split.labels(np.array([position]))[0][0]: reason
            for split in splits
            for position, reason in sorted(split.unreadable.items())
        }
        content = json.dumps(settings, indent=2) + "\n"
        (temporary / packed.SETTINGS).write_text(content)
    return _summary(output, settings, "packed")


def _settings(catalog: Catalog, options: DataOptions, splits: list[FileSplit]) -> dict:
    made = {split.name: split for split in splits}
    return {
        "format": packed.FORMAT,
        "title": catalog.title,
        **packed.pixel_settings(options),
        "resize": "Pillow Lanczos",
        "partition_note": catalog.partition_note,
        "examples": sum(split.count for split in splits),
        "splits": {
            name: {
                "count": made[name].count if name in made else 0,
                "population": made[name].population if name in made else 0,
                "subset": subset_size(name, options),
                "subset_seed": options.subset_seed,
            }
            for name in SPLITS
        },
    }


def _keep(output: pathlib.Path, settings: dict) -> str:
    """Returns the summary of an existing packed folder of the same settings; else UserError."""
    found = packed.open_packed(output).settings if (output / packed.SETTINGS).is_file() else None
    if found is None:
        raise UserError(f"{output} exists and is not packed data; name another place")
    differences = [
        f"{key} is {found.get(key)}, the config gives {settings[key]}"
        for key in settings
        if found.get(key) != settings[key]
    ]
    if differences:
        raise UserError(
            f"{output} holds packed data made with other settings: {'; '.join(differences)}; "
            "remove it or name another place"
        )
    return _summary(output, found, "already packed")


def _summary(output: pathlib.Path, settings: dict, verb: str) -> str:
    parts = ", ".join(f"{made['count']} {name}" for name, made in settings["splits"].items())
    side = settings["image_size"]
    size = settings["examples"] * side * side * 3 / 1e6
    return (
        f"{verb} in {output}: {settings['title']}, {settings['examples']} images ({parts}), "
        f"{side}x{side}, {size:.0f} MB, {len(settings['unreadable'])} unreadable"
    )


def _check_space(output: pathlib.Path, size: int) -> None:
    """Raises UserError before hours of decoding when the result cannot fit on the disk."""
    place = output.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < size:
        raise UserError(
            f"cannot write {output}: it needs {size / 1e6:.0f} MB and {free / 1e6:.0f} MB are "
            "free; free space or choose another place"
        )


def _write_images(
    path: pathlib.Path, splits: list[FileSplit], side: int, readable: np.ndarray
) -> str:
    """Writes images.npy front to back, marks unreadable rows; returns the rows' SHA-256.

    Plain writes and not a writable mapping: on a full disk a mapping ends in SIGBUS, a write in an
    OSError.
    """
    digest, row, black = hashlib.sha256(), 0, bytes(side * side * 3)
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(
            file,
            {"descr": "|u1", "fortran_order": False, "shape": (len(readable), side, side, 3)},
        )
        for split in splits:
            images = parallel_map(split.exact, range(split.count), split.options.workers)
            for image in images:
                content = black if image is None else image.tobytes()
                readable[row] = image is not None
                digest.update(content)
                file.write(content)
                row += 1
    return digest.hexdigest()


def _write_index(path: pathlib.Path, splits: list[FileSplit], readable: np.ndarray) -> None:
    labels = [split.labels(np.arange(split.count)) for split in splits]
    columns = {
        "partitions": np.concatenate(
            [np.full(split.count, SPLITS.index(split.name), np.int8) for split in splits]
        ),
        "readable": readable,
        "names": np.array([name for names, _ in labels for name in names]),
    }
    if labels[0][1] is not None:
        columns["identities"] = np.concatenate([identities for _, identities in labels])
    np.savez_compressed(path, **columns)
