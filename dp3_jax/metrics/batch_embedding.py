"""Embeddings of many faces by several face verifiers at once: in batches, on all cores.

The networks are those of `models.embedders`, which take a face at a time where they must; here each has the
form that is fastest for many. On two cores a face takes all three verifiers two thirds of the time
(benchmarks/audit.py measures it). Rows agree with those of `models.embedders` to rounding.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np

from dp3_jax.common import assets
from dp3_jax.common.cores import available_cores
from dp3_jax.models import dlib_resnet, embedders, faceres, sface
from dp3_jax.vision import masks

VERIFIERS = ("sface", "dlib_resnet", "faceres")
WIDTHS = {"sface": sface.WIDTH, "dlib_resnet": dlib_resnet.WIDTH, "faceres": faceres.WIDTH}
_BATCH = 16  # faces in a call of a network; two calls run at once
_FRAMES: dict[str, Any] = {  # where each has a face's five points, and what it takes for one person
    "sface": embedders.SFace,
    "dlib_resnet": embedders.DlibResNet,
    "faceres": embedders.Faceres,
}

_Network = Callable[[np.ndarray], jax.Array]


def _in_parts(function: Callable, size: int) -> Callable:
    """`function(parameters, images)` of a batch, in parts whose activations stay in a core's cache."""

    def mapped(parameters, images):
        parts = images.astype("float32").reshape(-1, size, *images.shape[1:])
        rows = jax.lax.map(lambda part: function(parameters, part), parts)
        return rows.reshape(len(images), -1)

    return mapped


def _open_sface() -> tuple[Callable, Any]:
    parameters = sface.load_parameters(assets.fetch("sface"))
    parts = _in_parts(sface.features, 4)
    return lambda p, x: sface.head(p, parts(p, x)), parameters


def _open_dlib() -> tuple[Callable, Any]:
    manifest, weights = assets.fetch("dlib_resnet_manifest"), assets.fetch("dlib_resnet")
    return _in_parts(dlib_resnet.apply, 4), dlib_resnet.load_parameters(manifest, weights)


def _open_faceres() -> tuple[Callable, Any]:
    network = faceres.Faceres(assets.fetch("faceres_graph"), assets.fetch("faceres"))
    parts = _in_parts(lambda p, x: network.apply(p, x).embedding, 2)
    return lambda p, x: parts(p, x) - faceres.mean(), network.parameters


_OPENERS = {"sface": _open_sface, "dlib_resnet": _open_dlib, "faceres": _open_faceres}


@functools.cache
def _network(name: str) -> _Network:
    """A verifier's network, u8[_BATCH, side, side, 3] -> f32[_BATCH, d]; opened once.

    Raises:
      UserError: it cannot be fetched.
    """
    function, parameters = _OPENERS[name]()
    # Each call on one core, as several run at once: sharing each among all cores costs a tenth more.
    alone = jax.default_backend() == "cpu"
    options = {"xla_cpu_multi_thread_eigen": False} if alone else None
    compiled, placed = jax.jit(function, compiler_options=options), jax.device_put(parameters)
    return lambda faces: compiled(placed, faces)


def open_all(verifiers: Sequence[str] = VERIFIERS) -> None:
    """Opens the networks, so that what is missing is told before any work.

    Raises:
      UserError: one cannot be fetched.
    """
    for name in verifiers:
        _network(name)


def _canonical_points(side: int) -> np.ndarray:
    return ((masks.CANONICAL_POINTS + 0.5) * (side / masks.SIZE) - 0.5).astype(np.float32)


def _rows(
    name: str, views: Sequence[np.ndarray], points: Sequence[np.ndarray], out: np.ndarray
) -> None:
    """Writes the embeddings of up to _BATCH views to f32[len(views), d] `out`."""
    frame = _FRAMES[name]
    faces = np.zeros((_BATCH, frame.side, frame.side, 3), np.uint8)
    found = np.zeros(len(views), bool)
    for i, (view, five) in enumerate(zip(views, points, strict=True)):
        try:
            faces[i] = embedders.align(view, five, frame)
            found[i] = True
        except ValueError:  # points that are unknown or coincide
            continue
    if found.any():
        rows = np.asarray(_network(name)(faces))[: len(views)]
        out[found] = embedders.unit(rows[found])


def embed(
    views: Sequence[np.ndarray] | np.ndarray,
    verifiers: Sequence[str] = VERIFIERS,
    points: Sequence[np.ndarray] | None = None,
    *,
    threads: int | None = None,
) -> dict[str, np.ndarray]:
    """Embeddings of faces, for each verifier f32[n, d] rows of length 1; NaN where there is no face.

    Args:
      views: u8[n, s, s, 3] RGB pictures in the canonical frame of any size; with `points` any pictures.
      verifiers: keys of WIDTHS.
      points: for each view f32[5, 2] px, where YuNet's five points lie in it, NaN where unknown; default:
        where the canonical frame has them.
      threads: that share the work; default: one a core.

    Raises:
      UserError: a network cannot be fetched.
    """
    open_all(verifiers)
    result = {name: np.full((len(views), WIDTHS[name]), np.nan, np.float32) for name in verifiers}
    tasks = []
    for name in verifiers:
        for start in range(0, len(views), _BATCH):
            part = views[start : start + _BATCH]
            five = [_canonical_points(len(v)) for v in part] if points is None else None
            five = points[start : start + _BATCH] if five is None else five
            tasks.append((name, part, five, result[name][start : start + _BATCH]))
    with futures.ThreadPoolExecutor(threads or available_cores()) as pool:
        for future in [pool.submit(_rows, *task) for task in tasks]:
            future.result()
    return result
