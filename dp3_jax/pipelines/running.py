"""Many photos and videos, one after the other or in several processes: what is left to do, and doing it."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import dp3_jax
from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.pipelines import outputs
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.batch import Batch, Options, Source, check, read_source
from dp3_jax.pipelines.boxes import Boxes
from dp3_jax.pipelines.manifest import Manifest
from dp3_jax.pipelines.progress_bars import FrameBar
from dp3_jax.pipelines.reports import (
    Report,
    manifest_entry,
    preview_path,
    remarks,
    sidecar_path,
)
from dp3_jax.pipelines.workers import Workers

_TEMPORARY = re.compile(r"\.(.*)\.(\d+)\.tmp")  # as `files.atomic_target` names them


@dataclasses.dataclass(frozen=True)
class Finished:
    """What became of a run.

    Attributes:
      reports: of the files that were treated now, in the order of the tasks.
      earlier: lines of the manifest on those that an earlier run had done.
      left: tasks that were not begun because the disk is full.
      decided: as of `Anonymizer.decided`.
    """

    reports: list[Report]
    earlier: list[dict[str, Any]]
    left: int
    decided: tuple[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """How a run is done.

    Attributes:
      settings: arguments of `Anonymizer`.
      options: for all files.
      workers: processes for photos; 1 for this one.
      manifest: None to keep none.
      redo: do again what the manifest says is done.
      show_progress: show bars where standard error is a terminal.
    """

    settings: Mapping[str, Any]
    options: Options
    workers: int = 1
    manifest: Manifest | None = None
    redo: bool = False
    show_progress: bool = True

    def __call__(self, tasks: Sequence[outputs.Task]) -> Finished:
        """Treats all files, naming the failures on standard error as they come.

        Raises:
          UserError: something is wrong with the options or the models.
        """
        photos = any(not task.is_video for task in tasks)
        boxes = Boxes(self.options.boxes) if self.options.boxes and photos else None
        check(tasks, self.options, boxes)
        digest = _Digest(self.settings, self.options, boxes)
        left, earlier = list(tasks), []
        if self.manifest is not None:
            _remove_leftovers(tasks)
            if not self.redo:
                left, earlier = self._left(tasks, digest)
        if not left:
            return Finished([], earlier, 0, ("", ""))
        reports: dict[outputs.Task, Report] = {}
        with contextlib.ExitStack() as stack:
            loaded = self._load(left, stack)
            for report in self._shown(left, loaded):
                task = report.task
                reports[task] = report
                if self.manifest is not None:
                    entry = manifest_entry(report)
                    self.manifest.add(task.source, task.target, digest(task), entry)
                if os.strerror(errno.ENOSPC) in report.error:
                    break
        done = [reports[task] for task in left if task in reports]
        return Finished(done, earlier, len(left) - len(done), loaded.decided())

    def _left(
        self, tasks: Sequence[outputs.Task], digest: "_Digest"
    ) -> tuple[list[outputs.Task], list[dict[str, Any]]]:
        """The tasks that are left to do, and what the manifest says of the others."""
        left, earlier = [], []
        for task in tasks:
            entry = self.manifest.done(task.source, task.target, digest(task))
            extras = [sidecar_path(task)] if self.options.sidecar else []
            if self.options.preview and not task.is_video:
                extras.append(preview_path(task))
            if entry is None or not all(path.is_file() for path in extras):
                left.append(task)
            else:
                earlier.append(entry)
        return left, earlier

    def _load(self, tasks: list[outputs.Task], stack: contextlib.ExitStack) -> "_Loaded":
        """Loads what the tasks need, so that what is missing is said before the first file."""
        photos = [task for task in tasks if not task.is_video]
        apart = photos if self.workers > 1 and len(photos) > 1 else []
        here = [task for task in tasks if task.is_video or not apart]
        batch = workers = None
        if here:
            anonymizer = Anonymizer(**self.settings)
            batch = Batch(anonymizer, self.options, photos=bool(photos) and not apart)
        if apart:
            count = min(self.workers, len(apart))
            workers = stack.enter_context(Workers(count, dict(self.settings), self.options))
        return _Loaded(here, apart, batch, workers)

    def _shown(self, tasks: list[outputs.Task], loaded: "_Loaded") -> Iterator[Report]:
        """The reports, as they come, with a bar, and lines on what went wrong."""
        import tqdm

        # disable=None: no bar where standard error is not a terminal.
        hidden = None if self.show_progress else True
        with tqdm.tqdm(total=len(tasks), unit="file", disable=hidden) as bar:
            for report in loaded.reports(hidden):
                bar.update()
                for line in remarks(report):
                    tqdm.tqdm.write(line, file=sys.stderr)
                yield report


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """Tasks for this process and for workers, and what does them."""

    here: list[outputs.Task]
    apart: list[outputs.Task]
    batch: Batch | None
    workers: Workers | None

    def decided(self) -> tuple[str, str]:
        """As of `Anonymizer.decided`."""
        return (self.batch if self.workers is None else self.workers).decided

    def reports(self, hidden: bool | None) -> Iterator[Report]:
        """Photos in the workers, and then what is left for this process."""
        if self.workers is not None:
            yield from self.workers.run(self.apart)
        if self.batch is None:
            return
        with futures.ThreadPoolExecutor(1) as pool:
            ahead = _read_ahead(self.here, pool)
            for task in self.here:
                with FrameBar(task, hidden) as frames:
                    report = self.batch.process(task, frames.update, next(ahead))
                yield report


def _read_ahead(
    tasks: Sequence[outputs.Task], pool: futures.Executor
) -> Iterator[Callable[[], Source] | None]:
    """What gives the photo of each task, and begins to read the next; None for videos."""

    def begin(task: outputs.Task) -> Callable[[], Source] | None:
        return None if task.is_video else pool.submit(read_source, task.source).result

    following = begin(tasks[0]) if tasks else None
    for index in range(len(tasks)):
        current = following
        following = begin(tasks[index + 1]) if index + 1 < len(tasks) else None
        yield current


class _Digest:
    """What a task's result depends on besides its source, as a digest for the manifest."""

    def __init__(self, settings: Mapping[str, Any], options: Options, boxes: Boxes | None):
        """Looks at the files that are named in the settings and options."""
        self._boxes = boxes
        described = {
            "version": dp3_jax.__version__,
            "settings": {name: _described(value) for name, value in settings.items()},
            "options": {
                field.name: _described(getattr(options, field.name))
                for field in dataclasses.fields(options)
                if field.name != "boxes" or boxes is None
            },
        }
        self._common = json.dumps(described, sort_keys=True)

    def __call__(self, task: outputs.Task) -> str:
        """The digest of a task's settings, hexadecimal."""
        faces: Any = None
        if self._boxes is not None and not task.is_video:
            with contextlib.suppress(UserError):  # it is not listed, which is reported later
                faces = [
                    _described(face.box) + _described(face.keypoints)
                    for face in self._boxes.of(task.source)
                ]
        return hashlib.sha256((self._common + json.dumps(faces)).encode()).hexdigest()


def _described(value: Any) -> str:
    """A value as text; of a name of a file also what is in the file."""
    if isinstance(value, tuple | list):
        return ", ".join(map(_described, value))
    content = ""
    if isinstance(value, str | os.PathLike) and os.path.isfile(value):
        with contextlib.suppress(OSError), open(value, "rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
    return repr(value) + content


def _remove_leftovers(tasks: Sequence[outputs.Task]) -> None:
    """Removes what killed runs have left of results that they were just writing."""
    names: dict[pathlib.Path, set[str]] = {}
    for task in tasks:
        names.setdefault(task.target.parent, set()).add(task.target.name)
    for folder, targets in names.items():
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                match = _TEMPORARY.fullmatch(entry.name)
                if match and match[1] in targets and not _is_alive(int(match[2])):
                    files.remove(folder / entry.name)


def _is_alive(process: int) -> bool:
    """Whether there is a process of this number; where that cannot be told, there is."""
    if os.name != "posix":
        return True  # on Windows, to ask would be to end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
