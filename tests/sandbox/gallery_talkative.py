# ruff: noqa: E501 - snippets as a model writes them
"""Holds snippets of a model that talks while it works.

They were written after the misses of gallery_later.py were repaired, and before any of them was tried.
"""

import cv2
import numpy as np
from gallery import ARRAY, SIZE, Snippet, Truth, box, does, finds, share, unknown
from PIL import Image

from codevision_ext.types import Box, Orientation


def reddest(image: Image.Image) -> Truth:
    pixels = np.asarray(image).astype(int)
    soft = cv2.blur((pixels[..., 0] - pixels[..., 1:].max(axis=2)).astype(np.float32), (31, 31))
    y, x = (int(v) for v in np.unravel_index(np.argmax(soft), soft.shape))
    x1, y1 = min(max(x - 60, 0), image.width - 120), min(max(y - 50, 0), image.height - 100)
    return Orientation.ID, Box(x1, y1, x1 + 120, y1 + 100)


def darker_side(image: Image.Image) -> Truth:
    grey = np.asarray(image.convert("L")).astype(float)
    half = image.width // 2
    left = grey[:, :half].mean() <= grey[:, half:].mean()
    return Orientation.ID, Box(0, 0, half, image.height) if left else Box(half, 0, image.width, image.height)


def text_rows(image: Image.Image) -> Truth:
    edges = np.abs(np.diff(np.asarray(image.convert("L")).astype(int), axis=1)).sum(axis=1)
    best = int(np.argmax(np.convolve(edges, np.ones(90, np.int64), "valid")))
    return Orientation.ID, Box(0, best, image.width, best + 90)


