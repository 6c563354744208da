"""What can be changed in the tracks of a video: pure functions of a tracks file's content."""

import dataclasses
from collections.abc import Mapping

from dp3_jax.common.errors import UserError
from dp3_jax.detection import tracks
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.tracks import Observation, Track, Tracking
from dp3_jax.pipelines.video.track_file import TrackFile
from dp3_jax.review.edits import Edit, need, new_key

NOT_A_FACE = "not a face"
KEPT = "kept in review"


def with_keys(read: TrackFile) -> TrackFile:
    """The same with a key for each track, so that a person stays who it is from one rendering to the next."""
    keys = {track.number: read.keys.get(track.number) for track in read.tracking.tracks}
    return dataclasses.replace(read, keys={n: k or new_key() for n, k in keys.items()})


def apply(read: TrackFile, edit: Edit) -> tuple[TrackFile, int | None]:
    """The tracks after an edit.

    Args:
      read: with a key for each track; not changed.
      edit: one of `edits.VIDEO_ACTIONS`.

    Returns:
      The new tracks, and the number of the track that the edit was of.

    Raises:
      UserError: there is no such track, or the edit is not possible.
    """
    if edit.action == "missed":
        return _missed(read, edit)
    number = need(edit.face, "the track", edit.action)
    track = find(read.tracking, number)
    tracking, keys = read.tracking, dict(read.keys)
    match edit.action:
        case "not_a_face" | "keep":
            reason = NOT_A_FACE if edit.action == "not_a_face" else KEPT
            tracking = tracks.exclude(tracking, number, reason)
        case "unkeep":
            tracking = _replaced(tracking, dataclasses.replace(track, keep=False, reason=""))
        case "method":
            shown = _replaced(tracking, dataclasses.replace(track, keep=False, reason=""))
            tracking = tracks.change_method(shown, number, edit.method)
        case "another_person":
            keys[number] = new_key()
        case "same_person":
            other = need(edit.other, "the other track", edit.action)
            keys[number] = keys[find(tracking, other).number]
        case "split":
            tracking = tracks.split(tracking, number, need(edit.frame, "the frame", edit.action))
            number = max(track.number for track in tracking.tracks)  # the part from that frame on
        case "merge":
            other = need(edit.other, "the other track", edit.action)
            tracking = tracks.merge(tracking, number, other)
        case "range":
            first = track.first if edit.first is None else edit.first
            last = track.last if edit.last is None else edit.last
            tracking = _replaced(tracking, ranged(tracking, track, first, last))
        case "adjust":
            tracking = _replaced(tracking, _adjusted(track, edit))
    return _with(read, tracking, keys), number


def find(tracking: Tracking, number: int) -> Track:
    """A track by its number; raises UserError where there is none."""
    for track in tracking.tracks:
        if track.number == number:
            return track
    raise UserError(f"there is no track {number}")


def ranged(tracking: Tracking, track: Track, first: int, last: int) -> Track:
    """The track from one frame to another, both included: cut off, or led on as it moved at its end.

    Raises:
      UserError: no frame is left, or a cut lies in what is added.
    """
    if not 0 <= first <= last < tracking.frames:
        raise UserError(f"frames {first} to {last} are not of this clip")
    kept = [s for s in track.observations if first <= s.frame <= last]
    if not kept:
        raise UserError(f"track {track.number} is at frames {track.first} to {track.last} only")
    start, stop = min(first, kept[0].frame), max(last, kept[-1].frame)
    if crossed := [cut for cut in tracking.cuts if start < cut <= stop]:
        raise UserError(f"a cut lies in between, at frame {crossed[0]}")
    size = tracking.width, tracking.height
    return dataclasses.replace(track, observations=tracks.extend(kept, first, last, *size))


def _missed(read: TrackFile, edit: Edit) -> tuple[TrackFile, int | None]:
    """A new track at a drawn box; or a drawn track that is led there from its nearest end."""
    box = need(edit.box, "the box", edit.action)
    frame = need(edit.frame, "the frame", edit.action)
    if edit.face is not None:
        track = find(read.tracking, edit.face)
        return _with(
            read, _replaced(read.tracking, _led(read.tracking, track, frame, box))
        ), track.number
    first = frame if edit.first is None else edit.first
    last = frame if edit.last is None else edit.last
    before = {track.number for track in read.tracking.tracks}
    tracking = tracks.add_box(read.tracking, box, first, last, edit.method)
    new = [t for t in tracking.tracks if t.number not in before]
    shown = next((t.number for t in new if t.first <= frame <= t.last), new[0].number)
    return _with(read, tracking), shown


def _led(tracking: Tracking, track: Track, frame: int, box: tracks.Box) -> Track:
    """A drawn track that is at another place in one frame, and moves there evenly."""
    start, stop = min(frame, track.first), max(frame, track.last)
    if crossed := [cut for cut in tracking.cuts if start < cut <= stop]:
        raise UserError(
            f"a cut lies in between, at frame {crossed[0]}; draw a face of its own there"
        )
    drawn = [s for s in track.observations if s.frame != frame]
    drawn.append(Observation(frame, tuple(box), None, 1.0, FaceSource.USER))
    return dataclasses.replace(
        track, observations=tracks.fill(sorted(drawn, key=lambda s: s.frame))
    )


def _adjusted(track: Track, edit: Edit) -> Track:
    """The track with another box in one frame."""
    frame = need(edit.frame, "the frame", edit.action)
    box = tuple(need(edit.box, "the box", edit.action))
    if not track.first <= frame <= track.last:
        raise UserError(f"track {track.number} is not in frame {frame}")
    new = Observation(frame, box, None, 1.0, FaceSource.USER)
    observations = tuple(new if s.frame == frame else s for s in track.observations)
    return dataclasses.replace(track, observations=observations)


def _replaced(tracking: Tracking, track: Track) -> Tracking:
    others = [track if t.number == track.number else t for t in tracking.tracks]
    return dataclasses.replace(tracking, tracks=tuple(others))


def _with(
    read: TrackFile, tracking: Tracking, keys: Mapping[int, bytes] | None = None
) -> TrackFile:
    """The file with other tracks; a key for each new one, none for those that are gone."""
    keys = read.keys if keys is None else keys
    own = {track.number: keys.get(track.number) or new_key() for track in tracking.tracks}
    return dataclasses.replace(read, tracking=tracking, keys=own)
