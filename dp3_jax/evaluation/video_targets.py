"""How the variants of a clip stand to what is aimed at."""

from collections.abc import Mapping
from typing import Any

from dp3_jax.evaluation.video_variants import GENERATE, NONE, REAL_PERSON
from dp3_jax.metrics.video_motion import STILL

# Ratios to the source's own values.
MAX_WARPING_OWN, MIN_IDENTITY, MAX_JITTER, MAX_FLICKER = 1.3, 0.9, 1.3, 1.2
# Correlations over time with the source; and at most, or no motion at all, where none is to pass.
MIN_FIDELITY = {"yaw": 0.95, "pitch": 0.9, "mouth_opening": 0.9, "eye_opening": 0.7}
MAX_FIDELITY_OF_NONE = 0.2
MAX_LINKED = 1.2  # two keys of a track, in times two real donors in it

Target = dict[str, Any]


def _at_most(value: float | None, limit: float) -> Target:
    return {"value": value, "limit": limit, "met": None if value is None else value <= limit}


def _at_least(value: float | None, limit: float) -> Target:
    return {"value": value, "limit": limit, "met": None if value is None else value >= limit}


def _motion(variants: Mapping[str, Any]) -> dict[str, Target]:
    result = {}
    moved = variants[GENERATE].get("motion", {})
    for name, limit in MIN_FIDELITY.items():
        if name in moved:
            target = _at_least(moved[name]["value"], limit)
            if moved[name]["reason"] == STILL:
                target["met"] = False
            result[f"{name} follows the source's"] = target
    still = variants.get(NONE, {}).get("motion", {})
    for name in MIN_FIDELITY:
        if name in still:
            value = still[name]["value"]
            target = _at_most(value, MAX_FIDELITY_OF_NONE)
            if still[name]["reason"] == STILL:
                target["met"] = True
            result[f"{name} does not, with --motion none"] = target
    return result


def _privacy(variants: Mapping[str, Any]) -> dict[str, Target]:
    result = {}
    row, real = variants[GENERATE], variants.get(REAL_PERSON)
    for verifier_name, found in row["recognition"].items():
        limit = 0
        if real is not None and real["recognition"][verifier_name]["keys"] == found["keys"]:
            limit = max(limit, real["recognition"][verifier_name]["keys_known"])
        result[f"keys known again by {verifier_name}"] = _at_most(found["keys_known"], limit)
    if real is None or "linked" not in row or "linked" not in real:
        return result
    for verifier_name, found in row["linked"].items():
        for way in ("best_pair", "mean"):
            own, other = (
                one[way]["linked"]["value"] for one in (found, real["linked"][verifier_name])
            )
            name = f"two keys linked by {verifier_name}, {way.replace('_', ' ')} / two real donors"
            if own is not None and other is not None and not other:
                # Nothing to divide by: as good as the donors only where nothing is linked either.
                result[name] = {"value": None, "limit": MAX_LINKED, "met": not own}
            else:
                ratio = None if own is None or other is None else own / other
                result[name] = _at_most(ratio, MAX_LINKED)
    return result


def targets(result: Mapping[str, Any]) -> dict[str, Target]:
    """How GENERATE, in `evaluate_video.evaluate`'s result, stands to what is aimed at.

    Returns:
      By measure: value (None where unknown), limit, and met. No known face may be shown.
    """
    row = result["variants"][GENERATE]
    return {
        "warping error by the own flow / source's": _at_most(
            row["warping_error_own"]["ratio"], MAX_WARPING_OWN
        ),
        "identity all pairs / source's": _at_least(
            row["identity_all_pairs"]["ratio"], MIN_IDENTITY
        ),
        "landmark jitter / source's": _at_most(row["landmark_jitter"]["ratio"], MAX_JITTER),
        "flicker / source's": _at_most(row["flicker"]["ratio"], MAX_FLICKER),
        **_motion(result["variants"]),
        **_privacy(result["variants"]),
        "faces shown": _at_most(row["coverage"]["shown_faces"], 0),
    }
