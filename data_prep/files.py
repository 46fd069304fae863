"""How data reaches the disk: a folder appears whole or not at all."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codevision_ext.errors import InputError
from data_prep.schema import SFT_SCHEMA, Trajectory, sft_record
from data_prep.sharegpt import check_turns, to_sharegpt

ROWS_PER_GROUP = 256
"""Rows held in memory at a time, and rows of a parquet row group."""


@contextmanager
def whole_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """A fresh folder beside `out` to write into; it becomes `out` when the block ends, and is removed if it raises.

    Raises:
        InputError: `out` is a file, or a folder with something in it and not `force`; or it can't be made.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise InputError(f"--out {out} isn't empty; pass --force to replace what is in it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(f"--out {out} can't be made: {error.strerror}") from error
    try:
        draft.chmod(0o755)
        yield draft
        replaced = draft.with_name(draft.name + ".old")
        if out.exists():
            out.rename(replaced)
        draft.rename(out)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_parquet(path: Path, schema: pa.Schema, records: Iterable[Mapping[str, Any]]) -> int:
    """Write the records in row groups, and return how many there were."""
    stream, count = iter(records), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(stream, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def write_trajectories(folder: Path, name: str, made: Iterable[Trajectory]) -> tuple[int, dict[str, int]]:
    """Write NAME.parquet for verl, and NAME.json with the pictures of its items under images/ (CodeVision-SFT).

    Returns:
        How many there were, and how many of each sample type.
    """
    items: list[dict[str, Any]] = []
    types: Counter[str] = Counter()
    pictures = folder / "images"
    pictures.mkdir(exist_ok=True)

    def records() -> Iterator[dict[str, Any]]:
        for index, trajectory in enumerate(made):
            check_turns(trajectory, f"{name}, row {index}")
            names = [f"{name}-{index:06d}-{number}.png" for number in range(len(trajectory.images))]
            for png, file in zip(trajectory.images, names, strict=True):
                (pictures / file).write_bytes(png)
            items.append(to_sharegpt(trajectory, [f"images/{file}" for file in names]))
            types[trajectory.sample_type] += 1
            yield sft_record(trajectory)

    count = write_parquet(folder / f"{name}.parquet", SFT_SCHEMA, records())
    text = json.dumps(items, ensure_ascii=False, indent=1) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return count, dict(sorted(types.items()))
