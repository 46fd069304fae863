"""Does the page say what the run did, all of it, and nothing that the run's text wants it to do?"""

import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_run import crop, hack, make_run, right, spoiled, wrong
from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import COLUMNS, read_results, write_results
from codevision_ext.records import Record, RecordWriter, Turn, picture_path
from codevision_ext.report import write_report
from codevision_ext.report.curves import draw, nice_ticks, number_text, read_metrics, sections
from codevision_ext.report.page import headlines, table, trained
from codevision_ext.report.trajectories import Found, messages, parts, pick, why_suspicious
from codevision_ext.types import Box, Observed, Orientation, Step, Task


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "demo")


class Page(HTMLParser):
    """Tags, what they load, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "data", "action", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page(folder: Path) -> Page:
    return Page(write_report(folder).read_text())


def test_the_page_needs_nothing_from_outside(run: Path) -> None:
    html = write_report(run).read_text()
    found = Page(html)
    assert found.loads
    assert all(address.startswith("data:image/") for address in found.loads)
    assert not {"link", "iframe", "object", "embed", "base"} & set(found.tags)
    assert not re.findall(r"https?:|url\(|@import", html)


def test_the_table_shows_every_checkpoint_column_and_their_mean(run: Path) -> None:
    results = read_results(run / "results.json")
    text = page(run).text
    for column in (*COLUMNS, "Avg"):
        assert column in text
    for row in table(results):
        assert len(row.cells) == 7
        for score in row.cells:
            assert f"{score.accuracy * 100:.1f}{score.low * 100:.0f}–{score.high * 100:.0f}" in text
    assert table(results)[0].cells[-1].accuracy == pytest.approx(
        sum(s.accuracy for s in table(results)[0].cells[:6]) / 6
    )


def test_the_headlines_are_differences_on_the_transformed_columns_only(run: Path) -> None:
    results = read_results(run / "results.json")
    five = [results.checkpoints[c]["tool_on"][k].accuracy for c in ("sft", "rl") for k in COLUMNS if k != "source"]
    gain = headlines(results)[0]
    assert gain.points == pytest.approx((sum(five[5:]) - sum(five[:5])) / 5 * 100)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("results.json", "results.json isn't there"),
        ("metrics.jsonl", "metrics.jsonl holds no step"),
        ("eval/rl_tool_on.jsonl", "eval/ holds no record"),
        ("rollouts/train.jsonl", "rollouts/ holds no record"),
    ],
)
def test_what_is_missing_is_said_on_the_page(run: Path, gone: str, said: str) -> None:
    assert said not in page(run).text
    (run / gone).unlink()
    assert said in page(run).text


def test_a_checkpoint_that_was_not_evaluated_keeps_its_row(run: Path) -> None:
    results = read_results(run / "results.json")
    write_results(run / "results.json", replace(results, checkpoints={"sft": results.checkpoints["sft"]}))
    text = page(run).text
    assert text.count("not evaluated") == 4
    assert "RL over SFT" not in text


def test_an_empty_folder_and_a_missing_one_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no results\.json, metrics\.jsonl or records"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="nowhere: no such folder"):
        write_report(tmp_path / "nowhere")


def test_a_page_that_cannot_be_written_is_said_and_the_old_one_stays(run: Path) -> None:
    with pytest.raises(InputError, match=r"page\.html: can't be written: No such file"):
        write_report(run, run / "missing" / "page.html")
    before = write_report(run).read_text()
    (run / "metrics.jsonl").write_text("{nonsense}\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 1: not JSON"):
        write_report(run)
    assert (run / "report.html").read_text() == before


def test_what_a_model_wrote_is_shown_and_never_run(run: Path) -> None:
    evil = "</pre></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}"
    writer = RecordWriter(run / "eval", "rl_tool_on")
    turns = (
        Turn(role="user", text=evil),
        Turn(role="assistant", text=f"<think>{evil}</think><tool_call>{evil}</tool_call>"),
        Turn(role="tool", text=evil),
    )
    writer.path.unlink()
    writer.write(replace(right(writer, evil), question=evil, answer=evil, references=(evil,), turns=turns, terms={}))
    shown = page(run)
    assert shown.tags.count("script") == 1
    assert "x" not in shown.loads
    assert shown.text.count(evil) >= 6


def test_pictures_code_observations_and_scores_of_a_trajectory_are_on_the_page(run: Path) -> None:
    shown = page(run)
    for words in (
        "image = image.crop((42, 42, 126, 98))",
        "zoom · on picture 0",
        "has no attribute 'miror'",
        "Right, after a detour",
        "Turned a picture that was upright.",
        "inappropriate",
        "−0.50",
        "reward 2.10",
    ):
        assert words in shown.text
    assert len(shown.loads) >= 7


def test_a_picture_that_is_not_in_the_store_is_said(run: Path) -> None:
    for path in (run / "eval" / "pictures").rglob("*.png"):
        path.unlink()
    assert "picture 0: its file isn't there" in page(run).text


def test_a_file_in_the_store_that_is_no_picture_is_named(run: Path) -> None:
    for path in (run / "eval" / "pictures").rglob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"\.png: not a picture that can be shown"):
        write_report(run)


def test_the_page_stays_small_and_quick_however_much_was_rolled_out(run: Path) -> None:
    writer = RecordWriter(run / "rollouts", "train")
    one = hack(writer, "x")
    writer.write(*[one] * 10_000)
    assert writer.path.stat().st_size > 15_000_000
    start = time.monotonic()
    assert write_report(run).stat().st_size < 1_000_000
    assert time.monotonic() - start < 20


def test_the_newest_rollout_files_are_looked_at(run: Path) -> None:
    for step in (8, 9, 10, 11):
        RecordWriter(run / "rollouts", f"step_{step}").write(spoiled(f"s{step}"))
    (run / "rollouts" / "train.jsonl").unlink()
    assert [found.record.id for found in trained(run)] == ["s11", "s10", "s9"]


# curves


def test_a_resumed_run_counts_the_last_line_of_a_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 1, "a": 1}, {"step": 2, "a": 2}, {"step": 2, "a": 5}, {"step": 3, "a": 3, "note": "x", "b": None}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "a"')
    assert read_metrics(path) == {"a": {1: 1.0, 2: 5.0, 3: 3.0}}
    path.write_text('{"step": 1, "a": NaN}\n{"step": 2, "a": 4}')
    assert read_metrics(path) == {"a": {2: 4.0}}


@pytest.mark.parametrize(
    ("line", "said"),
    [("[1]", "not a JSON object"), ('{"a": 1}', "field step: None"), ('{"step": true}', "field step: True")],
)
def test_a_line_that_is_no_step_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(InputError, match=rf"metrics\.jsonl, line 2: {said}"):
        read_metrics(path)


def test_every_number_that_was_logged_is_in_a_chart(run: Path) -> None:
    metrics = read_metrics(run / "metrics.jsonl")
    drawn = {chart.key for section in sections(metrics) for chart in section.charts}
    assert {re.sub(r"/(mean|min|max|std)$", "", key) for key in metrics} == drawn


def test_signals_stand_in_their_sections_and_the_total_comes_first(run: Path) -> None:
    found = {s.title: [c.title for c in s.charts] for s in sections(read_metrics(run / "metrics.jsonl"))}
    assert found["Reward"][0] == "total"
    assert "must" in found["Reward"]
    assert {"tool rate", "invalid call rate", "turns", "response length"} == set(found["Behaviour"])
    assert found["Validation"] == ["val · accuracy"]


def test_what_the_collapse_watch_finds_stands_above_the_curves_and_nothing_does_where_it_finds_nothing(
    run: Path,
) -> None:
    assert "Collapse watch" not in page(run).text
    rows = [{"step": step, "rollout/tool_rate": 0.4 / step**2} for step in range(1, 9)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = page(run).text
    said = "rollout/tool_rate is below codevision.watch.min_tool_rate (0.05) since step 3 (0.00625 at step 8): the tool"
    assert text.index("Training") < text.index("Collapse watch") < text.index(said) < text.index("Behaviour")


def test_a_spread_without_a_mean_is_drawn_by_itself() -> None:
    (section,) = sections({"x/max": {1: 1.0}, "x/min": {1: 0.0}})
    assert [chart.title for chart in section.charts] == ["x · max", "x · min"]


def test_a_band_covers_the_steps_that_have_both_of_its_edges() -> None:
    (section,) = sections({"x/mean": {1: 1.0, 2: 2.0}, "x/std": {2: 0.5}})
    assert section.charts[0].band_is == "± 1 standard deviation"


@given(st.dictionaries(st.integers(0, 10**6), st.floats(-1e12, 1e12), min_size=1, max_size=400), st.booleans())
def test_a_line_stays_inside_its_chart(points: dict[int, float], from_zero: bool) -> None:
    chart = draw("x", "x", dict(sorted(points.items())), from_zero=from_zero)
    spots = [tuple(map(float, spot.split(","))) for spot in chart.line.removeprefix("M").split("L")]
    assert all(chart.left <= x <= chart.right and 0 <= y <= chart.height for x, y in spots)
    assert all(0 <= y <= chart.height for y, _ in chart.y_ticks)


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_ticks_are_few_and_near_the_values(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    ticks = nice_ticks(low, high)
    assert 1 <= len(ticks) <= 6
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.125, "0.125"),
        (1.324, "1.32"),
        (-12.06, "−12.1"),
        (12345.6, "12,346"),
        (1e-6, "1.0e−06"),
        (100, "100"),
    ],
)
def test_a_number_is_short(value: float, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.42, "42 %"), (0.0968, "9.7 %"), (1.0, "100 %"), (0, "0 %")])
def test_a_share_is_in_per_cent(value: float, text: str) -> None:
    assert number_text(value, percent=True) == text


def test_what_a_reward_term_gives_is_no_share() -> None:
    assert draw("reward/accuracy", "accuracy", {1: 0.5}).now == "0.5"
    assert draw("val/accuracy", "accuracy", {1: 0.5}).now == "50 %"


# trajectories


def found(record: Record, folder: Path) -> Found:
    return Found(record=record, directory=folder, where="here")


def test_one_rollout_of_each_kind_is_chosen_and_none_twice(run: Path) -> None:
    writer = RecordWriter(run / "more")
    pool = [found(make(writer, f"{make.__name__}{i}"), run) for i in range(2) for make in (right, crop, wrong, hack)]
    picks = [p.found.record.id for p in pick(pool) if p.found]
    assert len(set(picks)) == len(picks)
    assert picks[0].startswith("crop")
    assert any(name.startswith("wrong") for name in picks)
    assert any(name.startswith("hack") for name in picks)


def test_a_spoiled_rollout_is_never_an_example(tmp_path: Path) -> None:
    assert all(p.found is None for p in pick([found(spoiled("t"), tmp_path)]))


def observed(correct: bool, *steps: Step) -> Observed:
    return Observed(correct=correct, format=1.0, steps=steps)


TURNED = Step(ok=True, node=1, parent=0, net=Orientation.R270)


@pytest.mark.parametrize(
    ("applied", "seen", "said"),
    [
        (("rotate_90",), observed(True, TURNED), None),
        (("rotate_180",), observed(True, TURNED), "never put the picture upright"),
        ((), observed(True, TURNED), "Turned a picture that was upright"),
        (("rotate_90",), observed(True, TURNED, TURNED, TURNED), "3 calls where 1 would do"),
        (("rotate_90",), observed(True, Step(ok=True, noop=True), TURNED), "without changing the picture"),
        ((), observed(True), None),
        (("rotate_90",), observed(False), None),
    ],
)
def test_what_smells_of_a_hack_is_said_in_a_sentence(
    applied: tuple[str, ...], seen: Observed, said: str | None
) -> None:
    why = why_suspicious(Record(group="g", id="i", task=Task(applied=applied), observed=seen))
    assert (why is None) if said is None else (why is not None and said in why)


def test_a_wrong_answer_that_is_well_paid_smells(tmp_path: Path) -> None:
    record = right(RecordWriter(tmp_path), "r")
    assert why_suspicious(record) is None
    assert (
        why_suspicious(replace(record, observed=replace(record.observed, correct=False)))
        == "Wrong, and still well paid."
    )


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("<think>a</think><answer>b</answer>", ["think", "answer"]),
        ("a</think><answer>b</answer>", ["think", "answer"]),
        ("hm <think>a", ["text"]),
        ("<think>a</think><tool_call>{]</tool_call>", ["think", "broken"]),
        ('<tool_call>{"name": "x", "arguments": {"code": 3}}</tool_call>', ["broken"]),
        ('<tool_call>{"name": "x", "arguments": {"code": "a\nb"}}</tool_call> and', ["code", "text"]),
        ("", []),
    ],
)
def test_a_reply_is_cut_into_what_it_is_made_of(text: str, kinds: list[str]) -> None:
    assert [part.kind for part in parts(text)] == kinds


@given(st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "x1", "y2", "z3"])))
def test_no_word_of_a_reply_is_lost(words: list[str]) -> None:
    shown = " ".join(part.text for part in parts(" ".join(words)))
    for word in ("x1", "y2", "z3"):
        assert shown.count(word) == words.count(word)


def test_boxes_are_drawn_on_the_input_picture_in_its_own_pixels(tmp_path: Path) -> None:
    shown = messages(found(crop(RecordWriter(tmp_path), "c"), tmp_path))
    marks = shown[0].pictures[0].marks
    assert [(mark.box, mark.needed) for mark in marks] == [
        (Box(42, 42, 126, 84), True),
        (Box(42, 42, 126, 98), False),
        (Box(42, 42, 126, 98), False),
    ]
    assert all(not picture.marks for message in shown[1:] for picture in message.pictures)
    assert [picture.label for message in shown for picture in message.pictures] == [
        "picture 0", "picture 1 · id", "picture 2 · r180",
    ]  # fmt: skip


def test_a_box_of_the_upright_picture_is_drawn_where_it_went(tmp_path: Path) -> None:
    record = crop(RecordWriter(tmp_path), "c")
    task = replace(record.task, box=Box(126, 168, 210, 210), box_frame="canonical")
    marks = messages(found(replace(record, task=task), tmp_path))[0].pictures[0].marks
    assert marks[0].box == Box(42, 42, 126, 84)


def test_a_large_picture_is_shown_small_with_its_true_size(tmp_path: Path) -> None:
    record = right(RecordWriter(tmp_path), "r")
    Image.new("RGB", (3000, 1500)).save(picture_path(tmp_path, record.pictures[0]))
    picture = messages(found(record, tmp_path))[0].pictures[0]
    assert picture.uri.startswith("data:image/jpeg")
    assert (picture.width, picture.height) == (3000, 1500)


def test_the_lines_of_verls_file_logger_are_read_like_flat_ones(tmp_path: Path) -> None:
    flat, nested = tmp_path / "flat.jsonl", tmp_path / "nested.jsonl"
    flat.write_text('{"step": 1, "reward/total/mean": 0.5}\n')
    nested.write_text('{"step":1,"data":{"reward/total/mean":0.5}}\n')
    assert read_metrics(nested) == read_metrics(flat) == {"reward/total/mean": {1: 0.5}}
