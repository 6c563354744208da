"""JPEG files of which nothing is missing but the two bytes that end them; Pillow refuses them as cut off."""

import io

import numpy as np
from PIL import Image

_END = b"\xff\xd9"


def with_end(content: bytes) -> bytes | None:
    """The file with its end marker; None when more of it is missing.

    libjpeg makes up what is missing from the bytes that it finds instead. So a picture is complete when it
    does not depend on what stands before the marker.
    """
    body = content[:-1] if content.endswith(b"\xff") else content
    junk = np.random.default_rng(0).integers(0, 255, 4096, dtype=np.uint8).tobytes()  # without 255
    try:
        shown = [np.asarray(Image.open(io.BytesIO(body + more + _END))) for more in (b"", junk)]
    except OSError:
        return None
    return body + _END if np.array_equal(*shown) else None
