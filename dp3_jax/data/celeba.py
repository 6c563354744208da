"""CelebA from its own files, in whichever of the ways they are handed around.

Understood: the official Drive folder (`Img/`, `Anno/`, `Eval/`), the same files in one folder, the
original `img_align_celeba.zip` unextracted, and Kaggle's copy (a doubled `img_align_celeba` folder,
CSV instead of text), extracted or as the downloaded archive. Liu et al. 2015, "Deep learning face
attributes in the wild".
"""

import os
import pathlib
import zipfile

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.data import archive
from dp3_jax.data.catalog import UNKNOWN_IDENTITY, Catalog, made_partition
from dp3_jax.data.decode import load_image
from dp3_jax.data.options import SPLITS, DataOptions

HOW_TO_GET_IT = (
    "get CelebA in one of three ways: the official files from "
    "mmlab.ie.cuhk.edu.hk/projects/CelebA.html (img_align_celeba.zip, list_eval_partition.txt, "
    "identity_CelebA.txt in one folder, data.source=celeba); Kaggle's copy "
    "jessicali9530/celeba-dataset (data.source=celeba); or tensorflow_datasets' celeb_a "
    "(data.source=tfds, data.download=true). "
    "To try the program without it: --config=configs/celeba128.py:smoke"
)
_IMAGE_FOLDERS = (
    "img_align_celeba/img_align_celeba",
    "img_align_celeba",
    "Img/img_align_celeba/img_align_celeba",
    "Img/img_align_celeba",
    ".",
)
_ZIP_FILES = ("img_align_celeba.zip", "Img/img_align_celeba.zip")
_PARTITION_FILES = ("list_eval_partition.txt", "list_eval_partition.csv")
_IDENTITY_FILES = ("identity_CelebA.txt", "identity_CelebA.csv")
_NOTE_FOLDERS = ("", "Eval", "Anno")


class NoCelebA(UserError):
    """CelebA is not where the options say; the text ends with the ways to get it.

    Attributes:
      problem: the text without them, for those who can say it in commands.
    """

    def __init__(self, problem: str):
        super().__init__(f"{problem}; {HOW_TO_GET_IT}")
        self.problem = problem


def open_celeba(options: DataOptions) -> Catalog:
    """Finds the images, partition and identities at `options.path` (a folder or a zip file).

    Without a partition file the split is made by person where identities are known, else by image.

    Raises:
      NoCelebA: no CelebA there.
      UserError: a partition or identity file that cannot be understood or does
        not list all images.
    """
    path = pathlib.Path(options.path)
    if not path.exists():
        raise NoCelebA(f"no CelebA at {path}: it does not exist")
    images = _find_zip(path) or _find_folder(path)
    if images is None:
        raise NoCelebA(f"no CelebA images (img_align_celeba) in {path}")
    listing = images.listing
    names = tuple(sorted(listing))
    places = [listing[name] for name in names]

    identities = _numbers(images, _IDENTITY_FILES, names, required=False)
    partition = _numbers(images, _PARTITION_FILES, names, required=True)
    if partition is None:
        partitions, note = made_partition(len(names), identities)
    else:
        partitions, note = partition.astype(np.int8), "official partition"

    def load(example: int, options: DataOptions) -> np.ndarray:
        return load_image(images.picture(places[example]), options)

    return Catalog(
        title="celeba",
        names=names,
        partitions=partitions,
        identities=identities,
        load=load,
        partition_note=note,
    )


class _Folder:
    """Extracted images, with the folders in which their partition and identities may lie."""

    def __init__(self, images: pathlib.Path, note_folders: list[pathlib.Path]):
        self.listing = {
            entry.name: entry.path
            for entry in os.scandir(images)
            if entry.name.lower().endswith(".jpg") and not entry.name.startswith(".")
        }
        self.note_folders = note_folders

    def picture(self, place: str) -> str:
        return place

    def notes(self, names: tuple[str, ...]) -> tuple[str, str] | None:
        return _note_in_folders(self.note_folders, names)


