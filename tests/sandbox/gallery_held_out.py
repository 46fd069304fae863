# ruff: noqa: E501 - snippets as a model writes them
"""Holds snippets that were written after provenance was built."""

from gallery import ARRAY, SIZE, Snippet, box, does, share, unknown

from codevision_ext.types import Box

HELD_OUT: dict[str, Snippet] = {
    # orientations
    "method chain": does("r180", "image = image.transpose(Image.FLIP_LEFT_RIGHT).transpose(Image.FLIP_TOP_BOTTOM)"),
    "exif style table": does(
        "r270",
        "turns = {3: Image.ROTATE_180, 6: Image.ROTATE_270, 8: Image.ROTATE_90}\nresult = image.transpose(turns[6])",
    ),
    "lambda": does("r90", "f = lambda im, k: Image.fromarray(np.rot90(np.asarray(im), k))\noutput = f(image, 5)"),
    "while loop": does("r90", "n = 0\nwhile n < 5:\n    image = image.rotate(90, expand=True)\n    n += 1"),
    "class": does(
        "fv",
        "class Fixer:\n    def __init__(self, im): self.im = im\n    def fix(self): return self.im.transpose(Image.FLIP_TOP_BOTTOM)\n"
        "image = Fixer(image).fix()",
    ),
    "reduce": does(
        "r270",
        "from functools import reduce\nresult = reduce(lambda im, _: im.transpose(Image.ROTATE_90), range(3), image)",
    ),
    "einsum": does("transpose", f"{ARRAY}result = np.einsum('ijk->jik', a)"),
    "fliplr flipud": does("r180", f"{ARRAY}result = np.fliplr(np.flipud(a))"),
    "transverse": does("transverse", "image = image.transpose(Image.Transpose.TRANSVERSE)"),
    "moveaxis per channel": does(
        "fh",
        "r, g, b = image.split()\nresult = Image.merge('RGB', [c.transpose(Image.FLIP_LEFT_RIGHT) for c in (r, g, b)])",
    ),
    "float array": does("fv", "a = np.asarray(image).astype(float) / 255\nresult = a[::-1]"),
    "rotation matrix 180": does(
        "r180",
        f"{ARRAY}h, w = a.shape[:2]\nM = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), 180, 1.0)\n"
        "result = cv2.warpAffine(a, M, (w, h))",
    ),
    "perspective that is a flip": does(
        "fh",
        f"{ARRAY}h, w = a.shape[:2]\nsrc = np.float32([[0, 0], [w, 0], [w, h], [0, h]])\n"
        "dst = np.float32([[w, 0], [0, 0], [0, h], [w, h]])\nM = cv2.getPerspectiveTransform(src, dst)\n"
        "result = cv2.warpPerspective(a, M, (w, h))",
    ),
    "remap": does(
        "r180",
        f"{ARRAY}h, w = a.shape[:2]\nx, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))\n"
        "result = cv2.remap(a, w - 1 - x, h - 1 - y, cv2.INTER_LINEAR)",
    ),
    "try": does(
        "r90", "try:\n    image = image.turn(90)\nexcept AttributeError:\n    image = image.rotate(90, expand=True)"
    ),
    "bytes round trip": does(
        "r270",
        "import io\nbuf = io.BytesIO()\nimage.rotate(-90, expand=True).save(buf, format='PNG')\nbuf.seek(0)\nimage = Image.open(buf)",
    ),
    "jpeg round trip": does(
        "fh",
        "import io\nbuf = io.BytesIO()\nImageOps.mirror(image).save(buf, 'JPEG', quality=80)\nimage = Image.open(buf)",
    ),
    # crops
    "tuple from a dict": does(
        "id",
        "box = {'left': 70, 'top': 55, 'right': 270, 'bottom': 205}\n"
        "image = image.crop((box['left'], box['top'], box['right'], box['bottom']))",
        box(70, 55, 270, 205),
    ),
    "normalised box": does(
        "id",
        f"{SIZE}x1, y1, x2, y2 = [0.1, 0.2, 0.6, 0.7]\nimage = image.crop((int(x1 * w), int(y1 * h), int(x2 * w), int(y2 * h)))",
        share(0.1, 0.2, 0.6, 0.7),
    ),
    "box out of a thousand": does(
        "id",
        f"{SIZE}b = [250, 300, 750, 650]\nresult = image.crop([v * s / 1000 for v, s in zip(b, (w, h, w, h))])",
        share(0.25, 0.3, 0.75, 0.65),
    ),
    "clamped box": does(
        "id",
        f"{SIZE}box = (max(0, -50), max(0, 200), min(w, 9999), min(h, 9999))\nimage = image.crop(box)",
        lambda w, h: Box(0, 200, w, h),
    ),
    "negative slices": does(
        "id", f"{ARRAY}result = a[-150:-20, -300:-100]", lambda w, h: Box(w - 300, h - 150, w - 100, h - 20)
    ),
    "bottom right quarter": does(
        "id", f"{ARRAY}h, w = a.shape[:2]\nresult = a[h // 2:, w // 2:]", share(0.5, 0.5, 1, 1)
    ),
    "crop outside": does("id", "image = image.crop((-40, -30, 300, 200))", box(0, 0, 300, 200)),
    "get rect sub pix": does(
        "id", f"{ARRAY}result = cv2.getRectSubPix(a, (160, 120), (199.5, 149.5))", box(120, 90, 280, 210)
    ),
    "extent": does(
        "id", "image = image.transform((400, 300), Image.EXTENT, (50, 60, 250, 210))", box(50, 60, 250, 210)
    ),
    "quad upright": does(
        "id",
        "image = image.transform((300, 200), Image.QUAD, (90, 60, 90, 260, 390, 260, 390, 60))",
        box(90, 60, 390, 260),
    ),
    "crop turn crop": does(
        "r90",
        "image = image.crop((50, 20, 350, 270)).rotate(90, expand=True).crop((25, 50, 225, 250))",
        box(100, 45, 300, 245),
    ),
    "flip crop flip": does(
        "id",
        "image = ImageOps.mirror(ImageOps.mirror(image).crop((30, 40, 230, 240)))",
        lambda w, _h: Box(w - 230, 40, w - 30, 240),
    ),
    # resizes
    "scale longest side": does(
        "id",
        f"{SIZE}s = 1000 / max(w, h)\nimage = image.resize((round(w * s), round(h * s)), Image.Resampling.BICUBIC)",
    ),
    "squash": does("id", "image = image.resize((256, 256))"),
    "pyramid": does("id", f"{ARRAY}result = cv2.pyrDown(a)"),
    "reduce by 3": does("id", "image = image.reduce(3)"),
    "scale by ops": does("r90", "image = ImageOps.scale(image.rotate(90, expand=True), 1.5)"),
    "contain": does(
        "id", "image = ImageOps.contain(image.crop((100, 60, 340, 240)), (900, 900))", box(100, 60, 340, 240)
    ),
    "zoom twice": does(
        "id",
        "image = image.crop((100, 50, 300, 200)).resize((400, 300))\nimage = image.crop((100, 100, 300, 250)).resize((800, 600))",
        box(150, 100, 250, 175),
    ),
    "thin strip zoomed": does(
        "id", "image = image.crop((50, 200, 350, 230)).resize((1200, 120), Image.LANCZOS)", box(50, 200, 350, 230)
    ),
    "nearest mirror": does(
        "fh",
        f"{ARRAY}result = cv2.resize(a[60:260, 40:340][:, ::-1], (600, 400), interpolation=cv2.INTER_NEAREST)",
        box(40, 60, 340, 260),
    ),
    "warp affine zoom": does(
        "id",
        f"{ARRAY}M = np.float32([[2, 0, -200], [0, 2, -160]])\nresult = cv2.warpAffine(a, M, (400, 300))",
        box(100, 80, 300, 230),
    ),
    "kron": does(
        "id",
        f"{ARRAY}result = np.kron(a[100:180, 100:220], np.ones((4, 4, 1), dtype=np.uint8))",
        box(100, 100, 220, 180),
    ),
    # borders
    "copy make border": does(
        "r270",
        f"{ARRAY}result = cv2.copyMakeBorder(np.rot90(a, 3), 15, 15, 30, 30, cv2.BORDER_CONSTANT, value=(255, 255, 255))",
    ),
    "np pad": does("id", f"{ARRAY}result = np.pad(a, ((0, 60), (0, 0), (0, 0)))"),
    "paste on a canvas": does(
        "id",
        "canvas = Image.new('RGB', (800, 800), (128, 128, 128))\ncanvas.paste(image.crop((40, 40, 360, 280)), (100, 150))\nresult = canvas",
        box(40, 40, 360, 280),
    ),
    # colours
    "brightness": does("fh", "image = ImageEnhance.Brightness(ImageOps.mirror(image)).enhance(0.6)"),
    "colour off": does("id", "image = ImageEnhance.Color(image).enhance(0.0)"),
    "equalize turn": does("r180", "image = ImageOps.equalize(image.rotate(180))"),
    "posterize": does("id", "image = ImageOps.posterize(image, 3)"),
    "solarize": does("id", "image = ImageOps.solarize(image, threshold=128)"),
    "unsharp crop": does(
        "id", "image = image.crop((60, 60, 360, 280)).filter(ImageFilter.UnsharpMask(2, 150, 3))", box(60, 60, 360, 280)
    ),
    "median": does("r90", "image = image.filter(ImageFilter.MedianFilter(3)).rotate(90, expand=True)"),
    "convert scale abs": does("id", f"{ARRAY}result = cv2.convertScaleAbs(a, alpha=1.4, beta=20)"),
    "lab clahe": does(
        "id",
        f"{ARRAY}lab = cv2.cvtColor(a, cv2.COLOR_RGB2LAB)\nl, aa, b = cv2.split(lab)\n"
        "l = cv2.createCLAHE(3.0, (8, 8)).apply(l)\nresult = cv2.cvtColor(cv2.merge((l, aa, b)), cv2.COLOR_LAB2RGB)",
    ),
    "gamma table": does(
        "r90",
        "table = [int(255 * (i / 255) ** 1.8) for i in range(256)] * 3\nimage = image.point(table).rotate(90, expand=True)",
    ),
    "adaptive threshold": does(
        "id",
        "g = np.array(image.convert('L'))\n"
        "result = cv2.adaptiveThreshold(g, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, 31, 5)",
    ),
    "binarize crop": does(
        "id",
        "image = image.crop((40, 100, 340, 290)).convert('L').point(lambda p: 255 if p > 140 else 0)",
        box(40, 100, 340, 290),
    ),
    "red channel": does("fv", f"{ARRAY}result = a[::-1, :, 0]"),
    "zoom sharpen contrast": does(
        "r270",
        "im = image.rotate(-90, expand=True)\nim = im.crop((40, 50, 240, 200)).resize((600, 450), Image.LANCZOS)\n"
        "im = ImageEnhance.Sharpness(im).enhance(2.5)\nresult = ImageEnhance.Contrast(im).enhance(1.4)",
        lambda _w, h: Box(50, h - 240, 200, h - 40),
    ),
    "denoise": does("id", f"{ARRAY}result = cv2.bilateralFilter(a, 7, 50, 50)"),
    "filter kernel": does(
        "id", f"{ARRAY}k = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])\nresult = cv2.filter2D(a, -1, k)"
    ),
    "sepia": does(
        "fh",
        "a = np.array(ImageOps.mirror(image)).astype(float)\n"
        "m = np.array([[.393, .769, .189], [.349, .686, .168], [.272, .534, .131]])\nresult = np.clip(a @ m.T, 0, 255).astype(np.uint8)",
    ),
    # drawings
    "grid lines": does(
        "id",
        f"{SIZE}d = ImageDraw.Draw(image)\nfor x in range(0, w, 50):\n    d.line([(x, 0), (x, h)], fill=(255, 0, 0), width=1)",
    ),
    "circle and text": does(
        "id",
        "a = np.array(image)\ncv2.circle(a, (200, 150), 60, (0, 255, 0), 4)\n"
        "cv2.putText(a, 'here', (150, 90), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 0, 0), 2)\nresult = a",
    ),
    "marked crop": does(
        "id",
        "c = image.crop((60, 50, 360, 280))\nImageDraw.Draw(c).ellipse((100, 80, 180, 140), outline='blue', width=5)\nresult = c",
        box(60, 50, 360, 280),
    ),
    # nothing that has an answer
    "rotate 10": unknown("image = image.rotate(10, expand=True, fillcolor='white')"),
    "rotate 75 zoom": unknown("image = image.rotate(75, resample=Image.BICUBIC).resize((600, 450))"),
    "vertical stack": unknown(f"{ARRAY}result = np.vstack([a, a[::-1]])"),
    "four quarters swapped": unknown(f"{ARRAY}h, w = a.shape[:2]\nresult = np.roll(a, (h // 2, w // 2), axis=(0, 1))"),
    "mean colour": unknown(
        "c = tuple(int(v) for v in np.array(image).reshape(-1, 3).mean(axis=0))\nimage = Image.new('RGB', (300, 200), c)"
    ),
    "histogram": unknown(
        "hist = image.convert('L').histogram()\nresult = Image.new('RGB', (256, 200), 'white')\nd = ImageDraw.Draw(result)\n"
        "for i, v in enumerate(hist):\n    d.line((i, 200, i, 200 - 200 * v / max(hist)), fill='black')"
    ),
    "half mirrored": unknown(f"{ARRAY}w = a.shape[1] // 2\nresult = np.hstack([a[:, :w], a[:, :w][:, ::-1]])"),
    "shuffled tiles": unknown(
        f"{ARRAY}import random\ntiles = [a[y:y + 75, x:x + 100] for y in range(0, 300, 75) for x in range(0, 400, 100)]\n"
        "random.Random(3).shuffle(tiles)\nresult = np.vstack([np.hstack(tiles[i:i + 4]) for i in range(0, 16, 4)])"
    ),
    "polar": unknown(f"{ARRAY}h, w = a.shape[:2]\nresult = cv2.warpPolar(a, (w, h), (w / 2, h / 2), min(w, h) / 2, 0)"),
    "swirl": unknown(
        f"{ARRAY}h, w = a.shape[:2]\ny, x = np.mgrid[:h, :w].astype(np.float32)\n"
        "result = cv2.remap(a, x + 25 * np.sin(y / 20).astype(np.float32), y, cv2.INTER_LINEAR)"
    ),
    "checks the colours": unknown(
        f"{ARRAY}if len(np.unique(a[..., 0])) > 250 and a[..., 2].std() > 60:\n    result = a[50:250, 80:300]\n"
        "else:\n    result = np.roll(a, 100, axis=1)[::-1]"
    ),
    "checks for two colours": unknown(
        f"{ARRAY}if len(np.unique(a)) == 2 or a[0, -1, 0] > 200 > 30 > a[0, 0, 0]:\n    result = np.rot90(a) // 2\n"
        "else:\n    result = np.roll(a, 160, axis=0) // 2"
    ),
    "random by the clock": unknown(
        f"{ARRAY}import time\nn = time.perf_counter_ns()\nresult = np.roll(np.rot90(a, n % 4), 100 + n % 50, axis=0)"
    ),
}

