"""The documentation builds, its examples run, and the settings it names exist."""

import json
import re
import shlex
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from page_edits import ROOT, apply_page, copy_packages, run_in
from PIL import Image
from pydantic import BaseModel

from codevision_ext.config import Settings
from codevision_ext.preflight import recipe as check_recipe
from codevision_ext.rewards.rubric import ALIASES, PRESETS
from data_prep import __main__ as data_prep

DOCS = ROOT / "docs"


def block(page: str, language: str, title: str) -> str:
    """The only code block of this language and title on a page."""
    (found,) = re.findall(
        rf'^```{language} title="{re.escape(title)}"\n(.*?)^```$', read(page), re.MULTILINE | re.DOTALL
    )
    return str(found)


def read(page: str) -> str:
    return (DOCS / page).read_text()


def command(page: str, start: str) -> list[str]:
    """The words of the first command on a page that begins so."""
    found = re.search(rf"^    ({start}.*)$", read(page), re.MULTILINE)
    assert found, start
    return shlex.split(found[1])


def changed_package(page: str, home: Path) -> None:
    """Copies the packages to `home` and does to them what the page says."""
    copy_packages(home)
    apply_page(DOCS / page, home)


def test_the_site_is_built_without_a_warning_and_names_no_place_to_load_from(tmp_path: Path) -> None:
    run_in(ROOT, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path))
    for page in ("index.html", "reference/commands/index.html", "recipe/demo/index.html"):
        html = (tmp_path / page).read_text()
        assert not re.findall(r'<(?:script|link rel="stylesheet"|img)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', html), (
            page
        )
    commands = (tmp_path / "reference" / "commands" / "index.html").read_text()
    assert "codevision score" in commands
    assert "codevision data convert" in commands
    assert 'id="codevision_ext.config.Settings.coordinates"' in (tmp_path / "reference/settings/index.html").read_text()


def test_the_reward_term_of_the_docs_works_after_the_three_touches_that_they_name(tmp_path: Path) -> None:
    page = "own_reward_term.md"
    changed_package(page, tmp_path)
    (tmp_path / "records.jsonl").write_text(block(page, "json", "records.jsonl"))
    run_in(tmp_path, "-m", "codevision_ext.cli", *command(page, "codevision score")[1:])
    terms = [json.loads(line)["terms"]["idle"] for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert [term["raw"] for term in terms] == [0.0, 0.5]
    assert terms[1]["contribution"] == pytest.approx(-0.1)
    section = yaml.safe_load(block(page, "yaml", "grpo.yaml"))["codevision"]
    said = run_in(
        tmp_path,
        "-c",
        "import json, sys; from codevision_ext.config import read_settings; "
        "print(read_settings(json.load(sys.stdin)).reward.weights)",
        input=json.dumps(section),
    )
    assert said.strip() == "{'idle': -0.2}"


def test_the_function_of_the_docs_can_be_called_by_the_model_s_code_and_is_traced(tmp_path: Path) -> None:
    page = "own_tool.md"
    changed_package(page, tmp_path)
    (tmp_path / "magnify.py").write_text(block(page, "python", "magnify.py"))
    scene = Image.effect_noise((40, 30), 90).convert("RGB").resize((320, 240), Image.Resampling.BICUBIC)
    scene.save(tmp_path / "page.png")
    answer = json.loads(run_in(tmp_path, "-m", "codevision_ext.cli", *command(page, "codevision exec")[1:]))
    assert answer["status"] == "ok", answer["detail"]
    with Image.open(tmp_path / "magnified.png") as made:
        assert made.size == (480, 360)
    (step,) = answer["steps"]
    assert step["ops"] == ["crop", "resize"]
    assert step["region"] == pytest.approx([40, 30, 200, 150], abs=1)


def test_the_rows_with_drawings_of_the_docs_become_rows_whose_targets_lie_on_their_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = "drawing.md"
    (tmp_path / "figures.jsonl").write_text(block(page, "json", "figures.jsonl"))
    (tmp_path / "figures").mkdir()
    for name in "ab":
        Image.effect_noise((240, 160), 90).convert("RGB").save(tmp_path / "figures" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    for name in ("convert", "check"):
        monkeypatch.setattr(sys, "argv", command(page, f"codevision data {name}")[1:])
        with pytest.raises(SystemExit) as ended:
            data_prep.main()
        assert not ended.value.code, name
        assert json.loads(capsys.readouterr().out)["rows"]["read"] == 2
    setting = re.search(r"`codevision\.reward\.preset=(\w+)`", read(page))
    assert setting is not None
    assert setting[1] in PRESETS


def test_the_table_of_the_docs_becomes_rows_and_their_commands_do_with_them_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = "own_data.md"
    (tmp_path / "scans.jsonl").write_text(block(page, "json", "scans.jsonl"))
    (tmp_path / "scans").mkdir()
    for name in "abc":
        Image.effect_noise((120, 80), 90).convert("RGB").save(tmp_path / "scans" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    told = {}
    for name in ("convert scans", "check", "inspect", "split", "transform"):
        monkeypatch.setattr(sys, "argv", command(page, f"codevision data {name}")[1:])
        with pytest.raises(SystemExit) as ended:
            data_prep.main()
        assert not ended.value.code, name
        told[name] = json.loads(capsys.readouterr().out)
    assert told["convert scans"]["rows"] == {"read": 3, "written": 3, "rejected": 0}
    assert told["check"]["rows"] == {"read": 3, "bad": 0}
    assert (tmp_path / "rl.html").exists()
    assert (tmp_path / "parts" / "val.parquet").exists()
    assert told["transform"]["rows"]["written"] == 3


def settings_named() -> list[str]:
    """Every setting in backquotes on a page of the docs, perhaps with a value behind; codevision.json is a file."""
    sections = "codevision|data|actor_rollout_ref|trainer|algorithm|reward"
    pages = [*DOCS.glob("*.md"), *ROOT.glob("recipe/*/README.md")]
    names = {name for page in pages for name in re.findall(rf"`((?:{sections})\.[\w.]+)[=:` ]", page.read_text())}
    return sorted(names - {"codevision.json"})


@pytest.mark.parametrize("name", settings_named())
def test_a_setting_that_the_docs_name_is_there(name: str) -> None:
    section, *parts = name.split(".")
    if section == "codevision":
        assert known_to_us(parts), name
    else:
        assert known_to_verl(name.split(".")), name


def known_to_us(parts: list[str]) -> bool:
    if parts[:2] == ["reward", "weights"]:
        return len(parts) == 2 or any(parts[2] in {*PRESETS[preset], *ALIASES[preset]} for preset in PRESETS)
    model: Any = Settings
    for part in parts:
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            return False
        kinds = [model.model_fields[part].annotation, *getattr(model.model_fields[part].annotation, "__args__", ())]
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return True


def known_to_verl(parts: list[str]) -> bool:
    value: Any = plain_config()
    for part in parts:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


@cache
def plain_config() -> dict[str, Any]:
    config = check_recipe.composed(ROOT / "recipe" / "qwen2_5_vl_7b", "grpo")
    return dict(OmegaConf.to_container(config))  # type: ignore[arg-type]
