"""Measures how well a judge agrees with people, on labelled answers."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from codevision_ext.errors import InputError, JudgeError
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.judge.client import Judge
from codevision_ext.judge.prompts import Query
from codevision_ext.task.answers import check_answer
from codevision_ext.types import Verdict

LEVEL: Final = 0.95
"""Confidence level of the intervals."""
_DRAWS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """One line of a file of labels."""

    question: str
    answer: str | list[str]
    """Reference, or a list of references."""
    prediction: str
    """Answer that the judge reads."""
    label: bool | int
    """Label by people: true or 1 for a correct prediction, false or 0 for a wrong one."""
    source: str = ""

    def __post_init__(self) -> None:
        if self.label not in (0, 1):
            raise ValueError(f"label is {self.label}; it must be 0, 1, false or true")
        if not self.references or not all(self.references):
            raise ValueError("answer is empty")

    @property
    def references(self) -> tuple[str, ...]:
        """The references as a tuple, however they were written."""
        return (self.answer,) if isinstance(self.answer, str) else tuple(self.answer)


_CODEC: JsonCodec[Labelled] = JsonCodec(Labelled)


def read_labelled(path: Path) -> list[Labelled]:
    """Return the lines of a file, without blank ones.

    Raises:
        InputError: it can't be read, has no line, or some aren't labels; names the first such line and counts them.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    labelled: list[Labelled] = []
    bad: list[InputError] = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                labelled.append(_CODEC.load(line, f"{path}, line {number}"))
        except InputError as error:
            bad.append(error)
    if bad:
        more = f" (and {len(bad) - 1} more such lines)" if len(bad) > 1 else ""
        raise InputError(f"{bad[0]}{more}")
    if not labelled:
        raise InputError(f"{path}: there is no labelled line in it")
    return labelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Counts of label and verdict, with accuracy and kappa.

    Accuracy is over all lines that the judge answered, an abstention agreeing with nobody; kappa is over the decided
    ones. Kappa is None if all of these have one label and the same verdict: agreement by chance is certain there.
    """

    right_as_right: int
    right_as_wrong: int
    right_abstained: int
    wrong_as_right: int
    """Wrong answers that the judge would have rewarded."""
    wrong_as_wrong: int
    wrong_abstained: int

    @property
    def total(self) -> int:
        """Lines that the judge answered, abstentions among them."""
        return sum(self._decided()) + self.right_abstained + self.wrong_abstained

    @property
    def accuracy(self) -> float | None:
        """In [0, 1]; None without lines."""
        return (self.right_as_right + self.wrong_as_wrong) / self.total if self.total else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa, in [-1, 1] (Cohen 1960, Educational and Psychological Measurement 20)."""
        from statsmodels.stats.inter_rater import cohens_kappa  # noqa: PLC0415  slow to import

        table = self._decided()
        if sum(table) in (self.right_as_right, self.wrong_as_wrong):
            return None
        return float(cohens_kappa(np.reshape(table, (2, 2)), return_results=False))

    @property
    def kappa_interval(self) -> tuple[float, float] | None:
        """Central 95 % of kappa's posterior under Jeffreys' prior on the four cells, from 20,000 draws.

        Unlike the bootstrap's it doesn't shrink to a point where judge and labels agree in all of a few lines. As in
        the modified Jeffreys interval of Brown, Cai and DasGupta (2001, Statistical Science 16), it is stretched to
        the observed value where that lies at the border and outside.
        """
        if self.kappa is None:
            return None
        a, b, c, d = np.random.default_rng(0).dirichlet(np.array(self._decided()) + 0.5, size=_DRAWS).T
        kappas = 2 * (a * d - b * c) / ((a + b) * (b + d) + (a + c) * (c + d))  # statsmodels has one table at a time
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(kappas, [tail, 1 - tail])
        return min(float(low), self.kappa), max(float(high), self.kappa)

    def _decided(self) -> tuple[int, int, int, int]:
        return self.right_as_right, self.right_as_wrong, self.wrong_as_right, self.wrong_as_wrong

    def as_dict(self) -> dict[str, Any]:
        """Return the counts and figures as a JSON object."""
        return {
            "lines": self.total,
            "accuracy": self.accuracy,
            "kappa": self.kappa,
            "kappa_interval": self.kappa_interval,
            "abstained": self.right_abstained + self.wrong_abstained,
            "confusion": {
                "label_1": {"1": self.right_as_right, "0": self.right_as_wrong, "abstained": self.right_abstained},
                "label_0": {"1": self.wrong_as_right, "0": self.wrong_as_wrong, "abstained": self.wrong_abstained},
            },
        }


