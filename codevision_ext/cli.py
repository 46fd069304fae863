"""What can be asked for from a shell? The `codevision` command; each command imports what it needs when it runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from codevision_ext.errors import CodeVisionError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def codevision() -> None:
    """Thinking with images, as a plugin of stock verl."""


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run: results.json, metrics.jsonl, eval/, rollouts/.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The page; RUN_DIR/report.html by default.")] = None,
) -> None:
    """Write one self-contained HTML page about a run."""
    from codevision_ext.report import write_report  # noqa: PLC0415  other commands start without it

    typer.echo(write_report(run_dir, out))


def main() -> None:
    """Runs the command; what went wrong on purpose is one sentence on stderr and exit code 2."""
    try:
        app()
    except CodeVisionError as error:
        sys.stderr.write(f"codevision: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
