"""What `dp3 evaluate-video` measures, frame after frame, of a clip and its anonymized variants.

Two frames of each variant are kept, and of each track a few numbers and embeddings.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dp3_jax.detection import face_detection
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_vector import MIN_MESH_SIZE
from dp3_jax.detection.tracks import Observation, Track, Tracking
from dp3_jax.metrics import temporal, verification, video_motion, video_privacy
from dp3_jax.metrics.temporal import Mean
from dp3_jax.models.embedders import BATCH
from dp3_jax.models.mesh import FaceMesh, expression, yaw_pitch_roll
from dp3_jax.vision import geometry

Faces = Sequence[tuple[Track, Observation]]
# (u8[h, w, 3] source frame, its tracked faces, whether it is the first after a cut) -> anonymized frame;
# called once for every frame, in order.
Render = Callable[[np.ndarray, Faces, bool], np.ndarray]

SOURCE = "source"  # its name among the variants
FACE_VERIFIERS: dict[str, Callable[[], verification.Verifier]] = {
    "sface": verification.VERIFIERS["sface_forced"],
    "dlib": verification.VERIFIERS["dlib_resnet_forced"],
    "faceres": verification.VERIFIERS["faceres_forced"],
}
# Frames of a track that each sees: all, or few if it is slow.
_VERIFIED_FRAMES = {"sface": 1000, "dlib": 24, "faceres": 24}
_LISTED = 20  # numbers of frames with a shown face that are listed for each track
_SURROUNDINGS = 0.3  # of the face's size: flow is found on that much more on each side
_NEAR = 0.4  # of a face's width: how far off the middle of its view a face is found


@dataclasses.dataclass(eq=False)
class Values:
    """What was measured of one track in one variant, or of all tracks together."""

    warping: Mean = dataclasses.field(default_factory=Mean)
    warping_own: Mean = dataclasses.field(default_factory=Mean)
    own_seen: Mean = dataclasses.field(default_factory=Mean)
    adjacent: Mean = dataclasses.field(default_factory=Mean)
    all_pairs: Mean = dataclasses.field(default_factory=Mean)
    jitter: Mean = dataclasses.field(default_factory=Mean)
    flicker: Mean = dataclasses.field(default_factory=Mean)
    found: Mean = dataclasses.field(default_factory=Mean)
    outside: Mean = dataclasses.field(default_factory=Mean)
    observations: int = 0
    judged_faces: int = 0
    judged_pixels: int = 0
    shown_pixels: int = 0
    shown: list[int] = dataclasses.field(default_factory=list)
    shown_faces: int = 0

    def merge(self, other: "Values") -> None:
        """Adds another track's."""
        for field in dataclasses.fields(self):
            mine, its = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, Mean):
                mine.merge(its)
            else:
                setattr(self, field.name, mine + its)

    def add_exposure(self, number: int, seen: temporal.Exposure) -> None:
        """Takes what shows of the face in frame `number`."""
        self.judged_faces += seen.judged > 0
        self.judged_pixels += seen.judged
        if seen.shown:
            self.shown_faces += 1
            self.shown_pixels += seen.alike
            self.shown = [*self.shown, number][:_LISTED]


