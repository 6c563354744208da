"""The audit as one HTML file: no script, no picture, and nothing is fetched from anywhere."""

import html
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dp3_jax.evaluation.attacks.verifiers import TITLES
from dp3_jax.evaluation.audit.console_table import MARKS

_CSS = pathlib.Path(__file__).with_name("page.css")
_CLASSES = {True: "found", False: "clear", None: "open"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_MAX_FILES = 200  # with a table of faces each
_MAX_FACES = 50
_LIMITS = """An audit finds leaks; it cannot show that there are none. It tries the verifiers and attacks that
are named here, on these files. Somebody who knows the place, the clothes, the voice or the people in a
picture may know more. Faces are found by one detector: what it misses in an original is not judged."""


def _e(text: Any) -> str:
    return html.escape(str(text))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _span(span: Mapping[str, Any] | None) -> str:
    if span is None or span["value"] is None:
        return "-"
    return f"{_percent(span['value'])} ({_percent(span['low'])} to {_percent(span['high'])})"


def _bar(span: Mapping[str, Any], floor: float) -> str:
    """A share as a bar with its interval, and a mark where the floor is."""
    if span["value"] is None:
        return ""
    value, low, high, mark = (100 * v for v in (span["value"], span["low"], span["high"], floor))
    label = f"{value:.1f}%, interval {low:.1f} to {high:.1f}%, floor {mark:.1f}%"
    return (
        f'<span class="bar" role="img" aria-label="{label}"><i style="width:{value:.1f}%"></i>'
        f'<s style="left:{low:.1f}%;width:{high - low:.1f}%"></s>'
        f'<u style="left:{min(mark, 99):.1f}%"></u></span>'
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table of cells that are HTML already; the first column names the rows."""
    top = "".join(f'<th scope="col">{_e(cell)}</th>' for cell in head)
    body = "".join(
        f"<tr><td>{first}</td>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="wide"><table aria-label="{_e(caption)}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _risks(result: Mapping[str, Any]) -> str:
    items = "".join(
        f'<li><b class="{_CLASSES[risk["found"]]}">{_e(MARKS[risk["found"]])}</b> '
        f"<strong>{_e(risk['title'])}.</strong> {_e(risk['sentence'])}</li>"
        for risk in result["risks"]
    )
    return f'<h2>Risks</h2><ul class="risks">{items}</ul>'


def _coverage(result: Mapping[str, Any]) -> str:
    told = result["coverage"]
    states = ("shown", "changed too little", "changed", "kept on purpose")
    rows = [
        (name, *(f"{counts.get(state, 0):,}" for state in states))
        for name, counts in (
            ("faces", told["states"]),
            ("of low confidence", told["low_confidence"]),
        )
    ]
    note = (
        f"Found in {told['files']:,} originals; a person in a clip counts once, by the worst frame that was "
        "looked at."
    )
    head = ("", "still show", "changed too little", "changed", "kept on purpose")
    return f'<h2>Coverage</h2>{_table(head, rows, "Coverage")}<p class="soft">{note}</p>'


def _verified(result: Mapping[str, Any]) -> str:
    rows = [
        (
            _e(one["title"]),
            _bar(one["verified"], one["floor"]),
            _span(one["verified"]),
            _percent(one["floor"]),
            _percent(one["verified"]["blanked"]),
            _percent(one["verified"]["control"]),
        )
        for one in result["recognition"]
    ]
    head = ("verifier", "", "taken for the person (95%)", "floor", "blanked", "originals")
    return _table(head, rows, "Recognition by verifiers")


def _identified(result: Mapping[str, Any]) -> str:
    """Rank 1 and area under the curve, where people are known."""
    rows = [
        (
            f"{_e(one['title'])}, {what}",
            _span(one[key]),
            _percent(one[key]["blanked"]),
            _percent(one[key]["control"]),
        )
        for key, what in (("rank_1", "first of all"), ("area", "first of two"))
        for one in result["recognition"]
        if one[key] is not None
    ]
    if not rows:
        return ""
    people = result["recognition"][0]["gallery"]
    head = (f"in a gallery of {people} people", "the right one (95%)", "blanked", "originals")
    return _table(head, rows, "Identification by verifiers")


def _recognition(result: Mapping[str, Any]) -> str:
    if not result["recognition"]:
        return ""
    told = result["compared"]
    if told["people"]:
        people = f"{told['people']} people are known by name."
    elif any(one["rank_1"] is not None for one in result["recognition"]):
        people = "Nobody is known by name (--people): each track of a clip is taken for a person."
    else:
        people = (
            "Nobody is known by name (--people), so that each result is compared with its own original, in "
            "which all but the face is the same; there is no gallery and no positive control."
        )
    left = f" {told['left_out']:,} more were too many to compare." if told["left_out"] else ""
    return (
        f"<h2>Recognition</h2>{_verified(result)}{_identified(result)}"
        f'<p class="soft">{told["faces"]:,} pictures of {told["different"]:,} faces. {people}{left} '
        f"{_e(result['thresholds'])} The mark in a bar is the floor: strangers, or pictures with a blanked "
        "face where these give more. Originals are the positive control: another picture of the person.</p>"
    )


def _readable(measure: str) -> str:
    """A measure with the verifier's name as people know it."""
    start, _, last = measure.rpartition(" ")
    return f"{start} {TITLES.get(last, last)}"


def _attacks(result: Mapping[str, Any]) -> str:
    if not result["attacks"]:
        return ""
    rows = [
        (
            _e(one["title"]),
            f'<span class="{_CLASSES[one["found"]]}">{_e(MARKS[one["found"]])}</span>',
            _e(_readable(one["measure"])),
            _span(one),
            _percent(one["floor"]),
            _percent(one["control"]),
            f"{one['count']:,}",
        )
        for one in result["attacks"]
    ]
    head = ("attack", "", "measure", "value (95%)", "floor", "originals", "faces")
    return f"<h2>Attacks</h2>{_table(head, rows, 'Attacks')}"


def _place(face: Mapping[str, Any]) -> str:
    place = ", ".join(f"{v:.0f}" for v in face["box"])
    return f"{place}; frame {face['frame']}, track {face['track']}" if "frame" in face else place


def _file(entry: Mapping[str, Any], verifiers: Sequence[tuple[str, str]]) -> str:
    rows = [
        (
            _e(_place(face)),
            _e(face["state"] if face["sure"] else f"{face['state']} (low confidence)"),
            f"{face['difference']:.1f}",
            f"{face['alike']:.2f}",
            *(f"{face['cosines'][n]:.2f}" if n in face["cosines"] else "-" for n, _ in verifiers),
            _e(
                ", ".join(title for name, title in verifiers if name in face["recognised_by"])
                or "-"
            ),
        )
        for face in entry["faces"][:_MAX_FACES]
    ]
    titles = [f"cosine, {title}" for _, title in verifiers]
    head = ("face (x, y, width, height)", "state", "grey levels", "alike", *titles, "recognised by")
    worst = "found" if entry["risk"] >= 0.9 else "open" if entry["risk"] else "clear"
    states = ", ".join(f"{count} {state}" for state, count in entry["states"].items())
    return (
        f'<details><summary><span class="{worst}">●</span> <code>{_e(entry["name"])}</code>: '
        f"{_e(states or 'no face found')}</summary>{_table(head, rows, entry['name']) if rows else ''}"
        "</details>"
    )


def _files(result: Mapping[str, Any]) -> str:
    verifiers = [(one["name"], one["title"]) for one in result["recognition"]]
    judged = [entry for entry in result["files"] if not entry["error"]]
    shown = "".join(_file(entry, verifiers) for entry in judged[:_MAX_FILES])
    more = len(judged) - _MAX_FILES
    rest = f"<p>{more:,} more files are in audit.json.</p>" if more > 0 else ""
    lists = "".join(
        f"<details><summary>{len(names):,} {title}</summary><p><code>{_e('; '.join(names[:1000]))}</code></p>"
        "</details>"
        for title, names in (
            ("skipped", result["skipped"]),
            ("without a result, not judged", result["without_result"]),
            ("without an original, not judged", result["without_original"]),
        )
        if names
    )
    return (
        '<h2>Files, worst first</h2><p class="soft">“Alike” is the correlation of the details in the middle '
        "of the face: 1 where it only was stored again, below 0.6 after blur or pixelation.</p>"
        f"{shown}{rest}{lists}"
    )


def render(result: Mapping[str, Any]) -> str:
    """The page of the content of audit.json."""
    kind = {0: "clear", 1: "open", 3: "found", 4: "open"}[result["status"]]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="robots" content="noindex"><title>Audit of anonymized pictures</title>'
        f"<style>{_CSS.read_text()}</style></head><body><main>"
        "<h1>Audit of anonymized pictures</h1>"
        f'<p class="soft">dp3 {_e(result["version"])}; {result["coverage"]["files"]:,} files. This page '
        "names originals: it is not for release.</p>"
        f'<p class="summary {kind}">{_e(result["summary"])}</p>'
        f"{_risks(result)}{_coverage(result)}{_recognition(result)}{_attacks(result)}{_files(result)}"
        f"<h2>What this says and what not</h2><p>{_e(' '.join(_LIMITS.split()))}</p>"
        "</main></body></html>\n"
    )
