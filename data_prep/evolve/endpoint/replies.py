"""Reads the replies of models strictly: one JSON object with known fields, or one sentence about what is wrong."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from pydantic import Field

from codevision_ext.drawing import DrawingTarget, read_target
from codevision_ext.drawing.targets import Primitive
from codevision_ext.errors import InputError
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.task.drawings import drawing_text
from codevision_ext.types import AnswerKind
from data_prep.evolve.backend import ReplyError, ReplyFault
from data_prep.evolve.item import ITEMS, Difficulty, Element, Item, Level, Overlay, Relation
from data_prep.evolve.names import normal_name, normal_path

LEVELS: Final[tuple[Difficulty, ...]] = ("easy", "medium", "hard")
PERCEPTION: Final[tuple[Level, ...]] = ("surface", "semantic", "integrated")
SIDE: Final = (64, 2048)
"""Range of width and height of an image, pixels."""
CHARS: Final = 20_000
"""Maximum number of characters of a text or a code."""
MAX_OVERLAYS: Final = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayReply:
    """One drawing in a reply."""

    code: str
    target: tuple[Annotated[Primitive, Field(discriminator="kind")], ...]
    about: str
    tool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemReply:
    """One problem in a reply."""

    difficulty: Difficulty
    question: str
    answer: str
    solution: str
    width: int
    height: int
    original_code: str
    overlays: tuple[OverlayReply, ...]
    knowledge: tuple[str, ...] = ()
    elements: tuple[Element, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedReply:
    """The reply of a generator."""

    items: tuple[ItemReply, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReply:
    """Texts of a problem: a repair, or a question of perception."""

    question: str
    answer: str
    solution: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PerceivedReply:
    """The reply of a generator that was asked for perception items."""

    width: int
    height: int
    original_code: str
    elements: tuple[Element, ...]
    questions: tuple[TextReply, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpandedReply:
    """The reply of an expander."""

    question: str
    answer: str
    solution: str
    overlay: OverlayReply
    knowledge: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreReply:
    """The reply of a checker."""

    score: Annotated[int, Field(ge=0, le=10)]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReply:
    """The reply of a solver."""

    answer: str


GENERATED: Final[JsonCodec[GeneratedReply]] = JsonCodec(GeneratedReply)
PERCEIVED: Final[JsonCodec[PerceivedReply]] = JsonCodec(PerceivedReply)
EXPANDED: Final[JsonCodec[ExpandedReply]] = JsonCodec(ExpandedReply)
REPAIRED: Final[JsonCodec[TextReply]] = JsonCodec(TextReply)
SCORED: Final[JsonCodec[ScoreReply]] = JsonCodec(ScoreReply)
SOLVED: Final[JsonCodec[AnswerReply]] = JsonCodec(AnswerReply)
_FENCED: Final = re.compile(r"```(?:json)?\s*\n(.*?)\n\s*```", re.DOTALL)


def read_reply(text: str, codec: JsonCodec[T], where: str) -> T:
    """Return the object in a reply: its whole text after its thoughts, or its only fenced block.

    Raises:
        ReplyError: The reply has no such object, or a field of it is wrong; one sentence that begins with `where`.
    """
    spoken = text.rpartition("</think>")[2].strip()
    blocks = _FENCED.findall(spoken)
    raw = blocks[0] if len(blocks) == 1 and not spoken.startswith("{") else spoken
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ReplyError(ReplyFault.NOT_JSON, f"{where}: isn't one JSON object: {error}") from error
    if not isinstance(content, dict):
        raise ReplyError(ReplyFault.NOT_JSON, f"{where}: isn't a JSON object, it begins with {raw[:20]!r}")
    try:
        return codec.load(raw.encode("utf-8", "replace"), where)
    except InputError as error:
        raise ReplyError(ReplyFault.FIELD, " ".join(str(error).split())[:300]) from error


def generated_items(
    reply: GeneratedReply, knowledge: Sequence[str], tools: Sequence[str], name: str
) -> tuple[Item, ...]:
    """Return the items of a generator's reply.

    Args:
        reply: What the model wrote.
        knowledge: Paths that the call needs; empty if the model names the paths.
        tools: Tools that the call draws with; empty if the model names the tools.
        name: Beginning of the ids.

    Raises:
        ReplyError: There aren't three items of rising difficulty, a field is out of range, or a tool isn't used.
    """
    if [each.difficulty for each in reply.items] != list(LEVELS):
        levels = ", ".join(each.difficulty for each in reply.items) or "none"
        raise ReplyError(ReplyFault.COUNT, f"{name}: must have the items easy, medium, hard; it has {levels}")
    return tuple(_item(each, knowledge, tools, f"{name}-{each.difficulty}") for each in reply.items)


def _item(reply: ItemReply, knowledge: Sequence[str], tools: Sequence[str], name: str) -> Item:
    _check_size(reply.width, reply.height, name)
    _check_texts(name, reply.question, reply.answer, reply.solution, reply.original_code)
    if not 1 <= len(reply.overlays) <= MAX_OVERLAYS:
        raise ReplyError(ReplyFault.COUNT, f"{name}: must have 1 to {MAX_OVERLAYS} drawings, not {len(reply.overlays)}")
    overlays = tuple(overlay_of(each, f"{name}, overlay {at}") for at, each in enumerate(reply.overlays, start=1))
    if tools and [normal_name(overlay.tool) for overlay in overlays] != list(map(normal_name, tools)):
        used = ", ".join(overlay.tool for overlay in overlays)
        raise ReplyError(ReplyFault.COUNT, f"{name}: must draw with {', '.join(tools)}; it draws with {used}")
    paths = tuple(knowledge) or tuple(reply.knowledge)
    if not paths or not all(map(normal_path, paths)):
        raise ReplyError(ReplyFault.FIELD, f"{name}: field knowledge: must have at least one path")
    return Item(
        id=name,
        knowledge=tuple(dict.fromkeys(paths)),
        difficulty=reply.difficulty,
        question=reply.question,
        answer=reply.answer,
        solution=reply.solution,
        original_code=reply.original_code,
        size=(reply.width, reply.height),
        overlays=overlays,
        elements=reply.elements,
    )


def perceived_items(reply: PerceivedReply, knowledge: Sequence[str], name: str) -> tuple[Item, ...]:
    """Return the perception items of a reply, one of each level. Raises ReplyError."""
    _check_size(reply.width, reply.height, name)
    if len(reply.questions) != len(PERCEPTION):
        raise ReplyError(ReplyFault.COUNT, f"{name}: must have three questions, it has {len(reply.questions)}")
    items = []
    for level, difficulty, each in zip(PERCEPTION, LEVELS, reply.questions, strict=True):
        _check_texts(f"{name}-{level}", each.question, each.answer, each.solution, reply.original_code)
        items.append(
            Item(
                id=f"{name}-{level}",
                knowledge=tuple(knowledge),
                difficulty=difficulty,
                question=each.question,
                answer=each.answer,
                answer_kind=AnswerKind.COORDINATES,
                solution=each.solution,
                original_code=reply.original_code,
                size=(reply.width, reply.height),
                elements=reply.elements,
                level=level,
            )
        )
    return tuple(items)


def expanded_item(reply: ExpandedReply, item: Item, relation: Relation) -> Item:
    """Return the extension of an item. Raises ReplyError."""
    name = f"{item.id}-{relation[0]}"
    _check_texts(name, reply.question, reply.answer, reply.solution)
    return Item(
        id=name,
        knowledge=tuple(dict.fromkeys((*item.knowledge, *filter(normal_path, reply.knowledge)))),
        difficulty=item.difficulty,
        question=reply.question,
        answer=reply.answer,
        answer_kind=item.answer_kind,
        solution=reply.solution,
        original_code=item.original_code,
        size=item.size,
        overlays=(*item.overlays, overlay_of(reply.overlay, name)),
        elements=item.elements,
        parent=item.id,
        relation=relation,
    )


def overlay_of(reply: OverlayReply, where: str) -> Overlay:
    """Return a drawing of a reply. Raises ReplyError."""
    _check_texts(where, reply.code, reply.about, reply.tool)
    target = DrawingTarget(primitives=reply.target)
    try:
        read_target(drawing_text(target).encode(), where)
    except InputError as error:
        raise ReplyError(ReplyFault.FIELD, str(error)) from error
    return Overlay(code=reply.code, target=target, about=reply.about.strip(), tool=reply.tool.strip())


def item_text(item: Item) -> str:
    """Return an item as JSON for a prompt."""
    return ITEMS.dump(item, indent=1).decode()


def _check_size(width: int, height: int, where: str) -> None:
    if not all(SIDE[0] <= side <= SIDE[1] for side in (width, height)):
        detail = f"{where}: width and height must be in {SIDE[0]} to {SIDE[1]}, not {width} x {height}"
        raise ReplyError(ReplyFault.FIELD, detail)


def _check_texts(where: str, *texts: str) -> None:
    for text in texts:
        if not text.strip() or len(text) > CHARS:
            detail = f"{where}: a text is blank or has more than {CHARS} characters"
            raise ReplyError(ReplyFault.FIELD, detail)
