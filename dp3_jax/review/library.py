"""Which originals, results and sidecars belong together.

A sidecar names no file, so they are told by what the names and the manifest say (see docs/cli/review.md):
NAME_anonymized.EXT lies beside NAME.EXT; the manifest of a run says which original each result was made from;
and results of `-o FOLDER` have the places of their originals below the folder of originals, if that is named.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.media import image_sequences
from dp3_jax.media.names import as_one, is_pattern, is_there, is_video_name
from dp3_jax.media.photos import is_photo_name
from dp3_jax.pipelines import manifest, outputs, sidecar
from dp3_jax.pipelines.video import job, track_file

STATE_ENDING = ".review"  # of the folder in which a review keeps what it must not lose
_ID_DIGITS = 12


@dataclasses.dataclass(frozen=True)
class Item:
    """One photo or video with its result.

    Attributes:
      id: tells it from others, in addresses; the same in every review of the same folder.
      name: for people: the result's place below the folder.
      source: the original, a file or the pattern of numbered pictures; None where it is not known.
      result: the anonymized one, likewise; need not be there yet.
      problem: why it cannot be corrected, in a sentence; else empty.
      manifest: that names the result, with its last line there; None where none does.
    """

    id: str
    name: str
    source: pathlib.Path | None
    result: pathlib.Path
    problem: str = ""
    manifest: "ManifestLine | None" = None

    @property
    def is_video(self) -> bool:
        """Whether it is a video or a sequence of numbered pictures, by the result's name."""
        return _is_clip(self.result)

    @property
    def has_result(self) -> bool:
        """Whether the result is there."""
        return is_there(self.result)

    @property
    def sidecar(self) -> pathlib.Path:
        """Where its faces or tracks are written."""
        if is_pattern(self.result):
            return job.sidecar_path(self.result)
        ending = track_file.SUFFIX if self.is_video else sidecar.SUFFIX
        return self.result.with_name(files.fitting(self.result.name, ending))


@dataclasses.dataclass(frozen=True)
class ManifestLine:
    """What a manifest says of a result.

    Attributes:
      path: of the manifest.
      entry: its last line on the result, decoded.
    """

    path: pathlib.Path
    entry: Mapping[str, Any]

    def rewrite(self, source: pathlib.Path, result: pathlib.Path, content: bytes | None) -> None:
        """Notes that the result has changed, so that the command that made it leaves it as it is now.

        Args:
          source, result: the files.
          content: the result's, for its SHA-256; None to leave that out.

        Raises:
          UserError: the manifest cannot be written.
        """
        known = {k: v for k, v in self.entry.items() if k not in ("format", "source", "target")}
        settings = str(known.pop("settings", ""))
        printed = dataclasses.asdict(manifest.print_of(result, content))
        opened = manifest.Manifest(self.path)
        try:
            opened.add(source, result, settings, {**known, "output": printed, "reviewed": True})
        finally:
            opened.close()


def state_folder(path: pathlib.Path) -> pathlib.Path:
    """Where the review of a folder or file keeps its own files: beside it, as it holds keys and names."""
    path = as_one(path).resolve()
    return path.with_name(files.fitting(path.name or "root", STATE_ENDING))


def find(path: pathlib.Path, originals: pathlib.Path | None = None) -> list[Item]:
    """The photos and videos to review.

    Args:
      path: folder of results or originals; or one original, result (a file, or the pattern of numbered
        pictures) or sidecar.
      originals: folder of the originals, of results that say nothing of them; of one result also its file,
        or the pattern of numbered pictures.

    Raises:
      UserError: it is not there, or there is nothing to review.
    """
    if is_pattern(path):
        image_sequences.numbers(path)  # says which is missing
        folder, named = as_one(path).parent, [path]
    elif not path.exists():
        raise UserError(f"there is no {path}; name a folder, a photo, a video or a sidecar")
    elif path.is_dir():
        if path.resolve().with_name(path.resolve().name + track_file.SUFFIX).is_file():
            raise UserError(
                f"{path} holds the frames of a clip: name them by a pattern such as {path}/%05d.png, and "
                "those that they were made from by --originals"
            )
        folder, named = path, sorted(_media(path))
    else:
        folder, named = path.parent, [_result_of_sidecar(path)]
    pairs = _Pairs(folder, originals)
    found: dict[pathlib.Path, Item] = {}
    for file in named:
        item = pairs.item(file)
        if item is not None:
            found.setdefault(item.result.resolve(), item)
    if not found:
        raise UserError(f"no photo or video in {path}; name the folder of results or originals")
    return list(found.values())


