"""Trains the network of `models.plate_net`: python benchmarks/train_plates.py PHOTOS OUT.

PHOTOS is a folder of photos without plates; plates are made into one half of them, the other half (every
second by name) is left for `benchmarks/plates.py`. A quarter of the crops show what is no plate: words,
rectangles, stripes.
"""

import pathlib
import sys
import time

import cv2
import jax
import jax.numpy as jnp
import made_plates
import numpy as np
import optax
from safetensors.numpy import save_file

from dp3_jax.media import photos
from dp3_jax.models import plate_net

SIDE = 80  # px of a crop
CROPS, STEPS, PEAK, BATCH = 9000, 2000, 3e-3, 48
SUFFIXES = (".jpg", ".png")


def split(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Photos for training, and those left for measuring."""
    paths = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    return paths[::2], paths[1::2]


def background(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """u8[SIDE, SIDE, 3]: a part of a photo, at some scale."""
    scale = np.exp(rng.uniform(np.log(max(0.12, (SIDE + 1) / min(image.shape[:2]))), 0))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    y, x = (rng.integers(0, side - SIDE + 1) for side in image.shape[:2])
    return np.ascontiguousarray(image[y : y + SIDE, x : x + SIDE])


def distracted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The crop with something that is no plate: words without a plate, an empty one, stripes."""
    ink = tuple(int(v) for v in rng.integers(0, 255, 3))
    x, y = (int(v) for v in rng.integers(0, SIDE - 20, 2))
    kind = rng.integers(3)
    if kind == 0:
        words = made_plates.words(rng, int(rng.integers(3, 12)))
        cv2.putText(
            image,
            words,
            (x // 2, y + 12),
            cv2.FONT_HERSHEY_SIMPLEX,
            rng.uniform(0.2, 0.9),
            ink,
            1 + int(rng.random() < 0.4),
            cv2.LINE_AA,
        )
    elif kind == 1:
        w, h = (int(v) for v in rng.integers(5, 50, 2))
        cv2.rectangle(image, (x, y), (x + w, y + h), ink, -1)
    else:
        for i in range(0, int(rng.integers(10, 60)), int(rng.integers(2, 7))):
            a = (x + i, y) if rng.random() < 0.5 else (x, y + i)
            cv2.line(image, a, (a[0] + (a[1] - y), y + 14), ink, 1, cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1))


def crop(photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """u8[SIDE, SIDE, 3] and the box of the plate in it, f32[4], of width 0 where there is none."""
    image = background(photo, rng)
    chance = rng.random()
    if chance < 0.45:
        return (distracted(image, rng) if chance < 0.25 else image), np.zeros(4, np.float32)
    width = np.exp(rng.uniform(np.log(plate_net.SMALLEST), np.log(plate_net.LARGEST)))
    place = SIDE / 2 + rng.uniform(-0.5, 0.5, 2) * (SIDE - 1.05 * width)
    if rng.random() < 0.4:
        image = made_plates.car(rng, SIDE, SIDE, width)
        place = SIDE / 2 + rng.uniform(-8, 8, 2) * (width < 0.7 * SIDE)
    layout = rng.choice(list(made_plates.LAYOUTS))
    made = made_plates.scene(image, str(layout), width, rng, place)
    low = made.corners.min(0)
    return made.image, np.concatenate([low, made.corners.max(0) - low]).astype(np.float32)


def loss(params, images, wanted, counted):
    """Focal loss of the logits, and the distance of places and sizes at cells of plates."""
    said = plate_net.apply(params, images)
    logit, there = said[..., 0], wanted[..., 0]
    chance = jax.nn.sigmoid(jnp.where(there > 0, logit, -logit))
    focal = -counted * (1 - chance) ** 2 * jnp.log(chance + 1e-6)
    number = there.sum() + 1
    apart = jnp.abs(said[..., 1:] - wanted[..., 1:]) * jnp.array([1.0, 1.0, 3.0, 3.0])
    return focal.sum() / number + 0.3 * (apart * there[..., None]).sum() / number


def optimised(params, images, boxes, rng):
    """The parameters after STEPS updates on crops."""
    rate = optax.warmup_cosine_decay_schedule(0, PEAK, 60, STEPS, 1e-5)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-4))
    state = optimiser.init(params)

    @jax.jit
    def step(params, state, *batch):
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    for number in range(STEPS):
        chosen = rng.integers(0, len(images), BATCH)
        batch, places = images[chosen], boxes[chosen].copy()
        if number % 2:  # mirrored
            batch = batch[:, :, ::-1]
            places[:, 0] = SIDE - places[:, 0] - places[:, 2]
        light = rng.uniform(0.7, 1.3, (BATCH, 1, 1, 3))
        batch = np.clip(batch * light, 0, 255).astype(np.float32)
        params, state, value = step(params, state, batch, *plate_net.targets(places, SIDE))
        if number % 50 == 49:
            print(number + 1, float(value), round(time.process_time()), flush=True)
    return params


def main(folder: str, out: str) -> None:
    """Makes the crops, trains on them and writes OUT."""
    rng = np.random.default_rng(0)
    pictures = [photos.read_photo(path).pixels for path in split(pathlib.Path(folder))[0]]
    made = (crop(pictures[i % len(pictures)], rng) for i in range(CROPS))
    images, boxes = (np.stack(part) for part in zip(*made, strict=True))
    print("crops made", round(time.process_time()), flush=True)
    params = optimised(plate_net.init(rng), images, boxes, rng)
    save_file({k: np.ascontiguousarray(v) for k, v in params.items()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
