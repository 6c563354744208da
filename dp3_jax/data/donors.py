"""Donors for training the fusion network: renderings of people who do not exist, matched to photos.

    python -m dp3_jax.data.donors PACKED OUTPUT [--count=N]

measures the faces of a packed set (as `--mode=prepare` or `dp3_jax.data.extended` writes it) and renders N
donors with the prior. It can be interrupted and goes on where it was. OUTPUT then holds

  faces.npz    of each row of the packed set: points f32[n, 5, 2], oval f32[n, 36, 2], tone f32[n, 3] and
               score f32[n]
  donors.npz   the same of each donor, in the canonical frame
  donors.npy   u8[N, S, S, 3], the donors in the canonical frame, S px as the set's pictures

Points and scores come from the face mesh (`models.mesh`), ovals are its outline with the hair and ears that
photos show too (`replacement.silhouette`), all in px of the canonical frame of 128 px, whatever S is; a tone
is the mean CIE Lab colour of the inner face.
"""

import argparse
import dataclasses
import functools
import hashlib
import os
import pathlib
import sys
import zipfile
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from scipy.spatial import cKDTree

from dp3_jax.common import files
from dp3_jax.common.errors import UserError, fail
from dp3_jax.data import order
from dp3_jax.data.packed import open_packed
from dp3_jax.models import mesh
from dp3_jax.models.person_mask import PersonMask
from dp3_jax.replacement import silhouette
from dp3_jax.vision import geometry
from dp3_jax.vision.masks import CANONICAL_POINTS, SIZE, inference_mask

FACES, MEASURED, PICTURES = "faces.npz", "donors.npz", "donors.npy"
NEIGHBOURS = 40  # donors that a photo's is drawn from: those nearest in pose and tone
# px of residual that a level of Lab counts as, when neighbours are looked for: poses decide, and tones among
# like poses. The network learns to correct what is left.
_TONE_SHARE = 0.12
_MIN_SCORE = 0.5  # of a mesh; a face without one gets the mean oval
_INNER = 0.6  # size of the part of the oval that a tone is measured in
_MIRRORED_POINTS = [1, 0, 2, 4, 3]
_STREAM = 71  # of `order.random_bits`: which neighbour is taken
_CHUNK = 1000  # faces between two savings
_DONOR_CHUNK = 100  # donors between two savings
# px, of a rendering, or S where that is more; the canonical frame spans 297 of 256 px.
_DONOR_SIZE = 256
_DONORS = 6000  # by default


@dataclasses.dataclass(frozen=True)
class Measured:
    """Faces of the canonical frame, as told at the top of the file."""

    points: np.ndarray
    oval: np.ndarray
    tone: np.ndarray
    score: np.ndarray

    def mirrored(self) -> "Measured":
        """The same faces seen in a mirror."""
        flip = np.array([SIZE - 1, 0], np.float32), np.array([-1, 1], np.float32)
        points = flip[0] + flip[1] * self.points[:, _MIRRORED_POINTS]
        return dataclasses.replace(self, points=points, oval=flip[0] + flip[1] * self.oval)


def resized(points: np.ndarray, before: int, after: int) -> np.ndarray:
    """Points [..., 2] px in a picture of `before` px, in the same picture at `after` px."""
    factor = after / before
    return (factor * points + (factor - 1) / 2).astype(points.dtype)


