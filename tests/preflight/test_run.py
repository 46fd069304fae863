"""`codevision doctor --model` reports, before a training, what would make it fail or train on other tokens."""

import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rows import reading_rows

from codevision_ext.config import Settings
from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.errors import InputError
from codevision_ext.rollout.code_tool import TOOL_SCHEMA, CodeTool, tool_schema
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox import Limits, Sandbox
from codevision_ext.types import CoordinateSystem, ToolCall
from data_prep.formats.schema import (
    CONVERTED_RL_SCHEMA,
    RL_SCHEMA,
    SFT_SCHEMA,
    Demonstration,
    Message,
    rl_record,
    sft_record,
)
from data_prep.formats.turn_text import TOOLS, answer_text, call_text

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    use_cpu_if_no_cuda()
    from codevision_ext.models import tiny_model
    from codevision_ext.models.checkpoint import renderer_of
    from codevision_ext.preflight.result import CheckResult
    from codevision_ext.preflight.rows import DataSummary, read_rows, row_results
    from codevision_ext.preflight.run import check_training
    from codevision_ext.preflight.tokens import chat_template, renderings, special_tokens

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers and verl warn at import, by the dozen

DEMO = Path(__file__).parents[2] / "recipe" / "demo"
LIMIT = 512
"""data.max_prompt_length of the demo."""
DEFAULT_SYSTEM = "{%- if messages[0].role != 'system' -%}{{- '<|im_start|>system\\nHelp.<|im_end|>\\n' -}}{%- endif -%}"
"""Start of a template that adds a system message where there is none, as the stock template of Qwen2.5-VL does."""
SIZES = {"hidden": 32, "layers": 1, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 600, "max_pixels": 4096}


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Returns a checkpoint that no test changes, and its number of parameters."""
    out: Path = tmp_path_factory.mktemp(request.param) / "model"
    return out, tiny_model.build(request.param, out, texts=tiny_model.tokenizer_texts(), **SIZES)


@pytest.fixture
def model(family: tuple[Path, int], tmp_path: Path) -> Path:
    """Returns a copy of the checkpoint that a test may change."""
    return Path(shutil.copytree(family[0], tmp_path / "model"))


@pytest.fixture(scope="module")
def tool() -> Iterator[CodeTool]:
    with Sandbox(Limits(wall_s=30.0), live=1) as sandbox:
        yield CodeTool(sandbox)


@pytest.fixture
def rl(tmp_path: Path) -> Path:
    return write(tmp_path / "rl.parquet", [rl_record(row) for row in reading_rows()], RL_SCHEMA)


@pytest.fixture
def sft(tmp_path: Path) -> Path:
    return write(tmp_path / "sft.parquet", [sft_record(demonstration())] * 2, SFT_SCHEMA)


def write(path: Path, records: Sequence[dict[str, Any]], schema: pa.Schema) -> Path:
    pq.write_table(pa.Table.from_pylist(records, schema=schema), path)
    return path


def demonstration(*, shown: str = "Picture 1: 20x40.<image>", system: str = "", tools: str = TOOLS) -> Demonstration:
    call = ToolCall(code="image = image.rotate(90, expand=True)", description="turn left", image_index=0)
    turns = [
        *([Message(role="system", content=system)] if system else []),
        Message(role="user", content="<image>\nWhat number is written?"),
        Message(role="assistant", content=call_text("it lies", call)),
        Message(role="tool", content=shown),
        Message(role="assistant", content=answer_text("it stands", "7")),
    ]
    images = []
    for size in ((40, 20), (20, 40)):
        file = io.BytesIO()
        Image.linear_gradient("L").resize(size).save(file, "PNG")
        images.append(file.getvalue())
    return Demonstration(messages=tuple(turns), images=tuple(images), sample_type="single-tool", tools=tools)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def change_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def problems(model: Path, *data: Path, settings: Sequence[str] = (), gpu_gib: float | None = None) -> dict[str, str]:
    """Returns level, message and remedy of each check that isn't ok, by its name."""
    preflight = check_training(model, data, DEMO / "grpo.yaml", settings, gpu_gib)
    return {
        result.check: f"{result.level}: {result.message} {result.remedy}"
        for result in preflight.results
        if result.level != "ok"
    }


