"""The benchmark of `convert` compares two programs that write the same rows."""

from pathlib import Path

import pyarrow.parquet as pq
from data import by_datasets, by_us, write_rows


def test_convert_and_datasets_map_write_the_same_rows(tmp_path: Path) -> None:
    source, ours, theirs = (tmp_path / f"{name}.parquet" for name in ("in", "ours", "theirs"))
    write_rows(source, 6, (320, 240))
    by_us(source, ours, 1)
    by_datasets(source, theirs, 1)
    assert pq.read_table(ours).to_pylist() == pq.read_table(theirs).to_pylist()
