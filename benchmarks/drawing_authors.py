"""Chooses an author and a way of saving for a drawing; one author writes code as in the data of V-Thinker."""

import io
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from drawing_scenes import Rng
from drawing_styles import Style, by_cv2, by_matplotlib, by_pil, label_place, label_text, vertices
from matplotlib import patches
from PIL import Image, ImageFilter, ImageOps


def by_published_code(image: Image.Image, target: dict[str, Any], style: Style, rng: Rng) -> Image.Image:
    """Draws as the code in V-Thinker's data: `plt.imread`, `plt.imshow`, `plt.scatter`, `plt.text`, `plt.savefig`."""
    stream = io.BytesIO()
    image.convert("RGBA" if image.mode in ("P", "LA") else image.mode).save(stream, "PNG")
    stream.seek(0)
    pixels = plt.imread(stream, format="png")
    square = max(image.size) / min(image.size) < 1.3
    size = {"size": (image.width / 100, image.height / 100), "square": (8, 8)}.get(
        str(rng.choice(["none", "none", "none", "size", "square" if square else "none"]))
    )
    figure = plt.figure(figsize=size)
    # a figure shows at least one pixel for every two pixels of the input
    dpi = next(
        n for n in (100, 150, 200, 300, 400, 600) if n * min(figure.get_size_inches()) * 0.77 > max(image.size) / 2
    )
    plt.imshow(pixels, **({"cmap": "gray"} if pixels.ndim == 2 and rng.random() < 0.8 else {}))
    axes = plt.gca()
    ending = str(rng.choice(["off", "off", "off_tight", "off_tight0", "off_layout", "axes", "axes_tight", "whole"]))
    if ending.startswith("off") or ending == "whole":
        plt.axis("off")
    if ending == "off_layout":
        plt.tight_layout()
    if ending == "whole":
        plt.subplots_adjust(left=0, right=1, top=1, bottom=0)
    if rng.random() < 0.2 and ending != "whole":
        plt.title(str(rng.choice(["Auxiliary line", "Marked points A and B", "Step 1"])))
    axes.set_xlim(-0.5, image.width - 0.5)
    axes.set_ylim(image.height - 0.5, -0.5)
    figure.canvas.draw()
    scale = abs(axes.transData.transform((1, 0))[0] - axes.transData.transform((0, 0))[0]) * dpi / figure.dpi
    least = 1.3 * 72 / dpi
    width, radius = max(style.stroke * scale * 72 / dpi, least), style.radius * scale * 72 / dpi
    on_strokes = len({p["kind"] for p in target["primitives"]}) > 1  # such markers are wider than the strokes
    radius = max(radius, 2.4 * least, on_strokes * width / 2 + 2 * least)
    ink = tuple(v / 255 for v in style.colour)
    for number, p in enumerate(target["primitives"]):
        text, at = label_text(p, number), label_place(p, style)
        if p["kind"] == "point":
            marker = {"cross": "x", "plus": "+", "square": "s", "star": "*"}.get(style.marker, "o")
            face = {"facecolors": "none", "edgecolors": [ink], "linewidths": max(least, radius / 3)}
            filled = {"c": [ink], "linewidths": max(least, radius / 3)} if marker in "x+" else {"c": [ink]}
            look = face if style.marker == "hollow" else filled
            plt.scatter([p["x"]], [p["y"]], s=(2 * radius) ** 2, marker=marker, alpha=style.alpha, zorder=5, **look)
        else:
            _add(axes, p, style, width, ink)
        if style.label and style.arrow and p["kind"] == "point":
            plt.annotate(
                text, (p["x"], p["y"]), at, color=ink, fontsize=12, arrowprops={"arrowstyle": "->", "color": ink}
            )
        elif style.label:
            boxed = {"bbox": {"facecolor": "white", "alpha": 0.7, "pad": 1}} if rng.random() < 0.15 else {}
            away = 9 * dpi / 72 / scale if boxed else 0.0  # the box hides nothing of the drawing
            plt.text(
                at[0] + away,
                at[1] + away,
                text,
                color=ink,
                fontsize=float(rng.choice([10, 12, 14])),
                fontweight="bold",
                **boxed,
            )
    stream = io.BytesIO()
    tight = {"bbox_inches": "tight"} if "tight" in ending else {}
    if ending.endswith("0"):
        tight["pad_inches"] = 0
    plt.savefig(stream, dpi=dpi, **tight)
    plt.close(figure)
    return Image.open(stream)


