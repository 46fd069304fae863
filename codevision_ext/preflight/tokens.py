"""Do tokenizer, chat template and model fit together, and are SFT, rollout and evaluation the same tokens?

Nothing is imitated: the loop of training plays a conversation whose assistant turns are given, with the real sandbox,
and what it gathered is compared with what SFT would make of the same conversation.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from PIL import Image

from codevision_ext.config import Settings, system_prompt
from codevision_ext.errors import InputError
from codevision_ext.models.renderer import QwenRenderer
from codevision_ext.preflight.result import CheckResult, failure, ok, warning
from codevision_ext.rollout.code_tool import TOOL_SCHEMA, CodeTool, tool_schema
from codevision_ext.rollout.loop import Completion, Trajectory, run_rollout
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.types import CoordinateSystem

MARKS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""What chat template, processor and renderer take for single tokens."""
CONFIG_MARKS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
"""Settings of config.json that are ids of marks."""
OWN_TEMPLATE = "start SFT from a checkpoint whose chat template is codevision_ext/prompts/chat_template.jinja"

_CALL = {
    "name": TOOL_SCHEMA["function"]["name"],
    "arguments": {"code": "image = ImageOps.expand(image, border=1)", "description": "frame", "image_index": 0},
}
REPLIES = (
    f"<think>\nIt needs a frame.\n</think>\n\n<tool_call>\n{json.dumps(_CALL)}\n</tool_call>",
    "<think>\nIt can be read.\n</think>\n\n<answer>7</answer>",
)
"""The assistant's turns of a conversation that is made up, with one call that makes an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation to render, as far as it is given: the tool's turns are what the tool says."""

    where: str
    """File and row."""
    messages: Sequence[Mapping[str, Any]]
    """The prompt with its system message; contents are parts."""
    images: Sequence[Image.Image]
    replies: Sequence[str]
    """The assistant's turns."""
    told: Sequence[str] | None = None
    """The tool's turns as the data has them, without `<image>`; None: the data has none."""


def special_tokens(
    renderer: QwenRenderer, config: Mapping[str, Any], generation: Mapping[str, Any]
) -> Iterator[CheckResult]:
    """Marks, end of turn, size of the vocabulary; `config` and `generation` are the checkpoint's JSON files."""
    check = "special tokens"
    tokenizer = renderer.tokenizer
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in MARKS}
    split = [mark for mark in MARKS if tokenizer(mark, add_special_tokens=False)["input_ids"] != [ids[mark]]]
    if split:
        remedy = "take tokenizer.json and tokenizer_config.json of the model's own release"
        yield failure(check, f"{', '.join(split)}: not a single token", remedy)
        return
    for name, mark in CONFIG_MARKS.items():
        if config.get(name, ids[mark]) != ids[mark]:
            said = f"config.json: {name} is {config[name]}, but {mark} is token {ids[mark]}"
            yield failure(check, said, f"set it to {ids[mark]}, or take config.json and tokenizer of one release")
    text = config.get("text_config") or config
    if len(tokenizer) > text["vocab_size"]:
        said = f"the tokenizer has {len(tokenizer)} tokens, the model's embedding {text['vocab_size']} rows"
        yield failure(check, said, "take config.json and tokenizer of one release, or resize the embedding")
    tied = [part["tie_word_embeddings"] for part in (config, text) if "tie_word_embeddings" in part]
    if len(set(tied)) > 1:
        said = f"config.json: tie_word_embeddings is {tied[0]}, that of text_config is {tied[1]}"
        yield failure(check, said, "set both to what the model was trained with")
    end = ids["<|im_end|>"]
    ends = generation.get("eos_token_id", text.get("eos_token_id"))
    ends = ends if isinstance(ends, list) else [ends]
    if end not in {*ends, tokenizer.eos_token_id}:
        said = f"nothing ends a turn: <|im_end|> is {end}, the tokenizer's eos is {tokenizer.eos_token!r}"
        yield failure(check, f"{said}, generation_config.json's {ends}", f"add {end} to its eos_token_id")
    elif end not in ends:
        said = f"generation_config.json: eos_token_id {ends} lacks <|im_end|>, {end}"
        yield warning(check, said, f"add {end}: engines that don't ask the tokenizer generate past the turn's end")
    else:
        yield ok(check, f"all {len(MARKS)} marks are single tokens, <|im_end|> ends a turn, {len(tokenizer)} tokens")


def chat_template(renderer: QwenRenderer, settings: Settings) -> Iterator[CheckResult]:
    """Tool schema and system message in the system block, and what the template writes before an assistant's turn."""
    check = "chat template"
    user = {"role": "user", "content": [{"type": "text", "text": "?"}]}
    schema = tool_schema(settings.coordinates)
    function = schema["function"]
    for tools in (True, False):
        words = [function["name"], *function["parameters"]["properties"]] if tools else []
        system = system_prompt(settings, tools=tools)
        messages = [{"role": "system", "content": [{"type": "text", "text": system}]}] * bool(system) + [user]
        text = renderer.tokenizer.decode(renderer.prompt(messages, [schema] if tools else [], ()))
        block, _, after = text.partition("<|im_end|>")
        lost = [word for word in words if f'"{word}"' not in block]
        if lost:
            yield failure(check, f"the tool's schema isn't in the system block: {lost[0]!r} is missing", OWN_TEMPLATE)
        if system and system not in block:
            mode = "with" if tools else "without"
            yield failure(check, f"{mode} the tool the system message isn't in the system block", OWN_TEMPLATE)
    prefix = after.rpartition("<|im_start|>assistant\n")[2].strip()
    if prefix != settings.think_prefix.strip():
        said = f"it begins a turn with {prefix!r}, codevision.think_prefix is {settings.think_prefix!r}"
        yield failure(
            check, f"{said}: no reply would have the right format", f"set codevision.think_prefix: {prefix!r}"
        )
    else:
        yield ok(check, f"it begins a turn with {prefix!r}, as codevision.think_prefix says")


