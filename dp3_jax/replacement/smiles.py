"""A smile that the user asks for, or a serious face: it goes before the mouth of the original face.

Both are one mouth for everybody. Wider smiles with closed lips pull a whole face apart, and less wide
ones are not seen as one.
"""

from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.models.mesh import Expression

SMILING = Expression(0.12, 0.98, 0.0)  # eye distances: teeth show
SERIOUS = Expression(0.0, 0.80, 0.0)


def mouth_of(smile: bool, shown: Expression | None = None) -> Expression:
    """The mouth that is wished for.

    Args:
      smile: one, or a serious face.
      shown: in clips, of the original: how far it is open still passes, so that new faces speak;
        None: nothing passes.
    """
    wished = SMILING if smile else SERIOUS
    if shown is None:
        return wished
    return wished._replace(mouth_opening=max(wished.mouth_opening, shown.mouth_opening))


def wished(vector: FaceVector, smile: bool | None, *, speaks: bool = False) -> FaceVector:
    """A vector with the mouth that is wished for; as it is without a wish.

    Args:
      vector: of the original.
      smile: as of `identities.Wishes`.
      speaks: in clips, as of `mouth_of`.
    """
    if smile is None:
        return vector
    mouth = mouth_of(smile, vector.expression if speaks else None)
    return vector._replace(mouth_opening=mouth.mouth_opening, mouth_width=mouth.mouth_width)
