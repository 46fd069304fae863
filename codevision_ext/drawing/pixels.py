"""Converts images of any mode to arrays, as drawing code may display them."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
"""RGB image, shape (height, width, 3)."""
Gray = npt.NDArray[np.uint8]
"""Image or mask of one channel, shape (height, width)."""


def to_pixels(image: Image.Image, background: int | None = 255) -> Pixels:
    """Returns an image as RGB; transparent pixels get the gray `background`, or their hidden colour if it is None."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_eight_bits(np.asarray(image))[..., None], 3, axis=2)
    if image.mode == "RGBA" and (shown := np.asarray(image))[..., 3].min(initial=255) == 255:
        return _array(cv2.cvtColor(shown, cv2.COLOR_RGBA2RGB))
    if background is None or not image.has_transparency_data:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    colours = image.convert("RGBA")
    canvas = Image.new("RGBA", image.size, (background, background, background, 255))
    return np.asarray(Image.alpha_composite(canvas, colours).convert("RGB"))


def appearances(image: Image.Image) -> Iterator[Pixels]:
    """Yields the input as drawing code may display it, in order of frequency.

    Transparent pixels become white, get their hidden colour, or become black. `imshow` stretches a gray image to the
    full range, or maps it to viridis; a gray image of one value gets the lowest colour.
    """
    yield to_pixels(image)
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        yield to_pixels(image, None)
        yield to_pixels(image, 0)
    if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I"):
        gray = to_pixels(image, None)[..., 0]
        low, high = int(gray.min()), int(gray.max())
        table = np.clip((np.arange(256.0) - low) * 255 / max(1, high - low), 0, 255).round().astype(np.uint8)
        stretched = table[gray]
        if (low, high) != (0, 255):
            yield np.repeat(stretched[..., None], 3, axis=2)
        yield _array(cv2.cvtColor(cv2.applyColorMap(stretched, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB))


def largest_channel(image: Pixels) -> Gray:
    """Returns the largest channel of every pixel."""
    one, other, third = cv2.split(image)
    return _array(cv2.max(cv2.max(one, other), third))


def _eight_bits(values: npt.NDArray[Any]) -> Gray:
    """Converts gray values in the range 0 to 1, 255 or 65,535 to eight bits."""
    largest = float(values.max(initial=0))
    scale = 255.0 if largest <= 1 else 1.0 if largest <= 255 else 1 / 257
    return np.clip(values.astype(np.float32) * scale, 0, 255).astype(np.uint8)


def _array(values: Any) -> Gray:
    return np.asarray(values, np.uint8)
