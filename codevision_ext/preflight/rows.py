"""Checks that every RL row and SFT row of the data can be used, a few rows at a time."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import TemplateError
from PIL import Image

from codevision_ext.config import Settings, system_prompt, tool_schemas
from codevision_ext.errors import InputError, first_line
from codevision_ext.models.renderer import QwenRenderer
from codevision_ext.preflight.result import CheckResult, failure, ok, warning
from codevision_ext.preflight.tokens import Conversation, made_up_replies
from codevision_ext.rollout.dialects.base import DialectName
from codevision_ext.rollout.dialects.registry import DIALECTS, dialect_of
from codevision_ext.rollout.image_history import size_in
from codevision_ext.rollout.loop import with_question_end
from codevision_ext.task.item import read_item
from codevision_ext.task.row_checks import IMAGE_TAG, read_images
from codevision_ext.task.rows import check_columns, read_prompt, split_content, split_prompt
from codevision_ext.verl_adapter import sft_dataset

BATCH_ROWS = 32
"""Rows whose images are in memory at the same time."""
SCHEMA_ERRORS = (LookupError, TypeError, ValueError, AttributeError, OSError, TemplateError)
"""Errors from reading a row whose types or contents differ from the schema."""
NAMED_ROWS = 5
"""Maximum rows that a result names; `DataSummary.problems` has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """A row that can't be used."""

    file: str
    row: int
    """Number of the row in its file, from 0."""
    message: str


@dataclass(slots=True, kw_only=True)
class DataSummary:
    """Counts and sizes of all files, and what the later checks need of them."""

    read: int = 0
    """Rows that were read, usable or not."""
    problems: list[RowProblem] = field(default_factory=list)
    rl: int = 0
    """RL rows whose prompt can be rendered, whether it is short enough or not; the next six count these rows."""
    longest_prompt: int = 0
    """Tokens of the longest prompt."""
    images: int = 0
    pixels: int = 0
    """Pixels of all images, at full resolution."""
    prompt_tokens: int = 0
    """Tokens of all prompts, image tokens included."""
    image_tokens: int = 0
    largest_image: int = 0
    """Tokens of the largest image, as the model sees it."""
    other_coordinates: int = 0
    """RL rows with an image in which the declared coordinates differ from those that the model family learned."""
    rl_systems: Counter[str] = field(default_factory=Counter)
    """System messages of the RL rows, `""` for none."""
    sft_systems: Counter[str] = field(default_factory=Counter)
    """System messages of the SFT rows that have a tool, `""` for none."""
    sft_schemas: Counter[str] = field(default_factory=Counter)
    """Tool schemas of the SFT rows that have a tool."""
    sft_dialects: Counter[DialectName] = field(default_factory=Counter)
    """Dialects of the SFT rows that have a call."""
    conversations: list[Conversation] = field(default_factory=list)
    """At most one conversation of each file, to be rendered."""


