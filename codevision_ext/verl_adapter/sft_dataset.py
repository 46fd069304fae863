"""Reads multi-turn SFT rows for verl's SFT trainer (`data.custom_cls`), and renders them as rollouts are rendered.

A row has `messages` (role, content with `<image>`, and perhaps `train`), `images` (a list of `{bytes}`) and `tools` (a
JSON list in a string, or empty). Only the tokens of the assistant have loss, without its messages that have
`train: false`.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from omegaconf import DictConfig
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from codevision_ext.errors import InputError
from codevision_ext.models.checkpoint_settings import format_of_sft
from codevision_ext.models.renderer import QwenRenderer
from codevision_ext.rollout.trained_format import TrainedFormat, read_trained_format, write_trained_format
from codevision_ext.task.row_checks import read_images

COLUMNS = ("messages", "images", "tools")
"""Columns that each file must have."""
KEPT_BYTES = 2 << 30
"""Maximum bytes of the encoded rows that a process keeps. A row has 24 bytes for each pixel of its resized images."""


class CodeVisionSFTDataset(Dataset):  # type: ignore[type-arg]
    """A dataset with one unpadded sequence in each row; up to `KEPT_BYTES` of encoded rows are kept for later epochs.

    `config` is the `data` section, of which `max_length` (tokens) is read. `max_samples` is the number of rows to use,
    from the first; -1 for all. The tokenizer is unused, because the Qwen-VL processor has its own.

    Raises:
        InputError: A file or a column is missing, or a row is longer than `max_length`.
    """

    def __init__(
        self,
        parquet_files: str | Sequence[str],
        tokenizer: PreTrainedTokenizerBase,  # noqa: ARG002
        config: DictConfig,
        processor: ProcessorMixin,
        max_samples: int = -1,
    ) -> None:
        self.renderer = QwenRenderer(processor)
        self.max_length = config.max_length
        self.rows: list[tuple[str, dict[str, Any]]] = []
        for path in [parquet_files] if isinstance(parquet_files, str) else list(parquet_files):
            if not Path(path).is_file():
                raise InputError(f"{path}: no such file")
            missing = set(COLUMNS) - set(pq.read_schema(path).names)
            if missing:
                raise InputError(f"{path}: column {sorted(missing)[0]} is missing")
            table = pq.read_table(path, columns=list(COLUMNS))
            self.rows += [(f"{path}, row {index}", row) for index, row in enumerate(table.to_pylist())]
        if max_samples > 0:
            self.rows = self.rows[:max_samples]
        self._encoded: dict[int, dict[str, Any]] = {}
        self._kept_bytes = 0

    def write_format(self, checkpoint: Path) -> None:
        """Writes codevision.json, which says what these rows teach, into the folder of a checkpoint."""
        write_trained_format(checkpoint, self._trained_format)

    @cached_property
    def _trained_format(self) -> TrainedFormat:
        conversations = ((row["messages"], row["tools"]) for _, row in self.rows)
        renderer = self.renderer
        earlier = read_trained_format(Path(renderer.tokenizer.name_or_path))
        return format_of_sft(conversations, renderer.turn_opening, renderer.image_bounds, earlier)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns `input_ids` (tokens,), `loss_mask` (tokens,), `position_ids` (4, tokens) and `multi_modal_inputs`."""
        if (kept := self._encoded.get(index)) is not None:
            return kept
        encoded = self._encode(*self.rows[index])
        values = (*encoded.values(), *encoded["multi_modal_inputs"].values())
        size = sum(value.nbytes for value in values if torch.is_tensor(value))
        if self._kept_bytes + size <= KEPT_BYTES:
            self._encoded[index] = encoded
            self._kept_bytes += size
        return encoded

    def _encode(self, where: str, row: dict[str, Any]) -> dict[str, Any]:
        try:
            images = read_images(row["images"])
            encoded = self.renderer.conversation(row["messages"], json.loads(row["tools"] or "[]"), images)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if len(encoded.ids) > self.max_length:
            raise InputError(f"{where}: {len(encoded.ids)} tokens, but data.max_length is {self.max_length}")
        ids = torch.tensor(encoded.ids)
        features = self.renderer.features(encoded.images)
        return {
            "input_ids": ids,
            "loss_mask": torch.tensor(encoded.mask),
            "position_ids": self.renderer.position_ids(ids, features.get("image_grid_thw")),
            "multi_modal_inputs": features,
        }
