"""The field's words in identifiers, in --help and in headings of the docs (glossary: docs/concepts.md)."""

import argparse
import ast
import pathlib
import re

import pytest

from dp3_jax.cli import main

ROOT = pathlib.Path(__file__).parent.parent

# What to say instead; a word counts wherever it is a part of a name, such as `face_hole` or `HoleMask`.
WORDS = {
    "doubtful": "low confidence",
    "erased": "background fill",
    "erase": "background fill",
    "glance": "coarse detection",
    "governor": "quality controller",
    "growth": "dilation",
    "hidden": "anonymized or masked",
    "hide": "anonymize",
    "hole": "masked region",
    "holes": "masked regions",
    "judge": "verifier (of identity); judge only for discriminators",
    "judges": "verifiers (of identity); judges only for discriminators",
    "keeper": "allowlist",
    "looker": "region detector",
    "numbered": "image sequence",
    "outcome": "face result",
    "outcomes": "face results",
    "plan": "face action",
    "plans": "face actions",
    "rim": "mask boundary",
    "rims": "mask boundaries",
    "secret": "master key",
    "secrets": "master keys",
    "sighting": "observation",
    "sightings": "observations",
    "spans": "time ranges",
    "steadied": "stabilised",
    "steady": "stable",
    "strangers": "impostors",
    "tremble": "jitter",
    "trembling": "jitter",
    "unsure": "low confidence",
    "watch": "release policy",
    "wave": "batch",
    "waves": "batches",
    "wider": "dilation",
    "withheld": "suppressed",
}
BOUNDS = {"least": "MIN_", "most": "MAX_"}  # in names of constants

# Names with another meaning, and those of options and config keys that users have.
EXEMPT = {
    "hidden",  # files and folders whose names begin with a dot; samples of sound that no player plays
    "_is_hidden",  # of sound
    "hole",  # losses.hole
    "judge",  # evaluate.judge; discriminators
    "judges",  # evaluate.judges; discriminators
    "through_judge",
    "by_judge",
    "numbered",  # frames and people that have numbers
    "rim",  # losses.rim
    "secret_file",  # --secret-file
    "secrets",  # the standard library's
    "spans",  # --spans
    "strangers",  # --strangers
    "watch",  # kits: of a process
    "wave",  # of sound
    "wider",  # channels of a layer
    "NumberedFrame",
}


def parts(name: str) -> set[str]:
    """The words that a name is made of."""
    return set(re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().split("_"))


def names(path: pathlib.Path) -> set[str]:
    """All identifiers that a file defines or uses."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.keyword(arg=str(name)):
                found.add(name)
            case ast.alias(name=name, asname=asname):
                found.add(asname or name.rsplit(".", 1)[-1])
    return found


def old_words(name: str) -> set[str]:
    """Those words of a name for which the field has others."""
    if name in EXEMPT:
        return set()
    bounds = BOUNDS.keys() if name.isupper() else ()
    return parts(name) & {*WORDS, *bounds}


def sources() -> list[pathlib.Path]:
    folders = ("dp3_jax", "benchmarks", "kits")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_identifiers_are_the_fields_words():
    wrong = [
        f"{path.relative_to(ROOT)}: {name}: say {WORDS.get(word) or BOUNDS[word]}"
        for path in sources()
        for name in sorted(names(path))
        for word in sorted(old_words(name))
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_are_named_in_the_fields_words():
    assert not [path for path in sources() if old_words(path.stem)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("face_hole", {"hole"}),
        ("PlanOfFaces", {"plan"}),
        ("_LEAST_WIDTH", {"least"}),
        ("at_least", set()),
        ("hole", set()),
        ("explain", set()),
    ],
)
def test_old_words_are_found_in_names(name, words):
    assert old_words(name) == words


def helps(parser: argparse.ArgumentParser) -> list[str]:
    """What a command and its sub-commands say of themselves and of their options."""
    told = [parser.description or "", parser.epilog or ""]
    for action in parser._actions:
        told.append(action.help or "")
        if isinstance(action, argparse._SubParsersAction):
            told += [choice.help or "" for choice in action._choices_actions]
            told += [line for one in set(action.choices.values()) for line in helps(one)]
    return told


def in_text(text: str) -> set[str]:
    """Old words in a text, names of options left out."""
    free = re.sub(r"--[\w-]+|`[^`]*`", "", text)
    english = {"watch", "plan", "wave", "hidden", "numbered", "judge", "steady", "wider", "secret"}
    return set(re.findall(r"[a-z]+", free.lower())) & (WORDS.keys() - english)


def test_help_is_in_the_fields_words():
    wrong = [line for line in helps(main.build_parser()) if in_text(line)]
    assert not wrong, "\n".join(wrong)


def test_headings_of_the_docs_are_in_the_fields_words():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    headings = [
        f"{page.relative_to(ROOT)}: {line}"
        for page in pages
        for line in page.read_text().splitlines()
        if line.startswith("#") and in_text(line)
    ]
    assert not headings, "\n".join(headings)
