"""Checks that tokenizer, chat template and model fit together, and that SFT, rollout and evaluation agree in tokens.

Nothing is imitated. The loop of training runs a conversation with fixed assistant turns in the real sandbox, and its
tokens are compared with those of SFT for the same conversation.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from PIL import Image

from codevision_ext.config import Settings, system_prompt, tool_schemas
from codevision_ext.errors import InputError
from codevision_ext.models.renderer import QwenRenderer
from codevision_ext.preflight.result import CheckResult, failure, ok, warning
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.base import Dialect
from codevision_ext.rollout.dialects.registry import DIALECTS
from codevision_ext.rollout.loop import Completion, Trajectory, run_rollout
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.task.row_checks import IMAGE_TAG
from codevision_ext.types import ToolCall

MARKS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""Marks that chat template, processor and renderer use as single tokens."""
CONFIG_MARKS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
"""Settings of config.json that are ids of marks."""
OWN_TEMPLATE = "start SFT from a checkpoint whose chat template is codevision_ext/prompts/chat_template.jinja"

_CALL = ToolCall(code="image = ImageOps.expand(image, border=1)", description="frame")


def made_up_replies(dialect: Dialect) -> tuple[str, str]:
    """Returns the assistant turns of a made-up conversation, with one call that returns an image."""
    call = dialect.call_text("\nIt needs a frame.\n", _CALL, first=True)
    return call, dialect.answer_text("\nIt can be read.\n", "7", first=dialect.frame(call) is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation to render; the tool's turns come from running the calls."""

    where: str
    """File and row."""
    messages: Sequence[Mapping[str, Any]]
    """Prompt with its system message; contents are lists of parts."""
    images: Sequence[Image.Image]
    """Images of the prompt, at full resolution."""
    replies: Sequence[str]
    """Assistant turns, in order."""
    observations: Sequence[str] | None = None
    """Observations of the tool in the data, in order and without `<image>`; None if the data has none."""


def special_tokens(
    renderer: QwenRenderer, config: Mapping[str, Any], generation: Mapping[str, Any]
) -> Iterator[CheckResult]:
    """Checks marks, end of turn and vocabulary size.

    Args:
        renderer: Renderer of the checkpoint.
        config: Content of the checkpoint's config.json.
        generation: Content of the checkpoint's generation_config.json.
    """
    check = "special tokens"
    tokenizer = renderer.tokenizer
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in MARKS}
    split = [mark for mark in MARKS if tokenizer(mark, add_special_tokens=False)["input_ids"] != [ids[mark]]]
    if split:
        remedy = "take tokenizer.json and tokenizer_config.json from the release of the model"
        yield failure(check, f"{', '.join(split)}: not a single token", remedy)
        return
    for name, mark in CONFIG_MARKS.items():
        if config.get(name, ids[mark]) != ids[mark]:
            message = f"config.json: {name} is {config[name]}, but {mark} is token {ids[mark]}"
            yield failure(check, message, f"set it to {ids[mark]}, or take config.json and tokenizer from one release")
    text = config.get("text_config") or config
    if len(tokenizer) > text["vocab_size"]:
        message = f"the tokenizer has {len(tokenizer)} tokens, but the model's embedding {text['vocab_size']} rows"
        yield failure(check, message, "take config.json and tokenizer from one release, or resize the embedding")
    tied = [part["tie_word_embeddings"] for part in (config, text) if "tie_word_embeddings" in part]
    if len(set(tied)) > 1:
        message = f"config.json: tie_word_embeddings is {tied[0]}, but {tied[1]} in text_config"
        yield failure(check, message, "set both to the value that the model was trained with")
    end = ids["<|im_end|>"]
    ends = generation.get("eos_token_id", text.get("eos_token_id"))
    ends = ends if isinstance(ends, list) else [ends]
    if end not in {*ends, tokenizer.eos_token_id}:
        message = f"no turn ends: <|im_end|> is token {end}, the tokenizer's eos_token is {tokenizer.eos_token!r}"
        remedy = f"add {end} to eos_token_id in generation_config.json"
        yield failure(check, f"{message}, generation_config.json has {ends}", remedy)
    elif end not in ends:
        message = f"generation_config.json: eos_token_id {ends} lacks {end}, which is <|im_end|>"
        yield warning(check, message, f"add {end}, or engines that don't ask the tokenizer generate past the turn")
    else:
        yield ok(check, f"all {len(MARKS)} marks are single tokens, <|im_end|> ends a turn, {len(tokenizer)} tokens")


