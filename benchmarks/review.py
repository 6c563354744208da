"""How long a single frame or photo takes in `dp3 review` from a click to the new picture.

    python benchmarks/review.py CLIP WORK [--frames 60] [--repeats 5]

anonymizes the first frames of CLIP (not timed, and kept in WORK), starts the real server on the result, and
asks as the page does: another person, another method and a drawn box, each time until the picture of that
frame is there. The same with that frame as a photo. The aim is a second for each; the first new face of a run
comes after the networks are loaded, which the server begins by itself.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import av

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
AIM = 1.0  # s
BOX = 0.12  # of the picture's height, sides of the box that is drawn


def command(*arguments: object) -> list[str]:
    """The line of a `dp3`."""
    return [sys.executable, "-m", "dp3_jax.cli", *map(str, arguments)]


def shortened(clip: pathlib.Path, folder: pathlib.Path, frames: int) -> tuple[pathlib.Path, ...]:
    """The first frames of a clip as a file, and the middle one as a photo."""
    target, photo = folder / "clip.mp4", folder / "photo.png"
    with av.open(str(clip)) as source, av.open(str(target), "w") as output:
        stream = source.streams.video[0]
        written = output.add_stream("libx264", rate=stream.average_rate)
        written.width, written.height = stream.width, stream.height
        written.pix_fmt = "yuv420p"
        for number, frame in enumerate(source.decode(stream)):
            if number == frames:
                break
            if number == frames // 2:
                frame.to_image().save(photo)
            frame.pts = None
            output.mux(written.encode(frame))
        output.mux(written.encode())
    return target, photo


class Server:
    """A server of `dp3 review` on one result, asked as the page asks."""

    def __init__(self, result: pathlib.Path, original: pathlib.Path):
        line = command("review", result, "--originals", original, "--no-browser")
        self._process = subprocess.Popen(line, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        address = urllib.parse.urlsplit(self._process.stdout.readline().strip())
        self._base = f"{address.scheme}://{address.netloc}/api"
        self._token = urllib.parse.parse_qs(address.query)["token"][0]
        (self.item,) = (one["id"] for one in self.json("/session")["items"])

    def ask(self, place: str, body: dict | None = None) -> bytes:
        """What is answered."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + place, content, {"x-dp3-token": self._token})
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def json(self, place: str, body: dict | None = None) -> dict:
        """The same, decoded."""
        return json.loads(self.ask(place, body))

    def seconds(self, edit: dict, frame: int) -> float:
        """From the request for a change to the picture after it."""
        known = self.json(f"/items/{self.item}")
        start = time.perf_counter()
        self.json(f"/items/{self.item}/edit", {"revision": known["revision"], **edit})
        self.ask(f"/items/{self.item}/after/picture?frame={frame}&size=1800")
        return time.perf_counter() - start

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait()


def edits(server: Server, frame: int) -> dict[str, dict]:
    """What is asked for, by name: of the largest face that is in the frame."""
    known = server.json(f"/items/{server.item}")
    there = [f for f in known["faces"] if f.get("first", frame) <= frame <= f.get("last", frame)]
    if not there:
        raise SystemExit(f"no face in frame {frame}; take another clip or other --frames")
    face = max(there, key=lambda one: one["box"][2] * one["box"][3])["number"]
    side = BOX * known["size"][1]
    common = {"frame": frame, "face": face}
    return {
        "another person": {"action": "another_person", **common},
        "blur": {"action": "method", "method": "blur", **common},
        "new face": {"action": "method", "method": "generate", **common},
        "drawn box": {"action": "missed", "box": [2.0, 2.0, side, side], "frame": frame,
                      "first": frame, "last": frame},
    }  # fmt: skip


def measure(result: pathlib.Path, original: pathlib.Path, frame: int, repeats: int) -> None:
    """Prints medians and maxima for one result."""
    server = Server(result, original)
    try:
        server.ask(f"/items/{server.item}/after/picture?frame={frame}&size=1800")
        asked = edits(server, frame)
        first = server.seconds(asked["another person"], frame)
        print(f"{result.name}: the first change {first:.2f} s, with what was still to be loaded")
        for name, edit in asked.items():
            taken = [server.seconds(edit, frame) for _ in range(repeats)]
            middle, most = statistics.median(taken), max(taken)
            print(f"  {name:15} {middle:.2f} s, at most {most:.2f} s (aim {AIM:.0f})")
    finally:
        server.close()


def main() -> None:
    """Makes what is reviewed, and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--method", default="generate")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    work = asked.work.resolve()
    for original in shortened(asked.clip, work, asked.frames):
        result = original.with_stem(f"{original.stem}_anonymized")
        if not result.exists():
            line = command("anonymize", original, "--sidecar", "--quiet", "--method", asked.method)
            subprocess.run(line, cwd=REPOSITORY, check=True)
        measure(result, original, asked.frames // 2, asked.repeats)


if __name__ == "__main__":
    main()
