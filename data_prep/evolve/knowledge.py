"""Keeps the knowledge and the tools of the flywheel: reads seeds, merges new names, draws rare nodes more often."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from codevision_ext.errors import InputError, first_line
from data_prep.evolve.names import GramIndex, normal_name, normal_path
from data_prep.tasks.common import Rng

SEED_ORIGIN: Final = "seed"
"""Origin of a node or a tool of the seed file; others have the id of the item that introduced them."""
_DASHED: Final = re.compile(r"\(([^()]*)\)\s*(?:-\s*|$)")
"""Regular expression of one layer of a path as models write it: `(Geometry)-(Triangle)-(Median)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeNode:
    """One node in the tree of knowledge."""

    path: str
    """Layers joined by `/`, normalised: `plane geometry/triangle/median`."""
    parents: tuple[str, ...] = ()
    """Paths of other nodes that this one builds on."""
    origin: str = SEED_ORIGIN
    uses: int = 0
    """Number of accepted items that need it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingTool:
    """One tool: a named way to draw."""

    name: str
    primitives: tuple[str, ...] = ()
    """Kinds of primitives that it draws, such as `segment`."""
    origin: str = SEED_ORIGIN
    uses: int = 0
    """Number of accepted items whose drawings use it."""


Entry = TypeVar("Entry", KnowledgeNode, DrawingTool)


class Concepts:
    """The nodes and the tools of a run, which grow with the accepted items."""

    def __init__(self, nodes: Iterable[KnowledgeNode], tools: Iterable[DrawingTool]) -> None:
        self.nodes = {node.path: node for node in nodes}
        """Nodes by path, in the order in which they came."""
        self.tools = {tool.name: tool for tool in tools}
        """Tools by name, in the order in which they came."""
        self._paths, self._names = GramIndex(self.nodes), GramIndex(self.tools)

    def use_node(self, path: str, origin: str) -> str:
        """Count a use of a node, which is added unless it can be merged with another; return the path of the node."""
        known = self._paths.merged(_layers(path))
        node = self.nodes.get(known, KnowledgeNode(path=known, origin=origin))
        self.nodes[known] = replace(node, uses=node.uses + 1)
        return known

    def use_tool(self, name: str, primitives: Sequence[str], origin: str) -> str:
        """Count a use of a tool, which is added unless it can be merged with another; return the name of the tool."""
        known = self._names.merged(normal_name(name))
        tool = self.tools.get(known, DrawingTool(name=known, origin=origin))
        kinds = tuple(dict.fromkeys((*tool.primitives, *primitives)))
        self.tools[known] = replace(tool, primitives=kinds, uses=tool.uses + 1)
        return known

    def draw_nodes(self, rng: Rng, count: int) -> tuple[str, ...]:
        """Draw different paths; a node that was used n times has the weight 1 / (1 + n)."""
        return _draw(rng, [(path, node.uses) for path, node in self.nodes.items()], count)

    def draw_tools(self, rng: Rng, count: int) -> tuple[str, ...]:
        """Draw different names of tools; a tool that was used n times has the weight 1 / (1 + n)."""
        return _draw(rng, [(name, tool.uses) for name, tool in self.tools.items()], count)


def _draw(rng: Rng, weighed: Sequence[tuple[str, int]], count: int) -> tuple[str, ...]:
    names, uses = [name for name, _ in weighed], np.array([uses for _, uses in weighed], dtype=np.float64)
    if not names:
        return ()
    weights: NDArray[np.float64] = 1 / (1 + uses)
    chosen = rng.choice(len(names), size=min(count, len(names)), replace=False, p=weights / weights.sum())
    return tuple(names[int(number)] for number in chosen)


def read_seeds(path: Path) -> Concepts:
    """Return the nodes and tools of a YAML file: lists `knowledge` (path, parents) and `tools` (name, primitives).

    Raises:
        InputError: The file can't be read, a name is missing, blank or there twice, a parent isn't in the file, or
            nodes are their own ancestors.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--seeds {path}: can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--seeds {path}: isn't YAML: {first_line(error)}") from error
    return parse_seeds(content, f"--seeds {path}")


def parse_seeds(content: Any, where: str) -> Concepts:
    """Return the nodes and tools in the content of a seed file; errors begin with `where`. Raises InputError."""
    if not isinstance(content, Mapping):
        raise InputError(f"{where}: must have the lists knowledge and tools")
    if unknown := sorted(map(str, set(content) - {"knowledge", "tools"})):
        raise InputError(f"{where}: field {unknown[0]} isn't known; known are knowledge, tools")
    nodes = _nodes(content, where)
    tools: list[DrawingTool] = []
    for name, kinds in _entries(content, "tools", "name", "primitives", where):
        tools.append(DrawingTool(name=normal_name(name), primitives=kinds))
    _check_names([tool.name for tool in tools], "tools", "name", where)
    if not nodes and not tools:
        raise InputError(f"{where}: has neither knowledge nor tools")
    return Concepts(nodes, tools)


def _nodes(content: Mapping[str, Any], where: str) -> list[KnowledgeNode]:
    entries = _entries(content, "knowledge", "path", "parents", where)
    nodes = [KnowledgeNode(path=_layers(path), parents=tuple(map(_layers, parents))) for path, parents in entries]
    _check_names([node.path for node in nodes], "knowledge", "path", where)
    known = {node.path: node for node in nodes}
    for number, node in enumerate(nodes):
        for parent in node.parents:
            if parent not in known:
                raise InputError(f"{where}: field knowledge.{number}.parents: {parent!r} isn't in the file")
    _check_cycles(known, where)
    return nodes


def _check_cycles(known: Mapping[str, KnowledgeNode], where: str) -> None:
    waiting = {path: set(node.parents) for path, node in known.items()}
    free = [path for path, parents in waiting.items() if not parents]
    children: dict[str, list[str]] = {}
    for path, node in known.items():
        for parent in set(node.parents):
            children.setdefault(parent, []).append(path)
    while free:
        parent = free.pop()
        del waiting[parent]
        for child in children.get(parent, ()):
            waiting[child].discard(parent)
            if not waiting[child]:
                free.append(child)
    if waiting:
        trail = [min(waiting)]
        while trail[-1] not in trail[:-1]:
            trail.append(min(parent for parent in known[trail[-1]].parents if parent in waiting))
        cycle = " -> ".join(trail[trail.index(trail[-1]) :])
        raise InputError(f"{where}: field knowledge: {cycle} is a cycle of parents")


def _entries(
    content: Mapping[str, Any], field: str, name: str, rest: str, where: str
) -> list[tuple[str, tuple[str, ...]]]:
    """Return the name and the list of each entry; an entry may be its name alone. Raises InputError."""
    entries = content.get(field) or []
    if not isinstance(entries, list):
        raise InputError(f"{where}: field {field}: must be a list")
    read = []
    for number, raw in enumerate(entries):
        place = f"{where}: field {field}.{number}"
        entry = {name: raw} if isinstance(raw, str) else raw
        if not isinstance(entry, Mapping):
            raise InputError(f"{place}: must be a {name}, or an object with {name} and {rest}")
        if unknown := sorted(map(str, set(entry) - {name, rest})):
            raise InputError(f"{place}.{unknown[0]}: isn't known; known are {name}, {rest}")
        own, others = entry.get(name), entry.get(rest) or []
        if not isinstance(own, str) or not normal_name(own):
            raise InputError(f"{place}.{name}: must be a text with letters or digits, it is {own!r}")
        if not isinstance(others, list) or not all(isinstance(other, str) for other in others):
            raise InputError(f"{place}.{rest}: must be a list of texts")
        read.append((own, tuple(others)))
    return read


def _check_names(names: Sequence[str], field: str, name: str, where: str) -> None:
    places: dict[str, int] = {}
    for number, own in enumerate(names):
        if own in places:
            raise InputError(f"{where}: field {field}.{number}.{name}: {own!r} is there already, in {places[own]}")
        places[own] = number


def _layers(path: str) -> str:
    """Return a path, with `/` between its layers; `(Geometry)-(Triangle)` is a path, too."""
    dashed = _DASHED.findall(path) if path.lstrip().startswith("(") else []
    return normal_path("/".join(dashed) if dashed else path)
