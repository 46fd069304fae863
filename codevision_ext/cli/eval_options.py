"""Defines the options of `codevision eval`: name, type, default and help."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions:
    """The options of `codevision eval`; the names of the fields are those of the options, unless they say otherwise."""

    out: Annotated[Path, typer.Option(help="Folder for eval/ and results.json; a stopped run continues there.")]
    model: Annotated[str | None, typer.Option(help="Folder of a checkpoint, or URL of an endpoint.")] = None
    suites: Annotated[
        list[str] | None,
        typer.Option(
            "--suite", help="NAME=PATH, a PATH whose columns determine its suite, glyphs, or synth. Repeat for several."
        ),
    ] = None
    engine: Annotated[
        str, typer.Option(help="For a folder sglang, vllm or transformers; for a URL openai, sglang or vllm.")
    ] = "sglang"
    replicas: Annotated[int, typer.Option(min=1, help="Number of engines, which share the rollouts.")] = 1
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of each engine (tensor parallel).")] = 1
    model_id: Annotated[
        str | None, typer.Option(help="Id of the model at a URL; by default the first one that it serves.")
    ] = None
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the key for a URL.")] = None
    request: Annotated[str, typer.Option(help="Additional fields of each request to a URL, as a JSON object.")] = "{}"
    trained: Annotated[
        Path | None,
        typer.Option(help="Folder with the codevision.json of the model at a URL; by default the model's id."),
    ] = None
    recipe: Annotated[Path | None, typer.Option(help="Training config with limits, tool, judge and settings.")] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of the codevision section, such as judge.model=ID. Repeat for several."),
    ] = None
    tools: Annotated[str, typer.Option(help="on: with the tool; off: without it; on,off: both.")] = "on,off"
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Rollouts per item, for avg@k and pass@k.")] = 1
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling and of generated suites.")] = 0
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Sampling temperature; 0 always takes the likeliest token.")
    ] = 1.0
    max_turns: Annotated[
        int | None, typer.Option(min=1, help="Maximum assistant turns; by default the recipe's, or 12.")
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Maximum tokens of a response; by default the recipe's, or 16,384.")
    ] = None
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum items per column.")] = None
    holdout: Annotated[
        str | None, typer.Option(help="Keep only items that require this operation, such as flip_vertical.")
    ] = None
    images: Annotated[Path | None, typer.Option("--pictures", help="Folder that paths of images start from.")] = None
    names: Annotated[
        str | None,
        typer.Option("--map", help="Columns of fields, as question=problem,answer=solution, in the files of suites."),
    ] = None
    lists: Annotated[
        bool,
        typer.Option(
            "--answers-are-lists", help='Read an answer like "[3, 4]" as a list of right answers, not as one answer.'
        ),
    ] = False
    max_rejected: Annotated[
        str, typer.Option(help="Items of a suite to leave out if they can't be used: a number, or a share such as 1%.")
    ] = "0"
    concurrency: Annotated[int, typer.Option(min=1, help="Number of rollouts that run at the same time.")] = 128
    retries: Annotated[
        int, typer.Option(min=0, help="Times that a rollout is repeated after an engine or sandbox failure.")
    ] = 2
    force: Annotated[
        bool, typer.Option("--force", help="Replace results of these models in --out that have another setup.")
    ] = False
    checkpoints: Annotated[
        list[str] | None,
        typer.Option("--checkpoint", help="NAME=FOLDER: base=A, sft=B, rl=C. Repeat for several."),
    ] = None
    data: Annotated[Path | None, typer.Option(help="With --checkpoint: the same as --suite transformed=DATA.")] = None


def takes(options: Callable[..., Any]) -> Callable[[Callable[[Any], None]], Callable[..., None]]:
    """Returns a decorator that turns a command with one options object into a command with one option per field."""

    def decorate(command: Callable[[Any], None]) -> Callable[..., None]:
        @wraps(command)
        def with_options(**values: Any) -> None:
            command(options(**values))

        with_options.__signature__ = signature(options)  # type: ignore[attr-defined]  # functions may have one
        with_options.__annotations__ = {}
        return with_options

    return decorate
