"""The files are read back by the project's own readers, their code runs, and a reader sees them whole or not at all."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from evolve_stand_in import ProgramGenerator, bars, triangle
from PIL import Image

from codevision_ext.drawing import verify
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.dialects.base import DialectName
from codevision_ext.rollout.dialects.registry import DIALECTS
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.task.drawings import read_drawing
from codevision_ext.types import AnswerKind, ToolCall
from data_prep.convert.convert import Options, Target, jobs, plan_conversion, read_chunk
from data_prep.curate.check import check_data
from data_prep.evolve.checks import Rejection, RejectReason
from data_prep.evolve.item import ITEMS
from data_prep.evolve.report import inspect_page
from data_prep.evolve.stages import Examined, Examiner, target_of
from data_prep.evolve.write import EvolveWriter, Origin
from data_prep.evolve.yields import Yields
from data_prep.formats.row_errors import ReadCounts
from data_prep.formats.schema import Demonstration, Row
from data_prep.formats.sources import find_sources

GENERATOR = ProgramGenerator()
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def accepted(examiner: Examiner) -> list[Examined]:
    """Items of one, two and three drawings, a chart with choices, and a perception item."""
    one = triangle(0, 0, 0)
    two = GENERATOR.expand(one, "sequential", 0)
    assert two
    three = GENERATOR.expand(two, "parallel", 0)
    assert three
    items = (one, two, three, bars(1, 1, 0), GENERATOR.perceive(("plane geometry",), 2, 0)[0])
    examined = [examiner.examine(item) for item in items]
    assert [each.rejection for each in examined] == [None] * 5
    return examined


@pytest.fixture(scope="module", params=["code_tags", "tool_call"])
def folder(
    request: pytest.FixtureRequest, accepted: list[Examined], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, DialectName]:
    path = tmp_path_factory.mktemp("written")
    with EvolveWriter(path, Origin(backend="program", seed=0, dialect=request.param), shown=2) as writer:
        for each in accepted:
            writer.add(each)
        writer.finish(Yields(), [])
    return path, request.param


def items_of(path: Path, target: Target) -> list[Row | Demonstration]:
    """Returns the items that the project's own reader makes of a file; a fault fails the test."""
    options, counts = Options(target=target), ReadCounts()
    tasks = plan_conversion(find_sources([path]), options)
    read = [entry for job in jobs(tasks) for entry in read_chunk(job, counts)]
    assert [faults for _, _, faults in read if faults] == []
    return [item for _, item, _ in read]


def test_the_published_sets_are_read_as_tasks(folder: tuple[Path, DialectName], accepted: list[Examined]) -> None:
    for name, kept in (("v_interaction", accepted[:4]), ("v_perception", accepted[4:])):
        rows = items_of(folder[0] / f"{name}.parquet", Target.RL)
        assert len(rows) == len(kept)
        for row, examined in zip(rows, kept, strict=True):
            assert isinstance(row, Row)
            assert row.question == examined.item.question
            assert row.answers == (examined.item.answer,)
            assert row.images == (examined.original,)
            if examined.steps:
                assert row.edited_image == examined.steps[-1].image
                assert row.codes == tuple(step.code.rstrip() for step in examined.steps)
            else:
                assert row.answer_kind is AnswerKind.COORDINATES
                assert row.codes == (examined.item.original_code,)
                assert [json.loads(text)["label"] for text in row.elements] == ["A", "B", "C"]


def test_the_published_code_runs_and_gives_the_published_image(folder: tuple[Path, DialectName]) -> None:
    demonstrations = items_of(folder[0] / "v_interaction.parquet", Target.SFT)
    assert [len(each.metadata["blocks"]) for each in demonstrations if isinstance(each, Demonstration)] == [1, 2, 3, 1]
    for each in demonstrations:
        assert isinstance(each, Demonstration)
        assert each.metadata["executed"] is True
        assert each.metadata["agreement"] == 1
    (perception,) = items_of(folder[0] / "v_perception.parquet", Target.SFT)
    assert isinstance(perception, Demonstration)
    assert "<answer>{'A': (" in perception.messages[-1].content


