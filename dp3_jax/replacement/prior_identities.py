"""Persons from the face prior: the first of a key's latents that fits, turned as the photo asks."""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping

import cv2
import numpy as np

from dp3_jax.common import assets
from dp3_jax.common.compilations import KeptProgram
from dp3_jax.common.errors import UserError
from dp3_jax.models.mesh import Expression, Pose, yaw_pitch_roll
from dp3_jax.models.mesh import expression as expression_of
from dp3_jax.replacement import (
    defects,
    distinctness,
    forecasts,
    identities,
    key_derivation,
    light,
    person_choice,
)
from dp3_jax.replacement.attributes import AttributeReader, Attributes, cheeks
from dp3_jax.replacement.directions import WIDTH, Directions, load_directions
from dp3_jax.replacement.identities import Classes, Rendering, Wishes
from dp3_jax.replacement.person_choice import Target

# Truncation. Less makes faces that are more alike, not better ones: SFace at .363 takes two persons of one
# sex, age band and band of tone for one in 31% with .65 to .7, 14% (.8 to .85), 12% (.85 to .9), 7% (.95 to
# 1), of 1,800 persons; what looks wrong at 1 is mostly backgrounds.
PSI = 1.0
_CHECKED = 128  # px, of renderings that are measured and thrown away
_MEASURED = 256  # px, up to which a rendering is measured itself and not a smaller one
_MAX_CACHED = 256  # persons
# Where lips are moved otherwise: the share of a mouth's opening that is enough, and what counts as closed.
_OPENED, _CLOSED = 0.6, 0.05
# A rendering that is this near to what was asked for is taken as it is; degrees and eye distances.
_NEAR = {"yaw": 4.0, "pitch": 4.0, "mouth_opening": 0.05, "mouth_width": 0.06}
# Of 120 renderings for photos two had a mesh's score below, and both were melted; a share of the pose is then
# tried. So it is where more of the face glares: .03 of it did in one of six on the docs' first page, of 140
# faces that look ahead none.
_SURELY_A_FACE, _MAX_GLARE, _MILDER = 0.985, 0.01, (0.5, 0.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Person:
    """One person of the prior.

    Attributes:
      candidate: which of the key's latents this is.
      rows: f32[8, 512] of w, with the classes' corrections.
      own: attributes measured on the rendering in the person's own pose; None where no face was found.
      gains: f32[3], of the channels of all renderings (`light.gains`).
    """

    candidate: int
    rows: np.ndarray
    own: Attributes | None
    gains: np.ndarray


class PriorIdentities:
    """See `identities.IdentitySource`. Keeps the persons that it met; calls may come from one thread only."""

    name = "prior"

    def __init__(self, psi: float = PSI, wishes: Wishes | None = None):
        """Loads the prior and what measures its faces, fetching them once.

        Args:
          psi: truncation, above 0 and up to 1; less makes fairer faces that are more alike.
          wishes: of the user.

        Raises:
          UserError: psi is out of range, or a file cannot be fetched.
        """
        if not 0 < psi <= 1:
            raise UserError(f"truncation is above 0 and up to 1, not {psi}")
        from dp3_jax.models import prior, prior_heads

        self._psi, self._wishes = psi, wishes or Wishes()
        self._table: Directions = load_directions()
        self._params = prior_heads.load_renderer()
        self._mapping = KeptProgram(prior.mapping, "prior-mapping")
        self._renderers = {
            size: KeptProgram(functools.partial(prior_heads.render, size=size), f"prior-{size}")
            for size in (_MEASURED, *(s for s in identities.SIZES if s > _MEASURED))
        }
        self._reader = AttributeReader()
        self._persons: dict[tuple[bytes, Classes], Person] = {}
        self.fingerprint = self._fingerprint()

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(assets.ASSETS["prior"].sha256.encode())
        digest.update(repr((person_choice.CHOICE, self._psi, self._wishes.of_person)).encode())
        tables = (self._table.mean, self._table.regression, self._table.moves)
        fitted = (
            *defects.load_defects(),
            distinctness.load_distinctness(),
            *forecasts.load_forecasts(),
        )
        for array in (*tables, *fitted):
            digest.update(np.ascontiguousarray(array).tobytes())
        for name in sorted(n for n in self._params if n.startswith("heads")):
            digest.update(np.ascontiguousarray(self._params[name]).tobytes())
        return digest.hexdigest()[:16]

    def candidates(self, key: bytes, first: int, count: int) -> np.ndarray:
        """f32[count, 512]: truncated w of a key's latents from number `first` on."""
        z = key_derivation.latents(key, first, count, WIDTH)
        w = np.asarray(self._mapping(self._params, z))
        return self._table.mean + np.float32(self._psi) * (w - self._table.mean)

    def picture(self, rows: np.ndarray, size: int) -> np.ndarray:
        """u8[size, size, 3] of f32[8, 512] rows of w."""
        rendered = max(
            size, _MEASURED
        )  # a smaller one is that one reduced, and would be compiled anew
        image = np.asarray(self._renderers[rendered](self._params, rows[None]))[0]
        if size < rendered:
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        return np.rint((image + 1) * 127.5).clip(0, 255).astype(np.uint8)

    def person(self, key: bytes, classes: Classes) -> Person:
        """Who a key is within classes; the photo itself has no part in it."""
        known = self._persons.get((key, classes))
        if known is None:
            if len(self._persons) >= _MAX_CACHED:
                self._persons.pop(next(iter(self._persons)))
            known = self._persons[key, classes] = self._make(
                key, person_choice.target(classes, self._wishes)
            )
        return known

    def _make(self, key: bytes, wanted: Target) -> Person:
        """The first of some candidates that fit and whose rendering is as asked; else the nearest."""
        best = None
        for number, w in itertools.islice(self._fitting(key, wanted), person_choice.TRIES):
            person = self._tried(number, w, wanted)
            lack = np.inf if person.own is None else person_choice.shortcoming(person.own, wanted)
            if best is None or lack < best[0]:
                best = (lack, person)
            if lack == 0:
                break
        return best[1]

    def _tried(self, number: int, w: np.ndarray, wanted: Target) -> Person:
        """A candidate as the person it would be: moved by what is predicted, then by what is measured."""
        w = person_choice.shown(self._table, w)
        return self._rendered(number, w, person_choice.aimed(self._table, w, wanted), wanted)

    def _rendered(
        self, number: int, w: np.ndarray, amounts: Mapping[str, float], wanted: Target
    ) -> Person:
        """Of f32[512] of w as it is to be shown, moved by amounts."""
        rows = self._table.move(w, amounts)
        own = self._reader.read(self.picture(rows, _CHECKED))
        corrections = {} if own is None else person_choice.corrections(own, wanted)
        gains = np.ones(3, np.float32) if own is None else light.gains(own)
        return Person(number, self._table.move(rows, corrections), own, gains)

    def plain(
        self, key: bytes, classes: Classes, size: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(w f32[512], its rendering u8[size, size, 3], mesh f32[468, 3] or None) of a key's first candidate.

        Neither looked at nor set apart from others: for `fit_distinctness`.
        """
        wanted = person_choice.target(classes, Wishes())
        _, w = next(self._fitting(key, wanted))
        image = self.picture(self._table.move(w, person_choice.moves(self._table, w, wanted)), size)
        located = self._reader.locate(image)
        return w, image, None if located is None else located[0]

    def tried(
        self, key: bytes, classes: Classes
    ) -> Iterator[tuple[np.ndarray, dict[str, float], dict[str, float] | None]]:
        """(w - mean f32[512] set apart, moves, what is then measured) of a key's candidates that fit.

        Whether they will likely do or not, and not bettered: for `fit_forecasts`. None: no face was found.
        """
        wanted = person_choice.target(classes, Wishes())
        for number, w in self._fitting(key, wanted, likely=0.0):
            apart = distinctness.set_apart(w, self._table.mean)
            amounts = person_choice.moves(self._table, apart, wanted)
            own = self._rendered(number, apart, amounts, wanted).own
            measured = None if own is None else person_choice.measured(own)
            yield apart - self._table.mean, amounts, measured

    def _fitting(
        self, key: bytes, wanted: Target, **options: float
    ) -> Iterator[tuple[int, np.ndarray]]:
        """See `person_choice.fitting`."""
        candidates = functools.partial(self.candidates, key)
        return person_choice.fitting(candidates, self._table, self._psi, wanted, **options)

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
        """See `identities.IdentitySource.render`; measured before it is mended."""
        person = self.person(key, classes)
        tone = classes.tone if self._wishes.tone is None else self._wishes.tone
        wanted, clamped = _wanted(pose, expression)
        found = self._posed(person, wanted, size, mended)
        for share in _MILDER:
            if "yaw" not in wanted or _soundness(found) == 1:
                break
            # In that pose this person melts. One that is less turned is better than no face.
            again = self._posed(person, _milder(wanted, share, person), size, mended)
            if _soundness(again) > _soundness(found):
                found, clamped = again, True
        if found is None:
            raise ValueError(f"candidate {person.candidate} of a key shows no face in this pose")
        image, shown, _ = found
        return Rendering.of_mesh(
            _lit(image, shown, person.gains, tone),
            shown,
            clamped=clamped,
            person=f"{self.fingerprint}:{person.candidate}",
        )

    def _posed(
        self, person: Person, wanted: Mapping[str, float], size: int, mended: bool
    ) -> tuple[np.ndarray, np.ndarray, float] | None:
        """(u8[size, size, 3], mesh f32[468, 3] px, the mesh's score); None where no face is found."""
        rows, image, located = person.rows, None, None
        if wanted and person.own is not None:
            rows = self._table.move(rows, _towards(wanted, person.own.mesh))
        if wanted and person.own is not None and (mended or "mouth_opening" in wanted):
            image = self.picture(rows, size if size <= _MEASURED else _CHECKED)
            located = self._reader.locate(image)
            missed = {} if located is None else _missed(wanted, located[0], mended)
            if missed:
                rows, image = self._table.move(rows, missed), None
        if image is None or len(image) != size:
            image = self.picture(rows, size)
            located = self._reader.locate(image)
        return None if located is None else (image, located[0], located[2])


def _soundness(found: tuple[np.ndarray, np.ndarray, float] | None) -> float:
    """1 of a rendering, as of `_posed`, that shows a whole face; less where it is melted or glares."""
    if found is None:
        return -1.0
    image, mesh, score = found
    return min(score / _SURELY_A_FACE, 1.0) - (light.glare(image, mesh) > _MAX_GLARE)


def _milder(wanted: Mapping[str, float], share: float, person: Person) -> dict[str, float]:
    """Attributes to show, nearer to looking ahead and to the person's own mouth."""
    own = {"yaw": 0.0, "pitch": 0.0}
    if "mouth_opening" in wanted and person.own is not None:
        own |= expression_of(person.own.mesh)._asdict()
    return {
        name: own.get(name, value) * (1 - share) + share * value for name, value in wanted.items()
    }


def _lit(image: np.ndarray, mesh: np.ndarray, gains: np.ndarray, tone: int | None) -> np.ndarray:
    """u8[S, S, 3] without coloured light, its skin within a band of tone."""
    image = light.one_hue(light.balanced(image, gains), mesh)
    if tone is None:
        return image
    gain = light.exposure_gain(cheeks(image, mesh), person_choice.inner_range(tone))
    return light.balanced(image, np.full(3, gain, np.float32))


def _wanted(pose: Pose | None, asked: Expression | None) -> tuple[dict[str, float], bool]:
    """(attributes to show, by name; whether the pose had to be clamped)."""
    wanted, clamped = {}, False
    if pose is not None:
        near, clamped = identities.clamped_pose(pose)
        wanted |= {"yaw": near.yaw, "pitch": near.pitch}
    if asked is not None:
        near = identities.clamped_expression(asked)
        wanted |= {"mouth_opening": near.mouth_opening, "mouth_width": near.mouth_width}
    return wanted, clamped


def _towards(wanted: Mapping[str, float], mesh: np.ndarray) -> dict[str, float]:
    """The moves from what a mesh, f32[468, 3], shows to what is wanted."""
    return {
        name: person_choice.bounded(name, lack) for name, lack in _lacking(wanted, mesh).items()
    }


def _lacking(wanted: Mapping[str, float], mesh: np.ndarray) -> dict[str, float]:
    """What a mesh lacks of what is wanted."""
    shown = yaw_pitch_roll(mesh)._asdict() | expression_of(mesh)._asdict()
    return {name: value - shown[name] for name, value in wanted.items()}


def _missed(wanted: Mapping[str, float], mesh: np.ndarray, all_of_it: bool) -> dict[str, float]:
    """The moves that mend what a mesh shows: none where it is near; else all, or only those of the lips."""
    if all_of_it:
        return {} if _is_near(wanted, mesh) else _towards(wanted, mesh)
    asked, lack = wanted["mouth_opening"], _lacking(wanted, mesh)["mouth_opening"]
    if lack > (1 - _OPENED) * asked or (not asked and -lack > _CLOSED):
        return {"mouth_opening": person_choice.bounded("mouth_opening", lack)}
    return {}


def _is_near(wanted: Mapping[str, float], mesh: np.ndarray) -> bool:
    return all(abs(lack) <= _NEAR[name] for name, lack in _lacking(wanted, mesh).items())
