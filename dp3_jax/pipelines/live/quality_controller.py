"""How thoroughly live faces are searched for, and how small ones are drawn, to keep up with the source."""

import dataclasses

from dp3_jax.common.cores import available_cores


@dataclasses.dataclass(frozen=True)
class Level:
    """How new faces are searched for. Known ones are followed in every frame at every level.

    Attributes:
      every: frames of which one has a pass over the whole picture; those before it wait for it.
      side: the longer side of the picture in that pass, px.
      scan_every: frames of which one has a piece of the picture searched in full detail.
      measure_every: frames of which one has the faces' poses and expressions measured; between them new
        faces stay as they were.
      blurred_below: px; smaller faces are blurred, where larger ones get new faces.
      most_new: new faces in a frame at most, the largest; the others are blurred. None: as many as there are.
    """

    every: int
    side: int
    scan_every: int
    measure_every: int = 1
    blurred_below: int = 0
    most_new: int | None = None

    def __str__(self) -> str:
        often = "every frame" if self.every == 1 else f"every {self.every} frames"
        few = "" if self.most_new is None else f", new faces: {self.most_new} at most"
        blurred = f", faces below {self.blurred_below} px blurred" if self.blurred_below else ""
        return f"{self.side} px {often}{few}{blurred}"


# From thorough to cheap. First there are fewer new faces and then less searching; without a pass over the
# whole picture frames wait for the next one, and each known face is looked for by itself, so that comes last.
LEVELS = (
    Level(1, 960, 1),
    Level(1, 640, 1),
    Level(1, 640, 2, 2),
    Level(1, 640, 4, 2, most_new=4),
    Level(1, 640, 8, 2, 32, most_new=2),
    Level(1, 480, 8, 3, 56, most_new=2),
    Level(1, 480, 8, 3, 96, most_new=1),
    Level(2, 480, 8, 3, 96, most_new=1),
    Level(3, 416, 12, 3, 96, most_new=1),
)
# Which level is begun with: the first needs more than two cores, and so does the second with a face to draw.
THOROUGH = 1
START = THOROUGH if available_cores() > 2 else 3
# Milliseconds that all but 5% of the frames may be late, besides what `--delay` makes them wait.
LATEST = 67.0

_CALM_BUSY = 0.6  # the busiest stage works no larger share of the time: there is room for more
_CALM_CPU = 0.5  # the same of all cores: the stages share them
_FULL_BUSY = 0.95
_LATE_BUSY, _LATE_CPU = 0.7, 0.7  # the same, from which on it is the load that makes frames late
_FEW_DROPPED = (
    0.1  # share of the frames: a full look after a cut drops one or two, whatever the load
)
_MANY_DROPPED = 0.4  # share of the frames, from which on it goes down two levels at once
_BEGINNING = 3  # intervals in which persons are made and frames are late for once
_FIRST_PATIENCE = 4  # calm intervals before the first try of a more thorough level
_MAX_PATIENCE = 64
_TRIAL = 8  # intervals in which falling back means that the try has failed


@dataclasses.dataclass(frozen=True)
class Load:
    """What an interval was like.

    Attributes:
      arrived, dropped: frames.
      busy: share of the time in which the busiest stage worked, 0 to 1.
      cpu: share of the time of all cores that this process used, 0 to 1.
      late: ms after which 95% of the frames were shown.
    """

    arrived: int
    dropped: int
    busy: float
    cpu: float
    late: float = 0.0


class QualityController:
    """Chooses the level: down at once under load, up only after a while of calm.

    A more thorough level that turns out too much is tried again only after twice the time, so it does not
    swing between two levels.
    """

    def __init__(
        self,
        start: int = START,
        *,
        fixed: bool = False,
        latest: float = LATEST,
        frame: float = 0.0,
    ):
        """Begins at a level.

        Args:
          start: which one.
          fixed: it stays there.
          latest: ms after which 95% of the frames are to be shown, besides what a level makes them wait.
          frame: ms from one frame to the next.
        """
        self._index = start
        self._fixed = fixed
        self._latest, self._frame = latest, frame
        self._patience = _FIRST_PATIENCE
        self._calm = 0
        self._since_up = _TRIAL
        self._intervals = 0
        self.lowered = 0  # times

    @property
    def level(self) -> Level:
        """The present one."""
        return LEVELS[self._index]

    def observe(self, load: Load) -> None:
        """Takes an interval into account; without frames nothing changes."""
        if self._fixed or not load.arrived:
            return
        self._since_up += 1
        self._intervals += 1
        late = self._intervals > _BEGINNING and load.late > self._latest + self._frame * (
            self.level.every - 1
        )
        strained = load.dropped > _FEW_DROPPED * load.arrived or load.busy > _FULL_BUSY
        if strained or (late and (load.busy > _LATE_BUSY or load.cpu > _LATE_CPU)):
            self._calm = 0
            if self._since_up <= _TRIAL:
                self._patience = min(2 * self._patience, _MAX_PATIENCE)
                self._since_up = _TRIAL + 1
            steps = 2 if load.dropped > _MANY_DROPPED * load.arrived else 1
            lower = min(self._index + steps, len(LEVELS) - 1)
            self.lowered += lower - self._index
            self._index = lower
            return
        is_calm = load.busy < _CALM_BUSY and load.cpu < _CALM_CPU and not late
        self._calm = self._calm + 1 if is_calm else 0
        if self._calm >= self._patience and self._index > 0:
            self._index -= 1
            self._calm = 0
            self._since_up = 0
