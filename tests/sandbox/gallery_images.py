"""Draws the images of the galleries that were written after provenance was built."""

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps


def more_images() -> dict[str, Image.Image]:
    """Draw images that were never looked at while provenance was built."""
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


def repeating_images() -> dict[str, Image.Image]:
    return {
        "shelf": _shelf(560, 420),
        "table": _table(640, 440),
        "night": _night(600, 450),
        "plan": _plan(480, 480),
    }


def _shelf(width: int, height: int) -> Image.Image:
    """Rows of nearly the same jar."""
    rng = np.random.default_rng(31)
    image = Image.new("RGB", (width, height), (222, 212, 196))
    draw = ImageDraw.Draw(image)
    for row in range(height // 140):
        draw.rectangle((0, 140 * row + 124, width, 140 * row + 139), fill=(120, 84, 50))
        for column in range(width // 70):
            x, y = 70 * column + 8, 140 * row + 30
            tint = int(rng.integers(-12, 12))
            draw.rounded_rectangle((x, y, x + 54, y + 92), 9, fill=(176 + tint, 60 + tint, 52), outline="black")
            draw.rectangle((x + 6, y - 10, x + 48, y + 4), fill=(70, 70, 76))
            draw.rectangle((x + 5, y + 34, x + 49, y + 66), fill="white")
            draw.text((x + 9, y + 40), f"No {rng.integers(10, 99)}", fill="black", font=ImageFont.load_default(13))
    return image


def _table(width: int, height: int) -> Image.Image:
    """A spreadsheet: a grid of numbers."""
    rng = np.random.default_rng(32)
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, 24), fill="#dde6f2")
    for row in range(height // 24 + 1):
        draw.line((0, 24 * row, width, 24 * row), fill="#b0b0b0")
        for column in range(width // 80):
            text = "ABCDEFGH"[column] if row == 0 else f"{rng.integers(100, 99999) / 100:.2f}"
            draw.text((80 * column + 6, 24 * row + 5), text, fill="black", font=ImageFont.load_default(13))
    for column in range(width // 80 + 1):
        draw.line((80 * column, 0, 80 * column, height), fill="#b0b0b0")
    return image


def _night(width: int, height: int) -> Image.Image:
    """Dark, noisy, with a few lights."""
    rng = np.random.default_rng(33)
    field = rng.normal(14, 4, (height, width, 3)) + np.linspace(0, 22, height)[:, None, None]
    ys, xs = np.mgrid[:height, :width]
    for _ in range(26):
        x, y, size = rng.integers(0, width), rng.integers(height // 4, height), rng.uniform(4, 26)
        glow = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * size**2))
        field += glow[..., None] * rng.uniform(60, 230, 3)
    return Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))


def _plan(width: int, height: int) -> Image.Image:
    """Streets that cross at right angles, blocks, a park, a river."""
    rng = np.random.default_rng(34)
    image = Image.new("RGB", (width, height), "#f2efe9")
    draw = ImageDraw.Draw(image)
    draw.polygon([(0, 330), (180, 300), (width, 390), (width, 430), (170, 345), (0, 372)], fill="#a5c8e4")
    draw.rectangle((270, 60, 390, 170), fill="#c5e3b0")
    for at in range(30, width, 60):
        draw.line((at, 0, at + int(rng.integers(-12, 12)), height), fill="white", width=7)
        draw.line((0, at, width, at + int(rng.integers(-12, 12))), fill="white", width=7)
    for _ in range(26):
        x, y = int(rng.integers(0, width - 70)), int(rng.integers(0, height - 20))
        word = "".join(rng.choice(list("aeiklmnorst"), int(rng.integers(4, 8)))).title()
        draw.text((x, y), f"{word} St", fill="#555555", font=ImageFont.load_default(12))
    draw.ellipse((306, 92, 352, 138), fill="#d04030")
    return ImageOps.expand(image, 0)


def workshop_images() -> dict[str, Image.Image]:
    """Draw images from 84x84 pixels to three megapixels."""
    return {
        "letter": _letter(1000, 1400),
        "meadow": _meadow(2000, 1500),
        "curves": _curves(640, 400),
        "glyph": _glyph(84),
        "street": _street(900, 600),
    }


def _letter(width: int, height: int) -> Image.Image:
    """A typed letter with a letterhead, scanned: grey paper, a stain, uneven light."""
    rng = np.random.default_rng(41)
    image = Image.new("RGB", (width, height), (236, 232, 222))
    draw = ImageDraw.Draw(image)
    draw.rectangle((70, 60, 250, 130), fill=(150, 30, 40))
    draw.text((84, 76), "NORDWIND", fill="white", font=ImageFont.load_default(30))
    draw.text((620, 80), "12 March 1997", fill=(50, 50, 60), font=ImageFont.load_default(26))
    y = 220
    while y < height - 260:
        if rng.random() < 0.12:
            y += 40
            continue
        words = ["".join(rng.choice(list("aaabcdeeefghiilmnnoorssttuvwy"), int(rng.integers(2, 10)))) for _ in range(9)]
        draw.text(
            (90, y), " ".join(words)[: int(rng.integers(48, 62))], fill=(45, 45, 52), font=ImageFont.load_default(27)
        )
        y += 40
    draw.arc((560, height - 230, 820, height - 120), 200, 500, fill=(30, 40, 130), width=5)
    draw.line((600, height - 150, 860, height - 190), fill=(30, 40, 130), width=4)
    light = np.linspace(1.0, 0.86, width)[None, :, None] * np.linspace(0.95, 1.0, height)[:, None, None]
    noise = rng.normal(0, 2.5, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(image) * light + noise, 0, 255).astype(np.uint8))


