"""Holds the names, docstrings, comments and folders of the packages to plain words and to a size that is easy to read.

`python tests/contract/test_words.py [ROOT]` prints the figures of a checkout (this one unless ROOT is given), and
`python tests/contract/test_words.py [ROOT] --list CHECK` prints every offender of one check as `file:line what`.
Nothing is imported from the checkout, so that any commit can be measured.

What is counted, over codevision_ext/ and data_prep/:

* duplicates: public functions and classes at the top level of a module whose name is defined in two or more modules,
  in percent of all such names. Every name counts once. `main` is counted like any other name.
* questions: modules whose docstring has a question mark in its first line.
* picture: occurrences of "picture" in Python files (identifiers, docstrings, comments, messages, help texts), in
  templates, scripts and settings, in docs/, README.md, recipe/ and the Makefile, and in file names. ALLOWED_PICTURES
  lists the published spellings that stay. Prompts (.txt, .json, .jsonl in the packages) are what a model reads, and
  are not searched.
* bindings: bindings named as in VAGUE_NAMES, with or without underscores and in any case, in percent of all bindings:
  assignments (loop targets, `with`, walrus, fields and attributes included), parameters, `except` and `case` names.
* folders: folders with more than 15 Python files directly in them, `__init__.py` included.
* long_files: Python files with more than 450 lines.
* lines: lines of Python, as `wc -l` counts them. They have no bar: the number compares a reorganisation with the commit
  before it, and features that came later add to it.
* attributes: docstrings behind an assignment of a class or a module that begin as in VAGUE_OPENINGS, in percent of all
  such docstrings.
"""

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("codevision_ext", "data_prep")

OLD_LINES = 26_335
"""Lines of Python at commit 15236c6."""

BARS: dict[str, float] = {
    "duplicates": 3,  # percent
    "questions": 0,
    "picture": 0,
    "bindings": 0.5,  # percent
    "folders": 0,
    "long_files": 0,
    "attributes": 3,  # percent
}
"""Highest value allowed for each check."""

MAX_FILES = 15
MAX_LINES = 450
VAGUE_NAMES = frozenset({"said", "told", "made", "found", "asked", "wanted"})
VAGUE_OPENINGS = re.compile(r"(?:Of|The same|What|How|Where|Which|Whether)\b")


@dataclass(frozen=True, slots=True)
class Spelling:
    """A published spelling of "picture" that stays."""

    pattern: str
    """Regular expression for its place within one line."""
    reason: str
    """Kind of user that would notice a change."""
    files: tuple[str, ...] = ()
    """Names of the files that may have it; empty for all."""


