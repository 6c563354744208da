"""Serving a review to a browser on this machine."""

import contextlib
import pathlib
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from concurrent import futures

import uvicorn

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.review.app import Review, build_app

HOST = "127.0.0.1"  # nobody else can look
_TOKEN_BYTES = 24
_GRACE = 1  # s that answers have when it ends
_OPENER = "open.html"
_THREADS = 8  # answers at a time, most of which wait for a picture


def serve(review: Review, port: int, tell: Callable[[str], None], *, browser: bool = False) -> None:
    """Serves until the process is told to end.

    Args:
      review: what is served.
      port: to listen at; 0 takes a free one.
      tell: called with the address when it is served.
      browser: open it in the user's browser.

    Raises:
      UserError: the port is taken.
    """
    with _listening(port) as listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        address = f"http://{HOST}:{port}/?token={token}"
        with contextlib.ExitStack() as stack:
            pool = futures.ThreadPoolExecutor(_THREADS, "page")
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            app = build_app(review, pool, token=token, port=port)
            # Its log of requests would hold the token.
            config = uvicorn.Config(
                app,
                log_level="critical",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=_GRACE,
            )
            tell(address)
            if browser:
                stack.enter_context(_opened(address, review.session.folder))
            uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(f"cannot serve at {HOST}:{port}: {error}; choose another --port") from error
    with listener:
        yield listener


@contextlib.contextmanager
def _opened(address: str, folder: pathlib.Path) -> Iterator[None]:
    """Opens the address in a browser, by a file that only this user may read.

    An address on a command line is seen by all users of the machine, with its token.
    """
    path = folder / _OPENER
    page = f'<!doctype html><meta http-equiv="refresh" content="0;url={address}"><title>dp3</title>'
    with files.atomic_target(path) as temporary:
        temporary.touch(0o600)
        temporary.write_text(page)
    threading.Thread(
        target=webbrowser.open, args=(path.resolve().as_uri(),), name="browser", daemon=True
    ).start()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
