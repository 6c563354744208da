"""Makes the pictures of the docs that show what the shipped weights draw.

    python docs/make_pictures.py [FOLDER] [NAME ...]      # default: docs, all of them

astronaut.jpg  a photo and six new women's faces, by the first six seeds
generated.jpg  photos of people who do not exist, and two new faces of each
sizes.jpg      one of these photos with faces of 60, 130, 300 and 600 px, before and after, pixel for pixel
video.webp     a clip of a generated person, each of its frames as a photo, and what `dp3 anonymize` gives

Only the public-domain photo of `dp3 demo` and renderings of the face prior are used. Run it again when the
weights have changed.
"""

import contextlib
import io
import pathlib
import sys
import tempfile
from collections.abc import Sequence

import numpy as np
from PIL import Image

from dp3_jax.common import files
from dp3_jax.detection.tracks import by_frame
from dp3_jax.evaluation import demo, demo_clip, demo_person, video_variants
from dp3_jax.media.video import reading
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.identities import Classes
from dp3_jax.replacement.options import IdentityOptions
from dp3_jax.replacement.person_description import describe
from dp3_jax.replacement.prior_identities import PriorIdentities

NAMES = ("astronaut.jpg", "generated.jpg", "sizes.jpg", "video.webp")
SEED = 3  # of the video: the best of the first three keys
SEEDS = range(1, 7)  # of the stills: the first six, whatever they give
HEAD = (slice(0, 260), slice(100, 350))  # px of the photo that are shown
SIDE_BY_SIDE = 256  # px of each of the three pictures of the clip
CLIP = 512  # px of its frames
PEOPLE = range(100, 108)  # seeds of the generated people: the first eight from 100 on
SIDE = 192  # px of each generated photo that is shown
SIZES = (60, 130, 300, 600)  # px, height of a face's box
ROOM = 1.5  # heights of the box that are shown
GAP = 8  # px between them
MAX_BYTES = 2_000_000
MILLISECONDS = 1000 // demo_clip.RATE  # for each frame


def side_by_side(
    source: PriorIdentities, anonymizer: Anonymizer, master_key: bytes
) -> list[Image.Image]:
    """Frames: original | each frame as a photo | what `dp3 anonymize` gives."""
    frames = round(demo_person.SECONDS * demo_person.RATE)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = pathlib.Path(scratch)
        pictures = demo_person.talking(source, frames, CLIP)
        tracking, _ = demo_clip.make(folder, pictures, anonymizer, master_key, lambda *_: None)
        alone, faces = video_variants.frame_by_frame(anonymizer, master_key), by_frame(tracking)
        both = [
            stack.enter_context(reading.read_frames(folder / name))
            for name in (demo_clip.ORIGINAL, demo_clip.ANONYMIZED)
        ]
        gap = np.full((SIDE_BY_SIDE, GAP, 3), 255, np.uint8)
        joined = []
        for before, after in zip(*both, strict=True):
            drawn = alone(before.image, faces(before.number), False)
            parts = (_resized(image, SIDE_BY_SIDE) for image in (before.image, drawn, after.image))
            first, second, third = parts
            joined.append(Image.fromarray(np.hstack([first, gap, second, gap, third])))
        return joined


def animation(frames: list[Image.Image]) -> bytes:
    """An animated WebP that runs for ever, as good as MOST_BYTES allow."""
    for quality in range(80, 0, -10):
        target = io.BytesIO()
        frames[0].save(
            target,
            "WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=MILLISECONDS,
            loop=0,
            quality=quality,
            method=4,
        )
        if target.tell() <= MAX_BYTES:
            return target.getvalue()
    raise ValueError(f"no quality gives less than {MAX_BYTES} bytes")


def generated_photo(source: PriorIdentities, seed: int) -> np.ndarray:
    """u8[1024, 1024, 3]: an adult who does not exist."""
    classes = Classes(age="young" if seed % 2 else "middle")
    person = source.person(key_derivation.master_key_from_seed(seed), classes)
    return source.picture(person.rows, 1024)


def generated_people(source: PriorIdentities, anonymizer: Anonymizer) -> np.ndarray:
    """u8[h, w, 3]: a column for each of PEOPLE, the photo above two new faces."""
    columns = []
    for seed in PEOPLE:
        photo = _resized(generated_photo(source, seed), 512)
        new = [
            anonymizer(photo, master_key=key_derivation.master_key_from_seed(n)).frame
            for n in (1, 2)
        ]
        columns.append(np.vstack([_resized(image, SIDE) for image in (photo, *new)]))
    return np.hstack(columns)


def face_sizes(source: PriorIdentities, anonymizer: Anonymizer) -> np.ndarray:
    """u8[h, w, 3]: a column for each of SIZES, a face before and after, not resampled."""
    whole = generated_photo(source, PEOPLE[0])
    columns, largest = [], round(ROOM * SIZES[-1])
    for size in SIZES:
        (face,) = anonymizer.find(whole)
        photo = _resized(whole, round(len(whole) * size / face.box[3]))
        (face,) = anonymizer.find(photo)
        new = anonymizer(photo, [face], key_derivation.master_key_from_seed(1)).frame
        side = min(round(ROOM * size), len(photo))
        corner = np.array(face.box[:2]) + np.array(face.box[2:]) / 2 - side / 2
        x, y = np.round(corner).astype(int).clip(0, len(photo) - side)
        pair = np.hstack([image[y : y + side, x : x + side] for image in (photo, new)])
        columns.append(np.pad(pair, ((0, largest - side), (0, GAP), (0, 0)), constant_values=255))
    return np.hstack(columns)


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))


def _write(path: pathlib.Path, image: np.ndarray) -> None:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=88)
    files.write_bytes(path, content.getvalue())


def main(folder: pathlib.Path, names: Sequence[str]) -> None:
    """Writes pictures into a folder; the prior's assets must be there or fetchable."""
    photo, anonymizer, source = demo.demo_photo(), Anonymizer(identity="prior"), PriorIdentities()
    if "astronaut.jpg" in names:
        # Short hair in a space suit is taken for a man's.
        woman = Anonymizer(identity=IdentityOptions(source="prior", wishes=describe("woman")))
        heads = [
            woman(photo, master_key=key_derivation.master_key_from_seed(seed)).frame
            for seed in SEEDS
        ]
        _write(folder / "astronaut.jpg", np.hstack([image[HEAD] for image in (photo, *heads)]))
    if "generated.jpg" in names:
        _write(folder / "generated.jpg", generated_people(source, anonymizer))
    if "sizes.jpg" in names:
        _write(folder / "sizes.jpg", face_sizes(source, anonymizer))
    if "video.webp" in names:
        frames = side_by_side(source, anonymizer, key_derivation.master_key_from_seed(SEED))
        files.write_bytes(folder / "video.webp", animation(frames))


if __name__ == "__main__":
    asked = sys.argv[1:] or [str(pathlib.Path(__file__).parent)]
    if asked[0].startswith("-"):
        sys.exit(__doc__)
    main(pathlib.Path(asked[0]), asked[1:] or NAMES)
