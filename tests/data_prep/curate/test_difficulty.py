"""A measured row goes to the file that its accuracy with and without the tool decides."""

import pytest

from data_prep.curate.difficulty import Route, RowDifficulty, benefit_interval
from data_prep.formats.schema import Row

ROW = Row(images=(), question="How many?", answers=("3",), source="tests", split="train", index=0)


@pytest.mark.parametrize(
    ("with_tool", "without", "route"),
    [
        (0, 0, Route.HOPELESS),
        (0, 1, Route.SFT),
        (1, 0, Route.SFT),
        (2, 0, Route.SFT),
        (3, 0, Route.RL),
        (7, 8, Route.RL),
        (8, 0, Route.EASY),
    ],
)
def test_a_row_solved_up_to_the_bound_goes_to_sft(with_tool: int, without: int, route: Route) -> None:
    difficulty = RowDifficulty(row=ROW, with_tool=with_tool, without=without, k=8, calls=0)
    assert difficulty.route(hard=0.25) is route


@pytest.mark.parametrize(
    ("on_edited", "on_original", "route"),
    [
        (0, 0, Route.HOPELESS),
        (2, 0, Route.SFT),
        (3, 0, Route.RL),
        (8, 0, Route.RL),
        (8, 2, Route.RL),
        (8, 3, Route.EASY),
        (2, 8, Route.SFT),
    ],
)
def test_with_the_edited_image_rl_gets_rows_that_only_the_drawing_solves(
    on_edited: int, on_original: int, route: Route
) -> None:
    difficulty = RowDifficulty(row=ROW, with_tool=on_edited, without=on_original, k=8, calls=0, edited=True)
    assert difficulty.route(hard=0.25) is route


@pytest.mark.parametrize(
    ("right", "undecided", "route"),
    [
        ((0, 0), (1, 0), Route.RL),
        ((0, 0), (0, 1), Route.RL),
        ((0, 1), (2, 7), Route.SFT),
        ((0, 1), (3, 0), Route.RL),
        ((3, 0), (4, 8), Route.RL),
        ((7, 0), (1, 0), Route.RL),
        ((8, 0), (0, 8), Route.EASY),
    ],
)
def test_a_row_whose_file_depends_on_undecided_answers_goes_to_rl(
    right: tuple[int, int], undecided: tuple[int, int], route: Route
) -> None:
    difficulty = RowDifficulty(
        row=ROW,
        with_tool=right[0],
        without=right[1],
        k=8,
        calls=0,
        undecided_with_tool=undecided[0],
        undecided_without=undecided[1],
    )
    assert difficulty.route(hard=0.25) is route


def test_the_interval_of_the_benefit_covers_both_readings_of_undecided_answers() -> None:
    row = RowDifficulty(row=ROW, with_tool=4, without=2, k=8, calls=0, undecided_with_tool=2, undecided_without=1)
    assert row.benefit.value == 0.25
    assert row.benefit.low == benefit_interval((4, 8), (3, 8)).low
    assert row.benefit.high == benefit_interval((6, 8), (2, 8)).high
