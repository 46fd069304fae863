"""How does a model behind an OpenAI-compatible endpoint play a rollout? In messages; its tokens are only counted.

`rollout.play` plays it as any other: a `Dialogue` is policy and renderer of one rollout. The tool is described in the
system message and its results come as user messages, in the words that chat templates of the Qwen-VL family turn tools
and tool results into, so that a server needs no parser for tool calls.
"""

import base64
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import openai
from PIL import Image

from codevision_ext.errors import EngineError, InputError
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.judge.cache import Cache
from codevision_ext.rollout.loop import Completion

MEDIA: Final = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_TOO_LONG: Final = ("context_length_exceeded", "context length", "maximum context", "max_model_len")
"""What servers say when a dialogue has outgrown the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Which model is asked, and how."""

    url: str
    """What `/chat/completions` is appended to."""
    model: str
    api_key_env: str | None = None
    timeout_s: float = 300.0
    """Of one attempt."""
    retries: int = 6
    request: Mapping[str, Any] = field(default_factory=dict)
    """More fields of each request."""

    def key(self) -> str:
        """What the endpoint wants to be told.

        Raises:
            InputError: the key's variable isn't set.
        """
        if self.api_key_env is None:
            return "none"
        if not os.environ.get(self.api_key_env):
            raise InputError(f"--api-key-env: the environment has no {self.api_key_env}")
        return os.environ[self.api_key_env]

    def served(self) -> str:
        """Id of the first model that the endpoint serves.

        Raises:
            InputError: it can't be asked, or serves none; or the key's variable isn't set.
        """
        try:
            with openai.OpenAI(base_url=self.url, api_key=self.key(), timeout=30.0) as client:
                models = list(client.models.list())
        except openai.OpenAIError as error:
            said = " ".join(str(error.__cause__ or error).split())[:300]
            raise InputError(f"{self.url}: can't be asked what it serves: {said}; --model-id says it") from error
        if not models:
            raise InputError(f"{self.url}: serves no model")
        return models[0].id


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model wrote next."""

    text: str
    finished: bool
    """False: it ran into the token limit."""
    prompt_tokens: int
    tokens: int
    """As the endpoint counts them; where it doesn't, a quarter of the bytes."""


_REPLY: Final[JsonCodec[Reply]] = JsonCodec(Reply)


class TooLongError(EngineError):
    """The dialogue doesn't fit into the model's context any more."""


class ChatEndpoint:
    """A model behind `/chat/completions`; belongs to the event loop that it is first asked in.

    The same request is sent once, if there is a cache.

    Failed attempts (no connection, time-out, 408, 409, 429, 5xx) are repeated by the `openai` client, after waits that
    grow from 0.5 s to 8 s or are what `Retry-After` asks for.

    Args:
        endpoint: The model.
        cache: Folder of replies; None: nothing is kept.

    Raises:
        InputError: the key's variable isn't set, or the cache can't be made.
    """

    def __init__(self, endpoint: Endpoint, cache: Path | None = None) -> None:
        self.endpoint = endpoint
        self.asked = 0
        """Requests that were sent; the others came from the cache."""
        self._cache = Cache(cache) if cache else None
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.url, api_key=endpoint.key(), max_retries=endpoint.retries, timeout=endpoint.timeout_s
        )

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.close()

    async def reply(self, messages: Sequence[Mapping[str, Any]], **more: Any) -> Reply:
        """What the model writes next; `more` are fields of the request (`seed`, `max_tokens`, ...).

        Thoughts that the server took out of the text (`reasoning_content`) are put back, as the model wrote them.

        Raises:
            TooLongError: the messages don't fit into the model's context.
            EngineError: no text came back, however often it was tried.
        """
        request = {"model": self.endpoint.model, "messages": list(messages), **more, **self.endpoint.request}
        if self._cache is None:
            return await self._send(request)
        key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        if (kept := self._cache.get(key)) is not None:
            return _REPLY.load(kept.encode(), f"reply {key}")
        reply = await self._send(request)
        self._cache.put(key, {**more, "turns": len(messages)}, _REPLY.dump(reply).decode())
        return reply

    async def _send(self, request: dict[str, Any]) -> Reply:
        where = f"{self.endpoint.model} at {self.endpoint.url}"
        self.asked += 1
        try:
            answer = await self._client.chat.completions.create(**request)
        except openai.OpenAIError as error:
            said = " ".join(str(error.__cause__ or error).split())[:300]
            refused = isinstance(error, openai.BadRequestError) and any(word in said.lower() for word in _TOO_LONG)
            raise (TooLongError if refused else EngineError)(f"{where} gave no reply: {said}") from error
        message = answer.choices[0].message if answer.choices else None
        if message is None or not isinstance(message.content, str | None):
            raise EngineError(f"{where} replied without a text")
        extra = message.model_extra or {}
        thought = extra.get("reasoning_content") or extra.get("reasoning")
        text = f"<think>{thought}</think>{message.content or ''}" if thought else message.content
        reason = answer.choices[0].finish_reason
        if text is None or reason not in ("stop", "length"):
            raise EngineError(f"{where} replied without a text, and ended for the reason {reason!r}")
        usage = answer.usage
        return Reply(
            text=text,
            finished=reason == "stop",
            prompt_tokens=usage.prompt_tokens if usage else _guess(*map(_words, request["messages"])),
            tokens=max(1, usage.completion_tokens if usage else _guess(text)),
        )