def agreement(pairs: Iterable[tuple[bool | int, float | None]]) -> Agreement:
    """Count pairs of a label and a score (1, 0, or None for abstained)."""
    seen = [(bool(label), score) for label, score in pairs]
    return Agreement(
        right_as_right=seen.count((True, 1)),
        right_as_wrong=seen.count((True, 0)),
        right_abstained=seen.count((True, None)),
        wrong_as_right=seen.count((False, 1)),
        wrong_as_wrong=seen.count((False, 0)),
        wrong_abstained=seen.count((False, None)),
    )


async def measure_agreement(path: Path, judge: Judge, console: Console | None = None) -> dict[str, Any]:
    """Ask the judge about every line of a file of labels, and closes it; a table goes to `console`, else to stderr.

    `judge` is the judge alone, `by_prompt` the same for each prompt, `rules_then_judge` what training does: the judge
    reads only what no rule decides. Lines that the judge couldn't be asked about are in none of them.

    Raises:
        InputError: as `read_labelled`; no line is judged then.
        JudgeError: not one line could be judged.
    """
    lines = read_labelled(path)
    queries = [Query(question=x.question, references=x.references, answer=x.prediction, source=x.source) for x in lines]
    async with judge:
        answers = await judge.ask_all(queries)
    failed = [answer for answer in answers if isinstance(answer, JudgeError)]
    if len(failed) == len(lines):
        raise failed[0]
    judged = [(line, verdict) for line, verdict in zip(lines, answers, strict=True) if isinstance(verdict, Verdict)]
    prompts = dict(sorted({verdict.prompt: verdict.prompt_sha256 for _, verdict in judged}.items()))
    parts = {
        "judge": agreement((line.label, verdict.score) for line, verdict in judged),
        "rules_then_judge": agreement((line.label, _rules_first(line, verdict)) for line, verdict in judged),
    }
    by_prompt = {name: agreement((x.label, v.score) for x, v in judged if v.prompt == name) for name in prompts}
    console = console or Console(file=sys.stderr, width=None if sys.stderr.isatty() else 110)
    console.print(_table(parts | {f"judge, {name}": part for name, part in by_prompt.items()}))
    if failed:
        console.print(f"{len(failed)} of {len(lines)} lines not judged: {failed[0]}", style="bold red", markup=False)
    return {
        "model": judge.model,
        "prompts": prompts,
        "failed": len(failed),
        **{name: part.as_dict() for name, part in parts.items()},
        "by_prompt": {name: part.as_dict() for name, part in by_prompt.items()},
    }


def _rules_first(line: Labelled, verdict: Verdict) -> float | None:
    ruled = check_answer(line.prediction, line.references)
    return verdict.score if ruled is None else float(ruled)


def _table(parts: Mapping[str, Agreement]) -> Table:
    table = Table("", "lines", "accuracy", "kappa", f"{LEVEL:.0%} interval", title="Agreement with the labels")
    table.columns[0].no_wrap = True
    for label in ("1", "0"):
        for verdict in ("1", "0", "-"):
            table.add_column(f"{label}→{verdict}", justify="right")
    table.caption = "label→verdict; - is abstained, and counts against accuracy but not in kappa"
    for name, part in parts.items():
        counts = [part.right_as_right, part.right_as_wrong, part.right_abstained]
        counts += [part.wrong_as_right, part.wrong_as_wrong, part.wrong_abstained]
        interval = "-" if part.kappa_interval is None else "{:.2f} to {:.2f}".format(*part.kappa_interval)
        figures = ["-" if value is None else f"{value:.3f}" for value in (part.accuracy, part.kappa)]
        table.add_row(name, str(part.total), *figures, interval, *map(str, counts))
    return table
