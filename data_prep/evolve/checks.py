"""Checks items without a model: rules for texts and places, rules for images, and pixel checks of drawings.

Each check is a function that returns None, or a Rejection with its reason. None of them runs code.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codevision_ext.drawing import DrawingTarget, check_inside, verify
from codevision_ext.drawing.targets import Point
from codevision_ext.errors import InputError
from codevision_ext.geometry import tolerance
from codevision_ext.task.coordinate_answers import read_places
from codevision_ext.types import AnswerKind
from data_prep.evolve.item import Element, Item
from data_prep.evolve.labels import wrong_label
from data_prep.evolve.names import normal_name


class RejectReason(StrEnum):
    """Reason for which an item isn't used."""

    NOT_THE_PARENTS = "not_the_parents"
    """The extension of an item doesn't keep its image and its drawings, or adds more or less than one drawing."""
    BLANK_TEXT = "blank_text"
    HINT = "hint"
    """The question gives the construction away."""
    NOT_A_CHOICE = "not_a_choice"
    ANSWER_NOT_IN_SOLUTION = "answer_not_in_solution"
    TARGET_OUTSIDE = "target_outside"
    ELEMENT_OUTSIDE = "element_outside"
    ANSWER_PLACE = "answer_place"
    """The answer is a place outside of the image, or differs from the element that it names."""
    LABEL = "label"
    """The code writes another label where the list of elements has one."""
    ORIGINAL_FAILED = "original_failed"
    SIZE = "size"
    """The image that the code draws hasn't the size of the item."""
    BLANK_IMAGE = "blank_image"
    CUT = "cut"
    """A label or a marker ends at the edge of the image."""
    ELEMENT_MISSING = "element_missing"
    """There is no ink where an element of the list should be."""
    OVERLAY_FAILED = "overlay_failed"
    NOT_DRAWN = "not_drawn"
    """The overlay doesn't draw its target, or draws something else."""
    DRAWN_BEFORE = "drawn_before"
    """The original image shows the target already, so the drawing isn't needed."""
    NOT_TOGETHER = "not_together"
    """The overlays, one upon the other, don't draw all targets."""
    STEP_NOT_NEEDED = "step_not_needed"
    """The last of several drawings gives the same image without the earlier ones, though it should build on them."""
    NO_SCORE = "no_score"
    """The checker gave no score that can be read, twice."""
    ORIGINAL_SCORE = "original_score"
    OVERLAY_SCORE = "overlay_score"
    ANSWER_SCORE = "answer_score"
    UNSOLVED = "unsolved"
    """Even with the drawing, too few blind solves are right."""
    NOT_NEEDED = "not_needed"
    """The interval doesn't say that blind solves with the drawing are right more often than without."""
    SAME_IMAGE = "same_image"
    SAME_TEXT = "same_text"
    """Another item has the same question on the same image."""
    SAME_CODE = "same_code"
    LEAKED_IMAGE = "leaked_image"
    LEAKED_TEXT = "leaked_text"
    SAME_ID = "same_id"


