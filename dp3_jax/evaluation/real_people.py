"""Photos of real people as a source of identities: what generated ones are measured against.

Never shown, and no part of what the product offers: whoever is in these photos did not agree to lend a face.
"""

import hashlib

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.models.age_sex import AgeSex
from dp3_jax.models.mesh import Expression, FaceMesh, Pose, five_points
from dp3_jax.replacement.attributes import ita, skin
from dp3_jax.replacement.identities import Classes, Rendering, age_band, tone_band
from dp3_jax.vision.masks import CANONICAL_POINTS

NEAREST = 24  # photos by pose that a key chooses among
_MIN_SCORE = 0.5  # of a mesh
_TRIES = 10 * NEAREST  # of a key to find someone whom no other key has


class RealPeople:
    """An `IdentitySource`: of the photos that fit the classes, the key takes one of those nearest in pose.

    Every photo is a person. A key takes the same one of the same choice; expressions are as they are.
    """

    name = "real people"

    def __init__(self, photos: np.ndarray):
        """Measures the photos, about 8 ms each.

        Args:
          photos: u8[N, 128, 128, 3] in the canonical frame.

        Raises:
          UserError: a network cannot be fetched, or too few photos show a face.
        """
        network, reader = FaceMesh(), AgeSex()
        self._renderings: list[Rendering] = []
        classes = []
        for number, photo in enumerate(photos):
            mesh, score = network.points(photo, five=CANONICAL_POINTS)
            if score < _MIN_SCORE:
                continue
            five = five_points(mesh)
            age, female = reader(photo, five)
            classes.append((female >= 0.5, age_band(age), tone_band(ita(*skin(photo, mesh)))))
            self._renderings.append(
                Rendering.of_mesh(photo, mesh, clamped=False, person=str(number))
            )
        if len(self._renderings) < 2 * NEAREST:
            raise UserError(
                f"faces in {len(self._renderings)} of {len(photos)} photos are too few for a comparison with "
                "real people; evaluate with data of at least 100 photos to train on"
            )
        self._female = np.array([c[0] for c in classes])
        self._age = np.array([c[1] for c in classes])
        self._tone = np.array([c[2] for c in classes])
        self._poses = np.array([r.pose[:2] for r in self._renderings])
        self.fingerprint = hashlib.sha256(photos.tobytes()).hexdigest()

    def render(
        self,
        key: bytes,
        classes: Classes,
        pose: Pose | None,
        expression: Expression | None,
        size: int,
        *,
        mended: bool = True,
    ) -> Rendering:
        """See `IdentitySource.render`; the picture has 128 px whatever `size` says."""
        del expression, size, mended
        fits = np.ones(len(self._renderings), bool)
        # The least important is asked last: where too few are left, it is not asked.
        asked = (
            None if classes.female is None else self._female == classes.female,
            None if classes.tone is None else np.abs(self._tone - classes.tone) <= 1,
            None if classes.age is None else self._age == classes.age,
        )
        for fit in asked:
            if fit is not None and (fits & fit).sum() >= NEAREST:
                fits &= fit
        rows = np.flatnonzero(fits)
        if pose is not None:
            apart = np.linalg.norm(self._poses[rows] - np.array(pose[:2]), axis=1)
            rows = rows[np.argsort(apart, kind="stable")[:NEAREST]]

        def rank(row: int) -> bytes:
            return hashlib.sha256(key + self._renderings[row].person.encode()).digest()

        return self._renderings[min(rows, key=rank)]


class OnePerson:
    """An `IdentitySource` for clips: a key stays with the photo that it took first, whatever the pose asked.

    What a track is given is one photo, which is turned and made to speak as a generated person's pictures
    are. No two keys take the same photo, so that two keys are two people.
    """

    def __init__(self, source: RealPeople):
        """`source` lends the photos."""
        self._source = source
        self._taken: dict[bytes, Rendering] = {}
        self.name, self.fingerprint = source.name, f"one photo each of {source.fingerprint}"

    def render(
        self,
        key: bytes,
        classes: Classes,
        pose: Pose | None,
        expression: Expression | None,
        size: int,
        *,
        mended: bool = True,
    ) -> Rendering:
        """See `IdentitySource.render`.

        Raises:
          ValueError: all photos that fit are taken.
        """
        if key not in self._taken:
            used = {rendering.person for rendering in self._taken.values()}
            for number in range(_TRIES):
                again = hashlib.sha256(key + number.to_bytes(2, "big")).digest()
                found = self._source.render(again, classes, pose, expression, size)
                if found.person not in used:
                    break
            else:
                raise ValueError("there is no further person who fits")
            self._taken[key] = found
        return self._taken[key]
