"""An answer that names places is judged by distance, each name alone."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codevision_ext.errors import InputError
from codevision_ext.geometry import tolerance
from codevision_ext.task.coordinate_answers import read_places, share_right
from codevision_ext.task.item import read_item
from codevision_ext.types import AnswerKind

SIZE = (640, 480)  # tau is 12
TWO = ["{'P4': (280, 80), 'P5': (10, 20)}"]


@pytest.mark.parametrize(
    "answer",
    [
        "{'P4': (280, 80)}",
        '{"P4": [280, 80]}',
        '{"P4": {"x": 280, "y": 80}}',
        '{"P4": "(280, 80)"}',
        '{"P4": [[280.0, 80.0]]}',
        '```json\n{"P4": [280, 80]}\n```',
        "```python\n{'P4': (280, 80)}\n```",
        "\\boxed{\\{'P4': (280, 80)\\}}",
        '[{"point_2d": [280, 80], "label": "P4"}]',
        '{"points": [{"name": "P4", "x": 280, "y": 80}]}',
        "{'p4': (280, 80)}",
        "{'Point P4': (280, 80)}",
        "P4: (280, 80)",
        "P4 = (280, 80).",
        "P4(280, 80)",
        "P4 is at (280, 80)",
        "(280, 80)",
        "280, 80",
        "[280, 80]",
        "[(280, 80)]",
        "x = 280, y = 80",
        "{'x': 280, 'y': 80}",
        "{'P4': (2.8e2, +80)}",
    ],
)
def test_a_place_is_read_in_every_usual_form(answer: str) -> None:
    assert share_right(answer, ["{'P4': (280, 80)}"], SIZE) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I don't know",
        "{}",
        "[]",
        "{'P4': None}",
        "{'P4': (280, 80)",
        "{'P4': (280,)}",
        "{'P4': (280, 80, 5)}",
        "{'P4': ('a', 'b')}",
        "{'P4': (True, False)}",
        "{'P4': (nan, 80)}",
        '{"P4": [NaN, 80]}',
        '{"P4": [1e999, 80]}',
        "P4: (1e999, 80)",
        "{'P4': (280, 80), 'P4': (10, 20)}",
        "(280, 80) or (10, 20)",
        "P4: (280, 80) or P4: (10, 20)",
        "P4: (280, 80), P4: (10, 20)",
        "not (280, 80)",
        "{'P4': (280, 80) if 1 else (1, 2)}",
        "{'P4': (200 + 80, 80)}",
        "{**{'P4': (280, 80)}}",
        "__import__('os').system('true')",
        "(" * 500 + ")" * 500,
        "{'P4': (" + "9" * 5000 + ", 80)}",
        "{'P4': (" + "9" * 4000 + ", 80)}",
        "-" * 9000 + "1",
        "((1, 2), 3)",
    ],
)
def test_a_text_that_is_no_list_of_places_gets_nothing(answer: str) -> None:
    assert read_places(answer) is None
    assert share_right(answer, ["{'P4': (280, 80)}"], SIZE) == 0


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("{'P5': (10, 20), 'P4': (280, 80)}", 1),
        ("{'P4': (280, 92), 'P5': (22, 20)}", 1),
        ("{'P4': (280, 92.1), 'P5': (10, 20)}", 1 / 2),
        ("{'P4': (289, 89), 'P5': (10, 20)}", 1 / 2),
        ("{'P4': (280, 80)}", 1 / 2),
        ("{'P4': (10, 20), 'P5': (280, 80)}", 0),
        ("{'P4': (280, 80), 'P5': (10, 20), 'P6': (1, 1)}", 2 / 3),
        ("{'P4': (280, 80), 'P6': (10, 20)}", 1 / 3),
        ("[(280, 80), (10, 20)]", 0),
        ("(280, 80)", 0),
    ],
)
def test_the_share_counts_every_name_of_the_reference_and_of_the_answer(answer: str, share: float) -> None:
    assert share_right(answer, TWO, SIZE) == pytest.approx(share)


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("[[280, 80], [10, 20]]", 1),
        ("(280, 80), (10, 20)", 1),
        ("(280, 80) and (10, 20)", 1),
        ("[280, 80, 10, 20]", 1),
        ("[(10, 20), (280, 80)]", 0),
        ("[(280, 80), (99, 99)]", 1 / 2),
        ("[(280, 80)]", 1 / 2),
        ("[(280, 80), (10, 20), (1, 1), (2, 2)]", 1 / 2),
    ],
)
def test_places_without_names_are_compared_in_their_order(answer: str, share: float) -> None:
    assert share_right(answer, ["[(280, 80), (10, 20)]"], SIZE) == pytest.approx(share)


def test_letter_case_tells_names_apart_only_where_the_reference_needs_it() -> None:
    assert share_right("{'P4': (280, 80), 'p4': (10, 20)}", ["{'P4': (280, 80)}"], SIZE) == 0
    both = ["{'A': (280, 80), 'a': (10, 20)}"]
    assert share_right("{'a': (10, 20), 'A': (280, 80)}", both, SIZE) == 1
    assert share_right("{'a': (280, 80), 'A': (10, 20)}", both, SIZE) == 0


def test_a_name_with_several_places_needs_all_of_them() -> None:
    reference = ["{'AB': [(10, 10), (90, 90)], 'C': (300, 300)}"]
    assert share_right("{'AB': [(11, 11), (89, 89)], 'C': (300, 300)}", reference, SIZE) == 1
    assert share_right("{'AB': [(11, 11)], 'C': (300, 300)}", reference, SIZE) == 1 / 2


def test_the_best_of_several_references_counts() -> None:
    assert share_right("(10, 20)", ["(280, 80)", "(10, 20)"], SIZE) == 1


def test_the_tolerance_is_that_of_a_drawing_and_never_less_than_three_pixels() -> None:
    assert tolerance((640, 480)) == 12
    assert tolerance((80, 60)) == 3
    assert share_right("(13, 10)", ["(10, 10)"], (80, 60)) == 1
    assert share_right("(13.1, 10)", ["(10, 10)"], (80, 60)) == 0


@pytest.mark.parametrize(("space", "answer"), [((320, 240), "(140, 40)"), ((1000, 1000), "(437.5, 166.7)")])
def test_an_answer_in_another_coordinate_system_is_mapped_to_the_stored_image(
    space: tuple[int, int], answer: str
) -> None:
    assert share_right(answer, ["(280, 80)"], SIZE, space) == 1
    assert share_right("(280, 80)", ["(280, 80)"], SIZE, space) == 0


@given(
    st.dictionaries(
        st.text("ABCDEFGHIJ", min_size=1, max_size=3),
        st.tuples(st.integers(0, 639), st.integers(0, 479)),
        min_size=1,
        max_size=6,
    )
)
def test_a_dict_equals_itself_in_python_in_json_and_in_words(places: dict[str, tuple[int, int]]) -> None:
    words = ", ".join(f"{name}: {place}" for name, place in places.items())
    for answer in (repr(places), json.dumps(places), json.dumps(places, indent=2), words):
        assert share_right(answer, [repr(places)], SIZE) == 1


@given(st.text("{}[]()'\":,.0123456789eP xy-\\\n", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    places = read_places(text)
    assert places is None or all(places.values())


def row(truth: str, **extra: Any) -> dict[str, Any]:
    return {"data_source": "p", "reward_model": {"ground_truth": [truth]}, "extra_info": {"index": 1, **extra}}


def test_a_row_names_the_kind_of_its_answer() -> None:
    assert read_item(row("(3, 4)"), SIZE).answer_kind is AnswerKind.TEXT
    item = read_item(row("(3, 4)", answer_kind="coordinates"), SIZE)
    assert (item.answer_kind, item.answer_share("(4, 4)", None)) == (AnswerKind.COORDINATES, 1)
    with pytest.raises(InputError, match=r"row p-1: extra_info.answer_kind is 'places', none of text, coordinates"):
        read_item(row("(3, 4)", answer_kind="places"), SIZE)
    with pytest.raises(InputError, match=r"row p-1: reward_model.ground_truth must name places such as .*'left'"):
        read_item(row("left", answer_kind="coordinates"), SIZE)
