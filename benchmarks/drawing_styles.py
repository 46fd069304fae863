"""Draws targets with matplotlib, PIL or OpenCV, in random visible colours and styles."""

import io
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from drawing_scenes import Rng, tolerance
from PIL import Image, ImageDraw, ImageFont

PALETTE = [(255, 0, 0), (0, 0, 255), (0, 160, 0), (255, 0, 255), (255, 140, 0), (0, 255, 255), (255, 255, 0), (0, 0, 0)]
PALETTE += [(255, 255, 255), (130, 0, 200), (0, 255, 0), (255, 105, 180)]


@dataclass(frozen=True, kw_only=True)
class Style:
    """Appearance of a drawing."""

    colour: tuple[int, int, int]
    stroke: float
    """Width of strokes, pixels of the input."""
    radius: float
    """Radius of markers, pixels of the input."""
    marker: str
    dash: tuple[float, float] | None
    """Lengths of dash and gap, pixels of the input."""
    alpha: float
    label: bool
    arrow: bool
    smooth: bool
    tip: float = 0.07
    """Length of an arrowhead, as a share of the stroke."""


def near_colours(image: Image.Image, target: dict[str, Any]) -> np.ndarray:
    """Returns the colours of the input along a target, shape (n, 3)."""
    pixels = np.asarray(image.convert("RGB"), int)
    places = np.concatenate([inner(p) if p["kind"] == "region" else outline(p) for p in target["primitives"]])
    at = places.round().astype(int)[:, ::-1].clip(0, np.array(pixels.shape[:2]) - 1)
    return pixels[at[:, 0], at[:, 1]]


def random_style(rng: Rng, image: Image.Image, target: dict[str, Any]) -> Style:
    """Returns a random style whose colour is visible along the target."""
    tau, near = tolerance(image.size), near_colours(image, target)
    filled = all(p["kind"] == "region" for p in target["primitives"])
    alpha = float(rng.choice([1.0, 0.7, 0.5, 0.4, 0.3] if filled else [1.0, 1.0, 1.0, 0.8, 0.6]))
    for _ in range(200):
        colour = PALETTE[rng.integers(len(PALETTE))] if rng.random() < 0.7 else tuple(map(int, rng.integers(0, 256, 3)))
        if rng.random() < 0.15:  # close to a colour of the figure
            base = near[rng.integers(len(near))]
            colour = tuple(int(v) for v in np.clip(base + rng.choice([-1, 1], 3) * rng.integers(50, 90, 3), 0, 255))
        contrast = alpha * np.abs(near - np.array(colour)) @ [0.3, 0.5, 0.2]
        if np.percentile(contrast, 8) > 38:
            break
    else:
        alpha, colour = 1.0, max(PALETTE, key=lambda c: float(np.percentile(np.abs(near - np.array(c)).max(axis=1), 8)))
    stroke = float(rng.uniform(1, min(2 * tau, 9))) if rng.random() < 0.9 else float(rng.uniform(1, 2 * tau))
    dashed = rng.random() < 0.25
    dash = (
        (max(3.0, stroke * float(rng.uniform(1, 4))), max(2.0, stroke * float(rng.uniform(1, 2)))) if dashed else None
    )
    radius = float(rng.uniform(max(2, 0.3 * tau), max(3.5, 1.2 * tau)))
    marker = str(rng.choice(["filled", "filled", "hollow", "cross", "plus", "square", "star"]))
    if {p["kind"] for p in target["primitives"]} == {"point", "segment"}:
        # a marker on a stroke is seen if it is clearly wider
        stroke = min(stroke, 1.2 * tau)
        radius = max(radius, 0.8 * stroke + (4 if marker in ("cross", "plus", "star") else 2))
    return Style(
        colour=(int(colour[0]), int(colour[1]), int(colour[2])),
        stroke=stroke,
        radius=radius,
        marker=marker,
        dash=dash,
        alpha=alpha,
        label=bool(rng.random() < 0.35),
        arrow=bool(rng.random() < 0.12),
        smooth=bool(rng.random() < 0.5),
        tip=float(rng.uniform(0.04, 0.1)),
    )


