"""Determines orientation and visible part of an output image from pixels; the code that made it is never parsed.

1. `trace_exact` recognises an output that equals its parent (a no-op), or that equals, pixel for pixel, exactly one
   crop of one turned or mirrored parent. The rollout waits for this step only.
2. `trace_by_probes` runs while the rollout continues. It runs the code again on a coordinate map, whose colours encode
   the position of each pixel, and fits an affine map to the output. If colours change too much to read the map, the
   code runs on a texture, whose corners are matched, and then on a finer texture. Code that depends on image content
   may show another part of a probe. Then only scale and orientation are taken from the probe, and the position is
   searched in the parent. A small image is also replaced by stripes, one image for each bit of the coordinates. Last,
   the corners of the parent itself are matched. A map whose large pieces changed places (a collage) ends the search:
   the result is unknown.
3. Every view is verified on the real images: edges of the predicted and of the actual output must coincide. So code
   that recognises a probe, guesses, or branches on content gets credit only for what its output shows.
4. If colours changed much, or another orientation or part fits nearly as well (symmetry, tiles), the code runs once
   more on the parent with faint marks, and the output must show the marks where the view predicts them.
5. `colours` names other changes from the real images.

Known: the eight orientations, crops, slices, resizes, plain margins and chains of them, under most changes of colour.
Unknown (None, no credit): other angles, shears, collages, and outputs that can't be located in the parent.
Not detected: code that recognises every probe and the faint marks, and claims another orientation of an image that is
symmetric; warps of less than 1 % of the side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
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
    MARK_LEVELS,
    coordinate_map,
    draw_marks,
    fine_texture,
    is_rearranged,
    read_map,
    register_pair,
    texture,
    textures_for,
    with_marks,
)
from codevision_ext.sandbox.provenance.stripes import read_stripes
from codevision_ext.sandbox.provenance.verify import follows_marks, has_rival, view_score
from codevision_ext.types import Box, ExecStatus, Orientation

PROBES = ((coordinate_map, read_map), (texture, texture.read), (fine_texture, fine_texture.read))
"""Pairs of functions: the first draws a probe of a given size, the second reads the view from the code's output."""

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
"""Canonical operations that produce each orientation, in order of application."""


Claim = tuple[int, View, bool]
"""Index of a parent, a view of it, and True if the coordinate map couldn't be read because colours changed too much."""


class Runner(Protocol):
    """Sandbox that runs the code again on probes."""

    def run(self, request: ExecRequest) -> ExecResult:
        """Runs the code and returns its result; only the first image counts. Raises SandboxError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Relation of an output to its parent image; `net` and `box` are None if unknown."""

    parent: int
    """Index of the parent image; if the parent is unknown, the index that the call named."""
    ops: tuple[str, ...] = ()
    """Canonical operations in this order: orientation, crop, resize, changes of colour, drawing."""
    crops: tuple[Box, ...] = ()
    """`box` if it is smaller than the parent, else empty."""
    net: Orientation | None = None
    """Orientation of the output relative to the parent."""
    box: Box | None = None
    """Visible part in pixels of the parent."""
    noop: bool = False
    """True if the output equals the parent."""


def trace(sandbox: Runner, request: ExecRequest, result: ExecResult) -> Provenance:
    """Trace the first image of `result` to an image of the request; may run the code several more times.

    Raises:
        SandboxError: the sandbox is broken.
    """
    return trace_exact(request, result) or trace_by_probes(sandbox, request, result)


def trace_exact(request: ExecRequest, result: ExecResult) -> Provenance | None:
    """Trace a failure, a no-op or an exact crop without running the code again; None for any other result."""
    if result.status is not ExecStatus.OK:
        return Provenance(parent=request.image_index)
    output = result.images[0]
    for index in _named_first(request):
        parent = request.images[index]
        if parent.size == output.size and parent.convert("RGB").tobytes() == output.tobytes():
            return Provenance(parent=index, net=Orientation.ID, box=Box(0, 0, *parent.size), noop=True)
    for index in _named_first(request):
        places = find_exact(request.images[index].convert("RGB"), output)
        if places:
            return _provenance_of(index, places[0], request.images[index]) if len(places) == 1 else None
    return None


def trace_by_probes(sandbox: Runner, request: ExecRequest, result: ExecResult) -> Provenance:
    """Trace the output by running the code on probes, and verify the result on the real images.

    Raises:
        SandboxError: the sandbox is broken.
    """
    output = result.images[0]
    first, *others = _named_first(request)
    tried: dict[Claim, None] = {}
    for indices in ([first], others):
        for draw, read in PROBES if indices else ():
            probe = _run_on(sandbox, request, {index: draw(request.images[index].size) for index in indices})
            if probe is None or probe.size != output.size:
                continue  # the code depends on image content
            if probe.tobytes() == output.tobytes():
                break  # the code doesn't use these images
            recoloured = draw is not coordinate_map
            readings = [(index, read(probe, request.images[index].size)) for index in indices]
            claims = [(index, view, recoloured) for index, view in readings if view is not None]
            if provenance := _best_claim(sandbox, request, output, claims):
                return provenance
            if not claims and not recoloured and any(is_rearranged(probe, request.images[at].size) for at in indices):
                return Provenance(parent=first)
            tried.update(dict.fromkeys(claims))
        else:
            break
    for index, view, recoloured in list(tried):
        moved = find_elsewhere(request.images[index].convert("RGB"), output, view)
        if moved is not None and (claim := (index, moved, recoloured)) not in tried:
            if provenance := _best_claim(sandbox, request, output, [claim]):
                return provenance
            tried[claim] = None
    parent = request.images[first].convert("RGB")
    striped = partial(read_stripes, lambda image: _run_on(sandbox, request, {first: image}), parent.size, output.size)
    for read_view in (striped, partial(register_pair, output, parent)):
        candidate = read_view()
        if candidate and (provenance := _best_claim(sandbox, request, output, [(first, candidate, True)])):
            return provenance
    return Provenance(parent=first)


