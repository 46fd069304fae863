"""Verdicts hold for random inputs, targets, styles, sizes and ways of saving."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from drawing_authors import by_published_code, by_smooth_pil, saved
from drawing_scenes import SCENES, random_target, tolerance
from drawing_styles import Style, by_cv2, by_matplotlib, by_pil, outline, random_style
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from codevision_ext.drawing import DrawingVerdict, read_target, verify

SEEDS = st.integers(0, 2**20)
SIDES = st.integers(200, 520)
SCENE = st.sampled_from(sorted(SCENES))


def check(image: Image.Image, made: Image.Image, target: dict[str, Any]) -> DrawingVerdict:
    return verify(image, made, read_target(json.dumps(target).encode(), "target"))


def drawn(
    seed: int, kind: str, size: tuple[int, int]
) -> tuple[Image.Image, dict[str, Any], Style, np.random.Generator]:
    rng = np.random.default_rng(seed)
    image = SCENES[kind](rng, size).convert("RGB")
    target = random_target(rng, image.size)
    return image, target, random_style(rng, image, target), rng


@settings(max_examples=40)
@given(seed=SEEDS, kind=SCENE, width=SIDES, height=SIDES, author=st.sampled_from([by_pil, by_smooth_pil, by_cv2]))
def test_a_drawing_on_the_input_itself_is_right(seed: int, kind: str, width: int, height: int, author: Any) -> None:
    image, target, style, _ = drawn(seed, kind, (width, height))
    verdict = check(image, author(image, target, style), target)
    assert verdict.correct, verdict


@settings(max_examples=20)
@given(
    seed=SEEDS,
    kind=st.sampled_from(["photo", "document", "chart", "geometry", "table"]),
    width=SIDES,
    height=SIDES,
    author=st.sampled_from([by_matplotlib, by_published_code]),
)
def test_a_figure_of_matplotlib_is_right(seed: int, kind: str, width: int, height: int, author: Any) -> None:
    image, target, style, rng = drawn(seed, kind, (width, height))
    verdict = check(image, author(image, target, replace(style, label=False), rng), target)
    assert verdict.correct, verdict


@settings(max_examples=24)
@given(
    seed=SEEDS,
    kind=st.sampled_from(["photo", "document", "geometry", "table", "screen"]),
    after=st.sampled_from(["jpeg", "webp", "resize", "stretch", "pad", "letterbox"]),
)
def test_a_right_drawing_stays_right_when_it_is_saved(seed: int, kind: str, after: str) -> None:
    image, target, style, rng = drawn(seed, kind, (480, 360))
    style = replace(style, alpha=1.0, label=False, dash=None, stroke=max(2.5, style.stroke))
    verdict = check(image, saved(by_pil(image, target, style), after, style, rng), target)
    assert verdict.correct, (after, verdict)


@settings(max_examples=16)
@given(seed=SEEDS, kind=SCENE)
def test_a_drawing_without_a_primitive_or_with_a_foreign_one_is_wrong(seed: int, kind: str) -> None:
    image, target, style, _ = drawn(seed, kind, (420, 320))
    style, tau = replace(style, label=False), tolerance((420, 320))
    *rest, last = target["primitives"]
    if rest:
        assert not check(image, by_pil(image, {"primitives": rest}, style), target).correct
    if rest and rest[0]["kind"] == "point":  # a marker on a stroke may be within the tolerance of the stroke
        assert not check(image, by_pil(image, target, style), {"primitives": rest}).correct
    places = np.concatenate([outline(p) for p in target["primitives"]])
    corners = [(x, y) for x in (25, 395) for y in (25, 295)]
    far, (x, y) = max((float(np.hypot(*(places - corner).T).min()), corner) for corner in corners)
    assume(far > 12 * tau and last["kind"] != "line")
    made = by_pil(image, target, style)
    ImageDraw.Draw(made).line((x - 12, y - 12, x + 12, y + 12), style.colour, 3)
    assert not check(image, made, target).correct


@settings(max_examples=12)
@given(seed=SEEDS, kind=SCENE, author=st.sampled_from([by_pil, by_cv2]))
def test_mirrored_images_and_a_mirrored_target_have_the_same_verdict(seed: int, kind: str, author: Any) -> None:
    image, target, style, _ = drawn(seed, kind, (400, 300))
    made = author(image, target, replace(style, label=False))
    width = image.width - 1

    def turned(p: dict[str, Any]) -> dict[str, Any]:
        new = {name: width - value if name in ("x", "x1", "x2", "cx") else value for name, value in p.items()}
        return new | ({"points": [[width - x, y] for x, y in p["points"]]} if "points" in p else {})

    mirrored = {"primitives": [turned(p) for p in target["primitives"]]}
    assert check(ImageOps.mirror(image), ImageOps.mirror(made), mirrored).correct
    assert check(image, made, target).correct


@settings(max_examples=20)
@given(seed=SEEDS, kind=SCENE, other=SCENE, width=st.integers(1, 300), height=st.integers(1, 300))
def test_any_made_image_gets_a_verdict(seed: int, kind: str, other: str, width: int, height: int) -> None:
    image, target, _, rng = drawn(seed, kind, (260, 200))
    made = SCENES[other](rng, (260, 260)).resize((width, height))
    verdict = check(image, made, target)
    assert not verdict.correct
    assert (verdict.f1, verdict.correct) == (0, None) or verdict.correct is False
    assert min(verdict.f1, verdict.precision, verdict.preserved, *verdict.recall) >= 0
    assert max(verdict.f1, verdict.precision, verdict.preserved, *verdict.recall) <= 1
    assert len(verdict.recall) == len(target["primitives"])


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 3), (12, 9)])
def test_a_tiny_image_gets_a_verdict(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "white")
    target = {"primitives": [{"kind": "point", "x": 0, "y": 0}]}
    assert not check(image, image, target).correct
    assert check(image, Image.new("RGB", (50, 60), "black"), target).correct in (None, False)
    assert not check(Image.new("RGB", (300, 200), "white"), image, target).correct