def read_rows(
    paths: Sequence[Path],
    renderer: QwenRenderer,
    settings: Settings,
    max_prompt_length: int,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> DataSummary:
    """Reads every row as training does; a row that can't be used becomes a problem, and reading goes on.

    A parquet file with a column `messages` has SFT rows, any other file RL rows, whose prompts may have
    `max_prompt_length` tokens. `progress` is called after each batch with the numbers of rows read and of all rows.

    Raises:
        InputError: a file can't be read, has no rows or lacks a column, or no file has RL rows.
    """
    files = [_open(path) for path in paths]
    if all("messages" in file.schema_arrow.names for file in files):
        raise InputError("--data: none of the files has RL rows, with a column `prompt`")
    total = sum(file.metadata.num_rows for file in files)
    summary = DataSummary()
    with ThreadPoolExecutor() as pool:
        for path, file in zip(paths, files, strict=True):
            sft = "messages" in file.schema_arrow.names
            reader = _SFTReader(renderer, summary) if sft else _RLReader(renderer, summary, settings, max_prompt_length)
            for _ in _read_file(path, file, reader, summary, pool):
                progress(summary.read, total)
    return summary


def _read_file(
    path: Path, file: pq.ParquetFile, reader: "_RLReader | _SFTReader", summary: DataSummary, pool: ThreadPoolExecutor
) -> Iterator[None]:
    """Adds the rows of a file to the summary, and yields after each batch; rows are prepared on several threads."""
    prepare: Callable[[dict[str, Any], str], Any] = reader.prepare
    number = 0
    has_conversation = False
    for batch in file.iter_batches(BATCH_ROWS):
        wheres = [f"{path}, row {at}" for at in range(number, number + len(batch))]
        pending = [pool.submit(prepare, *each) for each in zip(batch.to_pylist(), wheres, strict=True)]
        for where, future in zip(wheres, pending, strict=True):
            try:
                prepared = future.result()
                reader.add(prepared)
                if not has_conversation and (conversation := reader.conversation(prepared, where)):
                    summary.conversations.append(conversation)
                    has_conversation = True
            except InputError as error:
                message = str(error).removeprefix(where).removeprefix(": ")
                summary.problems.append(RowProblem(file=str(path), row=number, message=message))
            except SCHEMA_ERRORS as error:
                message = f"differs from the schema: {type(error).__name__}: {error}"
                summary.problems.append(RowProblem(file=str(path), row=number, message=message))
            number += 1
        summary.read += len(batch)
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
    """Width and height of each image, in pixels at full resolution."""
    resized: list[Image.Image]
    """Images as the model sees them."""
    row: Mapping[str, Any]


class _RLReader:
    """Reads rows of the CodeVision-RL schema."""

    def __init__(
        self, renderer: QwenRenderer, summary: DataSummary, settings: Settings, max_prompt_length: int
    ) -> None:
        self.renderer, self.summary, self.coordinates = renderer, summary, settings.coordinates
        self.max_prompt_length = max_prompt_length
        self.dialect = DIALECTS[settings.dialect]
        self.tools = tool_schemas(settings)
        self.system = system_prompt(settings, tools=True)

    def prepare(self, row: dict[str, Any], where: str) -> _Prompt:
        """Decodes and resizes the row's images."""
        messages, images = self._prompt(row, where)
        read_item(row, images[0].size if images else (0, 0))
        sizes = [image.size for image in images]
        return _Prompt(messages=messages, sizes=sizes, resized=[self.renderer.resize(p) for p in images], row=row)

    def add(self, prepared: _Prompt) -> None:
        """Adds the row to the summary.

        Raises:
            InputError: the prompt has too many tokens.
        """
        summary = self.summary
        tokens = len(self.renderer.prompt(prepared.messages, self.tools, prepared.resized))
        image_tokens = [self.renderer.image_tokens(image) for image in prepared.resized]
        summary.rl += 1
        summary.longest_prompt = max(summary.longest_prompt, tokens)
        summary.prompt_tokens += tokens
        summary.image_tokens += sum(image_tokens)
        summary.largest_image = max([summary.largest_image, *image_tokens])
        summary.images += len(image_tokens)
        summary.pixels += sum(width * height for width, height in prepared.sizes)
        summary.other_coordinates += any(
            size_in(self.coordinates, size, image.size) != size_in(self.renderer.coordinates, size, image.size)
            for image, size in zip(prepared.resized, prepared.sizes, strict=True)
        )
        first = prepared.messages[0]
        system = "".join(part["text"] for part in first["content"]) if first["role"] == "system" else ""
        summary.rl_systems[system] += 1
        if tokens > self.max_prompt_length:
            raise InputError(f"{tokens} tokens, data.max_prompt_length is {self.max_prompt_length}")

    def conversation(self, prepared: _Prompt, where: str) -> Conversation | None:
        """Returns the prompt with the replies of `REPLIES`; None if it has no image."""
        if not prepared.sizes:
            return None
        messages, images = self._prompt(prepared.row, where)
        return Conversation(where=where, messages=messages, images=images, replies=made_up_replies(self.dialect))

    def _prompt(self, row: Mapping[str, Any], where: str) -> tuple[list[dict[str, Any]], list[Image.Image]]:
        """Returns the messages and images of the row's prompt, as a rollout with the tool begins with them."""
        messages, images = split_prompt(read_prompt(row, where), self.system)
        return with_question_end(messages, self.dialect), images


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demonstration:
    row: Mapping[str, Any]
    images: list[Image.Image]


class _SFTReader:
    """Reads rows as `sft_dataset.CodeVisionSFTDataset` does."""

    def __init__(self, renderer: QwenRenderer, summary: DataSummary) -> None:
        self.renderer, self.summary = renderer, summary

    def prepare(self, row: dict[str, Any], where: str) -> _Demonstration:  # noqa: ARG002
        """Decodes the row's images."""
        return _Demonstration(row=row, images=read_images(row["images"]))

    def add(self, prepared: _Demonstration) -> None:
        """Adds the row to the summary.

        Raises:
            InputError: the row can't be rendered.
        """
        messages = prepared.row["messages"]
        tools = json.loads(prepared.row["tools"] or "[]")
        self.renderer.conversation(messages, tools, prepared.images)
        dialect = dialect_of((message["role"], message["content"]) for message in messages)
        if dialect:
            self.summary.sft_dialects[dialect.name] += 1
        if tools or (dialect and not dialect.has_schema):
            first = messages[0]
            self.summary.sft_systems[first["content"].strip() if first["role"] == "system" else ""] += 1
        if tools:
            self.summary.sft_schemas[json.dumps(tools, sort_keys=True)] += 1

    def conversation(self, prepared: _Demonstration, where: str) -> Conversation | None:
        """Returns the row's prompt and replies; None if the row has no observation of the tool."""
        turns = prepared.row["messages"]
        observations = [turn["content"].replace(IMAGE_TAG, "") for turn in turns if turn["role"] == "tool"]
        if not observations:
            return None
        start = next(at for at, turn in enumerate(turns) if turn["role"] == "assistant")
        messages = [{"role": turn["role"], "content": split_content(turn["content"])} for turn in turns[:start]]
        count = sum(part["type"] == "image" for message in messages for part in message["content"])
        return Conversation(
            where=where,
            messages=messages,
            images=prepared.images[:count],
            replies=[turn["content"] for turn in turns if turn["role"] == "assistant"],
            observations=observations,
        )


def row_results(
    summary: DataSummary, renderer: QwenRenderer, settings: Settings, max_prompt_length: int
) -> Iterator[CheckResult]:
    """Yields the rows that can't be used, and whether RL rows and SFT rows agree on system message and tool schema."""
    by_file: dict[str, list[RowProblem]] = {}
    for problem in summary.problems:
        by_file.setdefault(problem.file, []).append(problem)
    for file, problems in by_file.items():
        named = "; ".join(f"row {problem.row}: {problem.message}" for problem in problems[:NAMED_ROWS])
        more = f"; and {len(problems) - NAMED_ROWS:,} more, all listed on stdout" if len(problems) > NAMED_ROWS else ""
        remedy = "correct or drop them"
        if summary.longest_prompt > max_prompt_length:
            remedy += f"; if too long, set data.max_prompt_length: {summary.longest_prompt}, or use smaller images"
        yield failure("rows", f"{file}: {len(problems):,} rows can't be used: {named}{more}", remedy)
    if not summary.problems:
        message = f"all {summary.read:,} rows can be used; the longest prompt has {summary.longest_prompt:,} tokens"
        yield ok("rows", f"{message} of {max_prompt_length:,}")
    if summary.other_coordinates:
        learned = renderer.coordinates
        message = f"codevision.coordinates is {settings.coordinates}, but {renderer.family} learned {learned}"
        rows = f"they differ in {summary.other_coordinates:,} of {summary.rl:,} rows"
        remedy = f"set codevision.coordinates: {learned}, and use SFT rows with these coordinates"
        yield warning("coordinate frame", f"{message}; {rows}", remedy)
    yield from _agreement(summary, settings)


def _agreement(summary: DataSummary, settings: Settings) -> Iterator[CheckResult]:
    """Yields where RL rows and SFT rows differ in system message or tool schema."""
    check = "SFT and RL"
    if not summary.sft_systems:
        yield warning(check, "not compared: there are no SFT rows with the tool", "add their file with another --data")
        return
    (common, count), *_ = summary.sft_systems.most_common(1)
    unknown = [system for system in summary.rl_systems if system not in summary.sft_systems]
    if unknown:
        message = f"the system message of RL, {_short(unknown[0])}, is in no SFT row; {count:,} have {_short(common)}"
        remedy = "set codevision.system_prompt to that of SFT: with an unknown one the model forgets the tool"
        yield failure(check, message, remedy)
    written = [(name, count) for name, count in summary.sft_dialects.items() if name != settings.dialect]
    for name, count in written:
        message = f"{count:,} SFT rows have calls in the dialect {name}, but codevision.dialect is {settings.dialect}"
        yield failure(check, message, f"set codevision.dialect: {name}, or make the SFT rows in the other dialect")
    schema = json.dumps(tool_schemas(settings), sort_keys=True)
    others = sum(summary.sft_schemas.values()) - summary.sft_schemas[schema]
    if others:
        message = f"{others:,} SFT rows have another tool schema than RL"
        remedy = f"make the SFT rows with codevision.coordinates: {settings.coordinates} (docs/coordinates.md)"
        yield failure(check, message, f"{remedy}, or set codevision.coordinates to those of the SFT rows")
    if not unknown and not others and not written:
        yield ok(check, f"the same system message, {_short(common)}, and the same tool schema")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...") if text else "none"
