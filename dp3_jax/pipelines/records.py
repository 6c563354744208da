"""One photo as bytes: a pure function under the command, and under whatever else feeds it photos.

No file is read or written here but the models' own, which come with the options; the result depends on the
arguments alone.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dp3_jax.detection.detections import Detection
from dp3_jax.media import marking
from dp3_jax.media.alpha import WHITE, over
from dp3_jax.media.photos import Photo, decode_photo, encode_photo
from dp3_jax.pipelines import sidecar, transparency
from dp3_jax.pipelines.allowlist import Allowlist
from dp3_jax.pipelines.anonymize import Anonymizer, Result
from dp3_jax.replacement.face_actions import Done, FaceAction, Settings
from dp3_jax.replacement.options import IdentityOptions


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RecordOptions:
    """What is done with every record.

    Attributes:
      anonymizer: settings and models, loaded once for many records.
      allowed: which faces are left as they are; None for none.
      keep_metadata: write the safe subset of EXIF.
      mark: say in a result that holds generated faces that it does (see `marking`).
    """

    anonymizer: Anonymizer
    allowed: Allowlist | None = None
    keep_metadata: bool = False
    mark: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """A photo that was anonymized.

    Attributes:
      content: of its file.
      sidecar: as of `sidecar.describe`.
      before: u8[h, w, 3], the photo; over white where it is transparent.
      result: the new photo, shown in the same way, and what was done with each face.
      unmarked: whether it should say that faces were generated, and its format cannot.
    """

    content: bytes
    sidecar: dict[str, Any]
    before: np.ndarray
    result: Result
    unmarked: bool


def anonymize_record(
    content: bytes,
    options: RecordOptions,
    key: bytes,
    *,
    faces: Sequence[Detection] | None = None,
    container: str | None = None,
) -> tuple[bytes, dict[str, Any]]:
    """Anonymizes a photo.

    Args:
      content: of a JPEG, PNG, WebP, TIFF or BMP file.
      options: for all records.
      key: 32 bytes that the new faces are drawn from; the same key, options and content give the same bytes.
      faces: where the faces are; None to detect them.
      container: Pillow's name of the format to write; None for the source's.

    Returns:
      The new file's content, and the sidecar's (see sidecar.schema.json), which says what was done with each
      face and holds the keys of the new ones: it is not for release.

    Raises:
      UserError: the photo cannot be read or written, or a model cannot be had.
    """
    photo = decode_photo(content)
    actions = action_list(photo, options, key, faces)
    record = render_record(
        photo, actions, options.anonymizer.settings, options, container=container
    )
    return record.content, record.sidecar


def action_list(
    photo: Photo, options: RecordOptions, key: bytes, faces: Sequence[Detection] | None = None
) -> list[FaceAction]:
    """What to do with the faces of a photo; arguments as of `anonymize_record`."""
    if faces is None:
        faces = transparency.find(options.anonymizer, photo.pixels, photo.alpha)
    actions = options.anonymizer.actions_for(faces, key)
    if options.allowed is None:
        return actions
    reasons = options.allowed.decide(photo.pixels, faces)
    return [
        dataclasses.replace(action, keep=bool(reason), reason=reason)
        for action, reason in zip(actions, reasons, strict=True)
    ]


def render_record(
    photo: Photo,
    actions: Sequence[FaceAction],
    settings: Settings,
    options: RecordOptions,
    *,
    container: str | None = None,
    name: str = "the photo",
) -> Record:
    """Treats the faces of a photo as planned.

    Args:
      photo: as read.
      actions, settings: as of `Anonymizer.render`.
      options: for all records.
      container: Pillow's name of the format to write; None for the source's.
      name: for messages.

    Raises:
      UserError: the format cannot hold the photo, or a model cannot be had.
    """
    anonymizer = options.anonymizer
    result, alpha = transparency.render(anonymizer, photo.pixels, photo.alpha, actions, settings)
    drawn = any(face_result.done == Done.GENERATED for face_result in result.face_results)
    used = (anonymizer.renderer.fingerprint, identity_of(anonymizer)) if drawn else (None,)
    description = sidecar.describe(photo.pixels.shape, result.face_results, settings, *used)
    after = dataclasses.replace(photo.with_pixels(result.frame), alpha=alpha)
    mark = options.mark and drawn
    content = encode_photo(
        after, container, keep_metadata=options.keep_metadata, mark=mark, name=name
    )
    unmarked = mark and not marking.holds_mark(content)
    before, shown = photo.pixels, result
    if photo.alpha is not None and alpha is not None:
        before = over(photo.pixels, photo.alpha, WHITE)
        frame = over(result.frame, alpha, WHITE)
        shown = dataclasses.replace(result, frame=frame)
    return Record(content, description, before, shown, unmarked)


def identity_of(anonymizer: Anonymizer) -> IdentityOptions:
    """Where new faces come from, as it was decided."""
    return dataclasses.replace(anonymizer.identity, source=anonymizer.renderer.identity)
