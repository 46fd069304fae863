"""Reads the log and the metrics of a running stage: steps, last numbers, last error."""

import json
import os
import re
import statistics
from pathlib import Path
from typing import Any

from codevision_ext.errors import InfraError
from codevision_ext.report.curves import read_metrics

_TAIL_BYTES = 65_536
"""Number of bytes that are read from the end of a log."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX = re.compile(r"^\([^)]*pid=\d+[^)]*\) |^\[rank\d+\]: ")
"""Prefix that Ray or torchrun writes before a line."""
_OURS = re.compile(r"(?:codevision_ext\.errors\.\w+|^codevision|^data_prep): (?P<message>.+)")
_ANY = re.compile(r"^(?P<message>[\w.]*(?:Error|Exception|Exit|Killed)\w*: .+)")
_RAYS = re.compile(r"^\[[\d-]+ [\d:,]+ [EF] \d+ \d+\] (?:\([^)]*\) )?\S+: (?P<message>.+)")
"""Lines of Ray's own processes at ERROR and FATAL."""
_STEPS = re.compile(
    r"(?:Training Progress|Epoch (\d+)/(\d+)):[^\r\n]*?\| (\d+)/(\d+) \[" r"|^\[(\d+)/(\d+)\] [^:\n]+: (\d+)/(\d+)",
    re.MULTILINE,
)
"""verl's progress bars, and the lines of `progress.Stages`."""
_HINTS = {
    "timed out during startup": "Ray has 30 s to start, and the machine was too busy; the same command goes on",
    "ActorUnavailableError|ActorDiedError|RaySystemError|connect to GCS": "Ray died; the same command goes on",
}
"""Hint by a pattern of the error's message."""


def last_error(log: str) -> str:
    """Return the last error in a log, ours before Python's before Ray's; empty when there is none."""
    lines = [_PREFIX.sub("", line).strip() for line in _COLOUR.sub("", log).splitlines()]
    for pattern in (_OURS, _ANY, _RAYS):
        for line in reversed(lines):
            if match := pattern.search(line):
                return match["message"].strip()
    return ""


def failure_reason(log: str, status: int) -> str:
    """Return the reason for a stage's exit status other than 0, with a hint if there is one."""
    message = last_error(log) if status > 0 else ""
    signal = -status if status < 0 else status - 128  # as bash tells it
    if not message and signal > 0:
        return f"it was ended by signal {signal}" + (", perhaps for want of memory" if signal == 9 else "")
    hint = next((f" ({hint})" for known, hint in _HINTS.items() if re.search(known, message)), "")
    return (message or f"exit status {status}").rstrip(".") + hint


def steps_done(log: str) -> tuple[int, int] | None:
    """Return steps done and all steps, from the last progress line of a log; None before the first."""
    match = None
    for match in _STEPS.finditer(log):  # noqa: B007  the last one counts
        pass
    if match is None:
        return None
    numbers = match.groups()
    part, parts, step, steps = (int(number or 1) for number in (numbers[:4] if numbers[3] else numbers[4:]))
    return (part - 1) * steps + step, parts * steps


def last_metrics(path: Path) -> dict[str, Any]:
    """Return the numbers of the last complete line of verl's file logger; empty before the first line."""
    lines = [line for line in tail(path).split("\n")[:-1] if line.startswith('{"step"')]
    return dict(json.loads(lines[-1])["data"]) if lines else {}


def median_step_s(path: Path) -> float:
    """Return the median seconds of a training step without the first, which warms up.

    Raises:
        InfraError: fewer than two steps were timed.
        InputError: a line isn't one of verl's file logger; names it.
    """
    times = list(read_metrics(path).get("timing_s/step", {}).values()) if path.exists() else []
    if len(times) < 2:
        raise InfraError(f"{path}: {len(times)} steps were timed, at least two are needed")
    return float(statistics.median(times[1:]))


def tail(path: Path, start: int = 0) -> str:
    """Return the end of a file, empty if there is none, from byte `start` at the earliest."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
