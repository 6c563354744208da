"""A program: runs `dp3 anonymize` in processes of its own that end before they are done.

Arguments: the video, and a JSON object of results, each with a list of runs: {"signal": of the run to itself,
"at": the number of the event (a file gets its name, a line is added to a journal, a frame is encoded) at
which that happens, "file_size": bytes that a file may have, "end": signal to the run that was stopped,
"identity": whose faces are drawn}. No run follows one that ended well. Prints an object with a list for each
result: of each run its status, the names of the files in the result's folder, how many events there were,
and its standard error.
"""

import importlib
import json
import os
import pathlib
import resource
import signal
import sys
import tempfile

from dp3_jax.cli.main import main as command
from dp3_jax.media.video import segments
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import face_tracks, rendering_pass, work_folder
from tests.face_photos import Painter, everyone
from tests.video_scenes import Finder

# What a job imports late, here once and not in each of its processes. JAX begins no thread by it, which a
# forked process would lack.
LATE = (
    "jax.experimental.serialize_executable",
    "dp3_jax.pipelines.running",
    "dp3_jax.pipelines.video.job",
    "dp3_jax.replacement.classes",
    "dp3_jax.replacement.prior_identities",
    "pooch",
    "safetensors.numpy",
)


def _counted(owner, name, event):
    """Lets `event` happen before and after each call of a function."""
    original = getattr(owner, name)

    def call(*arguments, **more):
        event()
        result = original(*arguments, **more)
        event()
        return result

    setattr(owner, name, call)


def _prepare():
    rendering_pass.SEGMENT_SECONDS = 0.4
    face_tracks.VideoDetector = Finder()
    Anonymizer.detector, Anonymizer.generator = None, Painter()
    Anonymizer.is_face = staticmethod(everyone)
    for name in LATE:
        importlib.import_module(name)


def _child(source, target, planned, counter):
    def event():
        count = int(counter.read_text()) + 1
        with open(counter, "r+") as opened:
            opened.write(str(count))
        if count == planned.get("at"):
            os.kill(os.getpid(), planned["signal"])

    for owner, name in (
        (os, "replace"),
        (work_folder.WorkFolder, "append"),
        (segments.SegmentWriter, "write"),
    ):
        _counted(owner, name, event)
    if "file_size" in planned:
        resource.setrlimit(resource.RLIMIT_FSIZE, (planned["file_size"],) * 2)
    line = ["anonymize", source, "-o", target, "--seed", "1", "--sidecar"]
    return command([*line, "--identity", planned.get("identity", "builtin")])


def _run(source, target, planned):
    """What became of a run, and the pid of one that was stopped."""
    counter = pathlib.Path(tempfile.mkstemp()[1])
    counter.write_text("0")
    reading, writing = os.pipe()  # a file could not grow either
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            os._exit(_child(source, target, planned, counter))
        finally:
            os._exit(99)
    os.close(writing)
    os.set_blocking(reading, False)
    _, status = os.waitpid(pid, os.WUNTRACED)
    stopped = os.WIFSTOPPED(status)
    record = {
        "status": "stopped" if stopped else os.waitstatus_to_exitcode(status),
        "names": sorted(p.name for p in pathlib.Path(target).parent.iterdir()),
        "events": int(counter.read_text()),
        "errors": "" if stopped else os.read(reading, 65536).decode(),
    }
    os.close(reading)
    counter.unlink()
    return record, pid if stopped else None


def main(source, results):
    _prepare()
    records = {target: [] for target in results}
    for target, planned in results.items():
        pathlib.Path(target).parent.mkdir()
        waiting = None
        for one in planned:
            if "end" in one:
                os.kill(waiting, one["end"])
                os.waitpid(waiting, 0)
                continue
            record, stopped = _run(source, target, one)
            waiting = stopped or waiting
            records[target].append(record)
            if record["status"] == 0:
                break
    print(json.dumps(records))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(sys.argv[1], json.loads(sys.argv[2]))
