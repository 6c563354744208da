"""How well `temporal.exposure` tells faces that show from faces that are hidden, through lossy encoding.

    python benchmarks/exposure.py CLIP... --strangers FOLDER [--start 0] [--frames 60] [--every 3]

Of each clip --frames frames are made in several ways, encoded by x264 as a clip, and each --every'th of them
is judged. "all" and "third" are the original face and a third of it in a generated one; these are to be
found. The rest is hidden: new faces (of two keys, as `dp3 anonymize` makes them, with less motion, and each
frame alone), other people's real faces in the same place (--strangers: FOLDER/NAME/FILE.jpg), covers. Counts
are of faces in frames that have detail enough to be judged.
"""

import argparse
import collections
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping

import av
import numpy as np

from dp3_jax.cli import evaluate_video_command
from dp3_jax.common.errors import UserError
from dp3_jax.detection.tracks import Observation, by_frame
from dp3_jax.evaluation import people, video_variants
from dp3_jax.evaluation.video_clip import Faces, Render
from dp3_jax.evaluation.video_variants import Source
from dp3_jax.media.video import reading, sequence_writing
from dp3_jax.metrics import temporal
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.vision import geometry

QUALITIES = (None, 18, 28, 36)  # CRF; None: not encoded
TO_FIND = ("all", "third")


def encoded(frames: Iterable[np.ndarray], crf: int | None) -> Iterator[np.ndarray]:
    """The frames u8[h, w, 3] after H.264; odd sides lose a row or column."""
    if crf is None:
        yield from frames
        return
    encoder, decoder = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
    encoder.pix_fmt, encoder.framerate, packets = "yuv420p", 25, []
    encoder.options = {"crf": str(crf), "preset": "veryfast"}
    for number, image in enumerate(frames):
        height, width = (side // 2 * 2 for side in image.shape[:2])
        if not number:
            encoder.width, encoder.height = width, height
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]))
        picture.pts = number
        packets += encoder.encode(picture.reformat(format="yuv420p"))
    for packet in [*packets, *encoder.encode(None), None]:
        yield from (frame.to_ndarray(format="rgb24") for frame in decoder.decode(packet))


def place(
    observation: Observation, shape
) -> tuple[geometry.Alignment, np.ndarray, geometry.Region]:
    """Where a face is: alignment, mask, and the frame's pixels that are to be hidden."""
    alignment = geometry.align(observation.box, observation.keypoints)
    mask = geometry.face_mask(alignment, observation.box)
    return alignment, mask, geometry.region(alignment, mask, shape)


def third(target: geometry.Region, number: int) -> np.ndarray:
    """bool[h, w]: upper, middle, lower, left or right third of a region's pixels, in turn."""
    axis, part = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2))[number % 5]
    along = np.indices(target.inside.shape)[axis]
    low, high = np.quantile(along[target.inside], (part / 3, (part + 1) / 3))
    return target.inside & (along >= low) & (along <= high)


def as_render(variant: pathlib.Path | Render) -> Render:
    """The frames of a variant, one after the other, in the form of a function."""
    if callable(variant):
        return variant

    def frames() -> Iterator[np.ndarray]:
        with reading.read_frames(variant) as read:
            yield from (frame.image for frame in read)

    opened = frames()
    return lambda *_: next(opened)


def renders(source: Source, anonymizer: Anonymizer, strangers: np.ndarray) -> dict[str, Render]:
    """The ways to make a frame, by name; each is good for one run."""
    written = video_variants.standard(source, anonymizer, keys=2, ablations=False)
    made = {
        f"{name} {i}": as_render(one)
        for name, many in written.items()
        for i, one in enumerate(many)
    }
    behind, random = as_render(written[video_variants.GENERATE][0]), np.random.default_rng(0)

    def partly(image: np.ndarray, faces: Faces, cut: bool) -> np.ndarray:
        result = behind(image, faces, cut).copy()
        for track, observation in faces:
            target = place(observation, image.shape)[2]
            if target.inside.any():
                shown = third(target, track.number + observation.frame)
                result[target.slices][shown] = image[target.slices][shown]
        return result

    def exchanged(image: np.ndarray, faces: Faces, cut: bool) -> np.ndarray:
        del cut
        image = image.copy()
        for _, observation in faces:
            alignment, mask, _ = place(observation, image.shape)
            face = strangers[random.integers(len(strangers))]
            target = geometry.region(alignment, mask, image.shape)
            if target.inside.any():
                geometry.place(image, target, geometry.project(face, alignment, target))
        return image

    others = {"someone else": exchanged} if len(strangers) else {}
    return {"all": lambda image, *_: image, "third": partly, **made, **others}


def recognised_counts(
    clip: pathlib.Path, start: int, most: int, every: int, strangers: np.ndarray
) -> Mapping[tuple[str, int | None], np.ndarray]:
    """[faces judged, faces found to be shown] by way and quality."""
    anonymizer, counts = Anonymizer(), {}
    with tempfile.TemporaryDirectory() as scratch:
        rate = reading.open_video(clip).rate
        written = video_variants.write_source(clip, pathlib.Path(scratch), most, rate, start)
        if not written.frames:
            raise UserError(f"{clip} has no frame {start}; give another --start")
        info = sequence_writing.open_input(written.pattern, rate)
        tracking = evaluate_video_command.find_tracks(info, anonymizer.min_confidence)
        faces_in, cuts = by_frame(tracking), frozenset(tracking.cuts)
        with reading.read_frames(written.pattern) as frames:
            source = [frame.image for frame in frames]
        for name, render in renders(written, anonymizer, strangers).items():
            made = [render(image, faces_in(n), n in cuts) for n, image in enumerate(source)]
            for quality in QUALITIES:
                count = counts[name, quality] = np.zeros(2, int)
                for number, image in enumerate(encoded(made, quality)):
                    if number % every == 0:
                        count += judged(source[number], image, faces_in(number))
    return counts


def judged(original: np.ndarray, image: np.ndarray, faces: Faces) -> np.ndarray:
    """i64[2]: faces of a frame that can be judged, and that show."""
    count = np.zeros(2, int)
    for _, observation in faces:
        alignment, mask, target = place(observation, original.shape)
        if observation.source == "detected" and target.inside.any():
            views = (geometry.extract(i, alignment) for i in (original, image))
            seen = temporal.exposure(*views, mask)
            count += (seen.judged > 0, seen.shown)
    return count


def main() -> None:
    """Prints a table for each clip, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=pathlib.Path)
    parser.add_argument("--strangers", type=pathlib.Path, help="photos of other people")
    for name, value in (("--start", 0), ("--frames", 60), ("--every", 3)):
        parser.add_argument(name, type=int, default=value)
    options = parser.parse_args()
    strangers = people.read_folder(options.strangers, 1)[0].images if options.strangers else ()
    total: dict = collections.defaultdict(lambda: np.zeros(2, int))
    for clip in [*options.clips, None]:
        counts = total
        if clip:
            counts = recognised_counts(
                clip, options.start, options.frames, options.every, strangers
            )
        print(f"\n{clip or 'all clips'}: found to be shown, not encoded | at CRF {QUALITIES[1:]}")
        for name in dict.fromkeys(name for name, _ in counts):
            cells = [f"{counts[name, q][1]:5} of {counts[name, q][0]:<5}" for q in QUALITIES]
            print(f"{name if name in TO_FIND else f'hidden: {name}':36}", *cells, flush=True)
        for key, count in counts.items() if clip else ():
            total[key] += count


if __name__ == "__main__":
    main()
