"""Trains the prior's heads for small pictures: `python -m dp3_jax.training.prior_heads --workdir DIR`.

First crops of features and of the pictures that they should give are gathered, once for each rendered face;
then each head learns from random batches of them. Both can be stopped and go on where they were. The result
is DIR/prior_heads.safetensors. On two cores: a sixth of a second for each face, and minutes for each head.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
from absl import logging

from dp3_jax.common import console, files
from dp3_jax.common.errors import UserError
from dp3_jax.models import modulated, prior, prior_heads
from dp3_jax.models.modulated import Params

WIDTH = 64  # channels of a head's separable convolutions
CROP = 20  # px of features
CROPS = 3  # of each face and size
LEARNING_RATE = 2e-3
# Styles are sums over 512 numbers; a smaller step for each keeps theirs as large as the others'
# (the equalized learning rate of StyleGAN).
STYLE_RATE = 0.04
TRUNCATION = (0.5, 1.0)  # psi is drawn from it: w' = mean + psi (w - mean)
MEAN_OF = 4096  # latents, for the mean of w
REGRESSED = 64  # faces, for the linear map that a head begins with
RIDGE = 1e-4  # in that regression, of the features' mean variance
HELD_OUT = 64  # faces, the last ones


class Crops(NamedTuple):
    """Memory-mapped crops of one size: features f16[N, CROPS, CROP, CROP, C] and what they should give.

    Attributes:
      pictures: u8[N, CROPS, 2 CROP, 2 CROP, 3].
      places: i32[N, CROPS, 2], row and column of the crop's first pixel of features.
    """

    features: np.ndarray
    pictures: np.ndarray
    places: np.ndarray


class Course(NamedTuple):
    """How long a head is trained: updates, and crops in each."""

    steps: int
    batch: int


def open_crops(folder: pathlib.Path, size: int, faces: int, channels: int) -> Crops:
    """The crops in `folder`, made if they are not there."""
    shapes = {
        "features": ((CROP, CROP, channels), np.float16),
        "pictures": ((2 * CROP, 2 * CROP, 3), np.uint8),
        "places": ((2,), np.int32),
    }
    arrays = []
    for name, (shape, dtype) in shapes.items():
        path = folder / f"{name}{size}.npy"
        mode = "r+" if path.exists() else "w+"
        arrays.append(
            np.lib.format.open_memmap(path, mode, dtype, (faces, CROPS, *shape))
            if mode == "w+"
            else np.load(path, mmap_mode="r+")
        )
    if len(arrays[0]) != faces:
        raise UserError(
            f"{folder} holds {len(arrays[0])} faces, not {faces}; choose another folder"
        )
    return Crops(*arrays)


def draw_latents(params: Params, faces: int) -> tuple[np.ndarray, np.ndarray]:
    """(w f32[faces, 512] truncated at random, mean of w f32[512]), always the same ones."""
    rng = np.random.default_rng(0)
    mapping = jax.jit(prior.mapping)
    z = rng.normal(size=(MEAN_OF, prior.LATENT_DIM)).astype(np.float32)
    mean = np.asarray(mapping(params, z)).mean(0)
    z = rng.normal(size=(faces, prior.LATENT_DIM)).astype(np.float32)
    psi = rng.uniform(*TRUNCATION, size=(faces, 1)).astype(np.float32)
    return mean + psi * (np.asarray(mapping(params, z)) - mean), mean


@jax.jit
def _activations(
    params: Params, w: jax.Array, full: jax.Array | None
) -> dict[int, tuple[jax.Array, jax.Array]]:
    """For each size (features of its layer, the full picture reduced to it), of w f32[1, 512].

    `full` f32[1, S, S, 3] in [-1, 1] is that picture, or None: then it is rendered.
    """
    rows, at = prior.per_layer(w), {}
    x = prior.features(params, w, 0)
    for level in range(1, prior.LAYERS - 1):
        x = at[level] = prior.layer(params, level, x, rows[:, level + 1])
    if full is None:
        full = jnp.clip(prior.picture(params, x, rows[:, -1]), -1, 1)
    return {
        size: (at[level][0], prior_heads.reduce(full, size)[0])
        for size, level in prior_heads.LEVELS.items()
    }


def gather(
    folder: pathlib.Path,
    params: Params,
    w: np.ndarray,
    crops: dict[int, Crops],
    rendered: np.ndarray | None,
) -> None:
    """Fills `crops` for the faces `w`, from the first that is not there yet.

    `rendered` u8[N, S, S, 3] are the pictures of `w`, where somebody has rendered them already.
    """
    counter = folder / "gathered.json"
    done = json.loads(counter.read_text()) if counter.exists() else 0
    start = time.monotonic()
    for face in range(done, len(w)):
        full = None if rendered is None else np.float32(rendered[face : face + 1]) / 127.5 - 1
        rng = np.random.default_rng([1, face])
        for size, (features, picture) in _activations(params, w[face : face + 1], full).items():
            x, y = np.asarray(features), np.rint((np.asarray(picture) + 1) * 127.5)
            for i in range(CROPS):
                r, c = rng.integers(0, len(x) - CROP + 1, 2)
                crops[size].features[face, i] = x[r : r + CROP, c : c + CROP]
                crops[size].pictures[face, i] = y[2 * r : 2 * (r + CROP), 2 * c : 2 * (c + CROP)]
                crops[size].places[face, i] = r, c
        if face % 20 == 19 or face == len(w) - 1:
            for array in (array for arrays in crops.values() for array in arrays):
                array.flush()
            files.write_json(counter, face + 1)
            seconds = (time.monotonic() - start) / (face + 1 - done)
            logging.info("gathered %d of %d faces, %.2f s each", face + 1, len(w), seconds)


def regress(crops: Crops) -> tuple[np.ndarray, np.ndarray]:
    """(kernel [C, 12], bias [12]): the Haar coefficients of the pictures by linear least squares."""
    x = np.asarray(crops.features, np.float32).reshape(-1, crops.features.shape[-1])
    pictures = np.asarray(crops.pictures, np.float32).reshape(-1, 2 * CROP, 2 * CROP, 3) / 127.5 - 1
    bands = jax.ShapeDtypeStruct((len(pictures), CROP, CROP, prior_heads.COEFFICIENTS), jnp.float32)
    # The transform is orthonormal: its transpose is its inverse.
    y = np.asarray(jax.linear_transpose(modulated.inverse_haar, bands)(pictures)[0])
    y = y.reshape(len(x), -1)
    center, middle = x.mean(0), y.mean(0)
    x = x - center
    ridge = RIDGE * np.square(x).sum(0).mean()
    kernel = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ (y - middle))
    return kernel, middle - center @ kernel


def initial(size: int, crops: Crops, seed: int) -> dict[str, np.ndarray]:
    """Parameters to begin with: a linear map of the features, which `crops` tell, and small changes to it."""
    rng = np.random.default_rng(seed)
    width, channels, name = WIDTH, crops.features.shape[-1], f"heads.{size}"
    normal = lambda deviation, *shape: rng.normal(0, deviation, shape)  # noqa: E731
    delta = np.zeros((3, 3, width))
    delta[1, 1] = 1
    params = {}
    magnitude = np.sqrt(np.mean(np.square(crops.features, dtype=np.float64), (0, 1, 2, 3)))
    magnitude = np.maximum(magnitude, 1e-3)
    linear, constant = regress(crops)
    entry = np.hstack([normal(channels**-0.5, channels, width), linear * magnitude[:, None]])
    kernels = {"entry": entry, "exit": normal(0.1 * width**-0.5, width, prior_heads.COEFFICIENTS)}
    for part in ("conv1", "conv2"):
        kernels[part] = normal((2 / width) ** 0.5, width, width)
        params[f"{name}.{part}.depthwise"] = delta + normal(0.1, 3, 3, width)
    for part, kernel in kernels.items():
        params[f"{name}.{part}.kernel"] = kernel
        params[f"{name}.{part}.bias"] = np.zeros(kernel.shape[1])
        scale = 1 / magnitude if part == "entry" else np.ones(len(kernel))
        params[f"{name}.{part}.style.kernel"] = np.zeros((prior.LATENT_DIM, len(kernel)))
        params[f"{name}.{part}.style.bias"] = scale
    params[f"{name}.entry.bias"][width:] = constant
    return {key: np.asarray(value, np.float32) for key, value in params.items()}


def inside(places: jax.Array, size: int) -> jax.Array:
    """f32[B, 2 CROP, 2 CROP, 1]: 1 where the head saw all that it sees in a whole picture."""
    at = places[..., None] + jnp.arange(CROP)  # [B, 2, CROP]
    local = jnp.arange(CROP)
    far = (local >= prior_heads.MARGIN) & (local < CROP - prior_heads.MARGIN)
    side = size // 2
    edge = jnp.where(places == 0, 1, 0)[..., None] * (local < prior_heads.MARGIN)
    edge += jnp.where(at[..., -1:] == side - 1, 1, 0) * (local >= CROP - prior_heads.MARGIN)
    fine = jnp.repeat((far | (edge > 0)).astype(jnp.float32), 2, -1)
    return (fine[:, 0, :, None] * fine[:, 1, None, :])[..., None]


def objective(params: Params, size: int, w: jax.Array, batch: Crops) -> jax.Array:
    """Mean absolute and twice the mean squared difference, on [-1, 1]. `w` is relative to its mean."""
    y = prior_heads.head(params, size, batch.features.astype(jnp.float32), w)
    difference = y - (batch.pictures.astype(jnp.float32) / 127.5 - 1)
    weight = inside(batch.places, size)
    error = jnp.abs(difference) + 2 * difference**2
    return (error * weight).sum() / (3 * weight.sum())


def make_optimizer(steps: int) -> optax.GradientTransformation:
    """Adam, the rate rising over the first twentieth and falling to 0; smaller steps for styles."""
    rate = optax.warmup_cosine_decay_schedule(0, LEARNING_RATE, steps // 20, steps)

    def scale(updates: Any) -> Any:
        return {
            name: update * (STYLE_RATE if name.endswith("style.kernel") else 1)
            for name, update in updates.items()
        }

    return optax.chain(optax.adam(rate, b2=0.99), optax.stateless(lambda u, _: scale(u)))


def batches(
    crops: Crops, w: np.ndarray, faces: int, batch: int, seed: Any
) -> Iterator[tuple[np.ndarray, Crops]]:
    """Endless random batches of crops of the first `faces` faces, with their w."""
    rng = np.random.default_rng(seed)
    while True:
        face, crop = rng.integers(0, faces, batch), rng.integers(0, CROPS, batch)
        yield w[face], Crops(*(np.ascontiguousarray(array[face, crop]) for array in crops))


def train(
    folder: pathlib.Path, size: int, crops: Crops, w: np.ndarray, course: Course
) -> dict[str, np.ndarray]:
    """Parameters of the head for `size`; `w` f32[N, 512] is relative to its mean."""
    faces, checkpoint = len(w) - HELD_OUT, folder / f"state{size}.safetensors"
    params = initial(size, Crops(*(array[:REGRESSED] for array in crops)), seed=size)
    optimizer = make_optimizer(course.steps)
    state, done = optimizer.init(params), 0
    if checkpoint.exists():
        params, state, done = _restore(checkpoint, params, state)

    @jax.jit
    def update(params, state, w, batch):
        loss, gradient = jax.value_and_grad(objective)(params, size, w, batch)
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state, loss

    losses, start = [], time.monotonic()
    source = batches(crops, w, faces, course.batch, [2, size, done])
    for step in range(done, course.steps):
        params, state, loss = update(params, state, *next(source))
        losses.append(loss)
        if step % 200 == 199 or step == course.steps - 1:
            mean = float(jnp.stack(losses).mean())
            seconds = (time.monotonic() - start) / (step + 1 - done)
            logging.info("%d px, step %d: loss %.4f, %.3f s each", size, step + 1, mean, seconds)
            losses = []
            _save(checkpoint, params, state, step + 1)
    return jax.device_get(params)


def decibels(params: Params, size: int, crops: Crops, w: np.ndarray) -> float:
    """Peak signal-to-noise ratio on the held-out faces' crops, peak 2 as of [-1, 1]."""
    held_out = Crops(*(array[-HELD_OUT:, 0] for array in crops))
    render = jax.jit(lambda x, w: prior_heads.head(params, size, x, w))
    ours = np.clip(render(held_out.features.astype(np.float32), w[-HELD_OUT:]), -1, 1)
    error = np.square(ours - (held_out.pictures.astype(np.float32) / 127.5 - 1))
    weight = np.asarray(inside(held_out.places, size))
    return float(10 * np.log10(4 * 3 * weight.sum() / (error * weight).sum()))


