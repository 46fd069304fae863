"""Stock verl's SFT and GRPO entry points train on exactly the tokens that were sampled; a spy writes both down."""

import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.io.processes import Command
from codevision_ext.io.records import Record, image_path, read_records, rollout_order
from codevision_ext.rewards.rubric import PRESETS, score_group

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers warn at import, by the dozen

PATHS = os.pathsep.join([str(Path(__file__).parents[1] / "support"), *filter(None, [os.environ.get("PYTHONPATH")])])
DEMO = Path(__file__).parents[2] / "recipe" / "demo"
TOLERANCE = 1e-4
"""Largest difference of two log-probs of a token."""
STEPS, PROMPTS, ROLLOUTS = 3, 4, 4
SFT_STEPS = 120
"""Enough for some calls that can be read, and some that can't; the answers are guesses."""
RUN_S = 600
ENGINE = os.environ.get("CODEVISION_TEST_ENGINE", "sglang")
"""`vllm` is tried by `make test-vllm`, in an environment of its own."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What an SFT run and the GRPO run behind it left."""

    folder: Path

    def checkpoint(self, step: int) -> Path:
        """The weights after `step` steps of GRPO; 0: those of SFT."""
        if step == 0:
            return self.folder / "sft" / f"global_step_{SFT_STEPS}" / "huggingface"
        return self.folder / "grpo" / f"global_step_{step}" / "actor" / "huggingface"

    @cached_property
    def rollouts(self) -> list[dict[str, Any]]:
        """What went into the trainer's store, see `spy`."""
        import torch  # noqa: PLC0415  # after the device is settled

        paths = sorted((self.folder / "seen").glob("*.pt"))
        return [torch.load(path, weights_only=False) for path in paths]

    @cached_property
    def metrics(self) -> dict[int, dict[str, float]]:
        """Logged numbers by step."""
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return {line["step"]: line["data"] for line in map(json.loads, lines)}

    @cached_property
    def records(self) -> list[Record]:
        """The plugin's own records."""
        return list(read_records(self.folder / "records" / "train.jsonl"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glyphs") / "data"
    words = ["glyphs", "--out", folder, "--rows", 4, "--sft-rows", 64, "--test-items", 1, "--parts", "rl,sft"]
    launch("-m", "data_prep", *words, "--source-share", 0, "--wrong-first", 0, log=folder.parent / "data.log")
    return folder


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def run(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_cpu_if_no_cuda()
    made = Run(folder=tmp_path_factory.mktemp(request.param))
    folder = made.folder
    sizes = ["--hidden", 64, "--layers", 2, "--vision-hidden", 32, "--vision-layers", 1, "--max-pixels", 7056]
    words = ["tiny-model", "--family", request.param, "--out", folder / "model", *sizes]
    launch("-m", "codevision_ext.cli", *words, log=folder / "model.log")
    launch(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 1, "-m", "verl.trainer.sft_trainer"),
        *("--config-path", DEMO, "--config-name", "sft"),
        *(f"data.train_files={data / 'sft.parquet'}", f"model.path={folder / 'model'}"),
        *(f"trainer.default_local_dir={folder / 'sft'}", "data.train_batch_size=16", "optim.lr=5e-3"),
        *(f"trainer.total_training_steps={SFT_STEPS}", "trainer.total_epochs=1000", "trainer.save_freq=1000"),
        log=folder / "sft.log",
        VERL_FILE_LOGGER_PATH=folder / "sft.jsonl",
    )
    train(made, made.checkpoint(0), data)
    return made


def train(run: Run, start: Path, data: Path, *settings: str) -> None:
    """Runs GRPO from the checkpoint `start`, and leaves what `Run` reads."""
    folder = run.folder
    (folder / "seen").mkdir()
    launch(
        *("-m", "verl.trainer.main_ppo", "--config-path", DEMO, "--config-name", "grpo"),
        *(f"data.train_files={data / 'train.parquet'}", f"data.val_files={data / 'val.parquet'}", "data.seed=0"),
        *(f"actor_rollout_ref.model.path={start}", f"data.train_batch_size={PROMPTS}"),
        *(f"actor_rollout_ref.rollout.n={ROLLOUTS}", f"actor_rollout_ref.actor.ppo_mini_batch_size={PROMPTS}"),
        "algorithm.rollout_correction.bypass_mode=false",  # so that the trainer says how far the engine is from it
        *("actor_rollout_ref.actor.optim.lr=1e-3", "actor_rollout_ref.actor.optim.lr_warmup_steps=0"),
        f"actor_rollout_ref.rollout.multi_turn.tool_config_path={DEMO / 'tool.yaml'}",
        "actor_rollout_ref.rollout.agent.agent_loop_manager_class=spy.SpyManager",
        *(f"actor_rollout_ref.rollout.name={ENGINE}", "actor_rollout_ref.rollout.free_cache_engine=true"),
        *(f"trainer.total_training_steps={STEPS}", "trainer.save_freq=1", "trainer.max_actor_ckpt_to_keep=null"),
        *(f"trainer.default_local_dir={folder / 'grpo'}", f"codevision.records={folder / 'records'}"),
        *(f"codevision.deterministic={str(ENGINE == 'sglang').lower()}", "+codevision.reward.credit=call", *settings),
        log=folder / "grpo.log",
        VERL_FILE_LOGGER_PATH=folder / "metrics.jsonl",
        TENSORBOARD_DIR=folder / "tensorboard",
        SPY_OUT=folder / "seen",
    )


def launch(*words: object, log: Path, **environment: object) -> None:
    """Runs Python with `words` to its end, in a folder and beside a Ray of its own; nothing outlives it."""
    scratch = tempfile.mkdtemp(prefix="cv")  # Ray's sockets want a short path
    known = {"VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1", "RAY_TMPDIR": scratch, "PYTHONPATH": PATHS}
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    env |= {name: str(value) for name, value in (known | environment).items()}
    deadline = time.monotonic() + RUN_S
    try:
        with Command([sys.executable, *map(str, words)], env=env, log=log) as command:
            while (status := command.poll()) is None and time.monotonic() < deadline:
                time.sleep(0.5)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    assert status == 0, f"exit status {status}; the end of {log}:\n{log.read_text()[-6000:]}"


def test_each_checkpoint_says_how_it_was_trained(run: Run) -> None:
    sft, rl = (json.loads((run.checkpoint(step) / "codevision.json").read_text()) for step in (0, STEPS))
    assert (sft["trained_by"], sft["system_prompt"], sft["coordinates"]) == ("sft", "", "original")
    assert sft["tools"][0]["function"]["name"] == "code_image_tool"
    same = ("system_prompt", "tools", "dialect", "coordinates", "think_prefix", "min_pixels", "max_pixels")
    assert {name: rl[name] for name in same} == {name: sft[name] for name in same}
    assert (rl["trained_by"], rl["calls_per_turn"], rl["force_answer"]) == ("rl", 1, False)
    assert "the checkpoint was trained with" not in (run.folder / "grpo.log").read_text(), "the recipe's are the same"


def model_of(checkpoint: Path) -> Any:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForImageTextToText  # noqa: PLC0415

    return AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()


def renderer_of(checkpoint: Path) -> Any:
    from codevision_ext.models import checkpoint as checkpoints  # noqa: PLC0415

    return checkpoints.renderer_of(checkpoint)


def step_of(rollout: dict[str, Any]) -> int:
    return int(rollout["tag"]["global_steps"])


def test_every_rollout_that_was_asked_for_reaches_the_trainer_and_some_look_twice(run: Run) -> None:
    counts = defaultdict(int)
    for rollout in run.rollouts:
        counts[step_of(rollout), rollout["uid"]] += 1
    assert sorted(counts.values()) == [ROLLOUTS] * PROMPTS * STEPS
    assert sum(len(rollout["images"]) >= 2 for rollout in run.rollouts) >= 4
    assert sum(len(rollout["turns"]) >= 2 for rollout in run.rollouts) >= 4
    assert all(run.metrics[step]["rollout/dropped"] == 0 for step in range(1, STEPS + 1))


def test_what_has_loss_is_what_the_engine_sampled_and_nothing_else(run: Run) -> None:
    for rollout in run.rollouts:
        ids, start = rollout["input_ids"].tolist(), len(rollout["prompts"])
        mask, log_probs = [0] * len(ids), [0.0] * len(ids)
        for turn in rollout["turns"]:
            at = len(turn["asked"])
            assert ids[:at] == turn["asked"]
            assert ids[at : at + len(turn["ids"])] == turn["ids"]
            mask[at : at + len(turn["ids"])] = [1] * len(turn["ids"])
            log_probs[at : at + len(turn["ids"])] = turn["log_probs"]
        assert ids == rollout["prompts"].tolist() + rollout["responses"].tolist()
        assert mask == [0] * start + rollout["response_mask"].tolist()
        assert rollout["rollout_log_probs"].tolist() == pytest.approx(log_probs[start:], abs=1e-7)
        assert sum(mask) > 0


def test_each_turn_reaches_the_trainer_with_its_tokens_and_what_its_calls_earned(run: Run) -> None:
    terms = {record.id: record.terms for record in run.records}
    for rollout in run.rollouts:
        spans, gains = rollout["turn_gains"]["spans"], rollout["turn_gains"]["gains"]
        response = rollout["responses"].tolist()
        assert [response[start:end] for start, end in spans] == [turn["ids"] for turn in rollout["turns"]]
        assert sum(gains) == pytest.approx(terms[f"{rollout['uid']}-{rollout['session']}"]["must"].contribution)
        assert gains[-1] == 0  # the last turn's calls aren't run
    assert all(run.metrics[step]["actor/grad_norm"] > 0 for step in run.metrics)


def test_there_are_as_many_image_tokens_as_features_and_positions_are_those_of_the_model(run: Run) -> None:
    import torch  # noqa: PLC0415

    renderer, model = renderer_of(run.checkpoint(0)), model_of(run.checkpoint(0))
    for rollout in run.rollouts:
        ids, inputs = rollout["input_ids"], rollout["inputs"]
        grids = inputs["image_grid_thw"]
        assert len(grids) == len(rollout["images"])
        assert torch.equal(inputs["pixel_values"], renderer.features(rollout["images"])["pixel_values"])
        assert int(grids.prod(-1).sum()) == len(inputs["pixel_values"])
        assert int((ids == renderer.image_id).sum()) == len(inputs["pixel_values"]) // 4
        true, _ = model.model.get_rope_index(
            ids[None],
            mm_token_type_ids=(ids == renderer.image_id).int()[None],
            image_grid_thw=grids,
            attention_mask=torch.ones_like(ids)[None],
        )
        assert torch.equal(rollout["position_ids"][0], torch.arange(len(ids)))
        assert torch.equal(rollout["position_ids"][1:], true[:, 0])


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a model thinks of a rollout, by transformers alone; one number a sampled token."""

    log_probs: Any
    """As sampled: image marks can't be."""
    banned: Any
    """Probability of the image marks, where they can."""


def truth(rollout: dict[str, Any], model: Any, renderer: Any) -> Truth:
    import torch  # noqa: PLC0415

    ids, banned = rollout["input_ids"], list(renderer.banned_ids)
    with torch.no_grad():
        logits = model(
            input_ids=ids[None],
            attention_mask=torch.ones_like(ids)[None],
            mm_token_type_ids=(ids == renderer.image_id).long()[None],
            **rollout["inputs"],
        ).logits[0]
    share = logits.softmax(-1)[:, banned].sum(-1)
    logits[:, banned] -= 1e4
    log_probs = logits.log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0]
    sampled = rollout["response_mask"].bool()
    before = len(rollout["prompts"]) - 1
    return Truth(log_probs=log_probs[before:][sampled], banned=share[before:-1][sampled])


def distance(rollout: dict[str, Any], model: Any, renderer: Any) -> float:
    engine = rollout["rollout_log_probs"][rollout["response_mask"].bool()]
    return float((truth(rollout, model, renderer).log_probs - engine).abs().max())


def test_log_probs_of_a_step_are_those_of_the_checkpoint_before_it(run: Run) -> None:
    renderer = renderer_of(run.checkpoint(0))
    models = [model_of(run.checkpoint(step)) for step in range(STEPS)]
    for rollout in run.rollouts:
        before = step_of(rollout) - 1
        assert {turn["version"] for turn in rollout["turns"]} == {before}
        assert distance(rollout, models[before], renderer) < TOLERANCE
    late = [rollout for rollout in run.rollouts if step_of(rollout) == STEPS]
    assert max(distance(rollout, models[0], renderer) for rollout in late) > 10 * TOLERANCE, "old weights give others"


def test_a_turn_is_called_cut_exactly_when_nothing_ends_it(run: Run) -> None:
    tokenizer = renderer_of(run.checkpoint(0)).tokenizer
    ends = set(tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]))
    turns = [turn for rollout in run.rollouts for turn in rollout["turns"]]
    assert all(turn["finished"] == (turn["ids"][-1] in ends) for turn in turns)


