"""Finds the ink of a drawing: the pixels in which the made image differs from the input by more than noise."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from codevision_ext.drawing.pixels import Gray, Pixels, largest_channel
from codevision_ext.drawing.placement import Placement, lay, local_range

Mask = npt.NDArray[np.uint8]
"""Mask in the frame of the input, shape (height, width); 0 or 1."""

FAINT = 12
"""Largest change of a channel that isn't ink, in levels of 0 to 255."""
_NEAR_STRONG = 0.25
"""Share of the strongest nearby change below which a change is the edge or ringing of stronger ink."""
_REACH = 16
"""Maximum distance of nearby ink, pixels: the side of a JPEG block with halved colour resolution."""
_LEAST_SPREAD = 0.35
"""Minimum assumed noise if there is any noise, as a share of the local range."""
_UNCHANGED = 0.6
"""Share of unchanged pixels, in [0, 1], from which on there is no noise."""
_LEAST_RINGING = 0.1
"""Minimum assumed noise beside an edge, as a share of the range around."""
_ROUGH = 0.45
"""Noise, as a share of the local range, above which both images are smoothed before they are compared."""
_BLOCK = 8
"""Side of the blocks whose mean colour and noise are compared, pixels."""
_CALM = 6
"""Maximum change of a block's mean colour by blur and compression, in levels."""
_STEEP = 0.6
"""Smallest steepness of edges in the made image, as a share of that in the input."""
_LARGEST_SPREAD = 0.6
"""Maximum noise of interpolation or compression, as a share of the local range of the input."""


