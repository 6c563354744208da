"""The canonical views of a folder of clips as a data set of images, split by person as their pairs are."""

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.data.catalog import Catalog
from dp3_jax.data.clips import Pairs
from dp3_jax.data.options import SPLITS, DataOptions


def open_clip_views(options: DataOptions) -> Catalog:
    """Both views of every pair of `clips`: those that are trained on as train, the others as validation.

    Raises:
      UserError: as `clips.Pairs`, or the options ask for another size.
    """
    pairs = Pairs(options.path, options.clips_held_out)
    side = pairs.train["clip_first"].shape[1]
    if side != options.image_size:
        raise UserError(
            f"the clips' faces in {options.path} are cut out at {side} px, data.image_size is "
            f"{options.image_size}"
        )
    views, names, partitions, people = [], [], [], []
    for split, arrays in (("train", pairs.train), ("validation", pairs.heldout)):
        for view in ("first", "second"):
            images = arrays[f"clip_{view}"]
            views += list(images)
            names += [f"{name}:{i}:{view}" for i, name in enumerate(arrays["clip_name"])]
            partitions += [SPLITS.index(split)] * len(images)
            people += arrays["clip_person"].tolist()
    return Catalog(
        title=f"clips in {options.path}",
        names=tuple(names),
        partitions=np.array(partitions, np.int8),
        identities=np.array(people, np.int32),
        load=lambda example, _: views[example].copy(),
        partition_note="split by person",
    )
