"""Finds the ink of a drawing: the pixels where the made image differs from the input more than its noise explains."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from codevision_ext.drawing.pixels import Gray, Pixels, largest_channel
from codevision_ext.drawing.registration import Placement, lay, local_range, window

Mask = npt.NDArray[np.uint8]
"""Mask in the frame of the input, shape (height, width); 0 or 1."""

FAINT = 12
"""Change of a channel that may be ink, in levels of 0 to 255."""
_NEAR_STRONG = 0.25
"""Share of the strongest change nearby; a change below it counts as the edge or the ringing of that stronger ink."""
_REACH = 16
"""Maximum distance of ink that is nearby, in pixels: the side of a JPEG block with halved colour resolution."""
_LEAST_SPREAD = 0.35
"""Minimum noise, as a share of the local range, that is assumed if there is any noise."""
_ROUGH = 0.45
"""Noise, as a share of the local range, above which both images are smoothed before they are compared."""
_BLOCK = 8
"""Side of the blocks whose mean colour and noise are compared, pixels."""
_LARGEST_SPREAD = 0.6
"""Maximum noise of interpolation or compression, as a share of the local range of the input."""


@dataclass(frozen=True, slots=True)
class Ink:
    """Pixels in which the made image differs from the input, in coordinates of the input."""

    mask: Mask
    """Pixels with ink."""
    strong: Mask
    """Pixels with ink whose change is about as large as the contrast of the input around them."""
    change: Gray
    """Largest change of a channel, levels."""
    tampered: Mask
    """Pixels of the blocks whose mean colour or whose noise changed, whether or not they have ink."""
    content: Mask
    """Pixels where the input has edges or texture."""
    outside: float
    """Share of the input that the made image doesn't show, in [0, 1]."""
    exact: bool
    """True if the pixels were compared without interpolation."""
    lossless: bool
    """True if all pixels without ink equal those of the input exactly."""
    rough: bool
    """True if both images were smoothed before the comparison, because of their fine texture."""
    grain: float
    """Side of a pixel of the comparison in pixels of the input; above 1 if the made image is smaller."""


