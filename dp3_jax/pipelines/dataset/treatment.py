"""Anonymizing the records of a shard, one after the other, and what is written down of each."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from dp3_jax.common.errors import UserError
from dp3_jax.media.photos import container_of, decode_photo, is_photo_name
from dp3_jax.pipelines import records
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.dataset.contents import Kind, kind_of
from dp3_jax.pipelines.dataset.links import Links
from dp3_jax.pipelines.dataset.rows import COPIED, Row
from dp3_jax.pipelines.dataset.storage import NotWrittenError
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.face_actions import FaceAction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is done with every record; goes to the workers.

    Attributes:
      anonymizer: arguments of `Anonymizer`.
      master_key: that the keys of all records are made from.
      links: which records share a person.
      keep_metadata, mark: as of `RecordOptions`.
    """

    anonymizer: Mapping[str, Any]
    master_key: bytes
    links: Links | None = None
    keep_metadata: bool = False
    mark: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A record to be anonymized.

    Attributes:
      source, output: its names, as of `Row`.
      content: of its file.
      name: that tells its kind and what is written: with an ending, or "" for the content's own.
      samples: other names under which a file of links may have it.
      columns: values of its sample, by column.
    """

    source: str
    output: str
    content: bytes
    name: str = ""
    samples: tuple[str, ...] = ()
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def sha256(content: bytes) -> str:
    """Hexadecimal; of nothing, "" ."""
    return hashlib.sha256(content).hexdigest() if content else ""


class Models:
    """What is loaded once for all records of a worker."""

    def __init__(self, settings: Settings):
        """Loads it, so that what is missing is said before the first record.

        Raises:
          UserError: a model is missing, or a setting is wrong.
        """
        self._settings = settings
        self.anonymizer = Anonymizer(**settings.anonymizer)
        _ = self.anonymizer.detector
        if self.anonymizer.settings.method == "generate":
            _ = self.anonymizer.renderer
        options: dict[str, Any] = {"keep_metadata": settings.keep_metadata, "mark": settings.mark}
        self._photos = records.RecordOptions(anonymizer=self.anonymizer, **options)
        self._more = options

    @property
    def link_column(self) -> str:
        """Whose values say which records share a person; "" for none."""
        return self._settings.links.column if self._settings.links else ""

    def person_of(self, record: Record) -> str | None:
        """The ID of the person that a record shows, if the user gave one."""
        links = self._settings.links
        return links.of((record.source, *record.samples), record.columns) if links else None

    def anonymized(self, record: Record) -> tuple[bytes, list[str]]:
        """The new content, and what was done with each face, or track of a clip.

        Raises:
          UserError: the record cannot be read or written.
        """
        kind = kind_of(record.name, record.content)
        master = self._settings.master_key
        key = key_derivation.derived_key(master, f"dp3 record {record.source}")
        person = self.person_of(record)
        shared = key_derivation.derived_key(master, f"dp3 person {person}") if person else None
        if kind == Kind.CLIP:
            return self._clip(record, shared or key)
        if kind != Kind.PICTURE:
            raise UserError("it is no picture or clip that can be read; convert it first")
        return self._photo(record, key, shared)

    def _photo(self, record: Record, key: bytes, shared: bytes | None) -> tuple[bytes, list[str]]:
        photo = decode_photo(record.content)
        actions = records.action_list(photo, self._photos, key)
        if shared:
            actions = with_person(actions, shared)
        container = container_of(record.name) if is_photo_name(record.name) else None
        settings = self.anonymizer.settings
        made = records.render_record(photo, actions, settings, self._photos, container=container)
        return made.content, [str(result.done) for result in made.result.face_results]

    def _clip(self, record: Record, key: bytes) -> tuple[bytes, list[str]]:
        from dp3_jax.pipelines import clips  # loads FFmpeg

        options = clips.ClipOptions(anonymizer=self.anonymizer, **self._more)
        ending = record.name[record.name.rfind(".") :].lower() if "." in record.name else None
        content, report = clips.anonymize_clip(record.content, options, key, ending=ending)
        return content, report["actions"]


def with_person(actions: list[FaceAction], shared: bytes) -> list[FaceAction]:
    """The actions with a shared person on the largest face; all others keep their own."""
    if not actions:
        return actions
    areas = [action.face.box[2] * action.face.box[3] for action in actions]
    largest = areas.index(max(areas))
    key = key_derivation.track_key(shared, 0)
    return [
        dataclasses.replace(action, key=key) if number == largest else action
        for number, action in enumerate(actions)
    ]


class Treatment:
    """The records of one shard.

    Attributes:
      number: of the step that the shard is at; who takes the steps counts them.
      rows: of the records so far.
      made: bytes of the files that were written, by name.
      linked: how many records share their person with others.
    """

    def __init__(self, models: Models, skipped: Mapping[int, str]):
        """`skipped`: steps whose records are not tried, and why."""
        self._models, self._skipped = models, skipped
        self.number = 0
        self.rows: list[Row] = []
        self.made: dict[str, int] = {}
        self.linked = 0

    @property
    def links_by_column(self) -> bool:
        """Whether columns say which records share a person."""
        return bool(self._models.link_column)

    def link_columns(self, names: Sequence[str]) -> list[str]:
        """Those of the columns `names` that say which records share a person.

        Raises:
          UserError: the one that does is not among them.
        """
        column = self._models.link_column
        if column and column not in names:
            raise UserError(f"there is no column {column!r} for --link-people: {', '.join(names)}")
        return [column] if column else []

    def __call__(self, record: Record) -> tuple[bytes | None, Row]:
        """The new content of a record, and its row, which is not yet among the rows; None if it failed."""
        row = Row(source=record.source, input_sha256=sha256(record.content))
        try:
            if self.number in self._skipped:
                raise UserError(self._skipped[self.number])
            content, actions = self._models.anonymized(record)
        except UserError as error:
            return None, dataclasses.replace(row, error=" ".join(str(error).split()))
        except Exception as error:  # one record that hits a bug does not stop a million others
            reason = " ".join(str(error).split())
            said = f"{type(error).__name__}: {reason} (please report this)"
            return None, dataclasses.replace(row, error=said)
        self.linked += self._models.person_of(record) is not None
        row = dataclasses.replace(
            row,
            output=record.output,
            output_sha256=sha256(content),
            faces=len(actions),
            actions=tuple(actions),
        )
        return content, row

    def failed(self, source: str, error: Exception | str) -> None:
        """Writes down that something could not be read.

        Raises:
          NotWrittenError: it was not the input's fault.
        """
        if isinstance(error, NotWrittenError):
            raise error
        said = " ".join(str(error).split()) or type(error).__name__
        self.rows.append(Row(source=source, error=said))

    def copied(self, source: str, output: str, content: bytes) -> None:
        """Writes down that a file without pictures was copied."""
        digest = sha256(content)
        self.rows.append(
            Row(
                source=source,
                output=output,
                input_sha256=digest,
                output_sha256=digest,
                actions=(COPIED,),
            )
        )
