"""What `dp3 audit` found, by item: it decides what is looked at first, and says where."""

import dataclasses
import json
import math
import os
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dp3_jax.common.errors import UserError
from dp3_jax.review.library import Item

NAMES = (
    "report/audit.json",
    "audit.json",
)  # looked for in the reviewed folder, beside it, and here
_FINE = ("changed", "kept on purpose")  # what is said of faces that need no look


@dataclasses.dataclass(frozen=True)
class Finding:
    """What an audit says of one file.

    Attributes:
      score: 0 to 1, the worst of the file's faces.
      text: what was found, for people.
      faces: that need a look: "box" in px, "state" in words, "missed" where a face shows, and of a video
        "frame".
    """

    score: float
    text: str
    faces: tuple[Mapping[str, Any], ...] = ()


def look_for(folder: pathlib.Path) -> pathlib.Path | None:
    """The report of an audit that lies where audits are usually written; None where there is none."""
    places = (folder, folder.parent, pathlib.Path())
    return next((p for place in places for n in NAMES if (p := place / n).is_file()), None)


def read(path: pathlib.Path, items: Sequence[Item]) -> dict[str, Finding]:
    """What the report of an audit says of each of the items, by id; of those with nothing to look at nothing.

    What is not as expected is left out: the review goes on without.

    Raises:
      UserError: it cannot be read, or is no report.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON; name the audit.json of dp3 audit") from error
    entries = content.get("files") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise UserError(f"{path} names no files; name the audit.json of dp3 audit")
    by_path, found = _by_path(items), {}
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        name = _item(entry, by_path, path.parent)
        finding = _finding(entry)
        if name is not None and finding.score > 0:
            found[name] = finding
    return found


def _by_path(items: Sequence[Item]) -> dict[str, str]:
    """The items' ids by the paths of their files, and by their names where no two have the same."""
    known, names = {}, Counter(item.result.name for item in items)
    for item in items:
        for path in (item.source, item.result):
            if path is not None:
                known[os.path.realpath(path)] = item.id
        if names[item.result.name] == 1:
            known[item.result.name] = item.id
    return known


def _item(entry: Mapping[str, Any], by_path: Mapping[str, str], folder: pathlib.Path) -> str | None:
    """The id of the item that an entry is of; a report may have been moved, with the files or without."""
    for field in ("anonymized", "original", "name"):
        text = entry.get(field)
        if isinstance(text, str) and text:
            names = (
                os.path.realpath(text),
                os.path.realpath(folder / text),
                os.path.basename(text),
            )
            if found := next((by_path[name] for name in names if name in by_path), None):
                return found
    return None


def _finding(entry: Mapping[str, Any]) -> Finding:
    faces = [face for face in entry.get("faces") or [] if isinstance(face, dict)]
    named = [face for face in faces if _needs_a_look(face)]
    counts = Counter(str(face.get("state")) for face in named if face.get("state") not in _FINE)
    parts = [f"{count} {state}" for state, count in counts.items()]
    if known := {str(v) for face in named for v in face.get("recognised_by") or ()}:
        parts.append(f"recognised by {', '.join(sorted(known))}")
    risk = entry.get("risk")
    ok = isinstance(risk, int | float) and not isinstance(risk, bool) and math.isfinite(risk)
    score = min(max(float(risk), 0.0), 1.0) if ok else 0.0
    return Finding(score, "; ".join(parts) or "named by the audit", tuple(map(_shown, named)))


def _needs_a_look(face: Mapping[str, Any]) -> bool:
    box = face.get("box")
    ok = isinstance(box, list) and len(box) == 4
    return ok and (face.get("state") not in _FINE or bool(face.get("recognised_by")))


def _shown(face: Mapping[str, Any]) -> dict[str, Any]:
    known = ", ".join(map(str, face.get("recognised_by") or ()))
    state = str(face.get("state")) + (f", recognised by {known}" if known else "")
    missed = face.get("state") not in _FINE
    return {"box": face["box"], "state": state, "missed": missed, "frame": face.get("frame")}
