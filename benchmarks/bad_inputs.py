"""Whether `dp3 anonymize` survives damaged inputs: no traceback, no hang, nothing half-written.

    python benchmarks/bad_inputs.py [--cases 200] [--seed 0] [--only NAME] [--markdown FILE]

Small photos, videos, sidecars, boxes, secrets and weights are made, each is damaged in several ways (cut off,
bits flipped, emptied, another ending, absurd sizes and numbers in its header), and the command is run on it.
Every run is a process of its own. It must end within --limit seconds with the exit status 0, 1 or 2 and lines
on standard error that a person can read; what it wrote must be whole; and nothing else may lie beside that.
Only how inputs are damaged is kept here, not the damaged inputs.
"""

import argparse
import collections
import dataclasses
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator

import bad_input_makers
import numpy as np

DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {}
_ENDINGS = (
    ".jpg",
    ".png",
    ".webp",
    ".tif",
    ".bmp",
    ".mp4",
    ".mkv",
    ".webm",
    ".gif",
    ".avi",
    ".json",
    ".csv",
)
_READ_ONLY = (".ts", ".flv", ".mpg", ".wmv")  # results are written as .mkv
_MAX_MEMORY = 4.0  # GB of one process


def damage(function):
    """Adds a way to damage the content of a file."""
    DAMAGES[function.__name__.replace("_", " ")] = function
    return function


@damage
def cut_off(content: bytes, random: np.random.Generator) -> bytes:
    """Only the first part is there."""
    return content[: int(len(content) * random.choice([0.02, 0.3, 0.7, 0.95, 0.999]))]


@damage
def flipped_bits(content: bytes, random: np.random.Generator) -> bytes:
    """Some bits anywhere are flipped."""
    found = bytearray(content)
    for at in random.integers(0, len(found), random.choice([1, 8, 64])):
        found[at] ^= 1 << int(random.integers(8))
    return bytes(found)


@damage
def flipped_header(content: bytes, random: np.random.Generator) -> bytes:
    """Some bits of the first 600 bytes are flipped."""
    found = bytearray(content)
    for at in random.integers(0, min(len(found), 600), random.choice([1, 4])):
        found[at] ^= 1 << int(random.integers(8))
    return bytes(found)


@damage
def empty(content: bytes, random: np.random.Generator) -> bytes:
    """Nothing is there."""
    del content, random
    return b""


@damage
def absurd_numbers(content: bytes, random: np.random.Generator) -> bytes:
    """Numbers of 2 or 4 bytes in the header become as large as can be, or 0; in a text any number does."""
    found = bytearray(content)
    if content[:1] in b"[{":
        text = content.decode()
        number = random.choice(
            ["1e308", "-1", "0", "99999999999999999999", '"x"', "null", "[]", "NaN"]
        )
        digits = [i for i, c in enumerate(text) if c.isdigit() and not text[i - 1].isalnum()]
        at = int(random.choice(digits)) if digits else 0
        end = at
        while end < len(text) and (text[end].isalnum() or text[end] in ".-+"):
            end += 1
        return (text[:at] + str(number) + text[end:]).encode()
    size = int(random.choice([2, 4]))
    for at in random.integers(0, max(1, min(len(found), 600) - size), random.choice([1, 2])):
        found[at : at + size] = random.choice(
            [b"\xff" * size, b"\x7f" + b"\xff" * (size - 1), bytes(size)]
        )
    return bytes(found)


