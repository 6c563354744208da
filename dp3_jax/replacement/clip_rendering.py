"""The frames of a clip, one after the other, with what is remembered of their tracked faces.

Which face is treated how, and where it lies, is decided here; `anonymization.frame_renderer` does it, as for
a photo: every face that is not kept is erased or covered first, and the rest works on the
background-filled frame. What is remembered from frame to frame comes from there too, so no hidden pixel of
this or any earlier frame has a part in how a generated face looks. How it is turned and speaks follows the
hidden one, by the short vector of each frame (`vectors`).
"""

import io
import json
import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from dp3_jax.detection import vectors
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.kinds import FACE
from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.media.video.lazy_pictures import Image, LazyPicture
from dp3_jax.replacement import (
    coherence,
    motion_transfer,
    obfuscation,
    other_targets,
    placement,
)
from dp3_jax.replacement.coherence import Coherence
from dp3_jax.replacement.face_actions import (
    SMALLEST_GENERATED,
    Done,
    FaceAction,
    FaceResult,
    Settings,
    obfuscation_of,
)
from dp3_jax.replacement.frame_renderer import FaceTask, FrameMemory, render_frame
from dp3_jax.replacement.generation import FaceCheck, FaceRenderer
from dp3_jax.replacement.other_targets import BackdropReader, OutlineReader
from dp3_jax.replacement.temporal_memory import Memory
from dp3_jax.vision import geometry, poses

_FORMAT = "dp3 renderer 6"

_LONGEST_GAP = 3  # frames without a face after which its last picture is not used any more
# Canonical px by which the mask of an interpolated observation is wider: where exactly it is, is a guess.
_INTERPOLATED_DILATION = 5
# Canonical px by which the raw place of a face may reach over the mask before that grows; what reaches over
# it is hidden all the same, but shows the continuation of the surroundings.
_TOLERATED = 2.0
_MAX_DILATED = 4.0  # canonical px; what is further off is rather a wrong measurement
_SHRINKING = 1 / 15  # canonical px per frame by which a mask shrinks: seldom, for a new mask shows
_HYSTERESIS = 1.15  # by which a face must pass the smallest size before its treatment changes
_LARGER = 0.75  # quantile of a track's boxes that says how large it is
# px: of renderings, and the longer side of a box from which on they have that size; likewise of faces that
# come nearer live. Below 256 px a person turns and speaks in coarser steps, for which few renderings do.
_RENDERED = {128: 0, 192: 80, 256: 140}
_NEARER = {192: 160, 256: 200}