def test_an_aborted_request_says_so_waits_for_the_engine_and_goes_on_to_the_same_log_probs(run: Run) -> None:
    import torch  # noqa: PLC0415

    model, renderer = model_of(run.checkpoint(0)), renderer_of(run.checkpoint(0))
    *aborted, rested = torch.load(run.folder / "interrupted.pt", weights_only=False)
    wanted = rested["wanted"]
    assert rested["early"] == 0, "answered while the engine was told to pause"
    assert [[part["reason"] for part in request["parts"]] for request in aborted] == [["aborted", "length"]] * 4
    assert any(0 < len(request["parts"][0]["ids"]) < wanted for request in aborted)
    for request in (*aborted, rested):
        ids = [token for part in request["parts"] for token in part["ids"]]
        log_probs = [value for part in request["parts"] for value in part["log_probs"]]
        assert len(ids) == len(log_probs) == wanted
        whole = {
            "input_ids": torch.tensor(request["asked"] + ids),
            "inputs": renderer.features(request["images"]),
            "prompts": request["asked"],
            "response_mask": torch.ones(wanted),
            "rollout_log_probs": torch.tensor(log_probs),
        }
        assert distance(whole, model, renderer) < TOLERANCE


def test_each_step_changes_the_weights_and_its_loss_knows_the_engine_s_log_probs(run: Run) -> None:
    renderer = renderer_of(run.checkpoint(0))
    models = [model_of(run.checkpoint(step)) for step in range(STEPS + 1)]
    for before, after in pairwise(model.state_dict() for model in models):
        moved = [name for name, tensor in after.items() if (tensor - before[name]).abs().max() > 1e-5]
        assert any("visual" in name for name in moved)
        assert any("language_model" in name for name in moved)
    for step in range(1, STEPS + 1):
        assert run.metrics[step]["actor/grad_norm"] > 0
        seen = [rollout for rollout in run.rollouts if step_of(rollout) == step]
        banned = max(float(truth(rollout, models[step - 1], renderer).banned.max()) for rollout in seen)
        # the trainer gives image marks their small share, the engine can't
        assert run.metrics[step]["training/rollout_probs_diff_max"] < banned + TOLERANCE