def outline(primitive: dict[str, Any]) -> np.ndarray:
    """Returns points along a primitive, about one per pixel, shape (n, 2)."""
    corners = vertices(primitive)
    parts = [corners[:1]]
    for one, other in pairwise(corners):
        steps = max(1, int(np.hypot(*(other - one))))
        parts.append(one + (other - one) * (np.arange(1, steps + 1) / steps)[:, None])
    return np.concatenate(parts)


def inner(region: dict[str, Any]) -> np.ndarray:
    """Returns places inside a region, shape (n, 2)."""
    corners = np.array(region["points"]).round().astype(np.int32)
    low, high = corners.min(axis=0), corners.max(axis=0)
    mask = cv2.fillPoly(np.zeros((high - low + 1)[::-1], np.uint8), [corners - low], (1,))
    return np.argwhere(mask)[:, ::-1][::7] + low


def vertices(primitive: dict[str, Any]) -> np.ndarray:
    """Returns the corners of a primitive as an open polyline, shape (n, 2)."""
    p, kind = primitive, primitive["kind"]
    if kind == "point":
        return np.array([[p["x"], p["y"]]], float)
    if kind == "circle":
        angles = np.linspace(0, 2 * np.pi, 73)
        return np.stack([p["cx"] + p["r"] * np.cos(angles), p["cy"] + p["r"] * np.sin(angles)], 1)
    if kind == "box":
        x1, y1, x2, y2 = p["x1"], p["y1"], p["x2"], p["y2"]
        return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]], float)
    if kind in ("polyline", "region"):
        points = np.array(p["points"], float)
        return np.concatenate([points, points[:1]]) if p.get("closed", kind == "region") else points
    return np.array([[p["x1"], p["y1"]], [p["x2"], p["y2"]]], float)


