"""Writes the files of a data set while its items come in; images aren't kept in memory."""

from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

import pyarrow as pa

from codevision_ext.io.atomic_files import write_whole
from codevision_ext.rollout.dialects.base import DialectName
from data_prep.evolve import rows
from data_prep.evolve.item import ITEMS
from data_prep.evolve.report import Totals, card_text, inspect_page
from data_prep.evolve.stages import Examined
from data_prep.evolve.yields import Yields
from data_prep.formats.schema import CONVERTED_RL_SCHEMA, CONVERTED_SFT_SCHEMA, rl_record, sft_record
from data_prep.formats.writers import ParquetSet

TABLES: Final[dict[str, pa.Schema]] = {
    "v_interaction": rows.INTERACTION_SCHEMA,
    "v_perception": rows.PERCEPTION_SCHEMA,
    "train": CONVERTED_RL_SCHEMA,
    "sft": CONVERTED_SFT_SCHEMA,
}
"""Schema of each parquet file by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Origin of a data set, for its card."""

    backend: str
    seed: int
    dialect: DialectName
    suites: tuple[str, ...] = ()
    """Names of the files that were searched for leaks."""


class EvolveWriter:
    """Writes accepted items into a folder, which its caller makes appear as a whole."""

    def __init__(self, folder: Path, origin: Origin, shown: int) -> None:
        """Open the files.

        Args:
            folder: Existing folder.
            origin: Origin of the data set.
            shown: Maximum number of accepted items on the page.
        """
        self._folder, self._origin, self._shown = folder, origin, shown
        self._first: list[Examined] = []
        self._totals = Totals()
        self._stack = ExitStack()
        self._items: BinaryIO = self._stack.enter_context((folder / "items.jsonl").open("wb"))
        self._tables = {
            name: self._stack.enter_context(closing(ParquetSet(folder / f"{name}.parquet", schema)))
            for name, schema in TABLES.items()
        }

    def add(self, examined: Examined) -> None:
        """Write an item to all files that it belongs to."""
        item = examined.item
        record = rows.interaction_record(examined) if item.overlays else rows.perception_record(examined)
        self._tables["v_interaction" if item.overlays else "v_perception"].write_records([record])
        self._tables["train"].write_records([rl_record(rows.task_row(examined, self._totals.items))])
        self._tables["sft"].write_records([sft_record(rows.demonstration_of(examined, self._origin.dialect))])
        self._items.write(ITEMS.dump(item) + b"\n")
        self._totals.add(item)
        if len(self._first) < self._shown:
            self._first.append(examined)

    def finish(self, yields: Yields, rejected: Iterable[Examined]) -> Totals:
        """Write the card and the page, close all files, and return the totals."""
        self._stack.close()
        origin = {
            "back end": self._origin.backend,
            "seed": str(self._origin.seed),
            "dialect of sft.parquet": self._origin.dialect,
            "searched for leaks": ", ".join(self._origin.suites) or "no suite",
        }
        write_whole(self._folder / "card.md", card_text(origin, self._totals, yields).encode())
        write_whole(self._folder / "inspect.html", inspect_page([*self._first, *rejected]).encode())
        return self._totals

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
