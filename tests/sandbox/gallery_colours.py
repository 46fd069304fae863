# ruff: noqa: E501 - snippets as a model writes them
"""Holds changes of colour in many styles with what they truly do, and the images that they are tried on.

`KNOWN` was at hand while the names were built, `BLIND` was written afterwards. A truth is a list of families: names
that pixels can't tell apart. An answer with all families and nothing else is right, with some of them only partly right.
`a` is the image as an array, the result is what stands in `result`.
"""

import io

import cv2
import numpy as np
from gallery import images
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

BLUR = {"blur", "smooth", "gaussian_blur", "sharpness_down"}
SHARPEN = {"sharpen", "detail", "edge_enhance", "sharpness_up"}
MEDIAN = {"median_blur"}
STRETCH = {"autocontrast", "contrast_up"}
EQUALIZE = {"equalize", *STRETCH}
UP, DOWN = {"brightness_up"}, {"brightness_down"}
LESS = {"contrast_down"}
GREY, INVERT, BILEVEL, EDGES = {"grayscale"}, {"invert"}, {"threshold"}, {"edge_detect"}
RICH, PALE = {"color_up"}, {"color_down"}
FEWER, SOLAR = {"posterize"}, {"solarize"}
ERODE, DILATE, DRAW = {"erode"}, {"dilate"}, {"draw"}

Truth = tuple[set[str], ...]


def jpeg(quality: int) -> str:
    return f"b = io.BytesIO()\nimage.save(b, 'JPEG', quality={quality})\nresult = Image.open(b)"


GRAY = "g = cv2.cvtColor(a, cv2.COLOR_RGB2GRAY)\n"

