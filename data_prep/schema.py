"""The one row type inside, and the parquet schemas it leaves in (CodeVision-RL rows, rows for verl's SFT trainer)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from codevision_ext.types import Box

IMAGE_TAG = "<image>"
"""Stands for one picture in a text; the pictures of a row are taken in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One task: a picture as the model gets it, a question, and what was done to the picture."""

    images: tuple[bytes, ...]
    """PNG files."""
    question: str
    answers: tuple[str, ...]
    """Any of them is right."""
    source: str
    split: str
    index: int
    size: tuple[int, int]
    """Width and height of the input picture, pixels."""
    applied: tuple[str, ...] = ()
    """Canonical names of what was applied to the picture, in the order of CodeVision-RL: `crop` first."""
    box: Box | None = None
    """Where the answer stands, pixels of `box_frame`."""
    box_frame: str = "input"
    column: str | None = None
    """Column of the transformed benchmark this row belongs to; None outside of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn: role is user, assistant or tool; each `<image>` in the content takes the next picture."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One demonstration for SFT: alternating turns and the pictures they show, in order."""

    messages: tuple[Message, ...]
    images: tuple[bytes, ...]
    """PNG files, as many as there are `<image>` tags."""
    sample_type: str
    tools: str = ""
    """JSON list of the tool schemas the model is told of; empty where it has no tool."""
    metadata: Mapping[str, Any] = field(default_factory=dict)


_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_IMAGES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", _TEXT)]))
_MESSAGES = pa.list_(pa.struct([("role", _TEXT), ("content", _TEXT)]))

RL_SCHEMA = pa.schema(
    [
        ("data_source", _TEXT),
        ("prompt", _MESSAGES),
        ("images", _IMAGES),
        ("ability", _TEXT),
        ("reward_model", pa.struct([("style", _TEXT), ("ground_truth", _TEXTS)])),
        (
            "extra_info",
            pa.struct(
                [
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
            ),
        ),
    ]
)
"""CodeVision-RL, with one type per column (its own files differ), plus box_frame, column and size."""

SFT_SCHEMA = pa.schema(
    [("messages", _MESSAGES), ("images", _IMAGES), ("tools", _TEXT), ("sample_type", _TEXT), ("metadata", _TEXT)]
)
"""What verl's multi-turn SFT dataset reads; `tools` and `metadata` are JSON texts, Arrow can't hold their shapes."""


def rl_record(row: Row) -> dict[str, Any]:
    """The row in RL_SCHEMA: a user message only, the recipe adds its system message; untouched: transform null."""
    return {
        "data_source": row.source,
        "prompt": [{"role": "user", "content": user_text(row)}],
        "images": _images(row.images),
        "ability": "reading",
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
        },
    }


def sft_record(trajectory: Trajectory) -> dict[str, Any]:
    """The trajectory in SFT_SCHEMA."""
    return {
        "messages": [{"role": message.role, "content": message.content} for message in trajectory.messages],
        "images": _images(trajectory.images),
        "tools": trajectory.tools,
        "sample_type": trajectory.sample_type,
        "metadata": json.dumps(trajectory.metadata, sort_keys=True),
    }


def user_text(row: Row) -> str:
    """What the user says: a tag per picture, then the question."""
    return f"{IMAGE_TAG}\n" * len(row.images) + row.question


def _images(images: tuple[bytes, ...]) -> list[dict[str, Any]]:
    return [{"bytes": png, "path": None} for png in images]
