"""An evaluation plays every row once, keeps the records in order, and refuses rows that it can't evaluate."""

import asyncio
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from codevision_ext.config import Settings
from codevision_ext.errors import EngineError, InfraError, InputError
from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.evaluate.options import read_suites
from codevision_ext.evaluate.run import EvalItem, evaluate, finished, rollout_seed
from codevision_ext.evaluate.suites import SUITES
from codevision_ext.evaluate.summary import summarise_suite
from codevision_ext.io.records import Record, RecordWriter, image_path, read_records
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.loop import Completion, Policy
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.sandbox import Sandbox
from data_prep import eval_items
from data_prep.formats.schema import RL_SCHEMA, Row, rl_record

LIMITS = RolloutLimits(response_tokens=4000, assistant_turns=4)


class Letters:
    """A renderer whose tokens are characters."""

    end_id = 0

    def resize(self, image: Image.Image) -> Image.Image:
        return image

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], resized: Sequence[Image.Image]
    ) -> list[int]:
        words = "\n".join(part.get("text", "") for message in messages for part in message["content"])
        return [ord(letter) for letter in f"{len(tools)} tools, {len(resized)} images\n{words}"]

    def observation(self, role: str, text: str, resized: Sequence[Image.Image], *, closed: bool) -> list[int]:
        return [ord(letter) for letter in f"{role} {text} {len(resized)} {closed}"]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids[:-1]))


def says(text: str, seen: list[str] | None = None, delay_s: float = 0.0) -> Policy:
    """A policy with one thing to say."""

    async def speak(ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG001
        if seen is not None:
            seen.append("".join(map(chr, ids)))
        await asyncio.sleep(delay_s)
        spoken = [*map(ord, text), Letters.end_id]
        return Completion(ids=spoken, log_probs=[-0.5] * len(spoken), finished=True)

    return speak


async def breaks(ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG001
    raise EngineError("the engine aborted a request")


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (28, 28), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write_rows(path: Path, items: int = 2) -> Path:
    rows = [
        Row(
            images=(png(10 * item + at),),
            question="What number is written?",
            answers=(str(item),),
            source="glyphs",
            split="test",
            index=item * len(COLUMNS) + at,
            size=(28, 28),
            column=column,
        )
        for item in range(items)
        for at, column in enumerate(COLUMNS)
    ]
    pq.write_table(pa.Table.from_pylist([rl_record(row) for row in rows], schema=RL_SCHEMA), path)
    return path


def items_of(path: Path, limit: int | None = None) -> Sequence[EvalItem]:
    """The items of the transformed benchmark in a file."""
    return read_suites([f"transformed={path}"], eval_items, limit=limit)[0].items


def columns_of(records: Sequence[Record]) -> dict[str, tuple[float, int]]:
    """Accuracy and number of items of each column."""
    columns = summarise_suite(SUITES["transformed"], records, 1, "").columns
    return {column: (each.score.accuracy, each.score.n) for column, each in columns.items()}


def run(path: Path, out: RecordWriter, policy: Any, **given: Any) -> list[Record]:
    options = {"tool": None, "limits": LIMITS, "settings": Settings()} | given
    return asyncio.run(evaluate(items_of(path), policy=policy, renderer=Letters(), out=out, **options))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "test.parquet")


@pytest.fixture
def out(tmp_path: Path) -> RecordWriter:
    return RecordWriter(tmp_path / "eval", "base_tool_off")


def test_records_stand_in_the_order_of_the_rows_however_long_each_took(rows: Path, out: RecordWriter) -> None:
    delays = iter([0.05, 0.0, 0.03, 0.01, 0.04, 0.0, 0.02, 0.05, 0.0, 0.01, 0.03, 0.0])
    said = "<think>a</think><answer>1</answer>"
    records = run(rows, out, lambda _: says(said, delay_s=next(delays)))
    assert [record.column for record in records] == [*COLUMNS, *COLUMNS]
    assert list(read_records(out.path)) == records
    assert columns_of(records) == dict.fromkeys(COLUMNS, (0.5, 2))
    assert all(image_path(out.directory, name).is_file() for record in records for name in record.pictures)
    assert (records[0].split, records[0].seed, records[0].answer, records[0].references) == ("test", 0, "1", ("0",))


def test_a_second_evaluation_plays_only_what_is_missing(rows: Path, out: RecordWriter) -> None:
    first = run(rows, out, lambda _: says("<answer>0</answer>"))
    lines = out.path.read_bytes().splitlines(keepends=True)
    out.path.write_bytes(b"".join(lines[:5]))
    second = run(rows, out, lambda _: says("<answer>1</answer>"))
    assert second[:5] == first[:5]
    assert {record.answer for record in second[5:]} == {"1"}
    assert list(read_records(out.path)) == second


def test_progress_counts_every_case(rows: Path, out: RecordWriter) -> None:
    told: list[tuple[int, int]] = []
    run(rows, out, lambda _: says("x"), progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 12) for n in range(1, 13)]


