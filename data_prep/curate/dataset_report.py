"""What is in a set? Counts, sizes, lengths, duplicates within it and of a benchmark, licences; as figures or a page."""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from PIL import Image, ImageDraw

from codevision_ext.io.atomic_files import write_whole
from data_prep.convert.convert import ChunkJob, Options, Target, jobs, plan_conversion, settled
from data_prep.curate import image_hash
from data_prep.formats.readers import choose
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Row
from data_prep.formats.sources import Source
from data_prep.parallel.pipeline import in_order

SHOWN: Final = 3
"""Images of each group on the page."""
GROUPS_SHOWN: Final = 40
THUMBNAIL_PX: Final = 220
NAMED: Final = 20
"""Pairs of duplicates that are named; all are counted."""
TOKEN_PX: Final = 28
"""Edge of what one token of Qwen2.5-VL covers, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What rows are counted by."""

    source: str
    transform: str
    """Ops, joined by `+`; `none`."""
    box: bool
    kind: str
    """Sample type of a trajectory, column of a benchmark's row; else `task`."""


@dataclass(slots=True, kw_only=True)
class Facts:
    """What was seen in some rows; the lists are one entry a readable row."""

    read: int = 0
    unreadable: int = 0
    groups: list[Group] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """Of the first image, pixels."""
    prompt_chars: list[int] = field(default_factory=list)
    licences: Counter[str] = field(default_factory=Counter)
    places: list[tuple[str, int]] = field(default_factory=list)
    """File and row."""
    digests: list[bytes] = field(default_factory=list)
    """Of the first image's bytes."""
    questions: list[bytes] = field(default_factory=list)
    """Of the question's text."""
    hashes: list[image_hash.Hash] = field(default_factory=list)
    thumbnails: dict[Group, list[tuple[str, str]]] = field(default_factory=dict)
    """PNG in base64, and a caption."""

    def merge(self, other: "Facts") -> None:
        """Add what was seen in later rows."""
        self.read += other.read
        self.unreadable += other.unreadable
        self.licences += other.licences
        for name in ("groups", "sizes", "prompt_chars", "places", "digests", "questions", "hashes"):
            getattr(self, name).extend(getattr(other, name))
        for group, images in other.thumbnails.items():
            mine = self.thumbnails.setdefault(group, [])
            mine.extend(images[: SHOWN - len(mine)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How a chunk is looked at."""

    job: ChunkJob
    draw: bool


def look(
    sources: Sequence[Source],
    *,
    workers: int = 1,
    draw: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Facts:
    """What is in these files.

    Raises:
        InputError: A file can't be read, or no reader fits it.
    """
    facts = Facts()
    for source in sources:
        turns = choose(source, None).turns
        options = Options(target=Target.SFT if turns else Target.RL)
        looks = (_Look(job=job, draw=draw) for job in jobs(plan_conversion([source], options)))
        for _, part in in_order(_look, looks, workers):
            facts.merge(part)
            progress(facts.read)
    return facts


def _look(chunk: _Look) -> Facts:
    facts = Facts(read=len(chunk.job.chunk))
    for number, item, faults in settled(chunk.job, Counter()):
        if faults or not item.images:
            facts.unreadable += 1
            continue
        group = _group(item)
        with Image.open(io.BytesIO(item.images[0])) as image:
            facts.sizes.append(image.size)
        question = _question(item)
        facts.groups.append(group)
        facts.prompt_chars.append(len(question))
        facts.licences[item.licence or "unknown"] += 1
        facts.places.append((chunk.job.chunk.file, number))
        facts.digests.append(hashlib.blake2b(item.images[0], digest_size=16).digest())
        facts.questions.append(hashlib.blake2b(question.strip().lower().encode(), digest_size=16).digest())
        facts.hashes.append(image_hash.hashes(item.images[0]))
        shown = facts.thumbnails.setdefault(group, [])
        if chunk.draw and len(shown) < SHOWN:
            shown.append((_thumbnail(item), question[:200]))
    return facts


def dataset_summary(facts: Facts, against: Facts | None = None) -> dict[str, Any]:
    """The figures; with `against`, how many rows show an image of that set too."""
    pixels = [width * height for width, height in facts.sizes]
    tokens = [-(-width // TOKEN_PX) * -(-height // TOKEN_PX) for width, height in facts.sizes]
    groups = [
        {"source": group.source, "transform": group.transform, "box": group.box, "kind": group.kind, "rows": count}
        for group, count in Counter(facts.groups).most_common()
    ]
    told = {
        "rows": {"read": facts.read, "unreadable": facts.unreadable},
        "groups": groups,
        "licence_rows": dict(facts.licences.most_common()),
        "megapixels": _spread([value / 1e6 for value in pixels]),
        "picture_tokens": _spread(tokens),
        "prompt_chars": _spread(facts.prompt_chars),
        "duplicates": duplicates(facts),
    }
    return told if against is None else told | {"against": split_overlap(facts, against)}


def duplicates(facts: Facts) -> dict[str, Any]:
    """Rows whose image, or image and question, another row has; near: alike in some orientation."""
    images, rows = Counter(facts.digests), Counter(zip(facts.digests, facts.questions, strict=True))
    asked = _stack(facts)
    pairs = [(a, b) for a, b in image_hash.near(asked[:, 0], asked) if a < b and facts.digests[a] != facts.digests[b]]
    return {
        "same_picture": sum(count for count in images.values() if count > 1),
        "same_picture_and_question": sum(count for count in rows.values() if count > 1),
        "near_pictures": len({number for pair in pairs for number in pair}),
        "near_pictures_same_question": len(
            {number for a, b in pairs if facts.questions[a] == facts.questions[b] for number in (a, b)}
        ),
        "named": [f"{_place(facts, a)} ~ {_place(facts, b)}" for a, b in pairs[:NAMED]],
    }


def split_overlap(facts: Facts, against: Facts) -> dict[str, Any]:
    """Rows of a set whose image is in another set too, turned or not."""
    pairs = list(image_hash.near(_stack(against)[:, 0], _stack(facts)))
    same = [(a, b) for a, b in pairs if against.questions[a] == facts.questions[b]]
    return {
        "rows": against.read,
        "shared_pictures": len({b for _, b in pairs}),
        "shared_pictures_and_questions": len({b for _, b in same}),
        "named": [f"{_place(facts, b)} ~ {_place(against, a)}" for a, b in [*same, *pairs][:NAMED]],
    }


def write_page(path: Path, name: str, told: dict[str, Any], facts: Facts) -> None:
    """One self-contained HTML page."""
    text = (files("data_prep.curate") / "dataset_report.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
    shown = [(group, facts.thumbnails.get(group, [])) for group, _ in Counter(facts.groups).most_common(GROUPS_SHOWN)]
    most = max((group["rows"] for group in told["groups"]), default=1)
    write_whole(path, template.render(name=name, told=told, shown=shown, most=most).encode())


def _group(item: Row | Demonstration) -> Group:
    if isinstance(item, Row):
        transform, box, kind = item.applied, item.box is not None, item.column or "task"
    else:
        transform, box = item.metadata.get("applied") or (), item.metadata.get("box") is not None
        kind = item.sample_type
    return Group(source=item.source or "unknown", transform="+".join(transform) or "none", box=box, kind=kind)


def _question(item: Row | Demonstration) -> str:
    if isinstance(item, Row):
        return item.question
    said = next((message.content for message in item.messages if message.role == "user"), "")
    return said.replace(IMAGE_TAG, "").strip()


def _thumbnail(item: Row | Demonstration) -> str:
    """The first image, with its box where that is in its own pixels."""
    with Image.open(io.BytesIO(item.images[0])) as image:
        small = image.convert("RGB")
    scale = min(1.0, THUMBNAIL_PX / max(small.size))
    small = small.resize((max(1, round(small.width * scale)), max(1, round(small.height * scale))))
    if isinstance(item, Row) and item.box is not None and item.box_frame == "input":
        ImageDraw.Draw(small).rectangle([edge * scale for edge in item.box], outline="red", width=2)
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Least, quartiles, 95th percentile and greatest; empty for no values."""
    if not values:
        return {}
    names = {"least": 0, "p25": 25, "median": 50, "p75": 75, "p95": 95, "greatest": 100}
    return {name: round(float(np.percentile(values, at)), 4) for name, at in names.items()}


def _stack(facts: Facts) -> image_hash.Hash:
    return np.stack(facts.hashes) if facts.hashes else np.zeros((0, 8, image_hash.WORDS), np.uint32)


def _place(facts: Facts, number: int) -> str:
    file, row = facts.places[number]
    return f"{file}, row {row}"