def _named_first(request: ExecRequest) -> list[int]:
    """Return the indices of the request's images; the index that the call named comes first."""
    return sorted(range(len(request.images)), key=lambda index: index != request.image_index)


def _run_on(sandbox: Runner, request: ExecRequest, images: Mapping[int, Image.Image]) -> Image.Image | None:
    """Run the code with some images replaced, by index; None if the code fails."""
    replaced = tuple(images.get(index, image) for index, image in enumerate(request.images))
    probe = sandbox.run(replace(request, images=replaced))
    return probe.images[0] if probe.status is ExecStatus.OK else None


def _best_claim(
    sandbox: Runner, request: ExecRequest, output: Image.Image, claims: Iterable[Claim]
) -> Provenance | None:
    """Return the provenance of the claim that fits the real images best; None if no claim is verified."""
    scores = [
        (view_score(request.images[index].convert("RGB"), output, view, recoloured=recoloured), index, view, recoloured)
        for index, view, recoloured in claims
    ]
    if not scores or (best := max(scores, key=lambda scored: scored[0]))[0] <= 0:
        return None
    _, index, view, recoloured = best
    parent = request.images[index].convert("RGB")
    view = nudged(parent, output, view)
    if recoloured:
        view = view.completed(output.size, parent.size)
    if not view.is_sharp:
        return None
    has_rivals = has_rival(parent, output, view)
    if (recoloured or len(scores) > 1) and not _ignores_others(sandbox, request, output, index):
        return None
    if recoloured or has_rivals:
        shown = _shows_marks(sandbox, request, output, index, view, MARK_LEVELS if has_rivals else MARK_LEVELS[:1])
        if shown is False or (shown is None and has_rivals):
            return None
    provenance = _provenance_of(index, view, parent)
    colours = colour_ops(*aligned_pair(parent, output, view), exact=view.is_exact)
    return replace(provenance, ops=(*provenance.ops, *colours))


def _shows_marks(
    sandbox: Runner, request: ExecRequest, output: Image.Image, index: int, view: View, mark_levels: Iterable[int]
) -> bool | None:
    """Tell whether marks on the parent appear where the view predicts them; None if the output shows too few marks."""
    parent = request.images[index]
    for grey_levels, spots in product(mark_levels, textures_for(view.box, parent.size)):
        added = draw_marks(parent.size, grey_levels, spots)
        probe = _run_on(sandbox, request, {index: with_marks(parent, added)})
        if probe is not None and probe.size == output.size:
            shown = follows_marks(added, output, probe, view)
            if shown is not None:
                return shown
    return None


def _ignores_others(sandbox: Runner, request: ExecRequest, output: Image.Image, index: int) -> bool:
    """Tell whether the output stays the same when every image but `index` is replaced by a probe."""
    others = {at: coordinate_map(image.size) for at, image in enumerate(request.images) if at != index}
    probe = _run_on(sandbox, request, others) if others else output
    return probe is not None and probe.tobytes() == output.tobytes()


def _provenance_of(index: int, view: View, parent: Image.Image) -> Provenance:
    """Return the provenance of a view: its orientation and box, and their operations."""
    box = Box(*map(float, view.box))
    cropped = box_area(box) < parent.width * parent.height * 0.999
    resized = bool(np.abs((np.array(box[2:]) - box[:2]) * (1 / view.scale - 1)).max() > 1.0)
    ops = (*OPS[view.net], *(["crop"] if cropped else []), *(["resize"] if resized else []))
    return Provenance(parent=index, ops=ops, crops=(box,) if cropped else (), net=view.net, box=box)


def into_input(box: Box, net: Orientation, region: Box, size: tuple[int, int]) -> Box:
    """Map a box of an image to its input, both in pixels.

    Args:
        box: Box in the image.
        net: Orientation of the image relative to its input.
        region: Part of the input that the image shows.
        size: Width and height of the image.
    """
    upright = map_box(box, inverse(net), size)
    width, height = map_size(inverse(net), size)
    sx, sy = (region.x2 - region.x1) / width, (region.y2 - region.y1) / height
    x, y = region.x1, region.y1
    return Box(x + upright.x1 * sx, y + upright.y1 * sy, x + upright.x2 * sx, y + upright.y2 * sy)