_STAGES: Final = {
    "parse": (
        RejectReason.NOT_THE_PARENTS,
        RejectReason.BLANK_TEXT,
        RejectReason.HINT,
        RejectReason.NOT_A_CHOICE,
        RejectReason.ANSWER_NOT_IN_SOLUTION,
        RejectReason.TARGET_OUTSIDE,
        RejectReason.ELEMENT_OUTSIDE,
        RejectReason.ANSWER_PLACE,
        RejectReason.LABEL,
    ),
    "original": (RejectReason.ORIGINAL_FAILED,),
    "canvas": (RejectReason.SIZE, RejectReason.BLANK_IMAGE, RejectReason.CUT, RejectReason.ELEMENT_MISSING),
    "overlay": (RejectReason.OVERLAY_FAILED,),
    "pixels": (
        RejectReason.NOT_DRAWN,
        RejectReason.DRAWN_BEFORE,
        RejectReason.NOT_TOGETHER,
        RejectReason.STEP_NOT_NEEDED,
    ),
    "judge": (
        RejectReason.NO_SCORE,
        RejectReason.ORIGINAL_SCORE,
        RejectReason.OVERLAY_SCORE,
        RejectReason.ANSWER_SCORE,
    ),
    "solve": (RejectReason.UNSOLVED, RejectReason.NOT_NEEDED),
    "dedupe": (
        RejectReason.SAME_IMAGE,
        RejectReason.SAME_TEXT,
        RejectReason.SAME_CODE,
        RejectReason.LEAKED_IMAGE,
        RejectReason.LEAKED_TEXT,
        RejectReason.SAME_ID,
    ),
}
STAGE_OF: Final[Mapping[RejectReason, str]] = {
    reason: stage for stage, reasons in _STAGES.items() for reason in reasons
}
"""Stage that finds each reason."""
HINTS: Final = re.compile(
    r"\b(?:draw(?:s|n|ing|ings)?|construct(?:s|ed|ing|ion|ions)?|connect(?:s|ed|ing)?|join(?:s|ed|ing)?|auxiliary"
    r"|extend(?:s|ed|ing)?|prolong\w*|sketch\w*|overlay\w*|annotat\w*|trac(?:e|ing)|plot(?:ting)? (?:the|a)"
    r"|helper line|help line|add (?:the|a|an) \w*\s?(?:line|segment|point|circle)|drop (?:the|a) perpendicular)\b",
    re.IGNORECASE,
)
"""Regular expression of words that hint at a construction."""
_CHOICE: Final = re.compile(r"(?:^|[\s(])\(?([A-H])[.):]\s+(.+?)(?=(?:[\s(])\(?[A-H][.):]\s|\Z)", re.DOTALL)
_INK: Final = 24
"""Minimum difference of a pixel from the background, levels of 0 to 255."""
_LEAST_INK: Final = 0.001
"""Minimum share of an image that isn't background, in [0, 1]."""
_SMALL: Final = 0.06
"""Maximum extent of a label or a marker, as a share of the image's diagonal."""
_SEEN: Final = 0.7
"""Minimum share of an element's outline that lies on ink, in [0, 1]; dashed lines have gaps."""
_LABEL_PX: Final = 24
"""Distance from its place within which a text shows ink, pixels."""
_CONTAINED: Final = 0.9
"""Minimum recall of each primitive that an image shows, and share of ink at a point that it marks, in [0, 1]."""
_DOT_PX: Final = 3.0
"""Radius of the smallest mark of a point, pixels."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Reason for which an item isn't used, with the details."""

    reason: RejectReason
    detail: str

    @property
    def stage(self) -> str:
        """Name of the stage that finds the reason."""
        return STAGE_OF[self.reason]


def check_texts(item: Item) -> Rejection | None:
    """Check that question, answer and solution aren't blank."""
    for name in ("question", "answer", "solution"):
        if not getattr(item, name).strip():
            return Rejection(reason=RejectReason.BLANK_TEXT, detail=f"the {name} is blank")
    return None


def check_hints(item: Item) -> Rejection | None:
    """Check that the question doesn't name a construction: neither a word of HINTS nor the name of a tool it needs."""
    if not item.overlays:
        return None
    if match := HINTS.search(item.question):
        return Rejection(reason=RejectReason.HINT, detail=f"the question has the words {match[0]!r}")
    words = f" {normal_name(item.question)} "
    for tool in item.tools:
        if f" {normal_name(tool)} " in words:
            return Rejection(reason=RejectReason.HINT, detail=f"the question names the tool {tool!r}")
    return None


def choices_of(question: str) -> dict[str, str]:
    """Return the choices in a question by letter, such as `A. 3  B. 4`; empty unless A and B are among them."""
    choices = {match[1]: match[2].strip() for match in _CHOICE.finditer(question)}
    letters = [chr(ord("A") + number) for number in range(len(choices))]
    return choices if len(choices) > 1 and sorted(choices) == letters else {}


