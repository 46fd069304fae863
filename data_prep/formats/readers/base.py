"""Defines a reader: a name, the columns by which its files are recognised, a licence, and one function."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from data_prep.formats import fields
from data_prep.formats.row_errors import RowError
from data_prep.formats.schema import CodeTrajectory, Demonstration, Row

Item = Row | Demonstration | CodeTrajectory | RowError
ANSWERS: Final = (
    *("answers", "answer", "Answer", "label", "ground_truth", "gt_answer", "solution", "response", "output", "gt"),
    *("correct_choice_idx", "answer_idx", "answer_index", "correct_choice", "correct_answer", "answerKey"),
)
"""Fields that hold the right answers of a record; the first one that isn't empty is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Place of a record, and the kind of item that it should become."""

    name: str
    """Name of the file, without its ending."""
    row: int
    """Number of the record in the file, from 0."""
    images: Path
    """Folder that paths of images start from."""
    turns: bool
    """True: a record that can be read as a demonstration or as a task becomes a demonstration."""
    lists: bool = False
    """True: an answer such as "[3, 4]" is a list of answers (`--answers-are-lists`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads the records of one published schema."""

    name: str
    columns: tuple[tuple[str, ...], ...]
    """Columns that a file of the schema must have: at least one of each group."""
    read: Callable[[Mapping[str, Any], Place], Iterator[Item | str]]
    """Function that yields the items of a record, with images as they are stored and sizes (0, 0). It raises RowError.
    A RowError that it yields is a fault of a record that is used all the same. A text in place of an item names a part
    of the record that the target format can't express."""
    licence: str = "unknown"
    turns: bool = False
    """Kind of its items: True for demonstrations, False for tasks."""
    whole_prompt: bool = False
    """True if a record has the whole message of the user; otherwise choices, hints and images are separate columns."""
    repeated: frozenset[str] = frozenset()
    """Columns that needn't be read, because other columns hold the same."""
    published: Callable[[Mapping[str, Any]], bool] | None = None
    """Function that returns whether a record is the benchmark's own; None: all are. Tables of other sets may have the
    columns of the benchmark."""

    def missing(self, columns: Iterable[str]) -> list[str]:
        """Return the columns of the schema that are not among `columns`."""
        present = set(columns)
        return [group[0] for group in self.columns if not present & set(group)]


def question_of(record: Mapping[str, Any], *names: str) -> str:
    """Return the question in the first of these fields that isn't null, with its image tags.

    Raises:
        RowError: All of them are null or missing, or the question isn't a text.
    """
    return fields.text(fields.require(record, *names), names[0]).strip()
