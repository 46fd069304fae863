"""Finds the position of an output in its parent by correlation, and corrects it."""

from dataclasses import replace

import cv2
import numpy as np
from PIL import Image

from codevision_ext.geometry import apply, intersection, inverse, map_size
from codevision_ext.sandbox.provenance.compare import (
    BLOCK_SIDE,
    SAME_CONTENT,
    at_least_two,
    contrast_to_median,
    correlation_map,
    edges,
    grey_of,
    grey_pair,
    high_pass,
    resized,
)
from codevision_ext.sandbox.provenance.placement import View, ends_of
from codevision_ext.types import Box, Orientation

MATCH_SIDE = 512
"""Largest side of the parent in which an output is searched, pixels."""
MIDDLE_SIDE = 128
"""Side of the middle part of the output that is searched, pixels of the resized parent."""
MIN_FIT = 0.8
"""Minimum correlation of the middle part with the parent."""
MIN_EDGE_FIT = 0.7
"""Minimum correlation of the middle part with the parent's edges; an edge filter keeps nothing else."""
NUDGE = 2
"""Maximum correction of an exact box, pixels."""
NUDGE_SIDE = 256
"""Side of the part of the output that is correlated when an exact box is corrected, pixels."""
NUDGE_FIT = 0.9
"""Minimum correlation at the corrected position."""
NUDGE_COST = 1e-4
"""Minimum gain of correlation per pixel of correction."""
MAX_CORRECTION = 0.04
"""Maximum correction of the edges of a resized box, as a share of its side."""


def find_unscaled(parent: Image.Image, output: Image.Image, content: Box) -> View | None:
    """Return the view that `output` shows if nothing was resized; None if no part of the parent correlates.

    The middle of `content` is correlated with the parent, which works under most changes of colour.
    """
    zoom = min(1.0, MATCH_SIDE / max(parent.size))
    (u1, v1, u2, v2), half = map(round, content), round(MIDDLE_SIDE / 2 / zoom)
    u, v = (u1 + u2) // 2, (v1 + v2) // 2
    middle = Box(max(u1, u - half), max(v1, v - half), min(u2, u + half), min(v2, v + half))
    part = output.convert("L").crop(middle)
    if min(part.size) * zoom < BLOCK_SIDE:
        return None
    room = at_least_two(parent.width * zoom, parent.height * zoom)
    whole = grey_of(parent.convert("L").resize(room, Image.Resampling.BOX))
    image, outlines = high_pass(whole), high_pass(edges(whole))
    best, view = 1.0, None
    for net in Orientation:
        turned = apply(inverse(net), part)
        small = turned.resize(at_least_two(turned.width * zoom, turned.height * zoom), Image.Resampling.BOX)
        grey = grey_of(small)
        for fit in (
            correlation_map(image, high_pass(grey)) / MIN_FIT,
            correlation_map(outlines, high_pass(contrast_to_median(grey))) / MIN_EDGE_FIT,
        ):
            if fit.max(initial=0.0) <= best:
                continue
            best = float(fit.max())
            y, x = (round(float(at) / zoom) for at in np.unravel_index(np.argmax(fit), fit.shape))
            x, y = max(0, min(x, parent.width - turned.width)), max(0, min(y, parent.height - turned.height))
            view = View(net=net, box=Box(x, y, x + turned.width, y + turned.height), shown=middle)
    if view is None:
        return None
    return nudged(parent, output, view).extended(Box(0, 0, *output.size), parent.size)


def find_elsewhere(parent: Image.Image, output: Image.Image, view: View) -> View | None:
    """Move the view to the best position at its scale and orientation; None if there is no other position."""
    whole = Box(0, 0, *parent.size)
    sides, room = np.array(view.box[2:]) - view.box[:2], whole
    if (sides >= np.array(parent.size) - NUDGE).all():
        return None
    zoom = min(1.0, MATCH_SIDE / max(parent.size))
    for scale in sorted({zoom, 1.0}):
        part = resized(output, view.shown, map_size(view.net, at_least_two(*sides * scale)), Image.Resampling.BILINEAR)
        size = at_least_two(*(np.array(room[2:]) - room[:2]) * scale)
        image = resized(parent, room, size, Image.Resampling.BILINEAR)
        fit = correlation_map(grey_of(image), grey_of(apply(inverse(view.net), part)))
        if not fit.size:
            return None
        y, x = np.unravel_index(np.argmax(fit), fit.shape)
        start = np.array([x, y]) / scale + room[:2]
        slack = np.ceil(1 / scale)
        room = intersection(Box(*np.floor(start - slack), *np.ceil(start + sides + slack)), whole)
    return replace(view, box=intersection(Box(*start.tolist(), *(start + sides).tolist()), whole))


def nudged(parent: Image.Image, output: Image.Image, view: View) -> View:
    """Correct an exact view by up to NUDGE pixels, by correlating its middle; return other views unchanged."""
    if not view.is_exact:
        return view
    x1, y1, x2, y2 = view.corners
    left, top = max(x1, (x1 + x2 - NUDGE_SIDE) // 2), max(y1, (y1 + y2 - NUDGE_SIDE) // 2)
    right, bottom = min(x2, left + NUDGE_SIDE), min(y2, top + NUDGE_SIDE)
    west, north, east, south = (
        max(0, min(NUDGE, at)) for at in (left, top, parent.width - right, parent.height - bottom)
    )
    image = parent.crop((left - west, top - north, right + east, bottom + south))
    part = apply(inverse(view.net), output.crop(view.shown)).crop((left - x1, top - y1, right - x1, bottom - y1))
    fit = correlation_map(grey_of(image), grey_of(part))
    if fit.max(initial=0.0) < NUDGE_FIT:
        return view
    moved = np.abs(np.indices(fit.shape) - np.array([north, west])[:, None, None]).sum(axis=0)
    y, x = np.unravel_index(np.argmax(fit - NUDGE_COST * moved), fit.shape)
    dx, dy = int(x) - west, int(y) - north
    box = Box(x1 + dx, y1 + dy, x2 + dx, y2 + dy)
    u1, v1, u2, v2 = view.shown
    (width, height), near = output.size, 2 * NUDGE
    shown = Box(
        0.0 if u1 <= near else u1,
        0.0 if v1 <= near else v1,
        float(width) if u2 >= width - near else u2,
        float(height) if v2 >= height - near else v2,
    )
    return replace(view, box=box).extended(shown, parent.size)


def refined(parent: Image.Image, output: Image.Image, view: View) -> View:
    """Move and stretch the box so that the two images correlate best (ECC).

    Evangelidis and Psarakis, Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization, 2008.
    """
    source, target = grey_pair(parent, output, view, recoloured=True)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
    try:
        fit, warp = cv2.findTransformECC(target, source, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, stop)
    except cv2.error:  # no convergence: the images have too little in common
        return view
    (u1, v1, u2, v2), size = view.shown, np.array(target.shape[::-1])
    ends = np.array([(0, 0), size]) - 0.5  # OpenCV: the centre of the first pixel is 0
    ends = (ends * np.diag(warp[:, :2]) + warp[:, 2] + 0.5) / size
    if fit < SAME_CONTENT or np.abs(ends - [(0, 0), (1, 1)]).max() > MAX_CORRECTION:
        return view
    corners = view.source(np.array([u1, v1]) + ends * [u2 - u1, v2 - v1])
    return replace(view, box=ends_of(corners, parent.size))
