"""Does `codevision doctor --model` find, before training, what would make it fail or teach other tokens?"""

import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rows import reading_rows

from codevision_ext.config import Settings, read_judge_settings
from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.errors import InputError
from codevision_ext.rollout.code_tool import TOOL_SCHEMA, CodeTool, tool_schema
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.sandbox import Limits, Sandbox
from codevision_ext.types import CoordinateSystem, ToolCall
from data_prep.formats.schema import RL_SCHEMA, SFT_SCHEMA, Demonstration, Message, rl_record, sft_record
from data_prep.formats.turn_text import TOOLS, answer_text, call_text

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    use_cpu_if_no_cuda()
    from codevision_ext.models import tiny_model
    from codevision_ext.models.checkpoint import renderer_of
    from codevision_ext.preflight import (
        memory,
    )
    from codevision_ext.preflight import (
        result as findings,
    )
    from codevision_ext.preflight import (
        rows as check_rows,
    )
    from codevision_ext.preflight import (
        run as preflight,
    )
    from codevision_ext.preflight import (
        tokens as check_tokens,
    )
    from codevision_ext.preflight.recipe import load_recipe

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers and verl warn at import, by the dozen

DEMO = Path(__file__).parents[2] / "recipe" / "demo"
LIMIT = 512
"""data.max_prompt_length of the demo."""
DEFAULT_SYSTEM = "{%- if messages[0].role != 'system' -%}{{- '<|im_start|>system\\nHelp.<|im_end|>\\n' -}}{%- endif -%}"
"""What the stock template of Qwen2.5-VL does: a message by itself gets a system message."""
SIZES = {"hidden": 32, "layers": 1, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 600, "max_pixels": 4096}


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A checkpoint that nobody changes, and its number of parameters."""
    out: Path = tmp_path_factory.mktemp(request.param) / "model"
    return out, tiny_model.build(request.param, out, texts=tiny_model.tokenizer_texts(), **SIZES)


@pytest.fixture
def model(family: tuple[Path, int], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
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


def inspect(model: Path, *data: Path, settings: Sequence[str] = (), gpu_gib: float | None = None) -> dict[str, str]:
    """What is said of each check that isn't ok."""
    found = preflight.inspect(model, data, DEMO / "grpo.yaml", settings, gpu_gib)
    return {one.check: f"{one.level}: {one.said} {one.remedy}" for one in found.findings if one.level != "ok"}


def tokens(model: Path) -> list[str]:
    files = [json.loads((model / name).read_text()) for name in ("config.json", "generation_config.json")]
    return said(check_tokens.special_tokens(renderer_of(model), *files))


def said(found: Iterator[findings.CheckResult]) -> list[str]:
    return [f"{one.level}: {one.said}" for one in found]


def of_rows(rows: check_rows.Rows, model: Path, settings: Settings) -> list[str]:
    found = check_rows.row_results(rows, renderer_of(model), settings, LIMIT)
    return said(one for one in found if one.check != "coordinate frame")


def rendered(model: Path, tool: CodeTool, *paths: Path, recipe_template: str | None = None) -> list[str]:
    checkpoint, rollout = renderer_of(model), renderer_of(model)
    rollout.processor.chat_template = recipe_template or rollout.processor.chat_template
    rows = check_rows.read_rows(paths, rollout, Settings(system_prompt=""), LIMIT)
    assert rows.faults == []
    found = [
        check_tokens.renderings(talk, tool, rollout=rollout, checkpoint=checkpoint)[0] for talk in rows.conversations
    ]
    return [line for one in found for line in said(iter(one))]


# -- a sound training ----------------------------------------------------------------------------------------------


