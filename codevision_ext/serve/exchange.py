"""Answers one request for a chat completion, from its first byte to the last one of its answer."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from PIL import Image
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from codevision_ext.errors import EngineError, InfraError, InputError, TooLongError, first_line
from codevision_ext.rollout.loop import ConversationMessage
from codevision_ext.scoring import with_images
from codevision_ext.serve.admission import Admission
from codevision_ext.serve.answers import ChatAnswer, ServedModel, play, record_of
from codevision_ext.serve.metrics import Metrics
from codevision_ext.serve.prompt import PromptLimits, checked_prompt, decode, too_long
from codevision_ext.serve.protocol import ApiError, ChatRequest, bad_request, chunk, completion, parse_chat_request, sse
from codevision_ext.serve.trajectories import Trajectories

logger = logging.getLogger(__name__)

T = TypeVar("T")

BODY_S: Final = 60.0
"""Seconds in which the body of a request must arrive."""
QUIET_S: Final = 10.0
"""Seconds without an event after which a stream sends a comment, so that proxies keep it open."""
GONE: Final = 499
"""HTTP status in the metrics of a request whose client went away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeLimits:
    """Limits of a server."""

    prompt: PromptLimits
    body_bytes: int
    """Maximum bytes of the body of a request."""
    timeout_s: float
    """Seconds of a request, from the last byte of its body to the last byte of its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """The parts of a server that its requests share."""

    served: ServedModel
    limits: ServeLimits
    admission: Admission
    trajectories: Trajectories
    metrics: Metrics


@dataclass(slots=True)
class _Shown:
    """A message of a rollout, on its way into a stream."""

    delta: str
    message: ConversationMessage
    images: Sequence[Image.Image]


@dataclass(slots=True)
class _Sender:
    """The way to the client, and how far the response has come."""

    send: Send
    status: int | None = None
    """HTTP status that was sent; None before the response."""

    async def start_stream(self) -> None:
        self.status = 200
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})

    async def piece(self, body: bytes, *, more: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more})


class Exchange(Response):
    """A response that reads its own request, so that one coroutine holds everything that has to be given back."""

    def __init__(self, chat: Chat) -> None:
        super().__init__()
        self.chat, self.ident = chat, uuid.uuid4().hex

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request; every fault becomes an error in OpenAI's shape."""
        sender = _Sender(send)
        status = GONE
        try:
            with self.chat.admission.admit():
                body = await read_body(Request(scope, receive), self.chat.limits.body_bytes)
                await until_gone(receive, self._answer(body, sender))
            status = 200
        except ClientDisconnect:
            logger.info("request %s: the client went away", self.ident)
        except Exception as error:  # noqa: BLE001  a fault of ours, whatever it is, is answered like any other
            problem = _as_api_error(error, self.ident)
            status = problem.status
            with suppress(OSError):
                if sender.status is None:
                    await JSONResponse(problem.body, status, problem.headers)(scope, receive, send)
                else:
                    await sender.piece(sse(problem.body), more=False)
        finally:
            self.chat.metrics.ended(status)

    async def _answer(self, body: bytes, sender: _Sender) -> None:
        try:
            async with asyncio.timeout(self.chat.limits.timeout_s):
                request = await asyncio.to_thread(parse_chat_request, body)
                if request.model != self.chat.served.name:
                    raise ApiError(
                        404,
                        f"the model {request.model[:100]!r} isn't served here, but {self.chat.served.name!r} is",
                        param="model",
                        code="model_not_found",
                    )
                checked = await asyncio.to_thread(checked_prompt, request.messages, self.chat.limits.prompt)
                async with self.chat.admission.slot():
                    prompt = await asyncio.to_thread(decode, checked)
                    del body, checked
                    await self._played(request, prompt, sender)
        except TimeoutError:
            raise ApiError(
                504, f"no answer within {self.chat.limits.timeout_s:g} s", kind="server_error", code="timeout"
            ) from None

    async def _played(self, request: ChatRequest, prompt: Sequence[Mapping[str, Any]], sender: _Sender) -> None:
        kept = False
        try:
            await (self._stream if request.stream else self._whole)(request, prompt, sender)
            kept = True
        finally:
            if not kept:
                self.chat.trajectories.drop(self.ident)

    async def _whole(self, request: ChatRequest, prompt: Sequence[Mapping[str, Any]], sender: _Sender) -> None:
        thoughts: list[str] = []
        answer = await play(self.chat.served, request, prompt, self.ident, lambda delta, *_: thoughts.append(delta))
        await self._keep(request, answer)
        content = completion(
            self.ident,
            self.chat.served.name,
            content=answer.content,
            reasoning="".join([*thoughts, answer.rest]).strip(),
            finish=answer.finish,
            tokens=answer.tokens,
            own=answer.own,
        )
        response = JSONResponse(content)
        sender.status = 200
        await sender.send({"type": "http.response.start", "status": 200, "headers": response.raw_headers})
        await sender.piece(bytes(response.body), more=False)

    async def _stream(self, request: ChatRequest, prompt: Sequence[Mapping[str, Any]], sender: _Sender) -> None:
        queue: asyncio.Queue[_Shown | None] = asyncio.Queue()
        created = int(time.time())

        async def tell(**fields: Any) -> None:
            await sender.piece(sse(chunk(self.ident, self.chat.served.name, created, **fields)))

        await sender.start_stream()
        await tell(delta={"role": "assistant", "content": ""})
        events = request.codevision.events
        if events:
            shown = [part["image"] for message in prompt for part in message["content"] if part["type"] == "image"]
            await tell(delta={}, codevision={"type": "start", "images": await self._stored(shown)})
        playing = asyncio.ensure_future(
            play(self.chat.served, request, prompt, self.ident, lambda *each: queue.put_nowait(_Shown(*each)))
        )
        playing.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while True:
                try:
                    async with asyncio.timeout(QUIET_S):
                        item = await queue.get()
                except TimeoutError:
                    await sender.piece(b": still working\n\n")
                    continue
                if item is None:
                    break
                delta = {"reasoning_content": item.delta} if item.delta else {}
                own = {"codevision": await self._event(item)} if events else {}
                if delta or own:
                    await tell(delta=delta, **own)
            answer = await playing
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        await self._keep(request, answer)
        if answer.rest:
            await tell(delta={"reasoning_content": answer.rest})
        if answer.content:
            await tell(delta={"content": answer.content})
        await tell(delta={}, finish=answer.finish, codevision={"type": "end", **answer.own})
        if request.stream_options.include_usage:
            await tell(usage=answer.tokens.usage())
        await sender.piece(sse("[DONE]"), more=False)

    async def _event(self, item: _Shown) -> dict[str, Any]:
        """Returns what a page needs to show a message: a turn in its parts, or a tool result with its images."""
        if item.message.role == "tool":
            images = await self._stored(item.images, item.message.images)
            return {"type": "tool", "text": item.message.text, "images": images}
        parts = self.chat.served.dialect.parts(item.message.text)
        return {
            "type": "turn",
            "text": item.message.text,
            "parts": [{"kind": part.kind, "text": part.text, "note": part.note} for part in parts],
        }

    async def _stored(self, images: Sequence[Image.Image], indices: Sequence[int] = ()) -> list[dict[str, Any]]:
        """Stores images with the trajectory, and returns index, URL and size of each."""

        def store() -> list[str]:
            writer = self.chat.trajectories.open(self.ident)
            return [writer.image(image) for image in images]

        names = await to_end(store)
        return [
            {
                "index": index,
                "url": f"/trajectories/{self.ident}/images/{name}.png",
                "width": image.width,
                "height": image.height,
            }
            for index, name, image in zip(indices or range(len(images)), names, images, strict=True)
        ]

    async def _keep(self, request: ChatRequest, answer: ChatAnswer) -> None:
        """Stores the record of the answer before the client can ask for it."""

        def keep() -> None:
            writer = self.chat.trajectories.open(self.ident)
            record = record_of(self.chat.served, request, answer, self.ident)
            self.chat.trajectories.write(writer, with_images(record, answer.trajectory, writer))

        await to_end(keep)
        self.chat.metrics.answered(answer)


