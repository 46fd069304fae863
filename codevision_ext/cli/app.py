"""Defines the `codevision` command: the table of its commands, and its exit code after an error."""

import errno
import os
import sys
from contextlib import suppress

import typer

from codevision_ext.cli import checks, runs
from codevision_ext.errors import CodeVisionError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def codevision() -> None:
    """Train and evaluate vision-language models that think with images, as a plugin of stock verl."""


app.command()(runs.demo)
app.command(name="report")(runs.report_runs)
app.command()(runs.tiny_model)
app.command(name="eval")(runs.eval_model)
app.command(name="serve")(runs.serve_chat)
app.command(name="export")(runs.export_model)
app.command(name="compare")(runs.compare_runs)
app.command(name="study")(runs.study_variants)
app.command()(checks.judge_check)
app.command(name="score")(checks.score_records)
app.command()(checks.hacks)
app.command(name="drawing")(checks.check_drawing)
app.command(name="exec")(checks.execute_code)
app.command()(checks.doctor)
app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})(checks.data)


def main() -> None:
    """Runs the command; an expected error ends it with one sentence on stderr and exit code 2."""
    try:
        app()
    except CodeVisionError as error:
        sys.stderr.write(f"codevision: {error}\n")
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.stderr.write(f"codevision: can't write: {error}\n")
        with suppress(OSError):  # stdout itself may have no room: what it still holds would fail again at exit
            sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
