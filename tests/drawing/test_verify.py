"""Right drawings of random targets, styles and sizes are accepted, and no hack of the gallery is."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from drawing_hacks import HACKS, moved
from drawing_scenes import SCENES, photo, random_target, tolerance
from drawing_styles import Style, by_cv2, by_matplotlib, by_pil, random_style
from drawings import attacks
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps
from skimage import data

from codevision_ext.drawing import DrawingVerdict, read_target, verify

SEGMENT = {"primitives": [{"kind": "segment", "x1": 60, "y1": 60, "x2": 340, "y2": 220}]}
POINT = {"primitives": [{"kind": "point", "x": 200, "y": 120}]}
RED = Style(
    colour=(255, 0, 0), stroke=3, radius=5, marker="filled", dash=None, alpha=1, label=False, arrow=False, smooth=True
)


def check(image: Image.Image, made: Image.Image, target: dict[str, Any]) -> DrawingVerdict:
    return verify(image, made, read_target(json.dumps(target).encode(), "target"))


def scene(kind: str = "photo", size: tuple[int, int] = (400, 280), seed: int = 3) -> Image.Image:
    return SCENES[kind](np.random.default_rng(seed), size).convert("RGB")


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**20),
    kind=st.sampled_from(sorted(set(SCENES) - {"chart"})),
    width=st.integers(90, 420),
    height=st.integers(90, 420),
    author=st.sampled_from(["PIL", "OpenCV"]),
)
def test_a_right_drawing_is_right_and_the_same_drawing_elsewhere_is_not(
    seed: int, kind: str, width: int, height: int, author: str
) -> None:
    rng = np.random.default_rng(seed)
    image = SCENES[kind](rng, (width, height)).convert("RGB")
    target = random_target(rng, image.size)
    style = random_style(rng, image, target)
    draw = by_pil if author == "PIL" else by_cv2
    right = check(image, draw(image, target, style), target)
    assert right.correct, right
    assert right.f1 > 0.9
    assert not check(image, image, target).correct
    away = 12 * tolerance(image.size)
    other = moved(target, away, -away, image.size)
    assert not check(image, draw(image, other, replace(style, label=False)), target).correct


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("angle", [-30, -10, 0, 10, 30])
@pytest.mark.parametrize("side", [84, 400])
def test_a_stroke_that_goes_on_beyond_its_end_is_wrong_in_every_direction(side: int, angle: float, width: int) -> None:
    image = Image.new("RGB", (side, side), "white")
    inner, end = np.array([0.2, 0.3]) * side, np.array([0.5, 0.5]) * side
    ends = dict(zip(("x1", "y1", "x2", "y2"), map(float, (*inner, *end)), strict=True))
    target = {"primitives": [{"kind": "segment"} | ends]}
    made = image.copy()
    ImageDraw.Draw(made).line((*inner, *end), "red", width)
    assert check(image, made, target).correct
    way = np.exp(1j * (np.angle(complex(*(end - inner))) + np.radians(angle))) * 5 * tolerance(image.size)
    ImageDraw.Draw(made).line((*end, end[0] + way.real, end[1] + way.imag), "red", width)
    assert not check(image, made, target).correct


@pytest.mark.parametrize(("seed", "largest"), [(0, 9e4), (3, 9e4), (7, 4e5)])
def test_no_hack_is_accepted_or_earns_more_than_the_part_that_it_draws(seed: int, largest: float) -> None:
    results = list(attacks(seed, largest))
    assert len(results) == len(HACKS)
    assert [name for name, _, verdict in results if verdict.correct] == []
    partly_right = {"half of it", "strokes without points", "three tau away"}
    assert {name for name, _, verdict in results if verdict.f1 > 0.3} <= partly_right


@pytest.mark.parametrize("kind", ["photo", "document", "geometry"])
def test_a_figure_of_matplotlib_is_registered_with_and_without_axes(kind: str) -> None:
    image = scene(kind)
    for seed in range(4):
        made = by_matplotlib(image, SEGMENT, RED, np.random.default_rng(seed))
        verdict = check(image, made, SEGMENT)
        assert verdict.correct, (seed, made.size, verdict)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1"])
def test_an_input_of_any_mode_is_compared_as_it_is_shown(mode: str) -> None:
    image = scene().convert(mode)
    assert check(image, by_pil(image, SEGMENT, RED), SEGMENT).correct


def test_a_gray_input_may_be_stretched_or_coloured_as_matplotlib_does() -> None:
    gray = scene().convert("L").point(lambda v: 40 + v // 2)
    stretched = ImageOps.autocontrast(gray)
    assert check(gray, by_pil(stretched, SEGMENT, RED), SEGMENT).correct
    assert not check(gray, by_pil(ImageOps.invert(gray), SEGMENT, RED), SEGMENT).correct


def test_a_gray_input_of_one_value_may_get_the_lowest_colour_as_in_matplotlib() -> None:
    gray = Image.new("L", (400, 280), 240)
    for lowest in ((0, 0, 0), (68, 1, 84)):
        made = by_pil(Image.new("RGB", gray.size, lowest), SEGMENT, replace(RED, colour=(255, 255, 0)))
        framed = ImageOps.expand(made, 40, "white")
        assert check(gray, framed, SEGMENT).correct, lowest


def test_labels_beside_a_point_are_right_and_a_second_marker_is_not() -> None:
    image = scene("document")
    made = by_pil(image, POINT, RED)
    ImageDraw.Draw(made).text((208, 122), "P1", (255, 0, 0))
    assert check(image, made, POINT).correct
    ImageDraw.Draw(made).ellipse((245, 115, 255, 125), fill=(255, 0, 0))
    assert not check(image, made, POINT).correct


def test_words_of_the_input_that_are_painted_over_are_no_labels_of_the_drawing() -> None:
    """The words of a small page are as large, and as near the drawing, as its labels may be."""
    wrong = [verdict for name, _, verdict in attacks(316) if name in ("new canvas, white", "erased figure")]
    assert [(verdict.correct, verdict.f1) for verdict in wrong] == [(False, 0.0)] * 2


def test_a_bent_end_is_wrong_where_a_line_of_its_colour_crosses_it() -> None:
    chart = Image.new("RGB", (240, 202), "white")
    ImageDraw.Draw(chart).rectangle((0, 180, 239, 180), "black")
    segment = {"primitives": [{"kind": "segment", "x1": 81, "y1": 64, "x2": 106, "y2": 169}]}
    style = replace(RED, colour=(0, 0, 0), stroke=5)
    made = by_pil(chart, segment, style)
    assert check(chart, made, segment).correct
    ImageDraw.Draw(made).line((106, 169, 119, 187), "black", 5)
    assert check(chart, made, segment).correct is False


def _dots(image: Image.Image, places: list[tuple[int, int]], colour: str = "red", radius: int = 5) -> Image.Image:
    made = image.copy()
    for x, y in places:
        ImageDraw.Draw(made).ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    return made


@pytest.mark.parametrize("kind", ["photo", "document", "chart"])
def test_further_dots_on_a_stroke_or_beside_the_drawing_are_wrong(kind: str) -> None:
    """All candidates at once: on the stroke they are within its tolerance, beside it they are as small as labels."""
    image = scene(kind, (500, 400))
    target = {"primitives": [{"kind": "segment", "x1": 60, "y1": 200, "x2": 340, "y2": 200}, *POINT["primitives"]]}
    target["primitives"][1] = {"kind": "point", "x": 200, "y": 200}
    stroke = by_pil(image, {"primitives": target["primitives"][:1]}, RED)
    assert check(image, _dots(stroke, [(200, 200)]), target).correct
    assert not check(image, _dots(stroke, [(x, 200) for x in (100, 150, 200, 250, 300)]), target).correct
    for radius, colour in ((5, "red"), (7, "blue")):
        second = _dots(_dots(image, [(200, 120)]), [(245, 120)], colour, radius)
        assert not check(image, second, POINT).correct


ASTRONAUT = Image.fromarray(data.astronaut())


def test_a_disk_whose_centre_is_far_from_the_point_is_no_marker() -> None:
    """A part of the disk, cut out around the point, has its centre near the point."""
    target = {"primitives": [{"kind": "point", "x": 154, "y": 307}]}
    assert check(ASTRONAUT, _dots(ASTRONAUT, [(154, 307)], radius=16), target).correct
    assert not check(ASTRONAUT, _dots(ASTRONAUT, [(185, 307)], radius=21), target).correct


def test_moved_content_beside_a_stroke_is_no_label() -> None:
    target = {"primitives": [{"kind": "segment", "x1": 153, "y1": 153, "x2": 307, "y2": 281}]}
    made = ASTRONAUT.copy()
    made.paste(ASTRONAUT.crop((10, 449, 271, 502)), (204, 255))
    assert check(ASTRONAUT, by_pil(ASTRONAUT, target, RED), target).correct
    assert not check(ASTRONAUT, by_pil(made, target, RED), target).correct


def test_a_stroke_that_goes_on_earns_half_at_most() -> None:
    target = {"primitives": [{"kind": "segment", "x1": 100, "y1": 256, "x2": 400, "y2": 256}]}
    longer = {"primitives": [dict(target["primitives"][0], x2=430)]}
    verdict = check(ASTRONAUT, by_pil(ASTRONAUT, longer, RED), target)
    assert verdict.correct is False
    assert verdict.f1 <= 0.5


def test_a_stroke_may_be_up_to_two_tau_wide_and_no_wider() -> None:
    image, tau = scene(), tolerance((400, 280))
    for width in (1, tau, 2 * tau):
        assert check(image, by_pil(image, SEGMENT, replace(RED, stroke=width)), SEGMENT).correct, width
    assert not check(image, by_pil(image, SEGMENT, replace(RED, stroke=4 * tau)), SEGMENT).correct


def test_a_line_may_go_on_and_a_segment_may_not() -> None:
    image = scene()
    longer = {"primitives": [SEGMENT["primitives"][0] | {"x1": 25, "y1": 40, "x2": 375, "y2": 240}]}
    made = by_pil(image, longer, RED)
    assert not check(image, made, SEGMENT).correct
    line = {"primitives": [SEGMENT["primitives"][0] | {"kind": "line"}]}
    assert check(image, made, line).correct
    assert not check(
        image, by_pil(image, {"primitives": [SEGMENT["primitives"][0] | {"x2": 200, "y2": 140}]}, RED), line
    ).correct


def test_only_a_made_image_that_cannot_be_registered_is_unknown() -> None:
    image = photo(np.random.default_rng(3), (400, 280)).convert("RGB")
    other = scene("texture", (300, 350), seed=9)
    verdict = check(image, other, SEGMENT)
    assert verdict.correct is None
    assert verdict.reason.startswith("unknown: ")
    assert verdict.f1 == 0
    wrong = check(image, scene("texture", (400, 280), seed=9), SEGMENT)
    assert wrong.correct is False
