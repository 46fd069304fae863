"""Writes and reads the images that cross between two processes, with four bytes per pixel.

That is how PIL holds them, so a reader only maps the memory. Both sides import this module. The functions of PIL that
it uses (the raw encoder, the view of a buffer) are undocumented. A PIL without them fails when a zygote starts, because
every zygote passes images both ways before it serves.
"""

import errno
import os
from collections.abc import Sequence
from typing import Any

PIXEL_BYTES = 4
ALIGNMENT = 64
"""Alignment of the first byte of an image, bytes."""
CHUNK_BYTES = 2**18
"""Bytes that are packed and written at once; few enough to stay in the processor's cache."""
PADDED, AS_IN_MEMORY = "XRGB", "RGBX"
"""Orders of the bytes. PADDED writes 0 for the fourth byte, where PIL may leave freed data of this process."""


def aligned(at: int) -> int:
    """Returns the first aligned position after `at`; at least one byte stays free before it, as PADDED needs."""
    return (at // ALIGNMENT + 1) * ALIGNMENT


def room(width: int, height: int) -> int:
    """Returns the size of an image in bytes."""
    return width * height * PIXEL_BYTES


def write_images(fd: int, head: bytes, images: Sequence[Any], order: str) -> int:
    """Writes `head` at the descriptor's position and the images (mode RGB) after it; returns the end position.

    Raises:
        OSError: the descriptor has no room for them.
    """
    from PIL import _imaging  # noqa: PLC0415 - when the zygote loads this module, PIL isn't on its path yet

    at = os.lseek(fd, 0, os.SEEK_CUR) + len(head)
    written = os.write(fd, head)
    complete = written == len(head)
    for image in images:
        image.load()
        at = aligned(at)
        start = os.lseek(fd, at - order.index("R"), os.SEEK_SET)  # so that the red of the first pixel lies at `at`
        encoder = _imaging.raw_encoder("RGB", order)
        encoder.setimage(image.im, (0, 0, *image.size))
        failed = encoder.encode_to_file(fd, max(CHUNK_BYTES, room(image.width, 1))) < 0
        at += room(*image.size)
        complete &= not failed and os.lseek(fd, 0, os.SEEK_CUR) - start == room(*image.size)
    if not complete:
        raise OSError(errno.ENOSPC, "no room for the images")
    return at


def view_image(data: Any, at: int, width: int, height: int) -> Any:
    """Returns the image at position `at` of a buffer; it shares the memory of the buffer."""
    from PIL import Image, _imaging  # noqa: PLC0415 - as above

    core = _imaging.map_buffer(data, (width, height), "raw", at, ("RGB", 0, 1))
    return Image.new("RGB", (0, 0))._new(core)
