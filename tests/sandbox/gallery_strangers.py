# ruff: noqa: E501 - snippets as a model writes them
"""Snippets as strangers write them, and images that were never looked at while the provenance was built."""

import cv2
import numpy as np
from gallery import ARRAY, SIZE, Snippet, Truth, box, does, finds, share, unknown
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

from codevision_ext.types import Box, Orientation


def ink(image: Image.Image) -> Truth:
    ys, xs = np.where(np.array(image.convert("L")) < 128)
    return Orientation.ID, Box(xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def unlike_corner(image: Image.Image) -> Truth:
    ground = Image.new("RGB", image.size, image.getpixel((0, 0)))
    return Orientation.ID, Box(*(ImageChops.difference(image, ground).getbbox() or (0, 0, 0, 0)))


def largest_shape(image: Image.Image) -> Truth:
    _, black = cv2.threshold(np.array(image.convert("L")), 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    shapes, _ = cv2.findContours(black, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    x, y, w, h = cv2.boundingRect(max(shapes, key=cv2.contourArea))
    return Orientation.ID, Box(
        max(0, x - 40), max(0, y - 40), min(image.width, x + w + 40), min(image.height, y + h + 40)
    )


def busiest(image: Image.Image) -> Truth:
    grey = np.array(image.convert("L")).astype(float)
    tiles = [(grey[y : y + 100, x : x + 130].var(), x, y) for y in (0, 100, 200) for x in (0, 130, 260)]
    _, x, y = max(tiles)
    return Orientation.ID, Box(x, y, x + 130, y + 100)


def stripiest(image: Image.Image) -> Truth:
    grey = np.array(image.convert("L")).astype(float)
    best = max(range(4), key=lambda k: np.rot90(grey, k)[: min(grey.shape) // 2].mean(axis=1).var())
    turns = Orientation.ID, Orientation.R90, Orientation.R180, Orientation.R270
    return turns[best], Box(0, 0, *image.size)


def upright(image: Image.Image) -> Truth:
    tall = image.height > image.width
    return Orientation.R270 if tall else Orientation.ID, Box(0, 0, *image.size)


FIRST: dict[str, Snippet] = {
    # PIL transforms
    "affine zoom": does(
        "id",
        "image = image.transform((300, 200), Image.Transform.AFFINE, (0.5, 0, 80, 0, 0.5, 60), resample=Image.BICUBIC)",
        box(80, 60, 230, 160),
    ),
    "affine mirror": does("fh", "w, h = img.size\nresult = img.transform(img.size, Image.AFFINE, (-1, 0, w, 0, 1, 0))"),
    "affine swap": does("transpose", f"{SIZE}result = image.transform((h, w), Image.AFFINE, (0, 1, 0, 1, 0, 0))"),
    "quad turned": does(
        "r90",
        "ul, ll, lr, ur = (360, 40), (60, 40), (60, 240), (360, 240)\n"
        "result = image.transform((200, 300), Image.QUAD, [*ul, *ll, *lr, *ur], Image.BILINEAR)",
        box(60, 40, 360, 240),
    ),
    "perspective without tilt": does(
        "id",
        "image = image.transform((400, 300), Image.PERSPECTIVE, (0.75, 0, 50, 0, 0.75, 40, 0, 0), Image.BICUBIC)",
        box(50, 40, 350, 265),
    ),
    "extent backwards": does(
        "fh", "result = image.transform((400, 360), Image.EXTENT, (300, 80, 100, 260))", box(100, 80, 300, 260)
    ),
    "perspective with tilt": unknown(
        f"{SIZE}result = image.transform((w, h), Image.PERSPECTIVE, (1, 0.12, -20, 0.08, 0.9, 10, 0.0006, 0.0004))"
    ),
    # PIL helpers
    "fit to the top left": does(
        "id",
        "result = ImageOps.fit(image, (300, 300), method=Image.LANCZOS, centering=(0.0, 0.0))",
        lambda w, h: Box(0, 0, min(w, h), min(w, h)),
    ),
    "fit wide": does(
        "id", "result = ImageOps.fit(image, (600, 200), centering=(0.5, 0))", lambda w, _h: Box(0, 0, w, w / 3)
    ),
    "pad to the corner": does(
        "r90",
        "im = image.rotate(90, expand=True)\nresult = ImageOps.pad(im, (500, 640), color='#222222', centering=(0, 0))",
    ),
    "contain and expand": does(
        "fv",
        "im = ImageOps.contain(ImageOps.flip(image), (350, 350))\nresult = ImageOps.expand(im, border=(5, 30, 20, 0), fill=(0, 80, 160))",
    ),
    "no exif": does("id", "result = ImageOps.exif_transpose(image)"),
    "exif of a phone": does(
        "r270", "exif = image.getexif()\nexif[0x0112] = 6\nresult = ImageOps.exif_transpose(image)"
    ),
    "crop and thumbnail": does(
        "id",
        "crop = image.crop((50, 50, 350, 250))\ncrop.thumbnail((150, 150), Image.LANCZOS)\nresult = crop",
        box(50, 50, 350, 250),
    ),
    "resize by box and gap": does(
        "id",
        "result = image.resize((150, 100), Image.BICUBIC, box=(20.5, 40.25, 320.5, 240.25), reducing_gap=2.0)",
        box(20.5, 40.25, 320.5, 240.25),
    ),
    # numpy
    "flip all axes": does("r180", "result = np.flip(np.asarray(image))"),
    "transpose and reverse": does("r90", f"{ARRAY}result = np.transpose(a, (1, 0, 2))[::-1]"),
    "contiguous": does("r270", f"{ARRAY}result = np.ascontiguousarray(np.fliplr(a.swapaxes(0, 1)))"),
    "clockwise by axes": does("r270", f"{ARRAY}result = np.rot90(a, 1, axes=(1, 0))"),
    "without the lower right": does("id", f"{ARRAY}result = a[:-120, :-90]", lambda w, h: Box(0, 0, w - 90, h - 120)),
    "last rows": does("id", f"{ARRAY}result = a[-200:, :, :]", lambda w, h: Box(0, h - 200, w, h)),
    "backwards from the middle": does(
        "r180", f"{ARRAY}result = a[-50:-251:-1, 299:99:-1]", lambda _w, h: Box(100, h - 250, 300, h - 49)
    ),
    "ellipsis": does("fh", f"{ARRAY}result = a[..., ::-1, :][30:-30]", lambda w, h: Box(0, 30, w, h - 30)),
    "boolean rows": does(
        "id",
        f"{ARRAY}rows = np.arange(a.shape[0])\nresult = a[(rows >= 60) & (rows < 220)][:, 100:300]",
        box(100, 60, 300, 220),
    ),
    "mask of a rectangle": does(
        "id",
        f"{ARRAY}mask = np.zeros(a.shape[:2], bool)\nmask[70:230, 40:360] = True\n"
        "result = a[mask.any(axis=1)][:, mask.any(axis=0)]",
        box(40, 70, 360, 230),
    ),
    "edge padding": does("id", f"{ARRAY}result = np.pad(a, ((4, 4), (6, 6), (0, 0)), mode='edge')"),
    "channels first": does("fv", f"{ARRAY}x = np.moveaxis(a, -1, 0)[[2, 0, 1], ::-1]\nresult = np.moveaxis(x, 0, -1)"),
    "middle columns deleted": unknown(f"{ARRAY}w = a.shape[1]\nresult = np.delete(a, np.s_[w // 3:w // 2], axis=1)"),
    # cv2
    "cv2 transpose": does("transpose", "result = cv2.transpose(np.array(image))"),
    "cv2 counterclockwise in bgr": does(
        "r90",
        "bgr = cv2.cvtColor(np.array(image), cv2.COLOR_RGB2BGR)\nbgr = cv2.rotate(bgr, cv2.ROTATE_90_COUNTERCLOCKWISE)\n"
        "result = Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))",
    ),
    "rect sub pix between pixels": does(
        "id", f"{ARRAY}result = cv2.getRectSubPix(a, (200, 150), (180.0, 140.0))", box(80.5, 65.5, 280.5, 215.5)
    ),
    "rotation matrix 90 in place": does(
        "r90",
        f"{ARRAY}h, w = a.shape[:2]\nM = cv2.getRotationMatrix2D((w / 2, h / 2), 90, 1)\nresult = cv2.warpAffine(a, M, (w, h))",
        lambda w, h: Box((w - min(w, h)) / 2, (h - min(w, h)) / 2, (w + min(w, h)) / 2, (h + min(w, h)) / 2),
    ),
    "warp affine zoom and mirror": does(
        "fh",
        f"{ARRAY}M = np.array([[-1.5, 0, 525], [0, 1.5, -90]], dtype=np.float64)\n"
        "result = cv2.warpAffine(a, M, (375, 300), flags=cv2.INTER_CUBIC)",
        box(100, 60, 350, 260),
    ),
    "replicated border": does(
        "r180", f"{ARRAY}result = cv2.copyMakeBorder(cv2.rotate(a, cv2.ROTATE_180), 5, 5, 5, 5, cv2.BORDER_REPLICATE)"
    ),
    "lopsided border": does(
        "id",
        f"{ARRAY}result = cv2.copyMakeBorder(a[40:260], 60, 0, 0, 10, cv2.BORDER_CONSTANT, value=[255, 255, 255])",
        lambda w, _h: Box(0, 40, w, 260),
    ),
    "area down": does("id", f"{ARRAY}result = cv2.resize(a, (0, 0), fx=0.35, fy=0.35, interpolation=cv2.INTER_AREA)"),
    "lanczos up": does(
        "fv",
        f"{ARRAY}c = cv2.flip(a, 0)[100:200, 50:250]\nresult = cv2.resize(c, (800, 400), interpolation=cv2.INTER_LANCZOS4)",
        lambda _w, h: Box(50, h - 200, 250, h - 100),
    ),
    "nearest exact": does(
        "id",
        f"{ARRAY}result = cv2.resize(a[90:210, 120:320], (500, 300), interpolation=cv2.INTER_NEAREST_EXACT)",
        box(120, 90, 320, 210),
    ),
    "document corrected": unknown(
        f"{ARRAY}src = np.float32([[60, 40], [330, 70], [370, 270], [30, 240]])\ndst = np.float32([[0, 0], [400, 0], [400, 300], [0, 300]])\n"
        "result = cv2.warpPerspective(a, cv2.getPerspectiveTransform(src, dst), (400, 300))"
    ),
    # what is seen decides
    "autocrop by ink": finds(
        ink,
        f"g = np.array(image.convert('L'))\nys, xs = np.where(g < 128)\n{ARRAY}result = a[ys.min():ys.max() + 1, xs.min():xs.max() + 1]",
    ),
    "autocrop by ink, zoomed and sharpened": finds(
        ink,
        "g = np.array(image.convert('L'))\nys, xs = np.where(g < 128)\nc = image.crop((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))\n"
        "result = c.resize((c.width * 3 // 2, c.height * 3 // 2), Image.LANCZOS).filter(ImageFilter.SHARPEN)",
    ),
    "trim by difference": finds(
        unlike_corner,
        "from PIL import ImageChops\nbg = Image.new(image.mode, image.size, image.getpixel((0, 0)))\n"
        "bbox = ImageChops.difference(image, bg).getbbox()\nresult = image.crop(bbox) if bbox else image",
    ),
    "largest contour": finds(
        largest_shape,
        f"{ARRAY}g = cv2.cvtColor(a, cv2.COLOR_RGB2GRAY)\n_, b = cv2.threshold(g, 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)\n"
        "cs, _ = cv2.findContours(b, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)\nx, y, w, h = cv2.boundingRect(max(cs, key=cv2.contourArea))\n"
        "p = 40\nresult = a[max(0, y - p):y + h + p, max(0, x - p):x + w + p]",
    ),
    "busiest tile zoomed": finds(
        busiest,
        f"g = np.array(image.convert('L')).astype(float)\n{ARRAY}"
        "_, x, y = max((g[y:y + 100, x:x + 130].var(), x, y) for y in (0, 100, 200) for x in (0, 130, 260))\n"
        "result = cv2.resize(a[y:y + 100, x:x + 130], None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)",
    ),
    "the best of four turns": finds(
        stripiest,
        "best, score = None, -1.0\nfor k in range(4):\n    t = np.rot90(np.array(image.convert('L')).astype(float), k)\n"
        "    s = t[:min(t.shape) // 2].mean(axis=1).var()\n    if s > score:\n        best, score = k, s\nresult = np.rot90(np.array(image), best)",
    ),
    "the best of four turns, brighter": finds(
        stripiest,
        "def score(k):\n    t = np.rot90(np.array(image.convert('L')).astype(float), k)\n    return t[:min(t.shape) // 2].mean(axis=1).var()\n"
        "k = max(range(4), key=score)\nresult = ImageEnhance.Brightness(image.rotate(90 * k, expand=True)).enhance(1.2)",
    ),
    "landscape if tall": finds(upright, "if image.height > image.width:\n    image = image.rotate(-90, expand=True)"),
    # crop, then make readable
    "crop, upscale, unsharp": does(
        "id",
        "c = image.crop((130, 110, 310, 230))\nc = c.resize((c.width * 4, c.height * 4), Image.BICUBIC)\n"
        "result = c.filter(ImageFilter.UnsharpMask(radius=3, percent=180, threshold=2))",
        box(130, 110, 310, 230),
    ),
    "annotate, then crop": does(
        "id",
        "d = ImageDraw.Draw(image)\nd.rectangle([150, 120, 250, 180], outline=(0, 255, 0), width=3)\nd.text((152, 104), 'target', fill=(255, 0, 0))\n"
        "image = image.crop((100, 80, 340, 260))",
        box(100, 80, 340, 260),
    ),
    "table of gamma, turned": does(
        "r270",
        f"{ARRAY}lut = ((np.arange(256) / 255.0) ** (1 / 2.2) * 255).astype('uint8')\nresult = np.rot90(cv2.LUT(a, lut), -1)",
    ),
    "clahe on grey, turned": does(
        "r90",
        f"{ARRAY}g = cv2.cvtColor(a, cv2.COLOR_RGB2GRAY)\ng = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(4, 4)).apply(g)\n"
        "result = cv2.cvtColor(cv2.rotate(g, cv2.ROTATE_90_COUNTERCLOCKWISE), cv2.COLOR_GRAY2RGB)",
    ),
    "otsu, upside down": does(
        "r180",
        "g = np.array(ImageOps.grayscale(image))\n_, b = cv2.threshold(g, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)\nresult = b[::-1, ::-1]",
    ),
    "mean threshold of a zoomed crop": does(
        "id",
        "g = np.array(image.crop((80, 60, 340, 240)).convert('L').resize((780, 540), Image.LANCZOS))\n"
        "result = cv2.adaptiveThreshold(g, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 25, 10)",
        box(80, 60, 340, 240),
    ),
    "poor jpeg": does(
        "id",
        "from io import BytesIO\nb = BytesIO()\nimage.crop((60, 80, 320, 270)).save(b, format='JPEG', quality=25)\nb.seek(0)\nresult = Image.open(b).convert('RGB')",
        box(60, 80, 320, 270),
    ),
    "denoised, sharpened, mirrored": does(
        "fh",
        f"{ARRAY}b = cv2.medianBlur(a, 5)\nresult = cv2.flip(cv2.addWeighted(b, 1.8, cv2.GaussianBlur(b, (0, 0), 3), -0.8, 0), 1)",
    ),
    # canvases
    "pasted in the corner": does(
        "r180",
        "canvas = Image.new('RGB', (900, 900), (30, 30, 60))\ncanvas.paste(image.rotate(180), (0, 0))\nresult = canvas",
    ),
    "yolo letterbox": does(
        "id",
        f"{ARRAY}h, w = a.shape[:2]\nr = 640 / max(h, w)\nnh, nw = int(round(h * r)), int(round(w * r))\n"
        "out = np.full((640, 640, 3), 114, np.uint8)\ntop, left = (640 - nh) // 2, (640 - nw) // 2\n"
        "out[top:top + nh, left:left + nw] = cv2.resize(a, (nw, nh), interpolation=cv2.INTER_LINEAR)\nresult = out",
    ),
    "round mask": does(
        "id",
        f"{SIZE}m = Image.new('L', (w, h), 0)\nImageDraw.Draw(m).rounded_rectangle((0, 0, w - 1, h - 1), 30, fill=255)\n"
        "result = Image.composite(image, Image.new('RGB', (w, h), 'white'), m)",
    ),
    "caption under it": does(
        "id",
        f"{SIZE}out = Image.new('RGB', (w, h + 20), 'black')\nout.paste(image, (0, 0))\nImageDraw.Draw(out).text((4, h + 4), 'figure 1', fill='white')\nresult = out",
    ),
    "framed, mat and all": does(
        "fv", "image = ImageOps.expand(ImageOps.expand(ImageOps.flip(image), 6, 'black'), 3, 'white')"
    ),
    # colours
    "blocks of eight": does(
        "id", f"{SIZE}result = image.resize((w // 8, h // 8), Image.BOX).resize((w, h), Image.NEAREST)"
    ),
    "channels rolled": does("r90", f"{ARRAY}result = np.rot90(a[..., [1, 2, 0]])"),
    "eight colours": does("id", "image = image.crop((40, 40, 380, 280)).quantize(8)", box(40, 40, 380, 280)),
    "adaptive palette": does(
        "r270", "image = image.convert('P', palette=Image.ADAPTIVE, colors=16).rotate(-90, expand=True)"
    ),
    "dithered": does("fh", "result = ImageOps.mirror(image).convert('1')"),
    "red only": does("id", f"{ARRAY}a[:, :, 1:] = 0\nresult = a"),
    "hue turned": does(
        "r180",
        f"{ARRAY}hsv = cv2.cvtColor(a, cv2.COLOR_RGB2HSV)\nhsv[..., 0] = (hsv[..., 0].astype(int) + 60) % 180\n"
        "result = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[::-1, ::-1]",
    ),
    "laplacian": does(
        "id",
        "g = cv2.cvtColor(np.array(image), cv2.COLOR_RGB2GRAY)\nresult = cv2.convertScaleAbs(cv2.Laplacian(g, cv2.CV_64F))",
    ),
    "morphological gradient": does(
        "r90", f"{ARRAY}result = np.rot90(cv2.morphologyEx(a, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))"
    ),
    "negative of a crop": does("id", f"{ARRAY}result = 255 - a[50:250, 80:360]", box(80, 50, 360, 250)),
    "stretched between percentiles": does(
        "transpose",
        "a = np.asarray(image, dtype=np.float32)\nlo, hi = np.percentile(a, (2, 98))\n"
        "result = np.clip((a - lo) / (hi - lo + 1e-6), 0, 1).transpose(1, 0, 2)",
    ),
    # attention
    "all else darker": does(
        "id",
        f"{ARRAY}out = (a * 0.35).astype(np.uint8)\nout[80:220, 100:300] = a[80:220, 100:300]\nresult = out",
    ),
    "all else blurred": does(
        "id",
        "soft = image.filter(ImageFilter.GaussianBlur(4))\nsoft.paste(image.crop((120, 80, 320, 220)), (120, 80))\nresult = soft",
    ),
    "a word blacked out": does(
        "r90", "draw.rectangle((100, 100, 180, 130), fill='black')\nimage = image.rotate(90, expand=True)"
    ),
    "a small magnifier": does(
        "id",
        f"{SIZE}lens = image.crop((200, 150, 240, 180)).resize((w // 4, h // 4), Image.LANCZOS)\nimage.paste(lens, (w - w // 4, h - h // 4))",
    ),
    "a large magnifier": unknown(
        f"{SIZE}lens = image.crop((150, 100, 250, 175)).resize((w // 2, h // 2), Image.LANCZOS)\nimage.paste(lens, (w - w // 2, h - h // 2))"
    ),
    # other images, several images
    "the second, cropped": does("id", "result = images[1].crop((60, 40, 300, 240))", box(60, 40, 300, 240), parent=1),
    "the last, turned and brighter": does(
        "r270", "result = ImageEnhance.Brightness(images[-1].rotate(270, expand=True)).enhance(1.3)", parent=2
    ),
    "all of them flipped": does("fv", "result = [ImageOps.flip(im) for im in images]", parent=0, images=3),
    "two crops of one": does(
        "id",
        "a = image.crop((20, 30, 220, 180))\nb = image.crop((200, 100, 380, 280))\nresult = [a, b]",
        box(20, 30, 220, 180),
    ),
    "two images blended": unknown(
        "result = Image.blend(images[0].resize((400, 300)), images[1].resize((400, 300)), 0.5)", images=2
    ),
    # nothing that has an answer
    "contact sheet of turns": unknown(
        f"{SIZE}s = max(w, h)\nsheet = Image.new('RGB', (2 * s, 2 * s))\nfor i, d in enumerate((0, 90, 180, 270)):\n"
        "    sheet.paste(image.rotate(d, expand=True), ((i % 2) * s, (i // 2) * s))\nresult = sheet"
    ),
    "crop beside its mirror": unknown(f"{ARRAY}c = a[50:250, 100:250]\nresult = np.hstack([c, c[:, ::-1]])"),
    "deskewed by two": unknown(
        "image = image.rotate(-2, resample=Image.BICUBIC, expand=False, fillcolor=(255, 255, 255)).crop((20, 20, 380, 280))"
    ),
    "lower half turned": unknown(f"{ARRAY}h = a.shape[0] // 2\nresult = a.copy()\nresult[-h:] = a[-h:][::-1, ::-1]"),
    "left two fifths mirrored": unknown(
        f"{ARRAY}k = 2 * a.shape[1] // 5\nresult = a.copy()\nresult[:, :k] = a[:, :k][:, ::-1]"
    ),
    "rows shuffled": unknown(f"{ARRAY}result = np.random.default_rng(1).permutation(a, axis=0)"),
    "strips in another order": unknown(
        f"{ARRAY}n = a.shape[1] // 4\nresult = np.hstack([a[:, i * n:(i + 1) * n] for i in (2, 0, 3, 1)])"
    ),
    "fish eye": unknown(
        f"{ARRAY}h, w = a.shape[:2]\ny, x = np.mgrid[:h, :w].astype(np.float32)\ndx, dy = (x - w / 2) / w, (y - h / 2) / h\n"
        "r = 1 + 0.8 * (dx ** 2 + dy ** 2)\nresult = cv2.remap(a, w / 2 + dx * r * w, h / 2 + dy * r * h, cv2.INTER_LINEAR)"
    ),
    "spectrum": unknown(
        "g = np.array(image.convert('L'))\nresult = 20 * np.log(np.abs(np.fft.fftshift(np.fft.fft2(g))) + 1)"
    ),
    "turned by its checksum": unknown(
        f"{ARRAY}import zlib\nk = zlib.crc32(a.tobytes()) % 4\nresult = np.roll(np.rot90(a, k), 120, axis=0)[:, ::-1] // 2"
    ),
}


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
"""Written before what `FIRST` shows was known, and tried only after it was mended."""


def more_images() -> dict[str, Image.Image]:
    return {
        "screen": _screen(800, 520),
        "bricks": _bricks(540, 420),
        "portrait": _portrait(420, 560),
        "receipt": _receipt(400, 640),
    }


def _screen(width: int, height: int) -> Image.Image:
    """A dark window: a list, buttons, some lines of code."""
    rng = np.random.default_rng(21)
    image = Image.new("RGB", (width, height), (24, 26, 33))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, 30), fill=(52, 56, 70))
    for button, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        draw.ellipse((12 + 22 * button, 9, 24 + 22 * button, 21), fill=colour)
    draw.rectangle((0, 30, 170, height), fill=(35, 38, 48))
    for row in range(16):
        draw.text(
            (16, 44 + 28 * row),
            f"file_{int(rng.integers(10, 99))}.py",
            fill=(190, 190, 200),
            font=ImageFont.load_default(14),
        )
    for row in range(24):
        x = 190 + 16 * int(rng.integers(0, 4))
        for _ in range(int(rng.integers(1, 6))):
            word = "".join(rng.choice(list("abcdefgimnorstu_"), int(rng.integers(2, 9))))
            colour = ((130, 200, 255), (240, 160, 90), (200, 200, 210), (150, 220, 140))[int(rng.integers(0, 4))]
            draw.text((x, 40 + 19 * row), word, fill=colour, font=ImageFont.load_default(15))
            x += 9 * len(word) + 10
    return image


def _bricks(width: int, height: int) -> Image.Image:
    """A wall, brick by brick a little different, with a window."""
    rng = np.random.default_rng(22)
    image = Image.new("RGB", (width, height), (190, 185, 178))
    draw = ImageDraw.Draw(image)
    for row in range(height // 20 + 1):
        for column in range(-1, width // 50 + 1):
            x, y = 50 * column + 25 * (row % 2), 20 * row
            shade = int(rng.integers(-18, 18))
            draw.rectangle((x + 2, y + 2, x + 47, y + 17), fill=(165 + shade, 80 + shade, 62 + shade))
    draw.rectangle((330, 90, 450, 250), fill=(60, 80, 100), outline="white", width=6)
    draw.line((390, 90, 390, 250), fill="white", width=4)
    return image


def _portrait(width: int, height: int) -> Image.Image:
    """A head before a soft ground: few edges, much that is smooth."""
    ground = Image.radial_gradient("L").resize((width, height))
    image = Image.merge(
        "RGB",
        (
            ground.point(lambda v: 60 + v // 3),
            ground.point(lambda v: 90 + v // 4),
            ground.point(lambda v: 120 + v // 3),
        ),
    )
    draw = ImageDraw.Draw(image)
    draw.ellipse((60, 400, 380, 760), fill=(70, 60, 110))
    draw.ellipse((120, 120, 310, 390), fill=(224, 186, 160))
    draw.pieslice((105, 90, 325, 330), 170, 365, fill=(60, 40, 30))
    for x in (170, 250):
        draw.ellipse((x - 16, 235, x + 16, 255), fill="white")
        draw.ellipse((x - 7, 238, x + 7, 253), fill=(50, 80, 60))
    draw.arc((180, 290, 255, 345), 20, 160, fill=(150, 60, 60), width=6)
    draw.polygon([(212, 250), (198, 300), (222, 302)], fill=(205, 165, 140))
    image = image.filter(ImageFilter.GaussianBlur(2.5))
    grain = np.random.default_rng(23).normal(0, 3, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def _receipt(width: int, height: int) -> Image.Image:
    """A narrow column of items and prices, much of it alike."""
    rng = np.random.default_rng(24)
    image = Image.new("RGB", (width, height), (246, 243, 236))
    draw = ImageDraw.Draw(image)
    draw.text((90, 16), "CORNER SHOP", fill=(40, 40, 40), font=ImageFont.load_default(30))
    for row in range(22):
        y = 70 + 22 * row
        name = ("bread", "milk 1l", "apples", "coffee", "soap", "rice 500g")[int(rng.integers(0, 6))]
        draw.text((40, y), name, fill=(60, 60, 60), font=ImageFont.load_default(16))
        draw.text(
            (300, y),
            f"{rng.integers(1, 20)}.{rng.integers(10, 99)}",
            fill=(60, 60, 60),
            font=ImageFont.load_default(16),
        )
    draw.line((30, 560, 370, 560), fill="black", width=2)
    draw.text((40, 575), "TOTAL", fill="black", font=ImageFont.load_default(24))
    draw.text((270, 575), "148.20", fill="black", font=ImageFont.load_default(24))
    return image
