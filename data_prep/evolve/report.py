"""Writes the card of a data set, and the page that shows items, their drawings and verdicts."""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

import jinja2
from PIL import Image

from codevision_ext.drawing import verify
from data_prep.evolve.item import Item
from data_prep.evolve.rows import LICENCE
from data_prep.evolve.stages import Examined, target_of
from data_prep.evolve.yields import MODEL_STAGES, Yields

SHOWN_PATHS: Final = 40
"""Maximum number of paths of knowledge, and of tools, that a card lists."""


@dataclass(slots=True, kw_only=True)
class Totals:
    """Counts of the accepted items."""

    items: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """Items by kind: `needs a drawing`, or the level of a perception item."""
    difficulties: Counter[str] = field(default_factory=Counter)
    depths: Counter[int] = field(default_factory=Counter)
    """Items that need a drawing, by their number of drawings."""
    relations: Counter[str] = field(default_factory=Counter)
    """Items by the way in which they were expanded; `generated` for the others."""
    knowledge: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)

    def add(self, item: Item) -> None:
        """Count an item."""
        self.items += 1
        self.kinds["needs a drawing" if item.overlays else f"perception, {item.level}"] += 1
        self.difficulties[item.difficulty] += 1
        if item.overlays:
            self.depths[item.depth] += 1
        self.relations[item.relation or "generated"] += 1
        self.knowledge.update(item.knowledge)
        self.tools.update(item.tools)

    @property
    def domains(self) -> int:
        """Number of first layers among the paths of knowledge."""
        return len({path.partition("/")[0] for path in self.knowledge})

    def plain(self) -> dict[str, Any]:
        """Return the counts as JSON; of knowledge and tools only how many there are."""
        return {
            "items": self.items,
            "kinds": dict(sorted(self.kinds.items())),
            "difficulties": dict(sorted(self.difficulties.items())),
            "depths": {str(depth): count for depth, count in sorted(self.depths.items())},
            "relations": dict(sorted(self.relations.items())),
            "knowledge": len(self.knowledge),
            "domains": self.domains,
            "tools": len(self.tools),
        }


def card_text(origin: Mapping[str, str], totals: Totals, yields: Yields) -> str:
    """Return the card: origin, counts, yield by stage, rejects by reason with examples, knowledge and tools."""
    parts = [
        f"---\nlicense: {LICENCE.lower()}\n---\n",
        "# Problems whose solution needs a drawing\n",
        "`python -m data_prep evolve` generated these items. Every program was executed in a sandbox, and every drawing"
        " was verified by its pixels: it shows its target, and the original image doesn't.\n",
        _table(("origin", ""), [*origin.items(), ("licence", _licence(yields))]),
        "## Items\n",
        _table(("", "items"), [("all", totals.items), *sorted(totals.kinds.items())]),
        _table(("difficulty", "items"), sorted(totals.difficulties.items())),
        _table(("drawings", "items"), sorted(totals.depths.items())),
        "## Lineage\n",
        "`items.jsonl` has the parent of each item, and the relation to it. A parallel item adds a drawing that is"
        " independent of the others. A sequential one adds a drawing that is defined from them. The parent of an item"
        " that was generated with several drawings isn't in the set.\n",
        _table(("relation", "items"), sorted(totals.relations.items())),
        "## Yield\n",
        *_model_stages(yields),
        _table(
            ("stage", "entered", "passed"),
            [(stage, yields.entered[stage], yields.passed[stage]) for stage in yields.stages],
        ),
        "`generate` counts calls and the items that they return, `expand` tries and the items that come of them.\n",
        *_reply_faults(yields),
        "## Rejected\n",
        _table(
            ("reason", "items", "examples"),
            [
                (reason, count, "; ".join(f"{name}: {detail}" for name, detail in yields.examples[reason]))
                for reason, count in sorted(yields.reasons.items())
            ],
        )
        if yields.reasons
        else "No item was rejected.\n",
        "## Knowledge and tools\n",
        f"{len(totals.knowledge)} paths of {totals.domains} domains, {len(totals.tools)} tools.\n",
        _table(("knowledge", "items"), totals.knowledge.most_common(SHOWN_PATHS)),
        _table(("tool", "drawings"), totals.tools.most_common(SHOWN_PATHS)),
    ]
    return "\n".join(parts)


def _licence(yields: Yields) -> str:
    terms = "; the terms of the models' providers hold beside it" if yields.models else ""
    return f"{LICENCE}, for generated data{terms}"


def _model_stages(yields: Yields) -> list[str]:
    if not yields.models:
        return ["Stages that ask a language model aren't run by this back end: " + ", ".join(MODEL_STAGES) + ".\n"]
    return [
        "`judge` has the scores of a checker, `repair` the items whose answer was rewritten, and `solve` blind solves"
        " with and without the drawing. Perception items pass `solve` and keep the difficulty of the generator.\n"
    ]


def _reply_faults(yields: Yields) -> list[str]:
    if not yields.replies:
        return []
    lines = [(fault, many, "; ".join(yields.reply_examples[fault])) for fault, many in sorted(yields.replies.items())]
    return ["Replies of models that couldn't be used:\n", _table(("reason", "replies", "examples"), lines)]


def inspect_page(shown: Sequence[Examined]) -> str:
    """Return a self-contained HTML page with original, last drawing and verdict of each item; texts are escaped."""
    text = (files("data_prep.evolve") / "inspect.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
    return template.render(items=list(map(_shown_item, shown)))


def _shown_item(examined: Examined) -> dict[str, Any]:
    verdict = ""
    if examined.steps and len(examined.steps) == examined.item.depth:
        images = [Image.open(io.BytesIO(data)) for data in (examined.original, examined.steps[-1].image)]
        drawn = verify(images[0], images[1], target_of(examined.item))
        verdict = f"{drawn.reason}, F1 {drawn.f1:.2f}"
    return {
        "item": examined.item,
        "images": [base64.b64encode(image).decode() for image in _images(examined)],
        "codes": [step.code for step in examined.steps],
        "rejection": examined.rejection,
        "verdict": verdict,
    }


def _images(examined: Examined) -> list[bytes]:
    """Return the images of an item that there are: the original, and those with drawings."""
    return [image for image in (examined.original, *(step.image for step in examined.steps)) if image]


def _table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    rule = "|---" * len(head) + "|"
    return "\n".join(map(_line, [head])) + f"\n{rule}\n" + "".join(f"{_line(line)}\n" for line in lines)


def _line(cells: Sequence[object]) -> str:
    """Return a line of a table; what would end a cell or begin a tag is escaped."""
    texts = (" ".join(str(cell).split()).replace("|", "\\|").replace("<", "&lt;") for cell in cells)
    return f"| {' | '.join(texts)} |"
