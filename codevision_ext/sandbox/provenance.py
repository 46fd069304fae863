"""What was really done to a picture: orientation and visible part, read from pixels, never from the code.

1. An output equal to its parent is a no-op; one that is found, pixel for pixel, at one place of one turned or mirrored
   parent is that turn and that crop.
2. Where it is found nowhere (resized, recoloured) or at several places (a symmetric or plain picture), the code runs
   once more on a coordinate map, a picture whose colours say where each pixel came from, and an axis-aligned affine map
   is fitted to what comes out.
3. What was fitted is verified on the real pair: predicted against actual picture, equal or correlated block by block.
   So code that recognises the map, guesses, or branches on content earns nothing.

Known today: the eight orientations, crops, slices, resizes, and any chain of them. Unknown, so None and without credit:
other angles, shears, collages, padding beyond a tenth of the picture, results made from another picture than
`image_index`, crops whose colours were changed so much that the map can't be read.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.geometry import apply, inverse, map_box, map_size
from codevision_ext.sandbox.pool import Sandbox
from codevision_ext.sandbox.protocol import ExecRequest, ExecResult
from codevision_ext.types import Box, ExecStatus, Orientation

Floats = NDArray[np.float64]

MAX_TRIES = 200
"""Candidate places looked at before the search for an exact copy gives up."""
GRID = 96
"""Samples per axis when a map is fitted."""
DARK = 16
"""Blue of a map without low bits is 0; where it is more, colours were changed and the map lies (inverted: mirrored)."""
COVERAGE = 0.9
"""Share of the output that must follow the fitted map."""
BLOCKS = 6
"""Blocks per axis when pictures are compared."""
COMPARE_SIDE = 128
"""Pictures are compared at this many pixels per axis at most."""
TEXTURE = 2.0
"""Standard deviation of a block, in grey levels, under which it is plain and says nothing."""
SAME = 0.6
"""Median block correlation from which two pictures show the same."""
MARGIN = 0.15
"""How much better one orientation must correlate than every other, where no map was read."""

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

    ops: tuple[str, ...] = ()
    """Canonical names, orientation first, then crop, then resize; colour changes aren't named yet."""
    crops: tuple[Box, ...] = ()
    """The visible part where it is less than the parent, in pixels of the parent."""
    net: Orientation | None = None
    box: Box | None = None
    """The visible part in pixels of the parent."""
    noop: bool = False


UNKNOWN = Provenance()


def trace(sandbox: Sandbox, request: ExecRequest, result: ExecResult) -> Provenance:
    """How the first picture of `result` came from the one at `request.image_index`; may run the code once more.

    Raises SandboxError when the sandbox is broken.
    """
    if result.status is not ExecStatus.OK:
        return UNKNOWN
    parent, made = request.images[request.image_index].convert("RGB"), result.images[0]
    if parent.size == made.size and parent.tobytes() == made.tobytes():
        return Provenance(net=Orientation.ID, box=Box(0, 0, *parent.size), noop=True)
    places = find_exact(parent, made)
    if len(places) == 1:
        return _described(*places[0], parent, made)
    fitted = _probe(sandbox, request, made.size)
    if fitted is not None:
        net, box = fitted
        predicted = apply(net, parent.crop((round(box.x1), round(box.y1), round(box.x2), round(box.y2))))
        if predicted.tobytes() == made.tobytes() or likeness(predicted, made) >= SAME:
            return _described(net, box, parent, made)
    return _by_likeness(parent, made)


def coordinate_map(size: tuple[int, int]) -> Image.Image:
    """A picture whose colours hold x and y: the high bits in red and green, the low bits in blue."""
    xs, ys = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    shift = _shift(size)
    low = _low_bits(xs, shift) << 4 | _low_bits(ys, shift)
    return Image.fromarray(np.dstack([xs >> shift, ys >> shift, low]).astype(np.uint8))


def _shift(size: tuple[int, int]) -> int:
    return max(0, (max(size) - 1).bit_length() - 8)


