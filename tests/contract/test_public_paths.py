"""Holds the names that users write or read outside of this repository: public_names.txt lists them.

`python tests/contract/test_public_paths.py --write` writes the generated part of the list again.
"""

import argparse
import ast
import importlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pyarrow as pa
import pytest
import typer
from pydantic import TypeAdapter

ROOT = Path(__file__).parents[2]
NAMES = Path(__file__).with_name("public_names.txt")
GENERATED = "# ---- generated: python tests/contract/test_public_paths.py --write ----\n"

APPS = {
    "codevision": ("codevision_ext.cli.app", "codevision_ext.cli"),
    "codevision data": ("data_prep.cli.app", "data_prep.__main__"),
}
"""Modules that may hold the `app` of a command, the first that does is taken."""

STORED = {
    "record": "Record",
    "results.json": "Evaluation",
    "codevision.json": "TrainedFormat",
    "codevision": "Settings",
    "tool config": "ToolSettings",
    "exec line": "Snippet",
    "exec answer": "Answer",
    "judge-check line": "Labelled",
    "drawing line": "DrawingLine",
    "drawing result": "DrawingResult",
    "drawing target": "DrawingTarget",
}
"""Classes whose fields are written to files or read from them, by the word that opens their lines in the list."""

ROWS = {"RL row": "CONVERTED_RL_SCHEMA", "SFT row": "CONVERTED_SFT_SCHEMA"}
"""Arrow schemas of the rows, by the word that opens their lines in the list."""

REGISTERED = """
import json, sys
from importlib import import_module

import verl

for path in json.loads(sys.argv[1]):
    module, _, name = path.rpartition(".")
    getattr(import_module(module), name)

from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
from verl.experimental.reward_loop.reward_manager.registry import get_reward_manager_cls
from verl.trainer.ppo.core_algos import get_adv_estimator_fn
from verl.trainer.ppo.v1 import get_trainer_cls

look_up = {
    "agent_loop": _agent_loop_registry.__getitem__,
    "reward_manager": get_reward_manager_cls,
    "trainer_mode": get_trainer_cls,
    "adv_estimator": get_adv_estimator_fn,
}
for kind, name in json.loads(sys.argv[2]):
    look_up[kind](name)
"""
"""A program that fails unless verl finds the classes and the registered names; in a process of its own, as in a run."""


def pinned() -> tuple[list[tuple[str, str]], list[str]]:
    """Returns the two parts of the list: pairs of a kind and a name that people wrote, and the generated lines."""
    written, _, generated = NAMES.read_text(encoding="utf-8").partition(GENERATED)
    pairs = [line.split() for line in written.splitlines() if line and not line.startswith("#")]
    return [(kind, name) for kind, name in pairs], generated.splitlines()


def named(*kinds: str) -> list[tuple[str, str]]:
    """Returns the pairs of these kinds."""
    return [pair for pair in pinned()[0] if pair[0] in kinds]


def generated_lines() -> list[str]:
    """Returns what the code has now: commands with their options, fields of what is stored, settings."""
    lines = [line for name in APPS for line in command_lines(typer.main.get_command(app_of(name)), name)]
    for word, name in STORED.items():
        lines += field_lines(word, getattr(module_of(name), name))
    lines += field_lines("study", get_type_hints(module_of("read_plan").read_plan)["return"])
    for word, name in ROWS.items():
        lines += [f"{word} {path}" for path in arrow_paths(getattr(module_of(name), name))]
    lines += [f"reject {reason}" for reason in module_of("Reason").Reason]
    rubric = module_of("PRESETS")
    for preset in rubric.PRESETS:
        names = sorted({*rubric.PRESETS[preset], *rubric.ALIASES[preset]})
        lines += [f"codevision reward.weights.{name} of {preset}" for name in names]
    return lines


def app_of(name: str) -> typer.Typer:
    """Returns the typer application behind a command."""
    for path in APPS[name]:
        if not any((ROOT / path.replace(".", "/")).with_suffix(end).exists() for end in ("", ".py")):
            continue
        module = importlib.import_module(path)
        app = module if isinstance(module, typer.Typer) else getattr(module, "app", None)
        if isinstance(app, typer.Typer):
            return app
    raise AssertionError(f"none of {APPS[name]} holds the application of `{name}`")


def command_lines(command: Any, name: str) -> Iterator[str]:
    """Yields a line for each command below this one, and one for each of its options and arguments."""
    if commands := getattr(command, "commands", None):
        for below in sorted(commands):
            yield from command_lines(commands[below], f"{name} {below}")
        return
    yield name
    for option in sorted((p for p in command.params if p.param_type_name == "option"), key=lambda p: str(p.opts)):
        yield f"{name} {' '.join([*option.opts, *option.secondary_opts])}{' (required)' * option.required}"
    for argument in (p for p in command.params if p.param_type_name == "argument"):
        yield f"{name} ARGUMENT{'...' * (argument.nargs == -1)}{' (required)' * argument.required}"


