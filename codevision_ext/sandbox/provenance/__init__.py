"""What was really done to a picture: orientation and visible part, read from pixels, never from the code.

1. `trace_exact`: an output equal to its parent is a no-op; one that is found, pixel for pixel, at one place of one
   turned or mirrored parent is that turn and that crop. The model needs to wait only for this.
2. `trace_by_probes`, at leisure: the code runs again on a coordinate map, a picture whose colours say where each pixel
   came from, and an affine map is fitted to what comes out. Where the code changes colours so much that this can't be
   read, it runs once more on a texture whose corners are found again, and then on a finer one, for details. Code that
   chooses by what the picture shows takes another part of a probe: then what the probe tells of scale and turn holds,
   and the place is looked for in the parent; at last, corners of the parent itself are. Where the map shows that
   large pieces changed places and it is no view (a collage), that is final.
3. Whatever was fitted is verified on the real pair: the edges of the predicted and of the actual picture must lie upon
   each other. So code that recognises a probe, guesses, or branches on content earns nothing that isn't to be seen.
4. Where colours changed much, or another orientation or part fits the real pair nearly as well (symmetry, tiles), the
   code runs once more on the parent with faint marks on it, and these must turn up where the view puts them.
5. What changed beside is named from the real pair (`colours`).

Known: the eight orientations, crops, slices, resizes, plain margins, any chain of them, under most changes of colour.
Unknown, so None and without credit: other angles, shears, collages, and results that don't show where they come from.
Not caught: code that recognises every probe, faint marks included, and claims another turn of a picture that looks the
same turned; small warps of less than a hundredth of the side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from codevision_ext.geometry import inverse, map_box, map_size
from codevision_ext.sandbox.backend import Backend
from codevision_ext.sandbox.protocol import ExecRequest, ExecResult
from codevision_ext.sandbox.provenance.colours import colour_ops
from codevision_ext.sandbox.provenance.exact import find_exact
from codevision_ext.sandbox.provenance.probes import (
    LOUDNESS,
    coordinate_map,
    fine_texture,
    is_rearranged,
    marked,
    marks,
    read_map,
    register_pair,
    texture,
)
from codevision_ext.sandbox.provenance.verify import aligned_pair, borne_out, elsewhere, followed, nudged, rivalled
from codevision_ext.sandbox.provenance.view import View, area
from codevision_ext.types import Box, ExecStatus, Orientation

MARGIN = 0.15
"""How much better one parent must correlate than every other."""

PROBES = ((coordinate_map, read_map), (texture, texture.read), (fine_texture, fine_texture.read))
"""What is painted in place of a picture of a given size, and how the result is read."""

OPS: dict[Orientation, tuple[str, ...]] = {
    Orientation.ID: (),
    Orientation.R90: ("rotate_90",),
    Orientation.R180: ("rotate_180",),
    Orientation.R270: ("rotate_270",),
    Orientation.FH: ("flip_horizontal",),
    Orientation.FV: ("flip_vertical",),
    Orientation.TRANSPOSE: ("rotate_90", "flip_vertical"),
    Orientation.TRANSVERSE: ("rotate_90", "flip_horizontal"),
}
"""One way to write each orientation in canonical operations, first to last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How an output relates to its parent picture; `net` and `box` are None where that is unknown."""

    parent: int
    """Index of the picture it was made from; the one that the call named where that is unknown."""
    ops: tuple[str, ...] = ()
    """Canonical names, orientation first, then crop, then resize, then what changed colours or was drawn."""
    crops: tuple[Box, ...] = ()
    """The visible part where it is less than the parent, in pixels of the parent."""
    net: Orientation | None = None
    box: Box | None = None
    """The visible part in pixels of the parent."""
    noop: bool = False


def trace(sandbox: Backend, request: ExecRequest, result: ExecResult) -> Provenance:
    """How the first picture of `result` came from one of the request; may run the code several times more.

    Raises SandboxError when the sandbox is broken.
    """
    return trace_exact(request, result) or trace_by_probes(sandbox, request, result)


def trace_exact(request: ExecRequest, result: ExecResult) -> Provenance | None:
    """What can be told without running the code again: a failure, a no-op, an exact copy; None where nothing can."""
    if result.status is not ExecStatus.OK:
        return Provenance(parent=request.image_index)
    made = result.images[0]
    for index in _by_likelihood(request):
        parent = request.images[index]
        if parent.size == made.size and parent.convert("RGB").tobytes() == made.tobytes():
            return Provenance(parent=index, net=Orientation.ID, box=Box(0, 0, *parent.size), noop=True)
    for index in _by_likelihood(request):
        places = find_exact(request.images[index].convert("RGB"), made)
        if places:
            return _placed(index, places[0], request.images[index]) if len(places) == 1 else None
    return None


def trace_by_probes(sandbox: Backend, request: ExecRequest, result: ExecResult) -> Provenance:
    """What the code does to pictures that say where it puts what, as far as the real picture bears it out.

    Raises SandboxError when the sandbox is broken.
    """
    made = result.images[0]
    first, *others = _by_likelihood(request)
    read: list[tuple[int, View, bool]] = []
    for indices in ([first], others):
        for paint, look in PROBES if indices else ():
            probe = _run_on(sandbox, request, {index: paint(request.images[index].size) for index in indices})
            if probe is None or probe.size != made.size:
                continue  # the code looks at what is shown
            if probe.tobytes() == made.tobytes():
                break  # the code doesn't look at these pictures
            views = [(index, look(probe, request.images[index].size)) for index in indices]
            recoloured = paint is not coordinate_map
            found = _best(sandbox, request, made, views, recoloured=recoloured)
            if found is not None:
                return found
            seen = [(index, view, recoloured) for index, view in views if view is not None]
            if not seen and not recoloured and any(is_rearranged(probe, request.images[at].size) for at in indices):
                return Provenance(parent=first)
            read += seen
        else:
            break
    moved = (
        (index, elsewhere(request.images[index].convert("RGB"), made, view), recoloured)
        for index, view, recoloured in dict.fromkeys(read)
    )
    tried: set[tuple[int, View | None, bool]] = set(read)
    for index, place, recoloured in moved:
        if (index, place, recoloured) not in tried:
            found = _best(sandbox, request, made, [(index, place)], recoloured=recoloured)
            if found is not None:
                return found
            tried.add((index, place, recoloured))
    by_corners = register_pair(made, request.images[first].convert("RGB"))
    return _best(sandbox, request, made, [(first, by_corners)], recoloured=True) or Provenance(parent=first)


def _by_likelihood(request: ExecRequest) -> list[int]:
    """Indices of the pictures, the one that the call named first."""
    return sorted(range(len(request.images)), key=lambda index: index != request.image_index)


def _run_on(sandbox: Backend, request: ExecRequest, pictures: Mapping[int, Image.Image]) -> Image.Image | None:
    """What the code makes when it gets these pictures, by index, in place of its own."""
    images = tuple(pictures.get(index, image) for index, image in enumerate(request.images))
    probe = sandbox.run(replace(request, images=images))
    return probe.images[0] if probe.status is ExecStatus.OK else None


def _best(
    sandbox: Backend,
    request: ExecRequest,
    made: Image.Image,
    views: Iterable[tuple[int, View | None]],
    *,
    recoloured: bool,
) -> Provenance | None:
    """The view that the real pictures bear out, None where none or several do."""
    scores = [
        (borne_out(request.images[index].convert("RGB"), made, view, recoloured=recoloured), index, view)
        for index, view in views
        if view is not None
    ]
    scores = sorted((score for score in scores if score[0] > 0), key=lambda score: -score[0])
    if not scores or (len(scores) > 1 and scores[0][0] - scores[1][0] < MARGIN):
        return None
    _, index, view = scores[0]
    parent = request.images[index].convert("RGB")
    view = nudged(parent, made, view)
    doubtful = rivalled(parent, made, view, recoloured=recoloured)
    if recoloured and not _depends_on_one(sandbox, request, made, index):
        return None
    if recoloured or doubtful:
        told = _shows_marks(sandbox, request, made, index, view, LOUDNESS if doubtful else LOUDNESS[:1])
        if told is False or (told is None and doubtful):
            return None
    found = _placed(index, view, parent)
    return replace(found, ops=(*found.ops, *colour_ops(*aligned_pair(parent, made, view), exact=view.is_exact)))


def _shows_marks(
    sandbox: Backend, request: ExecRequest, made: Image.Image, index: int, view: View, loudness: Iterable[int]
) -> bool | None:
    """Marks on the parent turn up where the view puts them; None where they leave too little."""
    parent = request.images[index]
    for loud in loudness:
        laid = marks(parent.size, loud, view.box)
        probe = _run_on(sandbox, request, {index: marked(parent, laid)})
        told = None
        if probe is not None and probe.size == made.size:
            told = followed(laid, made, probe, view)
        if told is not None:
            return told
    return None


def _depends_on_one(sandbox: Backend, request: ExecRequest, made: Image.Image, index: int) -> bool:
    """The output is the same whatever the other pictures show."""
    others = {at: coordinate_map(image.size) for at, image in enumerate(request.images) if at != index}
    probe = _run_on(sandbox, request, others) if others else made
    return probe is not None and probe.tobytes() == made.tobytes()


def _placed(index: int, view: View, parent: Image.Image) -> Provenance:
    """Name what orientation and box say was done."""
    box = Box(*map(float, view.box))
    cropped = area(box) < parent.width * parent.height * 0.999
    resized = bool(np.abs((np.array(box[2:]) - box[:2]) * (1 / view.scale - 1)).max() > 1.0)
    ops = (*OPS[view.net], *(["crop"] if cropped else []), *(["resize"] if resized else []))
    return Provenance(parent=index, ops=ops, crops=(box,) if cropped else (), net=view.net, box=box)


def into_input(box: Box, net: Orientation, region: Box, size: tuple[int, int]) -> Box:
    """A box in pixels of a picture of `size`, which shows `region` of its input turned by `net`, in input pixels."""
    upright = map_box(box, inverse(net), size)
    width, height = map_size(inverse(net), size)
    sx, sy = (region.x2 - region.x1) / width, (region.y2 - region.y1) / height
    x, y = region.x1, region.y1
    return Box(x + upright.x1 * sx, y + upright.y1 * sy, x + upright.x2 * sx, y + upright.y2 * sy)
