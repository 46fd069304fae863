"""Inside verl, our own fault gives an invalid rollout without loss, and too many of them stop the run."""

import asyncio
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from codevision_ext.config import Settings
from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.errors import InfraError, SandboxError
from codevision_ext.io.records import read_records
from codevision_ext.monitor.rollout_metrics import summarise_step
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.registry import CODE_TAGS
from codevision_ext.rollout.seeds import request_seed
from codevision_ext.sandbox import Sandbox
from codevision_ext.types import EndReason, ToolCall

pytestmark = pytest.mark.filterwarnings("ignore")  # verl and transformers warn at import, by the dozen

DEMO = Path(__file__).parents[2] / "recipe" / "demo"
CALL = '<think>t</think><tool_call>{"name": "code_image_tool", "arguments": {"code": "image = 1"}}</tool_call>'
ANSWER = "<think>t</think><answer>7</answer>"
ROW = {
    "raw_prompt": [
        {"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (56, 28))}]},
    ],
    "uid": "u",
    "index": 0,
    "global_steps": 5,
    "data_source": "glyphs",
    "reward_model": {"ground_truth": ["7"]},
    "extra_info": {"index": 0, "transform": ["rotate_90"]},
}
Generate = Callable[..., Any]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Plays one rollout with verl's own objects around it and an engine that is a function."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_cpu_if_no_cuda()
        from omegaconf import open_dict  # noqa: PLC0415
        from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap  # noqa: PLC0415
        from verl.utils import hf_processor  # noqa: PLC0415

        from codevision_ext.models import tiny_model  # noqa: PLC0415
        from codevision_ext.preflight.recipe import load_recipe  # noqa: PLC0415
        from codevision_ext.verl_adapter.agent_loop import CodeVisionAgentLoop  # noqa: PLC0415
        from codevision_ext.verl_adapter.tool import CodeImageTool  # noqa: PLC0415
    checkpoint = tmp_path_factory.mktemp("tiny") / "model"
    sizes = {"hidden": 32, "layers": 1, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 600}
    tiny_model.build("qwen2_5_vl", checkpoint, texts=tiny_model.tokenizer_texts(), **sizes)
    processor = hf_processor(str(checkpoint))
    config = load_recipe(DEMO, "grpo")

    def play(generate: Generate, code_tool: Any = None, **settings: Any) -> Any:
        own = config.copy()
        with open_dict(own.codevision):
            own.codevision.update(settings)
        tool = object.__new__(CodeImageTool)
        tool.code_tool = code_tool

        async def run() -> Any:
            loop = CodeVisionAgentLoop(
                trainer_config=DictConfigWrap(own),
                server_manager=SimpleNamespace(generate=generate),
                tokenizer=processor.tokenizer,
                processor=processor,
                dataset_cls=None,
                data_config=DictConfigWrap(own.data),
                tools=ToolListWrap([tool] if code_tool else []),
            )
            return await loop.run({"temperature": 1.0}, **ROW, session_id=0)

        return asyncio.run(run())

    play.tokenizer, play.processor = processor.tokenizer, processor
    return play


def says(tokenizer: Any, text: str, reason: str = "completed", end: str = "<|im_end|>") -> Generate:
    async def generate(request_id: str, **_: Any) -> Any:
        assert request_id == "u-0"
        ids = tokenizer(text + end, add_special_tokens=False)["input_ids"]
        return SimpleNamespace(
            token_ids=ids, log_probs=[-1.0] * len(ids), stop_reason=reason, extra_fields={"global_steps": 4}
        )

    return generate


class DeadTool:
    """A tool whose sandbox broke."""

    async def begin(self, *_: Any) -> None:
        raise SandboxError("the sandbox died")


async def dead_engine(*_: Any, **__: Any) -> None:
    import ray  # noqa: PLC0415

    raise ray.exceptions.RayError("the actor died")


def test_a_rollout_keeps_what_was_sampled_and_which_weights_it_came_from(play: Any) -> None:
    output = play(says(play.tokenizer, ANSWER))
    assert output.extra_fields["trajectory"].end_reason is EndReason.ANSWER
    assert output.extra_fields["trajectory"].replies == [ANSWER]
    assert (output.extra_fields["min_global_steps"], output.extra_fields["max_global_steps"]) == (4, 4)
    assert output.response_logprobs == [-1.0] * len(output.response_ids)
    assert output.response_mask == [1] * len(output.response_ids)
    assert [image.size for image in output.multi_modal_data["images"]] == [(56, 28)]


def test_each_request_has_the_seed_of_its_row_rollout_and_length(play: Any) -> None:
    seeds = []

    async def generate(request_id: str, *, sampling_params: Any, prompt_ids: list[int], **_: Any) -> Any:
        assert sampling_params["sampling_seed"] == request_seed("u", 0, 0, len(prompt_ids))
        seeds.append(sampling_params["sampling_seed"])
        return await says(play.tokenizer, ANSWER)(request_id)

    assert play(generate).extra_fields["trajectory"].replies == [ANSWER]
    assert len(seeds) == 1


def test_in_code_tags_the_engine_is_asked_to_stop_at_the_end_of_the_code_and_the_message_goes_on(play: Any) -> None:
    call = CODE_TAGS.call_text("I turn it.", ToolCall(code="image = image.rotate(90, expand=True)"), first=True)
    turns = [(call, ""), (CODE_TAGS.answer_text("Now it stands.", "7", first=False), "<|im_end|>")]
    stops = []

    async def generate(request_id: str, *, sampling_params: Any, **_: Any) -> Any:
        stops.append(sampling_params["stop"])
        text, end = turns[len(stops) - 1]
        return await says(play.tokenizer, text, end=end)(request_id)

    with Sandbox(live=1) as sandbox:
        output = play(generate, CodeTool(sandbox), dialect="code_tags")
    assert stops == [["</code>"]] * 2
    trajectory = output.extra_fields["trajectory"]
    assert (trajectory.replies, trajectory.answer) == ([text for text, _ in turns], "7")
    text = play.tokenizer.decode(output.response_ids)
    assert text.startswith(f"{call}<sandbox_output><|vision_start|>")
    assert text.count("<|im_start|>") == 0
    assert text.count("<|im_end|>") == 1
    sampled = [token for token, own in zip(output.response_ids, output.response_mask, strict=True) if own]
    assert play.tokenizer.decode(sampled) == call + turns[1][0] + "<|im_end|>"


def test_a_dialect_that_stops_at_a_text_gives_sglang_its_tokenizer(play: Any) -> None:  # noqa: ARG001  # verl is loaded
    from codevision_ext.preflight.recipe import load_recipe  # noqa: PLC0415
    from codevision_ext.verl_adapter.trainer import prepare  # noqa: PLC0415

    for dialect, skipped in (("tool_call", True), ("code_tags", False)):
        config = load_recipe(DEMO, "grpo")
        prepare(config, Settings(dialect=dialect, records="OUT"))
        assert config.actor_rollout_ref.rollout.skip_tokenizer_init is skipped


@pytest.mark.parametrize(
    ("validate", "recipe", "penalty"), [(False, "vthinker_7b", 1.05), (True, "vthinker_7b", 1.0), (False, "demo", 1.0)]
)
def test_a_training_rollout_is_sampled_with_the_repetition_penalty_and_validation_without(
    play: Any,  # noqa: ARG001  # verl is loaded
    monkeypatch: pytest.MonkeyPatch,
    validate: bool,
    recipe: str,
    penalty: float,
) -> None:
    from verl.trainer.ppo.v1 import agent_loop_tq  # noqa: PLC0415

    from codevision_ext.preflight.recipe import load_recipe  # noqa: PLC0415
    from codevision_ext.verl_adapter.agent_loop import _Worker  # noqa: PLC0415

    sampled = []

    async def run_agent_loop(sampling_params: dict[str, Any], **_: Any) -> None:
        sampled.append(sampling_params)

    async def put(**_: Any) -> None:
        return None

    monkeypatch.setattr(agent_loop_tq, "tq", SimpleNamespace(async_kv_put=put))
    worker = object.__new__(_Worker)
    worker.config, worker._groups = load_recipe(DEMO.parent / recipe, "grpo"), {}
    worker._run_agent_loop = run_agent_loop
    rollouts = worker.config.actor_rollout_ref.rollout
    stock = {"top_p": rollouts.top_p, "repetition_penalty": 1.0}
    asyncio.run(worker._run_prompt({"uid": "u"}, stock, trajectory={"validate": validate}))
    assert sampled == [stock | {"repetition_penalty": penalty}] * (1 if validate else rollouts.n)


@pytest.mark.parametrize(("end", "reason"), [("<|im_end|>", EndReason.ANSWER), ("", EndReason.LENGTH)])
def test_a_rollout_whose_end_token_is_the_last_one_allowed_is_finished(play: Any, end: str, reason: EndReason) -> None:
    output = play(says(play.tokenizer, ANSWER, reason="length", end=end))
    assert output.extra_fields["trajectory"].end_reason is reason


@pytest.mark.parametrize("fault", ["the sandbox", "the engine", "an abort"])
def test_a_fault_of_ours_makes_the_rollout_invalid_and_leaves_nothing_to_learn(play: Any, fault: str) -> None:
    if fault == "the sandbox":
        output = play(says(play.tokenizer, CALL), DeadTool())
    elif fault == "the engine":
        output = play(dead_engine)
    else:
        output = play(says(play.tokenizer, ANSWER, reason="aborted"))
    assert output.extra_fields["trajectory"] is None
    assert sum(output.response_mask) == 0
    assert output.response_logprobs == [0.0] * len(output.response_ids)
    assert len(output.multi_modal_data["images"]) == 1


def test_an_invalid_rollout_moves_no_baseline_and_is_written_down_as_what_it_is(play: Any, tmp_path: Path) -> None:
    from codevision_ext.verl_adapter.agent_loop import _Worker  # noqa: PLC0415

    worker = object.__new__(_Worker)
    worker.settings = Settings(records=str(tmp_path))
    outputs = [play(says(play.tokenizer, ANSWER)), play(dead_engine), play(says(play.tokenizer, "<answer>8</answer>"))]
    worker._score(outputs, False, dict(ROW))
    right, broken, wrong = (output.reward_score for output in outputs)
    assert right > wrong
    assert broken == pytest.approx((right + wrong) / 2)
    assert [output.extra_fields["reward_extra_info"]["valid"] for output in outputs] == [1, 0, 1]
    assert not any("trajectory" in output.extra_fields for output in outputs)
    records = list(read_records(tmp_path / "train.jsonl"))
    assert [record.reward for record in records] == [right, None, wrong]
    assert [(record.step, record.observed.valid) for record in records] == [(5, True), (5, False), (5, True)]


def test_verl_s_stock_worker_gets_an_error_for_an_invalid_rollout_never_a_score(play: Any) -> None:
    from codevision_ext.verl_adapter.reward_manager import CodeVisionRewardManager  # noqa: PLC0415

    manager = object.__new__(CodeVisionRewardManager)
    manager.settings = Settings()

    def score(output: Any) -> Any:
        row = ROW | {"tool_extra_fields": output.extra_fields}
        data = SimpleNamespace(non_tensor_batch={name: [value] for name, value in row.items()})
        return asyncio.run(manager.run_single(data))

    assert score(play(says(play.tokenizer, ANSWER)))["reward_score"] > 0
    with pytest.raises(InfraError, match=r"rollout u-0 is invalid, .*set .*agent_loop_manager_class"):
        score(play(dead_engine))


def test_a_rollout_s_features_are_made_once_off_the_event_loop_and_stored(
    play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch  # noqa: PLC0415
    from verl.trainer.ppo.v1 import agent_loop_tq  # noqa: PLC0415

    from codevision_ext.models.renderer import QwenRenderer  # noqa: PLC0415
    from codevision_ext.verl_adapter.agent_loop import _Group, _Worker, shared_renderer  # noqa: PLC0415

    make, threads, stored = QwenRenderer.features, [], []

    def noted(renderer: Any, resized: Any) -> Any:
        threads.append(get_ident())
        return make(renderer, resized)

    async def put(fields: Any, **_: Any) -> None:
        stored.append(fields)

    monkeypatch.setattr(QwenRenderer, "features", noted)
    monkeypatch.setattr(agent_loop_tq, "tq", SimpleNamespace(async_kv_batch_put=put))
    worker = object.__new__(_Worker)
    worker.settings, worker.processor = Settings(), play.processor
    worker.distillation_enabled, worker.reward_loop_worker_handles = False, None
    output = play(says(play.tokenizer, ANSWER))
    images = output.multi_modal_data["images"]

    async def finish() -> None:
        worker._groups = {"u": _Group(1, asyncio.get_running_loop().create_future())}
        worker._storing = asyncio.Semaphore(1)
        await worker._agent_loop_postprocess(output, False, **ROW, session_id=0)

    asyncio.run(finish())
    assert len(threads) == 1
    assert get_ident() not in threads
    inputs = stored[0]["multi_modal_inputs"][0]
    inputs = getattr(inputs, "data", inputs)
    true = make(shared_renderer(play.processor), images)
    assert all(torch.equal(inputs[name], true[name]) for name in true)


def test_the_step_s_numbers_leave_invalid_rollouts_out_and_too_many_end_the_run(play: Any) -> None:
    from codevision_ext.verl_adapter.agent_loop import _Worker  # noqa: PLC0415
    from codevision_ext.verl_adapter.trainer import check_valid  # noqa: PLC0415

    worker = object.__new__(_Worker)
    worker.settings = Settings()
    outputs = [play(says(play.tokenizer, ANSWER)), play(dead_engine)]
    worker._score(outputs, False, dict(ROW))
    logged = summarise_step([output.extra_fields["reward_extra_info"] for output in outputs], ["u", "u"])
    assert logged["rollout/accuracy"] == logged["reward/accuracy/mean"] == 1
    assert logged["reward/total/mean"] == pytest.approx(outputs[0].reward_score)
    assert logged["rollout/turns/mean"] == 1
    assert logged["rollout/invalid_share"] == 0.5
    check_valid(0.5, 0.5, 3)
    with pytest.raises(
        InfraError, match=r"50% of the rollouts of step 3 are invalid, more than codevision.invalid_limit"
    ):
        check_valid(0.5, 0.25, 3)


def test_in_verl_s_own_loop_a_call_that_makes_no_image_is_answered_too() -> None:
    from codevision_ext.verl_adapter.tool import CodeImageTool  # noqa: PLC0415

    tool = CodeImageTool({"wall_s": 30, "live": 1}, None)
    try:
        images = SimpleNamespace(image_data=[Image.new("RGB", (8, 4), "red")])
        codes = ("1 / 0", "image = image.copy()", "image = image.rotate(90, expand=True)")
        told = [asyncio.run(tool.execute("x", {"code": code}, agent_data=images))[0] for code in codes]
    finally:
        tool._sandbox.close()
    assert [response.text.split(":")[0] for response in told] == ["Error", "The picture did not change", "Picture 1"]
    assert [response.image and response.image[0].size for response in told] == [None, None, (4, 8)]
