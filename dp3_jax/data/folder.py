"""Any tree of JPEG, PNG and WebP files as a data set."""

import os
import pathlib

from dp3_jax.data.catalog import Catalog, made_partition
from dp3_jax.data.decode import EXTENSIONS, load_image
from dp3_jax.data.options import DataOptions
from dp3_jax.errors import UserError


def open_folder(options: DataOptions) -> Catalog:
    """Lists the pictures below `options.path`, sorted by relative path; the split is made by image.

    Hidden files and folders are left out, and so are links to folders (they may form circles).

    Raises:
      UserError: no such folder, or no pictures in it.
    """
    root = pathlib.Path(options.path)
    if not root.is_dir():
        raise UserError(f"data.path={root} is not a folder; name a folder of pictures")
    names = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".") and name != "__MACOSX"]
        names += [
            pathlib.Path(folder, name).relative_to(root).as_posix()
            for name in files
            if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
        ]
    if not names:
        raise UserError(f"no pictures ({', '.join(EXTENSIONS)}) in {root}; name another data.path")
    names.sort()
    partitions, note = made_partition(len(names), None)
    return Catalog(
        title="folder",
        names=tuple(names),
        partitions=partitions,
        identities=None,
        load=lambda example, options: load_image(root / names[example], options),
        partition_note=note,
    )
