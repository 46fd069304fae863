"""The images of one rollout and where each comes from."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from codevision_ext.geometry import compose
from codevision_ext.sandbox.coordinates import RELATIVE_SIZE
from codevision_ext.sandbox.protocol import EarlierCall
from codevision_ext.sandbox.provenance import Provenance, into_input
from codevision_ext.types import Box, Frame, Orientation, Step


def frame_size(frame: Frame, image: tuple[int, int], seen: tuple[int, int]) -> tuple[int, int]:
    """The size in a frame of an image that has these pixels for the code and those for the model."""
    return {Frame.SEEN: seen, Frame.RELATIVE: RELATIVE_SIZE, Frame.ORIGINAL: image}[frame]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOrigin:
    """Where an image on the desk comes from."""

    root: int
    """Index of the task's image it was made from."""
    net: Orientation | None
    """Orientation relative to that image; None: unknown."""
    region: Box | None
    """Visible part in pixels of that image; None: unknown."""


class ImageHistory:
    """The images of one trajectory as `image_index` counts them: the task's own first, then the new ones."""

    def __init__(
        self,
        images: Sequence[Image.Image],
        fit: Callable[[Image.Image], Image.Image] = lambda image: image,
        frame: Frame = Frame.ORIGINAL,
    ) -> None:
        """`fit` makes of an image what the model sees, which takes a while; `frame`: what the model writes in."""
        self.images: list[Image.Image] = []
        """At full resolution, as the code gets them."""
        self.seen: list[Image.Image] = []
        """As the model sees them."""
        self.sizes: list[tuple[int, int]] = []
        """In the model's coordinates."""
        self._fit, self._frame = fit, frame
        for image in images:
            self.add(image)
        self.nodes: list[ImageOrigin] = [
            ImageOrigin(root=index, net=Orientation.ID, region=Box(0, 0, *image.size))
            for index, image in enumerate(self.images)
        ]
        self.calls: list[EarlierCall] = []
        """The calls that succeeded, as later ones may need them (`keep_variables`)."""

        self.settling: asyncio.Task[Step] | None = None
        """The step of the last call that was begun; `nodes` has what was settled, in the order of `images`."""

    def add(self, image: Image.Image) -> int:
        """Lay a new image on the desk and return its index."""
        seen = self._fit(image)
        self.images.append(image)
        self.seen.append(seen)
        self.sizes.append(frame_size(self._frame, image.size, seen.size))
        return len(self.images) - 1

    def undo(self, images: int, calls: int) -> None:
        """Leave the first `images`, with what is known of them, and the first `calls`."""
        for kept in (self.images, self.seen, self.sizes, self.nodes):
            del kept[images:]
        del self.calls[calls:]

    def settle(self, made: Provenance) -> ImageOrigin:
        """Keep where the first image without a node comes from."""
        origin = self.nodes[made.parent]
        net = None if origin.net is None or made.net is None else compose(origin.net, made.net)
        region = None
        if origin.net is not None and origin.region is not None and made.box is not None:
            region = into_input(made.box, origin.net, origin.region, self.images[made.parent].size)
        self.nodes.append(ImageOrigin(root=origin.root, net=net, region=region))
        return self.nodes[-1]
