"""The audit as a whole: pairs of files in, a report out; what is done once is not done again."""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import dp3_jax
from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_detection import Detector
from dp3_jax.evaluation.attacks.attack import AttackResult
from dp3_jax.evaluation.attacks.verifiers import FACE_VERIFIERS, Embed
from dp3_jax.evaluation.audit import (
    attacking,
    calibration,
    coverage,
    gathering,
    given_impostors,
    recognition,
    verdicts,
)
from dp3_jax.evaluation.audit.clips import clip_faces
from dp3_jax.evaluation.audit.faces import AuditedFace, photo_faces
from dp3_jax.evaluation.audit.movement import movement
from dp3_jax.evaluation.audit.pairing import Pair, Pairing
from dp3_jax.evaluation.audit.store import Store
from dp3_jax.metrics import batch_embedding

FORMAT = "dp3 audit 1"
_MAX_LISTED = 500  # faces of a file that are listed; a clip may have more
# How bad a face is, for sorting: 1 still shows. Each verifier that recognises it adds its part to the last.
_RISK = {coverage.SHOWN: 1.0, coverage.TOO_LITTLE: 0.9, coverage.CHANGED: 0.0, coverage.KEPT: 0.0}
_RISK_RECOGNISED = 0.25


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
      people: {name of a pair: number of its person}.
      attacks: names.
      min_confidence: of detections in originals.
      seed: of all that is drawn.
      impostors: folder with photos of people who are in no original, for thresholds; None: those that the
        package brings.
    """

    people: Mapping[str, int] = dataclasses.field(default_factory=dict)
    attacks: Sequence[str] = ()
    min_confidence: float = 0.5
    seed: int = 0
    impostors: pathlib.Path | None = None


class Progress:
    """Told how far the audit is; this one says nothing."""

    def files(self, done: int, total: int, name: str) -> None:
        """`done` of `total` files are looked at, the last one `name`."""

    def step(self, what: str) -> None:
        """What is done next."""


def _look(pair: Pair, detectors: Mapping[bool, Detector], progress: Progress) -> list[AuditedFace]:
    if not pair.is_video:
        return photo_faces(pair.original, pair.anonymized, detectors[False])
    return clip_faces(
        pair.original,
        pair.anonymized,
        detectors[True],
        lambda done, most: progress.step(f"{pair.name}: frame {done} of up to {most}"),
    )


def look_at_all(
    pairs: Sequence[Pair], store: Store, min_confidence: float, progress: Progress
) -> None:
    """Finds the faces of all pairs that the store does not know yet; files that cannot be used are noted."""
    detectors = {video: Detector(min_confidence, rotations=not video) for video in (False, True)}
    for done, pair in enumerate(pairs):
        progress.files(done, len(pairs), pair.name)
        if pair in store:
            continue
        try:
            store.write(pair, _look(pair, detectors, progress))
        except UserError as error:
            if "cannot write" in str(error):
                raise
            store.write(pair, [], str(error))
    progress.files(len(pairs), len(pairs), "")


def _risk(face: AuditedFace, by: Sequence[str]) -> float:
    if face.state == coverage.KEPT:
        return 0.0
    return max(_RISK[face.state], round(_RISK_RECOGNISED * len(by), 3))


def _face(face: AuditedFace, cosines: Mapping[str, float], by: Sequence[str]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "box": [round(v, 1) for v in face.box],
        "confidence": round(face.confidence, 3),
        "sure": face.sure,
        "state": face.state,
        "difference": round(face.change.difference, 2),
        "outside": round(face.change.outside, 2),
        "alike": round(face.change.alike, 3),
        "cosines": {name: round(value, 4) for name, value in cosines.items()},
        "recognised_by": list(by),
        "risk": _risk(face, by),
    }
    if face.track:
        told |= {"track": face.track, "frame": face.frame}
    return told


def _listed(
    pair: Pair,
    faces: Sequence[AuditedFace],
    error: str,
    told: Callable[[int], tuple[Mapping[str, float], Sequence[str]]],
) -> dict[str, Any]:
    """What the report says of a file, its worst faces first."""
    entry = {"name": pair.name, "original": str(pair.original), "anonymized": str(pair.anonymized)}
    if error:
        return {**entry, "error": error, "faces": [], "risk": 0.0}
    entries = [_face(face, *told(j)) for j, face in enumerate(faces)]
    entries.sort(key=lambda face: (not face["sure"], -face["risk"]))
    sure = [face["risk"] for face in entries if face["sure"]]
    return {
        **entry,
        "error": "",
        "count": len(entries),
        "states": dict(Counter(face["state"] for face in entries)),
        "faces": entries[:_MAX_LISTED],
        "risk": max(sure, default=0.0),
    }


def _told(
    found: gathering.Gathered,
    results: Sequence[recognition.Recognised],
    embed: Embed,
    thresholds: calibration.Calibration,
) -> Callable[[int, int], tuple[Mapping[str, float], Sequence[str]]]:
    """(pair, face) -> (its cosines by verifier, the verifiers that recognise it)."""
    rows = {place: row for row, place in enumerate(found.places)}
    told = (
        recognition.recognised_by(found.faces, results, embed, thresholds)
        if results
        else {"cosines": {}, "passed": {}}
    )

    def of(i: int, j: int) -> tuple[Mapping[str, float], Sequence[str]]:
        row = rows.get((i, j))
        if row is None:
            return {}, ()
        cosines = {name: float(each[row]) for name, each in told["cosines"].items()}
        return cosines, [name for name, each in told["passed"].items() if each[row]]

    return of


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - start, 1)


def audit(
    pairing: Pairing, report: pathlib.Path, options: Options, progress: Progress
) -> dict[str, Any]:
    """Audits all pairs.

    Args:
      pairing: of the files.
      report: folder; what is known while the audit runs lies in it, for the next run of an interrupted one.
      options: see there.
      progress: is told how far it is.

    Returns:
      The content of audit.json; "status" is the exit status.

    Raises:
      UserError: a network cannot be had, an attack has no such name, the folder cannot be written, or the
        impostors are too few.
    """
    chosen = attacking.choose_attacks(options.attacks, pairing.pairs)
    batch_embedding.open_all()
    thresholds = _thresholds(options, progress)
    store = Store(report)
    seconds: dict[str, float] = {}
    with _timed(seconds, "looking"):
        look_at_all(pairing.pairs, store, options.min_confidence, progress)
    read = [store.read(pair) for pair in pairing.pairs]
    found = gathering.gather(
        pairing.pairs, [faces for faces, _ in read], options.people, store, options.seed
    )
    with _timed(seconds, "recognition"):
        results = _recognised(found, thresholds, progress)
    with _timed(seconds, "attacks"):
        moving = functools.partial(movement, pairing.pairs)
        tried = attacking.try_all(chosen, found.faces, moving, options.seed, progress.step)
    told = _told(found, results, FACE_VERIFIERS, thresholds)
    listed = [
        _listed(pair, faces, error, functools.partial(told, i))
        for i, (pair, (faces, error)) in enumerate(zip(pairing.pairs, read, strict=True))
    ]
    seen = gathering.count_states([faces for faces, error in read if not error])
    skipped = sum(bool(entry["error"]) for entry in listed)
    return attacking.plain(
        _judged(seen, results, tried, skipped)
        | _files(pairing, listed)
        | {
            "compared": _compared(found, options.people),
            "seconds": seconds,
            "thresholds": thresholds.about,
        }
    )


def _thresholds(options: Options, progress: Progress) -> calibration.Calibration:
    if options.impostors is None:
        return calibration.brought()
    return given_impostors.calibrate(
        options.impostors, options.min_confidence, options.seed, FACE_VERIFIERS, progress.step
    )


def _recognised(
    found: gathering.Gathered, thresholds: calibration.Calibration, progress: Progress
) -> list[recognition.Recognised]:
    """What the verifiers say of all faces that were found; nothing where there is none."""
    if not len(found.faces):
        return []
    progress.step(
        f"comparing {len(found.faces)} faces by {len(batch_embedding.VERIFIERS)} verifiers"
    )
    return recognition.recognise(found.faces, found.tracked, FACE_VERIFIERS, thresholds)


def _compared(found: gathering.Gathered, people: Mapping[str, int]) -> dict[str, Any]:
    """Of how many faces and people the report speaks."""
    return {
        "faces": len(found.faces),
        "different": recognition.distinct(found.faces, found.tracked),
        "people": _known_people(found, people),
        "left_out": found.left_out,
    }


def _files(pairing: Pairing, listed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All files, the worst first, and those of which nothing can be said."""
    return {
        "skipped": [f"{entry['name']}: {entry['error']}" for entry in listed if entry["error"]],
        "without_result": pairing.without_result,
        "without_original": pairing.without_original,
        "files": sorted(listed, key=lambda entry: -entry["risk"]),
    }


def _judged(
    seen: verdicts.Seen,
    results: Sequence[recognition.Recognised],
    tried: Sequence[AttackResult],
    skipped: int,
) -> dict[str, Any]:
    """What the report says of all files together."""
    risks = [
        *verdicts.of_coverage(seen),
        *verdicts.of_recognition(results),
        *verdicts.of_attacks(tried),
    ]
    return {
        "format": FORMAT,
        "version": dp3_jax.__version__,
        "status": verdicts.status(risks, skipped),
        "summary": verdicts.summary(risks, skipped),
        "risks": [verdicts.as_dict(risk) for risk in risks],
        "coverage": {
            "files": seen.files,
            "states": seen.states,
            "low_confidence": seen.low_confidence,
        },
        "recognition": results,
        "attacks": [one.as_dict() for one in tried],
    }


def _known_people(found: gathering.Gathered, people: Mapping[str, int]) -> int:
    named = np.isin(found.faces.people, list(set(people.values())))
    return len(np.unique(found.faces.people[named]))


def remove_parts(report: pathlib.Path) -> None:
    """Removes what was kept for an interrupted run, views of original faces among it."""
    Store(report).remove()
