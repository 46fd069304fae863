"""Names are normalised and merged in one way, rare nodes are drawn more often, and faulty seeds are named."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codevision_ext.errors import InputError
from data_prep.evolve.knowledge import SEED_ORIGIN, Concepts, DrawingTool, KnowledgeNode, parse_seeds, read_seeds
from data_prep.evolve.names import GramIndex, normal_name, normal_path

NAMES = st.text(alphabet="abcdeABC é-_/ß12", min_size=1, max_size=12)
SEEDS = """
knowledge:
  - plane geometry/triangle
  - path: Plane Geometry / Triangle / Median
    parents: [plane geometry/triangle]
  - charts/bars
tools:
  - name: Perpendicular-Foot
    primitives: [segment, point]
"""


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normal_name(normal_name(text)) == normal_name(text)
    assert normal_path(normal_path(text)) == normal_path(text)


@settings(deadline=None)
@given(st.lists(NAMES.map(normal_path).filter(bool), max_size=30))
def test_a_merged_name_is_a_fixed_point_and_none_is_known_before_it_came(names: list[str]) -> None:
    index = GramIndex()
    results = [index.merged(name) for name in names]
    assert [index.merged(name) for name in names] == results
    for at, result in enumerate(results):
        assert index.merged(result) == result
        assert result in names[: at + 1]


@settings(deadline=None)
@given(st.lists(NAMES.map(normal_path).filter(bool), min_size=1, max_size=30), st.data())
def test_every_use_is_counted_at_one_node(names: list[str], data: st.DataObject) -> None:
    concepts = Concepts([], [])
    uses = data.draw(st.lists(st.sampled_from(names), max_size=30))
    for name in uses:
        assert concepts.use_node(name.upper(), "item") in concepts.nodes
    assert sum(node.uses for node in concepts.nodes.values()) == len(uses)
    assert len(concepts.nodes) <= len(set(uses))


def test_spellings_are_merged_and_other_concepts_are_not() -> None:
    concepts = Concepts([], [])
    known = concepts.use_node("plane geometry/triangle/median", "a")
    assert concepts.use_node("(Plane Geometry)-(Triangle)-(Medians)", "b") == known
    assert concepts.use_node("plane geometry/triangle/incircle", "c") != known
    assert concepts.use_node("plane geometry/trapezoid/median", "d") != known
    assert concepts.nodes[known].uses == 2
    assert concepts.nodes[known].origin == "a"
    assert concepts.use_tool("Perpendicular foot", ["point"], "a") == concepts.use_tool(
        "perpendicular_foot", ["segment", "point"], "b"
    )
    assert concepts.tools["perpendicular foot"].primitives == ("point", "segment")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 4), st.lists(st.integers(0, 50), min_size=1, max_size=8))
def test_draws_depend_on_the_seed_only_and_repeat_no_node(seed: int, count: int, uses: list[int]) -> None:
    concepts = Concepts([KnowledgeNode(path=f"node {at}", uses=many) for at, many in enumerate(uses)], [])
    first, second = (concepts.draw_nodes(np.random.default_rng(seed), count) for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first) == min(count, len(uses))


def test_a_node_that_was_used_n_times_has_the_weight_one_by_one_plus_n() -> None:
    tools = [DrawingTool(name="rare"), DrawingTool(name="common", uses=9)]
    rng = np.random.default_rng(0)
    drawn = [Concepts([], tools).draw_tools(rng, 1)[0] for _ in range(2000)]
    assert drawn.count("rare") / 2000 == pytest.approx(10 / 11, abs=0.02)
    assert Concepts([], []).draw_nodes(rng, 2) == ()


def test_a_seed_file_is_read_and_its_names_are_normalised(tmp_path: Path) -> None:
    (tmp_path / "seeds.yaml").write_text(SEEDS)
    concepts = read_seeds(tmp_path / "seeds.yaml")
    assert list(concepts.nodes) == ["plane geometry/triangle", "plane geometry/triangle/median", "charts/bars"]
    assert concepts.nodes["plane geometry/triangle/median"].parents == ("plane geometry/triangle",)
    assert concepts.tools == {
        "perpendicular foot": DrawingTool(name="perpendicular foot", primitives=("segment", "point"))
    }
    assert {node.origin for node in concepts.nodes.values()} == {SEED_ORIGIN}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "knowledge: [{path: a, parents: [b]}, {path: b, parents: [c]}, {path: c, parents: [b]}]",
            "b -> c -> b is a cyc",
        ),
        ("knowledge: [{path: a, parents: [a]}]", "a -> a is a cycle"),
        ("knowledge: [{path: a, parents: [z]}]", "knowledge.0.parents: 'z' isn't in the file"),
        ("knowledge: [a, A ]", "knowledge.1.path: 'a' is there already, in 0"),
        ("tools: [x, y, X]", "tools.2.name: 'x' is there already, in 0"),
        ("tools: [{name: 7}]", "tools.0.name: must be a text"),
        ("tools: ['--']", "tools.0.name: must be a text with letters"),
        ("tools: [{name: a, primitives: b}]", "tools.0.primitives: must be a list of texts"),
        ("tools: [{name: a, colour: b}]", "tools.0.colour: isn't known"),
        ("tools: a", "field tools: must be a list"),
        ("tols: [a]", "field tols isn't known"),
        ("{}", "has neither knowledge nor tools"),
        ("- a", "must have the lists knowledge and tools"),
        ("a: [", "isn't YAML"),
    ],
)
def test_a_faulty_seed_file_is_one_sentence_that_names_the_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "seeds.yaml").write_text(text)
    with pytest.raises(InputError) as raised:
        read_seeds(tmp_path / "seeds.yaml")
    assert message in str(raised.value)
    assert str(raised.value).startswith("--seeds ")
    assert "\n" not in str(raised.value)


def test_a_seed_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: can't be read"):
        read_seeds(tmp_path / "none.yaml")


def test_a_node_may_have_several_parents() -> None:
    content = {"knowledge": ["a", "b", {"path": "c", "parents": ["a", "b"]}]}
    assert parse_seeds(content, "seeds").nodes["c"].parents == ("a", "b")


def test_the_seeds_of_the_docs_are_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "evolve.md").read_text()
    (block,) = re.findall(r'^```yaml title="seeds.yaml"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    (tmp_path / "seeds.yaml").write_text(block)
    concepts = read_seeds(tmp_path / "seeds.yaml")
    assert (len(concepts.nodes), len(concepts.tools)) == (2, 1)