THIRD: dict[str, Snippet] = {
    # a plan, then the code
    "step by step with prints": does(
        "r270",
        "# Step 1: look at the image\nprint('size', image.size, 'mode', image.mode)\n# Step 2: the text is sideways, turn it clockwise\n"
        "rotated_image = image.rotate(-90, expand=True)\nprint('new size', rotated_image.size)\n# Step 3: hand it over\nprocessed_image = rotated_image",
    ),
    "thousandths of a side": does(
        "id",
        "bbox_2d = [180, 240, 620, 710]  # 0-1000\nW, H = image.size\nx1, y1, x2, y2 = (int(bbox_2d[0] / 1000 * W), int(bbox_2d[1] / 1000 * H), int(bbox_2d[2] / 1000 * W), int(bbox_2d[3] / 1000 * H))\n"
        "processed_image = image.crop((x1, y1, x2, y2))",
        share(0.18, 0.24, 0.62, 0.71),
    ),
    "padded, clamped, zoomed to a target": does(
        "id",
        f"{SIZE}x1, y1, x2, y2 = 220, 130, 330, 205\nmargin = 20\nx1, y1, x2, y2 = max(0, x1 - margin), max(0, y1 - margin), min(w, x2 + margin), min(h, y2 + margin)\n"
        "crop = image.crop((x1, y1, x2, y2))\nscale = max(1, int(800 / max(crop.size)))\nprocessed_image = crop.resize((crop.width * scale, crop.height * scale), Image.Resampling.LANCZOS)",
        box(200, 110, 350, 225),
    ),
    "defensive": does(
        "r180",
        "try:\n    fixed = image.transpose(Image.Transpose.ROTATE_180)\nexcept Exception as e:\n    print('failed', e)\n    fixed = image\nassert fixed.size == image.size\nresult = fixed",
    ),
    "type hints and a dataclass": does(
        "id",
        "from dataclasses import dataclass\n@dataclass\nclass Region:\n    left: int\n    top: int\n    right: int\n    bottom: int\n    def cut(self, im):\n        return im.crop((self.left, self.top, self.right, self.bottom))\n"
        "output = Region(90, 60, 310, 230).cut(image)",
        box(90, 60, 310, 230),
    ),
    "pipeline of functions": does(
        "fh",
        "steps = [ImageOps.mirror, lambda im: im.crop((30, 30, 330, 270)), ImageOps.autocontrast]\nout = image\nfor step in steps:\n    out = step(out)\nresult = out",
        lambda w, _h: Box(w - 330, 30, w - 30, 270),
    ),
    "undo a mirror, then enlarge": does(
        "fh",
        "unmirrored = image.transpose(method=Image.Transpose.FLIP_LEFT_RIGHT)\nresult = unmirrored.resize([int(1.25 * s) for s in unmirrored.size], resample=Image.Resampling.HAMMING)",
    ),
    "dictionary of angles": does(
        "r90",
        "CORRECTION = {'upside_down': 180, 'left': -90, 'right': 90}\nstate = 'right'\nimg = image.rotate(CORRECTION[state], expand=True, resample=Image.Resampling.BICUBIC)",
    ),
    "walrus": does("fv", "if (n := image.height) > 10:\n    result = np.asarray(image)[n - 1::-1]"),
    "generator of quarters": does(
        "id",
        f"{SIZE}parts = ((x, y, x + w // 2, y + h // 2) for y in (0, h // 2) for x in (0, w // 2))\nnext(parts)\nresult = image.crop(next(parts))",
        share(0.5, 0, 1, 0.5),
    ),
    "exec of a string": does("r90", "exec('image = image.rotate(90, expand=True)')\nresult = image"),
    "in place paste": does(
        "fv", "flipped = ImageOps.flip(image)\nimage.paste(flipped, (0, 0, image.width, image.height))\nresult = image"
    ),
    # numpy by other means
    "index arrays": does(
        "r180",
        f"{ARRAY}h, w = a.shape[:2]\nys, xs = np.arange(h - 1, -1, -1), np.arange(w - 1, -1, -1)\nresult = a[np.ix_(ys, xs)]",
    ),
    "apply along": does(
        "fh", f"{ARRAY}result = np.apply_along_axis(lambda c: c[::-1], 1, a[:120, :160])", box(0, 0, 160, 120)
    ),
    "strided window": does(
        "id",
        f"{ARRAY}view = np.lib.stride_tricks.as_strided(a[50:, 70:], shape=(150, 200, 3), strides=a.strides)\nresult = view.copy()",
        box(70, 50, 270, 200),
    ),
    "flat and back": does("fv", f"{ARRAY}h, w, c = a.shape\nresult = a.reshape(h, w * c)[::-1].reshape(h, w, c)"),
    "compress": does(
        "id",
        f"{ARRAY}keep = np.zeros(a.shape[1], bool)\nkeep[100:300] = True\nresult = np.compress(keep, a, axis=1)",
        lambda _w, h: Box(100, 0, 300, h),
    ),
    "mean of blocks": does(
        "id",
        f"{ARRAY}h, w = a.shape[0] // 4 * 4, a.shape[1] // 4 * 4\nresult = a[:h, :w].reshape(h // 4, 4, w // 4, 4, 3).mean(axis=(1, 3)).astype(np.uint8)",
    ),
    "turn by matrix product": does(
        "r90",
        f"{ARRAY}h, w = a.shape[:2]\nout = np.zeros((w, h, 3), np.uint8)\nfor x in range(w):\n    out[w - 1 - x] = a[:, x]\nresult = out",
    ),
    # cv2 by other means
    "linear remap of a window": does(
        "id",
        f"{ARRAY}x, y = np.meshgrid(np.linspace(80, 279, 600, dtype=np.float32), np.linspace(60, 209, 450, dtype=np.float32))\nresult = cv2.remap(a, x, y, cv2.INTER_CUBIC)",
        box(80, 60, 280, 210),
    ),
    "three points": does(
        "r270",
        f"{ARRAY}h, w = a.shape[:2]\nM = cv2.getAffineTransform(np.float32([[0, 0], [w - 1, 0], [0, h - 1]]), np.float32([[h - 1, 0], [h - 1, w - 1], [0, 0]]))\nresult = cv2.warpAffine(a, M, (h, w))",
    ),
    "pyramid up of a crop": does("id", f"{ARRAY}result = cv2.pyrUp(a[80:200, 110:290])", box(110, 80, 290, 200)),
    "encoded as png": does(
        "fv",
        "ok, data = cv2.imencode('.png', np.array(image)[..., ::-1])\nback = cv2.imdecode(data, cv2.IMREAD_COLOR)\nresult = cv2.flip(cv2.cvtColor(back, cv2.COLOR_BGR2RGB), 0)",
    ),
    # colours
    "local contrast of a crop": does(
        "id",
        "crop = np.array(image.crop((60, 60, 340, 260)))\nhsv = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV)\nhsv[..., 2] = cv2.createCLAHE(clipLimit=2.5).apply(hsv[..., 2])\nresult = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)",
        box(60, 60, 340, 260),
    ),
    "brightened shadows": does(
        "r90", f"{ARRAY}f = a / 255.0\nresult = (np.rot90(np.where(f < 0.5, np.sqrt(f / 2), f)) * 255).astype(np.uint8)"
    ),
    "darker and turned": does("r180", "image = ImageEnhance.Brightness(image).enhance(0.45).rotate(180)"),
    "grey, zoomed, sharpened": does(
        "id",
        "g = image.convert('L').crop((120, 100, 300, 220)).resize((900, 600), Image.BICUBIC)\nresult = g.filter(ImageFilter.EDGE_ENHANCE_MORE)",
        box(120, 100, 300, 220),
    ),
    "black on white": does(
        "r270",
        "g = cv2.cvtColor(np.array(image), cv2.COLOR_RGB2GRAY)\nb = cv2.adaptiveThreshold(g, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, 15, 4)\nresult = np.rot90(b, -1)",
    ),
    "contours drawn": does(
        "id",
        "g = cv2.Canny(cv2.cvtColor(np.array(image), cv2.COLOR_RGB2GRAY), 80, 160)\ncs, _ = cv2.findContours(g, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)\nout = np.array(image)\ncv2.drawContours(out, cs[:40], -1, (255, 0, 0), 1)\nresult = out",
    ),
    "warmer": does("fh", f"{ARRAY}result = np.clip(a[:, ::-1] * [1.15, 1.0, 0.8], 0, 255)"),
    "fewer levels, crop": does(
        "id", "image = ImageOps.posterize(image.crop((50, 70, 350, 270)), 2)", box(50, 70, 350, 270)
    ),
    "grain": does(
        "r180",
        f"{ARRAY}rng = np.random.default_rng(5)\nresult = np.clip(a[::-1, ::-1] + rng.normal(0, 8, a.shape), 0, 255).astype(np.uint8)",
    ),
    # marks on the image
    "highlighter": does(
        "id",
        "overlay = image.copy()\nd = ImageDraw.Draw(overlay)\nd.rectangle((70, 90, 330, 120), fill=(255, 255, 0))\nimage = Image.blend(image, overlay, alpha=0.35)",
    ),
    "ruler": does(
        "r90",
        "im = image.rotate(90, expand=True)\nd = ImageDraw.Draw(im)\nfor x in range(0, im.width, 20):\n    d.line((x, 0, x, 8 if x % 100 else 16), fill='red')\nresult = im",
    ),
    "crop with a frame of its own": does(
        "id",
        "c = image.crop((80, 60, 320, 240))\nd = ImageDraw.Draw(c)\nd.rectangle((0, 0, c.width - 1, c.height - 1), outline='red', width=3)\nresult = c",
        box(80, 60, 320, 240),
    ),
    # what is seen decides
    "around what is reddest": finds(
        reddest,
        f"{ARRAY}p = a.astype(int)\nsoft = cv2.blur((p[..., 0] - p[..., 1:].max(axis=2)).astype(np.float32), (31, 31))\ny, x = np.unravel_index(np.argmax(soft), soft.shape)\n"
        "x1, y1 = min(max(int(x) - 60, 0), image.width - 120), min(max(int(y) - 50, 0), image.height - 100)\nresult = image.crop((x1, y1, x1 + 120, y1 + 100))",
    ),
    "around what is reddest, zoomed and brighter": finds(
        reddest,
        f"{ARRAY}p = a.astype(int)\nsoft = cv2.blur((p[..., 0] - p[..., 1:].max(axis=2)).astype(np.float32), (31, 31))\ny, x = np.unravel_index(np.argmax(soft), soft.shape)\n"
        "x1, y1 = min(max(int(x) - 60, 0), image.width - 120), min(max(int(y) - 50, 0), image.height - 100)\nc = image.crop((x1, y1, x1 + 120, y1 + 100)).resize((480, 400), Image.LANCZOS)\nresult = ImageEnhance.Brightness(c).enhance(1.2)",
    ),
    "the darker side, lighter": finds(
        darker_side,
        "g = np.asarray(image.convert('L')).astype(float)\nk = image.width // 2\nbox = (0, 0, k, image.height) if g[:, :k].mean() <= g[:, k:].mean() else (k, 0, image.width, image.height)\n"
        "result = image.crop(box).point(lambda v: min(255, int(v * 1.3 + 10)))",
    ),
    "the rows with most edges, in grey": finds(
        text_rows,
        "g = np.asarray(image.convert('L')).astype(int)\ne = np.abs(np.diff(g, axis=1)).sum(axis=1)\ny = int(np.argmax(np.convolve(e, np.ones(90, np.int64), 'valid')))\n"
        "result = ImageOps.grayscale(image.crop((0, y, image.width, y + 90)))",
    ),
    # other images
    "the other one if it is there": does(
        "r90",
        "source = images[1] if len(images) > 1 else images[0]\nresult = source.rotate(90, expand=True).convert('L')",
        parent=1,
    ),
    "crop of the last, zoomed": does(
        "id",
        "last = images[-1]\nresult = last.crop((100, 80, 260, 200)).resize((640, 480), Image.BICUBIC)",
        box(100, 80, 260, 200),
        parent=1,
    ),
    # nothing that has an answer
    "before and after": unknown(
        f"{SIZE}out = Image.new('RGB', (w, 2 * h + 8), 'red')\nout.paste(image, (0, 0))\nout.paste(image.rotate(180), (0, h + 8))\nresult = out"
    ),
    "a third mirrored in place": unknown(f"{ARRAY}h = a.shape[0] // 3\nresult = a.copy()\nresult[:h] = a[:h, ::-1]"),
    "slightly turned": unknown("image = image.rotate(2.5, Image.BICUBIC, expand=True, fillcolor='white')"),
    "columns sorted by brightness": unknown(
        f"{ARRAY}order = np.argsort(a.sum(axis=(0, 2)), kind='stable')\nresult = a[:, order]"
    ),
    "kaleidoscope": unknown(
        f"{ARRAY}s = min(a.shape[:2]) // 2\nq = a[:s, :s]\ntop = np.hstack([q, q[:, ::-1]])\nresult = np.vstack([top, top[::-1]])"
    ),
    "zoom into the middle only": unknown(
        f"{ARRAY}h, w = a.shape[:2]\nresult = a.copy()\nresult[h // 4:3 * h // 4, w // 4:3 * w // 4] = cv2.resize(a[3 * h // 8:5 * h // 8, 3 * w // 8:5 * w // 8], (3 * w // 4 - w // 4, 3 * h // 4 - h // 4))"
    ),
    "double exposure": unknown("image = Image.blend(image, image.rotate(180), 0.5)"),
    "bar chart of means": unknown(
        f"{ARRAY}m = a.reshape(-1, 3).mean(axis=0)\nresult = Image.new('RGB', (320, 240), 'white')\nd = ImageDraw.Draw(result)\nfor i, v in enumerate(m):\n    d.rectangle((40 + 90 * i, 230 - int(v * 0.8), 100 + 90 * i, 230), fill=('red', 'green', 'blue')[i])"
    ),
    "scanlines from elsewhere": unknown(
        f"{ARRAY}result = a.copy()\nresult[::3] = np.roll(a, 90, axis=1)[::3]\nresult[1::3] = np.roll(a, 45, axis=0)[1::3]"
    ),
}
