"""How does JSON become one of our frozen values, and what is said when it can't?"""

from typing import Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from codevision_ext.errors import InputError

T = TypeVar("T")

_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""No guessing: "1" is not 1, an unknown field is a mistake, NaN is not a number that can be compared."""

_WORDS = {"missing": "is missing", "unexpected_keyword_argument": "isn't known"}
"""Clearer than pydantic's, which speaks of arguments where the user sees fields."""


class JsonCodec(Generic[T]):
    """Reads and writes one frozen dataclass, nested ones included, as JSON."""

    def __init__(self, kind: type[T]) -> None:
        # pydantic takes a config for what stands inside a container only, hence the tuple of one
        self._reader = TypeAdapter(tuple[kind], config=_CONFIG)  # type: ignore[valid-type]
        self._writer = TypeAdapter(kind)

    def load(self, raw: bytes, where: str) -> T:
        """The value written in `raw`; `where` ("run/results.json", "x.jsonl, line 3") opens the message of an error.

        Raises:
            InputError: not JSON, or a field is missing, unknown or of another type; names the first such field.
        """
        try:
            return self._reader.validate_json(b"[" + raw + b"]")[0]
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"][1:])
            said = _WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
            problem = said[:1].lower() + said[1:]
            raise InputError(f"{where}: field {field}: {problem}" if field else f"{where}: {problem}") from error

    def dump(self, value: T, indent: int | None = None) -> bytes:
        """One JSON text; without `indent` it holds no line break."""
        return self._writer.dump_json(value, indent=indent)
