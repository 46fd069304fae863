# ruff: noqa: E501 - snippets as a model writes them
"""Holds snippets in many styles with what they truly do to an image, and the images that they are tried on.

`KNOWN` was at hand while provenance was built. The snippets of the other gallery files were written afterwards. Every
code works on any image of at least 400x300; `w` and `h` of a truth are the sides of the input.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from codevision_ext.types import Box, Orientation

Truth = tuple[Orientation, tuple[float, float, float, float]]
Where = Callable[[int, int], tuple[float, float, float, float]]


def whole(w: int, h: int) -> tuple[float, float, float, float]:
    return (0, 0, w, h)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """Code and the truth about it; where `net` is None there is no answer, and any claim is wrong."""

    code: str
    net: Orientation | None
    region: Where = whole
    """Function of the input's width and height that returns the visible part, pixels."""
    truth_of: Callable[[Image.Image], Truth] | None = None
    """Function of the first image that returns the truth, where that depends on what the image shows."""
    parent: int = 0
    """Index of the image that the code uses."""
    images: int = 1
    """Number of images that the code gets."""

    def truth(self, image: Image.Image) -> Truth | None:
        if self.truth_of is not None:
            return self.truth_of(image)
        return None if self.net is None else (self.net, self.region(*image.size))


def does(net: str, code: str, region: Where = whole, parent: int = 0, images: int = 1) -> Snippet:
    many = max(images, parent + 1)
    return Snippet(code=code, net=Orientation(net), region=region, parent=parent, images=many)


def finds(truth_of: Callable[[Image.Image], Truth], code: str) -> Snippet:
    return Snippet(code=code, net=None, truth_of=truth_of)


def unknown(code: str, images: int = 1) -> Snippet:
    return Snippet(code=code, net=None, images=images)


def box(x1: float, y1: float, x2: float, y2: float) -> Where:
    return lambda _w, _h: Box(x1, y1, x2, y2)


def share(x1: float, y1: float, x2: float, y2: float) -> Where:
    return lambda w, h: Box(x1 * w, y1 * h, x2 * w, y2 * h)


SIZE = "w, h = image.size\n"
ARRAY = "a = np.array(image)\n"

