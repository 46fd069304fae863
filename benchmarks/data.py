"""Compares the speed of `data_prep convert` with `datasets.map` with default settings, on the same rows.

    python benchmarks/data.py --rows 5000

Both read one parquet file with JPEG images, check every image, normalise the fields and write a parquet file. Runs
alternate. Prints medians, and the peak memory of the process and its children. Exits 1 if `convert` isn't three times
as fast, or if the written rows differ.
"""

import argparse
import io
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from data_prep.convert.convert import Options, Target, convert
from data_prep.convert.validate import ImageLimits, validate_row
from data_prep.formats.readers import READERS, Place
from data_prep.formats.schema import CONVERTED_RL_SCHEMA, rl_record
from data_prep.formats.sources import find_sources
from data_prep.formats.writers import whole_parquet
from data_prep.parallel.pipeline import spare_cores

TARGET = 3.0
"""Minimum ratio of rows per second of `convert` to rows per second of `datasets.map`."""


def write_rows(path: Path, count: int, size: tuple[int, int]) -> None:
    """Write CodeVision-RL rows with JPEGs of this size: 64 images, but unique files by their comments."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(64):
        noise = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        images.append(buffer.getvalue())
    with pq.ParquetWriter(path, pa.Table.from_pylist([row(0, images[0])]).schema) as writer:
        for first in range(0, count, 256):
            rows = [row(index, commented(images[index % 64], index)) for index in range(first, min(count, first + 256))]
            writer.write_table(pa.Table.from_pylist(rows, schema=writer.schema))


def commented(jpeg: bytes, number: int) -> bytes:
    """Insert a COM segment after the first marker of a JPEG file."""
    return jpeg[:2] + b"\xff\xfe\x00\x06" + number.to_bytes(4) + jpeg[2:]


def row(index: int, image: bytes) -> dict[str, object]:
    question = f"What is word {index}?"
    return {
        "data_source": "hiertext",
        "prompt": [{"role": "user", "content": f"<image>\n{question}"}],
        "images": [{"bytes": image, "path": "a.jpg"}],
        "reward_model": {"style": "rule", "ground_truth": f"word{index}"},
        "extra_info": {
            "answer": f"word{index}",
            "bbox": [10.0, 10.0, 60.0, 30.0],
            "dataset_name": "hiertext",
            "index": index,
            "question": question,
            "split": "train",
            "transform": ["crop", "rotate_90"],
        },
    }


def by_us(source: Path, out: Path, workers: int) -> None:
    """Convert as `data_prep convert` does."""
    with whole_parquet(out, CONVERTED_RL_SCHEMA, force=True) as writer:
        convert(find_sources([source]), Options(target=Target.RL), writer, workers=workers)


def by_datasets(source: Path, out: Path, _: int) -> None:
    """Convert with the same reader and checks in `datasets.map`, row by row, with default settings."""
    import datasets  # noqa: PLC0415

    datasets.disable_caching()
    datasets.disable_progress_bars()
    reader = READERS["codevision-rl"]

    def one(record: dict[str, object], number: int) -> dict[str, object]:
        place = Place(name="a", row=number, images=source.parent, turns=False)
        (item,) = reader.read(record, place)
        validated, faults = validate_row(item, ImageLimits())  # type: ignore[arg-type]
        assert not faults
        result = rl_record(validated)
        result["extra_info"]["licence"] = item.licence or reader.licence
        return result

    with tempfile.TemporaryDirectory() as cache:
        table = datasets.Dataset.from_parquet(str(source), cache_dir=cache)
        features = datasets.Features.from_arrow_schema(CONVERTED_RL_SCHEMA)
        table.map(one, with_indices=True, features=features).to_parquet(out)


def measure_run(run: object, *arguments: object) -> tuple[float, float, float]:
    """Run in a new process; return seconds, processor seconds and peak memory with children, MiB.

    Memory is the sum of the processes' PSS, so shared pages count once.
    """
    before = processor_seconds()
    process = multiprocessing.get_context("spawn").Process(target=run, args=arguments)  # type: ignore[arg-type]
    start = time.perf_counter()
    process.start()
    main_process, largest = psutil.Process(process.pid), 0
    while process.is_alive():
        try:
            family = [main_process, *main_process.children(recursive=True)]
            largest = max(largest, sum(member.memory_full_info().pss for member in family))
        except psutil.NoSuchProcess:
            continue
        process.join(1.0)  # reading PSS is expensive, so it is done once a second
    if process.exitcode:
        raise SystemExit(f"exit code {process.exitcode}")
    return time.perf_counter() - start, processor_seconds() - before, largest / 2**20


def processor_seconds() -> float:
    """Return the processor seconds of all finished children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Print the figures as JSON; return 1 if the target is missed or the rows differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--size", default="1024x768", help="size of the images, pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=spare_cores())
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    runs: dict[str, list[tuple[float, float, float]]] = {"data_prep": [], "datasets": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "in.parquet", options.rows, (width, height))
        for _ in range(options.repeats):
            for label, run in (("data_prep", by_us), ("datasets", by_datasets)):
                runs[label].append(
                    measure_run(run, folder / "in.parquet", folder / f"{label}.parquet", options.workers)
                )
        same = (
            pq.read_table(folder / "data_prep.parquet").to_pylist()
            == pq.read_table(folder / "datasets.parquet").to_pylist()
        )
        size = (folder / "in.parquet").stat().st_size
    seconds, busy = (
        {label: statistics.median(each[column] for each in times) for label, times in runs.items()} for column in (0, 1)
    )
    figures = {
        "rows": options.rows,
        "input_mib": size / 2**20,
        "workers": options.workers,
        "rows_per_s": {label: options.rows / value for label, value in seconds.items()},
        "ratio": seconds["datasets"] / seconds["data_prep"],
        "processor_seconds": busy,
        "processor_ratio": busy["datasets"] / busy["data_prep"],
        "largest_mib": {label: max(each[2] for each in times) for label, times in runs.items()},
        "same_rows": same,
        "target_ratio": TARGET,
    }
    print(json.dumps(figures, indent=2))  # noqa: T201
    return int(not same or seconds["datasets"] / seconds["data_prep"] < TARGET)


if __name__ == "__main__":
    sys.exit(main())
