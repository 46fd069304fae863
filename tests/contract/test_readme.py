"""README, docs and recipes name only commands, files and tests that exist."""

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest
import typer

from codevision_ext.cli import app as cli
from codevision_ext.evaluate.suites import SUITES
from codevision_ext.experiments.demo_stages import read_stages
from data_prep.cli import app as data_prep

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("recipe/*/README.md")))
LINES = sorted({line for path in PAGES for line in re.findall(r"^    (\S.*)$", path.read_text(), re.MULTILINE)})


def commands(start: str) -> list[str]:
    """The commands on the pages that begin with these words, without settings before and a comment behind."""
    bare = (re.sub(r"^(?:[A-Z]+=\S+ )+|\s+#.*$", "", line) for line in LINES)
    return sorted({line for line in bare if line.startswith(start) and "   " not in line})


def parse(app: typer.Typer, words: list[str]) -> None:
    """Reads a command line as the program would, without doing it."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    commands[words[0]].make_context(words[0], words[1:])


@pytest.mark.parametrize("line", commands("codevision "))
def test_a_codevision_command_of_a_page_is_understood(line: str) -> None:
    _, *words = shlex.split(line)
    if words[0] == "data":
        parse(data_prep.app, words[1:])
    else:
        parse(cli.app, words)


@pytest.mark.parametrize("line", commands("python -m data_prep"))
def test_a_data_command_of_a_page_is_understood(line: str) -> None:
    parse(data_prep.app, shlex.split(line)[3:])


@pytest.mark.parametrize("line", commands("make "))
def test_a_make_target_of_a_page_exists(line: str) -> None:
    done = subprocess.run([*line.split(), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", commands("bash recipe/demo/run.sh"))
def test_a_stage_of_a_page_exists(line: str) -> None:
    assert line.split()[2] in [stage.name for stage in read_stages(ROOT / "recipe" / "demo")]


def test_there_are_commands_of_every_kind() -> None:
    for start in (
        "codevision demo",
        "codevision eval",
        "python -m data_prep",
        "make demo",
        "make test",
        "bash recipe/",
    ):
        assert commands(start), start


def test_the_page_on_evaluation_has_every_suite_and_its_line() -> None:
    written = re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", (ROOT / "docs" / "evaluation.md").read_text(), re.MULTILINE)
    suites = {name: suite.about for name, suite in SUITES.items()}
    assert {name: about for name, about in written if name in suites} == suites


def test_every_stage_stands_in_the_recipe_s_table() -> None:
    recipe = ROOT / "recipe" / "demo"
    rows = re.findall(r"^\| (\w+) \|", (recipe / "README.md").read_text(), re.MULTILINE)
    assert [row for row in rows if row != "stage"] == [stage.name for stage in read_stages(recipe)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_and_files_that_a_page_names_exist(path: Path) -> None:
    text = path.read_text()
    written = all_tests()
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in written, name
    for name in re.findall(r"`((?:codevision_ext|recipe|tests|benchmarks)/[\w/]+\.\w+)`", text):
        assert (ROOT / name).exists(), name


@cache
def all_tests() -> str:
    return "\n".join(test.read_text() for test in (ROOT / "tests").rglob("test_*.py"))


def test_what_the_readme_links_to_and_its_layout_names_is_there() -> None:
    text = README.read_text()
    for link in re.findall(r"\]\(([^):]+)\)", text):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"^      ?(\w[\w/. ]+?)  ", text, re.MULTILINE):
        for part in name.split():
            assert any((ROOT / "codevision_ext").rglob(part.rstrip("/"))), part