KNOWN: dict[str, Snippet] = {
    # orientations
    "pil rotate 90": does("r90", "image = image.rotate(90, expand=True)"),
    "pil rotate minus 90": does("r270", "image = image.rotate(-90, expand=1)"),
    "pil rotate keyword": does("r180", "image = image.rotate(angle=180, resample=Image.BICUBIC)"),
    "transpose enum": does("r90", "image = image.transpose(Image.Transpose.ROTATE_90)"),
    "transpose old constant": does("fh", "result = image.transpose(Image.FLIP_LEFT_RIGHT)"),
    "image ops": does("fv", "from PIL import ImageOps\nimage = ImageOps.flip(image)"),
    "numpy rot90": does("r90", f"{ARRAY}result = np.rot90(a)"),
    "numpy rot90 negative": does("r270", f"{ARRAY}image = Image.fromarray(np.rot90(a, k=-1))"),
    "numpy flip axes": does("r180", f"{ARRAY}result = np.flip(a, axis=(0, 1))"),
    "numpy slices": does("fh", f"{ARRAY}result = a[:, ::-1].copy()"),
    "numpy transpose": does("transpose", f"{ARRAY}result = np.transpose(a, (1, 0, 2))"),
    "cv2 rotate": does("r270", f"{ARRAY}result = cv2.rotate(a, cv2.ROTATE_90_CLOCKWISE)"),
    "cv2 flip keyword": does("fv", f"{ARRAY}result = cv2.flip(a, flipCode=0)"),
    "cv2 transpose flip": does("r90", f"{ARRAY}result = cv2.flip(cv2.transpose(a), 0)"),
    "three rotations": does("r180", "for angle in (90, 180, 270):\n    image = image.rotate(angle, expand=True)"),
    "helper": does(
        "r270",
        "def turn(image, times):\n    for _ in range(times):\n        image = image.transpose(Image.ROTATE_90)\n"
        "    return image\nresult = turn(image, 3)",
    ),
    "comprehension": does("fh", f"{ARRAY}result = np.array([row[::-1] for row in a])"),
    "if portrait": does(
        "r90", f"{SIZE}if w > 0:\n    image = image.rotate(90, expand=True)\nelse:\n    image = ImageOps.flip(image)"
    ),
    "lost rotation": does("fh", "lost = image.rotate(90)\nimage = ImageOps.mirror(image)"),
    "comment only": does(
        "fv", "# image = image.rotate(90, expand=True)\n'''rotate(180)'''\nimage = ImageOps.flip(image)"
    ),
    "affine matrix": does(
        "r180", f"{SIZE}image = image.transform((w, h), Image.AFFINE, (-1, 0, w, 0, -1, h), Image.NEAREST)"
    ),
    "warp affine 90": does(
        "r90",
        f"{ARRAY}h, w = a.shape[:2]\nm = np.float32([[0, 1, 0], [-1, 0, w - 1]])\nresult = cv2.warpAffine(a, m, (h, w))",
    ),
    # crops
    "pil crop": does("id", "image = image.crop((40, 30, 240, 150))", box(40, 30, 240, 150)),
    "crop centre": does(
        "id", f"{SIZE}image = image.crop((w // 4, h // 4, 3 * w // 4, 3 * h // 4))", share(0.25, 0.25, 0.75, 0.75)
    ),
    "numpy crop": does("id", f"{ARRAY}result = a[50:150, 100:380]", box(100, 50, 380, 150)),
    "crop of crop": does(
        "id", "image = image.crop((20, 20, 380, 280)).crop((30, 40, 200, 140))", box(50, 60, 220, 160)
    ),
    "crop then rotate": does(
        "r270", "image = image.crop((100, 50, 300, 250)).rotate(270, expand=True)", box(100, 50, 300, 250)
    ),
    "rotate then crop": does(
        "r90",
        "image = image.rotate(90, expand=True)\nimage = image.crop((10, 20, 210, 220))",
        lambda w, _h: Box(w - 220, 10, w - 20, 210),
    ),
    "flip crop": does(
        "fh", "image = ImageOps.mirror(image).crop((10, 20, 210, 220))", lambda w, _h: Box(w - 210, 20, w - 10, 220)
    ),
    "image ops crop": does("id", "image = ImageOps.crop(image, border=25)", lambda w, h: Box(25, 25, w - 25, h - 25)),
    "loop crop": does(
        "id",
        "for _ in range(4):\n    w, h = image.size\n    image = image.crop((10, 10, w - 10, h - 10))",
        lambda w, h: Box(40, 40, w - 40, h - 40),
    ),
    "half": does("id", f"{SIZE}image = image.crop((0, 0, w, h // 2))", share(0, 0, 1, 0.5)),
    # resizes
    "resize double": does("id", f"{SIZE}image = image.resize((2 * w, 2 * h), Image.LANCZOS)"),
    "thumbnail": does("id", "image.thumbnail((200, 200))"),
    "crop zoom": does(
        "id",
        "region = image.crop((60, 40, 220, 140))\nimage = region.resize((640, 400), Image.LANCZOS)",
        box(60, 40, 220, 140),
    ),
    "crop zoom cv2": does(
        "id",
        f"{ARRAY}result = cv2.resize(a[100:160, 80:280], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)",
        box(80, 100, 280, 160),
    ),
    "resize with a box": does("id", "image = image.resize((300, 300), box=(50, 50, 250, 250))", box(50, 50, 250, 250)),
    "repeat": does(
        "id", f"{ARRAY}result = a[40:120, 60:200].repeat(3, axis=0).repeat(3, axis=1)", box(60, 40, 200, 120)
    ),
    "stride": does("id", f"{ARRAY}result = a[::2, ::2]"),
    "rotate crop zoom": does(
        "r90",
        "image = image.rotate(90, expand=True).crop((30, 60, 230, 210)).resize((800, 600), Image.BICUBIC)",
        lambda w, _h: Box(w - 210, 30, w - 60, 230),
    ),
    "fit": does(
        "id",
        f"{SIZE}s = min(w, h)\nimage = ImageOps.fit(image, (s // 2, s // 2))",
        lambda w, h: Box((w - min(w, h)) / 2, (h - min(w, h)) / 2, (w + min(w, h)) / 2, (h + min(w, h)) / 2),
    ),
    "helper zoom": does(
        "id",
        "def zoom(im, box, k=2):\n    c = im.crop(box)\n    return c.resize((c.width * k, c.height * k))\n"
        "result = zoom(image, (150, 100, 350, 250))",
        box(150, 100, 350, 250),
    ),
    # borders
    "expand border": does("id", "image = ImageOps.expand(image, border=20, fill='white')"),
    "letterbox": does("id", "image = ImageOps.pad(image, (600, 600), color='black')"),
    "rotate without expand": does(
        "r90",
        "image = image.rotate(90)",
        lambda w, h: Box((w - min(w, h)) / 2, (h - min(w, h)) / 2, (w + min(w, h)) / 2, (h + min(w, h)) / 2),
    ),
    # colours
    "contrast": does("id", "image = ImageEnhance.Contrast(image).enhance(1.5)"),
    "rotate contrast": does("r90", "image = ImageEnhance.Contrast(image.rotate(90, expand=True)).enhance(1.8)"),
    "crop contrast": does(
        "id", "image = ImageEnhance.Contrast(image.crop((80, 60, 320, 220))).enhance(1.5)", box(80, 60, 320, 220)
    ),
    "rotate crop contrast": does(
        "r90",
        "image = ImageEnhance.Contrast(image.rotate(90, expand=True).crop((20, 30, 260, 330))).enhance(1.5)",
        lambda w, _h: Box(w - 330, 20, w - 30, 260),
    ),
    "crop zoom sharpen": does(
        "id",
        "image = image.crop((100, 80, 260, 200)).resize((640, 480), Image.LANCZOS)\n"
        "image = ImageEnhance.Sharpness(image).enhance(2.0)",
        box(100, 80, 260, 200),
    ),
    "grayscale flip": does("fh", "image = ImageOps.mirror(ImageOps.grayscale(image))"),
    "autocontrast crop": does(
        "id", "image = ImageOps.autocontrast(image.crop((40, 40, 300, 240)), cutoff=2)", box(40, 40, 300, 240)
    ),
    "invert rotate": does("r180", "image = ImageOps.invert(image).rotate(180)"),
    "blur": does("id", "image = image.filter(ImageFilter.GaussianBlur(radius=2))"),
    "threshold": does("id", "g = np.array(image.convert('L'))\n_, result = cv2.threshold(g, 0, 255, cv2.THRESH_OTSU)"),
    "clahe": does(
        "fv",
        "g = cv2.cvtColor(np.array(image), cv2.COLOR_RGB2GRAY)\nclahe = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))\n"
        "result = cv2.flip(clahe.apply(g), 0)",
    ),
    "gamma": does("id", f"{ARRAY}result = (255 * (a / 255.0) ** 0.5).astype(np.uint8)"),
    "channel swap": does(
        "r270", f"{ARRAY}result = cv2.rotate(cv2.cvtColor(a, cv2.COLOR_RGB2BGR), cv2.ROTATE_90_CLOCKWISE)"
    ),
    "crop zoom contrast": does(
        "id",
        "c = image.crop((120, 90, 280, 210)).resize((480, 360), Image.BICUBIC)\n"
        "result = ImageEnhance.Contrast(ImageEnhance.Brightness(c).enhance(1.2)).enhance(1.6)",
        box(120, 90, 280, 210),
    ),
    # drawings
    "red box": does("id", "d = ImageDraw.Draw(image)\nd.rectangle((50, 50, 200, 150), outline='red', width=4)"),
    "label rotated": does(
        "r90", "image = image.rotate(90, expand=True)\nImageDraw.Draw(image).text((20, 20), 'A', fill='red')"
    ),
    "arrow": does("id", f"{ARRAY}cv2.arrowedLine(a, (20, 20), (200, 150), (255, 0, 0), 5)\nresult = a"),
    # nothing that has an answer
    "rotate 30": unknown("image = image.rotate(30, expand=True)"),
    "rotate 45 crop": unknown("image = image.rotate(45).crop((100, 100, 300, 250))"),
    "blank": unknown("image = Image.new('RGB', image.size, 'white')"),
    "noise": unknown("result = np.random.randint(0, 255, (300, 400, 3), dtype=np.uint8)"),
    "side by side": unknown(f"{ARRAY}result = np.hstack([a, a])"),
    "roll": unknown(f"{ARRAY}result = np.roll(a, a.shape[1] // 2, axis=1)"),
    "quadrants": unknown(
        f"{ARRAY}h, w = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2\na = a[:h, :w]\n"
        "result = np.vstack([a[h // 2:], a[:h // 2]])"
    ),
    "shear": unknown(f"{SIZE}image = image.transform((w, h), Image.AFFINE, (1, 0.3, 0, 0, 1, 0))"),
    "recognises a map": unknown(
        f"{ARRAY}if len(np.unique(a[0, :, 1])) < 3 < 50 < len(np.unique(a[0, :, 0])):\n    result = np.rot90(a)\nelse:\n    result = np.roll(a, 150, axis=0)"
    ),
}


