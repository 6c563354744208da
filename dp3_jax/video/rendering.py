"""One frame of a clip, its tracked faces and what is remembered of them -> the anonymized frame.

As for a photo, every face that is not kept is erased or covered first, and all that follows works on the
erased frame. What is remembered from frame to frame comes from there too, so no hidden pixel of this or any
earlier frame has a part in how a generated face looks; where it is moved to follows the hidden one
(`following`).
"""

import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from dp3_jax.anonymization import blending, generation, geometry, methods, secrets
from dp3_jax.anonymization.anonymize import DONE, SMALLEST_GENERATED, classic, hide
from dp3_jax.anonymization.detection import Face
from dp3_jax.anonymization.generation import FaceCheck, Generator
from dp3_jax.anonymization.plans import Outcome, Plan, Settings
from dp3_jax.replacement import surroundings
from dp3_jax.replacement.renderers import BuiltinRenderer
from dp3_jax.video import coherence, following, placing, poses
from dp3_jax.video.coherence import Coherence, Memory, Motion
from dp3_jax.video.poses import Pose
from dp3_jax.video.tracks import Sighting, Track

_FORMAT = "dp3 renderer 4"
_ARRAYS = ("latest", "view", "fill", "around", "correct", "offset")

_LONGEST_GAP = 3  # frames without a face after which its last picture is not used any more
_WIDER = 5  # canonical px by which the mask of a filled sighting is wider: where exactly it is, is a guess
# Canonical px by which the raw place of a face may reach over the mask before that grows; what reaches over
# it is hidden all the same, but shows the continuation of the surroundings.
_TOLERATED = 2.0
_MOST_GROWN = 4.0  # canonical px; what is further off is rather a wrong measurement
_SHRINKING = 1 / 15  # canonical px per frame by which a mask shrinks: seldom, for a new mask shows
_HYSTERESIS = 1.15  # by which a face must pass the smallest size before its treatment changes
_EAGER = 8  # frames in which a latent is looked for every time; later in every _EAGER-th


@dataclasses.dataclass(eq=False)
class _Task:
    """A face to be made in this frame.

    Attributes:
      job: for `generation`; its target is all that is hidden.
      own: the part of the target that the new face is put into.
      sighting, memory: of the face.
      track: its number.
      beat: see `Memory.rests`.
      view: u8[S, S, 3], canonical, of the erased frame.
    """

    job: generation.Job
    own: geometry.Region
    sighting: Sighting
    memory: Memory
    track: int
    beat: int
    view: np.ndarray | None = None


