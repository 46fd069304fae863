"""Writes the prompt of the judge, in which the answer can't act as an instruction, and reads the judge's verdict.

Covered:

* A template is filled once: `{answer}` or `{nonce}` inside an answer stays as it is.
* Question, references and answer are JSON strings in which angle brackets, marks such as `[INST]` and invisible
  characters are escaped. So they can't close a tag, become a special token of a chat template, or hide from a reader.
* Tags and verdict contain a nonce, a hash of the whole query. To forge a tag or a verdict, an answer would have to
  contain its own hash.
* A verdict is the last line of the reply and has the nonce. A reply with two verdicts, another word in place of the
  verdict, or thoughts that don't end has no verdict.

Not covered: a judge may believe what an answer claims about itself. The prompt forbids it, and `codevision judge-check`
on labelled attacks measures how well the judge obeys.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from codevision_ext.errors import InputError

DEFAULT: Final = "general"
"""Name of the prompt for a source that `sources.json` doesn't list."""

_SLOTS: Final = {"system.txt": ("rules", "nonce"), "message.txt": ("question", "references", "answer", "nonce")}
_MARK: Final = re.compile(r"[<>]|\[(?=/?[A-Z_]{3,}\])")
_INVISIBLE: Final = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """An answer to compare with the references; `source` (a row's `data_source`) chooses the prompt."""

    question: str
    references: tuple[str, ...]
    answer: str
    source: str = ""
    images: tuple[str, ...] = ()
    """URLs of the images, also `data:` URLs, in the order in which the judge sees them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Prompt for one query."""

    name: str
    sha256: str
    """SHA-256 of the files that the prompt was written from."""
    nonce: str
    system: str
    message: str
    images: tuple[str, ...] = ()


class Prompts:
    """The prompts of a folder: `system.txt`, `message.txt`, `sources.json` and `NAME.txt` for each name in it.

    `sources.json` maps patterns of sources (`*` matches anything, letter case doesn't count) to names. The first
    pattern that matches counts; a source that no pattern matches gets `general`. Without a folder, the package's own
    prompts are read.

    Raises:
        InputError: a file is missing or isn't text, a template lacks a slot, or `sources.json` isn't such a mapping.
    """

    def __init__(self, folder: Path | None = None) -> None:
        root: Traversable = folder or files("codevision_ext") / "prompts" / "judge"
        self._templates = {name: _read(root, name) for name in _SLOTS}
        for name, slots in _SLOTS.items():
            absent = [slot for slot in slots if f"{{{slot}}}" not in self._templates[name]]
            if absent:
                raise InputError(f"{root / name}: {{{absent[0]}}} is missing, which the template must contain")
        self._names = _read_sources(root)
        self._rules = {name: _read(root, f"{name}.txt").strip() for name in {DEFAULT, *self._names.values()}}

    def name_of(self, source: str) -> str:
        """Return the name of the prompt for answers of this source."""
        folded = source.casefold()
        return next((name for pattern, name in self._names.items() if fnmatchcase(folded, pattern)), DEFAULT)

    def write(self, query: Query) -> Prompt:
        """Write the query as a prompt; equal queries give equal prompts."""
        name = self.name_of(query.source)
        texts = [self._templates["system.txt"], self._templates["message.txt"], self._rules[name]]
        data = [query.question, query.references, query.answer]
        nonce = _sha256([*texts, *data, *query.images])[:12]
        slots = dict(zip(_SLOTS["message.txt"], [*map(_literal, data), nonce], strict=True))
        return Prompt(
            name=name,
            sha256=_sha256(texts),
            nonce=nonce,
            system=_fill(texts[0], {"rules": self._rules[name], "nonce": nonce}),
            message=_fill(texts[1], slots),
            images=query.images,
        )

    @property
    def sha256(self) -> str:
        """SHA-256 of all prompts of the folder and of `sources.json`, hexadecimal."""
        return _sha256([self._templates, self._names, sorted(self._rules.items())])


def read_verdict(reply: str, nonce: str) -> float | None:
    """Return 1 for CORRECT and 0 for INCORRECT on the last line of a reply; None without a clear verdict.

    A reply may begin with thoughts that `</think>` closes. After them there must be exactly one verdict.
    """
    spoken = reply.rpartition("</think>")[2]
    lines = spoken.rstrip().splitlines()
    if "<think>" in spoken or not lines or len(re.findall(rf"VERDICT\W*{nonce}", spoken, re.IGNORECASE)) != 1:
        return None
    match = re.fullmatch(rf"[\s*_`]*VERDICT {nonce}:[\s*_`]*(CORRECT|INCORRECT)[\s*_`.]*", lines[-1], re.IGNORECASE)
    return None if match is None else float(match[1].upper() == "CORRECT")


def _fill(template: str, slots: Mapping[str, str]) -> str:
    """Return the template with each `{slot}` replaced; slots inside the inserted text are not replaced."""
    return re.sub(r"\{(" + "|".join(slots) + r")\}", lambda match: slots[match[1]], template)


def _literal(value: str | Sequence[str]) -> str:
    """Return the value as JSON, with numeric escapes for invisible characters and for characters that open a tag."""
    text = json.dumps(value, ensure_ascii=False)
    visible = "".join(_escape(c) if unicodedata.category(c) in _INVISIBLE else c for c in text)
    return _MARK.sub(lambda match: _escape(match[0]), visible)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _read(root: Traversable, name: str) -> str:
    try:
        return (root / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{root / name}: can't be read: {error}") from error


def _read_sources(root: Traversable) -> dict[str, str]:
    where = root / "sources.json"
    try:
        table = json.loads(_read(root, "sources.json"))
    except ValueError as error:
        raise InputError(f"{where}: not JSON: {error}") from error
    if not isinstance(table, dict) or not all(isinstance(name, str) and name.isidentifier() for name in table.values()):
        raise InputError(f"{where}: must be an object that maps patterns of sources to names of prompts")
    return {pattern.casefold(): name for pattern, name in table.items()}