def find_ink(image: Pixels, made: Pixels, placement: Placement) -> Ink:
    """Compares the made image with the input, which `placement` locates in it."""
    height, width = image.shape[:2]
    expected, seen, origin, shape = _common(image, made, placement)
    exact = placement.whole
    if not exact:
        expected, seen = _smooth(_as_sharp(expected, seen)), _smooth(seen)
    change = _change(expected, seen)
    spread = local_range(_gray(expected)) if exact else largest_channel(local_range(expected, 5))
    noise = _noise(change, spread)
    if exact and noise != (0, 0):
        expected = _as_sharp(expected, seen)
        change, spread = _change(expected, seen), largest_channel(local_range(expected, 3))
        noise = _noise(change, spread)
    before = expected, seen, spread
    rough = noise[1] > _ROUGH
    if rough:  # fine texture, which interpolation or compression has averaged
        expected, seen = _smooth(expected, 1.6), _smooth(seen, 1.6)
        change, spread = _change(expected, seen), largest_channel(local_range(expected, 5))
        noise, exact = _noise(change, spread), False
    limit = _near_strong(change)
    lossless = exact and noise == (0, 0) and _clean(change, limit)
    if lossless:
        mask = (change > FAINT).astype(np.uint8)
    else:
        wide = np.asarray(cv2.dilate(spread, np.ones((9, 9), np.uint8)), np.uint8) if exact else spread
        limit = np.maximum(limit, cv2.convertScaleAbs(wide, alpha=noise[1]))
        mask = (change > np.maximum(limit, np.uint8(max(FAINT, round(noise[0]))))).astype(np.uint8)
    tampered = np.zeros_like(mask)
    if not lossless:
        whole = placement.whole
        tampered = _tampered(*(before if whole else (expected, seen, spread)), exact=whole)
        if not _same_contrast(expected, seen, mask, exact=whole):
            tampered[:] = 1
    if not placement.whole:
        _forget_border(mask, tampered, made.shape)
    strong = mask if lossless else mask & (change > 0.65 * spread).astype(np.uint8)
    content = (spread > 24).astype(np.uint8)
    grain = max(1.0, shape[0] / mask.shape[1], shape[1] / mask.shape[0])
    return Ink(
        mask=_in_frame(mask, origin, shape, (height, width)),
        strong=_in_frame(strong, origin, shape, (height, width)),
        change=_in_frame(change, origin, shape, (height, width)),
        tampered=_in_frame(tampered, origin, shape, (height, width)),
        content=_in_frame(content, origin, shape, (height, width)),
        outside=1 - shape[0] * shape[1] / (width * height),
        exact=exact,
        lossless=lossless,
        rough=rough,
        grain=grain,
    )


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
    """Returns both images on the coarser of their two pixel grids, and the box of the input (origin, size) they show.

    If the made image is coarser, the input is resized to its pixels. Otherwise the made image is resized to the pixels
    of the input.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = window(image, placement, made)
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
    """Returns the largest change that the edge or the ringing of the strongest ink nearby may have."""
    blocks = cv2.dilate(change, np.ones((4, 4), np.uint8), anchor=(0, 0))[::4, ::4]
    strong = cv2.dilate(blocks, np.ones((2 * _REACH // 4 + 1, 2 * _REACH // 4 + 1), np.uint8))
    strong = cv2.convertScaleAbs(strong, alpha=_NEAR_STRONG)
    return np.asarray(cv2.resize(strong, change.shape[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def _clean(change: Gray, near_strong: Gray) -> bool:
    """Returns whether the ink has few faint changes around it; compression would leave many."""
    step = 2 if change.size < 2e5 else 4
    around = near_strong[::step, ::step] > FAINT / 2
    near = change[::step, ::step]
    faint = (near >= 1) & (near <= FAINT)
    return float(faint[around].mean()) < 0.06 if around.any() else True


def _noise(change: Gray, spread: Gray) -> tuple[float, float]:
    """Returns the noise of flat pixels in levels, and that of the other pixels as a share of the input's local range.

    Both are quantiles that a drawing is too small to move. Both have an upper limit; a stronger difference is a change.
    """
    step = 2 if change.size < 2e5 else 5
    change, spread = change[1::step, 1::step], spread[1::step, 1::step]
    flat = change[spread <= 8]
    busy = spread > 16
    level = 2.0 * float(np.percentile(flat, 85)) if flat.size > 50 else 0.0
    share = 0.0
    if busy.sum() > 50:
        share = 1.7 * float(np.percentile(change[busy] / spread[busy].astype(np.float32), 85))
    return min(level, 24.0), min(max(share, _LEAST_SPREAD if share else 0.0), _LARGEST_SPREAD)


def _change(expected: Pixels, seen: Pixels) -> Gray:
    return largest_channel(np.asarray(cv2.absdiff(expected, seen), np.uint8))


def _gray_change(expected: Pixels, seen: Pixels) -> Gray:
    return np.asarray(cv2.absdiff(_gray(expected), _gray(seen)), np.uint8)


def _gray(image: Pixels) -> Gray:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _as_sharp(expected: Pixels, seen: Pixels) -> Pixels:
    """Returns the expected image, blurred like the made image; the blur is measured on a part in the middle."""
    height, width = expected.shape[:2]
    part = np.s_[max(0, height // 2 - 200) : height // 2 + 200, max(0, width // 2 - 200) : width // 2 + 200]
    one, other = (cv2.cvtColor(image[part], cv2.COLOR_RGB2GRAY) for image in (expected, seen))
    losses = {0.0: np.minimum(cv2.absdiff(one, other), 60).mean()}
    for sigma in (0.45, 0.65, 0.85, 1.1):
        losses[sigma] = np.minimum(cv2.absdiff(cv2.GaussianBlur(one, (0, 0), sigma), other), 60).mean()
    best = min(losses, key=lambda sigma: losses[sigma])
    return np.asarray(cv2.GaussianBlur(expected, (0, 0), best), np.uint8) if best else expected


def _same_contrast(expected: Pixels, seen: Pixels, mask: Mask, *, exact: bool) -> bool:
    """Returns whether the pixels without ink have the same contrast in the made image as in the input."""
    size = max(1, mask.shape[1] // _BLOCK), max(1, mask.shape[0] // _BLOCK)  # blur and compression keep means of blocks

    def mean(image: Gray) -> npt.NDArray[np.uint8]:
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)

    free = mean(mask * 255) == 0
    one, other = (mean(_gray(image))[free].astype(np.float64) for image in (expected, seen))
    if one.size < 30 or one.std() < 3:
        return True
    slope = float(np.cov(one, other)[0, 1] / one.var())
    return abs(slope - 1) < (0.075 if exact else 0.2)


def _smooth(image: Pixels, sigma: float = 0.8) -> Pixels:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _forget_border(mask: Mask, tampered: Mask, made: tuple[int, ...]) -> None:
    """Removes marks on the border of the input: axes are drawn there, and pixels mix with the canvas."""
    width = 3 + round(max(made) / 600)
    for part, rim in ((mask, width), (tampered, width + 2 * _BLOCK)):
        part[:rim] = part[-rim:] = 0
        part[:, :rim] = part[:, -rim:] = 0


def _tampered(expected: Pixels, seen: Pixels, spread: Gray, *, exact: bool) -> Mask:
    """Returns the pixels of the blocks that have another mean colour or other noise than in the input."""
    gray = _gray_change(expected, seen)
    block = _BLOCK if exact else 2 * _BLOCK
    size = max(1, gray.shape[1] // block), max(1, gray.shape[0] // block)

    def mean(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        whole = image[: size[1] * block, : size[0] * block]  # whole blocks are averaged fast
        return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)

    texture = mean(spread).astype(np.float32)
    shift = largest_channel(np.asarray(cv2.absdiff(mean(expected), mean(seen)), np.uint8)).astype(np.float32)
    shifts, noise = (0.05, 0.05) if exact else (0.25, 0.5)
    tampered = (shift > 4 + shifts * texture) | (mean(gray) > 6 + noise * texture)
    whole = min(gray.shape[1], size[0] * block), min(gray.shape[0], size[1] * block)
    mask = np.zeros(gray.shape, np.uint8)
    mask[: whole[1], : whole[0]] = cv2.resize(tampered.astype(np.uint8), whole, interpolation=cv2.INTER_NEAREST)
    return mask
