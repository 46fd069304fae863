"""Every patch does what it is for, and refuses a version of the library that it wasn't written for."""

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from codevision_ext import patches
from codevision_ext.errors import CompatError
from codevision_ext.patches import transfer_queue, transformers, verl
from codevision_ext.verl_adapter import activation

pytestmark = [pytest.mark.usefixtures("verl"), pytest.mark.filterwarnings("ignore")]  # they warn by the dozen

PATCHES = [
    (verl.gloo_once, "verl.utils.distributed", "initialize_global_process_group"),
    (verl.gloo_once, "verl.utils.distributed", "initialize_global_process_group_ray"),
    (verl.vectorised_logprobs, "verl.utils.torch_functional", "logprobs_from_logits_v2"),
    (verl.unpinned_reference, "verl.workers.engine.fsdp.transformer_impl", "FSDPEngine._build_fsdp_module"),
    (verl.position_ids_of_equal_length, "verl.utils.tensordict_utils", "maybe_fix_3d_position_ids"),
    (verl.text_only_batches, "verl.models.transformers.qwen2_vl", "_get_input_embeds"),
    (
        verl.no_epoch_left_out,
        "verl.utils.checkpoint.checkpoint_handler",
        "CheckpointHandler._load_dataloader_state",
    ),
    (
        verl.format_beside_weights,
        "verl.utils.checkpoint.checkpoint_handler",
        "CheckpointHandler.save_checkpoint",
    ),
    (
        verl.format_of_merged,
        "verl.model_merger.base_model_merger",
        "BaseModelMerger.save_hf_model_and_tokenizer",
    ),
    (transformers.typed_dicts_once, "transformers.processing_utils", "ProcessorMixin._merge_kwargs"),
    (transfer_queue.cores_for_ranks, "transfer_queue.utils.common", "limit_pytorch_auto_parallel_threads"),
    (activation.watch_config, "verl.utils.device", "auto_set_device"),
    (activation.register_replicas, "verl.workers.rollout.replica", "_load_sglang"),
    (activation.register_replicas, "verl.workers.rollout.replica", "get_rollout_replica_class"),
    (activation.register_adapters, "verl.workers.rollout.base", "get_rollout_class"),
    (activation.register_agent_loop, "verl.experimental.agent_loop.agent_loop", "register"),
]


def another_verl(name: str, path: str, function: Any) -> ModuleType:
    """A copy of a module of verl with `function` at `path`; None: with nothing there."""
    copy = ModuleType(name)
    vars(copy).update(vars(importlib.import_module(name)))
    owner: Any = copy
    if "." in path:
        part, path = path.split(".")
        owner = SimpleNamespace(__name__=part)
        setattr(copy, part, owner)
    vars(owner).pop(path, None)
    if function is not None:
        setattr(owner, path, function)
    return copy


def rewritten() -> str:
    return "what verl's next release does instead"


@pytest.mark.parametrize(("patch", "module", "path"), PATCHES)
def test_a_patch_refuses_a_verl_whose_lines_are_others(patch: Any, module: str, path: str) -> None:
    name, written_for = path.split(".")[-1], r"written for (verl 0\.9\.1|transformers 5|TransferQueue 0)"
    with pytest.raises(CompatError, match=rf"{name} no longer contains .*{written_for}"):
        patch(another_verl(module, path, rewritten))
    with pytest.raises(CompatError, match=rf"{name} is gone.*{written_for}"):
        patch(another_verl(module, path, None))


def test_an_engine_s_adapter_is_replaced_only_where_it_is_the_one_known() -> None:
    base = another_verl("verl.workers.rollout.base", "none", None)
    base._ROLLOUT_REGISTRY = {("sglang", "async"): "verl.another.ServerAdapter"}
    with pytest.raises(CompatError, match=r"rollout \('sglang', 'async'\) is no longer .*written for verl 0\.9\.1"):
        activation.register_adapters(base)


