"""How many licence plates are found, and what is taken for one: python benchmarks/plates.py PHOTOS [CLIP].

Made plates (`made_plates`) of several countries' layouts in drawn cars and in the photos of PHOTOS that
`train_plates` leaves out: a plate counts as found if the masks that would be replaced cover nine tenths of
its area. Then these photos as they are, and how many boxes there are in each. CLIP: how many boxes in every
tenth of its frames.
"""

import collections
import pathlib
import sys
import time

import cv2
import made_plates
import numpy as np
import train_plates

from dp3_jax.detection.plates import find_plates
from dp3_jax.media import photos
from dp3_jax.media.video import reading
from dp3_jax.vision import geometry

WIDTHS = (20, 30, 45, 70, 110, 200)  # px, of a plate in the picture
REPEATS = 4  # plates of each layout and width: half in cars, half in photos
COVERED = 0.9
SIDES = 480, 360  # px, of a scene


def replaced(image: np.ndarray, plates) -> np.ndarray:
    """bool[H, W]: what the masks of plates cover."""
    covered = np.zeros(image.shape[:2], bool)
    for plate in plates:
        alignment = plate.alignment()
        mask = plate.kind.mask(alignment, plate.box)
        region = geometry.region(alignment, mask, image.shape[:2])
        covered[region.slices] |= region.inside
    return covered


def coverage(made: made_plates.Made) -> float:
    """Share of the plate's area that would be replaced."""
    area = np.zeros(made.image.shape[:2], np.uint8)
    cv2.fillConvexPoly(area, made.corners.round().astype(np.int32), 1)
    return float(replaced(made.image, find_plates(made.image))[area > 0].mean())


def scene(photo: np.ndarray, layout: str, width: float, in_car: bool, rng) -> made_plates.Made:
    """A plate in a drawn car, or anywhere in a part of a photo."""
    across, height = SIDES
    if in_car:
        return made_plates.scene(
            made_plates.car(rng, across, height, width), layout, width, rng, np.array(SIDES) / 2
        )
    scale = max(1.0, (across + 1) / photo.shape[1], (height + 1) / photo.shape[0])
    photo = cv2.resize(photo, None, fx=scale, fy=scale)
    y, x = rng.integers(0, photo.shape[0] - height), rng.integers(0, photo.shape[1] - across)
    part = np.ascontiguousarray(photo[y : y + height, x : x + across])
    return made_plates.scene(part, layout, width, rng)


def recall(pictures: list[np.ndarray]) -> None:
    """Prints shares of plates that are covered, by width, layout and so on."""
    rng = np.random.default_rng(2026)
    found = collections.defaultdict(list)
    for width in WIDTHS:
        for number, layout in enumerate(made_plates.LAYOUTS):
            for repeat in range(REPEATS):
                photo = pictures[(number + 8 * repeat) % len(pictures)]
                made = scene(photo, layout, width, repeat % 2 == 0, rng)
                hit = coverage(made) >= COVERED
                for name in (
                    f"{width} px",
                    layout,
                    "night" if made.night else "day",
                    "car" if repeat % 2 == 0 else "photo",
                    "all",
                ):
                    found[name].append(hit)
    for name, hits in found.items():
        print(f"| {name} | {np.mean(hits):.2f} | {len(hits)} |")


def main(folder: str, clip: str | None = None) -> None:
    """Measures all and prints it."""
    pictures = [photos.read_photo(p).pixels for p in train_plates.split(pathlib.Path(folder))[1]]
    recall(pictures)
    counts = []
    begun = time.process_time()
    for picture in pictures:
        counts.append(len(find_plates(picture)))
    seconds = time.process_time() - begun
    megapixels = sum(picture[..., 0].size for picture in pictures) / 1e6
    print(
        f"boxes in {len(counts)} photos without plates: {sum(counts)}, in {np.count_nonzero(counts)} photos"
    )
    print(f"{seconds / megapixels:.2f} s of processor time a megapixel")
    if clip:
        with reading.read_frames(pathlib.Path(clip)) as frames:
            for frame in frames:
                if frame.number % 10 == 0 and (plates := find_plates(frame.image)):
                    print(frame.number, [tuple(round(v) for v in plate.box) for plate in plates])


if __name__ == "__main__":
    main(*sys.argv[1:])
