"""The console form of an anonymizer's evaluation."""

from collections.abc import Iterator
from typing import Any

_NAMES = {
    "original": "original (no hiding)",
    "another_person": "another person (floor)",
    "copy_paste": "copy-paste of another face",
}
_HEADER = f"{'':28}{'face':>8}{'TAR at FAR':>16}{'TAR at FAR':>16}{'rank 1':>16}{'':>7}{'mean':>8}"
_SECOND = f"{'':28}{'found':>8}{'1e-2, %':>16}{'1e-3, %':>16}{'%':>16}{'AUC':>7}{'cosine':>8}"


def _percent(rate: dict[str, Any] | None) -> str:
    if rate is None or rate["value"] is None:
        return "-"
    return f"{100 * rate['value']:.2f} +- {100 * rate['standard_error']:.2f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _recognition(name: str, judge: str, section: dict[str, Any]) -> Iterator[str]:
    name = {"heldout": "held-out people", "lfw": "LFW"}.get(name, name)
    if "not_measured" in section:
        yield f"Recognition of {name} by {judge}: not measured: {section['not_measured']}"
        return
    yield (
        f"Recognition of {name} by {judge}: {section['gallery']} people in the gallery, "
        f"{section['different_pairs']} pairs of different people; rank 1 by chance "
        f"{100 * (section['rank_1_by_chance'] or 0):.2f}%"
    )
    yield _HEADER
    yield _SECOND
    for kind, row in section["rows"].items():
        found = 100 * row["found"]["value"] if row["probes"] else None
        rates = row["true_accept_rate"]
        yield (
            f"  {_NAMES.get(kind, kind.replace('_', ' ')):26}{_number(found, '.1f'):>7}%"
            f"{_percent(rates['far_1e-2']):>16}{_percent(rates['far_1e-3']):>16}"
            f"{_percent(row['rank_1']):>16}{_number(row['area_under_curve'], '.3f'):>7}"
            f"{_number(row['mean_cosine'], '.3f'):>8}"
        )


def _quality(section: dict[str, Any]) -> Iterator[str]:
    title = f"KID ({section['features']}) against other real pictures; original is the floor"
    if "not_measured" in section:
        yield f"{title}: not measured: {section['not_measured']}"
        return
    yield title
    for kind, row in section["rows"].items():
        error = _number(row["standard_error"], ".4f")
        yield f"  {_NAMES.get(kind, kind.replace('_', ' ')):26}{row['kid']:>8.4f} +- {error}"


def _landmarks(section: dict[str, Any]) -> Iterator[str]:
    title = "Face found by YuNet, and where (distances in eye distances, against the original)"
    if "not_measured" in section:
        yield f"{title}: not measured: {section['not_measured']}"
        return
    yield f"{title}\n{'':28}{'found':>12}{'five points':>14}{'turn':>8}"
    for kind, row in section.items():
        found = f"{row['found']} of {row['pictures']}"
        yield (
            f"  {_NAMES.get(kind, kind.replace('_', ' ')):26}{found:>12}"
            f"{_number(row['point_error'], '.3f'):>14}{_number(row['turn_error'], '.3f'):>8}"
        )


def format_report(result: dict[str, Any]) -> str:
    """The table of `evaluate_anonymizer`'s result."""
    lines = [f"Anonymizer {result['source']}, step {result['step']}"]
    for name, judges in result["recognition"].items():
        for judge, section in judges.items():
            lines += _recognition(name, judge, section)
    lines += [
        "  Rates are of probes in which a face is found; +- is one standard error.",
    ]
    if "not_measured" in result["lfw"]:
        lines.append(f"LFW: not measured: {result['lfw']['not_measured']}")
    else:
        lines.append(
            "LFW: {without_a_face} of {photos} photos without a face".format(**result["lfw"])
        )
    lines += _quality(result["quality"])
    lines += _landmarks(result["landmarks"])
    kept = result["outside_mask"]
    psnr = "infinite" if kept["psnr_db"] is None else f"{kept['psnr_db']:.1f} dB"
    lines.append(
        f"Outside the mask: {kept['identical_pictures']} of {kept['pictures']} pictures bit-identical, "
        f"PSNR {psnr}"
    )
    rim = ", ".join(
        f"{kind.replace('_', ' ')} {_number(value, '.1f')}"
        for kind, value in result["rim_psnr_db"].items()
    )
    lines.append(f"PSNR on the mask's rim, dB: {rim}")
    spread = result["diversity"]
    lines.append(
        f"Two latents, one context ({spread['pictures']} pictures): mean difference in the hole "
        f"{spread['mean_pixel_difference']:.2f} grey levels, SFace cosine "
        f"{_number(spread['cosine'], '.3f')}"
    )
    lines.append(f"{result['seconds']:.0f} s")
    return "\n".join(lines)
