"""Shows the stages of a run and the time left in the running stage: a live table, or plain lines without a terminal."""

import math
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn
from rich.text import Text

_LINE_EVERY_S: Final = 10.0
"""Minimum seconds between two plain lines of a stage, except for its first and its last step."""


class State(Enum):
    """State of a stage, with the character that shows it."""

    WAITING = "·"
    RUNNING = "›"
    DONE = "✓"
    SKIPPED = "↷"
    FAILED = "✗"
    STOPPED = "■"


_STYLES: Final = {State.WAITING: "dim", State.DONE: "green", State.SKIPPED: "dim", State.FAILED: "bold red"}


def clock_text(seconds: float) -> str:
    """Return minutes and seconds, with hours where there are any: `1:05`, `2:00:07`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class _Mark(SpinnerColumn):
    def render(self, task: Task) -> RenderableType:
        state = task.fields["state"]
        return super().render(task) if state is State.RUNNING else Text(state.value, _STYLES.get(state, "bold"))


class _Bar(BarColumn):
    def render(self, task: Task) -> RenderableType:  # type: ignore[override]  # no bar before and after the stage
        return super().render(task) if task.fields["state"] is State.RUNNING and task.total else Text("")


class _Words(TextColumn):
    """Name, steps, seconds, time left and note of a stage."""

    def __init__(self, words: Callable[[Task], str], style: str = "none") -> None:
        super().__init__("", style=style)
        self._words = words

    def render(self, task: Task) -> Text:
        return Text(self._words(task), self.style)


def _left(task: Task) -> str:
    left = task.time_remaining if task.fields["state"] is State.RUNNING else None
    return f"{clock_text(left)} left" if left else ""


class Stages:
    """Shows the stages of a run: `with Stages(["data", "sft"]) as s: s.start("data"); s.advance(1, 9); s.done()`.

    One stage runs at a time: starting the next ends the one before. A stage that an exception ends is shown as failed,
    one that Ctrl-C ends as stopped; the exception goes on.
    """

    def __init__(
        self, names: Sequence[str], *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console()
        self._clock = clock
        self._last_line_s = 0.0
        self._running: Task | None = None
        self._progress = Progress(
            _Mark(),
            _Words(lambda task: task.description),
            _Bar(bar_width=24),
            _Words(lambda task: f"{task.completed:.0f}/{task.total:.0f}" if task.total else "", "dim"),
            _Words(lambda task: "" if task.elapsed is None else clock_text(task.elapsed)),
            _Words(_left, "cyan"),
            _Words(lambda task: task.fields["note"], "dim"),
            console=self._console,
            get_time=clock,
            refresh_per_second=4,
            speed_estimate_period=math.inf,  # a step of a training takes longer than rich's 30 s
            disable=not self._console.is_terminal,
        )
        for name in names:
            self._progress.add_task(name, start=False, total=None, state=State.WAITING, note="")

    @property
    def tasks(self) -> list[Task]:
        """Returns the current stages in order; the fields of each hold its `state` and its `note`."""
        return self._progress.tasks

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._running:
            stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
            self._end(State.DONE if kind is None else State.STOPPED if stopped else State.FAILED)
        self._progress.stop()

    def start(self, name: str) -> None:
        """Start a stage; the running one ends as done."""
        task = next((task for task in self.tasks if task.description == name), None)
        if task is None:
            raise KeyError(f"no stage {name!r}; there are {', '.join(task.description for task in self.tasks)}")
        if self._running:
            self.done()
        self._running = task
        self._progress.start_task(task.id)
        self._progress.update(task.id, state=State.RUNNING)
        self._print_line("started")

    def advance(self, step: int, total: int, note: str = "") -> None:
        """Show that the running stage has finished `step` of `total` steps; `note` says how it goes."""
        task = self._current()
        first = task.total is None
        self._progress.update(task.id, completed=step, total=total, note=note)
        if first or step >= total or self._clock() - self._last_line_s >= _LINE_EVERY_S:
            self._print_line(f"{step}/{total}", _left(task), note)

    def done(self, note: str = "") -> None:
        """End the running stage."""
        self._end(State.DONE, note)

    def skip(self, name: str, note: str = "") -> None:
        """Show that a stage needn't run, because an earlier run finished it."""
        self.start(name)
        self._end(State.SKIPPED, note)

    def _current(self) -> Task:
        if self._running is None:
            raise RuntimeError("no stage is running")
        return self._running

    def _end(self, state: State, note: str = "") -> None:
        task = self._current()
        self._progress.stop_task(task.id)
        self._progress.update(task.id, state=state, note=note or task.fields["note"])
        self._print_line(state.name.lower(), f"after {clock_text(task.elapsed or 0.0)}", task.fields["note"])
        self._running = None

    def _print_line(self, *words: str) -> None:
        """Print a plain line on the running stage, where there is no table."""
        if self._console.is_terminal:
            return
        self._last_line_s = self._clock()
        task = self._current()
        line = f"[{task.id + 1}/{len(self.tasks)}] {task.description}: {', '.join(word for word in words if word)}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
