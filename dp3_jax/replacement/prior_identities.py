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
from dp3_jax.replacement import defects, distinctness, identities, key_derivation, light
from dp3_jax.replacement.attributes import AttributeReader, Attributes, cheeks
from dp3_jax.replacement.directions import WIDTH, Directions, load_directions, logit
from dp3_jax.replacement.identities import Classes, Rendering, Wishes

# Truncation. Less makes faces that are more alike, not better ones: SFace at .363 takes two persons of one
# sex, age band and band of tone for one in 31% with .65 to .7, 14% (.8 to .85), 12% (.85 to .9), 7% (.95 to
# 1), of 1,800 persons; what looks wrong at 1 is mostly backgrounds.
PSI = 1.0
_CHECKED = 128  # px, of renderings that are measured and thrown away
_MEASURED = 256  # px, up to which a rendering is measured itself and not a smaller one
_BLOCK = 64  # candidates that are looked at together
_MAX_BLOCKS = 16  # after these the one that fits best is taken
_MAX_CACHED = 256  # persons

_CHOICE = 6  # one more whenever a key's person changes by anything below

# Length of w - mean, at truncation 1, outside of what the regressions tell; the middle half of all latents.
# Those near the mean look like one another, and those far from it melt when they are turned.
_DISTINCTNESS = 8.3, 10.5
# By the regressions on w, where 1 is with and 0 without. On 750 labelled faces, 5-fold: 99% of those with
# glasses lie above the limit and 14% of those without, of those with something on the head 90 and 13%.
_MAX_GLASSES, _MAX_HAT = 0.4, 0.35
_WITH_GLASSES = 0.65
_LEFT = 0.1  # what a person without glasses or hat is moved to: other moves bring them on
_DARK, _MAX_DARK_HAIR = (
    10.0,
    25.0,
)  # a tone that is wanted below asks for hair below: else it is the shade
# On a candidate's own rendering: hair, a hat or a hard shadow on the forehead comes along with the face.
_MAX_FRINGE = 20.0
_MAX_PREDICTED_FRINGE = 22.0  # by the regression, which spares renderings
_MAX_LIGHT = (
    12.0  # levels of L between the cheeks; the photo's light is seldom that of the rendering
)
_TRIES = 4  # candidates that are rendered and looked at; then the best of them is taken
_SURE_SEX = 1.0  # logit of being called a woman or man, in the choice and on the rendering
# How far what is measured on a candidate may lie outside of what is wanted: it can be corrected that far.
# Moved by more, a man of 49 in place of one of 30 became a child.
# Of 900 grown persons those with a logit of less than 2 were looked at: half of the 20 read as the other sex.
_CORRECTED = {"age": 8.0, "female": -1.0, "ita": 15.0}
# Where lips are moved otherwise: the share of a mouth's opening that is enough, and what counts as closed.
_OPENED, _CLOSED = 0.6, 0.05
# A rendering that is this near to what was asked for is taken as it is; degrees and eye distances.
_NEAR = {"yaw": 4.0, "pitch": 4.0, "mouth_opening": 0.05, "mouth_width": 0.06}
# Of 120 renderings for photos two had a mesh's score below, and both were melted; a share of the pose is then
# tried.
_SURELY_A_FACE, _MILDER = 0.985, (0.5, 0.0)
_MIN_CONFIDENCE = 0.93  # of YuNet in a rendering; nearly all that are as they should be have more
_MAX_CAST = 12.0  # of coloured light, which `light.balanced` takes out
_CONFIDENCE_COUNTS = 50.0  # what has .86 is no face any more
# What is at a mouth comes along; of 640 renderings of all kinds 8% have more, and of one with a lipstick 20.
_MAX_UNEVENNESS = 13.0
# Of 300 candidates 23% have more mixed hues, of 160 persons 7% a deeper shadow. With 12 for the first a
# yellow nose between violet cheeks came up on the first page of the docs.
_MAX_MIXED_HUES, _MAX_SHADOW = 10.0, 20.0
_MAX_SHOWN_LIGHT = 20.0  # as _MAX_LIGHT, on the rendering
_MAX_OWN_YAW = 20.0  # degrees: who looks away by more by nature is turned back with too much loss
_TONE_SLACK = (
    8.0  # degrees that a candidate's tone may lie outside of its band; it is moved into it
)
_AGE_SLACK = 2.0  # years, likewise
# Years between which persons of each band are drawn: well inside, for toddlers are called 14 at times.
_AGES = {"child": (3.0, 10.0), "young": (20.0, 30.0), "middle": (35.0, 47.0), "old": (54.0, 75.0)}
_WISHED_AGE = 4.0  # years round a wished age
_MAX_MOVES = {"age": 20.0, "female": 4.0, "ita": 50.0, "yaw": 60.0, "pitch": 35.0}
_MAX_MOVES |= {"mouth_opening": 0.4, "mouth_width": 0.3}


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


