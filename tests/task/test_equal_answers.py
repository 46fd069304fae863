"""Answers that say the same are equal however they are typed, and nothing else becomes equal."""

import json
import string
import time
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codevision_ext.task.answers import check_answer, is_correct
from codevision_ext.task.normal_form import text_key, undecorate, unify_characters

HERE = Path(__file__).parent


def pairs(name: str) -> list[tuple[str, str]]:
    """The references and answers of a file beside this one."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [(entry["reference"], entry["answer"]) for entry in map(json.loads, lines)]


@pytest.mark.parametrize(("reference", "answer"), pairs("equal_answers.jsonl"))
def test_an_answer_that_is_typed_otherwise_is_correct(reference: str, answer: str) -> None:
    assert check_answer(answer, [reference]) is True


@pytest.mark.parametrize(("reference", "answer"), pairs("lookalikes.jsonl"))
def test_an_answer_that_only_looks_like_the_reference_is_not_correct(reference: str, answer: str) -> None:
    assert check_answer(answer, [reference]) is not True


REFUSED = [
    ("A", "AB"),
    ("A", "A B C D"),
    ("A", "A, B"),
    ("A", "**A** or **B**"),
    ("ABD", "A"),
    ("ABD", "A, B"),
    ("ABD", "A, B, C, D"),
    ("A, B", "A or B"),
    ("5", "{5, 6}"),
    ("5", "[5, 6]"),
    ("5", "(5, 6)"),
    ("5", "５、６"),
    ("5", "$5$, $6$"),
    ("5", "x=5, x=6"),
    ("5", "±5"),
    ("5", r"5 \lor 6"),
    ("5", r"\text{not }5"),
    ("{1, 2}", "1 or 2"),
    ("{1, 2}", "{1, 2, 3}"),
    ("x=1 or x=2", "x=1, x=2, x=3"),
]
UNDECIDED = [
    ("BAD", "ABD"),
    ("ABD", "B, A, D"),
    ("A, B, C", "C, B, A"),
    ("3 and 4", "4 and 3"),
    ("[3, 4]", "3, 4"),
    ("x=1 or x=2", "x=1"),
    ("1.5", "1,5"),
    ("5 cm", "5"),
    ('5"', "5"),
    ("2/4/2024", "1/2/2024"),
    ("1/2, 3", "3, 1/2"),
    ("none", "N/A"),
    ("1.000", "1,000"),
    ("1,234", "1.234"),
    ("$1.500", "1500"),
    ("air conditioning", "A/C"),
    ("A or B", "A/B"),
    ("none of them", "neither of them"),
    ("Portland, Oregon", "Portland, OR"),
    ("3 < x < 4", "(3, 4)"),
    ("100000", "1,00,000"),
    ("1234567", "12,34,567"),
    ("1.5, 2.5", "1,5; 2,5"),
    ("x=1,5 or x=2,5", "x=1.5 or x=2.5"),
]


@pytest.mark.parametrize(("reference", "answer"), REFUSED)
def test_a_list_of_candidates_is_refused_so_that_no_judge_is_asked(reference: str, answer: str) -> None:
    assert check_answer(answer, [reference]) is False


@pytest.mark.parametrize(("reference", "answer"), UNDECIDED)
def test_rules_are_silent_where_the_question_decides(reference: str, answer: str) -> None:
    assert check_answer(answer, [reference]) is None


def test_several_references_are_alternatives_and_no_set() -> None:
    assert is_correct("A", ["A", "B"])
    assert check_answer("A, B", ["A", "B"]) is False
    assert check_answer("5, 6", ["5", "6"]) is False


DECORATIONS = [
    "{}",
    " {} ",
    "{}.",
    "{}。",
    "**{}**",
    "*{}*",
    "`{}`",
    "${}$",
    "$${}$$",
    r"\({}\)",
    r"\[{}\]",
    r"\boxed{{{}}}",
    r"\text{{{}}}",
    r"$\boxed{{\text{{{}}}}}$",
    "“{}”",
    "「{}」",
    "\ufeff{}\u200b",
]
decorated = st.sampled_from(DECORATIONS)
FULL_WIDTH = {ord(character): chr(ord(character) + 0xFEE0) for character in string.ascii_letters + string.digits}
words = st.text(alphabet=string.ascii_letters + "éüñçÅ", min_size=2, max_size=10)
"""Words of at least two letters, because a single letter is a choice."""


@given(st.integers(-999, 999), st.integers(-999, 999), decorated, decorated)
def test_decoration_never_changes_which_number_is_right(a: int, b: int, one: str, other: str) -> None:
    assert is_correct(one.format(a), [other.format(b)]) == (a == b)


@given(words, decorated, decorated)
def test_decoration_never_changes_a_word(word: str, one: str, other: str) -> None:
    assert is_correct(one.format(word), [other.format(word)])


@given(words)
def test_a_word_is_the_same_in_every_width_case_and_composition(word: str) -> None:
    for typed in (
        word.translate(FULL_WIDTH),
        unicodedata.normalize("NFD", word),
        word.upper(),
        "\u200b".join(word),
    ):
        assert is_correct(typed, [word])


LETTERS = string.ascii_letters + string.digits + "²³₂½①ΑАВСОаоеμα口ロ一二ー\u0301\u0338"


def _plain(character: str) -> str:
    return unicodedata.normalize("NFKC", character).casefold()


@given(st.text(alphabet=LETTERS + " ", max_size=6), st.sampled_from(LETTERS), st.sampled_from(LETTERS), st.data())
def test_another_letter_makes_another_text(text: str, one: str, other: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text)))
    before, after = (text[:place] + letter + text[place:] for letter in (one, other))
    assert (text_key(before) == text_key(after)) <= (
        unicodedata.normalize("NFC", before.casefold()) == unicodedata.normalize("NFC", after.casefold())
        or _plain(one) == _plain(other)
    )


CONNECTORS = [
    ", ",
    ",",
    "; ",
    " or ",
    " and ",
    "/",
    " / ",
    " ",
    "\n",
    " | ",
    " & ",
    "、",
    "，",
    " 或 ",
    r" \lor ",
    " vs ",
]


@given(st.integers(0, 99), st.integers(0, 99), st.sampled_from(CONNECTORS), decorated, decorated, decorated)
def test_a_second_number_is_never_correct(a: int, b: int, between: str, one: str, other: str, whole: str) -> None:
    value = a / b if b and "/" in between else None
    for answer in (f"{one.format(a)}{between}{other.format(b)}", f"{one.format(b)}{between}{other.format(a)}"):
        correct = is_correct(whole.format(answer), [str(a)])
        assert not correct or value is not None  # 6/1 is the number 6


@given(
    st.lists(st.sampled_from("ABCDEFGH"), min_size=2, max_size=8, unique=True),
    st.sampled_from(CONNECTORS),
    decorated,
    decorated,
)
def test_several_letters_never_beat_a_single_one(letters: list[str], between: str, one: str, whole: str) -> None:
    answer = whole.format(between.join(one.format(letter) for letter in letters))
    assert not any(is_correct(answer, [letter]) for letter in letters)
    assert not is_correct(answer, letters)


choice_sets = st.sets(st.sampled_from("ABCDE"), min_size=2).map(sorted)
LISTS = [
    ", ".join,
    ",".join,
    " and ".join,
    "; ".join,
    " & ".join,
    "、".join,
    lambda letters: f"{{{', '.join(letters)}}}",
]


@given(choice_sets, choice_sets, st.sampled_from([*LISTS, "".join]), st.sampled_from(LISTS), decorated)
def test_choices_are_right_exactly_when_all_and_no_others_are_named(
    expected: list[str], chosen: list[str], one: object, other: object, whole: str
) -> None:
    answer = whole.format(other(chosen))  # type: ignore[operator]
    assert is_correct(answer, [one(expected)]) == (expected == chosen)  # type: ignore[operator]


values = st.lists(st.integers(-20, 20), min_size=2, max_size=4, unique=True)
SOLUTIONS = [
    lambda numbers: " or ".join(f"x={number}" for number in numbers),
    lambda numbers: ", ".join(f"x = {number}" for number in numbers),
    lambda numbers: "x = " + ", ".join(map(str, numbers)),
    lambda numbers: f"{{{', '.join(map(str, numbers))}}}",
    lambda numbers: rf"\{{{','.join(map(str, numbers))}\}}",
]


@given(values, values, st.sampled_from(SOLUTIONS), st.sampled_from(SOLUTIONS), st.randoms())
def test_solutions_are_right_exactly_when_all_and_no_others_are_named(
    expected: list[int], listed: list[int], one: object, other: object, random: object
) -> None:
    reference = one(expected)  # type: ignore[operator]
    assert is_correct(other(listed), [reference]) == (set(expected) == set(listed))  # type: ignore[operator]
    random.shuffle(shuffled := list(expected))  # type: ignore[attr-defined]
    assert is_correct(other(shuffled), [reference])  # type: ignore[operator]
    assert not is_correct(other([*expected, 21]), [reference])  # type: ignore[operator]


@given(st.lists(st.integers(0, 50), min_size=2, max_size=4), st.lists(st.integers(0, 50), min_size=2, max_size=4))
def test_a_list_keeps_its_order_and_its_brackets(first: list[int], second: list[int]) -> None:
    texts = [f"[{', '.join(map(str, numbers))}]" for numbers in (first, second)]
    assert is_correct(texts[0], [texts[1]]) == (first == second)
    assert is_correct(texts[0].replace(" ", ""), [texts[0]])
    assert not is_correct(f"({texts[0][1:-1]})", [texts[0]])


@given(st.text(max_size=30))
def test_a_normal_form_stays_as_it_is(text: str) -> None:
    assert unify_characters(unify_characters(text)) == unify_characters(text)
    assert unify_characters(unicodedata.normalize("NFD", text)) == unify_characters(text)


@pytest.mark.parametrize(
    "part", [" ", "$", "*", "**", "\\boxed{", "\\text{", "\\(", "'", "「", ",", "A, ", "1, ", "±", "²", "x=1 or "]
)
def test_a_long_answer_is_compared_fast(part: str) -> None:
    check_answer(r"\frac{1}{2}", ["0.5"])  # the import isn't what is timed
    long = part * (40_000 // len(part))
    start = time.process_time()
    for answer, reference in pairwise([long, "5", long, "x=1 or x=2", long, "ABD", long]):
        check_answer(answer, [reference])
    assert time.process_time() - start < 5


def test_undecorate_keeps_letter_case_and_inner_marks() -> None:
    assert undecorate(r"  $\boxed{\text{New  York}}$. ") == "New York"
    assert undecorate("$5$ or $6$") == "$5$ or $6$"
    assert undecorate(r"\boxed{5}\boxed{6}") == r"\boxed{5}\boxed{6}"