def _low_bits(values: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    """The bits under `shift` as four bits."""
    low = values & ((1 << shift) - 1)
    return low << (4 - shift) if shift <= 4 else low >> (shift - 4)


def find_exact(parent: Image.Image, made: Image.Image) -> list[tuple[Orientation, Box]]:
    """Every place where `made` stands, pixel for pixel, in the turned and mirrored parent; boxes in parent pixels.

    A plain picture stands in any number of places: then the search gives up and returns none.
    """
    pixels = np.asarray(made)
    row = int(np.argmax(pixels.std(axis=1).sum(axis=1)))
    needle = pixels[row].tobytes()
    places: list[tuple[Orientation, Box]] = []
    tries = 0
    for net in Orientation:
        size = map_size(net, parent.size)
        if made.width > size[0] or made.height > size[1]:
            continue
        turned = np.asarray(apply(net, parent))
        data, at = turned.tobytes(), -1
        while (at := data.find(needle, at + 1)) >= 0:
            tries += 1
            if tries > MAX_TRIES:
                return []
            y, x = divmod(at // 3, size[0])
            y -= row
            window = turned[max(y, 0) : y + made.height, x : x + made.width]
            if at % 3 == 0 and y >= 0 and np.array_equal(window, pixels):
                box = Box(x, y, x + made.width, y + made.height)
                places.append((net, map_box(box, inverse(net), size)))
    return places


def _probe(sandbox: Sandbox, request: ExecRequest, size: tuple[int, int]) -> tuple[Orientation, Box] | None:
    """Orientation and visible part that the code shows on the coordinate map, or None."""
    parent = request.images[request.image_index]
    images = list(request.images)
    images[request.image_index] = coordinate_map(parent.size)
    probe = sandbox.run(ExecRequest(code=request.code, images=tuple(images), image_index=request.image_index))
    if probe.status is not ExecStatus.OK or probe.images[0].size != size:
        return None
    return read_map(probe.images[0], parent.size)


def read_map(seen: Image.Image, size: tuple[int, int]) -> tuple[Orientation, Box] | None:
    """Fit `seen`, what became of the coordinate map of a picture of `size`; None where nothing fits."""
    width, height = seen.size
    us = np.unique(np.linspace(0, width - 1, min(width, GRID)).round().astype(int))
    vs = np.unique(np.linspace(0, height - 1, min(height, GRID)).round().astype(int))
    if len(us) < 2 or len(vs) < 2:
        return None
    colours = np.asarray(seen)[np.ix_(vs, us)].astype(np.int64)
    shift = _shift(size)
    unit = 1 << shift
    smooth = colours[..., 0] * unit + (unit - 1) / 2, colours[..., 1] * unit + (unit - 1) / 2
    low = colours[..., 2]
    if shift == 0 and np.median(low) > DARK:
        return None
    spread = max(0, shift - 4)
    fine = (
        colours[..., 0] * unit + _from_low_bits(low >> 4, shift) + ((1 << spread) - 1) / 2,
        colours[..., 1] * unit + _from_low_bits(low & 15, shift) + ((1 << spread) - 1) / 2,
    )
    for xs, ys in (fine, smooth):
        found = _fit(xs + 0.5, ys + 0.5, us + 0.5, vs + 0.5, seen.size, size, unit)
        if found is not None:
            return found
    return None


def _from_low_bits(bits: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    return bits >> (4 - shift) if shift <= 4 else bits << (shift - 4)


def _fit(
    xs: Floats, ys: Floats, us: Floats, vs: Floats, seen: tuple[int, int], size: tuple[int, int], unit: int
) -> tuple[Orientation, Box] | None:
    """The axis-aligned affine map from output (u, v) to input (x, y) that covers enough of the output."""
    for swapped in (False, True):
        along_u, along_v = (ys, xs) if swapped else (xs, ys)
        line_u = _line(us, np.median(along_u, axis=0), unit)
        line_v = _line(vs, np.median(along_v, axis=1), unit)
        if line_u is None or line_v is None:
            continue
        tolerance = [max(1.0, abs(slope)) + unit / 2 for slope in (line_u[0], line_v[0])]
        hits = (np.abs(along_u - (line_u[0] * us + line_u[1])[None, :]) <= tolerance[0]) & (
            np.abs(along_v - (line_v[0] * vs + line_v[1])[:, None]) <= tolerance[1]
        )
        if hits.mean() < COVERAGE:
            continue
        ends_u = _ends(*line_u, seen[0], size[1] if swapped else size[0])
        ends_v = _ends(*line_v, seen[1], size[0] if swapped else size[1])
        (x1, x2), (y1, y2) = (ends_v, ends_u) if swapped else (ends_u, ends_v)
        return NETS[swapped, line_u[0] < 0, line_v[0] < 0], Box(x1, y1, x2, y2)
    return None


NETS = {
    (False, False, False): Orientation.ID,
    (False, True, False): Orientation.FH,
    (False, False, True): Orientation.FV,
    (False, True, True): Orientation.R180,
    (True, False, False): Orientation.TRANSPOSE,
    (True, True, True): Orientation.TRANSVERSE,
    (True, False, True): Orientation.R90,
    (True, True, False): Orientation.R270,
}
"""Axes swapped, input falls along the output's u, input falls along the output's v: what that orientation is called."""


def _line(at: Floats, values: Floats, unit: int) -> tuple[float, float] | None:
    """Slope and offset, by medians and then by least squares on what agrees; None where the values stand still."""
    half = len(at) // 2
    slope = float(np.median((values[half:] - values[: len(at) - half]) / (at[half:] - at[: len(at) - half])))
    if abs(slope) < 1e-3:
        return None
    offset = float(np.median(values - slope * at))
    agrees = np.abs(values - slope * at - offset) <= unit
    if np.count_nonzero(agrees) > 2:
        slope, offset = map(float, np.polyfit(at[agrees], values[agrees], 1))
    return slope, offset


def _ends(slope: float, offset: float, length: int, limit: int) -> tuple[float, float]:
    """The part of the input that `length` output pixels show, whole pixels where it is close to them."""
    low, high = sorted((offset, slope * length + offset))
    return tuple(min(max(_whole(end), 0.0), float(limit)) for end in (low, high))  # type: ignore[return-value]


def _whole(value: float) -> float:
    return float(round(value)) if abs(value - round(value)) < 0.3 else value


def likeness(one: Image.Image, other: Image.Image) -> float:
    """How much two pictures show the same, in [0, 1]: median of |correlation| over the blocks that have texture.

    Deaf to brightness, contrast, inversion and moderate blur. 0 where nothing has texture.
    """
    width, height = (BLOCKS * max(2, min(side, COMPARE_SIDE) // BLOCKS) for side in other.size)
    a, b = (_blocks(picture.convert("L").resize((width, height))) for picture in (one, other))
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    power_a, power_b = (a * a).mean(axis=1), (b * b).mean(axis=1)
    textured = np.maximum(power_a, power_b) > TEXTURE**2
    if not textured.any():
        return 0.0
    scale = np.sqrt(power_a * power_b)
    correlation = np.divide(np.abs((a * b).mean(axis=1)), scale, out=np.zeros_like(scale), where=scale > 0)
    return float(np.median(correlation[textured]))


def _blocks(picture: Image.Image) -> Floats:
    """Grey values as one row per block."""
    high, wide = picture.height // BLOCKS, picture.width // BLOCKS
    grey = np.asarray(picture, dtype=np.float64).reshape(BLOCKS, high, BLOCKS, wide)
    return grey.swapaxes(1, 2).reshape(BLOCKS * BLOCKS, high * wide)


def _by_likeness(parent: Image.Image, made: Image.Image) -> Provenance:
    """The one orientation of the whole parent that looks like `made`, where colours changed too much for the map."""
    scores = sorted(
        ((likeness(turned, made), o) for o in Orientation if (turned := apply(o, parent)).size == made.size),
        reverse=True,
    )
    if not scores or scores[0][0] < SAME or scores[0][0] - scores[1][0] < MARGIN:
        return UNKNOWN
    return _described(scores[0][1], Box(0, 0, *parent.size), parent, made)


def _described(net: Orientation, box: Box, parent: Image.Image, made: Image.Image) -> Provenance:
    """Name what orientation and box say was done."""
    box = Box(*map(float, box))
    shown = map_size(net, (round(box.x2 - box.x1), round(box.y2 - box.y1)))
    cropped = shown[0] * shown[1] < parent.width * parent.height * 0.999
    resized = max(abs(shown[0] - made.width), abs(shown[1] - made.height)) > 1.0
    ops = (*OPS[net], *(["crop"] if cropped else []), *(["resize"] if resized else []))
    return Provenance(ops=ops, crops=(box,) if cropped else (), net=net, box=box)


def into_input(box: Box, net: Orientation, region: Box, size: tuple[int, int]) -> Box:
    """A box in pixels of a picture of `size`, which shows `region` of its input turned by `net`, in input pixels."""
    upright = map_box(box, inverse(net), size)
    width, height = map_size(inverse(net), size)
    sx, sy = (region.x2 - region.x1) / width, (region.y2 - region.y1) / height
    x, y = region.x1, region.y1
    return Box(x + upright.x1 * sx, y + upright.y1 * sy, x + upright.x2 * sx, y + upright.y2 * sy)
