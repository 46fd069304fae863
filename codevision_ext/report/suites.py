"""What did an evaluation on suites give? The scores of its results.json, as the table shows them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import Score
from codevision_ext.evaluate.summary import FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRow:
    """A suite with the tool, or without."""

    suite: str
    mode: str
    """`tool_on` or `tool_off`."""
    scores: Mapping[str, Score]
    """By column, `overall` last."""


def read_suites(path: Path) -> list[SuiteRow] | None:
    """The rows of the table, in the order of the file; None: the results are a demo's, with checkpoints.

    Raises:
        InputError: the file can't be read, isn't JSON, or a suite lacks what the table shows.
    """
    try:
        results = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    if not isinstance(results, dict) or "format" not in results:
        return None
    if results["format"] != FORMAT:
        raise InputError(f"{path}: field format: {results['format']!r} isn't {FORMAT!r}")
    rows = []
    try:
        for suite, result in results["suites"].items():
            for mode, played in result["modes"].items():
                scores = {column: _score(given) for column, given in played["columns"].items()}
                rows.append(SuiteRow(suite=suite, mode=mode, scores=scores | {"overall": _score(played["overall"])}))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: suites aren't those of an evaluation: {error!r}") from error
    return rows


def _score(given: Mapping[str, Any]) -> Score:
    return Score(**given["score"])
