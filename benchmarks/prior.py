"""Speed of the face prior on CPU, beside OpenVINO in float32 on the same graph.

    python benchmarks/prior.py [--rounds N] [--batch N]

Rounds in turn in one process, so that what else the machine does hits all alike; medians of wall time and of
processor time. OpenVINO (pip install openvino) is left out where it or the wheel of random_face is missing:
put the wheel into the folder that `dp3 assets` tells. On a GPU: the same functions, in bfloat16 too.
"""

import argparse
import functools
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from dp3_jax.common import (  # noqa: E402
    asset_sources,
    assets,
    prior_file,
)
from dp3_jax.models import prior, prior_heads  # noqa: E402

REFERENCE = "OpenVINO 1024 px"


def openvino_synthesis(w: np.ndarray) -> Callable[[], object] | None:
    """A call of OpenVINO's float32 synthesis for `w`, one picture after the other as its graph asks."""
    wheels = sorted(assets.cache_folder().glob("random_face-*.whl"))
    try:
        import openvino
    except ImportError:
        return None
    if not wheels:
        return None
    with tempfile.TemporaryDirectory() as folder:
        for member in prior_file.MEMBERS:
            content = asset_sources.read_member(wheels[0], member)
            (pathlib.Path(folder) / pathlib.Path(member).name).write_bytes(content)
        model = openvino.Core().compile_model(
            str(pathlib.Path(folder) / "SynthesisNetwork.xml"),
            "CPU",
            {"INFERENCE_PRECISION_HINT": "f32"},
        )
    return lambda: [model({0: row[None]})[0].copy() for row in w]


def compiled(params: dict, w: jax.Array, size: int, dtype: jnp.dtype) -> Callable[[], object]:
    """A call of our renderer, compiled and run once."""
    params = {name: value.astype(dtype) for name, value in params.items()}
    render = jax.jit(functools.partial(prior_heads.render, size=size))
    call = lambda: jax.block_until_ready(render(params, w.astype(dtype)))  # noqa: E731
    start = time.perf_counter()
    call()
    print(
        f"compiled for {size} px, {dtype.__name__}: {time.perf_counter() - start:.1f} s", flush=True
    )
    return call


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    params = prior_heads.load_renderer()
    z = np.random.default_rng(0).normal(size=(arguments.batch, prior.LATENT_DIM))
    w = jax.jit(prior.mapping)(params, z.astype(np.float32))
    dtypes = [jnp.float32] if jax.default_backend() == "cpu" else [jnp.float32, jnp.bfloat16]
    calls = {
        f"JAX {size} px {dtype.__name__}": compiled(params, w, size, dtype)
        for dtype in dtypes
        for size in prior_heads.SIZES
    }
    if reference := openvino_synthesis(np.asarray(w)):
        calls = {REFERENCE: reference} | calls
    wall, processor = ({name: [] for name in calls} for _ in range(2))
    for _ in range(arguments.rounds):
        for name, call in calls.items():
            start, used = time.perf_counter(), time.process_time()
            call()
            wall[name].append((time.perf_counter() - start) / arguments.batch)
            processor[name].append((time.process_time() - used) / arguments.batch)
    for name in calls:
        line = f"{name:24} {1e3 * statistics.median(wall[name]):7.1f} ms a picture, "
        line += f"{1e3 * statistics.median(processor[name]):7.1f} ms of processor time"
        if reference:
            # Of the rounds' own ratios, in which a disturbance hits both.
            ratios = [
                statistics.median(a / b for a, b in zip(times[REFERENCE], times[name], strict=True))
                for times in (wall, processor)
            ]
            line += f"; OpenVINO takes {ratios[0]:.2f} ({ratios[1]:.2f}) times that"
        print(line)


if __name__ == "__main__":
    main()
