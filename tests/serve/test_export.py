"""An exported checkpoint needs nothing of this package, has a card with the right figures, and is whole or absent."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_run import results
from sets import scene

from codevision_ext.errors import InputError
from codevision_ext.evaluate.results import ModelUsed, write_evaluation
from codevision_ext.evaluate.setup import model_used
from codevision_ext.rollout.code_tool import TOOL_SCHEMA
from codevision_ext.rollout.trained_format import TrainedFormat, read_trained_format, write_trained_format
from codevision_ext.serve.card import Card
from codevision_ext.serve.export import export_checkpoint
from codevision_ext.types import CoordinateSystem

TRAINED = TrainedFormat(
    trained_by="rl", system_prompt="Look.", tools=(TOOL_SCHEMA,), coordinates=CoordinateSystem.ORIGINAL
)
PLAIN = """
import importlib.abc, json, sys


class Gone(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("codevision_ext", "data_prep", "verl"):
            raise ModuleNotFoundError(name)


for name in [name for name in sys.modules if name.startswith("codevision_ext")]:
    del sys.modules[name]
sys.meta_path.insert(0, Gone())
try:
    import codevision_ext
    raise SystemExit("codevision_ext can be imported")
except ModuleNotFoundError:
    pass

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, image = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder)
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
trained = json.load(open(folder + "/codevision.json"))
messages = [
    {"role": "system", "content": [{"type": "text", "text": trained["system_prompt"]}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is written?"}]},
]
tools = json.load(open(folder + "/tools.json"))
text = processor.apply_chat_template(messages, tools=tools, add_generation_prompt=True)
inputs = processor(text=[text], images=[Image.open(image)], return_tensors="pt")
banned = [token for token in range(model.config.text_config.vocab_size) if token >= len(processor.tokenizer)]
marks = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
banned += processor.tokenizer.convert_tokens_to_ids(marks)
with torch.inference_mode():
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=24, suppress_tokens=banned)
end = model.generation_config.eos_token_id
print(json.dumps({"prompt": inputs["input_ids"][0].tolist(), "all": ids[0].tolist(), "end": end}))
"""
"""A program that loads a folder in a process without this package, and prints the tokens of a prompt and its answer."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from codevision_ext.models.tiny_model import build, tokenizer_texts  # noqa: PLC0415  imports transformers

    out = tmp_path_factory.mktemp("models") / "tiny"
    sizes: dict[str, Any] = {"hidden": 32, "layers": 1, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 600}
    build("qwen2_5_vl", out, texts=tokenizer_texts(None), **sizes)
    write_trained_format(out, TRAINED)
    (out / "README.md").write_text("The card of another model.")
    return out


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def export(checkpoint: Path, out: Path, **options: Any) -> Path:
    return export_checkpoint(checkpoint, out, **{"trained": None, "card": None, "force": False} | options)


def test_plain_transformers_generates_the_tokens_of_our_engine_without_this_package(
    checkpoint: Path, tmp_path: Path
) -> None:
    from codevision_ext.engines.transformers import TransformersEngine  # noqa: PLC0415  imports transformers

    before, out = content(checkpoint), tmp_path / "exported"
    assert export(checkpoint, out) == checkpoint
    assert content(checkpoint) == before
    assert not (out / "README.md").exists()
    assert read_trained_format(out) == TRAINED
    scene(3).save(tmp_path / "image.png")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, "-W", "ignore", "-c", PLAIN, str(out), str(tmp_path / "image.png")]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)

    async def ours() -> tuple[list[int], list[int]]:
        with TransformersEngine(checkpoint, context=2048) as engine:
            await engine.load(checkpoint)
            resized = [engine.renderer.resize(scene(3))]
            messages = [
                {"role": "system", "content": [{"type": "text", "text": "Look."}]},
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is written?"}]},
            ]
            prompt = engine.renderer.prompt(messages, [TOOL_SCHEMA], resized)
            return prompt, (await engine.policy(0, temperature=0)(prompt, resized, 24)).ids

    prompt, sampled = asyncio.run(ours())
    assert plain["prompt"] == prompt
    assert plain["all"] == prompt + sampled
    assert len(plain["end"]) == 2


