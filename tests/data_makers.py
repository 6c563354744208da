"""Makes small picture collections in the layouts that people have on disk."""

import io
import pathlib
import zipfile

import numpy as np
from PIL import Image

SIZE = (178, 218)


def photo(seed, size=SIZE):
    """A smooth random colour picture of a size (width, height)."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def names(count):
    return [f"{number:06d}.jpg" for number in range(1, count + 1)]


def write(path, content):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def partition_of(count):
    """0 train, 1 validation, 2 test: the last two fifths are held out, as whole persons."""
    return [
        0 if 5 * index < 3 * count else 1 if 5 * index < 4 * count else 2 for index in range(count)
    ]


def partition_text(count, separator=" "):
    rows = zip(names(count), partition_of(count), strict=True)
    return "".join(f"{name}{separator}{number}\n" for name, number in rows)


def identity_text(count, per_person=2):
    rows = enumerate(names(count))
    return "".join(f"{name} {100 + index // per_person}\n" for index, name in rows)


def pictures(count):
    return {name: encoded(photo(index), quality=90) for index, name in enumerate(names(count))}


def celeba(root, count=20, *, partition=True, identity=True, damaged=()):
    """The official files in one folder; `damaged` gives indices of truncated pictures."""
    for index, (name, content) in enumerate(pictures(count).items()):
        kept = len(content) // 2 if index in damaged else len(content)
        write(root / "img_align_celeba" / name, content[:kept])
    if partition:
        write(root / "list_eval_partition.txt", partition_text(count))
    if identity:
        write(root / "identity_CelebA.txt", identity_text(count))
    return root


def celeba_zip(
    path, count=20, folder="img_align_celeba/", compression=zipfile.ZIP_DEFLATED, extra=()
):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in pictures(count).items():
            archive.writestr(folder + name, content)
        for name, content in dict(extra).items():
            archive.writestr(name, content)
    return path
