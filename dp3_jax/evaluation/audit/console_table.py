"""The console form of an audit."""

from collections.abc import Iterator, Mapping
from typing import Any

MARKS = {True: "FOUND", False: "nothing found", None: "not judged"}
_MAX_FILES = 5  # the worst, that are named
_MIN_RISK = 0.5  # of a face that is named: two verifiers recognise it


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _span(span: Mapping[str, Any] | None) -> str:
    if span is None or span["value"] is None:
        return "-"
    return f"{_percent(span['value'])} ({_percent(span['low'])} to {_percent(span['high'])})"


def _verifiers(result: Mapping[str, Any]) -> Iterator[str]:
    if not result["recognition"]:
        return
    count = result["compared"]["faces"]
    yield f"Recognised, % of {count} faces (95%)"
    yield f"  {'':12}{'verified':>22}{'floor':>8}{'originals':>11}{'rank 1':>22}{'AUC':>8}{'blanked':>9}"
    for one in result["recognition"]:
        area = one["area"] or {"value": None, "blanked": None}
        yield (
            f"  {one['title']:12}{_span(one['verified']):>22}{_percent(one['floor']):>8}"
            f"{_percent(one['verified']['control']):>11}{_span(one['rank_1']):>22}"
            f"{_percent(area['value']):>8}{_percent(area['blanked']):>9}"
        )


def worst_files(result: Mapping[str, Any]) -> list[str]:
    """A line for each of the files with the worst faces, at most a few."""
    lines = []
    for entry in result["files"]:
        bad = [f for f in entry["faces"] if f["sure"] and f["risk"] >= _MIN_RISK]
        if not bad or len(lines) == _MAX_FILES:
            break
        face = bad[0]
        place = ",".join(f"{v:.0f}" for v in face["box"])
        frame = f" in frame {face['frame']}" if "frame" in face else ""
        by = f", recognised by {', '.join(face['recognised_by'])}" if face["recognised_by"] else ""
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        lines.append(f"  {entry['name']}: face at {place}{frame}: {face['state']}{by}{more}")
    return lines


def format_report(result: Mapping[str, Any]) -> str:
    """What is printed."""
    lines = []
    width = max(len(MARKS[risk["found"]]) for risk in result["risks"])
    for risk in result["risks"]:
        lines.append(f"{MARKS[risk['found']]:{width}}  {risk['title']}: {risk['sentence']}")
    lines += ["", *_verifiers(result)]
    if worst := worst_files(result):
        lines += ["", "To look at first:", *worst]
    for title, names in (
        ("without a result, not judged", result["without_result"]),
        ("without an original, not judged", result["without_original"]),
        ("skipped", result["skipped"]),
    ):
        if names:
            more = ", ..." if len(names) > _MAX_FILES else ""
            lines.append(f"{len(names)} {title}: {', '.join(names[:_MAX_FILES])}{more}")
    return "\n".join([*lines, "", result["summary"]])
