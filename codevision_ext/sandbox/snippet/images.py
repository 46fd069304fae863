"""Chooses the images that a snippet returns, and converts them to RGB."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from codevision_ext.sandbox.snippet.files import FILES, PROCESSED
from codevision_ext.sandbox.snippet.source import START, Source, read_usage
from codevision_ext.sandbox.wire import MAX_IMAGES_BACK

RESULT_NAMES = ("image", "img", "result", "output", "processed_image")
"""Result variables: a snippet returns the images that it assigns to them. `image` takes precedence."""
FRACTIONS = 2.0
"""Largest value up to which a float array has the range 0 to 1; brightening and interpolation can exceed 1."""
SIXTEEN_BITS = 1024
"""Largest value from which an unsigned 16-bit array has the range 0 to 65535, otherwise 0 to 255.

Sums of a few 8-bit numbers stay below the bound.
"""
MOST_NAMES = 4
"""Maximum number of variables that a note names."""
_ABSENT = object()
_DRAWS = re.compile(
    r"\bdraw\.|\bDraw\(im(?:age|g)\b|\bim(?:age|g)s?(?:\[\d+\])?\.(?:paste|put\w+|alpha_composite|thumbnail|load)\("
)
"""Regular expression of code that draws on the image itself."""


class NoImage(Exception):
    """No variable of RESULT_NAMES holds a value."""


class NotAImage(Exception):
    """The value can't be converted to an image; the message says why."""


@dataclass(frozen=True, slots=True)
class Ending:
    """State of the interpreter after a snippet."""

    names: Mapping[str, Any]
    """Variables after the snippet."""
    before: Mapping[str, Any]
    """Variables before the snippet."""
    images: Sequence[Any]
    """Images that the snippet got."""
    image: Any
    """Image that the snippet was called on; None without one."""
    last: Any
    """Value of the last statement of the snippet; None if that statement isn't an expression."""
    shown: Sequence[Any]
    """Values that the snippet showed on a screen."""
    source: Source

    def assigned(self, name: str) -> Any:
        """Returns the value that the snippet assigned to a variable; None without an assignment."""
        value = self.names.get(name)
        return None if value is self.before.get(name, _ABSENT) else value

    def is_used(self, name: str) -> bool:
        """Returns whether the variable is used for something else after its last assignment."""
        usage = read_usage(self.source.text)
        return usage.loads.get(name, START) > usage.stores.get(name, START)


def handed_back(ending: Ending, max_pixels: int) -> tuple[list[Any], str]:
    """Returns the images of a snippet, and a note for the model, which may be empty.

    If the snippet opened an image by its path, or saved one to `processed_path`, they are the images that it saved, or
    if it saved none, those that it showed. Otherwise they are those that it assigned to RESULT_NAMES, and others that
    it saved. Without any of these, they are the first candidate that exists: the value of the last expression, images
    that were shown, images that were added to `images`, the image on which the snippet drew, the only new image that
    wasn't used again, the unchanged image.

    Raises NoImage if there is no value, and NotAImage if a value isn't an image or is too large.
    """
    saved = FILES.left(ending.names.get("processed_path"))
    if FILES.opened or PROCESSED in FILES.saved:
        parts = saved or _new_images(list(map(drawn, ending.shown)), ending)
        if parts:
            return _bounded(parts[:MAX_IMAGES_BACK], max_pixels), _too_many(parts)
    values = {name: drawn(value) for name in RESULT_NAMES if (value := ending.assigned(name)) is not None}
    named = {name: value for name, value in values.items() if looks_like_images(value)}
    if FILES.saved:
        named = {name: value for name, value in named.items() if not any(value is each for each in FILES.sources)}
    final = _final(named, ending)
    parts, note = list(chain.from_iterable(map(flat, final))), ""
    others = saved or open_figures() or _other_images(ending)
    if not final or (others and all(_is_copy(value, ending) for value in final)):
        left, note = _left_behind(ending) if not saved else (saved, "")
        parts = left or parts
    else:
        parts += saved
    if FILES.saved and all(_is_copy(part, ending) for part in parts):
        parts, note = list(FILES.saved.values()), ""
    if not parts and values:
        raise NotAImage(_not_an_image(next(iter(values.values()))))
    if not parts:
        image = ending.image if "image" in ending.names else None
        cleared = [name for name in RESULT_NAMES if ending.names.get(name, 0) is None]
        if image is None or any(ending.before.get(name, 0) is not None for name in cleared):
            raise NoImage
        parts = [image]
    return _bounded(parts[:MAX_IMAGES_BACK], max_pixels), _too_many(parts) or note


