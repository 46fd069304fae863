"""What can be asked for from a shell? The `codevision` command; each command imports what it needs when it runs."""

import asyncio
import errno
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from codevision_ext.errors import CodeVisionError, InputError
from codevision_ext.io.stopping import stoppable

_STOPPED_STAGES = "codevision: stopped, nothing runs any more; the same command goes on from here"
_STOPPED_EVAL = "codevision: stopped; the same command goes on from here"
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def codevision() -> None:
    """Thinking with images, as a plugin of stock verl."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run; the same command goes on in it.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the data, the weights and the sampling.")] = 0,
    recipe: Annotated[Path, typer.Option(help="Folder with run.sh and its settings.")] = Path("recipe/demo"),
    until: Annotated[str, typer.Option(help="Last stage to run.")] = "report",
) -> None:
    """Draw data, build a tiny model, train and evaluate it, and write a page about it; goes on where it was stopped."""
    from codevision_ext.experiments.demo import run_demo  # noqa: PLC0415  other commands start without it

    with stoppable(_STOPPED_STAGES):
        run_demo(out, recipe=recipe, seed=seed, until=until)
    typer.echo(out / "report.html" if until == "report" else out)


@app.command(name="report")
def report_runs(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs: results.json, metrics.jsonl, eval/, rollouts/.", metavar="RUN_DIR..."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page; RUN_DIR/report.html for one run, else report.html.")
    ] = None,
    inline: Annotated[bool, typer.Option("--inline", help="Images into the page, not beside it.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Rollouts to show at most.")] = 2000,
) -> None:
    """Write one page about runs: tables, curves, and their rollouts with every image, call and reward term."""
    from codevision_ext.report import write_report  # noqa: PLC0415  other commands start without it

    typer.echo(write_report(run_dirs, out, inline=inline, limit=limit))


@app.command()
def tiny_model(
    family: Annotated[str, typer.Option(help="qwen2_5_vl or qwen3_vl.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it appears whole or not at all.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the weights.")] = 0,
    hidden: Annotated[int, typer.Option(min=32, help="Width of the language model; a multiple of 32.")] = 128,
    layers: Annotated[int, typer.Option(min=1, help="Depth of the language model.")] = 4,
    vision_hidden: Annotated[int, typer.Option(min=32, help="Width of the vision tower; a multiple of 32.")] = 96,
    vision_layers: Annotated[int, typer.Option(min=1, help="Depth of the vision tower.")] = 3,
    vocab_size: Annotated[int, typer.Option(min=512, help="Tokens, special ones included.")] = 1024,
    max_pixels: Annotated[int, typer.Option(min=784, help="Largest image that the model is shown, pixels.")] = 16384,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in --out.")] = False,
) -> None:
    """Build a small random Qwen-VL checkpoint, offline, with a tokenizer trained on the package's own texts."""
    from codevision_ext.engines.device import use_cpu_if_no_cuda  # noqa: PLC0415
    from codevision_ext.io.atomic_files import whole_folder  # noqa: PLC0415

    sizes = {"hidden": hidden, "layers": layers, "vision_hidden": vision_hidden, "vision_layers": vision_layers}
    with whole_folder(out, force=force) as draft:
        use_cpu_if_no_cuda()
        from codevision_ext.models.tiny_model import build, tokenizer_texts  # noqa: PLC0415  after the device is settled

        parameters = build(
            family, draft, texts=tokenizer_texts(), vocab_size=vocab_size, max_pixels=max_pixels, seed=seed, **sizes
        )
    typer.echo(f"{out}: {family}, {parameters:,} parameters")


