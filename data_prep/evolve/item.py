"""Defines the items of the flywheel: a problem, the code of its image, and the code of the drawings that solve it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from codevision_ext.drawing import DrawingTarget
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.types import AnswerKind

Difficulty = Literal["easy", "medium", "hard"]
Relation = Literal["", "parallel", "sequential"]
"""How an item was made from its parent: the new drawing is independent of the parent's, or is defined from it."""
Level = Literal["", "surface", "semantic", "integrated"]
"""Level of a perception item: named points, described places, computed places. Empty: an item that needs a drawing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """One drawing that the solution needs."""

    code: str
    """Complete Python program that reads `image_path`, draws, and ends with `plt.show()`; later overlays draw on the
    image of the earlier ones."""
    target: DrawingTarget
    """What this overlay draws, in pixels of the original image."""
    about: str
    """Description of the drawing, one sentence."""
    tool: str
    """Name of the drawing tool, such as `perpendicular foot`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element of the original image."""

    kind: Literal["point", "line", "angle", "circle", "function_curve", "text", "symbol"]
    fields: Mapping[str, int | float | str]
    """Integer pixels and labels, named as in V-Perception: x, y, label; x1, y1, x2, y2; cx, cy, r."""
    semantic: str
    """What the element is in the problem, such as `vertex A of the triangle`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One problem; frozen, every stage of the flywheel makes a new one."""

    id: str
    """Unique within a data set, made from backend, seed and number, never from time."""
    knowledge: tuple[str, ...]
    """Paths in the tree of knowledge, such as `plane geometry/triangle/median`; all of them are needed."""
    difficulty: Difficulty
    question: str
    """Doesn't name the construction."""
    answer: str
    answer_kind: AnswerKind = AnswerKind.TEXT
    solution: str
    """Text that uses the drawings."""
    original_code: str
    """Complete Python program that draws the original image with a full-bleed figure, and ends with `plt.show()`."""
    size: tuple[int, int]
    """Width and height of the original image, pixels."""
    overlays: tuple[Overlay, ...] = ()
    """As many as the depth of the item; empty for perception items."""
    elements: tuple[Element, ...] = ()
    level: Level = ""
    parent: str = ""
    """Id of the item that this one extends."""
    relation: Relation = ""

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the drawing tools, in order."""
        return tuple(overlay.tool for overlay in self.overlays)

    @property
    def depth(self) -> int:
        """Number of drawings that the solution needs."""
        return len(self.overlays)


ITEMS: JsonCodec[Item] = JsonCodec(Item)
