"""Commands that score records, and check a judge, a reward, a snippet or a machine."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from codevision_ext.errors import InputError


def judge_check(
    labels: Annotated[Path, typer.Argument(help="JSON lines: question, answer, prediction, label, perhaps source.")],
    base_url: Annotated[str, typer.Option(help="OpenAI-compatible endpoint, such as http://localhost:8000/v1.")],
    model: Annotated[str, typer.Option(help="The id that the endpoint knows the judge by.")],
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable with the endpoint's key.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests under way at the same time.")] = 32,
    timeout_s: Annotated[float, typer.Option(help="Of one attempt, seconds.")] = 60.0,
    retries: Annotated[int, typer.Option(help="Attempts after the first.")] = 6,
    cache: Annotated[Path | None, typer.Option(help="Folder of what was decided before.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder of prompts in place of the package's own.")] = None,
    request: Annotated[str, typer.Option(help="More fields of each request, a JSON object.")] = (
        '{"temperature": 0, "max_tokens": 1024}'
    ),
) -> None:
    """Measure a judge against people's labels: a table on stderr, the same figures as JSON on stdout."""
    from codevision_ext.config import read_judge_settings  # noqa: PLC0415  other commands start without it
    from codevision_ext.judge.agreement import measure_agreement  # noqa: PLC0415
    from codevision_ext.judge.shared import open_judge  # noqa: PLC0415

    settings = read_judge_settings(
        base_url=base_url,
        model=model,
        api_key_env=api_key_env,
        concurrency=concurrency,
        timeout_s=timeout_s,
        retries=retries,
        cache=cache,
        prompts=prompts,
        request=request,
    )
    typer.echo(json.dumps(asyncio.run(measure_agreement(labels, open_judge(settings))), indent=2))


def score_records(
    records: Annotated[Path, typer.Argument(help="Records of rollouts, one JSON object a line.", metavar="IN.jsonl")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The records with `reward` and `terms`.")] = None,
    preset: Annotated[str, typer.Option(help="upstream, paper or verified.")] = "verified",
    weight: Annotated[list[str] | None, typer.Option(help="NAME=V: a term's weight; also alpha, b1, ...")] = None,
    switch: Annotated[list[str] | None, typer.Option("--set", help="NAME=V of codevision.reward: sim=giou")] = None,
    grid: Annotated[list[str] | None, typer.Option(help="NAME=V,V,...: compare weights, all combinations.")] = None,
    window: Annotated[int, typer.Option(min=1, help="Lines within which all records of a group must stand.")] = 4096,
) -> None:
    """Score records again under another reward, or with --grid tell what other weights would change.

    Groups may be interleaved within --window lines. A bad line ends the command; the records before it are written.
    With --grid: a table on stderr, the same figures as JSON on stdout.
    """
    from codevision_ext.experiments.rescore.options import (  # noqa: PLC0415  other commands start without it
        read_axes,
        read_reward,
    )

    settings, axes = read_reward(preset, weight or (), switch or ()), read_axes(grid or ())
    if (out is None) == (not axes):
        raise InputError("say either -o OUT.jsonl, to write scored records, or --grid NAME=V,V, to compare weights")
    if out is not None:
        from codevision_ext.experiments.rescore.rescore import rescore  # noqa: PLC0415

        typer.echo(f"{out}: {rescore(records, out, settings, window):,} records")
        return
    from rich.console import Console  # noqa: PLC0415

    from codevision_ext.experiments.rescore.tables import show_grid  # noqa: PLC0415
    from codevision_ext.experiments.rescore.weight_grid import compare_weights  # noqa: PLC0415

    found = compare_weights(records, settings, axes, window)
    show_grid(found, Console(stderr=True))
    typer.echo(json.dumps(asdict(found), indent=2))


def hacks(
    weight: Annotated[list[str] | None, typer.Option(help="NAME=V: a term's weight, of preset verified.")] = None,
    switch: Annotated[list[str] | None, typer.Option("--set", help="NAME=V of codevision.reward: sim=giou")] = None,
) -> None:
    """Try known reward hacks, in the real sandbox, under each preset: a table on stderr, JSON on stdout."""
    from rich.console import Console  # noqa: PLC0415  other commands start without it

    from codevision_ext.experiments.rescore.options import read_reward  # noqa: PLC0415
    from codevision_ext.experiments.rescore.reward_hacks import try_hacks  # noqa: PLC0415
    from codevision_ext.experiments.rescore.tables import show_findings  # noqa: PLC0415
    from codevision_ext.sandbox import Sandbox  # noqa: PLC0415

    rewards = {preset: read_reward(preset, (), ()) for preset in ("upstream", "paper")}
    rewards["verified"] = read_reward("verified", weight or (), switch or ())
    with Sandbox() as sandbox:
        findings = try_hacks(sandbox, rewards)
    show_findings(findings, Console(stderr=True))
    typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))