def tokens(model: Path) -> list[str]:
    files = [json.loads((model / name).read_text()) for name in ("config.json", "generation_config.json")]
    return lines(special_tokens(renderer_of(model), *files))


def lines(results: Iterable[CheckResult]) -> list[str]:
    return [f"{result.level}: {result.message}" for result in results]


def row_lines(summary: DataSummary, model: Path, settings: Settings) -> list[str]:
    results = row_results(summary, renderer_of(model), settings, LIMIT)
    return lines(result for result in results if result.check != "coordinate frame")


def rendering_lines(model: Path, tool: CodeTool, *paths: Path, recipe_template: str | None = None) -> list[str]:
    checkpoint, rollout = renderer_of(model), renderer_of(model)
    rollout.processor.chat_template = recipe_template or rollout.processor.chat_template
    summary = read_rows(paths, rollout, Settings(system_prompt=""), LIMIT)
    assert summary.problems == []
    return [
        line
        for conversation in summary.conversations
        for line in lines(renderings(conversation, tool, rollout=rollout, checkpoint=checkpoint)[0])
    ]


# -- a sound training ----------------------------------------------------------------------------------------------


def test_nothing_is_wrong_with_a_sound_training_and_all_renderings_are_alike(
    family: tuple[Path, int], rl: Path, tmp_path: Path
) -> None:
    renderer = renderer_of(family[0])
    width, height = ImageHistory([Image.new("RGB", (20, 40))], renderer.resize, renderer.coordinates).sizes[0]
    shown, tools = f"Picture 1: {width}x{height}.<image>", json.dumps([tool_schema(renderer.coordinates)])
    sft = write(tmp_path / "own.parquet", [sft_record(demonstration(shown=shown, tools=tools))], SFT_SCHEMA)
    preflight = check_training(
        family[0], [rl, sft], DEMO / "grpo.yaml", [f"codevision.coordinates={renderer.coordinates}"]
    )
    assert {result.level for result in preflight.results} == {"ok"}, preflight.results
    assert preflight.ok
    assert [result.check for result in preflight.results] == [
        "special tokens", "settings", "checkpoint", "chat template", "rows", "SFT and RL", "sandbox", "rendering",
        "rendering", "budgets", "judge", "KV cache", "host memory",
    ]  # fmt: skip
    assert preflight.estimate is not None
    assert preflight.estimate.parameters.total == family[1]
    assert preflight.problems == ()


