"""`--person "woman in her forties, glasses"`: a small grammar over what new persons can be asked for.

Words are read from left to right; each known word or group says one thing, little words between them say
nothing, and a word that is not known is named rather than left out. What it cannot say, it cannot do: hair
lies outside the masked region.
"""

import re

from dp3_jax.common.errors import UserError
from dp3_jax.replacement.identities import Wishes

_SEXES = {
    "woman": True, "female": True, "lady": True, "girl": True,
    "man": False, "male": False, "gentleman": False, "boy": False,
}  # fmt: skip
_AGES = {
    "child": 8, "kid": 8, "girl": 9, "boy": 9, "teenager": 16, "teenage": 16, "teen": 16, "young": 25,
    "adult": 38, "middle-aged": 50, "elderly": 72, "old": 68, "senior": 70,
}  # fmt: skip
_DECADES = {
    "twenties": 20, "thirties": 30, "forties": 40, "fifties": 50, "sixties": 60, "seventies": 70,
    "teens": 13,
}  # fmt: skip
_WITHIN = {"early": 2.0, "mid": 5.0, "late": 8.0}  # years from the beginning of a decade
_TONES = {
    "dark": 0, "black": 0, "brown": 1, "tanned": 2, "tan": 2, "olive": 2, "medium": 3, "light": 4,
    "fair": 4, "white": 4, "pale": 5,
}  # fmt: skip
_VERY = {"dark": 0, "light": 5}
_SKIN = ("skin", "skinned", "complexion")
_SMILES = {
    "smile": True, "smiles": True, "smiling": True, "serious": False, "unsmiling": False,
}  # fmt: skip
_NOT = ("no", "not", "without")
_EXPRESSION = ("expression", "look")
_LITTLE = frozenset((
    *("a", "an", "the", "and", "of", "in", "with", "who", "is", "has", "wearing", "about", "around"),
    *("her", "his", "their", "some", "person", "someone"),
))  # fmt: skip
_NUMBER = re.compile(r"(\d{1,3})(?:-?years?-?old|yo)?")
_TENS = re.compile(r"(\d0)s")


def describe(text: str) -> Wishes:
    """What a description asks for.

    Args:
      text: for example "woman in her late forties, dark skin, no glasses" or "30-year-old man".

    Raises:
      UserError: a word that is not known, or two that contradict each other.
    """
    words = re.findall(r"[^\s,;.]+", text.lower().replace("'s", ""))
    said: dict[str, float | bool | int] = {}
    while words:
        taken = next(filter(None, (reads(words) for reads in _READERS)), None)
        if taken is None:
            raise UserError(
                f"--person {text!r}: {words[0]!r} is not known; known are sexes (woman, man, girl, boy), "
                "ages (35 years old, in her early forties, young, elderly, child), skin (very dark, dark, "
                "brown, olive, medium, light, very light skin), glasses (with or without) and how the person "
                "looks (smiling or serious)"
            )
        count, found = taken
        for name, value in found.items():
            if said.setdefault(name, value) != value and (name, words[0]) not in _WEAK:
                raise UserError(f"--person {text!r} says two things of the {_TITLES[name]}")
        words = words[count:]
    if not said:
        raise UserError(
            f"--person {text!r} says nothing; for example: woman in her forties, glasses"
        )
    return Wishes(**said)


_TITLES = {"female": "sex", "age": "age", "tone": "skin", "glasses": "glasses", "smile": "smile"}
# Of a girl who is said to be 15 the number counts.
_WEAK = frozenset(("age", word) for word in ("girl", "boy", "young", "old"))
_Taken = tuple[int, dict[str, float | bool | int]]


def _glasses(words: list[str]) -> _Taken | None:
    if words[0] in ("glasses", "spectacles", "bespectacled"):
        return 1, {"glasses": True}
    if words[0] in _NOT and words[1:2] and words[1] in ("glasses", "spectacles"):
        return 2, {"glasses": False}
    return None


def _smile(words: list[str]) -> _Taken | None:
    """`smiling`, `with a smile`, `not smiling`, `without a smile`, `serious`, `serious expression`."""
    if words[0] in _NOT:
        skipped = 2 if words[1:2] == ["a"] else 1
        told = _SMILES.get(words[skipped]) if words[skipped:] else None
        return (skipped + 1, {"smile": False}) if told else None
    told = _SMILES.get(words[0])
    if told is None:
        return None
    return (2 if words[1:2] and words[1] in _EXPRESSION else 1), {"smile": told}


def _tone(words: list[str]) -> _Taken | None:
    """`dark skin`, `light-skinned`, `very light skin`."""
    very = words[0] == "very"
    first, *rest = [part for word in words[very : very + 2] for part in word.split("-")] or [""]
    if first not in _TONES or not rest or rest[0] not in _SKIN:
        return None
    if very and first not in _VERY:
        return None
    tone = _VERY[first] if very else _TONES[first]
    return very + (1 if "-" in words[very] else 2), {"tone": tone}


def _age(words: list[str]) -> _Taken | None:
    """`30 years old`, `30-year-old`, `aged 30`, `in her early forties`, `40s`, `young`."""
    if words[0] == "aged" and words[1:] and words[1].isdigit():
        return 2, {"age": float(words[1])}
    if match := _NUMBER.fullmatch(words[0]):
        more = 1
        for word in words[1:3]:
            if word not in ("year", "years", "old", "years-old", "year-old"):
                break
            more += 1
        return more, {"age": float(match[1])}
    part, rest = _WITHIN.get(words[0].rstrip("-")), words
    if part is not None:
        rest = words[1:]
    elif (found := words[0].partition("-"))[2] and found[0] in _WITHIN:
        part, rest = _WITHIN[found[0]], [found[2], *words[1:]]
    decade = _decade(rest[0]) if rest else None
    if decade is not None:
        return len(words) - len(rest) + 1, {"age": decade + (5.0 if part is None else part)}
    return None


def _decade(word: str) -> float | None:
    if match := _TENS.fullmatch(word):
        return float(match[1])
    return None if word not in _DECADES else float(_DECADES[word])


def _word(words: list[str]) -> _Taken | None:
    found: dict[str, float | bool | int] = {}
    if words[0] in _SEXES:
        found["female"] = _SEXES[words[0]]
    if words[0] in _AGES:
        found["age"] = float(_AGES[words[0]])
    return (1, found) if found or words[0] in _LITTLE else None


_READERS = (_glasses, _smile, _tone, _age, _word)