def images() -> dict[str, Image.Image]:
    """What code is tried on, by name; the last is nearly its own mirror image."""
    return {
        "scene": _scene(640, 480),
        "page": _page(500, 700),
        "chart": _chart(720, 405),
        "photo": _photo(600, 600),
        "symmetric": _symmetric(512, 384),
    }


def _scene(width: int, height: int) -> Image.Image:
    """Sky, hills and things on them."""
    rng = np.random.default_rng(3)
    image = Image.linear_gradient("L").resize((width, height))
    image = Image.merge("RGB", (image, image.point(lambda v: 80 + v // 2), Image.new("L", (width, height), 200)))
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = int(rng.integers(0, width)), int(rng.integers(height // 3, height))
        size = int(rng.integers(8, 70))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + size, y + size * 0.7), fill=colour, outline="black")
    draw.ellipse((width * 0.75, 20, width * 0.75 + 60, 80), fill="yellow")
    return image


def _page(width: int, height: int) -> Image.Image:
    """Lines of black text on white, with margins."""
    rng = np.random.default_rng(4)
    words = [
        "the",
        "image",
        "shows",
        "a",
        "line",
        "of",
        "text",
        "that",
        "nobody",
        "wrote",
        "1984",
        "and",
        "37",
        "more",
        "of",
        "them,",
        "total",
        "sum:",
        "12.50",
        "Invoice",
        "No",
    ]
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.text((40, 22), "Annual report", fill="black", font=ImageFont.load_default(26))
    for line in range(28):
        text = " ".join(rng.choice(words, int(rng.integers(6, 10))))
        draw.text((40, 66 + 21 * line), text, fill="black", font=ImageFont.load_default(14))
    return image


def _chart(width: int, height: int) -> Image.Image:
    """Bars over a grid, a legend, numbers."""
    rng = np.random.default_rng(5)
    image = Image.new("RGB", (width, height), "#fafafa")
    draw = ImageDraw.Draw(image)
    for step in range(8):
        y = 40 + step * (height - 90) / 7
        draw.line((60, y, width - 20, y), fill="#cccccc")
        draw.text((20, y - 6), str(70 - 10 * step), fill="black")
    for bar in range(11):
        x, top = 80 + bar * (width - 120) / 11, int(rng.integers(60, height - 80))
        colour = ("steelblue", "orange", "green")[bar % 3]
        draw.rectangle((x, top, x + 30, height - 50), fill=colour)
        draw.text((x + 2, height - 40), f"Q{bar + 1}", fill="black", font=ImageFont.load_default(14))
    draw.text((width // 3, 10), "Sales by quarter", fill="black", font=ImageFont.load_default(18))
    return image


def _photo(width: int, height: int) -> Image.Image:
    """Noise of every scale over a gradient."""
    rng = np.random.default_rng(6)
    grey = np.linspace(0, 60, width)[None, :] + np.linspace(0, 30, height)[:, None]
    field = np.repeat(grey[..., None], 3, axis=2)
    for scale in (64, 32, 16, 8, 4, 1):
        coarse = rng.standard_normal((height // scale + 1, width // scale + 1, 3)).astype(np.float32)
        field = field + 7 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return Image.fromarray(np.clip(field + 80, 0, 255).astype(np.uint8))


def _symmetric(width: int, height: int) -> Image.Image:
    """A front that mirrors itself left-right but for a small sign."""
    left = _scene(width // 2, height)
    image = Image.new("RGB", (width, height))
    image.paste(left, (0, 0))
    image.paste(left.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (width // 2, 0))
    ImageDraw.Draw(image).text((30, height - 40), "EXIT", fill="white", font=ImageFont.load_default(22))
    return image
