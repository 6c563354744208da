"""Where anonymized live frames go."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from dp3_jax import files
from dp3_jax.errors import UserError
from dp3_jax.live import preview_page, recording
from dp3_jax.live.preview_page import PreviewPage
from dp3_jax.live.sources import is_address
from dp3_jax.video.encoding import EncoderSettings

_ESCAPE = 27


class SinkClosed(Exception):
    """Nobody takes frames any more: a window was closed, the reader of a pipe has left."""


class Sink(Protocol):
    """Takes frames, from one thread.

    Attributes:
      name: for people; without passwords.
    """

    name: str

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Takes u8[h, w, 3] RGB, to be shown at a time since the first frame.

        Raises:
          SinkClosed: nobody takes frames any more.
          UserError: it cannot be written.
        """
        ...


@contextlib.contextmanager
def open_sink(
    text: str, width: int, height: int, rate: float, settings: EncoderSettings
) -> Iterator[Sink]:
    """Opens what the user named; see docs/live.md.

    Args:
      text: preview[:[HOST:]PORT], window, camera[:DEVICE], an address, a file, "-" or null.
      width, height: of all frames, px.
      rate: frames a second, about.
      settings: of the encoder of a file or stream.

    Raises:
      UserError: it cannot be opened.
    """
    kind, _, rest = text.partition(":")
    if is_address(text):
        opened = recording.send_stream(text, width, height, rate, settings)
    elif kind == "preview":
        opened = contextlib.closing(PreviewPage(*_place(text, rest)))
    elif kind == "camera":
        opened = contextlib.closing(_VirtualCamera(width, height, rate, rest or None))
    elif text == "window":
        opened = contextlib.closing(_Window())
    elif text == "-":
        opened = contextlib.nullcontext(_Pipe())
    elif text == "null":
        opened = contextlib.nullcontext(_Nothing())
    else:
        opened = recording.record_file(text, width, height, rate, settings)
    with opened as sink:
        yield sink


def _place(text: str, rest: str) -> tuple[str, int]:
    """(host, port) of preview[:[HOST:]PORT]."""
    host, _, port = rest.rpartition(":")
    try:
        return host or preview_page.HOST, int(port) if port else preview_page.PORT
    except ValueError as error:
        raise UserError(f"--to {text}: it is preview, preview:PORT or preview:HOST:PORT") from error


class _Nothing:
    """Takes frames and forgets them, for measuring."""

    name = "nowhere"

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Does nothing."""


class _Pipe:
    """Raw rgb24 frames on standard output."""

    name = "standard output"

    def __init__(self):
        """Looks whether there is one."""
        self._descriptor = files.standard(sys.stdout, self.name).fileno()

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Writes the whole frame."""
        left = memoryview(np.ascontiguousarray(image)).cast("B")
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except BrokenPipeError as error:
            raise SinkClosed from error
        except OSError as error:
            raise UserError(f"cannot write to standard output: {error.strerror}") from error


class _Window:
    """A window of OpenCV; ends when it is closed, or with Escape or q in it."""

    name = "window"

    def __init__(self):
        """Looks whether there can be a window; it opens with the first frame."""
        import cv2

        advice = "or use --to preview, a page in the browser"
        built = [line for line in cv2.getBuildInformation().splitlines() if "GUI:" in line]
        if any("NONE" in line for line in built):
            raise UserError(
                "this OpenCV is built without windows: pip install opencv-python in place of "
                f"opencv-python-headless, {advice}"
            )
        if sys.platform.startswith("linux") and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise UserError(f"there is no screen for a window; set DISPLAY, {advice}")
        self._open = False

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Shows the frame."""
        import cv2

        if self._open and cv2.getWindowProperty("dp3 live", cv2.WND_PROP_VISIBLE) < 1:
            raise SinkClosed
        cv2.imshow("dp3 live", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._open = True
        if cv2.waitKey(1) & 0xFF in (_ESCAPE, ord("q")):
            raise SinkClosed

    def close(self) -> None:
        """Closes the window."""
        import cv2

        if self._open:
            cv2.destroyAllWindows()


class _VirtualCamera:
    """A camera for other programs: v4l2loopback on Linux, that of OBS elsewhere."""

    def __init__(self, width: int, height: int, rate: float, device: str | None):
        try:
            import pyvirtualcam
        except ImportError as error:
            raise UserError(
                "a virtual camera needs pyvirtualcam: pip install pyvirtualcam"
            ) from error
        try:
            self._camera = pyvirtualcam.Camera(width, height, rate, device=device)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"no virtual camera: {error}; on Linux: sudo modprobe v4l2loopback, elsewhere install OBS"
            ) from error
        self.name = f"virtual camera {self._camera.device}"

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Sends the frame."""
        self._camera.send(np.ascontiguousarray(image))

    def close(self) -> None:
        """Ends the camera."""
        self._camera.close()
