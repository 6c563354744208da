"""The console form of an evaluation."""

from collections.abc import Iterator
from typing import Any

Row = tuple[str, str, str]


def _words(name: str) -> str:
    return name.replace("_", " ").replace(" vs ", " / ")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _similarity_rows(result: dict[str, Any]) -> Iterator[Row]:
    yield "SSIM", "mean", f"paper: {result['paper_ssim_generated_vs_matched']} to the matched image"
    for section, form in (("ssim", ".4f"), ("psnr_db", ".2f")):
        if section == "psnr_db":
            yield "PSNR (dB)", "mean", ""
        for name, row in result[section].items():
            spread = f"std {_number(row['std'], form)}, n {row['n']}"
            yield f"  {_words(name)}", _number(row["mean"], form), spread


def _kid_rows(section: dict[str, Any]) -> Iterator[Row]:
    title = f"KID ({section['features']})"
    if "not_measured" in section:
        yield title, "-", f"not measured: {section['not_measured']}"
        return
    yield title, "value", "heldout / train is the floor"
    for name, row in section.items():
        if name != "features":
            error = _number(row["standard_error"], ".4f")
            yield f"  {_words(name)}", f"{row['value']:.4f}", f"standard error {error}"


def _memorisation_rows(result: dict[str, Any]) -> Iterator[Row]:
    for name, section in result["memorisation"].items():
        title = f"Nearest train image, {_words(name)}"
        if "not_measured" in section:
            yield title, "-", f"not measured: {section['not_measured']}"
            continue
        yield title, "", ""
        probability = section["generated_nearer_probability"]
        yield "  generated nearer than heldout", f"{probability:.3f}", "0.5: no copying seen"
        share = section["generated_nearer_than_nearest_5_percent_of_heldout"]
        yield "  generated within nearest 5% of heldout", f"{share:.3f}", "0.05 is chance"
        for kind in ("generated", "heldout"):
            low, middle, high = section[f"{kind}_quantiles_5_50_95"]
            spread = f"5% {low:.3f}, 95% {high:.3f}, n {section[f'{kind}_n']}"
            yield f"  {kind} median distance", f"{middle:.3f}", spread
            share = section.get(f"{kind}_share_with_a_same_person_train_face")
            if share is not None:
                yield f"  {kind} with a same-person train face", f"{share:.3f}", ""


def _verification_rows(section: dict[str, Any]) -> Iterator[Row]:
    if "not_measured" in section:
        yield "Face verification", "-", f"not measured: {section['not_measured']}"
        return
    rule = f"same person: cosine >= {section['same_person_if_cosine_at_least']:.3f}"
    yield f"Face verification ({section['judge']})", "same", rule
    for name, row in section.items():
        if not isinstance(row, dict) or name == "face_not_found":
            continue
        if "not_measured" in row:
            yield f"  {_words(name)}", "-", f"not measured: {row['not_measured']}"
        else:
            judged = row["pairs"] - row["face_not_found"]
            counts = (
                f"{row['same_person']} of {judged} judged pairs, no face in {row['face_not_found']}"
            )
            yield f"  {_words(name)}", _number(row["same_person_share"], ".3f"), counts
    for name, row in section["face_not_found"].items():
        yield f"  no face found in {name}", str(row["pictures"]), f"of {row['of']}"


def format_report(result: dict[str, Any]) -> str:
    """The table that `evaluate` prints, from the content of evaluation.json."""
    rows = [
        *_similarity_rows(result),
        *_kid_rows(result["kid"]),
        *_memorisation_rows(result),
        *_verification_rows(result["face_verification"]),
    ]
    first = max(len(row[0]) for row in rows)
    second = max(len(row[1]) for row in rows)
    lines = [f"{name:<{first}}  {value:>{second}}  {note}".rstrip() for name, value, note in rows]
    return "\n".join(lines)
