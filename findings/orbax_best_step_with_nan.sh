#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: a checkpoint whose metric is NaN is taken for the best one. With best_mode="max" and
# max_to_keep=1 the checkpoint with the real best metric is deleted for it, without a warning.
# Expected: a NaN ranks last, or is refused. One diverged evaluation costs the best weights of a run.
# Seen on Linux, Python 3.11, CPU: metrics 0.9 at step 1, NaN at step 2 -> "kept [2], best 2".
# Exits with 0 while that is so, with 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.2.6
cat >"$folder/show.py" <<'PYTHON'
import sys

import jax.numpy as jnp
import orbax.checkpoint as ocp

options = ocp.CheckpointManagerOptions(
    max_to_keep=1, best_fn=lambda metrics: metrics["score"], best_mode="max"
)
with ocp.CheckpointManager(sys.argv[1], options=options) as manager:
    for step, score in ((1, 0.9), (2, float("nan"))):
        state = {"x": jnp.full((2,), float(step))}
        manager.save(step, args=ocp.args.StandardSave(state), metrics={"score": score})
        manager.wait_until_finished()
    print("kept", manager.all_steps(), "best", manager.best_step())
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/run" 2>"$folder/errors" | tee "$folder/seen"
grep -q '^kept \[2\] best 2$' "$folder/seen"
