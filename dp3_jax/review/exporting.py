"""Writing what a review has decided: videos that were changed, and results without keys, for release."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import threading
from typing import Any

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.media import image_sequences
from dp3_jax.media.names import as_one, is_pattern
from dp3_jax.review.session import Session
from dp3_jax.review.video_item import VideoItem

ENDING = ".release"  # of the folder beside the reviewed one


@dataclasses.dataclass
class Progress:
    """How far an export is; what the page shows of it.

    Attributes:
      running: whether it goes on.
      done, total: files.
      name: of the file that is being made.
      what: is being done with it.
      frames, of_frames: of a video; None where not known.
      folder: where results were put; empty before the end.
      problems: lines on what could not be made.
      left: results that were left out, as they have not been looked at.
    """

    running: bool = False
    done: int = 0
    total: int = 0
    name: str = ""
    what: str = ""
    frames: int = 0
    of_frames: int | None = None
    folder: str = ""
    problems: list[str] = dataclasses.field(default_factory=list)
    left: int = 0


class _Stopped(BaseException):
    """The review ends."""


class Exporter:
    """Exports in the background, one at a time; a video that was begun goes on in the next review."""

    def __init__(self, session: Session, target: pathlib.Path):
        """Takes the review, and the folder for results."""
        self._session = session
        self._target = target
        self._progress = Progress()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def close(self, seconds: float = 5.0) -> None:
        """Ends what goes on, after the frame that is being made; waits for that so long."""
        self._closed = True
        if self._thread is not None:
            self._thread.join(seconds)

    def progress(self) -> dict[str, Any]:
        """How far the present or last export is."""
        with self._lock:
            return dataclasses.asdict(self._progress)

    def start(self, only_reviewed: bool) -> dict[str, Any]:
        """Begins one.

        Raises:
          UserError: one is going on.
        """
        with self._lock:
            if self._progress.running:
                raise UserError("an export is going on; wait for it")
            self._progress = Progress(running=True, total=len(self._session.works))
        self._thread = threading.Thread(
            target=self._begin, args=(only_reviewed,), name="export", daemon=True
        )
        self._thread.start()
        return self.progress()

    def _tell(self, **known: Any) -> None:
        with self._lock:
            self._progress = dataclasses.replace(self._progress, **known)

    def _begin(self, only_reviewed: bool) -> None:
        with contextlib.suppress(_Stopped):
            self.run(only_reviewed)

    def run(self, only_reviewed: bool) -> None:
        """What `start` does in the background."""
        problems: list[str] = []
        left = copied = 0
        for place, name in enumerate(self._session.works):
            if self._closed:
                raise _Stopped
            item = self._session.work(name).item
            self._tell(name=item.name, what="", frames=0, of_frames=None, done=place, left=left)
            if only_reviewed and not self._session.marks.of(name).get("reviewed"):
                left += 1
                continue
            try:
                self._make(name)
                self._copy(name)
                copied += 1
            except UserError as error:
                problems.append(str(error))
            except Exception as error:  # one file that hits a bug does not stop the others
                problems.append(
                    f"{item.name}: {type(error).__name__}: {error} (please report this)"
                )
            self._tell(problems=list(problems))
        where = str(self._target) if copied else ""
        total = len(self._session.works)
        self._tell(running=False, folder=where, name="", done=total, left=left, problems=problems)

    def _make(self, name: str) -> None:
        """Makes a result that is not as its sidecar says.

        Raises:
          UserError: it cannot be made.
        """
        session, work = self._session, self._session.work(name)
        if isinstance(work, VideoItem):
            while True:
                content = work.read()
                if content is None:
                    work.first(self._told)
                    return
                if session.history.position(name).rendered and work.item.has_result:
                    return
                work.export(content, session.folder, self._told)
                with session.locked(name):
                    if work.read() == content:  # else it was changed meanwhile: once more
                        session.history.settle(name)
                        return
        if work.read() is None and not work.item.has_result:
            raise UserError(f"{work.item.name} is not anonymized yet")
        if not session.history.position(name).rendered:
            raise UserError(f"{work.item.name} could not be made as its sidecar says; left out")

    def _told(self, what: str, done: int, total: int | None) -> None:
        if self._closed:
            raise _Stopped
        self._tell(what=what, frames=done, of_frames=total)

    def _copy(self, name: str) -> None:
        """Puts a result into the folder for release, and nothing but it."""
        item = self._session.work(name).item
        if is_pattern(item.result):
            self._copy_pictures(name)
            return
        place = os.path.normpath(item.name)
        if place.startswith(".."):
            place = item.result.name
        with self._session.locked(name), files.atomic_target(self._target / place) as temporary:
            shutil.copyfile(item.result, temporary)

    def _copy_pictures(self, name: str) -> None:
        """The same of numbered pictures, in a folder of their own; what an earlier export left there goes."""
        result = self._session.work(name).item.result
        target = self._target / as_one(result).name
        with self._session.locked(name), files.atomic_target(target) as temporary:
            temporary.mkdir()
            for picture in image_sequences.files_of(result):
                shutil.copyfile(picture, temporary / picture.name)
            files.remove(target)