def test_what_a_checkpoint_lacks_is_written(checkpoint: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in checkpoint.iterdir():
        if path.name not in ("generation_config.json", "codevision.json", "README.md"):
            (bare / path.name).symlink_to(path)
    with pytest.raises(InputError, match=r"bare: there is no codevision.json; --trained names a folder"):
        export(bare, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(bare, tmp_path / "out", trained=checkpoint)
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (generation["do_sample"], generation["temperature"], len(generation["eos_token_id"])) == (True, 1.0, 2)
    assert json.loads((tmp_path / "out" / "tools.json").read_text()) == [TOOL_SCHEMA]
    assert (tmp_path / "out" / "chat_template.jinja").is_file()
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())


def test_the_folders_of_verl_are_understood(checkpoint: Path, tmp_path: Path) -> None:
    training = tmp_path / "training"
    actor = training / "global_step_7" / "actor"
    actor.mkdir(parents=True)
    (training / "latest_checkpointed_iteration.txt").write_text("7")
    (actor / "model_world_size_1_rank_0.pt").write_bytes(b"shard")
    (actor / "huggingface").symlink_to(checkpoint)
    for folder in (training, training / "global_step_7", actor, actor / "huggingface"):
        assert export(folder, tmp_path / "out", force=True) == actor / "huggingface"
    (actor / "huggingface").unlink()
    (actor / "huggingface").mkdir()
    (actor / "huggingface" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="holds verl's shards only; export the FOLDER that this command writes"):
        export(training, tmp_path / "out", force=True)
    (training / "latest_checkpointed_iteration.txt").write_text("8")
    with pytest.raises(InputError, match="not a checkpoint"):
        export(training, tmp_path / "out", force=True)


def test_an_export_is_whole_or_not_there_and_never_touches_its_input(checkpoint: Path, tmp_path: Path) -> None:
    before = content(checkpoint)
    for out in (checkpoint, checkpoint / "inside", checkpoint.parent):
        with pytest.raises(InputError, match="overlaps with the checkpoint"):
            export(checkpoint, out, force=True)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in checkpoint.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / "model.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(InputError, match="can't be read"):
        export(damaged, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]
    export(checkpoint, tmp_path / "out")
    with pytest.raises(InputError, match="isn't empty; pass --force"):
        export(checkpoint, tmp_path / "out")
    assert content(checkpoint) == before


def test_the_card_has_the_figures_of_these_weights_and_of_no_others(checkpoint: Path, tmp_path: Path) -> None:
    import random  # noqa: PLC0415

    evaluation = results(random.Random(0), 5)
    model = next(iter(evaluation.models.values()))
    card = Card(results=tmp_path, licence="apache-2.0", base_model="Qwen/x", data=("glyphs",), recipe="recipe/demo")
    write_evaluation(tmp_path / "results.json", evaluation)
    with pytest.raises(InputError, match="has no results of the files in"):
        export(checkpoint, tmp_path / "out", card=card)
    used = ModelUsed(name=str(checkpoint), url="", sha256=model_used(str(checkpoint)).sha256)
    own = replace(model, setup=replace(model.setup, model=used))
    write_evaluation(tmp_path / "results.json", replace(evaluation, models={**evaluation.models, "own": own}))
    export(checkpoint, tmp_path / "out", card=card)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["license"], head["base_model"], head["datasets"]) == ("apache-2.0", "Qwen/x", ["glyphs"])
    for suite, result in model.suites.items():
        for mode in result.modes.values():
            score = mode.overall.score
            assert f"{score.readings} ({score.interval})" in text
        assert f"`{result.sha256[:16]}`" in text
        assert suite in text
    assert "recipe/demo" in text


def test_the_command_says_what_is_missing(tmp_path: Path, checkpoint: Path) -> None:
    command = [sys.executable, "-m", "codevision_ext.cli", "export", str(checkpoint), "-o", str(tmp_path / "out")]
    done = subprocess.run([*command, "--card"], capture_output=True, text=True, check=False)
    sentence = "codevision: --card needs --results and --licence, and these belong to --card\n"
    assert (done.returncode, done.stderr) == (2, sentence)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'out'}: exported from {checkpoint}\n"), done.stderr
