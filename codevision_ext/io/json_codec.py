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
            json_value(raw, where)  # its errors give the line and column of a text that isn't JSON
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
        InputError: the text isn't a JSON object, or a key occurs twice.
    """
    content = json_value(raw, where)
    if not isinstance(content, dict):
        raise InputError(f"{where}: isn't a JSON object")
    return content


def json_value(raw: str | bytes, where: str) -> Any:
    """Returns the only JSON value in a text, behind a byte order mark or not; errors begin with `where`.

    Raises:
        InputError: the text isn't UTF-8 or isn't one JSON value, or a key occurs twice in an object.
    """
    try:
        text = raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw.removeprefix("\ufeff")
        return json.loads(text, object_pairs_hook=object_of_pairs)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: isn't UTF-8 text: {error.reason} at byte {error.start}") from error
    except DoubleKeyError as error:
        raise InputError(f"{where}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: isn't JSON: {error}") from error


def object_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object as a dict, as `object_pairs_hook` of the json module.

    Raises:
        DoubleKeyError: a key occurs twice.
    """
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise DoubleKeyError(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return value


class DoubleKeyError(ValueError):
    """A key occurs twice in a JSON object; the json module would keep the last value."""
