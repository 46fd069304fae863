"""Makes the rows of the drawing task: places to name, demonstrations that draw, and pages to draw on."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, Literal

import numpy as np
from PIL import Image

from codevision_ext.drawing import DrawingTarget, verify
from codevision_ext.errors import InfraError, InputError
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.task.drawings import drawing_text
from codevision_ext.types import ToolCall
from data_prep.formats.image_files import png
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message, Row, SampleType, user_text
from data_prep.formats.turn_text import TOOLS, answer_text, call_text
from data_prep.parallel.pipeline import map_threads
from data_prep.tasks.common import Rng, pick, pick_many
from data_prep.tasks.figures.scene import APART, MARGIN, SIDE, Page, Shape, cell_of, draw_page, new_shapes, strip_of
from data_prep.tasks.figures.tasks import DRAWINGS, Drawing, listed

SOURCE: Final = "figures"
ABILITY: Final = "drawing"
MOST_SHAPES: Final = 3
STREAMS: Final = ("train", "val", "test", "cells", "strips", "places", "where", "sft", "sft_val")
"""Random streams, one for each file: more rows of one file don't change the others."""
PREPARE: Final = "pen = ImageDraw.Draw(image)\n"
"""First line of every call: the statements of a drawing draw on `image`."""
BESIDE: Final = "that is beside it"
"""Begin of the thought after a drawing at a wrong place."""
DONE: Final = "drawn"
"""Thought before the answer, and the answer: the drawing itself is what is scored."""
ALL: Final = "What is where?"
ONE_SHARE: Final = 0.4
"""Share of the questions about strips and pages that ask for one shape; the others ask for all."""
Views = Literal["cells", "strips", "places"]
"""Parts of a page that a row shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureMix:
    """Settings of the rows."""

    seed: int = 0
    wrong_first: float = 0.4
    """Share of demonstrations whose first drawing is at a wrong place, and is then corrected, in [0, 1]."""
    kinds: tuple[str, ...] = tuple(DRAWINGS)
    """Kinds of drawings that are asked for, keys of DRAWINGS."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: A share is outside of [0, 1], or no kind is left.
        """
        if not 0 <= self.wrong_first <= 1:
            raise InputError(f"wrong_first is a share in [0, 1], not {self.wrong_first}")
        if not self.kinds:
            raise InputError("--kinds names no drawing")


def place_rows(mix: FigureMix, count: int, stream: Views, start: int = 0) -> Iterator[Demonstration]:
    """Yield questions what stands where, with the answer in pixels of the page.

    `cells` shows the cell around one shape, which is one image token, `strips` three cells with shapes, `places` the
    page. A model that has learned what one token shows learns to find the tokens of a page much sooner.
    """
    for index in range(start, start + count):
        row, page = _place_row(mix, stream, index, "train")
        (answer,) = row.answers
        yield Demonstration(
            messages=(
                Message(role="user", content=user_text(row)),
                Message(role="assistant", content=answer_text(listed(page), answer)),
            ),
            images=row.images,
            sample_type=SampleType.READ,
            metadata={"sample_type": SampleType.READ, "answer": answer},
        )


def where_rows(mix: FigureMix, count: int, start: int = 0) -> Iterator[Row]:
    """Yield questions what stands where on a page of the test split; the answers are judged by distance."""
    for index in range(start, start + count):
        row, _ = _place_row(mix, "where", index, "test")
        yield replace(row, ability="perception", column="where")


def _place_row(mix: FigureMix, stream: str, index: int, split: str) -> tuple[Row, Page]:
    rng = rng_of(mix, stream, index)
    page = draw_page(rng, split, 1 if stream == "cells" else _some(rng), in_strip=stream == "strips")
    shapes, question = page.shapes, ALL
    if stream != "cells" and rng.random() < ONE_SHARE:
        shapes = (pick(rng, page.shapes),)
        question = f"Where is the {shapes[0].name}?"
    image = {"cells": cell_of, "strips": strip_of}[stream](page) if stream in ("cells", "strips") else page.image
    answer = str({shape.name: shape.centre for shape in shapes})
    return replace(_row(image, question, index, split), answers=(answer,)), page


def drawing_rows(mix: FigureMix, count: int, split: str, start: int = 0) -> Iterator[Row]:
    """Yield pages to draw on; the kinds of drawings take turns."""
    for index in range(start, start + count):
        page, drawing, kind = draw_task(mix, split, split, index)
        row = _row(page.image, drawing.question, index, split)
        yield replace(row, answers=(), ability=ABILITY, column=kind, drawing=drawing.target)


def demonstrations(mix: FigureMix, count: int, split: str, tool: CodeTool) -> Iterator[Demonstration]:
    """Yield demonstrations that draw, in order; each call was executed and its image verified against the target.

    Raises:
        InfraError: A drawing isn't as planned.
    """
    stream = "sft" if split == "train" else "sft_val"

    def run(index: int) -> Demonstration:
        return _demonstrate(mix, split, stream, index, tool)

    return map_threads(run, range(count), os.cpu_count() or 1)


def draw_task(mix: FigureMix, split: str, stream: str, index: int) -> tuple[Page, Drawing, str]:
    """Draw a page and what is asked of it; return both with the kind of the drawing."""
    rng = rng_of(mix, stream, index)
    kind = mix.kinds[index % len(mix.kinds)]
    make, least = DRAWINGS[kind]
    page = draw_page(rng, split, _some(rng, least))
    new = new_shapes(page.shapes)
    shapes = sorted(pick_many(rng, page.shapes, len(page.shapes)), key=lambda shape: shape not in new)
    page = replace(page, shapes=tuple(shapes))  # the first shapes are drawn on, in the test split a held-out one
    return page, make(page), kind


def _some(rng: Rng, least: int = 1) -> int:
    return int(rng.integers(least, MOST_SHAPES + 1))


def _demonstrate(mix: FigureMix, split: str, stream: str, index: int, tool: CodeTool) -> Demonstration:
    page, drawing, kind = draw_task(mix, split, stream, index)
    rng = np.random.default_rng([mix.seed, len(STREAMS), index])
    plan = [(page, drawing, True)]
    elsewhere = moved(rng, page) if rng.random() < mix.wrong_first else None
    if elsewhere is not None:
        plan.insert(0, (elsewhere, DRAWINGS[kind][0](elsewhere), False))
    row = _row(page.image, drawing.question, index)
    history = ImageHistory([page.image])
    messages, images = [Message(role="user", content=user_text(row))], list(row.images)
    for number, (seen, planned, right) in enumerate(plan):
        thought = f"{BESIDE}: {listed(seen)}" if number else listed(seen)
        call = ToolCall(code=PREPARE + planned.code, description=kind, image_index=0)
        text, result = tool.run(history, call)  # the verifier looks at the image; its provenance isn't needed
        made = result.images[0] if result.images else None
        _check(page.image, made, text, drawing.target, right, f"row {index}: {planned.code!r}")
        messages.append(Message(role="assistant", content=call_text(thought, call), train=None if right else False))
        messages.append(Message(role="tool", content=text + IMAGE_TAG))
        images.append(png(history.images[-1]))
    messages.append(Message(role="assistant", content=answer_text(DONE, DONE)))
    sample_type = SampleType.SINGLE_TOOL if len(plan) == 1 else SampleType.ERROR_HANDLING
    return Demonstration(
        messages=tuple(messages),
        images=tuple(images),
        sample_type=sample_type,
        tools=TOOLS,
        metadata={"sample_type": sample_type, "answer": DONE, "kind": kind, "drawing": drawing_text(drawing.target)},
    )


def _check(
    page: Image.Image, made: Image.Image | None, text: str, target: DrawingTarget, right: bool, what: str
) -> None:
    if made is None:
        raise InfraError(f"{what} gave no image: {text}")
    verdict = verify(page, made, target)
    if verdict.correct is not right:
        raise InfraError(f"{what} was planned to be {'right' if right else 'wrong'}, and is {verdict.reason}")


def moved(rng: Rng, page: Page) -> Page | None:
    """Return the page with its first shape 9 or 12 pixels off in both directions; None if no such place is free."""
    first, *others = page.shapes
    x, y = first.centre
    free = [
        centre
        for centre in product((x - 12, x - 9, x + 9, x + 12), (y - 12, y - 9, y + 9, y + 12))
        if all(MARGIN <= edge <= SIDE - MARGIN for edge in centre)
        and all(_distance(centre, other) >= APART for other in others)
    ]
    return replace(page, shapes=(replace(first, centre=pick(rng, free)), *others)) if free else None


def _distance(centre: tuple[int, int], shape: Shape) -> int:
    return max(abs(a - b) for a, b in zip(centre, shape.centre, strict=True))


def _row(image: Image.Image, question: str, index: int, split: str = "train") -> Row:
    return Row(
        images=(png(image),),
        question=question,
        answers=(DONE,),
        source=SOURCE,
        split=split,
        index=index,
        size=image.size,
    )


def rng_of(mix: FigureMix, stream: str, index: int) -> Rng:
    """Return the random generator of one row, which depends on seed, stream and index only."""
    return np.random.default_rng([mix.seed, STREAMS.index(stream), index])
