"""Asks the models of a run, keeps every reply in the store, and counts what the replies cost."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, Self
from zlib import crc32

from anyio.from_thread import BlockingPortal

from codevision_ext.engines.endpoint import data_url
from codevision_ext.errors import EngineError, InfraError, TooLongError
from codevision_ext.io.chat_client import ChatClient, NoTextError, estimated_tokens
from data_prep.evolve.backend import ReplyError, ReplyFault
from data_prep.evolve.endpoint.prompts import PromptText
from data_prep.evolve.endpoint.settings import ROLES, EndpointSettings, RoleName
from data_prep.evolve.endpoint.spending import Spending
from data_prep.evolve.store import ResultKey, ResultStore, content_hash

IMAGE_TOKENS: Final = 1_500
"""Tokens that are reserved for an image; no image of a run has more than 2,048 x 2,048 pixels."""


ROLE_OF: Final[Mapping[str, RoleName]] = {
    "generate": "generator",
    "perceive": "generator",
    "check_original": "checker",
    "check_overlay": "checker",
    "check_answer": "checker",
    "repair": "repairer",
    "solve": "solver",
    "expand": "expander",
}
"""Role that each stage asks."""
_HEAD: Final = 100
"""Maximum length of the first line of a kept reply, bytes."""
End = Literal["whole", "cut_off", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReply:
    """A reply as the store keeps it."""

    text: str
    end: End
    prompt_tokens: int
    tokens: int

    def pack(self) -> bytes:
        """Return the reply as bytes: a line with the numbers, then the text."""
        head = json.dumps([self.end, self.prompt_tokens, self.tokens])
        return f"{head}\n{self.text}".encode()

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Return the reply in bytes; bytes that end behind the first line give one without a text."""
        head, _, text = raw.partition(b"\n")
        end, prompt_tokens, tokens = json.loads(head)
        return cls(text=text.decode("utf-8", "replace"), end=end, prompt_tokens=prompt_tokens, tokens=tokens)


class Models:
    """The models of a run by role; `ask` may be called from any thread, and waits for the reply."""

    def __init__(
        self,
        settings: EndpointSettings,
        store: ResultStore,
        spending: Spending,
        clients: dict[RoleName, tuple[ChatClient, BlockingPortal]],
    ) -> None:
        self.settings, self.spending = settings, spending
        self._store, self._clients = store, clients

    def ask(self, stage: str, prompt: PromptText, *, content: str, seed: int, images: Sequence[bytes] = ()) -> str:
        """Return the text of a model's reply; one that the store has isn't asked for again.

        Args:
            stage: Name in ROLE_OF, part of the key.
            prompt: Text of the request.
            content: All that the reply depends on beside prompt and images, such as the number of a call.
            seed: Seed of the run.
            images: Image files, PNG.

        Raises:
            ReplyError: The reply was cut off, or the endpoint refused the request.
            LimitError: A limit of the run is reached.
            EngineError: No attempt gave a reply.
        """
        name = ROLE_OF[stage]
        role = self.settings.role(name)
        key = ResultKey(
            stage=stage,
            content=content_hash(prompt.message, content, *images),
            backend=f"{role.model} {role.max_tokens} {json.dumps(role.request, sort_keys=True)}",
            prompt=prompt.template,
            seed=seed,
        )
        stored = self._store.get(key)
        if stored is None:
            reply = self._send(name, prompt, images, crc32(key.digest) & 0x7FFFFFFF)
            try:
                self._store.put(key, reply.pack())
            except InfraError as error:  # further replies would be lost, too
                self.spending.stop(error)
                raise
        else:
            reply = KeptReply.unpack(stored)
        if reply.end == "cut_off":
            raise ReplyError(ReplyFault.CUT_OFF, f"{stage}: {role.model} ended at {role.max_tokens} tokens")
        if reply.end == "refused":
            raise ReplyError(ReplyFault.REFUSED, f"{stage}: {reply.text}")
        return reply.text

    def _send(self, name: RoleName, prompt: PromptText, images: Sequence[bytes], seed: int) -> KeptReply:
        role = self.settings.role(name)
        client, portal = self._clients[name]
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_url(image, "PNG")}} for image in images
        ]
        text: Any = [*parts, {"type": "text", "text": prompt.message}] if parts else prompt.message
        messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": text}]
        estimate = estimated_tokens(prompt.system, prompt.message) * 2 + IMAGE_TOKENS * len(images)
        end: End
        with self.spending.reserved(name, role, estimate) as paid:
            try:
                reply = portal.call(partial(client.reply, messages, max_tokens=role.max_tokens, seed=seed))
            except NoTextError as error:
                paid.prompt_tokens, paid.tokens = error.prompt_tokens, error.tokens
                text, end = str(error), "refused"
            except TooLongError as error:
                text, end = str(error), "refused"
            except EngineError as error:
                kept = f"{name}: {error}; the replies so far are kept: give the same command again"
                self.spending.stop(EngineError(kept))
                raise EngineError(kept) from error
            else:
                paid.prompt_tokens, paid.tokens = reply.prompt_tokens, reply.tokens
                text, end = reply.text, "whole" if reply.finished else "cut_off"
        return KeptReply(text=text, end=end, prompt_tokens=paid.prompt_tokens, tokens=paid.tokens)


@contextmanager
def open_models(settings: EndpointSettings, store: ResultStore) -> Iterator[Models]:
    """Yield the models of a run; leaving the block ends all requests.

    Raises:
        InputError: The environment variable of a key isn't set.
    """
    with ExitStack() as stack:
        clients: dict[RoleName, tuple[ChatClient, BlockingPortal]] = {}
        opened: dict[str, tuple[ChatClient, BlockingPortal]] = {}
        for name in ROLES:
            role = settings.role(name)
            place = role.model_dump_json()
            if place not in opened:
                client = ChatClient(role.endpoint)
                opened[place] = (client, stack.enter_context(client.in_thread()))
            clients[name] = opened[place]
        spending = Spending(settings)
        for stage, head in store.heads(list(ROLE_OF), _HEAD):
            reply, name = KeptReply.unpack(head), ROLE_OF[stage]
            spending.add(name, settings.role(name), reply.prompt_tokens, reply.tokens)
        yield Models(settings, store, spending, clients)
