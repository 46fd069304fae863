"""Does to a copy of the packages what a page of the docs says, and runs commands on that copy."""

import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("codevision_ext", "data_prep")


def copy_packages(home: Path) -> None:
    """Copies both packages into `home`, where they are imported from if a command runs there."""
    for package in PACKAGES:
        copytree(ROOT / package, home / package, ignore=ignore_patterns("__pycache__"))


def apply_page(page: Path, home: Path) -> set[str]:
    """Applies the code blocks of a page to the copy in `home`, in order; returns the files that changed.

    A `python` block with a package file as its title is appended to that file, or becomes a new one; a `diff` block
    replaces its lines, which must stand in the file exactly once.
    """
    changed = set()
    blocks = re.findall(
        r'^```(python|diff) title="((?:codevision_ext|data_prep)/.*?)"\n(.*?)^```$', page.read_text(), re.M | re.S
    )
    for language, title, text in blocks:
        file = home / title
        changed.add(title)
        if language == "python":
            file.write_text(f"{file.read_text()}\n\n{text}" if file.exists() else text)
            continue
        lines = text.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert file.read_text().count(before) == 1, f"{title} has other lines now than {page.name} says"
        file.write_text(file.read_text().replace(before, after))
    return changed


def run_in(home: Path, *words: str, **options: Any) -> str:
    """Runs Python on the copy in `home` and returns its stdout."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, *words], cwd=home, env=environment, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
