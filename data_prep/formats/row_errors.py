"""What can be wrong with a row, and what was found in a set: counted reasons, each with file, row and field."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from codevision_ext.errors import InputError

EXAMPLES = 5
"""Faults that a summary and a message quote; all are counted."""


class Reason(StrEnum):
    """Why a row isn't used."""

    COLUMN_MISSING = "column_missing"
    BAD_JSON = "bad_json"
    BAD_TYPE = "bad_type"
    NO_QUESTION = "no_question"
    NO_ANSWER = "no_answer"
    IMAGE_MISSING = "picture_missing"
    """Neither bytes nor a file that is there."""
    IMAGE_UNKNOWN = "picture_unknown"
    """No image file by its first bytes."""
    IMAGE_DAMAGED = "picture_damaged"
    """Truncated, or broken inside."""
    IMAGE_BOMB = "picture_bomb"
    """More pixels than allowed."""
    BAD_OP = "bad_op"
    BAD_BOX = "bad_box"
    """Not four finite numbers, or without an area."""
    BOX_OUTSIDE = "box_outside"
    BAD_TURNS = "bad_turns"
    BAD_CALL = "bad_call"
    DUPLICATE_ID = "duplicate_id"
    """The same id and content as an earlier row."""
    NO_TRAJECTORY = "no_trajectory"
    """Turns were asked for, and the row has none."""


class RowError(InputError):
    """A row that can't be used, and why."""

    def __init__(self, reason: Reason, field: str, said: str) -> None:
        super().__init__(f"{field}: {said}")
        self.reason, self.field, self.said = reason, field, said


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFault:
    """One fault and its place."""

    file: str
    row: int
    """From 0."""
    field: str
    reason: Reason
    said: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}: {self.field}: {self.said}"


@dataclass(slots=True, kw_only=True)
class ConversionStats:
    """What a run over a set found."""

    read: int = 0
    written: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)
    """Rows, by the reason of their first fault."""
    changed: Counter[str] = field(default_factory=Counter)
    """What was done to rows that were kept."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Items that the target has no place for; no fault of theirs."""
    licences: dict[str, str] = field(default_factory=dict)
    """Licence by source."""
    examples: list[RowFault] = field(default_factory=list)

    def reject(self, faults: Iterable[RowFault]) -> None:
        """Count a row that isn't used."""
        first = next(iter(faults))
        self.rejected[first.reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(first)

    def plain(self) -> dict[str, Any]:
        """The tally as a summary has it."""
        return {
            "rows": {"read": self.read, "written": self.written, "rejected": self.rejected.total()},
            "rejected": dict(sorted(self.rejected.items())),
            "changed": dict(sorted(self.changed.items())),
            "left_out": dict(sorted(self.left_out.items())),
            "licences": dict(sorted(self.licences.items())),
            "examples": [str(fault) for fault in self.examples],
        }


@dataclass(frozen=True, slots=True)
class RejectLimit:
    """How many rows may be rejected: `10` rows, or `1%` of those read."""

    text: str

    def __post_init__(self) -> None:
        """Refuse what is neither.

        Raises:
            InputError: `text` is no whole number and no percentage in [0, 100].
        """
        number = self.text.removesuffix("%")
        try:
            value = float(number) if self.text.endswith("%") else int(number)
        except ValueError:
            value = -1
        if not 0 <= value <= (100 if self.text.endswith("%") else float("inf")):
            raise InputError(f"--max-rejected is a number of rows or a percentage, such as 10 or 1%, not {self.text!r}")

    def check(self, tally: ConversionStats) -> None:
        """Whether few enough rows were rejected, and one was kept.

        Raises:
            InputError: They weren't; names the reasons and the first fault.
        """
        number = float(self.text.removesuffix("%"))
        most = number / 100 * tally.read if self.text.endswith("%") else number
        rejected = tally.rejected.total()
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in tally.rejected.most_common())
        first = f"; the first: {tally.examples[0]}" if tally.examples else ""
        if rejected > most:
            said = f"{rejected:,} of {tally.read:,} rows are rejected ({reasons}), --max-rejected allows {self.text}"
            raise InputError(f"{said}; nothing was written{first}")
        if not tally.written:
            raise InputError(f"of {tally.read:,} rows none is left to write ({reasons or 'nothing to read'}){first}")