def test_every_reward_term_and_the_rollouts_health_are_logged_at_each_step(run: Run) -> None:
    wanted = {f"reward/{name}/mean" for name in (*PRESETS["verified"], "total")}
    wanted |= {f"rollout/{name}" for name in ("tool_rate", "invalid_call_rate", "accuracy", "format", "invalid_share")}
    wanted |= {"rollout/turns/mean", "rollout/turns/max", "rollout/repeated_call_rate", "rollout/group_std"}
    wanted |= {"rollout/all_wrong_rate", "rollout/all_right_rate", "actor/entropy"}
    assert sorted(run.metrics) == list(range(1, STEPS + 1))
    for step, logged in run.metrics.items():
        assert wanted <= logged.keys()
        seen = [rollout for rollout in run.rollouts if step_of(rollout) == step]
        rewards = [float(rollout["rm_scores"].sum()) for rollout in seen]
        assert logged["reward/total/mean"] == pytest.approx(sum(rewards) / len(rewards), abs=1e-5)
        assert logged["rollout/turns/mean"] == pytest.approx(sum(len(r["turns"]) for r in seen) / len(seen))
    assert list((run.folder / "tensorboard").rglob("events.out.tfevents.*"))


def test_the_records_can_be_read_hold_every_image_and_score_to_what_was_trained(run: Run) -> None:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in run.records:
        groups[record.group].append(record)
        assert record.pictures
        assert all(image_path(run.folder / "records", name).is_file() for name in record.pictures)
    trained = {f"{rollout['uid']}-{rollout['session']}": rollout for rollout in run.rollouts}
    assert {record.id for record in run.records} == trained.keys()
    for group in groups.values():
        for record, again in zip(group, score_group(group, "verified"), strict=True):
            rollout = trained[record.id]
            assert again.reward == pytest.approx(record.reward)
            assert float(rollout["rm_scores"].sum()) == pytest.approx(record.reward, abs=1e-6)
            assert (record.step, record.turn_count) == (step_of(rollout), len(rollout["turns"]))
            assert record.tokens == len(rollout["responses"])


