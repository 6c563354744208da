"""Which files are read, and what the files made from them are called."""

import dataclasses
import glob
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.media.image_sequences import numbers
from dp3_jax.media.names import SUFFIXES, as_one, is_pattern, is_video_name
from dp3_jax.media.photos import FORMATS, is_photo_name

ENDING = "_anonymized"
PREVIEW_ENDING = ".preview.png"
PREVIEW_MARK = "dp3 preview: shows original faces, not for release"  # a text in the file


@dataclasses.dataclass(frozen=True)
class Task:
    """A photo or video to be read from `source` and written to `target`: files, or patterns of pictures.

    `note`: a remark for the user on the target; may be "".
    """

    source: pathlib.Path
    target: pathlib.Path
    note: str = ""

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by the name of its source."""
        return is_video_name(self.source) or self.is_sequence

    @property
    def is_sequence(self) -> bool:
        """Whether it is a video of numbered pictures."""
        return is_pattern(self.source)


def _is_ours(path: str | os.PathLike) -> bool:
    """Whether the name ends like a photo's or a video's."""
    return is_photo_name(path) or is_video_name(path)


def is_preview(path: pathlib.Path) -> bool:
    """Whether a file is a preview that an earlier run wrote."""
    return files.begins_with(path, PREVIEW_MARK)


@dataclasses.dataclass
class Rest:
    """What lies in the input folders and is not read.

    Attributes:
      endings: how many files that are neither photos nor videos there are, by the ending of their names.
      circles, unread: lines on folders, as of `files.Tree`.
    """

    endings: Counter[str] = dataclasses.field(default_factory=Counter)
    circles: list[str] = dataclasses.field(default_factory=list)
    unread: list[str] = dataclasses.field(default_factory=list)


def _in_folder(
    folder: pathlib.Path, without: pathlib.Path | None, rest: Rest
) -> list[pathlib.Path]:
    """Photos and videos in a folder and below, sorted; what else there is is added to `rest`.

    Files that an earlier run made beside their sources are left out, and all below `without`.
    """
    photos = []
    tree = files.walk(folder, without)
    rest.circles += tree.circles
    rest.unread += tree.unread
    for path in sorted(tree.files + tree.dangling):  # the latter are reported when they are read
        if path.name.startswith("."):
            continue
        if not _is_ours(path):
            rest.endings[path.suffix.lower()] += 1
        elif path.stem.endswith((ENDING, f"{ENDING}_preview")):
            continue
        elif not (path.name.lower().endswith(PREVIEW_ENDING) and is_preview(path)):
            photos.append(path)
    return photos


def _expand(
    inputs: Sequence[str], without: pathlib.Path | None, in_place: bool
) -> tuple[list[tuple[pathlib.Path, pathlib.Path]], Rest]:
    """(path, path below the output folder) of every name, or in place of every file; and what is left."""
    found: dict[pathlib.Path, tuple[pathlib.Path, pathlib.Path]] = {}
    rest = Rest()
    for text in inputs:
        path = pathlib.Path(text)
        if os.path.isdir(path):
            photos = _in_folder(path, without, rest)
            pairs = [(photo, photo.relative_to(path)) for photo in photos]
        elif os.path.exists(path):
            pairs = [(path, pathlib.Path(path.name))]
        elif glob.has_magic(text):
            matches = sorted(map(pathlib.Path, glob.glob(text, recursive=True)))
            pairs = [(m, pathlib.Path(m.name)) for m in matches if m.is_file() and _is_ours(m)]
            if not pairs:
                raise UserError(f"no photo or video matches {text}")
        else:
            raise UserError(f"there is no file or folder {text}; check the path")
        for photo, below in pairs:
            name = photo.resolve() if in_place else pathlib.Path(os.path.abspath(photo))
            found.setdefault(name, (photo, below))
    return list(found.values()), rest


def is_file_name(output: str | os.PathLike) -> bool:
    """Whether -o OUTPUT means a file: it ends as photos or videos do and is no folder that exists."""
    return _is_ours(output) and not os.path.isdir(output)


def tasks_of(
    inputs: Sequence[str], output: str | None = None, in_place: bool = False
) -> tuple[list[Task], Rest]:
    """What is read and written.

    Without `output` the result lies beside its source as NAME_anonymized.EXT. With a file name (one input
    file only) it gets that name, with a folder it keeps its name, and its place below an input folder.

    Args:
      inputs: files, folders (searched with all below them) and glob patterns; or one pattern of numbered
        pictures.
      output: file or folder; of numbered pictures also a pattern.
      in_place: replace the sources.

    Returns:
      The tasks in the order of the inputs, one for each name, also where several names are links to one file
      (in place: one for each file); and what is left in the folders.

    Raises:
      UserError: nothing to do, an input that is not there, two results with one name, or a result that
        would replace an input without `in_place`.
    """
    if "" in (*inputs, output):
        raise UserError(
            "a name is empty, which would stand for this whole folder; write . for that"
        )
    if in_place and output is not None:
        raise UserError("--in-place writes to the inputs themselves; leave out -o")
    if any(map(is_pattern, inputs)):
        return [_sequence(inputs, output, in_place)], Rest()
    to_file = output is not None and is_file_name(output)
    folder = pathlib.Path(output).resolve() if output is not None and not to_file else None
    photos, rest = _expand(inputs, folder, in_place)
    if not photos:
        known = ", ".join([*FORMATS, *SUFFIXES])
        raise UserError(f"no photo or video in {', '.join(inputs)} (looked for {known})")
    if to_file and (len(photos) > 1 or os.path.isdir(inputs[0])):
        several = f"{len(photos)} inputs" if len(photos) > 1 else f"a folder, {inputs[0]}"
        raise UserError(f"-o {output} names one file for {several}; name a folder")
    tasks = []
    for photo, below in photos:
        if in_place:
            target = photo.resolve()  # a link stays a link
        elif output is None:
            target = photo.with_name(files.fitting(photo.stem, ENDING + photo.suffix))
        else:
            target = pathlib.Path(output) if to_file else pathlib.Path(output) / below
        tasks.append(Task(photo, target))
    if to_file and (tasks[0].is_video != is_video_name(output) or is_pattern(output)):
        raise UserError(
            f"-o {output} does not end like a {'video' if tasks[0].is_video else 'photo'}"
        )
    check(tasks, in_place)
    return tasks, rest


def _sequence(inputs: Sequence[str], output: str | None, in_place: bool) -> Task:
    """The task of numbered pictures; arguments and errors as of `tasks_of`."""
    name = next(filter(is_pattern, inputs))
    source = pathlib.Path(name)
    if len(inputs) > 1:
        raise UserError(f"{name} is a whole sequence of pictures; anonymize other inputs apart")
    if in_place:
        raise UserError(
            f"--in-place cannot replace all pictures of {name} at once; write others with -o"
        )
    if output is None or not (is_video_name(output) or is_pattern(output)):
        raise UserError(
            f"say where the video of {name} goes: -o NAME.mp4, or -o FOLDER/{source.name} for pictures"
        )
    numbers(source)  # says which is missing
    target = pathlib.Path(output)
    if is_pattern(target):
        _check_folder(target)
    return Task(source, target)


def _check_folder(target: pathlib.Path) -> None:
    """Raises UserError unless a folder for numbered pictures can get its name at once, with all in it."""
    folder = as_one(target)
    taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken or not target.parent.name or os.path.ismount(folder):
        raise UserError(
            f"{target.parent} is there already; pictures are written all at once, so name a new folder"
        )


def check(tasks: Sequence[Task], in_place: bool) -> None:
    """Raises UserError where results would replace one another or an input."""
    sources = {task.source.resolve() for task in tasks}
    same_file = {_identity(path) for path in sources} - {None}
    taken: dict[pathlib.Path, pathlib.Path] = {}
    for task in tasks:
        target = task.target.resolve()
        if target in taken:
            raise UserError(
                f"{taken[target]} and {task.source} would both be written to {task.target}; "
                "give their folder as the input or run them apart"
            )
        taken[target] = task.source
        if not in_place and (target in sources or _identity(target) in same_file):
            raise UserError(
                f"{task.target} is an input and would be overwritten; choose another -o, or --in-place"
            )


def _identity(path: pathlib.Path) -> tuple[int, int] | None:
    """Device and number of the file, which hard links share; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_extras(
    tasks: Sequence[Task],
    extras: Sequence[tuple[pathlib.Path, Callable[[pathlib.Path], bool]]],
    option: str,
) -> None:
    """Raises UserError where what is written beside the results would replace a file of the user.

    Args:
      tasks: of the run.
      extras: files to be written, and whether such a file, which is there, is of an earlier run.
      option: that asks for them.
    """
    taken = {path.resolve() for task in tasks for path in (task.source, task.target)}
    for path, is_ours in extras:
        there = os.path.lexists(path)
        if path.resolve() in taken or (there and not is_ours(path)):
            raise UserError(
                f"{option} would overwrite {path}, which is another file; move it, or leave {option} out"
            )
