"""One photo of a review: what its sidecar says, and its result made anew from that."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.media import marking
from dp3_jax.media.photos import Photo, container_of, decode_photo, read_bytes, replace_file
from dp3_jax.pipelines import records, sidecar
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.options import IdentityOptions
from dp3_jax.review import edits, shown
from dp3_jax.review.library import Item
from dp3_jax.review.models import Models
from dp3_jax.review.risks import face_risks


@dataclasses.dataclass(frozen=True)
class PhotoItem:
    """A photo, as `session` works on it.

    Attributes:
      item: its files.
      models: what draws new faces.
    """

    item: Item
    models: Models

    actions = edits.PHOTO_ACTIONS
    at_once = True  # the result is written with each edit

    def read(self) -> bytes | None:
        """The sidecar; None where there is none.

        Raises:
          UserError: it cannot be read.
        """
        if not self.item.sidecar.is_file():
            return None
        try:
            return self.item.sidecar.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {self.item.sidecar}: {error.strerror}") from error

    def describe(self, content: bytes) -> dict[str, Any]:
        """What the page shows of a sidecar; no keys.

        Raises:
          UserError: it is no sidecar.
        """
        known = self._parsed(content)
        size = [known["photo"].get("width"), known["photo"].get("height")]
        # Somebody may have edited it by hand; it says what is wrong.
        sidecar.parse(known, size[::-1], key_derivation.new_master_key(), str(self.item.sidecar))
        faces = [_described(face, index) for index, face in enumerate(known["faces"])]
        return {"size": size, "method": known["settings"].get("method"), "faces": faces}

    def changed(self, content: bytes, edit: edits.Edit) -> tuple[bytes, int | None]:
        """A sidecar after an edit, and the face that this was of; raises as `edits.apply`."""
        if edit.box is not None and edit.action in ("missed", "adjust"):
            edit = self._assisted(edit)
        new, face = edits.apply(self._parsed(content), edit)
        return _encoded(new), face

    def render(self, content: bytes, note: Any) -> None:
        """Writes the result that a sidecar asks for, and the sidecar as it then reads.

        Args:
          content: of the sidecar.
          note: called with the new sidecar's content before it is written.

        Raises:
          UserError: the original is gone or another, or a file cannot be written.
        """
        self._write(self.models.run(self._work(content)), note)

    def prepare(self, content: bytes) -> None:
        """Draws the faces in the background, for nothing but that a change finds the others drawn."""

        def work() -> None:
            with contextlib.suppress(UserError):
                self._work(content)()

        self.models.later(work)

    def _work(self, content: bytes) -> Callable[[], records.Record]:
        """What makes the result that a sidecar asks for; raises as `render`, now or when it is called."""
        known, where = self._parsed(content), str(self.item.sidecar)
        identity = sidecar.parse_identity(known, where)
        photo = self._original()
        actions, settings, _ = sidecar.parse(
            known, photo.pixels.shape, key_derivation.new_master_key(), where
        )
        options = self._options(self.models.anonymizer(identity), known)
        return lambda: records.render_record(
            photo,
            actions,
            settings,
            options,
            container=container_of(self.item.result),
            name=str(self.item.result),
        )

    def first(self, note: Any) -> bytes:
        """Finds the faces of the original, and writes a result and a sidecar; the latter's content."""
        photo = self._original()
        anonymizer = self.models.anonymizer(None)
        options = self._options(anonymizer, {})

        def work() -> records.Record:
            actions = records.action_list(photo, options, key_derivation.new_master_key())
            return records.render_record(
                photo,
                actions,
                anonymizer.settings,
                options,
                container=container_of(self.item.result),
                name=str(self.item.result),
            )

        return self._write(self.models.run(work), note)

    def remark(self, content: bytes, face: int | None, frame: int | None) -> dict[str, Any]:
        """What a remark on a face says besides what the user did; see `data.feedback`."""
        del frame
        known = self._parsed(content)
        common = {
            "size": (known["photo"]["width"], known["photo"]["height"]),
            "identity": known.get("identity"),
            "generator": known.get("generator"),
        }
        if face is None or face >= len(known["faces"]):
            return common
        one = known["faces"][face]
        return common | {
            "face": face,
            "box": tuple(one["box"]),
            "points": one.get("points"),
            "confidence": one.get("confidence"),
            "key": one.get("key"),
            "candidate": one.get("candidate"),
            "vector": one.get("vector"),
            "method": one.get("method") or known["settings"].get("method"),
            "done": one.get("done"),
        }

    def keys(self, content: bytes) -> dict[int, str]:
        """The keys of the faces, hexadecimal, by index."""
        return {i: face.get("key") or "" for i, face in enumerate(self._parsed(content)["faces"])}

    def _original(self) -> Photo:
        if self.item.source is None:
            raise UserError(f"{self.item.name}: {self.item.problem}")
        return shown.photo_of(self.item.source)

    def _parsed(self, content: bytes) -> dict[str, Any]:
        return parsed(content, str(self.item.sidecar), sidecar.FORMAT, ("photo", "faces"))

    def _assisted(self, edit: edits.Edit) -> edits.Edit:
        """A drawn box laid on the face that it means, where one is found."""
        found = self.models.face_near(self._original().pixels, edit.box)
        if found is None:
            return edit
        points = (
            None if found.keypoints is None else np.asarray(found.keypoints, np.float64).tolist()
        )
        return dataclasses.replace(edit, box=tuple(map(float, found.box)), points=points)

    def _options(self, anonymizer: Anonymizer, known: Mapping[str, Any]) -> records.RecordOptions:
        """What a new result has like the one before: metadata that were kept, a mark that was left out."""
        keep, mark = False, True
        if self.item.result.is_file() and known:
            content = read_bytes(self.item.result)
            keep = bool(decode_photo(content, str(self.item.result)).exif)
            drawn = any(face.get("done") == "generated" for face in known["faces"])
            mark = marking.holds_mark(content) or not drawn
        return records.RecordOptions(anonymizer=anonymizer, keep_metadata=keep, mark=mark)

    def _write(self, record: records.Record, note: Any) -> bytes:
        content = _encoded(record.sidecar)
        note(content)
        replace_file(self.item.sidecar, content)
        # The result comes last: where it is, all of the photo is done.
        replace_file(self.item.result, record.content)
        if self.item.manifest is not None and self.item.source is not None:
            self.item.manifest.rewrite(self.item.source, self.item.result, record.content)
        return content

    def identity(self, content: bytes) -> IdentityOptions | None:
        """Where the sidecar's new faces come from."""
        return sidecar.parse_identity(self._parsed(content), str(self.item.sidecar))


def parsed(content: bytes, where: str, form: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """Decoded JSON of a sidecar that has at least what a page needs of it.

    Raises:
      UserError: it is not that; `where` names the file.
    """
    try:
        known = json.loads(content)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}") from error
    if not isinstance(known, dict) or known.get("format") != form:
        raise UserError(f"{where} is no file of the form {form!r}")
    if missing := [name for name in (*needed, "settings") if name not in known]:
        raise UserError(f"{where}: {missing[0]} is missing")
    return known


def _encoded(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _described(face: Mapping[str, Any], index: int) -> dict[str, Any]:
    names = ("box", "confidence", "source", "keep", "method", "done", "reason")
    known = {"confidence": 1.0, "keep": False, **face}  # as when it is read
    return {"number": index, **{n: known.get(n) for n in names}, "risks": face_risks(known)}