KNOWN: dict[str, tuple[Truth, str]] = {
    # tone
    "enhance contrast 1.2": ((STRETCH,), "result = ImageEnhance.Contrast(image).enhance(1.2)"),
    "enhance contrast 1.5": ((STRETCH,), "result = ImageEnhance.Contrast(image).enhance(1.5)"),
    "enhance contrast 2.5": ((STRETCH,), "result = ImageEnhance.Contrast(image).enhance(2.5)"),
    "enhance contrast 0.5": ((LESS,), "result = ImageEnhance.Contrast(image).enhance(0.5)"),
    "enhance brightness 1.3": ((UP,), "result = ImageEnhance.Brightness(image).enhance(1.3)"),
    "enhance brightness 0.6": ((DOWN,), "result = ImageEnhance.Brightness(image).enhance(0.6)"),
    "autocontrast": ((STRETCH,), "result = ImageOps.autocontrast(image)"),
    "autocontrast cutoff": ((STRETCH,), "result = ImageOps.autocontrast(image, cutoff=2)"),
    "autocontrast tone": ((STRETCH,), "result = ImageOps.autocontrast(image, cutoff=1, preserve_tone=True)"),
    "pil equalize": ((EQUALIZE,), "result = ImageOps.equalize(image)"),
    "cv2 equalize y": (
        (EQUALIZE,),
        "y = cv2.cvtColor(a, cv2.COLOR_RGB2YCrCb)\ny[..., 0] = cv2.equalizeHist(y[..., 0])\nresult = cv2.cvtColor(y, cv2.COLOR_YCrCb2RGB)",
    ),
    "cv2 equalize grey": ((EQUALIZE, GREY), GRAY + "result = cv2.equalizeHist(g)"),
    "clahe lab": (
        (EQUALIZE,),
        "l = cv2.cvtColor(a, cv2.COLOR_RGB2LAB)\nl[..., 0] = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(l[..., 0])\nresult = cv2.cvtColor(l, cv2.COLOR_LAB2RGB)",
    ),
    "clahe grey": ((EQUALIZE, GREY), GRAY + "result = cv2.createCLAHE(2.0, (8, 8)).apply(g)"),
    "scale abs gain": ((UP | STRETCH,), "result = cv2.convertScaleAbs(a, alpha=1.5, beta=0)"),
    "scale abs both": ((UP | STRETCH,), "result = cv2.convertScaleAbs(a, alpha=1.3, beta=20)"),
    "scale abs offset": ((UP,), "result = cv2.convertScaleAbs(a, alpha=1, beta=40)"),
    "numpy contrast": ((STRETCH,), "result = np.clip((a.astype(float) - 128) * 1.8 + 128, 0, 255).astype(np.uint8)"),
    "numpy darker": ((DOWN,), "result = np.clip(a.astype(int) - 50, 0, 255).astype(np.uint8)"),
    "numpy stretch": (
        (STRETCH,),
        "lo, hi = np.percentile(a, (2, 98))\nresult = np.clip((a - lo) * 255.0 / (hi - lo), 0, 255).astype(np.uint8)",
    ),
    "normalize": ((STRETCH,), "result = cv2.normalize(a, None, 0, 255, cv2.NORM_MINMAX)"),
    "gamma brighter": (
        (UP,),
        "t = np.array([(i / 255) ** 0.5 * 255 for i in range(256)], np.uint8)\nresult = cv2.LUT(a, t)",
    ),
    "gamma darker": ((DOWN,), "result = image.point(lambda v: int(255 * (v / 255) ** 1.8))"),
    "sigmoid": ((STRETCH,), "x = a / 255.0\nresult = (255 / (1 + np.exp(-8 * (x - 0.5)))).astype(np.uint8)"),
    "blend with white": ((LESS | UP,), "result = Image.blend(image, Image.new('RGB', image.size, 'white'), 0.4)"),
    "invert": ((INVERT,), "result = ImageOps.invert(image)"),
    "invert numpy": ((INVERT,), "result = 255 - a"),
    "bitwise not grey": ((INVERT, GREY), GRAY + "result = cv2.bitwise_not(g)"),
    "solarize": ((SOLAR,), "result = ImageOps.solarize(image, threshold=128)"),
    "solarize 90": ((SOLAR,), "result = ImageOps.solarize(image, 90)"),
    "posterize 3": ((FEWER,), "result = ImageOps.posterize(image, 3)"),
    "posterize 2": ((FEWER,), "result = ImageOps.posterize(image, 2)"),
    "posterize numpy": ((FEWER,), "result = (a // 64) * 64 + 32"),
    # colour
    "grayscale": ((GREY,), "result = ImageOps.grayscale(image)"),
    "convert l": ((GREY,), "result = image.convert('L').convert('RGB')"),
    "mean of channels": ((GREY,), "result = a.mean(axis=2).astype(np.uint8)"),
    "red channel": ((GREY,), "result = a[..., 0]"),
    "color 0": ((GREY,), "result = ImageEnhance.Color(image).enhance(0)"),
    "cv2 grey": ((GREY,), GRAY + "result = cv2.cvtColor(g, cv2.COLOR_GRAY2RGB)"),
    "color 1.8": ((RICH,), "result = ImageEnhance.Color(image).enhance(1.8)"),
    "color 0.4": ((PALE,), "result = ImageEnhance.Color(image).enhance(0.4)"),
    "hsv saturation": (
        (RICH,),
        "h = cv2.cvtColor(a, cv2.COLOR_RGB2HSV).astype(float)\nh[..., 1] = np.clip(h[..., 1] * 1.6, 0, 255)\nresult = cv2.cvtColor(h.astype(np.uint8), cv2.COLOR_HSV2RGB)",
    ),
    "hsv value": (
        (UP,),
        "h = cv2.cvtColor(a, cv2.COLOR_RGB2HSV).astype(float)\nh[..., 2] = np.clip(h[..., 2] * 1.4, 0, 255)\nresult = cv2.cvtColor(h.astype(np.uint8), cv2.COLOR_HSV2RGB)",
    ),
    # blur
    "gaussian blur 1": ((BLUR,), "result = image.filter(ImageFilter.GaussianBlur(1))"),
    "gaussian blur 2": ((BLUR,), "result = image.filter(ImageFilter.GaussianBlur(radius=2))"),
    "gaussian blur 4": ((BLUR,), "result = image.filter(ImageFilter.GaussianBlur(4))"),
    "box blur": ((BLUR,), "result = image.filter(ImageFilter.BoxBlur(2))"),
    "filter blur": ((BLUR,), "result = image.filter(ImageFilter.BLUR)"),
    "filter smooth": ((BLUR,), "result = image.filter(ImageFilter.SMOOTH)"),
    "filter smooth more": ((BLUR,), "result = image.filter(ImageFilter.SMOOTH_MORE)"),
    "sharpness 0": ((BLUR,), "result = ImageEnhance.Sharpness(image).enhance(0.0)"),
    "cv2 gaussian": ((BLUR,), "result = cv2.GaussianBlur(a, (5, 5), 0)"),
    "cv2 blur": ((BLUR,), "result = cv2.blur(a, (3, 3))"),
    "median pil": ((MEDIAN,), "result = image.filter(ImageFilter.MedianFilter(3))"),
    "median cv2": ((MEDIAN,), "result = cv2.medianBlur(a, 5)"),
    "bilateral": ((MEDIAN | BLUR,), "result = cv2.bilateralFilter(a, 9, 75, 75)"),
    # sharpen
    "filter sharpen": ((SHARPEN,), "result = image.filter(ImageFilter.SHARPEN)"),
    "filter detail": ((SHARPEN,), "result = image.filter(ImageFilter.DETAIL)"),
    "filter edge enhance": ((SHARPEN,), "result = image.filter(ImageFilter.EDGE_ENHANCE)"),
    "filter edge enhance more": ((SHARPEN,), "result = image.filter(ImageFilter.EDGE_ENHANCE_MORE)"),
    "sharpness 2": ((SHARPEN,), "result = ImageEnhance.Sharpness(image).enhance(2.0)"),
    "sharpness 5": ((SHARPEN,), "result = ImageEnhance.Sharpness(image).enhance(5)"),
    "unsharp": ((SHARPEN,), "result = image.filter(ImageFilter.UnsharpMask(radius=2, percent=150, threshold=3))"),
    "unsharp weighted": (
        (SHARPEN,),
        "s = cv2.GaussianBlur(a, (0, 0), 3)\nresult = cv2.addWeighted(a, 1.5, s, -0.5, 0)",
    ),
    "filter2d": ((SHARPEN,), "k = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])\nresult = cv2.filter2D(a, -1, k)"),
    "filter2d strong": (
        (SHARPEN,),
        "result = cv2.filter2D(a, -1, np.array([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]]))",
    ),
    # edges, levels, shapes
    "find edges": ((EDGES,), "result = image.filter(ImageFilter.FIND_EDGES)"),
    "contour": ((EDGES,), "result = image.filter(ImageFilter.CONTOUR)"),
    "canny": ((EDGES, GREY), GRAY + "result = cv2.Canny(g, 100, 200)"),
    "sobel": (
        (EDGES, GREY),
        GRAY
        + "x, y = cv2.Sobel(g, cv2.CV_64F, 1, 0), cv2.Sobel(g, cv2.CV_64F, 0, 1)\nresult = np.clip(np.hypot(x, y), 0, 255).astype(np.uint8)",
    ),
    "laplacian": ((EDGES, GREY), GRAY + "result = cv2.convertScaleAbs(cv2.Laplacian(g, cv2.CV_64F))"),
    "threshold": ((BILEVEL, GREY), GRAY + "_, result = cv2.threshold(g, 120, 255, cv2.THRESH_BINARY)"),
    "otsu": ((BILEVEL, GREY), GRAY + "_, result = cv2.threshold(g, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)"),
    "threshold inverse": (
        (BILEVEL, GREY, INVERT),
        GRAY + "_, result = cv2.threshold(g, 110, 255, cv2.THRESH_BINARY_INV)",
    ),
    "threshold point": ((BILEVEL, GREY), "result = image.convert('L').point(lambda p: 255 if p > 130 else 0)"),
    "adaptive": (
        (BILEVEL, GREY),
        GRAY + "result = cv2.adaptiveThreshold(g, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, 11, 2)",
    ),
    "erode cv2": ((ERODE,), "result = cv2.erode(a, np.ones((3, 3), np.uint8), iterations=1)"),
    "erode min": ((ERODE,), "result = image.filter(ImageFilter.MinFilter(3))"),
    "dilate cv2": ((DILATE,), "result = cv2.dilate(a, np.ones((3, 3), np.uint8), iterations=2)"),
    "dilate max": ((DILATE,), "result = image.filter(ImageFilter.MaxFilter(5))"),
    # drawing
    "draw box": (
        (DRAW,),
        "result = image.copy()\nImageDraw.Draw(result).rectangle((50, 60, 220, 180), outline='red', width=3)",
    ),
    "cv2 box": ((DRAW,), "result = cv2.rectangle(a.copy(), (50, 60), (220, 180), (255, 0, 0), 2)"),
    "draw text": ((DRAW,), "result = image.copy()\nImageDraw.Draw(result).text((60, 60), 'answer: 42', fill='red')"),
    "put text": (
        (DRAW,),
        "result = cv2.putText(a.copy(), 'here', (60, 100), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 255), 2)",
    ),
    "filled": ((DRAW,), "result = a.copy()\nresult[40:100, 50:200] = (0, 200, 0)"),
    "circle": ((DRAW,), "result = cv2.circle(a.copy(), (200, 150), 40, (255, 0, 255), 2)"),
    # chains
    "grey contrast": ((GREY, STRETCH), "result = ImageEnhance.Contrast(image.convert('L')).enhance(1.8)"),
    "grey autocontrast": ((GREY, STRETCH), "result = ImageOps.autocontrast(ImageOps.grayscale(image))"),
    "contrast sharpen": (
        (STRETCH, SHARPEN),
        "result = ImageEnhance.Contrast(image).enhance(1.5).filter(ImageFilter.SHARPEN)",
    ),
    "contrast sharpness": (
        (STRETCH, SHARPEN),
        "image = ImageEnhance.Contrast(image).enhance(1.4)\nresult = ImageEnhance.Sharpness(image).enhance(2)",
    ),
    "bright contrast": (
        (UP | STRETCH,),
        "result = ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(1.2)).enhance(1.3)",
    ),
    "blur threshold": (
        (BLUR, BILEVEL, GREY),
        GRAY + "result = cv2.threshold(cv2.GaussianBlur(g, (5, 5), 0), 127, 255, cv2.THRESH_BINARY)[1]",
    ),
    "grey sharpen": ((GREY, SHARPEN), "result = image.convert('L').filter(ImageFilter.SHARPEN)"),
    "grey blur": ((GREY, BLUR), GRAY + "result = cv2.GaussianBlur(g, (7, 7), 0)"),
    "invert contrast": ((INVERT, STRETCH), "result = ImageEnhance.Contrast(ImageOps.invert(image)).enhance(1.5)"),
    # nothing that has a name
    "jpeg 90": ((), jpeg(90)),
    "jpeg 75": ((), jpeg(75)),
    "jpeg 40": ((), jpeg(40)),
    "jpeg 15": ((), jpeg(15)),
    "channels swapped": ((), "result = a[..., ::-1]"),
    "warm": ((), "result = np.clip(a.astype(int) + (30, 0, -30), 0, 255).astype(np.uint8)"),
    "rounding": ((), "result = (a / 255.0 * 254.6).astype(np.uint8)"),
    "through lab": ((), "result = cv2.cvtColor(cv2.cvtColor(a, cv2.COLOR_RGB2LAB), cv2.COLOR_LAB2RGB)"),
    "one dot": ((), "result = a.copy()\nresult[100, 100] = 255 - result[100, 100]"),
    "small dot": ((), "result = a.copy()\nresult[100:103, 100:103] = (255, 0, 0)"),
    "barely brighter": ((), "result = ImageEnhance.Brightness(image).enhance(1.015)"),
    "barely sharper": ((), "result = ImageEnhance.Sharpness(image).enhance(1.05)"),
    "noise": ((), "result = np.clip(a + np.random.default_rng(0).normal(0, 6, a.shape), 0, 255).astype(np.uint8)"),
    "salt": ((), "result = a.copy()\nresult[np.random.default_rng(0).random(a.shape[:2]) < 0.02] = 255"),
    "resize back 0.9": (
        (),
        "w, h = image.size\nresult = image.resize((int(w * 0.9), int(h * 0.9)), Image.BICUBIC).resize((w, h), Image.BICUBIC)",
    ),
    "nothing": ((), "result = image"),
}