class TrackRun:
    """One track in one variant while the clip runs."""

    def __init__(self, frames: Mapping[str, frozenset[int]]):
        """`frames`: which of them each judge sees."""
        self.values = Values()
        self.identity = temporal.IdentityStability()
        self.jitter = temporal.Jitter()
        self.flicker = temporal.Flicker()
        self.motion = video_motion.Series()
        self._frames = frames
        self._rows: dict[str, list[tuple[int, np.ndarray]]] = {name: [] for name in frames}
        self._missed = dict.fromkeys(frames, 0)
        self._waiting: dict[str, list[tuple[int, np.ndarray]]] = {name: [] for name in frames}

    def part(self) -> None:
        """The next frame does not follow the last one."""
        self.identity.add(None)
        self.jitter.add(None)
        self.flicker.add(None)

    def embed(self, number: int, view: np.ndarray, verifiers: Mapping[str, Any]) -> None:
        """Shows the view to the judges that are to see this frame, to the first one in any case.

        The others get some views at once, which takes them less time: see `embed_rest`.
        """
        for place, (name, verifier) in enumerate(verifiers.items()):
            wanted = number in self._frames[name]
            if place:
                self._waiting[name] += [(number, view)] if wanted else []
                if len(self._waiting[name]) == BATCH:
                    self._embed_waiting(name, verifier)
                continue
            rows, found = verifier.embed(view[None])
            self.identity.add(rows[0] if found[0] else None)
            if wanted and found[0]:
                self._rows[name].append((number, rows[0]))
            self._missed[name] += wanted and not found[0]

    def _embed_waiting(self, name: str, verifier: Any) -> None:
        waiting, self._waiting[name] = self._waiting[name], []
        if not waiting:
            return
        rows, found = verifier.embed(np.stack([view for _, view in waiting]))
        for (number, _), row, known in zip(waiting, rows, found, strict=True):
            if known:
                self._rows[name].append((number, row))
            self._missed[name] += not known

    def embed_rest(self, verifiers: Mapping[str, Any]) -> None:
        """Shows the views that wait to their judges."""
        for name, verifier in verifiers.items():
            self._embed_waiting(name, verifier)

    def embedded(self, name: str) -> video_privacy.Embedded:
        """What a judge made of the track."""
        rows = self._rows[name]
        embeddings = np.array([row for _, row in rows] or np.zeros((0, 1)), np.float32)
        frames = np.array([number for number, _ in rows], int)
        return video_privacy.Embedded(embeddings, frames, self._missed[name])

    def finish(self) -> Values:
        """The values, with those of the running measures."""
        self.values.adjacent = self.identity.adjacent
        self.values.all_pairs.add(self.identity.all_pairs, max(self.identity.pairs, 1))
        self.values.jitter = self.jitter.mean
        self.values.flicker = self.flicker.mean
        return self.values


@dataclasses.dataclass(frozen=True, eq=False)
class _Place:
    """Where a track's face is in a frame; `interpolated` where that is only supposed."""

    box: tuple[float, float, float, float]
    alignment: geometry.Alignment
    mask: np.ndarray
    region: geometry.Region
    size: float
    interpolated: bool


def _place(observation: Observation, shape: Sequence[int]) -> _Place | None:
    """None where the face lies outside the frame."""
    alignment = observation.alignment()
    mask = observation.kind.mask(alignment, observation.box)
    region = geometry.region(alignment, mask, shape)
    if not region.inside.any():
        return None
    size = float(np.sqrt(observation.box[2] * observation.box[3]))
    return _Place(
        observation.box,
        alignment,
        mask,
        region,
        size,
        observation.source == FaceSource.INTERPOLATED,
    )


def _around(a: geometry.Region, b: geometry.Region, shape: Sequence[int]) -> tuple[slice, slice]:
    """The part of a frame with two regions and their surroundings."""
    slices = []
    for length, first, second in zip(shape, a.slices, b.slices, strict=False):
        low, high = min(first.start, second.start), max(first.stop, second.stop)
        margin = max(8, round(_SURROUNDINGS * (high - low)))
        slices.append(slice(max(0, low - margin), min(length, high + margin)))
    return slices[0], slices[1]


