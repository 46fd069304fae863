"""Gets the judge's verdicts: many queries at once, and clear verdicts are remembered."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from codevision_ext.errors import EngineError, JudgeError
from codevision_ext.io.chat_client import ChatClient, Endpoint
from codevision_ext.judge.prompts import Prompts, Query, read_verdict
from codevision_ext.types import Verdict

_REPLY_CHARS: Final = 500
"""Characters from the end of a reply that a verdict stores."""

BlockingJudge = Callable[[Sequence[Query]], list[Verdict | JudgeError]]
"""`Judge.ask_all` for threads: the calling thread waits."""


class Judge(AbstractAsyncContextManager["Judge"]):
    """A model that compares answers with references; belongs to the event loop of its first request.

    `cache` is a folder of replies; with None every query is sent. `prompts` is a folder of `prompts.Prompts`; None: the
    package's own.

    Raises:
        InputError: the prompts, the key or the cache's folder can't be used.
    """

    def __init__(self, endpoint: Endpoint, *, cache: Path | None = None, prompts: Path | None = None) -> None:
        self.model = endpoint.model
        self.prompts = Prompts(prompts)
        self.client = ChatClient(endpoint, cache)

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def ask(self, query: Query) -> Verdict:
        """Return the verdict on one answer, from the cache where a clear one is there; abstentions are asked again.

        Raises:
            JudgeError: no attempt gave a chat completion.
        """
        prompt = self.prompts.write(query)
        content = _with_images(prompt.message, prompt.images)
        messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": content}]
        body = self.client.body(messages)
        key = hashlib.sha256(json.dumps([prompt.sha256, body], sort_keys=True).encode()).hexdigest()
        cache = self.client.cache
        cached = cache.get(key) if cache else None
        reply = cached if cached is not None else await self._send(body)
        score = read_verdict(reply, prompt.nonce)
        if cache and cached is None and score is not None:
            messages[1]["content"] = prompt.message  # without images, which are part of the key
            cache.put(key, body | {"messages": messages}, reply)
        return Verdict(
            score=score, model=self.model, prompt=prompt.name, prompt_sha256=prompt.sha256, reply=reply[-_REPLY_CHARS:]
        )

    async def ask_all(self, queries: Sequence[Query]) -> list[Verdict | JudgeError]:
        """Return the verdict or the error of each query, in order; equal queries are asked once.

        `Endpoint.concurrency` queries are under way at a time.
        """

        async def one(query: Query) -> Verdict | JudgeError:
            try:
                return await self.ask(query)
            except JudgeError as error:
                return error

        async with asyncio.TaskGroup() as tasks:
            running = {query: tasks.create_task(one(query)) for query in dict.fromkeys(queries)}
        return [running[query].result() for query in queries]

    async def _send(self, body: dict[str, Any]) -> str:
        """Return the text of the judge; empty (no verdict) if the text was cut off or refused."""
        try:
            choice = (await self.client.send(body))["choices"][0]
        except EngineError as error:
            raise JudgeError(f"the judge {error}") from error
        return choice["message"]["content"] or "" if choice.get("finish_reason") == "stop" else ""


def _with_images(text: str, images: Sequence[str]) -> Any:
    """Return a message's content: the images, if there are any, then the text."""
    if not images:
        return text
    return [*({"type": "image_url", "image_url": {"url": url}} for url in images), {"type": "text", "text": text}]


@contextmanager
def blocking_judge(judge: Judge) -> Iterator[BlockingJudge]:
    """Run the judge in a thread of its own; all threads that call it share its connections and its concurrency."""
    with judge.client.in_thread() as portal:
        yield partial(portal.call, judge.ask_all)