class Dialogue:
    """One rollout as the endpoint sees it: `rollout.Policy` and `rollout.Renderer` at once.

    Ids stand for nothing: there are as many of them as the endpoint counted tokens. What the tool says isn't among
    them, but what it took, images included, counts against the tokens that a turn may have.

    Args:
        chat: The model.
        params: Fields of each request (`seed`, `temperature`).
    """

    end_id = 0

    def __init__(self, chat: ChatEndpoint, params: Mapping[str, Any]) -> None:
        self._chat, self._params = chat, params
        self.messages: list[dict[str, Any]] = []
        self._prompt: list[int] = []
        self._urls: dict[int, str] = {}  # by id: the desk of the rollout keeps every image
        self._sampled = self._context = 0
        self._said = ""

    def fit(self, image: Image.Image) -> Image.Image:
        """The image itself, which the server makes fit; it is written as a file here, on a thread."""
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "PNG", compress_level=1)
        self._urls[id(image)] = data_url(buffer.getvalue(), "PNG")
        return image

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], fitted: Sequence[Image.Image]
    ) -> list[int]:
        """Opens the dialogue; the ids come with the first reply."""
        self.messages = prompt_messages(messages, tools, [self._urls[id(image)] for image in fitted])
        return self._prompt

    async def __call__(self, ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG002
        """The next turn; one that no longer fits into the model's context is cut short before its first word."""
        room = max(1, max_tokens - self._context)
        try:
            reply = await self._chat.reply(self.messages, max_tokens=room, **self._params)
        except TooLongError:
            if not self._prompt:
                raise
            self._said = ""
            return Completion(ids=[self.end_id], log_probs=[0.0], finished=False)
        if not self._prompt:
            self._prompt.extend([self.end_id] * reply.prompt_tokens)  # the episode holds this very list
        self._context = max(0, reply.prompt_tokens - len(self._prompt) - self._sampled)
        sampled = min(reply.tokens, max_tokens)
        self._sampled += sampled
        self._said = reply.text
        self.messages.append({"role": "assistant", "content": reply.text})
        return Completion(ids=[self.end_id] * sampled, log_probs=[0.0] * sampled, finished=reply.finished)

    def observation(self, role: str, text: str, fitted: Sequence[Image.Image], *, closed: bool) -> list[int]:  # noqa: ARG002
        """Says what the tool said; no ids."""
        urls = [self._urls[id(image)] for image in fitted]
        self.messages.append(tool_message(text, urls) if role == "tool" else {"role": role, "content": text})
        return []

    def decode(self, ids: Sequence[int]) -> str:  # noqa: ARG002
        """The turn that came last."""
        return self._said


def prompt_messages(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], images: Sequence[str]
) -> list[dict[str, Any]]:
    """Messages for a chat template as an endpoint takes them: images (URLs) inside, tools in the system message."""
    left = iter(images)
    sent: list[dict[str, Any]] = []
    for message in messages:
        parts = [_image(next(left)) if part["type"] == "image" else dict(part) for part in message["content"]]
        plain = all(part["type"] == "text" for part in parts)
        content = "".join(part["text"] for part in parts) if plain else parts
        sent.append({"role": message["role"], "content": content})
    if tools:
        told = "".join(json.dumps(tool, ensure_ascii=False) + "\n" for tool in tools)
        if sent[0]["role"] != "system":
            sent.insert(0, {"role": "system", "content": ""})
        sent[0]["content"] += f"\n<tools>\n{told}</tools>"
    return sent


def tool_message(text: str, images: Sequence[str]) -> dict[str, Any]:
    """A message with what the tool said and made; the images are URLs."""
    said = f"<tool_response>\n{text}"
    if not images:
        return {"role": "user", "content": f"{said}\n</tool_response>"}
    parts = [_text(said), *map(_image, images), _text("\n</tool_response>")]
    return {"role": "user", "content": parts}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def data_url(data: bytes, kind: str) -> str:
    """An image file of a kind (`PNG`, ...) as a URL that holds it."""
    return f"data:{MEDIA[kind]};base64,{base64.b64encode(data).decode()}"


def _words(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _guess(*texts: str) -> int:
    return sum(len(text.encode()) for text in texts) // 4
