"""Ends a command that is told to stop: SIGINT, SIGTERM and SIGHUP become an exception, one sentence and exit code 130.

Imports nothing slow, so that a command can be stopped in this way from its first import on.
"""

import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Never, TypeVar

T = TypeVar("T")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOPPED: Final = 130
"""Exit code of a stopped command; typer, too, ends a command with it that a KeyboardInterrupt reaches."""


_AGAIN_S: Final = 0.01
"""Wait before a signal is repeated whose exception was lost."""


class Stopped(KeyboardInterrupt):
    """Raised in the main thread by a signal.

    A plain KeyboardInterrupt would do harm: once it passes a string that is executed, as an import does for each named
    tuple and dataclass, CPython remembers it and ends `python -m` by SIGINT, exit code -2, even if it is caught later.
    """


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
    sys.unraisablehook = partial(_repeat, report)
    try:
        yield
    except _Ended:
        raise
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code != _STOPPED:
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

        def cancel(number: int, frame: object) -> None:
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


def _stop(number: int, frame: object) -> Never:  # noqa: ARG001  Python passes it
    raise Stopped(number)


def _repeat(report: Callable[["sys.UnraisableHookArgs"], object], lost: "sys.UnraisableHookArgs") -> None:
    """Raise `Stopped` again if Python dropped it, as it does in callbacks of weak references (every import has one)."""
    if isinstance(lost.exc_value, Stopped):
        repeated = (threading.main_thread().ident, lost.exc_value.args[0])
        threading.Timer(_AGAIN_S, signal.pthread_kill, repeated).start()
    else:
        report(lost)
