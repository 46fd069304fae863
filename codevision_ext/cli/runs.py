"""Commands that train, evaluate, serve and show a run: demo, study, tiny-model, report, eval, serve and compare."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from codevision_ext.cli.eval_options import EvalOptions, takes
from codevision_ext.cli.serve_options import ServeOptions
from codevision_ext.errors import InputError
from codevision_ext.io.stopping import stoppable

_STOPPED_STAGES = "codevision: stopped, nothing runs any more; the same command goes on from here"
_STOPPED_EVAL = "codevision: stopped; the same command goes on from here"


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run; the same command continues there.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the data, the weights and the sampling.")] = 0,
    recipe: Annotated[Path, typer.Option(help="Folder that holds run.sh and its settings.")] = Path("recipe/demo"),
    until: Annotated[str | None, typer.Option(help="Last stage to run; by default the report.")] = None,
) -> None:
    """Generate data, build a tiny model, train and evaluate it, and write a report page; continues a stopped run."""
    from codevision_ext.experiments.demo import run_demo  # noqa: PLC0415  other commands start without it

    with stoppable(_STOPPED_STAGES):
        run_demo(out, recipe=recipe, seed=seed, until=until)
    typer.echo(out / "report.html" if until in (None, "report") else out)


def study_variants(
    name: Annotated[
        str,
        typer.Argument(help="Name of a study in --studies: ablations, emergent, crop, beta, benefit, order or credit."),
    ],
    run: Annotated[Path, typer.Option(help="Run of the demo whose rows and checkpoints to use.")] = Path("runs/demo"),
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; by default runs/studies/NAME. A stopped study continues there."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of every training; by default the study's.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, such as 0,1,2; by default the study's.")] = None,
    at_once: Annotated[
        int | None,
        typer.Option(min=1, help="Number of trainings side by side; by default two, or one if memory is short."),
    ] = None,
    until_decided: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="MAX_MINUTES",
            help="Add seeds until each difference is decided; no seed starts that would end after so many minutes.",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=V: a setting of verl, for all trainings.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Print only the part that needs no training.")] = False,
    recipe: Annotated[Path, typer.Option(help="Folder that holds run.sh and its settings.")] = Path("recipe/demo"),
    studies: Annotated[Path, typer.Option(help="Folder that holds the studies.")] = Path("recipe/studies"),
) -> None:
    """Train variants that differ in one setting, side by side, and compare them: a table, curves, JSON.

    Tables that need no training are made first, from the rollouts of --run. A stopped study continues.
    """
    from codevision_ext.experiments.study.command import run_study  # noqa: PLC0415  other commands start without it
    from data_prep import eval_items  # noqa: PLC0415

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
            until_decided=until_decided,
            reader=eval_items,
        )
    typer.echo(table)


def tiny_model(
    family: Annotated[str, typer.Option(help="Architecture: qwen2_5_vl or qwen3_vl.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it appears complete or not at all.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights.")] = 0,
    hidden: Annotated[int, typer.Option(min=32, help="Width of the language model; a multiple of 32.")] = 128,
    layers: Annotated[int, typer.Option(min=1, help="Depth of the language model.")] = 4,
    vision_hidden: Annotated[int, typer.Option(min=32, help="Width of the vision tower; a multiple of 32.")] = 96,
    vision_layers: Annotated[int, typer.Option(min=1, help="Depth of the vision tower.")] = 3,
    vocab_size: Annotated[int, typer.Option(min=512, help="Number of tokens, special tokens included.")] = 1024,
    max_pixels: Annotated[int, typer.Option(min=784, help="Maximum pixels of an image that the model sees.")] = 16384,
    texts: Annotated[
        Path | None,
        typer.Option(help="Texts to train the tokenizer on, a JSON string a line; by default the package's own."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in --out.")] = False,
) -> None:
    """Build a small random Qwen-VL checkpoint, offline, with a tokenizer trained on --texts or the package's."""
    from codevision_ext.engines.device import use_cpu_if_no_cuda  # noqa: PLC0415
    from codevision_ext.io.atomic_files import whole_folder  # noqa: PLC0415

    sizes = {"hidden": hidden, "layers": layers, "vision_hidden": vision_hidden, "vision_layers": vision_layers}
    with whole_folder(out, force=force) as draft:
        use_cpu_if_no_cuda()
        from codevision_ext.models.tiny_model import build, tokenizer_texts  # noqa: PLC0415  after the device is settled

        parameters = build(
            family,
            draft,
            texts=tokenizer_texts(texts),
            vocab_size=vocab_size,
            max_pixels=max_pixels,
            seed=seed,
            **sizes,
        )
    typer.echo(f"{out}: {family}, {parameters:,} parameters")