def check_choices(item: Item) -> Rejection | None:
    """Check that the answer is the letter or the text of a choice, if the question has choices."""
    choices = choices_of(item.question)
    answer = item.answer.strip().strip("().")
    if not choices or answer in choices or _plain(item.answer) in map(_plain, choices.values()):
        return None
    detail = f"the answer {item.answer!r:.40} is none of the choices {', '.join(sorted(choices))}"
    return Rejection(reason=RejectReason.NOT_A_CHOICE, detail=detail)


def check_solution(item: Item) -> Rejection | None:
    """Check that the solution states the answer, or the choice that the answer names; places aren't looked for."""
    if item.answer_kind is AnswerKind.COORDINATES:
        return None
    chosen = choices_of(item.question).get(item.answer.strip().strip("()."), "")
    solution = f" {_plain(item.solution)} "
    if any(_states(solution, _plain(text)) for text in (item.answer, chosen)):
        return None
    detail = f"the solution doesn't state the answer {item.answer!r:.40}"
    return Rejection(reason=RejectReason.ANSWER_NOT_IN_SOLUTION, detail=detail)


def _states(solution: str, text: str) -> bool:
    """Return whether a solution has a text that isn't part of a longer word or number."""
    edge = r"[^\W_]"
    return bool(text) and bool(re.search(rf"(?<!{edge})(?<!\d[.,]){re.escape(text)}(?!{edge})(?![.,]\d)", solution))


def check_targets(item: Item) -> Rejection | None:
    """Check that every place of the targets lies on the image."""
    for number, overlay in enumerate(item.overlays, start=1):
        try:
            check_inside(overlay.target, item.size, f"overlay {number}")
        except InputError as error:
            return Rejection(reason=RejectReason.TARGET_OUTSIDE, detail=str(error))
        if not overlay.target.primitives:
            return Rejection(reason=RejectReason.TARGET_OUTSIDE, detail=f"overlay {number}: the target is empty")
    return None


def check_elements(item: Item) -> Rejection | None:
    """Check that every place of the elements lies on the image."""
    width, height = item.size
    for number, element in enumerate(item.elements):
        for x, y in _element_places(element):
            if not (0 <= x < width and 0 <= y < height):
                detail = f"element {number} ({element.kind}): ({x:g}, {y:g}) lies outside of {width}x{height}"
                return Rejection(reason=RejectReason.ELEMENT_OUTSIDE, detail=detail)
    return None


def check_answer_places(item: Item) -> Rejection | None:
    """Check an answer in coordinates: its places lie on the image, and at the points that they name."""
    if item.answer_kind is not AnswerKind.COORDINATES:
        return None
    places = read_places(item.answer)
    if places is None:
        detail = f"the answer {item.answer!r:.40} can't be read as places"
        return Rejection(reason=RejectReason.ANSWER_PLACE, detail=detail)
    points = {
        str(element.fields.get("label")): place
        for element in item.elements
        if element.kind == "point"
        for place in _element_places(element)
    }
    for name, own in places.items():
        for x, y in own:
            if not (0 <= x < item.size[0] and 0 <= y < item.size[1]):
                detail = f"{name} at ({x:g}, {y:g}) lies outside of the image"
                return Rejection(reason=RejectReason.ANSWER_PLACE, detail=detail)
            if name in points and math.dist(points[name], (x, y)) > tolerance(item.size):
                detail = f"{name} is at ({x:g}, {y:g}) in the answer, and at {points[name]} among the elements"
                return Rejection(reason=RejectReason.ANSWER_PLACE, detail=detail)
    return None


def check_labels(item: Item) -> Rejection | None:
    """Check that the code writes the labels of the elements at their places; code that computes places isn't judged."""
    points: dict[str, tuple[float, float]] = {}
    texts: dict[str, tuple[float, float]] = {}
    for element in item.elements:
        label, place = str(element.fields.get("label", "")), next(_element_places(element), None)
        if label and place and element.kind in ("point", "text"):
            (points if element.kind == "point" else texts)[label] = place
    detail = wrong_label(item.original_code, points, texts, tolerance(item.size))
    return Rejection(reason=RejectReason.LABEL, detail=detail) if detail else None


