"""The offline back end makes problems whose drawings are verified, and whose answers hold on their pixels."""

import dataclasses
import hashlib
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce

import cv2
import numpy as np
import pytest
from PIL import Image

from codevision_ext.drawing import DrawingTarget, check_inside, verify
from codevision_ext.sandbox import ExecRequest, Limits, Sandbox
from codevision_ext.task.coordinate_answers import read_places, share_right
from codevision_ext.types import AnswerKind, ExecStatus
from data_prep.evolve.item import ITEMS, Item
from data_prep.evolve.program import FAMILIES, KNOWLEDGE, TOOLS, ProgramGenerator, drafts, families, perception, seeds
from data_prep.evolve.program.model import LEVELS

GENERATOR = ProgramGenerator()
HINTS = re.compile(
    r"\b(draw\w*|drew|construct\w*|connect\w*|join\w*|auxiliary|extend\w*|prolong\w*|sketch\w*|overlay\w*|trac(e|ing)"
    r"|helper|help line|dashed|perpendicular|parallel|bisector|midpoint|median|diagonal|tangent|reflection|shade\w*)\b",
    re.IGNORECASE,
)


def plan_of(name: str, length: int) -> tuple[tuple[str, int], ...]:
    """Return expansions of a family: first its own chain, then the other chains."""
    family = FAMILIES[name]
    steps = ["s"] * (len(family.knowledge) - 1) + [f"p.{other}" for other in family.others]
    return tuple((step, 1) for step in steps[:length])


def make(name: str, level: int, *, seed: int = 5, length: int = 2) -> drafts.Draft:
    """Return the problem of a family with up to `length` expansions."""
    recipe = drafts.Recipe(seed=seed, number=level, family=name, difficulty=LEVELS[level], plan=plan_of(name, length))
    problem = drafts.draft(recipe)
    assert problem is not None
    return problem


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(wall_s=20, memory_mb=1024), live=1) as opened:
        yield opened


def run(sandbox: Sandbox, code: str, *images: Image.Image) -> Image.Image:
    result = sandbox.run(ExecRequest(code=code, images=images))
    assert result.status is ExecStatus.OK, result.detail
    (image,) = result.images
    return image


@pytest.mark.parametrize(("at", "name"), list(enumerate(FAMILIES)))
def test_every_drawing_is_verified_on_the_image_before_it(sandbox: Sandbox, at: int, name: str) -> None:
    item = make(name, at % 3).item
    original = shown = run(sandbox, item.original_code)
    assert original.size == item.size
    background = Image.new("RGB", original.size, max(original.getcolors(1 << 24) or [])[1])
    assert_shown(item, original, background)
    assert item.depth == len(plan_of(name, 2)) + 1
    for overlay in item.overlays:
        check_inside(overlay.target, item.size, item.id)
        after = run(sandbox, overlay.code, shown)
        verdict = verify(shown, after, overlay.target)
        assert verdict.correct, (item.id, overlay.tool, verdict)
        assert not verify(shown, shown, overlay.target).correct
        assert min(verify(background, original, overlay.target).recall) < 0.9, "the original shows the drawing already"
        shown = after
    together = reduce(lambda one, other: one + other, (o.target.primitives for o in item.overlays))
    assert verify(original, shown, DrawingTarget(primitives=together)).correct


@pytest.mark.parametrize("name", FAMILIES)
def test_the_answer_is_measured_on_the_pixels_too(name: str) -> None:
    for level in range(3):
        for seed in range(3):
            for length in range(level + 1):
                problem = make(name, level, seed=seed, length=length)
                near = pytest.approx(float(problem.value), rel=4e-3, abs=0.02)
                assert problem.check() == near, problem.item.id
                choices = dict(re.findall(r"(?:^|\s)([A-D])\. (-?\d+(?:/\d+)?)", problem.item.question))
                answer = choices[problem.item.answer] if problem.item.answer in "ABCD" else problem.item.answer
                top, _, bottom = answer.partition("/")
                assert problem.value == int(top) / drafts.Fraction(int(bottom or 1)), problem.item.id
                assert len(set(choices.values())) in (0, 4)
                assert problem.item.solution.endswith(f"The answer is {problem.item.answer}.")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_question_names_no_drawing_and_the_elements_lie_on_the_image(name: str) -> None:
    for at in range(6):
        item = make(name, at % 3, seed=at, length=at % 2).item
        assert not HINTS.search(item.question), item.question
        words = " ".join(re.findall(r"\w+", item.question.lower()))
        assert not any(re.search(rf"\b{tool}\b", words) for tool in item.tools), item.question
        assert_inside(item)
        assert all(overlay.about and overlay.about in item.solution for overlay in item.overlays)


