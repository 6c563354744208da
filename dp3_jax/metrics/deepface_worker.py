"""The program that `deepface_judge` talks to: DeepFace, in an environment of its own.

DeepFace brings an OpenCV package that lies in the same folder as the opencv-python-headless that everything
else here uses, and TensorFlow and Keras of its own choice. So this file is run by that environment's Python
and imports nothing of dp3_jax; it needs deepface (0.0.103 was tried, which uses werkzeug and does not say
so), and NumPy, which comes with it.

Argument: the model. Standard output gets a line of JSON when the model is loaded: {"threshold": cosine
distance of one person}. Then, for each line {"shape": [H, W, 3]} on standard input and the picture's RGB
bytes after it, one line: {"embedding": [...]}, or {"embedding": null} where no face was found. A line
{"error": text} ends it.
"""

import json
import math
import os
import sys


def _error(error: BaseException) -> dict:
    return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def _open(model: str):
    """(function from a picture to an embedding or None, threshold)."""
    import numpy as np
    from deepface import DeepFace
    from deepface.modules.exceptions import FaceNotDetected
    from deepface.modules.verification import find_threshold

    def embed(rgb, *, must_be_found: bool = True):
        bgr = np.ascontiguousarray(rgb[..., ::-1])  # DeepFace reads arrays as OpenCV does
        try:
            faces = DeepFace.represent(
                bgr, model_name=model, detector_backend="yunet", enforce_detection=must_be_found
            )
        except (
            FaceNotDetected
        ):  # nothing else means that: other ValueErrors tell of failed downloads
            return None
        largest = max(faces, key=lambda face: face["facial_area"]["w"] * face["facial_area"]["h"])
        return [float(x) for x in largest["embedding"]]

    embed(np.zeros((128, 128, 3), np.uint8), must_be_found=False)  # loads both networks, or fails
    return embed, float(find_threshold(model, "cosine"))


def main() -> int:
    """Answers until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    del sys.path[0]  # this file's folder, whose modules are none of theirs
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        embed, threshold = _open(sys.argv[1])
        print(json.dumps({"threshold": threshold}), file=answers)
        import numpy as np

        while line := sys.stdin.buffer.readline():
            shape = json.loads(line)["shape"]
            content = sys.stdin.buffer.read(math.prod(shape))
            found = embed(np.frombuffer(content, np.uint8).reshape(shape))
            print(json.dumps({"embedding": found}), file=answers)
    except (
        Exception
    ) as error:  # DeepFace raises many kinds; they are told where the judge was asked for
        print(json.dumps(_error(error)), file=answers)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
