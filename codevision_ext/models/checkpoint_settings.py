"""Takes the settings of a rollout from the checkpoint that generates, and describes a training for its checkpoints."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codevision_ext.config import Settings, system_prompt, tool_schemas, trained_settings
from codevision_ext.errors import InputError
from codevision_ext.models.max_pixels import image_bounds
from codevision_ext.rollout.code_tool import tool_schema
from codevision_ext.rollout.dialects.base import DialectName
from codevision_ext.rollout.dialects.registry import dialect_of
from codevision_ext.rollout.trained_format import FILE, TrainedFormat, read_trained_format
from codevision_ext.types import CoordinateSystem


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """The settings under which a checkpoint generates."""

    settings: Settings
    """Given settings, and the checkpoint's values where none is given."""
    trained: TrainedFormat | None
    """How the checkpoint was trained; None if its folder has no codevision.json."""
    differences: tuple[str, ...] = ()
    """A sentence for each given setting that differs from the checkpoint's."""


def checkpoint_settings(settings: Settings, checkpoint: Path) -> CheckpointSettings:
    """Returns the settings under which the checkpoint in a folder generates.

    Raises:
        InputError: codevision.json or the config of the image processor can't be read.
    """
    trained = read_trained_format(checkpoint)
    if trained is None:
        return CheckpointSettings(settings=settings, trained=None)
    settings, differences = trained_settings(settings, trained)
    bounds, before = image_bounds(checkpoint), (trained.min_pixels, trained.max_pixels)
    if bounds and None not in before and bounds != before:
        words = "images have {:,} to {:,} pixels, but the checkpoint was trained with {:,} to {:,}"
        differences.append(words.format(*bounds, *before))
    return CheckpointSettings(settings=settings, trained=trained, differences=tuple(differences))


def served_settings(settings: Settings, model: str, trained: Path | None) -> tuple[Path, CheckpointSettings]:
    """Returns the folder of a served model's codevision.json, and the settings under which the model generates.

    The folder is `trained` if it is given, else `model`: engines name a model by its folder unless they are told
    otherwise.

    Raises:
        InputError: `trained` has no codevision.json, or the file can't be read.
    """
    folder = trained or Path(model)
    own = checkpoint_settings(settings, folder)
    if trained and own.trained is None:
        raise InputError(f"--trained {folder}: there is no {FILE}")
    return folder, own


def print_notes(checkpoints: Mapping[Path, CheckpointSettings], command: str = "codevision") -> None:
    """Prints `notes` on stderr, each line with the command's name before it."""
    sys.stderr.writelines(f"{command}: {line}\n" for line in notes(checkpoints))


def notes(checkpoints: Mapping[Path, CheckpointSettings]) -> list[str]:
    """Returns what a user should know about the settings of these checkpoints: one line each."""
    lines = [f"{folder}: {each}" for folder, settings in checkpoints.items() for each in settings.differences]
    public = [str(folder) for folder, settings in checkpoints.items() if settings.trained is None]
    if public:
        words = "settings that aren't given have the package's defaults, such as its system prompt"
        lines.append(f"{', '.join(public)}: no {FILE} says how it was trained; {words}")
    return lines


def format_of_sft(
    rows: Iterable[tuple[Sequence[Mapping[str, Any]], str | None]],
    think_prefix: str,
    bounds: tuple[int, int],
    earlier: TrainedFormat | None,
) -> TrainedFormat:
    """Returns what SFT on these rows teaches; of several system messages, schemas or dialects the most frequent one.

    The order of a schema's keys is kept, because the chat template shows it. A row without a schema has the tool if it
    has a call, or the system message of a row with a call.

    Args:
        rows: The messages of each row, and its tools as JSON.
        think_prefix: Text with which the chat template opens an assistant turn.
        bounds: Minimum and maximum pixels of an image as the model sees it.
        earlier: Format of the checkpoint that the training starts from. It holds for what no row decides.
    """
    with_tool: Counter[str] = Counter()
    without: Counter[str] = Counter()
    schemas: Counter[str] = Counter()
    dialects: Counter[DialectName] = Counter()
    for messages, text in rows:
        schema = (text or "").strip().removeprefix("[]")
        own = str(messages[0]["content"]) if messages and messages[0]["role"] == "system" else ""
        dialect = dialect_of((message["role"], str(message["content"])) for message in messages)
        shown = schema or (dialect and not dialect.has_schema)
        (with_tool if shown else without)[own] += 1
        if dialect:
            dialects[dialect.name] += 1
        if schema:
            schemas[schema] += 1
    if not schemas:
        for own in with_tool.keys() & without.keys():
            with_tool[own] += without.pop(own)
    before = earlier or TrainedFormat(trained_by="sft", dialect="tool_call" if schemas else None)
    tools = tuple(json.loads(_most(schemas))) if schemas else None
    return replace(
        before,
        trained_by="sft",
        system_prompt=_most(with_tool) if with_tool else before.system_prompt,
        system_prompt_no_tool=_most(without) if without else before.system_prompt_no_tool,
        tools=tools or before.tools,
        dialect=_most(dialects) if dialects else before.dialect,
        coordinates=_coordinates_of(tools) if tools else before.coordinates,
        think_prefix=think_prefix.strip(),
        min_pixels=bounds[0],
        max_pixels=bounds[1],
    )


def format_of_rl(
    settings: Settings, own_systems: Counter[str | None], bounds: tuple[int, int] | None, earlier: TrainedFormat | None
) -> TrainedFormat:
    """Returns what RL with the tool teaches under these settings, which are those of `checkpoint_settings`.

    Args:
        settings: Settings of the rollouts.
        own_systems: System messages that the rows bring, with the number of rows; None for rows that bring none.
        bounds: Minimum and maximum pixels of an image as the model sees it; None: unknown.
        earlier: Format of the checkpoint that the training starts from. It holds for what RL doesn't decide.
    """
    own = _most(own_systems) if own_systems else None
    least, most = bounds or (None, None)
    return replace(
        earlier or TrainedFormat(trained_by="rl"),
        trained_by="rl",
        system_prompt=system_prompt(settings, tools=True) if own is None else own,
        tools=tuple(tool_schemas(settings)),
        dialect=settings.dialect,
        coordinates=settings.coordinates,
        think_prefix=settings.think_prefix.strip(),
        calls_per_turn=settings.calls_per_turn,
        force_answer=settings.force_answer,
        min_pixels=least,
        max_pixels=most,
    )


def _most(counts: Counter[Any]) -> Any:
    """Returns the most frequent value; there is at least one."""
    return counts.most_common(1)[0][0]


def _coordinates_of(tools: Sequence[Mapping[str, Any]]) -> CoordinateSystem | None:
    """Returns the coordinate system that a schema of this package describes; None for any other schema."""
    return next((system for system in CoordinateSystem if list(tools) == [tool_schema(system)]), None)
