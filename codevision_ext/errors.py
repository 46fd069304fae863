"""Defines the errors that this package raises, and says when they are raised.

A bad rollout is data, not a crash. Model code that fails, times out or returns no image is an `ExecStatus`. A
malformed call is an observation. A wrong answer is a score.

Errors are for faults of ours and of the user's input: a dead sandbox, a missing file, an unknown setting. An error is
never turned into a score. A fault during one rollout makes that rollout invalid. A fault of the input ends the command
with one sentence.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pydantic import ValidationError

_PLAIN: Final = {"str": "a string", "int": "a whole number", "float": "a number", "bool": "true or false"}
_UNKNOWN: Final = ("extra_forbidden", "unexpected_keyword_argument")


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


class TooLongError(EngineError):
    """The conversation is longer than the model's context."""


class CollapseError(CodeVisionError):
    """The policy collapsed, and the setting `codevision.watch.stop` ends the run; the message names the numbers."""


class CompatError(CodeVisionError):
    """The installed library isn't the one that a patch was written for; the message names the file and lines."""


def first_problem(error: "ValidationError", known: Iterable[str] = ()) -> tuple[str, str]:
    """Return the first field that pydantic refuses and what is wrong with it; `a.b`, empty for the whole value.

    `known` are the names that are listed where the field is an unknown setting.
    """
    first, *others = error.errors(include_url=False)
    kind, value, problem = first["type"], first["input"], first["msg"].removeprefix("Value error, ")
    place = list(first["loc"])
    if kind == "missing":
        problem = "is missing"
    elif kind.startswith("union_tag"):  # the field that says which of several types an object has
        context = first["ctx"]
        place.append(context["discriminator"].strip("'"))
        known_tags = context.get("expected_tags")
        problem = f"must be one of {known_tags}, it is {context['tag']!r}" if known_tags else "is missing"
    elif kind in _UNKNOWN:
        names = ", ".join(known)
        problem = f"unknown setting; known are {names}" if names else "isn't known"
    elif others and place[-1] in _PLAIN and others[0]["loc"][:-1] == first["loc"][:-1]:  # a union of plain types
        types = [place.pop(), *(other["loc"][-1] for other in others if other["loc"][:-1] == first["loc"][:-1])]
        problem = f"must be {' or '.join(_PLAIN.get(str(name), str(name)) for name in types)}, it is {value!r}"
    elif kind in ("too_long", "too_short") and first["ctx"].get("field_type") == "Tuple":
        limit = first["ctx"].get("max_length", first["ctx"].get("min_length"))
        problem = f"must have {limit} items, it has {first['ctx']['actual_length']}"
    elif kind != "value_error" and isinstance(value, str | int | float):
        problem = f"{problem}, it is {value!r}"
    problem = problem.replace("Input should be", "must be")
    return ".".join(map(str, place)), problem[:1].lower() + problem[1:]


def first_line(error: BaseException | str) -> str:
    """Returns the first line of a message that isn't blank, or the error's type where the message is empty."""
    return _lines(error)[0]


def last_line(error: BaseException | str) -> str:
    """Returns the last line of a message that isn't blank; it names the cause where the message is a traceback."""
    return _lines(error)[-1]


def _lines(error: BaseException | str) -> list[str]:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines or [type(error).__name__ if isinstance(error, BaseException) else "no message"]
