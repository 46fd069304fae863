"""A run shows its progress, on a terminal and in a log file."""

import io

import pytest
from rich.console import Console

from codevision_ext.io.progress import Stages, State, clock_text


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plain() -> tuple[Stages, io.StringIO, Clock]:
    out, clock = io.StringIO(), Clock()
    return Stages(["data", "sft", "rl"], console=Console(file=out), clock=clock), out, clock


def test_without_a_terminal_every_stage_speaks_in_plain_lines() -> None:
    stages, out, clock = plain()
    with stages as s:
        s.skip("data", "done before")
        s.start("sft")
        for step in range(1, 61):
            clock.now += 1
            s.advance(step, 60, f"loss {1 / step:.2f}")
        s.done()
    assert out.getvalue().splitlines() == [
        "[1/3] data: started",
        "[1/3] data: skipped, after 0:00, done before",
        "[2/3] sft: started",
        "[2/3] sft: 1/60, loss 1.00",
        "[2/3] sft: 11/60, 0:49 left, loss 0.09",
        "[2/3] sft: 21/60, 0:39 left, loss 0.05",
        "[2/3] sft: 31/60, 0:29 left, loss 0.03",
        "[2/3] sft: 41/60, 0:19 left, loss 0.02",
        "[2/3] sft: 51/60, 0:09 left, loss 0.02",
        "[2/3] sft: 60/60, loss 0.02",
        "[2/3] sft: done, after 1:00, loss 0.02",
    ]


def test_a_resumed_stage_tells_the_time_left_from_its_own_pace() -> None:
    stages, _, clock = plain()
    with stages as s:
        s.start("rl")
        clock.now = 30
        s.advance(50, 100)
        clock.now = 40
        s.advance(60, 100)
        assert s.tasks[2].time_remaining == 40


def test_the_time_left_is_not_guessed_from_one_step() -> None:
    stages, _, clock = plain()
    with stages as s:
        s.start("rl")
        clock.now = 30
        s.advance(1, 100)
        assert s.tasks[2].time_remaining is None


def test_a_stage_that_ctrl_c_ends_is_shown_as_stopped() -> None:
    stages, out, _ = plain()

    def stop() -> None:
        with stages as s:
            s.start("sft")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert out.getvalue().splitlines()[-1] == "[2/3] sft: stopped, after 0:00"


def test_a_stage_that_breaks_is_shown_as_failed_and_the_error_goes_on() -> None:
    stages, out, _ = plain()

    def fail() -> None:
        with stages as s:
            s.start("sft")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert [task.fields["state"] for task in stages.tasks] == [State.WAITING, State.FAILED, State.WAITING]
    assert out.getvalue().splitlines()[-1] == "[2/3] sft: failed, after 0:00"


def test_the_next_stage_ends_the_one_before() -> None:
    stages, _, _ = plain()
    with stages as s:
        s.start("data")
        s.start("sft")
        assert [task.fields["state"] for task in s.tasks] == [State.DONE, State.RUNNING, State.WAITING]
    assert stages.tasks[1].fields["state"] is State.DONE


def test_an_unknown_stage_and_an_advance_of_nothing_are_refused() -> None:
    stages, _, _ = plain()
    with stages as s:
        with pytest.raises(KeyError, match="there are data, sft, rl"):
            s.start("dpo")
        with pytest.raises(RuntimeError, match="no stage is running"):
            s.advance(1, 2)


def test_what_a_note_says_is_not_read_as_markup() -> None:
    stages, out, _ = plain()
    with stages as s:
        s.start("data")
        s.advance(1, 2, "[red]x[/nonsense]")
    assert "[red]x[/nonsense]" in out.getvalue()


def test_on_a_terminal_all_stages_stand_in_one_table() -> None:
    out, clock = io.StringIO(), Clock()
    with Stages(["data", "sft"], console=Console(file=out, force_terminal=True, width=100), clock=clock) as s:
        s.start("data")
        s.done("600 rows")
        s.start("sft")
        s.advance(1, 4)
        clock.now = 2
        s.advance(2, 4, "loss 0.1")
    shown = out.getvalue()
    for words in ("data", "600 rows", "2/4", "loss 0.1", "✓"):
        assert words in shown


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (3599.7, "1:00:00"), (7207, "2:00:07")])
def test_a_time_is_written_as_a_clock_shows_it(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