class Renderer:
    """Treats the frames of a clip one after the other."""

    def __init__(
        self,
        settings: Settings,
        renderer: FaceRenderer | None,
        keys: Mapping[int, bytes],
        use: Coherence = coherence.ALL,
        is_face: FaceCheck | None = None,
        *,
        motion: str = "face",
        cuts: Sequence[int] = (),
        causal: bool = False,
        wait: bool = True,
        outlines: OutlineReader | None = None,
        backdrops: BackdropReader | None = None,
    ):
        """Nothing is remembered yet.

        Args:
          settings: for all faces.
          renderer: makes the new faces; without one they are covered.
          keys: of the faces' latents, by number of track (see `key_derivation.track_key`).
          use: what is done against flicker.
          is_face: verdict on new faces; None takes every one that is not a flat patch.
          motion: what passes of the faces' vectors, see `vectors.limited_to`.
          cuts: numbers of the first frames after a cut, rising; smoothing stops there.
          causal: the tracks that come with a frame know nothing of later frames.
          wait: a person's renderings are waited for; if not, a near one is shown until they are there.
          outlines: (frame, box) -> outline of the body there; None covers bodies by their boxes.
          backdrops: what is behind bodies; None: what is round them is continued.
        """
        self.settings = settings
        self.coherence = use
        self._renderer = renderer
        self._keys = keys
        self._is_face = is_face
        self._motion = motion
        self._cuts = tuple(cuts)
        self._causal = causal
        self._bound = {"use": use, "causal": causal, "wait": wait}
        self._memories: dict[int, Memory] = {}
        self._pictured: set[int] = set()  # numbers of tracks with pictures in their memories
        self._frames = FrameMemory(in_clip=True)
        # Number of the frame, and view (`motion_transfer.detail`), of each track's last face.
        self._seen: dict[int, tuple[int, np.ndarray]] = {}
        self._others = other_targets.OtherTargets(outlines, backdrops)

    def render(
        self, image: Image, faces: Sequence[tuple[Track, Observation]], *, cut: bool = False
    ) -> tuple[Image, list[FaceResult]]:
        """Treats the faces of the next frame.

        Args:
          image: u8[h, w, 3] RGB; not changed. Of one that is converted where it is looked at another such
            one is given back, in which all but the faces is the same to the last bit.
          faces: each track that is in the frame, with its observation there.
          cut: this frame shows another scene than the one before.

        Returns:
          The new frame, and what was done with each face, in order. `image` itself is returned when there
          is nothing to do.

        Raises:
          ValueError: a box that is none.
          KeyError: a track without a key.
        """
        self._forget(faces, cut)
        if any(one.kind is not FACE for _, one in faces):  # they are drawn in all of the picture
            image = np.asarray(image)
        tasks = [
            self._others.task(image, track, observation, self._keys.get(track.number, b""))
            or self._task(number, *self._others.as_face(track, observation), image.shape)
            for number, (track, observation) in enumerate(faces)
        ]
        tasks = self._others.joined(faces, tasks, image.shape)
        frame = self._looked_at(image, tasks) if isinstance(image, LazyPicture) else image
        if self.coherence.transfer_motion:
            self._follow(frame, [(faces[i], task) for i, task in enumerate(tasks) if task.request])
        shown, face_results = render_frame(
            frame,
            tasks,
            self._renderer,
            self._is_face,
            candidates=self.settings.candidates,
            memory=self._frames if self.coherence.stabilise_colour else None,
        )
        if not isinstance(image, LazyPicture):
            return shown, face_results
        targets = [region for task in tasks if (region := _target(task)) is not None]
        return (image if shown is frame else image.changed(shown, targets)), face_results

    def _looked_at(self, image: LazyPicture, tasks: Sequence[FaceTask]) -> np.ndarray:
        """u8[h, w, 3]: as much of a picture as these faces need."""
        told = self.coherence.stabilise_colour and self._frames.toned is False
        if self.coherence.transfer_motion or (not told and any(task.request for task in tasks)):
            return np.asarray(image)  # its colours are to be told, or all motion
        parts = []
        for task in tasks:
            if (region := _target(task)) is not None:
                far = task.request is not None and task.request.memory.looks_at_exposure
                parts.append(placement.surroundings(region, image.shape, far=far))
        square = (task.request.alignment for task in tasks if task.request)
        return image.shown_in([*parts, *(placement.view(one, image.shape) for one in square)])

    def _task(
        self, number: int, track: Track, observation: Observation, shape: Sequence[int]
    ) -> FaceTask:
        """What is to be done with a face, and where."""
        if track.keep:
            action = _action(track, observation, self._keys.get(track.number, b""))
            return FaceTask(action, track.reason, done=Done.KEPT)
        memory = self._remembered(track, observation)
        vector = self._vector(track, observation, memory)
        action = _action(track, observation, self._keys[track.number], memory, vector)
        method, reason = self._method(action, memory)
        place = self._place(track, observation, memory)
        memory.frame = observation.frame
        if method:
            memory.forget_pictures()
            target = placement.extent(self.settings.cover, place, observation.box, shape)
            return FaceTask(
                action,
                reason,
                to_obfuscate=obfuscation.ObfuscationTask(method, place.smooth.scale, target),
            )
        # A file has time to draw all faces together, a live picture none to lose.
        memory.now = observation.frame + (track.number if self._causal else 0)
        memory.scale = place.smooth.scale
        if self._renderer is not None and self._renderer.takes_vector:
            memory.render_at(self._rendered_size(track, observation, memory.size))
        return FaceTask(action, request=placement.request(number, action, place, shape, memory))

    def _forget(self, faces: Sequence[tuple[Track, Observation]], cut: bool) -> None:
        """Lets go of what is of no use any more; of tracks that have ended nothing large is left."""
        if cut:
            self.forget_originals()
            self._frames.forget()
            for memory in self._memories.values():
                memory.forget_place()
        now = max((one.frame for _, one in faces), default=0)
        for number in list(self._pictured):
            memory = self._memories[number]
            if cut or now - memory.frame > _LONGEST_GAP:
                memory.forget_pictures()
                self._pictured.remove(number)

    def _remembered(self, track: Track, observation: Observation) -> Memory:
        """The memory of a track, brought to this frame; a new one for a new track."""
        memory = self._memories.get(track.number)
        if memory is None:
            # Known in advance for a file: one sure observation says what the doubtful ones were.
            surely = any(
                one.source not in (FaceSource.LOW_CONFIDENCE, FaceSource.INTERPOLATED)
                for one in track.observations
            )
            memory = Memory(observation.frame, surely=surely, **self._bound)
            self._memories[track.number] = memory
        elif not 0 <= observation.frame - memory.frame <= _LONGEST_GAP:
            memory.forget_pictures()
            memory.forget_place()
        self._pictured.add(track.number)
        memory.surely |= observation.source not in (
            FaceSource.LOW_CONFIDENCE,
            FaceSource.INTERPOLATED,
        )
        return memory

    def _method(self, action: FaceAction, memory: Memory) -> tuple[str, str]:
        """As `obfuscation_of`, with a smallest size that depends on what was done in the frame before."""
        smallest = float(SMALLEST_GENERATED)
        if self.coherence.stabilise_method and memory.small is not None:
            smallest *= _HYSTERESIS if memory.small else 1 / _HYSTERESIS
        memory.small = min(action.face.box[2:]) < smallest
        return obfuscation_of(action, self.settings, smallest)

    def _place(self, track: Track, observation: Observation, memory: Memory) -> placement.Place:
        """The place in this frame, smoothed; its mask grows to cover most of the raw one."""
        raw = observation.alignment()
        still = self._motion == "none" and self._renderer is not None
        still = still and self._renderer.takes_vector
        placed = placement.upright(raw, [observation]) if still else raw
        smooth = placed
        if self.coherence.smooth_alignment:
            pose = poses.to_pose(placed if self._causal else raw)
            if self._causal:
                passed = max(observation.frame - memory.frame, 1)
                memory.motion = coherence.follow(memory.motion, pose, passed)
                smoothed = memory.motion.pose
            else:
                smoothed = coherence.centred(track, observation, self._cuts)
            smooth = poses.to_alignment(poses.limited(smoothed, pose))
        # The raw place is hidden anyway: that boxes lie beside points is no reason for a larger mask.
        over = poses.moved(smooth, placed if self._causal else raw) - _TOLERATED
        if still and self.coherence.smooth_alignment and not self._causal:
            smooth = placement.upright(smooth, placement.near(track, observation, self._cuts))
        raw_dilation = (
            _INTERPOLATED_DILATION if observation.source == FaceSource.INTERPOLATED else 0
        )
        dilation = raw_dilation + min(max(over, 0.0), _MAX_DILATED)
        if self.coherence.stabilise_method:
            dilation = max(dilation, memory.dilation - _SHRINKING)
        memory.dilation = dilation
        return placement.Place(smooth, raw, math.ceil(dilation), raw_dilation)

    def _vector(self, track: Track, observation: Observation, memory: Memory) -> FaceVector | None:
        """What the new face shows of the old one's pose and expression."""
        if self._motion == "none" or self._renderer is None or not self._renderer.takes_vector:
            return vectors.STILL
        if self._causal:
            passed = max(observation.frame - memory.frame, 1)
            vector = memory.vectors.update(observation.vector, passed)
        else:
            vector = vectors.centred(track, observation, self._cuts)
        return None if vector is None else memory.held(vectors.limited_to(vector, self._motion))

    def _rendered_size(self, track: Track, observation: Observation, before: int) -> int:
        """px of a track's renderings: of a file's by its larger boxes, live by its first.

        Who comes far nearer live becomes sharper, and from 128 px another person; `before` is 0 in the first
        frame.
        """
        if before and not self._causal:
            return before
        boxes = [observation.box] if self._causal else [one.box for one in track.observations]
        large = float(np.quantile([max(box[2:]) for box in boxes], _LARGER))
        limits = _NEARER if before else _RENDERED
        return max([before, *(size for size, least in limits.items() if large >= least)])

    def _follow(
        self, image: np.ndarray, moving: Sequence[tuple[tuple[Track, Observation], FaceTask]]
    ) -> None:
        """Notes how the faces have moved since the last frame, for the dense grid."""
        seen, self._seen = self._seen, {}
        grey = None
        for (track, observation), task in moving:
            memory, frame, moved = task.request.memory, observation.frame, None
            if not motion_transfer.is_small(task.request.alignment):
                grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if grey is None else grey
                view = motion_transfer.detail(grey, task.request.alignment)
                number, before = seen.get(track.number, (frame, view))
                if 0 < frame - number <= _LONGEST_GAP:
                    moved = motion_transfer.step(before, view)
                self._seen[track.number] = frame, view
            if moved is not None or memory.offset is not None:
                memory.offset = motion_transfer.advance(memory.offset, moved)

    def forget_originals(self) -> None:
        """Lets go of what was seen of hidden faces, which is no part of `state`."""
        self._seen.clear()
        self._others.forget()

    def state(self) -> bytes:
        """All that is remembered, save the originals; nothing of hidden pixels is written to a disk.

        A renderer that is given it goes on bit by bit like this one after `forget_originals`.
        """
        arrays, entries = {}, {}
        for number, memory in self._memories.items():
            entries[str(number)], own = memory.to_state()
            arrays |= {f"{number}/{name}": array for name, array in own.items()}
        content = {"format": _FORMAT, "tracks": entries, "toned": self._frames.toned}
        text = np.frombuffer(json.dumps(content).encode(), np.uint8)
        target = io.BytesIO()
        np.savez(target, text=text, **arrays)
        return target.getvalue()

    def restore(self, state: bytes) -> None:
        """Takes what `state` gave in place of all that is remembered.

        Raises:
          ValueError: it is something else.
        """
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as found:
                arrays = dict(found)
            content = json.loads(arrays["text"].tobytes())
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']!r}")
            memories = {}
            for number, entry in content["tracks"].items():
                own = {
                    name.partition("/")[2]: array
                    for name, array in arrays.items()
                    if name.startswith(f"{number}/")
                }
                memories[int(number)] = Memory.from_state(entry, own, **self._bound)
            frames = FrameMemory(content["toned"], in_clip=True)
        except Exception as error:
            raise ValueError(f"this is no state of a renderer: {error}") from error
        self._memories, self._frames = memories, frames
        self._pictured = set(memories)


def _action(
    track: Track,
    observation: Observation,
    key: bytes,
    memory: Memory | None = None,
    vector: FaceVector | None = None,
) -> FaceAction:
    """What is to be done with an observation; a track that is surely a face has no unsure observations."""
    surely = memory is None or memory.surely
    face = Detection(
        observation.box,
        observation.keypoints,
        observation.confidence,
        FaceSource.DETECTED if surely else FaceSource.LOW_CONFIDENCE,
    )
    candidate = None if memory is None else memory.candidate
    return FaceAction(face, key, track.keep, track.method, candidate, track.reason, vector)


def _target(task: FaceTask) -> geometry.Region | None:
    """The pixels that change; None where none do."""
    if task.to_obfuscate is not None:
        return task.to_obfuscate.target
    return None if task.request is None else task.request.target
