"""Places the input in the made image, by a scale and a shift, and compares the two under a placement."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from codevision_ext.drawing.pixels import Gray

_MOST = 40
"""Largest difference of a pixel that counts in a loss, in levels of 0 to 255: ink counts no more than that."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Map from coordinates of the input to those of the made image: scale * x + shift. Pixel i covers [i, i + 1]."""

    sx: float
    sy: float
    tx: float
    ty: float

    @property
    def whole(self) -> bool:
        """True if every pixel of the input is one pixel of the made image, so that nothing is interpolated."""
        return self.sx == self.sy == 1 and self.tx == int(self.tx) and self.ty == int(self.ty)

    @property
    def even(self) -> bool:
        """True if the scales of x and y are about equal."""
        return abs(self.sx / self.sy - 1) < 0.02

    def moved(self, x: float, y: float) -> "Placement":
        """Returns the placement with a larger shift."""
        return Placement(self.sx, self.sy, self.tx + x, self.ty + y)

    def window(self, shape: Sequence[int], made: Sequence[int]) -> tuple[int, int, int, int]:
        """Returns the box (x1, y1, x2, y2) that an input of `shape` covers in a made image of shape `made`, pixels."""
        x2 = min(made[1], round(self.tx + self.sx * shape[1]))
        y2 = min(made[0], round(self.ty + self.sy * shape[0]))
        return max(0, round(self.tx)), max(0, round(self.ty)), x2, y2


