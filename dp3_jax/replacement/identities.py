"""Where a new face comes from: one interface for all sources of identities.

A person is made of a key alone and of coarse classes of the photo (sex, age band, bands of skin tone and
hair); pose and expression choose how that person is rendered. Same key and classes, same person.
"""

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np

from dp3_jax.models.mesh import Expression, Pose, five_points, yaw_pitch_roll
from dp3_jax.models.mesh import expression as expression_of

# Ages in years from which on each band begins.
AGE_BANDS = {"child": 0.0, "young": 14.0, "middle": 32.0, "old": 50.0}
_OLDEST = 80.0
# Individual typology angles in degrees at which a band of skin tone ends (Del Bino and Bernerd, 2013): band 0
# is dark, 5 very light.
TONE_EDGES = (-30.0, 10.0, 28.0, 41.0, 55.0)
_TONE_ENDS = (-60.0, 70.0)
TONES = len(TONE_EDGES) + 1

# L of CIE Lab from which on each band of hair begins: black, brown, and blond, grey or bald.
HAIR_BANDS = {"dark": 0.0, "medium": 22.0, "light": 45.0}

# What the prior can draw: beyond, faces smear and eyes close; past 50 degrees of yaw there is no face any
# more (docs/pose_limits.jpg).
MAX_YAW = 35.0  # degrees to each side
MIN_PITCH, MAX_PITCH = -14.0, 16.0  # up, down, of heads that look ahead
_PITCH_LOST = 0.5  # share of it that is lost at MAX_YAW: turned heads that look up melt first
_MOUTH_OPENING = 0.0, 0.40  # eye distances
_MOUTH_WIDTH = 0.70, 1.15

SIZES = (128, 256, 512, 1024)  # px


class Classes(NamedTuple):
    """What of a person the surroundings decide; None leaves it to the key.

    Attributes:
      female: the sex.
      age: a key of AGE_BANDS.
      tone: band of skin tone, 0 (dark) to 5 (very light).
      hair: a key of HAIR_BANDS.
      hair_colour: CIE Lab of the hair that is seen, in steps; no source knows it (`of_person`).
    """

    female: bool | None = None
    age: str | None = None
    tone: int | None = None
    hair: str | None = None
    hair_colour: tuple[int, int, int] | None = None

    @property
    def of_person(self) -> "Classes":
        """Those that decide who somebody is."""
        return self._replace(hair_colour=None)


class Wishes(NamedTuple):
    """What the user asks of every new face; goes before what the surroundings say. None: no wish.

    Attributes:
      glasses: with (True); without them is the default.
      female: the sex.
      age: years.
      tone: band of skin tone, as in `Classes`.
      smile: a smile (True) or a serious face (False) in place of the original's mouth, see `smiles`.
    """

    glasses: bool | None = None
    female: bool | None = None
    age: float | None = None
    tone: int | None = None
    smile: bool | None = None

    @property
    def of_person(self) -> tuple[bool | float | int | None, ...]:
        """Those that decide who somebody is: all but how the person looks."""
        return self[:-1]


@dataclasses.dataclass(frozen=True, eq=False)
class Rendering:
    """One picture of a person.

    Attributes:
      image: u8[S, S, 3] RGB.
      points: f32[5, 2] px, as YuNet reports them.
      mesh: f32[468, 2] px.
      pose: as measured on the picture.
      expression: likewise.
      clamped: the pose that was asked for lies beyond what the source can draw; the nearest was rendered.
      person: tells the persons of one key and source apart; for sidecars.
      depth: f32[468] px, the third coordinate of the mesh's points; None where it is not known.
      head: u8[S, S], levels of 255, how surely each pixel shows the person, hair included; None where it is
        not known.
    """

    image: np.ndarray
    points: np.ndarray
    mesh: np.ndarray
    pose: Pose
    expression: Expression
    clamped: bool
    person: str
    depth: np.ndarray | None = None
    head: np.ndarray | None = None

    @classmethod
    def of_mesh(
        cls,
        image: np.ndarray,
        mesh: np.ndarray,
        *,
        clamped: bool,
        person: str,
        head: np.ndarray | None = None,
    ) -> "Rendering":
        """A picture whose points, pose and expression are those of its mesh, f32[468, 3] px."""
        flat = np.ascontiguousarray(mesh[:, :2])
        measured = five_points(mesh), flat, yaw_pitch_roll(mesh), expression_of(mesh)
        depth = np.ascontiguousarray(mesh[:, 2])
        return cls(image, *measured, clamped, person, depth, head)


class IdentitySource(Protocol):
    """A place that persons come from.

    Attributes:
      name: "prior" or "bank".
      fingerprint: changes when the same key would give other pictures.
    """

    name: str
    fingerprint: str

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
        """The person of a key and classes, in a pose and with an expression.

        Args:
          key: 32 bytes.
          classes: of the photo.
          pose: yaw and pitch to render, the roll does not matter; None: the person's own.
          expression: mouth to render, the eyes do not matter; None: the person's own.
          size: px, one of SIZES.
          mended: a pose or mouth that did not come out near enough is rendered once more. Otherwise only
            lips that stayed shut or open are: quicker, and renderings of one person are more alike. Nothing
            where a source's pictures are there already.

        Raises:
          ValueError: no face is found in what was rendered; with another key one will be.
          UserError: a file that the source needs is missing or was changed.
        """
        ...


def tone_band(angle: float) -> int:
    """The band of an individual typology angle in degrees, 0 to 5."""
    return int(np.searchsorted(TONE_EDGES, angle, side="right"))


def tone_range(band: int) -> tuple[float, float]:
    """Degrees between which a band lies."""
    edges = (_TONE_ENDS[0], *TONE_EDGES, _TONE_ENDS[1])
    return edges[band], edges[band + 1]


def age_band(age: float) -> str:
    """The band of an age in years."""
    return [name for name, start in AGE_BANDS.items() if age >= start][-1]


def age_range(band: str) -> tuple[float, float]:
    """Years between which a band lies."""
    starts = [*AGE_BANDS.values(), _OLDEST]
    index = list(AGE_BANDS).index(band)
    return starts[index], starts[index + 1]


def hair_band(lightness: float) -> str:
    """The band of hair of a lightness, L of CIE Lab."""
    return [name for name, start in HAIR_BANDS.items() if lightness >= start or not start][-1]


def clamped_pose(pose: Pose) -> tuple[Pose, bool]:
    """The nearest pose that the prior can draw, and whether that is another one."""
    yaw = float(np.clip(pose.yaw, -MAX_YAW, MAX_YAW))
    share = 1 - _PITCH_LOST * (yaw / MAX_YAW) ** 2
    pitch = float(np.clip(pose.pitch, share * MIN_PITCH, share * MAX_PITCH))
    near = Pose(yaw, pitch, pose.roll)
    return near, near[:2] != tuple(pose[:2])


def clamped_expression(asked: Expression) -> Expression:
    """The nearest expression that the prior can draw and that a mouth is measured rightly in."""
    return Expression(
        float(np.clip(asked.mouth_opening, *_MOUTH_OPENING)),
        float(np.clip(asked.mouth_width, *_MOUTH_WIDTH)),
        asked.eye_opening,
    )
