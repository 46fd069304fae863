"""Shares judges within a process, one for each setting."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from codevision_ext.config import JudgeSettings
from codevision_ext.errors import EngineError, JudgeError

if TYPE_CHECKING:
    from codevision_ext.io.chat_client import Endpoint, Reply
    from codevision_ext.judge.client import BlockingJudge, Judge

BlockingChat = Callable[[Sequence[Mapping[str, Any]]], str]
"""Function from messages to the text of the reply, for threads; raises JudgeError."""

_JUDGES: Final[dict[str, "BlockingJudge"]] = {}
_CHATS: Final[dict[str, BlockingChat]] = {}
_OPENED: Final = ExitStack()
_JUDGES_LOCK: Final = Lock()


def open_judge(settings: JudgeSettings) -> "Judge":
    """Return a judge with these settings.

    Raises:
        InputError: the prompts or the cache's folder can't be used.
    """
    from codevision_ext.judge.client import Judge  # noqa: PLC0415  its libraries are slow to import

    return Judge(_endpoint(settings), cache=settings.cache, prompts=settings.prompts)


def _endpoint(settings: JudgeSettings) -> "Endpoint":
    from codevision_ext.io.chat_client import Endpoint  # noqa: PLC0415  its libraries are slow to import

    fields = settings.model_dump(exclude={"base_url", "cache", "prompts", "published_prompts"})
    return Endpoint(url=settings.base_url, **fields)


def shared_judge(settings: JudgeSettings) -> "BlockingJudge":
    """Return this process's judge with these settings; all threads share its connections and its concurrency."""
    from codevision_ext.judge.client import blocking_judge  # noqa: PLC0415  its libraries are slow to import

    key = settings.model_dump_json()
    with _JUDGES_LOCK:
        if key not in _JUDGES:
            _JUDGES[key] = _OPENED.enter_context(blocking_judge(open_judge(settings)))
        return _JUDGES[key]


def shared_chat(settings: JudgeSettings) -> BlockingChat:
    """Return a function that sends messages to this process's judge with these settings, as they are.

    A reply that was cut off is an error. With a cache, the same messages are sent once.
    """
    from codevision_ext.io.chat_client import ChatClient  # noqa: PLC0415  its libraries are slow to import

    key = settings.model_dump_json()
    with _JUDGES_LOCK:
        if key not in _CHATS:
            client = ChatClient(_endpoint(settings), settings.cache)
            portal = _OPENED.enter_context(client.in_thread())

            def send(messages: Sequence[Mapping[str, Any]]) -> str:
                try:
                    reply: Reply = portal.call(client.reply, messages)
                except EngineError as error:
                    raise JudgeError(f"the judge {error}") from error
                if not reply.finished:
                    raise JudgeError(f"the judge {settings.model} at {settings.base_url} was cut off")
                return reply.text

            _CHATS[key] = send
        return _CHATS[key]


def close_judges() -> None:
    """Close the shared judges of this process, while no thread waits for a verdict."""
    with _JUDGES_LOCK:
        _JUDGES.clear()
        _CHATS.clear()
        _OPENED.close()
