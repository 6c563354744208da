"""Settings of the whole process are put back when the last thread that needs another one has done."""

import contextlib
import threading

import cv2
import numpy as np
from PIL import Image

from dp3_jax.common.shared_settings import SharedSetting
from dp3_jax.media import photos


def test_a_setting_is_put_back_by_the_last_one_whoever_that_is():
    value = ["usual"]

    @contextlib.contextmanager
    def other():
        before, value[0] = value[0], "other"
        yield
        value[0] = before

    setting = SharedSetting(other)
    first, second = setting(), setting()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert value == ["other"]  # the second still needs it
    second.__exit__(None, None, None)
    assert value == ["usual"]


def test_photos_that_are_read_side_by_side_leave_pillow_as_it_was():
    before = Image.MAX_IMAGE_PIXELS
    content = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    threads = [
        threading.Thread(target=lambda: [photos.decode_photo(content, "x") for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == Image.MAX_IMAGE_PIXELS
