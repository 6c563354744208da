"""What is remembered of a face from frame to frame: pictures, colours, grain, and who it is.

All memory is kept in the canonical frame of the face. Averaging there over frames is the same as warping the
previous output by the motion of the face, from alignment to alignment, without resampling it again and
again. Everything remembered comes from background-filled frames and generated pictures, never from a
hidden pixel; what is known of the hidden face are its place, the numbers of its vector and, where that is
switched on, the grid of `following`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.vectors import VectorFilter
from dp3_jax.replacement import averaging, carried_parts, coherence, key_derivation, motion_transfer
from dp3_jax.replacement.carried_parts import Carried
from dp3_jax.replacement.coherence import ALL, Coherence, SmoothedMotion
from dp3_jax.replacement.surroundings import Exposure
from dp3_jax.vision import blending, geometry
from dp3_jax.vision.geometry import Region
from dp3_jax.vision.poses import Pose

ARRAYS = ("latest", "view", "fill", "around", "correct", "offset")
_BOUND = ("use", "causal", "wait")  # of the renderer, not of the face

# Canonical px inside the mask over which the averaged fill takes over: at the very edge only the fill of this
# frame continues this frame's surroundings.
_FILL_EDGE = 2.0
_MIN_CHANGE_CAUSAL = 0.1  # added to what is out of date in live video
_MAX_SKIPPED_CHANGE = (
    0.6  # of the surroundings' `measured_change` from which on a face is drawn all the same
)
_EAGER = 8  # frames in which a latent is looked for every time; later in every _EAGER-th
_FUSED_EVERY = 16  # frames from one run of the fusion network to the next at most
_LARGE_SIZE = (
    256  # px of renderings; the rings of faces that have smaller ones stay as they were said
)
_SMALL_EVERY = 24  # frames, the same for these
_MIN_KEYFRAME_INTERVAL = 2  # frames, the same for others, whatever moves
_NEAR_SCALE = (
    0.6  # canonical px for each px of the frame; below, a ring that is out of date is seen
)
_GRAIN_EVERY = 8  # frames between two looks at the grain, or at how sharp the surroundings are
_GRAIN_WEIGHT = 0.3
# By px of renderings below 256: how much a vector may differ from the one that is shown, of each angle, and
# of each length in eye distances or share of an eye. The steps move nothing by a px of the face.
_TOLERANCES = {128: (1.0, 0.03), 192: (0.5, 0.015)}


@dataclasses.dataclass(eq=False)
class Memory:
    """What is known of a track from the frames before.

    Attributes:
      frame: number of the last one.
      use: what is steadied.
      causal: nothing is known of later frames, and places are as unsteady as the detector's points.
      wait: renderings are waited for; live they are not.
      scale: canonical px for each px of the frame, in this one.
      now: count of frames by which it is decided when the network runs.
      candidate: number of its latent, once settled.
      classes: `identities.Classes` of its person, once known.
      size: px of its person's renderings; 0 before that is known.
      tries: frames in which no candidate was a face.
      surely: whether it was surely a face in any frame.
      small: whether it was too small for a new face; None in the first frame.
      dilation: canonical px by which its mask was grown, before rounding up.
      motion: of the causal filter of places.
      vectors: the causal filter of the face's vector.
      age, looked: frames since the pictures below began, and those in which blur was looked at.
      last_keyframe: `now` of the network's last run.
      grain: standard deviation in levels.
      exposure: as of `surroundings.Exposure`, on average; None before it was looked at.
      blur: standard deviation in px by which a rendering is too sharp.
      latest: u8[S, S, 3], the last drawing.
      view: f32[S, S, 3], average of the drawings.
      fill: f32[S, S, 3], average of the background-filled frame's views, of which what is inside the mask
        is used.
      around: f32[32, 32, 4], the `surroundings` in the last frame.
      change_score: their `measured_change` against those before.
      correct: f32[S / 4, S / 4, 3], average of the corrections of colour.
      offset: f32[GRID, 2], how far the picture has been moved, as `motion_transfer.advance` gives it.
      carried: what a fusion network said.
      shown: the vector that the face shows, where that rests while the measured one moves little.
    """

    frame: int
    use: Coherence = ALL
    causal: bool = False
    wait: bool = True
    scale: float = 1.0
    now: int = 0
    candidate: int | None = None
    classes: tuple | None = None
    size: int = 0
    tries: int = 0
    surely: bool = False
    small: bool | None = None
    dilation: float = 0.0
    motion: SmoothedMotion | None = None
    vectors: VectorFilter = dataclasses.field(default_factory=VectorFilter)
    age: int = 0
    looked: int = 0
    last_keyframe: int = -1
    grain: float = 0.0
    exposure: tuple[float, float] | None = None
    blur: float = 0.0
    latest: np.ndarray | None = None
    view: np.ndarray | None = None
    fill: np.ndarray | None = None
    around: np.ndarray | None = None
    change_score: float = 1.0
    correct: np.ndarray | None = None
    offset: np.ndarray | None = None
    carried: Carried | None = None
    shown: FaceVector | None = None

    def forget_pictures(self) -> None:
        """After a cut, a gap or a failure; the face stays who it is."""
        for name in ARRAYS:
            setattr(self, name, None)
        self.carried = self.exposure = None
        self.age = self.looked = 0

    def held(self, vector: FaceVector) -> FaceVector:
        """The vector that a small face shows: the one before while that is not seen to differ.

        So its rendering and all that follows from it need not be made anew in each frame.
        """
        tolerance = _TOLERANCES.get(self.size)
        if tolerance is None or self.shown is None or not _is_near(self.shown, vector, tolerance):
            self.shown = vector
        return self.shown

    def render_at(self, size: int) -> None:
        """Sets the size of renderings; a person at another one is another person."""
        if self.size not in (0, size):
            self.forget_pictures()
            self.candidate, self.tries = None, 0
        self.size = size

    def forget_place(self) -> None:
        """After a cut or a gap."""
        self.motion, self.dilation, self.vectors, self.shown = None, 0.0, VectorFilter(), None

    def observe(self, view: np.ndarray, mask: np.ndarray) -> None:
        """Sees how far the surroundings have changed, and forgets the pictures where that is wholly.

        Args:
          view: u8[S, S, 3], canonical view of the background-filled frame.
          mask: f32[S, S, 1].
        """
        around = averaging.surroundings(view, mask)
        self.change_score = averaging.measured_change(self.around, around)
        if self.change_score >= 1:
            self.forget_pictures()
        self.around = around

    def tries_now(self) -> bool:
        """Whether a latent is to be looked for in this frame, where none is settled; counts that."""
        self.tries += 1
        return self.tries <= _EAGER or self.tries % _EAGER == 0

    def skips_inference(self) -> bool:
        """Whether the last drawing of a network will do, after `observe`: it takes a third of all the time.

        It runs when `now` has passed a multiple of so many frames, so that many faces come together.
        """
        if (
            not self.use.blend_previous
            or self.latest is None
            or self.change_score > _MAX_SKIPPED_CHANGE
        ):
            return False
        return self.now // averaging.EVERY == self.last_keyframe // averaging.EVERY

    def drew(self) -> None:
        """A network has run in this frame."""
        self.last_keyframe = self.now

    @property
    def _share_due(self) -> float:
        """`change_score`, with what is added to it live."""
        return max(self.change_score, _MIN_CHANGE_CAUSAL) if self.causal else self.change_score

    def moved(self, view: np.ndarray, mask: np.ndarray) -> Carried | None:
        """What the fusion network said, brought to this frame; None where it is not remembered.

        Args:
          view, mask: as of `observe`.
        """
        if not self.use.blend_previous:
            self.carried = None
        if self.carried is not None and self.size < _LARGE_SIZE:
            self.carried = dataclasses.replace(self.carried, view=view)
        elif self.carried is not None:
            self.carried = carried_parts.moved(self.carried, view, mask, self._share_due)
        return self.carried

    def is_due(self, view: np.ndarray, mask: np.ndarray) -> bool:
        """Whether the fusion network is to run again, after `moved`."""
        if self.size < _LARGE_SIZE:
            return self.now // _SMALL_EVERY != self.last_keyframe // _SMALL_EVERY
        if self.now - self.last_keyframe < _MIN_KEYFRAME_INTERVAL:
            return False
        if self.now // _FUSED_EVERY != self.last_keyframe // _FUSED_EVERY:
            return True
        return self.scale < _NEAR_SCALE and carried_parts.is_stale(self.carried, view, mask)

    def said(self, carried: Carried) -> Carried:
        """Keeps what the fusion network says in this frame."""
        self.carried = carried
        self.drew()
        return carried

    def stabilise_correction(self, correct: np.ndarray) -> np.ndarray:
        """The average of `blending.correction`s, f32[S / 4, S / 4, 3]."""
        if self.use.stabilise_colour:
            before = self.correct
            if before is not None:
                correct = averaging.drift(before, correct, self._share_due)
            self.correct = correct
        return correct

    @property
    def looks_at_exposure(self) -> bool:
        """Whether `stabilise_exposure` observes it in this frame."""
        return self.exposure is None or self.age % _GRAIN_EVERY == 0

    def stabilise_exposure(self, observe: Callable[[], Exposure]) -> Exposure:
        """The exposure round the face, on average; looked at now and then."""
        if self.exposure is None:
            self.exposure = tuple(observe())
        elif self.looks_at_exposure:
            pairs = zip(self.exposure, observe(), strict=True)
            self.exposure = tuple(old + _GRAIN_WEIGHT * (new - old) for old, new in pairs)
        return Exposure(*self.exposure)

    def stabilise_blur(self, observe: Callable[[], float]) -> float:
        """Standard deviation in px by which a rendering is to be blurred; looked at now and then."""
        if self.looked % _GRAIN_EVERY == 0:
            share = _GRAIN_WEIGHT if self.looked and self.use.stabilise_grain else 1.0
            self.blur += share * (observe() - self.blur)
        self.looked += 1
        return self.blur

    def compose(self, view: np.ndarray, new: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """A drawn face as it is shown, u8[S, S, 3], after `observe`: joined with what is remembered.

        Args:
          view, mask: as of `observe`.
          new: u8[S, S, 3], the new face in the view, which may be `latest`.
        """
        self.latest, change_score = new, self._share_due
        shown = new
        if self.use.blend_previous:
            first = self.view is None
            shown = self.view = (
                new.astype(np.float32) if first else averaging.average(self.view, new, change_score)
            )
        if self.use.transfer_motion and self.offset is not None:
            shown = motion_transfer.moved(shown, self.offset)
        if self.use.stabilise_fill:
            view = self._stabilised_fill(view, mask, change_score)
        correct = self.stabilise_correction(blending.correction(view, shown, mask, quick=True))
        return blending.blend(view, shown, mask, correct)

    def _stabilised_fill(
        self, view: np.ndarray, mask: np.ndarray, change_score: float
    ) -> np.ndarray:
        """`view` with the average of what the background-filled frames showed inside the mask, from
        _FILL_EDGE on.
        """
        if self.fill is None:
            self.fill = view.astype(np.float32)
            return view
        self.fill = averaging.average(
            self.fill, view, change_score, least=averaging.FILL_MIN_WEIGHT, most=1.0, every=1
        )
        share = geometry.feather(mask, _FILL_EDGE)
        change = cv2.multiply(
            cv2.subtract(self.fill, view, dtype=cv2.CV_32F), cv2.merge([share] * 3)
        )
        return cv2.add(view, change, dtype=cv2.CV_8U)

    def add_grain(self, frame: np.ndarray, target: Region, masked: np.ndarray, key: bytes) -> None:
        """As `blending.add_grain`; its strength is looked at now and then, its pattern is that of `frame`."""
        if not self.use.stabilise_grain:
            blending.add_grain(frame, target, masked, key_derivation.grain_generator(key))
            return
        if self.age % _GRAIN_EVERY == 0:
            level = float(blending.grain_level(frame, target, masked))
            share = _GRAIN_WEIGHT if self.age else 1.0
            self.grain += share * (level - self.grain)
        self.age += 1
        coherence.add_grain(frame, target, self.grain, key, self.frame)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """(for JSON, arrays): all but what belongs to the renderer."""
        fields = (f.name for f in dataclasses.fields(self))
        entry = {name: getattr(self, name) for name in fields if name not in _BOUND}
        arrays = {name: entry.pop(name) for name in ARRAYS}
        if self.motion is not None:
            entry["motion"] = [
                [pose.centre.real, pose.centre.imag, pose.size, pose.angle] for pose in self.motion
            ]
        entry["vectors"] = self.vectors.to_json()
        if self.carried is not None:
            entry["carried"] = self.carried.frames
            for name in carried_parts.ARRAYS:
                arrays[f"carried {name}"] = getattr(self.carried, name)
        return entry, {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    def from_state(
        cls, entry: dict[str, Any], arrays: dict[str, np.ndarray], **bound: Any
    ) -> "Memory":
        """What `to_state` gave, after its way through a file; `bound`: use, causal and wait."""
        entry = dict(entry)
        if entry["motion"] is not None:
            entry["motion"] = SmoothedMotion(
                *(Pose(complex(x, y), *rest) for x, y, *rest in entry["motion"])
            )
        entry["vectors"] = VectorFilter.from_json(entry["vectors"])
        if entry["classes"] is not None:  # JSON has no tuples
            entry["classes"] = tuple(
                tuple(v) if isinstance(v, list) else v for v in entry["classes"]
            )
        entry["shown"] = entry["shown"] and FaceVector(*entry["shown"])
        own = {name: arrays.get(name) for name in ARRAYS}
        if entry["carried"] is not None:
            kept = {name: arrays[f"carried {name}"] for name in carried_parts.ARRAYS}
            entry["carried"] = Carried(**kept, frames=entry["carried"])
        return cls(**entry, **own, **bound)


def _is_near(shown: FaceVector, vector: FaceVector, tolerance: tuple[float, float]) -> bool:
    """Whether each number of two vectors is within a tolerance, or known of neither."""
    limits = [tolerance[0]] * 2 + [tolerance[1]] * (len(vector) - 2)
    for one, other, limit in zip(shown, vector, limits, strict=True):
        if (one is None) != (other is None):
            return False
        if one is not None and other is not None and abs(one - other) > limit:
            return False
    return True
