"""Interlaced video: two moments in each frame, to which no detector and no progressive copy does justice."""

import collections
from collections.abc import Iterable, Iterator

import av
from av.filter import Graph

from dp3_jax.common.errors import UserError

DEINTERLACED = "deinterlaced: of the two moments in each frame the first one is shown"


def to_deinterlace(frame: av.VideoFrame, asked: bool, path: object) -> str:
    """Which frames are to be deinterlaced (see `Deinterlacer`), if that is asked for; "" for none.

    Args:
      frame: the first one.
      asked: whether it is.
      path: of the video, for people.

    Raises:
      UserError: the video is interlaced and nobody asked.
    """
    if asked:
        return "interlaced" if frame.interlaced_frame else "all"
    if frame.interlaced_frame:
        raise UserError(f"{path} is interlaced; --deinterlace makes whole frames of it")
    return ""


class Deinterlacer:
    """Makes one progressive frame of each (FFmpeg's bwdif), one frame behind."""

    def __init__(self, which: str):
        """`which`: "all" frames, or those that say that they are "interlaced"."""
        self._which = which
        self._graph: Graph | None = None
        self._shape: tuple[int, int, str] | None = None
        self._waiting: collections.deque[av.VideoFrame] = collections.deque()

    def push(self, frame: av.VideoFrame) -> list[av.VideoFrame]:
        """What is ready after the next frame."""
        done = []
        shape = frame.width, frame.height, frame.format.name
        if shape != self._shape:
            done = self.flush()
            self._graph, self._shape = self._new_graph(*shape), shape
        self._waiting.append(frame)
        self._graph.push(frame)
        return done + self._pull()

    def flush(self) -> list[av.VideoFrame]:
        """The rest, after the last frame."""
        if self._graph is None:
            return []
        self._graph.push(None)
        done = self._pull()
        self._graph, self._shape = None, None
        return done

    def _new_graph(self, width: int, height: int, pixel_format: str) -> Graph:
        graph = Graph()
        source = graph.add_buffer(
            width=width, height=height, format=pixel_format, time_base="1/1000000"
        )
        bwdif = graph.add("bwdif", f"mode=send_frame:parity=auto:deint={self._which}")
        source.link_to(bwdif)
        bwdif.link_to(graph.add("buffersink"))
        graph.configure()
        return graph

    def _pull(self) -> list[av.VideoFrame]:
        done = []
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return done
            # In order and one for one; the filter's times are rounded, and count in halves.
            before = self._waiting.popleft()
            frame.pts, frame.time_base = before.pts, before.time_base
            frame.duration = before.duration
            done.append(frame)


def progressive(
    items: Iterable[av.VideoFrame | av.Packet], which: str
) -> Iterator[av.VideoFrame | av.Packet]:
    """The items with their frames deinterlaced; `which`: see `Deinterlacer`, or "" for none."""
    if not which:
        yield from items
        return
    worker = Deinterlacer(which)
    for item in items:
        if isinstance(item, av.Packet):
            yield item
        else:
            yield from worker.push(item)
    yield from worker.flush()
