"""The page works in a real browser, and a model's text can't script it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, Page
from made_up_run import EVIL, make_crowd, right
from PIL import Image, ImageStat

from codevision_ext.io.records import Record, RecordWriter, Turn
from codevision_ext.report import write_report
from codevision_ext.types import DrawingScore, Outcome, Step, Task

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium isn't installed")

ROLLOUTS = 2002
"""A third of them each from SFT, RL and training."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 2,002 rollouts, one of which wants to do something."""
    run = make_crowd(tmp_path_factory.mktemp("crowd") / "demo", ROLLOUTS - 1)
    writer = RecordWriter(run / "rollouts", "train")
    script = f"<img src=x onerror=window.hacked=1><script>window.hacked=1</script>{EVIL}"
    turns = (
        Turn(role="user", text=script),
        Turn(role="assistant", text=f"<think>{script}</think><tool_call>{script}</tool_call><answer>{script}</answer>"),
        Turn(role="tool", text=script),
    )
    fields = {"question": script, "answer": script, "references": (script,), "column": script, "step": 99}
    writer.write(replace(right(writer, script), turns=turns, terms={}, **fields))
    return write_report([run], limit=ROLLOUTS)


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    shown = browser.open(report)
    yield shown
    assert shown.complaints == []
    assert all(address.startswith("file://") for address in shown.requests), "opens nothing but files"
    shown.close()


def test_the_first_view_has_the_tables_and_each_other_one_is_a_key_away(page: Page) -> None:
    assert "RL over SFT" in page.text("main")
    for key, words in (("2", "One chart a signal"), ("3", "of 2,002 rollouts"), ("4", "items that both have")):
        page.press(key)
        assert words in page.text("main")
        assert "RL over SFT" not in page.text("main")
    page.press("1", "?")
    assert "next, previous" in page.text("dialog[open]")


def test_rollouts_are_walked_through_by_keys_and_drawn_when_asked_for(page: Page) -> None:
    page.go("view=trajectories&kind=detour&from=1")
    first = page.text(".traj h3")
    page.press("j")
    second = page.text(".traj h3")
    assert first != second
    assert page.text(".row.on span:nth-child(2)") == second
    page.press("k")
    assert page.text(".traj h3") == first
    page.press("G")
    assert page.run("document.querySelector('.row.on').getBoundingClientRect().bottom <= innerHeight")
    assert page.run("document.querySelectorAll('.row').length") < 60
    assert page.run("document.querySelectorAll('.traj').length") == 1
    page.press("x")
    assert page.text("#count").startswith("2,002 of")


def test_a_search_finds_what_was_said_and_filters_add_up(page: Page) -> None:
    page.press("/")
    page.ask("Input.insertText", text="miror")
    page.settle()
    assert page.text("#count").startswith("400 of")
    assert "has no attribute 'miror'" in page.text(".traj")
    page.press("Escape")
    page.run("document.querySelector('[data-name=from]').value = '2'")
    page.run("document.querySelector('[data-name=from]').onchange()")
    page.settle()
    assert page.text("#count").startswith("133 of")
    page.go("view=trajectories&step=2-3&from=2")
    assert page.text("#count").startswith("64 of")
    page.go("view=trajectories&q=nobody+says+this")
    assert "Nothing is like that" in page.text("#detail")


def test_a_rollout_shows_images_code_observation_calls_and_what_each_term_gave(page: Page) -> None:
    page.go("view=trajectories&q=image.crop&from=1")
    text = page.text(".traj")
    for words in (
        "image = image.crop((42, 42, 126, 98))",
        "Picture 1: 84x56.",
        "image 2 · 84×56 · 180°",
        "too small",
        "crop · image 1 from 0 · as it is · of 42, 42, 126, 98",
        "must\t0.9\t1\t+0.9",
        "reward\t\t\t2.1",
    ):
        assert words in text
    loaded = page.run("[...document.images].map(image => [image.naturalWidth, image.naturalHeight])")
    assert loaded == [[252, 252], [84, 56], [84, 56]]


def test_boxes_lie_on_the_input_image_where_the_images_came_from(page: Page) -> None:
    page.go("view=trajectories&q=image.crop&from=1")
    boxes = page.run(BOXES)
    assert [pytest.approx(box, abs=6) for box in boxes] == [[42, 42, 126, 98], [42, 42, 126, 98], [42, 42, 126, 84]]
    assert page.run(
        "[...document.querySelectorAll('.frame line')].map(l => l.getAttribute('y1') === l.getAttribute('y2'))"
    ) == [True, True]
    assert page.run("document.querySelectorAll('.frame .hot').length") == 0
    page.run("document.querySelector('figure.made').dispatchEvent(new PointerEvent('pointerenter'))")
    assert page.run("document.querySelectorAll('.frame .hot').length") == 1


def test_two_checkpoints_stand_side_by_side_on_the_same_item(page: Page) -> None:
    page.press("4")
    assert page.run("document.querySelectorAll('.traj').length") == 2
    titles = page.run("[...document.querySelectorAll('.traj h3')].map(h => h.innerText)")
    assert titles[0] == titles[1]
    assert "SFT, tool on" in page.text(".traj:nth-child(1)")
    assert "RL, tool on" in page.text(".traj:nth-child(2)")
    page.go("view=compare&diff=gained")
    assert page.run("[...document.querySelectorAll('.traj .pill:first-of-type')].map(p => p.innerText)") == [
        "wrong",
        "right",
    ]
    gained = page.text("#count")
    page.go("view=compare&diff=gained&a=1&b=0")
    assert page.text("#count") == gained