def test_nothing_is_wrong_with_a_sound_training_and_all_renderings_are_alike(
    family: tuple[Path, int], rl: Path, tmp_path: Path
) -> None:
    renderer = renderer_of(family[0])
    width, height = ImageHistory([Image.new("RGB", (20, 40))], renderer.resize, renderer.coordinates).sizes[0]
    shown, tools = f"Picture 1: {width}x{height}.<image>", json.dumps([tool_schema(renderer.coordinates)])
    sft = write(tmp_path / "own.parquet", [sft_record(demonstration(shown=shown, tools=tools))], SFT_SCHEMA)
    found = preflight.inspect(
        family[0], [rl, sft], DEMO / "grpo.yaml", [f"codevision.coordinates={renderer.coordinates}"]
    )
    assert {one.level for one in found.findings} == {"ok"}, found.findings
    assert found.ok
    checks = [one.check for one in found.findings]
    assert checks == [
        "special tokens", "settings", "chat template", "rows", "SFT and RL", "sandbox", "rendering", "rendering",
        "budgets", "judge", "KV cache", "host memory",
    ]  # fmt: skip
    assert found.estimate is not None
    assert found.estimate.parameters.total == family[1]
    assert found.faults == ()


def test_the_command_names_findings_with_their_remedies_and_its_exit_code_says_whether_training_would_fail(
    model: Path, rl: Path, sft: Path
) -> None:
    def doctor(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "codevision_ext.cli", "doctor", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    words = ("--model", model, "--data", rl, "--data", sft, "--recipe", DEMO / "grpo.yaml")
    done = doctor(*words, "--set", "data.max_prompt_length=100")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (1, False), done.stderr
    assert [fault["row"] for fault in found["faults"]] == list(range(6))
    (line,) = [one for one in found["findings"] if one["level"] == "failure"]
    assert re.search(
        r"rl\.parquet: 6 rows can't be used: row 0: \d+ tokens, data.max_prompt_length is 100", line["said"]
    )
    assert "set data.max_prompt_length: " in line["remedy"]
    assert "Before training" in done.stderr
    done = doctor("--data", rl)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("codevision: --data needs --model, the checkpoint to train\n")


# -- tokens and templates ------------------------------------------------------------------------------------------


def test_a_mark_that_is_not_a_single_token_is_named_and_nothing_that_hangs_on_it_is_tried(
    model: Path, rl: Path
) -> None:
    for path in model.glob("*.json"):
        path.write_text(path.read_text().replace("<|vision_pad|>", "<|vision_bad|>"))
    assert tokens(model) == ["failure: <|vision_pad|>: not a single token"]
    assert set(inspect(model, rl)) == {"special tokens", "everything else"}


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
    assert second == "failure: the tokenizer has 600 tokens, the model's embedding 500 rows"
    assert third == "failure: config.json: tie_word_embeddings is False, that of text_config is True"


def test_an_end_of_turn_that_generation_does_not_know_is_told(model: Path) -> None:
    change_json(model / "generation_config.json", eos_token_id=[0])
    (only,) = tokens(model)
    assert only.startswith("warning: generation_config.json: eos_token_id [0] lacks <|im_end|>")
    renderer = renderer_of(model)
    renderer.tokenizer.eos_token = "<|endoftext|>"
    (only,) = said(
        check_tokens.special_tokens(renderer, json.loads((model / "config.json").read_text()), {"eos_token_id": 0})
    )
    assert only.startswith("failure: nothing ends a turn: <|im_end|> is ")


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
            "failure: it begins a turn with '<think>', codevision.think_prefix is ''",
        ),
        (
            "",
            "",
            {"think_prefix": "<think>"},
            "failure: it begins a turn with '', codevision.think_prefix is '<think>'",
        ),
    ],
)
def test_what_a_template_leaves_out_of_the_system_block_or_writes_for_the_policy_is_told(
    model: Path, old: str, new: str, settings: dict[str, str], expected: str
) -> None:
    change(model / "chat_template.jinja", old, new)
    found = said(check_tokens.chat_template(renderer_of(model), Settings(**settings)))
    assert any(line.startswith(expected) for line in found), found


def test_a_template_with_a_system_message_of_its_own_renders_alike_in_sft_and_rollout(
    model: Path, tool: CodeTool, rl: Path, sft: Path
) -> None:
    template = model / "chat_template.jinja"
    template.write_text(DEFAULT_SYSTEM + template.read_text())
    assert all(line.startswith("ok: ") for line in rendered(model, tool, rl, sft))


def test_a_template_that_renders_a_message_by_what_follows_it_is_found(model: Path, tool: CodeTool, rl: Path) -> None:
    template = model / "chat_template.jinja"
    template.write_text("{{- messages|length -}}" + template.read_text())
    (found,) = rendered(model, tool, rl)
    assert "a rollout can't be rendered: the chat template renders a message otherwise when others follow" in found


