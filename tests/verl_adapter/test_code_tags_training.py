"""Stock verl's SFT and GRPO train in the dialect `code_tags`: outputs stand in the sampled message and have no loss."""

import json
import warnings
from pathlib import Path

import pytest
import test_grpo as grpo
from test_grpo import DEMO, ROLLOUTS, STEPS, Run, launch

from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.rollout.dialects.registry import CODE_TAGS

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers warn at import, by the dozen

SFT_STEPS = 160
"""Enough for calls in most rollouts."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_cpu_if_no_cuda()
    folder: Path = tmp_path_factory.mktemp("code_tags")
    data, sft = folder / "data", folder / "sft"
    words = ["glyphs", "--out", data, "--rows", 4, "--sft-rows", 64, "--test-items", 1, "--parts", "rl,sft"]
    launch("-m", "data_prep", *words, "--source-share", 0, "--wrong-first", 0, log=folder / "data.log")
    words = ["convert", data / "sft.parquet", "--to", "sft", "--dialect", "code_tags", "--out", data / "tags.parquet"]
    launch("-m", "data_prep", *words, log=folder / "convert.log")
    sizes = ["--hidden", 64, "--layers", 2, "--vision-hidden", 32, "--vision-layers", 1, "--max-pixels", 7056]
    words = ["tiny-model", "--family", "qwen2_5_vl", "--out", folder / "model", *sizes]
    launch("-m", "codevision_ext.cli", *words, log=folder / "model.log")
    launch(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 1, "-m", "verl.trainer.sft_trainer"),
        *("--config-path", DEMO, "--config-name", "sft", "data.max_length=1024"),
        *(f"data.train_files={data / 'tags.parquet'}", f"model.path={folder / 'model'}"),
        *(f"trainer.default_local_dir={sft}", "data.train_batch_size=16", "optim.lr=5e-3"),
        *(f"trainer.total_training_steps={SFT_STEPS}", "trainer.total_epochs=1000", "trainer.save_freq=1000"),
        log=folder / "sft.log",
        VERL_FILE_LOGGER_PATH=folder / "sft.jsonl",
    )
    run = Run(folder=folder)
    start = sft / f"global_step_{SFT_STEPS}" / "huggingface"
    grpo.train(run, start, data, "codevision.system_prompt=null", "data.max_prompt_length=700")
    return run


def test_each_checkpoint_has_the_dialect_and_rl_takes_it_from_sft(run: Run) -> None:
    sft = run.folder / "sft" / f"global_step_{SFT_STEPS}" / "huggingface"
    for checkpoint in (sft, run.checkpoint(STEPS)):
        trained = json.loads((checkpoint / "codevision.json").read_text())
        assert (trained["dialect"], trained["tools"] or None) == ("code_tags", None)
        assert trained["system_prompt"] == CODE_TAGS.system(tools=True)


def test_what_has_loss_is_what_the_engine_sampled_and_nothing_else(run: Run) -> None:
    grpo.test_what_has_loss_is_what_the_engine_sampled_and_nothing_else(run)


def test_the_engine_stops_at_the_end_of_the_code_and_the_message_goes_on(run: Run) -> None:
    renderer = grpo.renderer_of(run.folder / "sft" / f"global_step_{SFT_STEPS}" / "huggingface")
    called = 0
    for rollout in run.rollouts:
        for before, after in zip(rollout["turns"], rollout["turns"][1:], strict=False):
            text = renderer.tokenizer.decode(before["ids"])
            assert text.endswith(("</code>", "</code>\n", "<|im_end|>")), "the engine samples nothing behind the code"
            between = renderer.tokenizer.decode(after["asked"][len(before["asked"]) + len(before["ids"]) :])
            if CODE_TAGS.frame(text):
                called += 1
                assert between.startswith("<sandbox_output>")
                assert between.endswith("</sandbox_output>")
    assert called >= STEPS * ROLLOUTS, "most rollouts call"
    steps = [record.observed.steps for record in run.records]
    assert sum(any(step.ok for step in each) for each in steps) >= STEPS * ROLLOUTS
