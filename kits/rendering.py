"""Faces of the prior by the thousand, rendered on the device, measured and aligned by the host's threads.

One stream for each of two kinds, donors and targets, both resumable: PICTURES.npy, filled from the front, and
a state beside it. Number i of a kind is the same person in every call.
"""

import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from dp3_jax.common import files, images
from dp3_jax.data import donors
from dp3_jax.data.donors import Measured
from dp3_jax.models import mesh, prior, prior_heads
from dp3_jax.models.modulated import Params
from dp3_jax.replacement.directions import load_directions
from dp3_jax.replacement.identities import Classes, Wishes
from dp3_jax.replacement.person_choice import misfit, target

Locate = Callable[[np.ndarray], np.ndarray | None]  # u8[S, S, 3] -> mesh f32[468, 3] px, if any

BATCH, CPU_BATCH = 64, 8  # pictures; on CPUs more is only more memory
KINDS = ("donors", "targets")
# Truncation: donors as they are at inference; targets stand for photos, which vary more.
_PSI = {"donors": 0.85, "targets": 0.95}
# YuNet's five points in renderings of 256 px, means of 60 of them: each lies within some px, and the mesh
# that is looked for round the mean ones is .015 eye distances from the one round YuNet's.
_FIVE = np.array(
    [[96.2, 121.6], [160.1, 121.7], [128.9, 159.1], [99.7, 188.1], [157.4, 187.9]], np.float32
)
_MIN_SCORE = 0.5  # of a mesh
_BATCHES_BETWEEN_STATES = 40
_MAX_TRIES = 4  # numbers tried for each picture that is wanted


def renderer(params: Params, size: int) -> Callable[[np.ndarray], jax.Array]:
    """w f32[B, 512] -> u8[B, size, size, 3], computed in bfloat16 on an accelerator, else in float32."""
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    cast = {name: jnp.asarray(value, dtype) for name, value in params.items()}

    @jax.jit
    def render(params: Params, w: jax.Array) -> jax.Array:
        return images.to_uint8(prior_heads.render(params, w.astype(dtype), size))

    return functools.partial(render, cast)


def batch_size() -> int:
    """Pictures rendered at a time."""
    return CPU_BATCH if jax.default_backend() == "cpu" else BATCH


def speed(render: Callable[[np.ndarray], jax.Array]) -> float:
    """images/s of `render`, compiled before, over about a second."""
    w = np.repeat(load_directions().mean[None], batch_size(), 0)
    jax.block_until_ready(render(w))
    began, batches = time.monotonic(), 1
    jax.block_until_ready(render(w))
    while (seconds := time.monotonic() - began) < 1.0:
        # In growing groups, so that the device does not wait for the host.
        jax.block_until_ready([render(w) for _ in range(min(batches, 16))])
        batches += min(batches, 16)
    return batches * len(w) / seconds


def finder() -> Locate:
    """Finds the mesh in a picture framed as in FFHQ; may be called from any thread.

    Raises:
      UserError: the network cannot be fetched.
    """
    own = threading.local()
    mesh.FaceMesh()  # what is wrong with it is wrong at once, and in this thread

    def locate(image: np.ndarray) -> np.ndarray | None:
        if not hasattr(own, "network"):
            own.network = mesh.FaceMesh()
        points, score = own.network.points(image, five=donors.resized(_FIVE, 256, len(image)))
        return points if score >= _MIN_SCORE else None

    return locate


def canonical(image: np.ndarray, locate: Locate, size: int) -> tuple[np.ndarray, Measured] | None:
    """A rendering u8[S, S, 3] as `donors.canonical_donor` gives it; None without a face.

    The canonical frame is wider than FFHQ's: beyond its edge the rendering's own edge is continued, blurred.
    (Mirrored, as FFHQ's own pictures are, a second head of hair would stand above the face.)
    """
    points = locate(image)
    if points is None:
        return None
    side = len(image)
    border = side // 4
    soft = cv2.GaussianBlur(image, (0, 0), side / 50)
    wide = cv2.copyMakeBorder(soft, *[border] * 4, cv2.BORDER_REPLICATE)
    wide[border : border + side, border : border + side] = image
    return donors.canonical_donor(wide, points + np.array([border, border, 0], np.float32), size)


