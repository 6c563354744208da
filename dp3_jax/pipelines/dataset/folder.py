"""Folders of photos and clips, each a file; see `format.Format`."""

import hashlib
from collections.abc import Mapping

from dp3_jax.common.errors import UserError
from dp3_jax.media.names import is_video_name
from dp3_jax.media.photos import is_photo_name
from dp3_jax.pipelines.dataset import storage
from dp3_jax.pipelines.dataset.format import Found, Reading, Steps
from dp3_jax.pipelines.dataset.rows import Part, Shard
from dp3_jax.pipelines.dataset.storage import Storage
from dp3_jax.pipelines.dataset.treatment import Record, Treatment

KIND = "folder"


def chunked(
    sizes: Mapping[str, int], done: Mapping[str, Part], kind: str, count: int
) -> list[Shard]:
    """Files in shards: those of shards that are done stay together, the others are put together anew.

    Args:
      sizes: bytes of the files, by name.
      done: by shard.
      kind: of the shards.
      count: files of a shard.
    """
    left = dict(sizes)
    shards = []
    for name, part in done.items():
        if name.startswith(f"{kind}-") and all(
            left.get(one) == size for one, size in part.inputs.items()
        ):
            shards.append(Shard(name, kind, dict(part.inputs)))
            for one in part.inputs:
                del left[one]
    names = sorted(left)
    for start in range(0, len(names), count):
        chunk = {name: left[name] for name in names[start : start + count]}
        digest = hashlib.sha256("\n".join(chunk).encode()).hexdigest()[:16]
        shards.append(Shard(f"{kind}-{digest}", kind, chunk))
    return shards


def treat_file(
    name: str, content: bytes, output: Storage, treat: Treatment, key_name: str = ""
) -> None:
    """Anonymizes one file into the output, where it has the same name."""
    made, row = treat(Record(source=key_name or name, output=name, content=content, name=name))
    treat.rows.append(row)
    if made is None:
        output.remove(name)  # which an earlier try may have written
        return
    storage.write(output, name, made)
    treat.made[name] = len(made)


class Folder:
    """See `format.Format`."""

    def find(
        self, source: Storage, reading: Reading, sizes: Mapping[str, int], done: Mapping[str, Part]
    ) -> Found:
        """All photos and clips; other files are left alone."""
        del source
        ours = {n: size for n, size in sizes.items() if is_photo_name(n) or is_video_name(n)}
        shards = chunked(ours, done, KIND, reading.shard_records)
        return Found(shards, tuple(name for name in sizes if name not in ours))

    def work(
        self, shard: Shard, source: Storage, output: Storage, reading: Reading, treat: Treatment
    ) -> Steps:
        """File by file."""
        del reading
        for name, size in shard.inputs.items():
            yield size
            try:
                content = storage.read(source, name)
            except UserError as error:
                treat.failed(name, error)
                output.remove(name)
                continue
            treat_file(name, content, output, treat)