def chat_template(renderer: QwenRenderer, settings: Settings) -> Iterator[CheckResult]:
    """Checks that the system block has tool schema and system message, and what precedes an assistant turn."""
    check = "chat template"
    user = {"role": "user", "content": [{"type": "text", "text": "?"}]}
    schemas = tool_schemas(settings)
    functions = [schema["function"] for schema in schemas]
    for with_tool in (True, False):
        words = [word for each in functions for word in (each["name"], *each["parameters"]["properties"]) if with_tool]
        system = system_prompt(settings, tools=with_tool)
        messages = [{"role": "system", "content": [{"type": "text", "text": system}]}] * bool(system) + [user]
        text = renderer.tokenizer.decode(renderer.prompt(messages, schemas if with_tool else [], ()))
        block, _, after = text.partition("<|im_end|>")
        missing = [word for word in words if f'"{word}"' not in block]
        if missing:
            message = f"the tool's schema isn't in the system block: {missing[0]!r} is missing"
            yield failure(check, message, OWN_TEMPLATE)
        if system and system not in block:
            mode = "with" if with_tool else "without"
            yield failure(check, f"{mode} the tool the system message isn't in the system block", OWN_TEMPLATE)
    prefix = after.rpartition("<|im_start|>assistant\n")[2].strip()
    if prefix != settings.think_prefix.strip():
        message = f"it begins a turn with {prefix!r}, but codevision.think_prefix is {settings.think_prefix!r}"
        remedy = f"set codevision.think_prefix: {prefix!r}"
        yield failure(check, f"{message}: no reply would have the right format", remedy)
    else:
        yield ok(check, f"it begins a turn with {prefix!r}, as codevision.think_prefix says")


def renderings(
    conversation: Conversation,
    tool: CodeTool,
    *,
    rollout: QwenRenderer,
    checkpoint: QwenRenderer,
    settings: Settings | None = None,
) -> tuple[list[CheckResult], Trajectory | None]:
    """Compares the tokens of a training rollout with those of an evaluation, of SFT and of the whole chat template.

    Args:
        conversation: Conversation to render.
        tool: Tool that runs the calls, in a sandbox that has started.
        rollout: Renderer of training, with the recipe's own template where it sets one.
        checkpoint: Renderer of SFT and of evaluation, with the checkpoint's own template.
        settings: Settings of the rollouts, with the tool's schema and coordinates; None: the package's own.

    Returns:
        The results, and the rollout of training; None instead of the rollout where it can't be rendered.

    Raises:
        SandboxError: the sandbox broke.
    """
    check, where, settings = "rendering", conversation.where, settings or Settings()
    try:
        trajectory = _replay(conversation, tool, rollout, settings)
    except (InputError, TemplateError, ValueError) as error:
        return [failure(check, f"{where}: a rollout can't be rendered: {error}", OWN_TEMPLATE)], None
    results: list[CheckResult] = []
    observations = [message.text for message in trajectory.messages if message.role == "tool"]
    if not trajectory.new_images:
        observation = observations[0] if observations else "the tool wasn't called"
        results.append(
            warning(check, f"{where}: no call returned an image: {observation}", "check the calls of the SFT rows")
        )
    for stored, current in zip(conversation.observations or (), observations, strict=False):
        if stored != current:
            message = f"{where}: the tool's observation is {stored!r} in the data, but {current!r} now"
            remedy = "make the SFT data with the tool and the tool config of this recipe"
            results.append(warning(check, message, remedy))
            break
    renderers: dict[str, Callable[[], list[int]]] = {
        "an evaluation": lambda: _replay(conversation, tool, checkpoint, settings).token_buffer.ids,
        "SFT": lambda: _sft_tokens(conversation, trajectory, checkpoint, settings),
        "the chat template as a whole": lambda: _template_tokens(conversation, trajectory, checkpoint, settings),
    }
    if any(map(DIALECTS[settings.dialect].frame, conversation.replies)):
        del renderers["the chat template as a whole"]  # it has no place for an observation inside of a message
    for name, render in renderers.items():
        try:
            difference = _difference(trajectory.token_buffer.ids, render(), name, rollout)
        except (InputError, TemplateError, ValueError) as error:
            difference = f"{name} can't render it: {error}"
        if difference:
            level = warning if name.startswith("the chat") else failure
            results.append(level(check, f"{where}: {difference}", OWN_TEMPLATE))
    if not results:
        count = len(trajectory.token_buffer.ids)
        *names, last = ("rollout", *(name.removeprefix("an ") for name in renderers))
        results.append(ok(check, f"{where}: the same {count} tokens in {', '.join(names)} and {last}"))
    return results, trajectory


