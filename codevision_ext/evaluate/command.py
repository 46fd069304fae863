"""How is one model measured on suites, without a trainer? Plays what isn't played yet, and writes results.json.

OUT/setup.json            what is measured: another model, setting or data set wants another folder
OUT/eval/SUITE_MODE.jsonl one record a rollout, as it is finished
OUT/results.json          accuracies with their intervals and everything that is needed to repeat them
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from codevision_ext.config import Settings
from codevision_ext.engines.base import LoadedModel
from codevision_ext.engines.endpoint import Dialogue
from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import Score, ToolMode
from codevision_ext.evaluate.run import EvalItem, RolloutConfig, evaluate, finished
from codevision_ext.evaluate.suites.base import Suite
from codevision_ext.evaluate.summary import (
    FORMAT,
    Evaluation,
    JudgeUsed,
    ModelUsed,
    ModeResult,
    Setup,
    SuiteResult,
    differences,
    read_evaluation,
    summarise_suite,
    write_evaluation,
)
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.chat_client import ChatClient, Endpoint
from codevision_ext.io.json_codec import JsonCodec as Json
from codevision_ext.io.progress import Stages
from codevision_ext.io.records import Record, RecordWriter
from codevision_ext.judge.prompts import Prompts
from codevision_ext.judge.shared import close_judges
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.loop import Policy
from codevision_ext.sandbox.backend import Backend

MODES: Final[dict[str, ToolMode]] = {"on": "tool_on", "off": "tool_off"}
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


@contextmanager
def open_chat(endpoint: Endpoint, temperature: float) -> Iterator[LoadedModel]:
    """A model behind an endpoint; what a seed promises there is the server's affair.

    Raises:
        InputError: the key's variable isn't set.
    """
    client = ChatClient(endpoint)

    def policy(seed: int) -> Dialogue:
        return Dialogue(client, {"seed": seed % 2**31, "temperature": temperature})

    yield LoadedModel(policy=policy, renderer=None, close=client.close)


def _unasked(_: int) -> Policy:
    raise AssertionError("there was nothing left to play")


_NOBODY: Final = LoadedModel(policy=_unasked, renderer=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRun:
    """A suite and its items."""

    suite: Suite
    data: str
    """File or folder that they are from; empty where they were drawn."""
    cases: Sequence[EvalItem]

    def sha256(self) -> str:
        """Of the items, images included."""
        digest = hashlib.sha256()
        for case in self.cases:
            for image in case.row["images"]:
                digest.update(hashlib.sha256(image["bytes"]).digest())
            digest.update(hashlib.sha256(case.reference or b"").digest())
            told = [case.name, case.row["prompt"], case.item.references, case.item.task.applied, case.item.column]
            digest.update(json.dumps(told, sort_keys=True).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalManifest:
    """The content of setup.json."""

    setup: Setup
    data: dict[str, str]
    """Hash of each suite's items."""


_BEGUN: Final[Json[EvalManifest]] = Json(EvalManifest)


def read_modes(tools: str) -> list[ToolMode]:
    """`on,off` as modes.

    Raises:
        InputError: a word is neither.
    """
    words = [word.strip() for word in tools.split(",")]
    unknown = [word for word in words if word not in MODES]
    if unknown:
        raise InputError(f"--tools {tools}: {unknown[0]!r} is neither on nor off")
    return [mode for word, mode in MODES.items() if word in words]


def model_used(name: str, url: str) -> ModelUsed:
    """What identifies the model: the hash of a folder's files, or where its endpoint is.

    Raises:
        InputError: the folder isn't there, or can't be read.
    """
    if url:
        return ModelUsed(name=name, url=url, sha256="")
    folder, digest = Path(name), hashlib.sha256()
    try:
        for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    except OSError as error:
        raise InputError(f"--model {name}: can't be read: {error.strerror}") from error
    return ModelUsed(name=name, url="", sha256=digest.hexdigest())