def test_a_template_of_the_recipe_s_own_that_evaluation_does_not_have_is_found(
    model: Path, tool: CodeTool, sft: Path, rl: Path
) -> None:
    own = (model / "chat_template.jinja").read_text().replace("<tool_response>\\n", "<tool_response>")
    found = rendered(model, tool, rl, recipe_template=own)
    assert re.search(r"^failure: .*row 0: an evaluation has another text from token \d+ on: ", found[0])
    assert all(line.startswith("ok") for line in rendered(model, tool, rl, sft))


def test_a_demonstration_whose_tool_says_other_words_than_ours_is_told(
    model: Path, tool: CodeTool, tmp_path: Path, rl: Path
) -> None:
    record = sft_record(demonstration(shown="Here you are.<image>"))
    found = rendered(model, tool, rl, write(tmp_path / "other.parquet", [record], SFT_SCHEMA))
    assert found[1].endswith("the tool said 'Here you are.' in the data, it now says 'Picture 1: 20x40.'")


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
    rows = check_rows.read_rows([path, sft], renderer_of(family[0]), Settings(), LIMIT)
    assert [fault.row for fault in rows.faults] == [1, 2, 3, 4, 5]
    assert [fault.said.split(":")[0] for fault in rows.faults] == [
        "images",
        f"{rows.longest} tokens, data.max_prompt_length is {LIMIT}",
        "not as the schema has it",
        f"row {records[4]['data_source']}-4",
        "images",
    ]
    assert (rows.read, rows.rl, len(rows.conversations)) == (8, 2, 2)
    (line, *_) = of_rows(rows, family[0], Settings())
    assert line.startswith(
        f"failure: {path}: 5 rows can't be used: row 1: images: not an image that can be read; row 2"
    )


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
            check_rows.read_rows(paths, renderer, Settings(), LIMIT)


def test_a_system_message_or_a_tool_schema_that_sft_never_saw_is_found(
    family: tuple[Path, int], rl: Path, tmp_path: Path
) -> None:
    def compare(settings: Settings, demonstrated: Demonstration) -> list[str]:
        path = write(tmp_path / "demonstrated.parquet", [sft_record(demonstrated)], SFT_SCHEMA)
        rows = check_rows.read_rows([rl, path], renderer_of(family[0]), settings, LIMIT)
        return of_rows(rows, family[0], settings)[1:]

    bare, own = Settings(system_prompt=""), Settings()
    (line,) = compare(own, demonstration())
    assert re.match(
        r"failure: RL's system message, 'Answer the question .*\.\.\.', is in no SFT row; 1 have none", line
    )
    (line,) = compare(bare, demonstration(system="Use the tool."))
    assert line == "failure: RL's system message, none, is in no SFT row; 1 have 'Use the tool.'"
    other = json.dumps([TOOL_SCHEMA | {"type": "tool"}])
    assert compare(bare, demonstration(tools=other)) == [
        "failure: 1 SFT rows have another tool schema than the one that RL shows"
    ]
    rows = check_rows.read_rows([rl], renderer_of(family[0]), bare, LIMIT)
    assert of_rows(rows, family[0], bare)[1].startswith("warning: not compared: there are no SFT rows")


@pytest.mark.parametrize("coordinates", list(CoordinateSystem))
def test_coordinates_that_aren_t_the_family_s_own_are_told_with_the_rows_where_they_differ(
    family: tuple[Path, int], rl: Path, coordinates: CoordinateSystem
) -> None:
    renderer, settings = renderer_of(family[0]), Settings(coordinates=coordinates)
    renderer._max_pixels = 40 * 40
    rows = check_rows.read_rows([rl], renderer, settings, LIMIT)
    found = [one for one in check_rows.row_results(rows, renderer, settings, LIMIT) if one.check == "coordinate frame"]
    if coordinates is renderer.coordinates:
        assert found == []
    else:
        learned = f"codevision.coordinates is {coordinates}, {renderer.family} learned to write {renderer.coordinates}"
        assert [one.said for one in found] == [f"{learned}; they differ in 6 of 6 rows"]
        assert found[0].remedy.startswith(f"set codevision.coordinates: {renderer.coordinates}")


