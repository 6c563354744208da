"""What generated identities shall reach, and whether they do."""

from collections.abc import Collection
from typing import Any

from dp3_jax.metrics.face_measures import MOBILENET

MAX_ABOVE_BASELINE = 0.01  # share of photos verified, at the upper end of the interval
MAX_LINKED, MAX_LINKED_RATIO = (
    0.20,
    1.2,
)  # two keys, one photo; against two real people in that photo
MIN_CLOSED = 0.6  # of the way from the shipped weights to real people
MAX_MOBILENET_RATIO = 2.0  # KID on features that the shipped weights were trained on
MAX_YAW_SHARE = 0.5  # of the shipped weights' error
MIN_WITHIN_A_BAND = 0.9  # of skin tone


def _target(
    what: str, value: float | None, limit: float, *, at_least: bool = False
) -> dict[str, Any]:
    if value is None:
        return {"target": what, "value": None, "limit": limit, "met": None}
    met = value >= limit if at_least else value <= limit
    return {"target": what, "value": value, "limit": limit, "at_least": at_least, "met": bool(met)}


def _recognition(group: dict[str, Any]) -> list[dict[str, Any]]:
    result = []
    for name, section in group["recognition"].items():
        above = section["above_baseline"] or {}
        verified, ranked = above.get("verified", {}), above.get("rank_1", {})
        result += [
            _target(
                f"{name}: verified at FAR 1% above a real person's face, upper end of 95%",
                verified.get("high"),
                MAX_ABOVE_BASELINE,
            ),
            # Not above as far as can be told: the interval's lower end is not above 0.
            _target(
                f"{name}: rank 1 above a real person's face, lower end of 95%",
                ranked.get("low"),
                0.0,
            ),
        ]
    return result


def _linkage(group: dict[str, Any]) -> list[dict[str, Any]]:
    rows = group["two_keys"].get("sface", {"rows": {}})["rows"]
    new, real = (
        (rows.get(kind) or {}).get("linked", {}).get("value") for kind in ("new", "real_person")
    )
    ratio = new / real if new is not None and real else None
    return [
        _target("two keys, one photo: one person, says SFace", new, MAX_LINKED),
        _target("the same against two real people in one photo", ratio, MAX_LINKED_RATIO),
    ]


def targets(group: dict[str, Any], trained_on: Collection[str]) -> list[dict[str, Any]]:
    """Each target with its value, its limit and whether it is met; None: it could not be measured.

    Args:
      group: a result of `identities_suite.analyse`.
      trained_on: verifiers whose features the weights under evaluation were trained on; no target of
        realism is asked of them.
    """
    result = _recognition(group) + _linkage(group)
    found = group["found"].get("new", {}).get("value")
    result.append(_target("a face is found again", found, 1.0, at_least=True))
    for name in ("faceres", "dlib_resnet"):
        if name in group["kid"] and name not in trained_on:
            closed = group["kid"][name]["closed"]
            what = f"KID ({name}): way from the shipped weights to real people that is gone"
            result.append(_target(what, closed, MIN_CLOSED, at_least=True))
    rows = group["kid"].get(MOBILENET, {"rows": {}})["rows"]
    if {"new", "shipped"} <= set(rows):
        shipped = rows["shipped"]["kid"]
        ratio = rows["new"]["kid"] / shipped if shipped > 0 else None
        result.append(
            _target("KID (MobileNetV2) against the shipped weights'", ratio, MAX_MOBILENET_RATIO)
        )
    poses = group["expression"]
    if {"new", "shipped"} <= set(poses):
        new, old = (poses[kind]["yaw_by_points"]["value"] for kind in ("new", "shipped"))
        what = "error of yaw (by five points) against the shipped weights'"
        result.append(_target(what, new / max(old, 1e-6), MAX_YAW_SHARE))
    tone = group["tone"].get("new", {"within_one_band": {}, "dark": {}})
    for name, row in (("all", "within_one_band"), ("dark skin", "dark")):
        what = f"skin tone within one band, {name}"
        result.append(_target(what, tone[row].get("value"), MIN_WITHIN_A_BAND, at_least=True))
    return result