class Clip:
    """The measuring itself: takes a frame of all variants after the other."""

    def __init__(
        self,
        tracking: Tracking,
        names: Sequence[str],
        verifiers: Mapping[str, Any],
        mesh: FaceMesh | None = None,
    ):
        """Loads the detector; without a mesh it is not measured how faces move."""
        self.tracks = {track.number: track for track in tracking.tracks if not track.keep}
        self.verifiers = verifiers
        self._detector = face_detection.Detector(rotations=False)
        self._mesh = mesh
        self.faces = {
            number: {name: TrackRun(self._seen(track)) for name in names}
            for number, track in self.tracks.items()
        }
        self._before: dict[str, np.ndarray] = {}
        self._places: dict[int, _Place] = {}

    @property
    def has_mesh(self) -> bool:
        """Whether it is measured how faces move."""
        return self._mesh is not None

    def _seen(self, track: Track) -> dict[str, frozenset[int]]:
        """The frames that each judge sees of a track."""
        frames = [
            observation.frame
            for observation in track.observations
            if observation.source != FaceSource.INTERPOLATED
        ]
        return {
            name: frozenset(
                frames[i] for i in video_privacy.evenly(len(frames), _VERIFIED_FRAMES[name])
            )
            for name in self.verifiers
        }

    def frame(self, number: int, images: dict[str, np.ndarray], faces: Faces, cut: bool) -> None:
        """Measures frame `number`; `images` u8[h, w, 3] of the source and each variant, by name.

        Filled observations, where there may be no face at all, are only looked at for what they show.
        """
        places: dict[int, _Place] = {}
        for track, observation in faces:
            if track.number not in self.tracks:
                continue
            place = _place(observation, images[SOURCE].shape)
            if place is not None:
                places[track.number] = place
            if place is None or place.interpolated or cut or track.number not in self._places:
                for face in self.faces[track.number].values():
                    face.part()
        for track_number, place in places.items():
            views = self._exposures(number, track_number, images, place)
            if place.interpolated:
                continue
            before = None if cut else self._places.get(track_number)
            if before is not None and not before.interpolated:
                self._warping(track_number, images, before, place)
            self._steadiness(number, track_number, views, images, place)
        self._before, self._places = images, places

    def _warping(
        self, track: int, images: dict[str, np.ndarray], before: _Place, now: _Place
    ) -> None:
        part = _around(before.region, now.region, images[SOURCE].shape)
        inside = np.zeros(images[SOURCE].shape[:2], bool)
        inside[before.region.slices] = before.region.inside
        moved = temporal.motion(self._before[SOURCE][part], images[SOURCE][part], inside[part])
        for name, face in self.faces[track].items():
            first, second = self._before[name][part], images[name][part]
            face.values.warping.add(temporal.warping_error(first, second, moved))
            own = moved if name == SOURCE else temporal.motion(first, second, inside[part])
            face.values.warping_own.add(temporal.warping_error(first, second, own))
            face.values.own_seen.add(own.used.sum() / max(inside[part].sum(), 1))

    def _exposures(
        self, number: int, track: int, images: dict[str, np.ndarray], place: _Place
    ) -> dict[str, np.ndarray]:
        """Notes what shows of a face; gives its view in each variant."""
        views = {name: geometry.extract(image, place.alignment) for name, image in images.items()}
        for name, face in self.faces[track].items():
            face.values.observations += 1
            if name != SOURCE:
                seen = temporal.exposure(views[SOURCE], views[name], place.mask)
                face.values.add_exposure(number, seen)
                around = temporal.exposure(views[SOURCE], views[name], place.mask == 0)
                face.values.outside.add(around.share)
        return views

    def _steadiness(
        self,
        number: int,
        track: int,
        views: dict[str, np.ndarray],
        images: dict[str, np.ndarray],
        place: _Place,
    ) -> None:
        for name, face in self.faces[track].items():
            view = views[name]
            face.embed(number, view, self.verifiers)
            points = self._landmarks(view)
            face.values.found.add(points is not None)
            in_frame = None if points is None else place.alignment.invert(points)
            face.jitter.add(in_frame, place.size)
            face.flicker.add(temporal.coarse_colours(view, place.mask))
            if self._mesh is not None:
                face.motion.add(number, self._moved(images[name], place.box, in_frame))

    def _moved(
        self, image: np.ndarray, box: tuple[float, ...], five: np.ndarray | None
    ) -> tuple[float, ...] | None:
        """The numbers of `video_motion.MOTIONS` of a face in u8[h, w, 3], at its own size; None: no face."""
        if five is None or min(box[2:]) < MIN_MESH_SIZE:
            return None
        points, score = self._mesh.points(image, box, five)
        if score < video_motion.MIN_SCORE:
            return None
        return video_motion.motions(yaw_pitch_roll(points), expression(points))

    def _landmarks(self, view: np.ndarray) -> np.ndarray | None:
        """f32[5, 2] of the face in the middle of a view."""
        x, y, width, height = geometry.CANONICAL_BOX
        for face in self._detector.detect(view):
            away = np.abs(
                np.array(face.box[:2])
                + np.array(face.box[2:]) / 2
                - (x + width / 2, y + height / 2)
            )
            if face.keypoints is not None and away.max() < _NEAR * width:
                return face.keypoints
        return None
