"""People in clips, as the attack on how they move wants them: reads the clips."""

import pathlib
import tempfile
from collections.abc import Callable, Sequence

from dp3_jax.detection import vectors
from dp3_jax.detection.tracks import Tracking
from dp3_jax.detection.vector_meter import VectorMeter
from dp3_jax.evaluation.attacks.motion import MIN_SECONDS, Person, attack, resampled
from dp3_jax.media import image_sequences
from dp3_jax.media.video import reading, sequence_writing
from dp3_jax.pipelines.video import face_tracks, work_folder


def _opened(clip: str) -> reading.VideoInfo:
    return sequence_writing.open_input(clip, image_sequences.RATE)


def find_people(clip: str, min_confidence: float, progress: Callable[[int], None]) -> list[Person]:
    """The persons in a clip whose vectors are whole: faces large enough, seen for MIN_SECONDS.

    Raises:
      UserError: it cannot be read.
    """
    info = _opened(clip)
    rate = float(info.rate)
    with tempfile.TemporaryDirectory() as scratch:
        folder = work_folder.WorkFolder(pathlib.Path(scratch), resumed=False)
        meter = VectorMeter(rate)
        tracking, _ = face_tracks.find_tracks(
            info, min_confidence, None, folder, progress, meter=meter
        )
    return people_of(tracking, rate, pathlib.Path(clip).stem)


def people_of(tracking: Tracking, rate: float, clip: str) -> list[Person]:
    """The persons in the tracks of a clip of `rate` frames a second whose vectors are whole."""
    found = []
    for track in tracking.tracks:
        known = [i for i, one in enumerate(track.observations) if one.vector is not None]
        if track.low_confidence or not known:
            continue
        # What lies before and after was made up.
        seen = track.observations[known[0] : known[-1] + 1]
        shown = vectors.smooth([one.vector for one in seen])
        if len(seen) >= MIN_SECONDS * rate and all(None not in one for one in shown):
            found.append(Person(f"{clip} {track.number}", resampled(shown, rate)))
    return found


def attack_clips(
    clips: Sequence[str], min_confidence: float, progress: Callable[[int], None]
) -> dict:
    """`attack` on the people of some clips."""
    for clip in clips:  # what cannot be read is told at once
        _opened(clip)
    return attack([one for clip in clips for one in find_people(clip, min_confidence, progress)])
