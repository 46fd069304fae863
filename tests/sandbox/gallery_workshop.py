# ruff: noqa: E501 - snippets as a model writes them
"""Holds snippets for images of any size, from 84x84 pixels to three megapixels: boxes are shares of the sides.

They were written when only the results of gallery_talkative.py were known, and measured before any repair for them.
"""

import cv2
import numpy as np
from gallery import ARRAY, SIZE, Snippet, Truth, does, finds, unknown, whole
from PIL import Image

from codevision_ext.types import Box, Orientation

PART = f"{SIZE}box = (int(0.3 * w), int(0.25 * h), int(0.7 * w), int(0.65 * h))\n"
DETAIL = f"{SIZE}box = (int(0.4 * w), int(0.4 * h), int(0.55 * w), int(0.52 * h))\n"


def part(w: int, h: int) -> tuple[float, float, float, float]:
    return Box(int(0.3 * w), int(0.25 * h), int(0.7 * w), int(0.65 * h))


def detail(w: int, h: int) -> tuple[float, float, float, float]:
    return Box(int(0.4 * w), int(0.4 * h), int(0.55 * w), int(0.52 * h))


def _grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"))


def unlike_the_median(image: Image.Image) -> Truth:
    grey = _grey(image).astype(int)
    ys, xs = np.nonzero(abs(grey - int(np.median(grey))) > 60)
    pad = 4
    box = max(0, xs.min() - pad), max(0, ys.min() - pad), xs.max() + 1 + pad, ys.max() + 1 + pad
    return Orientation.ID, Box(box[0], box[1], min(image.width, box[2]), min(image.height, box[3]))


def largest_component(image: Image.Image) -> Truth:
    _, binary = cv2.threshold(_grey(image), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    if binary.mean() > 127:
        binary = 255 - binary
    _, _, stats, _ = cv2.connectedComponentsWithStats(binary)
    x, y, w, h = (int(v) for v in stats[1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])][:4])
    return Orientation.ID, Box(x, y, x + w, y + h)


def centroid_window(image: Image.Image) -> Truth:
    grey = _grey(image).astype(float)
    weight = abs(grey - grey.mean())
    cx = int((weight.sum(axis=0) * np.arange(image.width)).sum() / weight.sum())
    cy = int((weight.sum(axis=1) * np.arange(image.height)).sum() / weight.sum())
    r = min(image.size) // 4
    return Orientation.ID, Box(cx - r, cy - r, cx + r, cy + r)


def corner_hull(image: Image.Image) -> Truth:
    points = cv2.goodFeaturesToTrack(_grey(image), 60, 0.05, 5)
    x, y, w, h = cv2.boundingRect(points)
    return Orientation.ID, Box(x, y, x + w, y + h)


def energetic_window(image: Image.Image) -> Truth:
    gx = cv2.Sobel(_grey(image), cv2.CV_32F, 1, 0)
    total = cv2.integral(abs(gx))
    bw, bh = image.width // 3, image.height // 3
    sums = total[bh:, bw:] - total[:-bh, bw:] - total[bh:, :-bw] + total[:-bh, :-bw]
    y, x = (int(v) for v in np.unravel_index(sums.argmax(), sums.shape))
    return Orientation.ID, Box(x, y, x + bw, y + bh)


def lines_upright(image: Image.Image) -> Truth:
    grey = _grey(image).astype(float)
    sideways = grey.mean(axis=0).std() > grey.mean(axis=1).std()
    return Orientation.R90 if sideways else Orientation.ID, Box(0, 0, *image.size)


def first_band(image: Image.Image) -> Truth:
    busy = _grey(image).astype(float).std(axis=1)
    inside = busy > busy.max() / 3
    start = int(inside.argmax())
    length = int((~inside[start:]).argmax()) or image.height - start
    return Orientation.ID, Box(0, max(0, start - 3), image.width, min(image.height, start + length + 3))


