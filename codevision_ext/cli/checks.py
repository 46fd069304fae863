"""Commands that score records, and check a judge, a reward, a snippet or a machine."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from codevision_ext.errors import InputError
from codevision_ext.io.inputs import require_checkpoint, require_files


def judge_check(
    labels: Annotated[
        Path, typer.Argument(help="JSON lines with question, answer, prediction, label and, optionally, source.")
    ],
    base_url: Annotated[str, typer.Option(help="OpenAI-compatible endpoint, such as http://localhost:8000/v1.")],
    model: Annotated[str, typer.Option(help="Id of the judge at the endpoint.")],
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the endpoint's key.")] = None,
    concurrency: Annotated[int, typer.Option(help="Number of requests at the same time.")] = 32,
    timeout_s: Annotated[float, typer.Option(help="Time limit of one attempt, in seconds.")] = 60.0,
    retries: Annotated[int, typer.Option(help="Number of attempts after the first.")] = 6,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps verdicts for later runs.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder of prompts; by default the package's own.")] = None,
    request: Annotated[str, typer.Option(help="Additional fields of each request, as a JSON object.")] = (
        '{"temperature": 0, "max_tokens": 1024}'
    ),
) -> None:
    """Measure how often a judge agrees with people's labels: a table on stderr, the same figures as JSON on stdout."""
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
    records: Annotated[Path, typer.Argument(help="Records of rollouts, one JSON object per line.", metavar="IN.jsonl")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File for the records with their new `reward` and `terms`.")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help=(
                "Preset of the reward: upstream, paper, verified, ordered, vthinker, vthinker_paper or vthinker_as_run."
            )
        ),
    ] = "verified",
    weight: Annotated[
        list[str] | None, typer.Option(help="NAME=V: weight of a term, or alpha, b1, ... Repeat for several.")
    ] = None,
    switch: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=V of codevision.reward, such as sim=giou.")
    ] = None,
    grid: Annotated[
        list[str] | None, typer.Option(help="NAME=V,V,...: compare these weights, in all combinations.")
    ] = None,
    window: Annotated[
        int, typer.Option(min=1, help="Maximum distance, in lines, between the records of a group.")
    ] = 4096,
) -> None:
    """Score records again under another reward, or compare with --grid what other weights would change.

    Groups may be interleaved within --window lines. A bad line ends the command; the records before it are written.
    With --grid: a table on stderr, the same figures as JSON on stdout.
    """
    from codevision_ext.experiments.rescore.options import read_axes, read_reward  # noqa: PLC0415  other commands start without it

    settings, axes = read_reward(preset, weight or (), switch or ()), read_axes(grid or ())
    if (out is None) == (not axes):
        raise InputError("give either -o OUT.jsonl, to write scored records, or --grid NAME=V,V, to compare weights")
    if out is not None:
        from codevision_ext.experiments.rescore.rescore import rescore  # noqa: PLC0415

        typer.echo(f"{out}: {rescore(records, out, settings, window):,} records")
        return
    from rich.console import Console  # noqa: PLC0415

    from codevision_ext.experiments.rescore.tables import show_grid  # noqa: PLC0415
    from codevision_ext.experiments.rescore.weight_grid import compare_weights  # noqa: PLC0415

    comparison = compare_weights(records, settings, axes, window)
    show_grid(comparison, Console(stderr=True))
    typer.echo(json.dumps(asdict(comparison), indent=2))


def hacks(
    preset: Annotated[
        str, typer.Option(help="Preset that --weight and --set change, and that --search searches.")
    ] = "verified",
    weight: Annotated[list[str] | None, typer.Option(help="NAME=V: weight of a term in --preset.")] = None,
    switch: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=V of codevision.reward, such as sim=giou.")
    ] = None,
    search: Annotated[
        int | None,
        typer.Option(min=100, metavar="N", help="Score N compositions of the hacks under --preset instead."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of --search.")] = 0,
) -> None:
    """Try known reward hacks, in the real sandbox, under each preset: a table on stderr, JSON on stdout.

    With --search: the best-paid behaviours that aren't honest, among random and improved compositions of the hacks.
    """
    from rich.console import Console  # noqa: PLC0415  other commands start without it

    from codevision_ext.experiments.rescore.options import read_reward  # noqa: PLC0415
    from codevision_ext.experiments.rescore.reward_hacks import try_hacks  # noqa: PLC0415
    from codevision_ext.experiments.rescore.tables import show_findings, show_search  # noqa: PLC0415
    from codevision_ext.rewards.rubric import PRESETS  # noqa: PLC0415
    from codevision_ext.sandbox import Sandbox  # noqa: PLC0415

    without = {"vthinker_as_run": ("consistency=0",)}  # no judge compares thought and answer here
    rewards = {name: read_reward(name, without.get(name, ()), ()) for name in PRESETS}
    if preset not in rewards:
        raise InputError(f"--preset knows {', '.join(rewards)}; not {preset!r}")
    rewards[preset] = read_reward(preset, (*without.get(preset, ()), *(weight or ())), switch or ())
    if search is not None:
        from codevision_ext.experiments.rescore.hack_search import search_hacks  # noqa: PLC0415

        with Sandbox() as sandbox:
            results = search_hacks(sandbox, rewards[preset], count=search, seed=seed)
        show_search(results, Console(stderr=True), preset)
        typer.echo(json.dumps([asdict(result) for result in results], indent=2))
        return
    with Sandbox() as sandbox:
        findings = try_hacks(sandbox, rewards)
    show_findings(findings, Console(stderr=True), preset)
    typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))


