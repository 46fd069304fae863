"""Client of OpenAI-compatible endpoints, for the judge, for models in an evaluation, and for models that generate data.

A client belongs to the event loop of its first request. `ChatClient.in_thread` runs an event loop in a thread, for
callers without one.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import openai
from anyio.from_thread import BlockingPortal, start_blocking_portal

from codevision_ext.errors import EngineError, InputError, TooLongError
from codevision_ext.io.clean_text import clean_text, clean_texts
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.io.reply_cache import ReplyCache

_TOO_LONG: Final = ("context_length_exceeded", "context length", "maximum context", "max_model_len")
"""Parts of the messages with which servers refuse a conversation that is longer than the model's context."""


_MOST_TOKENS: Final = 2**24
"""Maximum plausible number of tokens that an endpoint reports; no model has a longer context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A model behind `/chat/completions`, and how requests are sent to it."""

    url: str
    """URL before `/chat/completions`, such as `http://host:8000/v1`."""
    model: str
    """Id by which the endpoint knows the model."""
    api_key_env: str | None = None
    """Name of the environment variable with the key; None: the endpoint needs no key."""
    concurrency: int = 1000
    """Maximum requests under way at the same time; a request that waits for its next attempt counts."""
    timeout_s: float = 300.0
    """Seconds of one attempt, from the connection to the last byte."""
    retries: int = 6
    """Attempts after the first."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of each request, such as `temperature`."""

    def key(self) -> str:
        """Return the API key.

        Raises:
            InputError: the environment variable isn't set.
        """
        if self.api_key_env is None:
            return "none"
        if not os.environ.get(self.api_key_env):
            raise InputError(f"--api-key-env: the environment has no {self.api_key_env}")
        return os.environ[self.api_key_env]

    def first_model(self) -> str:
        """Return the id of the first model that the endpoint serves.

        Raises:
            InputError: the endpoint doesn't list its models, or serves none; or the key's variable isn't set.
        """
        try:
            with openai.OpenAI(base_url=self.url, api_key=self.key(), timeout=30.0) as client:
                models = list(client.models.list())
            name = models[0].id if models else None
        except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:  # its list may be anything
            raise InputError(f"{self.url}: can't list its models: {_cause(error)}; name one by --model-id") from error
        if not isinstance(name, str):
            raise InputError(f"{self.url}: serves no model")
        return clean_text(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The next message of the model."""

    text: str
    finished: bool
    """False if the message was cut off at the token limit."""
    prompt_tokens: int
    """Tokens of the conversation before the message; where the endpoint counts none, a quarter of the text's bytes."""
    tokens: int
    """Tokens of the message, counted in the same way."""
    stop: str | None = None
    """Stop text that ended the message; empty: something else did; None: the endpoint doesn't say what."""


_REPLY: Final[JsonCodec[Reply]] = JsonCodec(Reply)


class NoTextError(EngineError):
    """The endpoint replied without a text, as one whose filter refuses the request does; such a reply may cost money.

    `prompt_tokens` and `tokens` are counted as in `Reply`.
    """

    def __init__(self, message: str, prompt_tokens: int, tokens: int) -> None:
        super().__init__(message)
        self.prompt_tokens, self.tokens = prompt_tokens, tokens


class ChatClient:
    """Sends requests to one endpoint.

    Failed attempts (no connection, timeout, 408, 409, 429, 5xx, a body that is cut off or isn't a chat completion) are
    repeated by the `openai` client, which waits 0.5 s, 1 s, ... 8 s or as long as `Retry-After` asks, up to a minute.
    `cache` is a folder of replies; with None every request is sent.

    Raises:
        InputError: the key's variable isn't set, or the cache's folder can't be made.
    """

    def __init__(self, endpoint: Endpoint, cache: Path | None = None) -> None:
        self.endpoint = endpoint
        self.cache = ReplyCache(cache) if cache else None
        self.requests_sent = 0
        """Requests that went to the endpoint; the other replies came from the cache."""
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.url,
            api_key=endpoint.key(),
            max_retries=endpoint.retries,
            http_client=_WholeReplies(endpoint.timeout_s),
            timeout=endpoint.timeout_s,
        )

    async def close(self) -> None:
        """End the connections."""
        await self._client.close()

    @contextmanager
    def in_thread(self) -> Iterator[BlockingPortal]:
        """Run the event loop of this client in a thread; leaving the block ends requests, connections and thread."""
        with start_blocking_portal(name="chat") as portal:
            try:
                yield portal
            finally:
                portal.call(self.close)
                portal.call(portal.stop, True)

    def body(self, messages: Sequence[Mapping[str, Any]], **fields: Any) -> dict[str, Any]:
        """Return the body of a request; the endpoint's own fields win over `fields`."""
        body = {"model": self.endpoint.model, "messages": list(messages), **fields, **self.endpoint.request}
        cleaned: dict[str, Any] = clean_texts(body)
        return cleaned

    async def send(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the chat completion, its texts as `clean_text` mends them.

        Raises:
            TooLongError: the conversation is longer than the model's context.
            EngineError: no attempt gave a chat completion.
        """
        self.requests_sent += 1
        async with self._slots:
            try:
                answer = await self._client.post("/chat/completions", cast_to=httpx.Response, body=body)
            except openai.OpenAIError as error:
                cause = _cause(error)
                too_long = isinstance(error, openai.BadRequestError) and any(x in cause.lower() for x in _TOO_LONG)
                kind = TooLongError if too_long else EngineError
                raise kind(f"{self.endpoint.model} at {self.endpoint.url} gave no reply: {cause}") from error
        completion: dict[str, Any] = clean_texts(answer.json())
        return completion

    async def reply(self, messages: Sequence[Mapping[str, Any]], **fields: Any) -> Reply:
        """Return the model's next message; with a cache, the same request is sent once.

        Thoughts that the server separated from the text (`reasoning_content`) are put back in front of it. `fields` are
        further fields of the request (`seed`, `max_tokens`, ...).

        Raises:
            TooLongError: the conversation is longer than the model's context.
            NoTextError: the reply has no text.
            EngineError: no attempt gave a chat completion.
        """
        body = self.body(messages, **fields)
        if self.cache is None:
            return self._read(body, await self.send(body))
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        if (cached := self.cache.get(key)) is not None:
            return _REPLY.load(cached.encode(), f"reply {key}")
        reply = self._read(body, await self.send(body))
        self.cache.put(key, {**fields, "turns": len(messages)}, _REPLY.dump(reply).decode())
        return reply

    def _read(self, body: Mapping[str, Any], completion: Mapping[str, Any]) -> Reply:
        choice = completion["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        text, thoughts = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
        if thoughts:
            text = f"<think>{thoughts}</think>{text or ''}"
        if text is None or reason not in ("stop", "length"):
            where = f"{self.endpoint.model} at {self.endpoint.url}"
            raise NoTextError(
                f"{where} replied without a text, and ended for the reason {reason!r}",
                prompt_tokens=_counted(completion, "prompt_tokens"),
                tokens=_counted(completion, "completion_tokens"),
            )
        names = [name for name in ("stop_reason", "matched_stop") if name in choice]  # of vLLM and SGLang
        ended = choice[names[0]] if names else None
        return Reply(
            text=text,
            finished=reason == "stop",
            prompt_tokens=_counted(completion, "prompt_tokens") or estimated_tokens(*map(_text_of, body["messages"])),
            tokens=max(1, _counted(completion, "completion_tokens") or estimated_tokens(text)),
            stop=None if not names else ended if isinstance(ended, str) else "",
        )


class _WholeReplies(openai.DefaultAsyncHttpxClient):
    """Bounds each attempt as a whole, and treats a body that isn't a chat completion as a broken connection.

    httpx bounds each read, so that a server which sends a byte now and then is never too slow; and the `openai` client
    repeats what fails here, but not a body that it can't read later.
    """

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout=timeout_s)
        self._timeout_s = timeout_s

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await super().send(request, **options)
                await response.aread()
        except TimeoutError:
            raise httpx.ReadTimeout(f"no complete reply within {self._timeout_s:g} s", request=request) from None
        if response.is_success and not _is_completion(response):
            raise httpx.RemoteProtocolError("the reply isn't a chat completion", request=request)
        return response


def _is_completion(response: httpx.Response) -> bool:
    try:
        return isinstance(response.json()["choices"][0]["message"].get("content"), str | None)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _counted(completion: Mapping[str, Any], name: str) -> int:
    """Return a number of tokens that the endpoint counted; 0 if it counted none, or wrote no number of tokens."""
    usage = completion.get("usage")
    count = usage.get(name) if isinstance(usage, Mapping) else None
    return count if type(count) is int and 0 < count <= _MOST_TOKENS else 0


def _cause(error: Exception) -> str:
    """Return the reason of a failure in one line."""
    cause = error.__cause__ or error
    return clean_text(" ".join(str(cause).split()))[:300] or type(cause).__name__


def _text_of(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def estimated_tokens(*texts: str) -> int:
    """Return a quarter of the bytes of some texts, an estimate of their number of tokens."""
    return sum(len(text.encode()) for text in texts) // 4
