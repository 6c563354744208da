"""How fast image files are fed, against what decoding and resizing alone cost, and in how much memory.

    python benchmarks/feeding.py --path=DIR              # The extracted official folder.
    python benchmarks/feeding.py --path=DIR --processor  # Only processor time, which other work hardly moves.

Prints, from one run on the same cores: images/s of the bare Pillow calls (decode, crop, Lanczos, in
threads, on bytes in memory), of TensorFlow's own decode and resize operations, of the feed, and the
feed's ratio to the bare calls (median of the rounds' ratios; aim: 0.9 or more); the rate of the
packed feed; and the peak memory (RSS) of streaming 1,000 and 12,000 images, each in a process of
its own. Rates are medians of interleaved rounds, because other work on the machine moves all of them.
"""

import argparse
import concurrent.futures
import io
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from dp3_jax.data import DataOptions, open_feed, prepare
from dp3_jax.data.celeba import open_celeba
from dp3_jax.data.pipeline import import_tensorflow

BATCH = 32
ROUNDS = 5


def cores() -> int:
    """Returns the cores this process may use."""
    return len(os.sched_getaffinity(0))


def bare_pillow(content: bytes) -> np.ndarray:
    """Returns u8[128, 128, 3] with nothing but the calls that cannot be avoided."""
    image = Image.open(io.BytesIO(content)).crop((0, 20, 178, 198))
    return np.asarray(image.resize((128, 128), Image.Resampling.LANCZOS))


def pillow_rate(contents: list[bytes], images: int) -> float:
    """Returns images/s of the bare calls in one thread per core."""
    chosen = [contents[index % len(contents)] for index in range(images)]
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        # In chunks, so that handing out work costs nothing; nothing is kept.
        chunks = [chosen[start : start + 50] for start in range(0, images, 50)]
        list(pool.map(lambda chunk: [bare_pillow(item).nbytes for item in chunk], chunks))
    return images / (time.perf_counter() - began)


def tensorflow_rate(contents: list[bytes], images: int) -> float:
    """Returns images/s of TensorFlow's decode and Lanczos operations in a bare tf.data map."""
    tf = import_tensorflow()

    def decode(content):
        image = tf.io.decode_and_crop_jpeg(
            content, [20, 0, 178, 178], channels=3, dct_method="INTEGER_ACCURATE"
        )
        image = tf.image.resize(image, (128, 128), method="lanczos3", antialias=True)
        return tf.saturate_cast(tf.round(image), tf.uint8)

    dataset = tf.data.Dataset.from_tensor_slices(contents).repeat().take(images)
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
    began = time.perf_counter()
    for _ in dataset.prefetch(2):
        pass
    return images / (time.perf_counter() - began)


def feed_rate(options: DataOptions, images: int) -> float:
    """Returns images/s of a feed's batches, after the first has come."""
    batches = open_feed(options, "train", batch_size=BATCH, seed=0).batches()
    next(batches)
    began = time.perf_counter()
    for _ in range(images // BATCH):
        next(batches)
    elapsed = time.perf_counter() - began
    batches.close()
    return images // BATCH * BATCH / elapsed


def feed_processor_seconds(options: DataOptions, images: int) -> float:
    """Returns processor seconds, of all threads together, for one image of a feed's batches."""
    batches = open_feed(options, "train", batch_size=BATCH, seed=0).batches()
    next(batches)
    began = time.process_time()
    for _ in range(images // BATCH):
        next(batches)
    used = time.process_time() - began
    batches.close()
    return used / (images // BATCH * BATCH)


def show_processor_time(options: DataOptions, images: int) -> None:
    """Prints what one image costs from files and from the packed form, and images/s of one whole core."""
    with tempfile.TemporaryDirectory() as scratch:
        prepare(options, pathlib.Path(scratch) / "packed")
        packed = DataOptions(source="packed", path=f"{scratch}/packed", train_examples=2000)
        for name, chosen, count in (("files", options, images), ("packed", packed, 10 * images)):
            seconds = feed_processor_seconds(chosen, count)
            print(
                f"{name}: {seconds * 1e3:.4f} CPU ms an image; {1 / seconds:,.0f} images/s a core"
            )


def peak_memory(path: str, images: int) -> float:
    """Streams `images` different images through the feed in a new process; returns its peak in MB."""
    command = [sys.executable, __file__, "--path", path, "--stream", str(images)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.split()[-1])


def stream(path: str, images: int) -> None:
    """Reads that many images once, over the splits as needed, and prints this process's peak RSS."""
    left = images
    for split in ("train", "validation", "test"):
        options = DataOptions(source="celeba", path=path, train_examples=min(left, images))
        feed = open_feed(options, split, batch_size=BATCH, seed=0)
        batches = feed.batches()
        for _ in range(min(left, feed.num_examples) // BATCH):
            next(batches)
        batches.close()
        left -= feed.num_examples
        if left <= 0:
            break
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", required=True, help="folder that holds img_align_celeba/")
    parser.add_argument("--images", type=int, default=4000, help="images per round")
    parser.add_argument("--processor", action="store_true", help="processor time alone")
    parser.add_argument("--stream", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stream:
        stream(arguments.path, arguments.stream)
        return

    options = DataOptions(source="celeba", path=arguments.path, train_examples=2000)
    if arguments.processor:
        show_processor_time(options, arguments.images)
        return
    folder = pathlib.Path(arguments.path) / "img_align_celeba"
    catalog = open_celeba(options)
    examples, _ = catalog.select("train", options)
    contents = [(folder / catalog.names[example]).read_bytes() for example in examples]
    rounds = [
        (
            pillow_rate(contents, arguments.images),
            feed_rate(options, arguments.images),
            tensorflow_rate(contents, arguments.images),
        )
        for _ in range(ROUNDS)
    ]
    pillow, feed, tensorflow = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(fed / bare for bare, fed, _ in rounds)
    print(f"{cores()} cores, {ROUNDS} rounds of {arguments.images} images; images/s (median)")
    print(f"  bare Pillow decode + crop + Lanczos     {pillow:8.0f}")
    print(f"  bare TensorFlow decode + crop + Lanczos {tensorflow:8.0f}")
    print(f"  feed (tf.data, batches of {BATCH})          {feed:8.0f}")
    print(
        f"  feed / bare Pillow {ratio:.2f} (aim 0.90); feed / bare TensorFlow {feed / tensorflow:.2f}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        prepare(options, pathlib.Path(scratch) / "packed")
        packed = DataOptions(source="packed", path=f"{scratch}/packed", train_examples=2000)
        print(f"  packed feed                             {feed_rate(packed, 40_000):8.0f}")
    for images in (1000, 12_000):
        print(
            f"peak memory streaming {images:6d} images: {peak_memory(arguments.path, images):.0f} MB"
        )


if __name__ == "__main__":
    main()
