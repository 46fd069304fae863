"""A measured row goes to the file that its accuracy with and without the tool decides."""

import pytest

from data_prep.curate.difficulty import Route, RowDifficulty
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
