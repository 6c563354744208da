import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from dp3_jax.common.errors import UserError
from dp3_jax.data import extended, load_arrays
from dp3_jax.data.options import DataOptions
from tests import data_makers


@pytest.fixture
def sources(tmp_path):
    """20 images in CelebA's layout, and a zip of 128 px WebP files, two of which must not be taken."""
    data_makers.celeba(tmp_path / "celeba", 20)
    held_out = 100 + 19 // 2  # the person of the last, a test image
    rows = {"900001": 5, "900002": 6, "000001": 100, "900003": held_out}
    with zipfile.ZipFile(tmp_path / "extra.zip", "w") as archive:
        for index, stem in enumerate(rows):
            picture = data_makers.photo(50 + index, (128, 128))
            archive.writestr(f"{stem}.webp", data_makers.encoded(picture, "WEBP", lossless=True))
        table = "image_id,identity\n" + "".join(f"{s}.jpg,{i}\n" for s, i in rows.items())
        archive.writestr("identity.csv", table)
    return tmp_path / "celeba", tmp_path / "extra.zip", tmp_path / "packed"


def split(path, name):
    return load_arrays(DataOptions(source="packed", path=str(path), train_examples=0), name)


def test_the_further_images_join_the_train_split_only(sources):
    celeba, archive, output = sources
    line = extended.prepare_extended(*map(str, sources))
    assert "celeba + extra.zip" in line and "22 images" in line
    options = DataOptions(source="celeba", path=str(celeba), train_examples=0)
    train = split(output, "train")
    own = load_arrays(options, "train")
    count = len(own.images)
    assert train.names[count:] == ("900001.webp", "900002.webp")
    np.testing.assert_array_equal(train.images[:count], own.images)
    for index, name in enumerate(train.names[count:]):
        stored = Image.open(io.BytesIO(zipfile.ZipFile(archive).read(name))).convert("RGB")
        np.testing.assert_array_equal(train.images[count + index], np.asarray(stored))
    assert list(train.identities[count:]) == [5, 6]
    for name in ("validation", "test"):
        a, b = split(output, name), load_arrays(options, name)
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.identities, b.identities)


def test_an_archive_without_pictures_is_refused(sources, tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(UserError, match="no further pictures"):
        extended.prepare_extended(
            str(sources[0]), str(tmp_path / "empty.zip"), str(tmp_path / "out")
        )