@pytest.fixture(scope="module")
def repeated(run: Run, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The same training again, with `codevision.deterministic` and without; the engine isn't interrupted before it."""
    if ENGINE != "sglang" or "qwen3" in run.folder.name:
        pytest.skip("it is promised on SGLang, and one family is enough here: the engine's own tests have both")
    runs = {}
    for value in ("true", "false"):
        runs[value] = Run(folder=tmp_path_factory.mktemp("repeated"))
        (runs[value].folder / "interrupted.pt").touch()
        train(runs[value], run.checkpoint(0), data, f"codevision.deterministic={value}")
    return runs


def sampled(run: Run) -> dict[tuple[str, int], Any]:
    """What was sampled and learned from, to the last bit, by prompt and number of the rollout."""
    fields = ("input_ids", "response_mask", "rollout_log_probs", "rm_scores")
    return {
        (rollout["uid"], rollout["session"]): [
            *(rollout[field].numpy().tobytes() for field in fields),
            *(image.tobytes() for image in rollout["images"]),
        ]
        for rollout in run.rollouts
    }


def trained(run: Run) -> dict[str, bytes]:
    """The last weights by name."""
    return {name: tensor.numpy().tobytes() for name, tensor in model_of(run.checkpoint(STEPS)).state_dict().items()}


def logged(run: Run) -> dict[int, dict[str, float]]:
    """The metrics of each step but times and sizes of memory."""
    return {
        step: {name: value for name, value in of_step.items() if not name.startswith("timing") and "perf/" not in name}
        for step, of_step in run.metrics.items()
    }


def test_a_deterministic_training_is_the_same_to_the_last_bit_when_it_is_run_again(
    run: Run, repeated: dict[str, Run]
) -> None:
    again, other = repeated["true"], repeated["false"]
    assert sampled(again) == sampled(run)
    assert logged(again) == logged(run)
    assert trained(again) == trained(run)
    assert sorted(again.records, key=rollout_order) == sorted(run.records, key=rollout_order)
    assert sorted(sampled(other).values()) != sorted(sampled(run).values()), "without the setting it is another one"
    assert trained(other) != trained(run)


def test_in_sft_only_the_assistant_s_tokens_have_loss_and_images_stand_in_tool_turns(run: Run, data: Path) -> None:
    from omegaconf import OmegaConf  # noqa: PLC0415
    from verl.utils import hf_processor  # noqa: PLC0415

    from codevision_ext.verl_adapter.sft_dataset import CodeVisionSFTDataset  # noqa: PLC0415

    processor = hf_processor(str(run.checkpoint(0)))
    config = OmegaConf.create({"max_length": 1024})
    rows = CodeVisionSFTDataset(str(data / "sft.parquet"), processor.tokenizer, config, processor)
    end = "<|im_end|>"
    shown = 0
    for at in range(8):
        (_, row), encoded = rows.rows[at], rows[at]
        ids, mask = encoded["input_ids"].tolist(), encoded["loss_mask"].tolist()
        words = "".join(processor.tokenizer.decode(token) for token, kept in zip(ids, mask, strict=True) if kept)
        said = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        assert words == "".join(text + end for text in said)
        image_id = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        assert not any(kept for token, kept in zip(ids, mask, strict=True) if token == image_id)
        assert ids.count(image_id) == int(encoded["multi_modal_inputs"]["image_grid_thw"].prod(-1).sum()) // 4
        assert len(encoded["multi_modal_inputs"]["image_grid_thw"]) == len(row["images"])
        assert encoded["position_ids"].shape == (4, len(ids))
        shown += sum(message["content"].count("<image>") for message in row["messages"] if message["role"] == "tool")
    assert shown >= 8
