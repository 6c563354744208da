"""Small data sets in every format, and a stand-in for the models that inverts pictures."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from dp3_jax.common.errors import UserError
from dp3_jax.media.photos import decode_photo, encode_photo
from dp3_jax.pipelines.dataset import links, rows, storage, worker
from dp3_jax.pipelines.dataset.contents import Kind, kind_of
from dp3_jax.pipelines.dataset.format import Reading
from dp3_jax.pipelines.dataset.treatment import Settings
from tests.face_photos import MASTER_KEY

SETTINGS = Settings(anonymizer={"method": "blur"}, master_key=MASTER_KEY)


def picture(number, container="PNG"):
    """The content of a small picture that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
    opened = io.BytesIO()
    Image.fromarray(pixels).save(opened, container)
    return opened.getvalue()


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def is_new(old, new):
    """Whether a picture is what the stand-in makes of another one."""
    return np.array_equal(pixels(new), 255 - pixels(old))


class Inverter:
    """Stands for `Models`: inverts pictures, and notes whose records share a person."""

    link_column = ""

    def __init__(self, linked=None):
        self.linked = linked
        self.link_column = linked.column if linked else ""
        self.seen = []

    def person_of(self, record):
        return self.linked and self.linked.of((record.source, *record.samples), record.columns)

    def anonymized(self, record):
        self.seen.append((record.source, self.person_of(record)))
        if kind_of(record.name, record.content) != Kind.PICTURE:
            raise UserError("no picture")
        photo = decode_photo(record.content)
        return encode_photo(photo.with_pixels(255 - photo.pixels)), ["blurred"]


def run(source, output, kind, *, models=None, reading=None, skipped=None, link=None):
    """Does all that is left to do, in this process; the manifest's rows by source."""
    pytest.importorskip("pyarrow")
    reading = reading or Reading()
    models = models or Inverter(link and links.open_links(link))
    work = worker.Work(source=str(source), output=str(output), reading=reading, settings=SETTINGS)
    one = worker.Worker(work, models)
    opened, target = storage.open_storage(str(source)), storage.open_storage(str(output))
    ledger = rows.Ledger(target, rows.part_files(target))
    found = worker.FORMATS[kind].find(opened, reading, opened.sizes(), ledger.parts)
    there = target.sizes()
    for shard in found.shards:
        part = ledger.parts.get(shard.name)
        if part is None or not part.holds(shard, there):
            list(one.run(shard, skipped, every_step=True))
    rows.Ledger(target, rows.part_files(target)).merge()
    return manifest(target)


def manifest(target):
    import pyarrow.parquet as pq

    with target.open(rows.MANIFEST) as opened:
        found = pq.read_table(opened).to_pylist()
    by_source = {row["source"]: row for row in found}
    assert len(by_source) == len(found)  # none twice
    return by_source


def tar(path, members):
    """An archive of (name, content)."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def untar(path):
    with tarfile.open(path) as archive:
        return [(m.name, archive.extractfile(m).read()) for m in archive]


def json_bytes(**values):
    return json.dumps(values).encode()