def module_of(name: str) -> ModuleType:
    """Imports the only module that defines a name at its top level."""
    [file] = defining_files()[name]
    return importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))


@cache
def defining_files() -> dict[str, list[Path]]:
    """Returns the files of the packages that define a name at their top level, by name."""
    files: defaultdict[str, list[Path]] = defaultdict(list)
    for path in (path for package in ("codevision_ext", "data_prep") for path in (ROOT / package).rglob("*.py")):
        for name in set(top_level_names(ast.parse(path.read_text(encoding="utf-8")))):
            files[name].append(path)
    return files


def top_level_names(tree: ast.Module) -> Iterator[str]:
    """Yields the names that a module defines, without those that it imports."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name


def field_lines(word: str, kind: type) -> list[str]:
    """Returns a line for each field of a class, nested ones included."""
    schema = TypeAdapter(kind).json_schema()
    paths = json_paths(schema, schema.get("$defs", {}))
    return [f"{word} {path.removeprefix('limits.') if word == 'tool config' else path}" for path in paths]


def json_paths(schema: Mapping[str, Any], known: Mapping[str, Any], path: str = "") -> list[str]:
    """Returns the paths of the values in a JSON schema: `a.b`, `a[]` for lists, `a.*` for other keys, then choices."""
    if "$ref" in schema:
        return json_paths(known[schema["$ref"].rpartition("/")[2]], known, path)
    if several := schema.get("anyOf"):
        return list(dict.fromkeys(line for each in several for line in json_paths(each, known, path)))
    if properties := schema.get("properties"):
        return [
            line for name, each in properties.items() for line in json_paths(each, known, f"{path}.{name}".lstrip("."))
        ]
    if isinstance(inner := schema.get("additionalProperties"), dict):
        return json_paths(inner, known, f"{path}.*")
    if inner := schema.get("patternProperties"):
        return [line for each in inner.values() for line in json_paths(each, known, f"{path}.*")]
    if isinstance(inner := schema.get("items"), dict):
        return json_paths(inner, known, f"{path}[]")
    if schema.get("type") == "null":
        return []
    choices = schema.get("enum") or [schema[key] for key in ("const",) if key in schema]
    return [f"{path} = {' | '.join(map(str, choices))}" if choices else path]


def arrow_paths(schema: pa.Schema) -> list[str]:
    """Returns the paths of the values in an Arrow schema, written like those of a JSON schema."""

    def below(field: pa.Field, path: str) -> list[str]:
        if pa.types.is_list(field.type):
            return below(field.type.value_field, f"{path}[]")
        if pa.types.is_struct(field.type):
            return [line for each in field.type for line in below(each, f"{path}.{each.name}")]
        return [path]

    return [line for field in schema for line in below(field, field.name)]


def test_the_commands_and_the_fields_are_those_of_the_list() -> None:
    before, now = pinned()[1], generated_lines()
    gone, new = [line for line in before if line not in now], [line for line in now if line not in before]
    assert not gone, "users' runs and scripts need these names; keep their spelling"
    assert not new, f"write {NAMES.name} again, see its head"


def test_verl_finds_the_classes_and_the_registered_names() -> None:
    classes = [name for _, name in named("class")]
    registered = named("agent_loop", "reward_manager", "trainer_mode", "adv_estimator")
    assert classes
    assert registered
    words = [sys.executable, "-W", "ignore", "-c", REGISTERED, json.dumps(classes), json.dumps(registered)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", [name for _, name in named("module")])
def test_a_module_can_be_run_by_its_dotted_path(module: str) -> None:
    folder = ROOT / module.replace(".", "/")
    files = [path for path in (folder.with_suffix(".py"), folder / "__main__.py") if path.exists()]
    assert len(files) == 1, module
    assert 'if __name__ == "__main__":' in files[0].read_text(encoding="utf-8"), module


def test_every_path_that_a_recipe_names_is_in_the_list() -> None:
    files = [path for path in (ROOT / "recipe").rglob("*") if path.suffix in {".yaml", ".sh", ".md"}]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    names = set(re.findall(r"(?:-m |pkg://|: )((?:codevision_ext|data_prep)\b[\w.]*)", text))
    names |= {f"{path}.{name}" for path, name in re.findall(r"path: pkg://(codevision_ext[\w.]*), name: (\w+)", text)}
    public = {name for _, name in named("class", "module")}
    public |= {name.rpartition(".")[0] for _, name in named("class")}
    assert names
    assert names <= public, names - public


def main() -> None:
    """Writes the generated part of the list again, behind the part that people wrote."""
    parser = argparse.ArgumentParser(description="Writes the list of public commands, fields and settings.")
    parser.add_argument("--write", action="store_true", required=True, help=f"replace it in {NAMES.name}")
    parser.parse_args()
    written, _, _ = NAMES.read_text(encoding="utf-8").partition(GENERATED)
    NAMES.write_text(written + GENERATED + "".join(f"{line}\n" for line in generated_lines()), encoding="utf-8")


if __name__ == "__main__":
    main()
