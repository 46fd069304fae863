"""Draws geometric figures with lengths to read, and shapes to count."""

from PIL import Image, ImageDraw

from data_prep.tasks.common import Rng, font, pick
from data_prep.tasks.synth.scene import FONTS, Scene, draw_ink_and_paper

COLOURS = {"red": (200, 40, 40), "blue": (40, 70, 200), "green": (30, 140, 60), "orange": (230, 140, 20)}
SHAPES = ("circle", "square", "triangle")
MAX_COUNT = 9
"""Maximum number of shapes of the kind and colour that is asked for."""


def draw_geometry(rng: Rng, max_pixels: int) -> Scene:
    """Draw a rectangle, a right triangle or a circle with its lengths; the question takes one step of arithmetic."""
    edge = int(min(rng.integers(360, 1200), max_pixels**0.5))
    ink, paper = draw_ink_and_paper(rng)
    image = Image.new("RGB", (edge, edge), paper)
    pen = ImageDraw.Draw(image)
    face = font(pick(rng, FONTS), max(12, edge // 22))
    width = max(2, edge // 200)
    low, high = edge // 5, edge * 4 // 5
    a, b = int(rng.integers(3, 15)), int(rng.integers(3, 15))
    kind = pick(rng, ("rectangle", "triangle", "circle"))
    if kind == "circle":
        pen.ellipse((low, low, high, high), outline=ink, width=width)
        pen.line((edge // 2, edge // 2, high, edge // 2), fill=ink, width=width)
        pen.text((edge * 5 // 8, edge // 2 - 2 * face.size), f"r = {a}", fill=ink, font=face)
        return Scene(image=image, question="What is the diameter of the circle?", answer=str(2 * a))
    bottom = low + (high - low) * min(1.0, b / a) if a >= b else high
    right = low + (high - low) * min(1.0, a / b) if b > a else high
    corners = [(low, low), (low, bottom), (right, bottom)]
    pen.polygon([*corners, (right, low)] if kind == "rectangle" else corners, outline=ink, width=width)
    pen.text(((low + right) / 2, bottom + face.size // 2), str(a), fill=ink, font=face)
    pen.text((low - 2 * face.size, (low + bottom) / 2), str(b), fill=ink, font=face)
    if kind == "triangle":
        area = str(a * b // 2) if a * b % 2 == 0 else f"{a * b / 2:.1f}"
        return Scene(image=image, question="The triangle has a right angle. What is its area?", answer=area)
    if rng.random() < 0.5:
        return Scene(image=image, question="What is the perimeter of the rectangle?", answer=str(2 * (a + b)))
    return Scene(image=image, question="What is the area of the rectangle?", answer=str(a * b))


def draw_counting(rng: Rng, max_pixels: int) -> Scene:
    """Draw shapes on a jittered grid, and ask how many of one kind and colour there are; any orientation will do."""
    edge = int(min(rng.integers(360, 1000), max_pixels**0.5))
    image = Image.new("RGB", (edge, edge), (245, 245, 240))
    pen = ImageDraw.Draw(image)
    cells = 6
    step = edge / cells
    target = pick(rng, SHAPES), pick(rng, tuple(COLOURS))
    others = [(shape, colour) for shape in SHAPES for colour in COLOURS if (shape, colour) != target]
    count = int(rng.integers(0, MAX_COUNT + 1))
    kinds = [target] * count + [pick(rng, others) for _ in range(int(rng.integers(4, cells * cells - MAX_COUNT)))]
    places = rng.permutation(cells * cells)[: len(kinds)]
    for (shape, colour), place in zip(kinds, places, strict=True):
        x, y = ((n + rng.uniform(0.3, 0.5)) * step for n in divmod(int(place), cells))
        r = step * rng.uniform(0.18, 0.28)
        box = (x - r, y - r, x + r, y + r)
        if shape == "circle":
            pen.ellipse(box, fill=COLOURS[colour])
        elif shape == "square":
            pen.rectangle(box, fill=COLOURS[colour])
        else:
            pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=COLOURS[colour])
    question = f"How many {target[1]} {target[0]}s are there?"
    return Scene(image=image, question=question, answer=str(count), has_text=False)
