"""Reads from pixels what was done to an image: orientation and visible part. The code is never read.

1. `trace_exact`: an output equal to its parent is a no-op; an output that stands, pixel for pixel, at one place of one
   turned or mirrored parent is that orientation and that crop. The model waits only for this.
2. `trace_by_probes`, while the rollout goes on: the code runs again on a coordinate map, an image whose colours say
   where each pixel came from, and an affine map is fitted to the output. Where the code changes colours so much that
   the map can't be read, it runs on a texture whose corners are matched again, and then on a finer one, for details.
   Code that depends on what the image shows takes another part of a probe: then the probe's scale and orientation hold,
   and the place is searched in the parent; at last, the corners of the parent itself are matched. Where the map shows
   that large pieces changed places and it is no view (a collage), that is final.
3. Every view is verified on the real pair: the edges of the predicted and of the actual image must lie upon each other.
   So code that recognises a probe, guesses, or branches on content earns nothing that can't be seen.
4. Where colours changed much, or another orientation or part fits the real pair nearly as well (symmetry, tiles), the
   code runs once more on the parent with faint marks on it, and these must turn up where the view puts them.
5. Other changes are named from the real pair (`colours`).

Known: the eight orientations, crops, slices, resizes, plain margins, any chain of them, under most changes of colour.
Unknown, so None and without credit: other angles, shears, collages, and results that don't show where they come from.
Not caught: code that recognises every probe, faint marks included, and claims another turn of an image that looks the
same turned; small warps of less than a hundredth of the side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from PIL import Image

from codevision_ext.geometry import box_area, inverse, map_box, map_size
from codevision_ext.sandbox.protocol import ExecRequest, ExecResult
from codevision_ext.sandbox.provenance.align import find_elsewhere, nudged
from codevision_ext.sandbox.provenance.colours import colour_ops
from codevision_ext.sandbox.provenance.compare import aligned_pair
from codevision_ext.sandbox.provenance.exact import find_exact
from codevision_ext.sandbox.provenance.placement import View
from codevision_ext.sandbox.provenance.probes import (
    LOUDNESS,
    coordinate_map,
    draw_marks,
    fine_texture,
    is_rearranged,
    read_map,
    register_pair,
    texture,
    with_marks,
)
from codevision_ext.sandbox.provenance.verify import borne_out, follows_marks, rivalled
from codevision_ext.types import Box, ExecStatus, Orientation

PROBES = ((coordinate_map, read_map), (texture, texture.read), (fine_texture, fine_texture.read))
"""Functions that draw a probe for an image of a given size, and that read the view from the output."""

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


Claim = tuple[int, View, bool]
"""Index of a parent, a view of it, and whether colours changed too much for the map to be read."""


class Runner(Protocol):
    """What runs the code again, on probes."""

    def run(self, request: ExecRequest) -> ExecResult:
        """Runs the code and returns its result; only the first image counts. Raises SandboxError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How an output relates to its parent image; `net` and `box` are None where that is unknown."""

    parent: int
    """Index of the parent image; the index that the call named where the parent is unknown."""
    ops: tuple[str, ...] = ()
    """Canonical names: orientation, then crop, then resize, then what changed colours or was drawn."""
    crops: tuple[Box, ...] = ()
    """Visible part where it is less than the parent, in pixels of the parent; at most one."""
    net: Orientation | None = None
    """Orientation of the output relative to the parent."""
    box: Box | None = None
    """Visible part in pixels of the parent."""
    noop: bool = False
    """True where the output equals the parent."""


def trace(sandbox: Runner, request: ExecRequest, result: ExecResult) -> Provenance:
    """Trace how the first image of `result` came from an image of the request; may run the code several times more.

    Raises:
        SandboxError: the sandbox is broken.
    """
    return trace_exact(request, result) or trace_by_probes(sandbox, request, result)


def trace_exact(request: ExecRequest, result: ExecResult) -> Provenance | None:
    """Trace a failure, a no-op or an exact copy, without running the code again; None for anything else."""
    if result.status is not ExecStatus.OK:
        return Provenance(parent=request.image_index)
    output = result.images[0]
    for index in _by_likelihood(request):
        parent = request.images[index]
        if parent.size == output.size and parent.convert("RGB").tobytes() == output.tobytes():
            return Provenance(parent=index, net=Orientation.ID, box=Box(0, 0, *parent.size), noop=True)
    for index in _by_likelihood(request):
        places = find_exact(request.images[index].convert("RGB"), output)
        if places:
            return _named(index, places[0], request.images[index]) if len(places) == 1 else None
    return None


def trace_by_probes(sandbox: Runner, request: ExecRequest, result: ExecResult) -> Provenance:
    """Trace what the code does to probes, as far as the real images bear it out.

    Raises:
        SandboxError: the sandbox is broken.
    """
    output = result.images[0]
    first, *others = _by_likelihood(request)
    tried: dict[Claim, None] = {}
    for indices in ([first], others):
        for draw, read in PROBES if indices else ():
            probe = _run_on(sandbox, request, {index: draw(request.images[index].size) for index in indices})
            if probe is None or probe.size != output.size:
                continue  # the code depends on what is shown
            if probe.tobytes() == output.tobytes():
                break  # the code doesn't use these images
            recoloured = draw is not coordinate_map
            readings = [(index, read(probe, request.images[index].size)) for index in indices]
            claims = [(index, view, recoloured) for index, view in readings if view is not None]
            if provenance := _best(sandbox, request, output, claims):
                return provenance
            if not claims and not recoloured and any(is_rearranged(probe, request.images[at].size) for at in indices):
                return Provenance(parent=first)
            tried.update(dict.fromkeys(claims))
        else:
            break
    for index, view, recoloured in list(tried):
        moved = find_elsewhere(request.images[index].convert("RGB"), output, view)
        if moved is not None and (claim := (index, moved, recoloured)) not in tried:
            if provenance := _best(sandbox, request, output, [claim]):
                return provenance
            tried[claim] = None
    by_corners = register_pair(output, request.images[first].convert("RGB"))
    claims = [] if by_corners is None else [(first, by_corners, True)]
    return _best(sandbox, request, output, claims) or Provenance(parent=first)


def _by_likelihood(request: ExecRequest) -> list[int]:
    """Return the indices of the images, the one that the call named first."""
    return sorted(range(len(request.images)), key=lambda index: index != request.image_index)


def _run_on(sandbox: Runner, request: ExecRequest, images: Mapping[int, Image.Image]) -> Image.Image | None:
    """Run the code on these images, by index, in place of its own; None where it fails."""
    replaced = tuple(images.get(index, image) for index, image in enumerate(request.images))
    probe = sandbox.run(replace(request, images=replaced))
    return probe.images[0] if probe.status is ExecStatus.OK else None


def _best(sandbox: Runner, request: ExecRequest, output: Image.Image, claims: Iterable[Claim]) -> Provenance | None:
    """Return the claim that the real images bear out best; None where none is borne out."""
    scores = [
        (borne_out(request.images[index].convert("RGB"), output, view, recoloured=recoloured), index, view, recoloured)
        for index, view, recoloured in claims
    ]
    if not scores or (best := max(scores, key=lambda scored: scored[0]))[0] <= 0:
        return None
    _, index, view, recoloured = best
    parent = request.images[index].convert("RGB")
    view = nudged(parent, output, view)
    if recoloured:
        view = view.completed(output.size, parent.size)
    doubtful = rivalled(parent, output, view)
    if (recoloured or len(scores) > 1) and not _depends_on_one(sandbox, request, output, index):
        return None
    if recoloured or doubtful:
        shown = _shows_marks(sandbox, request, output, index, view, LOUDNESS if doubtful else LOUDNESS[:1])
        if shown is False or (shown is None and doubtful):
            return None
    provenance = _named(index, view, parent)
    colours = colour_ops(*aligned_pair(parent, output, view), exact=view.is_exact)
    return replace(provenance, ops=(*provenance.ops, *colours))


def _shows_marks(
    sandbox: Runner, request: ExecRequest, output: Image.Image, index: int, view: View, loudness: Iterable[int]
) -> bool | None:
    """Tell whether marks on the parent turn up where the view puts them; None where too little of them is left."""
    parent = request.images[index]
    for grey_levels in loudness:
        added = draw_marks(parent.size, grey_levels, view.box)
        probe = _run_on(sandbox, request, {index: with_marks(parent, added)})
        if probe is not None and probe.size == output.size:
            shown = follows_marks(added, output, probe, view)
            if shown is not None:
                return shown
    return None


def _depends_on_one(sandbox: Runner, request: ExecRequest, output: Image.Image, index: int) -> bool:
    """Tell whether the output is the same whatever the other images show."""
    others = {at: coordinate_map(image.size) for at, image in enumerate(request.images) if at != index}
    probe = _run_on(sandbox, request, others) if others else output
    return probe is not None and probe.tobytes() == output.tobytes()


def _named(index: int, view: View, parent: Image.Image) -> Provenance:
    """Name the operations that the orientation and the box of a view stand for."""
    box = Box(*map(float, view.box))
    cropped = box_area(box) < parent.width * parent.height * 0.999
    resized = bool(np.abs((np.array(box[2:]) - box[:2]) * (1 / view.scale - 1)).max() > 1.0)
    ops = (*OPS[view.net], *(["crop"] if cropped else []), *(["resize"] if resized else []))
    return Provenance(parent=index, ops=ops, crops=(box,) if cropped else (), net=view.net, box=box)


def into_input(box: Box, net: Orientation, region: Box, size: tuple[int, int]) -> Box:
    """Map a box of an image to its input, both in pixels.

    Args:
        box: The box in the image.
        net: Orientation of the image relative to its input.
        region: The part of the input that the image shows.
        size: Width and height of the image.
    """
    upright = map_box(box, inverse(net), size)
    width, height = map_size(inverse(net), size)
    sx, sy = (region.x2 - region.x1) / width, (region.y2 - region.y1) / height
    x, y = region.x1, region.y1
    return Box(x + upright.x1 * sx, y + upright.y1 * sy, x + upright.x2 * sx, y + upright.y2 * sy)
