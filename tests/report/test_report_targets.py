"""The target of a drawing is shown over the input and over the image that was judged, whatever its size."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.io.records import Record, RecordWriter, Turn
from codevision_ext.report.filmstrip import strip, transcript
from codevision_ext.report.targets import scale_to, shape_views
from codevision_ext.report.trajectories import view, why_suspicious
from codevision_ext.types import Box, DrawingScore, Orientation, Outcome, Step, Task

SIZE = (200, 100)
TARGET = {
    "primitives": [
        {"kind": "segment", "x1": 20, "y1": 50, "x2": 180, "y2": 50},
        {"kind": "point", "x": 100, "y": 20},
        {"kind": "circle", "cx": 60, "cy": 60, "r": 10},
        {"kind": "box", "x1": 150, "y1": 60, "x2": 190, "y2": 90},
        {"kind": "region", "points": [[10, 10], [30, 10], [10, 30]]},
        {"kind": "polyline", "points": [[10, 90], [60, 80], [90, 90]], "closed": False},
    ]
}
GREEN, RED = (18, 183, 106), (217, 45, 32)


def record(writer: RecordWriter, made: tuple[int, int] = SIZE, *, f1: float = 0.8, correct: bool = True) -> Record:
    """A rollout with one call, whose image has the size `made`; its second primitive isn't drawn."""
    names = [writer.image(Image.new("RGB", size, "white")) for size in (SIZE, made)]
    step = Step(ok=True, ops=("draw",), node=1, parent=0, net=Orientation.ID, region=Box(0, 0, *SIZE))
    drawn = DrawingScore(
        correct=False, f1=f1, recall=(1.0, 0.0, 1.0, 1.0, 1.0, 1.0), precision=0.9, preserved=1.0, reason="r<b>", node=1
    )
    return Record(
        group="g",
        id="g-0",
        task=Task(size=SIZE, drawing=TARGET),
        observed=Outcome(correct=correct, format=1.0, steps=(step,), drawn=drawn),
        turns=(
            Turn(role="user", text="Draw.", images=(names[0],)),
            Turn(role="assistant", text="<think>t</think>"),
            Turn(role="tool", text="Picture 1.", images=(names[1],)),
        ),
        pictures=tuple(names),
    )


@pytest.fixture
def writer(tmp_path: Path) -> RecordWriter:
    return RecordWriter(tmp_path, "train")


def test_the_page_gets_the_shapes_the_verdict_and_the_images_that_show_them(writer: RecordWriter) -> None:
    data = view(record(writer), writer.directory, lambda *_: 0)
    assert [image.get("target") for message in data["messages"] for image in message["images"]] == [True, True]
    assert data["drawing"]["size"] == SIZE
    assert data["drawing"]["verdict"] == {
        "correct": False,
        "f1": 0.8,
        "precision": 0.9,
        "preserved": 1.0,
        "reason": "r<b>",
        "node": 1,
    }
    shapes = data["drawing"]["shapes"]
    assert [shape["kind"] for shape in shapes] == ["segment", "point", "circle", "box", "region", "polyline"]
    assert [shape["recall"] for shape in shapes] == [1, 0, 1, 1, 1, 1]
    assert [shape["closed"] for shape in shapes] == [False, False, False, True, True, False]
    assert shapes[3]["places"] == ((150, 60), (190, 60), (190, 90), (150, 90))
    plain = replace(record(writer), task=Task(size=SIZE), observed=Outcome(correct=True, format=1.0))
    data = view(plain, writer.directory, lambda *_: 0)
    assert data["drawing"] is None
    assert not any("target" in image for message in data["messages"] for image in message["images"])


@pytest.mark.parametrize("factor", [1, 2])
def test_a_strip_shows_the_target_on_the_input_and_on_an_image_of_another_size(
    writer: RecordWriter, factor: int
) -> None:
    drawn = record(writer, (factor * SIZE[0], factor * SIZE[1]))
    row = strip(drawn, writer.directory)
    for left in (0, 520):  # both images are 512 x 256, with a gap of 8
        scale = 512 / SIZE[0]

        def colour(x: float, y: float, left: int = left, scale: float = scale) -> Any:
            return row.getpixel((left + round(x * scale), round(y * scale)))

        assert colour(100, 50) == GREEN
        assert colour(70, 60) == GREEN
        assert colour(150, 75) == GREEN
        assert colour(20, 10) == GREEN
        assert colour(100, 20) == (255, 255, 255)
        assert RED in [colour(100 + d / 4, 20) for d in range(-10, 11)]
    assert "drawing: F1 0.8" in transcript(drawn)


def test_a_target_is_not_drawn_over_an_image_of_another_shape(writer: RecordWriter) -> None:
    square = record(writer, (100, 100))
    assert (scale_to(square, (100, 100)), scale_to(square, (400, 200)), scale_to(square, (201, 100))) == (
        *(None, (2, 2), (1.005, 1)),
    )
    row = strip(square, writer.directory)
    assert row.crop((520, 0, 776, 256)).getcolors() == [(256 * 256, (255, 255, 255))]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: replace(r.observed, drawn=replace(r.observed.drawn, f1=0.0)), "Right, although the drawing earns"),
        (lambda r: replace(r.observed, steps=r.observed.steps * 2), None),
        (lambda r: replace(r.observed, steps=r.observed.steps * 3), "3 calls where 1 would do."),
    ],
)
def test_a_right_answer_with_a_drawing_that_earns_nothing_is_suspicious(
    writer: RecordWriter, change: Callable[[Any], Outcome], sentence: str | None
) -> None:
    drawn = record(writer)
    why = why_suspicious(replace(drawn, observed=change(drawn)))
    assert (why is None) == (sentence is None)
    assert why is None or why.startswith(str(sentence))


def test_a_target_that_can_not_be_read_is_named(writer: RecordWriter) -> None:
    broken = replace(record(writer), task=Task(size=SIZE, drawing={"primitives": []}))
    with pytest.raises(InputError, match=r"record g-0: task\.drawing: field primitives: is empty"):
        shape_views(broken)
