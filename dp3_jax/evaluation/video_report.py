"""The console form of a clip's evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_RATIOS = (
    "warping_error_own",
    "warping_error",
    "identity_adjacent",
    "identity_all_pairs",
    "landmark_jitter",
    "flicker",
)
_LABEL = 38  # the width of names
_SOURCE = "source"  # as in dp3_jax.evaluation.video_clip
_WIDTHS = (10, 10, 10, 10, 10, 9, 8, 14)
_HEADS = (
    ("warping,", "warping,", "identity", "identity", "landmark", "", "face", "faces"),
    ("own flow", "source's", "adjacent", "all pairs", "jitter", "flicker", "found", "shown"),
)
_MOTIONS = {
    "yaw": (1, "degrees"),
    "pitch": (1, "degrees"),
    "mouth_opening": (3, "eye distances"),
    "eye_opening": (3, "eye distances"),
}


def _line(label: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"  {label:{_LABEL}}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _label(name: str, row: dict[str, Any]) -> str:
    """A variant's name, and of how many keys its row is the mean."""
    return f"{name} ({len(row['keys'])} keys)" if "keys" in row else name


def _steadiness(name: str, row: dict[str, Any]) -> str:
    """The source's own values; of all others the ratios to them."""
    which, form = ("value", ".2g") if name == _SOURCE else ("ratio", ".2f")
    cells = [_number(row[key][which], form) for key in _RATIOS]
    shown = "-"
    if "coverage" in row:
        shown = "{shown_faces} of {judged_faces}".format(**row["coverage"])
    label = "source (its own values)" if name == _SOURCE else _label(name, row)
    return _line(label, [*cells, _percent(row["face_found"]["value"]), shown], _WIDTHS)


def _coverage(name: str, row: dict[str, Any]) -> Iterator[str]:
    """A line for each track that shows a face, and one where the test could not tell."""
    for track, values in row["tracks"].items():
        found = values["coverage"]
        if found["shown_faces"]:
            numbers = ", ".join(str(n) for n in found["shown_in_frames"])
            more = ", ..." if found["shown_faces"] > len(found["shown_in_frames"]) else ""
            yield f"  {name}: the face of track {track} shows in frame {numbers}{more}"
    found = row["coverage"]
    flat = found["faces"] - found["judged_faces"]
    if flat:
        yield f"  {name}: {flat} of {found['faces']} faces have too little detail to tell if they show"
    around = found["unchanged_around"]
    if around is not None and around < 0.5:
        yield (
            f"  {name}: only {_percent(around)} of what is around the faces is found unchanged; strong "
            "compression, or more than the face covered, may hide shown faces from this test"
        )


def _moved(row: dict[str, Any], name: str) -> str:
    """A correlation, and the result's standard deviation; in words where there is none."""
    found = row["motion"][name]
    if found["value"] is None:
        return {"no variance": "still", "no variance in the source": "source still"}.get(
            found["reason"], "-"
        )
    digits, _ = _MOTIONS[name]
    return f"{found['value']:.2f} ({found['result_deviation']:.{digits}f})"


def _motion(variants: dict[str, Any]) -> Iterator[str]:
    """How faces follow the source's."""
    rows = {name: row for name, row in variants.items() if "motion" in row}
    if not rows:
        return
    widths = (14, 14, 14, 14, 12, 11)
    yield "Motion: correlation over time with the source (and standard deviation of the result's)"
    yield _line("", ("yaw", "pitch", "mouth opening", "eye opening", "frames", "no face"), widths)
    source = next(iter(rows.values()))["motion"]
    deviations = [
        _number(source[name]["source_deviation"], f".{digits}f")
        for name, (digits, _) in _MOTIONS.items()
    ]
    yield _line("source, standard deviations", [*deviations, "", ""], widths)
    for name, row in rows.items():
        most = max(row["motion"][m]["frames"] for m in _MOTIONS)
        cells = [*(_moved(row, m) for m in _MOTIONS), str(most), str(row["motion"]["left_out"])]
        yield _line(_label(name, row), cells, widths)
    yield (
        "  Degrees and eye distances. Still: no more than the measure's own noise. Frames in which source or "
        "result show no face are left out."
    )