def report_runs(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs: results.json, metrics.jsonl, eval/, rollouts/.", metavar="RUN_DIR..."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File of the page; by default RUN_DIR/report.html for one run, report.html for several."
        ),
    ] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Put images into the page instead of a folder beside it.")
    ] = False,
    limit: Annotated[int, typer.Option(min=0, help="Maximum rollouts to show.")] = 2000,
) -> None:
    """Write one page about runs: tables, curves, and their rollouts with every image, call and reward term."""
    from codevision_ext.report import write_report  # noqa: PLC0415  other commands start without it

    typer.echo(write_report(run_dirs, out, inline=inline, limit=limit))


@takes(EvalOptions)
def eval_model(given: EvalOptions) -> None:
    """Evaluate a model on suites, with the loop, the sandbox and the scoring of training, but without a trainer.

    A stopped evaluation continues with the same command, which runs the missing rollouts. --checkpoint and --data
    evaluate the checkpoints of one training, such as base, sft and rl, one after the other.
    """
    from codevision_ext.cli.eval import run_eval  # noqa: PLC0415  other commands start without it

    with stoppable(_STOPPED_EVAL):
        evaluation = run_eval(given)
    from rich.console import Console  # noqa: PLC0415

    from codevision_ext.evaluate.tables import show_results  # noqa: PLC0415

    show_results(evaluation, Console(stderr=True))
    typer.echo(given.out / "results.json")


@takes(ServeOptions)
def serve_chat(given: ServeOptions) -> None:
    """Serve a model with its tool: requests in OpenAI's chat protocol are answered by whole rollouts.

    Each answer is the one that `codevision eval` would record. A signal ends the server when the answers under way are
    finished.
    """
    from codevision_ext.cli.serve import run_server  # noqa: PLC0415  other commands start without it

    with stoppable("codevision: the server is stopped"):
        run_server(given)


def export_model(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder of a checkpoint, or verl's folder of a training, a step or an actor.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it appears complete or not at all.")],
    trained: Annotated[
        Path | None, typer.Option(help="Folder with the codevision.json; by default the checkpoint's own.")
    ] = None,
    card: Annotated[bool, typer.Option("--card", help="Write a model card; needs --results and --licence.")] = False,
    results: Annotated[
        Path | None, typer.Option(help="File results.json of an evaluation of this checkpoint, or its folder.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, such as apache-2.0.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Model that the training started from, for the card.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="Data set of the training, for the card. Repeatable.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe of the training, for the card.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in --out.")] = False,
) -> None:
    """Write a checkpoint as a folder that plain transformers and vLLM load, with its prompt format and a model card."""
    from codevision_ext.engines.device import use_cpu_if_no_cuda  # noqa: PLC0415  other commands start without it
    from codevision_ext.serve.card import Card  # noqa: PLC0415
    from codevision_ext.serve.export import export_checkpoint  # noqa: PLC0415

    if card != (results is not None and licence is not None):
        raise InputError("--card needs --results and --licence, and these belong to --card")
    content = None
    if results is not None and licence is not None:
        content = Card(results=results, licence=licence, base_model=base_model, data=tuple(data or ()), recipe=recipe)
    use_cpu_if_no_cuda()
    source = export_checkpoint(checkpoint, out, trained=trained, card=content, force=force)
    typer.echo(f"{out}: exported from {source}")


def compare_runs(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of evaluations; every model is compared with the first one.")
    ],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables in Markdown.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print tables in LaTeX, for booktabs.")] = False,
    plot: Annotated[Path | None, typer.Option(help="File of a drawing to write: .png, .svg or .pdf.")] = None,
) -> None:
    """Compare evaluations column by column, item by item, and mark significant differences.

    Published results of the same benchmark follow in tables of their own, where the package has them.
    """
    if markdown and latex:
        raise InputError("give --markdown or --latex, not both")
    from rich.console import Console  # noqa: PLC0415  other commands start without it

    from codevision_ext.evaluate import compare as comparing  # noqa: PLC0415
    from codevision_ext.evaluate import published as others  # noqa: PLC0415

    comparisons = comparing.compare_evaluations(runs)
    for comparison in comparisons:
        if markdown or latex:
            typer.echo((comparing.comparison_markdown if markdown else comparing.comparison_latex)(comparison) + "\n")
        else:
            Console().print(comparing.comparison_table(comparison))
    for table in others.published_tables(comparison.suite for comparison in comparisons):
        if markdown or latex:
            typer.echo((others.published_markdown if markdown else others.published_latex)(table) + "\n")
        else:
            Console().print(others.terminal_table(table))
    if plot is not None:
        comparing.draw_comparison(comparisons, plot)
        sys.stderr.write(f"codevision: {plot} is written\n")