def execute_code(
    images: Annotated[list[Path] | None, typer.Argument(metavar="[IMAGE]...", help="More of --image.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="An image for the snippet; the first is `image`.")] = None,
    code: Annotated[Path | None, typer.Option(help="One snippet: its file. Its answer goes to stdout.")] = None,
    batch: Annotated[
        Path | None, typer.Option(metavar="IN.jsonl", help="Many: {id, code, image|images} a line.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The image made; with --batch the answers.")] = None,
    images_dir: Annotated[Path | None, typer.Option(help="Folder for the images that a batch makes.")] = None,
    timeout: Annotated[float, typer.Option(help="Wall clock of one run, seconds.")] = 5.0,
    memory_mb: Annotated[int, typer.Option(help="Memory of one run, MiB.")] = 512,
    isolation: Annotated[
        str, typer.Option(help="The least to run behind: unsafe, strict, strict+landlock.")
    ] = "strict",
) -> None:
    """Run model-written code on images, in the sandbox, as a tool call would, and trace what it did.

    Exit 0 when every snippet was answered, whatever it did. A bad line ends the command, nothing written.
    """
    from codevision_ext.rollout.run_snippets import run_batch, run_one  # noqa: PLC0415
    from codevision_ext.sandbox import Sandbox  # noqa: PLC0415
    from codevision_ext.sandbox.settings import read_tool_settings  # noqa: PLC0415  other commands start without it

    given = [*(image or ()), *(images or ())]
    if (code is None) == (batch is None):
        raise InputError("say either --code FILE, to run one snippet, or --batch IN.jsonl, to run many")
    if code is not None and images_dir is not None:
        raise InputError("--images-dir goes with --batch; say --out for the image of one snippet")
    if batch is not None and (given or out is None):
        raise InputError("--batch wants -o OUT.jsonl, and its lines name the images")
    settings = read_tool_settings({"wall_s": timeout, "memory_mb": memory_mb, "isolation": isolation}, "exec")
    with Sandbox(settings.limits, isolation=settings.isolation) as sandbox:
        if code is not None:
            typer.echo(run_one(code, given, sandbox, out))
        elif batch is not None and out is not None:
            typer.echo(f"{out}: {run_batch(batch, out, sandbox, images_dir):,} answers")


def doctor(
    tool: Annotated[Path | None, typer.Option(help="Tool config whose settings to examine; else the defaults.")] = None,
    model: Annotated[Path | None, typer.Option(help="Checkpoint to train: check the training instead.")] = None,
    data: Annotated[list[Path] | None, typer.Option(help="RL rows, and the SFT rows before them. Once a file.")] = None,
    recipe: Annotated[Path, typer.Option(help="Training config, as verl will get it.")] = Path("recipe/demo/grpo.yaml"),
    setting: Annotated[list[str] | None, typer.Option("--set", help="NAME=V of verl's settings: device=gpu")] = None,
    gpu_gib: Annotated[float | None, typer.Option(help="Memory of a GPU; else the first one's here.")] = None,
) -> None:
    """Show which primitives this machine has, and run the conformance suite: tables on stderr, JSON on stdout.

    With --model and --data: whether a training would run and learn from the right tokens, before it is started.
    Exit 1 when something required is missing, or the back end refuses to start or fails a case, or training would fail.
    """
    from rich.console import Console  # noqa: PLC0415  other commands start without it

    if model is not None:
        if tool is not None or not data:
            raise InputError("--model wants --data; the tool config is the one that --recipe names, not --tool")
        from codevision_ext.engines.device import use_cpu_if_no_cuda  # noqa: PLC0415

        use_cpu_if_no_cuda()
        from codevision_ext.preflight import result as findings  # noqa: PLC0415  after the device is settled
        from codevision_ext.preflight import run as preflight  # noqa: PLC0415

        found = preflight.inspect(model, data, recipe, setting or (), gpu_gib)
        findings.show_checks(found.findings, Console(stderr=True))
        typer.echo(json.dumps(found.plain(), indent=2))
        sys.exit(not found.ok)
    if data:
        raise InputError("--data wants --model, the checkpoint to train")

    from codevision_ext.preflight.sandbox import examine, show_checkup  # noqa: PLC0415
    from codevision_ext.sandbox import Sandbox  # noqa: PLC0415
    from codevision_ext.sandbox.backend import Backend  # noqa: PLC0415
    from codevision_ext.sandbox.lockdown import primitives  # noqa: PLC0415

    if tool is None:
        sandbox: Backend = Sandbox()
    else:  # reading it needs what verl brings
        from codevision_ext.sandbox.settings import open_sandbox  # noqa: PLC0415
        from codevision_ext.verl_config import read_tool_config  # noqa: PLC0415

        sandbox = open_sandbox(read_tool_config(tool))
    checkup = examine(sandbox, primitives())
    show_checkup(checkup, Console(stderr=True))
    typer.echo(json.dumps(checkup.plain(), indent=2))
    sys.exit(not checkup.ok)


def data(words: Annotated[list[str] | None, typer.Argument(metavar="COMMAND ...")] = None) -> None:
    """Make, convert, check and measure data: the commands of `python -m data_prep`; `codevision data --help`."""
    sys.argv = ["codevision data", *(words or ())]
    from data_prep.__main__ import main as run_data_command  # noqa: PLC0415  other commands start without it

    run_data_command()
