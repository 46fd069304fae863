"""Runs a rollout with a model behind an OpenAI-compatible endpoint, in messages; its tokens are only counted.

A `Dialogue` is both policy and renderer of one rollout, so `rollout.run_rollout` runs it like any other. The tool is
described in the system message, and tool results are sent as user messages, in the words into which chat templates of
the Qwen-VL family turn tools and tool results. So the server needs no parser for tool calls.

In a dialect whose observations stand inside of the assistant's message, the server must be able to continue such a
message (`continue_final_message` of vLLM and SGLang), and its chat template must show images in it.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from PIL import Image

from codevision_ext.errors import TooLongError
from codevision_ext.io.chat_client import ChatClient, Reply
from codevision_ext.rollout.loop import Completion

MEDIA: Final = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""MIME type of each format of image files."""


class Dialogue:
    """One rollout as the endpoint sees it: `rollout.Policy` and `rollout.Renderer` at once.

    All token ids are `end_id`: only their number means something, which is the endpoint's count. Tool results have no
    ids, but their tokens, images included, count against the limit of a turn.
    `params` are fields of each request (`seed`, `temperature`), and `stop` the texts at which a turn ends.
    """

    end_id = 0

    def __init__(self, client: ChatClient, params: Mapping[str, Any], stop: Sequence[str] = ()) -> None:
        self._client, self._params = client, dict(params) | ({"stop": list(stop)} if stop else {})
        self._stop = stop
        self.messages: list[dict[str, Any]] = []
        self._prompt: list[int] = []
        self._urls: dict[int, str] = {}  # by id(image): the image history of the rollout keeps every image alive
        self._sampled = self._context = 0
        self._turn, self._turn_tokens = "", 0
        self._turn_over = True

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
        if self._turn_over:
            self._turn, self._turn_tokens, self._turn_over = "", 0, False
        inside = self.messages[-1]["role"] == "assistant"
        goes_on = {"add_generation_prompt": False, "continue_final_message": True} if inside else {}
        try:
            reply = await self._client.reply(self.messages, max_tokens=room, **self._params, **goes_on)
        except TooLongError:
            if not self._prompt:
                raise
            self._turn, self._turn_tokens = "", 1
            return Completion(ids=[self.end_id], log_probs=[0.0], finished=False)
        if not self._prompt:
            self._prompt.extend([self.end_id] * reply.prompt_tokens)  # the token buffer holds this very list
        self._context = max(0, reply.prompt_tokens - len(self._prompt) - self._sampled)
        sampled = min(reply.tokens, max_tokens)
        self._sampled += sampled
        text, stopped = self._up_to_stop(reply)
        self._turn += text
        self._turn_tokens += sampled
        if inside:
            self._append(_text(text))
        else:
            self.messages.append({"role": "assistant", "content": text})
        return Completion(
            ids=[self.end_id] * sampled, log_probs=[0.0] * sampled, finished=reply.finished or stopped, stopped=stopped
        )

    def _up_to_stop(self, reply: Reply) -> tuple[str, bool]:
        """Return the text up to a stop text, which servers leave out, and whether it ends with one.

        Where the server doesn't say what ended the message, a message that ends inside of a tag ended with the stop
        text that closes the tag.
        """
        for stop in self._stop:
            before, found, _ = reply.text.partition(stop)
            if found:
                return before + stop, True
            whole = self._turn + reply.text
            is_open = reply.finished and whole.rfind(stop.replace("/", "")) > whole.rfind(stop)
            if reply.stop == stop or (reply.stop is None and is_open):
                return reply.text + stop, True
        return reply.text, False

    def _append(self, *parts: dict[str, Any]) -> None:
        """Append parts to the last message."""
        message = self.messages[-1]
        content = message["content"]
        before = [_text(content)] if isinstance(content, str) else list(content)
        message["content"] = [*before, *parts]

    def observation(self, role: str, text: str, resized: Sequence[Image.Image], *, closed: bool) -> list[int]:  # noqa: ARG002
        """Append an observation to the conversation; it has no ids."""
        self._turn_over = True
        urls = [self._urls[id(image)] for image in resized]
        self.messages.append(tool_message(text, urls) if role == "tool" else {"role": role, "content": text})
        return []

    def insertion(self, before: str, resized: Sequence[Image.Image], after: str = "") -> list[int]:
        """Append texts and images to the last message; they have no ids."""
        self._turn_over = True
        self._append(_text(before), *(_image(self._urls[id(image)]) for image in resized), _text(after))
        return []

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the last turn; empty for fewer ids than it has tokens."""
        return self._turn if len(ids) >= self._turn_tokens else ""


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
