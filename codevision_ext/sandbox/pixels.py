"""How do images cross between two processes? Four bytes a pixel, as PIL holds them, so that a reader need only map.

Both sides import this module. What it takes of PIL (its raw encoder, its view of a buffer) isn't documented there: a
PIL without it is found at start, as every zygote passes images both ways before it serves.
"""

import errno
import os
from collections.abc import Sequence
from typing import Any

PIXEL_BYTES = 4
ALIGNMENT = 64
"""Where an image may begin, bytes."""
CHUNK_BYTES = 2**18
"""Written at once: what is packed is still in the cache."""
PADDED, AS_HELD = "XRGB", "RGBX"
"""Order of the bytes: with a zero for the fourth (PIL may leave there what this process freed), or as in memory."""


def aligned(at: int) -> int:
    """The first place behind `at` where an image may begin: one byte at least is left, where `PADDED` begins."""
    return (at // ALIGNMENT + 1) * ALIGNMENT


def room(width: int, height: int) -> int:
    """Bytes that an image takes."""
    return width * height * PIXEL_BYTES


def lay_down(fd: int, head: bytes, images: Sequence[Any], order: str) -> int:
    """Write `head` where the descriptor stands, and the images (mode RGB) behind it; returns where they end.

    Raises:
        OSError: they don't fit.
    """
    from PIL import _imaging  # noqa: PLC0415 - in the zygote it isn't on the path yet when this module is loaded

    at = os.lseek(fd, 0, os.SEEK_CUR) + len(head)
    written = os.write(fd, head)
    complete = written == len(head)
    for image in images:
        image.load()
        at = aligned(at)
        start = os.lseek(fd, at - order.index("R"), os.SEEK_SET)  # the red of the first pixel comes to lie at `at`
        encoder = _imaging.raw_encoder("RGB", order)
        encoder.setimage(image.im, (0, 0, *image.size))
        failed = encoder.encode_to_file(fd, max(CHUNK_BYTES, room(image.width, 1))) < 0
        at += room(*image.size)
        complete &= not failed and os.lseek(fd, 0, os.SEEK_CUR) - start == room(*image.size)
    if not complete:
        raise OSError(errno.ENOSPC, "no room for the images")
    return at


def view_image(data: Any, at: int, width: int, height: int) -> Any:
    """The image at `at`, drawn from the buffer itself: changes of one are changes of the other."""
    from PIL import Image, _imaging  # noqa: PLC0415 - as above

    held = _imaging.map_buffer(data, (width, height), "raw", at, ("RGB", 0, 1))
    return Image.new("RGB", (0, 0))._new(held)
