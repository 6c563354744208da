"""The run of `configs/refine128.py`: feedback in; a threshold, a refined network and a report out."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from dp3_jax.common import assets, images
from dp3_jax.common.errors import UserError
from dp3_jax.data import feedback, rated
from dp3_jax.data.feedback import Feedback
from dp3_jax.data.rated import RatedFaces
from dp3_jax.detection.face_detection import MIN_CONFIDENCE, Detector
from dp3_jax.models import families, perceptual, preference
from dp3_jax.models.generator_file import read_generator, save_generator
from dp3_jax.replacement import choice, fusing
from dp3_jax.replacement.options import IdentityOptions
from dp3_jax.training import detection_thresholds, refining
from dp3_jax.training.refining import Refined, RefineOptions

REFINED = "refined.safetensors"
_SHOWN = 24  # faces on before_after.png


def run(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Refines by the feedback that the config names; see `configs/refine128.py`.

    Raises:
      UserError: there is nothing to learn from, or what was learned did not help; the report is written.
    """
    if not config.feedback:
        raise UserError(
            "name what dp3 review wrote: --config.feedback=FOLDER.review/feedback.jsonl"
        )
    options = _options(config)
    entries = feedback.read(config.feedback)
    there = {e.source: rated.is_unchanged(e) for e in entries}
    usable = [entry for entry in entries if there[entry.source]]
    report: dict[str, Any] = {
        "feedback": str(config.feedback),
        "remarks": len(entries),
        "originals": len(there),
        "gone_or_changed": sum(not ok for ok in there.values()),
    }
    if not usable:
        raise UserError(
            f"all {len(there)} originals that {config.feedback} names are gone or changed"
        )
    report["detection"] = _detection(usable)
    ratings = rated.ratings(usable)
    report["ratings"] = len(ratings)
    target = pathlib.Path(workdir) / "report.json"
    refused = ""
    if len(ratings) < config.refine.min_ratings:
        refused = f"{len(ratings)} ratings tell too little, {config.refine.min_ratings} are needed"
    else:
        report["network"], refused = _network(
            config.refine.initial, options, ratings, pathlib.Path(workdir)
        )
    report["refused"] = refused
    refining.write_report(target, report)
    if not ratings and report["detection"]:
        logging.info("nobody rated new faces, so the network stays as it is")
        return
    if refused:
        raise UserError(f"no refined network was written: {refused} (all of it: {target})")
    logging.info("use it with: dp3 anonymize --weights %s", pathlib.Path(workdir) / REFINED)


def _detection(entries: Sequence[Feedback]) -> dict[str, Any] | None:
    """A threshold from missed faces and things that are none; None where nobody corrected detection."""
    corrected = detection_thresholds.CORRECTIONS
    if not any(entry.action in corrected for entry in entries):
        return None
    detector = Detector(detection_thresholds.LOWEST)
    places: dict[tuple, list[Feedback]] = {}
    for entry in entries:
        if entry.action in (*corrected, "rate"):
            places.setdefault((entry.source, entry.frame), []).append(entry)
    known = []
    for said in places.values():
        seen = detector.detect(rated.picture(said[0]))
        known += detection_thresholds.examples(said, seen, MIN_CONFIDENCE)
    found = detection_thresholds.report(known, MIN_CONFIDENCE)
    logging.info(
        "detection: --min-confidence %.2f (usual %.2f)", found["threshold"], MIN_CONFIDENCE
    )
    for name in ("before", "after"):
        row = found[name]
        logging.info(
            "  held-out originals, %s: recall %s of %d faces, %s of %d other things taken for faces",
            name, _share(row["recall"]), row["faces"], _share(row["false_positives"]), row["others"],
        )  # fmt: skip
    return found


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _network(
    initial: str, options: RefineOptions, ratings: Sequence[rated.Rating], workdir: pathlib.Path
) -> tuple[dict[str, Any], str]:
    """(what the report says of the refined network, why it was refused; else empty)."""
    source = fusing.WEIGHTS if initial == "shipped" else pathlib.Path(initial)
    model, variables, _ = read_generator(source)
    if families.family_of(model).name != "fusion":
        raise UserError(f"{source} holds no fusion network")
    faces = rated.load(
        ratings,
        fusing.load_fusion(source),
        lambda network: choice.open_fused(IdentityOptions(source="prior"), "prior", network),
        lambda done: logging.log_every_n(logging.INFO, "rendered again: %d", 10, done),
    )
    try:
        # Files hold half precision, in which Adam's steps vanish or overflow.
        params = jax.tree.map(lambda x: np.asarray(x, np.float32), variables["params"])
        refined = _refined(options, model, params, faces)
    except ValueError as error:
        return {"faces": len(faces)}, f"{error} on one half of the places: rate more faces"
    _tell(refined)
    images.write_png(workdir / "before_after.png", _side_by_side(refined))
    if refined.improved:
        save_generator(workdir / REFINED, {"params": refined.params}, model, half=True)
        preference.save_scorer(preference.scorer_beside(workdir / REFINED), refined.scorer)
    return {"faces": len(faces), **refined.report}, refined.report["refused"]


def _options(config: ConfigDict) -> RefineOptions:
    asked = config.refine
    return RefineOptions(
        updates=asked.updates,
        batch_size=asked.batch_size,
        learning_rate=asked.learning_rate,
        stay=asked.stay,
        seed=config.seed,
    )


def _refined(
    options: RefineOptions, model: dict[str, Any], params: Any, faces: RatedFaces
) -> Refined:
    return refining.refine(
        families.build_generator(model),
        params,
        faces,
        perceptual.mobilenet_features(assets.fetch("mobilenet_v2")),
        options,
        progress=lambda done: logging.log_every_n(logging.INFO, "update %d", 10, done),
    )


def _tell(refined: Refined) -> None:
    found = refined.report
    agreed, gain = found["agreement"], found["score_gain"]
    logging.info(
        "held-out ratings foretold: %.2f (95%%: %.2f to %.2f; chance .50)",
        agreed["value"], agreed["low"], agreed["high"],
    )  # fmt: skip
    logging.info(
        "held-out score: %+.2f (95%%: %+.2f to %+.2f); looks right: %.0f%% before, %.0f%% after",
        gain["value"], gain["low"], gain["high"],
        100 * found["looks_right_before"], 100 * found["looks_right_after"],
    )  # fmt: skip


def _side_by_side(refined: Refined) -> np.ndarray:
    """u8[h, w, 3]: held-out faces before (left) and after (right), one below the other."""
    rows = zip(refined.before[:_SHOWN], refined.after[:_SHOWN], strict=True)
    return np.concatenate([np.concatenate(both, 1) for both in rows])
