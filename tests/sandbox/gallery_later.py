# ruff: noqa: E501 - snippets as a model writes them
"""Holds snippets by other strangers, written after the misses of gallery_strangers.py were repaired."""

import cv2
import numpy as np
from gallery import ARRAY, SIZE, Snippet, Truth, box, does, finds, share, unknown
from PIL import Image, ImageOps

from codevision_ext.types import Box, Orientation


def most_ink_column(image: Image.Image) -> Truth:
    grey = np.asarray(ImageOps.grayscale(image), dtype=np.int64)
    dark = (255 - grey).sum(axis=0)
    width = 160
    best = int(np.argmax(np.convolve(dark, np.ones(width, np.int64), "valid")))
    return Orientation.ID, Box(best, 0, best + width, image.height)


def darkest_half_first(image: Image.Image) -> Truth:
    grey = np.asarray(image.convert("L"))
    half = image.height // 2
    net = Orientation.FV if grey[half:].mean() < grey[:half].mean() else Orientation.ID
    return net, Box(0, 0, *image.size)


def brightest_spot(image: Image.Image) -> Truth:
    soft = cv2.GaussianBlur(np.array(image.convert("L")), (51, 51), 0)
    _, _, _, (x, y) = cv2.minMaxLoc(soft)
    x1, y1 = min(max(x - 90, 0), image.width - 180), min(max(y - 70, 0), image.height - 140)
    return Orientation.ID, Box(x1, y1, x1 + 180, y1 + 140)


def without_white_rows(image: Image.Image) -> Truth:
    grey = np.asarray(image.convert("L"))
    busy = np.flatnonzero(grey.std(axis=1) > 10)
    return Orientation.ID, Box(0, busy[0], image.width, busy[-1] + 1)


