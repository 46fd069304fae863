"""Every benchmark is read from its published files and marked by its own rule."""

import base64
import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from judge_server import Reply, Request, fails, says, serve, verdict
from PIL import Image
from sets import SETS, coded, image_file, rl_row, scene, write_json, write_parquet

from codevision_ext.cli.eval import run_eval
from codevision_ext.cli.eval_options import EvalOptions
from codevision_ext.errors import InputError
from codevision_ext.evaluate.options import read_suites
from codevision_ext.evaluate.run import EvalItem
from codevision_ext.evaluate.suites import SUITES, chartqapro, docvqa
from codevision_ext.evaluate.suites.base import read_suite
from codevision_ext.evaluate.summary import score_columns
from codevision_ext.io.records import Record
from codevision_ext.types import Outcome, Task
from data_prep import eval_items

THINK = "<think>a</think>"


@pytest.mark.parametrize(
    ("published", "suite", "columns"),
    [
        ("CodeVision-RL", "rows", ["hiertext"]),
        ("ChartQAPro", "chartqapro", ["Conversational", "Factoid"]),
        ("HRBench", "hrbench", ["single"]),
        ("V*", "vstar", ["direct_attributes"]),
        ("OCRBench", "ocrbench", ["Regular Text Recognition"]),
        ("DocVQA", "docvqa", ["all"]),
        ("TextVQA", "rows", ["TextVQA"]),
        ("a folder of images", "rows", ["metadata"]),
    ],
)
def test_a_published_file_tells_its_suite(tmp_path: Path, published: str, suite: str, columns: list[str]) -> None:
    [work] = read_suites([str(SETS[published](tmp_path))], eval_items)
    assert (work.suite.name, len(work.items)) == (suite, 2)
    assert sorted({case.item.column for case in work.items}) == columns
    assert len({case.name for case in work.items}) == 2
    [named] = read_suites([f"{suite}={SETS[published](tmp_path)}"], eval_items)
    assert named.sha256() == work.sha256()


MMBENCH = ("ocr", "mine", "fine", "dev")
HRBENCH = ("single", "", "", "")


def choices_tsv(path: Path, *rows: tuple[str, str, str, str]) -> Path:
    """Returns a table with the columns of MMBench; each row has category, source, coarse category and split."""
    lines = [
        [
            "index",
            "question",
            "hint",
            "A",
            "B",
            "C",
            "D",
            "answer",
            "image",
            "category",
            "source",
            "l2-category",
            "split",
        ]
    ]
    image = base64.b64encode(coded(scene())).decode()
    lines += [
        [str(at), f"Which? {at}", "nan", "red", "blue", "nan", "nan", "B", image, *row] for at, row in enumerate(rows)
    ]
    path.write_text("".join("\t".join(cells) + "\n" for cells in lines))
    return path


def test_a_table_of_choices_is_hrbench_only_if_its_categories_are(tmp_path: Path) -> None:
    [work] = read_suites([str(choices_tsv(tmp_path / "mmbench_dev_en.tsv", MMBENCH, MMBENCH))], eval_items)
    assert (work.suite.name, [case.item.references for case in work.items]) == ("rows", [("B", "blue")] * 2)
    assert [case.item.column for case in work.items] == ["mine", "mine"]
    [work] = read_suites([str(choices_tsv(tmp_path / "hr.tsv", HRBENCH))], eval_items)
    assert work.suite.name == "hrbench"
    mixed = choices_tsv(tmp_path / "mixed.tsv", MMBENCH, HRBENCH, MMBENCH)
    with pytest.raises(
        InputError, match=r"mixed\.tsv: 1 rows are of hrbench and 2 aren't; name the suite: hrbench=PATH"
    ):
        read_suites([str(mixed)], eval_items)


def points(name: str, answer: str, references: list[str], question: str = "?", **raw: Any) -> float | None:
    """What a suite's rule gives an answer."""
    row = rl_row(0, None, answer=references[0], question=question) | {
        "reward_model": {"style": "rule", "ground_truth": references}
    }
    row["extra_info"] |= {"size": [64, 48], "bbox": None}
    [case] = read_suite(SUITES[name], [{"row": row, "raw": raw, "where": "here"}])
    mark = SUITES[name].scorer_of(case)
    assert mark is not None
    return mark(case, answered(answer), None).score  # type: ignore[arg-type]


