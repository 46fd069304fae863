"""The page shows every part of the runs, and a rollout's text changes nothing in it."""

import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_run import EVIL, crop, detour, hack, invalid, make_run, right, wrong
from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.evaluate.results import read_evaluation, write_evaluation
from codevision_ext.geometry import apply
from codevision_ext.io.records import Record, RecordWriter, Turn, image_path
from codevision_ext.report import images as images
from codevision_ext.report import sources, write_report
from codevision_ext.report.curves import draw_curves, nice_ticks, read_metrics, sections, short_number
from codevision_ext.report.images import Album
from codevision_ext.report.scores import checkpoint_rows, headlines
from codevision_ext.report.trajectories import KINDS, kinds, mark_views, messages, view, why_suspicious
from codevision_ext.rollout.dialects.registry import CODE_TAGS, TOOL_CALL
from codevision_ext.types import Box, Orientation, Outcome, Step, Task, ToolCall


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "demo")


class Page(HTMLParser):
    """Tags, what they load, the text between them, and what the scripts get."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.json: dict[str, Any] = {}
        self._reads: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "data", "action", "srcset")]
        self.loads += [value or "" for name, value in attrs if name == "href" and not (value or "").startswith("#")]
        self._reads = dict(attrs).get("id") if ("type", "application/json") in attrs else None

    def handle_data(self, data: str) -> None:
        if self._reads:
            self.json[self._reads], self._reads = json.loads(data), None
        else:
            self.text += data

    @property
    def rollouts(self) -> list[dict[str, Any]]:
        return self.json["data"]["rollouts"]


def page(*folders: Path, **options: Any) -> Page:
    return Page(write_report(folders, folders[0] / "report.html", **options).read_text())


def test_the_page_needs_nothing_but_the_images_beside_it(run: Path) -> None:
    html = write_report([run]).read_text()
    found = Page(html)
    assert found.loads == []
    assert not {"link", "iframe", "object", "embed", "base", "img"} & set(found.tags)
    assert not re.findall(r"https?:(?!//www\.w3\.org/2000/svg)|url\(|@import", html)
    folder = run / "report_pictures"
    assert found.json["data"]["folder"] == "report_pictures"
    named = {name for name, width, _ in found.json["images"] if width}
    assert named == {path.stem for path in folder.rglob("*.png")}
    assert len(named) == 12


def test_images_are_linked_and_those_of_an_earlier_page_are_gone(run: Path) -> None:
    shown = page(run)
    name = shown.json["images"][0][0]
    kept = images.image_path_in(run / "report_pictures", name)
    assert kept.samefile(image_path(run / "eval", name))
    other = run / "report_pictures" / "ab" / "mine.png"
    old = images.image_path_in(run / "report_pictures", "ab" + "0" * 62)
    other.parent.mkdir(exist_ok=True)
    other.touch()
    old.touch()
    page(run)
    assert kept.exists()
    assert other.exists()
    assert not old.exists()


def test_where_links_are_refused_images_are_copied(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    name = page(run).json["images"][0][0]
    kept = images.image_path_in(run / "report_pictures", name)
    assert kept.read_bytes() == image_path(run / "eval", name).read_bytes()
    assert not kept.samefile(image_path(run / "eval", name))


def test_inlined_images_stand_in_the_page_large_ones_smaller_with_their_true_size(run: Path) -> None:
    large = crop(RecordWriter(run / "eval"), "e1").pictures[0]
    Image.new("RGB", (3000, 1500)).save(image_path(run / "eval", large))
    shown = page(run, inline=True)
    assert not (run / "report_pictures").exists()
    assert shown.json["data"]["folder"] == ""
    assert all(uri.startswith("data:image/") for uri, _, _ in shown.json["images"])
    (jpeg,) = [entry for entry in shown.json["images"] if entry[0].startswith("data:image/jpeg")]
    assert jpeg[1:] == [3000, 1500]


def test_too_much_to_inline_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_MAX_INLINE_BYTES", 1000)
    with pytest.raises(InputError, match="leave out --inline, or show fewer rollouts with --limit"):
        page(run, inline=True)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "x", "A" * 64])
def test_a_image_whose_name_leads_elsewhere_is_refused(run: Path, name: str) -> None:
    writer = RecordWriter(run / "rollouts", "train")
    writer.write(replace(hack(writer, "evil"), turns=(Turn(role="user", text="", images=(name,)),)))
    with pytest.raises(InputError, match="which no image store does"):
        page(run)


def test_the_table_shows_every_checkpoint_column_and_their_mean(run: Path) -> None:
    results = read_evaluation(run)
    text = page(run).text
    for column in (*COLUMNS, "Avg"):
        assert column in text
    for row in checkpoint_rows(results):
        assert len(row.cells) == 7
        for score in row.cells:
            assert f"{score.accuracy * 100:.1f}{score.low * 100:.0f}–{score.high * 100:.0f}" in text
    assert checkpoint_rows(results)[0].cells[-1].accuracy == pytest.approx(
        sum(s.accuracy for s in checkpoint_rows(results)[0].cells[:6]) / 6
    )


def test_the_headlines_are_differences_on_the_transformed_columns_only(run: Path) -> None:
    results = read_evaluation(run)
    columns = [results.models[name].suites["transformed"].modes["tool_on"].columns for name in ("sft", "rl")]
    five = [each[column].score.accuracy for each in columns for column in COLUMNS if column != "source"]
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
    results = read_evaluation(run)
    write_evaluation(run / "results.json", replace(results, models={"sft": results.models["sft"]}))
    text = page(run).text
    assert text.count("not evaluated") == 4
    assert "RL over SFT" not in text


def test_an_evaluation_on_suites_has_its_scores_in_a_table(run: Path) -> None:
    content = json.loads((run / "results.json").read_text())
    model = content["models"]["rl"]
    suite = model["suites"]["transformed"]
    del suite["modes"]["tool_off"]
    score = {"accuracy": 0.4, "low": 0.25, "high": 0.6, "n": 20}
    result = suite["modes"]["tool_on"]
    result["columns"] = {"ocr": {"score": score, "pass_k": None}}
    result["overall"]["score"] = score | {"accuracy": 0.5}
    model["suites"] = {"vtbench": suite}
    content["models"] = {"model": model}
    (run / "results.json").write_text(json.dumps(content))
    (run / "eval" / "rl_tool_on.jsonl").rename(run / "eval" / "vtbench_tool_on.jsonl")
    shown = page(run)
    assert "vtbench tool on ocr 40.025–60 overall 50.025–60" in re.sub(r"\s+", " ", shown.text)
    assert "Accuracy In per cent" not in re.sub(r"\s+", " ", shown.text)
    assert shown.json["data"]["sources"] == ["vtbench, tool on", "training"]
    content["models"]["variant-0"] = model
    (run / "results.json").write_text(json.dumps(content))
    assert "variant-0, vtbench tool on" in re.sub(r"\s+", " ", page(run).text)


def test_every_image_of_a_call_is_shown_with_its_index_its_orientation_and_its_mark(tmp_path: Path) -> None:
    record = crop(RecordWriter(tmp_path), "a")
    one, two = record.observed.steps
    step = replace(one, further=replace(two, parent=0).images)
    shown = replace(record.turns[2], images=record.pictures[1:])
    record = replace(
        record,
        observed=replace(record.observed, steps=(step,)),
        turns=(*record.turns[:2], shown, record.turns[-1]),
    )
    images = messages(record)[2].images
    assert [(image.node, image.net) for image in images] == [(1, Orientation.ID), (2, Orientation.R180)]
    assert [mark.node for mark in mark_views(record, 0)] == [1, 2, None]


@pytest.mark.parametrize(
    "code", ["print('</tool_call></think>')", "# <think>a</think><answer>b</answer>", "s = '<tool_call>'"]
)
def test_tags_inside_code_are_shown_as_code(code: str) -> None:
    request = json.dumps({"name": "code_image_tool", "arguments": {"code": code}})
    for before in ("<think>a</think>", "a</think>"):
        parts = TOOL_CALL.parts(f"{before}<tool_call>\n{request}\n</tool_call>")
        assert [(part.kind, part.text) for part in parts] == [("think", "a"), ("code", code)]


def test_code_outputs_and_answer_of_one_message_are_shown_as_turns(tmp_path: Path) -> None:
    record = crop(RecordWriter(tmp_path), "c")
    user, *_ = record.turns
    codes = ["image = image.crop((42, 42, 126, 98))", "print('</code>')"]
    turns = [
        Turn(role="assistant", text=CODE_TAGS.call_text("too small", ToolCall(code=codes[0]), first=True)),
        Turn(role="tool", text="", images=record.pictures[1:2]),
        Turn(role="assistant", text=CODE_TAGS.call_text("upside down", ToolCall(code=codes[1]), first=False)),
        Turn(role="tool", text="</code>"),
        Turn(role="assistant", text=CODE_TAGS.answer_text("upright", "417", first=False)),
    ]
    shown = messages(replace(record, turns=(user, *turns)))
    assert [[(part.kind, part.text) for part in message.parts] for message in shown[1:]] == [
        [("think", "too small"), ("code", codes[0])],
        [],
        [("think", "upside down"), ("code", codes[1])],
        [("text", "</code>")],
        [("think", "upright"), ("answer", "417")],
    ]
    assert [[image.node for image in message.images] for message in shown] == [[0], [], [1], [], [], []]


def test_several_runs_stand_on_one_page_under_names_that_tell_them_apart(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other" / "demo", seed=1)
    (other / "metrics.jsonl").unlink()
    for folder in (run, other):
        shutil.copy(folder / "eval" / "rl_tool_on.jsonl", folder / "eval" / "sft_tool_on.jsonl")
    shown = page(run, other)
    assert f"{tmp_path.name}/demo" in shown.text
    assert "other/demo: metrics.jsonl holds no step" in shown.text
    assert shown.json["data"]["sources"] == [
        f"{name}/demo: {label}"
        for name in (tmp_path.name, "other")
        for label in ("SFT, tool on", "RL, tool on", "training")
    ]
    assert shown.json["data"]["pair"] == [1, 4]
    first, second = ({r["item"] for r in shown.rollouts if r["from"] == source} for source in (1, 4))
    assert first == second
    with pytest.raises(InputError, match="the same folder occurs twice"):
        page(run, run)


def test_an_empty_folder_and_a_missing_one_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no results\.json, metrics\.jsonl or records"):
        write_report([tmp_path])
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="nowhere: no such folder"):
        write_report([tmp_path / "nowhere"])


def test_a_page_that_cannot_be_written_is_said_and_the_old_one_stays(run: Path) -> None:
    with pytest.raises(InputError, match=r"page\.html: can't be written: no folder"):
        write_report([run], run / "missing" / "page.html")
    before = write_report([run]).read_text()
    (run / "metrics.jsonl").write_text("{nonsense}\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 1: not JSON"):
        write_report([run])
    assert (run / "report.html").read_text() == before


def test_what_a_model_wrote_is_data_and_no_part_of_the_page(run: Path) -> None:
    writer = RecordWriter(run / "eval", "rl_tool_on")
    turns = (
        Turn(role="user", text=EVIL),
        Turn(role="assistant", text=f"<think>{EVIL}</think><tool_call>{EVIL}</tool_call>"),
        Turn(role="tool", text=EVIL),
    )
    writer.path.unlink()
    fields = {"question": EVIL, "answer": EVIL, "references": (EVIL,), "column": EVIL}
    writer.write(replace(right(writer, EVIL), turns=turns, terms={}, **fields))
    shown = page(run)
    assert shown.tags.count("script") == 3
    assert "img" not in shown.tags
    (evil,) = [r for r in shown.rollouts if r["id"] == EVIL]
    assert evil["answer"] == evil["question"] == evil["column"] == EVIL
    assert [part[:2] for message in evil["messages"] for part in message["parts"]] == [
        ["text", EVIL], ["think", EVIL], ["broken", EVIL], ["text", EVIL],
    ]  # fmt: skip


def test_images_code_observations_and_scores_of_every_rollout_are_on_the_page(run: Path) -> None:
    shown = page(run)
    by_id = {r["id"]: r for r in shown.rollouts}
    assert list(by_id) == ["e0", "e1", "e2", "e3", "t0", "t1"]
    said = [part for message in by_id["e1"]["messages"] for part in message["parts"]]
    assert ["code", "image = image.crop((42, 42, 126, 98))", "zoom · on image 0"] in said
    assert any("has no attribute 'miror'" in part[1] for m in by_id["e2"]["messages"] for part in m["parts"])
    assert by_id["t0"]["why"] == "Turned an image that was upright."
    assert by_id["t0"]["terms"]["inappropriate"] == [1.0, -0.5, -0.5]
    assert by_id["t0"]["calls"][0]["ops"] == ["rotate_90"]
    assert by_id["t1"]["kinds"] == ["invalid"]
    assert all(shown.json["images"][p["image"]][1] for r in shown.rollouts for m in r["messages"] for p in m["images"])


def test_the_table_of_rollouts_knows_what_the_records_say(run: Path) -> None:
    found = {source.label: sources.run_summary(source) for source in sources.read_sources([run])}
    assert list(found) == ["RL, tool on", "training"]
    evaluated, trained = found["RL, tool on"], found["training"]
    assert evaluated.accuracy.accuracy == 0.75
    assert evaluated.tool_rate == 0.75
    assert set(evaluated.columns) == {"rot90", "rot180", "flip_h"}
    assert (trained.invalid, trained.suspicious, trained.steps) == (1, 1.0, (60, 60))
    text = re.sub(r"\s+", " ", page(run).text)
    assert "6 rollouts, 6 of them on this page" in text
    assert "RL, tool on 4 75.0" in text


def test_a_image_that_is_not_in_the_store_is_said(run: Path) -> None:
    for path in (run / "eval" / "pictures").rglob("*.png"):
        path.unlink()
    entries = page(run).json["images"]
    assert ["", 0, 0] in entries


def test_a_file_in_the_store_that_is_no_image_is_named(run: Path) -> None:
    for path in (run / "eval" / "pictures").rglob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"\.png: not an image that can be shown"):
        write_report([run])


def test_of_more_rollouts_than_asked_for_every_file_keeps_some_and_the_same_items(run: Path) -> None:
    for name in ("sft_tool_on", "rl_tool_on"):
        writer = RecordWriter(run / "eval", name)
        writer.path.unlink(missing_ok=True)
        one = right(writer, "x")
        order = range(40) if name == "rl_tool_on" else reversed(range(40))
        writer.write(*(replace(one, group=f"g{i}", id=f"g{i}-{k}") for i in order for k in range(2)))
    shown = page(run, limit=34)
    kept = [[r["id"] for r in shown.rollouts if r["from"] == source] for source in range(3)]
    assert [len(ids) for ids in kept] == [16, 16, 2]
    assert sorted(kept[0]) == sorted(kept[1])
    assert len({name.split("-")[0] for name in kept[0]}) == 8
    assert shown.json["data"]["pair"] == [0, 1]
    assert page(run, limit=0).rollouts == []


def test_a_record_file_that_is_large_is_read_at_places_spread_over_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RecordWriter(run / "rollouts", "train")
    one = hack(writer, "x")
    writer.path.unlink()
    writer.write(*(replace(one, step=step) for step in range(2000)))
    monkeypatch.setattr(sources, "_READ_BYTES", writer.path.stat().st_size // 10)
    (train,) = [source for source in sources.read_sources([run]) if source.label == "training"]
    steps = [record.step for record in train.records]
    assert 150 < len(steps) < 300
    assert steps == sorted(steps)
    assert all(any(at <= step < at + 100 for step in steps) for at in range(100, 1900, 100))


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
    drawn = {chart.key for section in sections([metrics]) for chart in section.charts}
    assert {re.sub(r"/(mean|min|max|std)$", "", key) for key in metrics} == drawn


def test_what_is_0_throughout_is_named_and_not_drawn_unless_another_run_has_it() -> None:
    zero, some = {"reward/area/mean": {1: 0.0, 2: 0.0}}, {"reward/area/mean": {1: 0.0, 2: 0.5}}
    (section,) = sections([zero, zero])
    assert (section.charts, section.zeros) == ((), ("area",))
    (section,) = sections([zero, some])
    assert [line.run for line in section.charts[0].lines] == [0, 1]


def test_runs_share_a_chart_its_axes_and_no_band() -> None:
    long = {"reward/total/mean": dict.fromkeys(range(1, 41), 1.0), "reward/total/std": {1: 1.0}}
    (section,) = sections([{"reward/total/mean": {11: 3.0, 20: 4.0}}, long])
    (chart,) = section.charts
    assert [(line.run, line.before, line.now) for line in chart.lines] == [(0, "3", "4"), (1, "1", "1")]
    assert [text for _, text in chart.x_ticks] == ["1", "40"]
    assert (chart.band, chart.y_ticks[-1][1]) == ("", "4")
    first = {line.run: line.points[0] for line in chart.lines}
    assert first[0][0] > first[1][0]
    assert first[0][1] < first[1][1]
    assert json.loads(chart.points)[1][1][0][2:] == ["1", "1"]


def test_a_run_without_a_mean_has_its_statistics_beside_one_with_it() -> None:
    (section,) = sections([{"x/mean": {1: 1.0}}, {"x/max": {1: 2.0}}])
    assert [(chart.title, chart.lines[0].run) for chart in section.charts] == [("x · max", 1), ("x", 0)]


def test_signals_stand_in_their_sections_and_the_total_comes_first(run: Path) -> None:
    found = {s.title: [c.title for c in s.charts] for s in sections([read_metrics(run / "metrics.jsonl")])}
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
    assert text.index("Rollouts") < text.index("Collapse watch") < text.index(said) < text.index("Behaviour")


def test_a_spread_without_a_mean_is_drawn_by_itself() -> None:
    (section,) = sections([{"x/max": {1: 1.0}, "x/min": {1: 0.5}}])
    assert [chart.title for chart in section.charts] == ["x · min", "x · max"]


def test_a_band_covers_the_steps_that_have_both_of_its_edges() -> None:
    (section,) = sections([{"x/mean": {1: 1.0, 2: 2.0}, "x/std": {2: 0.5}}])
    assert section.charts[0].band_is == "± 1 standard deviation"


@settings(max_examples=30)  # large ones are slow to draw
@given(st.dictionaries(st.integers(0, 10**6), st.floats(-1e12, 1e12), min_size=1, max_size=400), st.booleans())
def test_a_line_stays_inside_its_chart(points: dict[int, float], from_zero: bool) -> None:
    chart = draw_curves("x", "x", {0: dict(sorted(points.items()))}, from_zero=from_zero)
    spots = [tuple(map(float, spot.split(","))) for spot in chart.lines[0].path.removeprefix("M").split("L")]
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
    assert short_number(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.42, "42 %"), (0.0968, "9.7 %"), (1.0, "100 %"), (0, "0 %")])
def test_a_share_is_in_per_cent(value: float, text: str) -> None:
    assert short_number(value, percent=True) == text


def test_what_a_reward_term_gives_is_no_share() -> None:
    assert draw_curves("reward/accuracy", "accuracy", {0: {1: 0.5}}).lines[0].now == "0.5"
    assert draw_curves("val/accuracy", "accuracy", {0: {1: 0.5}}).lines[0].now == "50 %"


# trajectories


def test_every_rollout_is_of_one_kind_and_perhaps_of_others(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    assert kinds(right(writer, "r")) == ["right_tool"]
    assert kinds(detour(writer, "d")) == ["right_tool", "detour"]
    assert kinds(crop(writer, "c")) == ["right_tool", "detour"]
    assert kinds(wrong(writer, "w")) == ["wrong_plain"]
    assert kinds(hack(writer, "h")) == ["right_tool", "suspicious"]
    assert kinds(invalid("s")) == ["invalid"]
    assert {"right_plain", "wrong_tool"} < KINDS.keys()


def observed(correct: bool, *steps: Step) -> Outcome:
    return Outcome(correct=correct, format=1.0, steps=steps)


TURNED = Step(ok=True, node=1, parent=0, net=Orientation.R270)


@pytest.mark.parametrize(
    ("applied", "seen", "said"),
    [
        (("rotate_90",), observed(True, TURNED), None),
        (("rotate_180",), observed(True, TURNED), "never put the image upright"),
        ((), observed(True, TURNED), "Turned an image that was upright"),
        (("rotate_90",), observed(True, TURNED, TURNED, TURNED), "3 calls where 1 would do"),
        (("rotate_90",), observed(True, Step(ok=True, noop=True), TURNED), "without changing the image"),
        ((), observed(True), None),
        (("rotate_90",), observed(False), None),
    ],
)
def test_what_smells_of_a_hack_is_said_in_a_sentence(applied: tuple[str, ...], seen: Outcome, said: str | None) -> None:
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
    assert [part.kind for part in TOOL_CALL.parts(text)] == kinds


@given(st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "x1", "y2", "z3"])))
def test_no_word_of_a_reply_is_lost(words: list[str]) -> None:
    shown = " ".join(part.text for part in TOOL_CALL.parts(" ".join(words)))
    for word in ("x1", "y2", "z3"):
        assert shown.count(word) == words.count(word)


def test_boxes_are_drawn_on_the_input_image_in_its_own_pixels(tmp_path: Path) -> None:
    record = crop(RecordWriter(tmp_path), "c")
    shown = messages(record)
    assert [(mark.box, mark.node, mark.net, mark.up) for mark in shown[0].images[0].marks] == [
        (Box(42, 42, 126, 98), 1, Orientation.ID, "top"),
        (Box(42, 42, 126, 98), 2, Orientation.R180, "bottom"),
        (Box(42, 42, 126, 84), None, None, None),
    ]
    assert all(not image.marks for message in shown[1:] for image in message.images)
    assert [(p.node, p.made, p.net) for message in shown for p in message.images] == [
        (0, False, None), (1, True, Orientation.ID), (2, True, Orientation.R180),
    ]  # fmt: skip


@pytest.mark.parametrize("net", Orientation)
def test_the_heavy_side_is_the_one_that_is_at_the_top_of_the_made_image(net: Orientation) -> None:
    step = Step(ok=True, node=1, parent=0, net=net, region=Box(0, 0, 3, 3))
    seen = Outcome(correct=True, format=1, steps=(step,))
    (mark,) = mark_views(Record(group="g", id="i", task=Task(size=(3, 3)), observed=seen), 0)
    image = Image.new("L", (3, 3))
    image.putpixel({"top": (1, 0), "bottom": (1, 2), "left": (0, 1), "right": (2, 1)}[mark.up], 255)
    assert apply(net, image).getpixel((1, 0)) == 255


def test_a_box_of_the_upright_image_is_drawn_where_it_went(tmp_path: Path) -> None:
    record = crop(RecordWriter(tmp_path), "c")
    task = replace(record.task, box=Box(126, 168, 210, 210), box_frame="canonical")
    assert mark_views(replace(record, task=task), 0)[-1].box == Box(42, 42, 126, 84)


def test_of_two_folders_the_one_that_has_the_image_is_taken(tmp_path: Path) -> None:
    record = right(RecordWriter(tmp_path / "a"), "r")
    (tmp_path / "b").mkdir()
    album = Album(None)
    assert view(record, tmp_path / "b", album.add)["messages"][0]["images"][0]["image"] == 0
    assert album.entries[0] == ("", 0, 0)
    view(record, tmp_path / "a", album.add)
    assert album.entries[0][1:] == (56, 112)


def test_the_lines_of_verls_file_logger_are_read_like_flat_ones(tmp_path: Path) -> None:
    flat, nested = tmp_path / "flat.jsonl", tmp_path / "nested.jsonl"
    flat.write_text('{"step": 1, "reward/total/mean": 0.5}\n')
    nested.write_text('{"step":1,"data":{"reward/total/mean":0.5}}\n')
    assert read_metrics(nested) == read_metrics(flat) == {"reward/total/mean": {1: 0.5}}
