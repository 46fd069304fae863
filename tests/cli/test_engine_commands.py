"""`codevision tiny-model` and `codevision eval` end in one sentence, with whole output or none."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_run import results
from rows import reading_rows

from codevision_ext.cli.eval_options import EvalOptions
from codevision_ext.errors import InputError
from codevision_ext.evaluate.results import read_evaluation, write_evaluation
from codevision_ext.io.records import read_records
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


@pytest.mark.parametrize(
    ("content", "sentence"),
    [('"a"\n3\n', ", line 2: must be a valid string"), ("", ": has no text"), ('"a"\n{bad', ", line 2: isn't JSON")],
)
def test_texts_for_the_tokenizer_that_can_not_be_read_are_one_sentence(
    tmp_path: Path, content: str, sentence: str
) -> None:
    from codevision_ext.models.tiny_model import tokenizer_texts  # noqa: PLC0415  imports transformers

    path = tmp_path / "texts.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=re.escape(f"{path}{sentence}")):
        tokenizer_texts(path)
    path.write_text('"a"\n"b"\n')
    assert tokenizer_texts(path) == ["a", "b"]


def test_what_is_wrong_with_an_evaluation_is_said_before_an_engine_starts(
    model: Path, data: Path, tmp_path: Path
) -> None:
    from codevision_ext.cli.eval import run_eval  # noqa: PLC0415  imports transformers

    out = tmp_path / "run"
    options = EvalOptions(out=out, checkpoints=[f"base={model}"], data=data, recipe=DEMO / "grpo.yaml")
    for change, message in (
        ({"checkpoints": [str(model)]}, "must be NAME=FOLDER, NAME a word"),
        ({"checkpoints": [f"model={model}"]}, "must be NAME=FOLDER, NAME a word"),
        ({"checkpoints": [f"a/b={model}"]}, "must be NAME=FOLDER, NAME a word"),
        ({"checkpoints": [f"base={model}", f"base={model}"]}, "base occurs twice"),
        ({"tools": "on,never"}, "--tools on,never: 'never' is neither on nor off"),
        ({"checkpoints": [f"base={tmp_path / 'nowhere'}"]}, "nowhere: not a checkpoint"),
        ({"checkpoints": [f"base={model}", f"rl={tmp_path / 'nowhere'}"]}, "nowhere: not a checkpoint"),
        ({"data": tmp_path / "nothing.parquet"}, "nothing.parquet: no such file"),
        ({"data": None}, "give the items: --suite, or --data for --checkpoint"),
        ({"checkpoints": None}, "give either --model, to evaluate one model, or --checkpoint NAME=FOLDER"),
        ({"model": str(model)}, "give either --model, to evaluate one model, or --checkpoint NAME=FOLDER"),
        ({"checkpoints": None, "model": str(model)}, "--data belongs to --checkpoint; write --suite transformed="),
        ({"request": '{"top_p": 1}'}, "--request needs a model behind a URL"),
        ({"model_id": "m"}, "--model-id needs a model behind a URL"),
        ({"api_key_env": "KEY"}, "--api-key-env needs a model behind a URL"),
        ({"max_rejected": "x"}, "--max-rejected is a number of rows or a percentage"),
        ({"recipe": tmp_path / "none.yaml"}, "none.yaml: no such file"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            run_eval(replace(options, **change))
    assert not out.exists()
    out.mkdir()
    (out / "results.json").write_text("{}")
    with pytest.raises(InputError, match=r"results\.json: field models: is missing"):
        run_eval(options)
    assert not (out / "eval").exists()


def test_several_checkpoints_are_evaluated_in_one_engine_and_added_to_earlier_results(
    model: Path, data: Path, tmp_path: Path
) -> None:
    earlier = results(random.Random(0), 5)
    write_evaluation(tmp_path / "results.json", replace(earlier, models={"sft": earlier.models["sft"]}))
    words = ["--checkpoint", f"base={model}", "--checkpoint", f"rl={model}", "--data", data, "--out", tmp_path]
    words += ["--recipe", DEMO / "grpo.yaml", "--limit", 1]
    done = codevision("eval", *words, "--seed", 3, "--tools", "on")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'results.json'}\n"
    assert "base: transformed, 6 items x 1" in done.stderr
    assert read_evaluation(tmp_path).models["base"].suites["transformed"].benefit == {}
    done = codevision("eval", *words, "--seed", 3)
    assert done.returncode == 0, done.stderr
    evaluation = read_evaluation(tmp_path)
    assert evaluation.costs == earlier.costs
    assert evaluation.models["sft"] == earlier.models["sft"]
    for name in ("base", "rl"):
        assert (evaluation.models[name].setup.seed, evaluation.models[name].setup.engine) == (3, "sglang")
        assert evaluation.models[name].setup.versions["sglang"].startswith("0.5")
        assert set(evaluation.models[name].suites["transformed"].modes) == {"tool_on", "tool_off"}
        assert "overall" in evaluation.models[name].suites["transformed"].benefit
    names = {path.name for path in (tmp_path / "eval").iterdir()}
    assert names >= {"base_tool_on.jsonl", "base_tool_off.jsonl", "rl_tool_on.jsonl", "rl_tool_off.jsonl"}
    same = [
        [replace(each, numbers={}) for each in read_records(tmp_path / "eval" / f"{name}_tool_on.jsonl")]
        for name in ("base", "rl")
    ]
    assert same[0] == same[1], "the same weights and seed"
    before = (tmp_path / "eval" / "base_tool_on.jsonl").read_bytes()
    done = codevision("eval", *words, "--seed", 4)
    assert (done.returncode, done.stdout) == (2, "")
    assert last_line(done).startswith(
        f"codevision: --out {tmp_path} holds an evaluation of base with another setup.seed"
    )
    assert (tmp_path / "eval" / "base_tool_on.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("+codevision.wach=1", "codevision.wach: unknown setting; known are reward,"),
        ("trainer.save_freq=abc", "trainer.save_freq: 'abc' isn't a number, as it is in verl's ppo_trainer"),
        ("+trainer.foo=1", "trainer.foo: verl's ppo_trainer has no such setting"),
    ],
)
def test_a_setting_that_nobody_reads_ends_a_training_in_one_sentence_before_ray_starts(
    tmp_path: Path, setting: str, message: str
) -> None:
    words = ["-m", "verl.trainer.main_ppo", "--config-path", DEMO, "--config-name", "grpo"]
    words += ["data.train_files=none", "actor_rollout_ref.model.path=none", setting]
    env = os.environ | {"VERL_PLATFORM": "cpu"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"codevision: {message}")
    assert "Ray" not in done.stdout + done.stderr


def test_a_name_that_nobody_reads_in_a_yaml_of_sft_ends_the_training_too(tmp_path: Path) -> None:
    recipe = Path(shutil.copytree(DEMO, tmp_path / "recipe"))
    (recipe / "sft.yaml").write_text((recipe / "sft.yaml").read_text() + "  total_epoch: 3\n")
    words = ["-m", "torch.distributed.run", "--standalone", "-m", "verl.trainer.sft_trainer", "--config-path", recipe]
    words += ["--config-name", "sft", "data.train_files=none", "model.path=none", "trainer.default_local_dir=none"]
    env = os.environ | {"VERL_PLATFORM": "cpu"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "codevision: trainer.total_epoch: verl's sft_trainer_engine has no such setting\n" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nowhere", "--data", "x"], "nowhere: not a checkpoint: no such folder"),
        (["--model", "empty", "--data", "x"], "empty: not a checkpoint: it has no config.json"),
        (["--model", "model", "--data", "x.parquet"], "x.parquet: no such file"),
        (["--model", "model", "--data", "empty"], "empty: is a folder, not a file"),
        (["--model", "model", "--data", "rows.parquet", "--recipe", "grpo.yaml"], "grpo.yaml: no such file"),
        (["--tool", "tool.yaml"], "tool.yaml: no such file"),
    ],
)
def test_doctor_answers_a_missing_path_before_it_imports_torch(tmp_path: Path, words: list[str], message: str) -> None:
    for name in ("empty", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "rows.parquet").write_bytes(b"")
    code = f"""
import sys
from codevision_ext.cli import app
sys.argv = ["codevision", "doctor", *{words!r}]
try:
    app.main()
finally:
    print([name for name in ("torch", "transformers", "numpy", "verl", "hydra") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"codevision: {message}\n")
    assert done.stdout == "[]\n"