def _too_many(parts: Sequence[Any]) -> str:
    """Returns a note about images that don't come back; empty if all do."""
    return f"of {len(parts)} images the first {MAX_IMAGES_BACK} were taken" if len(parts) > MAX_IMAGES_BACK else ""


def _final(named: Mapping[str, Any], ending: Ending) -> list[Any]:
    """Returns the values of result variables, without intermediate results of other result variables.

    If `image` or `img` was assigned, arrays in other variables that don't have 8 bits are left out, because they may be
    measurements.
    """
    names: dict[int, str] = {}
    for name, value in named.items():
        names.setdefault(id(value), name)
    distinct = {name: named[name] for name in names.values()}
    if len(distinct) > 1:
        distinct = {name: value for name, value in distinct.items() if not _is_copy(value, ending)} or distinct
        if "image" in distinct or "img" in distinct:
            distinct = {name: value for name, value in distinct.items() if name in ("image", "img") or is_image(value)}
        distinct = {name: value for name, value in distinct.items() if not ending.is_used(name)} or distinct
    return list(distinct.values())


def _is_copy(value: Any, ending: Ending) -> bool:
    """Returns whether the value equals the image that the snippet got."""
    original = ending.image
    size = getattr(value, "size", None) if hasattr(value, "getbands") else getattr(value, "shape", ())[1::-1]
    if original is None or size != original.size:
        return False
    pixels = flatten(value)
    if pixels.tobytes() == original.tobytes():
        return True
    return FILES.opened and pixels.tobytes("raw", "BGR") == original.tobytes()  # as cv2.imread returns it


def _left_behind(ending: Ending) -> tuple[list[Any], str]:
    """Returns images outside of the result variables that the snippet probably meant to return, and a note about them.

    There are no images if there is no candidate, or if there are several.
    """
    taken = "was taken as the result: assign it to `image`"
    known = {id(image) for image in ending.images}
    images = ending.names.get("images")
    added = [image for image in images if id(image) not in known] if isinstance(images, list) else []
    for values, place in (
        ([ending.last], "the last expression"),
        (ending.shown or open_figures(), "what was shown"),
        (added, "what was put into `images`"),
    ):
        if parts := _new_images(list(map(drawn, values)), ending):
            return parts, f"{place} {taken}"
    if _DRAWS.search(ending.source.text):
        return [], ""
    fresh = _other_images(ending)
    parts_of = {name: parts for name, value in fresh.items() if (parts := _new_images([value], ending))}
    unused = {name: set(map(id, parts)) for name, parts in parts_of.items() if not ending.is_used(name)}
    whole = [name for name, parts in unused.items() if all(other <= parts for other in unused.values())]
    if whole:
        return parts_of[whole[0]], f"`{whole[0]}` {taken}"
    if parts_of:
        listed = ", ".join(f"`{name}`" for name in list(unused or parts_of)[:MOST_NAMES])
        return [], f"not handed back: {listed}; assign an image, or a list of images, to `image`"
    uncalled = read_usage(ending.source.text).uncalled
    return [], f"`{uncalled[0]}` was never called" if uncalled else ""


def _other_images(ending: Ending) -> dict[str, Any]:
    """Returns the images that the snippet assigned to variables outside of RESULT_NAMES."""
    names = [name for name in ending.names if name[:1] != "_" and name not in RESULT_NAMES]
    return {name: value for name in names if is_image(value := drawn(ending.assigned(name)))}