def assert_inside(item: Item) -> None:
    width, height = item.size
    for element in item.elements:
        for x, y in (("x", "y"), ("x1", "y1"), ("x2", "y2"), ("cx", "cy")):
            if x in element.fields:
                assert 0 <= float(element.fields[x]) < width, element
                assert 0 <= float(element.fields[y]) < height, element


def assert_shown(item: Item, image: Image.Image, background: Image.Image) -> None:
    ink = np.abs(np.asarray(image, int) - np.asarray(background, int)).max(axis=2) > 24
    away = cv2.distanceTransform((~ink).astype(np.uint8), cv2.DIST_L2, 3)
    for element in item.elements:
        numbers = {name: round(value) for name, value in element.fields.items() if isinstance(value, float)}
        match element.kind, numbers:
            case "line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2}:
                places = [(x1 + (x2 - x1) * n // 20, y1 + (y2 - y1) * n // 20) for n in range(21)]
            case "circle", {"cx": x, "cy": y, "r": r}:
                places = [(x + r, y), (x - r, y), (x, y + r), (x, y - r)]
            case _:
                places = [(numbers["x"], numbers["y"])]
        assert np.mean([away[y, x] <= 4 for x, y in places]) > 0.7, element


def test_knowledge_tools_difficulties_and_depths_are_covered() -> None:
    items = [item for number in range(len(FAMILIES)) for item in GENERATOR.generate((), (), number, 0)]
    expanded = [e for item in items for r in ("parallel", "sequential") if (e := GENERATOR.expand(item, r, 0))]
    deepest = [e for item in expanded for r in ("parallel", "sequential") if (e := GENERATOR.expand(item, r, 0))]
    everything = [*items, *expanded, *deepest]
    paths = {path for item in everything for path in item.knowledge}
    assert paths == set(KNOWLEDGE)
    assert len(paths) >= 25
    domains = {path.partition("/")[0] for path in paths}
    assert domains >= {"plane geometry", "coordinate geometry", "functions", "charts", "counting", "logic"}
    tools = {tool for item in everything for tool in item.tools}
    assert tools == set(TOOLS)
    assert len(tools) >= 12
    assert {item.difficulty for item in items} == set(LEVELS)
    assert {item.depth for item in everything} == {1, 2, 3}
    assert len({item.id for item in everything}) == len(everything)
    assert len({item.question for item in items}) >= 0.99 * len(items)


def test_names_are_plain_words_that_need_no_normalisation() -> None:
    for name in (*TOOLS, *KNOWLEDGE):
        assert re.fullmatch(r"[a-z]+(?:[ /][a-z]+)*", name), name


def test_seeds_name_every_path_and_every_tool_once() -> None:
    content = seeds()
    assert tuple(node["path"] for node in content["knowledge"]) == KNOWLEDGE
    assert tuple(tool["name"] for tool in content["tools"]) == TOOLS
    kinds = {"point", "segment", "line", "polyline", "circle", "box", "region"}
    assert all(tool["primitives"] and kinds.issuperset(tool["primitives"]) for tool in content["tools"])  # type: ignore[call-overload,arg-type]
    parents = {node["path"]: node["parents"] for node in content["knowledge"]}
    assert parents["plane geometry/triangle/centroid"] == ["plane geometry/triangle/median"]
    assert parents["plane geometry/triangle/median"] == []
    assert sum(len(family.knowledge) for family in FAMILIES.values()) == len(KNOWLEDGE)


def test_three_items_need_all_of_the_knowledge_or_draw_with_all_of_the_tools() -> None:
    two = ("plane geometry/triangle/median", "plane geometry/triangle/altitude")
    for knowledge, tools in (
        ((KNOWLEDGE[0],), ()),
        (two, ()),
        (("functions/graph/threefold composition",), ()),
        ((), ("tangent",)),
        ((), ("midsegment", "angle bisector")),
    ):
        items = GENERATOR.generate(knowledge, tools, 4, 9)
        assert [item.difficulty for item in items][-1] == "hard"
        assert len(items) == 3
        for item in items:
            assert set(item.knowledge) >= set(knowledge)
            assert set(item.tools) >= set(tools)
    for item in GENERATOR.generate(("plane geometry/circle",), (), 1, 1):
        assert any(path.startswith("plane geometry/circle/") for path in item.knowledge)
    assert GENERATOR.generate(("plane geometry/knots",), (), 0, 0) == ()
    assert GENERATOR.generate(("plane geometry/tri",), (), 0, 0) == ()
    assert GENERATOR.generate((), ("compass rose",), 0, 0) == ()
    assert GENERATOR.generate(("charts/bar chart/mean", "logic/sets/difference"), (), 0, 0) == ()


def test_an_expansion_keeps_the_image_and_adds_one_drawing() -> None:
    (item, *_) = GENERATOR.generate(("plane geometry/triangle/median",), (), 3, 1)
    for relation in ("parallel", "sequential"):
        child = GENERATOR.expand(item, relation, 8)
        assert child is not None
        assert (child.original_code, child.size, child.overlays[:-1]) == (item.original_code, item.size, item.overlays)
        assert (child.depth, child.parent, child.relation) == (2, item.id, relation)
        assert child.question != item.question
        assert child == GENERATOR.expand(item, relation, 8)
        third = GENERATOR.expand(child, "parallel", 8)
        assert third is not None
        assert third.overlays[:2] == child.overlays
        assert GENERATOR.expand(third, "parallel", 8) is None, "the depth is at most 3"


def test_what_cannot_be_expanded_gives_none() -> None:
    (item, *_) = GENERATOR.generate(("counting/combinations/pairs",), (), 3, 1)
    assert GENERATOR.expand(item, "parallel", 0) is None
    assert GENERATOR.expand(item, "sequential", 0) is None
    (item, *_) = GENERATOR.generate(("plane geometry/triangle/median",), (), 3, 1)
    assert GENERATOR.expand(item, "", 0) is None
    for changes in ({"id": "other-1"}, {"original_code": "pass"}, {"overlays": ()}, {"level": "surface"}):
        assert GENERATOR.expand(dataclasses.replace(item, **changes), "parallel", 0) is None


def digest() -> str:
    """Return a hash of items of every kind."""
    items = [item for number in range(6) for item in GENERATOR.generate((), (), number, 2)]
    items += [child for item in items if (child := GENERATOR.expand(item, "parallel", 1))]
    items += [item for number in range(4) for item in GENERATOR.perceive((), number, 2)]
    return hashlib.sha256(b"\n".join(map(ITEMS.dump, items))).hexdigest()


def test_equal_arguments_give_equal_items_in_every_process() -> None:
    code = "import test_program; print(test_program.digest())"
    paths = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])  # noqa: PTH120
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == digest()
    other = GENERATOR.generate((), (), 0, 3)
    assert other != GENERATOR.generate((), (), 0, 4)


