"""The bars of a command's progress."""

from typing import Any

from dp3_jax.pipelines import outputs


class FrameBar:
    """The progress of a video, below that of all files: a bar for each pass, with frames a second and ETA."""

    def __init__(self, task: outputs.Task, disable: bool | None):
        self._name = task.source.name
        self._disable = disable
        self._what = ""
        self._bar: Any = None

    def update(self, what: str, count: int, total: int | None) -> None:
        """`count` more frames, of `total`, of the pass called `what`."""
        import tqdm

        if what != self._what:
            self._close()
            self._what = what
            self._bar = tqdm.tqdm(
                desc=f"{self._name}: {what}",
                total=total,
                unit="frame",
                leave=False,
                disable=self._disable,
            )
        self._bar.update(count)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "FrameBar":
        return self

    def __exit__(self, *exception) -> None:
        self._close()
