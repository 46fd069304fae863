"""Defines the commands that draw tasks and demonstrations, and the one that measures tasks with a model."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from codevision_ext.config import Settings
from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import whole_folder
from codevision_ext.io.chat_client import Endpoint
from codevision_ext.io.json_codec import json_object
from codevision_ext.models.checkpoint_settings import print_notes, served_settings
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.sandbox import Sandbox
from codevision_ext.types import CoordinateSystem
from data_prep.cli.common import (
    AnswerLists,
    ColumnNames,
    Force,
    Images,
    Inputs,
    MaskFailedCalls,
    MaxRejected,
    OutFolder,
    Seed,
    Workers,
    left_out,
    names_among,
    print_error,
    print_summary,
    progress_bar,
    total_of,
    with_progress,
)
from data_prep.convert.convert import Options, Target, jobs, plan_conversion, read_chunk
from data_prep.convert.failed_calls import train_failed_calls
from data_prep.convert.transform import Transform
from data_prep.curate.difficulty import Route, accuracy_summary, measure_difficulty
from data_prep.demonstrations.from_model import Discarded, demonstrate_all_by_model
from data_prep.demonstrations.model_client import ModelClient, open_model_client
from data_prep.demonstrations.phrasing import demonstrate_rows
from data_prep.formats.row_errors import ConversionStats, Reason, RejectLimit, RowError
from data_prep.formats.schema import (
    CONVERTED_RL_SCHEMA,
    CONVERTED_SFT_SCHEMA,
    Demonstration,
    Row,
    rl_record,
    sft_record,
)
from data_prep.formats.sharegpt import check_calls, check_turns
from data_prep.formats.sources import Source, find_sources, read_names
from data_prep.formats.writers import ParquetSet, write_parquet
from data_prep.parallel.pipeline import cores, map_chunks
from data_prep.tasks import synth
from data_prep.tasks.reading.glyphs import COLUMNS

SYNTH_PARTS = ("train", "val", "test", "sft", "sft_val")
"""Files of `synth`: tasks for training and validation, a benchmark of six columns, demonstrations."""
SYNTH_ROWS_AT_A_TIME = 8
"""Rows that a process draws at a time; a page may have 12 megapixels."""


class EngineName(StrEnum):
    """Engines that can serve a model on this machine."""

    SGLANG = "sglang"


Without = Annotated[
    str,
    typer.Option(help="Operations to leave out of training rows and of demonstrations: rotate_90,flip_vertical."),
]
Parts = Annotated[str, typer.Option(help="Files to write.")]
SourceShare = Annotated[float, typer.Option(help="Share of upright images that need no tool, in [0, 1].")]
WrongFirst = Annotated[
    float, typer.Option(min=0, max=1, help="Share of turned rows whose demonstration turns wrong first, then recovers.")
]
TestItems = Annotated[int, typer.Option(min=1, help="Items of test.parquet, six rows each.")]
Model = Annotated[str | None, typer.Option(help="Id of the model at the endpoint.")]
KeyEnv = Annotated[str | None, typer.Option(help="Environment variable with the endpoint's key.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Number of conversations at a time.")]
Coordinates = Annotated[
    CoordinateSystem,
    typer.Option(help="Coordinates that the model writes: original (pixels) or relative (0 to 1000, Qwen3-VL)."),
]
ModelCoordinates = Annotated[
    CoordinateSystem | None,
    typer.Option(help="Coordinates that the model writes: original or relative; by default its checkpoint's."),
]
Trained = Annotated[
    Path | None, typer.Option(help="Folder with the model's codevision.json; by default the folder --model.")
]
CacheFolder = Annotated[Path | None, typer.Option(help="Folder for replies; a stopped run continues from them.")]
Request = Annotated[str, typer.Option(help="More fields of each request, as a JSON object.")]


def synth_command(
    out: OutFolder,
    rows: Annotated[int, typer.Option(min=1, help="Rows of train.parquet.")] = 1000,
    sft_rows: Annotated[int | None, typer.Option(min=1, help="Rows of sft.parquet; default: half of --rows.")] = None,
    val_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows of val and sft_val; default: a tenth of --rows.")
    ] = None,
    test_items: TestItems = 50,
    seed: Seed = 0,
    kinds: Annotated[str, typer.Option(help="Kinds of tasks.")] = ",".join(synth.KINDS),
    parts: Parts = "train,val,test,sft,sft_val",
    max_megapixels: Annotated[float, typer.Option(help="Maximum size of a page.")] = 12.0,
    source_share: SourceShare = 1 / 6,
    wrong_first: WrongFirst = 0.15,
    mask_failed_calls: MaskFailedCalls = True,
    without: Without = "",
    teacher: Annotated[
        str | None, typer.Option(help="OpenAI-compatible endpoint of a model that writes the demonstrations.")
    ] = None,
    model: Model = None,
    api_key_env: KeyEnv = None,
    request: Request = "{}",
    cache: CacheFolder = None,
    concurrency: Concurrency = 8,
    coordinates: Coordinates = CoordinateSystem.ORIGINAL,
    workers: Workers = None,
    force: Force = False,
) -> None:
    """Generate tasks (pages, charts, tables, geometry, counting), and demonstrations whose calls are executed.

    Demonstrations are scripted; with --teacher a model writes them, and its calls are checked and corrected.
    """
    recipe = synth.Recipe(
        seed=seed,
        kinds=names_among(kinds, synth.KINDS, "--kinds"),
        max_pixels=round(max_megapixels * 1e6),
        source_share=source_share,
        without=left_out(without, "synth", chosen=teacher is not None),
    )
    selected = names_among(parts, SYNTH_PARTS, "--parts")
    if recipe.without and selected == ("test",):
        raise InputError("--without changes nothing: --parts test has all operations; name train, val, sft or sft_val")
    held_out = val_rows or max(1, rows // 10)
    sizes = (rows, held_out, test_items, sft_rows or max(1, rows // 2), held_out)
    counts = dict(zip(SYNTH_PARTS, sizes, strict=True))
    written: dict[str, int] = {}
    types: dict[str, dict[str, int]] = {}
    turns: Counter[str] = Counter()
    with ExitStack() as stack:
        folder = stack.enter_context(whole_folder(out, force=force))
        client = _open_client(
            stack, teacher, model, api_key_env, request, cache, Settings(coordinates=coordinates), "--teacher"
        )
        tool = (
            CodeTool(stack.enter_context(Sandbox()), images_per_call=1) if {"sft", "sft_val"} & set(selected) else None
        )
        for part in selected:
            drawn = _draw_part(recipe, part, counts[part], workers or cores())
            schema, count = CONVERTED_RL_SCHEMA, counts[part]
            records: Iterable[dict[str, Any]] = map(rl_record, drawn)
            if part == "test":
                count *= len(COLUMNS)
            if part.startswith("sft"):
                assert tool is not None
                schema, sample_types = CONVERTED_SFT_SCHEMA, Counter[str]()
                demonstrations = (
                    demonstrate_rows(
                        drawn, tool, seed=seed, wrong_first=wrong_first, coordinates=coordinates, without=recipe.without
                    )
                    if client is None
                    else demonstrate_all_by_model(
                        drawn,
                        client,
                        tool,
                        seed=seed,
                        concurrency=concurrency,
                        counts=turns,
                        without=recipe.without,
                    )
                )
                if not mask_failed_calls:
                    demonstrations = map(train_failed_calls, demonstrations)
                records = _checked_records(demonstrations, sample_types)
            written[part] = write_parquet(folder / f"{part}.parquet", schema, with_progress(records, count, part))
            if part.startswith("sft"):
                types[part] = dict(sorted(sample_types.items()))
        if empty := [part for part, count in written.items() if not count]:
            reasons = ", ".join(f"{count} {name}" for name, count in turns.most_common()) or "nothing was tried"
            raise InputError(f"--teacher: no demonstration of {empty[0]} is usable ({reasons}); nothing was written")
    if undecided := turns[Discarded.UNDECIDED]:
        print_error(f"{undecided:,} demonstrations are discarded because no rule decides whether their answer is right")
    licences = {f"synth-{kind}": synth.LICENCE for kind in recipe.kinds}
    summary = {"out": str(out), "seed": seed, "rows": written, "sample_types": types, "licences": licences}
    print_summary(summary | ({"turns": dict(sorted(turns.items())), "asked": client.requests_sent} if client else {}))


def filter_command(
    inputs: Inputs,
    out: OutFolder,
    model: Annotated[str, typer.Option(help="Id of the model at the endpoint; with --engine the model's folder.")],
    base_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible endpoint, such as http://localhost:8000/v1.")
    ] = None,
    engine: Annotated[
        EngineName | None, typer.Option(help="Engine that serves the folder --model, instead of --base-url.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Rollouts of each row with the tool, and without it.")] = 8,
    hard: Annotated[
        float, typer.Option(min=0, max=0.999, help="Maximum accuracy with the tool of a row in sft.parquet.")
    ] = 0.2,
    edited: Annotated[
        bool, typer.Option("--edited", help="Compare the edited image with the original, both without the tool.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of rows; the first ones are used.")] = None,
    api_key_env: KeyEnv = None,
    request: Request = '{"temperature": 1.0, "max_tokens": 2048}',
    cache: CacheFolder = None,
    concurrency: Concurrency = 32,
    coordinates: ModelCoordinates = None,
    trained: Trained = None,
    exact_answers: Annotated[
        bool, typer.Option("--exact-answers", help="Count an answer that no rule accepts as wrong, not as undecided.")
    ] = False,
    names: ColumnNames = None,
    lists: AnswerLists = False,
    images: Images = None,
    max_rejected: MaxRejected = "1%",
    force: Force = False,
) -> None:
    """Measure how hard each task is for a model, with the tool and without, and sort the rows into files.

    rl.parquet: rows for RL; sft.parquet: rows that need demonstrations first; easy.parquet and hopeless.parquet: rows
    that are always or never solved. difficulty.jsonl has a line per row. A stopped run continues from the cache, by
    default OUT.cache.
    """
    if (base_url is None) is (engine is None):
        raise InputError("filter needs --base-url, or --engine and --model FOLDER")
    given = Settings() if coordinates is None else Settings(coordinates=coordinates)
    checkpoint, own = served_settings(given, model, trained)
    print_notes({checkpoint: own}, "codevision data")
    sources, reject_limit = find_sources(inputs, images, read_names(names)), RejectLimit(max_rejected)
    stats, totals, routes = ConversionStats(), Counter[str](), Counter[str]()
    with ExitStack() as stack:
        folder = stack.enter_context(whole_folder(out, force=force))
        if engine:
            from codevision_ext.engines.sglang.server import served  # noqa: PLC0415  optional, and slow to import

            base_url = stack.enter_context(served(Path(model)))
        cache = cache or out.with_name(f"{out.name}.cache")
        client = _open_client(stack, base_url, model, api_key_env, request, cache, own.settings, "--base-url")
        assert client is not None
        tool = CodeTool(stack.enter_context(Sandbox()))
        total = total_of(sources)
        progress = stack.enter_context(progress_bar("filter", min(total, limit) if limit and total else limit or total))
        writers = {
            route: stack.enter_context(closing(ParquetSet(folder / f"{route}.parquet", CONVERTED_RL_SCHEMA)))
            for route in Route
        }
        lines = stack.enter_context((folder / "difficulty.jsonl").open("w", encoding="utf-8"))
        rows = _valid_rows(sources, stats, limit, lists=lists, edited=edited)
        for result in measure_difficulty(
            rows, client, tool, k=k, concurrency=concurrency, edited=edited, exact=exact_answers, progress=progress
        ):
            route = result.route(hard)
            routes[route] += 1
            totals.update(result.counts)
            lines.write(json.dumps(result.plain(hard)) + "\n")
            stats.written += writers[route].write_records([rl_record(replace(result.row, benefit=result.benefit))])
            stats.licences[result.row.source] = result.row.licence
        reject_limit.check(stats)
    summary = {
        "out": str(out),
        "model": model,
        "differences": own.differences,
        "k": k,
        "routes": {route: routes[route] for route in Route},
    }
    if undecided := totals["undecided_with_tool"] + totals["undecided_without"]:
        words = "no rule decides them, and filter asks no judge; they count as wrong in accuracies, and a row"
        number = f"{undecided:,} of {2 * k * totals['rows']:,} answers are undecided"
        print_error(
            f"{number}: {words} whose file depends on them is in rl.parquet; --exact-answers counts them as wrong"
        )
    print_summary(summary | accuracy_summary(totals, k) | {"asked": client.requests_sent, **stats.plain()})


def _draw_part(recipe: synth.Recipe, part: str, count: int, workers: int) -> Iterator[Row]:
    if part != "test":
        return map_chunks(partial(synth.draw_tasks, recipe, part), count, workers, SYNTH_ROWS_AT_A_TIME)
    # Every item is drawn upright, and Transform turns it.
    draw = partial(synth.draw_tasks, replace(recipe, source_share=1.0, without=()), part)
    upright = map_chunks(draw, count, workers, SYNTH_ROWS_AT_A_TIME)
    return Transform().rows(upright)


def _checked_records(demonstrations: Iterable[Demonstration], types: Counter[str]) -> Iterator[dict[str, Any]]:
    for demonstration in demonstrations:
        check_turns(demonstration)
        check_calls(demonstration)
        types[demonstration.sample_type] += 1
        yield sft_record(demonstration)


def _valid_rows(
    sources: list[Source], stats: ConversionStats, limit: int | None, *, lists: bool, edited: bool = False
) -> Iterator[Row]:
    for job in jobs(plan_conversion(sources, Options(target=Target.RL, lists=lists))):
        for number, item, faults in read_chunk(job, stats.counts):
            if limit is not None and stats.read >= limit:
                return
            stats.read += 1
            if edited and not faults and isinstance(item, Row) and not item.edited_image:
                missing = RowError(Reason.COLUMN_MISSING, "edited_image", "is missing, and --edited needs it")
                faults = [missing.at(job.chunk.file, number)]
            if faults:
                stats.reject(faults)
            elif isinstance(item, Row):
                yield item


def _open_client(
    stack: ExitStack,
    url: str | None,
    model: str | None,
    api_key_env: str | None,
    request: str,
    cache: Path | None,
    settings: Settings,
    option: str,
) -> ModelClient | None:
    """Return a client of the endpoint, closed with the stack; None without a URL.

    Raises:
        InputError: The coordinates are `seen`, the model isn't named, the URL isn't http, or the request isn't JSON.
    """
    if settings.coordinates is CoordinateSystem.SEEN:
        raise InputError("--coordinates must be original or relative; seen depends on the sizes that a model sees")
    if url is None:
        return None
    if not model or not url.startswith(("http://", "https://")):
        raise InputError(f"{option} needs an address with http:// or https://, and --model with it")
    endpoint = Endpoint(url=url, model=model, api_key_env=api_key_env, request=json_object(request, "--request"))
    return stack.enter_context(open_model_client(endpoint, cache, settings))