def lay(image: npt.NDArray[np.uint8], placement: Placement, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Returns the input as a made image of `size` (width, height) shows it; pixels outside repeat its border."""
    return warp(smooth(image, placement), placement, size)


def smooth(image: npt.NDArray[np.uint8], placement: Placement) -> npt.NDArray[np.uint8]:
    """Returns the image without the details that are lost if the placement makes it smaller."""
    sigmas = [0.42 * float(np.sqrt(max(0.0, s**-2 - 1))) for s in (placement.sx, placement.sy)]
    if max(sigmas) < 0.2:
        return image
    size = (3, 3) if max(sigmas) < 0.8 else (0, 0)  # three pixels are fast, and enough for a small sigma
    return np.asarray(cv2.GaussianBlur(image, size, max(sigmas[0], 0.1), sigmaY=max(sigmas[1], 0.1)), np.uint8)


def warp(image: npt.NDArray[np.uint8], placement: Placement, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Returns the image mapped by a placement to an image of `size` (width, height), by linear interpolation."""
    sx, sy = placement.sx, placement.sy
    matrix = np.array([[sx, 0, sx / 2 + placement.tx - 0.5], [0, sy, sy / 2 + placement.ty - 0.5]])
    laid = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(laid, np.uint8)


def local_range(image: npt.NDArray[np.uint8], side: int = 3) -> npt.NDArray[np.uint8]:
    """Returns the difference of the largest and the smallest value in the square around every pixel."""
    square = np.ones((side, side), np.uint8)
    return np.asarray(cv2.subtract(cv2.dilate(image, square), cv2.erode(image, square)), np.uint8)


@dataclass(frozen=True, slots=True)
class Pair:
    """The input and the made image in gray, both made smaller by a whole number."""

    image: Gray
    made: Gray
    by: int = 1
    """Side of a pixel of `image`, pixels of the input."""
    made_by: int = 1
    """Side of a pixel of `made`, pixels of the made image."""

    def smaller(self, side: int) -> "Pair":
        """Returns the pair with sides of at most `side` pixels."""
        by, made_by = (-(-max(part.shape) // side) for part in (self.image, self.made))
        return Pair(_shrunk(self.image, by), _shrunk(self.made, made_by), self.by * by, self.made_by * made_by)

    def inner(self, place: Placement) -> Placement:
        """Returns a placement of the full images as one of this pair."""
        by = self.by / self.made_by
        return Placement(place.sx * by, place.sy * by, place.tx / self.made_by, place.ty / self.made_by)

    def outer(self, place: Placement) -> Placement:
        """Returns a placement of this pair as one of the full images."""
        by = self.made_by / self.by
        return Placement(place.sx * by, place.sy * by, place.tx * self.made_by, place.ty * self.made_by)

    def loss(self, place: Placement) -> float:
        """Returns the mean difference, in levels, between the made image and the input on a canvas of one colour.

        The result is infinite if more than a tenth of the input isn't in the made image.
        """
        both = self._both(place)
        if both is None:
            return float("inf")
        laid, seen, (x1, y1, x2, y2) = both
        canvas = np.full_like(self.made, self.made[0, 0])
        outside = np.minimum(cv2.absdiff(self._smooth_made(), canvas), _MOST)
        inside = float(cv2.sumElems(np.minimum(cv2.absdiff(laid, seen), _MOST))[0])
        beyond = float(cv2.sumElems(outside)[0] - cv2.sumElems(outside[y1:y2, x1:x2])[0])
        return (inside + beyond) / self.made.size

    def agreement(self, place: Placement) -> tuple[float, float]:
        """Returns the shares of the input's pixels, and of its pixels with content, that agree with the made image."""
        both = self._both(place)
        if both is None:
            return 0.0, 0.0
        laid, seen, _ = both
        spread = local_range(laid)
        agrees = cv2.absdiff(laid, seen) <= np.minimum(12 + 0.35 * spread, 60)
        content = spread > 16
        share = float(agrees.mean())
        return share, float(agrees[content].mean()) if content.sum() >= 20 else share

    def refined(self, place: Placement, rounds: int, most: float = 1.0) -> Placement:
        """Returns a placement with a smaller residual, found by Gauss-Newton steps in which small residuals weigh more.

        It is the placement itself unless the loss gets smaller than `most` times the loss before.
        """
        start = self.inner(place)
        inner = self._stepped(start, rounds)
        return self.outer(inner) if self.loss(inner) < most * self.loss(start) else place

    def _both(self, place: Placement) -> tuple[Gray, Gray, tuple[int, int, int, int]] | None:
        """Returns the input and the made image in the window of a placement, slightly smoothed, and the window."""
        x1, y1, x2, y2 = box = place.window(self.image.shape, self.made.shape)
        whole = place.sx * self.image.shape[1] * place.sy * self.image.shape[0]
        if min(x2 - x1, y2 - y1) < 8 or (x2 - x1) * (y2 - y1) < 0.9 * whole:
            return None
        laid = cv2.GaussianBlur(lay(self.image, place.moved(-x1, -y1), (x2 - x1, y2 - y1)), (3, 3), 0)
        return np.asarray(laid, np.uint8), self._smooth_made()[y1:y2, x1:x2], box

    def _smooth_made(self) -> Gray:
        return np.asarray(cv2.GaussianBlur(self.made, (3, 3), 0), np.uint8)

    def _stepped(self, place: Placement, rounds: int) -> Placement:
        limit = 40.0
        smoothed = smooth(self.image, place)
        for _ in range(rounds):
            x1, y1, x2, y2 = place.window(self.image.shape, self.made.shape)
            if min(x2 - x1, y2 - y1) < 8:
                return place
            laid = cv2.GaussianBlur(warp(smoothed, place.moved(-x1, -y1), (x2 - x1, y2 - y1)), (3, 3), 0)
            seen = cv2.GaussianBlur(self.made[y1:y2, x1:x2], (3, 3), 0)
            step = _step(np.asarray(laid, np.uint8), np.asarray(seen, np.uint8), limit)
            # a shift that grows along the axis is a change of scale: the coordinates run from -1 to 1 over the window
            gain_x, gain_y = 2 * step[1] / (x2 - x1), 2 * step[3] / (y2 - y1)
            middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
            place = Placement(
                float(place.sx * (1 + gain_x)),
                float(place.sy * (1 + gain_y)),
                float(middle_x + (place.tx - middle_x) * (1 + gain_x) + step[0]),
                float(middle_y + (place.ty - middle_y) * (1 + gain_y) + step[2]),
            )
            limit = max(24.0, limit * 0.85)
            if np.abs(step).max() < 0.01:
                break
        return place


def _step(laid: Gray, seen: Gray, limit: float) -> npt.NDArray[np.float64]:
    """Returns the shift and its growth along the axis, for x and for y, that make the residual smaller, pixels."""
    dx, dy = (cv2.Scharr(laid, cv2.CV_32F, *order, scale=-1 / 32) for order in ((1, 0), (0, 1)))
    difference = cv2.subtract(seen, laid, dtype=cv2.CV_32F)
    weights = np.maximum(1 - cv2.multiply(difference, difference, scale=limit**-2), 0)
    weights *= weights
    weighted_x, weighted_y = cv2.multiply(weights, dx), cv2.multiply(weights, dy)
    height, width = difference.shape
    u, v = (np.stack([np.ones(n), np.linspace(-1, 1, n)], axis=1).astype(np.float32) for n in (width, height))
    ones = v[:, 0], u[:, 0]
    normal, right = np.empty((4, 4)), np.empty(4)
    normal[:2, :2] = (u.T * (ones[0] @ cv2.multiply(weighted_x, dx))) @ u
    normal[2:, 2:] = (v.T * (cv2.multiply(weighted_y, dy) @ ones[1])) @ v
    normal[2:, :2] = v.T @ (cv2.multiply(weighted_x, dy) @ u)
    normal[:2, 2:] = normal[2:, :2].T
    right[:2] = (ones[0] @ cv2.multiply(weighted_x, difference)) @ u
    right[2:] = (cv2.multiply(weighted_y, difference) @ ones[1]) @ v
    step = np.linalg.solve(normal + np.eye(4) * (1e-3 * np.trace(normal) / 4 + 1e-6), right)
    return np.asarray(np.clip(step, -3, 3), np.float64)


def _shrunk(gray: Gray, by: int) -> Gray:
    """Returns the means of squares of `by` pixels; pixels beyond the last whole square are left out."""
    if by == 1:
        return gray
    height, width = (max(1, side // by) for side in gray.shape)
    squares = gray[: height * by, : width * by]
    return np.asarray(cv2.resize(squares, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
