"""Reads and writes codevision.json, which describes the prompt and the format that a checkpoint was trained with.

SFT and RL write the file beside the weights. All code that generates with a checkpoint reads the file, so that prompts
are those of the training. A public checkpoint has no such file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from codevision_ext.errors import InputError
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.json_codec import JsonCodec, read_json
from codevision_ext.rollout.dialects.base import DialectName
from codevision_ext.rollout.dialects.registry import DIALECTS, TOOL_CALL
from codevision_ext.types import CoordinateSystem

FILE: Final = "codevision.json"
"""Name of the file in the folder of a checkpoint."""
VERSION: Final = 1
"""Version of the file that is written, and the only one that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedFormat:
    """The content of codevision.json. A field is None if nothing in the training decides its value."""

    version: Literal[1] = VERSION
    """Version of the schema."""
    trained_by: Literal["sft", "rl"]
    """Training that wrote the file, the last one of the checkpoint."""
    system_prompt: str | None = None
    """System message of the conversations with the tool; empty: they had none; None: no conversation had the tool."""
    system_prompt_no_tool: str | None = None
    """System message of the conversations without the tool; empty: they had none; None: there was no conversation."""
    tools: tuple[dict[str, Any], ...] | None = None
    """Schemas of the tools (OpenAI functions), as the system block showed them; None: no conversation had the tool."""
    dialect: DialectName | None = "tool_call"
    """Form of a call: `tool_call` is one JSON object between `<tool_call>` and `</tool_call>`, `code_tags` is Python
    between `<code>` and `</code>`, with the output behind it; None: no conversation had a call."""
    coordinates: CoordinateSystem | None = None
    """Coordinate system in which the model writes; None: the tool's schema isn't one of this package."""
    think_prefix: str | None = None
    """Text with which the chat template opens each assistant turn, without white space around it."""
    answer_format: Literal["<answer>{answer}</answer>"] = "<answer>{answer}</answer>"
    """Form of the final answer in the last turn."""
    calls_per_turn: Annotated[int, Field(ge=1)] | None = None
    """Maximum tool calls that were run in one turn; None after SFT."""
    force_answer: bool | None = None
    """Whether the model was told before its last turn that it must answer now; None after SFT."""
    min_pixels: Annotated[int, Field(ge=1)] | None = None
    """Minimum pixels of an image as the model saw it; None: unknown."""
    max_pixels: Annotated[int, Field(ge=1)] | None = None
    """Maximum pixels of an image as the model saw it; None: unknown."""

    def system(self, *, tools: bool) -> str:
        """Returns the system message of a conversation with the tool, or without; empty for none.

        If the training had no conversation of this kind, the message of the other kind is returned. If that message is
        the package's own, the package's message of this kind is returned instead.
        """
        own, other = self.system_prompt, self.system_prompt_no_tool
        if not tools:
            own, other = other, own
        if own is not None:
            return own
        dialect = DIALECTS[self.dialect] if self.dialect else TOOL_CALL
        return dialect.system(tools=tools) if other in (None, dialect.system(tools=not tools)) else str(other)


_CODEC: Final[JsonCodec[TrainedFormat]] = JsonCodec(TrainedFormat)


def read_trained_format(checkpoint: Path) -> TrainedFormat | None:
    """Returns how the checkpoint in a folder was trained; None if the folder has no codevision.json.

    Raises:
        InputError: the file can't be read, is of another version, or a field is missing, unknown or wrong.
    """
    path = checkpoint / FILE
    if not path.is_file():
        return None
    version = read_json(path).get("version")
    if version != VERSION:
        raise InputError(f"{path}: version is {version!r}; this version of codevision_ext reads {VERSION}")
    return _CODEC.load(path.read_bytes(), str(path))


def write_trained_format(checkpoint: Path, trained: TrainedFormat) -> None:
    """Writes codevision.json into the folder of a checkpoint, which is created where it is missing.

    Raises:
        InputError: the file can't be written.
    """
    try:
        checkpoint.mkdir(parents=True, exist_ok=True)
        write_whole(checkpoint / FILE, _CODEC.dump(trained, indent=2) + b"\n")
    except OSError as error:
        raise InputError(f"{checkpoint / FILE}: can't be written: {error.strerror}") from error
