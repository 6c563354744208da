"""What can be changed in a sidecar, and the change itself: pure functions of its content."""

import copy
import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from dp3_jax.common.errors import UserError
from dp3_jax.pipelines.sidecar import read_box
from dp3_jax.replacement.face_actions import METHODS

KEY_BYTES = 32

# What an action is called for people.
LABELS = {
    "missed": "missed face added",
    "not_a_face": "not a face",
    "keep": "kept as it is",
    "unkeep": "not kept any more",
    "method": "other method",
    "another_person": "another person",
    "adjust": "box moved",
    "split": "track split",
    "merge": "tracks merged",
    "range": "time range changed",
    "same_person": "same person as",
}
PHOTO_ACTIONS = (
    "missed",
    "not_a_face",
    "keep",
    "unkeep",
    "method",
    "another_person",
    "adjust",
    "same_person",
)
VIDEO_ACTIONS = tuple(LABELS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit:
    """One change.

    Attributes:
      action: one of LABELS.
      face: index of the face in a photo, number of the track in a video; of "missed" in a video a drawn
        track that is to be led to the new box, or None.
      box: (x, y, width, height) px, of "missed" and "adjust".
      points: five (x, y) px of a missed face, where a detector has found them.
      method: of "method"; None for that of the settings.
      frame: that is shown; where a track is split, and where a face was missed.
      first, last: frames, both included, of "missed" and "range".
      other: the second track of "merge", the face of "same_person".
    """

    action: str
    face: int | None = None
    box: tuple[float, float, float, float] | None = None
    points: list | None = None
    method: str | None = None
    frame: int | None = None
    first: int | None = None
    last: int | None = None
    other: int | None = None


def parse(content: Any, actions: Sequence[str]) -> Edit:
    """An edit from what a client has sent.

    Raises:
      UserError: it is none of these actions, or a number or box is none.
    """
    if not isinstance(content, Mapping) or content.get("action") not in actions:
        raise UserError(f"an action is one of {', '.join(actions)}")
    known: dict[str, Any] = {"action": content["action"]}
    for name in ("face", "frame", "first", "last", "other"):
        value = content.get(name)
        if value is not None and (type(value) is not int or value < 0):
            raise UserError(f"{name} is a whole number from 0, not {value!r}")
        known[name] = value
    if content.get("box") is not None:
        known["box"] = read_box(content["box"], "the drawn box")
    method = content.get("method")
    if method not in (None, *METHODS):
        raise UserError(f"method {method!r} is not one of {', '.join(METHODS)}")
    return Edit(**known, method=method)


def new_key() -> bytes:
    """Of a new person."""
    return secrets.token_bytes(KEY_BYTES)


def need(value: Any, name: str, action: str) -> Any:
    """The value; raises UserError where an action lacks it."""
    if value is None:
        raise UserError(f"{LABELS[action]}: {name} is missing")
    return value


def apply(content: Mapping[str, Any], edit: Edit) -> tuple[dict[str, Any], int | None]:
    """A photo's sidecar after an edit.

    Args:
      content: of the sidecar; not changed.
      edit: one of PHOTO_ACTIONS.

    Returns:
      The new content, and the index of the face that the edit was of; None where there is none any more.

    Raises:
      UserError: there is no such face, or the edit lacks something.
    """
    content = copy.deepcopy(dict(content))
    faces = content["faces"]
    if edit.action == "missed":
        box = list(need(edit.box, "the box", edit.action))
        faces.append(
            {
                "box": box,
                "points": edit.points,
                "confidence": 1.0,
                "source": "user",
                "keep": False,
                "method": edit.method,
                "key": new_key().hex(),
                "candidate": None,
            }
        )
        return content, len(faces) - 1
    index = need(edit.face, "the face", edit.action)
    if index >= len(faces):
        raise UserError(f"there is no face {index + 1}; the photo has {len(faces)}")
    if edit.action == "not_a_face":
        del faces[index]
        return content, None
    _change(faces[index], edit, faces)
    return content, index


def _change(face: dict[str, Any], edit: Edit, faces: Sequence[Mapping[str, Any]]) -> None:
    """Changes one face, in place."""
    match edit.action:
        case "keep" | "unkeep":
            face["keep"] = edit.action == "keep"
        case "method":
            face["method"], face["keep"] = edit.method, False
        case "another_person":
            face |= {"key": new_key().hex(), "candidate": None, "keep": False}
        case "same_person":
            other = need(edit.other, "the other face", edit.action)
            if other >= len(faces):
                raise UserError(f"there is no face {other + 1}; the photo has {len(faces)}")
            key = need(faces[other].get("key"), "the key of the other face", edit.action)
            face |= {"key": key, "candidate": None, "keep": False}
        case "adjust":
            # Where the face was said to be its points and vector were measured.
            face |= {"box": list(need(edit.box, "the box", edit.action)), "points": edit.points}
            face |= {"confidence": 1.0, "source": "user"}
            face.pop("vector", None)
