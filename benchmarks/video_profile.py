"""Processor time of `dp3 anonymize` or `dp3 live` by stage, in ms a frame; the machine may be busy.

    python benchmarks/video_profile.py anonymize CLIP -o RESULT --quiet --seed 1
    python benchmarks/video_profile.py live CLIP --to null --json --as-fast-as-possible

Each stage counts what its own thread does in it and not in another stage; "other threads" is what OpenCV, XLA
and the codecs do in threads of their own (decoding of several frames at once, and XLA's half of a network),
"rest" what is in no stage: loading, Python between the stages. With --counts the calls for each frame too.
"""

import collections
import contextlib
import functools
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# Stage: functions ("module:name" or "module:Class.name"), below dp3_jax.
STAGES = {
    "decoding": ["media.video.reading:Reader._decode"],
    "pixels to RGB": [
        "media.video.canvas:Canvas.__call__",
        "media.video.canvas:Canvas.lazily",
        "media.video.lazy_pictures:LazyPicture.__getitem__",
        "media.video.lazy_pictures:LazyPicture.__array__",
        "media.video.lazy_pictures:resized",
    ],
    "cuts, schedule": [
        "detection.shots:CutDetector.update",
        "detection.keyframes:Schedule.search",
    ],
    "detector": ["detection.face_detection:Detector.rows"],
    "detection, rest": [
        "detection.region_detection:RegionDetector.coarse_detection",
        "detection.region_detection:RegionDetector.confirmed",
        "detection.region_detection:RegionDetector.followed",
        "detection.region_detection:RegionDetector.with_passes",
        "detection.live_detection:LiveDetector.detect",
        "detection.live_detection:LiveDetector._scan",
        "detection.sequence_detection:VideoDetector._finish",
    ],
    "flow of heads": ["detection.carrying:chained", "detection.motion:step"],
    "tracking, linking": [
        "detection.tracking:link",
        "detection.motion:stabilised",
        "detection.tracking:Tracker.update",
        "pipelines.video.detection_pass:link",
    ],
    "mesh": ["models.mesh:FaceMesh.points"],
    "eyes": ["models.iris:Iris.measure"],
    "places, vectors": [
        "replacement.clip_rendering:Renderer._task",
        "detection.vectors:centred",
    ],
    "erasing": ["replacement.frame_renderer:mask_faces"],
    "view, tones": [
        "replacement.frame_renderer:_exposure",
        "replacement.frame_renderer:FrameMemory.colour_curve",
        "replacement.frame_renderer:_Filling._view",
    ],
    "persons' renderings": ["replacement.prior_identities:PriorIdentities.render"],
    "pose grid": ["replacement.pose_grid:PoseGrid.rendering"],
    "field": ["replacement.mesh_warp:displacement"],
    "warping": ["replacement.node_pictures:blended"],
    "lids": ["replacement.eyelids:moved"],
    "placing donors": ["replacement.fusing:place_donor"],
    "fusion network": ["replacement.fusing:FusionNetwork.parts"],
    "carried parts": [
        "replacement.carried_parts:said",
        "replacement.carried_parts:moved",
        "replacement.carried_parts:is_stale",
        "replacement.carried_parts:placed",
        "replacement.background:background",
    ],
    "painting": [
        "replacement.renderers:FusedRenderer.paint",
        "replacement.renderers:BuiltinRenderer.paint",
        "replacement.painting:composite",
    ],
    "grain": ["replacement.temporal_memory:Memory.add_grain"],
    "pasting": ["replacement.frame_renderer:_Filling._place"],
    "frame, rest": ["replacement.frame_renderer:render_frame"],
    "obfuscation": ["replacement.obfuscation:apply"],
    "to YUV": ["media.video.colours:FromRgb.__call__"],
    "encoding": ["media.video.segments:SegmentWriter.write"],
    "assembling": ["media.video.writing:assemble"],
}


class Profile:
    """Exclusive CPU time of stages, over all threads."""

    def __init__(self):
        self.seconds: collections.Counter[str] = collections.Counter()
        self.calls: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the block, less the stages in it."""
        stack = self._local.__dict__.setdefault("stack", [])
        start = time.thread_time()
        stack.append(0.0)  # what stages in this one take
        try:
            yield
        finally:
            whole = time.thread_time() - start
            own = whole - stack.pop()
            if stack:
                stack[-1] += whole
            with self._lock:
                self.seconds[name] += own
                self.calls[name] += 1

    def wrapped(self, name: str, function: Callable) -> Callable:
        """The function as a stage; of a generator each of its steps."""

        @functools.wraps(function)
        def measured(*given: Any, **named: Any) -> Any:
            with self.stage(name):
                result = function(*given, **named)
            return self._steps(name, result) if hasattr(result, "__next__") else result

        return measured

    def _steps(self, name: str, steps: Iterator) -> Iterator:
        while True:
            with self.stage(name):
                try:
                    one = next(steps)
                except StopIteration:
                    return
            yield one


def instrument(profile: Profile) -> None:
    """Wraps the functions of all stages, wherever they have been imported."""
    for name, places in STAGES.items():
        for place in places:
            module, _, path = place.partition(":")
            owner: Any = importlib.import_module(f"dp3_jax.{module}")
            *classes, last = path.split(".")
            for one in classes:
                owner = getattr(owner, one)
            before = getattr(owner, last)
            after = profile.wrapped(name, before)
            setattr(owner, last, after)
            if not classes:
                for other in [m for n, m in sys.modules.items() if n.startswith("dp3_jax")]:
                    for key, value in list(vars(other).items()):
                        if value is before:
                            setattr(other, key, after)


def main() -> int:
    """Runs the command and prints the table."""
    counts = "--counts" in sys.argv
    arguments = [one for one in sys.argv[1:] if one != "--counts"]
    from dp3_jax.cli.main import main as command

    # Only after what is wrapped is there can it be found by those who have imported it.
    for name in (
        "pipelines.video.job",
        "pipelines.live.pipeline",
        "pipelines.live.release_policy",
        "replacement.renderers",
    ):
        importlib.import_module(f"dp3_jax.{name}")
    profile = Profile()
    instrument(profile)
    imported = time.process_time()
    status = command(arguments)
    whole = time.process_time() - imported
    frames = max(profile.calls["cuts, schedule"] and _frames(profile, arguments), 1)
    print(
        f"{frames} frames; loaded in {imported:.2f} s of CPU; then {whole:.2f} s", file=sys.stderr
    )
    listed = [(name, profile.seconds[name]) for name in STAGES if profile.calls[name]]
    own = sum(seconds for _, seconds in listed)
    listed.append(("rest, and other threads", whole - own))
    listed.append(("all", whole))
    for name, seconds in listed:
        calls = f" {profile.calls[name] / frames:8.2f}" if counts else ""
        print(f"{name:26s} {1000 * seconds / frames:8.2f}{calls}", file=sys.stderr)
    return status


def _frames(profile: Profile, arguments: list[str]) -> int:
    """Frames of the clip, as its cuts were looked for in each."""
    from dp3_jax.media.video.reading import read_frames

    if arguments[0] == "live":
        return profile.calls["frames"] or sum(1 for _ in read_frames(arguments[1], lazy=True))
    return sum(1 for _ in read_frames(arguments[1], lazy=True))


if __name__ == "__main__":
    sys.exit(main())
