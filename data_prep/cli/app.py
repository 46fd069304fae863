"""Joins the commands of `python -m data_prep`: JSON on stdout, messages on stderr, exit code 2 for bad input."""

import sys
from collections.abc import Callable

import typer

from codevision_ext.errors import CodeVisionError
from data_prep.cli import dataset_commands as existing
from data_prep.cli import generate_commands as generate
from data_prep.cli import glyphs_commands as reading
from data_prep.cli.evolve_command import evolve_command
from data_prep.cli.figures_command import figures_command

COMMANDS: dict[str, Callable[..., None]] = {
    "convert": existing.convert_command,
    "transform": existing.transform_command,
    "check": existing.check_command,
    "inspect": existing.inspect_command,
    "split": existing.split_command,
    "mix": existing.mix_command,
    "shard": existing.shard_command,
    "synth": generate.synth_command,
    "filter": generate.filter_command,
    "glyphs": reading.glyphs_command,
    "corpus": reading.corpus_command,
    "figures": figures_command,
    "evolve": evolve_command,
}
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def data_prep() -> None:
    """Generate, convert, check and measure data for CodeVision."""


for name, command in COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    """Run the command; an error of ours or of the input ends it with one sentence."""
    try:
        app()
    except CodeVisionError as error:
        typer.echo(f"data_prep: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        typer.echo(f"data_prep: can't read or write: {error}", err=True)
        sys.exit(2)