def renderings(
    talk: Conversation,
    tool: CodeTool,
    *,
    rollout: QwenRenderer,
    checkpoint: QwenRenderer,
    coordinates: CoordinateSystem = CoordinateSystem.ORIGINAL,
) -> tuple[list[CheckResult], Trajectory | None]:
    """One conversation by the loop of training and of evaluation, by the SFT data set, and by the template as a whole.

    Args:
        talk: What is said.
        tool: Runs the calls, in a sandbox that has started.
        rollout: The renderer of training, with the recipe's own template where it sets one.
        checkpoint: The renderer of SFT and of evaluation, with the checkpoint's own template.
        coordinates: The coordinates that the policy writes.

    Returns:
        What was found, and what the loop of training gathered; None where it can't render the conversation.

    Raises:
        SandboxError: the sandbox broke.
    """
    try:
        played = _play(talk, tool, rollout, coordinates)
    except (InputError, TemplateError, ValueError) as error:
        return [failure("rendering", f"{talk.where}: a rollout can't be rendered: {error}", OWN_TEMPLATE)], None
    found: list[CheckResult] = []
    if not played.new_images:
        said = next((message.text for message in played.messages if message.role == "tool"), "the tool wasn't called")
        found.append(
            warning("rendering", f"{talk.where}: no call made an image: {said}", "see what the tool says to it")
        )
    words = [message.text for message in played.messages if message.role == "tool"]
    differing = [pair for pair in zip(talk.told or (), words, strict=False) if pair[0] != pair[1]]
    if differing:
        said = f"{talk.where}: the tool said {differing[0][0]!r} in the data, it now says {differing[0][1]!r}"
        remedy = "make the SFT data with the tool and the tool config of this recipe"
        found.append(warning("rendering", said, remedy))
    ways: dict[str, Callable[[], list[int]]] = {
        "an evaluation": lambda: _play(talk, tool, checkpoint, coordinates).token_buffer.ids,
        "SFT": lambda: _as_sft(talk, played, checkpoint, coordinates),
        "the chat template as a whole": lambda: _as_whole(talk, played, checkpoint, coordinates),
    }
    for name, render in ways.items():
        try:
            said = _difference(played.token_buffer.ids, render(), name, rollout)
        except (InputError, TemplateError, ValueError) as error:
            said = f"{name} can't render it: {error}"
        if said:
            level = warning if name.startswith("the chat") else failure
            found.append(level("rendering", f"{talk.where}: {said}", OWN_TEMPLATE))
    if not found:
        count = len(played.token_buffer.ids)
        found.append(ok("rendering", f"{talk.where}: {count} tokens alike in rollout, evaluation, SFT and as a whole"))
    return found, played


def _play(talk: Conversation, tool: CodeTool, renderer: QwenRenderer, coordinates: CoordinateSystem) -> Trajectory:
    """The loop of training with a policy that says what it is told to say."""
    replies = iter(talk.replies)

    async def policy(ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG001
        sampled = renderer.turn(next(replies))
        return Completion(ids=sampled, log_probs=[0.0] * len(sampled), finished=True)

    turns = len(talk.replies)
    limits = RolloutLimits(response_tokens=2**31, assistant_turns=turns, malformed_calls=turns)
    return asyncio.run(
        run_rollout(
            talk.messages,
            talk.images,
            policy=policy,
            renderer=renderer,
            tool=tool,
            limits=limits,
            coordinates=coordinates,
        )
    )


def _turns(talk: Conversation, played: Trajectory) -> list[dict[str, Any]]:
    """The whole conversation; contents are parts."""
    replies = iter(talk.replies)
    turns = [dict(message) for message in talk.messages]
    for message in played.messages:
        text = next(replies) if message.role == "assistant" else message.text
        parts = [{"type": "text", "text": text}] + [{"type": "image"} for _ in message.images]
        turns.append({"role": message.role, "content": parts})
    return turns


def _as_sft(talk: Conversation, played: Trajectory, renderer: QwenRenderer, coordinates: CoordinateSystem) -> list[int]:
    messages = [
        {"role": turn["role"], "content": "".join(part.get("text", "<image>") for part in turn["content"])}
        for turn in _turns(talk, played)
    ]
    return renderer.conversation(messages, [tool_schema(coordinates)], played.images).ids


def _as_whole(
    talk: Conversation, played: Trajectory, renderer: QwenRenderer, coordinates: CoordinateSystem
) -> list[int]:
    text = renderer.processor.apply_chat_template(
        _turns(talk, played), tools=[tool_schema(coordinates)], tokenize=False
    )
    inputs = renderer.processor(text=[text], images=list(played.resized) or None)
    return [int(token) for token in inputs["input_ids"][0]]


def _difference(ours: Sequence[int], theirs: Sequence[int], name: str, renderer: QwenRenderer) -> str:
    """Where `theirs` leaves `ours`, up to the end of the last turn; empty where they are alike."""
    theirs = theirs[: len(theirs) - theirs[::-1].index(renderer.end_id)] if renderer.end_id in theirs else theirs
    if list(ours) == list(theirs):
        return ""
    at = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(ours), len(theirs)) if at is None else at
    same = renderer.tokenizer.decode(ours) == renderer.tokenizer.decode(theirs)
    kind = "tokenizes the same text differently" if same else "has another text"
    here, there = (renderer.tokenizer.decode(ids[max(0, at - 4) : at + 8]) for ids in (ours, theirs))
    return f"{name} {kind} from token {at} on: {there!r}, where a rollout has {here!r}"
