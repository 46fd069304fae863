"""Tests that a Ray cluster writes the same bytes as one process."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from sets import data_prep, rl_row, write_json


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")  # of Ray, about itself
@pytest.mark.usefixtures("cluster")
def test_two_local_workers_write_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    rows = [rl_row(index, ("rotate_90",)) for index in range(24)] + [
        rl_row(99, ("rotate_90",), reward_model={"style": "rule", "ground_truth": " "})
    ]
    pq.write_table(pa.Table.from_pylist(rows[1:]), tmp_path / "a.parquet", row_group_size=5)
    line = rl_row(0, ["rotate_90"], images=[])
    write_json(tmp_path / "b.jsonl", [line, line])
    inputs = (tmp_path / "a.parquet", tmp_path / "b.jsonl", "--max-rejected", 5)
    words = ("transform", *inputs, "--columns", "source,rot90")
    alone = data_prep(*words, "--out", tmp_path / "one.parquet", "--workers", 1)
    on_ray = data_prep(*words, "--out", tmp_path / "two.parquet", "--workers", 2, "--ray")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert alone["rejected"] == on_ray["rejected"] != {}
    assert alone["rows"] == on_ray["rows"]
