"""Normalises image files, so that every decoder shows the same pixels; other files keep their bytes."""

import io
import warnings
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from codevision_ext import geometry
from codevision_ext.types import Orientation
from data_prep.formats.row_errors import Reason, RowError

MAX_PIXELS: Final = 100_000_000
"""Maximum size of a decoded image, pixels; 300 MB."""
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are decoded; data sets don't need the other formats of PIL."""
STORED_FORMATS: Final = frozenset({"JPEG", "MPO", "PNG", "WEBP"})
"""Formats that are stored as they are; others become PNG. The MPO of a phone is a JPEG with more images behind it."""
EXIF: Final = {
    2: Orientation.FH,
    3: Orientation.R180,
    4: Orientation.FV,
    5: Orientation.TRANSPOSE,
    6: Orientation.R270,
    7: Orientation.TRANSVERSE,
    8: Orientation.R90,
}
"""Orientation that puts an image upright, by its EXIF tag 0x0112 (CIPA DC-008)."""
_JPEG_QUALITY: Final = 95
_SIXTEEN_BIT: Final = 16
_PNG_EXIF: Final = (
    b"eXIf",
    *(kind + b"Raw profile type exif" for kind in (b"tEXt", b"zTXt", b"iTXt")),
    b"iTXtXML:com.adobe.xmp",
)
"""First bytes of the PNG chunks in which PIL looks for an orientation."""
_SCAN: Final = 0xDA
_TABLES: Final = frozenset({0xC4, 0xDB})
"""Markers of a JPEG's Huffman and quantisation tables; _SCAN is its start of scan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """An image file that can be decoded."""

    data: bytes
    size: tuple[int, int]
    """Width and height in pixels, as viewers show the image."""
    changes: tuple[str, ...] = ()
    """Changes: `exif_6`, `cmyk`, `16_bit`, `first_frame`, `flattened`, `from_gif`, ..; empty for unchanged bytes."""


def normalize_image(
    data: bytes, field: str = "images", max_pixels: int = MAX_PIXELS, *, decode: bool = True
) -> ImageFile:
    """Return an image in 8-bit grey or RGB, upright as its EXIF says, with one frame and without transparency.

    Args:
        data: Image file.
        field: Field that an error names.
        max_pixels: Maximum size of the image.
        decode: Decode an image that needn't change (a JPEG at an eighth of its size), which reads every byte. Without
            it, the checksums of a PNG are compared, and the segments of a JPEG followed to its end marker. That finds
            truncated files too, at a tenth of the cost; damaged coefficients are found by neither.

    Raises:
        RowError: The file isn't an image, has too many pixels, or is truncated or damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about large images, which are refused below, and about odd metadata
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise RowError(Reason.IMAGE_BOMB, field, f"too many pixels: {error}") from error
        except UnidentifiedImageError as error:
            message = f"no {', '.join(FORMATS)} file: it begins with {data[:8].hex(' ') or 'nothing'}"
            raise RowError(Reason.IMAGE_UNKNOWN, field, message) from error
        except Exception as error:  # a damaged header makes a decoder raise anything
            raise RowError(Reason.IMAGE_DAMAGED, field, f"can't be decoded: {error}") from error
        if image.width * image.height > max_pixels:
            message = f"{image.width}x{image.height} pixels, more than {max_pixels:,}"
            raise RowError(Reason.IMAGE_BOMB, field, message)
        try:
            return _normalize(data, image, decode)
        except Exception as error:  # damaged data makes a decoder raise anything
            raise RowError(Reason.IMAGE_DAMAGED, field, f"truncated or damaged: {error}") from error


def _normalize(data: bytes, image: Image.Image, decode: bool) -> ImageFile:
    size, kind = image.size, str(image.format)
    changes = [] if kind in STORED_FORMATS else [f"from_{kind.lower()}"]
    if kind != "MPO" and getattr(image, "is_animated", False):
        changes.append("first_frame")
    chunks = _png_chunks(data) if kind == "PNG" else None
    orientation = 1
    if chunks is None or any(chunk.startswith(_PNG_EXIF) for chunk in chunks):  # PIL decodes a PNG to look for it
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation in EXIF:
        changes.append(f"exif_{orientation}")
    deep = image.mode.startswith(("I", "F")) or (kind == "PNG" and data[24:25] == bytes([_SIXTEEN_BIT]))
    if deep:
        changes.append("16_bit")
    if image.mode == "CMYK":
        changes.append("cmyk")
    alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if not changes and not alpha:
        whole = chunks is not None or (kind in ("JPEG", "MPO") and _is_whole_jpeg(data))
        if decode or not whole:
            image.draft("L", (max(1, size[0] // 8), max(1, size[1] // 8)))
            image.load()
        return ImageFile(data=data, size=size)
    image.load()
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bit(image))
    elif alpha:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema()[0] == 255:
            image = image.convert("RGB")
        else:
            changes.append("flattened")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer).convert("RGB")
    if not changes:
        return ImageFile(data=data, size=size)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    if orientation in EXIF:
        image = geometry.apply(EXIF[orientation], image)
    image.info.clear()
    lossy = kind in ("JPEG", "MPO") and "cmyk" not in changes
    return ImageFile(data=jpeg(image) if lossy else png(image), size=image.size, changes=tuple(changes))


def _png_chunks(data: bytes) -> list[bytes] | None:
    """Return the first bytes of each chunk, up to the end of the file (PNG, third edition, section 5).

    None if a checksum is wrong or the end is missing; then the decoder decides.
    """
    view, at, heads = memoryview(data), 8, []
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(view[at : at + 4])
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4]):
            return None
        heads.append(data[at + 4 : min(end, at + 32)])
        if heads[-1] == b"IEND":
            return heads
        at = end + 4
    return None


def _is_whole_jpeg(data: bytes) -> bool:
    """Return whether the segments lead to a scan with tables and an end marker (ITU T.81, annex B).

    False sends the file to the decoder, which decides.
    """
    at = 2
    markers: set[int] = set()
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        markers.add(marker)
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == _SCAN:
            return markers >= _TABLES and data.rfind(b"\xff\xd9", at) >= 0  # searched from the end, where it stands
    return False


def _eight_bit(image: Image.Image) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Return the grey values of a 16-bit or floating-point image, scaled to 0-255; floats reach 1 or their maximum."""
    values = np.asarray(image, dtype=np.float64)
    top = 65_535.0 if image.mode.startswith("I") else max(1.0, float(values.max(initial=0.0)))
    return np.clip(np.rint(values * (255 / top)), 0, 255).astype(np.uint8)


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file, without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def jpeg(image: Image.Image) -> bytes:
    """Return an image as a JPEG file of quality 95 and 4:4:4 subsampling, without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def extension(data: bytes) -> str:
    """Return the ending for the name of this image file: `.jpg`, `.png` or `.webp`."""
    return ".jpg" if data.startswith(b"\xff\xd8") else ".webp" if data.startswith(b"RIFF") else ".png"
