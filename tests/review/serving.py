"""A server of `dp3 review` in a process of its own, as people start it."""

import contextlib
import signal
import subprocess
import sys

COMMAND = "import sys; from dp3_jax.cli.main import run; sys.argv[0] = 'dp3'; run()"


class Server:
    """The process; `address` is the line that it printed."""

    def __init__(self, *arguments):
        command = [sys.executable, "-c", COMMAND, "review", *map(str, arguments), "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def end(self, how=signal.SIGINT):
        """Ends it; its exit status."""
        self.process.send_signal(how)
        status = self.process.wait()
        self.process.stdout.close()
        return status


@contextlib.contextmanager
def serving(*arguments):
    """A server that is gone afterwards."""
    server = Server(*arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)
