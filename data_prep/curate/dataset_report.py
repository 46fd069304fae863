"""Summarises a data set in JSON or HTML: counts, sizes, lengths, duplicates, licences, overlap with another set."""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from PIL import Image, ImageDraw

from codevision_ext.io.atomic_files import write_whole
from data_prep.convert.convert import ChunkJob, Options, Target, jobs, plan_conversion, read_chunk
from data_prep.curate import image_hash
from data_prep.formats.image_files import png
from data_prep.formats.readers import choose
from data_prep.formats.row_errors import ReadCounts
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Row
from data_prep.formats.sources import Source
from data_prep.parallel.pipeline import in_order

SAMPLES: Final = 3
"""Number of images of each group on the page."""
GROUPS_SHOWN: Final = 40
THUMBNAIL_PX: Final = 220
NAMED: Final = 20
"""Maximum number of listed duplicates; all duplicates are counted."""
TOKEN_PX: Final = 28
"""Side of the square that one image token of Qwen2.5-VL covers, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Properties by which rows are counted."""

    source: str
    transform: str
    """Applied ops, joined by `+`; `none` without ops."""
    box: bool
    kind: str
    """Sample type of a demonstration, column of a benchmark row, or `task`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFacts:
    """Properties of one readable row."""

    place: str
    """File and row number."""
    group: Group
    size: tuple[int, int]
    """Width and height of the first image, pixels."""
    prompt_chars: int
    licence: str
    image: bytes
    """Digest of the first image file."""
    question: bytes
    """Digest of the question."""
    hashes: image_hash.Hash


@dataclass(slots=True, kw_only=True)
class DatasetFacts:
    """Properties of the rows of a data set."""

    read: int = 0
    unreadable: int = 0
    rows: list[RowFacts] = field(default_factory=list)
    thumbnails: dict[Group, list[tuple[str, str]]] = field(default_factory=dict)
    """Samples of each group: a PNG in base64 and a caption."""
    counts: ReadCounts = field(default_factory=ReadCounts)

    def merge(self, other: "DatasetFacts") -> None:
        """Add the facts of later rows."""
        self.read += other.read
        self.unreadable += other.unreadable
        self.rows += other.rows
        self.counts.merge(other.counts)
        for group, images in other.thumbnails.items():
            mine = self.thumbnails.setdefault(group, [])
            mine.extend(images[: SAMPLES - len(mine)])


def describe(
    sources: Sequence[Source],
    *,
    workers: int = 1,
    thumbnails: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> DatasetFacts:
    """Return the facts of these files.

    Raises:
        InputError: A file can't be read, or no reader fits it.
    """
    facts = DatasetFacts()
    for source in sources:
        options = Options(target=Target.SFT if choose(source, None).turns else Target.RL)
        work = partial(_describe_chunk, thumbnails=thumbnails)
        for _, part in in_order(work, jobs(plan_conversion([source], options)), workers):
            facts.merge(part)
            progress(facts.read)
    return facts


def _describe_chunk(job: ChunkJob, *, thumbnails: bool) -> DatasetFacts:
    facts = DatasetFacts(read=len(job.chunk))
    for number, item, faults in read_chunk(job, facts.counts):
        if faults or not item.images:
            facts.unreadable += 1
            continue
        with Image.open(io.BytesIO(item.images[0])) as image:
            size = image.size
        group, question = _group(item), _question(item)
        facts.rows.append(
            RowFacts(
                place=f"{job.chunk.file}, row {number}",
                group=group,
                size=size,
                prompt_chars=len(question),
                licence=item.licence or "unknown",
                image=hashlib.blake2b(item.images[0], digest_size=16).digest(),
                question=hashlib.blake2b(question.strip().lower().encode(), digest_size=16).digest(),
                hashes=image_hash.hashes(item.images[0]),
            )
        )
        samples = facts.thumbnails.setdefault(group, [])
        if thumbnails and len(samples) < SAMPLES:
            samples.append((_thumbnail(item), question[:200]))
    return facts


def dataset_summary(facts: DatasetFacts, against: DatasetFacts | None = None) -> dict[str, Any]:
    """Return the summary; with `against`, also the overlap with that data set."""
    rows = facts.rows
    tokens = [-(-width // TOKEN_PX) * -(-height // TOKEN_PX) for width, height in (row.size for row in rows)]
    groups = [
        {"source": group.source, "transform": group.transform, "box": group.box, "kind": group.kind, "rows": count}
        for group, count in Counter(row.group for row in rows).most_common()
    ]
    summary = {
        "rows": {"read": facts.read, "unreadable": facts.unreadable},
        "groups": groups,
        "licence_rows": dict(Counter(row.licence for row in rows).most_common()),
        "megapixels": _spread([row.size[0] * row.size[1] / 1e6 for row in rows]),
        "picture_tokens": _spread(tokens),
        "prompt_chars": _spread([row.prompt_chars for row in rows]),
        "duplicates": duplicates(rows),
        **facts.counts.plain(),
    }
    return summary if against is None else summary | {"against": split_overlap(rows, against)}


def duplicates(rows: Sequence[RowFacts]) -> dict[str, Any]:
    """Count rows that share their image, or image and question, with another row; near images differ slightly."""
    images, pairs = Counter(row.image for row in rows), Counter((row.image, row.question) for row in rows)
    hashes = _stack(rows)
    near = [(a, b) for a, b in image_hash.near(hashes[:, 0], hashes) if a < b and rows[a].image != rows[b].image]
    same_question = [pair for pair in near if rows[pair[0]].question == rows[pair[1]].question]
    return {
        "same_picture": sum(count for count in images.values() if count > 1),
        "same_picture_and_question": sum(count for count in pairs.values() if count > 1),
        "near_pictures": len({number for pair in near for number in pair}),
        "near_pictures_same_question": len({number for pair in same_question for number in pair}),
        "named": [f"{rows[a].place} ~ {rows[b].place}" for a, b in near[:NAMED]],
    }


def split_overlap(rows: Sequence[RowFacts], against: DatasetFacts) -> dict[str, Any]:
    """Count rows whose image is also in another data set, in any orientation."""
    others = against.rows
    pairs = list(image_hash.near(_stack(others)[:, 0], _stack(rows)))
    same = [(a, b) for a, b in pairs if others[a].question == rows[b].question]
    return {
        "rows": against.read,
        "shared_pictures": len({b for _, b in pairs}),
        "shared_pictures_and_questions": len({b for _, b in same}),
        "named": [f"{rows[b].place} ~ {others[a].place}" for a, b in [*same, *pairs][:NAMED]],
    }


def write_page(path: Path, name: str, summary: dict[str, Any], facts: DatasetFacts) -> None:
    """Write one self-contained HTML page."""
    text = (files("data_prep.curate") / "dataset_report.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
    groups = Counter(row.group for row in facts.rows).most_common(GROUPS_SHOWN)
    samples = [(group, facts.thumbnails.get(group, [])) for group, _ in groups]
    largest = max((group["rows"] for group in summary["groups"]), default=1)
    write_whole(path, template.render(name=name, summary=summary, samples=samples, largest=largest).encode())


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
    prompt = next((message.content for message in item.messages if message.role == "user"), "")
    return prompt.replace(IMAGE_TAG, "").strip()


def _thumbnail(item: Row | Demonstration) -> str:
    """Return the first image as a small PNG in base64, with the row's box if its frame is that image."""
    with Image.open(io.BytesIO(item.images[0])) as image:
        small = image.convert("RGB")
    scale = min(1.0, THUMBNAIL_PX / max(small.size))
    small = small.resize((max(1, round(small.width * scale)), max(1, round(small.height * scale))))
    if isinstance(item, Row) and item.box is not None and item.box_frame == "input":
        ImageDraw.Draw(small).rectangle([edge * scale for edge in item.box], outline="red", width=2)
    return base64.b64encode(png(small)).decode()


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, quartiles, 95th percentile and maximum; empty for no values."""
    if not values:
        return {}
    names = {"least": 0, "p25": 25, "median": 50, "p75": 75, "p95": 95, "greatest": 100}
    return {name: round(float(np.percentile(values, at)), 4) for name, at in names.items()}


def _stack(rows: Sequence[RowFacts]) -> image_hash.Hash:
    return np.stack([row.hashes for row in rows]) if rows else np.zeros((0, 8, image_hash.WORDS), np.uint32)
