"""Reads rows of V-Interaction-400K: a question, code that draws on its image, and the image that the code made.

As a demonstration, each row has one call. The code is of another harness and isn't run here: the metadata has
`executed` false.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from codevision_ext.types import ToolCall
from data_prep.formats import fields, image_files, image_tags
from data_prep.formats.readers.base import Item, Place, Reader, question_of
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message, Row, SampleType

SOURCE = "V-Interaction-400K"
_CODE: Final = re.compile(r"```.*?```|<code>.*?</code>", re.DOTALL)
_TAGS: Final = re.compile(r"</?(?:think|answer|tool_call|tool_response|sandbox_output|code|image)>|\\boxed\{[^}]*\}")


def _read(record: Mapping[str, Any], place: Place) -> Iterator[Item | str]:
    question = question_of(record, "question")
    answers = fields.answers(record.get("answer"), "answer", lists=place.lists)
    images, paths = fields.images(fields.require(record, "image"), place.images, "image")
    if not place.turns:
        yield Row(
            images=images,
            question=question,
            answers=answers,
            source=SOURCE,
            split="train",
            index=place.row,
            paths=paths,
        )
        return
    from codevision_ext.rollout.code_tool import OBSERVATIONS  # noqa: PLC0415  slow to import, and not needed for tasks
    from data_prep.formats.turn_text import TOOLS, answer_text, call_text  # noqa: PLC0415

    edited, edited_paths = fields.images(fields.require(record, "edited_image"), place.images, "edited_image")
    code = fields.text(fields.require(record, "tool_code"), "tool_code")
    thoughts = fields.text(record.get("CoT_with_code") or "", "CoT_with_code")
    before, _, after = _CODE.sub("\0", thoughts).partition("\0")
    width, height = image_files.normalize_image(edited[0], "edited_image").size
    call = call_text(_without_tags(before), ToolCall(code=code, description="draw on the picture"))
    observation = OBSERVATIONS["ok"].format(node=len(images), width=width, height=height)
    yield Demonstration(
        messages=(
            Message(role="user", content=image_tags.with_tags(question, len(images))),
            Message(role="assistant", content=call),
            Message(role="tool", content=observation + IMAGE_TAG),
            Message(role="assistant", content=answer_text(_without_tags(after.replace("\0", " ")), answers[0])),
        ),
        images=(*images, edited[0]),
        sample_type=SampleType.SINGLE_TOOL,
        tools=TOOLS,
        metadata={
            "sample_type": SampleType.SINGLE_TOOL,
            "answer": answers[0],
            "executed": False,
            "id": fields.text(fields.first(record, "id") or place.row, "id"),
        },
        paths=(*paths, edited_paths[0]),
        source=SOURCE,
    )


def _without_tags(text: str) -> str:
    """Return a thought without the tags of the other harness."""
    return _TAGS.sub("", text).strip()


READER = Reader(
    name="v-interaction", columns=(("question",), ("image",), ("tool_code",), ("edited_image",)), read=_read
)
