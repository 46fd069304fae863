"""Draws bar, line and pie charts with matplotlib, and asks about one value or the largest."""

import numpy as np
from PIL import Image

from codevision_ext.types import Box
from data_prep.tasks.common import Rng, pick, pick_many
from data_prep.tasks.synth.scene import WORDS, Scene, inside

KINDS = ("bar", "barh", "line", "pie")
PAD_PX = 3
PLATE = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"}
"""Background of a number on a dark wedge."""
STYLES = ("default", "ggplot", "bmh", "grayscale", "seaborn-v0_8-whitegrid")


def draw_chart(rng: Rng, max_pixels: int) -> Scene:
    """Draw a chart of four to eight values, each written beside its mark."""
    import matplotlib as mpl  # noqa: PLC0415  slow to import
    import matplotlib.style  # noqa: PLC0415
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    kind = pick(rng, KINDS)
    names = [word.capitalize() for word in pick_many(rng, WORDS, int(rng.integers(4, 9)))]
    values = [int(value) for value in pick_many(rng, range(11, 99), len(names))]
    unit, topic = pick(rng, ("units", "percent", "tons", "visitors")), pick(rng, WORDS)
    with mpl.rc_context(), mpl.style.context(pick(rng, STYLES)):
        mpl.rcParams["font.family"] = pick(rng, ("DejaVu Sans", "DejaVu Serif", "STIXGeneral"))
        dpi = min(float(rng.uniform(80, 200)), (max_pixels / 35) ** 0.5)
        figure = Figure(figsize=(7, 5), dpi=dpi, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(f"{topic.capitalize()}, {unit}")
        if kind == "pie":
            wedges, *_ = axes.pie(values, labels=names, labeldistance=1.08)
            labels = [
                axes.annotate(str(value), (0.6 * np.cos(a), 0.6 * np.sin(a)), ha="center", va="center", bbox=PLATE)
                for value, a in zip(values, (np.deg2rad((w.theta1 + w.theta2) / 2) for w in wedges), strict=True)
            ]
        elif kind == "line":
            axes.plot(names, values, marker="o")
            labels = [
                axes.annotate(str(value), (name, value), xytext=(0, 6), textcoords="offset points", ha="center")
                for name, value in zip(names, values, strict=True)
            ]
            axes.margins(y=0.2)
        else:
            bars = axes.bar(names, values) if kind == "bar" else axes.barh(names, values)
            labels = axes.bar_label(bars, padding=2)
            axes.margins(y=0.15) if kind == "bar" else axes.margins(x=0.15)
        if kind in ("bar", "line"):
            axes.tick_params(axis="x", labelrotation=35)
        canvas.draw()  # type: ignore[no-untyped-call]
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())  # type: ignore[no-untyped-call]
        chosen = int(rng.integers(len(names)))
        extent = labels[chosen].get_window_extent()
    if rng.random() < 0.3:
        question = f"Which has the highest value in the chart on {topic}?"
        return Scene(image=image, question=question, answer=names[int(np.argmax(values))])
    left, right = int(extent.x0) - PAD_PX, int(extent.x1) + 1 + PAD_PX
    top, bottom = int(image.height - extent.y1) - PAD_PX, int(image.height - extent.y0) + 1 + PAD_PX
    return Scene(
        image=image,
        question=f"What is the value of {names[chosen]}?",
        answer=str(values[chosen]),
        box=inside(Box(left, top, right, bottom), image.size),
    )