def execute_code(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE]...", help="Further images, like --image.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="Image for the snippet; the first one is `image` there.")
    ] = None,
    code: Annotated[Path | None, typer.Option(help="File of one snippet; its result goes to stdout.")] = None,
    batch: Annotated[
        Path | None, typer.Option(metavar="IN.jsonl", help="File of many snippets, {id, code, image|images} per line.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File for the new image; with --batch for the results.")
    ] = None,
    images_dir: Annotated[Path | None, typer.Option(help="Folder for the new images of a batch.")] = None,
    timeout: Annotated[float, typer.Option(help="Wall-clock limit of one run, in seconds.")] = 5.0,
    memory_mb: Annotated[int, typer.Option(help="Memory limit of one run, in MiB.")] = 512,
    isolation: Annotated[str, typer.Option(help="Minimum isolation: unsafe, strict or strict+landlock.")] = "strict",
) -> None:
    """Run model-written code on images, in the sandbox, as a tool call would, and trace what it did.

    Exit 0 when every snippet has a result, even a failure. A bad line ends the command before anything is written.
    """
    from codevision_ext.rollout.run_snippets import run_batch, run_one  # noqa: PLC0415
    from codevision_ext.sandbox import Sandbox  # noqa: PLC0415
    from codevision_ext.sandbox.settings import read_tool_settings  # noqa: PLC0415  other commands start without it

    given = [*(image or ()), *(images or ())]
    if (code is None) == (batch is None):
        raise InputError("give either --code FILE, to run one snippet, or --batch IN.jsonl, to run many")
    if code is not None and images_dir is not None:
        raise InputError("--images-dir belongs to --batch; use --out for the image of one snippet")
    if batch is not None and (given or out is None):
        raise InputError("--batch needs -o OUT.jsonl, and its lines name the images")
    settings = read_tool_settings({"wall_s": timeout, "memory_mb": memory_mb, "isolation": isolation}, "exec")
    with Sandbox(settings.limits, isolation=settings.isolation) as sandbox:
        if code is not None:
            typer.echo(run_one(code, given, sandbox, out))
        elif batch is not None and out is not None:
            typer.echo(f"{out}: {run_batch(batch, out, sandbox, images_dir):,} answers")


def check_drawing(
    image: Annotated[
        Path | None, typer.Option("--input", help="Input image, on which a drawing was to be made.")
    ] = None,
    made: Annotated[Path | None, typer.Option(help="Image that was made: the input with the drawing.")] = None,
    target: Annotated[
        Path | None, typer.Option(help='JSON file of the target: {"primitives": [...]}, pixels of the input.')
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(metavar="IN.jsonl", help="File of many drawings, {id, input, made, target} per line."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File for the results of a batch.")] = None,
) -> None:
    """Check by pixels whether a drawing is right: one JSON object on stdout, or a line for each line of a batch.

    Exit 0 when every drawing was checked, right or wrong; 1 when lines of a batch are bad. The others are checked, and
    the bad lines are listed on stderr and have `id` and `error` in the results.
    """
    from codevision_ext.drawing.files import check_batch, check_one  # noqa: PLC0415  other commands start without it

    if batch is not None and image is made is target is None and out is not None:
        number, bad = check_batch(batch, out)
        typer.echo(f"{out}: {number:,} drawings are checked")
        for line in bad:
            sys.stderr.write(f"codevision: {line.error}\n")
        if bad:
            sys.exit(1)
    elif batch is out is None and image is not None and made is not None and target is not None:
        typer.echo(check_one(image, made, target))
    else:
        raise InputError("give either --input, --made and --target, or --batch IN.jsonl and -o OUT.jsonl")


def doctor(
    tool: Annotated[
        Path | None, typer.Option(help="Tool config whose settings to check; by default the package's own settings.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint to train; checks the training instead of the sandbox.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Parquet file of the RL rows or of the SFT rows. Repeat for several."),
    ] = None,
    recipe: Annotated[Path, typer.Option(help="Training config that verl will get.")] = Path("recipe/demo/grpo.yaml"),
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=V: a setting of verl, such as device=gpu.")
    ] = None,
    gpu_gib: Annotated[
        float | None, typer.Option(help="Memory of a GPU in GiB; by default that of the first GPU here.")
    ] = None,
) -> None:
    """Show which kernel features this machine has, and run the conformance suite: tables on stderr, JSON on stdout.

    With --model and --data: check whether a training would run and learn from the right tokens.
    Exit 1 when a requirement is missing, the back end refuses to start or fails a test, or training would fail.
    """
    if model is None and data:
        raise InputError("--data needs --model, the checkpoint to train")
    if model is not None and (tool is not None or not data):
        raise InputError("--model needs --data; the tool config is the one that --recipe names, not --tool")
    if model is not None:
        require_checkpoint(model)
    require_files([*(data or ()), recipe] if model else [tool] if tool else [])
    from rich.console import Console  # noqa: PLC0415  other commands start without it

    if model is not None and data:
        from codevision_ext.engines.device import use_cpu_if_no_cuda  # noqa: PLC0415

        use_cpu_if_no_cuda()
        from codevision_ext.preflight.result import show_checks  # noqa: PLC0415  after the device is settled
        from codevision_ext.preflight.run import check_training  # noqa: PLC0415

        preflight = check_training(model, data, recipe, setting or (), gpu_gib)
        show_checks(preflight.results, Console(stderr=True))
        typer.echo(json.dumps(preflight.plain(), indent=2))
        sys.exit(not preflight.ok)

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