def _save(path: pathlib.Path, params: Any, state: Any, step: int) -> None:
    leaves = jax.tree.leaves((params, state))
    arrays = {str(i): np.ascontiguousarray(leaf) for i, leaf in enumerate(leaves)}
    files.write_bytes(path, safetensors.numpy.save(arrays | {"step": np.array([step])}))


def _restore(path: pathlib.Path, params: Any, state: Any) -> tuple[Any, Any, int]:
    arrays = safetensors.numpy.load_file(path)
    tree = jax.tree.structure((params, state))
    leaves = [jnp.asarray(arrays[str(i)]) for i in range(tree.num_leaves)]
    return *jax.tree.unflatten(tree, leaves), int(arrays["step"][0])


def fold_mean(params: dict[str, np.ndarray], mean: np.ndarray) -> dict[str, np.ndarray]:
    """The same heads for w itself instead of w relative to its mean, in half precision."""
    folded = {name: np.ascontiguousarray(value, np.float16) for name, value in params.items()}
    for name, value in params.items():
        if name.endswith("style.bias"):
            kernel = folded[name.replace("bias", "kernel")].astype(np.float32)
            folded[name] = np.float16(value - mean @ kernel)
    return folded


def main(argv: list[str]) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--faces", type=int, default=1600, help=f"{HELD_OUT} of them held out")
    parser.add_argument(
        "--rendered",
        nargs=2,
        type=pathlib.Path,
        metavar=("W", "PICTURES"),
        help=".npy files of faces that are rendered already: f32[N, 512] and u8[N, S, S, 3]",
    )
    parser.add_argument("--steps", type=int, default=4000, help="for each head")
    parser.add_argument("--batch", type=int, default=16, help="crops in each step")
    arguments = parser.parse_args(argv)
    folder = arguments.workdir
    files.check_place(folder / "x")
    params = prior.load_prior()
    w, mean = draw_latents(params, arguments.faces)
    rendered = None
    if arguments.rendered:
        w, rendered = (np.load(path, mmap_mode="r")[: len(w)] for path in arguments.rendered)
        w = np.array(w)
    crops = {
        size: open_crops(
            folder, size, arguments.faces, params[f"layers.{level}.conv2.bias"].shape[0]
        )
        for size, level in prior_heads.LEVELS.items()
    }
    gather(folder, params, w, crops, rendered)
    heads = {}
    for size, data in crops.items():
        head = train(folder, size, data, w - mean, Course(arguments.steps, arguments.batch))
        print(f"{size} px: {decibels(head, size, data, w - mean):.1f} dB on faces held out")
        heads |= head
    target = folder / prior_heads.WEIGHTS.name
    files.write_bytes(target, safetensors.numpy.save(fold_mean(heads, mean)))
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(console.run_command(main, sys.argv[1:]))