def test_pixels_of_the_image_itself_are_what_qwen2_5_vl_writes_where_it_sees_every_image_as_it_is(
    model: Path, rl: Path
) -> None:
    rows = check_rows.read_rows([rl], renderer_of(model), Settings(), LIMIT)
    assert rows.misplaced == (0 if renderer_of(model).coordinates is CoordinateSystem.SEEN else 6)


# -- budgets, sandbox, judge, memory -------------------------------------------------------------------------------


def test_lengths_and_images_that_do_not_fit_are_told_with_the_number_to_set(model: Path, rl: Path) -> None:
    found = inspect(model, rl, settings=["data.max_response_length=120"])
    assert re.match(
        r"failure: a call, its image and an answer must fit into 120 tokens, but .* set data", found["budgets"]
    )
    found = inspect(model, rl, settings=["actor_rollout_ref.rollout.max_model_len=800"])
    assert found["budgets"].startswith("failure: prompt and response may have 896 tokens, rollout.max_model_len is 800")
    name = "processor_config.json" if (model / "processor_config.json").exists() else "preprocessor_config.json"
    text = (model / name).read_text()
    (model / name).write_text(re.sub(r'"longest_edge": \d+', '"longest_edge": 1000000', text))
    found = inspect(model, rl)
    assert re.match(r"warning: .* but an image of 1,000,000 pixels, which the processor allows, has", found["budgets"])


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("actor_rollout_ref.actor.loss_agg_mode=mean", "training refuses them: .*Invalid loss_agg_mode: mean"),
        ("actor_rollout_ref.rollout.n=1", "training refuses them: .*rollout.n is 1"),
        ("algorithm.use_kl_in_reward=true", "training refuses them: .*no room for algorithm.use_kl_in_reward"),
        ("actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent", "is tool_agent: the plugin's isn't used"),
        ("reward.reward_manager.name=naive", "reward.reward_manager.name is naive: the plugin's isn't used"),
        ("trainer.v1.trainer_mode=sync", "trainer.v1.trainer_mode is sync: the plugin's isn't used"),
    ],
)
def test_settings_that_training_would_refuse_or_that_pass_the_plugin_by_are_a_failure(
    model: Path, rl: Path, setting: str, expected: str
) -> None:
    found = inspect(model, rl, settings=[setting, "+codevision.reward.normalise=components"])
    assert re.match(rf"failure: .*{expected}", found["settings"])


def test_a_checkpoint_that_can_not_be_loaded_and_a_broken_template_are_one_sentence(model: Path, rl: Path) -> None:
    with pytest.raises(InputError, match="tool_config_path is empty"):
        inspect(model, rl, settings=["actor_rollout_ref.rollout.multi_turn.tool_config_path=null"])
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").write_text(template + "{% if %}")
    with pytest.raises(InputError, match="the chat template can't be rendered"):
        inspect(model, rl)
    (model / "chat_template.jinja").write_text(template)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model\.safetensors: can't be read"):
        inspect(model, rl)
    weights.unlink()
    with pytest.raises(InputError, match="there are no weights"):
        inspect(model, rl)


def test_a_sandbox_that_does_not_start_is_a_failure(model: Path, rl: Path, tmp_path: Path) -> None:
    config = tmp_path / "tool.yaml"
    lines = "{class_name: a.CodeImageTool, config: {backend: http, url: 'http://127.0.0.1:9'}}"
    config.write_text(f"tools: [{lines}]")
    found = inspect(model, rl, settings=[f"actor_rollout_ref.rollout.multi_turn.tool_config_path={config}"])
    assert found["sandbox"].startswith("failure: ")


