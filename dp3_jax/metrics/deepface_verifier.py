"""The verifier that the paper used: the DeepFace library with its default model, VGG-Face.

It runs in an environment of its own, see `deepface_worker`, whose Python DP3_DEEPFACE_PYTHON names.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import weakref
from typing import Any

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.metrics.verifier import stack

ENVIRONMENT = "DP3_DEEPFACE_PYTHON"
HOW = (
    "python3 -m venv .venv-deepface && .venv-deepface/bin/pip install deepface tf-keras werkzeug, then "
    f"export {ENVIRONMENT}=$PWD/.venv-deepface/bin/python"
)
_WORKER = pathlib.Path(__file__).with_name("deepface_worker.py")


def _stop(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        stream.close()


class DeepFace:
    """See `verifier.Verifier`. The process ends with the object."""

    name = "DeepFace VGG-Face"
    _model = "VGG-Face"

    def __init__(self):
        """Starts DeepFace and loads the model, whose weights it downloads itself (580 MB).

        Raises:
          UserError: there is no such environment, or its weights cannot be had.
        """
        python = os.environ.get(ENVIRONMENT)
        if not python:
            raise UserError(f"DeepFace needs an environment of its own: {HOW}")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [python, str(_WORKER), self._model],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        except OSError as error:
            raise UserError(
                f"{ENVIRONMENT}={python}: {error.strerror}; set it up: {HOW}"
            ) from error
        self._end = weakref.finalize(self, _stop, self._process)
        # DeepFace compares by cosine distance, 1 minus the cosine.
        self.threshold = 1.0 - self._answer()["threshold"]

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:  # it died, and told the reason to standard error if at all
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            line = json.dumps(
                {"error": said[-1] if said else f"it ended with {self._process.poll()}"}
            )
        answer = json.loads(line)
        if "error" in answer:
            remedy = f"set it up: {HOW}" if "No module named" in answer["error"] else "mend that"
            raise UserError(f"DeepFace cannot run {self._model}: {answer['error']}; {remedy}")
        return answer

    def _embed_one(self, image: np.ndarray) -> np.ndarray | None:
        head = json.dumps({"shape": image.shape}).encode() + b"\n"
        try:
            self._process.stdin.write(head + np.ascontiguousarray(image, np.uint8).tobytes())
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended, and its last answer says why
        found = self._answer()["embedding"]
        return None if found is None else np.asarray(found, np.float32)

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Verifier.embed`.

        Raises:
          UserError: DeepFace fails in another way than by finding no face.
        """
        return stack([self._embed_one(image) for image in images])
