"""Defines the options of `codevision serve`: name, type, default and help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The options of `codevision serve`; fields have the names of the options, unless they say otherwise."""

    model: Annotated[str | None, typer.Argument(help="Folder of a checkpoint; none with --upstream.")] = None
    upstream: Annotated[str | None, typer.Option(help="URL of a server that has the model, up to /v1.")] = None
    upstream_model: Annotated[
        str | None, typer.Option(help="Id of the model at --upstream; by default the first one that it serves.")
    ] = None
    upstream_key_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds the key for --upstream.")
    ] = None
    request: Annotated[str, typer.Option(help="Additional fields of each request to --upstream, as a JSON object.")] = (
        "{}"
    )
    trained: Annotated[
        Path | None,
        typer.Option(help="Folder with the codevision.json of the model at --upstream; by default the model's id."),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(help="Id of the model in requests; by default the folder's name or the upstream's id."),
    ] = None
    engine: Annotated[str, typer.Option(help="Engine of a folder: sglang, vllm or transformers.")] = "sglang"
    replicas: Annotated[int, typer.Option(min=1, help="Number of engines, which share the rollouts.")] = 1
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of each engine (tensor parallel).")] = 1
    recipe: Annotated[Path | None, typer.Option(help="Training config with limits, tool and settings.")] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of the codevision section, such as force_answer=true; repeatable."),
    ] = None
    tools: Annotated[str, typer.Option(help="on: with the tool, unless a request says otherwise; off: without.")] = "on"
    temperature: Annotated[
        float, typer.Option(min=0.0, max=2.0, help="Sampling temperature of a request that names none.")
    ] = 1.0
    host: Annotated[str, typer.Option(help="Address to serve at; another one than loopback needs --api-key.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve at; 0 takes a free one.")] = 8000
    api_key: Annotated[
        str | None, typer.Option(envvar="CODEVISION_API_KEY", help="Key that every request must have.")
    ] = None
    max_turns: Annotated[
        int | None, typer.Option(min=1, help="Maximum assistant turns; by default the recipe's, or 12.")
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Maximum tokens of a response; by default the recipe's, or 16,384.")
    ] = None
    ignore_max_tokens: Annotated[
        bool, typer.Option("--ignore-max-tokens", help="Don't let requests lower --max-tokens by their max_tokens.")
    ] = False
    max_images: Annotated[int, typer.Option(min=0, help="Maximum images of a request.")] = 16
    max_image_mb: Annotated[float, typer.Option(min=0.001, help="Maximum size of an image file, 10^6 bytes.")] = 20.0
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, help="Maximum 10^6 pixels of all images of a request together.")
    ] = 40.0
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Maximum size of a request, 10^6 bytes.")] = 50.0
    concurrency: Annotated[int, typer.Option(min=1, help="Number of requests that run at the same time.")] = 16
    queue: Annotated[int, typer.Option(min=0, help="Number of requests that may wait; further ones get 429.")] = 64
    timeout_s: Annotated[float, typer.Option(min=1.0, help="Seconds until a request is given up.")] = 600.0
    grace_s: Annotated[int, typer.Option(min=1, help="Seconds for answers under way when the server is stopped.")] = 30
    keep: Annotated[int, typer.Option(min=1, help="Number of the latest trajectories that can be asked for.")] = 200
