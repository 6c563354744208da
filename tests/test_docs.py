"""What the docs name exists: files, tests, names in files, options; no option lacks a word in the docs."""

import argparse
import itertools
import re

import pytest

from dp3_jax.cli.main import build_parser

FILES = re.compile(r"`([\w./-]+\.(?:py|schema\.json|safetensors|md))`")
NAMES = re.compile(r"`([\w./-]+\.py)`: `([\w.]+)`")
TESTS = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
OPTIONS = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
FOREIGN = {"--help", "--version"}
YOURS = re.compile(r"\bNAME\b")  # a file that the reader is to write
WRITTEN = {"generator.safetensors", "refined.safetensors", "before_after.png"}  # by commands


def pages(repository):
    return [
        *(repository / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted((repository / "docs").rglob("*.md")),
    ]


@pytest.fixture(scope="module")
def files(repository):
    """Every file of the repository by its path, with a / in front."""
    places = ("dp3_jax", "tests", "docs", "configs", "benchmarks", "kits", "findings")
    inside = itertools.chain(*((repository / place).rglob("*") for place in places))
    return [
        f"/{path.relative_to(repository).as_posix()}"
        for path in itertools.chain(inside, repository.glob("*"))
        if path.is_file()
    ]


def test_the_readme_is_short(repository):
    assert len((repository / "README.md").read_text().splitlines()) <= 150


def test_files_that_the_docs_name_exist(repository, files):
    missing = [
        f"{page.relative_to(repository)}: {name}"
        for page in pages(repository)
        for name in FILES.findall(page.read_text())
        if not (name in WRITTEN or YOURS.search(name))
        and not any(file.endswith(f"/{name}") for file in files)
    ]
    assert missing == []


def test_names_that_the_docs_say_to_be_in_a_file_are_there(repository, files):
    missing = []
    for page in pages(repository):
        for name, inside in NAMES.findall(page.read_text()):
            texts = [(repository / f[1:]).read_text() for f in files if f.endswith(f"/{name}")]
            parts = YOURS.sub("", inside).split(".")
            if not any(all(part in text for part in parts) for text in texts):
                missing.append(f"{page.relative_to(repository)}: {name}: {inside}")
    assert missing == []


def test_tests_that_hold_an_invariant_exist(repository):
    named = TESTS.findall((repository / "docs/architecture.md").read_text())
    assert len(named) > 20
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not re.search(rf"^def {name}\(", (repository / path).read_text(), re.MULTILINE)
    ]
    assert missing == []


def options(parser):
    """Every long option of a parser and of its commands."""
    found = set()
    for action in parser._actions:
        found |= {option for option in action.option_strings if option.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= options(command)
    return found


def test_every_option_has_a_word_in_the_docs_and_no_other_is_named(repository):
    known = options(build_parser())
    text = "".join(page.read_text() for page in pages(repository) if page.parent.name == "cli")
    named = set(OPTIONS.findall(re.sub(r"python (launch|benchmarks/)[^`\n]*", "", text)))
    assert sorted(named - known - FOREIGN) == []
    rest = "".join(page.read_text() for page in pages(repository))
    assert sorted(known - set(OPTIONS.findall(rest)) - FOREIGN) == []
