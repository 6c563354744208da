"""What every timed process speaks: build, warm up, then time rounds on request.

One process per implementation, all alive at once, asked in turn by the parent: so the implementations are
timed within seconds of each other, and a machine whose speed drifts slows all of them alike. Imports
nothing but the standard library: the peers run in environments that do not have this project.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

WARMUP_STEPS = 2


def arguments(description: str | None, variants: tuple[str, ...]) -> argparse.Namespace:
    """Command line of a timed process: --batch, --steps (a round), --variant (one of `variants`)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--variant", choices=variants, default=variants[0])
    return parser.parse_args()


def serve(run: Callable[[int], None], steps: int, **about: object) -> None:
    """Warms up, prints a JSON line with `about`, then for each line read times `run(steps)`.

    Args:
      run: does that many training steps and returns when the last one is finished.
      steps: steps of one round.
      **about: facts for the parent (versions, device).

    Each round prints {"seconds": wall time of a step, "cpu_seconds": processor time of a step}.
    """
    run(WARMUP_STEPS)
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run(steps)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"seconds": wall / steps, "cpu_seconds": cpu / steps}), flush=True)
