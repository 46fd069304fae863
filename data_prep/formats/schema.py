"""The one row type inside, and the parquet schemas it leaves in (CodeVision-RL rows, rows for verl's SFT trainer)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

from codevision_ext.types import Box

IMAGE_TAG = "<image>"
"""Stands for one image in a text; the images of a row are taken in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One task: an image as the model gets it, a question, and what was done to the image."""

    images: tuple[bytes, ...]
    """PNG, JPEG or WebP files."""
    question: str
    answers: tuple[str, ...]
    """Any of them is right."""
    source: str
    split: str
    index: int
    size: tuple[int, int]
    """Width and height of the input image, pixels."""
    applied: tuple[str, ...] = ()
    """Canonical names of what was applied to the image, in the order of CodeVision-RL: `crop` first."""
    box: Box | None = None
    """Where the answer stands, pixels of `box_frame`."""
    box_frame: str = "input"
    column: str | None = None
    """Column of the transformed benchmark this row belongs to; None outside of it."""
    ability: str = "reading"
    system: str = ""
    """System message; empty where the recipe adds its own."""
    prompt: str | None = None
    """What the user says, tags included, where it isn't the tags and the question."""
    paths: tuple[str | None, ...] = ()
    """Where the images were found; empty where they were drawn."""
    licence: str = ""
    changes: tuple[str, ...] = ()
    """What was done to make the row usable: `exif_6`, `box_clipped`, ..."""
    picture_id: str = ""
    """The same for all rows made from one image, however it is turned; empty where it isn't known."""
    benefit: tuple[float, ...] | None = None
    """What the tool adds to the accuracy of the model that was measured: value, low and high end of the interval."""


class SampleType(StrEnum):
    """The sample types of CodeVision-SFT, and `read`: what is seen, no tool in sight."""

    READ = "read"
    NO_TOOL = "no-tool"
    SINGLE_TOOL = "single-tool"
    MULTI_TOOL = "multi-tool"
    MULTI_CROP = "multi-crop"
    ERROR_HANDLING = "error-handling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn: role is system (first), user, assistant or tool; each `<image>` in it takes the next image."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """One demonstration for SFT: alternating turns and the images they show, in order."""

    messages: tuple[Message, ...]
    images: tuple[bytes, ...]
    """PNG, JPEG or WebP files, as many as there are `<image>` tags."""
    sample_type: str
    tools: str = ""
    """JSON list of the tool schemas the model is told of; empty where it has no tool."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[str | None, ...] = ()
    """Where the images were found; empty where they were drawn."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a sharegpt item that ours wouldn't have, or would write in another way; None: a field it lacks."""
    source: str = ""
    licence: str = ""
    changes: tuple[str, ...] = ()
    """What was done to make the row usable: `exif_6`, ..."""


_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_IMAGES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", _TEXT)]))
_MESSAGES = pa.list_(pa.struct([("role", _TEXT), ("content", _TEXT)]))

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
"""CodeVision-RL, with one type per column (its own files differ), plus box_frame, column and size."""

SFT_SCHEMA = pa.schema(
    [("messages", _MESSAGES), ("images", _IMAGES), ("tools", _TEXT), ("sample_type", _TEXT), ("metadata", _TEXT)]
)
"""What verl's multi-turn SFT dataset reads; `tools` and `metadata` are JSON texts, Arrow can't hold their shapes."""

CONVERTED_RL_SCHEMA = _rl_schema([*_EXTRA_INFO, *_HISTORY, ("picture_id", _TEXT), ("benefit", pa.list_(pa.float64()))])
"""RL_SCHEMA and where the row comes from."""

CONVERTED_SFT_SCHEMA = pa.schema(
    [*SFT_SCHEMA, *(pa.field(*each) for each in (("extra", _TEXT), ("source", _TEXT), *_HISTORY))]
)
"""SFT_SCHEMA, where the row comes from, and what a sharegpt item has beside it (`extra` is a JSON text)."""


def rl_record(row: Row) -> dict[str, Any]:
    """The row in CONVERTED_RL_SCHEMA; untouched images have transform null.

    Without a system message of its own it has a user message only: the recipe adds its system message.
    """
    system = [{"role": "system", "content": row.system}] if row.system else []
    return {
        "data_source": row.source,
        "prompt": [*system, {"role": "user", "content": user_text(row)}],
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
        },
    }


def sft_record(trajectory: Demonstration) -> dict[str, Any]:
    """The trajectory in CONVERTED_SFT_SCHEMA."""
    return {
        "messages": [{"role": message.role, "content": message.content} for message in trajectory.messages],
        "images": _images(trajectory.images, trajectory.paths),
        "tools": trajectory.tools,
        "sample_type": trajectory.sample_type,
        "metadata": json.dumps(trajectory.metadata, sort_keys=True),
        "extra": json.dumps(trajectory.extra, ensure_ascii=False) if trajectory.extra else None,
        "source": trajectory.source or None,
        "licence": trajectory.licence or None,
        "changes": list(trajectory.changes) or None,
    }


def user_text(row: Row) -> str:
    """What the user says: a tag per image, then the question, unless the row has words of its own."""
    return f"{IMAGE_TAG}\n" * len(row.images) + row.question if row.prompt is None else row.prompt


def _images(images: tuple[bytes, ...], paths: tuple[str | None, ...]) -> list[dict[str, Any]]:
    return [{"bytes": data, "path": path} for data, path in zip(images, paths or (None,) * len(images), strict=True)]