@dataclasses.dataclass(frozen=True)
class _Target:
    """What a person should be: ranges by attribute, each (low, high); and whether glasses are worn."""

    ranges: Mapping[str, tuple[float, float]]
    glasses: bool

    def amounts(self, values: Mapping[str, float]) -> dict[str, float]:
        """The moves that bring attributes into their ranges, as far as moves may go."""
        moves = {}
        for name, (low, high) in self.ranges.items():
            wanted = float(np.clip(values[name], low, high)) - float(values[name])
            if wanted:
                moves[name] = _bounded(name, wanted)
        return moves


def _bounded(name: str, amount: float) -> float:
    return float(np.clip(amount, -_MAX_MOVES[name], _MAX_MOVES[name]))


def target(classes: Classes, wishes: Wishes) -> _Target:
    """What classes and wishes ask of a person; wishes go first."""
    ranges = {}
    female = classes.female if wishes.female is None else wishes.female
    if female is not None:
        ranges["female"] = (_SURE_SEX, np.inf) if female else (-np.inf, -_SURE_SEX)
    if wishes.age is not None:
        ranges["age"] = (wishes.age - _WISHED_AGE, wishes.age + _WISHED_AGE)
    elif classes.age is not None:
        ranges["age"] = _AGES[classes.age]
    tone = classes.tone if wishes.tone is None else wishes.tone
    if tone is not None:
        ranges["ita"] = _inner_range(tone)
    return _Target(ranges, bool(wishes.glasses))


def misfit(predicted: Mapping[str, np.ndarray], wanted: _Target) -> np.ndarray:
    """f[n]: 0 where a candidate will do, else how far away it is; infinite where it must not be taken.

    Args:
      predicted: attributes f[n] of each candidate, from the regressions.
      wanted: what is asked.
    """
    glasses = predicted["glasses"]
    bad = predicted["hat"] > _MAX_HAT
    bad |= (glasses < _WITH_GLASSES) if wanted.glasses else (glasses > _MAX_GLASSES)
    bad |= np.abs(predicted["yaw"]) > _MAX_OWN_YAW
    bad |= predicted["fringe"] > _MAX_PREDICTED_FRINGE
    distance = np.zeros(len(glasses))
    slack = {"ita": (_TONE_SLACK, 10.0), "age": (_AGE_SLACK, 12.0), "female": (0.0, 2.0)}
    if wanted.ranges.get("ita", (0.0, np.inf))[1] < _DARK:
        distance += np.maximum(predicted["hair_lightness"] - _MAX_DARK_HAIR, 0) / 20
    for name, (low, high) in wanted.ranges.items():
        away = np.maximum(low - predicted[name], predicted[name] - high)
        allowed, unit = slack[name]
        distance += np.maximum(away - allowed, 0) / unit
    return np.where(bad, np.inf, distance)