ALLOWED_PICTURES = (
    Spelling(r"\bpicture_id\b", "field of stored records and of RL rows"),
    Spelling(r"^    pictures: tuple\[str, \.\.\.\]", "field of stored records", ("records.py",)),
    Spelling(r"\b(?:record|r)\.pictures\b|replace\(record, pictures=", "field of stored records"),
    Spelling(r'/ "pictures"|(?<!\w)pictures/', "folder of the images beside stored records"),
    Spelling(r"\b(?:report|OUT)_pictures\b|\}_pictures\"", "folder of the images beside a report, in users' scripts"),
    Spelling(r"--pictures\b", "option of `codevision eval` and of `codevision data`"),
    Spelling(r"\bpicture_budget\b", "module that users' scripts run by its dotted path"),
    Spelling(r"\bpicture_(?:missing|unknown|damaged|bomb|size)\b", "reasons in the published summary of a conversion"),
    Spelling(
        r'\b(?:same|near|shared)_pictures?(?:_\w*questions?)?\b|"picture_tokens"',
        "keys of the JSON that `codevision data inspect` prints",
    ),
    Spelling(
        r'"pictures": \w+ \*|"picture features"',
        "keys of the JSON that `codevision doctor --model` prints",
        ("memory.py",),
    ),
    Spelling(r'"file_name", "picture"', "name of a column in the data sets of others", ("turns.py",)),
    Spelling(r"\bPicture (?:\{\w+\}|\d+):", "observation that a model reads, from prompts/observations.json"),
    Spelling(r'"applied_to_the_picture"|"picture_size"', "keys in the prompt of the model that writes demonstrations"),
    Spelling(r"\(\?:image\|img\|picture\)", "names of variables that model-written code has", ("errors.py",)),
    Spelling(r'"the (?:second|third) picture"', "words of the judge's prompt for drawings"),
    Spelling(r'"a picture"|"draw on the picture"', "content of converted rows"),
    Spelling(r'(?<!")"[^"]+"(?!")', "sentences of demonstrations, content of rows", ("teacher.py", "phrasing.py")),
)


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file of the packages."""

    path: str
    """Path from the root of the checkout."""
    text: str
    tree: ast.Module


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout whose files are measured."""

    root: Path
    modules: tuple[Module, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of one check."""

    value: float
    """Number that BARS limits: a count, or percent."""
    text: str
    """The value with what it is counted from, for people."""
    offenders: tuple[str, ...]
    """One line each: `file:line what`."""


@cache
def read_checkout(root: Path) -> Checkout:
    """Reads the Python files of both packages."""
    paths = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    texts = [(str(path.relative_to(root)), path.read_text(encoding="utf-8")) for path in paths]
    return Checkout(root, tuple(Module(path, text, ast.parse(text)) for path, text in texts))


def duplicates(checkout: Checkout) -> Measured:
    """Measures public top-level functions and classes that share their name with one of another module."""
    places: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for module in checkout.modules:
        for node in module.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                places[node.name][module.path] = node.lineno
    shared = {name: where for name, where in sorted(places.items()) if len(where) > 1}
    offenders = [f"{path}:{line} {name}" for name, where in shared.items() for path, line in where.items()]
    return share(len(shared), len(places), "names", offenders)


def questions(checkout: Checkout) -> Measured:
    """Counts module docstrings that open with a question."""
    opened = [(module, (ast.get_docstring(module.tree) or "").split("\n")[0]) for module in checkout.modules]
    return count([f"{module.path}:1 {line}" for module, line in opened if "?" in line])


def picture(checkout: Checkout) -> Measured:
    """Counts occurrences of "picture" that are not a published spelling."""
    offenders = []
    for path in sorted(written_files(checkout.root)):
        name = str(path.relative_to(checkout.root))
        if "picture" in without_allowed(path, path.stem).lower():
            offenders.append(f"{name}:0 the file's name")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            words = re.findall(r"\w*picture\w*", without_allowed(path, line), re.IGNORECASE)
            offenders += [f"{name}:{number} {word}: {line.strip()}" for word in words]
    return count(offenders)


def without_allowed(path: Path, line: str) -> str:
    """Returns a line of a file without the spellings that stay."""
    return allowed(path.name).sub("", line)


@cache
def allowed(file: str) -> re.Pattern[str]:
    """Returns one pattern for the spellings that may stand in files of this name."""
    here = [spelling.pattern for spelling in ALLOWED_PICTURES if file in spelling.files or not spelling.files]
    return re.compile("|".join(f"(?:{pattern})" for pattern in here))


def written_files(root: Path) -> Iterator[Path]:
    """Yields the files whose words are ours: code, templates and documentation."""
    kinds = {"docs": {".md", ".py"}, "recipe": {".md", ".yaml", ".sh"}}
    kinds |= {package: {".py", ".j2", ".js", ".css", ".toml", ".yaml"} for package in PACKAGES}
    for folder, endings in kinds.items():
        yield from (path for path in (root / folder).rglob("*") if path.suffix in endings and path.is_file())
    yield from (root / name for name in ("README.md", "Makefile") if (root / name).exists())


def bindings(checkout: Checkout) -> Measured:
    """Measures bindings whose name says nothing about what is bound."""
    total = 0
    offenders = []
    for module in checkout.modules:
        for node in ast.walk(module.tree):
            if (name := bound_name(node)) is not None:
                total += 1
                if name.strip("_").lower() in VAGUE_NAMES:
                    line = getattr(node, "lineno", 0)
                    offenders.append(f"{module.path}:{line} {name}: {module.text.splitlines()[line - 1].strip()}")
    return share(len(offenders), total, "bindings", offenders)


def bound_name(node: ast.AST) -> str | None:
    """Returns the name that a node binds, without the object of an attribute."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
            return name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return name
    return None


def folders(checkout: Checkout) -> Measured:
    """Counts folders that hold too many Python files."""
    sizes: defaultdict[str, int] = defaultdict(int)
    for module in checkout.modules:
        sizes[module.path.rpartition("/")[0]] += 1
    return count([f"{folder}:0 {size} files" for folder, size in sorted(sizes.items()) if size > MAX_FILES])


def long_files(checkout: Checkout) -> Measured:
    """Counts Python files that are too long."""
    sizes = [(module.path, module.text.count("\n")) for module in checkout.modules]
    return count([f"{path}:{size} {size} lines" for path, size in sizes if size > MAX_LINES])


def lines(checkout: Checkout) -> Measured:
    """Counts lines of Python; the offenders are all files, longest first."""
    sizes = sorted(((module.text.count("\n"), module.path) for module in checkout.modules), reverse=True)
    total = sum(size for size, _ in sizes)
    text = f"{total:,} ({total - OLD_LINES:+,} against 15236c6)"
    return Measured(total, text, tuple(f"{path}:0 {size} lines" for size, path in sizes))


def attributes(checkout: Checkout) -> Measured:
    """Measures attribute docstrings that begin without the noun that they describe."""
    total = 0
    offenders = []
    for module in checkout.modules:
        for owner in ast.walk(module.tree):
            if not isinstance(owner, ast.Module | ast.ClassDef):
                continue
            for node, behind in zip(owner.body, owner.body[1:], strict=False):
                match node, behind:
                    case ast.Assign() | ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(text))):
                        total += 1
                        if VAGUE_OPENINGS.match(text):
                            offenders.append(f"{module.path}:{behind.lineno} {text.splitlines()[0]}")
    return share(len(offenders), total, "docstrings", offenders)