@app.command(name="eval")
def eval_model(
    out: Annotated[Path, typer.Option(help="Folder: eval/ and results.json are written there; goes on in it.")],
    model: Annotated[str | None, typer.Option(help="A checkpoint's folder, or the URL of an endpoint.")] = None,
    suite: Annotated[
        list[str] | None, typer.Option(help="NAME=PATH, a PATH whose columns tell, or glyphs or synth. Once a suite.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="sglang, vllm or transformers; of a URL openai, sglang or vllm.")
    ] = "sglang",
    replicas: Annotated[int, typer.Option(min=1, help="Engines of a folder, which share the rollouts.")] = 1,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of each of these engines (tensor parallel).")] = 1,
    model_id: Annotated[str | None, typer.Option(help="Id that a URL knows the model by; else the first.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable with a URL's key.")] = None,
    request: Annotated[str, typer.Option(help="More fields of each request to a URL, a JSON object.")] = "{}",
    recipe: Annotated[
        Path | None, typer.Option(help="Training config whose limits, tool and judge hold here too.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of the codevision section: judge.model=ID")
    ] = None,
    tools: Annotated[str, typer.Option(help="on, off or on,off: with the tool, without, or both.")] = "on,off",
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Rollouts of each item: avg@k, pass@k.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling.")] = 0,
    temperature: Annotated[float, typer.Option(min=0.0, help="0: the likeliest token each time.")] = 1.0,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Assistant turns; else the recipe's, or 12.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a response; else the recipe's, or 16,384.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Items of each column at most.")] = None,
    holdout: Annotated[str | None, typer.Option(help="Only items that want this op, such as flip_vertical.")] = None,
    images: Annotated[Path | None, typer.Option("--pictures", help="Where paths of images start.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Rollouts under way at the same time.")] = 128,
    retries: Annotated[int, typer.Option(min=0, help="Times that a rollout which broke is played again.")] = 2,
    force: Annotated[bool, typer.Option("--force", help="Forget what --out holds of another setup.")] = False,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="Several in one engine, for `report_runs`: NAME=FOLDER; base, sft or rl.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="With --checkpoint: rows of the transformed benchmark.")] = None,
) -> None:
    """Measure a model on suites, with the loop, the sandbox and the scoring of training, and without a trainer.

    A stopped run goes on where it was: the same command plays what is missing. `codevision compare` takes several.
    With --checkpoint and --data: base, SFT and RL in turn on the six columns, as `codevision report` shows them.
    """
    if checkpoint:
        if model or suite or data is None:
            raise InputError("--checkpoint wants --data, and goes without --model and --suite")
        from codevision_ext.engines.device import use_cpu_if_no_cuda  # noqa: PLC0415

        use_cpu_if_no_cuda()
        from codevision_ext.evaluate.checkpoints import evaluate_checkpoints  # noqa: PLC0415  after the device is settled

        training = recipe or Path("recipe/demo/grpo.yaml")
        results = evaluate_checkpoints(
            checkpoint,
            data,
            out,
            recipe=training,
            tools=tools,
            temperature=temperature,
            seed=seed,
            limit=limit,
            engine=engine,
            replicas=replicas,
            gpus=gpus,
        )
        typer.echo(results)
        return
    if not model or not suite or data is not None:
        raise InputError("say --model and --suite, to measure one model, or --checkpoint and --data")

    from codevision_ext.cli.eval import EvalOptions, evaluate_model  # noqa: PLC0415  other commands start without it

    asked = EvalOptions(
        model=model,
        suites=suite,
        out=out,
        engine=engine,
        model_id=model_id,
        api_key_env=api_key_env,
        request=request,
        recipe=recipe,
        settings=setting or (),
        tools=tools,
        k=k,
        seed=seed,
        temperature=temperature,
        max_turns=max_turns,
        max_tokens=max_tokens,
        limit=limit,
        holdout=holdout,
        images=images,
        replicas=replicas,
        gpus=gpus,
        concurrency=concurrency,
        retries=retries,
        force=force,
    )
    with stoppable(_STOPPED_EVAL):
        evaluation = evaluate_model(asked)
    from rich.console import Console  # noqa: PLC0415

    from codevision_ext.evaluate.tables import show_results  # noqa: PLC0415

    show_results(evaluation, Console(stderr=True))
    typer.echo(out / "results.json")


@app.command(name="compare")
def compare_runs(
    runs: Annotated[list[Path], typer.Argument(help="Folders of evaluations; all are compared with the first.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables in Markdown.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Tables in LaTeX, for booktabs.")] = False,
    plot: Annotated[Path | None, typer.Option(help="A drawing to write: .png, .svg or .pdf.")] = None,
) -> None:
    """Compare evaluations column by column, item by item: which difference is more than chance?"""
    if markdown and latex:
        raise InputError("say --markdown or --latex, not both")
    from rich.console import Console  # noqa: PLC0415  other commands start without it

    from codevision_ext.evaluate import compare as comparing  # noqa: PLC0415

    found = comparing.compare_evaluations(runs)
    for comparison in found:
        if markdown or latex:
            typer.echo((comparing.comparison_markdown if markdown else comparing.comparison_latex)(comparison) + "\n")
        else:
            Console().print(comparing.comparison_table(comparison))
    if plot is not None:
        comparing.draw_comparison(found, plot)
        sys.stderr.write(f"codevision: {plot} is written\n")


@app.command(name="study")
def study_variants(
    name: Annotated[str, typer.Argument(help="Of a file in --studies: ablations, emergent, crop, beta or benefit.")],
    run: Annotated[Path, typer.Option(help="Run of the demo whose rows and checkpoints are used.")] = Path("runs/demo"),
    out: Annotated[Path | None, typer.Option(help="Folder to write, else runs/studies/NAME; goes on in it.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of every training, in place of the study's.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 0,1,2, in place of the study's.")] = None,
    at_once: Annotated[int | None, typer.Option(min=1, help="Trainings side by side; else two, or one.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="NAME=V of verl's, for all trainings.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only what needs no training.")] = False,
    recipe: Annotated[Path, typer.Option(help="Folder with run.sh and its settings.")] = Path("recipe/demo"),
    studies: Annotated[Path, typer.Option(help="Folder of the studies.")] = Path("recipe/studies"),
) -> None:
    """Train variants that differ in one setting, side by side, and tell which is better: a table, curves, JSON.

    Before, what the rollouts of --run answer without training. A stopped study goes on where it was.
    """
    from codevision_ext.experiments.study.command import (  # noqa: PLC0415  other commands start without it
        run_study as run_study,
    )

    with stoppable(_STOPPED_STAGES):
        table = run_study(
            name,
            run=run,
            out=out or Path("runs/studies") / name,
            recipe=recipe,
            studies=studies,
            steps=steps,
            seeds=seeds,
            at_once=at_once,
            settings=setting or (),
            offline=offline,
        )
    typer.echo(table)


@app.command()
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


@app.command(name="score")
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


@app.command()
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


@app.command(name="exec")
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


@app.command()
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
        from codevision_ext.sandbox.ray_pool import open_sandbox  # noqa: PLC0415
        from codevision_ext.verl_config import read_tool_config  # noqa: PLC0415

        sandbox = open_sandbox(read_tool_config(tool))
    checkup = examine(sandbox, primitives())
    show_checkup(checkup, Console(stderr=True))
    typer.echo(json.dumps(checkup.plain(), indent=2))
    sys.exit(not checkup.ok)


@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
def data(words: Annotated[list[str] | None, typer.Argument(metavar="COMMAND ...")] = None) -> None:
    """Make, convert, check and measure data: the commands of `python -m data_prep`; `codevision data --help`."""
    sys.argv = ["codevision data", *(words or ())]
    from data_prep.__main__ import main as run_data_command  # noqa: PLC0415  other commands start without it

    run_data_command()


def main() -> None:
    """Runs the command; what went wrong on purpose is one sentence on stderr and exit code 2."""
    try:
        app()
    except CodeVisionError as error:
        sys.stderr.write(f"codevision: {error}\n")
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.stderr.write(f"codevision: can't write: {error}\n")
        with suppress(OSError):  # it may be stdout that has no room: what is left to say would fail at the exit again
            sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
