"""Ends a command that is told to stop: SIGINT, SIGTERM and SIGHUP become an exception, one sentence and exit code 130.

Imports nothing slow, so that a command can be stopped in this way from its first import on.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, Final, TypeVar

T = TypeVar("T")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOPPED: Final = 130
"""Exit code of a stopped command; typer, too, ends a command with it that a KeyboardInterrupt reaches."""
_AGAIN_S: Final = 0.01
"""Wait before a signal is repeated whose exception was dropped."""
_raised: list[int] = []
"""Signals that `Stopped` was raised for."""


class Stopped(KeyboardInterrupt):
    """Raised in the main thread by a signal; one that is dropped on its way to its `stoppable` block comes again.

    A plain KeyboardInterrupt would do harm: once it passes a string that is executed, as an import does for each named
    tuple and dataclass, CPython remembers it and ends `python -m` by SIGINT, exit code -2, even if it is caught later.
    Python itself drops exceptions of callbacks of weak references (every import has one). Python 3.11 wraps one that is
    raised while a class is made in a RuntimeError, for which code that imports on first use, as Pillow does, has a
    handler.
    """

    def __del__(self) -> None:
        number = self.args[0]
        if signal.getsignal(number) is _stop:
            threading.Timer(_AGAIN_S, _repeat, (number,)).start()


class _Ended(SystemExit):
    """The end of a command whose sentence is written."""


@contextmanager
def stoppable(sentence: str) -> Iterator[None]:
    """End the block on SIGINT, SIGTERM and SIGHUP by `Stopped`, and the command with `sentence` and exit code 130.

    Of several such blocks, one inside the other, the innermost writes its sentence. A signal that the caller ignores,
    as `nohup` does, stays ignored.
    """
    numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, _stop) for number in numbers]
    report = sys.unraisablehook
    sys.unraisablehook = partial(_report_others, report)
    raised = len(_raised)
    try:
        yield
    except _Ended:
        raise
    except BaseException as error:
        ended = isinstance(error, SystemExit) and (error.code == _STOPPED or len(_raised) > raised)
        if not ended and not any(isinstance(cause, KeyboardInterrupt) for cause in _causes(error)):
            raise
        sys.stderr.write(f"{sentence}\n")
        raise _Ended(_STOPPED) from None
    finally:
        sys.unraisablehook = report
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def run_stoppable(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does; a signal cancels it, and a second signal ends it at once.

    An exception raised by a signal handler would end whichever task is running, and asyncio would report the others.

    Raises:
        Stopped: A signal of the surrounding `stoppable` block arrived.
    """
    import asyncio  # noqa: PLC0415 - slow to import

    numbers = [number for number in _SIGNALS if signal.getsignal(number) is _stop]
    received: list[int] = []

    async def cancelled_by_signals() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task

        def cancel(number: int, frame: FrameType | None) -> None:
            if received:
                _stop(number, frame)
            received.append(number)
            loop.call_soon_threadsafe(task.cancel)

        for number in numbers:
            signal.signal(number, cancel)
        return await main

    try:
        result = asyncio.run(cancelled_by_signals())
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        for number in numbers:
            signal.signal(number, _stop)
    if received:
        raise Stopped(received[0])
    return result


def _stop(number: int, _: FrameType | None) -> None:
    _raised.append(number)
    raise Stopped(number)


def _repeat(number: int) -> None:
    if signal.getsignal(number) is _stop:
        os.kill(os.getpid(), number)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _report_others(report: Callable[["sys.UnraisableHookArgs"], object], dropped: "sys.UnraisableHookArgs") -> None:
    if not isinstance(dropped.exc_value, Stopped):
        report(dropped)
