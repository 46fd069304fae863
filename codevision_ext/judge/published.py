"""Asks a judge in the words of a benchmark: prompts from files that the user brings, known by their SHA-256.

The reply is read as the published harness of VTBench does: the first 0 or 1 in it is the verdict.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from codevision_ext.errors import InputError
from codevision_ext.judge.shared import shared_chat
from codevision_ext.types import Verdict

if TYPE_CHECKING:
    from codevision_ext.config import JudgeSettings

PROMPTS: Final = ("perception", "instruction", "extract", "reasoning")
"""Names of the prompts of VTBench: two judge a drawing, one extracts an answer from a response, one judges it."""
SUMS: Final = "SHA256SUMS"
"""File with the expected SHA-256 of the prompts, as `sha256sum` writes it; optional."""
_REPLY_CHARS: Final = 500
_SUM: Final = re.compile(r"(?P<sha256>[0-9a-fA-F]{64})[ \t]+\*?(?P<name>\S.*)")


class PublishedPrompts:
    """The PROMPTS in a folder, each in a text file NAME.txt.

    A prompt may have slots such as `{question}`. A slot that stands in the text is filled once, and text inside a
    filled slot isn't filled again. Values without a slot are appended, each in a paragraph of its own.

    Raises:
        InputError: a file is missing, empty or no text, or has another SHA-256 than SHA256SUMS says.
    """

    def __init__(self, folder: Path) -> None:
        self._texts: dict[str, str] = {}
        self.sha256: dict[str, str] = {}
        """SHA-256 of each prompt's file, hexadecimal, by name."""
        expected = _read_sums(folder / SUMS)
        for name in PROMPTS:
            path = folder / f"{name}.txt"
            raw = _read(path)
            try:
                self._texts[name] = raw.decode()
            except UnicodeDecodeError as error:
                raise InputError(f"{path}: isn't UTF-8") from error
            if not self._texts[name].strip():
                raise InputError(f"{path}: is empty")
            self.sha256[name] = hashlib.sha256(raw).hexdigest()
            if path.name in expected and expected[path.name] != self.sha256[name]:
                raise InputError(
                    f"{path}: has the SHA-256 {self.sha256[name]}, but {folder / SUMS} says {expected[path.name]}"
                )

    def write(self, name: str, **values: str) -> str:
        """Returns a prompt with its slots filled; values without a slot are appended in their order."""
        text = self._texts[name]
        slots = [slot for slot in values if f"{{{slot}}}" in text]
        if slots:
            text = re.sub(r"\{(" + "|".join(slots) + r")\}", lambda match: values[match[1]], text)
        rest = [f"{slot.capitalize()}: {value}" for slot, value in values.items() if slot not in slots]
        return "\n\n".join([text.rstrip("\n"), *rest]) if rest else text


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error


def _read_sums(path: Path) -> dict[str, str]:
    """Returns the SHA-256 by file name; none without the file."""
    if not path.exists():
        return {}
    sums = {}
    for number, line in enumerate(_read(path).decode(errors="replace").splitlines(), start=1):
        match = _SUM.fullmatch(line.strip())
        if line.strip() and match is None:
            raise InputError(f"{path}, line {number}: isn't a SHA-256 and the name of a file")
        if match:
            sums[match["name"]] = match["sha256"].lower()
    return sums


@cache
def published_prompts(folder: Path) -> PublishedPrompts:
    """Returns the prompts of a folder; they are read once. Raises what `PublishedPrompts` raises."""
    return PublishedPrompts(folder)


def ask(settings: "JudgeSettings", text: str, images: Sequence[str] = ()) -> str:
    """Returns the judge's reply to one message, without its thoughts; blocks until it is there.

    Args:
        settings: The judge.
        text: Text of the message.
        images: URLs of the images, which stand before the text.

    Raises:
        JudgeError: no attempt gave a reply.
    """
    content: list[Mapping[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in images]
    content.append({"type": "text", "text": text})
    return shared_chat(settings)([{"role": "user", "content": content}]).rpartition("</think>")[2]


def read_binary(reply: str) -> float | None:
    """Returns the first 0 or 1 of a reply; None without one."""
    match = re.search(r"[01]", reply)
    return None if match is None else float(match[0])


def binary_verdict(
    settings: "JudgeSettings", prompts: PublishedPrompts, name: str, images: Sequence[str] = (), **values: str
) -> Verdict:
    """Returns the verdict in the first 0 or 1 of the judge's reply; its score is None without one.

    Args:
        settings: The judge.
        prompts: The prompts.
        name: Name of the prompt.
        images: URLs of the images.
        values: Texts for the slots of the prompt.

    Raises:
        JudgeError: no attempt gave a reply.
    """
    reply = ask(settings, prompts.write(name, **values), images)
    return Verdict(
        score=read_binary(reply),
        model=settings.model,
        prompt=f"published {name}",
        prompt_sha256=prompts.sha256[name],
        reply=reply[-_REPLY_CHARS:],
    )
