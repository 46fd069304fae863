"""Defines faults of rows, with reason, file, row and field, and counts them over a data set."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from codevision_ext.errors import InputError

EXAMPLES = 5
"""Maximum number of faults that a summary quotes; all faults are counted."""

NOTES = {
    "answer_like_a_list": "an answer that looks like a list was read as one answer (--answers-are-lists reads a list)",
    "not_an_assistant_s": "a message that isn't the assistant's is marked as learned; SFT learns only the assistant's",
}
"""Sentences about rows that may have been read in an unintended way."""


def notes_on(counts: Mapping[str, Any]) -> list[str]:
    """Return sentences about unread columns and about rows in NOTES; `counts` has the keys of `ReadCounts.plain`."""
    columns = ", ".join(f"{name or repr(name)} ({count:,})" for name, count in counts.get("unread", {}).items())
    unread = f"columns that nothing reads, with their rows: {columns}; --map FIELD=COLUMN names a column"
    noted = [f"{NOTES[name]}: {count:,} rows" for name, count in counts.get("noted", {}).items()]
    return [*([unread] if columns else []), *noted]


class Reason(StrEnum):
    """Reason for rejecting a row."""

    COLUMN_MISSING = "column_missing"
    BAD_JSON = "bad_json"
    BAD_TYPE = "bad_type"
    NO_QUESTION = "no_question"
    NO_ANSWER = "no_answer"
    IMAGE_MISSING = "picture_missing"
    """The image has no bytes, and its file doesn't exist."""
    IMAGE_UNKNOWN = "picture_unknown"
    """The first bytes aren't those of an image format."""
    IMAGE_DAMAGED = "picture_damaged"
    """The image file is truncated or corrupt."""
    IMAGE_BOMB = "picture_bomb"
    """The image has more pixels than allowed."""
    IMAGE_SIZE = "picture_size"
    """The image is so narrow that the models' image processors refuse it."""
    BAD_OP = "bad_op"
    BAD_BOX = "bad_box"
    """The box isn't four finite numbers, or has no area."""
    BOX_OUTSIDE = "box_outside"
    BAD_DRAWING = "bad_drawing"
    """The drawing that the row asks for isn't a target, or lies outside of the image."""
    BAD_TURNS = "bad_turns"
    BAD_CALL = "bad_call"
    DUPLICATE_ID = "duplicate_id"
    """An earlier row has this id and this content."""
    CODE_FAILED = "code_failed"
    """Code of a trajectory failed when it was run; the row is rejected only if no published image replaces its own."""
    NO_TRAJECTORY = "no_trajectory"
    """The target needs a demonstration, and the row is a task without turns."""
    NOT_SUPPORTED = "not_supported"
    """The row has a video or audio, or its question needs a field that no reader uses."""


class RowError(InputError):
    """Raised for a row that can't be used; carries the reason, the field and a message."""

    def __init__(self, reason: Reason, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.reason, self.field, self.message = reason, field, message

    def at(self, file: str, row: int) -> "RowFault":
        """Return the error as the fault of a row, whose number in the file counts from 0."""
        return RowFault(file=file, row=row, field=self.field, reason=self.reason, message=self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFault:
    """One fault and its place."""

    file: str
    row: int
    """Number of the row in its file, from 0."""
    field: str
    reason: Reason
    message: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}: {self.field}: {self.message}"

    def plain(self) -> dict[str, Any]:
        """Return the fault as in the published summary."""
        place = {"file": self.file, "row": self.row, "field": self.field}
        return place | {"reason": self.reason, "said": self.message}


@dataclass(slots=True, kw_only=True)
class ReadCounts:
    """Counts of unused content of records."""

    skipped: Counter[str] = field(default_factory=Counter)
    """Number of items without a fault that the target format can't express, by kind."""
    unread: Counter[str] = field(default_factory=Counter)
    """Number of rows with a value that the reader doesn't use, by column."""
    noted: Counter[str] = field(default_factory=Counter)
    """Number of rows by key of NOTES."""
    faulty: Counter[Reason] = field(default_factory=Counter)
    """Number of faults of rows that are used all the same, by reason."""
    faults: list[RowFault] = field(default_factory=list)
    """These faults, of the records read last."""

    def keep(self, fault: RowFault) -> None:
        """Count a fault of a row that is used all the same."""
        self.faulty[fault.reason] += 1
        self.faults.append(fault)

    def merge(self, other: "ReadCounts") -> None:
        """Add the counts of other records; `faults` are theirs."""
        self.skipped += other.skipped
        self.unread += other.unread
        self.noted += other.noted
        self.faulty += other.faulty
        self.faults = other.faults

    def plain(self) -> dict[str, Any]:
        """Return the counts as in the published summary."""
        counts = {"left_out": self.skipped, "unread": self.unread, "noted": self.noted}
        plain = {name: dict(sorted(count.items())) for name, count in counts.items()}
        return plain | {"faulty": dict(sorted(self.faulty.items()))}


@dataclass(slots=True, kw_only=True)
class ConversionStats:
    """Counts over all rows of a conversion."""

    read: int = 0
    written: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)
    """Number of rejected rows by the reason of their first fault."""
    changed: Counter[str] = field(default_factory=Counter)
    """Number of rows by change."""
    counts: ReadCounts = field(default_factory=ReadCounts)
    licences: dict[str, str] = field(default_factory=dict)
    """Licence by source."""
    examples: list[RowFault] = field(default_factory=list)

    def reject(self, faults: Iterable[RowFault]) -> None:
        """Count a rejected row, under the reason of its first fault."""
        first = next(iter(faults))
        self.rejected[first.reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(first)

    def plain(self) -> dict[str, Any]:
        """Return the counts as in the published summary."""
        return {
            "rows": {"read": self.read, "written": self.written, "rejected": self.rejected.total()},
            "rejected": dict(sorted(self.rejected.items())),
            "changed": dict(sorted(self.changed.items())),
            **self.counts.plain(),
            "licences": dict(sorted(self.licences.items())),
            "examples": [str(fault) for fault in self.examples],
        }


@dataclass(frozen=True, slots=True)
class RejectLimit:
    """Maximum number of rejected rows: `10` rows, or `1%` of the rows that are read."""

    text: str

    def __post_init__(self) -> None:
        """Check the text.

        Raises:
            InputError: `text` is neither a whole number nor a percentage in [0, 100].
        """
        number = self.text.removesuffix("%")
        try:
            value = float(number) if self.text.endswith("%") else int(number)
        except ValueError:
            value = -1
        if not 0 <= value <= (100 if self.text.endswith("%") else float("inf")):
            raise InputError(f"--max-rejected is a number of rows or a percentage, such as 10 or 1%, not {self.text!r}")

    def check(self, stats: ConversionStats) -> None:
        """Check the number of rejected rows, and that at least one row was written.

        Raises:
            InputError: Too many rows were rejected, or no row is left; the message has the reasons and the first fault.
        """
        number = float(self.text.removesuffix("%"))
        limit = number / 100 * stats.read if self.text.endswith("%") else number
        rejected = stats.rejected.total()
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in stats.rejected.most_common())
        first = f"; the first: {stats.examples[0]}" if stats.examples else ""
        if rejected > limit:
            message = f"{rejected:,} of {stats.read:,} rows are rejected ({reasons}), --max-rejected allows {self.text}"
            raise InputError(f"{message}; nothing was written{first}")
        if not stats.written:
            raise InputError(f"none of {stats.read:,} rows is left to write ({reasons or 'nothing to read'}){first}")
