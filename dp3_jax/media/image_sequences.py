"""Numbered pictures in a folder, such as frames/%05d.png: which there are, and how fast they follow."""

import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from dp3_jax.common.errors import UserError
from dp3_jax.media.names import NUMBER, is_pattern

RATE = Fraction(25)  # pictures a second, where nothing is said
SLOWEST, FASTEST = Fraction(1, 1000), 1000


def parse_rate(text: str) -> Fraction:
    """Pictures a second from "25", "29.97" or "30000/1001".

    Raises:
      UserError: it is no such number, or not from SLOWEST to FASTEST.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not SLOWEST <= rate <= FASTEST:
        raise UserError(
            f"--rate {text} is no number of pictures a second from {SLOWEST} to {FASTEST}; "
            "give one such as 25 or 30000/1001"
        )
    return rate


def asked_rate(text: str | None, inputs: Iterable[str]) -> Fraction:
    """Pictures a second as --rate says; RATE without.

    Raises:
      UserError: it is no rate, or none of the inputs are numbered pictures.
    """
    if text is None:
        return RATE
    inputs = list(inputs)
    if not any(map(is_pattern, inputs)):
        raise UserError(f"--rate is of numbered pictures, and {inputs[0]} is none")
    return parse_rate(text)


def path_of(pattern: pathlib.Path, number: int) -> pathlib.Path:
    """The picture with this number."""
    digits = NUMBER.search(pattern.name)
    name = f"{number:0{int(digits[1] or 0)}d}"
    return pattern.with_name(pattern.name[: digits.start()] + name + pattern.name[digits.end() :])


def numbers(pattern: pathlib.Path) -> range:
    """The numbers of the pictures that are there, from the first one on without a gap.

    Raises:
      UserError: there are none, or one between two others is missing.
    """
    digits = NUMBER.search(pattern.name)
    start, end = pattern.name[: digits.start()], pattern.name[digits.end() :]
    found = []
    try:
        names = os.listdir(pattern.parent)
    except OSError as error:
        raise UserError(f"cannot look for {pattern}: {error.strerror}; check the path") from error
    for name in names:
        middle = name[len(start) : len(name) - len(end)]
        if name.startswith(start) and name.endswith(end) and middle.isascii() and middle.isdigit():
            number = int(middle)
            if path_of(pattern, number).name == name:
                found.append(number)
    if not found:
        raise UserError(f"there is no picture {pattern}; check the path")
    found.sort()
    for number, following in itertools.pairwise(found):
        if following != number + 1:
            missing = path_of(pattern, number + 1)
            raise UserError(
                f"{missing} is missing between other pictures of {pattern}; "
                "add it, or number them without a gap"
            )
    return range(found[0], found[-1] + 1)


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
    """The pictures of a pattern, in their order; of a file itself; raises as `numbers`."""
    return [path_of(path, n) for n in numbers(path)] if is_pattern(path) else [path]


def identity(pattern: pathlib.Path) -> dict[str, Any]:
    """Tells the pictures from changed or other ones, without reading them.

    Raises:
      UserError: there are none, or one is missing.
    """
    found = numbers(pattern)
    digest = hashlib.sha256()
    for number in found:
        path = path_of(pattern, number)
        try:
            status = path.stat()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error
        digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    return {
        "name": pattern.name,
        "first": found[0],
        "pictures": len(found),
        "sizes_and_times": digest.hexdigest(),
    }
