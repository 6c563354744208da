#!/usr/bin/env bash
# jax 0.10.2: `multihost_utils.process_allgather` of one number for each process fails where the processes have
# different numbers of devices: it lays the devices out as processes x local devices and reshapes 3 into (2, 2).
# Expected: what each process told, one value for each; devices have no part in that. So a run cannot ask its
# processes by it whether they are equal: count `device.process_index` over `jax.devices()`, which works.
# Seen on Linux, Python 3.11, CPU, two processes: 2 and 2 devices -> [0, 1]; 2 and 1 devices ->
# "ValueError cannot reshape array of size 3 into shape (2,2)".
# Exits with 0 while that is so, with 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.2.6
cat >"$folder/one.py" <<'PYTHON'
import sys

import jax

number, devices, port = map(int, sys.argv[1:])
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", devices)
jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
import numpy as np
from jax.experimental import multihost_utils

try:
    told = multihost_utils.process_allgather(np.array(number)).tolist()
except ValueError as error:
    told = f"ValueError {error}"
if number == 0:
    print(devices, "devices here,", jax.device_count(), "in all:", told, flush=True)
PYTHON
free='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
for other in 2 1; do
    port=$(python3 -c "$free")
    "$folder/venv/bin/python" "$folder/one.py" 1 "$other" "$port" >/dev/null 2>&1 &
    "$folder/venv/bin/python" "$folder/one.py" 0 2 "$port" 2>"$folder/errors" | tee -a "$folder/seen"
    wait || true
done
grep -q '^2 devices here, 4 in all: \[0, 1\]$' "$folder/seen"
grep -q '^2 devices here, 3 in all: ValueError cannot reshape array of size 3 into shape (2,2)$' "$folder/seen"