def _add(axes: Any, p: dict[str, Any], style: Style, width: float, ink: tuple[float, ...]) -> None:
    """Adds a primitive that isn't a point to the axes."""
    line: dict[str, Any] = {"linewidth": width, "linestyle": "--" if style.dash else "-", "alpha": style.alpha}
    if p["kind"] == "circle":
        axes.add_patch(patches.Circle((p["cx"], p["cy"]), p["r"], fill=False, edgecolor=ink, **line))
    elif p["kind"] == "box":
        corner = min(p["x1"], p["x2"]), min(p["y1"], p["y2"])
        sides = abs(p["x1"] - p["x2"]), abs(p["y1"] - p["y2"])
        axes.add_patch(patches.Rectangle(corner, *sides, fill=False, edgecolor=ink, **line))
    elif p["kind"] == "region":
        axes.add_patch(patches.Polygon(p["points"], facecolor=ink, alpha=style.alpha))
    elif p["kind"] == "polyline" and p["closed"]:
        axes.add_patch(patches.Polygon(p["points"], fill=False, edgecolor=ink, **line))
    elif p["kind"] == "segment" and style.arrow:
        x, y = (p[f"{axis}2"] - p[f"{axis}1"] for axis in "xy")
        head = 3 * min(style.stroke, 0.04 * np.hypot(x, y))
        axes.arrow(
            p["x1"],
            p["y1"],
            x,
            y,
            color=ink,
            width=head / 4,
            head_width=head,
            head_length=head,
            length_includes_head=True,
        )
    else:
        axes.plot(*vertices(p).T, color=ink, solid_capstyle="butt", **line)


def by_smooth_pil(image: Image.Image, target: dict[str, Any], style: Style) -> Image.Image:
    """Draws with PIL on a layer of four times the size, and reduces it: the ink has smooth edges."""
    large = Image.new("RGB", (4 * image.width, 4 * image.height))
    mask = by_pil(large, _enlarged(target, 4), _scaled(style, 4)).convert("L").resize(image.size, Image.Resampling.BOX)
    mask = mask.point(lambda v: round(v * style.alpha))
    return Image.composite(Image.new("RGB", image.size, style.colour), image.convert("RGB"), mask)


def _enlarged(target: dict[str, Any], by: int) -> dict[str, Any]:
    """Returns a target on an image that is `by` times as large."""

    def large(value: Any) -> Any:
        if isinstance(value, list):
            return [large(part) for part in value]
        return by * value if isinstance(value, float) else value

    return {"primitives": [{name: large(value) for name, value in p.items()} for p in target["primitives"]]}


def _scaled(style: Style, by: int) -> Style:
    dash = style.dash and (by * style.dash[0], by * style.dash[1])
    values = {"colour": (255, 255, 255), "alpha": 1.0, "stroke": by * style.stroke, "radius": by * style.radius}
    return replace(style, **values, dash=dash)


def random_drawing(rng: Rng, image: Image.Image, target: dict[str, Any], style: Style) -> tuple[str, Image.Image]:
    """Returns who drew and how it was saved, and the made image."""
    author = str(rng.choice(["matplotlib", "published", "pil", "smooth pil", "cv2"], p=[0.25, 0.25, 0.2, 0.05, 0.25]))
    if author == "matplotlib":
        made = by_matplotlib(image, target, style, rng)
    elif author == "published":
        made = by_published_code(image, target, style, rng)
    else:
        made = {"pil": by_pil, "smooth pil": by_smooth_pil, "cv2": by_cv2}[author](image, target, style)
    after = str(rng.choice(["png", "png", "png", "jpeg", "webp", "resize", "stretch", "pad", "letterbox", "blur"]))
    if author in ("matplotlib", "published") and after in ("stretch", "pad", "letterbox"):
        after = "png"
    return f"{author}, {after}", saved(made, after, style, rng)


def saved(made: Image.Image, after: str, style: Style, rng: Rng) -> Image.Image:
    """Returns the made image as it is after saving: compressed, of another size, padded, or slightly blurred."""
    if after in ("jpeg", "webp"):
        stream = io.BytesIO()
        quality = {"quality": int(rng.integers(75, 96)), "subsampling": int(rng.choice([0, 2]))}
        made.convert("RGB").save(stream, after.upper(), **quality)
        return Image.open(stream)
    if after in ("resize", "stretch"):
        # no stroke gets thinner than a pixel
        least = max(0.6, min(1.0, 1.2 / style.stroke))
        x = float(rng.uniform(least, 1.8))
        y = x * float(rng.uniform(0.8, 1.25)) if after == "stretch" else x
        size = max(60, round(made.width * x)), max(60, round(made.height * max(y, least)))
        return made.convert("RGB").resize(size, Image.Resampling(int(rng.choice([1, 2, 3]))))
    colour = str(rng.choice(["white", "black", "gray"]))
    if after == "pad":
        a, b, c, d = map(int, rng.integers(0, 60, 4))
        padded = Image.new("RGB", (made.width + a + c, made.height + b + d), colour)
        padded.paste(made, (a, b))
        return padded
    if after == "letterbox":
        side = max(made.size) if rng.random() < 0.5 else int(max(made.size) * rng.uniform(0.8, 1.3))
        return ImageOps.pad(made.convert("RGB"), (side, side), color=colour)
    if after == "blur":
        return made.convert("RGB").filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.7))))
    return made