@contextmanager
def judge(reply: Callable[[str], str]) -> Iterator[str]:
    """An endpoint whose replies are made of the nonce; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            nonce = re.findall(r"VERDICT (\w+):", request["messages"][0]["content"])[0]
            message = {"role": "assistant", "content": reply(nonce)}
            body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("VERDICT {}: CORRECT", "ok: judge-7b answers, and is right"),
        ("VERDICT {}: INCORRECT", "warning: judge-7b takes 'eight' for wrong where '8' is right"),
        ("Who knows", "failure: judge-7b gave no verdict: 'Who knows'"),
    ],
)
def test_the_judge_is_asked_one_question(reply: str, expected: str) -> None:
    with judge(reply.format) as url:
        found = preflight._judge(read_judge_settings(base_url=url, model="judge-7b"))
    assert f"{found.level}: {found.said}" == expected


def test_a_judge_that_can_not_be_reached_is_a_failure() -> None:
    found = preflight._judge(read_judge_settings(base_url="http://127.0.0.1:9/v1", model="judge-7b", retries=0))
    assert (found.level, found.said.split(":")[0]) == ("failure", "the judge judge-7b at http")


BIG = {
    "model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
    "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
}  # fmt: skip
"""The sizes of Qwen2.5-VL-7B, whose release says 16,584,333,312 bytes of bf16 weights."""
IMAGES = memory.Images(each=1.0, pixels=1e6, tokens=1280.0, share=0.5)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoConfig  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("big")
    (folder / "config.json").write_text(json.dumps(BIG))
    return AutoConfig.from_pretrained(folder)


def estimated(big: Any, *settings: str, gpu_gib: float | None = 80) -> memory.Estimate:
    config = load_recipe(DEMO, "grpo", ["device=gpu", *settings])
    return memory.estimate_memory(config, big, IMAGES, gpu_gib and gpu_gib * memory.GIB)


def test_parameters_are_counted_without_weights_and_lora_s_are_the_trained_ones(big: Any) -> None:
    whole = memory.count_parameters(big)
    assert whole.total == whole.trained == 16_584_333_312 // 2
    assert whole.block == 233_057_792  # of the language model; 32 of the vision tower are smaller
    lora = memory.count_parameters(big, {"r": 8, "target_modules": ["q_proj"]})
    assert (lora.total, lora.trained) == (whole.total, 28 * 8 * (3584 + 3584))


def test_states_are_shared_out_over_the_gpus_and_offloaded_ones_are_the_host_s(big: Any) -> None:
    one = estimated(big)
    parameters = one.parameters.total
    assert (one.update["weights"], one.update["gradients"]) == (parameters * 4 / 8, parameters * 4 / 8)
    assert one.update["optimizer"] == parameters * 8 / 8
    assert one.rollout["weights"] == one.update["weights"]
    assert one.kv_token == 2 * 28 * 4 / 2 * 128 * 2
    two = estimated(big, "trainer.nnodes=2", "actor_rollout_ref.actor.fsdp_config.optimizer_offload=true")
    assert two.update["weights"] == one.update["weights"] / 2
    assert set(one.rollout) - set(two.rollout) == {"optimizer"}
    assert two.host["offloaded optimizer"] == 8 * two.update["optimizer"]
    assert two.host["pictures"] == one.host["pictures"] / 2
    lora = estimated(big, "actor_rollout_ref.model.lora_rank=8")
    assert lora.update["optimizer"] < one.update["optimizer"] / 50


def test_activations_and_logits_grow_with_the_micro_batch_and_shrink_with_checkpointing(big: Any) -> None:
    one = estimated(big)
    half = estimated(big, "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=16384")
    for name in ("activations", "logits"):
        assert half.update[name] == one.update[name] / 2
    kept = estimated(big, "actor_rollout_ref.model.enable_gradient_checkpointing=false")
    assert kept.update["activations"] > 8 * one.update["activations"]
    assert estimated(big, "actor_rollout_ref.model.use_fused_kernels=true").update["logits"] == 0


def test_a_recipe_that_does_not_fit_the_gpu_is_a_failure_and_without_one_nothing_is_compared(big: Any) -> None:
    def told(gib: float | None, *settings: str) -> dict[str, str]:
        config = load_recipe(DEMO, "grpo", ["device=gpu", *settings])
        size = gib and gib * memory.GIB
        found = preflight._memory(config, memory.estimate_memory(config, big, IMAGES, size), size)
        return {one.check: one.level for one in found}

    assert set(told(1000).values()) - {"warning"} == {"ok"}
    assert told(16)["GPU memory, update"] == "failure"
    assert told(None)["GPU memory, update"] == "warning"
    assert "KV cache" not in told(None)