class Renderer:
    """Treats the frames of a clip one after the other."""

    def __init__(
        self,
        settings: Settings,
        generator: Generator | None,
        keys: Mapping[int, bytes],
        use: Coherence = coherence.ALL,
        is_face: FaceCheck | None = None,
        *,
        cuts: Sequence[int] = (),
        causal: bool = False,
    ):
        """Nothing is remembered yet.

        Args:
          settings: for all faces.
          generator: makes the new faces; without one they are covered.
          keys: of the faces' latents, by number of track (see `secrets.face_key`).
          use: what is done against flicker.
          is_face: verdict on new faces; None takes every one that is not a flat patch.
          cuts: numbers of the first frames after a cut, rising; smoothing stops there.
          causal: the tracks that come with a frame know nothing of later frames.
        """
        self.settings = settings
        self.coherence = use
        self._generator = generator
        self._keys = keys
        self._is_face = is_face
        self._cuts = tuple(cuts)
        self._causal = causal
        self._memories: dict[int, Memory] = {}
        self._pictured: set[int] = set()  # numbers of tracks with pictures in their memories
        self._toned = False  # whether the last frame with a new face was grey, or sepia
        # Number of the frame, and view (`following.detail`), of each track's last face.
        self._seen: dict[int, tuple[int, np.ndarray]] = {}

    def render(
        self, image: np.ndarray, faces: Sequence[tuple[Track, Sighting]], *, cut: bool = False
    ) -> tuple[np.ndarray, list[Outcome]]:
        """Treats the faces of the next frame.

        Args:
          image: u8[h, w, 3] RGB; not changed.
          faces: each track that is in the frame, with its sighting there.
          cut: this frame shows another scene than the one before.

        Returns:
          The new frame, and what was done with each face, in order. `image` itself is returned when there
          is nothing to do.

        Raises:
          ValueError: a box that is none.
          KeyError: a track without a key.
        """
        self._forget(faces, cut)
        outcomes: list[Outcome | None] = [None] * len(faces)
        covers: list[methods.Cover] = []
        tasks: list[_Task] = []
        for number, (track, sighting) in enumerate(faces):
            if track.keep:
                plan = _plan(track, sighting, self._keys.get(track.number, b""))
                outcomes[number] = Outcome(plan, "kept", reason=track.reason)
                continue
            memory = self._remembered(track, sighting)
            plan = _plan(track, sighting, self._keys[track.number], memory)
            method, reason = self._method(plan, memory)
            place = self._place(track, sighting, memory)
            if method:
                memory.forget_pictures()
                target = placing.cover(self.settings.cover, place, sighting.box, image.shape)
                covers.append(methods.Cover(method, place.smooth.scale, target))
                outcomes[number] = Outcome(plan, DONE[method], reason=reason)
            else:
                job, own = placing.job(number, plan, place, image.shape)
                # A file has time to draw all faces together, a live picture none to lose.
                beat = sighting.frame + (track.number if self._causal else 0)
                tasks.append(_Task(job, own, sighting, memory, track.number, beat))
        if not covers and not tasks:
            return image, [o for o in outcomes if o is not None]
        if self.coherence.follow_motion:
            self._follow(image, tasks)
        result, hidden = hide(image, covers, [task.job.target for task in tasks], quick=True)
        curve = None
        if tasks:
            curve = surroundings.colour_curve(result, was_toned=self._toned and not cut)
            self._toned = curve is not None
        by_number = {task.job.number: task for task in tasks}
        for wave in generation.waves([task.job for task in tasks]):
            # From here on the original frame is not looked at any more.
            own = [by_number[job.number] for job in wave]
            for task, outcome in zip(own, self._fill(result, hidden, own, curve), strict=True):
                outcomes[task.job.number] = outcome
                if outcome.done == "covered":
                    task.memory.forget_pictures()
        return result, [o for o in outcomes if o is not None]

    def _forget(self, faces: Sequence[tuple[Track, Sighting]], cut: bool) -> None:
        """Lets go of what is of no use any more; of tracks that have ended nothing large is left."""
        if cut:
            self.forget_originals()
            for memory in self._memories.values():
                memory.forget_place()
        now = max((one.frame for _, one in faces), default=0)
        for number in list(self._pictured):
            memory = self._memories[number]
            if cut or now - memory.frame > _LONGEST_GAP:
                memory.forget_pictures()
                self._pictured.remove(number)

    def _remembered(self, track: Track, sighting: Sighting) -> Memory:
        """The memory of a track, brought to this frame; a new one for a new track."""
        memory = self._memories.get(track.number)
        if memory is None:
            # Known in advance for a file: one sure sighting says what the doubtful ones were.
            surely = any(one.source not in ("unsure", "filled") for one in track.sightings)
            memory = Memory(sighting.frame, surely=surely)
            self._memories[track.number] = memory
        elif not 0 <= sighting.frame - memory.frame <= _LONGEST_GAP:
            memory.forget_pictures()
            memory.forget_place()
        self._pictured.add(track.number)
        memory.surely |= sighting.source not in ("unsure", "filled")
        return memory

    def _method(self, plan: Plan, memory: Memory) -> tuple[str, str]:
        """As `classic`, with a smallest size that depends on what was done in the frame before."""
        smallest = float(SMALLEST_GENERATED)
        if self.coherence.steady_method and memory.small is not None:
            smallest *= _HYSTERESIS if memory.small else 1 / _HYSTERESIS
        memory.small = min(plan.face.box[2:]) < smallest
        return classic(plan, self.settings, smallest)

    def _place(self, track: Track, sighting: Sighting, memory: Memory) -> placing.Place:
        """The place in this frame, smoothed; its mask grows to cover most of the raw one."""
        raw = geometry.align(sighting.box, sighting.points)
        smooth = raw
        if self.coherence.smooth_alignment:
            pose = poses.to_pose(raw)
            if self._causal:
                passed = max(sighting.frame - memory.frame, 1)
                memory.motion = coherence.follow(memory.motion, pose, passed)
                smoothed = memory.motion.pose
            else:
                smoothed = coherence.centred(track, sighting, self._cuts)
            smooth = poses.to_alignment(poses.limited(smoothed, pose))
        wider = _WIDER if sighting.source == "filled" else 0
        over = poses.moved(smooth, raw) - _TOLERATED
        growth = wider + min(max(over, 0.0), _MOST_GROWN)
        if self.coherence.steady_method:
            growth = max(growth, memory.growth - _SHRINKING)
        memory.growth = growth
        memory.frame = sighting.frame
        return placing.Place(smooth, raw, math.ceil(growth), wider)

    def _follow(self, image: np.ndarray, tasks: Sequence[_Task]) -> None:
        """Notes how the faces have moved since the last frame; all that hidden pixels are looked at for."""
        seen, self._seen = self._seen, {}
        grey = None
        for task in tasks:
            memory, frame, moved = task.memory, task.sighting.frame, None
            if not following.is_small(task.job.alignment):
                grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if grey is None else grey
                view = following.detail(grey, task.job.alignment)
                number, before = seen.get(task.track, (frame, view))
                if 0 < frame - number <= _LONGEST_GAP:
                    moved = following.step(before, view)
                self._seen[task.track] = frame, view
            if moved is not None or memory.offset is not None:
                memory.offset = following.advance(memory.offset, moved)

    def forget_originals(self) -> None:
        """Lets go of what was seen of hidden faces, which is no part of `state`."""
        self._seen.clear()

    def _fill(
        self,
        erased: np.ndarray,
        hidden: np.ndarray,
        wave: Sequence[_Task],
        curve: np.ndarray | None,
    ) -> list[Outcome]:
        """Puts new faces into the erased frame, changed in place; what cannot be made stays erased.

        `curve`: the colours of a grey or sepia frame, see `surroundings.colour_curve`.
        """
        jobs = [task.job for task in wave]
        if self._generator is None:
            return [Outcome(job.plan, "covered", reason="there is no generator") for job in jobs]
        outcomes: list[Outcome | None] = [None] * len(wave)
        for i, task in enumerate(wave):
            if task.own.inside.any():
                task.view = geometry.extract(erased, task.job.alignment, quick=True)
                task.memory.look(task.view, task.job.mask)
            else:
                outcomes[i] = Outcome(task.job.plan, "covered", reason="outside the frame")
        ready = [i for i, task in enumerate(wave) if task.view is not None]
        try:
            made = self._draw([wave[i] for i in ready])
        except Exception as error:  # whatever it is, the faces stay covered and the clip goes on
            return [generation.failed(job, error) for job in jobs]
        for i, new in zip(ready, made, strict=True):
            try:
                outcomes[i] = self._show(erased, hidden, wave[i], new, curve)
            except Exception as error:
                outcomes[i] = generation.failed(jobs[i], error)
        return [o for o in outcomes if o is not None]

    def _draw(self, wave: Sequence[_Task]) -> list[generation.Drawn | None]:
        """The new face of each view; a track's latent is settled by its first one that is a face."""
        made: list[generation.Drawn | None] = [None] * len(wave)
        settled = []
        for i, task in enumerate(wave):
            if self._rests(task):
                made[i] = generation.Drawn(task.memory.candidate, task.memory.latest)
            elif task.memory.candidate is not None:
                settled.append(i)
        if settled:
            faces = generation.generate(
                [wave[i].job for i in settled],
                [wave[i].view for i in settled],
                [[wave[i].memory.candidate] for i in settled],
                self._generator,
            )
            for i, (face,) in zip(settled, faces, strict=True):
                if not generation.is_flat(wave[i].job, face):
                    made[i] = generation.Drawn(wave[i].memory.candidate, face)
                    wave[i].memory.beat = wave[i].beat
        new = []
        for i, task in enumerate(wave):
            if task.memory.candidate is None:
                task.memory.tries += 1
                if task.memory.tries <= _EAGER or task.memory.tries % _EAGER == 0:
                    new.append(i)
        if new:
            renderer = BuiltinRenderer(self._generator)
            options = self.settings.candidates, renderer, self._is_face
            chosen = generation.choose(
                [wave[i].job for i in new], [wave[i].view for i in new], *options
            )
            for i, drawn in zip(new, chosen, strict=True):
                made[i] = drawn
                wave[i].memory.candidate = None if drawn is None else drawn.candidate
                wave[i].memory.beat = wave[i].beat
        return made

    def _rests(self, task: _Task) -> bool:
        return self.coherence.blend_previous and task.memory.rests(task.beat)

    def _show(
        self,
        erased: np.ndarray,
        hidden: np.ndarray,
        task: _Task,
        drawn: generation.Drawn | None,
        curve: np.ndarray | None,
    ) -> Outcome:
        """Blends a new face into the erased frame, changed in place."""
        job, memory = task.job, task.memory
        if drawn is None:
            return generation.no_face(job)
        composed = memory.compose(
            task.view, drawn.view, job.mask, self.coherence, causal=self._causal
        )
        shown = geometry.project(composed, job.alignment, task.own, quick=True)
        if curve is not None:
            shown = surroundings.coloured(shown, curve)
        geometry.place(erased, task.own, shown)
        if self.coherence.steady_grain:
            sigma = memory.steady_grain(erased, task.own, hidden)
            coherence.add_grain(erased, task.own, sigma, job.plan.key, task.sighting.frame)
        else:
            random = secrets.grain_generator(job.plan.key)
            blending.add_grain(erased, task.own, hidden, random)
        return Outcome(job.plan, "generated", drawn.candidate)

    def state(self) -> bytes:
        """All that is remembered, save the originals; nothing of hidden pixels is written to a disk.

        A renderer that is given it goes on bit by bit like this one after `forget_originals`.
        """
        arrays, entries = {}, {}
        for number, memory in self._memories.items():
            entry = {f.name: getattr(memory, f.name) for f in dataclasses.fields(memory)}
            for name in _ARRAYS:
                array = entry.pop(name)
                if array is not None:
                    arrays[f"{number}/{name}"] = array
            if memory.motion is not None:
                entry["motion"] = [
                    [pose.centre.real, pose.centre.imag, pose.size, pose.angle]
                    for pose in memory.motion
                ]
            entries[str(number)] = entry
        text = json.dumps({"format": _FORMAT, "tracks": entries, "toned": self._toned}).encode()
        target = io.BytesIO()
        np.savez(target, text=np.frombuffer(text, np.uint8), **arrays)
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
                if entry["motion"] is not None:
                    entry["motion"] = Motion(
                        *(Pose(complex(x, y), *rest) for x, y, *rest in entry["motion"])
                    )
                entry |= {name: arrays.get(f"{number}/{name}") for name in _ARRAYS}
                memories[int(number)] = Memory(**entry)
        except Exception as error:
            raise ValueError(f"this is no state of a renderer: {error}") from error
        self._memories = memories
        self._toned = bool(content.get("toned"))
        self._pictured = set(memories)


def _plan(track: Track, sighting: Sighting, key: bytes, memory: Memory | None = None) -> Plan:
    """What is to be done with a sighting; a track that is surely a face has no unsure sightings."""
    surely = memory is None or memory.surely
    face = Face(
        sighting.box, sighting.points, sighting.confidence, "detected" if surely else "unsure"
    )
    candidate = None if memory is None else memory.candidate
    return Plan(face, key, track.keep, track.method, candidate, track.reason)
