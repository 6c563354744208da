"""A review while it goes on: what is done with its items, so that nothing of it can be lost.

The order of writing is what makes that so: the new state of a sidecar goes into the history, then to its
place, then the result is made from it. Whatever of these a kill leaves undone, the next review does.
"""

import contextlib
import dataclasses
import hashlib
import pathlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dp3_jax.common.errors import UserError
from dp3_jax.data import feedback
from dp3_jax.data.feedback import Feedback
from dp3_jax.media.names import as_one
from dp3_jax.media.photos import replace_file
from dp3_jax.review import edits, risks
from dp3_jax.review.audit_file import Finding
from dp3_jax.review.history import History, Marks, Step
from dp3_jax.review.library import Item
from dp3_jax.review.models import Models
from dp3_jax.review.photo_item import PhotoItem
from dp3_jax.review.video_item import VideoItem

Work = PhotoItem | VideoItem

_PATIENCE = 5.0  # s


class Conflict(UserError):
    """What was to be changed has changed meanwhile, in another window or by another command."""


class Session:
    """The items of one review, and everything that was done with them."""

    def __init__(
        self,
        items: Sequence[Item],
        folder: pathlib.Path,
        models: Models,
        *,
        audit: Mapping[str, Finding] | None = None,
        motion: str = "face",
    ):
        """Takes the items; reads what earlier reviews have left.

        Args:
          items: to review.
          folder: of the review's own files; made when there is something to write.
          models: what draws new faces.
          audit: what an audit found, by `Item.id`.
          motion: what new faces of videos follow.
        """
        self.folder = folder
        self.models = models
        self.works: dict[str, Work] = {
            item.id: VideoItem(item, models, motion) if item.is_video else PhotoItem(item, models)
            for item in items
        }
        self.history = History(folder)
        self.marks = Marks(folder)
        self.feedback_path = folder / feedback.NAME
        self._audit = dict(audit or {})
        self._locks = {name: threading.RLock() for name in self.works}
        self._writing = threading.Lock()  # of marks and remarks
        self._digests: dict[tuple, str] = {}
        self._described: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self._failed: dict[str, str] = {}  # why a result could not be made from its newest sidecar
        self._prepared: dict[str, bytes] = {}
        self._ratings = self._read_ratings()

    def work(self, name: str) -> Work:
        """An item by its id; raises UserError where there is none."""
        if name not in self.works:
            raise UserError(f"there is no item {name}")
        return self.works[name]

    def locked(self, name: str) -> contextlib.AbstractContextManager:
        """Nobody else changes the item meanwhile."""
        return self._locks[name]

    def summary(self) -> list[dict[str, Any]]:
        """All items, for a list."""
        return [self._summary(name) for name in self.works]

    def _summary(self, name: str) -> dict[str, Any]:
        one = self.describe(name)
        faces = one.get("faces") or []
        found = {risk for face in faces for risk in face["risks"]}
        if one.get("faces") == []:
            found.add("no_faces")
        audit = self._audit.get(name)
        rated = [face["verdicts"] for face in faces if face["verdicts"] is not None]
        names = ("id", "name", "kind", "problem", "reviewed", "pending", "edited", "error")
        return {
            **{key: one[key] for key in names},
            "count": len(faces) if one.get("faces") is not None else None,
            "risks": sorted(found),
            "score": round(risks.score(found, audit.score if audit else 0.0), 4),
            "audit": audit is not None,
            "bad": any(rated),
        }

    def describe(self, name: str) -> dict[str, Any]:
        """All that the page shows of an item, but for pictures."""
        work, item = self.work(name), self.work(name).item
        position = self.history.position(name)
        known: dict[str, Any] = {
            "id": name,
            "name": item.name,
            "kind": "video" if item.is_video else "photo",
            "problem": item.problem,
            "has_original": item.source is not None,
            "has_result": item.has_result,
            "reviewed": bool(self.marks.of(name).get("reviewed")),
            "pending": not position.rendered,
            "edited": position.at > 0,
            "undo": position.undoable.label if position.undoable else None,
            "redo": position.redoable.label if position.redoable else None,
            "audit": dataclasses.asdict(self._audit[name]) if name in self._audit else None,
            "error": self._failed.get(name, ""),
            "faces": None,
            "revision": "",
        }
        try:
            content = work.read()
            if content is None:
                return known
            known |= self._description(name, work, content)
        except UserError as error:
            return known | {"error": str(error)}
        keys = work.keys(content)
        rated = self._ratings.get(name, {})
        faces = [
            {**face, "verdicts": rated.get(keys.get(face["number"], ""))} for face in known["faces"]
        ]
        stamp = f"{as_one(item.result).stat().st_mtime_ns}" if known["has_result"] else "0"
        return known | {"faces": faces, "revision": revision(content), "stamp": stamp}

    def _description(self, name: str, work: Work, content: bytes) -> dict[str, Any]:
        found = self._described.get(name)
        if found is None or found[0] != content:
            found = self._described[name] = content, work.describe(content)
        return found[1]

    def edit(self, name: str, body: Any) -> dict[str, Any]:
        """Makes a change that a client has sent, and the result anew.

        Returns:
          As `describe`, with "face": the face or track that the change was of, or None.

        Raises:
          UserError: it cannot be made; then all is as before.
          Conflict: the client has seen another state than the present one.
        """
        work = self.work(name)
        with self.locked(name):
            before = self._present(work, body)
            edit = edits.parse(body, work.actions)
            after, face = work.changed(before, edit)
            entry = self._remark(work, before, edit, after, face)
            label = edits.LABELS[edit.action] + (f": {edit.method}" if edit.method else "")
            self.history.begin(name, before, after, Step(label, entry.id if entry else ""))
            replace_file(work.item.sidecar, after)
            if entry is not None:
                feedback.append(self.feedback_path, entry)
            try:
                self._render(name, work, after)
            except BaseException:
                self._take_back(name, work, before, entry)
                raise
        return {**self.describe(name), "face": face}

    def _take_back(self, name: str, work: Work, before: bytes, entry: Feedback | None) -> None:
        """Undoes what could not be rendered."""
        self.history.drop(name)
        replace_file(work.item.sidecar, before)
        if entry is not None:
            feedback.append(self.feedback_path, self._undoing(entry.id, work))

    def step(self, name: str, way: int, body: Any) -> dict[str, Any]:
        """Undoes (-1) or does again (1) one change; raises as `edit`."""
        work = self.work(name)
        with self.locked(name):
            present = self._present(work, body)
            if self.history.content(name) != present:
                raise Conflict(f"{work.item.sidecar.name} was changed elsewhere; nothing to undo")
            position = self.history.position(name)
            taken = position.undoable if way < 0 else position.redoable
            content = self.history.move(name, way)
            if content is None:
                raise UserError(f"there is nothing to {'undo' if way < 0 else 'do again'}")
            replace_file(work.item.sidecar, content)
            self._remark_step(name, work, taken, way)
            self._render(name, work, content)
        return {**self.describe(name), "face": None}

    def _remark_step(self, name: str, work: Work, step: Step | None, way: int) -> None:
        """Takes back what was said by a step that is undone, or says it again."""
        if step is None or not step.feedback:
            return
        if way < 0:
            feedback.append(self.feedback_path, self._undoing(step.feedback, work))
            return
        said = feedback.find(self.feedback_path, step.feedback)
        if said is not None:
            again = feedback.again(said)
            feedback.append(self.feedback_path, again)
            self.history.rename(name, again.id)

    def _render(self, name: str, work: Work, content: bytes) -> None:
        def note(new: bytes) -> None:
            self._prepared[name] = new
            self.history.note(name, new)

        work.render(content, note)
        if work.at_once:
            self.history.settle(name)
        self._failed.pop(name, None)

    def rate(self, name: str, body: Any) -> dict[str, Any]:
        """Writes down what somebody says of one face; raises as `edit`."""
        work = self.work(name)
        with self.locked(name):
            content = self._present(work, body)
            face, frame, verdicts = (body.get(n) for n in ("face", "frame", "verdicts"))
            known = isinstance(verdicts, list) and all(v in feedback.VERDICTS for v in verdicts)
            keys = work.keys(content)
            if not known or face not in keys:
                raise UserError(f"a rating names a face, and verdicts of {feedback.VERDICTS}")
            more = work.remark(content, face, frame if isinstance(frame, int) else None)
            entry = self._entry(work, action="rate", verdicts=tuple(verdicts), **more)
            with self._writing:
                feedback.append(self.feedback_path, entry)
                self._ratings.setdefault(name, {})[keys[face]] = list(verdicts)
        return {**self.describe(name), "face": face}

    def mark(self, name: str, reviewed: bool) -> dict[str, Any]:
        """Notes that somebody has looked at an item, or has not."""
        self.work(name)
        with self._writing:
            self.marks.put(name, "reviewed", reviewed)
        return self.describe(name)

    def anonymize(self, name: str) -> dict[str, Any]:
        """Makes the first result of a photo that has no sidecar.

        Raises:
          UserError: it has one, or cannot be read.
        """
        work = self.work(name)
        if isinstance(work, VideoItem):
            raise UserError("a video is anonymized by Export")
        with self.locked(name):
            if work.read() is not None:
                raise UserError(f"{work.item.name} has a sidecar already")
            work.first(lambda _: None)
        return {**self.describe(name), "face": None}

    def recover(self) -> list[str]:
        """Does what a kill has left undone; lines on what could not be."""
        problems = []
        for name, work in self.works.items():
            with self.locked(name):
                content = self.history.content(name)
                if self.history.position(name).rendered or content is None:
                    continue
                try:
                    present = work.read()
                    if present is None or not self.history.knows(name, present):
                        self.history.settle(name)  # somebody has anonymized it anew
                        continue
                    replace_file(work.item.sidecar, content)
                    self._render(name, work, content)
                except UserError as error:
                    self._failed[name] = str(error)
                    problems.append(str(error))
        return problems

    def warm(self) -> None:
        """Gets ready to draw new faces as the first item that has any asks for."""
        for work in self.works.values():
            with contextlib.suppress(UserError):
                content = work.read()
                if content is not None:
                    self.models.warm(work.identity(content))
                    return

    def prepare(self, name: str) -> None:
        """Somebody looks at an item: what a change of it needs is made meanwhile, once for each state."""
        work = self.work(name)
        if not isinstance(work, PhotoItem) or work.item.source is None:
            return
        with contextlib.suppress(UserError):
            content = work.read()
            if content is not None and self._prepared.get(name) != content:
                self._prepared[name] = content
                work.prepare(content)

    def close(self, seconds: float = _PATIENCE) -> None:
        """Lets changes that are being made come to their end, for a while; none begins any more."""
        until = time.monotonic() + seconds
        for lock in self._locks.values():
            lock.acquire(timeout=max(until - time.monotonic(), 0.01))

    def _present(self, work: Work, body: Any) -> bytes:
        """The sidecar, which must be what the client has seen."""
        content = work.read()
        if content is None:
            raise UserError(f"{work.item.name} has no sidecar; anonymize it first")
        if not isinstance(body, Mapping) or body.get("revision") != revision(content):
            raise Conflict(f"{work.item.name} has changed meanwhile; look at it again")
        return content

    def _remark(
        self, work: Work, before: bytes, edit: edits.Edit, after: bytes, face: int | None
    ) -> Feedback | None:
        """What an edit says of the result before it; None where it says nothing."""
        if edit.action == "missed":
            more = work.remark(after, face, edit.frame)
            more |= {"box": edit.box, "done": None, "key": None, "method": None}
            return self._entry(work, action="missed", **more)
        more = work.remark(before, edit.face, edit.frame)
        action = edit.action
        if action == "unkeep":
            action = "method"
        elif action == "range":
            first, last = more.get("frames") or (0, 0)
            longer = (edit.first or first) < first or (edit.last or last) > last
            action = "extend" if longer else "time_range"
            more["frames"] = (
                first if edit.first is None else edit.first,
                last if edit.last is None else edit.last,
            )
        if edit.method is not None:
            more["method"] = edit.method
        return self._entry(work, action=action, **more)

    def _entry(self, work: Work, **more: Any) -> Feedback:
        item = work.item
        if item.source is None:
            raise UserError(f"{item.name}: {item.problem}")
        return Feedback(
            kind="video" if item.is_video else "photo",
            source=str(item.source),
            sha256=self._digest(item.source),
            result=str(item.result),
            sidecar=str(item.sidecar),
            **more,
        )

    def _undoing(self, identifier: str, work: Work) -> Feedback:
        return self._entry(work, action="undo", of=identifier)

    def _digest(self, path: pathlib.Path) -> str:
        try:
            status = as_one(path).stat()
            key = str(path), status.st_mtime_ns, status.st_size
            if key not in self._digests:
                self._digests[key] = feedback.sha256_of(path)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error
        return self._digests[key]

    def _read_ratings(self) -> dict[str, dict[str, list[str]]]:
        """By item and key, the verdicts that were given last."""
        if not self.feedback_path.is_file():
            return {}
        by_result = {str(w.item.result.resolve()): name for name, w in self.works.items()}
        found: dict[str, dict[str, list[str]]] = {}
        for entry in feedback.read(self.feedback_path):
            name = by_result.get(str(pathlib.Path(entry.result or "").resolve()))
            if entry.action == "rate" and name is not None and entry.key:
                found.setdefault(name, {})[entry.key] = list(entry.verdicts)
        return found


def revision(content: bytes) -> str:
    """Tells a state of a sidecar from others."""
    return hashlib.sha256(content).hexdigest()[:16]
