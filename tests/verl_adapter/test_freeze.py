"""Tests that SFT leaves the weights of frozen parts bit for bit as they are, on a real run of verl's trainer."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from test_grpo import DEMO, launch

from codevision_ext.config import read_settings
from codevision_ext.errors import InputError
from codevision_ext.verl_adapter.activation import check_freeze

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers warn at import, by the dozen


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glyphs") / "data"
    words = ["glyphs", "--out", folder, "--rows", 4, "--sft-rows", 8, "--test-items", 1, "--parts", "rl,sft"]
    launch("-m", "data_prep", *words, log=folder.parent / "data.log")
    return folder / "sft.parquet"


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_frozen_weights_are_bit_equal_after_two_steps_and_the_others_change(
    family: str, data: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file  # noqa: PLC0415

    from codevision_ext.models.freeze import NAMES  # noqa: PLC0415

    sizes = ["--hidden", 64, "--layers", 4, "--vision-hidden", 32, "--vision-layers", 3, "--max-pixels", 7056]
    words = ["tiny-model", "--family", family, "--out", tmp_path / "model", *sizes]
    launch("-m", "codevision_ext.cli", *words, log=tmp_path / "model.log")
    launch(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 1, "-m", "verl.trainer.sft_trainer"),
        *("--config-path", DEMO, "--config-name", "sft", "+codevision.freeze=[visual,projector]"),
        *(f"data.train_files={data}", f"model.path={tmp_path / 'model'}", "data.train_batch_size=4"),
        *(f"trainer.default_local_dir={tmp_path / 'sft'}", "optim.lr=5e-3", "optim.lr_warmup_steps_ratio=0"),
        *("trainer.total_training_steps=2", "trainer.save_freq=2", "optim.weight_decay=0.1"),
        log=tmp_path / "sft.log",
        VERL_FILE_LOGGER_PATH=tmp_path / "sft.jsonl",
    )
    before = load_file(tmp_path / "model" / "model.safetensors")
    after = load_file(tmp_path / "sft" / "global_step_2" / "huggingface" / "model.safetensors")
    assert before.keys() == after.keys()
    same = {name for name, weight in before.items() if weight.equal(after[name])}
    frozen = {part: {name for name in before if pattern.match(name)} for part, pattern in NAMES.items()}
    assert all(frozen.values())
    assert any("merger" in name for name in frozen["projector"])
    assert not any("merger" in name for name in frozen["visual"])
    assert same == {name for name in before if "visual." in name} == frozen["visual"] | frozen["projector"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"codevision": {"freeze": ["vision"]}},
            r"^codevision.freeze.0: must be 'visual' or 'projector', it is 'vision'$",
        ),
        ({"engine": {"strategy": "megatron"}}, "^codevision.freeze: needs engine.strategy fsdp2, not megatron$"),
        (
            {"actor_rollout_ref": {}},
            "^codevision.freeze: only SFT freezes parts of a model; leave it out of grpo.yaml$",
        ),
    ],
)
def test_what_can_t_be_frozen_is_refused_in_one_sentence(config: dict[str, object], message: str) -> None:
    section = config.get("codevision", {"freeze": ["visual"]})
    with pytest.raises(InputError, match=message):
        check_freeze(OmegaConf.create(config), read_settings(section).freeze)  # type: ignore[arg-type]
