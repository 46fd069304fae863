"""Is every row of a set fit to train on? Each fault with file, row and field; and in which frame boxes are drawn."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from data_prep.convert.convert import (
    ChunkJob,
    IdIndex,
    IdState,
    Options,
    Target,
    jobs,
    key_of,
    plan_conversion,
    settled,
)
from data_prep.convert.validate import ImageLimits, box_frame_size, fit, required_orientation
from data_prep.formats.readers import choose
from data_prep.formats.row_errors import Reason, RowFault
from data_prep.formats.schema import Row
from data_prep.formats.sources import Source
from data_prep.parallel.pipeline import in_order

NAMED: Final = 1000
"""Faults that are kept; all are counted."""


_COUNTS: Final = ("boxes", "both", "input_only", "canonical_only", "neither", "quarter_turns", "tall")


@dataclass(slots=True, kw_only=True)
class Frames:
    """In which image the boxes of a source lie: the input image, or the one before the ops were applied."""

    boxes: int = 0
    declared: Counter[str] = field(default_factory=Counter)
    """By what the rows say."""
    both: int = 0
    """Boxes that fit into either; they tell nothing."""
    input_only: int = 0
    canonical_only: int = 0
    neither: int = 0
    quarter_turns: int = 0
    """Boxes of images that were turned by 90 or 270 degrees."""
    tall: int = 0
    """Of these, boxes taller than wide: where boxes hold lines of text, those drawn on the input image are tall."""

    @property
    def verdict(self) -> str:
        """What the boxes that fit into one frame only agree on."""
        if self.neither:
            return "mixed"
        if self.input_only and self.canonical_only:
            return "mixed"
        return "input" if self.input_only else "canonical" if self.canonical_only else "undecided"

    def add(self, row: Row) -> None:
        """Count a row with a box and a known size."""
        assert row.box is not None
        fits = {frame: fit(row.box, box_frame_size(row.applied, frame, row.size)) for frame in ("input", "canonical")}
        inside, canonical = fits["input"] is not None, fits["canonical"] is not None
        self.boxes += 1
        self.declared[row.box_frame] += 1
        self.both += inside and canonical
        self.input_only += inside and not canonical
        self.canonical_only += canonical and not inside
        self.neither += not inside and not canonical
        if required_orientation(row.applied) in ("r90", "r270", "transpose", "transverse"):
            self.quarter_turns += 1
            self.tall += row.box.y2 - row.box.y1 > row.box.x2 - row.box.x1

    def plain(self) -> dict[str, Any]:
        """For the summary."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return {"verdict": self.verdict, "declared": dict(self.declared), **counts}

    def merge(self, other: "Frames") -> None:
        """Add what another part of the source showed."""
        self.declared += other.declared
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True, kw_only=True)
class Checked:
    """What was found in some rows."""

    read: int = 0
    bad: int = 0
    """Rows with a fault."""
    reasons: Counter[Reason] = field(default_factory=Counter)
    """Faults; a row may have several."""
    faults: list[RowFault] = field(default_factory=list)
    frames: dict[str, Frames] = field(default_factory=dict)
    """By source."""
    keys: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    """Row number, id and content of the rows of one chunk."""

    def plain(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "rows": {"read": self.read, "bad": self.bad},
            "faults": dict(sorted(self.reasons.items())),
            "named": [asdict(fault) for fault in self.faults],
            "frames": {source: frames.plain() for source, frames in sorted(self.frames.items())},
        }


def check_data(
    sources: Sequence[Source],
    *,
    reader: str | None = None,
    limits: ImageLimits | None = None,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Checked:
    """Every fault of every row; the rows stay as they are.

    Raises:
        InputError: A file can't be read, or no reader fits it.
    """
    found = Checked()
    with IdIndex() as seen:
        for source in sources:
            turns = choose(source, reader).turns
            options = Options(target=Target.SFT if turns else Target.RL, reader=reader, limits=limits or ImageLimits())
            for _, part in in_order(check_chunk, jobs(plan_conversion([source], options)), workers):
                _merge(found, part)
                for number, ident, content in part.keys:
                    verdict = seen.add((ident, content))
                    if verdict is not IdState.NEW:
                        said = "the row is there twice" if verdict is IdState.SAME else "another row has this id"
                        fault = RowFault(
                            file=str(source.path),
                            row=number,
                            field="extra_info.index",
                            reason=Reason.DUPLICATE_ID,
                            said=said,
                        )
                        _add(found, [fault])
                progress(found.read)
    return found


def check_chunk(job: ChunkJob) -> Checked:
    """What is found in the rows of a chunk."""
    found = Checked(read=len(job.chunk))
    for number, item, faults in settled(job, Counter()):
        if faults:
            _add(found, faults)
        else:
            found.keys.append((number, *key_of(item)))
        if isinstance(item, Row) and item.box is not None and item.size != (0, 0):
            found.frames.setdefault(item.source, Frames()).add(item)
    return found


def _add(found: Checked, faults: Iterable[RowFault]) -> None:
    faults = list(faults)
    found.bad += 1
    found.reasons.update(fault.reason for fault in faults)
    found.faults += faults[: NAMED - len(found.faults)]


def _merge(found: Checked, part: Checked) -> None:
    found.read += part.read
    found.bad += part.bad
    found.reasons += part.reasons
    found.faults += part.faults[: NAMED - len(found.faults)]
    for source, frames in part.frames.items():
        found.frames.setdefault(source, Frames()).merge(frames)
