"""In the dialect `code_tags`, too, SFT and rollout have the same tokens, and loss on what the policy samples.

The loop, the renderer and the sandbox are the real ones; the engine samples fixed turns. The tokenizer merges letters
across the ends of the tags, as those of the published models do.
"""

import asyncio
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.registry import CODE_TAGS
from codevision_ext.rollout.loop import Completion, Trajectory, run_rollout, with_question_end
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.sandbox import Limits, Sandbox
from codevision_ext.types import EndReason, ToolCall
from data_prep.formats.schema import Demonstration, Message
from data_prep.formats.sharegpt import from_sharegpt, to_sharegpt

pytestmark = pytest.mark.filterwarnings("ignore")  # verl and transformers warn at import, by the dozen

PLAIN = (Path(__file__).parents[2] / "codevision_ext" / "prompts" / "chat_template.jinja").read_text()
OPENING = "<|im_start|>assistant\\n' -}}{%- endif -%}"
TEMPLATES = {"plain": PLAIN, "thinking": PLAIN.replace(OPENING, OPENING.replace("\\n' -}}", "\\n<think>\\n' -}}"))}
"""The package's template, and one that opens every message, as those of thinking models do."""


def call(code: str, *, first: bool, thought: str = "I mark it.") -> str:
    return CODE_TAGS.call_text(thought, ToolCall(code=code), first=first)


TURN, FAIL = "image = image.rotate(90, expand=True)", "print('no')\n1 / 0"
ANSWER = "Now I see.</think>\n<answer>7</answer>"
REPLIES = {
    "an answer": [f"<think>{ANSWER}"],
    "an image": [call(TURN, first=True), ANSWER],
    "two images": [call(TURN, first=True), call("image = ImageOps.flip(image)", first=False), ANSWER],
    "an error": [call(FAIL, first=True), call(TURN, first=False), ANSWER],
    "an empty block": ["<think>a <code>\n</code>", ANSWER],
    "an open block": ["<think>a\n<code>\n```python\nx = 1\n", f"<think>So. {ANSWER}"],
    "an answer in the thought": [call(TURN, first=True), "it is <answer>7</answer>", f"<think>So. {ANSWER}"],
    "white space": [call(TURN, first=True) + "\n", "\n\n" + ANSWER],
    "no fence": [f"<think>\nodd  \n\n<code>{TURN}</code>", f" \n{ANSWER}"],
    "quotes": [f"<think>a<code>'''python\n{TURN}\nprint('</code>')\n'''</code>", ANSWER],
}


@pytest.fixture(scope="module")
def tool() -> Iterator[CodeTool]:
    with Sandbox(Limits(wall_s=30.0), live=1) as sandbox:
        yield CodeTool(sandbox)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_cpu_if_no_cuda()
        from codevision_ext.models import tiny_model  # noqa: PLC0415  # after the device is settled
    out: Path = tmp_path_factory.mktemp(request.param) / "model"
    sizes = {"hidden": 32, "layers": 1, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 700}
    whole = "<sandbox_output></sandbox_output>".join(turn for turns in REPLIES.values() for turn in turns)
    tiny_model.build(request.param, out, texts=[*tiny_model.tokenizer_texts(), *[whole] * 200], **sizes)
    return out


@pytest.fixture(scope="module", params=list(TEMPLATES))
def renderer(checkpoint: Path, request: pytest.FixtureRequest) -> Any:
    from verl.utils import hf_processor  # noqa: PLC0415

    from codevision_ext.models.renderer import QwenRenderer  # noqa: PLC0415

    processor = hf_processor(str(checkpoint))
    processor.chat_template = TEMPLATES[request.param]
    renderer = QwenRenderer(processor)
    assert renderer.turn_opening == ("<think>\n" if request.param == "thinking" else "")
    return renderer


class Engine:
    """Samples fixed turns, each with the token that ends a message only where its text isn't stopped at its code."""

    def __init__(self, renderer: Any, replies: Sequence[str], ids: Sequence[list[int]] = ()) -> None:
        before = ["", *replies]
        self.turns = list(ids) or [
            renderer.turn(reply, begins=not CODE_TAGS.frame(earlier), ends=not CODE_TAGS.frame(reply))
            for earlier, reply in zip(before, replies, strict=False)
        ]
        self.end_id = renderer.end_id

    async def __call__(self, ids: list[int], images: Sequence[Image.Image], max_tokens: int) -> Completion:  # noqa: ARG002
        turn = self.turns.pop(0)
        return Completion(ids=turn, log_probs=[-0.5] * len(turn), finished=True, stopped=turn[-1] != self.end_id)