def _recognition(rows: dict[str, dict[str, Any]], title: str) -> Iterator[str]:
    widths = (9, 8, 9, 13, 10, 15, 10, 7)
    yield title
    yield _line("", ("keys", "", "", "own", "", "others", "", ""), widths)
    heads = ("known", "frames", "no face", "best cosine", "accepted", "best cosine", "accepted")
    yield _line("", (*heads, "AUC"), widths)
    for name, row in rows.items():
        own, others = row["own"], row["others"]
        cells = (
            "{keys_known} of {keys}".format(**row),
            str(row["frames"]),
            str(row["face_not_found"]),
            _number(own["best_cosine"], ".3f"),
            _percent(own["accepted"]["value"]),
            _number(others["best_cosine"], ".3f"),
            _percent(others["accepted"]["value"]),
            _number(row["area_under_curve"], ".3f"),
        )
        yield _line(name, cells, widths)


def _known_again(result: dict[str, Any]) -> Iterator[str]:
    for verifier_name, title in result["judges"].items():
        rows = {name: row["recognition"][verifier_name] for name, row in result["variants"].items()}
        threshold = rows[_SOURCE]["threshold"]
        yield from _recognition(
            rows,
            f"Known again by {title}: the best frame of a track against pictures of the person from another "
            f"moment of the source (accepted from {threshold:.3f})",
        )
    for measure, reason in result["not_measured"].items():
        yield f"Not measured: {measure}: {reason}"
    if all(
        row["others"]["accepted"]["n"] == 0
        for variant in result["variants"].values()
        for row in variant["recognition"].values()
    ):
        yield "  Nobody to compare with: one person at a time and no pictures of impostors given."
    yield (
        "  Others are other people's pictures with as many frames to choose from: what chance gives. "
        "AUC 0.5: knows nothing."
    )
    yield (
        "  Own pictures share hair, clothes and light with the frames; the row of a solid cover tells what "
        "those alone give away."
    )


def _linked(variants: dict[str, Any], verifiers: Iterable[str]) -> Iterator[str]:
    """Whether two keys of one track are told to be of one person."""
    rows = {name: row["linked"] for name, row in variants.items() if "linked" in row}
    if not rows:
        return
    widths = (7, 16, 9, 16, 9)
    for verifier_name in verifiers:
        yield f"Two keys of one track, taken for one person by {verifier_name}"
        yield _line("", ("", "best pair of", "", "mean of", ""), widths)
        yield _line("", ("pairs", "frames, cosine", "linked", "track, cosine", "linked"), widths)
        for name, row in rows.items():
            found, cells = row[verifier_name], []
            for way in ("best_pair", "mean"):
                cells.append(_number(found[way]["cosine"], ".3f"))
                cells.append(_percent(found[way]["linked"]["value"]))
            yield _line(name, [str(found["pairs"]), *cells], widths)
    yield (
        "  All keys of a track share its scene: read this beside real people in the place of new faces, who "
        "are surely not one person."
    )


def format_report(result: dict[str, Any]) -> str:
    """The table of `evaluate_video.evaluate`'s result; with "targets" (`video_targets.targets`) if there."""
    variants = result["variants"]
    lines = [
        f"{result['original']}: {result['frames']} frames, {result['tracks']} tracks, "
        f"{variants[_SOURCE]['faces']} faces",
        "Steadiness inside the faces' area, as a ratio to the source's own value",
        *(_line("", heads, _WIDTHS) for heads in _HEADS),
        *(_steadiness(name, row) for name, row in variants.items()),
        "  A cover of one colour is the steadiest of all: read this beside the share of faces found again.",
    ]
    for name, row in variants.items():
        if name != _SOURCE:
            lines += _coverage(name, row)
    lines += _motion(variants)
    lines += _known_again(result)
    lines += _linked(variants, result["judges"])
    for measure, target in result.get("targets", {}).items():
        verdict = {True: "met", False: "missed", None: "not measured"}[target["met"]]
        value = _number(target["value"], ".2f")
        lines.append(f"Target {measure}: {value}, limit {target['limit']}: {verdict}")
    return "\n".join(lines)