def _replay(conversation: Conversation, tool: CodeTool, renderer: QwenRenderer, settings: Settings) -> Trajectory:
    """Runs the loop of training with a policy that samples the conversation's replies."""
    dialect = DIALECTS[settings.dialect]
    before = ["", *conversation.replies]
    replies = zip(before, conversation.replies, strict=False)

    async def policy(ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG001
        earlier, reply = next(replies)
        sampled = renderer.turn(reply, begins=not dialect.frame(earlier), ends=not dialect.frame(reply))
        return Completion(ids=sampled, log_probs=[0.0] * len(sampled), finished=True)

    turns = len(conversation.replies)
    limits = RolloutLimits(response_tokens=2**31, assistant_turns=turns, malformed_calls=turns)
    rollout = run_rollout(
        conversation.messages,
        conversation.images,
        policy=policy,
        renderer=renderer,
        tool=tool,
        limits=limits,
        coordinates=settings.coordinates,
        schemas=tool_schemas(settings),
        dialect=dialect,
        think_prefix=settings.think_prefix,
    )
    return asyncio.run(rollout)


def _whole(conversation: Conversation, trajectory: Trajectory) -> list[dict[str, Any]]:
    """Returns all messages of the conversation; contents are lists of parts."""
    replies = iter(conversation.replies)
    messages = [dict(message) for message in conversation.messages]
    for message in trajectory.messages:
        text = next(replies) if message.role == "assistant" else message.text
        parts = [{"type": "text", "text": text}] + [{"type": "image"} for _ in message.images]
        messages.append({"role": message.role, "content": parts})
    return messages


def _sft_tokens(
    conversation: Conversation, trajectory: Trajectory, renderer: QwenRenderer, settings: Settings
) -> list[int]:
    messages = [
        {"role": message["role"], "content": "".join(part.get("text", IMAGE_TAG) for part in message["content"])}
        for message in _whole(conversation, trajectory)
    ]
    return renderer.conversation(messages, tool_schemas(settings), trajectory.images).ids


def _template_tokens(
    conversation: Conversation, trajectory: Trajectory, renderer: QwenRenderer, settings: Settings
) -> list[int]:
    messages = _whole(conversation, trajectory)
    text = renderer.processor.apply_chat_template(messages, tools=tool_schemas(settings), tokenize=False)
    inputs = renderer.processor(text=[text], images=list(trajectory.resized) or None)
    return [int(token) for token in inputs["input_ids"][0]]


def _difference(ours: Sequence[int], theirs: Sequence[int], name: str, renderer: QwenRenderer) -> str:
    """Describes the first difference up to the end of the last turn; empty if there is none."""
    theirs = theirs[: len(theirs) - theirs[::-1].index(renderer.end_id)] if renderer.end_id in theirs else theirs
    if list(ours) == list(theirs):
        return ""
    at = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(ours), len(theirs)) if at is None else at
    same = renderer.tokenizer.decode(ours) == renderer.tokenizer.decode(theirs)
    kind = "tokenizes the same text differently" if same else "has another text"
    here, there = (renderer.tokenizer.decode(ids[max(0, at - 4) : at + 8]) for ids in (ours, theirs))
    return f"{name} {kind} from token {at} on: {there!r}, where a rollout has {here!r}"
