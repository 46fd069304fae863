"""Reads the records of JSON, JSON lines, CSV and TSV files. A file that can't be read to its end is an error."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from codevision_ext.errors import InputError
from codevision_ext.io.json_codec import DoubleKeyError, object_of_pairs
from data_prep.formats.exact_numbers import json_float, json_int
from data_prep.formats.record import BEYOND

_READ_CHARS: Final = 1 << 20
_MAX_CHARS: Final = 256 << 20
"""Maximum length of an object or a cell in characters; a longer text lacks its closing bracket or quote."""
_BLANK: Final = re.compile(r"[ \t\r\n\ufeff]*")
_BLANK_IN_LIST: Final = re.compile(r"[ \t\r\n\ufeff,]*")
_TAIL: Final = 16
"""Maximum length of a JSON token, other than a string, that the end of a buffer can cut, in characters."""
_WHOLE: Final = re.compile(r"-?\d+\.0")
_REFERENCE_CHARS: Final = 64
"""Maximum length of an image cell that names the row with the image (VLMEvalKit)."""


def read_json(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file, which has consecutive objects or lists of objects; the file is read in small parts.

    Raises:
        InputError: A value isn't an object, or the file holds text that isn't JSON; the message names the line.
    """
    with path.open(encoding="utf-8-sig") as file:
        text, at, line, in_list, item = file.read(_READ_CHARS), 0, 1, False, 0
        while True:
            start, at = at, (_BLANK_IN_LIST if in_list else _BLANK).match(text, at).end()  # type: ignore[union-attr]
            line += text.count("\n", start, at)
            where = f"{path}, line {line}" + (f", item {item}" if in_list else "")
            if at == len(text):
                text, at = file.read(_READ_CHARS), 0
                if not text and in_list:
                    raise InputError(f"{where}: the list isn't closed")
                if not text:
                    return
            elif text[at] == ("]" if in_list else "["):
                in_list, item, at = not in_list, 0, at + 1
            else:
                try:
                    value, end = _DECODER.raw_decode(text, at)
                except json.JSONDecodeError as error:
                    cut = error.msg.startswith("Unterminated string") or error.pos > len(text) - _TAIL
                    more = file.read(max(_READ_CHARS, len(text))) if cut and len(text) - at < _MAX_CHARS else ""
                    if not more:
                        line += text.count("\n", at, error.pos)
                        where = f"{path}, line {line}" + (f", item {item}" if in_list else "")
                        raise InputError(f"{where}: not JSON: {error.msg}, at {text[error.pos :]!r:.40}") from error
                    text, at = text[at:] + more, 0
                    continue
                except (DoubleKeyError, RecursionError) as error:
                    raise InputError(f"{where}: {error}") from error
                if not isinstance(value, dict):
                    raise InputError(f"{where}: must be an object, not {type(value).__name__}")
                yield value
                line += text.count("\n", at, end)
                at, item = end, item + 1


_DECODER: Final = json.JSONDecoder(parse_float=json_float, parse_int=json_int, object_pairs_hook=object_of_pairs)


def read_table(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV or TSV file as texts by column.

    An image cell that names the `index` of another row is replaced by the image of that row, as VLMEvalKit reads it. A
    column of whole numbers that pandas wrote as floats, because cells are empty, loses its `.0`.

    Raises:
        InputError: A field's quotes don't match, or two columns have one name; the message names the line.
    """
    whole, references = _scan(path)
    images = {}
    if references:
        images = {row["index"]: row["image"] for row in table_rows(path) if row["index"] in references}
        images = {index: image for index, image in images.items() if image and image not in references}
    for row in table_rows(path):
        for name in whole:
            row[name] = row[name] and row[name].removesuffix(".0")
        if images:
            row["image"] = images.get(row["image"], row["image"])
        yield row


def _scan(path: Path) -> tuple[set[str], set[str]]:
    """Return the columns of whole numbers that pandas wrote as floats, and the indexes that image cells name."""
    filled, empty, other = set(), set(), set()
    indexes, cells = set(), set()
    for row in table_rows(path):
        for name, cell in row.items():
            if not cell:
                empty.add(name)
            elif name not in other:
                filled.add(name)
                if name == BEYOND or not _WHOLE.fullmatch(cell):
                    other.add(name)
        if row.get("index") and len(row.get("image") or "") <= _REFERENCE_CHARS:
            cells.add(row.get("image") or "")
        indexes.add(row.get("index") or "")
    return (filled & empty) - other, (cells & indexes) - {""}


def table_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV or TSV file without replacing any cell; missing cells are None, and `nan` is empty.

    Raises:
        InputError: A field's quotes don't match, or two columns have one name; the message names the line.
    """
    tabs = path.suffix == ".tsv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        csv.field_size_limit(_MAX_CHARS)
        rows = csv.reader(file, delimiter="\t" if tabs else ",", strict=True)
        line = 0
        try:
            header = [name.strip() for name in next(filter(None, rows), [])]
            line = rows.line_num
            if double := [name for name in header if header.count(name) > 1]:
                raise InputError(f"{path}: two columns have the name {double[0]!r}")
            for cells in rows:
                if tabs and any("\t" in cell and "\n" in cell for cell in cells):
                    raise InputError(f"{path}, line {line + 1}: a quote opens here and closes in another row")
                line = rows.line_num
                if cells:
                    texts = ["" if cell in ("NaN", "nan") else cell for cell in cells]
                    row: dict[str, Any] = dict.fromkeys(header) | dict(zip(header, texts, strict=False))
                    yield row | ({BEYOND: cells[len(header) :]} if any(cells[len(header) :]) else {})
        except csv.Error as error:
            message = f"the quotes of a field don't match, or it isn't a table: {error}"
            raise InputError(f"{path}, line {line + 1}: {message}") from error
