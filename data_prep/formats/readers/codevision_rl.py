"""Reads rows of CodeVision-RL, of MVToolBench (which has the same columns), and the RL rows that `convert` writes."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from codevision_ext.types import BOX_FRAMES, AnswerKind
from data_prep.formats import fields
from data_prep.formats.readers.base import Item, Place, Reader
from data_prep.formats.record import is_empty
from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import Row
from data_prep.formats.turns import read_images, read_turns

_MESSAGES = re.compile(r"\s*\[\s*[{\]]")
"""Beginning of the JSON of a list of messages; any other text is a prompt, such as `[1, 2] or [3, 4]?`."""
SOURCE = "CodeVision-RL"
LICENCE = "CC-BY-SA-4.0"
_PUBLISHED = frozenset({"dataset_name", "transform"})
"""Fields in `extra_info` of each row of CodeVision-RL; other rows for verl lack some, and have another licence."""


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    extra = fields.part(record, "extra_info")
    system, prompt, own = read_prompt(record)
    if not any(own):
        fields.require(record, "images")
    images, paths = read_images(record, own, place.images)
    rule = fields.part(record, "reward_model")
    truth = rule.get("ground_truth")
    truth = extra.get("answer") if truth is None else truth
    applied, renamed = fields.applied(extra.get("transform"), "extra_info.transform")
    name = "bbox" if extra.get("bbox") is not None else "bbox_2d"
    box, was_nan = fields.box(extra.get(name), f"extra_info.{name}")
    frame = extra.get("box_frame") or "input"
    if frame not in BOX_FRAMES:
        raise RowError(Reason.BAD_BOX, "extra_info.box_frame", f"must be {', '.join(BOX_FRAMES)}, not {frame!r}")
    kind = extra.get("answer_kind") or AnswerKind.TEXT
    if kind not in list(AnswerKind):
        raise RowError(Reason.BAD_TYPE, "extra_info.answer_kind", f"must be {', '.join(AnswerKind)}, not {kind!r:.40}")
    question = extra.get("question") or prompt
    drawing = fields.drawing(extra.get("drawing"), "extra_info.drawing")
    published = set(extra) >= _PUBLISHED
    changes = [
        *fields.texts(extra.get("changes"), "extra_info.changes"),
        *(["op_renamed"] if renamed else []),
        *(["box_nan"] if was_nan else []),
    ]
    yield Row(
        images=images,
        question=fields.text(question, "extra_info.question"),
        answers=fields.answers(truth, "reward_model.ground_truth", lists=place.lists, drawing=drawing),
        answer_kind=AnswerKind(kind),
        source=record.get("data_source") or extra.get("dataset_name") or (SOURCE if published else place.name),
        split=extra.get("split") or "train",
        index=fields.index(extra, ("index",), place.row),
        applied=applied,
        box=box,
        box_frame=frame,
        drawing=drawing,
        column=None if extra.get("column") is None else fields.text(extra["column"], "extra_info.column"),
        ability=record.get("ability") or "reading",
        system=system,
        prompt=prompt,
        paths=paths,
        licence=extra.get("licence") or (LICENCE if published else ""),
        changes=tuple(dict.fromkeys(changes)),
        picture_id=extra.get("picture_id") or "",
        benchmark=fields.text(extra.get("benchmark") or "", "extra_info.benchmark"),
        rule_fields=fields.mapping(extra.get("rule_fields"), "extra_info.rule_fields"),
        benefit=fields.read_numbers(extra.get("benefit"), "extra_info.benefit"),
        edited_image=_edited_image(extra, place),
        codes=fields.texts(extra.get("codes"), "extra_info.codes"),
        elements=fields.texts(extra.get("elements"), "extra_info.elements"),
    )


def _edited_image(extra: Mapping[str, Any], place: Place) -> bytes:
    """Return the edited image of a row; empty if it has none. Raises RowError."""
    value = extra.get("edited_image")
    files, _ = fields.images([] if is_empty(value) else value, place.images, "extra_info.edited_image")
    return files[0] if files else b""


def read_prompt(record: Mapping[str, Any], name: str = "prompt") -> tuple[str, str, list[Any]]:
    """Return the system message ("" for none), the user message, and the images of its content parts.

    The prompt is a list of messages, or a text.

    Raises:
        RowError: A message has no role or no content, or there are other messages.
    """
    value = fields.require(record, name)
    if isinstance(value, str) and _MESSAGES.match(value):
        value = fields.parse_json(value, name)
    if not isinstance(value, list):
        return "", fields.text(value, name), []
    messages, images = read_turns(fields.parts(record, name), name)
    roles = [message.role for message in messages]
    if roles not in (["user"], ["system", "user"]):
        message = f"must be a user message, optionally after a system message, not {roles}"
        raise RowError(Reason.BAD_TURNS, name, message)
    return messages[0].content if len(messages) == 2 else "", messages[-1].content, images


READER = Reader(
    name="codevision-rl",
    columns=(("prompt",), ("reward_model",), ("extra_info",)),
    read=_read,
    whole_prompt=True,
    repeated=frozenset(
        {"reward_model.style", *(f"extra_info.{name}" for name in ("answer", "dataset_name", "size", "question"))}
    ),
)
