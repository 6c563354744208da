"""What passes of how people move: the vectors in the tracks files of clips, for the attack on movement."""

from collections.abc import Sequence

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.evaluation.attacks import FaceSet
from dp3_jax.evaluation.audit.clips import read_tracking
from dp3_jax.evaluation.audit.pairing import Pair
from dp3_jax.evaluation.clip_people import people_of
from dp3_jax.media.video.reading import open_video


def movement(pairs: Sequence[Pair]) -> FaceSet:
    """Faces without pictures: for each person in a clip with a tracks file the vectors that passed.

    Rows of a person follow each other, as many a second as `attacks.motion` wants.
    """
    vectors, owners, names = [np.zeros((0, len(FaceVector._fields)))], [], []
    for pair in pairs:
        try:
            tracking = read_tracking(pair.anonymized) if pair.is_video else None
            if tracking is None:
                continue
            found = people_of(tracking, float(open_video(pair.original).rate), pair.name)
        except UserError:
            continue  # it was named where the files were looked at
        for person in found:
            vectors.append(person.vectors)
            owners += [len(names)] * len(person.vectors)
            names.append(person.name)
    stacked = np.concatenate(vectors).astype(np.float32)
    nothing = np.broadcast_to(np.uint8(0), (len(stacked), 128, 128, 3))
    return FaceSet(
        originals=nothing,
        anonymized=nothing,
        masks=np.broadcast_to(False, nothing.shape[:3]),
        people=np.array(owners, np.int64),
        conditioning=stacked,
        files=tuple(names[owner] for owner in owners),
    )
