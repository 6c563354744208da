"""Networks that OpenCV runs, without the warnings that it prints when one is made."""

import contextlib
import threading
from collections.abc import Iterator

import cv2
import numpy as np

from dp3_jax.common import assets
from dp3_jax.common.shared_settings import SharedSetting


@SharedSetting
@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """Hides the warnings that OpenCV 5 prints when a network is created."""
    from cv2.utils import logging as opencv_logging

    level = opencv_logging.getLogLevel()
    opencv_logging.setLogLevel(opencv_logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        opencv_logging.setLogLevel(level)


@SharedSetting
@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Lets OpenCV use one thread a call: calls that run side by side would wait for each other."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


class Network:
    """A pretrained network with one image as its input; threads take turns."""

    def __init__(self, asset: str):
        """Loads the network in asset `asset` (.tflite or .onnx), fetching it once.

        Raises:
          UserError: the file cannot be fetched.
        """
        path = str(assets.fetch(asset))
        read = cv2.dnn.readNetFromTFLite if path.endswith(".tflite") else cv2.dnn.readNetFromONNX
        # OpenCV 5's other engine, its default, knows only the last of a .tflite file's outputs.
        engine = [cv2.dnn.ENGINE_CLASSIC] if hasattr(cv2.dnn, "ENGINE_CLASSIC") else []
        with quiet_opencv():
            self._network = read(path, *engine)
        self._names = self._network.getUnconnectedOutLayersNames()
        self._turn = threading.Lock()

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """f32[h, w, c] image -> all outputs, each flat, in the network's order."""
        blob = np.ascontiguousarray(image.astype(np.float32).transpose(2, 0, 1)[None])
        with self._turn:
            self._network.setInput(blob)
            return [output.ravel().copy() for output in self._network.forward(self._names)]
