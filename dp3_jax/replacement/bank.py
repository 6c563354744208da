"""Persons from a folder of pictures: consented or synthetic faces of one's own, or renderings of the prior.

A bank is a folder with `bank.json` and, under `pictures/`, one folder of pictures for each person. The key is
a permutation of the persons; the first one that fits the photo's classes is taken, in the view that comes
closest to the pose and expression that are asked for. A view may be mirrored.
"""

import dataclasses
import hashlib
import io
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from PIL import Image, ImageOps

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.models.mesh import Expression, Pose
from dp3_jax.replacement import identities
from dp3_jax.replacement.attributes import AttributeReader, Attributes
from dp3_jax.replacement.identities import Classes, Rendering, Wishes

INDEX, PICTURES = "bank.json", "pictures"
_FORMAT = 1
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_KEPT = ("yaw", "pitch", "mouth_opening", "mouth_width", "age", "female", "ita")
_MIN_FACE = 64  # px between the outer corners of the eyes and chin: smaller ones are of no use
_CLOSE = 15.0  # degrees: a view that is further from the pose asked for is said to be clamped
_OPENING = 60.0  # degrees that a mouth open by one eye distance counts as, when views are compared
_WIDTH = 30.0  # likewise, for its width


@dataclasses.dataclass(frozen=True)
class View:
    """A picture of a person.

    Attributes:
      file: its path below the bank's pictures.
      sha256: of its bytes, hex.
      yaw, pitch: degrees.
      mouth_opening, mouth_width: eye distances.
    """

    file: str
    sha256: str
    yaw: float
    pitch: float
    mouth_opening: float
    mouth_width: float

    def distance(self, pose: Pose | None, asked: Expression | None, mirrored: bool) -> float:
        """How far away the view is from what is asked, degrees; of no pose, from a frontal one."""
        pose = pose or Pose(0.0, 0.0, 0.0)
        yaw = -self.yaw if mirrored else self.yaw
        away = np.hypot(yaw - pose.yaw, self.pitch - pose.pitch)
        if asked is not None:
            away += _OPENING * abs(self.mouth_opening - asked.mouth_opening)
            away += _WIDTH * abs(self.mouth_width - asked.mouth_width)
        return float(away)


@dataclasses.dataclass(frozen=True)
class BankPerson:
    """One person: the views, and means over them of age in years, P(woman) and tone in degrees."""

    name: str
    age: float
    female: float
    ita: float
    views: tuple[View, ...]

    def misfit(self, classes: Classes, wishes: Wishes) -> float:
        """0 for a person that fits, more for one that fits less."""
        female = classes.female if wishes.female is None else wishes.female
        away = 0.0
        if female is not None:
            away += 2.0 * ((self.female > 0.5) != female)
        if wishes.age is not None:
            away += max(abs(self.age - wishes.age) - 5.0, 0.0) / 10
        elif classes.age is not None:
            low, high = identities.age_range(classes.age)
            away += max(low - self.age, self.age - high, 0.0) / 10
        tone = classes.tone if wishes.tone is None else wishes.tone
        if tone is not None:
            away += max(abs(identities.tone_band(self.ita) - tone) - 1, 0)
        return away


