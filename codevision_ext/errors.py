"""Every error this package raises, and the rule behind them.

A bad rollout is data, not a crash: model code that fails, times out or returns no image is an
`ExecStatus`, a malformed call is an observation, a wrong answer is a score. What is raised is a fault
of ours or of the user's input: a dead sandbox, a missing file, an unknown setting. Such an error is
never turned into a score. A fault during one rollout makes that rollout invalid; a fault of the input
ends the command with one sentence.
"""


class CodeVisionError(Exception):
    """The root of the tree: catch this to catch everything that this package raises on purpose."""


class InputError(CodeVisionError):
    """The user's file, row, field or setting is wrong; the message names it and says what to change."""


class InfraError(CodeVisionError):
    """Something of ours broke while a rollout ran; the rollout is invalid, never wrong."""


class SandboxError(InfraError):
    """The sandbox can't start, or died and could not be restarted."""


class JudgeError(InfraError):
    """The judge can't be reached, refuses the request, or answers with something that isn't a chat completion."""


class EngineError(InfraError):
    """The rollout engine returned something that can't be trusted (token count, weight names, a dead port)."""


class CollapseError(CodeVisionError):
    """The policy collapsed, and `codevision.watch.stop` ends the run there; the message says what was seen."""


class CompatError(CodeVisionError):
    """The installed verl isn't the one a patch was written for; the message names the file and lines."""


def first_line(error: BaseException | str) -> str:
    """Return the first line of a message that isn't blank; for an error without a message the name of its type."""
    return _lines(error)[0]


def last_line(error: BaseException | str) -> str:
    """Return the last line of a message that isn't blank, which names the cause where a traceback comes first."""
    return _lines(error)[-1]


def _lines(error: BaseException | str) -> list[str]:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines or [type(error).__name__ if isinstance(error, BaseException) else "no message"]
