"""Writes an accepted item as a published record, as an RL row and as a demonstration."""

import json
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from codevision_ext.rollout.dialects.base import DialectName
from codevision_ext.task.drawings import drawing_text
from codevision_ext.types import ToolCall
from data_prep.convert.dialects import in_dialect
from data_prep.evolve.item import Element, Item
from data_prep.evolve.stages import Examined, target_of
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message, Row, SampleType, user_text
from data_prep.formats.turn_text import TOOLS, answer_text, call_text

SOURCE: Final = "evolve"
LICENCE: Final = "Apache-2.0"
_IMAGE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
INTERACTION_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("image", _IMAGE),
        ("original_img_code", pa.string()),
        ("edited_image", _IMAGE),
        ("tool_code", pa.string()),
        ("CoT_with_code", pa.string()),
        ("answer", pa.string()),
    ]
)
"""Columns of V-Interaction-400K."""
PERCEPTION_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("image", _IMAGE),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("python_code", pa.string()),
        ("element_arrtibute", pa.list_(pa.string())),
    ]
)
"""Columns of V-Perception-40K, one of which is misspelt."""


def interaction_record(examined: Examined) -> dict[str, Any]:
    """Return an item that needs a drawing in INTERACTION_SCHEMA; several drawings become several blocks of one reply.

    `edited_image` shows all drawings, and `tool_code` has the blocks one below the other.
    """
    item, steps = examined.item, examined.steps
    blocks = [
        f"{overlay.about}\n<code>\n```python\n{step.code}\n```\n</code>\n<sandbox_output><image></sandbox_output>\n"
        for overlay, step in zip(item.overlays, steps, strict=True)
    ]
    return {
        "id": item.id,
        "question": item.question,
        "image": _stored(examined.original),
        "original_img_code": item.original_code,
        "edited_image": _stored(steps[-1].image),
        "tool_code": "\n".join(step.code for step in steps),
        "CoT_with_code": f"<think>{''.join(blocks)}{item.solution}</think>\n<answer>{item.answer}</answer>",
        "answer": item.answer,
    }


def perception_record(examined: Examined) -> dict[str, Any]:
    """Return a perception item in PERCEPTION_SCHEMA."""
    item = examined.item
    return {
        "id": item.id,
        "image": _stored(examined.original),
        "question": item.question,
        "answer": item.answer,
        "python_code": item.original_code,
        "element_arrtibute": list(map(element_text, item.elements)),
    }


def task_row(examined: Examined, index: int) -> Row:
    """Return the RL row of an item; one that needs a drawing has the target of all its drawings."""
    item = examined.item
    return Row(
        images=(examined.original,),
        question=item.question,
        answers=(item.answer,),
        answer_kind=item.answer_kind,
        source=SOURCE,
        split="train",
        index=index,
        size=item.size,
        ability="drawing" if item.overlays else "perception",
        licence=LICENCE,
        drawing=target_of(item) if item.overlays else None,
        edited_image=examined.steps[-1].image if examined.steps else b"",
        codes=tuple(step.code for step in examined.steps) or (item.original_code,),
        elements=tuple(map(element_text, item.elements)),
    )


def demonstration_of(examined: Examined, dialect: DialectName) -> Demonstration:
    """Return the executed trajectory of an item in a dialect; a perception item is answered without a call."""
    item = examined.item
    messages = [Message(role="user", content=user_text(task_row(examined, 0)))]
    for node, (overlay, step) in enumerate(zip(item.overlays, examined.steps, strict=True)):
        call = ToolCall(code=step.code, description=overlay.tool, image_index=node)
        messages.append(Message(role="assistant", content=call_text(overlay.about, call)))
        messages.append(Message(role="tool", content=step.observation + IMAGE_TAG))
    messages.append(Message(role="assistant", content=answer_text(item.solution, item.answer)))
    sample_type = (SampleType.NO_TOOL, SampleType.SINGLE_TOOL, SampleType.MULTI_TOOL)[min(2, item.depth)]
    written = Demonstration(
        messages=tuple(messages),
        images=(examined.original, *(step.image for step in examined.steps)),
        sample_type=sample_type,
        tools=TOOLS if item.overlays else "",
        metadata={"sample_type": sample_type, "answer": item.answer, **_lineage(item)},
        source=SOURCE,
        licence=LICENCE,
    )
    return replace(in_dialect(written, dialect), changes=())


def element_text(element: Element) -> str:
    """Return an element as JSON: kind, fields in whole pixels where they are whole, and what it is."""
    fields = {name: _whole(value) for name, value in element.fields.items()}
    return json.dumps({"kind": element.kind, **fields, "semantic": element.semantic}, ensure_ascii=False)


def _whole(value: int | float | str) -> int | float | str:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _lineage(item: Item) -> dict[str, Any]:
    drawing = {"drawing": drawing_text(target_of(item))} if item.overlays else {"level": item.level}
    return {
        "id": item.id,
        "parent": item.parent,
        "relation": item.relation,
        "difficulty": item.difficulty,
        "knowledge": list(item.knowledge),
        "tools": list(item.tools),
        "executed": True,
        **drawing,
    }


def _stored(image: bytes) -> dict[str, Any]:
    return {"bytes": image, "path": None}
