"""The packed form of a data set: decoded once, read through memory mapping, without TensorFlow.

A packed folder holds
  images.npy     u8[N, S, S, 3], C order; the train rows first, then validation, then test
  index.npz      partitions i8[N], readable bool[N], names U[N], and identities i32[N] where known
  settings.json  all settings that made it, how many examples each split had, and a fingerprint
The row of an unreadable file is black and marked; it is never shown (see splits.py).
"""

import dataclasses
import json
import os
import pathlib
import zipfile
from typing import Any

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.data import order
from dp3_jax.data.catalog import subset_size
from dp3_jax.data.options import SPLITS, DataOptions
from dp3_jax.data.splits import check_unreadable, describe

FORMAT = 1
IMAGES, INDEX, SETTINGS = "images.npy", "index.npz", "settings.json"
# Settings that change the pixels: they must be equal. The subset settings are checked split by split.
_PIXEL_SETTINGS = ("image_size", "crop")


@dataclasses.dataclass(frozen=True)
class Packed:
    """An opened packed folder."""

    path: pathlib.Path
    images: np.ndarray  # Memory-mapped u8[N, S, S, 3].
    partitions: np.ndarray
    readable: np.ndarray
    names: np.ndarray
    identities: np.ndarray | None
    settings: dict[str, Any]


def open_packed(path: str | os.PathLike) -> Packed:
    """Opens a packed folder; no image is read yet.

    Raises:
      UserError: not there, unreadable, of another format, or its parts do not fit together.
    """
    path = pathlib.Path(path)
    again = "write it again with --mode=prepare"
    if not (path / SETTINGS).is_file():
        raise UserError(
            f"no packed data in {path} (no {SETTINGS}); make them with --mode=prepare, which names their "
            "folder, and give that as --config.data.path; for pictures as they are choose another data.source"
        )
    try:
        settings = json.loads((path / SETTINGS).read_text())
        if settings.get("format") != FORMAT:
            raise UserError(
                f"packed data in {path} has format {settings.get('format')}, this program reads "
                f"{FORMAT}; {again}"
            )
        images = np.load(path / IMAGES, mmap_mode="r")
        with np.load(path / INDEX, allow_pickle=False) as index:
            parts = {name: index[name] for name in index.files}
        packed = Packed(
            path=path,
            images=images,
            partitions=parts["partitions"],
            readable=parts["readable"],
            names=parts["names"],
            identities=parts.get("identities"),
            settings=settings,
        )
        count, side = len(packed.partitions), settings["image_size"]
        if images.dtype != np.uint8 or images.shape != (count, side, side, 3):
            raise ValueError(f"{IMAGES} is {images.dtype}{list(images.shape)}")
        if not (len(packed.readable) == len(packed.names) == count == settings["examples"]):
            raise ValueError(f"{INDEX} does not fit {IMAGES}")
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read packed data in {path}: {reason}; {again}") from error
    return packed


def check_settings(packed: Packed, options: DataOptions) -> None:
    """Raises UserError, naming the differences, when the pixels were made with other settings."""
    wanted = pixel_settings(options)
    differences = [
        f"{key} is {packed.settings.get(key)}, the config asks for {wanted[key]}"
        for key in _PIXEL_SETTINGS
        if packed.settings.get(key) != wanted[key]
    ]
    if differences:
        raise UserError(
            f"packed data in {packed.path} was made with other settings: "
            f"{'; '.join(differences)}; change the config or prepare another folder"
        )


def pixel_settings(options: DataOptions) -> dict[str, Any]:
    """Returns the settings that determine the pixels, as JSON gives them back."""
    return {
        "image_size": options.image_size,
        "crop": None if options.crop is None else list(options.crop),
    }


class PackedSplit:
    """A split of a packed folder (the `Split` protocol)."""

    def __init__(self, packed: Packed, name: str, options: DataOptions):
        """Chooses the split's seeded subset, the same images as from the source itself.

        Raises:
          UserError: made with other settings, subset not contained, or too many unreadable.
        """
        check_settings(packed, options)
        self.name, self.options, self._packed = name, options, packed
        self._rows = _subset_rows(packed, name, options)
        self.count = len(self._rows)
        readable = packed.readable[self._rows]
        lost = self.count - int(readable.sum())
        if lost:
            last = packed.names[self._rows[~readable][-1]]
            check_unreadable("packed", self, lost, str(last))
            if lost == self.count:
                raise UserError(f"packed data in {packed.path}: no {name} image is readable")
        self._readable = readable
        self._shown = _stand_ins(readable)
        made = packed.settings["splits"][name]
        self.description = describe(
            f"packed {packed.settings['title']}",
            self,
            made["population"],
            f"; {packed.settings['partition_note']}; {lost} unreadable",
        )

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """See `splits.Split`."""
        return self._packed.images[self.folder_rows(positions)]

    def folder_rows(self, positions: np.ndarray) -> np.ndarray:
        """Returns i64[k]: where in images.npy the pictures lie that `rows` gives."""
        return self._rows[self._shown[positions]]

    def exact(self, position: int) -> np.ndarray | None:
        """See `splits.Split`."""
        if not self._readable[position]:
            return None
        return np.asarray(self._packed.images[self._rows[position]])

    def labels(self, positions: np.ndarray) -> tuple[tuple[str, ...], np.ndarray | None]:
        """See `splits.Split`."""
        rows, identities = self._rows[positions], self._packed.identities
        names = tuple(str(name) for name in self._packed.names[rows])
        return names, None if identities is None else identities[rows]

    def shown(self, positions: np.ndarray) -> np.ndarray:
        """Returns i64[k]: the positions, unreadable ones replaced by their stand-ins."""
        return self._shown[positions]

    def array(self) -> np.ndarray:
        """Returns u8[count, S, S, 3] in order of position: mapped where rows are adjacent, else read."""
        first = int(self._rows[0])
        if np.array_equal(self._rows, np.arange(first, first + self.count)):
            return self._packed.images[first : first + self.count]
        return self._packed.images[self._rows]


def _stand_ins(readable: np.ndarray) -> np.ndarray:
    """For each position the first readable one at or after it, cyclically."""
    good = np.flatnonzero(readable)
    return good[np.searchsorted(good, np.arange(len(readable))) % len(good)]


def _subset_rows(packed: Packed, name: str, options: DataOptions) -> np.ndarray:
    """Rows of `images` that make up the subset which the options ask for, ascending."""
    made = packed.settings["splits"][name]
    rows = np.flatnonzero(packed.partitions == SPLITS.index(name))
    if not len(rows):
        raise UserError(f"packed data in {packed.path}: the {name} split is empty")
    population, size = made["population"], subset_size(name, options)
    stored = order.nested_sample(made["subset_seed"], order.SUBSET, population, made["subset"])
    wanted = order.nested_sample(options.subset_seed, order.SUBSET, population, size)
    places = np.searchsorted(stored, wanted).clip(max=len(stored) - 1)
    if len(stored) != len(rows) or not np.array_equal(stored[places], wanted):
        raise UserError(
            f"packed data in {packed.path} holds {len(rows)} of {population} {name} images "
            f"(subset_seed {made['subset_seed']}), the config asks for {len(wanted)} with "
            f"subset_seed {options.subset_seed}; change the config or prepare another folder"
        )
    return rows[places]