class _Stream:
    """The pictures of one kind."""

    def __init__(self, folder: pathlib.Path, kind: str, count: int, size: int):
        self.kind, self.count, self.next = kind, count, 0
        self._path, self._state = folder / f"{kind}.npy", folder / f"{kind}-state.npz"
        self._parts: list[Measured] = []
        shape = (count, size, size, 3)
        if self._state.exists() and np.load(self._path, mmap_mode="r").shape == shape:
            self._parts = [donors.load(self._state)]
            with np.load(self._state) as opened:
                self.next = int(opened["next"])
            self.pictures = np.lib.format.open_memmap(self._path, "r+")
        else:
            self._state.unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            self.pictures = np.lib.format.open_memmap(self._path, "w+", np.uint8, shape)
        self.made = sum(len(part.score) for part in self._parts)

    @property
    def is_complete(self) -> bool:
        return self.made == self.count or self.next >= _MAX_TRIES * self.count

    def take(self, found: list[tuple[np.ndarray, Measured] | None], after: int) -> None:
        """Adds a batch; `after` is the number that follows it."""
        for picture, row in (one for one in found if one is not None):
            if self.made < self.count:
                self.pictures[self.made] = picture
                self._parts.append(row)
                self.made += 1
        self.next = after

    def save(self) -> None:
        """Writes the state, after the pictures that it tells of."""
        self.pictures.flush()
        if self._parts:
            values = dataclasses.asdict(self.measured())
            with files.atomic_target(self._state) as temporary, temporary.open("wb") as opened:
                np.savez(opened, **values, next=self.next)

    def measured(self) -> Measured:
        """Of all pictures so far."""
        names = [field.name for field in dataclasses.fields(Measured)]
        joined = {n: np.concatenate([getattr(p, n) for p in self._parts]) for n in names}
        self._parts = [Measured(**joined)]
        return self._parts[0]


def _latents(mapping: Callable, mean: np.ndarray, kind: str, first: int) -> np.ndarray:
    """w f32[B, 512] of the persons from number `first` on."""
    seeds = ([KINDS.index(kind), first + i] for i in range(batch_size()))
    z = np.stack([np.random.default_rng(seed).standard_normal(mean.size) for seed in seeds])
    w = np.asarray(mapping(z.astype(np.float32)))
    return mean + np.float32(_PSI[kind]) * (w - mean)


def _batches(
    params: Params, render: Callable, streams: list[_Stream], go_on: Callable[[], bool]
) -> Iterator[tuple[_Stream, int, np.ndarray, jax.Array]]:
    """(stream, the number after the batch, which may be taken bool[B], pictures), least complete first."""
    table = load_directions()
    mapping = jax.jit(lambda z: prior.mapping(params, z))
    numbers = {stream.kind: stream.next for stream in streams}
    while go_on():
        waiting = [s for s in streams if not s.is_complete]
        if not waiting:
            return
        stream = min(waiting, key=lambda s: numbers[s.kind] / s.count)
        w = _latents(mapping, table.mean, stream.kind, numbers[stream.kind])
        numbers[stream.kind] += len(w)
        fit = np.ones(len(w), bool)
        if stream.kind == "donors":  # no glasses, nothing on the head, no profiles
            fit = misfit(table.predict(w), target(Classes(), Wishes())) == 0
        yield stream, numbers[stream.kind], fit, render(w)


def render_pictures(
    params: Params,
    folder: pathlib.Path,
    wanted: Mapping[str, int],
    *,
    size: int,
    rendered: int,
    seconds: float,
    locate: Locate | None = None,
) -> tuple[dict[str, tuple[np.ndarray, Measured]], dict[str, Any]]:
    """Renders pictures of both KINDS in the canonical frame, going on where it was interrupted.

    Args:
      params: of the prior and its heads, f32.
      folder: to keep them in.
      wanted: how many of each kind.
      size: of the pictures, px.
      rendered: px of the renderings that they are cut from.
      seconds: after these it is enough.
      locate: finds the mesh; by default `finder`.

    Returns:
      By kind (u8[n, size, size, 3] memory-mapped, what is measured of them), n at most as wanted; and what to
      report.

    Raises:
      UserError: a file cannot be fetched or written.
    """
    locate, render = locate or finder(), renderer(params, rendered)
    rate = speed(render)
    logging.info("renders %.0f images/s at %d px, batches of %d", rate, rendered, batch_size())
    streams = [_Stream(folder, kind, wanted[kind], size) for kind in KINDS]
    before, began = sum(s.made for s in streams), time.monotonic()
    threads, count = cv2.getNumThreads(), 0

    def finish(pool, stream, after, fit, pictures) -> None:
        chosen = np.asarray(pictures)[fit]
        stream.take(list(pool.map(lambda image: canonical(image, locate, size), chosen)), after)

    cv2.setNumThreads(1)  # the pool's threads are as many as there are cores
    try:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            # A batch is measured while the device renders the next one.
            queued = None
            for batch in _batches(
                params, render, streams, lambda: time.monotonic() - began < seconds
            ):
                if queued:
                    finish(pool, *queued)
                queued, count = batch, count + 1
                if count % _BATCHES_BETWEEN_STATES == 0:
                    _save(streams)
            if queued:
                finish(pool, *queued)
    finally:
        cv2.setNumThreads(threads)
        _save(streams)
    made = sum(s.made for s in streams) - before
    report = {
        "render_images_per_second": round(rate, 1),
        "pictures_made": made,
        "pictures_per_second": round(made / (time.monotonic() - began), 1),
    }
    return {s.kind: (s.pictures[: s.made], s.measured()) for s in streams if s.made}, report


def _save(streams: list[_Stream]) -> None:
    for stream in streams:
        stream.save()
    told = ", ".join(f"{s.made:,} of {s.count:,} {s.kind}" for s in streams)
    logging.info("rendered %s", told)
