"""Opens image files that a user names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from codevision_ext.errors import InputError


@contextmanager
def opened_image(path: Path, where: str) -> Iterator[Image.Image]:
    """Opens an image; the block decodes it. Errors begin with `where`.

    Raises:
        InputError: the file can't be read, isn't an image, or is damaged.
    """
    try:
        with Image.open(path) as image:
            yield image
    except UnidentifiedImageError as error:
        raise InputError(f"{where}: isn't an image") from error
    except Exception as error:  # a damaged image makes a decoder raise anything
        raise InputError(f"{where}: can't be read: {getattr(error, 'strerror', None) or error}") from error