def versions() -> dict[str, str]:
    """Of those of PACKAGES that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def judge_used(settings: Settings) -> JudgeUsed | None:
    """The judge of these settings, for the record."""
    judge = settings.judge
    if judge is None:
        return None
    prompts = Prompts(judge.prompts)
    return JudgeUsed(
        model=judge.model, base_url=judge.base_url, prompts_sha256=prompts.sha256, request=dict(judge.request)
    )


def run_evaluation(
    work: Sequence[SuiteRun],
    out: Path,
    *,
    setup: Setup,
    rules: RolloutConfig,
    modes: Sequence[ToolMode],
    open_player: Callable[[], AbstractContextManager[LoadedModel]],
    open_sandbox: Callable[[], Backend],
    concurrency: int,
    retries: int,
    force: bool = False,
) -> Evaluation:
    """Measures one model on suites; what an earlier run under the same setup finished isn't played again.

    Args:
        work: The suites.
        out: Folder of the evaluation, made where it is missing.
        setup: What is measured.
        rules: How rollouts are played, as `setup` says.
        modes: With the tool, without, or both.
        open_player: Starts the engine; isn't called where there is nothing left to play.
        open_sandbox: Opens what runs the calls.
        concurrency: Rollouts under way at the same time.
        retries: How often a rollout that broke under us is played again.
        force: Forget an earlier run under another setup.

    Raises:
        InputError: `out` holds an evaluation under another setup; or a suite needs a judge and there is none.
        InfraError: the engine or the sandbox broke, or too many rollouts did; what was finished is kept.
    """
    unjudged = next((each.suite.name for each in work if each.suite.judged), None)
    if unjudged and rules.settings.judge is None:
        raise InputError(f"suite {unjudged}: wants a judge; --set judge.base_url=URL --set judge.model=ID")
    hashes = {each.suite.name: each.sha256() for each in work}
    _begin(out, EvalManifest(setup=setup, data=hashes), force=force)
    named = {f"{each.suite.name} tool {mode[5:]}": (each, mode) for each in work for mode in modes}
    played: dict[str, dict[ToolMode, list[Record]]] = {each.suite.name: {} for each in work}

    async def play_all(player: LoadedModel, sandbox: Backend | None, stages: Stages) -> None:
        tool = CodeTool(sandbox, rules.tool.max_text_chars, rules.tool.keep_variables) if sandbox else None
        try:
            for name, (each, mode) in named.items():
                stages.start(name)
                records = await evaluate(
                    each.cases,
                    policy=player.policy,
                    renderer=player.renderer,
                    tool=tool if mode == "tool_on" else None,
                    limits=rules.limits,
                    settings=rules.settings,
                    out=RecordWriter(out / "eval", f"{each.suite.name}_{mode}"),
                    rollouts=setup.k,
                    seed=setup.seed,
                    concurrency=concurrency,
                    retries=retries,
                    mark_of=each.suite.mark_of,
                    resume=True,
                    progress=stages.advance,
                )
                played[each.suite.name][mode] = records
                stages.done(said(summarise_suite(each.suite, records, setup.k, "").overall.score))
        finally:
            await player.close()

    left = {
        mode
        for each, mode in named.values()
        if {case.name for case in each.cases} - finished(out / _rows(each.suite, mode), setup.k).keys()
    }
    with Stages(["engine", *named], console=Console(stderr=True)) as stages:
        stages.start("engine")
        with (
            open_sandbox() if "tool_on" in left else nullcontext() as sandbox,
            open_player() if left else nullcontext(_NOBODY) as player,
        ):
            try:
                asyncio.run(play_all(player, sandbox, stages))
            finally:
                close_judges()
    suites = {each.suite.name: _result(each, played[each.suite.name], setup, hashes) for each in work}
    path = out / "results.json"
    before = dict(read_evaluation(out).suites) if path.exists() else {}
    evaluation = Evaluation(format=FORMAT, setup=setup, suites=before | suites)
    write_evaluation(path, evaluation)
    return evaluation


def said(score: Score) -> str:
    """A score in a few words: `72.3 % (68.1 to 76.2)`."""
    return f"{100 * score.accuracy:.1f} % ({100 * score.low:.1f} to {100 * score.high:.1f})"


def _result(work: SuiteRun, played: dict[ToolMode, list[Record]], setup: Setup, hashes: dict[str, str]) -> SuiteResult:
    suite = work.suite
    results: dict[ToolMode, ModeResult] = {
        mode: summarise_suite(suite, records, setup.k, _rows(suite, mode)) for mode, records in played.items()
    }
    both = len(played) == len(MODES)
    return SuiteResult(
        data=work.data,
        sha256=hashes[suite.name],
        items=len(work.cases),
        overall=suite.overall,
        modes=results,
        benefit=differences(suite, played["tool_off"], played["tool_on"], setup.seed) if both else {},
    )


def _rows(suite: Suite, mode: ToolMode) -> str:
    return f"eval/{suite.name}_{mode}.jsonl"


def _begin(out: Path, begun: EvalManifest, *, force: bool) -> None:
    """Writes setup.json, or checks that it says the same already; where nothing was played it may say anything.

    Raises:
        InputError: it says something else; or the folder can't be made.
    """
    path = out / "setup.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} can't be made: {error.strerror}") from error
    if path.exists() and not force and any((out / "eval").glob("*.jsonl")):
        old = _BEGUN.load(path.read_bytes(), str(path))
        other = _first_difference(json.loads(_BEGUN.dump(old)), json.loads(_BEGUN.dump(begun)))
        if other:
            raise InputError(
                f"--out {out} holds an evaluation with another {other}; choose another folder, or --force to replace it"
            )
        begun = EvalManifest(setup=begun.setup, data=old.data | begun.data)
    elif force:
        for stale in (out / "results.json", *(out / "eval").glob("*.jsonl")):
            stale.unlink(missing_ok=True)
    write_whole(path, _BEGUN.dump(begun, indent=2) + b"\n")


def _first_difference(old: Any, new: Any, name: str = "") -> str | None:
    """Name of the first field in which they differ, beside where a server is and which suites there are."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return None if old == new else name
    keys: Iterable[str] = old.keys() & new.keys() if name == "data" else {**old, **new}
    for key in sorted(set(keys) - {"url", "base_url"}):
        found = _first_difference(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        if found:
            return found
    return None
