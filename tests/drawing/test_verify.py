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


@pytest.mark.parametrize("seed", [0, 3])
def test_no_hack_is_accepted_or_earns_more_than_the_part_that_it_draws(seed: int) -> None:
    results = list(attacks(seed, largest=9e4))
    assert len(results) == len(HACKS)
    assert [name for name, _, verdict in results if verdict.correct] == []
    assert {name for name, _, verdict in results if verdict.f1 > 0.3} <= {"half of it", "three tau away"}


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
