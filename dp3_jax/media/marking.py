"""The mark that a result carries a generated face: IPTC's digital source type, in XMP or a video's comment.

IPTC Photo Metadata Standard 2023.1, property "Digital Source Type", with the term for a picture of which
parts come from a trained model. The packet is a constant: it says nothing else, not when, by whom or of whom.
"""

import os
from typing import Any

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
COMMENT = f"Faces replaced by generated ones. Digital source type: {SOURCE_TYPE}"

# XMP specification part 1, section 7.3; the id is the specification's.
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)
_TIFF_XMP = 700  # XMP specification part 3, section 1.1.8


def photo_options(container: str, exif: bytes = b"") -> dict[str, Any]:
    """Options of Pillow's `save` that put the mark into a file; empty for BMP, which has no place for it.

    Args:
      container: Pillow's name of the format.
      exif: block that is to be written as well; where both lie in one place, the options hold it too.
    """
    packet = _PACKET.encode()
    if container in ("JPEG", "WEBP"):
        return {"xmp": packet}
    if container == "PNG":
        from PIL import PngImagePlugin

        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", packet.decode())
        return {"pnginfo": chunks}
    if container == "TIFF":
        from PIL import Image

        tags = Image.Exif()
        if exif:
            tags.load(exif)
        tags[_TIFF_XMP] = packet
        return {"exif": tags}  # next to "tiffinfo" Pillow would leave the EXIF block out
    return {}


def video_metadata() -> dict[str, str]:
    """Metadata of a container with the mark; muxers without comments (GIF) leave it out."""
    return {"comment": COMMENT}


def holds_mark(content: bytes) -> bool:
    """Whether a photo's file says that a part of it was generated."""
    return SOURCE_TYPE.encode() in content


def is_marked(path: str | os.PathLike) -> bool:
    """`holds_mark` of a file."""
    with open(path, "rb") as opened:
        return holds_mark(opened.read())
