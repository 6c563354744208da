"""The tables of docs/results/video.md: new faces on three clips beside an old build and real people.

    python benchmarks/video_results.py [CLIP ...] [--data FOLDER] [--strangers FOLDER] [--frames 60]

Each clip's first frames are written without loss, an old build (--old COMMIT of this repository, in a folder
of its own) makes them with three keys, and `dp3 evaluate-video` measures all there is. What is done lies in
the folder --output as JSON and log and is not done again: the same command goes on, and at its end prints the
tables as Markdown. Run it on an otherwise idle machine; three clips of 60 frames take two cores 15 to 20
minutes. Where time is short: --keys 3 (two thirds of it), --frames 40, --no-old.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

CLIPS = ("lp_source_s18.mp4", "lp_driving_d18.mp4", "lp_driving_d3.mp4")
OLD, OLD_KEYS = "old build", 3
_PICTURES = "%05d.bmp"
_SOURCE, _REAL = "source", "a real person pasted in"
_MEASURES = {
    "warping error, own flow": "warping_error_own",
    "warping error, source's flow": "warping_error",
    "identity, all pairs": "identity_all_pairs",
    "landmark jitter": "landmark_jitter",
    "flicker": "flicker",
}
_MOTIONS = ("yaw", "pitch", "mouth_opening", "eye_opening")
Part = dict[str, Any]


def run(line: Sequence[str], log: pathlib.Path, build: pathlib.Path) -> float:
    """Runs a command with the package in `build`, its output in `log`; gives the seconds it took.

    Raises:
      SystemExit: it fails.
    """
    start = time.monotonic()
    with log.open("w") as opened:
        done = subprocess.run(
            line,
            check=False,
            env={**os.environ, "PYTHONPATH": str(build)},
            cwd=log.parent,
            stdout=opened,
            stderr=subprocess.STDOUT,
        )
    # 1: a face was covered or skipped, which the log and the tables show.
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(line)} failed; its last words, of {log}:\n{log.read_text()[-2000:]}")
    return time.monotonic() - start


def say(text: str) -> None:
    """A line on how far it is."""
    print(text, file=sys.stderr, flush=True)


def dp3(*arguments: str) -> list[str]:
    """The command line of `dp3`."""
    return [sys.executable, "-m", "dp3_jax.cli", *arguments]


def old_build(commit: str, output: pathlib.Path) -> pathlib.Path:
    """The package as it was at a commit, in a folder below `output`."""
    folder = output / f"build_{commit}"
    if not folder.is_dir():
        half = output / f".build_{commit}"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "archive", commit, "dp3_jax"],
            check=False,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
        )
        if archive.returncode:
            sys.exit(
                f"there is no commit {commit} in {REPOSITORY}; name one with --old, or --no-old"
            )
        subprocess.run(["tar", "-x", "-C", str(half)], input=archive.stdout, check=True)
        half.rename(folder)
    return folder


def written(clip: pathlib.Path, folder: pathlib.Path, frames: int) -> tuple[pathlib.Path, str]:
    """(pattern of the clip's first frames, their rate); written if they are not there yet."""
    from dp3_jax.evaluation import video_variants
    from dp3_jax.media.video import reading

    rate = reading.open_video(clip).rate
    done = folder / "frames"
    if not done.is_dir():
        half = folder / ".half"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        video_variants.write_source(clip, half, frames, rate)
        (half / "source").rename(done)
        half.rmdir()
    return done / _PICTURES, str(rate)


def made_by_old(pattern: pathlib.Path, rate: str, build: pathlib.Path, seed: int) -> pathlib.Path:
    """What an old build makes of the frames with a key; made if it is not there yet."""
    target = pattern.parents[1] / f"{build.name}_{seed}"
    if not target.is_dir():
        line = ["anonymize", str(pattern), "-o", str(target / _PICTURES), "--rate", rate]
        log = target.with_suffix(".log")
        seconds = run(dp3(*line, "--seed", str(seed), "--quiet"), log, build)
        say(f"  {target.name}: {seconds:.0f} s")
    return target / _PICTURES


def part(clip: pathlib.Path, options: argparse.Namespace) -> Part:
    """What was measured of a clip; measured if it is not there yet."""
    settings = f"{options.frames}f_{options.keys}k_{options.old or 'no_old'}"
    folder = options.output / clip.stem / f"{options.frames}"
    result = folder / f"{settings}.json"
    if not result.is_file():
        say(f"{clip.name}:")
        folder.mkdir(parents=True, exist_ok=True)
        pattern, rate = written(clip, folder, options.frames)
        line = ["evaluate-video", str(pattern), "--rate", rate, "--seed", "0", "--no-ablations"]
        line += ["--keys", str(options.keys), "--strangers", str(options.strangers), "--quiet"]
        if options.old:
            build = old_build(options.old, options.output)
            for seed in range(OLD_KEYS):
                line += ["--also", f"{OLD}={made_by_old(pattern, rate, build, seed)}"]
        seconds = run(dp3(*line, "--json", str(result)), result.with_suffix(".log"), REPOSITORY)
        say(f"  measured: {seconds:.0f} s")
    return json.loads(result.read_text())


def number(value: float | None, form: str = ".2f") -> str:
    """For a cell."""
    return "-" if value is None else format(value, form)


def rows(parts: Sequence[Part]) -> list[str]:
    """Names of the variants, in order."""
    return list(dict.fromkeys(name for one in parts for name in one["variants"]))


def table(
    heads: Sequence[str], lines: Sequence[str], cell: Callable[[str, int], str]
) -> Iterator[str]:
    """A Markdown table; `cell` gives the text for a line and the number of a column."""
    yield "| | " + " | ".join(heads) + " |"
    yield "|---" * (len(heads) + 1) + "|"
    for line in lines:
        yield f"| {line} | " + " | ".join(cell(line, i) for i in range(len(heads))) + " |"
    yield ""


def steadiness(parts: Sequence[Part], heads: Sequence[str]) -> Iterator[str]:
    """Ratios to the source's own values, which stand in the first row."""

    def cell(name: str, i: int) -> str:
        row = parts[i]["variants"].get(name)
        if row is None:
            return "-"
        which, form = ("value", ".2g") if name == _SOURCE else ("ratio", ".2f")
        return " / ".join(number(row[key][which], form) for key in _MEASURES.values())

    yield " / ".join(_MEASURES)
    yield ""
    yield from table(heads, rows(parts), cell)

    def shown(name: str, i: int) -> str:
        row = parts[i]["variants"].get(name)
        if row is None or name == _SOURCE:
            return "-"
        covered = "{shown_faces} of {judged_faces}".format(**row["coverage"])
        return f"{number(row['face_found']['value'], '.0%')}, {covered}"

    yield "face found, faces shown"
    yield ""
    yield from table(heads, rows(parts), shown)


def motion(parts: Sequence[Part], heads: Sequence[str]) -> Iterator[str]:
    """Correlations with the source; in words where there are none."""

    def cell(name: str, i: int) -> str:
        moved = parts[i]["variants"].get(name, {}).get("motion")
        if moved is None:
            return "-"
        short = {"no variance": "still", "no variance in the source": "source still"}
        return " / ".join(
            number(moved[m]["value"])
            if moved[m]["value"] is not None
            else short.get(moved[m]["reason"], "-")
            for m in _MOTIONS
        )

    yield "yaw / pitch / mouth opening / eye opening"
    yield ""
    yield from table(heads, [name for name in rows(parts) if name != _SOURCE], cell)


def recognition(parts: Sequence[Part], heads: Sequence[str]) -> Iterator[str]:
    """Keys known again, and how alike the best frames are."""
    for verifier_name in parts[0]["judges"]:

        def cell(name: str, i: int, verifier_name: str = verifier_name) -> str:
            row = parts[i]["variants"].get(name)
            if row is None:
                return "-"
            found = row["recognition"][verifier_name]
            best = number(found["own"]["best_cosine"])
            return f"{found['keys_known']} of {found['keys']}, {best}"

        threshold = parts[0]["variants"][_SOURCE]["recognition"][verifier_name]["threshold"]
        yield f"{verifier_name} (from {threshold:.3f}): keys known again, mean best cosine"
        yield ""
        yield from table(heads, rows(parts), cell)


def linked(parts: Sequence[Part]) -> Iterator[str]:
    """Pairs of keys taken for one person, over all clips, and the ratio to real donors."""
    verifiers = list(parts[0]["judges"])
    names = [n for n in rows(parts) if any("linked" in p["variants"].get(n, {}) for p in parts)]

    def share(name: str, verifier_name: str, way: str) -> tuple[float, int]:
        found = [
            p["variants"][name]["linked"][verifier_name] for p in parts if name in p["variants"]
        ]
        pairs = sum(one["pairs"] for one in found)
        return sum((one[way]["linked"]["value"] or 0) * one["pairs"] for one in found), pairs

    def cell(name: str, i: int) -> str:
        texts = []
        for way in ("best_pair", "mean"):
            count, pairs = share(name, verifiers[i], way)
            text = f"{count:.0f} of {pairs}"
            if _REAL in names and name != _REAL:
                real, real_pairs = share(_REAL, verifiers[i], way)
                if real and pairs:
                    text += f" ({count / pairs * real_pairs / real:.2f} x)"
            texts.append(text)
        return "; ".join(texts)

    yield "pairs of keys of one track taken for one person, all clips: by the best pair of frames; by means"
    yield ""
    yield from table(verifiers, names, cell)


def targets(parts: Sequence[Part], heads: Sequence[str]) -> Iterator[str]:
    """What is aimed at, clip by clip."""
    verdicts = {True: "met", False: "**missed**", None: "not measured"}

    def cell(name: str, i: int) -> str:
        target = parts[i]["targets"].get(name)
        return "-" if target is None else f"{number(target['value'])} {verdicts[target['met']]}"

    yield from table(heads, list(parts[0]["targets"]), cell)


def main() -> None:
    """Measures what is not measured yet and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("clips", nargs="*", default=CLIPS, help=f"in --data; default: {', '.join(CLIPS)}")
    shared = REPOSITORY.parent / "shared" / "data"
    add("--data", type=pathlib.Path, default=shared / "video", help="folder of the clips")
    add("--strangers", type=pathlib.Path, default=shared / "lfw", help="FOLDER/NAME/FILE.jpg")
    add("--output", type=pathlib.Path, default=pathlib.Path("runs/video_results"))
    add("--frames", type=int, default=60, help="of each clip; default: %(default)s")
    add("--keys", type=int, default=6, help="new persons of each clip; default: %(default)s")
    add("--old", default="6f42c65", metavar="COMMIT", help="of the old build; default: %(default)s")
    add("--no-old", dest="old", action="store_const", const=None, help="without an old build")
    options = parser.parse_args()
    options.output = options.output.resolve()
    options.strangers = options.strangers.resolve()
    clips = [options.data.resolve() / clip for clip in options.clips]
    if missing := [clip for clip in clips if not clip.is_file()]:
        sys.exit(f"there is no {missing[0]}; name the folder of the clips with --data")
    parts = [part(clip, options) for clip in clips]
    heads = [clip.stem.rpartition("_")[2] for clip in clips]
    for title, lines in (
        ("Steadiness", steadiness(parts, heads)),
        ("Motion", motion(parts, heads)),
        ("Known again", recognition(parts, heads)),
        ("Two keys", linked(parts)),
        ("Targets", targets(parts, heads)),
    ):
        print(f"### {title}\n")
        print("\n".join(lines))


if __name__ == "__main__":
    main()
