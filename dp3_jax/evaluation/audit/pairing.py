"""Which result belongs to which original: by name, in folders or one file each."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.media.names import is_video_name
from dp3_jax.media.photos import is_photo_name
from dp3_jax.pipelines import manifest, outputs


@dataclasses.dataclass(frozen=True)
class Pair:
    """An original, what was made of it, and its name for reports."""

    original: pathlib.Path
    anonymized: pathlib.Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by the name of the original."""
        return is_video_name(self.original)


@dataclasses.dataclass(frozen=True)
class Pairing:
    """All pairs, in the order of their names, and what has no partner.

    `without_result` are names of originals, `without_original` those of results.
    """

    pairs: tuple[Pair, ...]
    without_result: tuple[str, ...] = ()
    without_original: tuple[str, ...] = ()


def _is_ours(path: pathlib.Path) -> bool:
    """Whether it is a photo or a video, and not a preview or hidden."""
    known = is_photo_name(path) or is_video_name(path)
    preview = path.name.lower().endswith(outputs.PREVIEW_ENDING) and outputs.is_preview(path)
    return known and not path.name.startswith(".") and not preview


def _below(folder: pathlib.Path, without: pathlib.Path | None = None) -> list[pathlib.Path]:
    """Photos and videos in a folder and below, but for those below `without`."""
    found = files.walk(folder, without).files
    return [path.relative_to(folder) for path in found if _is_ours(path)]


def _by_manifest(
    originals: pathlib.Path, results: pathlib.Path
) -> dict[pathlib.Path, pathlib.Path]:
    """{original: result}, relative to the folders, as the manifest of the run says, where there is one."""
    path = manifest.default_path(str(results), [], to_file=False)
    if path is None or not files.begins_with(path, manifest.FORMAT):
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            ends = [os.path.abspath(path.parent / entry[k]) for k in ("source", "target")]
        except (ValueError, TypeError, KeyError):
            continue  # a line cut off by a kill
        source, target = map(pathlib.Path, ends)
        folders = pathlib.Path(os.path.abspath(originals)), pathlib.Path(os.path.abspath(results))
        if source.is_relative_to(folders[0]) and target.is_relative_to(folders[1]):
            found[source.relative_to(folders[0])] = target.relative_to(folders[1])
    return found


class _Results:
    """The results that have no original yet, by several names."""

    def __init__(self, found: Iterable[pathlib.Path]):
        self.left = dict.fromkeys(found)
        self._by_stem: dict[pathlib.Path, list[pathlib.Path]] = {}
        for path in self.left:
            self._by_stem.setdefault(path.with_suffix(""), []).append(path)

    def take(self, original: pathlib.Path, same: bool) -> pathlib.Path | None:
        """The result of an original: of its name (unless not `same`), with the ending, of its stem."""
        ended = original.with_name(files.fitting(original.stem, outputs.ENDING + original.suffix))
        for candidate in ([original] if same else []) + [ended]:
            if candidate in self.left:
                del self.left[candidate]
                return candidate
        # Videos may come out in another container, photos in another format.
        for stem in ([original.with_suffix("")] if same else []) + [ended.with_suffix("")]:
            for candidate in self._by_stem.get(stem, ()):
                alike = is_video_name(candidate) == is_video_name(original)
                if candidate in self.left and alike:
                    del self.left[candidate]
                    return candidate
        return None


def _folders(originals: pathlib.Path, results: pathlib.Path) -> Pairing:
    one = os.path.samefile(originals, results)
    inside = not one and results.resolve().is_relative_to(originals.resolve())
    sources = _below(originals, results.resolve() if inside else None)
    if one:  # results beside their sources
        sources = [path for path in sources if not path.stem.endswith(outputs.ENDING)]
    found = _below(results)
    taken = _Results(set(found) - set(sources) if one else found)
    known = {} if one else _by_manifest(originals, results)
    pairs, without = [], []
    chosen = {source: known[source] for source in sources if known.get(source) in taken.left}
    for target in chosen.values():
        taken.left.pop(target, None)
    for source in sources:
        target = chosen.get(source) or taken.take(source, same=not one)
        if target is None:
            without.append(source.as_posix())
        else:
            pairs.append(Pair(originals / source, results / target, source.as_posix()))
    return Pairing(tuple(pairs), tuple(without), tuple(sorted(p.as_posix() for p in taken.left)))


def _file(original: pathlib.Path, result: pathlib.Path) -> Pairing:
    for path in (original, result):
        if not (is_photo_name(path) or is_video_name(path)):
            raise UserError(f"{path} is neither a photo nor a video; give what dp3 anonymize takes")
    if is_video_name(original) != is_video_name(result):
        raise UserError(f"{original} and {result} are not both photos or both videos; pair them")
    return Pairing((Pair(original, result, original.name),))


def pair(originals: str | os.PathLike, results: str | os.PathLike) -> Pairing:
    """Pairs two files or all photos and videos in two folders and below.

    A result lies in its folder as its original does in its own, under the same name, with `_anonymized` at
    its end, or with another suffix; the manifest of the run, where there is one, goes before names. Where
    the two are one folder, results have the ending.

    Raises:
      UserError: a path is not there, the two are not alike, or there is no pair.
    """
    ends = pathlib.Path(originals), pathlib.Path(results)
    for path in ends:
        if not path.exists():
            raise UserError(f"there is no file or folder {path}; check the path")
    if ends[0].is_dir() != ends[1].is_dir():
        raise UserError(f"{ends[0]} and {ends[1]} must be two files or two folders")
    if not ends[0].is_dir():
        if os.path.samefile(*ends):
            raise UserError(f"{ends[0]} is both the original and the result; name two files")
        return _file(*ends)
    found = _folders(*ends)
    if not found.pairs:
        raise UserError(
            f"no photo or video in {ends[1]} has the name of one in {ends[0]}; results keep their names and "
            f"folders, or end in {outputs.ENDING}"
        )
    return found
