"""The images of one rollout, and the provenance of each."""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Final

from PIL import Image

from codevision_ext.geometry import compose
from codevision_ext.sandbox.coordinates import RELATIVE_SIZE
from codevision_ext.sandbox.protocol import EarlierCall
from codevision_ext.sandbox.provenance import Provenance, into_input
from codevision_ext.sandbox.snippet.files import PROCESSED
from codevision_ext.types import Box, CoordinateSystem, Orientation, Step

_PATH: Final = re.compile(r"""\bimage_path\w*\s*=\s*(?P<quote>["'])(?P<path>[^"'\n]+)(?P=quote)""")


def paths_in(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the paths that user messages give for their images: `image_path = '/data/x.png'`, in order."""
    parts = (part for message in messages if message["role"] == "user" for part in message["content"])
    return [path for part in parts for path in paths_of(part.get("text") or "")]


def paths_of(text: str) -> list[str]:
    """Returns the paths in assignments such as `image_path = '/data/x.png'`, in order."""
    return [match["path"] for match in _PATH.finditer(text)]


def size_in(coordinates: CoordinateSystem, image: tuple[int, int], resized: tuple[int, int]) -> tuple[int, int]:
    """Returns the size of an image in a coordinate system.

    Args:
        coordinates: The coordinate system.
        image: Width and height of the image at full resolution, pixels.
        resized: Width and height of the image as the model sees it, pixels.
    """
    match coordinates:
        case CoordinateSystem.SEEN:
            return resized
        case CoordinateSystem.RELATIVE:
            return RELATIVE_SIZE
        case CoordinateSystem.ORIGINAL:
            return image


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOrigin:
    """The provenance of one image, relative to an image of the task."""

    root: int
    """Index of the task's image that this image was made from."""
    net: Orientation | None
    """Orientation relative to the image `root`; None: unknown."""
    region: Box | None
    """Visible part in pixels of the image `root`; None: unknown."""


class ImageHistory:
    """The images of one rollout in the order of `image_index`: the task's images first, then those that calls made."""

    def __init__(
        self,
        images: Sequence[Image.Image],
        resize: Callable[[Image.Image], Image.Image] = lambda image: image,
        coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL,
        paths: Sequence[str] = (),
    ) -> None:
        """Adds the images of the task.

        Args:
            images: The task's images at full resolution.
            resize: Returns an image as the model sees it. It takes milliseconds for each image.
            coordinates: The coordinate system in which the model writes.
            paths: Paths by which code may open the task's images; see `ExecRequest.paths`.
        """
        self.images: list[Image.Image] = []
        """Images at full resolution, as the code gets them."""
        self.resized: list[Image.Image] = []
        """Images as the model sees them; one for each of `images`."""
        self.sizes: list[tuple[int, int]] = []
        """Width and height of each image in the coordinates that the model writes."""
        self.paths: list[str] = []
        """Path of each image (`ExecRequest.paths`); the newest image is what code finds at `processed_path`."""
        self._resize, self._coordinates = resize, coordinates
        for image, path in zip(images, chain(paths, repeat("")), strict=False):
            self.add(image, path)
        self.nodes: list[ImageOrigin] = [
            ImageOrigin(root=index, net=Orientation.ID, region=Box(0, 0, *image.size))
            for index, image in enumerate(self.images)
        ]
        """Provenance of the images, in the order of `images`; shorter while calls are still being traced."""
        self.calls: list[EarlierCall] = []
        """Successful calls, in order; they run again before a later call where `keep_variables` is set."""
        self.pending_provenance: asyncio.Task[Step] | None = None
        """Task that records the provenance of the last started call; None before the first."""

    def add(self, image: Image.Image, path: str = PROCESSED) -> int:
        """Adds an image and returns its index."""
        resized = self._resize(image)
        self.images.append(image)
        self.resized.append(resized)
        self.sizes.append(size_in(self._coordinates, image.size, resized.size))
        self.paths.append(path)
        return len(self.images) - 1

    def undo(self, images: int, calls: int) -> None:
        """Keeps only the first `images` images, with their provenance, and the first `calls` calls."""
        for items in (self.images, self.resized, self.sizes, self.paths, self.nodes):
            del items[images:]
        del self.calls[calls:]

    def record_provenance(self, provenance: Provenance) -> ImageOrigin:
        """Appends the provenance of the oldest image that has none; must be called in the order of the calls."""
        origin = self.nodes[provenance.parent]
        net = None if origin.net is None or provenance.net is None else compose(origin.net, provenance.net)
        region = None
        if origin.net is not None and origin.region is not None and provenance.box is not None:
            parent_size = self.images[provenance.parent].size
            region = into_input(provenance.box, origin.net, origin.region, parent_size)
        self.nodes.append(ImageOrigin(root=origin.root, net=net, region=region))
        return self.nodes[-1]