BLIND: dict[str, tuple[Truth, str]] = {
    "contrast 1.35": ((STRETCH,), "result = ImageEnhance.Contrast(image).enhance(factor=1.35)"),
    "contrast 0.7": ((LESS,), "result = ImageEnhance.Contrast(image).enhance(0.7)"),
    "brightness 1.15": ((UP,), "result = ImageEnhance.Brightness(image).enhance(1.15)"),
    "brightness 2": ((UP,), "result = ImageEnhance.Brightness(image).enhance(2.0)"),
    "brightness 0.8": ((DOWN,), "result = ImageEnhance.Brightness(image).enhance(0.8)"),
    "autocontrast 5": ((STRETCH,), "result = ImageOps.autocontrast(image, cutoff=5)"),
    "autocontrast uneven": ((STRETCH,), "result = ImageOps.autocontrast(image, cutoff=(1, 3))"),
    "equalize channels": ((EQUALIZE,), "result = cv2.merge([cv2.equalizeHist(c) for c in cv2.split(a)])"),
    "equalize yuv": (
        (EQUALIZE,),
        "y = cv2.cvtColor(a, cv2.COLOR_RGB2YUV)\ny[:, :, 0] = cv2.equalizeHist(y[:, :, 0])\nresult = cv2.cvtColor(y, cv2.COLOR_YUV2RGB)",
    ),
    "clahe 4": ((EQUALIZE, GREY), GRAY + "result = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(4, 4)).apply(g)"),
    "add weighted": ((STRETCH | UP,), "result = cv2.addWeighted(a, 1.4, np.zeros_like(a), 0, -20)"),
    "subtract": ((DOWN,), "result = cv2.subtract(a, np.full_like(a, 30))"),
    "gamma 0.7": ((UP,), "result = (255 * (a / 255.0) ** 0.7).astype(np.uint8)"),
    "gamma 2.2": (
        (DOWN,),
        "result = cv2.LUT(a, np.clip(255 * (np.arange(256) / 255) ** 2.2, 0, 255).astype(np.uint8))",
    ),
    "log": ((UP,), "c = 255 / np.log(256)\nresult = (c * np.log1p(a.astype(float))).astype(np.uint8)"),
    "point scale": ((UP,), "result = image.point(lambda p: min(255, int(p * 1.25)))"),
    "min max grey": (
        (STRETCH, GREY),
        "g = np.array(image.convert('L')).astype(float)\nresult = ((g - g.min()) / (g.max() - g.min()) * 255).astype(np.uint8)",
    ),
    "rescale intensity": (
        (STRETCH,),
        "lo, hi = np.percentile(a, [5, 95])\nresult = np.interp(a, (lo, hi), (0, 255)).astype(np.uint8)",
    ),
    "negative": ((INVERT,), "result = ImageChops.invert(image)"),
    "xor": ((INVERT,), "result = a ^ 255"),
    "invert lut": ((INVERT,), "result = image.point([255 - i for i in range(256)] * 3)"),
    "solarize 200": ((SOLAR,), "result = ImageOps.solarize(image, 200)"),
    "posterize 4": ((FEWER,), "result = ImageOps.posterize(image, 4)"),
    "posterize round": ((FEWER,), "result = (np.round(a / 85.0) * 85).astype(np.uint8)"),
    "posterize mask": ((FEWER,), "result = a & 0b11000000"),
    "luminance": ((GREY,), "result = np.dot(a, [0.299, 0.587, 0.114]).astype(np.uint8)"),
    "grey swapped": ((GREY,), "result = cv2.cvtColor(a, cv2.COLOR_BGR2GRAY)"),
    "green channel": ((GREY,), "result = image.split()[1]"),
    "grey la": ((GREY,), "result = image.convert('LA').convert('RGB')"),
    "hsv value channel": ((GREY,), "result = cv2.cvtColor(a, cv2.COLOR_RGB2HSV)[..., 2]"),
    "desaturate": ((GREY,), "result = ((a.max(axis=2).astype(int) + a.min(axis=2)) // 2).astype(np.uint8)"),
    "color 1.4": ((RICH,), "result = ImageEnhance.Color(image).enhance(1.4)"),
    "color 3": ((RICH,), "result = ImageEnhance.Color(image).enhance(3)"),
    "color 0.6": ((PALE,), "result = ImageEnhance.Color(image).enhance(0.6)"),
    "hls saturation": (
        (PALE,),
        "h = cv2.cvtColor(a, cv2.COLOR_RGB2HLS)\nh[..., 2] = (h[..., 2] * 0.4).astype(np.uint8)\nresult = cv2.cvtColor(h, cv2.COLOR_HLS2RGB)",
    ),
    "gaussian blur 1.5": ((BLUR,), "result = image.filter(ImageFilter.GaussianBlur(radius=1.5))"),
    "gaussian blur 3": ((BLUR,), "result = cv2.GaussianBlur(a, (0, 0), 3)"),
    "cv2 blur 7": ((BLUR,), "result = cv2.blur(a, (7, 7))"),
    "kernel blur": ((BLUR,), "result = cv2.filter2D(a, -1, np.ones((5, 5)) / 25)"),
    "sharpness 0.3": ((BLUR,), "result = ImageEnhance.Sharpness(image).enhance(0.3)"),
    "median 3 cv2": ((MEDIAN,), "result = cv2.medianBlur(a, 3)"),
    "median 5 pil": ((MEDIAN,), "result = image.filter(ImageFilter.MedianFilter(size=5))"),
    "bilateral 5": ((MEDIAN | BLUR,), "result = cv2.bilateralFilter(a, 5, 50, 50)"),
    "unsharp default": ((SHARPEN,), "result = image.filter(ImageFilter.UnsharpMask())"),
    "unsharp radius 1": (
        (SHARPEN,),
        "result = image.filter(ImageFilter.UnsharpMask(radius=1, percent=200, threshold=0))",
    ),
    "sharpness 3": ((SHARPEN,), "result = ImageEnhance.Sharpness(image).enhance(3)"),
    "sharpen twice": ((SHARPEN,), "result = image.filter(ImageFilter.SHARPEN).filter(ImageFilter.SHARPEN)"),
    "unsharp numpy": ((SHARPEN,), "b = cv2.GaussianBlur(a, (9, 9), 10)\nresult = cv2.addWeighted(a, 2.0, b, -1.0, 0)"),
    "pil kernel": (
        (SHARPEN,),
        "result = image.filter(ImageFilter.Kernel((3, 3), [0, -1, 0, -1, 6, -1, 0, -1, 0], scale=2))",
    ),
    "scharr": (
        (EDGES, GREY),
        GRAY
        + "x, y = cv2.Scharr(g, cv2.CV_32F, 1, 0), cv2.Scharr(g, cv2.CV_32F, 0, 1)\nresult = np.clip(np.abs(x) + np.abs(y), 0, 255).astype(np.uint8)",
    ),
    "grey find edges": ((EDGES, GREY), "result = image.convert('L').filter(ImageFilter.FIND_EDGES)"),
    "canny 50 150": (
        (EDGES, GREY),
        "result = cv2.Canny(cv2.GaussianBlur(cv2.cvtColor(a, cv2.COLOR_RGB2GRAY), (3, 3), 0), 50, 150)",
    ),
    "threshold numpy": ((BILEVEL, GREY), "g = a.mean(axis=2)\nresult = np.where(g > 125, 255, 0).astype(np.uint8)"),
    "threshold 128 1bit": (
        (BILEVEL, GREY),
        "result = image.convert('L').point(lambda p: p > 128 and 255).convert('1')",
    ),
    "adaptive mean": (
        (BILEVEL, GREY),
        GRAY + "result = cv2.adaptiveThreshold(g, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 15, 8)",
    ),
    "erode kernel": ((ERODE,), "result = cv2.erode(a, cv2.getStructuringElement(cv2.MORPH_RECT, (5, 5)))"),
    "dilate one": ((DILATE,), "result = cv2.dilate(a, np.ones((3, 3), np.uint8))"),
    "line": (
        (DRAW,),
        "result = image.copy()\nImageDraw.Draw(result).line((30, 40, 300, 220), fill=(255, 0, 0), width=4)",
    ),
    "arrow": ((DRAW,), "result = cv2.arrowedLine(a.copy(), (60, 60), (180, 140), (255, 0, 0), 3)"),
    "two boxes": (
        (DRAW,),
        "result = image.copy()\nd = ImageDraw.Draw(result)\nfor b in ((20, 20, 90, 80), (150, 90, 320, 210)):\n    d.rectangle(b, outline=(0, 255, 0), width=2)",
    ),
    "ellipse": (
        (DRAW,),
        "result = image.copy()\nImageDraw.Draw(result).ellipse((100, 90, 200, 190), outline='blue', width=4)",
    ),
    "masked": ((DRAW,), "result = a.copy()\nresult[:60] = 0"),
    "grey blur threshold": (
        (GREY, BILEVEL, BLUR),
        "g = cv2.medianBlur(cv2.cvtColor(a, cv2.COLOR_RGB2GRAY), 3)\n_, result = cv2.threshold(g, 0, 255, cv2.THRESH_OTSU)",
    ),
    "sharp then contrast": (
        (SHARPEN, STRETCH),
        "result = ImageEnhance.Contrast(ImageEnhance.Sharpness(image).enhance(2)).enhance(1.3)",
    ),
    "color contrast": (
        (RICH, STRETCH),
        "result = ImageEnhance.Color(ImageEnhance.Contrast(image).enhance(1.3)).enhance(1.8)",
    ),
    "grey invert": ((GREY, INVERT), "result = ImageOps.invert(image.convert('L'))"),
    "grey brightness": ((GREY, UP), "result = ImageEnhance.Brightness(ImageOps.grayscale(image)).enhance(1.3)"),
    "box and contrast": (
        (STRETCH, DRAW),
        "result = ImageEnhance.Contrast(image).enhance(1.5)\nImageDraw.Draw(result).rectangle((60, 60, 200, 160), outline='red', width=3)",
    ),
    "jpeg 60": ((), jpeg(60)),
    "jpeg 25": ((), jpeg(25)),
    "webp": ((), "b = io.BytesIO()\nimage.save(b, 'WEBP', quality=60)\nresult = Image.open(b)"),
    "cool": ((), "result = np.clip(a * np.array([0.85, 1.0, 1.15]), 0, 255).astype(np.uint8)"),
    "sepia": (
        (),
        "m = np.array([[.393, .769, .189], [.349, .686, .168], [.272, .534, .131]])\nresult = np.clip(a @ m.T, 0, 255).astype(np.uint8)",
    ),
    "hue": (
        (),
        "h = cv2.cvtColor(a, cv2.COLOR_RGB2HSV)\nh[..., 0] = (h[..., 0].astype(int) + 40) % 180\nresult = cv2.cvtColor(h, cv2.COLOR_HSV2RGB)",
    ),
    "channels rolled": ((), "result = np.roll(a, 1, axis=2)"),
    "grain": (
        (),
        "n = np.random.default_rng(1).integers(-12, 13, a.shape)\nresult = np.clip(a + n, 0, 255).astype(np.uint8)",
    ),
    "plus two": ((), "result = np.clip(a.astype(int) + 2, 0, 255).astype(np.uint8)"),
    "contrast 1.02": ((), "result = ImageEnhance.Contrast(image).enhance(1.02)"),
    "through hsv": ((), "result = cv2.cvtColor(cv2.cvtColor(a, cv2.COLOR_RGB2HSV), cv2.COLOR_HSV2RGB)"),
    "corner dot": ((), "result = a.copy()\nresult[:4, :4] = (255, 0, 255)"),
    "vignette": (
        (),
        "h, w = a.shape[:2]\ny, x = np.mgrid[-1:1:h * 1j, -1:1:w * 1j]\nresult = (a * (1 - 0.4 * (x ** 2 + y ** 2))[..., None]).clip(0, 255).astype(np.uint8)",
    ),
    "emboss": ((), "result = image.filter(ImageFilter.EMBOSS)"),
}


