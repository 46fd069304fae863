"""What was asked for on the command line? Suites with their items, rules and setup, checked before an engine starts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Protocol

from codevision_ext.config import Settings, read_settings
from codevision_ext.errors import InputError
from codevision_ext.evaluate.command import SuiteRun, judge_used, versions
from codevision_ext.evaluate.run import RolloutConfig
from codevision_ext.evaluate.suites import SUITES, suite_named, suite_of
from codevision_ext.evaluate.suites.base import Suite, held_out, read_suite
from codevision_ext.evaluate.summary import ModelUsed, Setup
from codevision_ext.io.chat_client import Endpoint
from codevision_ext.sandbox.settings import ToolSettings
from codevision_ext.task.image_ops import CORE_OPS
from codevision_ext.types import CoordinateSystem

TURNS: Final = 12
TOKENS: Final = 16_384
"""Assistant turns, and tokens of a response, where neither a recipe nor an option says: those of the published runs."""


CONVERTED: Final = "codevision-rl"
"""The schema that every set can be converted into."""


class DataReader(Protocol):
    """`data_prep.eval_items`, which the package doesn't import."""

    def read(self, path: Path, schema: str | None = None, images: Path | None = None) -> Iterator[dict[str, Any]]: ...

    def reader_name(self, path: Path) -> str: ...

    def benchmark_columns(self, path: Path) -> frozenset[str]: ...

    def draw_items(self, name: str, items: int | None, seed: int) -> Iterator[dict[str, Any]]: ...


def read_work(
    words: Sequence[str],
    reader: DataReader,
    *,
    images: Path | None = None,
    limit: int | None = None,
    holdout: str | None = None,
    seed: int = 0,
) -> list[SuiteRun]:
    """The suites of `NAME=PATH`, of a `PATH` whose columns tell, or of the `NAME` of a set that is drawn here.

    Raises:
        InputError: a suite isn't known or asked for twice, or its data can't be used.
    """
    if holdout is not None and holdout not in CORE_OPS:
        raise InputError(f"--holdout knows {', '.join(sorted(CORE_OPS))}; not {holdout!r}")
    work: list[SuiteRun] = []
    for word in words:
        name, mark, path = word.partition("=")
        if mark and name in SUITES:
            suite = suite_named(name)
        elif word in SUITES and not Path(word).exists():
            suite, path = suite_named(word), ""
        else:
            suite, path = suite_of(reader.reader_name(Path(word)), reader.benchmark_columns(Path(word))), word
        if path and suite.drawn:
            raise InputError(f"--suite {word}: {suite.name} is drawn here; it takes no file")
        if not path and not suite.drawn:
            raise InputError(f"--suite {word}: {suite.name} wants a file or a folder: {suite.name}=PATH")
        found = _items(suite, path, reader, images, limit, seed)
        suite = held_out(suite, holdout) if holdout else suite
        if suite.name in {each.suite.name for each in work}:
            raise InputError(f"--suite {word}: {suite.name} is given twice")
        work.append(SuiteRun(suite=suite, data=path, cases=read_suite(suite, found, limit)))
    return work


def _items(
    suite: Suite, path: str, reader: DataReader, images: Path | None, limit: int | None, seed: int
) -> Iterator[Mapping[str, Any]]:
    if suite.drawn:
        return reader.draw_items(suite.name, limit, seed)
    schema = reader.reader_name(Path(path))
    if suite.schemas and schema not in (*suite.schemas, CONVERTED):
        schema = suite.schemas[0]  # what it lacks of that is said by its reader
    return reader.read(Path(path), schema, images)


def read_rollout_config(
    recipe: RolloutConfig | None, changes: Sequence[str], *, turns: int | None, tokens: int | None, context: int | None
) -> RolloutConfig:
    """The rules of a recipe, or the published ones, with what the options change.

    Args:
        recipe: None: the published limits and the package's settings.
        changes: `NAME=VALUE` of the `codevision` section, dots inside: `judge.model=ID`.
        turns: Assistant turns; None: the recipe's.
        tokens: Of a response, the tool's included; None: the recipe's.
        context: Tokens of a prompt and its response; None: the recipe's, or what fits around the response.

    Raises:
        InputError: a setting is unknown or wrong.
    """
    section = recipe.settings.model_dump(exclude_unset=True) if recipe else {}
    for change in changes:
        name, mark, value = change.partition("=")
        if not mark or not name:
            raise InputError(f"--set {change}: wants NAME=VALUE of the codevision section, such as coordinates=seen")
        *path, last = name.split(".")
        place = section
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {change}: {part} is a value, not a section")
        place[last] = _value(value)
    settings = read_settings(section)
    limits = settings.limits(
        response_tokens=tokens or (recipe.limits.response_tokens if recipe else TOKENS),
        assistant_turns=turns or (recipe.limits.assistant_turns if recipe else TURNS),
    )
    room = recipe.context if recipe and not tokens else 2 * limits.response_tokens
    return RolloutConfig(
        settings=settings, limits=limits, context=context or room, tool=recipe.tool if recipe else ToolSettings()
    )


def _value(text: str) -> Any:
    """A JSON value where it is one (`3`, `true`, `null`), else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def endpoint_of(url: str, model: str | None, api_key_env: str | None, request: str, settings: Settings) -> Endpoint:
    """The endpoint that a URL names; without `model` the first that it serves.

    Raises:
        InputError: it can't be asked what it serves, `request` is no JSON object, or the rules can't hold there.
    """
    try:
        fields = json.loads(request)
    except ValueError as error:
        raise InputError(f"--request is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InputError("--request must be a JSON object")
    if settings.coordinates is CoordinateSystem.SEEN:
        raise InputError("coordinates=seen wants a checkpoint's folder: an endpoint doesn't say how an image is seen")
    endpoint = Endpoint(url=url, model=model or "", api_key_env=api_key_env, request=fields)
    return endpoint if model else replace(endpoint, model=endpoint.first_model())


def setup_of(
    model: ModelUsed,
    engine: str,
    rules: RolloutConfig,
    request: Mapping[str, Any],
    *,
    k: int,
    seed: int,
    temperature: float,
) -> Setup:
    """Everything that decides what is measured."""
    hidden = {"judge", "records", "watch", "invalid_limit"}
    return Setup(
        model=model,
        engine=engine,
        settings=rules.settings.model_dump(mode="json", exclude=hidden),
        tool=_plain(asdict(rules.tool)),
        limits=asdict(rules.limits) | {"context": rules.context},
        k=k,
        seed=seed,
        temperature=temperature,
        request=dict(request),
        judge=judge_used(rules.settings),
        versions=versions(),
    )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
