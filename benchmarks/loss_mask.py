"""Measures what a loss mask of failing and deliberately wrong calls changes.

`loss_mask.py count MODEL SFT.parquet` prints how many tokens SFT learns, with masked messages and without; MODEL is a
checkpoint folder, for its tokenizer and chat template. The counts are one JSON object.

`loss_mask.py train runs/demo`, after `codevision demo --until sft`, trains the demo's SFT a second time: from the same
checkpoint, for the same steps, on the same rows, but with these calls left out of the loss. Both models are evaluated
on the demo's held-out items, with up to four turns, so that a model can correct a call. The new model and the
evaluations are written to `mask` beside the run; a second start of the command uses what is there. Prints Markdown.
docs/data.md has the figures.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codevision_ext.errors import CodeVisionError
from codevision_ext.evaluate.results import read_evaluation
from codevision_ext.geometry import compose_all, inverse, orientation_of
from codevision_ext.io.records import Record, read_records
from codevision_ext.models.checkpoint import renderer_of
from codevision_ext.task.image_ops import CROP
from codevision_ext.task.row_checks import is_trained, read_images
from codevision_ext.types import Orientation

RECIPE = Path(__file__).parents[1] / "recipe" / "demo"
TURNS, TOKENS, ROLLOUTS = 4, 768, 2
"""Limits of an evaluated rollout, and rollouts of each item."""
STEP = "latest_checkpointed_iteration.txt"


def token_counts(model: Path, data: Path) -> dict[str, Any]:
    """Returns the numbers of rows, of assistant messages, and of tokens that have a loss.

    Raises:
        InputError: the model or a row can't be read.
    """
    renderer = renderer_of(model)
    counts = dict.fromkeys(("rows", "rows_with_masked_messages", "messages", "masked_messages"), 0)
    learned = {"masked": 0, "unmasked": 0}
    for row in pq.read_table(data).to_pylist():
        messages, tools = row["messages"], json.loads(row["tools"] or "[]")
        images = read_images(row["images"])
        turns = [message for message in messages if message["role"] == "assistant"]
        masked = sum(not is_trained(turn) for turn in turns)
        counts["rows"] += 1
        counts["rows_with_masked_messages"] += masked > 0
        counts["messages"] += len(turns)
        counts["masked_messages"] += masked
        bare = [{"role": message["role"], "content": message["content"]} for message in messages]
        learned["masked"] += sum(renderer.conversation(messages, tools, images).mask)
        learned["unmasked"] += sum(renderer.conversation(bare, tools, images).mask)
    return {"family": renderer.family, **counts, "trained_tokens": learned}


def masked_rows(source: Path, out: Path) -> None:
    """Writes demonstrations with `train` false in place of true, which failing and deliberately wrong calls have."""
    table = pq.read_table(source)
    rows = table.column("messages").to_pylist()
    messages = [[turn | {"train": False if turn["train"] else turn["train"]} for turn in row] for row in rows]
    column = pa.array(messages, table.schema.field("messages").type)
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.set_column(table.schema.get_field_index("messages"), "messages", column), out)


def checkpoint(folder: Path) -> Path:
    """Returns the model in the last checkpoint of a training."""
    return folder / f"global_step_{(folder / STEP).read_text().strip()}" / "huggingface"


def _environment() -> dict[str, str]:
    """Returns the environment of a command, with the programs of this interpreter first."""
    return os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    }


def train_masked(run: Path, out: Path) -> Path:
    """Trains the demo's SFT from the run's `read` on masked rows, and returns the model."""
    if not (out / "sft" / STEP).exists():
        masked_rows(run / "data" / "sft.parquet", out / "data" / "sft.parquet")
        if not (out / "read").exists():
            (out / "read").symlink_to(run / "read")
        subprocess.run(["bash", RECIPE / "run.sh", "sft"], env=_environment() | {"OUT": str(out)}, check=True)
    return checkpoint(out / "sft")


def evaluate(model: Path, run: Path, out: Path) -> tuple[float, Sequence[Record]]:
    """Returns the accuracy of a model on the held-out items, and the records of its rollouts."""
    words = ["--model", model, "--suite", f"transformed={run / 'data' / 'test.parquet'}", "--tools", "on", "--out", out]
    words += ["--recipe", RECIPE / "grpo.yaml", "--max-turns", TURNS, "--max-tokens", TOKENS, "--k", ROLLOUTS]
    command = [sys.executable, "-m", "codevision_ext.cli", "eval", *map(str, words)]
    subprocess.run(command, env=_environment() | {"VERL_PLATFORM": "cpu"}, check=True)
    mode = read_evaluation(out).models["model"].suites["transformed"].modes["tool_on"]
    return mode.overall.score.accuracy, list(read_records(out / mode.rows))


def failures(records: Sequence[Record]) -> Iterator[float]:
    """Yields 1.0 for each call that failed, else 0.0."""
    return (float(not step.ok) for record in records for step in record.observed.steps)


def first_calls(records: Sequence[Record]) -> Iterator[float]:
    """Yields 1.0 for each turned image whose first call puts it upright, else 0.0; only rollouts with a call."""
    for record in records:
        ops = [op for op in record.task.applied if op != CROP]
        if ops and record.observed.steps:
            upright: Orientation = inverse(compose_all(map(orientation_of, ops)))
            yield float(record.observed.steps[0].net is upright)


def corrected(records: Sequence[Record]) -> Iterator[float]:
    """Yields 1.0 for each failed call that a successful one follows, else 0.0."""
    for record in records:
        steps = record.observed.steps
        yield from (float(any(later.ok for later in steps[at:])) for at, step in enumerate(steps, 1) if not step.ok)


FIGURES: Mapping[str, Callable[[Sequence[Record]], Iterator[float]]] = {
    "calls that fail": failures,
    "first calls that put the image upright": first_calls,
    "failed calls that a successful call follows": corrected,
}
"""Shares of a model's rollouts, by title."""


def comparison(run: Path) -> str:
    """Trains the second model, evaluates both, and returns a table in Markdown."""
    out = run.parent / "mask"
    models = {"learned": checkpoint(run / "sft"), "masked": train_masked(run, out / "masked")}
    results = {name: evaluate(model, run, out / f"eval_{name}") for name, model in models.items()}
    lines = [("accuracy, mean of six columns", *(f"{100 * accuracy:.1f} %" for accuracy, _ in results.values()))]
    for title, figure in FIGURES.items():
        values = [list(figure(records)) for _, records in results.values()]
        lines.append((title, *(f"{100 * fmean(own):.1f} % of {len(own):,}" if own else "none" for own in values)))
    calls = [fmean(len(each.observed.steps) for each in records) for _, records in results.values()]
    lines.append(("calls of a rollout", *(f"{mean:.2f}" for mean in calls)))
    header = ("", *(f"wrong calls {name}" for name in results))
    return "".join("| " + " | ".join(row) + " |\n" for row in (header, ("---",) * len(header), *lines))


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    count = commands.add_parser("count", help="tokens that SFT learns")
    count.add_argument("model", type=Path)
    count.add_argument("rows", type=Path)
    commands.add_parser("train", help="a model trained with the mask and one without").add_argument("run", type=Path)
    chosen = parser.parse_args()
    if chosen.command == "count":
        sys.stdout.write(json.dumps(token_counts(chosen.model, chosen.rows)) + "\n")
    else:
        sys.stdout.write(comparison(chosen.run.resolve()))


if __name__ == "__main__":
    try:
        main()
    except CodeVisionError as error:
        sys.exit(f"loss_mask: {error}")
