"""Any tree of JPEG, PNG and WebP files as a data set."""

import pathlib

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.data.catalog import Catalog, made_partition
from dp3_jax.data.decode import EXTENSIONS, load_image
from dp3_jax.data.options import DataOptions


def open_folder(options: DataOptions) -> Catalog:
    """Lists the pictures below `options.path`, sorted by relative path; the split is made by image.

    Links are followed: a picture counts once for each of its names. Hidden files and folders are left out.
    Folders that lead back to one that they lie in, and links to nothing, are named in the note.

    Raises:
      UserError: no such folder, one in it that cannot be read, or no pictures in it.
    """
    root = pathlib.Path(options.path)
    if not root.is_dir():
        raise UserError(f"data.path={root} is not a folder; name a folder of pictures")
    tree = files.walk(root, hidden=False)
    if tree.unread:
        raise UserError(f"{tree.unread[0]}; make it readable or move it out of data.path={root}")
    names = sorted(path.relative_to(root).as_posix() for path in tree.files if _is_picture(path))
    if not names:
        raise UserError(f"no pictures ({', '.join(EXTENSIONS)}) in {root}; name another data.path")
    partitions, note = made_partition(len(names), None)
    broken = [f"{path} is a link to nothing" for path in tree.dangling if _is_picture(path)]
    return Catalog(
        title="folder",
        names=tuple(names),
        partitions=partitions,
        identities=None,
        load=lambda example, options: load_image(root / names[example], options),
        partition_note="; ".join([note, *_named(tree.circles + broken)]),
    )


def _is_picture(path: pathlib.Path) -> bool:
    """Whether a file is a picture by its name, not hidden, and not of a Mac archive's second tree."""
    name = path.name.lower()
    return name.endswith(EXTENSIONS) and not name.startswith(".") and "__MACOSX" not in path.parts


def _named(skipped: list[str]) -> list[str]:
    """What to say of all that is skipped: the first ones by name."""
    if not skipped:
        return []
    more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return [f"skipped: {', '.join(skipped[:3])}{more}"]
