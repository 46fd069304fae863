"""Reads and writes results.json, the results and setups of an evaluation; docs/evaluation.md lists every field.

Files of version 1, of which there were two kinds, are upgraded when they are read.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import COLUMNS, Score, ToolMode
from codevision_ext.evaluate.statistics import Difference
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.json_codec import JsonCodec, read_json
from codevision_ext.rollout.trained_format import TrainedFormat

MODEL: Final = "model"
"""Name of the model of an evaluation with --model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnResult:
    """Accuracy in one column of a suite."""

    score: Score
    """Mean over items of the mean over their k rollouts (avg@k), with its Wilson interval."""
    pass_k: Score | None
    """Share of items that at least one of k rollouts solves (pass@k), over the items whose k rollouts are all valid;
    None if k is 1 or no item has k valid rollouts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Behaviour of the rollouts: means over the valid rollouts, or None without a value to average."""

    rollouts: int
    """Number of rollouts, invalid ones included."""
    invalid_share: float
    """Share of all rollouts that an engine, sandbox or judge failure made invalid, in [0, 1] like every share."""
    undecided: int = 0
    """Number of rollouts whose answer no rule and no judge decided; 0 in files that lack this field."""
    tool_rate: float | None
    """Share of rollouts that called the tool."""
    calls: float | None
    """Tool calls per rollout."""
    call_success: float | None
    """Share of calls that ran without an error; a call that can't be parsed counts as an error."""
    recovery: float | None
    """Share of failed calls that a successful call follows, among failed calls after which a turn was left."""
    faithful_crop: float | None
    """Share of rollouts whose crop shows at least half of the answer's box, among rollouts with a crop and a box."""
    drawn_f1: float | None = None
    """Mean F1 of the drawings, over the rollouts whose row asks for one; None in files older than this field."""
    truncated: float | None
    """Share of rollouts that reached the length or turn limit."""
    format: float | None
    """Share of rollouts that kept the format."""
    turns: float | None
    """Assistant turns per rollout."""
    sampled_tokens: float | None
    """Tokens per rollout that the model sampled."""
    prompt_tokens: float | None
    """Tokens of the prompt."""
    seconds: float | None
    """Median seconds of a rollout; rollouts that run at the same time slow each other down."""
    seconds_p95: float | None
    """95th percentile of the seconds of a rollout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierAgreement:
    """Agreement of the drawing verifier with the judge, over the drawings that the judge decided."""

    drawings: int
    """Number of drawings that the judge decided."""
    judge_right: int
    """Number of drawings that the judge calls right."""
    verifier_right: int
    """Number of drawings that the verifier calls right."""
    unknown: int
    """Number of drawings in which the verifier doesn't find the input; they don't count in kappa."""
    kappa: float | None
    """Cohen's kappa, in [-1, 1]; None if it isn't defined, because all drawings have one label and the same verdict."""
    low: float | None
    high: float | None
    """Bounds of its 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeResult:
    """Result of one suite in one mode."""

    overall: ColumnResult
    """Accuracy over the whole suite, with the weights of `SuiteResult.overall`."""
    columns: Mapping[str, ColumnResult]
    """Accuracy of each column."""
    success: Score | None
    """Share of items that meet the suite's success condition (`--holdout`); None for other suites."""
    health: Health | None
    """Behaviour of the rollouts; None if the file was upgraded from checkpoint results of version 1."""
    rows: str
    """Path of the record file, relative to the folder of results.json."""
    verifier: VerifierAgreement | None = None
    """Agreement of the drawing verifier with the judge; None for suites without both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """Result of one suite."""

    data: str
    """File or folder of the items; empty if they were generated, or if the file was upgraded."""
    sha256: str
    """Hash of the evaluated items in their order, images included; empty if the file was upgraded."""
    items: int
    """Number of evaluated items."""
    overall: Literal["items", "columns"]
    """Units of equal weight in the overall accuracy."""
    modes: Mapping[ToolMode, ModeResult]
    """Result of each mode that was evaluated."""
    benefit: Mapping[str, Difference]
    """Accuracy gain from the tool (on minus off, paired by item) per column, plus `overall`; empty unless both ran."""
    rejected: tuple[str, ...] = ()
    """One sentence for each item that can't be used and was left out (`--max-rejected`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeUsed:
    """Judge of the answers that no rule decides."""

    model: str
    base_url: str
    prompts_sha256: str
    request: Mapping[str, Any]
    published_prompts: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each prompt of a benchmark that the user brought (`judge.published_prompts`), by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsed:
    """Model that was evaluated."""

    name: str
    """Folder of the checkpoint, or the model's id at its endpoint."""
    url: str
    """URL of the endpoint; empty for a folder."""
    sha256: str
    """Hash of the folder's files; empty for an endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Model, settings and versions of an evaluation; an evaluation is continued only under an equal setup."""

    model: ModelUsed
    engine: str
    settings: Mapping[str, Any]
    """Settings of the `codevision` section that can change a score."""
    tool: Mapping[str, Any]
    """Settings of the code tool and its sandbox."""
    limits: Mapping[str, Any]
    """Limits of a rollout in tokens and turns, and of the context in tokens."""
    k: int
    """Rollouts per item."""
    seed: int
    temperature: float | None
    """Sampling temperature; None if the file was upgraded from checkpoint results of version 1."""
    request: Mapping[str, Any]
    """Additional fields of each request to an endpoint."""
    judge: JudgeUsed | None
    versions: Mapping[str, str]
    """Version of each installed package that can change a result."""
    trained: TrainedFormat | None = None
    """Prompt and format that the checkpoint was trained with; None if it has no codevision.json."""
    differences: tuple[str, ...] = ()
    """Sentences, one for each setting of the evaluation that differs from `trained`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """Results of one model."""

    setup: Setup
    suites: Mapping[str, SuiteResult]
    """Result of each suite by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs of the run that contains the evaluation."""

    minutes: float
    """Wall-clock minutes of all stages."""
    peak_rss_gb: float
    """Peak memory of the process tree, 10^9 bytes."""
    step_s: float
    """Median seconds of a training step."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; it must be finite and not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The content of results.json."""

    version: Literal[2] = 2
    """Version of the format."""
    models: Mapping[str, ModelResult]
    """Result of each model by its name: the NAME of `--checkpoint NAME=FOLDER`, or `model` for `--model`."""
    costs: Costs | None = None
    """Costs of the whole run; None if they weren't measured."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("models holds no evaluation")


EVALUATION: JsonCodec[Evaluation] = JsonCodec(Evaluation)


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Writes results.json atomically."""
    write_whole(path, EVALUATION.dump(evaluation, indent=2) + b"\n")


