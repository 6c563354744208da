"""Makes the pictures of the docs that show what the shipped weights draw: astronaut.jpg and video.webp.

    python docs/make_pictures.py [FOLDER]       # default: docs

Only the public-domain photo of `dp3 demo` is used. Run it again when the weights have changed.
"""

import contextlib
import io
import pathlib
import sys
import tempfile

import numpy as np
from PIL import Image

from dp3_jax import files
from dp3_jax.anonymization import demo, secrets
from dp3_jax.anonymization.anonymize import Anonymizer
from dp3_jax.evaluation import video_variants
from dp3_jax.video import demo_clip, reading
from dp3_jax.video.tracks import by_frame

SEED = 7  # of the video
SEEDS = range(1, 7)  # of the stills: the first six, whatever they give
HEAD = (slice(0, 260), slice(100, 350))  # px of the photo that are shown
WIDTH, HEIGHT = 288, 320  # px of each of the three pictures
GAP = 8  # px between them
MOST_BYTES = 2_000_000
MILLISECONDS = 1000 // demo_clip.RATE  # for each frame


def _part(image: np.ndarray) -> np.ndarray:
    """The middle of a frame in the size of the animation."""
    height = image.shape[0]
    width = round(height * WIDTH / HEIGHT)
    left = (image.shape[1] - width) // 2
    middle = Image.fromarray(image[:, left : left + width])
    return np.asarray(middle.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def side_by_side(photo: np.ndarray, anonymizer: Anonymizer, secret: bytes) -> list[Image.Image]:
    """Frames: original | each frame drawn alone | what `dp3 anonymize` gives."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = pathlib.Path(scratch)
        tracking, _ = demo_clip.make(folder, photo, anonymizer, secret, lambda *_: None)
        variants = video_variants.standard(tracking, *anonymizer.parts(), ablations=False)
        alone, faces = variants[video_variants.PER_FRAME], by_frame(tracking)
        both = [
            stack.enter_context(reading.read_frames(folder / name))
            for name in (demo_clip.ORIGINAL, demo_clip.ANONYMIZED)
        ]
        gap = np.full((HEIGHT, GAP, 3), 255, np.uint8)
        joined = []
        for before, after in zip(*both, strict=True):
            drawn = alone(before.image, faces(before.number), False)
            parts = _part(before.image), gap, _part(drawn), gap, _part(after.image)
            joined.append(Image.fromarray(np.hstack(parts)))
        return joined


def animation(frames: list[Image.Image]) -> bytes:
    """An animated WebP that runs forward and backward for ever, as good as MOST_BYTES allow."""
    there_and_back = [*frames, *frames[-2:0:-1]]
    for quality in range(80, 0, -10):
        target = io.BytesIO()
        there_and_back[0].save(
            target,
            "WEBP",
            save_all=True,
            append_images=there_and_back[1:],
            duration=MILLISECONDS,
            loop=0,
            quality=quality,
            method=4,
        )
        if target.tell() <= MOST_BYTES:
            return target.getvalue()
    raise ValueError(f"no quality gives less than {MOST_BYTES} bytes")


def main(folder: pathlib.Path) -> None:
    """Writes both pictures into a folder; the prior's assets must be there or fetchable."""
    photo, anonymizer = demo.demo_photo(), Anonymizer(identity="prior")
    heads = [anonymizer(photo, secret=secrets.secret_from_seed(seed)).frame for seed in SEEDS]
    still = io.BytesIO()
    row = np.hstack([image[HEAD] for image in (photo, *heads)])
    Image.fromarray(row).save(still, "JPEG", quality=90)
    files.write_bytes(folder / "astronaut.jpg", still.getvalue())
    builtin, secret = Anonymizer(identity="builtin"), secrets.secret_from_seed(SEED)
    files.write_bytes(folder / "video.webp", animation(side_by_side(photo, builtin, secret)))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
