"""How data reaches the disk: parquet for verl, and trajectories beside their images."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.formats.schema import SFT_SCHEMA, Demonstration, sft_record
from data_prep.formats.sharegpt import check_turns, to_sharegpt

ROWS_PER_GROUP = 256
"""Rows held in memory at a time, and rows of a parquet row group."""


def write_parquet(path: Path, schema: pa.Schema, records: Iterable[Mapping[str, Any]]) -> int:
    """Write the records in row groups, and return how many there were."""
    stream, count = iter(records), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(stream, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def write_trajectories(folder: Path, name: str, made: Iterable[Demonstration]) -> tuple[int, dict[str, int]]:
    """Write NAME.parquet for verl, and NAME.json with the images of its items under images/ (CodeVision-SFT).

    Returns:
        How many there were, and how many of each sample type.
    """
    items: list[dict[str, Any]] = []
    types: Counter[str] = Counter()
    images = folder / "images"
    images.mkdir(exist_ok=True)

    def records() -> Iterator[dict[str, Any]]:
        for index, trajectory in enumerate(made):
            check_turns(trajectory)
            names = [f"{name}-{index:06d}-{number}.png" for number in range(len(trajectory.images))]
            for png, file in zip(trajectory.images, names, strict=True):
                (images / file).write_bytes(png)
            items.append(to_sharegpt(trajectory, [f"images/{file}" for file in names]))
            types[trajectory.sample_type] += 1
            yield sft_record(trajectory)

    count = write_parquet(folder / f"{name}.parquet", SFT_SCHEMA, records())
    text = json.dumps(items, ensure_ascii=False, indent=1) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return count, dict(sorted(types.items()))
