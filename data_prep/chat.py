"""How does a model behind an OpenAI-compatible endpoint see a task, and use the tool? Turns of text and pictures."""

import base64
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from PIL import Image

from codevision_ext.code_tool import CodeTool, PictureDesk, tool_schema
from codevision_ext.errors import EngineError, InputError
from codevision_ext.judge.cache import Cache
from codevision_ext.parsing import has_call, parse_answer, parse_call
from codevision_ext.types import Frame
from data_prep.pictures import extension, png
from data_prep.schema import IMAGE_TAG, Row

MEDIA: Final = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
TURNS: Final = 12
"""Assistant turns of a dialogue at most, as in training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Which model is asked, and how."""

    url: str
    model: str
    api_key_env: str | None = None
    timeout_s: float = 300.0
    """Of one attempt."""
    retries: int = 6
    request: Mapping[str, Any] = field(default_factory=dict)
    """More fields of each request."""
    frame: Frame = Frame.ORIGINAL
    """What the model writes coordinates in, `original` or `relative`."""


class Chat:
    """A model behind `/chat/completions`; threads may share it.

    Args:
        endpoint: The model.
        cache: Folder of replies; None: nothing is kept.

    Raises:
        InputError: The key's variable isn't set, or the cache can't be made.
    """

    def __init__(self, endpoint: Endpoint, cache: Path | None = None) -> None:
        from openai import OpenAI, OpenAIError  # noqa: PLC0415  slow to import

        key = "none"
        if endpoint.api_key_env:
            if endpoint.api_key_env not in os.environ:
                raise InputError(f"--api-key-env: the environment has no {endpoint.api_key_env}")
            key = os.environ[endpoint.api_key_env]
        self._endpoint = endpoint
        self._cache = Cache(cache) if cache else None
        self._error = OpenAIError
        self._client = OpenAI(
            base_url=endpoint.url, api_key=key, max_retries=endpoint.retries, timeout=endpoint.timeout_s
        )
        self.frame = endpoint.frame
        self.asked = 0
        """Requests that were sent; the others came from the cache."""

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def reply(self, messages: Sequence[Mapping[str, Any]], seed: int) -> str:
        """What the model writes next; the same request with the same seed is sent once, if there is a cache.

        Raises:
            EngineError: No text came back, however often it was tried.
        """
        request = {"model": self._endpoint.model, "messages": list(messages), "seed": seed, **self._endpoint.request}
        text = json.dumps(request, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        if self._cache and (kept := self._cache.get(key)) is not None:
            return kept
        self.asked += 1
        where = f"{self._endpoint.model} at {self._endpoint.url}"
        try:
            answer = self._client.chat.completions.create(**request)
        except self._error as error:
            said = " ".join(str(error.__cause__ or error).split())[:300]
            raise EngineError(f"{where} gave no reply: {said}") from error
        if not answer.choices or not isinstance(answer.choices[0].message.content, str):
            raise EngineError(f"{where} replied without a text")
        reply = answer.choices[0].message.content
        if self._cache:
            self._cache.put(key, {"seed": seed, "turns": len(messages)}, reply)
        return reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How a dialogue went."""

    answer: str | None
    calls: int
    failed: int
    """Calls that made no picture."""


def play(chat: Chat, row: Row, tool: CodeTool | None, seed: int, turns: int = TURNS) -> Played:
    """Ask the question, run the calls, until the model answers or has no turn left.

    Args:
        chat: The model.
        row: The task; the model is told nothing but pictures and question.
        tool: None: the model isn't told of one.
        seed: Of the sampling.
        turns: Assistant turns at most.

    Raises:
        EngineError: The endpoint gave no reply.
        SandboxError: The sandbox is broken.
    """
    messages = opening(row, chat.frame, with_tool=tool is not None)
    desk = PictureDesk([opened(data) for data in row.images], frame=chat.frame)
    calls = failed = 0
    for _ in range(turns):
        said = chat.reply(messages, seed)
        messages.append({"role": "assistant", "content": said})
        if tool is None or not has_call(said):
            return Played(answer=parse_answer([said]), calls=calls, failed=failed)
        parsed = parse_call(said, len(desk.pictures))
        calls += 1
        if parsed.call is None:
            failed += 1
            messages.append({"role": "user", "content": parsed.message})
            continue
        observation = tool.call(desk, parsed.call)
        failed += observation.image is None
        messages.append(shown(observation.text, observation.image))
    return Played(answer=None, calls=calls, failed=failed)


def opening(row: Row, frame: Frame, *, with_tool: bool) -> list[dict[str, Any]]:
    """System and user message of a task, as training words them."""
    system = _prompt("system.txt" if with_tool else "system_no_tool.txt")
    if with_tool:
        system = f"{system}\n<tools>\n{json.dumps(tool_schema(frame))}\n</tools>"
    pictures = [_picture(data) for data in row.images]
    return [
        {"role": "system", "content": row.system or system},
        {"role": "user", "content": [*pictures, {"type": "text", "text": asked(row)}]},
    ]


def asked(row: Row) -> str:
    """What the user says, without tags."""
    return (row.question if row.prompt is None else row.prompt.replace(IMAGE_TAG, "")).strip()


def shown(text: str, image: Image.Image | None) -> dict[str, Any]:
    """A message with what the tool said and made."""
    if image is None:
        return {"role": "user", "content": text}
    return {"role": "user", "content": [{"type": "text", "text": text}, _picture(png(image.convert("RGB")))]}


def opened(data: bytes) -> Image.Image:
    """The picture of a file, as the tool gets it."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def _picture(data: bytes) -> dict[str, Any]:
    url = f"data:{MEDIA[extension(data)]};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _prompt(name: str) -> str:
    return (files("codevision_ext") / "prompts" / name).read_text(encoding="utf-8").strip()
