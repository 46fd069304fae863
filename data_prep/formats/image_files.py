"""Is this an image that every decoder will show alike? Bytes that needn't change stay the bytes they are."""

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
"""Of the largest image that is decoded: 100 megapixels, 300 MB."""
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Decoders that are tried; PIL has dozens more that no data set needs."""
KEPT: Final = frozenset({"JPEG", "MPO", "PNG", "WEBP"})
"""Formats that stay as they are; the others become PNG. A phone's MPO is a JPEG with more behind it."""
EXIF: Final = {
    2: Orientation.FH,
    3: Orientation.R180,
    4: Orientation.FV,
    5: Orientation.TRANSPOSE,
    6: Orientation.R270,
    7: Orientation.TRANSVERSE,
    8: Orientation.R90,
}
"""What puts an image upright, by its EXIF orientation (CIPA DC-008, tag 0x0112)."""
_JPEG_QUALITY: Final = 95
_SIXTEEN_BIT: Final = 16
_PNG_EXIF: Final = (
    b"eXIf",
    *(kind + b"Raw profile type exif" for kind in (b"tEXt", b"zTXt", b"iTXt")),
    b"iTXtXML:com.adobe.xmp",
)
"""How chunks begin in which PIL finds an orientation."""
_SCAN: Final = 0xDA
_TABLES: Final = frozenset({0xC4, 0xDB})
"""Markers of a JPEG: start of scan; Huffman and quantisation tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """An image that decodes."""

    data: bytes
    size: tuple[int, int]
    """Width and height, pixels, as it is shown."""
    changes: tuple[str, ...] = ()
    """What was done: `exif_6`, `cmyk`, `16_bit`, `first_frame`, `flattened`, `from_gif`; empty: the same bytes."""


def settle_image(data: bytes, field: str = "images", max_pixels: int = MAX_PIXELS, *, decode: bool = True) -> ImageFile:
    """The image in 8-bit grey or RGB, upright as its EXIF says, without a second frame or transparency.

    Args:
        data: The file.
        field: Named in an error.
        max_pixels: Of the largest image.
        decode: Where the image needn't change: decode it (a JPEG at an eighth of its size), which reads every byte.
            Else a PNG's checksums are compared, and a JPEG's segments are followed to its end marker: what is cut off
            is found too, at a tenth of the cost; coefficients that were damaged in between aren't, as by decoders.

    Raises:
        RowError: no image by its first bytes, too many pixels, or truncated or damaged; `field` names it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images, which are refused here, and of odd metadata
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise RowError(Reason.IMAGE_BOMB, field, f"too many pixels: {error}") from error
        except UnidentifiedImageError as error:
            said = f"no {', '.join(FORMATS)} file: it begins with {data[:8].hex(' ') or 'nothing'}"
            raise RowError(Reason.IMAGE_UNKNOWN, field, said) from error
        except Exception as error:  # a damaged header makes a decoder raise anything
            raise RowError(Reason.IMAGE_DAMAGED, field, f"can't be decoded: {error}") from error
        if image.width * image.height > max_pixels:
            said = f"{image.width}x{image.height} pixels, more than {max_pixels:,}"
            raise RowError(Reason.IMAGE_BOMB, field, said)
        try:
            return _settle(data, image, decode)
        except Exception as error:  # damaged data makes a decoder raise anything
            raise RowError(Reason.IMAGE_DAMAGED, field, f"truncated or damaged: {error}") from error


def _settle(data: bytes, image: Image.Image, decode: bool) -> ImageFile:
    size, kind = image.size, str(image.format)
    changes = [] if kind in KEPT else [f"from_{kind.lower()}"]
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
    """The first bytes of each chunk, up to the end of the file (PNG, third edition, section 5).

    None where a checksum is wrong or the end is missing: that is the decoder's business.
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
    """Whether the segments lead to a scan that is closed by an end marker, with tables to decode it.

    False sends the file to the decoder, which knows more (ITU T.81, annex B).
    """
    at = 2
    seen: set[int] = set()
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        seen.add(marker)
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == _SCAN:
            return seen >= _TABLES and data.rfind(b"\xff\xd9", at) >= 0  # from the end, where it stands
    return False


def _eight_bit(image: Image.Image) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Grey values of a 16-bit or a floating-point image (there in [0, 1], or as large as they get) as 0-255."""
    values = np.asarray(image, dtype=np.float64)
    top = 65_535.0 if image.mode.startswith("I") else max(1.0, float(values.max(initial=0.0)))
    return np.clip(np.rint(values * (255 / top)), 0, 255).astype(np.uint8)


def png(image: Image.Image) -> bytes:
    """The image as a PNG file, without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def jpeg(image: Image.Image) -> bytes:
    """The image as a JPEG file of high quality, without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def extension(data: bytes) -> str:
    """How the name of this image file ends: `.jpg`, `.png` or `.webp`."""
    return ".jpg" if data.startswith(b"\xff\xd8") else ".webp" if data.startswith(b"RIFF") else ".png"
