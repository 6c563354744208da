"""The pictures that the page asks for: before and after, whole or a part, of photos and of frames."""

import dataclasses
import pathlib
import threading
from typing import Any

from starlette.requests import Request

from dp3_jax.common.errors import UserError
from dp3_jax.media.names import as_one
from dp3_jax.review import shown
from dp3_jax.review.caches import ByteCache
from dp3_jax.review.photo_item import PhotoItem
from dp3_jax.review.session import Session, revision
from dp3_jax.review.video_item import VideoItem

_MAX_CACHED = 128 << 20  # bytes of JPEG
_MAX_STRETCH = 250  # frames that are drawn again at once round the one that is looked at


@dataclasses.dataclass
class Stretch:
    """Frames of a video that are drawn again after a change.

    Attributes:
      revision: of the tracks that they are drawn with.
      first, last: frames, both included.
      next: the first that is not drawn yet.
    """

    revision: str
    first: int
    last: int
    next: int


class Pictures:
    """Makes them, and keeps what may be asked for again."""

    def __init__(self, session: Session):
        """Takes the review."""
        self._session = session
        self._cache = ByteCache(_MAX_CACHED)
        self._stretches: dict[str, Stretch] = {}
        self._lock = threading.Lock()

    def thumb(self, request: Request) -> bytes:
        """A small picture of the result, or of the original where there is none."""
        name = request.path_params["item"]
        work = self._session.work(name)
        item = work.item
        path = item.result if item.has_result else item.source
        if path is None:
            raise UserError(f"{item.name} is not there")

        def make() -> bytes:
            if isinstance(work, VideoItem):
                return shown.jpeg(work.access(path).frame(0), shown.THUMB)
            return shown.thumbnail(path)

        return self._cache.made(("thumb", name, *_stamp(path)), make)

    def picture(self, request: Request) -> bytes:
        """The side "before" or "after"; of a video the frame `frame`; the part `crop`, x,y,w,h in px."""
        work = self._session.work(request.path_params["item"])
        side, query = request.path_params["side"], request.query_params
        if side not in ("before", "after"):
            raise UserError(f"there is no side {side}")
        crop = None
        if query.get("crop"):
            crop = tuple(int(float(v)) for v in query["crop"].split(","))
            if len(crop) != 4:
                raise UserError("a part is x,y,width,height")
        size = min(max(int(query.get("size", shown.MAX_SIDE)), 16), shown.MAX_SIDE)
        if isinstance(work, VideoItem):
            return self._frame(work, side, int(query.get("frame", 0)), size, crop)
        return self._photo(work, side, size, crop)

    def _photo(self, work: PhotoItem, side: str, size: int, crop: Any) -> bytes:
        path = work.item.source if side == "before" else work.item.result
        if path is None:
            raise UserError(work.item.problem)

        def make() -> bytes:
            photo = shown.photo_of(path)
            height, width = photo.pixels.shape[:2]
            part = None if crop is None else shown.clipped(crop, width, height)
            return shown.photo_jpeg(photo, size, part)

        return self._cache.made((side, work.item.id, *_stamp(path), size, crop), make)

    def _frame(self, work: VideoItem, side: str, frame: int, size: int, crop: Any) -> bytes:
        content = work.read()
        if side == "before":
            key = _stamp(work.item.source)
        elif content is None or self._session.history.position(work.item.id).rendered:
            key = _stamp(work.item.result)
        else:
            key = ("drawn", revision(content))

        def make() -> bytes:
            if side == "before":
                image = work.original(frame)
            elif key[0] == "drawn":
                image = work.drawn(content, frame)
            else:
                image = work.result(frame)
            height, width = image.shape[:2]
            part = None if crop is None else shown.clipped(crop, width, height)
            if part is not None:
                left, top, width, height = part
                image = image[top : top + height, left : left + width]
            return shown.jpeg(image, size)

        return self._cache.made((side, work.item.id, key, frame, size, crop), make)

    def boxes(self, name: str, first: int, last: int) -> dict[int, list]:
        """As `VideoItem.boxes`, of the present tracks."""
        work = self._session.work(name)
        content = work.read()
        if not isinstance(work, VideoItem) or content is None:
            raise UserError("only videos with tracks have boxes by frame")
        if not 0 <= first <= last < first + 1000:
            raise UserError(f"frames {first} to {last} are too many at once")
        return work.boxes(content, first, last)

    def changed(self, name: str, face: int | None, frame: Any) -> None:
        """After a change: draws the stretch of a video round the frame that is looked at, meanwhile.

        Args:
          name: of the item.
          face: the track that was changed; None where there is none any more.
          frame: that is looked at.
        """
        work = self._session.work(name)
        content = work.read()
        if not isinstance(work, VideoItem) or content is None:
            return
        if self._session.history.position(name).rendered:
            return
        tracking = work.tracks(content).tracking
        track = next((t for t in tracking.tracks if t.number == face), None)
        middle = min(frame if isinstance(frame, int) else 0, tracking.frames - 1)
        first, last = (middle, middle) if track is None else (track.first, track.last)
        first = max(first, middle - _MAX_STRETCH // 2)
        last = min(max(last, middle), first + _MAX_STRETCH - 1, tracking.frames - 1)
        stretch = Stretch(revision(content), first, last, first)
        with self._lock:
            self._stretches[name] = stretch
        self._go_on(work, content, stretch)

    def _go_on(self, work: VideoItem, content: bytes, stretch: Stretch) -> None:
        """Draws one frame of a stretch, and then the next: whoever waits for a frame comes in between."""
        name = work.item.id

        def draw() -> None:
            with self._lock:
                current = self._stretches.get(name) is stretch
            if not current or stretch.next > stretch.last:
                return
            frame = stretch.next
            key = ("after", name, ("drawn", stretch.revision), frame, shown.MAX_SIDE, None)
            try:
                image = work.drawn_here(content, frame, "stretch")
            except UserError:
                return
            made = shown.jpeg(image, shown.MAX_SIDE)
            self._cache.put(key, made, len(made))
            stretch.next = frame + 1
            self._session.models.later(draw)

        self._session.models.later(draw)

    def stretches(self) -> dict[str, dict[str, Any]]:
        """How far each stretch is."""
        with self._lock:
            return {name: dataclasses.asdict(one) for name, one in self._stretches.items()}


def _stamp(path: pathlib.Path | None) -> tuple:
    """Tells a file's content from an earlier one's."""
    try:
        status = None if path is None else as_one(path).stat()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return (str(path),) if status is None else (str(path), status.st_mtime_ns, status.st_size)
