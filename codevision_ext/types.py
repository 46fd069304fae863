"""The frozen values that everything else computes on; no I/O, no torch."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple


class Box(NamedTuple):
    """A rectangle in pixels, x to the right and y down; `x2` and `y2` are exclusive."""

    x1: float
    y1: float
    x2: float
    y2: float


class Orientation(StrEnum):
    """The eight elements of D4: what was done to the input image to get this one.

    `r90` is 90 degrees **counter-clockwise** (PIL `rotate(90, expand=True)`, `np.rot90(k=1)`), `fh` mirrors left-right,
    `fv` top-bottom, `transpose` swaps rows and columns, `transverse` does so about the other diagonal.
    """

    ID = "id"
    R90 = "r90"
    R180 = "r180"
    R270 = "r270"
    FH = "fh"
    FV = "fv"
    TRANSPOSE = "transpose"
    TRANSVERSE = "transverse"


class CoordinateSystem(StrEnum):
    """The coordinates in which a model writes; its code gets every image at full resolution all the same."""

    SEEN = "seen"
    """Pixels of the image as the model saw it, after it was resized to the model's patches (Qwen2.5-VL)."""
    RELATIVE = "relative"
    """From 0 to 1000 along each side (Qwen3-VL)."""
    ORIGINAL = "original"
    """Pixels of the image that the code gets."""


BOX_FRAMES: Final = ("input", "canonical", str(CoordinateSystem.RELATIVE))
"""What a row's box may be told in; what a model sees of an image no row can know."""


class ExecStatus(StrEnum):
    """How one execution of model-written code ended."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    DENIED = "denied"
    NO_IMAGE = "no_image"
    BAD_IMAGE = "bad_image"
    TOO_LONG = "too_long"
    CRASHED = "crashed"


class CallStatus(StrEnum):
    """What was found when the text of an assistant turn was read for a tool call."""

    NONE = "none"
    OK = "ok"
    BAD_JSON = "bad_json"
    UNKNOWN_TOOL = "unknown_tool"
    BAD_ARGUMENTS = "bad_arguments"
    BAD_INDEX = "bad_index"


class EndReason(StrEnum):
    """Why a rollout ended."""

    ANSWER = "answer"
    TURN_CAP = "turn_cap"
    LENGTH = "length"
    MALFORMED = "malformed"
    INFRA = "infra"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One tool call as it was executed; the provenance part is None where it is unknown."""

    ok: bool
    ops: tuple[str, ...] = ()
    """Canonical names of what was done, in order (`rotate_270`, `crop`, `contrast_up`, ...)."""
    crops: tuple[Box, ...] = ()
    """Boxes cut out, in pixels of the image that the code got."""
    node: int | None = None
    """Index of the image this step added: 0..k-1 are the task's own; None where none was added."""
    parent: int | None = None
    net: Orientation | None = None
    """Orientation of the node relative to its input image."""
    region: Box | None = None
    """Visible part in pixels of the **input** image."""
    noop: bool = False
    """The output equals its parent, pixel for pixel."""
    status: ExecStatus | None = None
    isolation: str | None = None
    """What the code ran behind (`sandbox.protocol.Isolation`); None: it isn't known."""
    faithful: float | None = None
    """What a step judge gave: is the call what the text says, and is its result used? In [0, 1]; None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the reward knows of a data row."""

    applied: tuple[str, ...] = ()
    """Ops that were applied to the image; a solver must perform their inverses."""
    box: Box | None = None
    box_frame: str = "input"
    """`input`: pixels of the image as given to the model; `canonical`: before `applied`."""
    size: tuple[int, int] | None = None
    """Width and height of the input image, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened in a rollout, as far as the reward reads it."""

    correct: bool
    format: float
    """In [0, 1]."""
    valid: bool = True
    """Validity; False: something of ours failed, and the rollout is left out of statistics and loss."""
    end_reason: EndReason = EndReason.ANSWER
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge said of one answer, and which judge it was."""

    score: float | None
    """1: says the same as a reference; 0: doesn't; None: the judge abstained, or what it wrote is no verdict."""
    model: str
    """The model id that the judge was asked under."""
    prompt: str
    """Name of the prompt: `general`, `ocr`, `math`, `chart`, ..."""
    prompt_sha256: str
    """Of everything in the prompt's files, hexadecimal; changes when a word of them does."""
    reply: str = ""
    """The end of what the judge wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One trajectory of a prompt; all rollouts with the same `group` answer the same prompt."""

    group: str
    id: str
    task: Task
    observed: Outcome
    step: int | None = None
    """Training step, from 1; None for an evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A well-formed call of the code tool."""

    code: str
    description: str = ""
    image_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TermScore:
    """One term of the reward: `contribution` is `raw * weight`."""

    raw: float
    weight: float
    contribution: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The reward of one rollout and where it came from; contributions sum to `reward`."""

    reward: float
    """NaN where `valid` is False, so that an unguarded sum shows it."""
    terms: dict[str, TermScore] = field(default_factory=dict)
    """The same names in every rollout of a run."""
    valid: bool = True
    """False: something of ours failed. The rollout is left out of statistics and loss, and counted as invalid.

    Its raw values and contributions are NaN.
    """