def test_without_the_tool_nothing_speaks_of_it_and_a_call_ends_the_rollout(rows: Path, out: RecordWriter) -> None:
    seen: list[str] = []
    call = '<think>a</think><tool_call>{"name": "code_image_tool", "arguments": {"code": "x"}}</tool_call>'
    records = run(rows, out, lambda _: says(call, seen))
    assert len(seen) == len(records) == 12
    assert all(prompt.startswith("0 tools, 1 images") and "tool_call" not in prompt for prompt in seen)
    assert not any(record.observed.steps for record in records)


def test_with_the_tool_the_code_is_run_and_the_prompt_explains_it(rows: Path, out: RecordWriter) -> None:
    seen: list[str] = []
    code = "image = image.rotate(90, expand=True).resize((14, 28))"
    call = f'<think>a</think><tool_call>{{"name": "code_image_tool", "arguments": {{"code": "{code}"}}}}</tool_call>'
    with Sandbox() as sandbox:
        records = run(rows, out, lambda _: says(call, seen), tool=CodeTool(sandbox), limits=LIMITS)
    assert all("tool_call" in prompt for prompt in seen)
    assert seen[0].startswith("1 tools, 1 images")
    assert [len(record.observed.steps) for record in records] == [3] * 12
    assert all(step.ok for record in records for step in record.observed.steps)


def test_a_rollout_that_breaks_is_invalid_and_counts_neither_way(rows: Path, out: RecordWriter) -> None:
    broken = rollout_seed(0, items_of(rows)[0].name, 0)
    records = run(rows, out, lambda seed: breaks if seed == broken else says("<answer>0</answer>"))
    assert [record.observed.valid for record in records] == [False] + [True] * 11
    assert columns_of(records)["source"] == (0.0, 1)


def test_a_column_without_a_valid_rollout_is_named_instead_of_left_out(rows: Path, out: RecordWriter) -> None:
    records = run(rows, out, lambda _: says("<answer>0</answer>"))
    records = [
        replace(record, observed=replace(record.observed, valid=record.column != "source")) for record in records
    ]
    with pytest.raises(InputError, match="suite transformed: no valid rollout in column source"):
        columns_of(records)


def test_too_many_broken_rollouts_end_the_evaluation_and_none_counts_as_finished(rows: Path, out: RecordWriter) -> None:
    with pytest.raises(InfraError, match=r"4 rollouts broke.*the last: the engine aborted a request"):
        run(rows, out, lambda _: breaks)
    assert finished(out.path, 1) == {}


def test_every_rollout_has_a_seed_of_its_own_that_depends_on_the_evaluation_s(rows: Path, out: RecordWriter) -> None:
    seeds: dict[int, list[int]] = {0: [], 1: []}
    for seed, given in seeds.items():
        run(rows, out, lambda own, given=given: given.append(own) or says("x"), rollouts=2, seed=seed)
        out.path.unlink()
    assert len(set(seeds[0]) | set(seeds[1])) == 48
    assert all(0 <= seed < 2**63 for seed in seeds[0])
    assert set(seeds[0]) == {rollout_seed(0, item.name, number) for item in items_of(rows) for number in range(2)}


def test_no_more_rollouts_are_under_way_than_allowed(rows: Path, out: RecordWriter) -> None:
    under_way, most, three = 0, 0, asyncio.Barrier(3)

    async def slow(ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG001
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.wait_for(three.wait(), 30)  # none ends before three are under way
        under_way -= 1
        return Completion(ids=[0], log_probs=[0.0], finished=True)

    run(rows, out, lambda _: slow, concurrency=3)
    assert most == 3


def test_a_limit_takes_the_first_rows_of_every_column(rows: Path) -> None:
    items = items_of(rows, limit=1)
    assert [each.item.column for each in items] == list(COLUMNS)
    assert {each.item.references for each in items} == {("0",)}


def damaged(path: Path, **change: Any) -> Path:
    table = pq.read_table(write_rows(path)).to_pylist()
    table[3] = table[3] | change
    pq.write_table(pa.Table.from_pylist(table, schema=RL_SCHEMA), path)
    return path


def test_what_can_not_be_evaluated_is_said_with_its_file_and_row(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    with pytest.raises(InputError, match=r"test\.parquet: no such file"):
        items_of(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"test\.parquet: can't be read: Parquet magic bytes"):
        items_of(path)
    pq.write_table(pq.read_table(write_rows(path)).drop_columns(["reward_model"]), path)
    with pytest.raises(InputError, match=r"test\.parquet: no known schema has the columns data_source, prompt"):
        items_of(path)
    with pytest.raises(InputError, match=r"test\.parquet, row 3: images: the row has no image"):
        items_of(damaged(path, images=[]))
    with pytest.raises(InputError, match=r"test\.parquet, row 3: images\[0\]: no JPEG, PNG"):
        items_of(damaged(path, images=[{"bytes": b"x", "path": None}]))
    with pytest.raises(InputError, match=r"test\.parquet, row 3: reward_model\.ground_truth: no answer"):
        items_of(damaged(path, reward_model={"style": "rule", "ground_truth": []}))
    with pytest.raises(InputError, match=r"test\.parquet, row 3: column None isn't one of source, rot90"):
        items_of(damaged(path, extra_info=None))
    table = pq.read_table(write_rows(path, items=1))
    pq.write_table(table.slice(0, 5), path)
    with pytest.raises(InputError, match=r"suite transformed: no item of column flip_v"):
        items_of(path)