@pytest.mark.parametrize(
    "method", ["generate_sequences", "_run_prompt", "_run_agent_loop", "_agent_loop_postprocess", "_compute_score"]
)
def test_a_worker_of_agent_loops_with_other_methods_is_refused(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from verl.trainer.ppo.v1 import agent_loop_tq  # noqa: PLC0415

    monkeypatch.setattr(verl.agent_loop_worker(agent_loop_tq), method, rewritten)
    with pytest.raises(CompatError, match=rf"{method} no longer contains .*written for verl 0\.9\.1"):
        verl.agent_loop_worker(agent_loop_tq)


@pytest.mark.parametrize("method", ["_build_replay_buffer", "_compute_advantage", "_compute_metrics"])
def test_a_verl_whose_trainer_has_other_methods_is_refused(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = importlib.import_module("codevision_ext.verl_adapter.trainer")
    trainer.check_stock()
    monkeypatch.setattr(trainer.PPOTrainerSync, method, rewritten)
    with pytest.raises(CompatError, match=rf"{method} no longer contains .*written for verl 0\.9\.1"):
        trainer.check_stock()


SGLANG_METHODS = {"SGLangHttpServer": "generate", "SGLangReplica": "__init__", "ServerAdapter": "update_weights"}
OTHER_SGLANG = """
import json, sys
from codevision_ext.verl_adapter import activation
activation.activate()
from codevision_ext.errors import CompatError
from codevision_ext.verl_adapter import sglang_rollout as extended

for owner, method in json.loads(sys.argv[1]).items():
    extended.check_stock()
    stock = getattr(getattr(extended, owner), method)
    setattr(getattr(extended, owner), method, json.dumps)
    try:
        extended.check_stock()
    except CompatError as error:
        print(error)
    setattr(getattr(extended, owner), method, stock)
"""


def test_a_verl_whose_sglang_server_has_other_methods_is_refused() -> None:
    """In a process of its own: verl's module changes how SGLang handles signals as soon as it is imported."""
    done = subprocess.run(
        [sys.executable, "-c", OTHER_SGLANG, json.dumps(SGLANG_METHODS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "no longer contains" in line]
    assert [line.split(" no longer")[0].rpartition(".")[2] for line in lines] == [
        "generate",
        "__init__",
        "update_weights",
    ]
    assert all("written for verl 0.9.1" in line for line in lines)


def test_every_patch_says_when_it_can_be_dropped() -> None:
    files = [path for path in Path(patches.__file__).parent.glob("*.py") if path.stem not in ("__init__", "guard")]
    assert len(files) > 5
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.stem == "install" or "Drop when" in (ast.get_docstring(tree) or ""):
            continue
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
        without = [node.name for node in functions if "Drop when" not in (ast.get_docstring(node) or "")]
        assert functions
        assert not without, path.name
    assert all("Drop" in (inspect.getdoc(each) or "") for each in (activation, activation.watch_config))


def positions(lengths: list[int]) -> list[Any]:
    import torch  # noqa: PLC0415

    return [torch.arange(4)[:, None] * 1000 + row * 100 + torch.arange(length) for row, length in enumerate(lengths)]


@pytest.mark.parametrize("lengths", [[5, 7, 3], [5, 5, 5], [6], [4, 4], [4]])
def test_positions_of_equally_long_rows_stay_what_they_are(lengths: list[int]) -> None:
    import torch  # noqa: PLC0415
    from tensordict import TensorDict  # noqa: PLC0415
    from verl.utils.tensordict_utils import maybe_fix_3d_position_ids  # noqa: PLC0415

    rows = positions(lengths)
    stored = torch.nested.as_nested_tensor(rows, layout=torch.jagged)  # as TransferQueue hands them to a worker
    data = TensorDict({"position_ids": stored}, batch_size=len(rows))
    maybe_fix_3d_position_ids(data)
    maybe_fix_3d_position_ids(data)
    fixed = data["position_ids"]
    assert all(torch.equal(one, other) for one, other in zip(fixed.unbind(), rows, strict=True))
    padded = torch.nested.to_padded_tensor(fixed, padding=0, output_size=(len(rows), 4, max(lengths)))
    assert all(torch.equal(padded[at, :, : row.shape[1]], row) for at, row in enumerate(rows))


def test_stock_verl_takes_them_for_something_else() -> None:
    import torch  # noqa: PLC0415
    from tensordict import TensorDict  # noqa: PLC0415
    from verl.utils.tensordict_utils import maybe_fix_3d_position_ids  # noqa: PLC0415

    data = TensorDict(
        {"position_ids": torch.nested.as_nested_tensor(positions([5, 5]), layout=torch.jagged)}, batch_size=2
    )
    maybe_fix_3d_position_ids.__wrapped__(data)
    with pytest.raises(RuntimeError):
        data["position_ids"].unbind()


@pytest.mark.parametrize(("step", "left", "stock"), [(3, [0, 1, 2], []), (6, [0, 1, 2], []), (4, [1, 2], [1, 2])])
def test_sft_that_goes_on_behind_an_epoch_has_the_next_one_whole(
    tmp_path: Path, step: int, left: list[int], stock: list[int]
) -> None:
    import torch  # noqa: PLC0415
    from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: PLC0415
    from verl.utils.checkpoint.checkpoint_handler import CheckpointHandler  # noqa: PLC0415

    def batches_left(load: Any) -> list[int]:
        loader = StatefulDataLoader([0, 1, 2], batch_size=None)
        load(SimpleNamespace(train_dataloader=loader, resume_global_step=step, dp_rank=0, rank=0), str(tmp_path))
        return list(loader)

    before = StatefulDataLoader([0, 1, 2], batch_size=None)
    epoch = iter(before)
    for _ in range((step - 1) % 3 + 1):
        next(epoch)
    torch.save(before.state_dict(), tmp_path / "data_0.pt")
    assert batches_left(CheckpointHandler._load_dataloader_state) == left
    assert batches_left(CheckpointHandler._load_dataloader_state.__wrapped__) == stock


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from codevision_ext.models import tiny_model  # noqa: PLC0415

    out = tmp_path_factory.mktemp("tiny") / "model"
    sizes = {"hidden": 32, "layers": 1, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 600}
    tiny_model.build("qwen2_5_vl", out, texts=tiny_model.tokenizer_texts(), **sizes)
    return out


def test_a_batch_without_images_has_the_words_embeddings_and_its_loss_reaches_the_vision_tower(
    checkpoint: Path,
) -> None:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForImageTextToText  # noqa: PLC0415
    from verl.models.transformers import qwen2_vl  # noqa: PLC0415

    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).model
    ids = torch.tensor([[7, 8, 9]])
    with pytest.raises(AttributeError, match="mean"):
        qwen2_vl._get_input_embeds.__wrapped__(model, ids)
    embeddings, _ = qwen2_vl._get_input_embeds(model, ids, torch.ones_like(ids), None, None, None, None)
    assert torch.equal(embeddings, model.get_input_embeddings()(ids))
    embeddings.sum().backward()  # FSDP waits for ever for a rank without these gradients
    assert all(parameter.grad is not None for parameter in model.visual.parameters())


def test_a_processor_checks_its_settings_against_the_same_type_at_every_call(checkpoint: Path) -> None:
    from huggingface_hub.dataclasses import _build_strict_cls_from_typed_dict as checkers  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415
    from transformers import AutoProcessor  # noqa: PLC0415

    processor = AutoProcessor.from_pretrained(checkpoint)
    marks = "<|vision_start|><|image_pad|><|vision_end|>"
    processor(text=[marks], images=[Image.new("RGB", (56, 56))])
    misses = checkers.cache_info().misses
    processor(text=[marks], images=[Image.new("RGB", (56, 56))])
    assert checkers.cache_info().misses == misses
    with pytest.raises(Exception, match="do_resize"):
        processor(text=[marks], images=[Image.new("RGB", (56, 56))], do_resize="yes")


def test_a_rollout_that_broke_is_a_row_with_a_image_and_without_loss(checkpoint: Path) -> None:
    from codevision_ext.models.checkpoint import renderer_of  # noqa: PLC0415
    from codevision_ext.verl_adapter.agent_loop import _without_loss  # noqa: PLC0415

    renderer = renderer_of(checkpoint)
    token_buffer, resized = _without_loss(renderer)
    grids = renderer.features(resized)["image_grid_thw"]
    assert token_buffer.ids.count(renderer.image_id) == int(grids.prod()) // 4 > 0
    assert len(token_buffer.response_ids) > 0
    assert sum(token_buffer.response_mask) == 0


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "VERL_PLATFORM"}
    words = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(words, env=env | environment, capture_output=True, text=True, check=False, timeout=120)


def test_the_log_probs_of_all_rows_at_once_are_those_that_verl_computes_row_by_row() -> None:
    import torch  # noqa: PLC0415
    from verl.utils import torch_functional  # noqa: PLC0415

    stock = another_verl("verl.utils.torch_functional", "none", None)
    exec(inspect.getsource(torch_functional).partition("def clip_by_value")[0], vars(stock))
    logits, labels = torch.randn(3, 5, 11), torch.randint(11, (3, 5))
    assert torch_functional.logprobs_from_logits_v2 is torch_functional.logprobs_from_logits_naive
    assert stock.logprobs_from_logits_v2 is not stock.logprobs_from_logits_naive
    log_probs = [module.logprobs_from_logits_v2(logits, labels) for module in (torch_functional, stock)]
    assert torch.allclose(*log_probs, atol=1e-6)


def test_the_reference_policy_s_memory_is_not_pinned() -> None:
    from torch.distributed.fsdp import CPUOffloadPolicy  # noqa: PLC0415
    from verl.workers.engine.fsdp import transformer_impl  # noqa: PLC0415

    assert CPUOffloadPolicy(pin_memory=True).pin_memory
    assert not transformer_impl.CPUOffloadPolicy(pin_memory=True).pin_memory


def test_a_process_group_on_the_cpu_starts_with_one_backend_where_verl_names_two() -> None:
    code = """
import verl.utils.distributed as distributed, torch.distributed
from verl.utils.device import get_device_name
patched, distributed.get_device_name = distributed.get_device_name, get_device_name
try:
    distributed.initialize_global_process_group()
except ValueError as error:
    print("stock:", error)
distributed.get_device_name = patched
distributed.initialize_global_process_group()
print("patched:", torch.distributed.get_backend())
"""
    group = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    done = python(code, VERL_PLATFORM="cpu", **group)
    assert done.returncode == 0, done.stderr
    assert "stock: Duplicate device" in done.stdout
    assert "patched: cpu:gloo" in done.stdout


@pytest.mark.parametrize(("ranks", "cores"), [("1", len(os.sched_getaffinity(0))), ("1000", 1), ("0", 1)])
def test_the_ranks_of_a_machine_share_its_cores_also_after_a_call_of_transfer_queue(ranks: str, cores: int) -> None:
    code = """
import torch, verl
from transfer_queue.utils.common import limit_pytorch_auto_parallel_threads
with limit_pytorch_auto_parallel_threads(1):
    pass
print(torch.get_num_threads())
"""
    done = python(code, VERL_PLATFORM="cpu", OMP_NUM_THREADS="1", RAY_LOCAL_WORLD_SIZE=ranks)
    assert done.stdout.split()[-1] == str(cores), done.stderr


def test_the_cpu_is_a_platform_that_is_asked_for_and_never_detected() -> None:
    code = """
import verl
from verl.plugin.platform.platform_manager import PlatformRegistry, _detect_platform_name
print(_detect_platform_name(), "cpu" in PlatformRegistry.registered_names())
print(PlatformRegistry.get("cpu")().is_platform_available())
"""
    done = python(code, VERL_PLATFORM="cpu")
    assert done.stdout.split()[-3:] == ["cpu", "True", "False"], done.stderr


def test_a_patch_that_is_refused_ends_the_process_with_one_sentence() -> None:
    code = """
from codevision_ext.errors import CompatError
from codevision_ext.patches import install
def refuse(module):
    raise CompatError("another verl")
install.PATCHES["verl.utils.tensordict_utils"] = refuse
import verl.utils.tensordict_utils
print("went on")
"""
    done = python(code, CODEVISION_ACTIVE="1")
    assert done.returncode == 1
    assert "went on" not in done.stdout
    assert done.stderr.strip().splitlines()[-1] == (
        "codevision: could not set up verl.utils.tensordict_utils: another verl"
    )
