"""How does a model behind an endpoint see a task, and use the tool? As in an evaluation; its replies are remembered."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeVar

from PIL import Image

from codevision_ext.config import Settings, system_prompt
from codevision_ext.engines import endpoint as chat
from codevision_ext.engines.endpoint import Endpoint
from codevision_ext.rollout import loop as rollout
from codevision_ext.rollout.code_tool import CodeTool, tool_schema
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.scoring import answer_of
from codevision_ext.task.rows import read_prompt, split_prompt
from codevision_ext.types import Frame
from data_prep.formats.image_files import extension, png
from data_prep.formats.schema import IMAGE_TAG, Row, rl_record

T = TypeVar("T")
KINDS: Final = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
TURNS: Final = 12
"""Assistant turns of a dialogue at most, and"""
TOKENS: Final = 16_384
"""its tokens, as in training."""


class ModelClient:
    """A model behind `/chat/completions`, for threads: it runs in an event loop of its own.

    Args:
        endpoint: The model.
        cache: Folder of replies; None: nothing is kept.
        frame: What the model writes coordinates in, `original` or `relative`.

    Raises:
        InputError: The key's variable isn't set, or the cache can't be made.
    """

    def __init__(self, endpoint: Endpoint, cache: Path | None = None, frame: Frame = Frame.ORIGINAL) -> None:
        self.frame = frame
        self.model = chat.ChatEndpoint(endpoint, cache)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="chat", daemon=True)
        self._thread.start()

    @property
    def asked(self) -> int:
        """Requests that were sent; the others came from the cache."""
        return self.model.asked

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives, on the loop that the model belongs to."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End connections and thread; nobody may be asking."""
        self.wait(self.model.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reply(self, messages: Sequence[Mapping[str, Any]], seed: int) -> str:
        """What the model writes next; the same request with the same seed is sent once, if there is a cache.

        Raises:
            EngineError: No text came back, however often it was tried.
        """
        return self.wait(self.model.reply(messages, seed=seed)).text


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How a dialogue went."""

    answer: str | None
    calls: int
    failed: int
    """Calls that made no image."""


def play_row(with_model: ModelClient, row: Row, tool: CodeTool | None, seed: int, turns: int = TURNS) -> Played:
    """Ask the question, run the calls, until the model answers or has no turn left.

    Args:
        with_model: The model.
        row: The task; the model is told nothing but images and question.
        tool: None: the model isn't told of one.
        seed: Of the sampling.
        turns: Assistant turns at most.

    Raises:
        EngineError: The endpoint gave no reply.
        SandboxError: The sandbox is broken.
    """
    frame = with_model.frame
    messages, images = _asked(row, frame, with_tool=tool is not None)
    dialogue = chat.Dialogue(with_model.model, {"seed": seed})
    limits = RolloutLimits(response_tokens=TOKENS, assistant_turns=turns, malformed_calls=turns)
    played = rollout.run_rollout(
        messages, images, policy=dialogue, renderer=dialogue, tool=tool, limits=limits, frame=frame
    )
    made = with_model.wait(played)
    return Played(answer=answer_of(made), calls=len(made.calls), failed=len(made.calls) - len(made.new_images))


def row_messages(row: Row, frame: Frame, *, with_tool: bool) -> list[dict[str, Any]]:
    """System and user message of a task, as training words them."""
    messages, _ = _asked(row, frame, with_tool=with_tool)
    return chat.prompt_messages(messages, [tool_schema(frame)] if with_tool else [], list(map(_url, row.images)))


def question_text(row: Row) -> str:
    """What the user says, without tags."""
    return (row.question if row.prompt is None else row.prompt.replace(IMAGE_TAG, "")).strip()


def observation_message(text: str, image: Image.Image | None) -> dict[str, Any]:
    """A message with what the tool said and made."""
    return chat.tool_message(text, [] if image is None else [_url(png(image.convert("RGB")))])


def images_of(row: Row) -> list[Image.Image]:
    """The images of a task, as the tool gets them."""
    return _asked(row, Frame.ORIGINAL, with_tool=True)[1]


def _asked(row: Row, frame: Frame, *, with_tool: bool) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    prompt = read_prompt(rl_record(row), f"{row.source}, row {row.index}")
    return split_prompt(prompt, system_prompt(Settings(coordinates=frame), tools=with_tool))


def _url(data: bytes) -> str:
    return chat.data_url(data, KINDS[extension(data)])
