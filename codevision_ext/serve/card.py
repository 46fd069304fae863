"""Writes the model card of an exported checkpoint from its results.json."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import Score
from codevision_ext.evaluate.results import ModelResult, read_evaluation
from codevision_ext.evaluate.setup import model_used


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The part of a model card that no file of the checkpoint holds."""

    results: Path
    """File results.json of an evaluation of the checkpoint, or its folder."""
    licence: str
    """Licence of the weights, an id of Hugging Face such as `apache-2.0`."""
    base_model: str | None = None
    """Id of the model that the training started from."""
    data: tuple[str, ...] = ()
    """Data sets of the training."""
    recipe: str | None = None
    """Recipe of the training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRow:
    """A row of the card's table: accuracies in percent with their 95 % intervals."""

    suite: str
    column: str
    items: int
    on: str
    off: str
    gain: str
    """Gain from the tool in points, with its interval; empty unless both modes ran."""


def model_card(card: Card, checkpoint: Path, name: str) -> str:
    """Returns the card in Markdown, with the metadata block of Hugging Face.

    Args:
        card: What isn't in results.json.
        checkpoint: Folder whose results are shown.
        name: Name of the model.

    Raises:
        InputError: results.json can't be read, or has no results of exactly these files.
    """
    result = _result_of(card.results, checkpoint)
    template = (files("codevision_ext") / "serve" / "card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["yaml"] = _yaml
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    rows = list(_rows(result))
    return environment.from_string(template).render(
        card=card, name=name, setup=result.setup, suites=result.suites, rows=rows, trained=result.setup.trained
    )


def _result_of(results: Path, checkpoint: Path) -> ModelResult:
    path = results / "results.json" if results.is_dir() else results
    if not path.is_file():
        raise InputError(f"--results {results}: there is no results.json; `codevision eval` writes one")
    models, sha256 = read_evaluation(path).models, model_used(str(checkpoint)).sha256
    for model in models.values():
        if model.setup.model.sha256 == sha256:
            return model
    names = ", ".join(f"{name} ({model.setup.model.name})" for name, model in models.items())
    raise InputError(f"--results {path}: has no results of the files in {checkpoint}, but of {names}")


def _rows(result: ModelResult) -> Iterator[CardRow]:
    for suite, each in result.suites.items():
        on, off = each.modes.get("tool_on"), each.modes.get("tool_off")
        columns = list(next(iter(each.modes.values())).columns)
        for column in (*columns, "overall") if len(columns) > 1 else ("overall",):
            cells = [
                (mode.overall if column == "overall" else mode.columns[column]).score if mode else None
                for mode in (on, off)
            ]
            gain = each.benefit.get(column)
            words = f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})" if gain else ""
            items = next(cell.n for cell in cells if cell)
            yield CardRow(suite=suite, column=column, items=items, on=_cell(cells[0]), off=_cell(cells[1]), gain=words)


def _cell(score: Score | None) -> str:
    return f"{score.readings} ({score.interval})" if score else ""


def _yaml(value: object) -> str:
    """Returns a text as a YAML string in quotation marks."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{text}"'
