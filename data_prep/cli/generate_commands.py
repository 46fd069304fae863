"""The commands that make tasks and demonstrations from nothing, and that measure tasks with a model."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import whole_folder
from codevision_ext.io.chat_client import Endpoint
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.sandbox import Sandbox
from codevision_ext.types import CoordinateSystem
from data_prep.cli.common import Force, Images, Inputs, MaxRejected, Workers, print_summary, progress_bar, total_of
from data_prep.convert.convert import Options, Target, jobs, plan_conversion, settled
from data_prep.convert.transform import Transform
from data_prep.curate.difficulty import Route, measure_difficulty, overall, with_benefit
from data_prep.demonstrations.from_model import give_all
from data_prep.demonstrations.model_client import ModelClient, open_model_client
from data_prep.demonstrations.phrasing import teach
from data_prep.formats.row_errors import ConversionStats, RejectLimit
from data_prep.formats.schema import (
    CONVERTED_RL_SCHEMA,
    CONVERTED_SFT_SCHEMA,
    Demonstration,
    Row,
    rl_record,
    sft_record,
)
from data_prep.formats.sharegpt import check_calls, check_turns
from data_prep.formats.sources import find_sources
from data_prep.formats.writers import ParquetSet
from data_prep.parallel.pipeline import cores, in_order
from data_prep.tasks import synth


class EngineName(StrEnum):
    """What can serve a model on this machine."""

    SGLANG = "sglang"


PARTS = ("train", "val", "test", "sft", "sft_val")
"""Files of `synth`: tasks to train and validate on, the six columns, demonstrations."""
Model = Annotated[str | None, typer.Option(help="Id that the endpoint knows the model by.")]
KeyEnv = Annotated[str | None, typer.Option(help="Environment variable with the endpoint's key.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Dialogues under way at the same time.")]
Coordinates = Annotated[
    CoordinateSystem, typer.Option(help="What the model writes: original (pixels), or relative (0 to 1000, Qwen3-VL).")
]
CacheFolder = Annotated[Path | None, typer.Option(help="Folder of replies; a run that was stopped goes on from them.")]
Request = Annotated[str, typer.Option(help="More fields of each request, a JSON object.")]


def synth_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it appears whole or not at all.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows of train.parquet.")] = 1000,
    sft_rows: Annotated[int | None, typer.Option(min=1, help="Rows of sft.parquet; half of --rows by default.")] = None,
    val_rows: Annotated[int | None, typer.Option(min=1, help="Rows of val and sft_val; a tenth by default.")] = None,
    test_items: Annotated[int, typer.Option(min=1, help="Items of test.parquet, six rows each.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    kinds: Annotated[str, typer.Option(help="What is drawn.")] = ",".join(synth.KINDS),
    parts: Annotated[str, typer.Option(help="Which files to write.")] = ",".join(PARTS),
    max_megapixels: Annotated[float, typer.Option(help="Of the largest page.")] = 12.0,
    source_share: Annotated[float, typer.Option(help="Share of upright images, in [0, 1].")] = 1 / 6,
    wrong_first: Annotated[
        float, typer.Option(min=0, max=1, help="Share of turned rows whose teacher errs first.")
    ] = 0.15,
    teacher: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint of a model that teaches.")] = None,
    model: Model = None,
    api_key_env: KeyEnv = None,
    request: Request = "{}",
    cache: CacheFolder = None,
    concurrency: Concurrency = 8,
    coordinates: Coordinates = CoordinateSystem.ORIGINAL,
    workers: Workers = None,
    force: Force = False,
) -> None:
    """Draw tasks from nothing: pages, charts, tables, geometry, counting; and demonstrations, each call executed.

    Without --teacher a program demonstrates; with it a model does, and its calls are checked and corrected.
    """
    recipe = synth.Recipe(
        seed=seed,
        kinds=_names(kinds),
        max_pixels=round(max_megapixels * 1e6),
        source_share=source_share,
    )
    wanted = _names(parts)
    if unknown := [part for part in wanted if part not in PARTS]:
        raise InputError(f"--parts knows {', '.join(PARTS)}; not {unknown[0]!r}")
    held_out = val_rows or max(1, rows // 10)
    counts = {
        "train": rows,
        "val": held_out,
        "test": test_items,
        "sft": sft_rows or max(1, rows // 2),
        "sft_val": held_out,
    }
    written: dict[str, int] = {}
    types: dict[str, dict[str, int]] = {}
    turns: Counter[str] = Counter()
    with ExitStack() as stack:
        folder = stack.enter_context(whole_folder(out, force=force))
        chat = _chat(stack, teacher, model, api_key_env, request, cache, coordinates, "--teacher")
        tool = CodeTool(stack.enter_context(Sandbox())) if {"sft", "sft_val"} & set(wanted) else None
        for part in wanted:
            drawn = _drawn(recipe, part, counts[part], workers or cores())
            schema = CONVERTED_SFT_SCHEMA if part.startswith("sft") else CONVERTED_RL_SCHEMA
            with progress_bar(part, counts[part]) as progress:
                if tool is not None and part.startswith("sft"):
                    made: Iterable[Demonstration]
                    if chat is None:
                        made = teach(drawn, tool, seed=seed, wrong_first=wrong_first, coordinates=coordinates)
                    else:
                        made = give_all(drawn, chat, tool, seed=seed, concurrency=concurrency, counts=turns)
                    kinds_seen: Counter[str] = Counter()
                    records = _checked(made, kinds_seen)
                    written[part] = _write(folder / f"{part}.parquet", schema, records, progress)
                    types[part] = dict(sorted(kinds_seen.items()))
                else:
                    tasks = _six(drawn) if part == "test" else drawn
                    written[part] = _write(folder / f"{part}.parquet", schema, map(rl_record, tasks), progress)
        if empty := [part for part, count in written.items() if not count]:
            raise InputError(
                f"--teacher: no demonstration of {empty[0]} is usable ({_said(turns)}); nothing was written"
            )
    licences = {f"synth-{kind}": synth.LICENCE for kind in recipe.kinds}
    summary = {"out": str(out), "seed": seed, "rows": written, "sample_types": types, "licences": licences}
    print_summary(summary | ({"turns": dict(sorted(turns.items())), "asked": chat.requests_sent} if chat else {}))


def filter_command(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it appears whole or not at all.")],
    model: Annotated[str, typer.Option(help="Id that the endpoint knows the model by; with --engine its folder.")],
    base_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible endpoint, such as http://localhost:8000/v1.")
    ] = None,
    engine: Annotated[EngineName | None, typer.Option(help="Serves --model meanwhile, in place of --base-url.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Rollouts with the tool, and as many without.")] = 8,
    hard: Annotated[
        float, typer.Option(min=0, max=0.999, help="Accuracy with the tool up to which a row goes to SFT.")
    ] = 0.2,
    limit: Annotated[int | None, typer.Option(min=1, help="First rows only.")] = None,
    api_key_env: KeyEnv = None,
    request: Request = '{"temperature": 1.0, "max_tokens": 2048}',
    cache: CacheFolder = None,
    concurrency: Concurrency = 32,
    coordinates: Coordinates = CoordinateSystem.ORIGINAL,
    images: Images = None,
    max_rejected: MaxRejected = "1%",
    force: Force = False,
) -> None:
    """Measure how hard each task is for a model, with the tool and without, and route the rows.

    rl.parquet: to train on; sft.parquet: tasks to demonstrate first; easy.parquet and hopeless.parquet: left out.
    difficulty.jsonl has a line a row. A stopped run goes on from the cache, OUT.cache by default.
    """
    if (base_url is None) is (engine is None):
        raise InputError("filter wants --base-url, or --engine and --model FOLDER")
    sources, allowance = find_sources(inputs, images), RejectLimit(max_rejected)
    tally, totals = ConversionStats(), Counter[str]()
    routes: Counter[str] = Counter()
    with ExitStack() as stack:
        folder = stack.enter_context(whole_folder(out, force=force))
        if engine:
            from codevision_ext.engines.sglang.server import served  # noqa: PLC0415  optional, and slow to import

            base_url = stack.enter_context(served(Path(model)))
        cache = cache or out.with_name(f"{out.name}.cache")
        chat = _chat(stack, base_url, model, api_key_env, request, cache, coordinates, "--base-url")
        assert chat is not None
        tool = CodeTool(stack.enter_context(Sandbox()))
        total = total_of(sources)
        progress = stack.enter_context(progress_bar("filter", min(total, limit) if limit and total else limit or total))
        writers = {route: ParquetSet(folder / f"{route}.parquet", CONVERTED_RL_SCHEMA) for route in Route}
        for writer in writers.values():
            stack.callback(writer.close)
        lines = stack.enter_context((folder / "difficulty.jsonl").open("w", encoding="utf-8"))
        rows = _settled_rows(jobs(plan_conversion(sources, Options(target=Target.RL))), tally, limit)
        for found in measure_difficulty(rows, chat, tool, k=k, concurrency=concurrency, progress=progress):
            route = found.route(hard)
            routes[route] += 1
            totals.update(rows=1, with_tool=found.with_tool, without=found.without)
            lines.write(json.dumps(found.plain(hard)) + "\n")
            record = rl_record(with_benefit(found))
            writers[route].write(pa.RecordBatch.from_pylist([record], schema=CONVERTED_RL_SCHEMA))
            tally.written += 1
            tally.licences[found.row.source] = found.row.licence
        allowance.check(tally)
    summary = {"out": str(out), "model": model, "k": k, "routes": {route: routes[route] for route in Route}}
    print_summary(summary | overall(totals, k) | {"asked": chat.requests_sent, **tally.plain()})


def _drawn(recipe: synth.Recipe, part: str, count: int, workers: int) -> Iterator[Row]:
    if part == "test":  # every item stands upright, and is turned by the benchmark
        recipe = synth.Recipe(seed=recipe.seed, kinds=recipe.kinds, max_pixels=recipe.max_pixels, source_share=1.0)
    return chain.from_iterable(
        rows for _, rows in in_order(synth.draw_tasks, synth.orders(recipe, part, count), workers)
    )


def _six(rows: Iterable[Row]) -> Iterator[Row]:
    columns = Transform()
    for row in rows:
        yield from (made for made in columns(row, row.index) if isinstance(made, Row))


def _checked(made: Iterable[Demonstration], types: Counter[str]) -> Iterator[dict[str, Any]]:
    for trajectory in made:
        check_turns(trajectory)
        check_calls(trajectory)
        types[trajectory.sample_type] += 1
        yield sft_record(trajectory)


def _write(path: Path, schema: pa.Schema, records: Iterable[dict[str, Any]], progress: Any) -> int:
    writer, count = ParquetSet(path, schema), 0
    try:
        for count, record in enumerate(records, start=1):
            writer.write(pa.RecordBatch.from_pylist([record], schema=schema))
            progress(count)
    finally:
        writer.close()
    return count


def _settled_rows(jobs_: Iterable[Any], tally: ConversionStats, limit: int | None) -> Iterator[Row]:
    taken = 0
    for job in jobs_:
        for _, item, faults in settled(job, tally.left_out):
            if limit is not None and taken >= limit:
                return
            taken += 1
            tally.read += 1
            if faults:
                tally.reject(faults)
            elif isinstance(item, Row):
                yield item


def _chat(
    stack: ExitStack,
    url: str | None,
    model: str | None,
    api_key_env: str | None,
    request: str,
    cache: Path | None,
    coordinates: CoordinateSystem,
    option: str,
) -> ModelClient | None:
    """The endpoint, closed with the stack; None without a URL.

    Raises:
        InputError: The coordinates are `seen`, the model isn't named, the URL is none, or the request isn't JSON.
    """
    if coordinates is CoordinateSystem.SEEN:
        raise InputError("--coordinates seen can't be made here: it takes the model's own sizes; original or relative")
    if url is None:
        return None
    if not model or not url.startswith(("http://", "https://")):
        raise InputError(f"{option} wants http:// or https://, and --model with it")
    try:
        fields = json.loads(request)
    except ValueError as error:
        raise InputError(f"--request is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InputError("--request must be a JSON object")
    endpoint = Endpoint(url=url, model=model, api_key_env=api_key_env, request=fields)
    return stack.enter_context(open_model_client(endpoint, cache, coordinates))


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _said(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing was tried"
