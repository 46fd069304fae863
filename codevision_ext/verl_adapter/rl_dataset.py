"""Reads RL rows of the CodeVision-RL schema for verl's trainer (`data.custom_cls`).

A column can have different types in different files (`transform` is a string in one file and a list in another), so the
files aren't joined into one table. The agent loop gets images at full resolution.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets
import torch
from omegaconf import DictConfig
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from codevision_ext.errors import InputError
from codevision_ext.task.item import read_item
from codevision_ext.task.rows import check_columns, read_prompt


class CodeVisionRLDataset(Dataset):  # type: ignore[type-arg]
    """A dataset with one prompt in each row; `task.rows.COLUMNS` and the data documentation describe the schema.

    `max_samples` is the number of rows to use, from the first; -1 for all. Tokenizer, config and processor are unused.

    Raises:
        InputError: A file or a column is missing.
    """

    def __init__(
        self,
        data_files: str | Sequence[str],
        tokenizer: PreTrainedTokenizerBase | None = None,  # noqa: ARG002
        config: DictConfig | None = None,  # noqa: ARG002
        processor: ProcessorMixin | None = None,  # noqa: ARG002
        max_samples: int = -1,
    ) -> None:
        self.files = [data_files] if isinstance(data_files, str) else list(data_files)
        self.tables = []
        for path in self.files:
            if not Path(path).is_file():
                raise InputError(f"{path}: no such file")
            table = datasets.Dataset.from_parquet(path)
            check_columns(table.column_names, path)
            self.tables.append(table)
        self.ends = list(accumulate(len(table) for table in self.tables))
        self.length = self.ends[-1] if max_samples < 0 else min(max_samples, self.ends[-1])

    def system_messages(self) -> Counter[str | None]:
        """Returns the system messages that the rows bring, with the number of rows; None for rows that bring none."""
        counts: Counter[str | None] = Counter()
        for table in self.tables:
            for messages in table.select_columns("prompt")["prompt"]:
                first = messages[0] if messages else {}
                counts[first["content"] if first.get("role") == "system" else None] += 1
        return counts

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns the fields of a row for the agent loop; `raw_prompt` has PIL images in its parts.

        Raises:
            InputError: The row can't be used; the message names file, row and field.
        """
        table = bisect_right(self.ends, index)
        row = self.tables[table][index - (self.ends[table - 1] if table else 0)]
        where = f"{self.files[table]}, row {index - (self.ends[table - 1] if table else 0)}"
        messages = read_prompt(row, where)
        first = next((part["image"] for m in messages for part in m["content"] if part["type"] == "image"), None)
        extra = dict(row["extra_info"] or {}) | {"index": (row["extra_info"] or {}).get("index", index)}
        extra.pop("edited_image", None)  # no part of a training reads it, and it would travel with every rollout
        fields = {
            "raw_prompt": messages,
            "data_source": row.get("data_source") or "unknown",
            "reward_model": row["reward_model"],
            "extra_info": extra,
        }
        try:
            read_item(fields, first.size if first else (0, 0))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        return fields | {"index": extra["index"], "dummy_tensor": torch.tensor([0], dtype=torch.uint8)}
