"""Writes a rollout for experiment trackers: its images side by side as one image, and its turns as Markdown."""

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from codevision_ext.errors import InputError
from codevision_ext.io.records import Record, image_path
from codevision_ext.report.targets import scale_to, shape_views
from codevision_ext.report.trajectories import MarkView, mark_views

HEIGHT, MAX_WIDTH, GAP = 256, 512, 8
"""Height, maximum width and gap of the images in the row, in pixels; a wider image is scaled to the maximum width."""
RECALL = 0.9
"""Share of a primitive from which it counts as drawn, as in `codevision_ext.drawing`."""
_NEEDED, _MISSED = (18, 183, 106), (217, 45, 32)
_COLOURS = ((194, 87, 12), (163, 53, 156), (13, 138, 148), (196, 48, 78), (92, 79, 196), (31, 111, 214))


def spread_evenly(records: Sequence[Record], count: int) -> list[Record]:
    """Returns at most `count` valid records, evenly spread from the highest reward to the lowest."""
    ranked = sorted((r for r in records if r.observed.valid), key=lambda r: r.reward or 0.0, reverse=True)
    last, places = len(ranked) - 1, min(count, len(ranked))
    return [ranked[i * last // max(1, places - 1)] for i in range(places)]


def strip(record: Record, directory: Path) -> Image.Image:
    """Draws all images of a rollout side by side, RGB, 256 pixels high.

    Boxes of new images are marked on older ones, and the target of a drawing on the input and on the judged image.

    The record has at least one image; `directory` is the folder of its record file.

    Raises:
        InputError: an image can't be read, or the target of the drawing.
    """
    shown = []
    drawn = record.observed.drawn
    for index, name in enumerate(record.pictures):
        path = image_path(directory, name)
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except (OSError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: not an image that can be shown: {error}") from error
        scale = min(HEIGHT / image.height, MAX_WIDTH / image.width)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        fit = scale_to(record, image.size) if index in (0, drawn.node if drawn else 0) else None
        image = image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC)
        if fit is not None:
            _draw_target(image, record, (fit[0] * scale, fit[1] * scale))
        for mark in mark_views(record, index):
            _draw(image, mark, scale)
        shown.append(image)
    row = Image.new("RGB", (sum(p.width + GAP for p in shown) - GAP, HEIGHT), (238, 238, 238))
    left = 0
    for image in shown:
        row.paste(image, (left, (HEIGHT - image.height) // 2))
        left += image.width + GAP
    return row


def _draw(image: Image.Image, mark: MarkView, scale: float) -> None:
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    x1, y1, x2, y2 = (round(v * scale) for v in mark.box)
    x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)
    colour = _NEEDED if mark.node is None else _COLOURS[mark.node % len(_COLOURS)]
    pen.rectangle((x1, y1, x2, y2), outline=colour, width=2)
    heavy = {
        "top": (x1, y1, x2, min(y1 + 5, y2)),
        "bottom": (x1, max(y2 - 5, y1), x2, y2),
        "left": (x1, y1, min(x1 + 5, x2), y2),
        "right": (max(x2 - 5, x1), y1, x2, y2),
    }
    if mark.up:
        pen.rectangle(heavy[mark.up], fill=colour)
    if mark.node is not None:
        pen.text((x1 + 4, y1 + 3), str(mark.node), colour, font)


def _draw_target(image: Image.Image, record: Record, scale: tuple[float, float]) -> None:
    pen = ImageDraw.Draw(image)
    for shape in shape_views(record):
        colour = _MISSED if shape.recall is not None and shape.recall < RECALL else _NEEDED
        places = [(x * scale[0], y * scale[1]) for x, y in shape.places]
        if shape.kind in ("point", "circle"):
            pen.circle(places[0], 5 if shape.kind == "point" else shape.radius * scale[0], outline=colour, width=2)
        else:
            pen.line([*places, *places[:1]] if shape.closed else places, fill=colour, width=2)


def transcript(record: Record) -> str:
    """Writes the turns and the reward in Markdown; text of the model can't act as markup."""
    reward = "unscored" if record.reward is None else f"reward {record.reward:.3g}"
    verdict = "undecided" if record.observed.undecided else "right" if record.observed.correct else "wrong"
    lines = [f"**{verdict}, {reward}**, ended by {record.observed.end_reason}, wanted:"]
    lines += [_verbatim(" or ".join(record.references) or ("a drawing" if record.task.drawing else "not recorded"))]
    if drawn := record.observed.drawn:
        lines.append(f"drawing: F1 {drawn.f1:.3g}, precision {drawn.precision:.3g}, preserved {drawn.preserved:.3g}:")
        lines.append(_verbatim(drawn.reason))
    for turn in record.turns:
        lines += [f"**{turn.role}**", _verbatim(turn.text)]
    terms = [(name, term) for name, term in record.terms.items() if term.contribution]
    if terms:
        rows = [f"| {n} | {t.raw:.3g} | {t.weight:.3g} | {t.contribution:+.3g} |" for n, t in terms]
        lines.append("\n".join(["| term | raw | weight | gives |", "|---|---|---|---|", *rows]))
    return "\n\n".join(lines)


def _verbatim(text: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in ["", *re.findall("`+", text)]))
    return f"{fence}\n{text}\n{fence}"
