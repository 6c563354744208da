"""The console form of an evaluation of generated identities."""

from collections.abc import Iterator
from typing import Any

NAMES = {
    "original": "original",
    "new": "new (generated person)",
    "real_person": "another real person (baseline)",
    "shipped": "shipped anonymizer",
    "pasted": "generated person, pasted",
    "donors": "generated person alone",
    "another_person": "stranger's photo (floor)",
    "another_face": "another face (chance)",
}


def _name(kind: str) -> str:
    return NAMES.get(kind, kind.replace("_", " "))


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def _percent(rate: dict[str, Any] | None) -> str:
    if rate is None or rate.get("value") is None:
        return "-"
    low, high = rate.get("interval_95") or (rate["low"], rate["high"])
    return f"{100 * rate['value']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _recognition(section: dict[str, Any]) -> Iterator[str]:
    for verifier, table in section.items():
        yield f"{verifier}: {table['gallery']} people in the gallery; % (95% interval)"
        yield f"{'':32}{'verified at FAR 1%':>22}{'rank 1':>22}{'mean cosine':>13}"
        for kind, row in table["rows"].items():
            verified = row["true_accept_rate"]["far_1e-2"]
            yield (
                f"  {_name(kind):30}{_percent(verified):>22}{_percent(row['rank_1']):>22}"
                f"{_number(row['mean_cosine']):>13}"
            )
        if above := table["above_baseline"]:
            yield (
                f"  new above baseline, paired:   {_percent(above['verified']):>22}"
                f"{_percent(above['rank_1']):>22}"
            )


def _vector(section: dict[str, Any]) -> str:
    verified, rank_1 = _percent(section["verified"]), _percent(section["rank_1"])
    area = _number(section["area_under_curve"])
    return f"pose and mouth alone: verified at FAR 1% {verified}, rank 1 {rank_1}, area {area}"


def _two_keys(section: dict[str, Any]) -> Iterator[str]:
    yield "Two keys, one photo: 'the same person', % (95% interval), and mean cosine"
    for verifier, table in section.items():
        for kind, row in table["rows"].items():
            if row:
                yield (
                    f"  {verifier + ' at ' + _number(table['threshold']):22}{_name(kind):32}"
                    f"{_percent(row['linked']):>22}{_number(row['cosine']):>8}{row['pairs']:>6} pairs"
                )


def _kid(section: dict[str, Any]) -> Iterator[str]:
    yield f"KID against other real photos, {section['pictures']} of each kind (standard error)"
    for features, table in section.items():
        if features == "pictures":
            continue
        rows = (
            f"{_name(k)} {r['kid']:.3f} ({_number(r['standard_error'])})"
            for k, r in table["rows"].items()
        )
        yield f"  {features}: {', '.join(rows)}"
        yield f"    way from shipped to real people that is gone: {_number(table['closed'], '.0%')}"


def _expression(section: dict[str, Any]) -> Iterator[str]:
    yield "Pose against the original's, degrees; same mouth (open or not), same smile, %; correlations"
    head = ("yaw", "by points", "pitch", "mouth", "smile", "opening", "width")
    yield f"{'':32}" + "".join(f"{name:>10}" for name in head)
    for kind, row in section.items():
        angles = [_number(row[n]["value"], ".1f") for n in ("yaw", "yaw_by_points", "pitch")]
        shares = [_number(row[n]["value"], ".0%") for n in ("mouth_open", "smile")]
        both = [_number(row[n], ".2f") for n in ("mouth_opening", "mouth_width")]
        yield f"  {_name(kind):30}" + "".join(f"{cell:>10}" for cell in angles + shares + both)


def _tone(section: dict[str, Any]) -> Iterator[str]:
    yield "Skin tone within one band of the original's, by its band (0 dark to 5 very light): % of photos"
    for kind, table in section.items():
        cells = (f"{_number(b['within_one_band'], '.0%')} of {b['photos']}" for b in table["bands"])
        yield f"  {_name(kind):30}{', '.join(cells)}; all {_percent(table['within_one_band'])}"


def _targets(section: list[dict[str, Any]]) -> Iterator[str]:
    yield "Targets"
    for row in section:
        verdict = {True: "met", False: "MISSED", None: "not measured"}[row["met"]]
        sign = "at least" if row.get("at_least") else "at most"
        yield f"  {verdict:13}{row['target']}: {_number(row['value'])} ({sign} {row['limit']:g})"


def format_report(result: dict[str, Any]) -> str:
    """The tables of `identities_suite.measure_identities`'s result."""
    lines = [f"New faces by {result['source']}"]
    trained = result["settings"]["trained_on"]
    if trained:
        lines.append(f"Trained on features of: {', '.join(trained)}")
    for name, group in result["groups"].items():
        lines.append(f"== {name}: {group['photos']} photos of {group['people']} people")
        lines += _recognition(group["recognition"])
        lines.append(_vector(group["vector_alone"]))
        shares = (f"{_name(k)} {_number(r['value'], '.1%')}" for k, r in group["found"].items())
        lines.append(f"Face found: {', '.join(shares)}")
        lines += _two_keys(group["two_keys"])
        lines += _kid(group["kid"])
        lines += _expression(group["expression"])
        lines += _tone(group["tone"])
    lines += _targets(result["targets"])
    lines.append(f"{result['seconds']:.0f} s")
    return "\n".join(lines)
