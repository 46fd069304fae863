"""Runs a rollout with a model behind an OpenAI-compatible endpoint, in messages; its tokens are only counted.

A `Dialogue` is both policy and renderer of one rollout, so `rollout.run_rollout` runs it like any other. The tool is
described in the system message, and tool results are sent as user messages, in the words into which chat templates of
the Qwen-VL family turn tools and tool results. So the server needs no parser for tool calls.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from PIL import Image

from codevision_ext.io.chat_client import ChatClient, TooLongError
from codevision_ext.rollout.loop import Completion

MEDIA: Final = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""MIME type of each format of image files."""


class Dialogue:
    """One rollout as the endpoint sees it: `rollout.Policy` and `rollout.Renderer` at once.

    All token ids are `end_id`: only their number means something, which is the endpoint's count. Tool results have no
    ids, but their tokens, images included, count against the limit of a turn.
    `params` are fields of each request (`seed`, `temperature`).
    """

    end_id = 0

    def __init__(self, client: ChatClient, params: Mapping[str, Any]) -> None:
        self._client, self._params = client, params
        self.messages: list[dict[str, Any]] = []
        self._prompt: list[int] = []
        self._urls: dict[int, str] = {}  # by id(image): the image history of the rollout keeps every image alive
        self._sampled = self._context = 0
        self._last_turn = ""

    def resize(self, image: Image.Image) -> Image.Image:
        """Return the image itself, which the server resizes; encode it here, on a thread."""
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "PNG", compress_level=1)
        self._urls[id(image)] = data_url(buffer.getvalue(), "PNG")
        return image

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[dict[str, Any]], resized: Sequence[Image.Image]
    ) -> list[int]:
        """Begin the conversation; the list of ids is filled when the first reply tells its length."""
        self.messages = prompt_messages(messages, tools, [self._urls[id(image)] for image in resized])
        return self._prompt

    async def __call__(self, ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG002
        """Return the next turn; where the conversation is longer than the model's context, an empty cut-off turn."""
        room = max(1, max_tokens - self._context)
        try:
            reply = await self._client.reply(self.messages, max_tokens=room, **self._params)
        except TooLongError:
            if not self._prompt:
                raise
            self._last_turn = ""
            return Completion(ids=[self.end_id], log_probs=[0.0], finished=False)
        if not self._prompt:
            self._prompt.extend([self.end_id] * reply.prompt_tokens)  # the token buffer holds this very list
        self._context = max(0, reply.prompt_tokens - len(self._prompt) - self._sampled)
        sampled = min(reply.tokens, max_tokens)
        self._sampled += sampled
        self._last_turn = reply.text
        self.messages.append({"role": "assistant", "content": reply.text})
        return Completion(ids=[self.end_id] * sampled, log_probs=[0.0] * sampled, finished=reply.finished)

    def observation(self, role: str, text: str, resized: Sequence[Image.Image], *, closed: bool) -> list[int]:  # noqa: ARG002
        """Append an observation to the conversation; it has no ids."""
        urls = [self._urls[id(image)] for image in resized]
        self.messages.append(tool_message(text, urls) if role == "tool" else {"role": role, "content": text})
        return []

    def decode(self, ids: Sequence[int]) -> str:  # noqa: ARG002
        """Return the text of the last turn."""
        return self._last_turn


def prompt_messages(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], images: Sequence[str]
) -> list[dict[str, Any]]:
    """Return messages for a chat template as an endpoint takes them.

    Images (URLs) stand inside the messages, descriptions of tools in the system message.
    """
    urls = iter(images)
    sent: list[dict[str, Any]] = []
    for message in messages:
        parts = [_image(next(urls)) if part["type"] == "image" else dict(part) for part in message["content"]]
        plain = all(part["type"] == "text" for part in parts)
        content = "".join(part["text"] for part in parts) if plain else parts
        sent.append({"role": message["role"], "content": content})
    if tools:
        descriptions = "".join(json.dumps(tool, ensure_ascii=False) + "\n" for tool in tools)
        if sent[0]["role"] != "system":
            sent.insert(0, {"role": "system", "content": ""})
        sent[0]["content"] += f"\n<tools>\n{descriptions}</tools>"
    return sent


def tool_message(text: str, images: Sequence[str]) -> dict[str, Any]:
    """Return a message with the text and the images (URLs) of a tool result."""
    opening, closing = f"<tool_response>\n{text}", "\n</tool_response>"
    if not images:
        return {"role": "user", "content": opening + closing}
    return {"role": "user", "content": [_text(opening), *map(_image, images), _text(closing)]}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def data_url(data: bytes, kind: str) -> str:
    """Return an image file of a format in MEDIA as a URL that contains it."""
    return f"data:{MEDIA[kind]};base64,{base64.b64encode(data).decode()}"
