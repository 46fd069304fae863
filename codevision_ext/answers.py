"""Whether an answer says the same as a reference, by rules alone.

A rule says yes or stays silent; what no rule accepts counts as wrong until a judge reads it. An answer must *be* the
reference, not contain it: a sentence around it, a second candidate ("3 or 4") or a negation ("not 7") is no match.
"""

import logging
import re
from collections.abc import Sequence
from fractions import Fraction
from math import prod
from threading import Lock
from typing import Final

from codevision_ext.errors import InputError

RELATIVE_TOLERANCE: Final = Fraction(1, 10**5)
"""Two numbers closer than this, relative to the reference, are the same; two whole numbers must be equal."""

_QUOTES: Final = " \t\r\n\"'`“”‘’"
_NUMBER: Final = re.compile(
    r"(?P<sign>[-+]?)\s?(?P<money>[$€£¥]?)\s?(?P<digits>(?:\d{1,3}(?:,\d{3}){1,5}|\d{1,40})(?:\.\d{0,40})?|\.\d{1,40})"
    r"(?:e(?P<exponent>[-+]?\d{1,2}))?\s?(?P<percent>%|percent|)",
    re.ASCII | re.IGNORECASE,
)
_CODE: Final = re.compile(r"0\d+", re.ASCII)
_CHOICE: Final = re.compile(
    r"(?:option |choice )?\(?(?P<letter>[A-Za-z])(?P<mark>[).:]{0,2})(?:\s+(?P<text>.+))?", re.DOTALL
)
_HEDGE: Final = re.compile(
    r"\b(?:or|not|either|neither|maybe|perhaps|possibly|unsure)\b"  # says so
    r"|\b[a-z][).:]|^[b-z]\b|(?<!['’])\b[a-z]\W*$"  # names another letter
)

_MATHS: Final = re.compile(r"\\[A-Za-z]|[\^*π]|\d\s?/\s?\d|\b[A-Za-z]\s?[+=]|\+\s?[A-Za-z]\b", re.ASCII)
_COMMANDS: Final = frozenset({"frac", "dfrac", "tfrac", "sqrt", "pi", "cdot", "times", "left", "right"})
_COMMAND: Final = re.compile(r"\\([A-Za-z]+)")
_PLAIN_MATHS: Final = re.compile(r"(?:(?<![A-Za-z])[A-Za-z](?![A-Za-z])|[0-9\s+\-*/^(){}.,=π])*")
_POWER: Final = re.compile(r"(?:\^|\*\*)\s*\{?\s*\(?\s*-?\s*(\d{1,2}|[a-z])(?![\d^*])")
_MATHS_LOCK: Final = Lock()  # the parser below math-verify keeps its tables in shared state


def is_correct(answer: str | None, references: Sequence[str]) -> bool:
    """Whether the answer equals any of the references.

    Text is compared without regard to case, white space, quotes around it and a full stop after it; numbers by value;
    maths by math-verify; a choice letter may stand alone, in brackets, or before the text of its option.

    Raises:
        InputError: there is no reference to compare with.
    """
    if isinstance(references, str):
        raise TypeError(f"references must be a list of strings, not the string {references!r}")
    if not references:
        raise InputError("reward_model.ground_truth is empty; an answer needs at least one reference.")
    if answer is None or not _fold(answer):
        return False
    return any(
        _same_text(answer, r) or _same_number(answer, r) or _same_maths(answer, r) for r in references
    ) or _same_choice(answer, references)


def _fold(text: str) -> str:
    """The text without what doesn't matter: case, runs of white space, quotes around it, a full stop after it."""
    bare = " ".join(text.replace("\u2212", "-").split()).strip(_QUOTES)
    return (bare.removesuffix(".") if not bare.endswith("..") else bare).strip(_QUOTES).casefold()


def _same_text(answer: str, reference: str) -> bool:
    return _fold(answer) == _fold(reference)


def _same_number(answer: str, reference: str) -> bool:
    """Equal values, of one currency. A reference with a superfluous leading 0 ("007") is a code: text, not a number."""
    given, expected = _NUMBER.fullmatch(_fold(answer)), _NUMBER.fullmatch(_fold(reference))
    if given is None or expected is None or _CODE.fullmatch(_fold(reference)):
        return False
    if len({given["money"], expected["money"]} - {""}) > 1:
        return False
    a, b = _value(given), _value(expected)
    whole = a.denominator == b.denominator == 1
    return a == b if whole else abs(a - b) <= RELATIVE_TOLERANCE * abs(b)


def _value(number: re.Match[str]) -> Fraction:
    value = Fraction(number["sign"] + number["digits"].replace(",", "").removesuffix("."))
    return value * Fraction(10) ** int(number["exponent"] or 0) / (100 if number["percent"] else 1)


def _same_choice(answer: str, references: Sequence[str]) -> bool:
    """The reference's letter, alone or marked and followed by its option's text, where that is known.

    The option's text is known when a reference reads "B. text", or when another reference is longer than a letter.
    """
    given = _CHOICE.fullmatch(_fold(answer))
    if given is None:
        return False
    expected = [match for match in map(_CHOICE.fullmatch, map(_fold, references)) if match and _is_choice(match)]
    if given["letter"] not in {match["letter"] for match in expected} or not _is_choice(given):
        return False
    if not given["text"]:
        return True
    texts = {_fold(match["text"]) for match in expected if match["text"]}
    texts |= {_fold(reference) for reference in references if not _CHOICE.fullmatch(_fold(reference))}
    return _fold(given["text"]) in texts if texts else _HEDGE.search(given["text"]) is None


def _is_choice(match: re.Match[str]) -> bool:
    """A letter alone, or one with a mark before the text: "a park" is no choice."""
    return not match["text"] or bool(match["mark"])


def _same_maths(answer: str, reference: str) -> bool:
    """Equal by math-verify, asked only where the reference or the answer is maths and both are nothing else."""
    given, expected = _maths(answer), _maths(reference)
    if given is None or expected is None or not (_MATHS.search(given) or _MATHS.search(expected)):
        return False
    from math_verify import parse, verify  # noqa: PLC0415 - it costs a second, and most answers are no maths

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that it runs without a timer
    with _MATHS_LOCK:
        # Its timer is a signal, which only a main thread may set; `_maths` lets nothing through that could take long.
        parsed = [parse(f"${text}$", parsing_timeout=None, fallback_mode="no_fallback") for text in (expected, given)]
        return all(parsed) and bool(verify(*parsed, timeout_seconds=None))


def _maths(text: str) -> str | None:
    """The formula where the text is one that can be evaluated in no time, else None.

    No words, one-letter variables, short, few commands, small whole exponents that don't nest: a model can't stall the
    reward with a tower of powers or a factorial.
    """
    formula = text.strip().removeprefix("$").removesuffix("$").strip().removesuffix(".").replace("\u2212", "-")
    if (
        len(formula) > 80
        or _CODE.fullmatch(formula)
        or not re.search(r"[0-9π]|\\pi", formula)
        or re.search(r"\d\s+\d", formula)
    ):
        return None
    commands = _COMMAND.findall(formula)
    plain = _COMMAND.sub(" ", formula)
    powers = _POWER.findall(plain)
    towers = len(powers) != len(re.findall(r"\^|\*\*", plain)) or plain.count("=") > 1
    variables = set(re.findall("[A-Za-z]", plain))
    size = prod(int(power) if power.isdigit() else 1 for power in powers)
    if towers or not _COMMANDS.issuperset(commands) or not _PLAIN_MATHS.fullmatch(plain):
        return None
    return formula if size <= (8 if variables else 100) and len(variables) <= 2 else None
