"""Results say that faces in them were generated, in the words of the IPTC, and say nothing else."""

import json
from xml.etree import ElementTree

import av
import pytest
from PIL import Image

from dp3_jax.cli.main import main
from dp3_jax.media import marking, photos
from dp3_jax.pipelines.anonymize import Anonymizer
from tests import video_scenes
from tests.face_photos import BOX, POINTS, Painter, astronaut
from tests.media.test_photos import MASTER_KEY, exif_block, picture

PROPERTY = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
ENDINGS = ("jpg", "png", "webp", "tif")


def xmp_of(path):
    """The XMP packet as a reader of the format finds it."""
    with Image.open(path) as image:
        found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
        found = image.tag_v2.get(700) if image.format == "TIFF" else found
    return None if found is None else (found.encode() if isinstance(found, str) else bytes(found))


@pytest.fixture
def photo(monkeypatch, tmp_path):
    monkeypatch.setattr(Anonymizer, "generator", Painter())
    monkeypatch.setattr(Anonymizer, "is_face", None)
    Image.fromarray(astronaut()).save(tmp_path / "a.png")
    (tmp_path / "boxes.json").write_text(json.dumps([{"box": BOX, "points": POINTS.tolist()}]))
    return tmp_path / "a.png"


def run(photo, target, *more):
    options = ["-o", target, "--boxes", photo.parent / "boxes.json", "--seed", 1, *more]
    return main(["anonymize", *map(str, [photo, *options])])


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_new_face_is_marked_in_a_packet_that_says_nothing_else(photo, tmp_path, ending):
    for name in ("b", "c"):
        assert run(photo, tmp_path / f"{name}.{ending}") == 0
    packet = xmp_of(tmp_path / f"b.{ending}")
    texts = {e.tag: e.text for e in ElementTree.fromstring(packet.strip()).iter() if e.text}
    assert texts == {PROPERTY: marking.SOURCE_TYPE}
    assert marking.SOURCE_TYPE.endswith("/compositeWithTrainedAlgorithmicMedia")
    first, second = ((tmp_path / f"{n}.{ending}").read_bytes() for n in "bc")
    assert first == second


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("more", [("--no-mark",), ("--method", "blur")])
def test_no_mark_where_nothing_was_generated_or_none_is_wanted(photo, tmp_path, ending, more):
    target = tmp_path / f"b.{ending}"
    assert run(photo, target, *more) == 0
    assert xmp_of(target) is None and not marking.is_marked(target)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("keep", [False, True])
def test_the_mark_brings_nothing_of_the_source_back(tmp_path, ending, keep):
    source, target = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    options = {} if ending == "tif" else {"xmp": MASTER_KEY}
    picture().save(source, exif=exif_block(), **options)
    assert MASTER_KEY in source.read_bytes()
    photos.write_photo(target, photos.read_photo(source), keep_metadata=keep, mark=True)
    assert MASTER_KEY not in target.read_bytes()
    assert (b"Camera maker" in target.read_bytes()) == keep
    assert marking.SOURCE_TYPE.encode() in xmp_of(target)


def test_a_format_without_a_place_for_the_mark_is_said(photo, tmp_path, capsys):
    assert run(photo, tmp_path / "b.bmp") == 0
    assert ".bmp files cannot say" in capsys.readouterr().err
    assert run(photo, tmp_path / "b.bmp", "--no-mark", "--quiet") == 0
    assert "cannot say" not in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov", "webm"])
@pytest.mark.parametrize("passes", [(), ("--one-pass",)])
def test_a_video_with_new_faces_says_so_in_its_comment(monkeypatch, tmp_path, ending, passes):
    video_scenes.stand_in(monkeypatch)
    clip = video_scenes.scene(tmp_path / "a.mkv", video_scenes.paths(3, ((40, 20), (1, 0))))
    for name, more in (("b", ()), ("c", ()), ("d", ("--no-mark",)), ("e", ("--method", "solid"))):
        target = tmp_path / f"{name}.{ending}"
        assert video_scenes.run(clip, "-o", target, "--seed", 1, *passes, *more) == 0
    comments = {}
    for name in "bcde":
        with av.open(str(tmp_path / f"{name}.{ending}")) as opened:
            tags = {key.lower(): value for key, value in opened.metadata.items()}
            comments[name] = tags.get("comment")
    assert comments == {"b": marking.COMMENT, "c": marking.COMMENT, "d": None, "e": None}
    first, second = ((tmp_path / f"{n}.{ending}").read_bytes() for n in "bc")
    assert first == second
