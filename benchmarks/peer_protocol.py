"""What every timed process speaks: build, warm up, then time rounds on request.

One process per implementation, all alive at once, asked in turn by the parent: so the implementations are
timed within seconds of each other, and a machine whose speed drifts slows all of them alike. Imports
nothing but the standard library: the peers may run in an environment that does not have this project.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

LATENT = 100
WARMUP_STEPS = 2


def arguments(variants: tuple[str, ...]) -> argparse.Namespace:
    """Command line of a timed process: --batch, --steps (of a round), --variant (one of `variants`)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--variant", choices=variants, default=variants[0])
    return parser.parse_args()


def serve(run: Callable[[int], None], steps: int, **about: object) -> None:
    """Warms up, prints a JSON line with `about`, then times `run(steps)` for each line read.

    Each answer is the JSON object {"seconds": wall time of one step, "cpu_seconds": processor time of one
    step}.

    Args:
      run: does that many training steps and returns when the last one is finished.
      steps: steps of one round.
      **about: facts for the parent (versions, rates, ...).
    """
    start = time.perf_counter()
    run(WARMUP_STEPS)
    print(json.dumps({**about, "warmup_seconds": time.perf_counter() - start}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run(steps)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"seconds": wall / steps, "cpu_seconds": cpu / steps}), flush=True)
