"""Shows the stages of a run and the time left in one: a live table, or plain lines without a terminal."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_LINE_EVERY_S = 10.0
"""Minimum seconds between two plain lines of a stage, except for its first and its last step."""


class State(Enum):
    """State of a stage, with the character that shows it."""

    WAITING = "·"
    RUNNING = "›"
    DONE = "✓"
    SKIPPED = "↷"
    FAILED = "✗"
    STOPPED = "■"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressStage:
    """One stage; times in seconds of the clock that `Stages` was given."""

    name: str
    state: State = State.WAITING
    started_s: float = 0.0
    ended_s: float = 0.0
    step: int = 0
    total: int = 0
    """0 while the number of steps is unknown."""
    note: str = ""
    origin: tuple[int, float] | None = None
    """Step and time of the first advance: a resumed stage begins in the middle."""

    def elapsed_s(self, now: float) -> float:
        """Seconds since the start, or that it took; 0 before."""
        if self.state is State.RUNNING:
            return now - self.started_s
        return self.ended_s - self.started_s

    def left_s(self, now: float) -> float | None:
        """Seconds left at the speed since the first step; None while that can't be told."""
        if self.state is not State.RUNNING or self.origin is None or self.step <= self.origin[0]:
            return None
        pace = (now - self.origin[1]) / (self.step - self.origin[0])
        return max(0.0, pace * (self.total - self.step))


def clock_text(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: `1:05`, `2:00:07`."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class Stages:
    """Shows the stages of a run: `with Stages(["data", "sft"]) as s: s.start("data"); s.advance(1, 9); s.done()`.

    One stage runs at a time: starting the next ends the one before. A stage that an exception ends is shown as failed,
    one that Ctrl-C ends as stopped; the exception goes on.
    """

    def __init__(
        self, names: Sequence[str], *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stages = {name: ProgressStage(name=name) for name in names}
        self._running: str | None = None
        self._clock = clock
        self._console = console or Console()
        self._last_line_s = 0.0
        self._live = (
            Live(console=self._console, get_renderable=self._table, refresh_per_second=4)
            if self._console.is_terminal
            else None
        )

    @property
    def stages(self) -> tuple[ProgressStage, ...]:
        """The stages as they are now, in order."""
        return tuple(self._stages.values())

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running:
            stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
            self._end(State.DONE if kind is None else State.STOPPED if stopped else State.FAILED)
        if self._live:
            self._live.stop()

    def start(self, name: str) -> None:
        """Begins a stage, ending the running one as done."""
        if name not in self._stages:
            raise KeyError(f"no stage {name!r}; there are {', '.join(self._stages)}")
        if self._running:
            self.done()
        self._running = name
        self._change(state=State.RUNNING, started_s=self._clock())
        self._print_line("started")

    def advance(self, step: int, total: int, note: str = "") -> None:
        """The running stage has finished `step` of `total` steps; `note` is a word on how it goes."""
        now = self._clock()
        stage = self._stages[self._current()]
        self._change(step=step, total=total, note=note, origin=stage.origin or (step, now))
        if stage.origin is None or step >= total or now - self._last_line_s >= _LINE_EVERY_S:
            left = self._stages[stage.name].left_s(now)
            self._print_line(
                f"{step}/{total}", clock_text(left) + " left" if left is not None and step < total else "", note
            )

    def done(self, note: str = "") -> None:
        """Ends the running stage."""
        if note:
            self._change(note=note)
        self._end(State.DONE)

    def skip(self, name: str, note: str = "") -> None:
        """Says that a stage needn't run, because an earlier run finished it."""
        self.start(name)
        self._change(note=note)
        self._end(State.SKIPPED)

    def _current(self) -> str:
        if self._running is None:
            raise RuntimeError("no stage is running")
        return self._running

    def _change(self, **fields: object) -> None:
        name = self._current()
        self._stages[name] = replace(self._stages[name], **fields)  # type: ignore[arg-type]

    def _end(self, state: State) -> None:
        now = self._clock()
        self._change(state=state, ended_s=now)
        stage = self._stages[self._current()]
        self._print_line(state.name.lower(), f"after {clock_text(stage.elapsed_s(now))}", stage.note)
        self._running = None

    def _print_line(self, *words: str) -> None:
        """One plain line on the running stage, where there is no table."""
        if self._live:
            return
        self._last_line_s = self._clock()
        name = self._current()
        place = f"[{list(self._stages).index(name) + 1}/{len(self._stages)}]"
        line = f"{place} {name}: {', '.join(word for word in words if word)}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> RenderableType:
        now = self._clock()
        table = Table.grid(padding=(0, 2))
        for stage in self._stages.values():
            table.add_row(*_row(stage, now))
        return table


def _row(stage: ProgressStage, now: float) -> list[RenderableType]:
    style = {State.WAITING: "dim", State.DONE: "green", State.SKIPPED: "dim", State.FAILED: "bold red"}.get(
        stage.state, "bold"
    )
    running = stage.state is State.RUNNING
    left = stage.left_s(now)
    return [
        Spinner("dots", style="cyan") if running else Text(stage.state.value, style=style),
        Text(stage.name, style=style),
        ProgressBar(total=stage.total, completed=stage.step, width=24) if running and stage.total else Text(""),
        Text(f"{stage.step}/{stage.total}" if stage.total else "", style="dim"),
        Text("" if stage.state is State.WAITING else clock_text(stage.elapsed_s(now)), justify="right"),
        Text(f"{clock_text(left)} left" if left is not None else "", style="cyan"),
        Text(stage.note, style="dim"),
    ]
