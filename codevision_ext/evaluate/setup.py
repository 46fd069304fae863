"""Stores the setups of an evaluation in setup.json, and refuses to mix results of different setups."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

from codevision_ext.config import Settings
from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import TOOL_MODES, ToolMode
from codevision_ext.evaluate.results import (
    MODEL,
    Evaluation,
    JudgeUsed,
    ModelUsed,
    Setup,
    read_evaluation,
    write_evaluation,
)
from codevision_ext.evaluate.run import RolloutConfig
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.judge.prompts import Prompts
from codevision_ext.judge.published import published_prompts
from codevision_ext.models.checkpoint_settings import CheckpointSettings

PACKAGES: Final = (
    "codevision_ext",
    "numpy",
    "openai",
    "opencv-python-headless",
    "pillow",
    "sglang",
    "torch",
    "transformers",
    "verl",
    "vllm",
)
"""Packages whose versions can change a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRun:
    """A model to evaluate."""

    name: str
    """Name in results.json."""
    setup: Setup
    config: RolloutConfig
    """Settings and limits of the rollouts."""
    checkpoint: Path | None = None
    """Folder whose weights the engine loads; None: the model is behind an endpoint."""
    records: str = "eval/{suite}_{mode}.jsonl"
    """Pattern of the paths of record files, relative to the folder of the evaluation; `{part}` is `SUITE_`, but empty
    for the suite `transformed`."""

    def rows(self, suite: str, mode: ToolMode) -> str:
        """Returns the path of the record file of a suite and a mode, relative to the folder of the evaluation."""
        return self.records.format(suite=suite, mode=mode, part="" if suite == "transformed" else f"{suite}_")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalManifest:
    """Setup and data of the evaluation of one model."""

    setup: Setup
    data: Mapping[str, str]
    """Hash of each suite's items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupFile:
    """The content of setup.json."""

    version: Literal[2] = 2
    models: Mapping[str, EvalManifest]


_SETUPS: Final[JsonCodec[SetupFile]] = JsonCodec(SetupFile)


def model_used(name: str, url: str = "") -> ModelUsed:
    """Identifies a model by the hash of its folder's files, or by the URL of its endpoint.

    Raises:
        InputError: the folder doesn't exist or can't be read.
    """
    if url:
        return ModelUsed(name=name, url=url, sha256="")
    folder, digest = Path(name), hashlib.sha256()
    try:
        for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    except OSError as error:
        raise InputError(f"{name}: the checkpoint can't be read: {error.strerror}") from error
    return ModelUsed(name=name, url="", sha256=digest.hexdigest())


def versions() -> dict[str, str]:
    """Returns the versions of the installed PACKAGES."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def judge_used(settings: Settings) -> JudgeUsed | None:
    """Identifies the judge in the settings; None without a judge.

    Raises:
        InputError: a prompt can't be used.
    """
    judge = settings.judge
    if judge is None:
        return None
    prompts = Prompts(judge.prompts)
    return JudgeUsed(
        model=judge.model,
        base_url=judge.base_url,
        prompts_sha256=prompts.sha256,
        request=dict(judge.request),
        published_prompts=published_prompts(judge.published_prompts).sha256 if judge.published_prompts else {},
    )


def with_checkpoint(config: RolloutConfig, checkpoint_settings: CheckpointSettings) -> RolloutConfig:
    """Replaces settings and limits by those of a checkpoint."""
    limits = checkpoint_settings.settings.limits(
        response_tokens=config.limits.response_tokens, assistant_turns=config.limits.assistant_turns
    )
    return replace(config, settings=checkpoint_settings.settings, limits=limits)


def setup_of(
    model: ModelUsed,
    engine: str,
    config: RolloutConfig,
    checkpoint_settings: CheckpointSettings,
    *,
    seed: int,
    temperature: float = 1.0,
    k: int = 1,
    request: Mapping[str, Any] | None = None,
) -> Setup:
    """Returns the setup of the evaluation of a model.

    Args:
        model: Model to evaluate.
        engine: Name of the engine.
        config: Settings and limits of the rollouts.
        checkpoint_settings: Settings of the checkpoint, and their differences from its training.
        seed: Seed of the sampling.
        temperature: Temperature of the sampling.
        k: Number of rollouts per item.
        request: Additional fields of each request to an endpoint.
    """
    irrelevant = {"freeze", "judge", "records", "watch", "invalid_limit"}
    return Setup(
        model=model,
        engine=engine,
        settings=config.settings.model_dump(mode="json", exclude=irrelevant),
        tool=json.loads(json.dumps(asdict(config.tool))),
        limits=asdict(config.limits) | {"context": config.context},
        k=k,
        seed=seed,
        temperature=temperature,
        request=dict(request or {}),
        judge=judge_used(config.settings),
        versions=versions(),
        trained=checkpoint_settings.trained,
        differences=checkpoint_settings.differences,
    )


def start_evaluation(
    out: Path, models: Sequence[ModelRun], hashes: Mapping[str, str], *, force: bool
) -> Evaluation | None:
    """Writes setup.json and returns earlier results; refuses results under another setup, or removes them (`force`).

    Raises:
        InputError: a model has records under another setup, or a file can't be read or written.
    """
    path, results = out / "setup.json", out / "results.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} can't be created: {error.strerror}") from error
    known = dict(_SETUPS.load(_upgraded(path.read_bytes()), str(path)).models) if path.exists() else {}
    earlier = read_evaluation(results) if results.exists() else None
    stale: dict[str, set[Path]] = {}
    for model in models:
        old, new = known.get(model.name), EvalManifest(setup=model.setup, data=hashes)
        suites = {**(old.data if old else {}), **hashes}
        files = {file for suite in suites for mode in TOOL_MODES if (file := out / model.rows(suite, mode)).exists()}
        if files or (earlier and model.name in earlier.models):
            other = _first_difference(_plain(old), _plain(new)) if old else "setup"
            if other and not force:
                owner = "" if model.name == MODEL else f" of {model.name}"
                raise InputError(
                    f"--out {out} holds an evaluation{owner} with another {other}; choose another folder, or --force "
                    "to replace it"
                )
            if other:
                stale[model.name] = files
            elif old:
                new = EvalManifest(setup=new.setup, data={**old.data, **new.data})
        known[model.name] = new
    for file in {file for files in stale.values() for file in files}:
        file.unlink()
    if earlier and stale.keys() & earlier.models.keys():
        left = {name: result for name, result in earlier.models.items() if name not in stale}
        earlier = Evaluation(models=left, costs=earlier.costs) if left else None
        if earlier:
            write_evaluation(results, earlier)
        else:
            results.unlink()
    write_whole(path, _SETUPS.dump(SetupFile(models=known), indent=2) + b"\n")
    return earlier


def _plain(manifest: EvalManifest) -> Any:
    return json.loads(_SETUPS.dump(SetupFile(models={MODEL: manifest})))["models"][MODEL]


def _upgraded(raw: bytes) -> bytes:
    """Converts a setup.json of version 1, which had a single model, to version 2."""
    content = json.loads(raw)
    return raw if "version" in content else json.dumps({"version": 2, "models": {MODEL: content}}).encode()


def _first_difference(old: Any, new: Any, name: str = "") -> str | None:
    """Returns the name of the first field that differs; ignores URLs, and suites that only one of them has."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return None if old == new else name
    keys: Iterable[str] = old.keys() & new.keys() if name == "data" else {**old, **new}
    for key in sorted(set(keys) - {"url", "base_url"}):
        difference = _first_difference(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        if difference:
            return difference
    return None