def count(offenders: list[str]) -> Measured:
    """Returns a check whose value is the number of its offenders."""
    return Measured(len(offenders), str(len(offenders)), tuple(offenders))


def share(part: int, whole: int, unit: str, offenders: list[str]) -> Measured:
    """Returns a check whose value is percent of a whole."""
    percent = 100 * part / whole if whole else 0.0
    return Measured(percent, f"{percent:.2f} % ({part:,} of {whole:,} {unit})", tuple(offenders))


CHECKS: dict[str, Callable[[Checkout], Measured]] = {
    check.__name__: check
    for check in (duplicates, questions, picture, bindings, folders, long_files, lines, attributes)
}


@pytest.mark.parametrize("name", BARS)
def test_the_packages_are_within_the_bar(name: str) -> None:
    measured = CHECKS[name](read_checkout(ROOT))
    listed = "\n".join(measured.offenders)
    assert measured.value <= BARS[name], f"{name}: {measured.text}, the bar is {BARS[name]:g}\n{listed}"


FAULTY = {
    "codevision_ext/a.py": (
        '"""What is this?"""\n\nLIMIT = 1\n"""Of the picture, pixels."""\n'
        "KEPT = record.picture_id\n\n\ndef load(): ...\n"
    ),
    "data_prep/b.py": "# a Picture\ndef load(made, *asked):\n    self._told = [found for found in made]\n",
    "data_prep/c.py": '"""Reads files. A question? Only in its second line\nis it allowed."""\n'
    + "x = 1\n" * MAX_LINES,
    "docs/page.md": "`picture_id` stays, `new_picture` doesn't.\n",
} | {f"data_prep/many/f{number}.py": "" for number in range(MAX_FILES + 1)}
"""A checkout with each of the faults, by path."""

OFFENDERS = {
    "duplicates": ["codevision_ext/a.py:8 load", "data_prep/b.py:2 load"],
    "questions": ["codevision_ext/a.py:1 What is this?", "data_prep/c.py:1 Reads files. A question? Only in its"],
    "picture": ["codevision_ext/a.py:4 picture", "data_prep/b.py:1 Picture", "docs/page.md:1 new_picture"],
    "bindings": [f"data_prep/b.py:{place}" for place in ("2 made", "2 asked", "3 _told", "3 found")],
    "folders": ["data_prep/many:0 16 files"],
    "long_files": ["data_prep/c.py:452 452 lines"],
    "attributes": ["codevision_ext/a.py:4 Of the picture, pixels."],
}


@pytest.mark.parametrize("name", OFFENDERS)
def test_a_fault_is_listed_with_its_place(name: str, tmp_path: Path) -> None:
    for path, text in FAULTY.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    offenders = sorted(CHECKS[name](read_checkout(tmp_path)).offenders)
    expected = sorted(OFFENDERS[name])
    assert len(offenders) == len(expected), offenders
    assert all(line.startswith(start) for line, start in zip(offenders, expected, strict=True)), offenders


def test_every_check_but_that_of_lines_has_a_bar() -> None:
    assert CHECKS.keys() - {"lines"} == BARS.keys()


def main() -> None:
    """Prints the figures of a checkout, or the offenders of one check."""
    parser = argparse.ArgumentParser(description="Prints how plain the words of a checkout are.")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="folder of the checkout")
    parser.add_argument("--list", choices=CHECKS, dest="name", help="print the offenders of this check instead")
    options = parser.parse_args()
    checkout = read_checkout(options.root)
    if options.name:
        sys.stdout.writelines(f"{line}\n" for line in CHECKS[options.name](checkout).offenders)
        return
    for name, check in CHECKS.items():
        sys.stdout.write(f"{name:12} {check(checkout).text}\n")


if __name__ == "__main__":
    main()
