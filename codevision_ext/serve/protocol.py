"""Reads requests of OpenAI's chat protocol, and writes its answers and errors.

A request can't change how an answer is found beyond temperature, seed, limits and the use of the tool. A field with
which OpenAI's API would answer otherwise is refused, unless it has the value that changes nothing.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from codevision_ext.errors import CodeVisionError, first_line, first_problem

MOST_MESSAGES: Final = 256
"""Maximum messages of a request."""
MOST_PARTS: Final = 256
"""Maximum texts and images of a message."""
NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("auto", "none"),
    "functions": ([],),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}
"""Values that change nothing, by the name of a field that is refused with any other value."""
UNUSED: Final = frozenset(
    {"metadata", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user"}
)
"""Fields that never change an answer; they are read over."""


class ApiError(CodeVisionError):
    """A request that isn't answered: HTTP status, sentence, and the other fields of OpenAI's errors."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Returns the error of a request that its sender has to change."""
    return ApiError(400, message, param=param, code=code)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(_Model):
    """A text of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(_Model):
    """Place of an image."""

    url: str
    """Image file as a data URL."""
    detail: Literal["auto", "low", "high"] | None = None
    """Resolution that the sender would like; the checkpoint's own bounds decide."""


class ImagePart(_Model):
    """An image of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


def _parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class ChatMessage(BaseModel):
    """A message of the conversation; fields that assistants' messages have beyond these are read over."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        list[Annotated[TextPart | ImagePart, Field(discriminator="type")]],
        BeforeValidator(_parts),
        Field(min_length=1, max_length=MOST_PARTS),
    ]
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None


class StreamOptions(_Model):
    """Options of a stream."""

    include_usage: bool = False
    """True: a last chunk tells the number of tokens."""


class OwnOptions(_Model):
    """Options of this server: the field `codevision` of a request."""

    tool: bool = True
    """False: the model is asked without the tool."""
    turns: Annotated[int, Field(ge=1)] | None = None
    """Maximum assistant turns; None, or more than the server's own limit: the server's limit."""
    events: bool = False
    """True: a stream tells turns, tool results and images as objects, beside the text."""


class ChatRequest(_Model):
    """A request for a chat completion."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    codevision: OwnOptions = OwnOptions()

    @property
    def most_tokens(self) -> int | None:
        """Maximum tokens of the response, tool results included; None: the server's limit."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def question(self) -> str:
        """Text of the last message."""
        return "\n".join(part.text for part in self.messages[-1].content if isinstance(part, TextPart))


def parse_chat_request(body: bytes) -> ChatRequest:
    """Reads the body of a request.

    Raises:
        ApiError: the body isn't JSON, or a field is missing, unknown, wrong or not supported; names the field.
    """
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise bad_request(f"the body isn't JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise bad_request("the body isn't a JSON object")
    fields = {name: value for name, value in content.items() if value is not None and name not in UNUSED}
    for name in NEUTRAL.keys() & fields.keys():
        value = fields.pop(name)
        if value not in NEUTRAL[name]:
            known = " or ".join(json.dumps(each) for each in NEUTRAL[name])
            raise bad_request(f"{name} isn't supported; leave it out, or give {known}", name, "unsupported_parameter")
    try:
        return ChatRequest.model_validate(fields)
    except ValidationError as error:
        name, problem = first_problem(error)
        raise bad_request(f"{name}: {problem}"[:500], name or None) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """Tokens of an answered request."""

    prompt: int
    sampled: int
    """Tokens that the model wrote, thoughts and calls included."""
    context: int
    """Tokens of tool results."""

    def usage(self) -> dict[str, Any]:
        """Returns OpenAI's `usage`; tool results are no part of it."""
        total = self.prompt + self.sampled
        return {"prompt_tokens": self.prompt, "completion_tokens": self.sampled, "total_tokens": total}


def completion(
    ident: str, model: str, *, content: str, reasoning: str, finish: str, tokens: TokenCounts, own: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a chat completion; `own` is the field `codevision`."""
    message = {"role": "assistant", "content": content, "reasoning_content": reasoning or None, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    head = {"id": f"chatcmpl-{ident}", "object": "chat.completion", "created": int(time.time()), "model": model}
    return head | {"choices": [choice], "usage": tokens.usage(), "codevision": dict(own)}


def chunk(ident: str, model: str, created: int, **fields: Any) -> dict[str, Any]:
    """Returns a chunk of a stream.

    `delta` and `finish` become its only choice, without them it has none; other fields stand beside the choices.
    """
    delta, finish = fields.pop("delta", None), fields.pop("finish", None)
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    head = {"id": f"chatcmpl-{ident}", "object": "chat.completion.chunk", "created": created, "model": model}
    return head | {"choices": choices} | fields


def sse(content: Mapping[str, Any] | str) -> bytes:
    """Returns an event of a stream (server-sent events)."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return f"data: {text}\n\n".encode()
