"""Asks a model behind an endpoint the questions of rows, runs its tool calls, and caches its replies."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from anyio.from_thread import BlockingPortal
from PIL import Image

from codevision_ext.config import Settings, system_prompt, tool_schemas
from codevision_ext.engines import endpoint as chat
from codevision_ext.io.chat_client import ChatClient, Endpoint
from codevision_ext.rollout import loop as rollout
from codevision_ext.rollout.code_tool import CodeTool, tool_schema
from codevision_ext.rollout.dialects.registry import DIALECTS
from codevision_ext.rollout.image_history import size_in
from codevision_ext.rollout.token_buffer import PUBLISHED_LIMITS
from codevision_ext.scoring import answer_of, observe, score_drawing
from codevision_ext.task.answers import check_answer
from codevision_ext.task.coordinate_answers import share_right
from codevision_ext.task.rows import read_prompt, split_prompt
from codevision_ext.types import AnswerKind, CoordinateSystem
from data_prep.formats.image_files import extension, png
from data_prep.formats.schema import IMAGE_TAG, Row, rl_record

IMAGE_FORMATS: Final = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelClient:
    """Client of an endpoint for threads; each call waits for the event loop of `portal`."""

    client: ChatClient
    portal: BlockingPortal
    settings: Settings
    """Settings of prompts and rollouts, including those of the checkpoint; coordinates are `original` or `relative`."""

    @property
    def coordinates(self) -> CoordinateSystem:
        """Coordinate system that the model writes in."""
        return self.settings.coordinates

    @property
    def requests_sent(self) -> int:
        """Number of requests that the cache didn't answer."""
        return self.client.requests_sent

    def reply(self, messages: Sequence[Mapping[str, Any]], seed: int) -> str:
        """Return the model's next message; with a cache, equal requests with equal seeds are sent once.

        Raises:
            EngineError: No attempt returned a text.
        """
        return self.portal.call(partial(self.client.reply, messages, seed=seed)).text


@contextmanager
def open_model_client(
    endpoint: Endpoint, cache: Path | None = None, settings: Settings | None = None
) -> Iterator[ModelClient]:
    """Yield a client of the endpoint; leaving the block ends its requests.

    Args:
        endpoint: Address and settings of the model.
        cache: Folder for replies; None for no cache.
        settings: Settings of prompts and rollouts; None: the defaults.

    Raises:
        InputError: The environment variable of the key isn't set, or the cache folder can't be created.
    """
    client = ChatClient(endpoint, cache)
    with client.in_thread() as portal:
        yield ModelClient(client=client, portal=portal, settings=settings or Settings())


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Result of one rollout of the model."""

    answer: str | None
    """Final answer; None without an answer."""
    correct: bool | None
    """Whether the rules accept the answer, or the drawing that a row has in its place; None if no rule decides it."""
    calls: int


def attempt_row(model: ModelClient, row: Row, tool: CodeTool | None, seed: int) -> Attempt:
    """Run one rollout of the model.

    Args:
        model: Client of the model.
        row: Task, of which the model sees images and question.
        tool: Tool that the model may call; None for a prompt without a tool.
        seed: Seed of the sampling.

    Raises:
        EngineError: The endpoint gave no reply.
        SandboxError: The sandbox is broken.
    """
    settings = model.settings
    messages, images = _prompt_of(row, settings, with_tool=tool is not None)
    dialect = DIALECTS[settings.dialect]
    dialogue = chat.Dialogue(model.client, {"seed": seed}, dialect.stop)
    limits = replace(
        PUBLISHED_LIMITS,
        malformed_calls=PUBLISHED_LIMITS.assistant_turns,
        calls_per_turn=settings.calls_per_turn,
        force_answer=settings.force_answer,
    )
    run = partial(rollout.run_rollout, messages, images, policy=dialogue, renderer=dialogue, limits=limits)
    trajectory = model.portal.call(
        partial(
            run,
            tool=tool,
            coordinates=settings.coordinates,
            schemas=tool_schemas(settings),
            dialect=dialect,
            think_prefix=settings.think_prefix,
        )
    )
    answer = answer_of(trajectory)
    correct: bool | None
    if row.drawing is not None and not row.answers:
        correct = observe(trajectory, (), drawn=score_drawing(trajectory, row.drawing)).correct
    else:
        correct = is_right(row, answer, settings.coordinates)
    return Attempt(answer=answer, correct=correct, calls=len(trajectory.calls))


def is_right(row: Row, answer: str | None, coordinates: CoordinateSystem) -> bool | None:
    """Return whether an answer is right; None if no rule decides it.

    `coordinates`, `original` or `relative`, are those of places that the answer names.
    """
    if row.answer_kind is AnswerKind.COORDINATES:
        return share_right(answer, row.answers, row.size, size_in(coordinates, row.size, row.size)) == 1
    return check_answer(answer, row.answers)


def row_messages(row: Row, coordinates: CoordinateSystem, *, with_tool: bool) -> list[dict[str, Any]]:
    """Return the system message and the user message of a task, as in training."""
    messages, _ = _prompt_of(row, Settings(coordinates=coordinates), with_tool=with_tool)
    return chat.prompt_messages(messages, [tool_schema(coordinates)] if with_tool else [], list(map(_url, row.images)))


def question_text(row: Row) -> str:
    """Return the text of the user message, without image tags."""
    return (row.question if row.prompt is None else row.prompt.replace(IMAGE_TAG, "")).strip()


def observation_message(text: str, image: Image.Image | None) -> dict[str, Any]:
    """Return a message with the text and the image of an observation."""
    return chat.tool_message(text, [] if image is None else [_url(png(image.convert("RGB")))])


def images_of(row: Row) -> list[Image.Image]:
    """Return the images of a task as the tool gets them."""
    return _prompt_of(row, Settings(), with_tool=True)[1]


def _prompt_of(row: Row, settings: Settings, *, with_tool: bool) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    prompt = read_prompt(rl_record(row), f"{row.source}, row {row.index}")
    return split_prompt(prompt, system_prompt(settings, tools=with_tool))


def _url(data: bytes) -> str:
    return chat.data_url(data, IMAGE_FORMATS[extension(data)])
