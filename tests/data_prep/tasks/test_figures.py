"""The drawing task is solvable by its own code, holds out what it claims, and depends on the seed only."""

import ast
from io import BytesIO
from itertools import islice

import numpy as np
import pytest
from PIL import Image, ImageDraw

from codevision_ext.drawing import check_inside, verify
from codevision_ext.errors import InputError
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.sandbox import Sandbox
from codevision_ext.task.coordinate_answers import read_places, share_right
from data_prep.formats.schema import SampleType
from data_prep.tasks.figures.rows import (
    FigureMix,
    demonstrations,
    draw_task,
    drawing_rows,
    moved,
    place_rows,
    where_rows,
)
from data_prep.tasks.figures.scene import COLOURS, HELD_OUT, SIDE, is_held_out
from data_prep.tasks.figures.tasks import DRAWINGS

MIX = FigureMix(seed=3)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("number", range(len(DRAWINGS)))
def test_the_code_of_a_task_draws_its_target_and_the_page_alone_does_not(number: int, split: str) -> None:
    for index in range(number, 100, len(DRAWINGS)):
        page, drawing, _ = draw_task(MIX, split, split, index)
        check_inside(drawing.target, page.image.size, "target")
        made = page.image.copy()
        exec(drawing.code, {"pen": ImageDraw.Draw(made)})
        assert verify(page.image, made, drawing.target).correct, (index, drawing.code)
        assert not verify(page.image, page.image, drawing.target).correct


@pytest.mark.parametrize(("stream", "split"), [("sft", "train"), ("test", "test")])
def test_a_drawing_for_a_moved_shape_is_wrong(stream: str, split: str) -> None:
    """A segment whose end is moved may cover the target, pass its end at a few pixels, and go on beyond it."""
    mix, seen = FigureMix(seed=0), 0
    for index in range(400):
        page, drawing, kind = draw_task(mix, split, stream, index)
        elsewhere = moved(np.random.default_rng(index), page)
        if elsewhere is not None:
            seen += 1
            made = page.image.copy()
            exec(DRAWINGS[kind][0](elsewhere).code, {"pen": ImageDraw.Draw(made)})
            verdict = verify(page.image, made, drawing.target)
            assert verdict.correct is False, (index, verdict)
    assert seen > 250


def test_a_stroke_between_shapes_that_touch_it_is_right_on_a_page_with_few_edges() -> None:
    """The stroke covers one in seven of the pixels with edges; nothing else is changed, so there is no noise."""
    page, drawing, _ = draw_task(FigureMix(seed=2), "train", "sft", 781)
    made = page.image.copy()
    exec(drawing.code, {"pen": ImageDraw.Draw(made)})
    assert verify(page.image, made, drawing.target).correct


def test_training_shows_no_held_out_place_or_pair_and_every_test_page_asks_for_one() -> None:
    for split in ("train", "val", "test"):
        for index in range(200):
            page, _, _ = draw_task(MIX, split, split, index)
            first, *others = page.shapes
            pairs = [{first.name, other.name} for other in others]
            new = is_held_out(first.centre) or any(set(pair) in pairs for pair in HELD_OUT)
            assert new is (split == "test")


def test_a_row_depends_on_seed_stream_and_index_only() -> None:
    long, short = list(drawing_rows(MIX, 12, "train")), list(drawing_rows(MIX, 4, "train", start=8))
    assert long[8:] == short
    assert next(drawing_rows(FigureMix(seed=4), 1, "train")) != long[0]
    assert long[0] != next(drawing_rows(MIX, 1, "val"))


@pytest.mark.parametrize("stream", ["cells", "strips", "places"])
def test_an_answer_names_the_places_of_the_page_in_the_order_of_the_colours(stream: str) -> None:
    sizes = {"cells": (28, 28), "strips": (SIDE, 28), "places": (SIDE, SIDE)}
    for made in place_rows(MIX, 40, stream):  # type: ignore[arg-type]
        places = ast.literal_eval(made.metadata["answer"])
        assert read_places(made.metadata["answer"]) is not None, "the coordinate judge reads it"
        colours = [name.split()[0] for name in places]
        assert colours == sorted(colours, key=list(COLOURS).index)
        assert f"<answer>{made.metadata['answer']}</answer>" in made.messages[1].content
        assert Image.open(BytesIO(made.images[0])).size == sizes[stream]


def test_a_demonstration_ends_with_the_right_drawing_and_a_wrong_one_before_it_has_no_loss() -> None:
    with Sandbox() as sandbox:
        tool = CodeTool(sandbox)
        made = list(demonstrations(MIX, 40, "train", tool))
        again = list(islice(demonstrations(MIX, 10, "train", tool), 10))
    assert made[:10] == again
    types = {each.sample_type for each in made}
    assert types == {SampleType.SINGLE_TOOL, SampleType.ERROR_HANDLING}
    for each in made:
        trained = [message.train for message in each.messages if message.role == "assistant"]
        assert trained == ([False] * (len(trained) - 2) + [None, None])
        assert len(each.images) == len(trained)


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(InputError, match="wrong_first is a share"):
        FigureMix(wrong_first=1.5)
    with pytest.raises(InputError, match="--kinds names no drawing"):
        FigureMix(kinds=())


def test_a_place_that_the_column_where_asks_for_is_right_within_the_tolerance_only() -> None:
    for row in where_rows(MIX, 12):
        (answer,) = row.answers
        places = ast.literal_eval(answer)
        near = str({name: (x + 2, y - 2) for name, (x, y) in places.items()})
        far = str({name: (x + 9, y) for name, (x, y) in places.items()})
        assert share_right(near, (answer,), row.size) == 1
        assert share_right(far, (answer,), row.size) == 0