def test_rl_rows_pass_the_check_and_have_their_targets(
    folder: tuple[Path, DialectName], accepted: list[Examined]
) -> None:
    faults = check_data(find_sources([folder[0] / "train.parquet"]))
    assert (faults.read, faults.bad) == (5, 0)
    for record, examined in zip(pq.read_table(folder[0] / "train.parquet").to_pylist(), accepted, strict=True):
        extra = record["extra_info"]
        target = read_drawing(extra["drawing"], "row", examined.item.size)
        if not examined.steps:
            assert target is None
            assert extra["answer_kind"] == "coordinates"
            continue
        assert target == target_of(examined.item)
        images = [
            Image.open(io.BytesIO(data)) for data in (record["images"][0]["bytes"], extra["edited_image"]["bytes"])
        ]
        assert verify(images[0], images[1], target).correct
        assert not verify(images[0], images[0], target).correct
        assert extra["licence"] == "Apache-2.0"


def test_the_calls_of_a_demonstration_run_as_a_model_would_make_them(
    folder: tuple[Path, DialectName], tool: CodeTool
) -> None:
    path, name = folder
    assert check_data(find_sources([path / "sft.parquet"])).bad == 0
    dialect = DIALECTS[name]
    for record in pq.read_table(path / "sft.parquet").to_pylist():
        images = [Image.open(io.BytesIO(image["bytes"])) for image in record["images"]]
        history = ImageHistory([images[0].convert("RGB")])
        for message in record["messages"]:
            call = dialect.parse_call(message["content"], len(history.images)).call
            if message["role"] != "assistant" or call is None:
                continue
            assert isinstance(call, ToolCall)
            tool.run(history, call)
            assert history.images[-1].tobytes() == images[len(history.images) - 1].convert("RGB").tobytes()
        assert len(history.images) == len(images)
        assert dialect.parse_answer([record["messages"][-1]["content"]], "") is not None


def test_the_items_are_kept_as_they_are(folder: tuple[Path, DialectName], accepted: list[Examined]) -> None:
    lines = (folder[0] / "items.jsonl").read_bytes().splitlines()
    assert [ITEMS.load(line, "items.jsonl") for line in lines] == [each.item for each in accepted]


def test_the_page_escapes_the_words_of_a_model_and_shows_the_first_items_and_their_verdicts(
    folder: tuple[Path, DialectName], accepted: list[Examined]
) -> None:
    page = (folder[0] / "inspect.html").read_text()
    assert page.count("<article") == 2
    assert page.count("<img") == 2 + 3
    assert page.count("right, F1 1.00") == 2
    assert "http" not in page.replace("http-equiv", "")
    bad = replace(accepted[0].item, question=SCRIPT, solution=SCRIPT, id=SCRIPT, original_code=SCRIPT)
    rejection = Rejection(reason=RejectReason.HINT, detail=SCRIPT)
    page = inspect_page([replace(accepted[0], item=bad), Examined(item=bad, rejection=rejection)])
    assert SCRIPT not in page
    assert "rejected: hint: &lt;script&gt;" in page


def test_a_card_escapes_what_would_end_a_cell(tmp_path: Path, accepted: list[Examined]) -> None:
    yields = Yields()
    rejection = Rejection(reason=RejectReason.HINT, detail=f"a | b\n{SCRIPT}")
    for number in range(5):
        yields.add_rejection(rejection, f"id-{number}")
    with EvolveWriter(tmp_path, Origin(backend="program", seed=0, dialect="code_tags"), shown=0) as writer:
        writer.add(accepted[0])
        writer.finish(yields, [])
    (line,) = [line for line in (tmp_path / "card.md").read_text().splitlines() if line.startswith("| hint")]
    assert line.count("id-") == 3
    assert "a \\| b &lt;script>" in line


def test_a_run_without_perception_items_still_has_the_file(tmp_path: Path, accepted: list[Examined]) -> None:
    with EvolveWriter(tmp_path, Origin(backend="program", seed=0, dialect="code_tags"), shown=0) as writer:
        writer.add(accepted[0])
        writer.finish(Yields(), [])
    assert pq.read_table(tmp_path / "v_perception.parquet").num_rows == 0