def test_a_stored_item_has_the_bytes_of_a_new_one() -> None:
    for item in (make("scatter.box", 0).item, make("graph.area", 2).item, *GENERATOR.perceive((), 2, 2)):
        stored = ITEMS.dump(item)
        assert ITEMS.dump(ITEMS.load(stored, "item")) == stored


def test_perception_items_ask_for_pixels_of_one_image(sandbox: Sandbox) -> None:
    kinds = set()
    for number in range(2 * len(perception.SCENES)):
        items = GENERATOR.perceive((), number, 1)
        assert [item.level for item in items] == ["surface", "semantic", "integrated"]
        assert len({item.original_code for item in items}) == 1
        image = run(sandbox, items[0].original_code)
        pixels = np.asarray(image, int)
        for item in items:
            assert image.size == item.size
            assert item.answer_kind is AnswerKind.COORDINATES
            assert_inside(item)
            places = read_places(item.answer)
            assert places is not None
            assert share_right(item.answer, [item.answer], item.size) == 1
            assert share_right(item.question, [item.answer], item.size) == 0
            for ((x, y),) in places.values():
                assert 0 <= x < image.width
                assert 0 <= y < image.height
                if item.level != "integrated":  # the place is shown
                    near = pixels[max(0, int(y) - 4) : int(y) + 5, max(0, int(x) - 4) : int(x) + 5]
                    assert np.abs(near - pixels[1, 1]).max() > 24, item.question
        points = {e.fields["label"]: e.fields for e in items[0].elements if e.kind == "point"}
        for name, ((x, y),) in (read_places(items[0].answer) or {}).items():
            assert math.dist((x, y), (float(points[name]["x"]), float(points[name]["y"]))) <= 1
        labels = [label for label in points if label]
        assert not any(re.search(rf"\b{label}\b", items[1].question) for label in labels), items[1].question
        kinds.update(element.kind for item in items for element in item.elements)
    assert kinds == {"point", "line", "angle", "circle", "function_curve", "text", "symbol"}


def test_knowledge_decides_the_scene_of_perception_items() -> None:
    for path, kind in (("charts/bar chart/mean", "chart"), ("functions/graph/value", "curve")):
        items = GENERATOR.perceive((path,), 5, 0)
        assert {item.knowledge for item in items} == {(path,)}
        assert all(f"perception.{kind}" in item.id for item in items)


def test_a_figure_whose_drawing_lies_on_its_own_strokes_is_refused() -> None:
    figure = families.figure("triangle", "easy", 1, 1, "triangle.median")
    assert families.fault(figure) == ""
    shape = figure.chains["median"][0].shapes[0]
    ends = (shape.x1, shape.y1), (shape.x2, shape.y2)  # type: ignore[union-attr]
    figure.canvas.path(ends)
    assert "lies on the original" in families.fault(figure)
