"""Defines the row types, Row and Demonstration, and the parquet schemas that they are written in."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

from codevision_ext import geometry
from codevision_ext.task.row_checks import IMAGE_TAG as IMAGE_TAG
from codevision_ext.types import Box, Orientation


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One task: an image as the model gets it, a question, and the ops that were applied to the image."""

    images: tuple[bytes, ...]
    """PNG, JPEG or WebP files."""
    question: str
    answers: tuple[str, ...]
    """Right answers; any one of them is enough."""
    source: str
    split: str
    index: int
    size: tuple[int, int] = (0, 0)
    """Width and height of the input image in pixels; (0, 0) before the image is read."""
    applied: tuple[str, ...] = ()
    """Canonical names of the ops that were applied to the image, in the order of CodeVision-RL: `crop` first."""
    box: Box | None = None
    """Place of the answer, in pixels of `box_frame`."""
    box_frame: str = "input"
    benchmark: str = ""
    """Name of the suite whose rule scores the row; empty for the rules of training."""
    rule_fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the benchmark's record that its rule reads, such as `Year` and `Question Type` of ChartQAPro."""
    column: str | None = None
    """Column of the transformed benchmark that the row belongs to; None for other rows."""
    ability: str = "reading"
    system: str = ""
    """System message; empty if the recipe adds its own."""
    prompt: str | None = None
    """User message with its tags; None for a tag per image, then the question."""
    paths: tuple[str | None, ...] = ()
    """Paths that the images were read from; empty for drawn images."""
    licence: str = ""
    changes: tuple[str, ...] = ()
    """Changes that made the row usable: `exif_6`, `box_clipped`, .."""
    picture_id: str = ""
    """Id that all rows of one image share, however it is turned; empty if unknown."""
    benefit: tuple[float, ...] | None = None
    """Accuracy of a measured model with the tool minus without: value, low and high end of the 95 % interval."""


class SampleType(StrEnum):
    """The sample types of CodeVision-SFT, and `read`: reading without a tool in the system message."""

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
    """Whether SFT learns an assistant's message; None: it does, and nobody said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """One demonstration for SFT: alternating turns, and the images that they show, in order."""

    messages: tuple[Message, ...]
    images: tuple[bytes, ...]
    """PNG, JPEG or WebP files, as many as there are `<image>` tags."""
    sample_type: str
    tools: str = ""
    """JSON list of the tool schemas in the system message; empty for none."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[str | None, ...] = ()
    """Paths that the images were read from; empty for drawn images."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a sharegpt item that `to_sharegpt` would leave out or write in another way; None for a field that the
    item lacks and `to_sharegpt` would add."""
    source: str = ""
    licence: str = ""
    changes: tuple[str, ...] = ()
    """Changes that made the row usable: `exif_6`, .."""


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
"""Schema that verl's multi-turn SFT dataset reads; `tools` and `metadata` are JSON for lack of a fixed shape."""

CONVERTED_RL_SCHEMA = _rl_schema(
    [
        *_EXTRA_INFO,
        *_HISTORY,
        ("picture_id", _TEXT),
        ("benefit", pa.list_(pa.float64())),
        ("benchmark", _TEXT),
        ("rule_fields", _TEXT),
    ]
)
"""RL_SCHEMA with the origin of the row, the benefit of the tool and what a benchmark's rule reads (JSON)."""

CONVERTED_SFT_SCHEMA = pa.schema(
    [*SFT_SCHEMA, *(pa.field(*each) for each in (("extra", _TEXT), ("source", _TEXT), *_HISTORY))]
)
"""SFT_SCHEMA with the origin of the row and other fields of its sharegpt item (`extra` is JSON)."""


def rl_record(row: Row) -> dict[str, Any]:
    """Return a row in CONVERTED_RL_SCHEMA; `transform` is null if no op was applied.

    A row without a system message has a user message only: the recipe adds its system message.
    """
    return {
        "data_source": row.source,
        "prompt": rl_messages(row),
        "images": _images(row.images, row.paths),
        "ability": row.ability,
        "reward_model": {"style": "rule", "ground_truth": list(row.answers)},
        "extra_info": {
            "answer": row.answers[0],
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
    """Return the user message: the row's prompt, else a tag per image, then the question."""
    return f"{IMAGE_TAG}\n" * len(row.images) + row.question if row.prompt is None else row.prompt


def applied_orientation(ops: Iterable[str]) -> Orientation:
    """Return the orientation that ops give to an upright image; ops that don't turn it, such as crop, are skipped."""
    return geometry.compose_all(geometry.ORIENTATION_OPS[op] for op in ops if op in geometry.ORIENTATION_OPS)


def _images(images: tuple[bytes, ...], paths: tuple[str | None, ...]) -> list[dict[str, Any]]:
    return [{"bytes": data, "path": path} for data, path in zip(images, paths or (None,) * len(images), strict=True)]
