"""Can every row of the data be shown to the model? Reads files of RL rows and of SFT rows, a few rows at a time."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import TemplateError
from PIL import Image

from codevision_ext.config import Settings, system_prompt
from codevision_ext.errors import InputError, first_line
from codevision_ext.models.renderer import QwenRenderer
from codevision_ext.preflight.result import CheckResult, failure, ok, warning
from codevision_ext.preflight.tokens import REPLIES, Conversation
from codevision_ext.rollout.code_tool import tool_schema
from codevision_ext.rollout.image_history import size_in
from codevision_ext.task.item import read_item
from codevision_ext.task.rows import check_columns, read_prompt, split_content, split_prompt
from codevision_ext.verl_adapter import sft_dataset

AT_A_TIME = 32
"""Rows whose images are in memory together."""
UNLIKE_THE_SCHEMA = (
    LookupError, TypeError, ValueError, AttributeError, OSError, TemplateError, Image.DecompressionBombError
)  # fmt: skip
"""What reading a row raises that has other types or contents than it should."""
NAMED = 5
"""Rows that a finding names; all of them are in `Rows.faults`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """A row that can't be used."""

    file: str
    row: int
    """From 0."""
    said: str


@dataclass(slots=True, kw_only=True)
class Rows:
    """What the files hold."""

    read: int = 0
    faults: list[RowProblem] = field(default_factory=list)
    longest: int = 0
    """Tokens of the longest prompt of an RL row that can be rendered, whether it is short enough or not."""
    images: int = 0
    """Of all RL rows."""
    pixels: int = 0
    """Of all of these images, at full resolution."""
    tokens: int = 0
    """Of all of these prompts."""
    image_tokens: int = 0
    largest_image: int = 0
    """Tokens of the largest image, as the model sees it."""
    misplaced: int = 0
    """RL rows with an image where the coordinates that the model family learned to write aren't the declared ones."""
    rl: int = 0
    systems: Counter[str] = field(default_factory=Counter)
    """System messages of the SFT rows that have the tool, `""` for none."""
    wanted: Counter[str] = field(default_factory=Counter)
    """System messages of the RL rows."""
    schemas: Counter[str] = field(default_factory=Counter)
    """Tool schemas of the SFT rows that have a tool."""
    conversations: list[Conversation] = field(default_factory=list)
    """One conversation a file, to be rendered."""


