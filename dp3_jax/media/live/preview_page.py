"""A page that shows the anonymized picture in a browser on this machine (MJPEG over HTTP)."""

import contextlib
import http.server
import ipaddress
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from dp3_jax.common.errors import UserError

HOST = "127.0.0.1"  # nobody else can look, unless the user says so
PORT = 8765

_QUALITY = 85
_BOUNDARY = "dp3-frame"
_POLL = 0.1  # s after which the server notices that it is to end
_WAIT = 1.0  # s after which a client that gets no new frame is looked after
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>dp3 live</title>
<style>body{margin:0;background:#111;color:#ccc;font:14px sans-serif}
img{display:block;max-width:100vw;max-height:calc(100vh - 2.5em);margin:auto}
p{margin:.6em;text-align:center}</style>
<img src="/stream" alt="anonymized picture">
<p><span id="status">waiting for the first frame</span> %s</p>
<script>
setInterval(async () => {
  const line = document.getElementById("status");
  try { line.textContent = (await (await fetch("/status")).json()).line; }
  catch { line.textContent = "ended"; }
}, 1000);
const button = document.getElementById("new");
const ask = () => fetch("/new-person", {method: "POST", headers: {"%s": "1"}});
if (button) {
  button.onclick = ask;
  document.onkeydown = event => {
    if (event.key === "n" && !event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey) ask();
  };
}
</script></html>
"""
_BUTTON = '<button id="new" title="key n">new person</button>'
# A page from elsewhere cannot send it without asking first, which is not answered (CORS).
OWN_HEADER = "X-DP3-Live"


class PreviewPage:
    """A sink that serves the newest frame; it is encoded only while somebody looks."""

    def __init__(
        self, host: str = HOST, port: int = PORT, on_new_person: Callable[[], None] | None = None
    ):
        """Starts the server.

        Args:
          host, port: where; port 0 takes a free one.
          on_new_person: called when somebody presses the button for new persons; None: there is none.

        Raises:
          UserError: the address is in use or not this machine's.
        """
        try:
            self._server = http.server.ThreadingHTTPServer((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"cannot serve the preview at {host}:{port}: {error}; choose another with "
                "--to preview:PORT"
            ) from error
        self._server.daemon_threads = True
        self._server.page = self
        self.host, self.port = host, self._server.server_address[1]
        self.name = f"http://{host}:{self.port}/"
        self.status = ""  # one line
        self.on_new_person = on_new_person
        self._changed = threading.Condition()
        self._image: np.ndarray | None = None
        self._encoded: bytes | None = None
        self._number = 0
        self._closed = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL,), name="preview", daemon=True
        )
        self._thread.start()

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Shows u8[h, w, 3]."""
        del seconds
        with self._changed:
            self._image, self._encoded = image, None
            self._number += 1
            self._changed.notify_all()

    def jpeg(self, after: int) -> tuple[int, bytes] | None:
        """The first frame with a number above `after`, as (number, JPEG); waits a moment; None: none yet."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > after or self._closed, _WAIT)
            if self._number <= after or self._closed:
                return None
            if self._encoded is None:
                bgr = cv2.cvtColor(self._image, cv2.COLOR_RGB2BGR)
                _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                self._encoded = encoded.tobytes()
            return self._number, self._encoded

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    def close(self) -> None:
        """Ends all answers and the server."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers one client."""

    protocol_version = "HTTP/1.0"

    @property
    def _page(self) -> PreviewPage:
        return self.server.page

    def do_GET(self) -> None:
        """GET /, /stream, /frame.jpg or /status."""
        if not self._is_for_us():
            self.send_error(403, "unknown host name")
            return
        answers: dict[str, Any] = {
            "/": self._send_page,
            "/stream": self._send_stream,
            "/frame.jpg": self._send_frame,
            "/status": self._send_status,
        }
        answer = answers.get(self.path.split("?")[0])
        if answer is None:
            self.send_error(404)
            return
        with contextlib.suppress(ConnectionError, TimeoutError):  # the client has left
            answer()

    def do_POST(self) -> None:
        """POST /new-person."""
        renew = self._page.on_new_person
        if not self._is_for_us() or self.headers.get(OWN_HEADER) is None:
            self.send_error(403, "only from the page itself")
        elif self.path != "/new-person" or renew is None:
            self.send_error(404)
        else:
            renew()
            self.send_response(204)
            self.end_headers()

    def _is_for_us(self) -> bool:
        """Whether the request names this server by its address.

        A page from elsewhere can make a browser look up its own name as 127.0.0.1 and read the answer
        (DNS rebinding); its requests carry that name.
        """
        host = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]")
        if host in ("localhost", self._page.host):
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def _send_page(self) -> None:
        button = "" if self._page.on_new_person is None else _BUTTON
        self._send("text/html; charset=utf-8", (_PAGE % (button, OWN_HEADER)).encode())

    def _send_status(self) -> None:
        self._send("application/json", json.dumps({"line": self._page.status}).encode())

    def _send_frame(self) -> None:
        found = self._page.jpeg(after=0)
        if found is None:
            self.send_error(503, "no frame yet")
        else:
            self._send("image/jpeg", found[1])

    def _send_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        for content in self._frames():
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
            self.wfile.write(head.encode() + content + b"\r\n")

    def _frames(self) -> Iterator[bytes]:
        number = 0
        while not self._page.closed:
            found = self._page.jpeg(after=number)
            if found is not None:
                number, content = found
                yield content

    def log_message(self, *arguments: object) -> None:
        """Nothing is printed."""