def shown() -> dict[str, Image.Image]:
    """A page of text, photo-like noise, a chart, and things in low contrast, somewhat compressed."""
    plain = images()
    faded = Image.blend(Image.new("RGB", plain["scene"].size, (140, 135, 130)), plain["scene"], 0.35)
    packed = io.BytesIO()
    faded.save(packed, "JPEG", quality=90)
    return {
        "page": plain["page"],
        "photo": plain["photo"],
        "chart": plain["chart"],
        "faded": Image.open(packed).convert("RGB"),
    }


def carried_out(code: str, image: Image.Image) -> Image.Image:
    """Run the snippet on an image and return the result as RGB."""
    names = {"np": np, "cv2": cv2, "io": io, "Image": Image, "ImageDraw": ImageDraw, "ImageChops": ImageChops}
    names |= {"ImageEnhance": ImageEnhance, "ImageFilter": ImageFilter, "ImageOps": ImageOps}
    names |= {"image": image.copy(), "a": np.array(image)}
    exec(code, names)
    result = names["result"]
    image = Image.fromarray(result) if isinstance(result, np.ndarray) else result
    return image.convert("RGB")


def verdict(ops: tuple[str, ...], truth: Truth, image: Image.Image) -> str:
    """Judge named operations as right, partly, wrong or unknown; an image without colours can't become grey."""
    if np.ptp(np.asarray(image), axis=2).max() == 0:
        truth = tuple(family for family in truth if family is not GREY)
    if not set(ops) <= set().union(*truth):
        return "wrong"
    if not ops:
        return "unknown" if truth else "right"
    return "right" if all(family & set(ops) for family in truth) else "partly"
