"""`dp3 dataset` on photos as tar shards: speed by workers, runs that are killed, memory by records.

    python benchmarks/dataset.py speed --photos FOLDER [--records 2000]
    python benchmarks/dataset.py kills --photos FOLDER [--records 2000]
    python benchmarks/dataset.py memory --photos FOLDER [--records 2000 10000]

`speed` also runs `dp3 anonymize FOLDER --workers 2` on the same photos. All runs have one core for each
worker, on a machine with two cores, and the same --method and --identity. Seconds are of whole commands,
with their start. Prints JSON.
"""

import argparse
import hashlib
import io
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

PER_SHARD = 20
COMMAND = (sys.executable, "-c", "from dp3_jax.cli.main import run; run()")


def photos(folder: pathlib.Path, records: int) -> list[tuple[str, bytes]]:
    """Names and contents; the photos of the folder again and again, each with a comment of its own."""
    found = sorted(path for path in folder.rglob("*.jpg") if path.is_file())
    assert found, f"no .jpg in {folder}"
    made = []
    for number, path in zip(range(records), itertools.cycle(found), strict=False):
        content, comment = path.read_bytes(), f"{number:08d}".encode()
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        made.append((f"{number:06d}.jpg", content[:2] + segment + content[2:]))
    return made


def write(place: pathlib.Path, records: list[tuple[str, bytes]], *, folder: bool) -> None:
    """As tar shards in `place`/tars, and as files in `place`/folder."""
    (place / "tars").mkdir(parents=True)
    for start in range(0, len(records), PER_SHARD):
        with tarfile.open(place / f"tars/{start // PER_SHARD:05d}.tar", "w") as archive:
            for name, content in records[start : start + PER_SHARD]:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    if folder:
        (place / "folder").mkdir()
        for name, content in records:
            (place / "folder" / name).write_bytes(content)


def descendants(root: int) -> dict[int, tuple[str, int]]:
    """Command line and resident bytes of a process and all below it."""
    parents, found = {}, {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            name = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
        found[int(entry.name)] = name, int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    wanted = {root}
    while more := {p for p, parent in parents.items() if parent in wanted} - wanted:
        wanted |= more
    return {process: found[process] for process in wanted & found.keys()}


def is_worker(name: str) -> bool:
    """Whether a command line is of one of Ray's actors that hold the models."""
    return name.startswith("ray::_Actor")


class Run:
    """A command on its way."""

    def __init__(self, arguments: list[str], prefix: tuple[str, ...] = ()):
        more = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            [*prefix, *COMMAND, *arguments],
            env={**os.environ, **more},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.peak = 0
        self._sampler = threading.Thread(target=self._look, daemon=True)
        self._sampler.start()

    def _look(self) -> None:
        """Notes the most memory that workers and driver hold together."""
        while self.process.poll() is None:
            there = descendants(self.process.pid)
            ours = [b for p, (n, b) in there.items() if is_worker(n) or p == self.process.pid]
            self.peak = max(self.peak, sum(ours))
            time.sleep(0.5)

    def end(self) -> dict:
        """Waits; seconds, the peak, and the status."""
        said = self.process.communicate()[1]
        if self.process.returncode not in (0, 1):
            raise SystemExit(said)
        seconds = round(time.monotonic() - self.start, 2)
        return {
            "s": seconds,
            "peak_mib": self.peak >> 20,
            "status": self.process.returncode,
        }


def dataset(place: pathlib.Path, output: str, options: argparse.Namespace, workers: int) -> Run:
    """Begins `dp3 dataset`."""
    more = ["--method", options.method, "--identity", options.identity, "--workers", str(workers)]
    more += ["--quiet", "--seed", "1"]
    # One worker alone would take all cores; with its driver it gets one.
    prefix = ("taskset", "-c", "0") if workers == 1 else ()
    return Run(["dataset", str(place / "tars"), "-o", str(place / output), *more], prefix)


def check(place: pathlib.Path, output: str, records: list[tuple[str, bytes]]) -> dict:
    """Counts records that are missing, there twice, as they were, or otherwise than the manifest says."""
    import pyarrow.parquet as pq

    rows = pq.read_table(place / output / "manifest.parquet").to_pylist()
    said = {row["source"].rpartition("/")[2]: row for row in rows}
    old, made, twice, same, other = dict(records), set(), 0, 0, 0
    for path in sorted((place / output).glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member).read()
                twice += member.name in made
                made.add(member.name)
                same += content == old[member.name]
                digest = hashlib.sha256(content).hexdigest()
                other += digest != said[member.name]["output_sha256"]
    failed = {name for name, row in said.items() if row["error"]}
    return {
        "missing": len(old.keys() - made - failed),
        "twice": twice + len(rows) - len(said),
        "as_they_were": same,
        "unlike_manifest": other,
        "without_face": sum(not row["faces"] for row in rows),
        "failed": len(failed),
    }


def speed(place, records, options) -> dict:
    """One worker, two workers, and `dp3 anonymize` with two."""
    result = {
        "1_worker": dataset(place, "one", options, 1).end(),
        "2_workers": dataset(place, "two", options, 2).end(),
    }
    more = ["--method", options.method, "--identity", options.identity, "--seed", "1", "--quiet"]
    result["anonymize"] = Run(
        ["anonymize", str(place / "folder"), "-o", str(place / "a"), "--workers", "2", *more]
    ).end()
    result["2_over_1"] = round(result["1_worker"]["s"] / result["2_workers"]["s"], 3)
    result["over_anonymize"] = round(result["anonymize"]["s"] / result["2_workers"]["s"], 3)
    return result | check(place, "two", records)


def kills(place, records, options) -> dict:
    """SIGKILL of a worker and of the driver at 25, 50 and 75% of the shards."""
    shards, result = -(-len(records) // PER_SHARD), {}
    for share in (25, 50, 75):
        for victim in ("worker", "driver"):
            output = f"{victim}{share}"
            run = dataset(place, output, options, 2)
            parts = place / output / "_dp3/parts"
            while len(list(parts.glob("*.parquet"))) < shards * share / 100:
                if run.process.poll() is not None:
                    raise SystemExit(f"it ended before {share}%")
                time.sleep(0.02)
            there = descendants(run.process.pid)
            workers = [process for process, (name, _) in there.items() if is_worker(name)]
            os.kill(workers[0] if victim == "worker" else run.process.pid, signal.SIGKILL)
            done = len(list(parts.glob("*.parquet")))
            if victim == "driver":
                run.process.communicate()
                run = dataset(place, output, options, 2)
            run.end()
            result[output] = {"shards_done_at_kill": done} | check(place, output, records)
    return result


def main() -> None:
    """Runs one mode."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=("speed", "kills", "memory"))
    parser.add_argument("--photos", required=True, type=pathlib.Path, help="folder with .jpg")
    parser.add_argument("--records", type=int, nargs="+", default=[2000])
    parser.add_argument("--method", default="generate")
    parser.add_argument("--identity", default="builtin")
    options = parser.parse_args()
    result = {}
    for count in options.records:
        with tempfile.TemporaryDirectory(prefix="dp3-benchmark-") as folder:
            place, records = pathlib.Path(folder), photos(options.photos, count)
            write(place, records, folder=options.mode == "speed")
            if options.mode == "memory":
                result[count] = dataset(place, "two", options, 2).end()
            else:
                result[count] = {"speed": speed, "kills": kills}[options.mode](
                    place, records, options
                )
    print(json.dumps({"mode": options.mode, "cores": os.cpu_count(), **result}, indent=1))


if __name__ == "__main__":
    main()
