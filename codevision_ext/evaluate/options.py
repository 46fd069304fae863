"""Reads the command line of an evaluation: suites with their items, settings, limits and the endpoint."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from codevision_ext.config import changed, read_settings
from codevision_ext.errors import InputError
from codevision_ext.evaluate.command import SuiteRun
from codevision_ext.evaluate.metrics import CHECKPOINTS, Checkpoint
from codevision_ext.evaluate.run import RolloutConfig
from codevision_ext.evaluate.suites import SUITES, suite_named, suite_of
from codevision_ext.evaluate.suites.base import Suite, held_out, read_suite
from codevision_ext.io.chat_client import Endpoint
from codevision_ext.io.json_codec import json_object
from codevision_ext.sandbox.settings import ToolSettings
from codevision_ext.task.image_ops import CORE_OPS

TURNS: Final = 12
"""Maximum assistant turns without a recipe or an option, as in the published runs."""
TOKENS: Final = 16_384
"""Maximum tokens of a response without a recipe or an option, as in the published runs."""
CONVERTED: Final = "codevision-rl"
"""Schema that every data set can be converted into."""


class DataReader(Protocol):
    """Reader of data files: `data_prep.eval_items`, which the package itself doesn't import."""

    def read(
        self,
        path: Path,
        schema: str | None = None,
        images: Path | None = None,
        *,
        names: Mapping[str, str] | None = None,
        lists: bool = False,
        max_rejected: str = "0",
        rejected: list[str] | None = None,
        notes: list[str] | None = None,
    ) -> Iterator[dict[str, Any]]: ...

    def reader_name(self, path: Path, names: Mapping[str, str] | None = None) -> str: ...

    def benchmark_of(self, path: Path, names: Mapping[str, str] | None = None) -> tuple[frozenset[str], str]: ...

    def draw_items(self, name: str, items: int | None, seed: int) -> Iterator[dict[str, Any]]: ...


def read_suites(
    words: Sequence[str],
    reader: DataReader,
    *,
    images: Path | None = None,
    names: Mapping[str, str] | None = None,
    lists: bool = False,
    limit: int | None = None,
    holdout: str | None = None,
    seed: int = 0,
    max_rejected: str = "0",
) -> list[SuiteRun]:
    """Reads suites: `NAME=PATH`, a `PATH` whose columns determine the suite, or the `NAME` of a generated set.

    Items that can't be used are left out, up to `max_rejected` of each suite: a number, or a share such as `1%`.

    Raises:
        InputError: a suite is unknown or given twice, or its data can't be used.
    """
    if holdout is not None and holdout not in CORE_OPS:
        raise InputError(f"--holdout knows {', '.join(sorted(CORE_OPS))}; not {holdout!r}")
    runs: list[SuiteRun] = []
    for word in words:
        name, equals, path = word.partition("=")
        if equals and name in SUITES:
            suite = suite_named(name)
        elif word in SUITES and not Path(word).exists():
            suite, path = suite_named(word), ""
        else:
            schema, marks = reader.reader_name(Path(word), names), reader.benchmark_of(Path(word), names)
            suite, path = suite_of(schema, *marks), word
        if path and suite.drawn:
            raise InputError(f"--suite {word}: {suite.name} is drawn here; it takes no file")
        if not path and not suite.drawn:
            raise InputError(f"--suite {word}: {suite.name} needs a file or a folder: {suite.name}=PATH")
        rejected: list[str] = []
        notes: list[str] = []
        if suite.drawn:
            entries = reader.draw_items(suite.name, limit, seed)
        else:
            schema = _schema(suite, reader.reader_name(Path(path), names))
            entries = reader.read(
                Path(path),
                schema,
                images,
                names=names,
                lists=lists,
                max_rejected=max_rejected,
                rejected=rejected,
                notes=notes,
            )
        suite = held_out(suite, holdout) if holdout else suite
        if suite.name in {run.suite.name for run in runs}:
            raise InputError(f"--suite {word}: {suite.name} is given twice")
        items = read_suite(suite, entries, limit)
        runs.append(SuiteRun(suite=suite, data=path, items=items, rejected=rejected, notes=notes))
    return runs


def _schema(suite: Suite, schema: str) -> str:
    """Returns the schema by which a suite's file is read; its columns have `schema`."""
    if suite.schemas and schema not in (*suite.schemas, CONVERTED):
        return suite.schemas[0]  # its reader then names the field that the file lacks
    return schema


def read_checkpoints(arguments: Sequence[str]) -> dict[Checkpoint, Path]:
    """Reads arguments `NAME=FOLDER` as the folder of each checkpoint, in their order.

    Raises:
        InputError: an argument has another form, or a name is unknown or given twice.
    """
    folders: dict[Checkpoint, Path] = {}
    for argument in arguments:
        word, _, folder = argument.partition("=")
        name = next((checkpoint for checkpoint in CHECKPOINTS if checkpoint == word), None)
        if name is None or not folder:
            raise InputError(f"--checkpoint {argument}: must be NAME=FOLDER, NAME one of {', '.join(CHECKPOINTS)}")
        if name in folders:
            raise InputError(f"--checkpoint {argument}: {name} is given twice")
        folders[name] = Path(folder)
    return folders


def read_rollout_config(
    recipe: RolloutConfig | None, changes: Sequence[str], *, turns: int | None, tokens: int | None, context: int | None
) -> RolloutConfig:
    """Returns the settings and limits of a recipe, or the published ones, with the changes of the options.

    Args:
        recipe: Settings and limits of a training config; None: the published limits and the package's settings.
        changes: Entries `NAME=VALUE` of the `codevision` section, with dots for nested ones: `judge.model=ID`.
        turns: Maximum assistant turns; None: the recipe's.
        tokens: Maximum tokens of a response, tool results included; None: the recipe's.
        context: Maximum tokens of a prompt and its response; None: the recipe's, or twice the response.

    Raises:
        InputError: a setting is unknown or wrong.
    """
    section = recipe.settings.model_dump(mode="json", exclude_unset=True) if recipe else {}
    settings = read_settings(changed(section, changes, "such as coordinates=seen"))
    limits = settings.limits(
        response_tokens=tokens or (recipe.limits.response_tokens if recipe else TOKENS),
        assistant_turns=turns or (recipe.limits.assistant_turns if recipe else TURNS),
    )
    room = recipe.context if recipe and not tokens else 2 * limits.response_tokens
    return RolloutConfig(
        settings=settings, limits=limits, context=context or room, tool=recipe.tool if recipe else ToolSettings()
    )


def endpoint_of(url: str, model: str | None, api_key_env: str | None, request: str) -> Endpoint:
    """Returns the endpoint at a URL; without `model`, of the first model that it serves.

    Raises:
        InputError: the endpoint doesn't answer, or `request` isn't a JSON object.
    """
    fields = json_object(request, "--request")
    endpoint = Endpoint(url=url, model=model or "", api_key_env=api_key_env, request=fields)
    return endpoint if model else replace(endpoint, model=endpoint.first_model())
