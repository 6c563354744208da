"""Persons for small faces: few, the same for everybody, whose renderings stay on the disk.

In a crowd at a distance hundreds of faces pass, and to make a person for each takes longer than all the rest.
Of a face less than 80 px high nobody sees who it is, so such faces share PERSONS persons within each class,
and what was rendered of them once is read the next time. Which of them a face gets, its key says. What is
stored tells nothing of any photo or key: it is what any other user's disk holds too.
"""

import contextlib
import functools
import hashlib
import pathlib

import cv2
import numpy as np

from dp3_jax.common import assets, files
from dp3_jax.common.errors import UserError
from dp3_jax.models.mesh import POINTS, Expression, Pose
from dp3_jax.replacement.identities import Classes, IdentitySource, Rendering

PERSONS = 24  # within each of `Classes`
SMALL = 128  # px of their renderings
MAX_FILES = 3000  # some 35 kB each
_FOLDER = "persons"


def shared_key(key: bytes) -> bytes:
    """The key, 32 bytes, of the one of the PERSONS persons that a face with `key` gets."""
    number = int.from_bytes(hashlib.sha256(b"dp3 small face" + key).digest()[:8], "big") % PERSONS
    return hashlib.sha256(f"dp3 person {number}".encode()).digest()


class StoredPersons:
    """See `identities.IdentitySource`: another source's persons, those of SMALL px kept on the disk.

    Keys of small ones are `shared_key`s.
    """

    def __init__(self, source: IdentitySource, folder: pathlib.Path | None = None):
        """`folder` for the renderings; the cache of assets by default. Without room nothing is kept."""
        self._source = source
        self.name, self.fingerprint = source.name, source.fingerprint
        root = assets.cache_folder() / _FOLDER if folder is None else folder
        self._folder = root / hashlib.sha256(source.fingerprint.encode()).hexdigest()[:16]
        self._render = functools.partial(source.render, mended=False)

    def render(
        self,
        key: bytes,
        classes: Classes,
        pose: Pose | None,
        expression: Expression | None,
        size: int,
        *,
        mended: bool = False,
    ) -> Rendering:
        """See `identities.IdentitySource.render`; the same whether it was stored or not, never mended."""
        del mended
        if size != SMALL:
            return self._render(key, classes, pose, expression, size)
        asked = repr((key, tuple(classes), pose, expression)).encode()
        path = self._folder / f"{hashlib.sha256(asked).hexdigest()[:24]}.person"
        if (stored := _read(path)) is not None:
            return stored
        made = self._render(key, classes, pose, expression, size)
        with contextlib.suppress(OSError, UserError):
            self._keep(path, made)
        return made

    def _keep(self, path: pathlib.Path, made: Rendering) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, _packed(made))
        kept = sorted(self._folder.glob("*.person"), key=lambda one: one.stat().st_mtime)
        if len(kept) > MAX_FILES:
            for old in kept[: MAX_FILES // 10]:
                files.remove(old)


def _packed(made: Rendering) -> bytes:
    """A digest, then the mesh f32[468, 3], whether the pose was clamped, the name, and the picture."""
    mesh = np.column_stack([made.mesh, made.depth]).astype("<f4")
    name = made.person.encode()
    picture = cv2.imencode(".png", made.image[..., ::-1])[1].tobytes()
    content = mesh.tobytes() + bytes([made.clamped]) + len(name).to_bytes(2, "big") + name + picture
    return hashlib.sha256(content).digest() + content


def _read(path: pathlib.Path) -> Rendering | None:
    """What `_packed` gave; None where there is none, or it was damaged."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    digest, content = stored[:32], stored[32:]
    if hashlib.sha256(content).digest() != digest:
        return None
    size = POINTS * 3 * 4
    mesh = np.frombuffer(content[:size], "<f4").reshape(POINTS, 3).astype(np.float32)
    clamped, length = bool(content[size]), int.from_bytes(content[size + 1 : size + 3], "big")
    name = content[size + 3 : size + 3 + length].decode()
    picture = np.frombuffer(content[size + 3 + length :], np.uint8)
    image = np.ascontiguousarray(cv2.imdecode(picture, cv2.IMREAD_COLOR)[..., ::-1])
    return Rendering.of_mesh(image, mesh, clamped=clamped, person=name)