def answered(answer: str) -> Any:
    """A trajectory with this answer, as far as a rule on the text reads it."""
    from codevision_ext.rollout.loop import ConversationMessage, Trajectory  # noqa: PLC0415
    from codevision_ext.rollout.token_buffer import RolloutLimits, TokenBuffer  # noqa: PLC0415
    from codevision_ext.types import EndReason  # noqa: PLC0415

    token_buffer = TokenBuffer(prompt_ids=[], limits=RolloutLimits(response_tokens=9, assistant_turns=1))
    said = ConversationMessage(role="assistant", text=f"{THINK}<answer>{answer}</answer>")
    return Trajectory(
        token_buffer=token_buffer,
        end_reason=EndReason.ANSWER,
        messages=(said,),
        steps=(),
        images=(),
        resized=(),
        malformed=0,
        calls=(),
    )


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        *[
            (answer, 1)
            for answer in ("B", "(B)", "blue", "Blue.", r"\boxed{B}", "$B$", "**B**", "（Ｂ）", "ｂｌｕｅ", "**blue**")
        ],
        *[(answer, 0) for answer in ("A", "red", "A or B", "b l", "AB", "A, B", "8", "В", "\\boxed{A}", "blue or red")],
    ],
)
def test_a_choice_is_its_letter_or_its_words(answer: str, score: float) -> None:
    question = "What colour?\nA. red\nB. blue\nC. green\nAnswer with the letter of the right choice."
    assert points("vstar", answer, ["B"], question) == score


def test_words_that_two_choices_share_choose_neither() -> None:
    assert points("hrbench", "blue", ["B"], "Which?\n(A) blue\n(B) blue") == 0


@pytest.mark.parametrize(
    ("answer", "references", "dataset", "score"),
    [
        ("it says CENTRE", ["centre"], "IIIT5K", 1),
        ("cent re", ["centre"], "IIIT5K", 0),
        ("centre\nvilla", ["centre villa"], "IIIT5K", 1),
        ("x ^ 2 + 1", ["x^2+1"], "HME100k", 1),
        ("X^2+1", ["x^2+1"], "HME100k", 0),
        ("ｘ^2＋1", ["x^2+1"], "HME100k", 1),
        ("ＡＢＣ１２３", ["ABC123"], "IIIT5K", 1),
        ("abc123", ["ABC123"], "IIIT5K", 1),
        ("the sign says “Joe’s”", ["Joe's"], "IIIT5K", 1),
        ("**centre**", ["centre"], "IIIT5K", 1),
        ("10²", ["102"], "IIIT5K", 0),
        ("АВС", ["ABC"], "IIIT5K", 0),
    ],
)
def test_ocrbench_wants_a_reference_inside_the_answer(
    answer: str, references: list[str], dataset: str, score: float
) -> None:
    assert points("ocrbench", answer, references, dataset=dataset) == score


@pytest.mark.parametrize(
    ("answer", "reference", "years", "exact", "score"),
    [
        ("104", "100", (), False, 1),
        ("105", "100", (), False, 1),
        ("95", "100", (), False, 1),
        ("105.1", "100", (), False, 0),
        ("94.9", "100", (), False, 0),
        ("1０５", "100", (), False, 1),
        ("**104**", "100", (), False, 1),
        (r"\boxed{104}", "100", (), False, 1),
        (r"\boxed{\text{Sales}}", "Sales", (), False, 1),
        ("**True**", "true", (), True, 1),
        ("50 cm", "50", (), True, 0),
        ("106", "100", (), False, 0),
        ("3%", "3", (), False, 1),
        ("0", "0", (), False, 1),
        ("0.01", "0", (), False, 0),
        ("2019", "2020", (), False, 1),
        ("2019", "2020", (True,), False, 0),
        ("2020", "2020", (True,), False, 1),
        ("True", "true", (), True, 1),
        ("102", "100", (), True, 0),
        ("[1, 2]", "[1, 2]", (), False, 1),
        ("[1, 9]", "[1, 2]", (), False, 0.5),
        ("[1]", "[1, 2]", (), False, 0.5),
        ("[1, 2, 3]", "[1, 2]", (), False, pytest.approx(2 / 3)),
        ("[2019, 5]", "[2020, 5]", (True, False), False, 0.5),
        ("Sales.", "Sales", (), False, 1),
        ("Sale", "Sales", (), False, pytest.approx(0.8)),
        ("Costs", "Sales", (), False, 0),
        ("[Sales, Costs]", "['Sales', 'Costs']", (), False, 1),
    ],
)
def test_chartqapro_is_relaxed_on_numbers_and_strict_on_years(
    answer: str, reference: str, years: tuple[bool, ...], exact: bool, score: float
) -> None:
    assert chartqapro.points(answer, reference, years, exact=exact) == score


