"""An installed package brings its command, plugin and files, and declares its dependencies."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `pip install .` put the package, away from this checkout."""
    source, prefix = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("prefix")
    for name in ("codevision_ext", "data_prep"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    words = [
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--ignore-installed",
        "--prefix",
        str(prefix),
        ".",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return prefix


def site(prefix: Path) -> Path:
    return next(prefix.rglob("site-packages"))


def test_verl_finds_the_plugin_and_the_shell_the_command(installed: Path) -> None:
    (ours,) = distributions(path=[str(site(installed))])
    points = {(point.group, point.name): point.value for point in ours.entry_points}
    assert points == {
        ("verl.plugins", "codevision"): "codevision_ext.verl_adapter.plugin",
        ("console_scripts", "codevision"): "codevision_ext.cli:main",
    }
    environment = os.environ | {"PYTHONPATH": str(site(installed))}
    done = subprocess.run(
        [installed / "bin" / "codevision", "--help"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout


def test_every_file_of_the_package_is_installed(installed: Path) -> None:
    def content(folder: Path) -> set[str]:
        files = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        return {str(path.relative_to(folder)) for path in files}

    for name in ("codevision_ext", "data_prep"):
        assert content(ROOT / name) == content(site(installed) / name)


def test_one_python_version_is_asked_for_everywhere() -> None:
    assert "PYTHON ?= python3.11" in (ROOT / "Makefile").read_text()
    assert 'python_requires=">=3.11,<3.13"' in (ROOT / "setup.py").read_text()


def test_ci_runs_make_check() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "make check"


def test_no_two_test_modules_share_a_name() -> None:
    counts = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in counts.items() if count > 1] == []  # pytest imports only the first of them


def test_make_says_in_one_sentence_that_python_is_missing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "setup.py").touch()
    (tmp_path / "pyproject.toml").touch()
    words = ["make", "install", "PYTHON=python0.0"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "python0.0 isn't installed; install Python 3.11" in done.stderr
    assert "Traceback" not in done.stderr


def test_requirements_name_no_host() -> None:
    for path in ROOT.glob("requirements-*.txt"):
        assert not re.search(r"https?://|--index|--find-links", path.read_text()), path.name


def packages(name: str) -> set[str]:
    """Names of the packages that a file of requirements lists, as package indexes normalise them."""
    names = re.findall(r"^\w[\w.-]*", (ROOT / name).read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package).lower() for package in names}


@pytest.mark.parametrize("lock", ["requirements-lock.txt", "requirements-vllm-lock.txt"])
def test_every_required_package_has_its_version_in_the_lock(lock: str) -> None:
    of_the_machine = {"torch", "setuptools"}
    required = packages("requirements-core.txt") | packages("requirements-dev.txt")
    assert required - packages(lock) - of_the_machine == set()