def _new_images(values: Sequence[Any], ending: Ending) -> list[Any]:
    """Returns the images in these values that differ from `image`; no image if one of the values isn't an image."""
    if not all(map(is_image, values)):
        return []
    return [part for part in chain.from_iterable(map(flat, values)) if not _is_copy(part, ending)]


def open_figures() -> list[Any]:
    """Returns the open figures of matplotlib."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    return [pyplot.figure(number) for number in pyplot.get_fignums()] if pyplot else []


def _not_an_image(value: Any) -> str:
    kind = type(value).__name__
    if hasattr(value, "dtype"):
        return f"the result is an array of shape {value.shape}"
    if isinstance(value, (list, tuple)):
        nested = (list, tuple, dict)
        wrong = [at for at, part in enumerate(value) if isinstance(part, nested) or not looks_like_images(part)]
        part = f"its item {wrong[0]} of type {type(value[wrong[0]]).__name__}" if wrong else "it is empty"
        return f"the result is of type {kind}, and {part}"
    return f"the result is of type {kind}"


def _bounded(images: list[Any], max_pixels: int) -> list[Any]:
    """Returns the images. Raises NotAImage if one has no pixels, or if all together have too many."""
    pixels = 0
    for image in images:
        width, height = image.size if hasattr(image, "getbands") else (image.shape[1], image.shape[0])
        pixels += width * height
        if not width * height > 0 or pixels > max_pixels:
            raise NotAImage(f"its size is {width}x{height}")
    return images


def flat(value: Any) -> list[Any]:
    """Returns the images of a value that looks like images."""
    if isinstance(value, dict):
        value = list(value.values())
    return [drawn(part) for part in value] if isinstance(value, (list, tuple)) else [value]


def drawn(value: Any) -> Any:
    """Returns the pixels of a matplotlib figure; any other value unchanged."""
    if hasattr(value, "savefig") and hasattr(value, "canvas"):
        value.canvas.draw()
        return sys.modules["numpy"].array(value.canvas.buffer_rgba())
    return value


def looks_like_images(value: Any) -> bool:
    """Returns whether the value is a PIL image, an array of 2 or 3 axes, a figure, or a list or dict of these."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and all(
            not isinstance(part, (list, tuple, dict)) and looks_like_images(part) for part in value
        )
    if hasattr(value, "savefig") and hasattr(value, "canvas"):
        return True
    return hasattr(value, "getbands") or (hasattr(value, "dtype") and getattr(value, "ndim", 0) in (2, 3))


def is_image(value: Any) -> bool:
    """Returns whether the value looks like images and isn't a table of numbers: all its arrays are uint8 or bool."""
    return looks_like_images(value) and all(
        hasattr(part, "getbands")
        or (part.dtype.name in ("uint8", "bool") and (part.ndim == 2 or part.shape[2] in (1, 3, 4)) and part.size > 0)
        for part in flat(value)
    )


def flatten(image: Any) -> Any:
    """Converts an image to RGB. Arrays are scaled and clipped; transparent pixels get a white background."""
    import numpy as np  # noqa: PLC0415 - loaded in the zygote
    from PIL import Image  # noqa: PLC0415

    if not isinstance(image, Image.Image) or image.mode in ("I", "F", "I;16", "I;16B", "I;16L"):
        image = Image.fromarray(eight_bits(np.asarray(image)))
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise NotAImage(f"mode {image.mode} can't be shown") from error


def eight_bits(array: Any) -> Any:
    """Converts an array to uint8 with 1, 3 or 4 channels: a range to 1 or 65535 is scaled, other values are clipped."""
    import numpy as np  # noqa: PLC0415 - loaded in the zygote

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 3 and array.shape[2] not in (3, 4):
        raise NotAImage(f"an array of shape {array.shape}")
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        array = np.nan_to_num(array)
        array = array * 255 if array.max() <= FRACTIONS else array
    elif array.dtype.kind not in "iu":
        raise NotAImage(f"an array of {array.dtype}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.uint16 and array.max() >= SIXTEEN_BITS:
        array = array / 257
    return np.clip(np.rint(array), 0, 255).astype(np.uint8)
