"""How live video goes, for people and for programs."""

import sys
from typing import Any

from dp3_jax.media.live.sinks import NEW_PERSON_KEY, Sink
from dp3_jax.media.live.sources import Source
from dp3_jax.pipelines.live.pipeline import Pipeline
from dp3_jax.pipelines.live.quality_controller import QualityController
from dp3_jax.pipelines.live.release_policy import ReleasePolicy
from dp3_jax.pipelines.live.rendering import LiveRendering
from dp3_jax.pipelines.reports import PERSONS


class Status:
    """Tells how a pipeline goes: a line a second on standard error and on the preview page, and a summary."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        pipeline: Pipeline,
        policy: ReleasePolicy,
        controller: QualityController,
        *,
        live_rendering: LiveRendering,
        has_keys: bool,
        quiet: bool,
        began: float,
    ):
        """Tells where the frames come from and go to, and who the new faces are.

        `began` is when the command did, by `time.perf_counter`; `has_keys`: a key makes new persons.
        """
        self._source = source
        self._sink = sink
        self._pipeline = pipeline
        self._policy = policy
        self._controller = controller
        self._rendering = live_rendering
        self._quiet = quiet
        self._began = began
        self._in_place = sys.stderr.isatty()
        self._width = 0
        self._print(
            f"{source.name} ({source.width}x{source.height}, {source.rate:.3g} fps) -> {sink.name}; "
            "Ctrl-C ends it\n"
        )
        if live_rendering.identity:
            instead = (
                f"; not the prior's: {live_rendering.instead}" if live_rendering.instead else ""
            )
            hint = f"; {NEW_PERSON_KEY} makes other ones" if has_keys else ""
            self._print(f"new faces: {PERSONS[live_rendering.identity]}{instead}{hint}\n")

    def tick(self, recent: dict[str, Any]) -> None:
        """Shows an interval as `Meter.interval` gives it."""
        counts = recent["counts"]
        faces = self._pipeline.faces
        parts = [
            f"{counts.get('shown', 0) / recent['seconds']:.1f} fps",
            f"latency p50 {recent['p50']:.0f} p95 {recent['p95']:.0f} ms",
            f"dropped {counts.get('dropped', 0)}",
            f"{faces} face" + "s" * (faces != 1),
            f"detection {self._controller.level}",
        ]
        if counts.get("withheld"):
            reason = self._policy.failure or self._pipeline.failure or "nothing decided yet"
            parts.append(f"held back {counts['withheld']} ({reason})")
        line = ", ".join(parts)
        if hasattr(self._sink, "status"):
            self._sink.status = line
        if self._in_place:
            self._print("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._print(line + "\n")

    def end(self) -> None:
        """Shows the summary as one line."""
        total = self.summary()
        frames, latency = total["frames"], total["latency_ms"]
        start = "\n" if self._in_place and self._width else ""
        self._print(
            f"{start}{frames['shown']} of {frames['arrived']} frames shown in {total['seconds']:.1f} s "
            f"({total['fps']:.1f} fps), latency p50 {latency['p50']:.0f} p95 {latency['p95']:.0f} ms, "
            f"{frames['dropped']} dropped, {frames['withheld']} held back{self._reasons()}\n"
        )

    def _reasons(self) -> str:
        reasons = {"detector": self._policy.failure, "renderer": self._pipeline.failure}
        return "".join(f"; {name}: {reason}" for name, reason in reasons.items() if reason)

    def summary(self) -> dict[str, Any]:
        """Everything, for JSON."""
        failures = {
            "detector": self._policy.failures,
            "renderer": self._pipeline.failures,
            "last": self._policy.failure or self._pipeline.failure,
        }
        first = self._pipeline.meter.first
        return {
            "source": self._source.name,
            "sink": self._sink.name,
            **self._pipeline.meter.total(),
            "detection": {
                "level": str(self._controller.level),
                "lowered": self._controller.lowered,
            },
            "failures": failures,
            "first_frame_s": None if first is None else round(first - self._began, 3),
            "identity": self._rendering.identity,
            "instead": self._rendering.instead,
        }

    def _print(self, text: str) -> None:
        if not self._quiet:
            print(text, end="", file=sys.stderr, flush=True)
