"""CelebA's own files and further train images that were cropped and resized before, as one packed set.

    python -m dp3_jax.data.extended CELEBA EXTRA.zip OUTPUT

CELEBA is what `data.path` of the celeba source is. EXTRA.zip holds pictures at its top, already in the
canonical 128x128 frame, and `identity.csv` (image_id, identity). All of them join the train split; validation
and test stay CelebA's. OUTPUT is a packed folder: train with --config.data.source=packed
--config.data.path=OUTPUT.
"""

import csv
import dataclasses
import os
import pathlib
import sys

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.data.archive import ZipReader
from dp3_jax.data.catalog import UNKNOWN_IDENTITY, Catalog
from dp3_jax.data.celeba import open_celeba
from dp3_jax.data.decode import EXTENSIONS, load_image
from dp3_jax.data.options import SPLITS, DataOptions
from dp3_jax.data.packing import write_packed

_IDENTITIES = "identity.csv"


def extend(base: Catalog, archive: str | os.PathLike) -> Catalog:
    """`base` with the pictures of the zip file `archive` appended to its train split.

    A picture whose stem `base` has already is left out, so no image counts twice, and neither does a
    person of `base`'s validation or test split enter the train split.

    Raises:
      UserError: not a zip file, or no pictures in it.
    """
    reader = ZipReader(archive)
    held_out = base.partitions != SPLITS.index("train")
    persons = set() if base.identities is None else set(base.identities[held_out].tolist())
    identity_of = _identities(reader)
    known = {pathlib.PurePath(name).stem for name in base.names}
    extra = [
        name
        for name in sorted(reader.names)
        if name.lower().endswith(EXTENSIONS)
        and pathlib.PurePath(name).stem not in known
        and identity_of.get(pathlib.PurePath(name).stem) not in persons - {UNKNOWN_IDENTITY}
    ]
    if not extra:
        raise UserError(f"no further pictures in {archive}; name another zip file")
    count = len(base.names)
    identities = [identity_of.get(pathlib.PurePath(n).stem, UNKNOWN_IDENTITY) for n in extra]
    before = base.identities
    if before is None:
        before = np.full(count, UNKNOWN_IDENTITY, np.int32)

    def load(example: int, options: DataOptions) -> np.ndarray:
        if example < count:
            return base.load(example, options)
        return load_image(
            reader.read(extra[example - count]), dataclasses.replace(options, crop=None)
        )

    train = np.full(len(extra), SPLITS.index("train"), np.int8)
    return Catalog(
        title=f"{base.title} + {pathlib.Path(archive).name}",
        names=(*base.names, *extra),
        partitions=np.concatenate([base.partitions, train]),
        identities=np.concatenate([before, np.array(identities, np.int32)]),
        load=load,
        partition_note=f"{base.partition_note}, {len(extra)} further train images",
    )


def _identities(reader: ZipReader) -> dict[str, int]:
    """{stem of the picture's name: person} from identity.csv; empty without it."""
    if _IDENTITIES not in reader.names:
        return {}
    rows = csv.reader(reader.read(_IDENTITIES).decode().splitlines()[1:])
    return {pathlib.PurePath(name).stem: int(identity) for name, identity in rows}


def prepare_extended(celeba: str, archive: str, output: str) -> str:
    """Writes the packed form of both at 128 px, all images; returns one line for the console."""
    options = DataOptions(source="celeba", path=celeba, train_examples=0)
    return write_packed(extend(open_celeba(options), archive), options, output)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print(prepare_extended(*sys.argv[1:]))