def _media(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The photos and videos below a folder, but for previews and hidden ones."""
    for path in files.walk(folder, hidden=False).files:
        if path.name.startswith(".") or not (is_photo_name(path) or is_video_name(path)):
            continue
        if path.name.lower().endswith(outputs.PREVIEW_ENDING) and outputs.is_preview(path):
            continue
        yield path


def _result_of_sidecar(path: pathlib.Path) -> pathlib.Path:
    for ending in (sidecar.SUFFIX, track_file.SUFFIX):
        if path.name.endswith(ending):
            return path.with_name(path.name.removesuffix(ending))
    if not (is_photo_name(path) or is_video_name(path)):
        raise UserError(f"{path} is no photo, video or sidecar; name one, or a folder")
    return path


class _Pairs:
    """Finds the other file of each pair."""

    def __init__(self, folder: pathlib.Path, originals: pathlib.Path | None):
        self._folder = folder
        self._originals = originals
        self._by_target, self._by_source = _manifests(folder.resolve())

    def item(self, file: pathlib.Path) -> Item | None:
        """The item that a file belongs to; None for an original whose result is listed by itself."""
        place = file.resolve()
        if place in self._by_target:
            source, line = self._by_target[place]
            if source == place:
                return self._made(None, file, "it was anonymized in place, so its original is gone")
            return self._made(source, file, line=line)
        if place in self._by_source:
            result, line = self._by_source[place]
            return self._made(file, result, line=line)
        if _has_result(file):
            return None
        return self._by_name(file)

    def _by_name(self, file: pathlib.Path) -> Item:
        """The item of a file of which no manifest says anything."""
        if file.stem.endswith(outputs.ENDING) and not is_pattern(file):
            return self._made(self._beside(file) or self._below_originals(file), file)
        if self._originals is not None or is_pattern(file) or _has_sidecar(file):
            return self._made(self._below_originals(file), file)
        result = file.with_name(files.fitting(file.stem, outputs.ENDING + file.suffix))
        return self._made(file, result)

    def _beside(self, result: pathlib.Path) -> pathlib.Path | None:
        """The original that a result with the usual ending lies beside."""
        stem = result.stem.removesuffix(outputs.ENDING)
        same = result.with_name(stem + result.suffix)
        if same.is_file():
            return same
        others = [p for p in result.parent.glob(f"{glob_escaped(stem)}.*") if p.stem == stem]
        kind = is_video_name if is_video_name(result) else is_photo_name
        return next((p for p in sorted(others) if kind(p)), None)

    def _below_originals(self, result: pathlib.Path) -> pathlib.Path | None:
        if self._originals is None:
            return None
        if is_pattern(self._originals):
            image_sequences.numbers(self._originals)
            return self._originals if _is_clip(result) else None
        if self._originals.is_file():
            return self._originals
        place = self._originals / os.path.relpath(result, self._folder)
        stem = place.stem.removesuffix(outputs.ENDING)
        options = [place, *sorted(place.parent.glob(f"{glob_escaped(stem)}.*"))]
        kind = is_video_name if is_video_name(result) else is_photo_name
        return next((p for p in options if p.is_file() and kind(p)), None)

    def _made(
        self,
        source: pathlib.Path | None,
        result: pathlib.Path,
        problem: str = "",
        line: ManifestLine | None = None,
    ) -> Item:
        if source is not None and not is_there(source):
            source, problem = None, f"its original, {source}, is not there any more"
        if source is None and not problem:
            form = "FOLDER/%05d.png" if is_pattern(result) else "FOLDER"
            problem = f"its original is not known: start again with --originals {form}"
        name = os.path.relpath(result, self._folder)
        digest = hashlib.sha256(os.fsencode(os.path.normpath(name))).hexdigest()
        return Item(digest[:_ID_DIGITS], name, source, result, problem, line)


def _is_clip(path: pathlib.Path) -> bool:
    return is_video_name(path) or is_pattern(path)


def glob_escaped(text: str) -> str:
    """The text as a pattern that means itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _has_sidecar(result: pathlib.Path) -> bool:
    return Item("", "", None, result).sidecar.is_file()


def _has_result(original: pathlib.Path) -> bool:
    kind = is_video_name if is_video_name(original) else is_photo_name
    pattern = f"{glob_escaped(original.stem)}{outputs.ENDING}.*"
    return any(kind(path) for path in original.parent.glob(pattern))


def _manifests(
    folder: pathlib.Path,
) -> tuple[
    dict[pathlib.Path, tuple[pathlib.Path, ManifestLine]],
    dict[pathlib.Path, tuple[pathlib.Path, ManifestLine]],
]:
    """(source, line) by target, and (target, line) by source, of all manifests in and beside a folder."""
    by_target: dict[pathlib.Path, tuple[pathlib.Path, ManifestLine]] = {}
    for place in (folder.parent, folder):
        for path in sorted(place.glob(f"*{manifest.ENDING}")):
            for entry in _lines(path):
                source, target = (
                    pathlib.Path(os.path.normpath(path.parent / entry[k]))
                    for k in ("source", "target")
                )
                by_target[target] = source, ManifestLine(path, entry)
    by_source = {
        source: (target, line)
        for target, (source, line) in by_target.items()
        if source != target and target.is_file()
    }
    there = {target: value for target, value in by_target.items() if target.is_file()}
    return there, by_source


def _lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The lines of a manifest on files that were written."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            names = isinstance(entry["source"], str) and isinstance(entry["target"], str)
            if entry["format"] == manifest.FORMAT and names and not entry.get("error"):
                yield entry
        except (ValueError, TypeError, KeyError):
            continue  # a line cut off by a kill
