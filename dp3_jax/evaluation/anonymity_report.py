"""The console form of an anonymizer's evaluation."""

from collections.abc import Iterator
from typing import Any

_NAMES = {
    "original": "original (no hiding)",
    "another_person": "another person (floor)",
    "in_a_photo": "generated, in a photo",
    "copy_paste": "copy-paste of another face",
    "context": "grey (context alone)",
}
_HEADER = f"{'':28}{'face':>8}{'TAR at FAR':>16}{'TAR at FAR':>16}{'rank 1':>16}{'':>7}{'mean':>8}"
_SECOND = f"{'':28}{'found':>8}{'1e-2, %':>16}{'1e-3, %':>16}{'%':>16}{'AUC':>7}{'cosine':>8}"


def _name(kind: str) -> str:
    return _NAMES.get(kind, kind.replace("_", " "))


def _percent(rate: dict[str, Any] | None) -> str:
    if rate is None or rate["value"] is None:
        return "-"
    return f"{100 * rate['value']:.2f} +- {100 * rate['standard_error']:.2f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _recognition(name: str, verifier_name: str, section: dict[str, Any]) -> Iterator[str]:
    name = {"heldout": "held-out people", "lfw": "LFW"}.get(name, name)
    if "not_measured" in section:
        yield f"Recognition of {name} by {verifier_name}: not measured: {section['not_measured']}"
        return
    yield (
        f"Recognition of {name} by {verifier_name}: {section['gallery']} people in the gallery, "
        f"{section['different_pairs']} pairs of different people; rank 1 by chance "
        f"{100 * (section['rank_1_by_chance'] or 0):.2f}%"
    )
    yield _HEADER
    yield _SECOND
    for kind, row in section["rows"].items():
        found = 100 * row["found"]["value"] if row["probes"] else None
        rates = row["true_accept_rate"]
        yield (
            f"  {_name(kind):26}{_number(found, '.1f'):>7}%"
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
        yield f"  {_name(kind):26}{row['kid']:>8.4f} +- {error}"


def _landmarks(section: dict[str, Any]) -> Iterator[str]:
    title = "Face found by YuNet, where (in eye distances) and how turned (degrees) against the original"
    if "not_measured" in section:
        yield f"{title}: not measured: {section['not_measured']}"
        return
    angles = ("yaw", "pitch", "roll")
    header = "".join(f"{angle:>8}" for angle in angles)
    yield f"{title}\n{'':28}{'found':>12}{'five points':>14}{header}"
    for kind, row in section.items():
        found = f"{row['found']} of {row['pictures']}"
        turned = "".join(f"{_number(row['pose_error'][angle], '.1f'):>8}" for angle in angles)
        yield f"  {_name(kind):26}{found:>12}{_number(row['point_error'], '.3f'):>14}{turned}"


def _pictures(result: dict[str, Any]) -> Iterator[str]:
    """What changed in the pictures, and how it looks."""
    section = result["perceptual_distance"]
    title = f"Perceptual distance ({section['features']}) from the original"
    if "not_measured" in section:
        yield f"{title}: not measured: {section['not_measured']}"
    else:
        rows = section["rows"].items()
        parts = (f"{_name(k)} {r['distance']:.3f} +- {r['standard_error']:.3f}" for k, r in rows)
        yield f"{title}: {', '.join(parts)}"
    kept = result["outside_mask"]
    psnr = "infinite" if kept["psnr_db"] is None else f"{kept['psnr_db']:.1f} dB"
    yield (
        f"Outside the mask: {kept['identical_pictures']} of {kept['pictures']} pictures bit-identical, "
        f"PSNR {psnr}, SSIM {result['ssim']['generated']['outside']:.4f}"
    )
    boundary = (f"{_name(k)} {_number(v, '.1f')} dB" for k, v in result["rim_psnr_db"].items())
    yield f"PSNR on the mask's boundary: {', '.join(boundary)}"
    boundary = (f"{_name(k)} {v['rim']:.3f}" for k, v in result["ssim"].items())
    yield f"SSIM on the mask's boundary: {', '.join(boundary)}"


def _attacks(section: dict[str, Any]) -> Iterator[str]:
    title = "Recognition by an attacker trained on such pictures of other people"
    if "not_measured" in section:
        yield f"{title}: not measured: {section['not_measured']}"
        return
    yield (
        f"{title} ({section['pictures']} of {section['people']}); features: {section['features']}; "
        f"{section['gallery']} people in the gallery, rank 1 by chance "
        f"{100 * section['rank_1_by_chance']:.2f}%, TAR by chance {100 * section['far']:.0f}%"
    )
    far = f"TAR at FAR {section['far']:.0e}".replace("e-0", "e-")
    yield f"{'':28}{'attacker':>11}{far + ', %':>20}{'rank 1, %':>16}{'AUC':>7}"
    for kind, row in section["rows"].items():
        for attacker, rates in row.items():
            yield (
                f"  {_name(kind):26}{attacker:>11}{_percent(rates['true_accept_rate']):>20}"
                f"{_percent(rates['rank_1']):>16}{_number(rates['area_under_curve'], '.3f'):>7}"
            )


def format_report(result: dict[str, Any]) -> str:
    """The table of `evaluate_anonymizer`'s result."""
    lines = [f"Anonymizer {result['source']}, step {result['step']}"]
    for name, verifiers in result["recognition"].items():
        for verifier_name, section in verifiers.items():
            lines += _recognition(name, verifier_name, section)
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
    lines += _pictures(result)
    lines += _attacks(result["attacks"])
    spread = result["diversity"]
    lines.append(
        f"Two latents, one context ({spread['pictures']} pictures): mean difference in the masked region "
        f"{spread['mean_pixel_difference']:.2f} grey levels, SFace cosine "
        f"{_number(spread['cosine'], '.3f')}"
    )
    lines.append(f"{result['seconds']:.0f} s")
    return "\n".join(lines)