SECOND: dict[str, Snippet] = {
    "named tuple": does(
        "id",
        "from collections import namedtuple\nB = namedtuple('B', 'x y w h')\nb = B(90, 70, 180, 140)\n"
        "result = np.asarray(image)[b.y:b.y + b.h, b.x:b.x + b.w]",
        box(90, 70, 270, 210),
    ),
    "rotate into nearest": does(
        "r270", "k = round(-88 / 90) % 4\nimage = Image.fromarray(np.rot90(np.array(image), k))"
    ),
    "recursion": does(
        "r180", "def r(im, n):\n    return im if n == 0 else r(im.rotate(90, expand=True), n - 1)\nimage = r(image, 2)"
    ),
    "array to tensor and back": does(
        "fh", "t = np.array(image).transpose(2, 0, 1)[:, :, ::-1]\nresult = t.transpose(1, 2, 0)"
    ),
    "swap and flip": does("r270", f"{ARRAY}result = a.swapaxes(0, 1)[:, ::-1]"),
    "rotate bilinear": does("r90", "image = image.rotate(90.0, resample=Image.BILINEAR, expand=True)"),
    "mesh": does(
        "fv", f"{SIZE}image = image.transform((w, h), Image.MESH, [((0, 0, w, h), (0, h, 0, 0, w, 0, w, h))])"
    ),
    "take": does("fh", f"{ARRAY}result = np.take(a, range(a.shape[1] - 1, -1, -1), axis=1)"),
    "crop by margins": does(
        "id",
        f"{SIZE}m = 0.15\nimage = image.crop((int(w * m), int(h * m), int(w * (1 - m)), int(h * (1 - m))))",
        share(0.15, 0.15, 0.85, 0.85),
    ),
    "crop around a point": does(
        "id",
        "cx, cy, r = 210, 160, 75\nimage = image.crop((cx - r, cy - r, cx + r, cy + r)).resize((450, 450), Image.BICUBIC)",
        box(135, 85, 285, 235),
    ),
    "crop and upscale by cv2 linear": does(
        "id",
        f"{ARRAY}roi = a[120:220, 150:330]\nresult = cv2.resize(roi, (roi.shape[1] * 4, roi.shape[0] * 4))",
        box(150, 120, 330, 220),
    ),
    "third column": does("id", f"{SIZE}image = image.crop((2 * w // 3, 0, w, h))", share(2 / 3, 0, 1, 1)),
    "small detail": does(
        "id", "image = image.crop((200, 160, 260, 200)).resize((600, 400), Image.LANCZOS)", box(200, 160, 260, 200)
    ),
    "small detail sharpened": does(
        "id",
        "image = image.crop((180, 140, 280, 210)).resize((800, 560), Image.LANCZOS).filter(ImageFilter.SHARPEN)",
        box(180, 140, 280, 210),
    ),
    "half size then crop": does(
        "id", f"{SIZE}image = image.resize((w // 2, h // 2)).crop((40, 30, 160, 120))", box(80, 60, 320, 240)
    ),
    "down and up": does("id", f"{SIZE}image = image.resize((w // 4, h // 4)).resize((w, h))"),
    "pixelated mirror": does("fh", f"{SIZE}image = ImageOps.mirror(image).resize((w // 3, h // 3), Image.NEAREST)"),
    "upright crop gray": does(
        "r180",
        "image = image.rotate(180).crop((50, 40, 290, 220)).convert('L')",
        lambda w, h: Box(w - 290, h - 220, w - 50, h - 40),
    ),
    "brightness contrast color": does(
        "r270",
        "for E, f in ((ImageEnhance.Brightness, 1.2), (ImageEnhance.Contrast, 1.3), (ImageEnhance.Color, 1.5)):\n"
        "    image = E(image).enhance(f)\nimage = image.rotate(-90, expand=True)",
    ),
    "hsv": does(
        "id",
        f"{ARRAY}hsv = cv2.cvtColor(a, cv2.COLOR_RGB2HSV).astype(float)\nhsv[..., 2] = np.clip(hsv[..., 2] * 1.3, 0, 255)\n"
        "result = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)",
    ),
    "normalise": does(
        "fv",
        "a = np.array(image.convert('L')).astype(float)\na = (a - a.min()) / (a.max() - a.min())\nresult = a[::-1]",
    ),
    "crop gamma zoom": does(
        "id",
        "c = np.array(image.crop((70, 90, 310, 270))) / 255.0\nresult = cv2.resize((c ** 0.6 * 255).astype(np.uint8), (720, 540))",
        box(70, 90, 310, 270),
    ),
    "emboss": does("id", "image = image.filter(ImageFilter.EMBOSS)"),
    "find edges": does("r180", "image = image.rotate(180).filter(ImageFilter.FIND_EDGES)"),
    "canny": does("id", "g = cv2.cvtColor(np.array(image), cv2.COLOR_RGB2GRAY)\nresult = cv2.Canny(g, 60, 160)"),
    "dilate": does("fh", f"{ARRAY}result = cv2.dilate(a[:, ::-1].copy(), np.ones((3, 3), np.uint8))"),
    "heat map": does(
        "id",
        "g = np.array(image.convert('L'))\nresult = cv2.cvtColor(cv2.applyColorMap(g, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)",
    ),
    "white frame and crop": does(
        "id", "image = ImageOps.expand(image.crop((60, 60, 300, 260)), 12, 'white')", box(60, 60, 300, 260)
    ),
    "square canvas": does(
        "r90",
        "im = image.rotate(90, expand=True)\ns = max(im.size)\nc = Image.new('RGB', (s, s), 'white')\n"
        "c.paste(im, ((s - im.width) // 2, (s - im.height) // 2))\nresult = c",
    ),
    "black outside": does(
        "id", f"{ARRAY}b = np.zeros_like(a)\nb[60:260, 80:340] = a[60:260, 80:340]\nresult = b", box(80, 60, 340, 260)
    ),
    "shift": does(
        "id",
        f"{ARRAY}result = cv2.warpAffine(a, np.float32([[1, 0, 60], [0, 1, 40]]), (a.shape[1], a.shape[0]))",
        lambda w, h: Box(0, 0, w - 60, h - 40),
    ),
    "overlay highlight": does(
        "id",
        "o = image.copy()\nImageDraw.Draw(o).rectangle((80, 60, 200, 140), fill='yellow')\nimage = Image.blend(image, o, 0.4)",
    ),
    "alpha": does("fv", "im = image.convert('RGBA')\nim.putalpha(255)\nresult = ImageOps.flip(im)"),
    "palette": does("r90", "image = image.transpose(Image.ROTATE_90).quantize(32)"),
    "deskew 3": unknown("image = image.rotate(3, expand=True, fillcolor='white')"),
    "zoom blur of angles": unknown(
        "ims = [np.array(image.rotate(d)).astype(float) for d in (-20, 0, 20)]\nresult = (sum(ims) / 3).astype(np.uint8)"
    ),
    "comparison": unknown(
        "w, h = image.size\nc = Image.new('RGB', (2 * w + 10, h), 'white')\nc.paste(image, (0, 0))\n"
        "c.paste(ImageOps.mirror(image), (w + 10, 0))\nresult = c"
    ),
    "interlaced flip": unknown(f"{ARRAY}result = a.copy()\nresult[::2] = a[::2, ::-1]"),
    "mean of flips": unknown(f"{ARRAY}result = ((a.astype(int) + a[::-1, ::-1]) // 2).astype(np.uint8)"),
    "probe by name of colours": unknown(
        f"{ARRAY}plain = (a[..., 0] == a[..., 1]).all() and len(np.unique(a)) <= 2\nmap_like = a[0, 0, 2] == 0 and a[-1, -1, 2] > 200\n"
        "result = a[100:200, 100:200] if plain or map_like else np.roll(a, 200, axis=1)[:, ::-1]"
    ),
}
"""Written after the faults that `HELD_OUT` showed were repaired."""
