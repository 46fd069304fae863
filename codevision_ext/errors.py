"""Defines the errors that this package raises, and says when they are raised.

A bad rollout is data, not a crash. Model code that fails, times out or returns no image is an `ExecStatus`. A
malformed call is an observation. A wrong answer is a score.

Errors are for faults of ours and of the user's input: a dead sandbox, a missing file, an unknown setting. An error is
never turned into a score. A fault during one rollout makes that rollout invalid. A fault of the input ends the command
with one sentence.
"""


class CodeVisionError(Exception):
    """The base class of every error that this package raises on purpose."""


class InputError(CodeVisionError):
    """A file, row, field or setting of the user is wrong; the message names it and says what to change."""


class InfraError(CodeVisionError):
    """Something of ours broke while a rollout ran. The rollout is invalid, not wrong."""


class SandboxError(InfraError):
    """The sandbox can't start, or died and couldn't be restarted."""


class JudgeError(InfraError):
    """The judge can't be reached, refuses the request, or answers with something that isn't a chat completion."""


class EngineError(InfraError):
    """The rollout engine returned something that can't be trusted (token count, weight names, a dead port)."""


class CollapseError(CodeVisionError):
    """The policy collapsed, and the setting `codevision.watch.stop` ends the run; the message names the numbers."""


class CompatError(CodeVisionError):
    """The installed library isn't the one that a patch was written for; the message names the file and lines."""


def first_line(error: BaseException | str) -> str:
    """Returns the first line of a message that isn't blank, or the error's type where the message is empty."""
    return _lines(error)[0]


def last_line(error: BaseException | str) -> str:
    """Returns the last line of a message that isn't blank; it names the cause where the message is a traceback."""
    return _lines(error)[-1]


def _lines(error: BaseException | str) -> list[str]:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines or [type(error).__name__ if isinstance(error, BaseException) else "no message"]
