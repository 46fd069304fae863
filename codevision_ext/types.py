"""Defines the frozen value types that all other modules compute on; it does no I/O and needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple


class Box(NamedTuple):
    """A rectangle in pixels, x to the right and y down; `x2` and `y2` are exclusive."""

    x1: float
    y1: float
    x2: float
    y2: float


class Orientation(StrEnum):
    """Orientation of an image relative to its input image: one of the eight elements of the group D4.

    `r90` is 90 degrees **counter-clockwise** (PIL `rotate(90, expand=True)`, `np.rot90(k=1)`). `fh` mirrors left-right,
    `fv` mirrors top-bottom. `transpose` swaps rows and columns, `transverse` mirrors about the other diagonal.
    """

    ID = "id"
    R90 = "r90"
    R180 = "r180"
    R270 = "r270"
    FH = "fh"
    FV = "fv"
    TRANSPOSE = "transpose"
    TRANSVERSE = "transverse"


class ModelPart(StrEnum):
    """Parts of a model that training can leave as they are (`codevision.freeze`)."""

    VISUAL = "visual"
    """Vision tower without the layers that lead to the language model."""
    PROJECTOR = "projector"
    """Layers between vision tower and language model: `merger`, and Qwen3-VL's `deepstack_merger_list`."""


class CoordinateSystem(StrEnum):
    """The coordinate system in which a model writes. Its code gets every image at full resolution in any case."""

    SEEN = "seen"
    """Pixels of the image as the model saw it, after it was resized to the model's patches (Qwen2.5-VL)."""
    RELATIVE = "relative"
    """Numbers from 0 to 1000 along each side (Qwen3-VL)."""
    ORIGINAL = "original"
    """Pixels of the image at full resolution, as the code gets it."""


BOX_FRAMES: Final = ("input", "canonical", str(CoordinateSystem.RELATIVE))
"""Values of a row's `box_frame`. `seen` is not among them: a row doesn't know the model's resized image."""


class AnswerKind(StrEnum):
    """Kind of a row's answer, which decides how it is compared with the references (`extra_info.answer_kind`)."""

    TEXT = "text"
    """Words, a number, a formula or a choice: compared by rules, then by the judge."""
    COORDINATES = "coordinates"
    """Places on the first image, in pixels of the stored image: compared by distance, each place alone."""


class ExecStatus(StrEnum):
    """Result of one execution of model-written code."""

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
    """Result of reading an assistant turn for a tool call."""

    NONE = "none"
    OK = "ok"
    BAD_JSON = "bad_json"
    BAD_BLOCK = "bad_block"
    UNKNOWN_TOOL = "unknown_tool"
    BAD_ARGUMENTS = "bad_arguments"
    BAD_INDEX = "bad_index"