def test_the_command_prints_results_with_their_remedies_and_its_exit_code_says_whether_training_would_fail(
    model: Path, rl: Path, sft: Path
) -> None:
    def doctor(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "codevision_ext.cli", "doctor", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    words = ("--model", model, "--data", rl, "--data", sft, "--recipe", DEMO / "grpo.yaml")
    done = doctor(*words, "--set", "data.max_prompt_length=100")
    output = json.loads(done.stdout)
    assert (done.returncode, output["ok"]) == (1, False), done.stderr
    assert [problem["row"] for problem in output["faults"]] == list(range(6))
    (line,) = [result for result in output["findings"] if result["level"] == "failure"]
    assert re.search(
        r"rl\.parquet: 6 rows can't be used: row 0: \d+ tokens, data.max_prompt_length is 100", line["said"]
    )
    assert "set data.max_prompt_length: " in line["remedy"]
    assert "Before training" in done.stderr
    done = doctor("--data", rl)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("codevision: --data needs --model, the checkpoint to train\n")


# -- tokens and templates ------------------------------------------------------------------------------------------


def test_a_mark_that_is_not_a_single_token_is_named_and_no_check_that_depends_on_it_is_run(
    model: Path, rl: Path
) -> None:
    for path in model.glob("*.json"):
        path.write_text(path.read_text().replace("<|vision_pad|>", "<|vision_bad|>"))
    assert tokens(model) == ["failure: <|vision_pad|>: not a single token"]
    assert set(problems(model, rl)) == {"special tokens", "everything else"}


def test_ids_and_sizes_in_the_config_are_the_tokenizer_s(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    change_json(
        model / "config.json",
        image_token_id=3,
        tie_word_embeddings=False,
        text_config=config["text_config"] | {"vocab_size": 500, "tie_word_embeddings": True},
    )
    first, second, third, _ = tokens(model)
    assert first.startswith("failure: config.json: image_token_id is 3, but <|image_pad|> is token ")
    assert second == "failure: the tokenizer has 600 tokens, but the model's embedding 500 rows"
    assert third == "failure: config.json: tie_word_embeddings is False, but True in text_config"


def test_an_end_of_turn_that_generation_does_not_know_is_a_warning(model: Path) -> None:
    change_json(model / "generation_config.json", eos_token_id=[0])
    (only,) = tokens(model)
    assert only.startswith("warning: generation_config.json: eos_token_id [0] lacks ")
    renderer = renderer_of(model)
    renderer.tokenizer.eos_token = "<|endoftext|>"
    (only,) = lines(special_tokens(renderer, json.loads((model / "config.json").read_text()), {"eos_token_id": 0}))
    assert only.startswith("failure: no turn ends: <|im_end|> is token ")


@pytest.mark.parametrize(
    ("old", "new", "settings", "expected"),
    [
        ("{%- if tools -%}", "{%- if false -%}", {}, "failure: the tool's schema isn't in the system block"),
        (
            "{%- if tools or messages[0].role == 'system' -%}",
            "{%- if tools -%}",
            {},
            "failure: without the tool the system message isn't in the system block",
        ),
        (
            "<|im_start|>assistant\\n'",
            "<|im_start|>assistant\\n<think>\\n'",
            {},
            "failure: it begins a turn with '<think>', but codevision.think_prefix is ''",
        ),
        (
            "",
            "",
            {"think_prefix": "<think>"},
            "failure: it begins a turn with '', but codevision.think_prefix is '<think>'",
        ),
    ],
)
def test_what_a_template_leaves_out_of_the_system_block_or_writes_for_the_policy_is_a_failure(
    model: Path, old: str, new: str, settings: dict[str, str], expected: str
) -> None:
    change(model / "chat_template.jinja", old, new)
    results = lines(chat_template(renderer_of(model), Settings(**settings)))
    assert any(line.startswith(expected) for line in results), results


def test_a_template_with_a_system_message_of_its_own_renders_alike_in_sft_and_rollout(
    model: Path, tool: CodeTool, rl: Path, sft: Path
) -> None:
    template = model / "chat_template.jinja"
    template.write_text(DEFAULT_SYSTEM + template.read_text())
    assert all(line.startswith("ok: ") for line in rendering_lines(model, tool, rl, sft))


def test_a_template_that_renders_a_message_by_what_follows_it_is_a_failure(
    model: Path, tool: CodeTool, rl: Path
) -> None:
    template = model / "chat_template.jinja"
    template.write_text("{{- messages|length -}}" + template.read_text())
    (line,) = rendering_lines(model, tool, rl)
    assert "a rollout can't be rendered: the chat template renders a message otherwise when others follow" in line


def test_a_template_of_the_recipe_that_evaluation_does_not_have_is_a_failure(
    model: Path, tool: CodeTool, sft: Path, rl: Path
) -> None:
    own = (model / "chat_template.jinja").read_text().replace("<tool_response>\\n", "<tool_response>")
    results = rendering_lines(model, tool, rl, recipe_template=own)
    assert re.search(r"^failure: .*row 0: an evaluation has another text from token \d+ on: ", results[0])
    assert all(line.startswith("ok") for line in rendering_lines(model, tool, rl, sft))


def test_a_demonstration_with_another_observation_than_the_tool_gives_now_is_a_warning(
    model: Path, tool: CodeTool, tmp_path: Path, rl: Path
) -> None:
    record = sft_record(demonstration(shown="Here you are.<image>"))
    results = rendering_lines(model, tool, rl, write(tmp_path / "other.parquet", [record], SFT_SCHEMA))
    assert results[1].endswith("observation is 'Here you are.' in the data, but 'Picture 1: 20x40.' now")


# -- rows ----------------------------------------------------------------------------------------------------------


def test_every_row_that_can_not_be_used_is_named_and_the_others_are_read(
    family: tuple[Path, int], sft: Path, tmp_path: Path
) -> None:
    records = [rl_record(row) for row in reading_rows()]
    records[1]["images"][0]["bytes"] = b"no image"
    records[2]["prompt"][0]["content"] += " word" * LIMIT
    records[3]["prompt"] = None
    records[4]["reward_model"]["ground_truth"] = []
    records[5]["images"][0]["bytes"] = records[5]["images"][0]["bytes"][:200]
    path = write(tmp_path / "rows.parquet", records, RL_SCHEMA)
    summary = read_rows([path, sft], renderer_of(family[0]), Settings(), LIMIT)
    assert [problem.row for problem in summary.problems] == [1, 2, 3, 4, 5]
    assert [problem.message.split(":")[0] for problem in summary.problems] == [
        "images[0]",
        f"{summary.longest_prompt} tokens, data.max_prompt_length is {LIMIT}",
        "differs from the schema",
        f"row {records[4]['data_source']}-4",
        "images[0]",
    ]
    assert (summary.read, summary.rl, len(summary.conversations)) == (8, 2, 2)
    (line, *_) = row_lines(summary, family[0], Settings())
    assert line.startswith(f"failure: {path}: 5 rows can't be used: row 1: images[0]: not an image that can be read: ")


def test_a_target_of_a_drawing_is_checked_against_the_image_of_its_row(
    family: tuple[Path, int], tmp_path: Path
) -> None:
    records = [rl_record(row) for row in reading_rows()[:4]]
    for record, x in zip(records, (20, 57, float("nan"), None), strict=True):
        point = {"kind": "point", "x": x, "y": 20}
        record["extra_info"]["drawing"] = json.dumps({"primitives": [] if x is None else [point]})
        record["reward_model"]["ground_truth"] = []
    path = write(tmp_path / "rows.parquet", records, CONVERTED_RL_SCHEMA)
    summary = read_rows([path], renderer_of(family[0]), Settings(), LIMIT)
    assert [(problem.row, problem.message) for problem in summary.problems] == [
        (
            1,
            "row glyphs-1: extra_info.drawing: field primitives.0.x, y: (57, 20) lies outside the input image, which"
            " has 56 x 56 pixels",
        ),
        (2, "row glyphs-2: extra_info.drawing: field primitives.0.x: must be a finite number, it is nan"),
        (3, "row glyphs-3: extra_info.drawing: field primitives: is empty, name at least one primitive"),
    ]


def test_a_file_without_a_column_without_rows_or_without_questions_is_refused(
    family: tuple[Path, int], tmp_path: Path, sft: Path
) -> None:
    renderer = renderer_of(family[0])
    table = pa.Table.from_pylist([rl_record(row) for row in reading_rows()], schema=RL_SCHEMA)
    pq.write_table(table.drop_columns("images"), tmp_path / "columns.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    for paths, message in (
        ([tmp_path / "columns.parquet"], r"columns\.parquet: column images is missing"),
        ([tmp_path / "empty.parquet"], r"empty\.parquet: there are no rows in it"),
        ([tmp_path / "none.parquet"], r"none\.parquet: can't be read as parquet"),
        ([sft], "none of the files has RL rows"),
    ):
        with pytest.raises(InputError, match=message):
            read_rows(paths, renderer, Settings(), LIMIT)


def test_a_system_message_or_a_tool_schema_that_sft_never_had_is_a_failure(
    family: tuple[Path, int], rl: Path, tmp_path: Path
) -> None:
    def compare(settings: Settings, demonstrated: Demonstration) -> list[str]:
        path = write(tmp_path / "demonstrated.parquet", [sft_record(demonstrated)], SFT_SCHEMA)
        summary = read_rows([rl, path], renderer_of(family[0]), settings, LIMIT)
        return row_lines(summary, family[0], settings)[1:]

    bare, own = Settings(system_prompt=""), Settings()
    (line,) = compare(own, demonstration())
    assert re.match(
        r"failure: the system message of RL, 'Answer the question .*\.\.\.', is in no SFT row; 1 have none", line
    )
    (line,) = compare(bare, demonstration(system="Use the tool."))
    assert line == "failure: the system message of RL, none, is in no SFT row; 1 have 'Use the tool.'"
    other = json.dumps([TOOL_SCHEMA | {"type": "tool"}])
    assert compare(bare, demonstration(tools=other)) == ["failure: 1 SFT rows have another tool schema than RL"]
    summary = read_rows([rl], renderer_of(family[0]), bare, LIMIT)
    assert row_lines(summary, family[0], bare)[1].startswith("warning: not compared: there are no SFT rows")


@pytest.mark.parametrize("coordinates", list(CoordinateSystem))
def test_coordinates_that_the_family_did_not_learn_are_a_warning_with_the_rows_where_they_differ(
    family: tuple[Path, int], rl: Path, coordinates: CoordinateSystem
) -> None:
    renderer, settings = renderer_of(family[0]), Settings(coordinates=coordinates)
    renderer._max_pixels = 40 * 40
    summary = read_rows([rl], renderer, settings, LIMIT)
    results = [one for one in row_results(summary, renderer, settings, LIMIT) if one.check == "coordinate frame"]
    if coordinates is renderer.coordinates:
        assert results == []
    else:
        learned = f"codevision.coordinates is {coordinates}, but {renderer.family} learned {renderer.coordinates}"
        assert [result.message for result in results] == [f"{learned}; they differ in 6 of 6 rows"]
        assert results[0].remedy.startswith(f"set codevision.coordinates: {renderer.coordinates}")


def test_qwen2_5_vl_writes_pixels_of_the_image_itself_where_no_image_is_resized(model: Path, rl: Path) -> None:
    summary = read_rows([rl], renderer_of(model), Settings(), LIMIT)
    assert summary.other_coordinates == (0 if renderer_of(model).coordinates is CoordinateSystem.SEEN else 6)


# -- settings, budgets, sandbox --------------------------------------------------------------------------------------


def test_lengths_and_images_that_do_not_fit_are_reported_with_the_number_to_set(model: Path, rl: Path) -> None:
    results = problems(model, rl, settings=["data.max_response_length=120"])
    assert re.match(
        r"failure: a call, its image and an answer must fit into 120 tokens, but .* set data", results["budgets"]
    )
    results = problems(model, rl, settings=["actor_rollout_ref.rollout.max_model_len=800"])
    assert results["budgets"].startswith(
        "failure: prompt and response may have 896 tokens, but rollout.max_model_len is 800"
    )
    name = "processor_config.json" if (model / "processor_config.json").exists() else "preprocessor_config.json"
    text = (model / name).read_text()
    (model / name).write_text(re.sub(r'"longest_edge": \d+', '"longest_edge": 1000000', text))
    results = problems(model, rl)
    assert re.match(
        r"warning: .* but an image of 1,000,000 pixels, which the processor allows, has", results["budgets"]
    )


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("actor_rollout_ref.actor.loss_agg_mode=mean", "training refuses them: .*Invalid loss_agg_mode: mean"),
        ("actor_rollout_ref.rollout.n=1", "training refuses them: .*rollout.n is 1"),
        (
            "algorithm.use_kl_in_reward=true",
            "training refuses them: .*normalise=components excludes algorithm.use_kl_in_reward",
        ),
        ("actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent", "is tool_agent: verl won't use the plugin"),
        ("reward.reward_manager.name=naive", "reward.reward_manager.name is naive: verl won't use the plugin"),
        ("trainer.v1.trainer_mode=sync", "trainer.v1.trainer_mode is sync: verl won't use the plugin"),
    ],
)
def test_settings_that_training_would_refuse_or_that_leave_out_the_plugin_are_a_failure(
    model: Path, rl: Path, setting: str, expected: str
) -> None:
    results = problems(model, rl, settings=[setting, "+codevision.reward.normalise=components"])
    assert re.match(rf"failure: .*{expected}", results["settings"])


def test_a_checkpoint_that_can_not_be_loaded_and_a_broken_template_are_one_sentence(model: Path, rl: Path) -> None:
    with pytest.raises(InputError, match="tool_config_path is empty"):
        problems(model, rl, settings=["actor_rollout_ref.rollout.multi_turn.tool_config_path=null"])
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").write_text(template + "{% if %}")
    with pytest.raises(InputError, match="the chat template can't be rendered"):
        problems(model, rl)
    (model / "chat_template.jinja").write_text(template)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model\.safetensors: can't be read"):
        problems(model, rl)
    weights.unlink()
    with pytest.raises(InputError, match="there are no weights"):
        problems(model, rl)


def test_a_sandbox_that_does_not_start_is_a_failure(model: Path, rl: Path, tmp_path: Path) -> None:
    config = tmp_path / "tool.yaml"
    lines = "{class_name: a.CodeImageTool, config: {backend: http, url: 'http://127.0.0.1:9'}}"
    config.write_text(f"tools: [{lines}]")
    results = problems(model, rl, settings=[f"actor_rollout_ref.rollout.multi_turn.tool_config_path={config}"])
    assert results["sandbox"].startswith("failure: ")
