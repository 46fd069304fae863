"""Finds every fault of a data set, with file, row and field, and the coordinate frame of its boxes."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from data_prep.convert.convert import (
    ChunkJob,
    Options,
    Target,
    jobs,
    key_of,
    plan_conversion,
    read_chunk,
)
from data_prep.convert.id_index import IdIndex, IdState
from data_prep.convert.validate import ImageLimits, box_frame_size, clip_box
from data_prep.formats.readers import choose
from data_prep.formats.row_errors import ReadCounts, Reason, RowFault
from data_prep.formats.schema import Row, applied_orientation
from data_prep.formats.sources import Source
from data_prep.parallel.pipeline import in_order

NAMED: Final = 1000
"""Maximum number of listed faults; all faults are counted."""
FRAME_COUNTS: Final = ("boxes", "both", "input_only", "canonical_only", "neither", "quarter_turns", "tall")
"""Counts of a frame audit: boxes; boxes that fit into both images, one of them, or none; boxes of images that were
turned by 90 or 270 degrees, and how many of these are taller than wide. Boxes around lines of text are tall in an
image that lies on its side."""


@dataclass(slots=True, kw_only=True)
class FrameAudit:
    """Counts that show whether the boxes of a source refer to the input image or to the image before the ops."""

    declared: Counter[str] = field(default_factory=Counter)
    """Number of boxes by the frame that their rows name."""
    counts: Counter[str] = field(default_factory=Counter)
    """Number of boxes by FRAME_COUNTS."""

    @property
    def verdict(self) -> str:
        """Frame by the boxes that fit into only one of the two images: input, canonical, mixed or undecided."""
        if self.counts["neither"] or (self.counts["input_only"] and self.counts["canonical_only"]):
            return "mixed"
        return "input" if self.counts["input_only"] else "canonical" if self.counts["canonical_only"] else "undecided"

    def add(self, row: Row) -> None:
        """Count a row with a box and a known size."""
        assert row.box is not None
        in_input, in_canonical = (
            clip_box(row.box, box_frame_size(row.applied, frame, row.size)) is not None
            for frame in ("input", "canonical")
        )
        fit = {(True, True): "both", (True, False): "input_only", (False, True): "canonical_only"}
        self.counts.update(["boxes", fit.get((in_input, in_canonical), "neither")])
        self.declared[row.box_frame] += 1
        if applied_orientation(row.applied) in ("r90", "r270", "transpose", "transverse"):
            self.counts["quarter_turns"] += 1
            self.counts["tall"] += row.box.y2 - row.box.y1 > row.box.x2 - row.box.x1

    def plain(self) -> dict[str, Any]:
        """Return the audit as in the published summary."""
        counts = {name: self.counts[name] for name in FRAME_COUNTS}
        return {"verdict": self.verdict, "declared": dict(self.declared), **counts}


@dataclass(slots=True, kw_only=True)
class DatasetFaults:
    """Faults and frame audits of some rows."""

    read: int = 0
    bad: int = 0
    """Number of rows with a fault."""
    reasons: Counter[Reason] = field(default_factory=Counter)
    """Number of faults by reason; a row may have several."""
    faults: list[RowFault] = field(default_factory=list)
    frames: dict[str, FrameAudit] = field(default_factory=dict)
    """Frame audit by source."""
    keys: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    """Row number, hash of the id and hash of the content of each row without a fault, for one chunk."""
    counts: ReadCounts = field(default_factory=ReadCounts)

    def add_faults(self, faults: Iterable[RowFault]) -> None:
        """Count a row with faults."""
        faults = list(faults)
        self.bad += 1
        self.reasons.update(fault.reason for fault in faults)
        self.faults += faults[: NAMED - len(self.faults)]

    def merge(self, other: "DatasetFaults") -> None:
        """Add the result of later rows, but not their keys."""
        self.read += other.read
        self.bad += other.bad
        self.counts.merge(other.counts)
        self.reasons += other.reasons
        self.faults += other.faults[: NAMED - len(self.faults)]
        for source, frames in other.frames.items():
            mine = self.frames.setdefault(source, FrameAudit())
            mine.declared += frames.declared
            mine.counts += frames.counts

    def plain(self) -> dict[str, Any]:
        """Return the result as in the published summary."""
        return {
            "rows": {"read": self.read, "bad": self.bad},
            "faults": dict(sorted(self.reasons.items())),
            "named": [fault.plain() for fault in self.faults],
            "frames": {source: frames.plain() for source, frames in sorted(self.frames.items())},
            **self.counts.plain(),
        }


def check_data(
    sources: Sequence[Source],
    *,
    reader: str | None = None,
    lists: bool = False,
    limits: ImageLimits | None = None,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> DatasetFaults:
    """Return every fault of every row.

    Raises:
        InputError: A file can't be read, or no reader fits it.
    """
    result = DatasetFaults()
    with IdIndex() as ids:
        for source in sources:
            target = Target.SFT if choose(source, reader).turns else Target.RL
            options = Options(target=target, reader=reader, lists=lists, limits=limits or ImageLimits())
            for _, part in in_order(check_chunk, jobs(plan_conversion([source], options)), workers):
                result.merge(part)
                for number, *key in part.keys:
                    state = ids.add((key[0], key[1]))
                    if state is not IdState.NEW:
                        same = state is IdState.SAME
                        fault = RowFault(
                            file=str(source.path),
                            row=number,
                            field="extra_info.index",
                            reason=Reason.DUPLICATE_ID,
                            message="an earlier row is the same" if same else "an earlier row has this id",
                        )
                        result.add_faults([fault])
                progress(result.read)
    return result


def check_chunk(job: ChunkJob) -> DatasetFaults:
    result = DatasetFaults(read=len(job.chunk))
    for number, item, faults in read_chunk(job, result.counts):
        if faults:
            result.add_faults(faults)
        else:
            result.keys.append((number, *key_of(item)))
        if isinstance(item, Row) and item.box is not None and item.size != (0, 0):
            result.frames.setdefault(item.source, FrameAudit()).add(item)
    return result
