#!/usr/bin/env bash
# safetensors 0.8.0 (NumPy): a transposed array is saved in the order in which it lies in memory, under the shape of
# the transposed one. Loading gives the right shape and the wrong numbers; nothing is raised on either side.
# 0.7.0 wrote the right numbers. Expected by anyone who saves `kernel.T`: the array that was given, or an error.
# Seen on Linux, Python 3.11, NumPy 2.2.6:
#   0.7.0 [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
#   0.8.0 [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
# Exits with 0 while that is so, with 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat >"$folder/show.py" <<'PYTHON'
import numpy, safetensors, safetensors.numpy

given = numpy.arange(6, dtype=numpy.float32).reshape(2, 3).T
back = safetensors.numpy.load(safetensors.numpy.save({"x": given}))["x"]
assert back.shape == given.shape == (3, 2)
print(safetensors.__version__, back.tolist(), "right" if (back == given).all() else "wrong")
PYTHON
for version in 0.7.0 0.8.0; do
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "safetensors==$version" numpy==2.2.6
    "$folder/venv/bin/python" "$folder/show.py" | tee -a "$folder/seen"
done
diff "$folder/seen" - <<'EXPECTED'
0.7.0 [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]] right
0.8.0 [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]] wrong
EXPECTED