def most_colourful(image: Image.Image) -> Truth:
    saturation = np.asarray(image.convert("HSV"))[..., 1].astype(np.float32)
    k = max(3, min(image.size) // 8)
    soft = cv2.boxFilter(saturation, -1, (k, k))
    y, x = (int(v) for v in np.unravel_index(soft.argmax(), soft.shape))
    r = min(image.size) // 5
    return Orientation.ID, Box(max(0, x - r), max(0, y - r), min(image.width, x + r), min(image.height, y + r))


def tall_to_wide(image: Image.Image) -> Truth:
    return Orientation.R270 if image.width < image.height else Orientation.ID, Box(0, 0, *image.size)


def wide(w: int, h: int) -> tuple[float, float, float, float]:
    """The middle, 16 to 9."""
    if w * 9 > h * 16:
        return Box((w - h * 16 / 9) / 2, 0, (w + h * 16 / 9) / 2, h)
    return Box(0, (h - w * 9 / 16) / 2, w, (h + w * 9 / 16) / 2)


FOURTH: dict[str, Snippet] = {
    # orientations
    "axes by einsum": does("r90", f"{ARRAY}result = np.einsum('ijk->jik', a)[::-1]"),
    "reduce of five turns": does(
        "r90",
        "from functools import reduce\nresult = reduce(lambda im, _: im.transpose(Image.ROTATE_90), range(5), image)",
    ),
    "bytes backwards": does("r180", "result = Image.frombytes('RGB', image.size, image.tobytes()[::-1])"),
    "ravelled backwards": does("r180", f"{ARRAY}result = a.ravel()[::-1].reshape(a.shape)[..., ::-1]"),
    "turned with its bounds": does(
        "r270",
        "def rotate_bound(img, angle):\n    (h, w) = img.shape[:2]\n    (cX, cY) = (w // 2, h // 2)\n    M = cv2.getRotationMatrix2D((cX, cY), -angle, 1.0)\n"
        "    cos, sin = np.abs(M[0, 0]), np.abs(M[0, 1])\n    nW, nH = int((h * sin) + (w * cos)), int((h * cos) + (w * sin))\n"
        "    M[0, 2] += (nW / 2) - cX\n    M[1, 2] += (nH / 2) - cY\n    return cv2.warpAffine(img, M, (nW, nH))\nresult = rotate_bound(np.array(image), 90)",
    ),
    "an editor that chains": does(
        "transverse",
        "class Editor:\n    def __init__(self, im):\n        self.im = im\n    def turn(self, deg):\n        self.im = self.im.rotate(deg, expand=True)\n        return self\n"
        "    def mirror(self):\n        self.im = ImageOps.mirror(self.im)\n        return self\nresult = Editor(image).turn(90).mirror().im",
    ),
    "remap of a mirror": does(
        "fh",
        f"{ARRAY}h, w = a.shape[:2]\nxs, ys = np.meshgrid(np.arange(w)[::-1], np.arange(h))\nresult = cv2.remap(a, xs.astype(np.float32), ys.astype(np.float32), cv2.INTER_LINEAR)",
    ),
    "put back tile by tile": does(
        "id",
        f"{SIZE}out = Image.new('RGB', (w, h))\nfor y in range(0, h, 64):\n    for x in range(0, w, 64):\n        out.paste(image.crop((x, y, min(x + 64, w), min(y + 64, h))), (x, y))\nresult = out.resize((w // 2, h // 2))",
    ),
    "homography of the corners": does(
        "r90",
        f"{ARRAY}h, w = a.shape[:2]\nsrc = np.float32([[0, 0], [w, 0], [w, h], [0, h]])\ndst = np.float32([[0, w], [0, 0], [h, 0], [h, w]])\n"
        "result = cv2.warpPerspective(a, cv2.getPerspectiveTransform(src, dst), (h, w))",
    ),
    "every channel by itself": does("fv", "result = Image.merge('RGB', [ImageOps.flip(c) for c in image.split()])"),
    # crops
    "sixteen to nine": does(
        "id",
        f"{SIZE}r = 16 / 9\nif w / h > r:\n    n = int(h * r)\n    x = (w - n) // 2\n    image = image.crop((x, 0, x + n, h))\nelse:\n    n = int(w / r)\n    y = (h - n) // 2\n    image = image.crop((0, y, w, y + n))",
        wide,
    ),
    "split at two places": does(
        "id",
        f"{ARRAY}w = a.shape[1]\nresult = np.hsplit(a, [w // 5, 4 * w // 5])[1]",
        lambda w, h: Box(w // 5, 0, 4 * w // 5, h),
    ),
    "shaved three times": does(
        "fh",
        "im = image\nfor _ in range(3):\n    dx, dy = im.width // 20, im.height // 20\n    im = ImageOps.crop(im, (dx, dy, dx, dy))\nresult = im.transpose(Image.FLIP_LEFT_RIGHT)",
        lambda w, h: _shaved(w, h),
    ),
    "bounds of a polygon": does(
        "id",
        f"{SIZE}m = Image.new('1', image.size)\nImageDraw.Draw(m).polygon([(int(0.2 * w), int(0.5 * h)), (int(0.5 * w), int(0.2 * h)), (int(0.8 * w), int(0.6 * h))], fill=1)\nresult = image.crop(m.getbbox())",
        lambda w, h: Box(int(0.2 * w), int(0.2 * h), int(0.8 * w) + 1, int(0.6 * h) + 1),
    ),
    "slices with s_": does(
        "r180",
        f"{ARRAY}h, w = a.shape[:2]\nroi = np.s_[h // 4:3 * h // 4, w // 3:]\nresult = a[roi][::-1, ::-1]",
        lambda w, h: Box(w // 3, h // 4, w, 3 * h // 4),
    ),
    # zooms
    "part to a thousand": does(
        "id",
        f"{PART}c = image.crop(box)\nk = 1000 / max(c.size)\nresult = c.resize((round(c.width * k), round(c.height * k)), resample=Image.Resampling.LANCZOS)",
        part,
    ),
    "part as a thumbnail": does("id", f"{PART}c = image.crop(box)\nc.thumbnail((96, 96))\nresult = c", part),
    "part by cv2, sharpened": does(
        "id",
        f"{PART}x1, y1, x2, y2 = box\nroi = np.array(image)[y1:y2, x1:x2]\nbig = cv2.resize(roi, None, fx=2.5, fy=2.5, interpolation=cv2.INTER_LANCZOS4)\n"
        "k = np.array([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]], np.float32)\nresult = cv2.filter2D(big, -1, k)",
        part,
    ),
    "doubled until it is large": does(
        "id",
        f"{DETAIL}c = image.crop(box)\nwhile max(c.size) < 500:\n    c = c.resize((c.width * 2, c.height * 2), Image.BICUBIC)\nresult = c",
        detail,
    ),
    "detail up the pyramid": does(
        "fh", f"{DETAIL}c = np.array(image.crop(box))\nresult = cv2.pyrUp(cv2.pyrUp(c))[:, ::-1]", detail
    ),
    "detail, unsharp": does(
        "id",
        f"{DETAIL}c = image.crop(box).resize((640, 480), Image.LANCZOS)\nresult = c.filter(ImageFilter.UnsharpMask(radius=4, percent=200, threshold=0))",
        detail,
    ),
    "rectangle straightened": does(
        "r270",
        f"{PART}x1, y1, x2, y2 = box\nW, H = 2 * (y2 - y1), 2 * (x2 - x1)\nsrc = np.float32([[x1, y2], [x1, y1], [x2, y1], [x2, y2]])\n"
        "dst = np.float32([[0, 0], [W, 0], [W, H], [0, H]])\nresult = cv2.warpPerspective(np.array(image), cv2.getPerspectiveTransform(src, dst), (W, H), flags=cv2.INTER_CUBIC)",
        # cv2 counts from the middle of the first pixel: half a pixel of the result is a quarter of the input
        lambda w, h: Box(*np.add(part(w, h), (0.25, 0.75, 0.25, 0.75))),
    ),
    "inverse affine zoom": does(
        "id",
        f"{PART}x1, y1, x2, y2 = box\nM = np.float32([[0.5, 0, x1], [0, 0.5, y1]])\n"
        "result = cv2.warpAffine(np.array(image), M, (2 * (x2 - x1), 2 * (y2 - y1)), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)",
        lambda w, h: Box(*np.add(part(w, h), 0.25)),
    ),
    "squeezed to a square, turned": does(
        "r90", f"{PART}result = image.crop(box).resize((384, 384)).transpose(Image.ROTATE_90)", part
    ),
    "repeated and smoothed": does(
        "fv",
        f"{DETAIL}a = np.array(image.crop(box))\nbig = a.repeat(6, 0).repeat(6, 1)\nresult = cv2.GaussianBlur(big, (7, 7), 0)[::-1]",
        detail,
    ),
    # a part, recoloured
    "part, gaussian threshold": does(
        "id",
        f"{PART}g = np.array(image.crop(box).convert('L'))\ng = cv2.resize(g, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)\n"
        "result = cv2.adaptiveThreshold(g, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, 21, 7)",
        part,
    ),
    "part, otsu, enlarged": does(
        "r180",
        f"{PART}g = np.array(image.crop(box).convert('L').rotate(180).resize((800, 600), Image.LANCZOS))\n_, result = cv2.threshold(g, 0, 255, cv2.THRESH_OTSU)",
        part,
    ),
    "detail, stretched": does(
        "id",
        f"{DETAIL}result = ImageOps.autocontrast(image.crop(box).resize((600, 480), Image.LANCZOS), cutoff=1)",
        detail,
    ),
    "detail, negative": does(
        "id", f"{DETAIL}result = ImageOps.invert(image.crop(box)).resize((600, 480), Image.BICUBIC)", detail
    ),
    "detail, local contrast": does(
        "id",
        f"{DETAIL}g = cv2.cvtColor(np.array(image.crop(box)), cv2.COLOR_RGB2GRAY)\ng = cv2.resize(g, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)\nresult = cv2.createCLAHE(3.0, (8, 8)).apply(g)",
        detail,
    ),
    "detail, equalised, turned": does(
        "r90",
        f"{DETAIL}result = ImageOps.equalize(image.crop(box).convert('L')).resize((500, 400)).rotate(90, expand=True)",
        detail,
    ),
    "detail, contrast and sharpness": does(
        "id",
        f"{DETAIL}c = image.crop(box)\nc = c.resize((c.width * 6, c.height * 6), Image.LANCZOS)\nc = ImageEnhance.Contrast(c).enhance(1.8)\nresult = ImageEnhance.Sharpness(c).enhance(3.0)",
        detail,
    ),
    "part in viridis": does(
        "id",
        f"{PART}g = np.array(image.crop(box).convert('L'))\nresult = cv2.cvtColor(cv2.applyColorMap(g, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)",
        part,
    ),
    "hot, turned": does(
        "r270",
        "g = np.rot90(np.array(image.convert('L')), 3)\nresult = cv2.applyColorMap(np.ascontiguousarray(g), cv2.COLORMAP_HOT)[..., ::-1]",
    ),
    "black hat": does(
        "id",
        "g = np.array(image.convert('L'))\nk = cv2.getStructuringElement(cv2.MORPH_RECT, (9, 9))\nresult = cv2.morphologyEx(g, cv2.MORPH_BLACKHAT, k)",
    ),
    "locally normalised part": does(
        "fh",
        f"{PART}g = np.array(image.crop(box).convert('L'))[:, ::-1].astype(np.float32)\nm = cv2.GaussianBlur(g, (0, 0), 12)\ns = np.sqrt(cv2.GaussianBlur((g - m) ** 2, (0, 0), 12)) + 4\nresult = np.clip(128 + 50 * (g - m) / s, 0, 255)",
        part,
    ),
    "difference of gaussians": does(
        "r90",
        "g = np.array(image.convert('L').rotate(90, expand=True)).astype(np.float32)\nd = cv2.GaussianBlur(g, (0, 0), 1) - cv2.GaussianBlur(g, (0, 0), 3)\nresult = np.clip(128 + 4 * d, 0, 255).astype(np.uint8)",
    ),
    "pencil": does(
        "fh",
        "g = np.array(ImageOps.mirror(image).convert('L'))\nsoft = cv2.GaussianBlur(255 - g, (21, 21), 0)\nresult = cv2.divide(g, 255 - soft, scale=256)",
    ),
    "sepia by matrix": does(
        "r180",
        "m = (0.4, 0.77, 0.19, 0, 0.35, 0.69, 0.17, 0, 0.27, 0.53, 0.13, 0)\nresult = image.convert('RGB', m).rotate(180)",
    ),
    "lightness of a part": does(
        "id",
        f"{PART}lab = cv2.cvtColor(np.array(image.crop(box)), cv2.COLOR_RGB2LAB)\nresult = cv2.resize(lab[..., 0], None, fx=3, fy=3)",
        part,
    ),
    "four colours by clusters": does(
        "id",
        f"{PART}a = np.array(image.crop(box).resize((160, 120)))\ncv2.setRNGSeed(1)\n_, label, centre = cv2.kmeans(a.reshape(-1, 3).astype(np.float32), 4, None, (3, 10, 1.0), 2, cv2.KMEANS_PP_CENTERS)\n"
        "result = centre.astype(np.uint8)[label.ravel()].reshape(a.shape)",
        part,
    ),
    "gamma by its own mean": does(
        "r270",
        f"{ARRAY}gamma = np.log(0.5) / np.log(max(a.mean(), 1) / 255)\nlut = np.uint8(np.clip((np.arange(256) / 255) ** gamma * 255, 0, 255))\nresult = cv2.LUT(cv2.rotate(a, cv2.ROTATE_90_CLOCKWISE), lut)",
    ),
    "denoised part": does(
        "fv",
        f"{PART}a = np.array(ImageOps.flip(image.crop(box).resize((300, 220))))\nresult = cv2.fastNlMeansDenoising(cv2.cvtColor(a, cv2.COLOR_RGB2GRAY), None, 8, 5, 11)",
        part,
    ),
    # drawn on, then cut
    "boxed, then its surroundings": does(
        "id",
        f"{PART}x1, y1, x2, y2 = box\nd = ImageDraw.Draw(image)\nt = max(1, w // 300)\nd.rectangle((x1 + 8, y1 + 8, x1 + (x2 - x1) // 2, y1 + (y2 - y1) // 2), outline=(255, 0, 0), width=t)\nresult = image.crop(box).resize((2 * (x2 - x1), 2 * (y2 - y1)))",
        part,
    ),
    "grid, then a quarter": does(
        "id",
        f"{ARRAY}h, w = a.shape[:2]\nfor i in range(1, 8):\n    cv2.line(a, (i * w // 8, 0), (i * w // 8, h), (0, 180, 0), 1)\n    cv2.line(a, (0, i * h // 8), (w, i * h // 8), (0, 180, 0), 1)\nresult = a[:h // 2, w // 2:]",
        lambda w, h: Box(w // 2, 0, w, h // 2),
    ),
    "marker, turned, framed": does(
        "r90",
        f"{PART}o = Image.new('RGB', image.size, 'yellow')\nm = Image.new('L', image.size)\nImageDraw.Draw(m).rectangle(box, fill=70)\nim = Image.composite(o, image, m)\nresult = ImageOps.expand(im.rotate(90, expand=True), border=10, fill='gray')",
    ),
    # what is seen decides
    "argwhere, padded": finds(
        unlike_the_median,
        "g = np.array(image.convert('L')).astype(int)\npts = np.argwhere(np.abs(g - int(np.median(g))) > 60)\n(y1, x1), (y2, x2) = pts.min(0), pts.max(0) + 1\np = 4\nresult = image.crop((max(0, x1 - p), max(0, y1 - p), min(image.width, x2 + p), min(image.height, y2 + p)))",
    ),
    "argwhere, zoomed": finds(
        unlike_the_median,
        "g = np.array(image.convert('L')).astype(int)\npts = np.argwhere(np.abs(g - int(np.median(g))) > 60)\n(y1, x1), (y2, x2) = pts.min(0), pts.max(0) + 1\np = 4\n"
        "c = image.crop((max(0, x1 - p), max(0, y1 - p), min(image.width, x2 + p), min(image.height, y2 + p)))\nresult = c.resize((int(c.width * 1.4), int(c.height * 1.4)), Image.BICUBIC)",
    ),
    "largest component": finds(
        largest_component,
        f"{ARRAY}g = cv2.cvtColor(a, cv2.COLOR_RGB2GRAY)\ng = np.array(image.convert('L'))\n_, b = cv2.threshold(g, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)\nif b.mean() > 127:\n    b = 255 - b\n"
        "n, lab, st, ce = cv2.connectedComponentsWithStats(b)\ni = 1 + int(np.argmax(st[1:, cv2.CC_STAT_AREA]))\nx, y, w, h = st[i][:4]\nresult = a[y:y + h, x:x + w]",
    ),
    "largest component, tripled, contrast": finds(
        largest_component,
        "g = np.array(image.convert('L'))\n_, b = cv2.threshold(g, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)\nif b.mean() > 127:\n    b = 255 - b\n"
        "n, lab, st, ce = cv2.connectedComponentsWithStats(b)\ni = 1 + int(np.argmax(st[1:, cv2.CC_STAT_AREA]))\nx, y, w, h = (int(v) for v in st[i][:4])\n"
        "c = image.crop((x, y, x + w, y + h))\ns = min(3.0, 1500 / max(w, h))\nc = c.resize((max(1, int(w * s)), max(1, int(h * s))), Image.LANCZOS)\nresult = ImageEnhance.Contrast(c).enhance(1.3)",
    ),
    "window at the centroid": finds(
        centroid_window,
        "g = np.array(image.convert('L')).astype(float)\nm = np.abs(g - g.mean())\ncx = int((m.sum(0) * np.arange(image.width)).sum() / m.sum())\ncy = int((m.sum(1) * np.arange(image.height)).sum() / m.sum())\n"
        "r = min(image.size) // 4\nresult = image.crop((cx - r, cy - r, cx + r, cy + r)).resize((512, 512), Image.LANCZOS)",
    ),
    "bounds of the corners": finds(
        corner_hull,
        "g = np.array(image.convert('L'))\npts = cv2.goodFeaturesToTrack(g, 60, 0.05, 5)\nx, y, w, h = cv2.boundingRect(pts)\nresult = np.array(image)[y:y + h, x:x + w]",
    ),
    "most energetic window": finds(
        energetic_window,
        "g = np.array(image.convert('L'))\ne = np.abs(cv2.Sobel(g, cv2.CV_32F, 1, 0))\nI = cv2.integral(e)\nbw, bh = image.width // 3, image.height // 3\n"
        "S = I[bh:, bw:] - I[:-bh, bw:] - I[bh:, :-bw] + I[:-bh, :-bw]\ny, x = np.unravel_index(int(S.argmax()), S.shape)\nresult = image.crop((int(x), int(y), int(x) + bw, int(y) + bh)).resize((bw * 2, bh * 2), Image.BILINEAR)",
    ),
    "lines made level": finds(
        lines_upright,
        "g = np.array(image.convert('L')).astype(float)\nif g.mean(axis=0).std() > g.mean(axis=1).std():\n    image = image.rotate(90, expand=True)\nresult = image",
    ),
    "lines made level, half size": finds(
        lines_upright,
        "g = np.array(image.convert('L')).astype(float)\nif g.mean(axis=0).std() > g.mean(axis=1).std():\n    image = image.rotate(90, expand=True)\nresult = image.resize((image.width // 2, image.height // 2), Image.LANCZOS)",
    ),
    "first band of the page": finds(
        first_band,
        "g = np.array(image.convert('L')).astype(float)\ns = g.std(axis=1)\nrows = s > s.max() / 3\ny1 = int(rows.argmax())\nn = int((~rows[y1:]).argmax()) or image.height - y1\n"
        "result = image.crop((0, max(0, y1 - 3), image.width, min(image.height, y1 + n + 3)))",
    ),
    "first band, grey, doubled": finds(
        first_band,
        "g = np.array(image.convert('L')).astype(float)\ns = g.std(axis=1)\nrows = s > s.max() / 3\ny1 = int(rows.argmax())\nn = int((~rows[y1:]).argmax()) or image.height - y1\n"
        "c = image.crop((0, max(0, y1 - 3), image.width, min(image.height, y1 + n + 3))).convert('L')\nresult = c.resize((c.width * 3 // 2, c.height * 3 // 2), Image.BICUBIC)",
    ),
    "around the most colourful": finds(
        most_colourful,
        "s = np.array(image.convert('HSV'))[..., 1].astype(np.float32)\nk = max(3, min(image.size) // 8)\nsoft = cv2.boxFilter(s, -1, (k, k))\ny, x = (int(v) for v in np.unravel_index(soft.argmax(), soft.shape))\n"
        "r = min(image.size) // 5\nc = image.crop((max(0, x - r), max(0, y - r), min(image.width, x + r), min(image.height, y + r)))\nresult = c.resize((c.width * 2, c.height * 2), Image.LANCZOS).filter(ImageFilter.DETAIL)",
    ),
    "turned while it is tall": finds(
        tall_to_wide,
        "n = 0\nwhile image.width < image.height and n < 3:\n    image = image.rotate(-90, expand=True)\n    n += 1\nimage = ImageOps.autocontrast(image)",
    ),
    # other images
    "part of the other, zoomed": does(
        "id",
        f"image = images[1]\n{PART}c = image.crop(box)\nresult = c.resize((c.width * 2, c.height * 2), Image.BICUBIC)",
        part,
        parent=1,
    ),
    "the other, level with the first": does(
        "r180",
        "a, b = images[0], images[1]\nresult = ImageEnhance.Brightness(b.rotate(180)).enhance(0.8)",
        whole,
        parent=1,
    ),
    "negative of the third": does(
        "transpose", "result = ImageOps.invert(images[2].transpose(Image.TRANSPOSE))", whole, parent=2
    ),
    "halves of two": unknown(
        f"{SIZE}out = images[0].copy()\nout.paste(images[1].resize((w, h)).crop((w // 2, 0, w, h)), (w // 2, 0))\nresult = out",
        images=2,
    ),
    "second as a watermark of the first": unknown(
        "result = Image.blend(image, images[1].resize(image.size), 0.45)", images=2
    ),
    # nothing that has an answer
    "offset that wraps": unknown(
        f"from PIL import ImageChops\n{SIZE}result = ImageChops.offset(image, w // 3, h // 4)"
    ),
    "tiles with gaps": unknown(
        f"{SIZE}tw, th = w // 3, h // 3\nout = Image.new('RGB', (3 * tw + 40, 3 * th + 40), 'white')\nfor i in range(9):\n    x, y = i % 3, i // 3\n    out.paste(image.crop((x * tw, y * th, (x + 1) * tw, (y + 1) * th)), (x * (tw + 20), y * (th + 20)))\nresult = out"
    ),
    "each tile turned over": unknown(
        f"{ARRAY}h, w = a.shape[:2]\nth, tw = h // 4, w // 4\nout = a.copy()\nfor i in range(4):\n    for j in range(4):\n        t = out[i * th:(i + 1) * th, j * tw:(j + 1) * tw]\n        t[:] = t[::-1, ::-1].copy()\nresult = out"
    ),
    "chessboard of two flips": unknown(
        f"{ARRAY}h, w = a.shape[:2]\ny, x = np.mgrid[:h, :w]\nm = ((x // max(4, w // 8) + y // max(4, h // 8)) % 2 == 0)[..., None]\nresult = np.where(m, a, a[:, ::-1])"
    ),
    "stretched unevenly": unknown(
        f"{ARRAY}h, w = a.shape[:2]\nxs = ((np.arange(w) / (w - 1)) ** 1.6 * (w - 1)).astype(int)\nresult = a[:, xs]"
    ),
    "keystone": unknown(
        f"{ARRAY}h, w = a.shape[:2]\nsrc = np.float32([[0, 0], [w, 0], [w, h], [0, h]])\ndst = np.float32([[0.12 * w, 0], [0.88 * w, 0], [w, h], [0, h]])\nresult = cv2.warpPerspective(a, cv2.getPerspectiveTransform(src, dst), (w, h))"
    ),
    "turned by twelve, cut": unknown(
        f"{SIZE}im = image.rotate(12, resample=Image.BICUBIC)\nresult = im.crop((w // 5, h // 5, 4 * w // 5, 4 * h // 5))"
    ),
    "part over its surroundings": unknown(
        f"{PART}big = image.crop(box).resize((int(0.6 * w), int(0.6 * h)), Image.LANCZOS)\nout = image.copy()\nout.paste(big, (int(0.2 * w), int(0.2 * h)))\nresult = out"
    ),
    "right half over the left": unknown(
        f"{ARRAY}w = a.shape[1] // 2\nout = a.copy()\nout[:, :w] = a[:, -w:]\nresult = out"
    ),
    "two details in a row": unknown(
        f"{SIZE}a = image.crop((int(0.1 * w), int(0.1 * h), int(0.4 * w), int(0.4 * h)))\nb = image.crop((int(0.5 * w), int(0.5 * h), int(0.8 * w), int(0.8 * h))).resize(a.size)\nout = Image.new('RGB', (2 * a.width, a.height))\nout.paste(a, (0, 0))\nout.paste(b, (a.width, 0))\nresult = out"
    ),
    "middle third three times": unknown(
        f"{ARRAY}h = a.shape[0]\ny = np.arange(h) % (h // 3)\nresult = a[y + (h // 3) * 1][: h]"
    ),
    "random places": unknown(
        f"{ARRAY}rng = np.random.default_rng()\nh, w = a.shape[:2]\nys, xs = rng.integers(0, h, (h, w)), rng.integers(0, w, (h, w))\nresult = a[ys, xs]"
    ),
    "sorted pixels": unknown(f"{ARRAY}result = np.sort(a, axis=0)"),
}


def _shaved(w: int, h: int) -> Box:
    x1, y1, x2, y2 = 0, 0, w, h
    for _ in range(3):
        dx, dy = (x2 - x1) // 20, (y2 - y1) // 20
        x1, y1, x2, y2 = x1 + dx, y1 + dy, x2 - dx, y2 - dy
    return Box(x1, y1, x2, y2)
