"""Carries out additions that docs/architecture.md describes, on a copy of the packages, and uses what was added."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from judge_server import says, serve
from page_edits import PACKAGES, ROOT, apply_page, copy_packages, run_in
from PIL import Image
from sets import rl_row, write_parquet

from codevision_ext.io.records import read_records

PAGE = ROOT / "docs" / "architecture.md"
MOST_FILES = 3


def added(section: str, home: Path) -> set[str]:
    """Applies the blocks of one section of the page, and returns the files that changed."""
    copy_packages(home)
    text = re.search(rf"^### {section}\n(.*?)(?=^### |\Z)", PAGE.read_text(), re.M | re.S)
    assert text, section
    (home / "section.md").write_text(text[1])
    return apply_page(home / "section.md", home)


def test_a_suite_takes_at_most_three_files_and_marks_by_its_own_rule(tmp_path: Path) -> None:
    assert len(added("A suite", tmp_path)) <= MOST_FILES
    truth = {"style": "rule", "ground_truth": "200"}
    rows = [rl_row(index, None, answer="200", reward_model=truth, bbox=None) for index in range(2)]
    write_parquet(tmp_path / "rows.parquet", rows)
    with serve(says("<think>a</think><answer>201</answer>"), says("<think>a</think><answer>210</answer>")) as server:
        words = ["eval", "--model", server.url, "--engine", "openai", "--suite", "numeric=rows.parquet"]
        words += ["--out", "out", "--tools", "off", "--concurrency", "1"]
        run_in(tmp_path, "-m", "codevision_ext.cli", *words)
    records = list(read_records(tmp_path / "out" / "eval" / "numeric_tool_off.jsonl"))
    assert sorted(record.numbers["score"] for record in records) == [0.0, 1.0]


def test_a_reader_takes_at_most_three_files_and_reads_its_columns(tmp_path: Path) -> None:
    assert len(added("A reader", tmp_path)) <= MOST_FILES
    Image.effect_noise((120, 80), 90).convert("RGB").save(tmp_path / "a.png")
    record = {"figure": "a.png", "problem": "How long is AB?", "solution": "5"}
    (tmp_path / "problems.jsonl").write_text(json.dumps(record) + "\n")
    (command,) = re.findall(r"^    codevision data (convert problems.*)$", PAGE.read_text(), re.M)
    run_in(tmp_path, "-m", "data_prep", *command.split())
    (row,) = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert row["data_source"] == "geometry"
    assert "How long is AB?" in row["prompt"][0]["content"]


def test_a_reward_term_takes_at_most_three_files_and_its_weight_is_a_setting(tmp_path: Path) -> None:
    copy_packages(tmp_path)
    changed = apply_page(ROOT / "docs" / "own_reward_term.md", tmp_path)
    assert len(changed) + 1 <= MOST_FILES  # the recipe's weight is the last one
    section = {"reward": {"weights": {"idle": -0.2}}}
    code = f"from codevision_ext.config import read_settings; print(read_settings({section}).reward.weights)"
    assert run_in(tmp_path, "-c", code).strip() == "{'idle': -0.2}"


@pytest.mark.parametrize("row", re.findall(r"^\| [a-z' ]+ \| (`.*?) \| .* \|$", PAGE.read_text(), re.M))
def test_a_row_of_the_table_names_at_most_three_files_and_they_are_there(row: str) -> None:
    files = re.findall(r"`([^`]*?\.\w+)`", row)
    assert 1 <= len(files) <= MOST_FILES
    for name in files:
        if not re.search(r"NAME|LIBRARY|^grpo|^run", name):
            bases = [ROOT, *(ROOT / package for package in PACKAGES)]
            assert any((base / name).is_file() for base in bases), name


def test_the_list_of_layers_is_that_of_the_import_contract() -> None:
    contract = re.search(
        r'name = "Imports point down".*?layers = \[(.*?)\]', (ROOT / "pyproject.toml").read_text(), re.S
    )
    assert contract
    layers = [set(re.findall(r"\w+", line)) for line in re.findall(r'"(.*?)"', contract[1])]
    table = re.findall(r"^\| ((?:`[\w./]+`(?:, )?)+) \|", PAGE.read_text(), re.M)
    named = [set(re.findall(r"`(\w+)(?:/|\.py)`", row)) for row in table][: len(layers)]
    assert [set().union(*named)] == [set().union(*layers)]
    order = {name: at for at, layer in enumerate(layers) for name in layer}
    places = [min(order[name] for name in row) for row in named]
    assert places == sorted(places)