def check_parent(item: Item, parent: Item) -> Rejection | None:
    """Check that an extension keeps image and drawings of its parent, and adds one drawing."""
    kept = item.overlays[:-1] == parent.overlays and item.parent == parent.id and item.relation
    if kept and item.original_code == parent.original_code and item.size == parent.size:
        return None
    detail = f"it isn't {parent.id} with one drawing more"
    return Rejection(reason=RejectReason.NOT_THE_PARENTS, detail=detail)


ITEM_CHECKS: Final = (
    check_texts,
    check_hints,
    check_choices,
    check_solution,
    check_targets,
    check_elements,
    check_answer_places,
    check_labels,
)
"""Checks of an item alone, in order; the first rejection counts."""


def check_canvas(item: Item, image: Image.Image) -> Rejection | None:
    """Check the original image: its size, that it shows something, and that no label is cut by its edge."""
    if image.size != item.size:
        detail = f"the image has {image.width}x{image.height} pixels, the item says {item.size[0]}x{item.size[1]}"
        return Rejection(reason=RejectReason.SIZE, detail=detail)
    ink = ink_mask(image)
    share = float(ink.mean())
    if share < _LEAST_INK:
        return Rejection(reason=RejectReason.BLANK_IMAGE, detail=f"{share:.2%} of the image isn't background")
    return _check_edge(ink)


def _check_edge(ink: Mask) -> Rejection | None:
    """Check that no small mark touches the edge; lines and curves may leave the image."""
    height, width = ink.shape
    if not (ink[0].any() or ink[-1].any() or ink[:, 0].any() or ink[:, -1].any()):
        return None
    _, _, boxes, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    small = _SMALL * math.hypot(width, height)
    for x, y, across, down, area in boxes[1:]:
        touches = x == 0 or y == 0 or x + across == width or y + down == height
        if touches and max(across, down) <= small and area >= 3:
            return Rejection(reason=RejectReason.CUT, detail=f"a mark at ({x}, {y}) ends at the edge")
    return None


def check_shown(item: Item, image: Image.Image) -> Rejection | None:
    """Check that the image has ink where the elements of the item are."""
    if not item.elements:
        return None
    distance = cv2.distanceTransform(np.where(ink_mask(image), 0, 1).astype(np.uint8), cv2.DIST_L2, 3)
    tau = tolerance(image.size)
    for number, element in enumerate(item.elements):
        path = [(x, y) for x, y in _outline(element) if 0 <= x < image.width and 0 <= y < image.height]
        reach = _LABEL_PX if element.kind in ("text", "symbol") else tau
        if len(path) and np.mean([distance[y, x] <= reach for x, y in path]) < _SEEN:
            detail = f"element {number} ({element.kind}, {element.semantic}) isn't in the image"
            return Rejection(reason=RejectReason.ELEMENT_MISSING, detail=detail)
    return None


def check_drawn(before: Image.Image, after: Image.Image, target: DrawingTarget, number: int) -> Rejection | None:
    """Check that overlay `number` draws its target on the image before it, and nothing else."""
    verdict = verify(before, after, target)
    if verdict.correct and before.size == after.size:
        return None
    reason = verdict.reason if before.size == after.size else f"the image has another size, {after.size}"
    return Rejection(reason=RejectReason.NOT_DRAWN, detail=f"overlay {number}: {reason}")


def check_not_before(original: Image.Image, target: DrawingTarget, number: int) -> Rejection | None:
    """Check that the original image doesn't show all of the target of overlay `number` already."""
    points = [each for each in target.primitives if isinstance(each, Point)]
    others = tuple(each for each in target.primitives if not isinstance(each, Point))
    if points:
        ink = ink_mask(original)
        if not all(_shows_dot(ink, point) for point in points):
            return None
    if others:
        blank = Image.new("RGB", original.size, background_of(original))
        if min(verify(blank, original, DrawingTarget(primitives=others)).recall) < _CONTAINED:
            return None
    return Rejection(
        reason=RejectReason.DRAWN_BEFORE, detail=f"overlay {number}: the original image shows its target already"
    )


