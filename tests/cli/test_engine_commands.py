"""Do `codevision tiny-model` and `codevision eval` end in one sentence, with whole output or none?"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import reading_rows

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import COLUMNS, Score, merge_results, read_results
from data_prep.formats.schema import RL_SCHEMA, rl_record

DEMO = Path(__file__).parents[2] / "recipe" / "demo"
SMALL = ["--hidden", "32", "--layers", "1", "--vision-hidden", "32", "--vision-layers", "1", "--vocab-size", "600"]


def codevision(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codevision_ext.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "model"
    done = codevision("tiny-model", "--family", "qwen2_5_vl", "--out", out, *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: qwen2_5_vl, ")
    return out


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist([rl_record(row) for row in reading_rows()], schema=RL_SCHEMA), path)
    return path


def test_a_tiny_model_is_a_checkpoint_and_is_not_overwritten_by_accident(model: Path) -> None:
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in model.iterdir()}
    assert json.loads((model / "config.json").read_text())["text_config"]["hidden_size"] == 32
    before = (model / "model.safetensors").stat().st_mtime_ns
    done = codevision("tiny-model", "--family", "qwen2_5_vl", "--out", model, *SMALL)
    assert done.returncode == 2
    assert last_line(done) == f"codevision: --out {model} isn't empty; pass --force to replace what is in it"
    assert (model / "model.safetensors").stat().st_mtime_ns == before
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_tiny_model_that_can_not_be_leaves_no_folder(tmp_path: Path) -> None:
    done = codevision("tiny-model", "--family", "qwen9", "--out", tmp_path / "model")
    assert done.returncode == 2
    assert last_line(done).startswith("codevision: --family qwen9: unknown model family; known are qwen2_5_vl")
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_an_evaluation_is_said_before_an_engine_starts(
    model: Path, data: Path, tmp_path: Path
) -> None:
    from codevision_ext.evaluate.checkpoints import evaluate_checkpoints  # noqa: PLC0415  # imports transformers

    out, recipe = tmp_path / "run", DEMO / "grpo.yaml"
    for checkpoints, tools, said in (
        ([str(model)], "on", "must be NAME=FOLDER, NAME one of base, sft, rl"),
        ([f"dpo={model}"], "on", "must be NAME=FOLDER, NAME one of base, sft, rl"),
        ([f"base={model}", f"base={model}"], "on", "base is given twice"),
        ([f"base={model}"], "on,never", "--tools on,never: 'never' is neither on nor off"),
        ([f"base={tmp_path / 'nowhere'}"], "on", "nowhere: not a checkpoint"),
        ([f"base={model}", f"rl={tmp_path / 'nowhere'}"], "on", "nowhere: not a checkpoint"),
    ):
        with pytest.raises(InputError, match=said):
            evaluate_checkpoints(checkpoints, data, out, recipe=recipe, tools=tools)
    with pytest.raises(InputError, match=r"nothing\.parquet: can't be read as parquet"):
        evaluate_checkpoints([f"base={model}"], tmp_path / "nothing.parquet", out, recipe=recipe)
    assert not out.exists()
    out.mkdir()
    (out / "results.json").write_text("{}")
    with pytest.raises(InputError, match=r"results\.json: field checkpoints: is missing"):
        evaluate_checkpoints([f"base={model}"], data, out, recipe=recipe)
    assert not (out / "eval").exists()


def test_an_evaluation_adds_its_scores_to_those_that_are_there(model: Path, data: Path, tmp_path: Path) -> None:
    score = Score.of([True])
    merge_results(tmp_path / "results.json", {"sft": {"tool_off": dict.fromkeys(COLUMNS, score)}}, 0, {"verl": "0"})
    words = ["--checkpoint", f"base={model}", "--checkpoint", f"rl={model}", "--data", data, "--out", tmp_path]
    done = codevision("eval", *words, "--recipe", DEMO / "grpo.yaml", "--seed", 3, "--limit", 1)
    assert done.returncode == 0, done.stderr
    results = read_results(tmp_path / "results.json")
    assert {name: set(modes) for name, modes in results.checkpoints.items()} == {
        "sft": {"tool_off"},
        "base": {"tool_on", "tool_off"},
        "rl": {"tool_on", "tool_off"},
    }
    assert results.seed == 3
    assert results.versions["sglang"].startswith("0.5")
    names = {path.name for path in (tmp_path / "eval").iterdir()}
    assert names >= {"base_tool_on.jsonl", "base_tool_off.jsonl", "rl_tool_on.jsonl", "rl_tool_off.jsonl"}
    same = [(tmp_path / "eval" / f"{name}_tool_on.jsonl").read_bytes() for name in ("base", "rl")]
    assert same[0] == same[1], "the same weights and seed"


def test_a_wrong_setting_of_ours_ends_a_training_in_one_sentence_before_ray_starts(tmp_path: Path) -> None:
    words = ["-m", "verl.trainer.main_ppo", "--config-path", DEMO, "--config-name", "grpo"]
    words += ["data.train_files=none", "actor_rollout_ref.model.path=none", "+codevision.wach=1"]
    env = os.environ | {"VERL_PLATFORM": "cpu"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("codevision: codevision.wach: unknown setting; known are reward,")
    assert "Ray" not in done.stdout + done.stderr
