"""Defines the row types, Row and Demonstration, and their parquet schemas."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

from codevision_ext import geometry
from codevision_ext.drawing import DrawingTarget
from codevision_ext.task.drawings import drawing_text
from codevision_ext.task.row_checks import IMAGE_TAG as IMAGE_TAG
from codevision_ext.types import AnswerKind, Box, Orientation


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One task: an image as the model gets it, a question, and the ops that were applied to the image."""

    images: tuple[bytes, ...]
    """PNG, JPEG or WebP files."""
    question: str
    answers: tuple[str, ...]
    """Right answers; a rollout needs one of them. Empty if the answer is the drawing."""
    answer_kind: AnswerKind = AnswerKind.TEXT
    source: str
    split: str
    index: int
    size: tuple[int, int] = (0, 0)
    """Width and height of the input image in pixels; (0, 0) before the image is read."""
    applied: tuple[str, ...] = ()
    """Canonical names of the ops that were applied to the image, in the order of CodeVision-RL: `crop` first."""
    box: Box | None = None
    """Box of the answer, in pixels of `box_frame`."""
    box_frame: str = "input"
    drawing: DrawingTarget | None = None
    """Drawing that the row asks for, in pixels of the input image."""
    benchmark: str = ""
    """Name of the suite whose rule scores the row; empty for the rules of training."""
    rule_fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the benchmark's record for its scoring rule, such as `Year` and `Question Type` of ChartQAPro."""
    column: str | None = None
    """Column of the row in the transformed benchmark; None for other rows."""
    ability: str = "reading"
    system: str = ""
    """System message; empty if the recipe adds its own."""
    prompt: str | None = None
    """User message with its tags; None: one tag per image, then the question."""
    paths: tuple[str | None, ...] = ()
    """Paths of the image files; empty for generated images."""
    licence: str = ""
    changes: tuple[str, ...] = ()
    """Corrections of the row, such as `exif_6` or `box_clipped`."""
    picture_id: str = ""
    """Id that all rows of one image share, in any orientation; empty if unknown."""
    benefit: tuple[float, ...] | None = None
    """Accuracy of a model with the tool minus accuracy without: value, low and high end of the 95 % interval."""
    edited_image: bytes = b""
    """Published image with the drawing that solves the task, an image file; empty for none."""
    codes: tuple[str, ...] = ()
    """Published blocks of code, in order: those that draw on the image, or the one that drew the image itself."""
    elements: tuple[str, ...] = ()
    """Published descriptions of the elements in the image."""


class SampleType(StrEnum):
    """Sample types of CodeVision-SFT, and `read` for answers without a tool in the system message."""

    READ = "read"
    NO_TOOL = "no-tool"
    SINGLE_TOOL = "single-tool"
    MULTI_TOOL = "multi-tool"
    MULTI_CROP = "multi-crop"
    ERROR_HANDLING = "error-handling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message; its role is system (only first), user, assistant or tool; each `<image>` takes the next image."""

    role: str
    content: str
    train: bool | None = None
    """Whether SFT trains on an assistant's message; None: the default, true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """One demonstration for SFT: alternating turns and their images, in order."""

    messages: tuple[Message, ...]
    images: tuple[bytes, ...]
    """PNG, JPEG or WebP files, as many as there are `<image>` tags."""
    sample_type: str
    tools: str = ""
    """JSON list of the tool schemas in the system message; empty for none."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[str | None, ...] = ()
    """Paths of the image files; empty for generated images."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a sharegpt item that `to_sharegpt` would leave out or write in another way; None for a field that the
    item lacks and `to_sharegpt` would add."""
    source: str = ""
    licence: str = ""
    changes: tuple[str, ...] = ()
    """Corrections of the row, such as `exif_6`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTrajectory:
    """A trajectory whose code hasn't been run; `convert.execution` makes a demonstration of it, in any dialect."""

    images: tuple[bytes, ...]
    """Image files of the task."""
    question: str
    blocks: tuple[tuple[str, str], ...]
    """Thought and code of each block, in order; at least one block."""
    conclusion: str
    """Thought before the answer."""
    answers: tuple[str, ...]
    edited_image: bytes
    """Published image that the last block makes, an image file; empty for none."""
    column: str
    """Column of the record that the blocks stand in, for faults."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[str | None, ...] = ()
    source: str = ""


_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_IMAGES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", _TEXT)]))
_MESSAGES = pa.list_(pa.struct([("role", _TEXT), ("content", _TEXT)]))
_TURNS = pa.list_(pa.struct([("role", _TEXT), ("content", _TEXT), ("train", pa.bool_())]))

_EXTRA_INFO = [
    ("answer", _TEXT),
    ("bbox", pa.list_(pa.float64())),
    ("box_frame", _TEXT),
    ("dataset_name", _TEXT),
    ("index", pa.int64()),
    ("question", _TEXT),
    ("split", _TEXT),
    ("transform", _TEXTS),
    ("column", _TEXT),
    ("size", pa.list_(pa.int64())),
]
_HISTORY = [("licence", _TEXT), ("changes", _TEXTS)]


def _rl_schema(extra_info: list[tuple[str, pa.DataType]]) -> pa.Schema:
    return pa.schema(
        [
            ("data_source", _TEXT),
            ("prompt", _MESSAGES),
            ("images", _IMAGES),
            ("ability", _TEXT),
            ("reward_model", pa.struct([("style", _TEXT), ("ground_truth", _TEXTS)])),
            ("extra_info", pa.struct(extra_info)),
        ]
    )


RL_SCHEMA = _rl_schema(_EXTRA_INFO)
"""Schema of CodeVision-RL with one type per column (its own files differ), and box_frame, column and size."""

SFT_SCHEMA = pa.schema(
    [("messages", _TURNS), ("images", _IMAGES), ("tools", _TEXT), ("sample_type", _TEXT), ("metadata", _TEXT)]
)
"""Schema of verl's multi-turn SFT dataset; `tools` and `metadata` are JSON, because their structure varies."""