class _Zip:
    """Images inside a zip file; partition and identities may be inside too, or beside it."""

    def __init__(self, path: pathlib.Path, note_folders: list[pathlib.Path]):
        self.archive = archive.ZipReader(path)
        self.listing = {
            name.rpartition("/")[2]: name
            for name in self.archive.names
            if name.lower().endswith(".jpg")
            and "__MACOSX" not in name
            and "/." not in name
            and "img_align_celeba" in name
        }
        self.note_folders = note_folders
        self.path = path

    def picture(self, place: str) -> bytes:
        return self.archive.read(place)

    def notes(self, names: tuple[str, ...]) -> tuple[str, str] | None:
        for member in self.archive.names:
            if member.rpartition("/")[2] in names and "__MACOSX" not in member:
                text = self.archive.read(member).decode("utf-8", "replace")
                return text, f"{self.path}:{member}"
        return _note_in_folders(self.note_folders, names)


def _note_in_folders(folders: list[pathlib.Path], names: tuple[str, ...]) -> tuple[str, str] | None:
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                try:
                    return (folder / name).read_text(errors="replace"), str(folder / name)
                except OSError as error:
                    raise UserError(
                        f"cannot read {folder / name}: {error.strerror}; "
                        "remove it, or make it readable"
                    ) from error
    return None


def _note_folders(*roots: pathlib.Path) -> list[pathlib.Path]:
    return [root / name for root in roots for name in _NOTE_FOLDERS]


def _find_folder(path: pathlib.Path) -> _Folder | None:
    if not path.is_dir():
        return None
    for name in _IMAGE_FOLDERS:
        if (path / name).is_dir():
            # The user may also name the image folder itself, or the Img folder around it.
            found = _Folder(path / name, _note_folders(path, path.absolute().parent))
            if found.listing:
                return found
    return None


def _find_zip(path: pathlib.Path) -> _Zip | None:
    if path.is_file():
        if not zipfile.is_zipfile(path):
            raise NoCelebA(
                f"{path} is not a zip file (a broken-off download, or Google Drive's page saying "
                "that its quota is used up?)"
            )
        root = path.absolute().parent
        found = _Zip(path, _note_folders(root, root.parent))
        if not found.listing:
            raise NoCelebA(f"no img_align_celeba/*.jpg inside {path}")
        return found
    if _find_folder(path) is not None:
        return None
    for name in _ZIP_FILES:
        if (path / name).is_file():
            return _find_zip(path / name)
    return None


def _numbers(
    images: _Folder | _Zip, files: tuple[str, ...], names: tuple[str, ...], *, required: bool
) -> np.ndarray | None:
    """Returns i32[N], the number that an annotation file gives each image; None without the file."""
    found = images.notes(files)
    if found is None:
        return None
    text, where = found
    limit = len(SPLITS) if required else np.iinfo(np.int32).max
    table = _parse(text, where, limit)
    numbers = np.array([table.get(name, UNKNOWN_IDENTITY) for name in names], np.int32)
    missing = np.flatnonzero(numbers == UNKNOWN_IDENTITY)
    if required and len(missing):
        raise UserError(
            f"{where} has no row for {len(missing)} of {len(names)} images, the first is "
            f"{names[missing[0]]}; complete it, or remove it to have a split made"
        )
    return numbers


def _parse(text: str, where: str, limit: int) -> dict[str, int]:
    """Reads rows `name number` or `name,number`, the latter with a header row; 0 <= number < limit."""
    table = {}
    for line, row in enumerate(text.splitlines(), 1):
        fields = row.replace(",", " ").split()
        if not fields or (line == 1 and fields[-1] in ("partition", "identity")):
            continue
        if len(fields) != 2 or not fields[1].isdecimal() or int(fields[1]) >= limit:
            raise UserError(
                f"{where} line {line} is {row[:60]!r}; expected an image name and a number below "
                f"{limit}"
            )
        table[fields[0]] = int(fields[1])
    return table
