"""Compares formulas with math-verify, if they can be evaluated fast."""

import logging
import re
from math import prod
from threading import Lock
from typing import Final

from codevision_ext.task.normal_form import undecorate

_SIGN: Final = re.compile(r"\\[A-Za-z]|[\^*π]|\d\s?/\s?\d|\b[A-Za-z]\s?[+=]|\+\s?[A-Za-z]\b", re.ASCII)
_COMMANDS: Final = frozenset({"frac", "dfrac", "tfrac", "sqrt", "pi", "cdot", "times", "left", "right"})
_COMMAND: Final = re.compile(r"\\([A-Za-z]+)")
_PLAIN_MATHS: Final = re.compile(r"(?:(?<![A-Za-z])[A-Za-z](?![A-Za-z])|[0-9\s+\-*/^(){}.,=π])*")
_POWER: Final = re.compile(r"(?:\^|\*\*)\s*\{?\s*\(?\s*-?\s*(\d{1,2}|[a-z])(?![\d^*])")
_MATHS_LOCK: Final = Lock()  # the parser below math-verify keeps its tables in shared state
_CODE: Final = re.compile(r"0\d+", re.ASCII)
_OTHER_NOTATION: Final = re.compile(r"\d\s*[‒–—]\s*\d|\d\s*/\s*\d+\s*/|^[^()\[\]{}]*,(?!\d{3}(?!\d))")
"""A range ("3–4" isn't -1), a date, or a list without brackets."""


def same_maths(answer: str, reference: str) -> bool:
    """Returns whether both are formulas and equal by math-verify; at least one must have a mathematical sign."""
    formula, expected = _maths(answer), _maths(reference)
    if formula is None or expected is None or not (_SIGN.search(formula) or _SIGN.search(expected)):
        return False
    from math_verify import parse, verify  # noqa: PLC0415 - the import takes a second, and most answers are no formulas

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns on every call without a timer
    with _MATHS_LOCK:
        # The timer of math-verify needs the main thread. `_maths` only lets formulas through that are evaluated fast.
        parsed = [parse(f"${text}$", parsing_timeout=None, fallback_mode="no_fallback") for text in (expected, formula)]
        return all(parsed) and bool(verify(*parsed, timeout_seconds=None))


def _maths(text: str) -> str | None:
    """Returns the text as a formula if it can be evaluated fast, else None.

    Such a formula is short and has no words, at most two one-letter variables, only known commands, and small integer
    exponents that aren't nested. So a model can't stall the reward with a tower of powers or a factorial.
    """
    formula = undecorate(text)
    if (
        len(formula) > 80
        or _OTHER_NOTATION.search(text)
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