def tone(image: np.ndarray, oval: np.ndarray) -> np.ndarray:
    """f32[3]: mean Lab colour (L 0 to 100) of u8[h, w, 3] inside of an oval [36, 2], its inner part."""
    middle = oval.mean(0)
    inner = np.round(middle + _INNER * (oval - middle)).astype(np.int32)
    inside = cv2.fillConvexPoly(np.zeros(image.shape[:2], np.uint8), cv2.convexHull(inner), 1)
    if not inside.any():
        return np.zeros(3, np.float32)
    colour = cv2.mean(image, inside)[:3]
    lab = cv2.cvtColor(np.array([[colour]], np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab[0, 0]


def measure(images: Iterable[np.ndarray], network: mesh.FaceMesh) -> Measured:
    """Measures faces u8[S, S, 3] of the canonical frame; about 10 ms each."""
    rows = []
    for image in images:
        size = len(image)
        points, score = network.points(image, five=resized(CANONICAL_POINTS, SIZE, size))
        oval, five = mesh.outline(points), mesh.five_points(points)
        colour = tone(image, oval)
        five, oval = (resized(part, size, SIZE) for part in (five, oval))
        oval = _with_head(oval, image)
        rows.append((five, oval, colour, np.float32(score)))
    return Measured(*(np.stack(part).astype(np.float32) for part in zip(*rows, strict=True)))


@functools.cache
def _heads() -> PersonMask:
    return PersonMask()


def _with_head(oval: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """An oval f[36, 2] px with what of the head is shown, in a canonical picture u8[S, S, 3]; px of 128."""
    head = cv2.resize(_heads().of(picture), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return silhouette.outline_with_head(oval, head, inference_mask())


def _row(measured: Measured, row: int) -> Measured:
    return Measured(*(value[row : row + 1] for value in vars(measured).values()))


def _each(measured: Measured) -> Iterator[Measured]:
    return (_row(measured, row) for row in range(len(measured.score)))


def _joined(parts: list[Measured]) -> Measured:
    names = [field.name for field in dataclasses.fields(Measured)]
    return Measured(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def save(path: pathlib.Path, measured: Measured) -> None:
    """Writes the arrays of `measured` to an npz file."""
    with files.atomic_target(path) as temporary, temporary.open("wb") as opened:
        np.savez(opened, **dataclasses.asdict(measured))


def load(path: pathlib.Path) -> Measured:
    """Reads what `save` wrote.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as opened:
            return Measured(**{f.name: opened[f.name] for f in dataclasses.fields(Measured)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot read donors from {path}: {reason}; "
            "write them with python -m dp3_jax.data.donors"
        ) from error


def prepare_faces(packed_folder: str | os.PathLike, folder: pathlib.Path) -> Measured:
    """Measures all rows of a packed set into faces.npz, or reads them where that is done."""
    packed = open_packed(packed_folder)
    path, partial = folder / FACES, folder / f"partial-{FACES}"
    count = len(packed.images)
    if path.exists():
        done = load(path)
        if len(done.score) != count:
            found = f"{path} describes {len(done.score)} faces, {packed_folder} has {count}"
            raise UserError(f"{found}; choose another OUTPUT")
        return done
    network = mesh.FaceMesh()
    parts = [load(partial)] if partial.exists() else []
    start = sum(len(part.score) for part in parts)
    for first in range(start, count, _CHUNK):
        parts.append(measure(packed.images[first : first + _CHUNK], network))
        save(partial, _joined(parts))
        print(f"measured {min(first + _CHUNK, count):,} of {count:,} faces", flush=True)
    done = _joined(parts)
    save(path, done)
    partial.unlink(missing_ok=True)
    return done


def canonical_donor(
    image: np.ndarray, points: np.ndarray, size: int = SIZE
) -> tuple[np.ndarray, Measured]:
    """A rendering u8[h, w, 3] with its mesh f32[468, 3] px, in the canonical frame.

    Returns:
      u8[size, size, 3], and what is measured of it, in px of 128.
    """
    five = mesh.five_points(points)
    aligned = geometry.align_points(five)
    factor = size / SIZE
    shift = factor * aligned.b + (factor - 1) / 2 * (1 + 1j)
    picture = geometry.extract(image, geometry.Alignment(factor * aligned.a, shift), size)
    oval = aligned.apply(mesh.outline(points)).astype(np.float32)
    colour = tone(picture, resized(oval, SIZE, size))
    oval = _with_head(oval, picture)
    row = (aligned.apply(five).astype(np.float32), oval, colour, np.float32(1.0))
    return picture, Measured(*(part[None] for part in row))


def prepare_donors(folder: pathlib.Path, count: int, size: int = SIZE) -> None:
    """Renders `count` donors of `size` px into donors.npy and donors.npz, or goes on with it.

    Donor number i is the same person whatever the count. Pictures without a found face are left out, so
    there may be fewer in the end.

    Raises:
      UserError: the prior or the face mesh cannot be fetched.
    """
    # Late: the renderer loads JAX and 40 MB of weights.
    from dp3_jax.replacement.attributes import AttributeReader
    from dp3_jax.replacement.prior_identities import PriorIdentities

    done, state = folder / MEASURED, folder / f"partial-{MEASURED}"
    if done.exists() and len(load(done).score):
        print(f"donors are there already: {done}")
        return
    source, reader = PriorIdentities(), AttributeReader()
    pictures, parts, start = _begun(folder, state)
    for first in range(start, count, _DONOR_CHUNK):
        numbers = range(first, min(first + _DONOR_CHUNK, count))
        for number in numbers:
            key = hashlib.sha256(f"dp3 donor {number}".encode()).digest()
            w = source.candidates(key, 0, 1)[0]
            image = source.picture(np.repeat(w[None], 8, 0), max(_DONOR_SIZE, size))
            located = reader.locate(image)
            if located is not None:
                picture, row = canonical_donor(image, located[0], size)
                pictures.append(picture)
                parts.append(row)
        _keep(folder, state, pictures, parts, numbers.stop)
        print(f"rendered {numbers.stop:,} of {count:,} donors", flush=True)
    save(done, _joined(parts))
    state.unlink(missing_ok=True)


def _begun(
    folder: pathlib.Path, state: pathlib.Path
) -> tuple[list[np.ndarray], list[Measured], int]:
    """Pictures, rows and the next number of an interrupted rendering."""
    if not state.exists():
        return [], [], 0
    measured = load(state)
    with np.load(state) as opened:
        start = int(opened["next"])
    pictures = np.load(folder / PICTURES)[: len(measured.score)]
    return list(pictures), [measured], start


def _keep(
    folder: pathlib.Path,
    state: pathlib.Path,
    pictures: list[np.ndarray],
    parts: list[Measured],
    following: int,
) -> None:
    """Saves what was rendered; the pictures first, so that the rows never tell of more than there are."""
    with files.atomic_target(folder / PICTURES) as temporary, temporary.open("wb") as opened:
        np.save(opened, np.stack(pictures))
    with files.atomic_target(state) as temporary, temporary.open("wb") as opened:
        np.savez(opened, **dataclasses.asdict(_joined(parts)), next=following)


class DonorPairs:
    """A donor for each image of a batch: the companions of a batch (see training/objectives).

    Rows 0, 2, 4, ... of a batch get the image itself as donor (self pairs, whose composite is known), rows
    1, 3, 5, ... another person of like pose and tone (cross pairs).
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        packed: str | os.PathLike,
        *,
        batch_size: int,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """Reads the measurements; the donors' pictures stay on disk.

        Args:
          folder: what `python -m dp3_jax.data.donors` wrote.
          packed: the packed set that it was written for.
          batch_size: images in a batch, of all processes.
          seed: of the choice among neighbours.
          process_index, process_count: which part of a batch is this process's.

        Raises:
          UserError: it cannot be read or does not fit.
        """
        folder = pathlib.Path(folder)
        self._faces, self._images = load(folder / FACES), open_packed(packed).images
        self._donors = load(folder / MEASURED)
        try:
            self._pictures = np.load(folder / PICTURES, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot read donors from {folder / PICTURES}: {error}; "
                "write them with python -m dp3_jax.data.donors"
            ) from error
        fits = len(self._faces.score) == len(self._images)
        fits = fits and self._pictures.shape[1:] == self._images.shape[1:]
        if not fits or len(self._pictures) < len(self._donors.score):
            raise UserError(f"the donors in {folder} were prepared for another set than {packed}")
        self._mean_oval = self._faces.oval[self._faces.score >= _MIN_SCORE].mean(0)
        self._all = _joined([self._donors, self._donors.mirrored()])
        self._tree = cKDTree(_signature(self._all))
        self._seed, self._batch_size, self._size = seed, batch_size, self._images.shape[1]
        self._first_row = order.first_position(0, batch_size, process_index, process_count)

    @property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape over all processes, and dtype, of each array of a batch."""
        size = self._batch_size
        return {
            "donor": ((size, *self._images.shape[1:]), np.dtype(np.uint8)),
            "donor_oval": ((size, mesh.OUTLINE, 2), np.dtype(np.float32)),
        }

    def batch(self, number: int, rows: np.ndarray, mirrored: np.ndarray) -> dict[str, np.ndarray]:
        """The companions of batch `number`: donor u8[B, S, S, 3] and donor_oval f32[B, 36, 2] px.

        Args:
          number: of the batch.
          rows: i[B], of this process's images in the packed set.
          mirrored: bool[B], which of them are shown mirrored; their donors are as well.
        """
        bits = order.random_bits(self._seed, _STREAM, number, self._batch_size)[self._first_row :]
        pictures, ovals = [], []
        for place, (row, flip) in enumerate(zip(rows, mirrored, strict=True)):
            cross = (self._first_row + place) % 2
            picture, oval = self._cross(row, int(bits[place])) if cross else self._self(row)
            pictures.append(picture[:, ::-1] if flip else picture)
            ovals.append([self._size - 1, 0] + [-1, 1] * oval if flip else oval)
        return {"donor": np.stack(pictures), "donor_oval": np.stack(ovals).astype(np.float32)}

    def matched(self, images: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """`count` donors for each of u8[n, S, S, 3] canonical pictures of faces, spread over NEIGHBOURS.

        Returns:
          u8[n * count, S, S, 3], and ovals f32[n * count, 36, 2] px.
        """
        placed = []
        for face in _each(measure(images, mesh.FaceMesh())):
            near = self._near(face)
            chosen = near[np.linspace(0, len(near) - 1, count).astype(int)]
            placed += [self.placed(int(donor), face.points[0]) for donor in chosen]
        pictures, ovals = zip(*placed, strict=True)
        return np.stack(pictures), np.stack(ovals)

    def _self(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        known = self._faces.score[row] >= _MIN_SCORE
        oval = self._faces.oval[row] if known else self._mean_oval
        return self._images[row], resized(oval, SIZE, self._size)

    def _near(self, face: Measured) -> np.ndarray:
        return self._tree.query(_signature(face), k=min(NEIGHBOURS, len(self._all.score)))[1][0]

    def neighbours(self, row: int) -> np.ndarray:
        """i64[NEIGHBOURS]: donors nearest to a face; from the number of donors on, mirrored ones."""
        return self._near(_row(self._faces, row))

    def _cross(self, row: int, bit: int) -> tuple[np.ndarray, np.ndarray]:
        near = self.neighbours(row)
        return self.placed(int(near[bit % len(near)]), self._faces.points[row])

    def placed(self, donor: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A donor (as numbered by `neighbours`) moved onto f[5, 2] points in px of 128, and its oval there.

        Returns:
          u8[S, S, 3] and f32[36, 2] px of it.
        """
        count = len(self._donors.score)
        picture = self._pictures[donor % count]
        picture = picture[:, ::-1] if donor >= count else picture
        aligned = geometry.align_points(self._all.points[donor], points)
        moved = cv2.warpAffine(
            np.ascontiguousarray(picture),
            _in_pixels_of(aligned, self._size).matrix,
            (self._size, self._size),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        oval = aligned.apply(self._all.oval[donor]).astype(np.float32)
        return moved, resized(oval, SIZE, self._size)


def _in_pixels_of(aligned: geometry.Alignment, size: int) -> geometry.Alignment:
    """An alignment of pictures of 128 px to each other, for the same pictures at another size."""
    factor, shift = size / SIZE, (size / SIZE - 1) / 2 * (1 + 1j)
    return geometry.Alignment(aligned.a, factor * aligned.b + shift - aligned.a * shift)


def _signature(measured: Measured) -> np.ndarray:
    """f64[n, 13] to compare faces by: residuals of the aligned points in px, and the tone."""
    aligned = [geometry.align_points(p).apply(p).ravel() for p in measured.points]
    return np.concatenate([np.stack(aligned), _TONE_SHARE * measured.tone], 1)


def main(arguments: list[str] | None = None) -> None:
    """The command; see the top of the file."""
    parser = argparse.ArgumentParser("dp3_jax.data.donors", description="Prepares donors.")
    parser.add_argument("packed", help="packed set of photos")
    parser.add_argument("output", help="folder to write")
    parser.add_argument("--count", type=int, default=_DONORS, help="donors to render")
    given = parser.parse_args(arguments)
    if given.count < 1:
        raise UserError(f"--count is 1 or more, not {given.count}")
    folder = pathlib.Path(given.output)
    prepare_faces(given.packed, folder)
    prepare_donors(folder, given.count, open_packed(given.packed).images.shape[1])
    print(f"donors are in {folder}; train with --config.data.donors={folder}")


if __name__ == "__main__":
    try:
        main()
    except UserError as mistake:
        sys.exit(fail(str(mistake)))
