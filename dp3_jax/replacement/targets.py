"""What is anonymized, and how each kind of target is; how faces go with the bodies that they belong to."""

import dataclasses
from collections.abc import Sequence

from dp3_jax.common.choices import BODY_METHODS, METHODS, TARGETS
from dp3_jax.common.errors import UserError
from dp3_jax.detection import body_outline
from dp3_jax.detection.body_outline import Outline
from dp3_jax.detection.detections import Detection
from dp3_jax.detection.kinds import BODY, FACE, HEAD, KINDS, TargetKind
from dp3_jax.replacement import bodies, generation, obfuscation
from dp3_jax.replacement.face_actions import Done, FaceAction, Settings, obfuscation_of
from dp3_jax.replacement.frame_renderer import FaceTask
from dp3_jax.vision import geometry

_HIGH = 0.55  # of a body's height: further down no face is its own


@dataclasses.dataclass(frozen=True)
class Targets:
    """What is anonymized.

    Attributes:
      names: of `choices.TARGETS`.
      method: for all of them that have it; the others have their own default.
      own: (name, method) of those with a method of their own, which goes before that.

    Raises:
      UserError: a value that is not one of these, or a method that none of them has.
    """

    names: tuple[str, ...] = ("face",)
    method: str = "generate"
    own: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        if self.method not in BODY_METHODS:
            raise UserError(f"method {self.method!r} is not one of {', '.join(BODY_METHODS)}")
        for name in self.names:
            if name not in TARGETS:
                raise UserError(f"target {name!r} is not one of {', '.join(TARGETS)}")
        for name, method in self.own:
            if method not in KINDS[name].methods:
                choices = ", ".join(KINDS[name].methods)
                raise UserError(f"target {name}={method}: a {name} can be treated by {choices}")
        shared = [KINDS[name] for name in self.names if name not in dict(self.own)]
        if shared and not any(self.method in kind.methods for kind in shared):
            names = ", ".join(kind.name for kind in shared)
            if self.method not in METHODS:
                raise UserError(f"method {self.method} is for bodies: add --target body to {names}")

    @property
    def only_faces(self) -> bool:
        """Whether nothing else is anonymized."""
        return set(self.names) == {"face"}

    @property
    def face(self) -> str:
        """The kind that a detected face is treated as: "head", "face", or "" where none is."""
        if "head" in self.names:
            return "head"
        # A face is a part of a body, of which it may be all that was found.
        return "face" if {"face", "body"} & set(self.names) else ""

    def method_of(self, kind: TargetKind) -> str:
        """How a kind is anonymized."""
        own = dict(self.own).get(kind.name)
        if own is not None:
            return own
        return self.method if self.method in kind.methods else kind.default


def parse(targets: Sequence[str], method: str) -> Targets:
    """The targets that texts such as "face" and "body=silhouette" name; all others by `method`.

    Raises:
      UserError: one of them is none.
    """
    names, own = [], []
    for text in targets or ("face",):
        name, equals, how = str(text).partition("=")
        if name not in TARGETS:
            raise UserError(
                f"target {text!r} is not one of {', '.join(TARGETS)}, or one of them and a method: body=blur"
            )
        names.append(name)
        if equals:
            own.append((name, how))
    return Targets(tuple(dict.fromkeys(names)), method, tuple(own))


def as_face(detection: Detection) -> Detection:
    """A head as the face that it has; all else as it is."""
    if detection.kind is not HEAD:
        return detection
    return dataclasses.replace(detection, kind=FACE)


def head_task(
    number: int, action: FaceAction, settings: Settings, shape: Sequence[int]
) -> FaceTask:
    """What is to be done with the head of a face; a new face lies in one that is drawn anew.

    Args:
      number: of the face in its frame.
      action, settings: of it.
      shape: of the frame.
    """
    face = as_face(action.face)
    alignment = face.alignment()
    method, reason = obfuscation_of(action, settings)
    whole = obfuscation.extent(alignment, face.box, "head", shape)
    if method:
        task = obfuscation.ObfuscationTask(method, alignment.scale, whole)
        return FaceTask(action, reason, to_obfuscate=task)
    request = generation.request_for(number, dataclasses.replace(action, face=face), shape)
    body = bodies.head_task(action.key, alignment, whole, shape)
    return FaceTask(action, request=request, body=body)


def body_task(
    action: FaceAction,
    method: str,
    outline: Outline | None,
    shape: Sequence[int],
    backdrop=None,
) -> FaceTask:
    """What is to be done with a body.

    Args:
      action: of it.
      method: one of `choices.BODY_METHODS`.
      outline: as seen in the frame; None: its box, dilated.
      shape: of the frame.
      backdrop: as of `BodyTask`.
    """
    box = action.face.box
    if outline is None:
        outline = body_outline.of_box(box, shape)
    scale = BODY.frame(box, None).scale
    task = bodies.BodyTask(method, action.key, box, outline, outline.region, scale, backdrop)
    return FaceTask(action, action.reason, body=task)


def joined(tasks: Sequence[FaceTask], shape: Sequence[int]) -> list[FaceTask]:
    """The tasks of a frame, those of faces in line with those of the bodies that they belong to.

    A body that is redrawn gets new faces, where they can be made; all else that is done with a body is done
    with its faces too, also where its outline leaves them out. Who is kept is so from head to foot.
    """
    if not any(task.action.face.kind is BODY for task in tasks):
        return list(tasks)
    result = list(tasks)
    order = sorted(
        (i for i, task in enumerate(tasks) if task.action.face.kind is BODY),
        key=lambda i: tasks[i].action.face.box[2] * tasks[i].action.face.box[3],
    )
    faces = [i for i, task in enumerate(tasks) if task.action.face.kind in (FACE, HEAD)]
    owners = {
        i: next((j for j in order if _holds(tasks[j].action.face, tasks[i].action.face)), None)
        for i in faces
    }
    for i, owner in owners.items():
        if owner is not None and tasks[i].done == Done.KEPT:
            result[owner] = FaceTask(result[owner].action, tasks[i].reason, done=Done.KEPT)
    for i, owner in owners.items():
        task = tasks[i]
        body = None if owner is None else result[owner].body
        if body is None or task.done == Done.KEPT:  # of a body that is kept, too
            continue
        if body.method == "generate" and task.request is not None:
            body.has_face = True
            continue
        face = as_face(task.action.face)
        own = obfuscation.extent(face.alignment(), face.box, "face", shape)
        body.target = geometry.joined(body.target, own)
        result[i] = FaceTask(task.action, "", done=bodies.DONE[body.method])
    return result


def _holds(body: Detection, face: Detection) -> bool:
    """Whether a face is a body's, by where they are."""
    x, y = face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2
    left, top, width, height = body.box
    return left <= x <= left + width and top - face.box[3] <= y <= top + _HIGH * height