def test_a_conversation_s_last_answer_counts_with_its_own_flag() -> None:
    kind = {"Question Type": "Conversational"}
    assert points("chartqapro", "2019", ["2020"], Year=["NO", "YES"], **kind) == 0
    assert points("chartqapro", "2019", ["2020"], Year=["YES", "NO"], **kind) == 1
    assert points("chartqapro", "a", ["A"], Year=["NO"], **{"Question Type": "Multi Choice"}) == 1


@pytest.mark.parametrize(
    ("answer", "references", "score"),
    [
        ("ann", ["Ann"], 1),
        ("anna", ["Ann"], 0.75),
        ("bob", ["Ann"], 0),
        ("bob", ["Ann", "Bobb"], 0.75),
        ("", ["Ann"], 0),
        ("Ann.", ["Ann"], 0.75),
    ],
)
def test_anls_is_the_similarity_with_the_closest_reference_from_a_half_on(
    answer: str, references: list[str], score: float
) -> None:
    assert docvqa.anls(answer, references) == pytest.approx(score)
    assert find_spec("anls_star"), "the library of the lock file"


def test_docvqa_ignores_the_width_of_letters_and_markdown_but_counts_a_full_stop() -> None:
    assert points("docvqa", "**Ａｎｎ**", ["Ann"]) == 1
    assert points("docvqa", "Ann.", ["Ann"]) == pytest.approx(0.75)


def record(column: str, name: str) -> Record:
    return Record(group=name, id=f"{name}-0", task=Task(), observed=Outcome(correct=True, format=1), column=column)


def test_corruptions_count_by_severity_too() -> None:
    records = [record("fog-1", "a"), record("fog-3", "b"), record("gaussian_noise-3", "c"), record("source", "d")]
    found = score_columns(SUITES["corruption"], records)
    assert list(found) == ["fog-1", "fog-3", "gaussian_noise-3", "source", "severity 1", "severity 3"]
    assert found["severity 3"] == {"b", "c"}


@pytest.mark.parametrize(
    ("columns", "suite"),
    [
        (["source", "rot90", "rot180", "rot270", "flip_h", "flip_v"], "transformed"),
        (["rot90", "flip_v"], "mvtoolbench"),
        (["source", "fog-1", "fog-2"], "corruption"),
        (["fog-1", "north"], "rows"),
    ],
)
def test_rows_that_name_columns_tell_their_suite(tmp_path: Path, columns: list[str], suite: str) -> None:
    op = {"rot90": "rotate_90", "flip_v": "flip_vertical"}
    rows = [rl_row(at, [op[c]] if c in op else None, column=c) for at, c in enumerate(columns)]
    [work] = read_suites([str(write_parquet(tmp_path / "a.parquet", rows))], eval_items)
    assert (work.suite.name, [case.item.column for case in work.items]) == (suite, columns)


def test_columns_of_other_names_are_mapped_and_unread_ones_are_named(tmp_path: Path) -> None:
    record = {"pic": image_file(tmp_path / "a.png"), "task": "Which?", "gold": "[3, 4]", "remark": "Hard."}
    path = write_json(tmp_path / "a.jsonl", [record])
    names = {"image": "pic", "question": "task", "answer": "gold"}
    [work] = read_suites([str(path)], eval_items, names=names)
    [lists] = read_suites([f"rows={path}"], eval_items, names=names, lists=True)
    assert (work.suite.name, work.items[0].item.question) == ("rows", "Which?")
    assert [run.items[0].item.references for run in (work, lists)] == [("[3, 4]",), ("3", "4")]
    assert "columns that nothing reads, with their rows: remark (1)" in work.notes[0]
    assert "--answers-are-lists" in work.notes[1]
    assert len(lists.notes) == 1
    with pytest.raises(InputError, match="--map names the column none"):
        read_suites([str(path)], eval_items, names={"image": "none"})


