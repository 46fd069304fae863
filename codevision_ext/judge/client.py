"""What does the judge say? Asks any OpenAI-compatible endpoint, many queries at once, remembers what was decided."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Final, Self

import httpx
import openai

from codevision_ext.errors import JudgeError
from codevision_ext.judge.cache import Cache
from codevision_ext.judge.prompts import Prompts, Query, read_verdict
from codevision_ext.types import Verdict

_REPLY_CHARS: Final = 500


class Judge:
    """A model behind `/chat/completions`; belongs to the event loop that it is first asked in.

    Failed attempts (no connection, time-out, 408, 409, 429, 5xx, a body that is cut off or no chat completion) are
    repeated by the `openai` client, which waits 0.5 s, 1 s, ... 8 s or as long as `Retry-After` asks, up to a minute.

    Args:
        base_url: What `/chat/completions` is appended to.
        model: Id of the model.
        api_key: None: the endpoint wants none.
        concurrency: Requests under way at the same time; a request that waits for its next attempt counts.
        timeout_s: Of one attempt, from the connection to the last byte.
        retries: Attempts after the first.
        cache: Folder; None: nothing is kept.
        prompts: Folder of `prompts.Prompts`; None: the package's own.
        request: More fields of each request.

    Raises:
        InputError: the prompts or the cache's folder can't be used.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key: str | None = None,
        concurrency: int = 32,
        timeout_s: float = 60.0,
        retries: int = 6,
        cache: Path | None = None,
        prompts: Path | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.prompts = Prompts(prompts)
        self._base_url = base_url
        self._request = dict(request or {})
        self._cache = Cache(cache) if cache else None
        self._slots = asyncio.Semaphore(concurrency)
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=retries,
            http_client=_WholeReplies(timeout_s),
            timeout=timeout_s,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.close()

    async def ask(self, query: Query) -> Verdict:
        """The verdict on one answer; what was decided before comes from the cache, abstentions are asked again.

        Raises:
            JudgeError: no chat completion came back, however often it was tried.
        """
        prompt = self.prompts.write(query)
        asked = _with_images(prompt.message, prompt.images)
        messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": asked}]
        request = {"model": self.model, "messages": messages, **self._request}
        key = hashlib.sha256(json.dumps([prompt.sha256, request], sort_keys=True).encode()).hexdigest()
        kept = self._cache.get(key) if self._cache else None
        reply = kept if kept is not None else await self._send(request)
        score = read_verdict(reply, prompt.nonce)
        if self._cache and kept is None and score is not None:
            messages[1]["content"] = prompt.message  # the images are in the key
            self._cache.put(key, request, reply)
        return Verdict(
            score=score,
            model=self.model,
            prompt=prompt.name,
            prompt_sha256=prompt.sha256,
            reply=reply[-_REPLY_CHARS:],
        )

    async def ask_all(
        self, queries: Sequence[Query], progress: Callable[[int, int], None] | None = None
    ) -> list[Verdict | JudgeError]:
        """Verdicts in the order of the queries, or what went wrong; equal queries are asked once.

        Args:
            queries: In any number; `concurrency` of them are under way at a time.
            progress: Called with the number of queries done and of all.
        """
        done = 0

        async def one(query: Query) -> Verdict | JudgeError:
            nonlocal done
            try:
                return await self.ask(query)
            except JudgeError as error:
                return error
            finally:
                done += 1
                if progress:
                    progress(done, len(asked))

        asked = list(dict.fromkeys(queries))
        async with asyncio.TaskGroup() as tasks:
            running = {query: tasks.create_task(one(query)) for query in asked}
        return [running[query].result() for query in queries]

    async def _send(self, request: dict[str, Any]) -> str:
        """What the model wrote; empty where it was cut off or refused, which is no verdict."""
        async with self._slots:
            try:
                answer = await self._client.post("/chat/completions", cast_to=httpx.Response, body=request)
            except openai.OpenAIError as error:
                cause = error.__cause__ or error
                said = " ".join(str(cause).split())[:300] or type(cause).__name__
                raise JudgeError(f"the judge {self.model} at {self._base_url} gave no verdict: {said}") from error
        choice = answer.json()["choices"][0]
        return choice["message"]["content"] or "" if choice.get("finish_reason") == "stop" else ""


def _with_images(text: str, images: Sequence[str]) -> Any:
    """A message's content: the text, behind its images where there are any."""
    if not images:
        return text
    shown = [{"type": "image_url", "image_url": {"url": url}} for url in images]
    return [*shown, {"type": "text", "text": text}]


class _WholeReplies(openai.DefaultAsyncHttpxClient):
    """Bounds each attempt as a whole, and treats a body that is no chat completion as a broken connection.

    httpx bounds each read, so that a server which sends a byte now and then is never too slow; and the `openai` client
    repeats what fails here, but not what it can't read later.
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
            raise httpx.RemoteProtocolError("the reply is no chat completion", request=request)
        return response


def _is_completion(response: httpx.Response) -> bool:
    try:
        return isinstance(response.json()["choices"][0]["message"].get("content"), str | None)
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


class BlockingJudge:
    """A judge for threads: it runs in an event loop of its own, and bounds what they all ask together."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="judge", daemon=True)
        self._thread.start()

    def ask_all(self, queries: Sequence[Query]) -> list[Verdict | JudgeError]:
        """As `Judge.ask_all`; the calling thread waits."""
        return asyncio.run_coroutine_threadsafe(self._judge.ask_all(queries), self._loop).result()

    def close(self) -> None:
        """Ends connections and thread; nobody may be asking."""
        asyncio.run_coroutine_threadsafe(self._judge.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
