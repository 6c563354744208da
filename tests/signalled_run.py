"""A program: launch.py that sends itself a signal at a given micro-batch, however busy the machine is.

Arguments: the number of the micro-batch, the number of the signal, and those of launch.py. Where the
micro-batch is the one after a checkpoint's, that checkpoint is still being written.
"""

import os
import runpy
import sys

from dp3_jax.training.recorder import Recorder


def main(step, number):
    record = Recorder.record

    def recorded(self, current, *arguments):
        if current == step:
            os.kill(os.getpid(), number)
        return record(self, current, *arguments)

    Recorder.record = recorded
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    step, number = map(int, sys.argv[1:3])
    sys.argv = ["launch.py", *sys.argv[3:]]
    main(step, number)