@dataclass(frozen=True, slots=True)
class Ink:
    """Pixels in which the made image differs from the input, in coordinates of the input."""

    mask: Mask
    """Pixels with ink."""
    strong: Mask
    """Pixels with ink whose change is about as large as the local contrast of the input."""
    change: Gray
    """Largest change of a channel, levels."""
    limit: Gray
    """Largest change that counts as noise, levels."""
    tampered: Mask
    """Pixels of blocks with a changed mean colour or changed noise, with or without ink."""
    content: Mask
    """Pixels where the input has edges or texture."""
    image: Pixels
    """Input."""
    made: Pixels
    """Made image."""
    placement: Placement
    """Place of the input in the made image."""
    outside: float
    """Share of the input that the made image doesn't show, in [0, 1]."""
    exact: bool
    """True if the pixels were compared without interpolation."""
    lossless: bool
    """True if all pixels without ink equal the input exactly."""
    rough: bool
    """True if both images were smoothed before the comparison, because of their fine texture."""
    grain: float
    """Side of a compared pixel, in pixels of the input; above 1 if the made image is smaller."""

    def shown(self, box: tuple[int, int, int, int], scale: float = 1.0) -> tuple[Pixels, Pixels]:
        """Returns a box (left, top, right, bottom) of the input and its place in the made image, of equal sizes.

        `scale` is the side of a pixel of the input in the result, pixels.
        """
        left, top, right, bottom = box
        size = max(1, round(scale * (right - left))), max(1, round(scale * (bottom - top)))
        place = self.placement
        x, y = place.tx + place.sx * left, place.ty + place.sy * top
        near = 3 + int(2 * max(place.sx, place.sy))
        x1, y1 = max(0, int(x) - near), max(0, int(y) - near)
        part = self.made[y1 : int(y + place.sy * (bottom - top)) + near, x1 : int(x + place.sx * (right - left)) + near]
        sx, sy = scale / place.sx, scale / place.sy
        after = lay(part, Placement(sx, sy, (x1 - x) * sx, (y1 - y) * sy), size)
        before = cv2.resize(self.image[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
        return np.asarray(before, np.uint8), after


def find_ink(image: Pixels, made: Pixels, placement: Placement) -> Ink:
    """Compares the made image with the input at its placement in the made image."""
    height, width = image.shape[:2]
    expected, seen, origin, shape = _common(image, made, placement)
    exact = placement.whole
    if not exact:
        expected, seen = _smooth(_as_sharp(expected, seen)), _smooth(seen)
    change = _change(expected, seen)
    spread = local_range(_gray(expected)) if exact else largest_channel(local_range(expected, 5))
    calm = np.ones_like(change)
    noise = _noise(change, spread, calm)
    if noise != (0, 0):  # or a drawing that covers much
        calm = _calm(expected, seen)
        noise = _noise(change, spread, calm)
    if exact and noise != (0, 0):
        expected = _as_sharp(expected, seen)
        change, spread = _change(expected, seen), largest_channel(local_range(expected, 3))
        noise = _noise(change, spread, calm)
    before = expected, seen, spread
    rough = noise[1] > _ROUGH
    if rough:  # fine texture, which interpolation or compression has averaged
        expected, seen = _smooth(expected, 1.6), _smooth(seen, 1.6)
        change, spread = _change(expected, seen), largest_channel(local_range(expected, 5))
        noise, exact = _noise(change, spread, calm), False
    limit = _near_strong(change)
    lossless = exact and noise == (0, 0) and _clean(change, limit)
    if lossless:
        limit = np.full_like(change, FAINT)
    else:
        limit = np.maximum(limit, cv2.convertScaleAbs(spread, alpha=noise[1]))
        if exact:
            wide = np.asarray(cv2.dilate(spread, np.ones((9, 9), np.uint8)), np.uint8)
            limit = np.maximum(
                limit, cv2.convertScaleAbs(wide, alpha=min(noise[1], _ringing(change, spread, wide, calm)))
            )
        limit = np.maximum(limit, np.uint8(max(FAINT, round(noise[0]))))
    mask = _above(change, limit)
    tampered = np.zeros_like(mask)
    if not lossless:
        whole = placement.whole
        tampered = _tampered(*(before if whole else (expected, seen, spread)), mask, exact=whole)
    if not placement.whole:
        _forget_border(mask, tampered, made.shape)
    strong = mask if lossless else mask & _above(change, np.asarray(cv2.convertScaleAbs(spread, alpha=0.65), np.uint8))
    content = (spread > 24).view(np.uint8)
    grain = max(1.0, shape[0] / mask.shape[1], shape[1] / mask.shape[0])
    masks = np.asarray(mask | strong << 1 | tampered << 2 | content << 3, np.uint8)
    flags = _in_frame(masks, origin, shape, (height, width))
    return Ink(
        mask=np.asarray(flags & 1, np.uint8),
        strong=np.asarray(flags >> 1 & 1, np.uint8),
        change=_in_frame(change, origin, shape, (height, width)),
        limit=_in_frame(np.asarray(limit, np.uint8), origin, shape, (height, width)),
        tampered=np.asarray(flags >> 2 & 1, np.uint8),
        content=np.asarray(flags >> 3, np.uint8),
        image=image,
        made=made,
        placement=placement,
        outside=1 - shape[0] * shape[1] / (width * height),
        exact=exact,
        lossless=lossless,
        rough=rough,
        grain=grain,
    )


def _above(values: Gray, limit: Gray) -> Mask:
    return np.asarray(cv2.compare(values, limit, cv2.CMP_GT), np.uint8) & np.uint8(1)


def _in_frame(part: Gray, origin: tuple[int, int], shape: tuple[int, int], frame: tuple[int, int]) -> Gray:
    """Returns a mask of the whole input, of shape `frame` (height, width), from a mask of the compared part."""
    if shape != part.shape[::-1]:
        part = np.asarray(cv2.resize(part, shape, interpolation=cv2.INTER_NEAREST), np.uint8)
    if part.shape == frame:
        return part
    canvas = np.zeros(frame, np.uint8)
    canvas[origin[1] : origin[1] + shape[1], origin[0] : origin[0] + shape[0]] = part
    return canvas


def _common(
    image: Pixels, made: Pixels, placement: Placement
) -> tuple[Pixels, Pixels, tuple[int, int], tuple[int, int]]:
    """Returns both images on the coarser of their two pixel grids, and the compared box of the input (origin, size)."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = placement.window(image.shape, made.shape)
    left, top = max(0, round((x1 - placement.tx) / placement.sx)), max(0, round((y1 - placement.ty) / placement.sy))
    right = min(width, round((x2 - placement.tx) / placement.sx))
    bottom = min(height, round((y2 - placement.ty) / placement.sy))
    box = (left, top), (right - left, bottom - top)
    if placement.whole:
        return image[top:bottom, left:right], made[y1:y2, x1:x2], *box
    if min(placement.sx, placement.sy) < 1:
        shifted = Placement(placement.sx, placement.sy, placement.tx - x1, placement.ty - y1)
        return lay(image, shifted, (x2 - x1, y2 - y1)), made[y1:y2, x1:x2], *box
    back = Placement(
        1 / placement.sx, 1 / placement.sy, -placement.tx / placement.sx - left, -placement.ty / placement.sy - top
    )
    return image[top:bottom, left:right], lay(made, back, box[1]), *box


def _near_strong(change: Gray) -> Gray:
    """Returns for each pixel the largest change that the edge or ringing of nearby ink may cause."""
    blocks = cv2.dilate(change, np.ones((4, 4), np.uint8), anchor=(0, 0))[::4, ::4]
    strong = cv2.dilate(blocks, np.ones((2 * _REACH // 4 + 1, 2 * _REACH // 4 + 1), np.uint8))
    strong = cv2.convertScaleAbs(strong, alpha=_NEAR_STRONG)
    return np.asarray(cv2.resize(strong, change.shape[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def _clean(change: Gray, near_strong: Gray) -> bool:
    """Returns whether there are few faint changes around the ink; compression would cause many."""
    step = 2 if change.size < 2e5 else 4
    around = near_strong[::step, ::step] > FAINT / 2
    near = change[::step, ::step]
    faint = (near >= 1) & (near <= FAINT)
    return float(faint[around].mean()) < 0.06 if around.any() else True


def _calm(expected: Pixels, seen: Pixels) -> Mask:
    """Returns the pixels around which the mean colour is unchanged: blur and compression keep it, and ink doesn't."""
    size = max(1, expected.shape[1] // _BLOCK), max(1, expected.shape[0] // _BLOCK)
    whole = np.s_[: size[1] * _BLOCK, : size[0] * _BLOCK]
    one, other = (cv2.resize(image[whole], size, interpolation=cv2.INTER_AREA) for image in (expected, seen))
    calm = np.asarray(largest_channel(np.asarray(cv2.absdiff(one, other), np.uint8)) <= _CALM, np.uint8)
    return np.asarray(cv2.resize(calm, expected.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def _noise(change: Gray, spread: Gray, calm: Mask) -> tuple[float, float]:
    """Returns the noise of flat pixels in levels, and that of the other pixels as a share of the input's local range.

    Both are quantiles over the calm pixels, unless these are few. Both have an upper limit; a stronger difference is a
    change.
    """
    step = 2 if change.size < 2e5 else 5
    if min(change.shape) < 2:
        return 0.0, 0.0
    change, spread, calm = change[1::step, 1::step], spread[1::step, 1::step], calm[1::step, 1::step]
    if calm.mean() > 0.2:
        change, spread = change[calm > 0], spread[calm > 0]
    flat = change[spread <= 8]
    busy = spread > 16
    level = 2.0 * float(np.percentile(flat, 85)) if flat.size > 50 else 0.0
    share = 0.0
    # compression and interpolation change most busy pixels; a small image has few, of which ink may cover some
    if busy.sum() > 50 and float((change[busy] == 0).mean()) < _UNCHANGED:
        usual, rare = np.percentile(change[busy] / spread[busy].astype(np.float32), (85, 98))
        share = max(1.7 * float(usual), float(rare))
    return min(level, 24.0), min(max(share, _LEAST_SPREAD if share else 0.0), _LARGEST_SPREAD)


def _ringing(change: Gray, spread: Gray, wide: Gray, calm: Mask) -> float:
    """Returns the noise of compression beside an edge, as a share of the range `wide` of the 9 x 9 pixels around."""
    step = 2 if change.size < 2e5 else 5
    change, spread, wide, calm = (part[1::step, 1::step] for part in (change, spread, wide, calm))
    beside = (spread <= 16) & (wide > 48)
    if (beside & (calm > 0)).sum() > 50:
        beside &= calm > 0
    if beside.sum() <= 50:
        return _LARGEST_SPREAD
    usual, rare = np.percentile(change[beside] / wide[beside].astype(np.float32), (85, 98))
    return max(1.7 * float(usual), float(rare), _LEAST_RINGING)


def _change(expected: Pixels, seen: Pixels) -> Gray:
    return largest_channel(np.asarray(cv2.absdiff(expected, seen), np.uint8))


def _gray_change(expected: Pixels, seen: Pixels) -> Gray:
    return np.asarray(cv2.absdiff(_gray(expected), _gray(seen)), np.uint8)


def _gray(image: Pixels) -> Gray:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _as_sharp(expected: Pixels, seen: Pixels) -> Pixels:
    """Blurs the expected image like the made image; the blur is measured on a part in the middle."""
    height, width = expected.shape[:2]
    part = np.s_[max(0, height // 2 - 150) : height // 2 + 150, max(0, width // 2 - 150) : width // 2 + 150]
    one, other = (cv2.cvtColor(image[part], cv2.COLOR_RGB2GRAY) for image in (expected, seen))
    ink = cv2.absdiff(cv2.blur(one, (9, 9)), cv2.blur(other, (9, 9))) > _CALM  # ink isn't blur
    limit = np.where(ink, 0, 60).astype(np.uint8)
    losses = {0.0: cv2.mean(cv2.min(cv2.absdiff(one, other), limit))[0]}
    for sigma in (0.45, 0.65, 0.85, 1.1):
        losses[sigma] = cv2.mean(cv2.min(cv2.absdiff(cv2.GaussianBlur(one, (0, 0), sigma), other), limit))[0]
    best = min(losses, key=lambda sigma: losses[sigma])
    return np.asarray(cv2.GaussianBlur(expected, (0, 0), best), np.uint8) if best else expected


def _same_contrast(expected: Gray, seen: Gray, *, exact: bool) -> bool:
    """Returns whether blocks without ink, whose means blur and compression keep, have the contrast of the input."""
    one, other = expected.astype(np.float64), seen.astype(np.float64)
    if one.size < 30 or one.std() < 3:
        return True
    slope = float(np.cov(one, other)[0, 1] / one.var())
    return abs(slope - 1) < (0.075 if exact else 0.2)


def _sharp(expected: Pixels, seen: Pixels, spread: Gray, mask: Mask) -> bool:
    """Returns whether the edges of the input, without ink, are about as steep in the made image; reads a third."""
    edges = (spread[::3, 1:] > 24) & (mask[::3, 1:] == 0)
    if edges.sum() < 50:
        return True
    steep = []
    for image in (expected, seen):
        rows = np.ascontiguousarray(_gray(np.ascontiguousarray(image[::3])))
        steep.append(float(cv2.absdiff(rows[:, 1:], rows[:, :-1])[edges].mean()))
    return steep[1] >= _STEEP * steep[0]


def _smooth(image: Pixels, sigma: float = 0.8) -> Pixels:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _forget_border(mask: Mask, tampered: Mask, made: tuple[int, ...]) -> None:
    """Removes marks on the border of the input, which has axes and pixels mixed with the canvas."""
    width = 3 + round(max(made) / 600)
    for part, rim in ((mask, width), (tampered, width + 2 * _BLOCK)):
        part[:rim] = part[-rim:] = 0
        part[:, :rim] = part[:, -rim:] = 0


def _tampered(expected: Pixels, seen: Pixels, spread: Gray, mask: Mask, *, exact: bool) -> Mask:
    """Returns the pixels of the blocks that have another mean colour or other noise than in the input.

    It returns all pixels if the blocks without ink have another contrast, or the edges between them were blurred.
    """
    block = _BLOCK if exact else 2 * _BLOCK
    size = max(1, mask.shape[1] // block), max(1, mask.shape[0] // block)

    def mean(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        whole = image[: size[1] * block, : size[0] * block]  # whole blocks are averaged fast
        return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)

    texture = cv2.dilate(mean(spread).astype(np.float32), np.ones((3, 3), np.uint8))
    one, other = mean(expected), mean(seen)
    shift = np.asarray(cv2.absdiff(_gray(one), _gray(other)), np.float32)
    coloured = largest_channel(np.asarray(cv2.absdiff(one, other), np.uint8)).astype(np.float32)
    # compression keeps the colour of thin lines less than their brightness
    shifts, colours, noise = (0.05, 0.25, 0.05) if exact else (0.25, 0.25, 0.5)
    tampered = (shift > 4 + shifts * texture) | (coloured > 4 + colours * texture)
    tampered |= mean(_gray_change(expected, seen)) > 6 + noise * texture
    inked = np.asarray(mean(mask * 255) > 0, np.uint8)
    free = cv2.dilate(inked, np.ones((3, 3), np.uint8)) == 0
    if free.sum() < 30:
        free = inked == 0
    if not (_same_contrast(_gray(one)[free], _gray(other)[free], exact=exact) and _sharp(expected, seen, spread, mask)):
        tampered[:] = True
    whole = min(mask.shape[1], size[0] * block), min(mask.shape[0], size[1] * block)
    result = np.zeros_like(mask)
    result[: whole[1], : whole[0]] = cv2.resize(tampered.astype(np.uint8), whole, interpolation=cv2.INTER_NEAREST)
    return result