def read_rows(
    paths: Sequence[Path],
    renderer: QwenRenderer,
    settings: Settings,
    max_prompt_length: int,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Rows:
    """Reads every row as training would; a row that can't be used is counted and named, and the next one is read.

    Args:
        paths: Parquet files; one with a column `messages` has SFT rows, any other one RL rows.
        renderer: Of the rollout.
        settings: The plugin's; the system message is theirs.
        max_prompt_length: Tokens that the prompt of an RL row may have.
        progress: Called with the number of rows read and of all.

    Raises:
        InputError: a file can't be read, or has no rows or lacks a column; or no file has RL rows.
    """
    files = [_open(path) for path in paths]
    if all("messages" in file.schema_arrow.names for file in files):
        raise InputError("--data: none of the files has RL rows, with a column `prompt`")
    total = sum(file.metadata.num_rows for file in files)
    rows = Rows()
    with ThreadPoolExecutor() as pool:
        for path, file in zip(paths, files, strict=True):
            if "messages" in file.schema_arrow.names:
                batches = _read_file(path, file, _SFT(renderer, rows), rows, pool)
            else:
                batches = _read_file(path, file, _RL(renderer, rows, settings, max_prompt_length), rows, pool)
            for _ in batches:
                progress(rows.read, total)
    return rows


T = TypeVar("T")


class _Reader(Protocol[T]):
    """Reads the rows of one schema."""

    def prepare(self, row: dict[str, Any], where: str) -> T:
        """Decodes and resizes the row's images; called on several threads."""

    def add(self, prepared: T) -> None:
        """Counts the row."""

    def conversation(self, prepared: T, where: str) -> Conversation | None:
        """Returns the row as a conversation to render; None where it has no image or no tool call."""


def _read_file(
    path: Path, file: pq.ParquetFile, reader: _Reader[T], rows: Rows, pool: ThreadPoolExecutor
) -> Iterator[None]:
    """Reads a file into `rows`, and yields after each batch."""
    number = 0
    compared = False
    for batch in file.iter_batches(AT_A_TIME):
        wheres = [f"{path}, row {at}" for at in range(number, number + len(batch))]
        pending = [pool.submit(reader.prepare, *each) for each in zip(batch.to_pylist(), wheres, strict=True)]
        for where, future in zip(wheres, pending, strict=True):
            try:
                prepared = future.result()
                reader.add(prepared)
                if not compared and (conversation := reader.conversation(prepared, where)):
                    rows.conversations.append(conversation)
                    compared = True
            except InputError as error:
                problem = str(error).removeprefix(where).removeprefix(": ")
                rows.faults.append(RowProblem(file=str(path), row=number, said=problem))
            except UNLIKE_THE_SCHEMA as error:
                problem = f"not as the schema has it: {type(error).__name__}: {error}"
                rows.faults.append(RowProblem(file=str(path), row=number, said=problem))
            number += 1
        rows.read += len(batch)
        yield


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: can't be read as parquet: {first_line(error)}") from error
    names = file.schema_arrow.names
    if "messages" not in names:
        check_columns(names, str(path))
    elif missing := [column for column in sft_dataset.COLUMNS if column not in names]:
        raise InputError(f"{path}: column {missing[0]} is missing")
    if not file.metadata.num_rows:
        raise InputError(f"{path}: there are no rows in it")
    return file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    messages: list[dict[str, Any]]
    sizes: list[tuple[int, int]]
    """Of the images at full resolution."""
    resized: list[Image.Image]
    row: Mapping[str, Any]


class _RL:
    """Rows of the CodeVision-RL schema."""

    def __init__(self, renderer: QwenRenderer, rows: Rows, settings: Settings, max_prompt_length: int) -> None:
        self.renderer, self.rows, self.coordinates = renderer, rows, settings.coordinates
        self.max_prompt_length = max_prompt_length
        self.tools = [tool_schema(settings.coordinates)]
        self.system = system_prompt(settings, tools=True)

    def prepare(self, row: dict[str, Any], where: str) -> _Prompt:
        messages, images = split_prompt(read_prompt(row, where), self.system)
        read_item(row, images[0].size if images else (0, 0))
        sizes = [image.size for image in images]
        return _Prompt(messages=messages, sizes=sizes, resized=[self.renderer.resize(p) for p in images], row=row)

    def add(self, prompt: _Prompt) -> None:
        """Counts the row.

        Raises:
            InputError: its prompt has too many tokens.
        """
        rows = self.rows
        tokens = len(self.renderer.prompt(prompt.messages, self.tools, prompt.resized))
        shown = [self.renderer.image_tokens(image) for image in prompt.resized]
        rows.rl += 1
        rows.longest = max(rows.longest, tokens)
        rows.tokens += tokens
        rows.image_tokens += sum(shown)
        rows.largest_image = max([rows.largest_image, *shown])
        rows.images += len(shown)
        rows.pixels += sum(width * height for width, height in prompt.sizes)
        rows.misplaced += any(
            size_in(self.coordinates, size, f.size) != size_in(self.renderer.coordinates, size, f.size)
            for f, size in zip(prompt.resized, prompt.sizes, strict=True)
        )
        first = prompt.messages[0]
        rows.wanted["".join(part["text"] for part in first["content"]) if first["role"] == "system" else ""] += 1
        if tokens > self.max_prompt_length:
            raise InputError(f"{tokens} tokens, data.max_prompt_length is {self.max_prompt_length}")

    def conversation(self, prompt: _Prompt, where: str) -> Conversation | None:
        if not prompt.sizes:
            return None
        messages, images = split_prompt(read_prompt(prompt.row, where), self.system)
        return Conversation(where=where, messages=messages, images=images, replies=REPLIES)


class _SFT:
    """Rows as `sft_dataset.CodeVisionSFTDataset` reads them."""

    def __init__(self, renderer: QwenRenderer, rows: Rows) -> None:
        self.renderer, self.rows = renderer, rows

    def prepare(self, row: dict[str, Any], where: str) -> tuple[dict[str, Any], list[Image.Image]]:  # noqa: ARG002
        return row, [Image.open(io.BytesIO(image["bytes"])).convert("RGB") for image in row["images"] or []]

    def add(self, prepared: tuple[dict[str, Any], list[Image.Image]]) -> None:
        """Counts the row."""
        row, images = prepared
        messages = row["messages"]
        tools = json.loads(row["tools"] or "[]")
        self.renderer.conversation(messages, tools, images)
        if tools:
            first = messages[0]
            self.rows.systems[first["content"].strip() if first["role"] == "system" else ""] += 1
            self.rows.schemas[json.dumps(tools, sort_keys=True)] += 1

    def conversation(self, prepared: tuple[dict[str, Any], list[Image.Image]], where: str) -> Conversation | None:
        row, images = prepared
        turns = row["messages"]
        told = [turn["content"].replace("<image>", "") for turn in turns if turn["role"] == "tool"]
        if not told:
            return None
        start = next(at for at, turn in enumerate(turns) if turn["role"] == "assistant")
        messages = [{"role": turn["role"], "content": split_content(turn["content"])} for turn in turns[:start]]
        count = sum(part["type"] == "image" for message in messages for part in message["content"])
        replies = [turn["content"] for turn in turns if turn["role"] == "assistant"]
        return Conversation(where=where, messages=messages, images=images[:count], replies=replies, told=told)


def row_results(
    rows: Rows, renderer: QwenRenderer, settings: Settings, max_prompt_length: int
) -> Iterator[CheckResult]:
    """What is wrong with the rows, and whether SFT and RL say the same before the first turn."""
    by_file: dict[str, list[RowProblem]] = {}
    for fault in rows.faults:
        by_file.setdefault(fault.file, []).append(fault)
    for file, faults in by_file.items():
        named = "; ".join(f"row {fault.row}: {fault.said}" for fault in faults[:NAMED])
        more = f"; and {len(faults) - NAMED:,} more, all of them on stdout" if len(faults) > NAMED else ""
        remedy = "mend or drop them"
        if rows.longest > max_prompt_length:
            remedy += f"; for too long ones set data.max_prompt_length: {rows.longest}, or show smaller images"
        yield failure("rows", f"{file}: {len(faults):,} rows can't be used: {named}{more}", remedy)
    if not rows.faults:
        said = f"all {rows.read:,} rows can be used; the longest prompt has {rows.longest:,} tokens"
        yield ok("rows", f"{said} of {max_prompt_length:,}")
    if rows.misplaced:
        learned = renderer.coordinates
        said = f"codevision.coordinates is {settings.coordinates}, {renderer.family} learned to write {learned}"
        remedy = f"set codevision.coordinates: {learned}, with SFT rows that say so too"
        yield warning("coordinate frame", f"{said}; they differ in {rows.misplaced:,} of {rows.rl:,} rows", remedy)
    yield from _agreement(rows, settings)


def _agreement(rows: Rows, settings: Settings) -> Iterator[CheckResult]:
    check = "SFT and RL"
    if not rows.systems:
        yield warning(check, "not compared: there are no SFT rows with the tool", "give their file as one more --data")
        return
    (common, count), *_ = rows.systems.most_common(1)
    strange = [system for system in rows.wanted if system not in rows.systems]
    if strange:
        said = f"RL's system message, {_short(strange[0])}, is in no SFT row; {count:,} have {_short(common)}"
        remedy = "set codevision.system_prompt to what SFT had: a checkpoint that never saw it forgets the tool"
        yield failure(check, said, remedy)
    ours = json.dumps([tool_schema(settings.coordinates)], sort_keys=True)
    others = sum(rows.schemas.values()) - rows.schemas[ours]
    if others:
        said = f"{others:,} SFT rows have another tool schema than the one that RL shows"
        remedy = f"make the SFT rows with the one of codevision.coordinates: {settings.coordinates}"
        yield failure(check, said, f"{remedy} (docs/coordinates.md), or set that to what they have")
    if not strange and not others:
        yield ok(check, f"the same system message, {_short(common)}, and the same tool schema")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...") if text else "none"
