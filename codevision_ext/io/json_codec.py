"""Reads and writes frozen dataclasses as JSON; an error is one sentence."""

import json
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from codevision_ext.errors import InputError, first_problem
from codevision_ext.io.clean_text import clean_texts

T = TypeVar("T")

_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Strict reading: "1" is not 1, an unknown field is an error, and so is NaN, which can't be compared."""


class JsonCodec(Generic[T]):
    """Reads and writes frozen dataclasses of one type, nested ones included, as JSON."""

    def __init__(self, kind: type[T]) -> None:
        # pydantic takes a config for what stands inside a container only, hence the tuple of one
        self._reader = TypeAdapter(tuple[kind], config=_CONFIG)  # type: ignore[valid-type]
        self._writer = TypeAdapter(kind)

    def load(self, raw: bytes, where: str) -> T:
        """Return the value that `raw` contains; errors begin with `where` ("run/results.json", "x.jsonl, line 3").

        Raises:
            InputError: `raw` isn't JSON, or a field is missing, unknown or of another type; names the first such field.
        """
        try:
            return self._reader.validate_json(b"[" + raw + b"]")[0]
        except ValidationError as error:
            field, problem = first_problem(error)
            field = field.partition(".")[2]  # behind the place in the tuple
            raise InputError(f"{where}: field {field}: {problem}" if field else f"{where}: {problem}") from error

    def dump(self, value: T, indent: int | None = None) -> bytes:
        """Return the value as JSON; without `indent` it has no line break.

        Text that can't be encoded is written as `clean_text` mends it.
        """
        try:
            return self._writer.dump_json(value, indent=indent)
        except PydanticSerializationError:
            parts = clean_texts(self._writer.dump_python(value, mode="json"))
            separators = None if indent else (",", ":")
            return json.dumps(parts, ensure_ascii=False, indent=indent, separators=separators).encode()


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Raises:
        InputError: the file can't be read, or isn't a JSON object.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    return json_object(raw, str(path))


def json_object(raw: str | bytes, where: str) -> dict[str, Any]:
    """Returns the JSON object in a text; errors begin with `where`.

    Raises:
        InputError: the text isn't a JSON object.
    """
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise InputError(f"{where}: isn't JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: isn't a JSON object")
    return content
