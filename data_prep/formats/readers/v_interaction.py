"""Rows of V-Interaction-400K: a question, code that draws on its image, and the image that came of it.

As a trajectory each has one call. The code was written for another harness and isn't run here: `executed` is false in
the metadata.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from codevision_ext.types import ToolCall
from data_prep.formats import fields, image_files
from data_prep.formats.readers.base import Item, Place, Reader
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message, Row, SampleType

SOURCE = "V-Interaction-400K"
_CODE: Final = re.compile(r"```.*?```|<code>.*?</code>", re.DOTALL)
_TAGS: Final = re.compile(r"</?(?:think|answer|tool_call|tool_response|sandbox_output|code|image)>|\\boxed\{[^}]*\}")


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    question = fields.text(fields.need(record, "question"), "question").replace(IMAGE_TAG, "").strip()
    answers = fields.answers(record.get("answer"), "answer")
    found = fields.images(fields.need(record, "image"), place.images, "image")
    if not place.turns:
        yield Row(
            images=tuple(data for data, _ in found),
            question=question,
            answers=answers,
            source=SOURCE,
            split="train",
            index=place.row,
            size=(0, 0),
            paths=tuple(path for _, path in found),
        )
        return
    from codevision_ext.rollout.code_tool import OBSERVATIONS  # noqa: PLC0415  slow to import, and not needed for tasks
    from data_prep.formats.turn_text import TOOLS, answer_text, call_text  # noqa: PLC0415

    edited = fields.images(fields.need(record, "edited_image"), place.images, "edited_image")
    code = fields.text(fields.need(record, "tool_code"), "tool_code")
    before, _, after = _CODE.sub("\0", fields.text(record.get("CoT_with_code") or "", "CoT_with_code")).partition("\0")
    width, height = image_files.settle_image(edited[0][0], "edited_image").size
    call = call_text(_plain(before), ToolCall(code=code, description="draw on the picture"))
    told = OBSERVATIONS["ok"].format(node=len(found), width=width, height=height)
    yield Demonstration(
        messages=(
            Message(role="user", content=f"{IMAGE_TAG}\n" * len(found) + question),
            Message(role="assistant", content=call),
            Message(role="tool", content=told + IMAGE_TAG),
            Message(role="assistant", content=answer_text(_plain(after.replace("\0", " ")), answers[0])),
        ),
        images=tuple(data for data, _ in (*found, edited[0])),
        sample_type=SampleType.SINGLE_TOOL,
        tools=TOOLS,
        metadata={
            "sample_type": SampleType.SINGLE_TOOL,
            "answer": answers[0],
            "executed": False,
            "id": str(record.get("id", place.row)),
        },
        paths=tuple(path for _, path in (*found, edited[0])),
        source=SOURCE,
    )


def _plain(said: str) -> str:
    """What is thought, without the tags of another format."""
    return _TAGS.sub("", said).strip()


READER = Reader(
    name="v-interaction", columns=(("question",), ("image",), ("tool_code",), ("edited_image",)), read=_read
)
