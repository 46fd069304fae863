# ruff: noqa: E501 - snippets as a model writes them
"""Holds snippets as strangers write them."""

import cv2
import numpy as np
from gallery import ARRAY, SIZE, Snippet, Truth, box, does, finds, unknown
from PIL import Image, ImageChops

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
