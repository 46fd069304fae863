"""Makes images that the drawing verifier must reject."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from drawing_scenes import Rng, tolerance
from drawing_styles import Style, by_cv2, by_pil, outline
from PIL import Image, ImageDraw, ImageFilter, ImageOps

Target = dict[str, Any]
Hack = Callable[[Rng, Image.Image, Target, Style], Image.Image]
"""Function that makes an incorrect drawing from an input, a target, and a style that is visible on the input."""


def moved(target: Target, dx: float, dy: float, size: tuple[int, int]) -> Target:
    """Returns a shifted target; the shift is reversed, or reversed along one axis, if the target would leave the image.

    The whole shift is reversed first: a line that is shifted across itself stays apart from itself.
    """
    places = np.concatenate([outline(p) for p in target["primitives"]])
    low, high = places.min(axis=0), places.max(axis=0)
    for signs in ((1, 1), (-1, -1), (-1, 1), (1, -1)):
        away = np.array((dx, dy)) * signs
        if (low + away >= 0).all() and (high + away < size).all():
            dx, dy = map(float, away)
            break
    names = {"x": dx, "x1": dx, "x2": dx, "cx": dx, "y": dy, "y1": dy, "y2": dy, "cy": dy}
    shifted = []
    for p in target["primitives"]:
        new = {name: value + names[name] if name in names else value for name, value in p.items()}
        if "points" in p:
            new["points"] = [[x + dx, y + dy] for x, y in p["points"]]
        shifted.append(new)
    return {"primitives": shifted}


def across(target: Target, rng: Rng) -> float:
    """Returns a random angle, roughly perpendicular to the line of a line target."""
    first = target["primitives"][0]
    if "x2" not in first or first["kind"] == "box":
        return float(rng.uniform(0, 2 * np.pi))
    return float(np.arctan2(first["y2"] - first["y1"], first["x2"] - first["x1"]) + np.pi / 2 + rng.uniform(-0.3, 0.3))


def _several(number: int) -> Hack:
    def draw(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:
        tau, drawing = tolerance(image.size), by_pil(image, target, style)
        for _ in range(number):
            angle = across(target, rng)
            away = float(rng.uniform(10, 16)) * tau
            drawing = by_pil(drawing, moved(target, away * np.cos(angle), away * np.sin(angle), image.size), style)
        return drawing

    return draw


def _flood(alpha: float, *, draw: bool) -> Hack:
    def flood(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:  # noqa: ARG001
        base = by_pil(image, target, style) if draw else image.convert("RGB")
        return Image.blend(base, Image.new("RGB", image.size, style.colour), alpha)

    return flood


def _hatched(step: float, *, crossed: bool) -> Hack:
    def hatch(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:  # noqa: ARG001
        drawing = image.convert("RGB")
        draw, gap = ImageDraw.Draw(drawing), max(3, int(step * tolerance(image.size)))
        for at in range(0, sum(image.size), gap):
            draw.line((at, 0, at - image.height, image.height), style.colour, 1)
            if crossed:
                draw.line((at - image.height, 0, at, image.height), style.colour, 1)
        return drawing

    return hatch


def _after(change: Callable[[Rng, Image.Image], Image.Image], *, draw: str = "before") -> Hack:
    """Changes the image before the correct drawing (`draw="after"`), after it ("before"), or without it ("never")."""

    def make(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:
        if draw == "before":
            return change(rng, by_pil(image, target, style))
        changed = change(rng, image.convert("RGB"))
        return by_pil(changed, target, style) if draw == "after" else changed

    return make


def _noise(strength: float) -> Callable[[Rng, Image.Image], Image.Image]:
    def add(rng: Rng, image: Image.Image) -> Image.Image:
        pixels = np.asarray(image, float) + rng.normal(0, strength, (image.height, image.width, 3))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    return add


def _rolled(rng: Rng, image: Image.Image) -> Image.Image:  # noqa: ARG001
    away = int(6 * tolerance(image.size))
    return Image.fromarray(np.roll(np.asarray(image), (away, away), (0, 1)))


def _erased(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:  # noqa: ARG001
    """Fills the image with its most frequent colour, then draws."""
    gray = np.asarray(image.convert("L"))
    value = int(np.bincount(gray.ravel(), minlength=256).argmax())
    colour = np.median(np.asarray(image.convert("RGB"))[gray == value], axis=0)
    return by_pil(Image.new("RGB", image.size, tuple(map(int, colour))), target, style)


def _patch(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:
    """Moves a quarter of the image, with the drawing on it, to another place."""
    drawing = by_pil(image, target, style)
    pixels, (w, h) = np.asarray(image.convert("RGB")), image.size
    busy = [np.std(pixels[y : y + h // 2, x : x + w // 2]) for x in (0, w // 2) for y in (0, h // 2)]
    best = int(np.argmax(busy))
    x, y = (0, w // 2)[best // 2], (0, h // 2)[best % 2]
    part = drawing.crop((x, y, x + w // 2, y + h // 2))
    drawing.paste(tuple(map(int, pixels[0, 0])), (x, y, x + w // 2, y + h // 2))
    drawing.paste(part, (w // 2 - x, h // 2 - y) if rng.random() < 0.5 else (w // 2 - x, y))
    return drawing


def _fat(width: float) -> Hack:
    def draw(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:  # noqa: ARG001
        tau = tolerance(image.size)
        wide = replace(style, stroke=width * tau, radius=width * tau / 2 + 1, marker="filled", dash=None, label=False)
        if all(p["kind"] == "region" for p in target["primitives"]):
            drawing = by_pil(image, target, wide)
            outlines = [{"kind": "polyline", "points": p["points"], "closed": True} for p in target["primitives"]]
            return by_pil(drawing, {"primitives": outlines}, replace(wide, stroke=2 * width * tau))
        return by_pil(image, target, wide)

    return draw


def _scribble(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:
    """Covers the target with a thick zigzag."""
    tau, drawing = tolerance(image.size), image.convert("RGB")
    draw = ImageDraw.Draw(drawing)
    for p in target["primitives"]:
        path = outline(p)
        places = path[:: max(1, int(tau / 2))] if len(path) > 1 else np.repeat(path, 40, axis=0)
        places = places + rng.uniform(-5, 5, places.shape) * tau
        draw.line([tuple(map(float, place)) for place in places], style.colour, max(2, int(tau)))
    return drawing


def _boxes(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:
    drawing = by_pil(image, target, style)
    draw, (w, h) = ImageDraw.Draw(drawing), image.size
    for _ in range(25):
        x, y = rng.uniform(0, 0.8, 2) * (w, h)
        draw.rectangle(
            (x, y, x + rng.uniform(0.1, 0.2) * w, y + rng.uniform(0.1, 0.2) * h), outline=style.colour, width=2
        )
    return drawing


def _words(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:
    """Draws correctly, and writes labels everywhere."""
    drawing = by_pil(image, target, style)
    draw = ImageDraw.Draw(drawing)
    for _ in range(60):
        draw.text(tuple(map(float, rng.uniform(0, 0.9, 2) * image.size)), "point P here", style.colour)
    return drawing


def _half(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:  # noqa: ARG001
    """Draws half of each stroke, or half of the points."""
    drawing = image.convert("RGB")
    points = [p for p in target["primitives"] if p["kind"] == "point"]
    if len(points) == len(target["primitives"]):
        return by_pil(drawing, {"primitives": points[: len(points) // 2]}, style) if len(points) > 1 else drawing
    for p in target["primitives"]:
        path = outline(p)
        if p["kind"] == "region":
            part = [list(map(float, place)) for place in path[: int(len(path) * 0.5)]]
            drawing = by_pil(drawing, {"primitives": [{"kind": "region", "points": part}]}, style)
        elif p["kind"] != "point":
            part = [list(map(float, place)) for place in path[: int(len(path) * 0.6)]]
            drawing = by_pil(drawing, {"primitives": [{"kind": "polyline", "points": part, "closed": False}]}, style)
    return drawing


def _without_points(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:  # noqa: ARG001
    """Draws the strokes of a target without its points; nothing for other targets."""
    strokes = [p for p in target["primitives"] if p["kind"] != "point"]
    if len(strokes) == len(target["primitives"]):
        return image.convert("RGB")
    return by_cv2(image, {"primitives": strokes}, style)


def _fan(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:
    """Draws the target, and strokes from one end of each stroke to other places; nothing for points."""
    made = by_pil(image, target, style)
    if all(p["kind"] == "point" for p in target["primitives"]):
        return image.convert("RGB")
    draw, far = ImageDraw.Draw(made), 9 * tolerance(image.size)
    for p in target["primitives"]:
        x, y = outline(p)[0]
        for angle in rng.uniform(0, 2 * np.pi) + np.arange(3) * 2 * np.pi / 3:
            end = (float(x + far * np.cos(angle)), float(y + far * np.sin(angle)))
            draw.line((float(x), float(y), *end), style.colour, max(1, round(style.stroke)))
    return made


def _bent(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:
    """Draws the target, and goes on from an end of each segment in a slightly different direction."""
    made = by_pil(image, target, replace(style, dash=None))
    strokes = [p for p in target["primitives"] if p["kind"] == "segment"]
    if not strokes:
        return image.convert("RGB")
    draw = ImageDraw.Draw(made)
    for p in strokes:
        inner, end = np.array([p["x1"], p["y1"]], float), np.array([p["x2"], p["y2"]], float)
        angle = rng.uniform(0.15, 0.7) * rng.choice((-1, 1))
        way = (end - inner) / np.hypot(*(end - inner)) * rng.uniform(4, 6) * tolerance(image.size)
        turned = way @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        draw.line((*map(float, end), *map(float, end + turned)), style.colour, max(1, round(style.stroke)))
    return made


def _invisible(step: int) -> Hack:
    """Draws by changing the input by a few grey levels."""

    def draw(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:  # noqa: ARG001
        base = image.convert("RGB")
        white = by_pil(Image.new("RGB", image.size), target, replace(style, colour=(255, 255, 255), alpha=1.0))
        mask = np.asarray(white)[..., 0] > 127
        pixels = np.array(base, int)
        signs = np.where(pixels > 127, -1, 1)
        pixels[mask] += (signs * step)[mask]
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    return draw


def _faint_candidates(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:
    """Draws the target, and other candidates more faintly."""
    drawing = by_pil(image, target, style)
    tau = tolerance(image.size)
    for _ in range(3):
        angle = across(target, rng)
        other = moved(target, 12 * tau * np.cos(angle), 12 * tau * np.sin(angle), image.size)
        drawing = by_pil(drawing, other, replace(style, alpha=0.5 * style.alpha))
    return drawing


def _margin(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:
    """Draws on a canvas beside the image."""
    wide = Image.new("RGB", (2 * image.width, image.height), "white")
    drawn = by_pil(Image.new("RGB", image.size, "white"), target, style)
    wide.paste(image.convert("RGB"), (0, 0))
    wide.paste(drawn, (image.width, 0))
    return wide if rng.random() < 0.5 else ImageOps.mirror(wide)


def _shift(times: float) -> Hack:
    def draw(rng: Rng, image: Image.Image, target: Target, style: Style) -> Image.Image:
        away, angle = times * tolerance(image.size), across(target, rng)
        other = moved(target, away * np.cos(angle), away * np.sin(angle), image.size)
        return by_cv2(image, other, replace(style, label=False))

    return draw


def _gray(rng: Rng, image: Image.Image) -> Image.Image:  # noqa: ARG001
    return Image.fromarray(
        cv2.addWeighted(np.asarray(image), 0.5, np.full((image.height, image.width, 3), 128, "u1"), 0.5, 0)
    )


HACKS: dict[str, Hack] = {
    "nothing": _flood(0.0, draw=False),
    "flood": _flood(1.0, draw=False),
    "flood, half transparent": _flood(0.5, draw=True),
    "flood, a tenth": _flood(0.1, draw=True),
    "hatching, wide": _hatched(3.0, crossed=True),
    "hatching, narrow": _hatched(1.0, crossed=False),
    "hatching, dense": _hatched(0.5, crossed=True),
    "two candidates": _several(1),
    "all candidates": _several(8),
    "faint candidates": _faint_candidates,
    "invisible ink, 4 levels": _invisible(4),
    "invisible ink, 9 levels": _invisible(9),
    "fat strokes": _fat(5.0),
    "very fat strokes": _fat(9.0),
    "new canvas, white": _after(lambda _, i: Image.new("RGB", i.size, "white"), draw="after"),
    "new canvas, black": _after(lambda _, i: Image.new("RGB", i.size, "black"), draw="after"),
    "erased figure": _erased,
    "moved content": _after(_rolled, draw="after"),
    "moved content and drawing": _after(_rolled),
    "moved patch": _patch,
    "mirrored": _after(lambda _, i: ImageOps.mirror(i), draw="after"),
    "mirrored with its drawing": _after(lambda _, i: ImageOps.mirror(i)),
    "upside down": _after(lambda _, i: ImageOps.flip(i), draw="after"),
    "upside down with its drawing": _after(lambda _, i: ImageOps.flip(i)),
    "turned by 180": _after(lambda _, i: i.rotate(180)),
    "turned by 90": _after(lambda _, i: i.transpose(Image.Transpose.ROTATE_90)),
    "turned by 8": _after(lambda _, i: i.rotate(8)),
    "scribble": _scribble,
    "many boxes": _boxes,
    "words everywhere": _words,
    "noise over the drawing": _after(_noise(40)),
    "noise that hides candidates": _after(_noise(60), draw="after"),
    "tiny changes everywhere": _after(_noise(3), draw="never"),
    "all a little lighter": _after(lambda _, i: i.point(lambda v: min(255, int(v * 0.9 + 12)))),
    "less contrast": _after(_gray),
    "blurred": _after(lambda _, i: i.filter(ImageFilter.GaussianBlur(0.02 * max(i.size)))),
    "mosaic": _after(lambda _, i: i.resize((16, 16)).resize(i.size, Image.Resampling.NEAREST)),
    "cropped": _after(lambda _, i: i.crop((0, 0, int(0.7 * i.width), int(0.7 * i.height)))),
    "beside the image": _margin,
    "half of it": _half,
    "strokes without points": _without_points,
    "fan of strokes": _fan,
    "bent beyond its end": _bent,
    "three tau away": _shift(3.0),
    "eight tau away": _shift(8.0),
    "inverted": _after(lambda _, i: ImageOps.invert(i)),
}
"""Hacks by name."""