def read_evaluation(path: Path) -> Evaluation:
    """Reads a results.json of any version, given its path or its folder.

    Raises:
        InputError: the file can't be read, or a field is missing, unknown or out of range; names file and field.
    """
    path = path / "results.json" if path.is_dir() else path
    return EVALUATION.load(json.dumps(_upgraded(read_json(path), path)).encode(), str(path))


def _upgraded(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Converts the content of a file of version 1 to version 2; returns other content unchanged."""
    if content.get("format") == "codevision-eval-1":
        model = {name: value for name, value in content.items() if name != "format"}
        return {"version": 2, "models": {MODEL: model}}
    if "version" in content or "checkpoints" not in content:
        return content
    try:
        models = {name: _checkpoint(name, modes, content) for name, modes in content["checkpoints"].items() if modes}
        costs = {name: content.get(name) for name in ("minutes", "peak_rss_gb", "step_s")}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: isn't a results.json of version 1: {error!r}") from error
    return {"version": 2, "models": models, "costs": None if None in costs.values() else costs}


def _checkpoint(name: str, modes: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Converts one checkpoint of version 1, which stored six columns per mode, and of its setup only the seed."""
    scores = {mode: {column: Score(**columns[column]) for column in COLUMNS} for mode, columns in modes.items()}
    setup = {"model": {"name": name, "url": "", "sha256": ""}, "seed": content["seed"], "versions": content["versions"]}
    setup |= {"engine": "", "settings": {}, "tool": {}, "limits": {}, "request": {}, "k": 1, "temperature": None}
    results = {
        mode: {
            "overall": {"score": asdict(Score.mean(columns.values())), "pass_k": None},
            "columns": {column: {"score": asdict(score), "pass_k": None} for column, score in columns.items()},
            "success": None,
            "health": None,
            "rows": f"eval/{name}_{mode}.jsonl",
        }
        for mode, columns in scores.items()
    }
    items = max(sum(score.n for score in columns.values()) for columns in scores.values())
    suite = {"data": "", "sha256": "", "items": items, "overall": "columns", "modes": results, "benefit": {}}
    return {"setup": setup | {"judge": None}, "suites": {"transformed": suite}}