def _meadow(width: int, height: int) -> Image.Image:
    """Sky over grass and flowers: soft above, full of fine detail below."""
    rng = np.random.default_rng(42)
    field = np.zeros((height, width, 3), np.float32)
    line = int(0.4 * height)
    field[:line] = np.linspace(0, 1, line)[:, None, None] * np.array([90, 60, 10]) + np.array([110, 160, 235])
    field[line:] = np.array([70, 120, 45])
    for scale, gain in ((200, 14), (60, 14), (20, 12), (6, 10), (2, 8)):
        coarse = rng.standard_normal((height // scale + 2, width // scale + 2)).astype(np.float32)
        soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        field[line:] += gain * soft[line:, :, None]
        if scale >= 60:
            field[:line] += gain * np.abs(soft[:line, :, None])
    image = Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(240):
        x, y = int(rng.integers(0, width)), int(rng.integers(line, height))
        size = int(4 + 26 * (y - line) / (height - line))
        colour = ((240, 220, 60), (230, 90, 120), (250, 250, 245))[int(rng.integers(0, 3))]
        draw.ellipse((x - size, y - size // 2, x + size, y + size // 2), fill=colour)
        draw.ellipse((x - size // 4, y - size // 5, x + size // 4, y + size // 5), fill=(120, 80, 20))
    return image.filter(ImageFilter.GaussianBlur(0.8))


def _curves(width: int, height: int) -> Image.Image:
    """Three curves over a grid, with a legend and ticks."""
    rng = np.random.default_rng(43)
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for step in range(9):
        x, y = 60 + step * (width - 90) // 8, 30 + step * (height - 80) // 8
        draw.line((x, 30, x, height - 50), fill="#dddddd")
        draw.line((60, y, width - 30, y), fill="#dddddd")
        draw.text((x - 8, height - 44), str(1980 + 5 * step), fill="black", font=ImageFont.load_default(12))
        draw.text((24, y - 8), f"{8 - step}.0", fill="black", font=ImageFont.load_default(12))
    for name, colour in (("north", "#d62728"), ("south", "#1f77b4"), ("west", "#2ca02c")):
        ys = np.cumsum(rng.normal(0, 9, 60)) + rng.integers(100, height - 140)
        points = [(60 + i * (width - 90) / 59, float(np.clip(y, 34, height - 54))) for i, y in enumerate(ys)]
        draw.line(points, fill=colour, width=3)
        at = 44 + 20 * len(name)
        draw.text((80, at - 90 if at > 120 else at), name, fill=colour, font=ImageFont.load_default(14))
    draw.text((width // 2 - 90, 6), "Rainfall by region, cm", fill="black", font=ImageFont.load_default(16))
    draw.rectangle((60, 30, width - 30, height - 50), outline="black")
    return image


def _glyph(side: int) -> Image.Image:
    """A character as if written by hand, white on black, grey where the pen was light."""
    image = Image.new("L", (4 * side, 4 * side), 0)
    draw = ImageDraw.Draw(image)
    k = 4 * side / 336
    draw.line([(90 * k, 60 * k), (84 * k, 280 * k)], fill=235, width=round(24 * k))
    draw.arc((70 * k, 50 * k, 240 * k, 180 * k), 200, 455, fill=255, width=round(22 * k))
    draw.line([(120 * k, 170 * k), (190 * k, 215 * k), (262 * k, 288 * k)], fill=215, width=round(20 * k))
    draw.line([(228 * k, 40 * k), (286 * k, 62 * k)], fill=180, width=round(14 * k))
    small = image.filter(ImageFilter.GaussianBlur(4)).resize((side, side), Image.Resampling.BOX)
    grain = np.random.default_rng(44).integers(0, 7, (side, side))
    return ImageOps.autocontrast(Image.fromarray((np.asarray(small) * 0.97 + grain).astype(np.uint8))).convert("RGB")


def _street(width: int, height: int) -> Image.Image:
    """Houses, a car with a plate, a shop sign, in afternoon light."""
    rng = np.random.default_rng(45)
    base = np.linspace(0, 1, height)[:, None, None] * np.array([60, 20, -50]) + np.array([150, 170, 205])
    image = Image.fromarray(np.clip(np.repeat(base, width, axis=1), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    x = 0
    while x < width:
        wide_, high = int(rng.integers(90, 170)), int(rng.integers(200, 420))
        wall = tuple(int(v) for v in rng.integers(110, 220, 3))
        draw.rectangle((x, 460 - high, x + wide_, 460), fill=wall, outline=(60, 50, 45))
        for wx in range(x + 14, x + wide_ - 24, 36):
            for wy in range(460 - high + 20, 420, 52):
                draw.rectangle((wx, wy, wx + 20, wy + 30), fill=(60, 70, 90) if rng.random() < 0.7 else (250, 220, 140))
        x += wide_
    draw.rectangle((0, 460, width, height), fill=(92, 92, 96))
    draw.rectangle((360, 330, 560, 372), fill=(20, 80, 60), outline="white", width=2)
    draw.text((374, 336), "BAKERY 24", fill=(250, 240, 200), font=ImageFont.load_default(28))
    draw.rounded_rectangle((300, 440, 520, 530), 24, fill=(170, 30, 36), outline="black")
    draw.polygon([(330, 442), (370, 396), (460, 396), (495, 442)], fill=(190, 60, 60), outline="black")
    for wheel in (345, 475):
        draw.ellipse((wheel - 24, 505, wheel + 24, 553), fill=(25, 25, 25))
    draw.rectangle((380, 492, 446, 512), fill="white", outline="black")
    draw.text((386, 493), "KX 417", fill="black", font=ImageFont.load_default(16))
    for at in range(0, width, 120):
        draw.rectangle((at, 566, at + 60, 572), fill=(230, 230, 220))
    grain = rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
