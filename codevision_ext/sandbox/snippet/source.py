"""Compiles the source of a snippet, and corrects source that doesn't compile.

Source that compiles is never changed. Other source is tried again without invisible characters, code fences and
notebook commands, and with line breaks in place of doubly escaped line breaks.
"""

import ast
import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import CodeType

SOURCE = "<code>"
"""File name of the snippet in tracebacks."""
PRINTERS = {"print", "pprint"}
"""Functions that only print their arguments, so that a call isn't a use of an image."""

Position = tuple[int, int]
"""Line and column of a place in the source; a later place compares greater."""
START: Position = (0, 0)

_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad"))
_BLANKS = dict.fromkeys([0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000], " ")
_BREAKS = dict.fromkeys([0x85, 0x2028, 0x2029], "\n")
_FENCE = re.compile(
    r"(?m)^[ \t]*(?:(?:```+|~~~+)[ \t]*\w*[ \t]*$|</?(?:code|python)>)|</(?:code|python|tool_call)>[ \t]*$"
)
_BLOCK = re.compile(r"(?:```+|~~~+)[ \t]*(?:python3?|py)?[ \t]*\n?(.*?)(?:```+|~~~+|\Z)", re.DOTALL | re.IGNORECASE)
_NOTEBOOK = re.compile(r"(?m)^[ \t]*[%!]\w.*$|^(?:>>>|\.\.\.) ?")
"""Command of a notebook, or prompt of an interpreter."""
_LITERAL = re.compile(r"""("{3}|'{3}).*?\1|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\\[nrt]""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Source:
    """A snippet that compiles."""

    text: str
    """Source that is run; corrected if the snippet doesn't compile."""
    note: str
    """Note for the model about the correction; empty without a correction."""
    body: CodeType
    """All statements, without the last one if it is an expression."""
    last: CodeType | None
    """Last statement if it is an expression; None if it is another statement."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Assignments and uses of the names of a snippet."""

    stores: dict[str, Position]
    """Position of the last assignment to each name."""
    loads: dict[str, Position]
    """Position of the last use of each name; drawing on the image and calls with an unused value don't count."""
    uncalled: tuple[str, ...]
    """Names of top-level functions that the snippet never uses."""


def read_source(code: str) -> Source:
    """Compiles a snippet, corrected if necessary.

    Raises:
        SyntaxError: neither the snippet nor a corrected snippet compiles; the error is that of the snippet.
        ValueError: the snippet has a NUL character.
    """
    try:
        return _compiled(code, "")
    except SyntaxError as error:
        for text, note in _mended(code):
            try:
                return _compiled(text, note)
            except (SyntaxError, ValueError):
                continue
        raise error from None


def _mended(code: str) -> list[tuple[str, str]]:
    """Returns corrected texts that differ from the code, each with its note, in the order in which to try them."""
    plain = code.translate(_INVISIBLE).translate(_BLANKS).translate(_BREAKS)
    unfenced = _FENCE.sub("", plain)
    blocks = "\n".join(_BLOCK.findall(plain))
    program = _NOTEBOOK.sub("", unfenced)
    no_fence = "the code was run without its fence"
    no_commands = "the code was run without prompts and commands of a notebook"
    line_breaks = r"the code was run with line breaks for \n"
    tries: list[tuple[str, str]] = []
    for text, note in ((plain, ""), (unfenced, no_fence), (blocks, no_fence), (program, no_commands)):
        tries += [(text, note), (textwrap.dedent(text), note)]
        if "\\" in text:
            tries += [(unescape(text.strip()), line_breaks) for unescape in UNESCAPES]
    return list(dict.fromkeys((text, note) for text, note in tries if text.strip() and text != code))


def _unescape_all(text: str) -> str:
    """Decodes the escapes of a text once as in a JSON string; returns the text unchanged if this fails."""
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def _unescape_outside(text: str) -> str:
    """Returns the text with line breaks and tabs for their escapes, except inside of string literals."""
    breaks = {r"\n": "\n", r"\r": "", r"\t": "\t"}
    return _LITERAL.sub(lambda match: breaks.get(match[0], match[0]), text)


UNESCAPES: tuple[Callable[[str], str], ...] = (_unescape_outside, _unescape_all)
"""Functions that undo one level of escapes, in the order in which they are tried."""


def _compiled(text: str, note: str) -> Source:
    tree = ast.parse(text, SOURCE)
    end = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    body = compile(tree, SOURCE, "exec")
    last = compile(ast.Expression(end.value), SOURCE, "eval") if isinstance(end, ast.Expr) else None
    return Source(text=text, note=note, body=body, last=last)


@cache
def read_usage(text: str) -> Usage:
    """Returns the usage of names in a snippet that compiles."""
    tree = ast.parse(text, SOURCE)
    stores, loads = _positions(tree)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return Usage(stores, loads, tuple(name for name in functions if name not in used))


def _positions(tree: ast.Module) -> tuple[dict[str, Position], dict[str, Position]]:
    """Returns the positions of the last assignment and of the last use of each name; see `Usage`."""
    dropped = {
        id(name)
        for node in ast.walk(tree)
        for call in [node.value if isinstance(node, ast.Expr) else node]
        if isinstance(call, ast.Call) and (_draws(call) if call is node else not _prints(call))
        for name in ast.walk(call)
    }
    ends = {
        id(name): (node.end_lineno or 0, node.end_col_offset or 0)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for name in ast.walk(target)
    }  # a name is assigned after the right side was evaluated
    stores: dict[str, Position] = {}
    loads: dict[str, Position] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in dropped:
            positions = loads if isinstance(node.ctx, ast.Load) else stores
            position = ends.get(id(node), (node.lineno, node.col_offset))
            positions[node.id] = max(positions.get(node.id, START), position)
    return stores, loads


def _draws(call: ast.Call) -> bool:
    """Returns whether the call creates a drawing context, which isn't a use of the image."""
    return "Draw" in (getattr(call.func, "attr", ""), getattr(call.func, "id", ""))


def _prints(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in PRINTERS
