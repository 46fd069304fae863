"""Reads command-line options of an evaluation: suites, checkpoints, settings, limits and the endpoint."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from codevision_ext.config import changed, read_settings
from codevision_ext.errors import InputError
from codevision_ext.evaluate.command import SuiteRun
from codevision_ext.evaluate.results import MODEL
from codevision_ext.evaluate.run import RolloutConfig
from codevision_ext.evaluate.suites import SUITES, suite_named, suite_of
from codevision_ext.evaluate.suites.base import Suite, held_out, read_suite
from codevision_ext.io.chat_client import Endpoint
from codevision_ext.io.json_codec import json_object
from codevision_ext.rollout.token_buffer import PUBLISHED_LIMITS
from codevision_ext.sandbox.settings import ToolSettings
from codevision_ext.task.image_ops import CORE_OPS

CONVERTED: Final = "codevision-rl"
"""Schema of converted data sets, which every suite reads."""
_CHECKPOINT_NAME: Final = re.compile(r"[A-Za-z0-9][\w-]*")


class DataReader(Protocol):
    """Interface of `data_prep.eval_items`, which this package doesn't import."""

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

    def generate_items(self, name: str, items: int | None, seed: int) -> Iterator[dict[str, Any]]: ...


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
    """Reads suites: `NAME=PATH`, a `PATH` whose columns determine the suite, or the `NAME` of a generated suite.

    Up to `max_rejected` unusable items of each suite are left out: a number, or a share such as `1%`.

    Raises:
        InputError: a suite is unknown or named twice, or its data can't be used.
    """
    if holdout is not None and holdout not in CORE_OPS:
        raise InputError(f"--holdout must be one of {', '.join(sorted(CORE_OPS))}; not {holdout!r}")
    runs: list[SuiteRun] = []
    for word in words:
        name, equals, path = word.partition("=")
        if equals and (name in SUITES or not Path(word).exists()):
            suite = suite_named(name)
        elif word in SUITES and not Path(word).exists():
            suite, path = SUITES[word], ""
        else:
            schema, marks = reader.reader_name(Path(word), names), reader.benchmark_of(Path(word), names)
            suite, path = suite_of(schema, *marks), word
        if path and suite.generated:
            raise InputError(f"--suite {word}: {suite.name} generates its items and takes no file")
        if not path and not suite.generated:
            raise InputError(f"--suite {word}: {suite.name} needs a file or a folder: {suite.name}=PATH")
        rejected: list[str] = []
        notes: list[str] = []
        if suite.generated:
            entries = reader.generate_items(suite.name, limit, seed)
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
            raise InputError(f"--suite {word}: {suite.name} occurs twice")
        items = read_suite(suite, entries, limit)
        runs.append(SuiteRun(suite=suite, data=path, items=items, rejected=rejected, notes=notes))
    return runs


def _schema(suite: Suite, schema: str) -> str:
    """Returns the schema to read a suite's file with; `schema` is the schema that fits its columns."""
    if suite.schemas and schema not in (*suite.schemas, CONVERTED):
        return suite.schemas[0]  # its reader reports which field is missing
    return schema


def read_checkpoints(arguments: Sequence[str]) -> dict[str, Path]:
    """Reads `NAME=FOLDER` arguments as a folder for each checkpoint, in their order.

    Raises:
        InputError: an argument has another form, or a name occurs twice.
    """
    folders: dict[str, Path] = {}
    for argument in arguments:
        name, _, folder = argument.partition("=")
        if not _CHECKPOINT_NAME.fullmatch(name) or name == MODEL or not folder:
            raise InputError(
                f"--checkpoint {argument}: must be NAME=FOLDER, NAME a word of letters, digits, - and _, such as sft"
            )
        if name in folders:
            raise InputError(f"--checkpoint {argument}: {name} occurs twice")
        folders[name] = Path(folder)
    return folders


def read_rollout_config(
    recipe: RolloutConfig | None, changes: Sequence[str], *, turns: int | None, tokens: int | None, context: int | None
) -> RolloutConfig:
    """Returns the settings and limits of a recipe, or the published limits, changed by command-line options.

    Args:
        recipe: Settings and limits of a training config; None: the published limits and default settings.
        changes: `NAME=VALUE` entries of the `codevision` section, with dots for nested settings: `judge.model=ID`.
        turns: Maximum assistant turns; None: the recipe's.
        tokens: Maximum tokens of a response, tool results included; None: the recipe's.
        context: Maximum tokens of a prompt and its response; None: the recipe's, or twice the response.

    Raises:
        InputError: a setting is unknown or wrong.
    """
    section = recipe.settings.model_dump(mode="json", exclude_unset=True) if recipe else {}
    settings = read_settings(changed(section, changes, "such as coordinates=seen"))
    base = recipe.limits if recipe else PUBLISHED_LIMITS
    limits = settings.limits(
        response_tokens=tokens or base.response_tokens, assistant_turns=turns or base.assistant_turns
    )
    room = recipe.context if recipe and not tokens else 2 * limits.response_tokens
    return RolloutConfig(
        settings=settings, limits=limits, context=context or room, tool=recipe.tool if recipe else ToolSettings()
    )


def endpoint_of(url: str, model: str | None, api_key_env: str | None, request: str) -> Endpoint:
    """Returns the endpoint at a URL, for `model` or for the first model that it serves.

    Raises:
        InputError: the endpoint doesn't answer, or `request` isn't a JSON object.
    """
    fields = json_object(request, "--request")
    endpoint = Endpoint(url=url, model=model or "", api_key_env=api_key_env, request=fields)
    return endpoint if model else replace(endpoint, model=endpoint.first_model())