def _shows_dot(ink: Mask, point: Point) -> bool:
    """Return whether a point is marked: ink all round it, unlike that of a stroke through it."""
    height, width = ink.shape
    y, x = np.ogrid[0:height, 0:width]
    disc = (x - point.x) ** 2 + (y - point.y) ** 2 <= _DOT_PX**2
    return bool(disc.any()) and float(ink[disc].mean()) >= _CONTAINED


def check_together(original: Image.Image, final: Image.Image, target: DrawingTarget) -> Rejection | None:
    """Check that the last image shows all targets on the original image, and nothing else."""
    verdict = verify(original, final, target)
    if verdict.correct:
        return None
    return Rejection(reason=RejectReason.NOT_TOGETHER, detail=f"all overlays together: {verdict.reason}")


def check_step(original: Image.Image, alone: Image.Image | None, target: DrawingTarget) -> Rejection | None:
    """Check that the last drawing needs the earlier ones: without them its code fails, or comes out different.

    Code with fixed coordinates draws its own stroke on any image. What is found is a last drawing that repeats the
    earlier ones, so that these aren't needed.

    Args:
        original: The original image.
        alone: Image that the last overlay's code draws on the original image; None if the code fails there.
        target: Target of all overlays together.
    """
    if alone is None or not verify(original, alone, target).correct:
        return None
    return Rejection(
        reason=RejectReason.STEP_NOT_NEEDED, detail="the last drawing alone shows what all drawings together show"
    )


def background_of(image: Image.Image) -> tuple[int, int, int]:
    """Return the most frequent colour of an image."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.uint32)
    codes = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    values, counts = np.unique(codes, return_counts=True)
    code = int(values[np.argmax(counts)])
    return code >> 16, code >> 8 & 255, code & 255


def ink_mask(image: Image.Image) -> Mask:
    """Return which pixels aren't background; shape (height, width)."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.int16)
    ink: Mask = np.abs(pixels - np.array(background_of(image), dtype=np.int16)).max(axis=2) > _INK
    return ink


def _numbers(element: Element, *names: str) -> list[float] | None:
    values = [element.fields.get(name) for name in names]
    numbers = [value for value in values if isinstance(value, int | float)]
    return numbers if len(numbers) == len(names) else None


def _element_places(element: Element) -> Iterator[tuple[float, float]]:
    for pair in (("x", "y"), ("x1", "y1"), ("x2", "y2"), ("cx", "cy")):
        if numbers := _numbers(element, *pair):
            yield numbers[0], numbers[1]


def _outline(element: Element) -> list[tuple[int, int]]:
    """Return places on the outline of an element, pixels; empty for a kind without one, or one that lies outside."""
    ends, circle = _numbers(element, "x1", "y1", "x2", "y2"), _numbers(element, "cx", "cy", "r")
    if element.kind == "line" and ends:
        x1, y1, x2, y2 = ends
        return [(round(x1 + (x2 - x1) * at / 50), round(y1 + (y2 - y1) * at / 50)) for at in range(51)]
    if element.kind == "circle" and circle:
        cx, cy, r = circle
        turns = (2 * math.pi * at / 60 for at in range(60))
        return [(round(cx + r * math.cos(turn)), round(cy + r * math.sin(turn))) for turn in turns]
    if element.kind in ("point", "text", "symbol"):
        return [(round(x), round(y)) for x, y in _element_places(element)]
    return []


def _plain(text: str) -> str:
    """Return a text in lower case with single spaces, without the signs of formulas."""
    return " ".join(re.sub(r"[$\\{}°]|\^\\circ", "", text).casefold().split()).strip(" .")
