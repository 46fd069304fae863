"""Does every patch of verl do what it is for, and refuse a verl that it wasn't written for?"""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from codevision_ext.errors import CompatError
from codevision_ext.patches import verl as compat

pytestmark = [pytest.mark.usefixtures("verl"), pytest.mark.filterwarnings("ignore")]  # they warn by the dozen

PATCHES = [
    (compat.gloo_once, "verl.utils.distributed", "initialize_global_process_group"),
    (compat.gloo_once, "verl.utils.distributed", "initialize_global_process_group_ray"),
    (compat.vectorised_logprobs, "verl.utils.torch_functional", "logprobs_from_logits_v2"),
    (compat.unpinned_reference, "verl.workers.engine.fsdp.transformer_impl", "FSDPEngine._build_fsdp_module"),
    (compat.typed_dicts_once, "transformers.processing_utils", "ProcessorMixin._merge_kwargs"),
    (compat.position_ids_of_equal_length, "verl.utils.tensordict_utils", "maybe_fix_3d_position_ids"),
    (compat.text_only_batches, "verl.models.transformers.qwen2_vl", "_get_input_embeds"),
    (
        compat.no_epoch_left_out,
        "verl.utils.checkpoint.checkpoint_handler",
        "CheckpointHandler._load_dataloader_state",
    ),
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
    name, written_for = path.split(".")[-1], r"written for (verl 0\.9\.1|transformers 5)"
    with pytest.raises(CompatError, match=rf"{name} no longer contains .*{written_for}"):
        patch(another_verl(module, path, rewritten))
    with pytest.raises(CompatError, match=rf"{name} is gone.*{written_for}"):
        patch(another_verl(module, path, None))


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
    found = data["position_ids"]
    assert all(torch.equal(one, other) for one, other in zip(found.unbind(), rows, strict=True))
    padded = torch.nested.to_padded_tensor(found, padding=0, output_size=(len(rows), 4, max(lengths)))
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
    found, _ = qwen2_vl._get_input_embeds(model, ids, torch.ones_like(ids), None, None, None, None)
    assert torch.equal(found, model.get_input_embeddings()(ids))
    found.sum().backward()  # FSDP waits for ever for a rank without these gradients
    assert all(parameter.grad is not None for parameter in model.visual.parameters())


def test_a_processor_checks_its_settings_against_the_same_type_at_every_call(checkpoint: Path) -> None:
    from huggingface_hub.dataclasses import _build_strict_cls_from_typed_dict as checkers  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415
    from transformers import AutoProcessor  # noqa: PLC0415

    processor = AutoProcessor.from_pretrained(checkpoint)
    marks = "<|vision_start|><|image_pad|><|vision_end|>"
    processor(text=[marks], images=[Image.new("RGB", (56, 56))])
    made = checkers.cache_info().misses
    processor(text=[marks], images=[Image.new("RGB", (56, 56))])
    assert checkers.cache_info().misses == made
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
    env = {name: value for name, value in os.environ.items() if name not in ("VERL_PLATFORM", "PYTHONPATH")}
    words = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(words, env=env | environment, capture_output=True, text=True, check=False, timeout=120)


def test_the_cpu_is_a_platform_that_must_be_asked_for() -> None:
    code = """
import verl
from verl.plugin.platform.platform_manager import PlatformRegistry, _detect_platform_name
print(_detect_platform_name(), "cpu" in PlatformRegistry.registered_names())
print(PlatformRegistry.get("cpu")().is_platform_available())
"""
    unasked, asked = python(code), python(code, VERL_PLATFORM="cpu")
    assert unasked.returncode == 0, unasked.stderr
    name, registered = unasked.stdout.split()[:2]
    assert name != "cpu"
    assert registered == "True"
    assert "False" in unasked.stdout.splitlines()[-1]
    assert asked.stdout.split()[0] == "cpu"


def test_a_plugin_that_can_not_set_itself_up_ends_the_process_with_one_sentence() -> None:
    code = """
from codevision_ext.errors import CompatError
from codevision_ext.verl_adapter import compat
def refuse(module):
    raise CompatError("another verl")
compat.position_ids_of_equal_length = refuse
import verl.utils.tensordict_utils
print("went on")
"""
    done = python(code, VERL_PLATFORM="cpu")
    assert done.returncode == 1
    assert "went on" not in done.stdout
    said = done.stderr.strip().splitlines()[-1]
    assert said == "codevision: could not set up verl.utils.tensordict_utils: another verl"
