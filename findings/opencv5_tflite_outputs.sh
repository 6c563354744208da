#!/usr/bin/env bash
# OpenCV 5.0.0.93: of a TFLite network with two outputs its default dnn engine reports one, and the other cannot be asked
# for. MediaPipe's face_landmark.tflite gives the mesh (1,404 numbers) and a logit that says whether there is a face;
# getUnconnectedOutLayersNames() names only the logit. Whoever takes the only output for the mesh
# gets one number, and nothing is raised. The classic engine (cv2.dnn.ENGINE_CLASSIC) reports both.
# Expected: the outputs that the file lists, whichever engine.
# Seen on Linux, Python 3.11:
#   default ('conv2d_21',)
#   classic ('conv2d_31', 'conv2d_21')
# Exits with 0 while the default engine reports fewer outputs than the classic one, with 1 when that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.2.6
# The wheel is only unpacked, for the model.
"$folder/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 3.11 --platform manylinux_2_28_x86_64 --dest "$folder" mediapipe==0.10.21
cat >"$folder/show.py" <<'PYTHON'
import pathlib, sys, zipfile

import cv2

folder = pathlib.Path(sys.argv[1])
member = "mediapipe/modules/face_landmark/face_landmark.tflite"
model = folder / "model.tflite"
model.write_bytes(zipfile.ZipFile(next(folder.glob("mediapipe*.whl"))).read(member))
counts = {}
for name, engine in (("default", cv2.dnn.ENGINE_AUTO), ("classic", cv2.dnn.ENGINE_CLASSIC)):
    outputs = cv2.dnn.readNetFromTFLite(str(model), engine).getUnconnectedOutLayersNames()
    print(name, outputs)
    counts[name] = len(outputs)
sys.exit(0 if counts["default"] < counts["classic"] else 1)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"