def test_a_column_that_nobody_fills_and_a_row_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [rl_row(0, ["rotate_90"], column="rot90")])
    with pytest.raises(InputError, match="suite transformed: no item of column source"):
        read_suites([f"transformed={path}"], eval_items)
    with pytest.raises(InputError, match=r"docvqa\.parquet: column answer of schema hrbench is missing"):
        read_suites([f"hrbench={SETS['DocVQA'](tmp_path)}"], eval_items)
    rows = [rl_row(0, None), rl_row(1, None) | {"images": [{"bytes": b"x", "path": None}]}]
    with pytest.raises(InputError, match=r"b\.parquet, row 1: images"):
        read_suites([str(write_parquet(tmp_path / "b.parquet", rows))], eval_items)


def vtbench(path: Path) -> Path:
    """Two records of three tasks each; the reference of a drawing is red."""
    row = {
        "id": "1", "image": {"bytes": coded(scene()), "path": None}, "domain": "geometry",
        "annotation_instruction": {"bytes": coded(Image.new("RGB", (64, 48), "red")), "path": None},
        "annotation_perception": {"bytes": coded(Image.new("RGB", (64, 48), "red")), "path": None},
        "question_reasoning": "Which is longer?", "question_perception": "Mark A.", "question_instruction": "Draw AB.",
        "answer_reasoning": "AB", "answer_instruction": "",
    }  # fmt: skip
    return write_parquet(path, [row, row | {"id": "2", "question_reasoning": "Which is shorter?"}])


def draftsman(request: Request) -> Reply:
    """Draws in red for the first task it is given, and says AB."""
    text = str(request["messages"][1]["content"][-1])
    if "Draw" in text and len(request["messages"]) == 2:
        code = "image = Image.new('RGB', image.size, 'red')"
        arguments = f'{{"name": "code_image_tool", "arguments": {{"code": "{code}"}}}}'
        return says(f"{THINK}<tool_call>{arguments}</tool_call>")
    if "shorter" in text:
        return fails(400)
    return says(f"{THINK}<answer>AB</answer>")


def test_vtbench_shows_the_judge_three_images_and_divides_by_all_items(tmp_path: Path) -> None:
    def eyes(request: Request) -> Reply:
        """Right where the second image is as red as the third, and the first isn't."""
        urls = [p["image_url"]["url"] for p in request["messages"][1]["content"] if p["type"] == "image_url"]
        assert len(urls) == 3
        shown = [Image.open(io.BytesIO(__import__("base64").b64decode(url.partition(",")[2]))) for url in urls]
        corners = [image.getpixel((3, 3)) for image in shown]
        return says(verdict(request, "CORRECT" if corners[1] == corners[2] != corners[0] else "INCORRECT"))

    path = vtbench(tmp_path / "vtbench.parquet")
    with serve(draftsman) as model, serve(eyes) as judge:
        judged = [f"judge.base_url={judge.url}", "judge.model=eyes"]
        asked = EvalOptions(
            model=model.url, engine="openai", suites=[str(path)], out=tmp_path / "out", tools="on", retries=0
        )
        with pytest.raises(InputError, match="suite vtbench: needs a judge"):
            run_eval(asked)
        from dataclasses import replace  # noqa: PLC0415

        found = run_eval(replace(asked, settings=judged)).models["model"]
    mode = found.suites["vtbench"].modes["tool_on"]
    scores = {column: (each.score.accuracy, each.score.n) for column, each in mode.columns.items()}
    assert scores == {"perception": (0, 2), "instruction": (1, 2), "reasoning": (0.5, 2)}
    assert len(judge.requests) == 2, "what nobody drew is wrong without being judged"
    assert found.setup.judge is not None
    assert (found.setup.judge.model, len(found.setup.judge.prompts_sha256)) == ("eyes", 64)


def test_a_reference_image_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vtbench\.parquet, row 0: annotation_perception: neither bytes nor a path"):
        read_suites([str(SETS["VTBench"](tmp_path))], eval_items)


def test_reasoning_has_five_turns_and_a_drawing_as_many_as_there_are(tmp_path: Path) -> None:
    [work] = read_suites([str(vtbench(tmp_path / "vtbench.parquet"))], eval_items)
    turns: dict[str | None, int | None] = {case.item.column: case.turns for case in _cases(work.items)}
    assert turns == {"reasoning": 5, "perception": None, "instruction": None}


def _cases(cases: Any) -> list[EvalItem]:
    return list(cases)