async def read_body(request: Request, most: int) -> bytes:
    """Returns the body of a request.

    A body that is too large is read over up to four times the limit, so that its sender gets the answer.

    Raises:
        ApiError: the body isn't JSON by its header, is too large, or doesn't arrive in time.
        ClientDisconnect: the client went away.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "the header Content-Type must be application/json")
    too_large = ApiError(413, f"the body of a request has at most {most:,} bytes", code="request_too_large")
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.stream():
                size += len(piece)
                if size <= most:
                    body += piece
                elif size > 4 * most:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, f"the body of the request didn't arrive within {BODY_S:g} s") from None
    if size > most:
        raise too_large
    return bytes(body)


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` and returns its result, but cancels it when the client goes away; the body was read before.

    Raises:
        ClientDisconnect: the client went away.
    """

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for each in (task, watcher):
            each.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def to_end(work: Callable[[], T]) -> T:
    """Runs a function on a thread; a caller that is cancelled waits for its end, so that it can clear up behind it."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _as_api_error(error: Exception, ident: str) -> ApiError:
    match error:
        case ApiError():
            return error
        case TooLongError():
            return too_long(first_line(error))
        case InputError():
            return bad_request(first_line(error))
        case InfraError():
            logger.error("request %s: %s", ident, error)
            part = "engine" if isinstance(error, EngineError) else "sandbox"
            return ApiError(502, f"the {part} failed; the server's log says why (request {ident})", kind="server_error")
        case _:
            logger.error("request %s failed", ident, exc_info=error)
            return ApiError(500, f"the server failed; its log says why (request {ident})", kind="server_error")
