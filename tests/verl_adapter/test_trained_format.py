"""A checkpoint that verl saves, exports or merges says how it was trained, and is evaluated accordingly."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sets import coded, rl_row, scene, write_parquet

from codevision_ext.evaluate.results import ModelResult, read_evaluation
from codevision_ext.rollout.trained_format import FILE

DEMO = Path(__file__).parents[2] / "recipe" / "demo"
ROWS, STEPS = 8, 60


def python(*words: object, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-W", "ignore", *map(str, words)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows without a system message, and the checkpoint of a model that has learned them by heart."""
    folder = tmp_path_factory.mktemp("trained")
    rows = [rl_row(at, None, bbox=None) for at in range(ROWS)]
    for at, row in enumerate(rows):
        row["images"] = [{"bytes": coded(scene(at, (28, 28))), "path": None}]
    write_parquet(folder / "rows.parquet", rows)
    demonstrations = [
        {
            "messages": [
                {"role": "user", "content": row["prompt"][0]["content"]},
                {"role": "assistant", "content": f"<think>a</think><answer>word{at}</answer>"},
            ],
            "images": row["images"],
            "tools": "",
        }
        for at, row in enumerate(rows)
    ]
    write_parquet(folder / "sft.parquet", demonstrations)
    sizes = ["--hidden", 64, "--layers", 2, "--vision-hidden", 32, "--vision-layers", 1, "--max-pixels", 7056]
    python("-m", "codevision_ext.cli", "tiny-model", "--family", "qwen2_5_vl", "--out", folder / "model", *sizes)
    python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 1, "-m", "verl.trainer.sft_trainer"),
        *("--config-path", DEMO, "--config-name", "sft", f"data.train_files={folder / 'sft.parquet'}"),
        *(f"model.path={folder / 'model'}", f"trainer.default_local_dir={folder / 'sft'}", "optim.lr=5e-3"),
        *(f"data.train_batch_size={ROWS}", f"trainer.total_training_steps={STEPS}", "trainer.total_epochs=1000"),
        f"trainer.save_freq={STEPS}",
        VERL_FILE_LOGGER_PATH=str(folder / "sft.jsonl"),
    )
    return folder


def exported(folder: Path) -> Path:
    return folder / "sft" / f"global_step_{STEPS}" / "huggingface"


def evaluated(folder: Path, out: Path, *words: object) -> tuple[ModelResult, float, str]:
    """Returns the result, the accuracy, and what stands on stderr."""
    done = evaluate(folder, out, "--model", exported(folder), *words)
    result = read_evaluation(out).models["model"]
    return result, accuracy_of(result), done.stderr


def evaluate(folder: Path, out: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = ["-m", "codevision_ext.cli", "eval", "--engine", "transformers", "--max-tokens", 64, "--out", out]
    command += ["--suite", f"rows={folder / 'rows.parquet'}", "--tools", "off", "--temperature", 0]
    return python(*command, *words)


def accuracy_of(result: ModelResult) -> float:
    return result.suites["rows"].modes["tool_off"].overall.score.accuracy


def test_what_verl_saves_says_how_it_was_trained(folder: Path) -> None:
    trained = json.loads((exported(folder) / FILE).read_text())
    expected: dict[str, Any] = {"version": 1, "trained_by": "sft", "system_prompt": None, "system_prompt_no_tool": ""}
    expected |= {"tools": None, "think_prefix": "", "max_pixels": 7056}
    assert {name: trained[name] for name in expected} == expected


def test_a_model_trained_without_a_system_message_is_evaluated_without_one_unless_told_otherwise(
    folder: Path, tmp_path: Path
) -> None:
    result, accuracy, errors = evaluated(folder, tmp_path / "as_trained")
    assert result.setup.trained is not None
    assert (result.setup.trained.system_prompt_no_tool, result.setup.differences) == ("", ())
    assert "codevision: " not in errors
    assert accuracy == evaluated(folder, tmp_path / "told", "--set", "system_prompt=")[1] >= 0.9
    other, lower, errors = evaluated(folder, tmp_path / "other", "--set", "system_prompt=null")
    assert lower < accuracy
    (line,) = [line for line in errors.splitlines() if line.startswith("codevision: ")]
    assert line.endswith("but the checkpoint was trained with no message")
    assert line == f"codevision: {exported(folder)}: {other.setup.differences[0]}"
    trained = (exported(folder) / FILE).read_bytes()
    (exported(folder) / FILE).unlink()
    try:
        public, lowest, errors = evaluated(folder, tmp_path / "public")
    finally:
        (exported(folder) / FILE).write_bytes(trained)
    assert (public.setup.trained, lowest) == (None, lower), "the package's message, as before"
    assert errors.count("no codevision.json says how it was trained") == 1


def test_each_of_several_checkpoints_is_evaluated_as_it_was_trained(folder: Path, tmp_path: Path) -> None:
    """The weights are the same; only one folder says how they were trained."""
    public = shutil.copytree(exported(folder), tmp_path / "public", ignore=shutil.ignore_patterns(FILE))
    words = ("--checkpoint", f"base={public}", "--checkpoint", f"sft={exported(folder)}")
    done = evaluate(folder, tmp_path / "out", *words)
    models = read_evaluation(tmp_path / "out").models
    assert accuracy_of(models["base"]) < 0.9 <= accuracy_of(models["sft"])
    assert [models[name].setup.trained is None for name in ("base", "sft")] == [True, False]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("codevision: ")]
    assert line.startswith(f"codevision: {public}: no codevision.json says how it was trained")


def test_a_merge_of_verl_s_shards_takes_the_file_along(folder: Path, tmp_path: Path) -> None:
    step = exported(folder).parent
    python("-m", "verl.model_merger", "merge", "--backend", "fsdp", "--local_dir", step, "--target_dir", tmp_path)
    assert (tmp_path / FILE).read_bytes() == (exported(folder) / FILE).read_bytes()
    assert (tmp_path / "model.safetensors").is_file()


def test_a_checkpoint_with_another_largest_image_keeps_the_file(folder: Path, tmp_path: Path) -> None:
    python("-m", "codevision_ext.models.max_pixels", exported(folder), tmp_path / "smaller", 3136)
    assert (tmp_path / "smaller" / FILE).read_bytes() == (exported(folder) / FILE).read_bytes()