def roll_out(renderer: Any, tool: CodeTool, engine: Engine) -> tuple[Trajectory, list[dict[str, Any]]]:
    """Runs one rollout about one image; returns it with its messages as SFT has them."""
    image = Image.frombytes("RGB", (45, 61), Random(0).randbytes(3 * 45 * 61))
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which number is it?"}]}]
    limits = RolloutLimits(response_tokens=10_000, assistant_turns=9, malformed_calls=9)
    rollout = run_rollout(
        prompt,
        [image],
        policy=engine,
        renderer=renderer,
        tool=tool,
        limits=limits,
        dialect=CODE_TAGS,
        think_prefix=renderer.turn_opening,
    )
    trajectory = asyncio.run(rollout)
    [asked] = with_question_end(prompt, CODE_TAGS)
    messages = [{"role": "user", "content": "".join(part.get("text", "<image>") for part in asked["content"])}]
    for message in trajectory.messages:
        begins = message.role == "assistant" and not CODE_TAGS.frame(_last_turn(messages))
        text = renderer.turn_opening * begins + message.text + "<image>" * len(message.images)
        messages.append({"role": message.role, "content": text})
    return trajectory, messages


def _last_turn(messages: Sequence[dict[str, Any]]) -> str:
    return next((turn["content"] for turn in reversed(messages) if turn["role"] == "assistant"), "")


def check_same(renderer: Any, trajectory: Trajectory, messages: list[dict[str, Any]]) -> None:
    encoded = renderer.conversation(messages, [], trajectory.images)
    token_buffer = trajectory.token_buffer
    count = len(token_buffer.ids)
    assert renderer.tokenizer.decode(encoded.ids[:count]) == renderer.tokenizer.decode(token_buffer.ids)
    assert encoded.ids[:count] == token_buffer.ids
    assert encoded.mask[:count] == [0] * len(token_buffer.prompt_ids) + token_buffer.response_mask
    assert renderer.tokenizer.decode(encoded.ids[count:]) in ("", "\n")
    assert not any(encoded.mask[count:])


@pytest.mark.parametrize("replies", REPLIES.values(), ids=REPLIES)
def test_fine_tuning_on_a_rollout_sees_its_tokens_and_the_same_ones_have_loss(
    renderer: Any, tool: CodeTool, replies: list[str]
) -> None:
    trajectory, messages = roll_out(renderer, tool, Engine(renderer, replies))
    assert trajectory.end_reason is EndReason.ANSWER
    opened = renderer.turn_opening
    assert [reply.removeprefix("<think>").strip() for reply in trajectory.replies] == [
        reply.removeprefix("<think>").removeprefix(opened).strip() for reply in replies
    ]
    check_same(renderer, trajectory, messages)


def test_the_whole_rollout_is_one_message_with_outputs_that_have_no_loss(renderer: Any, tool: CodeTool) -> None:
    replies = REPLIES["two images"]
    trajectory, _ = roll_out(renderer, tool, Engine(renderer, replies))
    token_buffer = trajectory.token_buffer
    text = renderer.tokenizer.decode(renderer.collapse_image_tokens(token_buffer.response_ids))
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    output = f"<sandbox_output>{image}</sandbox_output>"
    assert text.removeprefix("<think>") == output.join(replies).removeprefix("<think>") + "<|im_end|>"
    context = [
        token for token, own in zip(token_buffer.response_ids, token_buffer.response_mask, strict=True) if not own
    ]
    assert renderer.tokenizer.decode(renderer.collapse_image_tokens(context)) == output * 2
    assert len(trajectory.resized) == 3


def test_a_message_of_published_form_has_the_tokens_of_its_rollout(renderer: Any, tool: CodeTool) -> None:
    trajectory, messages = roll_out(renderer, tool, Engine(renderer, REPLIES["an error"]))
    demonstration = Demonstration(
        messages=tuple(Message(role=turn["role"], content=turn["content"]) for turn in messages),
        images=(b"",) * len(trajectory.images),
        sample_type="single-tool",
    )
    item = json.loads(json.dumps(to_sharegpt(demonstration, ["a.png"] * len(trajectory.images))))
    assert [turn["from"] for turn in item["conversations"]] == ["human", "gpt"]
    back = from_sharegpt(item, demonstration.images)
    assert back.messages == demonstration.messages
    check_same(renderer, trajectory, [{"role": each.role, "content": each.content} for each in back.messages])


