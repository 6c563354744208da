"""Can a person be known again from an anonymized track, and can two of them be linked?

A track has many frames and an attacker takes the best. A maximum over many frames is high by chance alone, so
every score is set against other people's, which had just as many frames to choose from.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dp3_jax.metrics import identification

PICTURES = 8  # of a person that the attacker has, from all over the track
_APART = 0.25  # of the track's length that lies at least between the attacker's picture and a frame


@dataclasses.dataclass(frozen=True, eq=False)
class Embedded:
    """Embeddings of frames of one track in which a face was found.

    Attributes:
      embeddings: f[n, D], rows of length 1.
      frames: i[n], numbers of the frames, rising.
      missed: frames in which no face was found.
    """

    embeddings: np.ndarray
    frames: np.ndarray
    missed: int = 0


def evenly(count: int, most: int) -> np.ndarray:
    """Indices of `most` of `count` things, evenly spaced from the first to the last; all if fewer."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).round().astype(int))


def _apart(pictures: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """bool[m, n]: which of the frames are far enough from each picture's to be another moment."""
    ends = np.concatenate([pictures, frames])
    least = _APART * (ends.max() - ends.min() + 1) if len(ends) else 0
    return np.abs(pictures[:, None] - frames[None]) >= least


@dataclasses.dataclass(frozen=True, eq=False)
class Recognition:
    """How well one track's frames are told to be of one person.

    Attributes:
      own: f[m], for each picture of the person the best score over the frames.
      others: f[k], the same for pictures of other people.
      frames: i, that could be used; missed: in which no face was found.
    """

    own: np.ndarray
    others: np.ndarray
    frames: int
    missed: int


def recognize(track: Embedded, person: Embedded, others: np.ndarray) -> Recognition:
    """Compares a track with pictures of the person and of other people.

    The attacker has PICTURES pictures of the person, from the same clip, which is more than a real one has:
    same hair, clothes and light. Frames close in time to a picture are not compared with it. Pictures of
    other people are compared with the same selections of frames in turn, so that chance is the same.

    Args:
      track: the frames under attack.
      person: of the same clip, from which the attacker's pictures are taken.
      others: f[k, D], one row for each picture of someone else.
    """
    chosen = evenly(len(person.frames), PICTURES)
    nothing = np.zeros(0, np.float32)
    if not len(chosen) or not len(track.frames):
        return Recognition(nothing, nothing, len(track.frames), track.missed)
    apart = _apart(person.frames[chosen], track.frames)
    usable = apart.any(1)
    apart, chosen = apart[usable], chosen[usable]
    if not len(chosen):
        return Recognition(nothing, nothing, len(track.frames), track.missed)

    def best(pictures: np.ndarray) -> np.ndarray:
        turns = apart[np.arange(len(pictures)) % len(apart)]
        return np.where(turns, pictures @ track.embeddings.T, -np.inf).max(1)

    own = best(person.embeddings[chosen])
    return Recognition(
        own, best(others) if len(others) else nothing, len(track.frames), track.missed
    )


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def summary(tracks: Iterable[Recognition], threshold: float) -> dict[str, Any]:
    """What many tracks' recognitions say together.

    Returns:
      tracks: how many could be judged; frames, face_not_found: counts over tracks. own and others, each
      {"best_cosine": mean of the scores, "accepted": `Rate` of scores at or above the threshold}: others is
      what chance alone gives. area_under_curve: the probability that an own score beats another person's,
      mean over tracks; 0.5 says nothing. None where nobody else is there to compare with.
    """
    tracks = list(tracks)
    judged = [track for track in tracks if len(track.own)]
    result: dict[str, Any] = {
        "tracks": len(judged),
        "frames": sum(track.frames for track in tracks),
        "face_not_found": sum(track.missed for track in tracks),
        "threshold": threshold,
    }
    for name in ("own", "others"):
        scores = np.concatenate([np.zeros(0), *(getattr(track, name) for track in judged)])
        accepted = identification.Rate(int((scores >= threshold).sum()), len(scores))
        result[name] = {"best_cosine": _mean(scores), "accepted": accepted.as_dict()}
    curves = [identification.area_under_curve(track.own, track.others) for track in judged]
    result["area_under_curve"] = _mean(np.array([c for c in curves if c is not None]))
    return result


def known(keys: Sequence[Iterable[Recognition]], threshold: float) -> int:
    """With how many keys someone is known again: a score of the track of any person is at least `threshold`.

    Args:
      keys: for each key the recognitions of the tracks that were anonymized with it.
    """
    return sum(any((track.own >= threshold).any() for track in tracks) for tracks in keys)


def linked(tracks: Sequence[Sequence[np.ndarray]], threshold: float) -> dict[str, Any]:
    """Are two anonymizations of one track, made with two keys, told to be of one person?

    They share the scene, hair, clothes, light and motion, so this is set against two real donors in the same
    track (`video_variants.REAL_PERSON`) and not against chance.

    Args:
      tracks: for each track of a clip, and each key, the embeddings f[n, D] of its frames, rows of length 1.
      threshold: at which two faces count as one person's.

    Returns:
      pairs: of two keys of a track in both of which a face was found. For the best pair of frames
      ("best_pair") and the mean embeddings ("mean") the mean cosine and the share of pairs linked, a `Rate`
      whose interval takes the pairs for independent, which those of one track or key are not.
    """
    best, mean = [], []
    for keys in tracks:
        found = [rows for rows in keys if len(rows)]
        for a, b in itertools.combinations(found, 2):
            best.append(float((a @ b.T).max()))
            ends = a.mean(0), b.mean(0)
            length = max(float(np.prod([np.linalg.norm(end) for end in ends])), 1e-12)
            mean.append(float(ends[0] @ ends[1]) / length)
    result: dict[str, Any] = {"pairs": len(best)}
    for name, scores in (("best_pair", np.array(best)), ("mean", np.array(mean))):
        result[name] = {
            "cosine": _mean(scores),
            "linked": identification.true_accept_rate(scores, threshold).as_dict(),
        }
    return result