def dashes(path: np.ndarray, dash: tuple[float, float]) -> list[np.ndarray]:
    """Splits a dense path into dashes."""
    along = np.concatenate([[0], np.hypot(*np.diff(path, axis=0).T).cumsum()])
    period = sum(dash)
    number = (along // period).astype(int)
    drawn = along % period <= dash[0]
    return [path[drawn & (number == n)] for n in range(number.max() + 1) if (drawn & (number == n)).sum() > 1]


def paths(primitive: dict[str, Any], style: Style) -> list[np.ndarray]:
    """Returns the polylines to draw for a primitive."""
    if style.dash and primitive["kind"] not in ("point", "region"):
        return dashes(outline(primitive), style.dash)
    return [vertices(primitive)]


def by_pil(image: Image.Image, target: dict[str, Any], style: Style) -> Image.Image:
    """Draws with PIL on a transparent layer."""
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    draw, ink = ImageDraw.Draw(layer), (*style.colour, round(255 * style.alpha))
    width, r = max(1, round(style.stroke)), style.radius
    for number, p in enumerate(target["primitives"]):
        if p["kind"] == "point":
            x, y = p["x"], p["y"]
            if style.marker == "hollow":
                draw.ellipse((x - r, y - r, x + r, y + r), outline=ink, width=max(1, round(r / 3)))
            elif style.marker == "cross":
                draw.line((x - r, y - r, x + r, y + r), ink, max(1, round(r / 3)))
                draw.line((x - r, y + r, x + r, y - r), ink, max(1, round(r / 3)))
            elif style.marker == "plus":
                draw.line((x - r, y, x + r, y), ink, max(1, round(r / 3)))
                draw.line((x, y - r, x, y + r), ink, max(1, round(r / 3)))
            elif style.marker == "square":
                draw.rectangle((x - r, y - r, x + r, y + r), fill=ink)
            else:
                draw.ellipse((x - r, y - r, x + r, y + r), fill=ink)
        elif p["kind"] == "region":
            draw.polygon([tuple(c) for c in p["points"]], fill=ink)
        elif p["kind"] == "circle" and not style.dash:
            draw.ellipse(
                (p["cx"] - p["r"], p["cy"] - p["r"], p["cx"] + p["r"], p["cy"] + p["r"]), outline=ink, width=width
            )
        else:
            for path in paths(p, style):
                draw.line([tuple(c) for c in path], ink, width, joint="curve")
        if style.label:
            x, y = label_place(p, style)
            text = label_text(p, number)
            font = ImageFont.load_default(max(9, min(28, round(0.03 * np.hypot(*image.size)))))
            draw.text((x, y), text, ink, font)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def label_place(p: dict[str, Any], style: Style) -> tuple[float, float]:
    """Returns the position of the label of a primitive."""
    x, y = {"point": lambda: (p["x"], p["y"]), "circle": lambda: (p["cx"] + p["r"], p["cy"])}.get(
        p["kind"], lambda: tuple(p["points"][0]) if "points" in p else (p["x1"], p["y1"])
    )()
    off = (style.radius if p["kind"] == "point" else style.stroke / 2) + 3
    return float(x) + off, float(y) + off * 0.3


def label_text(p: dict[str, Any], number: int) -> str:
    """Returns a typical label of a primitive."""
    texts = ["ABCDEFG"[number % 7], f"P{number + 1}", "M"]
    if p["kind"] == "point":
        texts += [f"({p['x']:.0f}, {p['y']:.0f})", "midpoint"]
    return texts[int(sum(v for v in p.values() if isinstance(v, float))) % len(texts)]


@cache
def cv2_thickness(width: int) -> int:
    """Returns the largest thickness at which OpenCV draws a stroke of at most `width` pixels.

    OpenCV 5 draws strokes up to two pixels wider than their thickness.
    """
    fits = 1
    for thickness in range(2, width + 1):
        canvas = np.zeros((4 * width, 4 * width), np.uint8)
        cv2.line(canvas, (2 * width, 0), (2 * width, 4 * width - 1), (1,), thickness)
        if int(canvas[2 * width].sum()) <= width:
            fits = thickness
    return fits


def by_cv2(image: Image.Image, target: dict[str, Any], style: Style) -> Image.Image:
    """Draws with OpenCV, with or without anti-aliasing."""
    base = np.array(image.convert("RGB"))
    canvas = base.copy()
    kind = cv2.LINE_AA if style.smooth else cv2.LINE_8
    width, r = cv2_thickness(max(1, round(style.stroke))), max(1, round(style.radius))
    for number, p in enumerate(target["primitives"]):
        if p["kind"] == "point":
            at = (round(p["x"]), round(p["y"]))
            if style.marker in ("cross", "plus", "star"):
                form = {"cross": cv2.MARKER_TILTED_CROSS, "plus": cv2.MARKER_CROSS, "star": cv2.MARKER_STAR}[
                    style.marker
                ]
                cv2.drawMarker(canvas, at, style.colour, form, 2 * r + 1, max(1, r // 3), kind)
            else:
                cv2.circle(canvas, at, r, style.colour, max(1, r // 3) if style.marker == "hollow" else -1, kind)
        elif p["kind"] == "region":
            cv2.fillPoly(canvas, [np.array(p["points"]).round().astype(np.int32)], style.colour, kind)
        elif p["kind"] == "circle" and not style.dash:
            cv2.circle(canvas, (round(p["cx"]), round(p["cy"])), round(p["r"]), style.colour, width, kind)
        elif p["kind"] == "segment" and style.arrow:
            one, other = vertices(p).round().astype(int).tolist()
            cv2.arrowedLine(canvas, one, other, style.colour, min(width, 4), kind, tipLength=style.tip)
        else:
            for path in paths(p, style):
                # sixteenths of a pixel
                cv2.polylines(canvas, [(16 * path).round().astype(np.int32)], False, style.colour, width, kind, 4)
        if style.label:
            x, y = label_place(p, style)
            scale = max(0.35, min(1.0, np.hypot(*image.size) / 900))
            at = (round(x), round(y + 12 * scale))
            cv2.putText(canvas, label_text(p, number), at, cv2.FONT_HERSHEY_SIMPLEX, scale, style.colour, 1, kind)
    blended = cv2.addWeighted(canvas, style.alpha, base, 1 - style.alpha, 0)
    return Image.fromarray(blended)


def by_matplotlib(image: Image.Image, target: dict[str, Any], style: Style, rng: Rng) -> Image.Image:
    """Draws over the input in a matplotlib figure (`imshow`), and saves the figure with usual options."""
    form = str(rng.choice(["default", "tight", "tight_off", "off", "full", "size", "fit", "pad0"]))
    dpi = int(rng.choice([100, 100, 100, 150, 72, 200]))
    long = max(image.size)
    if long > 900:
        dpi = max(dpi, 150)
    pixels = np.asarray(image)
    if image.mode == "P":
        pixels = np.asarray(image.convert("RGBA")) / 255.0
    if form in ("full", "size"):
        dpi = int(rng.choice([50, 72, 100]))
        figure = plt.figure(figsize=(image.width / dpi, image.height / dpi), dpi=dpi)
        axes = figure.add_axes((0, 0, 1, 1))
    else:
        figure, axes = plt.subplots(figsize=(8, 6) if rng.random() < 0.3 else None, dpi=dpi)
    axes.imshow(pixels, **({"cmap": "gray"} if image.mode == "L" and rng.random() < 0.8 else {}))
    if form not in ("default", "tight", "fit"):
        axes.axis("off")
    if form in ("full", "size"):
        axes.set_xlim(-0.5, image.width - 0.5)
        axes.set_ylim(image.height - 0.5, -0.5)
    elif rng.random() < 0.3:
        axes.set_title("with the construction")
    if form == "fit":
        figure.tight_layout()
    figure.canvas.draw()
    scale = abs(axes.transData.transform((1, 0))[0] - axes.transData.transform((0, 0))[0])  # pixels of the figure
    points = scale * 72 / dpi
    smallest = 1.2 * 72 / dpi  # a stroke thinner than a pixel of the figure can't be seen
    width = max(style.stroke * points, smallest)
    on_strokes = len({p["kind"] for p in target["primitives"]}) > 1  # such markers are wider than the strokes
    radius = max(style.radius * points, 2 * smallest, on_strokes * width / 2 + 2 * smallest)
    ink = tuple(v / 255 for v in style.colour)
    options: dict[str, Any] = {"color": ink, "alpha": style.alpha, "linewidth": width}
    if style.dash:
        options["linestyle"] = str(rng.choice(["--", ":", "-."]))
    for number, p in enumerate(target["primitives"]):
        if p["kind"] == "point":
            marker = {"filled": "o", "hollow": "o", "cross": "x", "plus": "+", "square": "s", "star": "*"}[style.marker]
            face = {"markerfacecolor": "none", "markeredgewidth": max(smallest, radius / 3)}
            face = (
                face
                if style.marker == "hollow"
                else {"markeredgewidth": max(smallest, radius / 3)}
                if marker in "x+"
                else {}
            )
            axes.plot(p["x"], p["y"], marker, color=ink, markersize=2 * radius, alpha=style.alpha, **face)
            if style.label:
                arrow = {"arrowprops": {"arrowstyle": "->", "color": ink}} if style.arrow else {}
                away = 30 if style.arrow else radius + 4
                axes.annotate(
                    label_text(p, number),
                    (p["x"], p["y"]),
                    (away, away),
                    textcoords="offset points",
                    color=ink,
                    **arrow,
                )
        elif p["kind"] == "region":
            axes.fill(*np.array(p["points"]).T, color=ink, alpha=style.alpha, linewidth=0)
        elif p["kind"] == "segment" and style.arrow:
            axes.annotate(
                "",
                (p["x2"], p["y2"]),
                (p["x1"], p["y1"]),
                arrowprops={"arrowstyle": "->", "color": ink, "lw": min(width, 2.5), "shrinkA": 0, "shrinkB": 0},
            )
        elif p["kind"] == "circle":
            axes.add_patch(plt.Circle((p["cx"], p["cy"]), p["r"], fill=False, **options))
        elif p["kind"] == "box":
            corner = min(p["x1"], p["x2"]), min(p["y1"], p["y2"])
            axes.add_patch(plt.Rectangle(corner, abs(p["x1"] - p["x2"]), abs(p["y1"] - p["y2"]), fill=False, **options))
        else:
            axes.plot(*vertices(p).T, **options)
        if style.label and p["kind"] != "point":
            axes.text(*label_place(p, style), label_text(p, number), color=ink)
    stream = io.BytesIO()
    tight = {"bbox_inches": "tight"} if form.startswith("tight") or form == "pad0" else {}
    if form == "pad0":
        tight["pad_inches"] = 0
    figure.savefig(stream, dpi=dpi, **tight)
    plt.close(figure)
    return Image.open(stream).convert("RGB" if rng.random() < 0.7 else "RGBA")