def test_an_engine_that_samples_beyond_the_code_leaves_the_same_tokens(renderer: Any, tool: CodeTool) -> None:
    replies = REPLIES["an image"]
    own, _ = roll_out(renderer, tool, Engine(renderer, replies))
    engine = Engine(renderer, replies)
    beyond = renderer.turn("\n<sandbox_output>a dream</sandbox_output></think><answer>9</answer>", begins=False)
    plain = engine.turns[0] + beyond
    engine.turns[0] = plain
    cut, messages = roll_out(renderer, tool, engine)
    assert cut.token_buffer.response_ids == own.token_buffer.response_ids
    assert cut.token_buffer.response_mask == own.token_buffer.response_mask
    check_same(renderer, cut, messages)


@pytest.mark.parametrize("behind", ["<sandbox_output>", "\n", "\n\nso", "></think>", " x"])
def test_a_last_token_that_reaches_beyond_the_code_leaves_the_tokens_of_fine_tuning(
    renderer: Any, tool: CodeTool, behind: str
) -> None:
    first = call(TURN, first=True)
    whole = renderer.turn(first + behind, ends=False)
    count = next(
        n for n in range(1, len(whole) + 1) if first.removeprefix("<think>") in "<think>" + renderer.decode(whole[:n])
    )
    trajectory, messages = roll_out(
        renderer, tool, Engine(renderer, (), [whole[:count], renderer.turn(ANSWER, begins=False)])
    )
    assert trajectory.end_reason is EndReason.ANSWER
    encoded = renderer.conversation(messages, [], trajectory.images)
    assert encoded.ids[: len(trajectory.token_buffer.ids)] == trajectory.token_buffer.ids
    masks = zip(
        encoded.mask,
        [0] * len(trajectory.token_buffer.prompt_ids) + trajectory.token_buffer.response_mask,
        strict=False,
    )
    assert sum(a != b for a, b in masks) <= 1, "the end of a token that wasn't sampled has no loss in the rollout"


thoughts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=20).filter(
    lambda text: "<" not in text
)
codes = st.lists(
    st.sampled_from([TURN, "print('</code>')", "# it's </code>", "x = 'é'", "", "if 1:\n    y = 2"]), min_size=1
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(thoughts, codes), max_size=3), thoughts, st.sampled_from(["7", "é\n", " "]))
def test_any_demonstration_has_the_tokens_of_its_rollout(
    renderer: Any, tool: CodeTool, steps: list[tuple[str, list[str]]], thought: str, answer: str
) -> None:
    replies = [
        call("\n".join([*lines, TURN]), first=not at, thought=before) for at, (before, lines) in enumerate(steps)
    ] + [CODE_TAGS.answer_text(thought, answer, first=not steps)]
    trajectory, messages = roll_out(renderer, tool, Engine(renderer, replies))
    assert len(trajectory.steps) == len(steps)
    check_same(renderer, trajectory, messages)


def test_doctor_compares_rollout_evaluation_and_fine_tuning(renderer: Any, tool: CodeTool) -> None:
    from codevision_ext.config import Settings  # noqa: PLC0415  # after the device is settled
    from codevision_ext.preflight import tokens  # noqa: PLC0415

    own = Settings(dialect="code_tags", think_prefix=renderer.turn_opening)
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which number is it?"}]}]
    conversation = tokens.Conversation(
        where="rows.parquet, row 0",
        messages=with_question_end(asked, CODE_TAGS),
        images=[Image.new("RGB", (45, 61), "red")],
        replies=tokens.made_up_replies(CODE_TAGS),
    )
    results, trajectory = tokens.renderings(conversation, tool, rollout=renderer, checkpoint=renderer, settings=own)
    assert [result.level for result in results] == ["ok"], results
    assert "tokens in rollout, evaluation and SFT" in results[0].message
    assert trajectory is not None
    assert len(trajectory.new_images) == 1
    assert [result.level for result in tokens.chat_template(renderer, own)] == ["ok"]
    bare = tokens.Conversation(
        where="sft.parquet, row 0", messages=asked, images=conversation.images, replies=conversation.replies
    )
    results, _ = tokens.renderings(bare, tool, rollout=renderer, checkpoint=renderer, settings=own)
    assert "SFT has another text" in results[0].message, "its question lacks the line with image_path"
