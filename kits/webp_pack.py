"""Pictures to carry: one zip file of WebP pictures of one size, cropped before, as good as its size allows.

pack.json inside says what they are; the members are SPLIT/NAME.webp.
"""

import concurrent.futures
import dataclasses
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np
from PIL import Image

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.data import DataOptions, ImageSet
from dp3_jax.data.archive import ZipReader
from dp3_jax.data.catalog import UNKNOWN_IDENTITY, Catalog
from dp3_jax.data.decode import load_image
from dp3_jax.data.options import SPLITS

FORMAT = "dp3_jax webp pack 1"
QUALITIES = (95, 90, 85, 80, 75, 70, 60, 50)  # of WebP, tried in this order
_SAMPLE = 100  # pictures whose size tells whether a quality is worth trying
_DIRECTORY = 200  # bytes of a zip file's directory for each member, at most


def _encode(image: np.ndarray, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="WEBP", quality=quality)
    return stream.getvalue()


def _encode_all(images: np.ndarray, quality: int) -> list[bytes]:
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda image: _encode(image, quality), images))


def _fitting(sets: Mapping[str, ImageSet], limit: int) -> tuple[int, dict[str, list[bytes]]]:
    """The best quality with which all fit into `limit` bytes, and the encoded pictures of each split."""
    count = sum(len(one.images) for one in sets.values())
    some = next(iter(sets.values())).images
    some = some[:: max(1, len(some) // _SAMPLE)]
    for quality in QUALITIES:
        expected = np.mean([len(part) for part in _encode_all(some, quality)]) * count
        if expected > 1.1 * limit:
            continue
        encoded = {name: _encode_all(one.images, quality) for name, one in sets.items()}
        size = sum(len(part) for parts in encoded.values() for part in parts)
        if size + _DIRECTORY * count <= limit:
            return quality, encoded
    raise UserError(
        f"{count} pictures do not fit into {limit / 1e6:g} MB, not even with WebP quality {QUALITIES[-1]}; "
        "pack fewer, or allow more"
    )


def write_pack(
    path: str | os.PathLike, title: str, sets: Mapping[str, ImageSet], limit: int
) -> str:
    """Writes a pack.

    Args:
      path: of the zip file.
      title: of the data set.
      sets: by name of the split, none empty.
      limit: bytes of the whole file.

    Returns:
      One line for the console.

    Raises:
      UserError: they do not fit, or the file cannot be written.
    """
    files.check_place(path)
    quality, encoded = _fitting(sets, limit)
    members, names, identities = {}, [], []
    for split, one in sets.items():
        known = one.identities
        for row, name in enumerate(one.names):
            member = f"{split}/{pathlib.PurePath(name).stem}.webp"
            members[member] = encoded[split][row]
            names.append(name)
            identities.append(UNKNOWN_IDENTITY if known is None else int(known[row]))
    if len(members) != len(identities):
        raise UserError(f"pictures of {title} share their names; rename them")
    about = {"format": FORMAT, "title": title, "quality": quality}
    about |= {"members": list(members), "names": names, "identities": identities}
    with files.atomic_target(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr("pack.json", json.dumps(about), zipfile.ZIP_DEFLATED)
        for name, content in members.items():
            archive.writestr(name, content)
    size = pathlib.Path(path).stat().st_size
    return f"{path}: {len(members)} pictures, WebP quality {quality}, {size / 1e6:.1f} MB"


def open_pack(path: str | os.PathLike) -> Catalog:
    """The pictures of a pack, resized to the size that the options ask for; their crop does not apply.

    Raises:
      UserError: there is none, or it is something else.
    """
    if not os.path.exists(path):
        raise UserError(f"there is no pack {path}; write it with the kit's pack command")
    reader = ZipReader(path)
    try:
        about = json.loads(reader.read("pack.json"))
        if about["format"] != FORMAT:
            raise ValueError
        members = about["members"]
        partitions = [SPLITS.index(name.partition("/")[0]) for name in members]
        identities = np.array(about["identities"], np.int32)
        if not len(members) == len(about["names"]) == len(identities):
            raise ValueError
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} is no pack of a kit; write it with the pack command") from error

    def load(example: int, options: DataOptions) -> np.ndarray:
        return load_image(reader.read(members[example]), dataclasses.replace(options, crop=None))

    return Catalog(
        title=about["title"],
        names=tuple(about["names"]),
        partitions=np.array(partitions, np.int8),
        identities=None if (identities == UNKNOWN_IDENTITY).all() else identities,
        load=load,
        partition_note=f"WebP quality {about['quality']}",
    )