@damage
def absurd_size(content: bytes, random: np.random.Generator) -> bytes:
    """Width and height become huge or 0 wherever the two stand side by side, or in a tag of TIFF."""
    for form in (">HH", "<HH", ">II", "<II"):
        for pair in (bad_input_makers.SIZE, bad_input_makers.SIZE[::-1]):
            most = 2 ** (8 * struct.calcsize(form[:2])) - 1
            size = [int(n) for n in random.choice([0, 1, 15_000, 60_000, most // 2, most], 2)]
            content = content.replace(struct.pack(form, *pair), struct.pack(form, *size))
    if content[:4] == b"II*\0":
        for tag, side in zip((256, 257), bad_input_makers.SIZE, strict=True):
            size = int(random.choice([0, 15_000, 60_000, 2**31 - 1]))
            head = struct.pack("<HHI", tag, 4, 1)
            content = content.replace(
                head + struct.pack("<I", side), head + struct.pack("<I", size)
            )
    if content[12:16] == b"IHDR":  # with the check made anew
        content = content[:29] + struct.pack(">I", zlib.crc32(content[12:29])) + content[33:]
    return content


@damage
def zeros(content: bytes, random: np.random.Generator) -> bytes:
    """A block of zeros, as a file system leaves after a crash."""
    start = int(random.integers(0, len(content)))
    length = min(len(content) - start, max(1, len(content) // 3))
    return content[:start] + bytes(length) + content[start + length :]


@dataclasses.dataclass(frozen=True)
class Case:
    """One run: which made input is damaged how; `ending` is what its name ends in then."""

    name: str
    how: str
    seed: int
    ending: str


@dataclasses.dataclass
class Verdict:
    """What became of it: exit status (None: it hung), s, GB, and what is wrong with that."""

    case: Case
    status: int | None
    seconds: float
    memory: float
    faults: list[str]


def cases(names: list[str], count: int, seed: int) -> Iterator[Case]:
    """`count` cases that go through all inputs and damages in turn."""
    random = np.random.default_rng(seed)
    ways = [*DAMAGES, "other ending"]
    for number in range(count):
        name = names[number % len(names)]
        how = ways[(number + number // len(names)) % len(ways)]
        ending = pathlib.Path(name).suffix
        if how == "other ending":
            ending = str(random.choice([e for e in _ENDINGS if e != ending]))
        yield Case(name, how, int(random.integers(2**31)), ending)


def arguments(case: Case, bad: pathlib.Path, made: pathlib.Path, out: pathlib.Path) -> list[str]:
    """The command for a case: the damaged file is the input, or belongs to one."""
    quick = ["--method", "pixelate", "--seed", "1"]
    photo = [str(made / "plain.png"), "-o", str(out / "r.png")]
    clip = [str(made / "plain.mp4"), "-o", str(out / "r.mp4"), *quick]
    known = [*photo, "--boxes", str(made / "boxes.json")]
    calls = {
        "faces": [*photo, "--faces", str(bad), "--seed", "1"],
        "tracks": [*clip, "--faces", str(bad)],
        "boxes": [*photo, "--boxes", str(bad), *quick],
        "clipboxes": [*clip, "--boxes", str(bad)],
        "secret": [*known, "--method", "pixelate", "--secret-file", str(bad)],
        "weights": [*known, "--seed", "1", "--weights", str(bad)],
        "keep": [*photo, "--keep", str(bad), *quick],
        "manifest": [*known, "--manifest", str(bad), *quick],
        "numbered": [str(bad.parent / "%02d.png"), "-o", str(out / "r.mkv"), *quick],
    }
    ending = ".mkv" if case.ending in _READ_ONLY else case.ending
    usual = [str(bad), "-o", str(out / f"r{ending}"), *quick]
    return calls.get(case.name.split(".", 1)[0], usual)


def run(case: Case, made: pathlib.Path, limit: float) -> Verdict:
    """Damages the input, runs the command in a process of its own, and looks at what it left."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="bad_inputs_"))
    try:
        random = np.random.default_rng(case.seed)
        bad = work / "in" / f"bad{case.ending}"
        bad.parent.mkdir()
        if case.name.startswith("numbered"):
            shutil.copytree(made / "numbered", bad.parent, dirs_exist_ok=True)
            bad = bad.parent / "03.png"
        content = (made / case.name).read_bytes()
        bad.write_bytes(DAMAGES.get(case.how, lambda c, _: c)(content, random))
        out = work / "out"
        out.mkdir()
        status, seconds, memory, said = _command(arguments(case, bad, made, out), work, limit)
        return Verdict(case, status, seconds, memory, _faults(status, memory, said, out))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _command(call: list[str], work: pathlib.Path, limit: float):
    """(exit status or None, s, GB, standard error) of `dp3 anonymize`, in a fork of this process."""
    start = time.monotonic()
    child = os.fork()
    if not child:
        status = 99
        try:
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(work / name, os.O_WRONLY | os.O_CREAT), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            from dp3_jax.cli.main import main

            status = main(["anonymize", *call])
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    while True:
        pid, code, used = os.wait4(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - start > limit:
            os.kill(child, signal.SIGKILL)
            _, _, used = os.wait4(child, 0)
            code = None
            break
        time.sleep(0.01)
    said = (work / "stderr").read_text(errors="replace") if (work / "stderr").exists() else ""
    status = None if code is None else os.waitstatus_to_exitcode(code)
    return status, time.monotonic() - start, used.ru_maxrss / 1e6, said


def _faults(status: int | None, memory: float, said: str, out: pathlib.Path) -> list[str]:
    """What is wrong with the end of a run; empty if nothing is."""
    found = []
    if status is None:
        found.append("hung")
    elif status not in (0, 1, 2):
        found.append(f"ended with status {status}")
    for sign in ("Traceback", "please report this"):
        if sign in said:
            found.append(f"{sign}: {said.strip().splitlines()[-1][:200]}")
    if status in (1, 2) and not said.strip():
        found.append("said nothing")
    if memory > _MAX_MEMORY:
        found.append(f"took {memory:.1f} GB")
    for path in sorted(out.rglob("*")):
        if path.name.endswith(".tmp") or (path.name.startswith(".") and status in (0, 2)):
            found.append(f"left {path.name}")
        elif path.is_file() and not any(
            part.startswith(".") for part in path.relative_to(out).parts
        ):
            found += _half(path) or ([f"wrote {path.name} and refused"] if status == 2 else [])
    return found


def _half(path: pathlib.Path) -> list[str]:
    """What is wrong with a result; empty if it can be read to its end."""
    try:
        if path.suffix in (".json", ".jsonl"):
            json.loads(path.read_text())
        elif path.suffix in (".jpg", ".png", ".webp", ".tif", ".bmp"):
            from PIL import Image

            with Image.open(path) as image:
                image.load()
        else:
            import av

            with av.open(str(path)) as opened:
                frames = sum(1 for _ in opened.decode(video=0))
            if not frames:
                return [f"{path.name} has no frames"]
    except Exception as error:
        return [f"{path.name} is half-written: {type(error).__name__}: {error}"]
    return []


def table(verdicts: list[Verdict]) -> list[str]:
    """Markdown: for each way of damage how often the command did all, did a part or skipped, refused."""
    rows = ["| damage | runs | done | a part, or skipped | refused | faults | slowest | memory |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    groups = collections.defaultdict(list)
    for verdict in verdicts:
        groups[verdict.case.how].append(verdict)
    for how, some in [*groups.items(), ("all", verdicts)]:
        counts = [sum(v.status == status for v in some) for status in (0, 1, 2)]
        faults = sum(bool(v.faults) for v in some)
        slowest, most = max(v.seconds for v in some), max(v.memory for v in some)
        cells = [how, len(some), *counts, faults, f"{slowest:.1f} s", f"{most:.1f} GB"]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


def main() -> int:
    """Runs all cases; the exit status is 1 when there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=60.0, help="s that a run may take")
    parser.add_argument("--only", help="inputs whose name holds this")
    parser.add_argument("--markdown", help="file for the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder)
        # In another process: this one is forked, which threads would not survive.
        maker = multiprocessing.get_context("spawn").Process(
            target=bad_input_makers.make_all, args=(made,)
        )
        maker.start()
        maker.join()
        names = json.loads((made / "names.json").read_text())
        names = [name for name in names if not options.only or options.only in name]
        import dp3_jax.pipelines.running
        import dp3_jax.pipelines.video.job  # noqa: F401, loaded once for all forks

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        verdicts = []
        for case in cases(names, options.cases, options.seed):
            verdicts.append(run(case, made, options.limit))
            for fault in verdicts[-1].faults:
                print(f"{case}: {fault}", flush=True)
    rows = table(verdicts)
    print("\n".join(rows))
    if options.markdown:
        pathlib.Path(options.markdown).write_text("\n".join(rows) + "\n")
    return int(any(verdict.faults for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