CONVERTED_RL_SCHEMA = _rl_schema(
    [
        *_EXTRA_INFO,
        *_HISTORY,
        ("picture_id", _TEXT),
        ("benefit", pa.list_(pa.float64())),
        ("benchmark", _TEXT),
        ("rule_fields", _TEXT),
        ("answer_kind", _TEXT),
        ("edited_image", pa.struct([("bytes", pa.binary()), ("path", _TEXT)])),
        ("codes", _TEXTS),
        ("elements", _TEXTS),
        ("drawing", _TEXT),
    ]
)
"""RL_SCHEMA with the origin of the row, the benefit of the tool, fields for a benchmark's rule (JSON), the kind of the
answer, the published drawing, and the target of a drawing (JSON)."""

CONVERTED_SFT_SCHEMA = pa.schema(
    [*SFT_SCHEMA, *(pa.field(*each) for each in (("extra", _TEXT), ("source", _TEXT), *_HISTORY))]
)
"""SFT_SCHEMA with the origin of the row and other fields of its sharegpt item (`extra` is JSON)."""


def rl_record(row: Row) -> dict[str, Any]:
    """Return a row in CONVERTED_RL_SCHEMA; `transform` is null if no op was applied.

    A row without a system message has only a user message; the recipe adds a system message.
    """
    return {
        "data_source": row.source,
        "prompt": rl_messages(row),
        "images": _images(row.images, row.paths),
        "ability": row.ability,
        "reward_model": {"style": "rule", "ground_truth": list(row.answers)},
        "extra_info": {
            "answer": row.answers[0] if row.answers else None,
            "bbox": None if row.box is None else [float(edge) for edge in row.box],
            "box_frame": row.box_frame,
            "dataset_name": row.source,
            "index": row.index,
            "question": row.question,
            "split": row.split,
            "transform": list(row.applied) or None,
            "column": row.column,
            "size": list(row.size),
            "licence": row.licence or None,
            "changes": list(row.changes) or None,
            "picture_id": row.picture_id or None,
            "benefit": None if row.benefit is None else list(row.benefit),
            "benchmark": row.benchmark or None,
            "rule_fields": json.dumps(row.rule_fields, ensure_ascii=False) if row.rule_fields else None,
            "answer_kind": None if row.answer_kind is AnswerKind.TEXT else row.answer_kind,
            "edited_image": {"bytes": row.edited_image, "path": None} if row.edited_image else None,
            "codes": list(row.codes) or None,
            "elements": list(row.elements) or None,
            "drawing": drawing_text(row.drawing) if row.drawing else None,
        },
    }


def sft_record(demonstration: Demonstration) -> dict[str, Any]:
    """Return a demonstration in CONVERTED_SFT_SCHEMA."""
    return {
        "messages": [asdict(message) for message in demonstration.messages],
        "images": _images(demonstration.images, demonstration.paths),
        "tools": demonstration.tools,
        "sample_type": demonstration.sample_type,
        "metadata": json.dumps(demonstration.metadata, sort_keys=True),
        "extra": json.dumps(demonstration.extra, ensure_ascii=False, default=str) if demonstration.extra else None,
        "source": demonstration.source or None,
        "licence": demonstration.licence or None,
        "changes": list(demonstration.changes) or None,
    }


def rl_messages(row: Row) -> list[dict[str, str]]:
    """Return the messages of a task: its system message, if it has one, and the user message."""
    system = [{"role": "system", "content": row.system}] if row.system else []
    return [*system, {"role": "user", "content": user_text(row)}]


def user_text(row: Row) -> str:
    """Return the user message: the row's prompt, or one tag per image and the question."""
    return f"{IMAGE_TAG}\n" * len(row.images) + row.question if row.prompt is None else row.prompt


def applied_orientation(ops: Iterable[str]) -> Orientation:
    """Return the orientation of an upright image after these ops; ops such as crop have no effect."""
    return geometry.compose_all(geometry.ORIENTATION_OPS[op] for op in ops if op in geometry.ORIENTATION_OPS)


def _images(images: tuple[bytes, ...], paths: tuple[str | None, ...]) -> list[dict[str, Any]]:
    return [{"bytes": data, "path": path} for data, path in zip(images, paths or (None,) * len(images), strict=True)]
