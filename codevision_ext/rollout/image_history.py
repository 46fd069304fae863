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


def frame_size(frame: Frame, picture: tuple[int, int], seen: tuple[int, int]) -> tuple[int, int]:
    """The size in a frame of a picture that has these pixels for the code and those for the model."""
    return {Frame.SEEN: seen, Frame.RELATIVE: RELATIVE_SIZE, Frame.ORIGINAL: picture}[frame]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOrigin:
    """Where a picture on the desk comes from."""

    root: int
    """Index of the task's picture it was made from."""
    net: Orientation | None
    """Orientation relative to that picture; None: unknown."""
    region: Box | None
    """Visible part in pixels of that picture; None: unknown."""


class ImageHistory:
    """The pictures of one trajectory as `image_index` counts them: the task's own first, then the new ones."""

    def __init__(
        self,
        pictures: Sequence[Image.Image],
        fit: Callable[[Image.Image], Image.Image] = lambda picture: picture,
        frame: Frame = Frame.ORIGINAL,
    ) -> None:
        """`fit` makes of a picture what the model sees, which takes a while; `frame`: what the model writes in."""
        self.pictures: list[Image.Image] = []
        """At full resolution, as the code gets them."""
        self.seen: list[Image.Image] = []
        """As the model sees them."""
        self.sizes: list[tuple[int, int]] = []
        """In the model's coordinates."""
        self._fit, self._frame = fit, frame
        for picture in pictures:
            self.add(picture)
        self.nodes: list[ImageOrigin] = [
            ImageOrigin(root=index, net=Orientation.ID, region=Box(0, 0, *picture.size))
            for index, picture in enumerate(self.pictures)
        ]
        self.calls: list[EarlierCall] = []
        """The calls that succeeded, as later ones may need them (`keep_variables`)."""

        self.settling: asyncio.Task[Step] | None = None
        """The step of the last call that was begun; `nodes` has what was settled, in the order of `pictures`."""

    def add(self, picture: Image.Image) -> int:
        """Lay a new picture on the desk and return its index."""
        seen = self._fit(picture)
        self.pictures.append(picture)
        self.seen.append(seen)
        self.sizes.append(frame_size(self._frame, picture.size, seen.size))
        return len(self.pictures) - 1

    def undo(self, pictures: int, calls: int) -> None:
        """Leave the first `pictures`, with what is known of them, and the first `calls`."""
        for kept in (self.pictures, self.seen, self.sizes, self.nodes):
            del kept[pictures:]
        del self.calls[calls:]

    def settle(self, made: Provenance) -> ImageOrigin:
        """Keep where the first picture without a node comes from."""
        origin = self.nodes[made.parent]
        net = None if origin.net is None or made.net is None else compose(origin.net, made.net)
        region = None
        if origin.net is not None and origin.region is not None and made.box is not None:
            region = into_input(made.box, origin.net, origin.region, self.pictures[made.parent].size)
        self.nodes.append(ImageOrigin(root=origin.root, net=net, region=region))
        return self.nodes[-1]