def shortcoming(own: Attributes, wanted: _Target) -> float:
    """0 where a candidate's rendering will do, else how far it is from that.

    Args:
      own: as measured on it.
      wanted: what is asked.
    """
    lack = max(own.fringe - _MAX_FRINGE, 0) / 10 + max(light.cast(own) - _MAX_CAST, 0) / 10
    lack += max(_MIN_CONFIDENCE - own.confidence, 0) * _CONFIDENCE_COUNTS
    lack += max(abs(own.light) - _MAX_SHOWN_LIGHT, 0) / 10
    lack += max(own.unevenness - _MAX_UNEVENNESS, 0) / 5
    lack += max(own.mixed_hues - _MAX_MIXED_HUES, 0) / 5 + max(own.shadow - _MAX_SHADOW, 0) / 10
    values, units = _measured(own), {"age": 10.0, "female": 2.0, "ita": 15.0}
    for name, (low, high) in wanted.ranges.items():
        away = max(low - values[name], values[name] - high)
        lack += max(away - _CORRECTED[name], 0) / units[name]
    return lack


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
        digest.update(repr((_CHOICE, self._psi, self._wishes.of_person)).encode())
        tables = (self._table.mean, self._table.regression, self._table.moves)
        for array in (*tables, *defects.load_defects(), distinctness.load_distinctness()):
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
            known = self._persons[key, classes] = self._make(key, target(classes, self._wishes))
        return known

    def _make(self, key: bytes, wanted: _Target) -> Person:
        """The first of _TRIES candidates that fit and whose rendering is as asked; else the nearest."""
        best = None
        for number, w in itertools.islice(self._fitting(key, wanted), _TRIES):
            person = self._tried(number, w, wanted)
            lack = np.inf if person.own is None else shortcoming(person.own, wanted)
            if best is None or lack < best[0]:
                best = (lack, person)
            if lack == 0:
                break
        return best[1]

    def _tried(self, number: int, w: np.ndarray, wanted: _Target) -> Person:
        """A candidate as the person it would be: moved by what is predicted, then by what is measured."""
        w = distinctness.set_apart(w, self._table.mean)
        rows = self._table.move(w, self._moves(w, wanted))
        own = self._reader.read(self.picture(rows, _CHECKED))
        corrections = {} if own is None else wanted.amounts(_measured(own))
        if "age" in corrections:
            most = _CORRECTED["age"]
            corrections["age"] = float(np.clip(corrections["age"], -most, most))
        gains = np.ones(3, np.float32) if own is None else light.gains(own)
        return Person(number, self._table.move(rows, corrections), own, gains)

    def _moves(self, w: np.ndarray, wanted: _Target) -> dict[str, float]:
        """The moves by what is predicted: who a candidate is to be, looking ahead and evenly lit."""
        predicted = {name: float(v) for name, v in self._table.predict(w).items()}
        moves = wanted.amounts(predicted) | {name: -predicted[name] for name in ("yaw", "pitch")}
        for name in ("hat",) if wanted.glasses else ("hat", "glasses"):
            moves[name] = min(_LEFT - predicted[name], 0.0)
        side = predicted["light"]
        moves["light"] = float(np.clip(side, -_MAX_LIGHT, _MAX_LIGHT)) - side
        return moves

    def plain(
        self, key: bytes, classes: Classes, size: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(w f32[512], its rendering u8[size, size, 3], mesh f32[468, 3] or None) of a key's first candidate.

        Neither looked at nor set apart from others: for `fit_distinctness`.
        """
        wanted = target(classes, Wishes())
        _, w = next(self._fitting(key, wanted))
        image = self.picture(self._table.move(w, self._moves(w, wanted)), size)
        located = self._reader.locate(image)
        return w, image, None if located is None else located[0]

    def _fitting(self, key: bytes, wanted: _Target) -> Iterator[tuple[int, np.ndarray]]:
        """(number, w f32[512]) of the candidates that fit, in their order; then of those that fit best."""
        others: list[tuple[float, int, np.ndarray]] = []
        for block in range(_MAX_BLOCKS):
            w = self.candidates(key, block * _BLOCK, _BLOCK)
            distance = misfit(self._table.predict(w), wanted)
            apart = distinctness.set_apart(w, self._table.mean)  # as they would be shown
            distance[defects.flawed(apart, self._table.mean)] = np.inf
            away = self._table.distinctness(w) / self._psi
            distance += np.abs(away - np.clip(away, *_DISTINCTNESS))
            for index in np.flatnonzero(distance == 0):
                yield block * _BLOCK + int(index), w[index]
            near = np.argsort(distance, kind="stable")[:_TRIES]
            near = [i for i in near if distance[i] > 0]
            others += [(float(distance[i]), block * _BLOCK + int(i), w[i]) for i in near]
        for _, number, w in sorted(others, key=lambda other: other[:2])[:_TRIES]:
            yield number, w

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
            if "yaw" not in wanted or (found is not None and found[2] >= _SURELY_A_FACE):
                break
            # In that pose this person melts. One that is less turned is better than no face.
            milder = wanted | {name: share * wanted[name] for name in ("yaw", "pitch")}
            again = self._posed(person, milder, size, mended)
            if again is not None and (found is None or again[2] > found[2]):
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


def _lit(image: np.ndarray, mesh: np.ndarray, gains: np.ndarray, tone: int | None) -> np.ndarray:
    """u8[S, S, 3] without coloured light, its skin within a band of tone."""
    image = light.one_hue(light.balanced(image, gains), mesh)
    if tone is None:
        return image
    gain = light.exposure_gain(cheeks(image, mesh), _inner_range(tone))
    return light.balanced(image, np.full(3, gain, np.float32))


def _inner_range(tone: int) -> tuple[float, float]:
    """Degrees within a band of tone, a little away from its ends."""
    low, high = identities.tone_range(tone)
    inner = min(3.0, (high - low) / 4)
    return low + inner, high - inner


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
    return {name: _bounded(name, lack) for name, lack in _lacking(wanted, mesh).items()}


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
        return {"mouth_opening": _bounded("mouth_opening", lack)}
    return {}


def _is_near(wanted: Mapping[str, float], mesh: np.ndarray) -> bool:
    return all(abs(lack) <= _NEAR[name] for name, lack in _lacking(wanted, mesh).items())


def _measured(own: Attributes) -> dict[str, float]:
    """A person's attributes in the units of the directions."""
    return {"age": own.age, "female": float(logit(own.female)), "ita": own.ita}