def build_bank(pictures: str | pathlib.Path, bank: str | pathlib.Path) -> tuple[int, list[str]]:
    """Makes a bank of a folder of pictures: each file there is a person, each folder one with several views.

    Returns:
      The number of persons; and for each file that was left out, its name and why.

    Raises:
      UserError: there is no such folder, no usable picture in it, or the bank exists or cannot be written.
    """
    root, target = pathlib.Path(pictures), pathlib.Path(bank)
    if not root.is_dir():
        raise UserError(f"{root} is no folder; give one with pictures of faces")
    if target.exists():
        raise UserError(f"{target} is there already; choose another name")
    found = [
        (path.relative_to(root), path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in _SUFFIXES and path.is_file()
    ]
    named = [(p.parts[0] if len(p.parts) > 1 else p.stem, p.name, content) for p, content in found]
    return write_bank(named, target)


def write_bank(
    named: Iterable[tuple[str, str, bytes]], target: pathlib.Path
) -> tuple[int, list[str]]:
    """Writes a bank of (person, file name, content of the file); otherwise as `build_bank`."""
    reader, skipped = AttributeReader(), []
    measured: dict[str, list[tuple[View, Attributes]]] = {}
    with files.atomic_target(target) as temporary:
        for person, name, content in named:
            try:
                attributes = _measure(reader, read_picture(content))
            except ValueError as error:
                skipped.append(f"{person}/{name}: {error}")
                continue
            digest = hashlib.sha256(content).hexdigest()
            kept = {key: round(getattr(attributes, key), 4) for key in _KEPT[:4]}
            file = temporary / PICTURES / person / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            view = View(f"{person}/{name}", digest, **kept)
            measured.setdefault(person, []).append((view, attributes))
        if not measured:
            raise UserError(f"there is no usable picture of a face; {'; '.join(skipped[:3])}")
        persons = [_person(name, views) for name, views in sorted(measured.items())]
        index = {"format": _FORMAT, "persons": [dataclasses.asdict(p) for p in persons]}
        (temporary / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return len(persons), skipped


def _person(name: str, views: Sequence[tuple[View, Attributes]]) -> BankPerson:
    means = {k: round(float(np.mean([getattr(a, k) for _, a in views])), 4) for k in _KEPT[4:]}
    return BankPerson(name, **means, views=tuple(view for view, _ in views))


def _measure(reader: AttributeReader, image: np.ndarray) -> Attributes:
    attributes = reader.read(image)
    if attributes is None:
        raise ValueError("no face was found")
    if np.ptp(attributes.mesh[:, :2], axis=0).max() < _MIN_FACE:
        raise ValueError(f"its face is smaller than {_MIN_FACE} px")
    return attributes


def read_picture(content: bytes) -> np.ndarray:
    """u8[h, w, 3] RGB, upright. Raises ValueError where the bytes are no picture."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError("it cannot be read as a picture") from error


def load_bank(bank: str | pathlib.Path) -> list[BankPerson]:
    """The persons of a bank.

    Raises:
      UserError: it is none, or of another version.
    """
    path = pathlib.Path(bank) / INDEX
    try:
        index = json.loads(path.read_text())
        if index["format"] != _FORMAT:
            raise UserError(f"{path} has format {index['format']}; this version reads {_FORMAT}")
        return [
            BankPerson(**{**p, "views": tuple(View(**view) for view in p["views"])})
            for p in index["persons"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{bank} is no bank of faces; make one with `dp3 bank build`") from error


def permutation(key: bytes, count: int) -> Iterator[int]:
    """0..count-1 in the order that a key gives them: by SHAKE-256 of key and number."""
    order = [hashlib.shake_256(key + f"dp3 bank {i}".encode()).digest(16) for i in range(count)]
    return iter(sorted(range(count), key=order.__getitem__))


class BankIdentities:
    """See `identities.IdentitySource`; calls may come from one thread only."""

    name = "bank"

    def __init__(self, bank: str | pathlib.Path, wishes: Wishes | None = None):
        """Reads a bank's index.

        Raises:
          UserError: `bank` is none, or a wish cannot be met by a bank.
        """
        self._folder, self._wishes = pathlib.Path(bank), wishes or Wishes()
        if self._wishes.glasses is not None:
            raise UserError("a bank does not know who wears glasses; leave that wish out")
        self._persons = load_bank(bank)
        self._reader = AttributeReader()
        content = repr((self._persons, self._wishes.of_person))
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]

    def person(self, key: bytes, classes: Classes) -> BankPerson:
        """The first of the key's permutation that fits, or else the one that fits best."""
        order = list(permutation(key, len(self._persons)))
        return min((self._persons[i] for i in order), key=lambda p: p.misfit(classes, self._wishes))

    def render(
        self,
        key: bytes,
        classes: Classes,
        pose: Pose | None,
        expression: Expression | None,
        size: int,
        *,
        mended: bool = True,
    ) -> Rendering:
        """See `identities.IdentitySource.render`: a view reduced so that its longer side is `size` at most.

        Raises:
          UserError: the view's file is missing or was changed.
        """
        person = self.person(key, classes)
        choices = [(view, mirrored) for view in person.views for mirrored in (False, True)]
        view, mirrored = min(choices, key=lambda c: c[0].distance(pose, expression, c[1]))
        image = self._picture(view, mirrored, size)
        located = self._reader.locate(image)
        if located is None:
            raise UserError(f"the face in {self._folder / PICTURES / view.file} is not found again")
        return Rendering.of_mesh(
            image,
            located[0],
            clamped=view.distance(pose, None, mirrored) > _CLOSE,
            person=f"{self.fingerprint}:{person.name}",
        )

    def _picture(self, view: View, mirrored: bool, size: int) -> np.ndarray:
        """u8[h, w, 3]."""
        path = self._folder / PICTURES / view.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"cannot read {path}: {error.strerror}; build the bank again"
            ) from error
        if hashlib.sha256(content).hexdigest() != view.sha256:
            raise UserError(f"{path} was changed; build the bank again")
        image = read_picture(content)
        factor = size / max(image.shape[:2])
        if factor < 1:
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(image[:, ::-1] if mirrored else image)