def test_what_a_model_wrote_is_shown_and_never_run(page: Page) -> None:
    for view in ("trajectories", "compare"):
        page.go(f"view={view}&q=hacked&step=99&sort=longest" if view == "trajectories" else f"view={view}")
    page.go("view=trajectories&q=hacked&step=99")
    assert page.text("#count").startswith("1 of")
    assert page.text(".traj").count("window.hacked=1") >= 12
    assert page.run("window.hacked") is None
    assert page.run("document.scripts.length") == 3
    page.run("document.querySelector('h1').innerHTML = '<img src=x onerror=window.hacked=1>'")
    page.run("new Promise(done => setTimeout(done, 50))")
    assert page.run("window.hacked") is None, "the page's policy lets no script in, even where it stood in an element"
    assert any("Content Security Policy" in said for said in page.complaints)
    page.forget()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read_in_light_and_dark(browser: Browser, report: Path, dark: bool) -> None:
    shown = browser.open(report, "view=trajectories&q=image.crop&from=1", dark=dark)
    shown.settle()
    mean = ImageStat.Stat(shown.shot().convert("L")).mean[0]
    assert mean < 70 if dark else mean > 200
    for selector in (
        "h1",
        "nav a",
        ".row .soft",
        ".say.think",
        ".say.answer",
        "pre",
        ".side dt",
        ".pill",
        "td.pos",
        "figcaption",
    ):
        assert shown.run(CONTRAST % selector) >= 4.5, selector
    shown.press("t")
    assert (ImageStat.Stat(shown.shot().convert("L")).mean[0] > 200) is dark
    shown.close()


BOXES = """(() => {
  const frame = document.querySelector(".frame"), image = frame.querySelector("img").getBoundingClientRect();
  return [...frame.querySelectorAll("rect")].map((rect) => rect.getBoundingClientRect()).map((box) =>
    [box.left - image.left, box.top - image.top, box.right - image.left, box.bottom - image.top]
      .map((v) => v / image.width * 252));
})()"""
"""The rectangles on the first image, in pixels of an image that is 252 wide."""

TEXTS = ("h1", "nav a", ".row .soft", ".say.think", ".say.answer", "pre", ".side dt", ".pill", "td.pos", "figcaption")

CONTRAST = """(() => {
  const light = (css) => {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
      .map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const node = document.querySelector("%s"), clear = "rgba(0, 0, 0, 0)";
  let back = node;
  while (getComputedStyle(back).backgroundColor === clear && back.parentElement) back = back.parentElement;
  const pair = [getComputedStyle(node).color, getComputedStyle(back).backgroundColor].map(light);
  return (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
})()"""
"""WCAG 2.1's contrast ratio of an element's text to what is behind it; 4.5 is its bound for small text."""


def test_the_target_of_a_drawing_lies_over_the_input_and_over_the_image_that_was_judged(
    browser: Browser, tmp_path: Path
) -> None:
    writer = RecordWriter(tmp_path / "run" / "rollouts", "train")
    names = [writer.image(Image.new("RGB", size, "white")) for size in ((200, 100), (100, 50), (60, 60))]
    steps = tuple(Step(ok=True, node=node, parent=0) for node in (1, 2))
    shapes = [{"kind": "segment", "x1": 20, "y1": 50, "x2": 180, "y2": 50}, {"kind": "point", "x": 100, "y": 20}]
    drawn = DrawingScore(
        correct=False, f1=0.5, recall=(0.5, 1.0), precision=1.0, preserved=1.0, reason=f"half of it {EVIL}", node=1
    )
    roles = (("user", (0,)), ("assistant", ()), ("tool", (1,)), ("assistant", ()), ("tool", (2,)))
    turns = tuple(Turn(role=role, text="t", images=tuple(names[at] for at in shown)) for role, shown in roles)  # type: ignore[arg-type]
    observed = Outcome(correct=False, format=1.0, steps=steps, drawn=drawn)
    task = Task(size=(200, 100), drawing={"primitives": shapes})
    fields = {"task": task, "observed": observed, "turns": turns, "pictures": tuple(names)}
    writer.write(Record(group="g", id="g-0", **fields))  # type: ignore[arg-type]
    shown = browser.open(write_report([tmp_path / "run"]), "view=trajectories")
    assert "F1 0.5, precision 1, preserved 1: half of it" in shown.text(".traj")
    assert "a drawing" in shown.text(".traj")
    found = shown.run(
        "[...document.querySelectorAll('figure')].map(f => [...f.querySelectorAll('.target')].map(t => "
        "[t.tagName, t.getAttribute('points') || t.getAttribute('cx'), t.getAttribute('class'), t.textContent]))"
    )
    assert found == [
        [["polyline", "20,50 180,50", "target missed", "segment, 50 % drawn"], ["circle", "100", "target", DRAWN]],
        [["polyline", "10,25 90,25", "target missed", "segment, 50 % drawn"], ["circle", "50", "target", DRAWN]],
        [],
    ]
    assert shown.complaints == []
    shown.close()


DRAWN = "point, 100 % drawn"
