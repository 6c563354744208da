"""A photo as bytes, there and back; and faces that lie in a photo's transparency."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from dp3_jax.common.errors import UserError
from dp3_jax.media import alpha as alpha_
from dp3_jax.media import photos
from dp3_jax.pipelines import records, sidecar, transparency
from dp3_jax.pipelines.anonymize import Anonymizer
from tests.face_photos import (
    MASTER_KEY,
    Painter,
    astronaut,
    detector_or_skip,
    everyone,
    face,
    masked,
    stand_in_generator,
)


@pytest.fixture
def options(monkeypatch):
    stand_in_generator(monkeypatch)
    return records.RecordOptions(anonymizer=Anonymizer(generator=Painter()))


def saved(pixels, container="PNG", mode=None, **more):
    opened = io.BytesIO()
    Image.fromarray(pixels, mode).save(opened, container, **more)
    return opened.getvalue()


def shown(content, background=255):
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    below = Image.new("RGBA", image.size, (background,) * 3 + (255,))
    return np.asarray(Image.alpha_composite(below, image).convert("RGB"))


@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_the_same_key_gives_the_same_bytes_in_every_format(options, container):
    source = saved(astronaut(), container)
    first, again = (
        records.anonymize_record(source, options, MASTER_KEY, faces=[face()]) for _ in range(2)
    )
    assert first == again and Image.open(io.BytesIO(first[0])).format == container
    other, _ = records.anonymize_record(source, options, b"x" * 32, faces=[face()])
    assert other != first[0]
    actions, _, _ = sidecar.parse(
        json.loads(json.dumps(first[1])), (512, 512), MASTER_KEY, "sidecar"
    )
    assert len(actions) == 1 and first[1]["faces"][0]["done"] == "generated"


def test_another_format_can_be_asked_for(options):
    source = saved(astronaut())
    content, _ = records.anonymize_record(source, options, MASTER_KEY, faces=[], container="JPEG")
    assert Image.open(io.BytesIO(content)).format == "JPEG"


def test_a_record_that_is_no_photo_is_refused_in_one_line(options):
    for content in (b"", b"hello", saved(astronaut())[:5000]):
        with pytest.raises(UserError) as raised:
            records.anonymize_record(content, options, MASTER_KEY)
        assert "\n" not in str(raised.value)


# Transparency.


def grey_alpha(inverted):
    """u8[512, 512, 4]: all black or all white; the picture is in the transparency."""
    grey = np.asarray(Image.fromarray(astronaut()).convert("L"))
    colour = np.zeros((512, 512, 3), np.uint8)
    return np.dstack([colour, 255 - grey] if inverted else [colour + 255, grey])


@pytest.mark.parametrize("inverted", [True, False])
def test_a_face_in_the_transparency_is_found_and_nothing_of_it_stays(options, inverted):
    source = grey_alpha(inverted)
    photo = photos.decode_photo(saved(source))
    anonymizer = Anonymizer()
    anonymizer.detector = detector_or_skip()
    found = transparency.find(anonymizer, photo.pixels, photo.alpha)
    assert len([one for one in found if one.confidence > 0.8]) == 1
    record, _ = records.anonymize_record(saved(source), options, MASTER_KEY, faces=found)
    result = np.asarray(Image.open(io.BytesIO(record)))
    changed = (result != source).any(-1)
    assert not changed[~masked(found[0])].any() and (result[masked(found[0]), 3] == 255).all()
    other = source.copy()  # a second face under the same mask
    inside = masked(found[0])
    other[inside, 3] = np.random.default_rng(0).integers(0, 256, inside.sum())
    assert records.anonymize_record(saved(other), options, MASTER_KEY, faces=found)[0] == record


@pytest.mark.parametrize("kind", ["dithered", "stencil"])
def test_a_face_in_two_levels_of_transparency_goes_too(options, kind):
    grey = Image.fromarray(astronaut()).convert("L")
    levels = np.asarray(grey.convert("1")) * 255 if kind == "dithered" else None
    levels = (np.asarray(grey) > 110) * 255 if levels is None else levels
    alpha = (255 - levels).astype(np.uint8)
    source = saved(np.dstack([np.zeros((512, 512), np.uint8), alpha]), mode="LA")
    content, _ = records.anonymize_record(source, options, MASTER_KEY, faces=[face()])
    result = np.asarray(Image.open(io.BytesIO(content)))
    assert (result[masked(face()), 1] == 255).all()
    np.testing.assert_array_equal(result[~masked(face()), 1], alpha[~masked(face())])


def test_the_outline_of_a_cut_out_person_stays(options):
    y, x = np.mgrid[:512, :512]
    soft = np.clip(128 + 60.0 * (50 - np.hypot(x - 225, (y - 130) * 0.8)), 0, 255).astype(np.uint8)
    source = np.dstack([astronaut(), soft])
    assert (soft[masked(face())] == 0).any()
    content, _ = records.anonymize_record(saved(source), options, MASTER_KEY, faces=[face()])
    result = np.asarray(Image.open(io.BytesIO(content)))
    assert np.abs(result[..., 3].astype(int) - soft).max() < 8
    assert (result[masked(face()), :3] != source[masked(face()), :3]).any()


def test_a_fade_is_continued_without_what_it_hid(options):
    fade = np.tile(np.linspace(60, 200, 512).astype(np.uint8), (512, 1))
    jittering = fade.copy()
    jittering[masked(face())] += np.random.default_rng(0).integers(
        0, 6, masked(face()).sum(), np.uint8
    )
    results = []
    for alpha in (fade, jittering):
        source = saved(np.dstack([astronaut(), alpha]))
        content, _ = records.anonymize_record(source, options, MASTER_KEY, faces=[face()])
        result = np.asarray(Image.open(io.BytesIO(content)))[..., 3]
        assert np.abs(result.astype(int) - fade).max() <= 12
        results.append(result)
    np.testing.assert_array_equal(*results)


def test_over_is_what_pillow_shows():
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8)
    for background in (0, 255):
        ours = alpha_.over(source[..., :3], source[..., 3], background)
        theirs = shown(saved(source), background)
        assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_an_obfuscated_face_in_the_transparency_is_gone_too(monkeypatch):
    monkeypatch.setattr(Anonymizer, "is_face", staticmethod(everyone))
    options = records.RecordOptions(anonymizer=Anonymizer(method="solid"))
    content, _ = records.anonymize_record(
        saved(grey_alpha(True)), options, MASTER_KEY, faces=[face()]
    )
    for background in (0, 255):
        inside = shown(content, background)[masked(face())]
        assert (inside == 128).all()


def test_a_picture_changed_as_shown_loses_the_transparency_of_what_was_changed():
    source = grey_alpha(True)
    pixels, opacity = source[..., :3], source[..., 3]
    before = alpha_.over(pixels, opacity, alpha_.GREY)
    after = before.copy()
    after[masked(face())] = np.random.default_rng(0).integers(0, 256, (masked(face()).sum(), 3))
    after[130, 220] = before[130, 220]  # by chance the same
    new, new_opacity = alpha_.changed(pixels, opacity, before, after)
    np.testing.assert_array_equal(new[masked(face())], after[masked(face())])
    assert (new_opacity[masked(face())] == 255).all()
    np.testing.assert_array_equal(new_opacity[~masked(face())], opacity[~masked(face())])
