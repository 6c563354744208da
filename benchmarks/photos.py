"""Speed and memory of anonymizing photos, stage by stage, and beside deface on the same photos.

    python benchmarks/photos.py [--photos DIR] [--deface COMMAND] [--weights FILE] [--repeats N]

Photos of 12 and 50 megapixels with five faces are made from NASA's portrait in scikit-image. DIR is a folder
of your own photos for the comparison; deface (pip install deface) is left out where it is not installed.
Numbers are medians; run it on an otherwise idle machine.
"""

import argparse
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
import skimage.data
from PIL import Image

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from dp3_jax.media import photos  # noqa: E402
from dp3_jax.pipelines.anonymize import Anonymizer  # noqa: E402
from dp3_jax.replacement import key_derivation  # noqa: E402
from dp3_jax.vision.masks import inference_mask  # noqa: E402

# (side, left, top) of the portraits in a photo of 4000 x 3000 px; faces of 140 to 245 px.
PLACES = (
    (1400, 100, 100),
    (1100, 1500, 300),
    (900, 2700, 200),
    (800, 400, 1800),
    (1000, 2200, 1700),
)


def make_photo(path: pathlib.Path, width: int) -> None:
    """A JPEG of width x 3/4 width px with five portraits on a grainy background."""
    factor = width / 4000
    size = width, round(3000 * factor)
    portrait = skimage.data.astronaut()
    frame = cv2.resize(portrait[300:], size, interpolation=cv2.INTER_CUBIC)
    for place in PLACES:
        side, left, top = (round(v * factor) for v in place)
        part = frame[top : top + side, left : left + side]
        part[:] = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(0).normal(0, 4, (*frame.shape[:2], 1)).astype(np.float32)
    Image.fromarray(np.clip(frame + grain, 0, 255).astype(np.uint8)).save(path, quality=92)


def median_seconds(function, repeats: int) -> tuple[float, float]:
    """Medians of wall time and processor time of `function()`, after one call that does not count."""
    function()
    seconds, processor = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        function()
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return statistics.median(seconds), statistics.median(processor)


def stages(path: pathlib.Path, anonymizer: Anonymizer, repeats: int) -> None:
    """Milliseconds of each stage for one photo, and their sum (of processor time too)."""
    photo = photos.read_photo(path)
    faces = anonymizer.detector.detect(photo.pixels)
    result = anonymizer(photo.pixels, faces, b"benchmark")
    after, target = photo.with_pixels(result.frame), path.with_name("out.jpg")
    done = ", ".join(sorted({face_result.done for face_result in result.face_results}))
    measured = {
        "read": median_seconds(lambda: photos.read_photo(path), repeats),
        "detect": median_seconds(lambda: anonymizer.detector.detect(photo.pixels), repeats),
        "replace": median_seconds(lambda: anonymizer(photo.pixels, faces, b"benchmark"), repeats),
        "write": median_seconds(lambda: photos.write_photo(target, after), repeats),
    }
    megapixels = photo.pixels.size / 3e6
    wall, processor = (sum(values) for values in zip(*measured.values(), strict=True))
    print(f"{megapixels:.0f} megapixels, {len(faces)} faces ({done}): {wall:.2f} s", end="")
    print(f" ({processor:.2f} s of processor time)")
    print("   " + ", ".join(f"{name} {1000 * s:.0f} ms" for name, (s, _) in measured.items()))


def generator(anonymizer: Anonymizer, repeats: int) -> None:
    """Milliseconds a face for several numbers of faces at once."""
    random = np.random.default_rng(0)
    for count in (1, 2, 4, 8):
        views = random.integers(0, 256, (count, 128, 128, 3), np.uint8)
        masks = np.broadcast_to(inference_mask(), (count, 128, 128, 1))
        z = np.stack(
            [key_derivation.latent(b"k", i, anonymizer.generator.latent_dim) for i in range(count)]
        )
        seconds, _ = median_seconds(
            lambda v=views, m=masks, z=z: anonymizer.generator.generate(v, m, z), 5 * repeats
        )
        print(f"generator, {count} at once: {1000 * seconds / count:.1f} ms a face")


def command(arguments: list[str], **environment: str) -> tuple[float, float]:
    """(seconds, peak MB) of `dp3 anonymize` in a process of its own."""
    line = [sys.executable, "-m", "dp3_jax.cli", "anonymize", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    start = time.perf_counter()
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) == 2:
        sys.exit("dp3 failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


def processes(folder: pathlib.Path, more: list[str]) -> None:
    """Start-up with an empty and with a filled compilation cache, and the memory for a large photo."""
    small = folder / "small.png"
    Image.fromarray(skimage.data.astronaut()).save(small)
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    arguments = [str(small), "-o", str(folder / "small_out.png"), *more]
    cold, _ = command(arguments, **cache)
    warm, memory = command(arguments, **cache)
    print(f"process start to first photo: {cold:.1f} s cold, {warm:.1f} s warm, {memory:.0f} MB")
    large = folder / "large.jpg"
    make_photo(large, 8164)
    seconds, memory = command([str(large), "-o", str(folder / "large_out.jpg"), *more], **cache)
    print(f"50 megapixels with start-up: {seconds:.1f} s, peak memory {memory:.0f} MB")


def beside_deface(source: pathlib.Path, deface: str, folder: pathlib.Path, more: list[str]) -> None:
    """Seconds for all photos of a folder: ours with blur and with new faces, and deface."""
    inputs = sorted(str(p) for p in source.iterdir() if photos.is_photo_name(p))
    rows = {}
    for name, options in (("blur", ["--method", "blur"]), ("generate", more)):
        target = str(folder / name)
        rows[f"dp3 --method {name}"] = command([*inputs, "-o", target, "--quiet", *options])
    if shutil.which(deface):
        copies = folder / "deface"
        copies.mkdir()
        copied = [shutil.copy(path, copies) for path in inputs]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        start = time.perf_counter()
        subprocess.run([deface, *copied], check=True, capture_output=True)
        seconds = time.perf_counter() - start
        memory = max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1e3
        rows["deface (blur), memory at most"] = seconds, memory
    else:
        print(f"{deface} is not installed and not measured")
    for name, (seconds, memory) in rows.items():
        each = 1000 * seconds / len(inputs)
        print(f"{len(inputs)} photos, {name}: {seconds:.1f} s, {each:.0f} ms each, {memory:.0f} MB")


def main() -> None:
    """Runs all measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=pathlib.Path, help="folder for the comparison with deface")
    parser.add_argument("--deface", default="deface", help="its command; default: deface")
    parser.add_argument("--weights", help="generator; default: the shipped one")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    more = ["--weights", options.weights] if options.weights else []
    anonymizer = Anonymizer(weights=options.weights)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        generator(anonymizer, options.repeats)
        make_photo(folder / "photo.jpg", 4000)
        stages(folder / "photo.jpg", anonymizer, options.repeats)
        processes(folder, more)
        if options.photos:
            beside_deface(options.photos, options.deface, folder, more)


if __name__ == "__main__":
    main()
