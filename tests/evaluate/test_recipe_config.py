"""An evaluation follows the recipe's settings and names a setting that is missing."""

from pathlib import Path

import pytest
import yaml

from codevision_ext.engines.device import CPU_ENGINE
from codevision_ext.errors import InputError
from codevision_ext.evaluate.recipe_config import read_recipe_config
from codevision_ext.sandbox import Limits
from codevision_ext.sandbox.settings import ToolSettings

DEMO = Path(__file__).parents[2] / "recipe" / "demo"

PLAIN = """
codevision: {turn_tokens: 7, think_prefix: "<think>", records: somewhere}
data: {max_prompt_length: 100, max_response_length: 50}
actor_rollout_ref: {rollout: {multi_turn: {max_assistant_turns: 3, tool_config_path: tools/tool.yaml}}}
"""
TOOL = """
tools:
  - {class_name: somebody.Elses, config: {wall_s: 99}}
  - {class_name: codevision_ext.verl_adapter.tool.CodeImageTool, config: {wall_s: 2.5, max_text_chars: 33}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "grpo.yaml").write_text(PLAIN)
    (tmp_path / "tool.yaml").write_text(TOOL)
    return tmp_path / "grpo.yaml"


def test_limits_tool_and_settings_are_the_training_s_own(recipe: Path) -> None:
    rules = read_recipe_config(recipe)
    assert (rules.limits.response_tokens, rules.limits.assistant_turns, rules.limits.turn_tokens) == (50, 3, 7)
    assert rules.context == 150
    assert rules.tool == ToolSettings(limits=Limits(wall_s=2.5), max_text_chars=33)
    assert (rules.settings.think_prefix, rules.settings.records) == ("<think>", None)


def test_the_demo_s_recipe_can_be_read_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((DEMO / "grpo.yaml").read_text())
    tool = yaml.safe_load((DEMO / "tool.yaml").read_text())["tools"][0]["config"]
    rules = read_recipe_config(DEMO / "grpo.yaml")
    assert rules.limits.response_tokens == config["data"]["max_response_length"]
    assert rules.limits.turn_tokens == config["codevision"]["turn_tokens"]
    assert (rules.tool.limits.wall_s, rules.tool.max_text_chars) == (tool["wall_s"], tool["max_text_chars"])


def test_the_engine_runs_alone_with_the_settings_that_it_has_in_training() -> None:
    rollout = yaml.safe_load((DEMO / "device" / "cpu.yaml").read_text())["actor_rollout_ref"]["rollout"]
    in_training = rollout["engine_kwargs"]["sglang"] | {"dtype": rollout["dtype"]}
    in_training.pop("context_length")  # an evaluation takes what prompt and response may use
    assert in_training == CPU_ENGINE


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max_prompt_length: 100, ", "", r"grpo\.yaml: setting data\.max_prompt_length is missing"),
        ("multi_turn:", "turns:", r"grpo\.yaml: setting actor_rollout_ref\.rollout\.multi_turn is missing"),
        ("max_response_length: 50", "max_response_length: many", r"data\.max_response_length is 'many', not a number"),
        ("turn_tokens: 7", "turn_token: 7", r"codevision\.turn_token: unknown setting; known are"),
        ("turn_tokens: 7", "turn_tokens: -5", r"codevision\.turn_tokens: must be greater than or equal to 1"),
        ("turn_tokens: 7", "malformed_calls: 0", r"codevision\.malformed_calls: must be greater than or"),
        ("turn_tokens: 7", "invalid_limit: 7", r"codevision\.invalid_limit: must be less than or equal to 1"),
        ("codevision: {", "codevision: [{", r"grpo\.yaml: isn't YAML"),
        ("tool.yaml", "tools.yaml", r"tools\.yaml: can't be read: No such file"),
    ],
)
def test_a_recipe_that_says_too_little_is_refused_by_the_name_of_the_setting(
    recipe: Path, old: str, new: str, said: str
) -> None:
    assert old in PLAIN
    recipe.write_text(PLAIN.replace(old, new))
    with pytest.raises(InputError, match=said):
        read_recipe_config(recipe)


def test_a_tool_config_without_our_tool_or_with_an_unknown_limit_is_refused(recipe: Path) -> None:
    tool = recipe.with_name("tool.yaml")
    tool.write_text("tools: []")
    with pytest.raises(InputError, match=r"tool\.yaml: there is no CodeImageTool among its tools"):
        read_recipe_config(recipe)
    tool.write_text(TOOL.replace("wall_s: 2.5", "wall: 2.5"))
    with pytest.raises(InputError, match=r"tool\.yaml: wall: unknown setting; known are"):
        read_recipe_config(recipe)
    tool.write_text(TOOL.replace("wall_s: 2.5", "wall_s: fast"))
    with pytest.raises(InputError, match=r"tool\.yaml: wall_s: must be a valid number, it is 'fast'"):
        read_recipe_config(recipe)
