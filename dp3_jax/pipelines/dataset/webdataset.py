"""WebDataset: tar archives in which members of one name and several endings are one sample.

As the package webdataset reads them: the name ends at the first dot after the last slash, members of a sample
follow one another. Several pictures in a sample, as robot cameras, have endings such as `wrist.jpg`. What is
no picture is copied bit for bit; a sample with a picture that failed is left out as a whole.
"""

import io
import json
import tarfile
from collections.abc import Generator, Iterator, Mapping
from typing import IO, Any, Literal

from dp3_jax.common.errors import UserError
from dp3_jax.pipelines.dataset.contents import Kind, kind_of
from dp3_jax.pipelines.dataset.format import Found, Reading, Steps
from dp3_jax.pipelines.dataset.rows import Part, Row, Shard
from dp3_jax.pipelines.dataset.storage import Storage
from dp3_jax.pipelines.dataset.treatment import Record, Treatment

KIND = "webdataset"
ENDINGS = (".tar", ".tar.gz", ".tgz")
_MAX_MEMBER = 2 << 30  # bytes

Members = list[tuple[str, bytes]]


def split(name: str) -> tuple[str, str]:
    """A sample's name and a member's ending, of "a/b.c/0001.wrist.jpg": ("a/b.c/0001", "wrist.jpg")."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return folder + slash + stem, ending


def _members(opened: IO[bytes]) -> Generator[tuple[str, bytes]]:
    """Names and contents of an archive's files; raises UserError where it is damaged."""
    try:
        with tarfile.open(fileobj=opened, mode="r|*") as archive:
            for member in archive:
                if member.isdir():
                    continue
                if not member.isreg() or member.size > _MAX_MEMBER:
                    raise UserError(f"{member.name} is a link or too large; repack it as a file")
                content = archive.extractfile(member)
                yield member.name, b"" if content is None else content.read()
            # Python ends silently where an archive is cut between two members: no block of zeros was read.
            if archive.fileobj.tell() == archive.offset:
                raise UserError("the archive ends early: its end mark is missing")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"the archive ends early or is damaged: {error}") from error


def _samples(opened: IO[bytes]) -> Iterator[tuple[str, Members, str]]:
    """Name and members of each sample; last, where the archive is damaged, ("", [], why)."""
    name = ""
    members: Members = []
    found = _members(opened)
    while True:
        try:
            member = next(found, None)
        except UserError as error:
            # The sample at which it broke may not be whole.
            yield "", [], str(error)
            return
        if member is None or (members and split(member[0])[0] != name):
            if members:
                yield name, members, ""
            members = []
        if member is None:
            return
        name = split(member[0])[0]
        members.append(member)


def _columns(members: Members) -> dict[str, Any]:
    """Values of a sample by which records can be linked: of its JSON, and its short texts by ending."""
    columns: dict[str, Any] = {}
    for name, content in members:
        ending = split(name)[1]
        if ending == "json" or ending.endswith(".json"):
            try:
                values = json.loads(content)
            except ValueError:
                continue
            columns |= values if isinstance(values, dict) else {}
        elif ending and len(content) < 1000:
            columns.setdefault(ending, content)
    return columns


class WebDataset:
    """See `format.Format`."""

    def find(
        self, source: Storage, reading: Reading, sizes: Mapping[str, int], done: Mapping[str, Part]
    ) -> Found:
        """A shard for each archive."""
        del source, reading, done
        names = [name for name in sizes if name.lower().endswith(ENDINGS)]
        shards = [Shard(name, KIND, {name: sizes[name]}) for name in names]
        return Found(shards, tuple(name for name in sizes if name not in names))

    def work(
        self, shard: Shard, source: Storage, output: Storage, reading: Reading, treat: Treatment
    ) -> Steps:
        """Sample by sample into an archive of the same name."""
        packed: Literal["w", "w:gz"] = "w" if shard.name.lower().endswith(".tar") else "w:gz"
        with source.open(shard.name) as opened, output.target(shard.name) as path:
            with tarfile.open(path, mode=packed) as written:
                for name, members, damage in _samples(opened):
                    if damage:
                        treat.failed(shard.name, damage)
                        continue
                    kept = yield from _sample(shard.name, name, members, reading, treat)
                    for member, content in kept:
                        entry = tarfile.TarInfo(member)  # without owners and times
                        entry.size, entry.mode = len(content), 0o444
                        written.addfile(entry, io.BytesIO(content))
            size = path.stat().st_size
        treat.made[shard.name] = size


def _sample(
    shard: str, name: str, members: Members, reading: Reading, treat: Treatment
) -> Generator[int, None, Members]:
    """The members of a sample as they are written; none where one of them failed."""
    columns = _columns(members) if treat.links_by_column else {}
    made: Members = []
    rows: list[Row] = []
    for member, content in members:
        source = f"{shard}/{member}"
        kind = Kind.OTHER if reading.is_copied(member) else kind_of(member, content)
        if kind == Kind.OTHER:
            made.append((member, content))
            continue
        yield len(content)
        if kind == Kind.UNKNOWN:
            ending = split(member)[1]
            said = f"it may hold pictures; if it holds none, give --copy {ending}"
            rows.append(Row(source=source, error=said))
            continue
        record = Record(
            source=source,
            output=source,
            content=content,
            name=member,
            samples=(f"{shard}/{name}", member, name),
            columns=columns,
        )
        new, row = treat(record)
        rows.append(row)
        made.append((member, new or b""))
    failed = next((row for row in rows if row.error), None)
    treat.rows += rows if failed is None else [row.without(failed) for row in rows]
    return made if failed is None else []
