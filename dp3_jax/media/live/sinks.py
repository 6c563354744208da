"""Where anonymized live frames go."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.media.live import preview_page, recording
from dp3_jax.media.live.preview_page import PreviewPage
from dp3_jax.media.live.sources import is_address
from dp3_jax.media.video.encoding import EncoderSettings

_ESCAPE = 27
NEW_PERSON_KEY = "n"


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
    text: str,
    width: int,
    height: int,
    rate: float,
    settings: EncoderSettings,
    *,
    on_new_person: Callable[[], None] | None = None,
) -> Iterator[Sink]:
    """Opens what the user named; see docs/cli/live.md.

    Args:
      text: preview[:[HOST:]PORT], window, camera[:DEVICE], an address, a file, "-" or null.
      width, height: of all frames, px.
      rate: frames a second, about.
      settings: of the encoder of a file or stream.
      on_new_person: called when whoever looks at a page or window asks for new persons; None: nobody can.

    Raises:
      UserError: it cannot be opened.
    """
    kind, _, rest = text.partition(":")
    if is_address(text):
        opened = recording.send_stream(text, width, height, rate, settings)
    elif kind == "preview":
        opened = contextlib.closing(PreviewPage(*_place(text, rest), on_new_person))
    elif kind == "camera":
        opened = contextlib.closing(_VirtualCamera(width, height, rate, rest or None))
    elif text == "window":
        opened = contextlib.closing(_Window(on_new_person))
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
    """A window of OpenCV; ends when it is closed, or with Escape or q in it. n asks for new persons."""

    name = "window"

    def __init__(self, on_new_person: Callable[[], None] | None):
        """Looks whether there can be a window; it opens with the first frame."""
        import cv2

        self._on_new_person = on_new_person
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
        key = cv2.waitKey(1) & 0xFF
        if key in (_ESCAPE, ord("q")):
            raise SinkClosed
        if key == ord(NEW_PERSON_KEY) and self._on_new_person is not None:
            self._on_new_person()

    def close(self) -> None:
        """Closes the window."""
        import cv2

        if self._open:
            cv2.destroyAllWindows()


def _driver() -> str:
    """What to do for a virtual camera besides the package."""
    if sys.platform.startswith("linux"):
        return "sudo modprobe v4l2loopback (for a container: on its host, and pass /dev/videoN in)"
    return "install OBS, whose virtual camera is used"


def _pyvirtualcam():
    """The package that writes to virtual cameras; UserError says what to install."""
    try:
        import pyvirtualcam
    except ImportError as error:
        raise UserError(
            f"a virtual camera needs a package and a driver: pip install pyvirtualcam; {_driver()}"
        ) from error
    return pyvirtualcam


def check(text: str) -> None:
    """Says at once, before anything is loaded, what is missing for a sink wherever that is.

    Raises:
      UserError: a package is missing.
    """
    if text.partition(":")[0] == "camera" and not is_address(text):
        _pyvirtualcam()


class _VirtualCamera:
    """A camera for other programs: v4l2loopback on Linux, that of OBS elsewhere."""

    def __init__(self, width: int, height: int, rate: float, device: str | None):
        pyvirtualcam = _pyvirtualcam()
        try:
            self._camera = pyvirtualcam.Camera(width, height, rate, device=device)
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).partition(". ")[0].rstrip(".")
            raise UserError(f"no virtual camera: {reason}; {_driver()}") from error
        self.name = f"virtual camera {self._camera.device}"

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Sends the frame."""
        self._camera.send(np.ascontiguousarray(image))

    def close(self) -> None:
        """Ends the camera."""
        self._camera.close()
