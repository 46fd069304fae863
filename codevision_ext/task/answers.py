"""Decides by rules whether an answer has the same meaning as a reference.

The answer must be the reference and nothing else. A sentence that contains the reference doesn't match, nor does a
second candidate ("3 or 4") or a negation ("not 7"). The rules accept an answer, refuse it, or leave it undecided. An
undecided answer is wrong unless a judge accepts it. The rules refuse only answers that no judge may accept: an empty
answer, a hedge, another whole number, or another choice letter.
"""

import re
from collections.abc import Sequence
from typing import Final

from codevision_ext.errors import InputError
from codevision_ext.task.answer_sets import (
    lists_several,
    names_several,
    other_choices,
    other_solutions,
    same_choices,
    same_solutions,
    too_many_choices,
)
from codevision_ext.task.maths import same_maths
from codevision_ext.task.normal_form import fold, text_key, unify_characters
from codevision_ext.task.numbers import is_number, other_number, same_number

ANSWER_CHARS: Final = 2000
"""Maximum length in characters of an answer that a judge sees; the rules refuse longer answers."""

_CHOICE: Final = re.compile(
    r"(?:option |choice )?\(?(?P<letter>[A-Za-z])(?P<mark>[).:]{0,2})(?:\s+(?P<text>.+))?", re.DOTALL
)
_HEDGE: Final = re.compile(
    r"\b(?:or|not|either|neither|maybe|perhaps|possibly|unsure)\b"  # a word of doubt
    r"|\b[a-z][).:]|(?<!['’])\b(?:[b-hj-z]\b|a\s*(?:[,;/&]|and\b)|[a-z]\W*$)"  # another letter
    r"|\b(?:both|all|none|any) of\b"  # several choices
    r"|或|(?<=[\u3040-\u30ff\u3400-\u9fff])[a-z](?![a-z])"  # the same in Chinese and Japanese, without white space
)
_UNDECIDED: Final = re.compile(
    r"\bor\b(?!\W*$)|\b(?:either|maybe|perhaps|possibly|probably|unsure|not sure)\b"  # "Portland, OR" is no doubt
)
_NEGATION: Final = re.compile(r"(?:it'?s |it is )?not (?:an? |the )?")
_NUMBER: Final = re.compile(r"\d[\d.,]*(?:\s?/\s?\d+)?")
_PAIR: Final = re.compile(r"[(\[].*,.*[)\]]", re.DOTALL)
_LIST: Final = re.compile(r",\s+|,(?=[a-z])|\s*[;|&]\s*|(?<=[a-z])\s*/\s*(?=[a-z])|\s+and\s+")


def is_correct(answer: str | None, references: Sequence[str]) -> bool:
    """Returns whether the rules accept the answer; see `check_answer`."""
    return check_answer(answer, references) is True


def check_answer(answer: str | None, references: Sequence[str]) -> bool | None:
    """Returns True if the answer equals a reference, False if it can't mean any reference, else None.

    Texts are compared without regard to letter case, spelling of characters, decoration, and white space at punctuation
    (`normal_form.text_key`). Numbers are compared by value, and formulas by math-verify. A choice letter may stand
    alone, in brackets, or before the text of its option. Several choices and several solutions are accepted if a
    reference has several.

    Raises:
        InputError: there is no reference.
        TypeError: `references` is a string instead of a list.
    """
    if isinstance(references, str):
        raise TypeError(f"references must be a list of strings, not the string {references!r}")
    if not references:
        raise InputError("reward_model.ground_truth is empty; an answer needs at least one reference.")
    if answer is None or not fold(answer):
        mark = unify_characters(answer or "").strip()
        return bool(mark) and mark in [unify_characters(reference).strip() for reference in references]
    if _accepts(answer, references):
        return True
    refused = (
        len(answer) > ANSWER_CHARS
        or _is_hedge(answer, references)
        or _other_choice(answer, references)
        or too_many_choices(answer, references)
        or other_choices(answer, references)
        or other_solutions(answer, references)
        or all(other_number(answer, reference) for reference in references)
    )
    return False if refused else None


def _accepts(answer: str, references: Sequence[str]) -> bool:
    rules = (same_text, same_number, same_maths, same_choices, same_solutions)
    return any(rule(answer, reference) for reference in references for rule in rules) or _same_choice(
        answer, references
    )


def _is_hedge(answer: str, references: Sequence[str]) -> bool:
    """Returns whether the answer avoids a decision.

    Such an answer has a word of doubt that no reference has, or negates a reference, or lists several numbers or
    letters although a reference is a single number or letter.
    """
    folded, expected = fold(answer), [fold(reference) for reference in references]
    if _UNDECIDED.search(folded) and not any(map(_UNDECIDED.search, expected)):
        return True
    negation = _NEGATION.match(folded)
    if negation and _accepts(folded[negation.end() :], references):
        return True
    if any(map(_LIST.search, expected)) or any(map(names_several, references)):
        return False
    if not any(_is_single(reference) for reference in references):
        return False
    candidates = {fold(part) for part in _LIST.split(folded)} - {""}
    bare = all(is_number(part) or len(part) == 1 for part in candidates)
    return (len(candidates) > 1 and bare) or lists_several(answer, references)


def _is_single(reference: str) -> bool:
    """Returns whether a reference is a choice letter or has exactly one number, and isn't a pair such as "(3,4)"."""
    one_number = len(_NUMBER.findall(fold(reference))) == 1 and not _PAIR.fullmatch(reference.strip())
    return bool(_choices([reference])) or one_number


def _other_choice(answer: str, references: Sequence[str]) -> bool:
    """Returns whether the answer is a choice letter that no reference names."""
    choice = _CHOICE.fullmatch(fold(answer))
    letters = {match["letter"] for match in _choices(references)}
    return choice is not None and _is_choice(choice) and bool(letters) and choice["letter"] not in letters


def same_text(answer: str, reference: str) -> bool:
    """Returns whether answer and reference have the same normal form (`normal_form.text_key`)."""
    return text_key(answer) == text_key(reference)


def _same_choice(answer: str, references: Sequence[str]) -> bool:
    """Returns whether the answer is the reference's letter, alone or followed by the text of its option.

    The text of the option is known if a reference reads "B. text", or if another reference is longer than a letter. If
    it is unknown, any text is accepted that has no word of doubt and no other letter.
    """
    choice = _CHOICE.fullmatch(fold(answer))
    if choice is None:
        return False
    expected = _choices(references)
    if choice["letter"] not in {match["letter"] for match in expected} or not _is_choice(choice):
        return False
    if not choice["text"]:
        return True
    texts = {fold(match["text"]) for match in expected if match["text"]}
    texts |= {fold(reference) for reference in references if not _CHOICE.fullmatch(fold(reference))}
    return fold(choice["text"]) in texts if texts else _HEDGE.search(choice["text"]) is None


def _choices(references: Sequence[str]) -> list[re.Match[str]]:
    return [match for match in map(_CHOICE.fullmatch, map(fold, references)) if match and _is_choice(match)]


def _is_choice(match: re.Match[str]) -> bool:
    """Returns whether a letter stands alone, or has a mark between it and the text; "a park" is no choice."""
    return not match["text"] or bool(match["mark"])
