"""Makes varied input images and random targets for the measurements of the drawing verifier."""

import io
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from codevision_ext.geometry import tolerance

mpl.use("Agg")
import matplotlib.pyplot as plt

Rng = np.random.Generator
PHOTOGRAPHS = (
    "astronaut",
    "camera",
    "cat",
    "coffee",
    "coins",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "retina",
    "rocket",
    "brick",
    "grass",
    "gravel",
    "page",
    "text",
    "clock",
    "logo",
)
WORDS = (
    "the",
    "area",
    "of",
    "a",
    "triangle",
    "is",
    "half",
    "its",
    "base",
    "times",
    "height",
    "every",
    "angle",
    "twice",
)


@cache
def photograph(name: str) -> Image.Image:
    """Returns a photograph of scikit-image or of a file."""
    return load(Path(name)) if "." in name else Image.fromarray(np.asarray(getattr(data, name)()))


@cache
def names() -> tuple[str, ...]:
    """Returns the names of photographs: of scikit-image, and of files in the folder of the variable PHOTOGRAPHS."""
    folder = os.environ.get("PHOTOGRAPHS")
    return (*PHOTOGRAPHS, *(sorted(map(str, Path(folder).iterdir())) if folder else ()))


def photo(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Returns a random photograph, cropped to the aspect ratio and resized."""
    image = photograph(str(rng.choice(names())))
    shape = min(image.width / size[0], image.height / size[1])
    width, height = int(size[0] * shape), int(size[1] * shape)
    x, y = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
    return image.crop((x, y, x + width, y + height)).resize(size, Image.Resampling.LANCZOS)


def document(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Returns a page with lines of text."""
    paper, ink = ((250, 248, 240), (20, 20, 30)) if rng.random() < 0.7 else ((255, 255, 255), (0, 0, 0))
    image = Image.new("RGB", size, paper)
    draw, height = ImageDraw.Draw(image), int(rng.integers(9, 20))
    font = ImageFont.load_default(height)
    y = height
    while y < size[1] - height:
        if rng.random() < 0.85:
            words = " ".join(rng.choice(WORDS, int(size[0] / height / 2.8) + 1))
            draw.text((height, y), words[: int(rng.integers(10, len(words) + 11))], ink, font)
        y += int(height * 1.5)
    return image


def chart(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Plots lines, bars, points, shares or a heat map, with axes, on white or black."""
    with plt.style.context("dark_background" if rng.random() < 0.15 else "default"):
        figure, axes = plt.subplots(figsize=(size[0] / 100, size[1] / 100), dpi=100)
        kind, number = str(rng.choice(["lines", "bars", "points", "shares", "heat"])), int(rng.integers(4, 12))
        if kind == "lines":
            for series in range(rng.integers(1, 4)):
                values = rng.normal(size=number).cumsum()
                axes.plot(values, marker="o" if rng.random() < 0.5 else None, label=f"series {series}")
            if rng.random() < 0.4:
                axes.legend()
        elif kind == "bars":
            axes.bar(range(number), rng.uniform(1, 9, number), color=str(rng.choice(["C0", "C1", "teal", "gray"])))
        elif kind == "points":
            axes.scatter(rng.normal(size=50), rng.normal(size=50), s=12)
        elif kind == "shares":
            axes.pie(rng.uniform(1, 9, number), labels=list(WORDS[:number]))
        else:
            axes.imshow(rng.uniform(size=(number, number)), cmap=str(rng.choice(["viridis", "gray", "coolwarm"])))
        if rng.random() < 0.5 and kind in ("lines", "bars", "points"):
            axes.grid()
        axes.set_title("values by step")
        return _saved(figure)


def table(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Writes a table with ruled rows and columns, as in a form or a report."""
    image = Image.new("RGB", size, "white")
    draw, height = ImageDraw.Draw(image), int(rng.integers(16, 34))
    font, columns = ImageFont.load_default(0.6 * height), int(rng.integers(2, 6))
    left, width = height // 2, (size[0] - height) / columns
    for row, y in enumerate(range(height // 2, size[1] - height, height)):
        if row == 0 and rng.random() < 0.5:
            draw.rectangle((left, y, size[0] - left, y + height), fill=(220, 228, 240))
        draw.line((left, y, size[0] - left, y), (90, 90, 90))
        for column in range(columns):
            text = WORDS[int(rng.integers(len(WORDS)))] if column == 0 else str(int(rng.integers(9999)))
            draw.text((left + column * width + 4, y + 3), text, (20, 20, 20), font)
    for column in range(columns + 1):
        draw.line((left + column * width, height // 2, left + column * width, y), (90, 90, 90))
    return image


def screen(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Draws a window of a program: a bar, panels, buttons and text, light or dark."""
    light = rng.random() < 0.6
    image = Image.new("RGB", size, (242, 243, 245) if light else (32, 34, 38))
    draw, (width, height) = ImageDraw.Draw(image), size
    text, panel = ((30, 30, 30), (255, 255, 255)) if light else ((220, 220, 220), (48, 50, 56))
    draw.rectangle((0, 0, width, height // 12), fill=tuple(int(v) for v in rng.integers(20, 200, 3)))
    for _ in range(rng.integers(3, 8)):
        x, y = float(rng.uniform(0, 0.8) * width), float(rng.uniform(0.12, 0.85) * height)
        box = (x, y, x + float(rng.uniform(0.1, 0.4) * width), y + float(rng.uniform(0.06, 0.3) * height))
        filled = panel if rng.random() < 0.7 else tuple(int(v) for v in rng.integers(40, 220, 3))
        draw.rounded_rectangle(box, 6, filled, (150, 150, 150))
        draw.text((x + 6, y + 4), " ".join(rng.choice(WORDS, 3)), text, ImageFont.load_default(max(9, height // 40)))
    return image


def geometry(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Returns a figure of polygons and a circle with letters, as in a school book."""
    image = Image.new("RGB", size, "white")
    draw, side = ImageDraw.Draw(image), min(size)
    for _ in range(rng.integers(1, 3)):
        corners = [tuple(map(float, rng.uniform(0.1, 0.9, 2) * size)) for _ in range(rng.integers(3, 5))]
        draw.polygon(corners, outline="black", width=max(1, side // 250))
        for letter, corner in zip("ABCD", corners, strict=False):
            draw.text(corner, letter, "black", ImageFont.load_default(max(10, side // 25)))
    x, y, r = *(rng.uniform(0.3, 0.7, 2) * size), rng.uniform(0.1, 0.25) * side
    draw.ellipse((x - r, y - r, x + r, y + r), outline="black", width=max(1, side // 250))
    return image


def blank(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Returns an image of one colour, sometimes with a grid."""
    colour = tuple(int(v) for v in (rng.integers(230, 256, 3) if rng.random() < 0.6 else rng.integers(0, 60, 3)))
    image = Image.new("RGB", size, colour)
    if rng.random() < 0.4:
        draw, step = ImageDraw.Draw(image), int(rng.integers(10, 40))
        line = tuple(abs(v - 40) for v in colour)
        for at in range(step, max(size), step):
            draw.line((at, 0, at, size[1]), line)
            draw.line((0, at, size[0], at), line)
    return image


def texture(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """Returns white noise, smooth noise, or noise of two scales."""
    kind = rng.integers(3)
    values = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    if kind == 0:
        return Image.fromarray(values)
    step = int(rng.integers(4, 24))
    small = rng.integers(0, 256, (size[1] // step + 2, size[0] // step + 2, 3), np.uint8)
    smooth = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    return smooth if kind == 1 else Image.blend(smooth, Image.fromarray(values), 0.25)


SCENES: dict[str, Callable[[Rng, tuple[int, int]], Image.Image]] = {
    "photo": photo,
    "document": document,
    "table": table,
    "screen": screen,
    "chart": chart,
    "geometry": geometry,
    "blank": blank,
    "texture": texture,
}
"""Functions that make an input image of (width, height), by name."""


def random_size(rng: Rng, largest: float = 2e6) -> tuple[int, int]:
    """Returns a size from 80 pixels to two megapixels."""
    shape = float(np.exp(rng.uniform(-0.5, 0.5)))
    side = float(np.exp(rng.uniform(np.log(110), np.log(min(1250.0, largest**0.5)))))
    return max(80, int(side * shape**0.5)), max(80, int(side / shape**0.5))


def random_input(rng: Rng, kind: str | None = None, largest: float = 2e6) -> tuple[str, Image.Image]:
    """Returns the kind of a scene and an image of it, sometimes gray, transparent or with a palette."""
    kind = kind or str(rng.choice([*SCENES, "photo", "photo", "chart"]))
    size = random_size(rng, largest)
    if kind == "chart":
        size = max(size[0], 240), max(size[1], 200)
    image = SCENES[kind](rng, size)
    mode = rng.choice(["RGB", "L", "RGBA", "P"], p=[0.79, 0.09, 0.08, 0.04])
    if mode == "P":
        return kind, image.convert("RGB").quantize(128)
    if mode == "RGBA":
        image = image.convert("RGBA")
        if rng.random() < 0.3:
            image.putalpha(
                Image.fromarray(np.where(np.indices(image.size[::-1]).sum(0) % 97 < 90, 255, 0).astype("u1"))
            )
        return kind, image
    return kind, image.convert(str(mode))


def random_target(rng: Rng, size: tuple[int, int]) -> dict[str, Any]:
    """Returns a random target of any kind."""
    width, height = size
    tau, side = tolerance(size), min(size)

    def place(margin: float = 0.06) -> tuple[float, float]:
        x = rng.uniform(margin * width, (1 - margin) * width)
        return round(float(x), 1), round(float(rng.uniform(margin * height, (1 - margin) * height)), 1)

    def apart(least: float) -> tuple[float, float, float, float]:
        while True:
            (x1, y1), (x2, y2) = place(), place()
            if min(abs(x1 - x2), abs(y1 - y2)) > least / 3 and np.hypot(x1 - x2, y1 - y2) > least:
                return x1, y1, x2, y2

    kind = str(rng.choice(["point", "points", "segment", "line", "polyline", "circle", "box", "region", "mixed"]))
    if kind == "point":
        return {"primitives": [dict(zip(("kind", "x", "y"), ("point", *place()), strict=True))]}
    if kind == "points":
        places: list[tuple[float, float]] = []
        while len(places) < rng.integers(2, 6):
            new = place()
            if all(np.hypot(new[0] - x, new[1] - y) > max(8 * tau, 40) for x, y in places):
                places.append(new)
            elif rng.random() < 0.05:
                break
        return {"primitives": [{"kind": "point", "x": x, "y": y} for x, y in places]}
    ends = dict(zip(("x1", "y1", "x2", "y2"), apart(max(0.25 * side, 8 * tau)), strict=True))
    if kind in ("segment", "line", "box"):
        return {"primitives": [{"kind": kind, **ends}]}
    if kind == "circle":
        x, y = place(0.3)
        return {"primitives": [{"kind": kind, "cx": x, "cy": y, "r": round(float(rng.uniform(0.1, 0.28) * side), 1)}]}
    if kind in ("polyline", "region"):
        number = int(rng.integers(3, 6))
        angles = np.sort(rng.uniform(0, 1, number) * 0.6 + np.arange(number)) * 2 * np.pi / number
        (x, y), r = place(0.35), rng.uniform(0.18, 0.32) * side
        points = [[round(float(x + r * np.cos(a)), 1), round(float(y + r * np.sin(a)), 1)] for a in angles]
        closed = {"closed": bool(rng.random() < 0.5)} if kind == "polyline" else {}
        return {"primitives": [{"kind": kind, "points": points, **closed}]}
    x1, y1, x2, y2 = ends.values()
    middle = {"kind": "point", "x": round((x1 + x2) / 2, 1), "y": round((y1 + y2) / 2, 1)}
    return {
        "primitives": [
            {"kind": "segment", **ends},
            *(
                [middle]
                if rng.random() < 0.5
                else [{"kind": "point", "x": x1, "y": y1}, {"kind": "point", "x": x2, "y": y2}]
            ),
        ]
    }


def _saved(figure: Any, **options: Any) -> Image.Image:
    stream = io.BytesIO()
    figure.savefig(stream, **options)
    plt.close(figure)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def load(path: Path) -> Image.Image:
    """Returns the image of a file."""
    with Image.open(path) as image:
        image.load()
        return image
