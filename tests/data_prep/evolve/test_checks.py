"""Every check finds a fault that is planted in a good item, and lets good items pass."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from evolve_stand_in import HEAD, OVER, ProgramGenerator, bars, corners, segment, triangle
from PIL import Image, ImageDraw

from codevision_ext.drawing import DrawingTarget
from codevision_ext.drawing.targets import Point, Segment
from codevision_ext.errors import InputError
from data_prep.evolve.checks import (
    STAGE_OF,
    Rejection,
    RejectReason,
    check_hints,
    check_not_before,
    check_solution,
    check_together,
    choices_of,
)
from data_prep.evolve.dedupe import SeenItems, normal_code
from data_prep.evolve.item import Element, Item
from data_prep.evolve.stages import CONTINUED, Examined, Examiner, target_of
from data_prep.formats.image_files import jpeg

GENERATOR = ProgramGenerator()
MEDIAN = triangle(0, 0, 0)
BARS = bars(1, 1, 0)
PLACES = GENERATOR.perceive(("plane geometry",), 2, 0)[0]
OUTSIDE = DrawingTarget(primitives=(Segment(x1=10, y1=10, x2=400, y2=10),))
LABELS = tuple(
    Element(kind="text", fields={"x": x, "y": y + (-12 if name == "A" else 14), "label": name}, semantic="a corner")
    for name, (x, y) in zip("ABC", corners(0, 0, 0), strict=True)
)
LABELLED = replace(MEDIAN, elements=LABELS)
CORNERS = replace(
    MEDIAN,
    elements=tuple(
        Element(kind="point", fields={"x": x, "y": y, "label": name}, semantic="a corner")
        for name, (x, y) in zip("ABC", corners(0, 0, 0), strict=True)
    ),
)
SECOND = GENERATOR.expand(MEDIAN, "sequential", 0)
assert SECOND is not None


def moved(item: Item) -> Item:
    """Returns the item with a drawing that is 30 pixels off."""
    (target,) = item.overlays[0].target.primitives
    assert isinstance(target, Segment)
    ends = (int(target.x1) + 30, int(target.y1)), (int(target.x2) + 30, int(target.y2))
    wrong = segment(*ends, "", "")
    return replace(item, overlays=(replace(item.overlays[0], code=wrong.code),))


def with_code(item: Item, text: str, *, overlay: bool = False) -> Item:
    """Returns the item with a line of code before `plt.show()` of its original, or of its last drawing."""
    if not overlay:
        return replace(item, original_code=item.original_code.replace("plt.show()", f"{text}\nplt.show()"))
    last = item.overlays[-1]
    changed = replace(last, code=last.code.replace("plt.show()", f"{text}\nplt.show()"))
    return replace(item, overlays=(*item.overlays[:-1], changed))


def swapped_labels(item: Item) -> Item:
    """Returns the item whose code writes A and B the other way round."""
    code = item.original_code.replace('"A"', '"X"').replace('"B"', '"A"').replace('"X"', '"B"')
    return replace(item, original_code=code)


def recoloured(item: Item, colour: str) -> Item:
    """Returns the item with a drawing in another colour."""
    return replace(item, overlays=(replace(item.overlays[0], code=item.overlays[0].code.replace("red", colour)),))


def drawn_before(item: Item) -> Item:
    (line,) = [line for line in item.overlays[0].code.splitlines() if line.startswith("ax.plot")]
    return with_code(item, line.replace("red", "black"))


def repeated(item: Item) -> Item:
    """Returns an item of two drawings whose last one draws the first one again, thinner, so that no pixel changes."""
    (line,) = [line for line in item.overlays[0].code.splitlines() if line.startswith("ax.plot")]
    return with_code(item, line.replace("linewidth=2", "linewidth=0.5"), overlay=True)


def with_fields(item: Item, **fields: int | float | str) -> Item:
    element = item.elements[0]
    return replace(item, elements=(replace(element, fields={**element.fields, **fields}), *item.elements[1:]))


FAULTS: dict[RejectReason, list[Item]] = {
    RejectReason.BLANK_TEXT: [replace(MEDIAN, question=" "), replace(MEDIAN, answer=""), replace(MEDIAN, solution="")],
    RejectReason.HINT: [
        replace(MEDIAN, question=f"{words} How long is it?")
        for words in ("Draw AM.", "Connect A and M.", "Construct the median.", "Use an auxiliary line.", "Join A to M.")
    ]
    + [replace(MEDIAN, question="How long is the Median-Segment AM?")],
    RejectReason.NOT_A_CHOICE: [replace(BARS, answer="C"), replace(BARS, answer="maybe")],
    RejectReason.ANSWER_NOT_IN_SOLUTION: [replace(MEDIAN, answer="7"), replace(BARS, solution="It is so.")],
    RejectReason.TARGET_OUTSIDE: [
        replace(MEDIAN, overlays=(replace(MEDIAN.overlays[0], target=OUTSIDE),)),
        replace(MEDIAN, overlays=(replace(MEDIAN.overlays[0], target=DrawingTarget(primitives=())),)),
    ],
    RejectReason.ELEMENT_OUTSIDE: [with_fields(MEDIAN, x2=900), with_fields(PLACES, y=-1)],
    RejectReason.ANSWER_PLACE: [
        replace(PLACES, answer="{'A': (5, 5)}"),
        replace(PLACES, answer="{'Z': (500, 5)}"),
        replace(PLACES, answer="at the top"),
    ],
    RejectReason.LABEL: [swapped_labels(LABELLED), swapped_labels(CORNERS)],
    RejectReason.ORIGINAL_FAILED: [
        with_code(MEDIAN, "1 / 0"),
        replace(MEDIAN, original_code="x = 1"),
        replace(MEDIAN, original_code="import os\nos.system('ls')\n"),
    ],
    RejectReason.SIZE: [replace(MEDIAN, size=(321, 240))],
    RejectReason.BLANK_IMAGE: [replace(BARS, original_code=f"{HEAD}plt.show()\n")],
    RejectReason.CUT: [with_code(BARS, 'ax.text(1, 100, "label", ha="center", fontsize=8)')],
    RejectReason.ELEMENT_MISSING: [
        with_fields(MEDIAN, x1=5, y1=5, x2=60, y2=5),
        replace(PLACES, original_code=PLACES.original_code.replace("ko", "wo", 1)),
        replace(BARS, elements=(Element(kind="circle", fields={"cx": 200, "cy": 60, "r": 55}, semantic="the circle"),)),
        replace(BARS, elements=(Element(kind="text", fields={"x": 30, "y": 20, "label": "A"}, semantic="a label"),)),
    ],
    RejectReason.OVERLAY_FAILED: [
        with_code(MEDIAN, "1 / 0", overlay=True),
        with_code(SECOND, "open('/x')", overlay=True),
        recoloured(MEDIAN, "none"),
    ],
    RejectReason.NOT_DRAWN: [
        moved(MEDIAN),
        moved(BARS),
        with_code(MEDIAN, "ax.plot([10, 300], [10, 230], 'g-', linewidth=3)", overlay=True),
        recoloured(MEDIAN, "#fafafa"),
        replace(MEDIAN, overlays=(replace(MEDIAN.overlays[0], code=OVER.replace("w / 100", "w / 50") + "plt.show()"),)),
    ],
    RejectReason.DRAWN_BEFORE: [drawn_before(MEDIAN), drawn_before(BARS)],
    RejectReason.STEP_NOT_NEEDED: [repeated(SECOND)],
}
"""Items with a planted fault, by the reason that must be given."""


@pytest.mark.parametrize(
    "item",
    [MEDIAN, BARS, PLACES, SECOND, LABELLED, CORNERS, triangle(7, 2, 3), bars(8, 0, 3)],
    ids=lambda item: item.id,
)
def test_a_good_item_passes_every_check(examiner: Examiner, item: Item) -> None:
    examined = examiner.examine(item)
    assert examined.rejection is None
    assert len(examined.steps) == item.depth
    assert [step.code.startswith(CONTINUED) for step in examined.steps] == [at > 0 for at in range(item.depth)]


@pytest.mark.parametrize(
    ("reason", "item"), [pytest.param(reason, item, id=reason) for reason, items in FAULTS.items() for item in items]
)
def test_a_planted_fault_is_rejected_for_its_reason(examiner: Examiner, reason: RejectReason, item: Item) -> None:
    rejection = examiner.examine(item).rejection
    assert rejection is not None
    assert rejection.reason is reason, rejection
    assert rejection.detail


def test_every_reason_has_a_stage_and_a_planted_fault() -> None:
    assert set(STAGE_OF) == set(RejectReason)
    others = {reason for reason in RejectReason if reason not in FAULTS}
    below = {RejectReason.NOT_THE_PARENTS, RejectReason.NOT_TOGETHER}  # planted in tests of their own
    elsewhere = {"dedupe", "judge", "solve"}  # planted in tests of their own
    assert others - below == {reason for reason, stage in STAGE_OF.items() if stage in elsewhere}


def test_a_last_image_that_lacks_a_drawing_is_rejected(examiner: Examiner) -> None:
    examined = examiner.examine(SECOND)
    original, first, last = (
        Image.open(io.BytesIO(data)) for data in (examined.original, *(step.image for step in examined.steps))
    )
    assert check_together(original, last, target_of(SECOND)) is None
    assert reason_of(check_together(original, first, target_of(SECOND))) is RejectReason.NOT_TOGETHER


def test_a_point_on_a_stroke_is_marked_before_only_where_a_dot_is() -> None:
    image = Image.new("RGB", (200, 160), "white")
    pen = ImageDraw.Draw(image)
    pen.line((20, 100, 180, 60), "black", 4)
    target = DrawingTarget(primitives=(Point(x=100, y=80),))
    assert check_not_before(image, target, 1) is None
    pen.circle((100, 80), 4, "black")
    assert reason_of(check_not_before(image, target, 1)) is RejectReason.DRAWN_BEFORE
    both = DrawingTarget(primitives=(*target.primitives, Segment(x1=20, y1=20, x2=90, y2=30)))
    assert check_not_before(image, both, 1) is None
    pen.line((20, 20, 90, 30), "red", 2)
    assert reason_of(check_not_before(image, both, 1)) is RejectReason.DRAWN_BEFORE


@pytest.mark.parametrize(
    "change",
    [
        lambda child: replace(child, parent="another"),
        lambda child: replace(child, overlays=child.overlays[1:]),
        lambda child: replace(child, original_code=child.original_code + "\n# another"),
        lambda child: replace(child, relation=""),
    ],
)
def test_an_extension_keeps_its_parent(examiner: Examiner, change: Callable[[Item], Item]) -> None:
    assert examiner.examine(SECOND, MEDIAN).rejection is None
    rejection = examiner.examine(change(SECOND), MEDIAN).rejection
    assert rejection is not None
    assert rejection.reason is RejectReason.NOT_THE_PARENTS


def test_choices_are_read_where_there_are_some() -> None:
    assert choices_of("Which? A. 3  B. 4 cm  C. 5") == {"A": "3", "B": "4 cm", "C": "5"}
    assert choices_of("Is it\n(A) big\n(B) small") == {"A": "big", "B": "small"}
    assert choices_of("The line through A. How long is B?") == {}


@pytest.mark.parametrize("answer", ["12.5", "1/2", "(3, 4)", "$12.5$"])
def test_a_solution_may_write_its_answer_as_a_formula(answer: str) -> None:
    assert check_solution(replace(MEDIAN, answer=answer, solution=f"So we get ${answer.strip('$')}$.")) is None
    assert check_solution(replace(MEDIAN, answer="5", solution="It is 12.5 or 51 or 5.7.")) is not None


def test_a_perception_question_may_use_the_words() -> None:
    assert check_hints(replace(PLACES, question="Where do the drawn lines connect?")) is None


@pytest.fixture(scope="module")
def good(examiner: Examiner) -> tuple[Examined, Examined]:
    return examiner.examine(MEDIAN), examiner.examine(BARS)


def reason_of(rejection: Rejection | None) -> RejectReason | None:
    return rejection.reason if rejection else None


def test_what_was_accepted_is_found_again_by_image_text_code_and_id(good: tuple[Examined, Examined]) -> None:
    median, _ = good
    seen = SeenItems()
    assert seen.check(MEDIAN, median.original, 1) is None
    copy = replace(MEDIAN, id="copy")
    assert reason_of(seen.check(MEDIAN, median.original, 1)) is RejectReason.SAME_ID
    assert reason_of(seen.check(copy, median.original, 1)) is RejectReason.SAME_TEXT
    other = replace(copy, question="How long is the way from A to the middle of BC?")
    assert reason_of(seen.check(other, median.original, 2)) is RejectReason.SAME_IMAGE
    with Image.open(io.BytesIO(median.original)) as image:
        turned = jpeg(image.convert("RGB").transpose(Image.Transpose.ROTATE_90))
    assert reason_of(seen.check(other, turned, 2)) is RejectReason.SAME_IMAGE
    assert reason_of(seen.check(other, good[1].original, 2)) is RejectReason.SAME_CODE
    assert seen.check(other, median.original, 1) is None, "an item of the same call may share the image"


def test_other_items_are_new(examiner: Examiner) -> None:
    seen = SeenItems()
    for number in range(20):
        for item in (triangle(number, 0, 1), bars(number, 1, 1)):
            if number < 6:
                assert seen.check(item, examiner.examine(item).original, number) is None


def test_comments_and_layout_do_not_make_other_code() -> None:
    assert normal_code("x = 1  # one\n\ny=(2)") == normal_code("x=1\ny = 2")
    assert normal_code("x = 1") != normal_code("x = 2")
    assert normal_code("no python at all") == "no python at all"


def test_items_of_a_suite_are_leaks(tmp_path: Path, good: tuple[Examined, Examined]) -> None:
    median, charts = good
    (tmp_path / "a.png").write_bytes(median.original)
    (tmp_path / "b.png").write_bytes(charts.original)
    rows = [
        {"image": "a.png", "question": "Name the shape.", "answer": "triangle"},
        {"image": "a.png", "question": BARS.question.upper().replace(":", " :"), "answer": "yes"},
    ]
    (tmp_path / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = SeenItems()
    assert seen.add_suite(tmp_path / "suite.jsonl") == 2
    assert reason_of(seen.check(MEDIAN, median.original, 0)) is RejectReason.LEAKED_IMAGE
    assert reason_of(seen.check(BARS, charts.original, 0)) is RejectReason.LEAKED_TEXT
    assert seen.check(replace(BARS, question="Which bar is the highest one of all?"), charts.original, 0) is None


def test_a_suite_without_rows_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        SeenItems().add_suite(tmp_path / "none.jsonl")


def test_the_page_of_the_docs_lists_every_reason_with_its_stage() -> None:
    lines = (Path(__file__).parents[3] / "docs" / "evolve.md").read_text().splitlines()
    rows = [line.split("|")[1:3] for line in lines if line.count("|") == 4 and "`" in line.split("|")[2]]
    listed = {name: stage.strip() for stage, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed == {str(reason): stage for reason, stage in STAGE_OF.items()}