class EndReason(StrEnum):
    """The reason why a rollout ended."""

    ANSWER = "answer"
    TURN_CAP = "turn_cap"
    LENGTH = "length"
    MALFORMED = "malformed"
    INFRA = "infra"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedImage:
    """An image that a tool call added, with its provenance; the fields have the meaning of those of `Step`."""

    ops: tuple[str, ...] = ()
    crops: tuple[Box, ...] = ()
    node: int
    parent: int | None = None
    net: Orientation | None = None
    region: Box | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One tool call as it was executed. Fields of its provenance are None if the provenance is unknown."""

    ok: bool
    """True if the execution ended as `ok`."""
    ops: tuple[str, ...] = ()
    """Names of the operations that the code applied to the image, in order (`rotate_270`, `crop`, `contrast_up`)."""
    crops: tuple[Box, ...] = ()
    """Boxes that were cut out, in pixels of the image that the code got."""
    node: int | None = None
    """Index of the image that this step added; the task's images come first, from 0. None: no image was added."""
    parent: int | None = None
    """Index of the image that this step's image was made from."""
    net: Orientation | None = None
    """Orientation of the image `node` relative to the input image."""
    region: Box | None = None
    """Visible part of the image `node`, in pixels of the **input** image."""
    noop: bool = False
    """True if the output equals the image `parent`, pixel for pixel."""
    status: ExecStatus | None = None
    isolation: str | None = None
    """Isolation of the code, one of `sandbox.protocol.Isolation`; None: unknown."""
    faithful: float | None = None
    """Score of a step judge in [0, 1]: the call does what the text says, and its result is used. None: not judged."""
    further: tuple[AddedImage, ...] = ()
    """Further images of the call, in order; the reward reads the first image only."""

    @classmethod
    def with_images(cls, images: Sequence[AddedImage], *, status: ExecStatus, isolation: str | None = None) -> "Step":
        """Returns the step of a successful call that added these images, at least one."""
        first, *further = images
        return cls(
            ok=True,
            ops=first.ops,
            crops=first.crops,
            node=first.node,
            parent=first.parent,
            net=first.net,
            region=first.region,
            status=status,
            isolation=isolation,
            further=tuple(further),
        )

    @property
    def images(self) -> tuple[AddedImage, ...]:
        """Every image that the call added, in order."""
        if self.node is None:
            return ()
        first = AddedImage(
            ops=self.ops, crops=self.crops, node=self.node, parent=self.parent, net=self.net, region=self.region
        )
        return (first, *self.further)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The part of a data row that the reward reads."""

    applied: tuple[str, ...] = ()
    """Operations that were applied to the image; a solver must perform their inverses."""
    box: Box | None = None
    """Part of the image that answers the question, in the coordinates `box_frame`; None: not given."""
    box_frame: str = "input"
    """Coordinates of `box`: `input` is pixels of the input image, `canonical` pixels of the image before `applied`."""
    size: tuple[int, int] | None = None
    """Width and height of the input image, pixels."""
    drawing: Mapping[str, Any] | None = None
    """Target of the drawing that the row asks for, in pixels of the input image, in the form of
    `extra_info.drawing`. None: no drawing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingScore:
    """The verdict of the drawing verifier on a rollout: on the last image that the model handed back.

    Shares are in [0, 1]. All of them are 0 if there is no image, or if the input isn't found in it.
    """

    correct: bool | None
    """True if the drawing is right; None if the input isn't found in the image."""
    f1: float
    """Harmonic mean of mean recall and precision; 0 for a drawing with foreign marks or a changed input."""
    recall: tuple[float, ...]
    """Share of each primitive that is drawn, in the order of the target."""
    precision: float
    """Share of the ink that belongs to a primitive."""
    preserved: float
    """Share of the input outside of the drawing that is unchanged."""
    reason: str
    """Text: `right`, or what is wrong with the drawing."""
    node: int | None = None
    """Index of the image that was judged; None: the model handed no image back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The part of a finished rollout that the reward reads."""

    correct: bool
    format: float
    """Format score in [0, 1]; 1: every turn keeps the format."""
    valid: bool = True
    """False: engine, sandbox or judge failed, and the rollout is left out of statistics and loss."""
    end_reason: EndReason = EndReason.ANSWER
    steps: tuple[Step, ...] = ()
    undecided: bool = False
    """True if no rule decides the answer and no judge was asked about it; `correct` is False then."""
    answer_share: float | None = None
    """Share of the places that the answer names rightly, in [0, 1]; `correct` is True at 1. None: not coordinates."""
    drawn: DrawingScore | None = None
    """Verdict on the drawing; None where the row asks for no drawing."""
    consistent: float | None = None
    """Score of a judge in [0, 1]: the end of the thought leads to the answer. None: not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict of a judge on one answer, and which judge gave it."""

    score: float | None
    """1: the answer means the same as a reference; 0: it doesn't; None: the judge abstained or wrote no verdict."""
    model: str
    """Id of the judge's model."""
    prompt: str
    """Name of the prompt: `general`, `ocr`, `math`, `chart`, ..."""
    prompt_sha256: str
    """SHA-256 of the prompt's files, hexadecimal."""
    reply: str = ""
    """End of the judge's reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A finished rollout, as the reward reads it."""

    group: str
    """Id of the group; all rollouts of a group answer the same prompt."""
    id: str
    task: Task
    observed: Outcome
    step: int | None = None
    """Training step, from 1; None in an evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A well-formed call of the code tool."""

    code: str
    description: str = ""
    image_index: int = 0
    """Index of the image that the code finds as `image`: the task's images first, then those that calls made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TermScore:
    """The score of one term of the reward; `contribution` is `raw * weight`."""

    raw: float
    weight: float
    contribution: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The reward of one rollout, by term; the contributions sum to `reward`."""

    reward: float
    """Reward of the rollout; NaN where `valid` is False, so that no sum includes it unnoticed."""
    terms: dict[str, TermScore] = field(default_factory=dict)
    """Scores by name of the term; all rollouts of a run have the same names."""
    valid: bool = True
    """False: engine, sandbox or judge failed. The rollout is left out of statistics and loss, and counted as invalid.

    Its raw values and contributions are NaN.
    """