LATER: dict[str, Snippet] = {
    # orientations
    "function with a docstring": does(
        "r270",
        'def fix_orientation(img: Image.Image, angle: int) -> Image.Image:\n    """Rotate clockwise by angle degrees."""\n'
        "    return img.rotate(-angle, expand=True, resample=Image.Resampling.NEAREST)\n\nprocessed_image = fix_orientation(image, 90)\nprint(processed_image.size)",
    ),
    "undone and done again": does(
        "fh",
        "image = image.rotate(90, expand=True)\nimage = image.transpose(Image.TRANSVERSE).transpose(Image.ROTATE_180)",
    ),
    "match statement": does(
        "r180",
        "def turn(im, how):\n    match how:\n        case 'left': return im.transpose(Image.ROTATE_90)\n        case 'over': return im.transpose(Image.ROTATE_180)\n"
        "    return im\nresult = turn(image, 'over')",
    ),
    "pixels one by one": does(
        "fv",
        "small = image.resize((80, 60))\nout = Image.new('RGB', small.size)\nfor x in range(80):\n    for y in range(60):\n"
        "        out.putpixel((x, 59 - y), small.getpixel((x, y)))\nresult = out",
    ),
    "meshgrid index": does(
        "r90",
        f"{ARRAY}h, w, _ = a.shape\ni, j = np.meshgrid(np.arange(w), np.arange(h), indexing='ij')\nresult = a[j, w - 1 - i]",
    ),
    "list of rows": does("fv", "rows = list(np.array(image))\nrows.reverse()\nresult = np.stack(rows)"),
    "rotate 450": does("r90", "image = image.rotate(450, expand=True)"),
    "warp by homography": does(
        "r270",
        f"{ARRAY}h, w = a.shape[:2]\nH = np.array([[0, -1, h - 1], [1, 0, 0], [0, 0, 1]], dtype=np.float32)\nresult = cv2.warpPerspective(a, H, (h, w), flags=cv2.INTER_NEAREST)",
    ),
    "an angle of zero": does(
        "id", "angle = 0\nif angle:\n    image = image.rotate(angle)\nimage = image.convert('RGB').copy()"
    ),
    "rotate and enlarge": does(
        "r90", f"{SIZE}image = image.rotate(90, expand=True).resize((int(h * 1.7), int(w * 1.7)), Image.LANCZOS)"
    ),
    "flip of a float in bgr": does(
        "fh", "f = cv2.cvtColor(np.array(image), cv2.COLOR_RGB2BGR).astype(np.float32) / 255.0\nresult = cv2.flip(f, 1)"
    ),
    # crops
    "crop by centre and zoom factor": does(
        "id",
        f"{SIZE}zoom = 2.5\ncx, cy = 0.4 * w, 0.55 * h\nbw, bh = w / zoom, h / zoom\n"
        "box = tuple(int(v) for v in (cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2))\nresult = image.crop(box).resize((w, h), Image.LANCZOS)",
        share(0.2, 0.35, 0.6, 0.75),
    ),
    "third row of four": does("id", f"{ARRAY}result = np.array_split(a, 4, axis=0)[2]", share(0, 0.5, 1, 0.75)),
    "tile two of a grid, doubled": does(
        "id",
        f"{SIZE}tw, th = w // 3, h // 2\ntiles = [image.crop((c * tw, r * th, (c + 1) * tw, (r + 1) * th)) for r in range(2) for c in range(3)]\n"
        "t = tiles[1]\nresult = t.resize((t.width * 2, t.height * 2))",
        share(1 / 3, 0, 2 / 3, 0.5),
    ),
    "tiny detail, ten times": does(
        "id", "result = image.crop((210, 170, 250, 200)).resize((400, 300), Image.BICUBIC)", box(210, 170, 250, 200)
    ),
    "tiny detail, brighter": does(
        "id",
        "c = image.crop((190, 150, 250, 195)).resize((600, 450), Image.LANCZOS)\nresult = ImageEnhance.Brightness(c).enhance(1.35)",
        box(190, 150, 250, 195),
    ),
    "narrow column": does("id", f"{ARRAY}result = a[:, 150:190]", lambda _w, h: Box(150, 0, 190, h)),
    "narrow column, zoomed and turned": does(
        "r90",
        "c = image.crop((150, 20, 200, 280)).rotate(90, expand=True)\nresult = c.resize((c.width * 3, c.height * 3), Image.BICUBIC)",
        box(150, 20, 200, 280),
    ),
    "crop past every edge": does("id", f"{SIZE}result = image.crop((-30, -20, w + 30, h + 20))"),
    "crop, mirror, crop": does(
        "fh",
        "c = image.crop((40, 20, 360, 280))\nc = c.transpose(Image.FLIP_LEFT_RIGHT)\nresult = c.crop((20, 30, 220, 180))",
        box(140, 50, 340, 200),
    ),
    "context of a box": does(
        "id",
        f"{SIZE}x1, y1, x2, y2 = 180, 120, 260, 180\npad = 0.25\ndx, dy = (x2 - x1) * pad, (y2 - y1) * pad\n"
        "box = [max(0, x1 - dx), max(0, y1 - dy), min(w, x2 + dx), min(h, y2 + dy)]\nimage = image.crop(list(map(int, box)))",
        box(160, 105, 280, 195),
    ),
    "slice objects": does(
        "r180", f"{ARRAY}s = (slice(40, 240), slice(60, 340))\nresult = np.rot90(a[s], 2).copy()", box(60, 40, 340, 240)
    ),
    "window of a strided view": does(
        "id",
        f"{ARRAY}v = np.lib.stride_tricks.sliding_window_view(a, (120, 160, 3))\nresult = v[70, 90, 0]",
        box(90, 70, 250, 190),
    ),
    # colours
    "equalised in yuv": does(
        "r270",
        f"{ARRAY}yuv = cv2.cvtColor(a, cv2.COLOR_RGB2YUV)\nyuv[:, :, 0] = cv2.equalizeHist(yuv[:, :, 0])\n"
        "result = cv2.rotate(cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB), cv2.ROTATE_90_CLOCKWISE)",
    ),
    "strong contrast of a crop": does(
        "id", "result = ImageEnhance.Contrast(image.crop((70, 50, 330, 250))).enhance(3.0)", box(70, 50, 330, 250)
    ),
    "log curve": does(
        "fh", "f = np.array(image)[:, ::-1].astype(np.float32)\nresult = np.uint8(255 * np.log1p(f) / np.log(256))"
    ),
    "sigmoid": does("id", f"{ARRAY}result = (255 / (1 + np.exp(-(a.astype(float) - 128) / 25))).astype(np.uint8)"),
    "white balance": does(
        "id",
        "f = np.array(image).astype(float)\nm = f.mean(axis=(0, 1))\nresult = np.clip(f * m.mean() / (m + 1e-6), 0, 255).astype(np.uint8)",
    ),
    "saturated and turned": does("r180", "image = ImageEnhance.Color(image).enhance(2.5).rotate(180)"),
    "two levels, crop": does(
        "id",
        "g = np.array(image.convert('L'))[40:260, 60:360]\nresult = np.where(g > g.mean(), 255, 0).astype(np.uint8)",
        box(60, 40, 360, 260),
    ),
    "ink thickened": does(
        "id",
        "g = cv2.cvtColor(np.array(image), cv2.COLOR_RGB2GRAY)\nresult = cv2.erode(g, np.ones((3, 3), np.uint8), iterations=1)",
    ),
    "sobel of a mirrored one": does(
        "fh",
        "g = np.array(ImageOps.mirror(image).convert('L'))\ngx = cv2.Sobel(g, cv2.CV_32F, 1, 0)\ngy = cv2.Sobel(g, cv2.CV_32F, 0, 1)\nresult = np.clip(np.hypot(gx, gy), 0, 255)",
    ),
    "non-local means": does("id", f"{ARRAY}result = cv2.GaussianBlur(cv2.medianBlur(a, 3), (5, 5), 1.2)"),
    "divided by its ground": does(
        "r90",
        "g = np.array(image.convert('L').rotate(90, expand=True))\nbg = cv2.GaussianBlur(g, (0, 0), 25)\nresult = cv2.divide(g, bg, scale=220)",
    ),
    "duotone": does("id", "result = ImageOps.colorize(image.convert('L'), black='#102040', white='#ffe0b0')"),
    "webp round trip": does(
        "r270",
        "import io\nb = io.BytesIO()\nimage.transpose(Image.ROTATE_270).save(b, 'WEBP', quality=40)\nresult = Image.open(io.BytesIO(b.getvalue()))",
    ),
    "poor jpeg of a zoom": does(
        "id",
        "import io\nc = image.crop((140, 90, 320, 225)).resize((720, 540), Image.BICUBIC)\nb = io.BytesIO()\nc.save(b, 'JPEG', quality=30)\nresult = cv2.cvtColor(cv2.imdecode(np.frombuffer(b.getvalue(), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)",
        box(140, 90, 320, 225),
    ),
    # drawings and canvases
    "crosshair": does(
        "id",
        f"{SIZE}draw.line((0, h // 2, w, h // 2), fill='red', width=2)\ndraw.line((w // 2, 0, w // 2, h), fill='red', width=2)",
    ),
    "numbered boxes": does(
        "id",
        f"{ARRAY}for i, (x, y) in enumerate([(30, 40), (150, 90), (260, 180)]):\n    cv2.rectangle(a, (x, y), (x + 90, y + 60), (255, 0, 255), 2)\n"
        "    cv2.putText(a, str(i + 1), (x + 4, y + 20), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 0, 255), 2)\nresult = a",
    ),
    "polygon half transparent": does(
        "r90",
        "o = Image.new('RGBA', image.size, (0, 0, 0, 0))\nImageDraw.Draw(o).polygon([(60, 60), (220, 80), (180, 200)], fill=(0, 255, 0, 90))\n"
        "result = Image.alpha_composite(image.convert('RGBA'), o).convert('RGB').rotate(90, expand=True)",
    ),
    "margin and a grid": does(
        "id",
        "c = ImageOps.expand(image.crop((50, 50, 350, 250)), 30, 'white')\nresult = c.resize((720, 520))",
        box(50, 50, 350, 250),
    ),
    "crop on black, scaled": does(
        "fv",
        "c = ImageOps.flip(image.crop((30, 30, 380, 250))).resize((525, 330), Image.LANCZOS)\nout = Image.new('RGB', (640, 640))\nout.paste(c, (57, 155))\nresult = out",
        box(30, 30, 380, 250),
    ),
    "as a figure": does(
        "id",
        "import matplotlib.pyplot as plt\nfig = plt.figure(figsize=(6, 6))\nax = fig.add_axes([0, 0, 1, 1])\nax.imshow(np.array(image))\nax.axis('off')\nresult = fig",
    ),
    # what is seen decides
    "column with most ink": finds(
        most_ink_column,
        "g = np.asarray(ImageOps.grayscale(image), dtype=np.int64)\nd = (255 - g).sum(axis=0)\nx = int(np.argmax(np.convolve(d, np.ones(160, np.int64), 'valid')))\n"
        "result = image.crop((x, 0, x + 160, image.height))",
    ),
    "column with most ink, contrast": finds(
        most_ink_column,
        "g = np.asarray(ImageOps.grayscale(image), dtype=np.int64)\nd = (255 - g).sum(axis=0)\nx = int(np.argmax(np.convolve(d, np.ones(160, np.int64), 'valid')))\n"
        "result = ImageEnhance.Contrast(image.crop((x, 0, x + 160, image.height))).enhance(1.6)",
    ),
    "dark half up": finds(
        darkest_half_first,
        "g = np.asarray(image.convert('L'))\nh = g.shape[0] // 2\nif g[h:].mean() < g[:h].mean():\n    image = ImageOps.flip(image)",
    ),
    "dark half up, sharper": finds(
        darkest_half_first,
        "g = np.asarray(image.convert('L'))\nh = g.shape[0] // 2\nif g[h:].mean() < g[:h].mean():\n    image = ImageOps.flip(image)\nimage = image.filter(ImageFilter.SHARPEN)",
    ),
    "around the brightest spot": finds(
        brightest_spot,
        "soft = cv2.GaussianBlur(np.array(image.convert('L')), (51, 51), 0)\n_, _, _, (x, y) = cv2.minMaxLoc(soft)\n"
        "x1, y1 = min(max(x - 90, 0), image.width - 180), min(max(y - 70, 0), image.height - 140)\n"
        "result = image.crop((x1, y1, x1 + 180, y1 + 140)).resize((720, 560), Image.LANCZOS)",
    ),
    "rows that say something": finds(
        without_white_rows,
        f"g = np.asarray(image.convert('L'))\nbusy = np.flatnonzero(g.std(axis=1) > 10)\n{ARRAY}result = cv2.convertScaleAbs(a[busy[0]:busy[-1] + 1], alpha=0.8, beta=10)",
    ),
    # other images
    "the second over the first": does(
        "r180", "image.paste(images[1].rotate(180).resize(image.size))\nresult = image", parent=1
    ),
    "the second in grey": does("fh", "result = ImageOps.grayscale(ImageOps.mirror(images[1]))", parent=1),
    "difference of two": unknown(
        "from PIL import ImageChops\nresult = ImageChops.difference(images[0].resize((400, 300)), images[1].resize((400, 300)))",
        images=2,
    ),
    "one inside the other": unknown(
        "image.paste(images[1].resize((image.width // 2, image.height // 2)), (image.width // 4, image.height // 4))",
        images=2,
    ),
    # nothing that has an answer
    "two crops stacked": unknown(f"{ARRAY}result = np.vstack([a[20:120, 50:350], a[180:280, 50:350]])"),
    "every second column first": unknown(f"{ARRAY}result = np.hstack([a[:, ::2], a[:, 1::2]])"),
    "triptych": unknown(
        "w, h = image.size\nresult = Image.new('RGB', (3 * w // 2, h))\nfor i in range(3):\n    result.paste(image.resize((w // 2, h)), (i * (w // 2), 0))"
    ),
    "rotate 4, cropped": unknown(
        f"{SIZE}image = image.rotate(4, Image.BICUBIC).crop((w // 8, h // 8, 7 * w // 8, 7 * h // 8))"
    ),
    "wave": unknown(
        f"{ARRAY}result = np.stack([np.roll(row, int(14 * np.sin(i / 15)), axis=0) for i, row in enumerate(a)])"
    ),
    "average with its mirror": unknown("image = Image.blend(image, ImageOps.mirror(image), 0.4)"),
    "upper left corner turned": unknown(
        f"{ARRAY}s = 2 * min(a.shape[:2]) // 3\nresult = a.copy()\nresult[:s, :s] = np.rot90(a[:s, :s])"
    ),
    "black": unknown("image = image.point(lambda v: 0)"),
    "text only": unknown(
        "result = Image.new('RGB', (300, 100), 'white')\nImageDraw.Draw(result).text((10, 40), f'{image.size} answer: 42', fill='black')"
    ),
}
"""Written before the results of `FIRST` were known, and first tried after its misses were repaired."""
