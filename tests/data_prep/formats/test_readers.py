"""Tests that no reader loses anything in silence: numbers, rows, columns and choices."""

import base64
import json
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sets import coded, data_prep, folder_of_images, scene, truths
from sets import convert_records as convert

from codevision_ext.errors import InputError
from data_prep.formats import fields
from data_prep.formats.exact_numbers import json_float, number_text
from data_prep.formats.row_errors import RowError

PNG = coded(scene(3))
TEXT = base64.b64encode(PNG).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of_images(tmp_path)


def table(**fields_: Any) -> dict[str, Any]:
    return {"image": "a.png", "question": "q?", "answer": "x"} | fields_


def test_numbers_become_text_digit_for_digit(folder: Path) -> None:
    values = [1234567.89, 20240131.0, 1048576.0, 123456.78, 0.1234567, 10**21 + 1, 1e22, -0.0, [1.5, 2.0]]
    _, rows = convert(folder, [table(answer=value) for value in values])
    expected = ["1234567.89", "20240131", "1048576", "123456.78", "0.1234567", str(10**21 + 1), "1" + 22 * "0", "0"]
    assert truths(rows) == [*([text] for text in expected), ["1.5", "2"]]
    _, [row] = convert(folder, '{"image": "a.png", "question": 12345678.5, "answer": 3.14159265358979323846}')
    assert row["extra_info"]["question"] == "12345678.5"
    assert row["extra_info"]["answer"] == "3.14159265358979323846"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1234567.89, None, 20240131.0]), ["1234567.89", "20240131"]),
        (pa.array([0.1, 16777216], pa.float32()), ["0.1", "16777216"]),
        (pa.array([[0.1], [2]], pa.list_(pa.float32())), ["0.1", "2"]),
        (pa.array([[0.1], [2]], pa.large_list(pa.float16())), ["0.1", "2"]),
        (pa.array([[0.1], [2]], pa.list_(pa.float16(), 1)), ["0.1", "2"]),
        (pa.array([0.1, 65504], pa.float16()), ["0.1", "65504"]),
        (pa.array([0.3, 7], pa.float32()).dictionary_encode(), ["0.3", "7"]),
        (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
        (pa.array([Decimal("1.10"), Decimal("12345678901234567890.12")]), ["1.10", "12345678901234567890.12"]),
    ],
)
def test_numbers_of_arrow_become_text_digit_for_digit(folder: Path, values: pa.Array, expected: list[str]) -> None:
    count = len(values)
    content = pa.table({"image": ["a.png"] * count, "question": ["q?"] * count, "answer": values})
    assert truths(convert(folder, content, name="in.parquet")[1]) == [[text] for text in expected]


def test_integers_beside_empty_cells_lose_the_point_that_pandas_gave_them(folder: Path) -> None:
    lines = "image,question,answer,other\na.png,q?,20240131.0,1.0\na.png,q?,,2.0\na.png,p?,7.0,3.0\n"
    assert truths(convert(folder, lines, name="in.csv")[1]) == [["20240131"], ["7"]]
    version = "image,question,answer\na.png,q?,2.0\na.png,p?,2.10\na.png,r?,\n"
    assert truths(convert(folder, version, name="in.csv")[1]) == [["2.0"], ["2.10"]]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_float_is_the_float(value: float) -> None:
    text = number_text(value)
    assert text is not None
    assert float(text) == value
    assert "e" in text or "." not in text or not text.endswith("0")


@given(st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=6))
def test_the_text_of_an_integer_or_a_decimal_is_the_number(value: int | Decimal) -> None:
    assert Decimal(number_text(value) or "") == value


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**25), max_value=10**25, places=18))
def test_a_number_of_json_keeps_its_digits(value: Decimal) -> None:
    assert Decimal(number_text(json_float(f"{value:f}")) or "") == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1))
def test_scalars_of_numpy_and_arrow_become_text(short: float, whole: int) -> None:
    assert np.float32(number_text(np.float32(short)) or "") == np.float32(short)
    assert np.float32(number_text(pa.scalar(short, pa.float32())) or "") == np.float32(short)
    assert number_text(np.int64(whole)) == number_text(pa.scalar(whole)) == str(whole)


class BrainFloat(np.void):
    """A scalar of a number type that NumPy doesn't have, such as bfloat16 of ml_dtypes."""

    def __str__(self) -> str:
        return "0.1"


def test_other_scalars_of_numpy_become_text_if_they_are_numbers() -> None:
    scalars = (np.float16(0.1), np.longdouble("0.1"), BrainFloat(2), np.float16(65504), np.uint8(7), Decimal("1E+3"))
    assert [number_text(value) for value in scalars] == ["0.1", "0.1", "0.1", "65504", "7", "1000"]
    assert [number_text(value) for value in (np.bool_(True), np.datetime64("2024-01-31"), np.float16("nan"))] == [
        None
    ] * 3


def test_ids_are_kept_or_named(folder: Path) -> None:
    ids = ["1700000000123456789012", 338.0, 1.7e21, 2**64, "-5", "x7"]
    summary, rows = convert(folder, [table(question=f"{number}?", id=value) for number, value in enumerate(ids)])
    assert [row["extra_info"]["index"] for row in rows] == [0, 338, 2, 3, -5, 5]
    assert summary["unread"] == {"id": 4}


ONE, TWO = (json.dumps({"image": "a.png", "question": f"{number}?", "answer": "x"}) for number in (1, 2))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.json", f"{ONE}\n{TWO}\n"),
        ("in.json", f"{ONE}\r\n\r\n{TWO}"),
        ("in.json", f"{ONE}{TWO}"),
        ("in.json", f"[{ONE}]\n{TWO}"),
        ("in.jsonl", f"[{ONE},\n{TWO}]"),
        ("in.json", f"\ufeff{ONE}\n\ufeff{TWO}\n"),
        ("in.csv", "\ufeffimage,question,answer\r\na.png,1?,x\r\n\r\na.png,2?,x\r\n"),
        ("in.csv", '\nimage,question,answer\na.png,"1\n?",x\na.png,2?,x'),
        ("in.tsv", 'image\tquestion\tanswer\na.png\t5" wide?\tx\na.png\t"2 ""?"""\tx\n'),
    ],
)
def test_a_file_is_read_to_its_end(folder: Path, name: str, content: str) -> None:
    assert convert(folder, content, name=name)[0]["rows"] == {"read": 2, "written": 2, "rejected": 0}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.json", f"[{ONE}] end", "in.json, line 1: not JSON: .* at 'end'"),
        ("in.json", f"{ONE}\n]", "in.json, line 2: not JSON"),
        ("in.jsonl", f"{ONE}\n{ONE} x\n{TWO}", "in.jsonl, line 2: not JSON"),
        ("in.jsonl", f"{ONE[:-1]}\n{TWO}", "in.jsonl, line 2: not JSON"),
        ("in.jsonl", f'{ONE}\n{{"answer": 1, "answer": 2}}', "line 2: the key 'answer' occurs twice"),
        ("in.json", "[" * 100_000, "recursion"),
        ("in.json", '{"image": ["a.png", "b.png"], "answer": ["x", "y"]}', "it holds columns, not rows"),
        ("in.json", '{"image": {"0": "a.png"}, "answer": {"0": "x"}}', "it holds columns, not rows"),
        ("in.tsv", 'image\tquestion\tanswer\na.png\tq?\tx\na.png\t"q?\tx\nb.png\tq?\tx', "line 3: .*unexpected end"),
        ("in.tsv", 'image\tquestion\tanswer\na.png\t"What" is?\tx\n', "line 2: .*quotes"),
        ("in.tsv", 'image\tquestion\tanswer\na.png\t"q?\tx\na.png\t5"\tx\n', "line 2: a quote opens here"),
        ("in.csv", "image,question,answer,answer\na.png,q?,x,y\n", "two columns have the name 'answer'"),
    ],
)
def test_a_file_that_breaks_is_refused_by_one_sentence(folder: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert(folder, content, name=name)
    assert not (folder / "out.parquet").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", "image;question;answer\na.png;q?;x\n", "separated by semicolons, those of a .csv file by commas"),
        ("in.csv", "image\tquestion\tanswer\na.png\tq?\tx\n", "separated by tabs, those of a .csv file by commas"),
        ("in.tsv", "image,question,answer\na.png,q?,x\n", "separated by commas, those of a .tsv file by tabs"),
        ("in.json", json.dumps({"version": 1, "data": [table()]}), "its rows are in the list 'data' of an object"),
        ("in.json", json.dumps({"7": table(), "8": table()}), "its rows are the values of one object"),
        ("in.jsonl", '{"images": [], "texts": [{"user": "q?"}]}', "needs a column for question and answer"),
        ("in.jsonl", '{"question": "q?", "answer": "x"}', "needs a column for image, --map image=COLUMN names it"),
        (
            "in.jsonl",
            '{"prompt": [{"role": "user", "content": "q?"}]}',
            "for image and answer, --map image=COLUMN,answer",
        ),
    ],
)
def test_a_file_that_no_reader_fits_gets_the_reason(folder: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert(folder, content, name=name)


def test_white_space_in_a_header_is_no_part_of_a_name(folder: Path) -> None:
    _, [row] = convert(folder, "image, question, answer\na.png, q?, x\n", name="in.csv")
    assert (row["extra_info"]["question"], truths([row])) == ("q?", [["x"]])


def test_no_file_of_a_folder_is_left_out_in_silence(folder: Path) -> None:
    rows = folder / "rows"
    rows.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (rows / name).write_text(json.dumps(table(question=name)))
    (rows / "dataset_infos.json").write_text("{}")
    words = ("convert", rows, "--pictures", folder, "--out", folder / "out.parquet", "--workers", 1)
    (rows / "c.csv").write_text("image,question,answer\na.png,q?,x\n")
    with pytest.raises(InputError, match=r"files of several kinds \(\.csv, \.jsonl\); name the files to read"):
        data_prep(*words)
    (rows / "c.csv").unlink()
    assert data_prep(*words)["rows"]["written"] == 2


def test_a_row_with_more_cells_than_the_header_is_rejected(folder: Path) -> None:
    summary, _ = convert(folder, "image,question,answer\na.png,q?,x\na.png,q,?,x\n", name="in.csv")
    assert summary["rejected"] == {"not_supported": 1}


@pytest.mark.parametrize("late", [1, 150])
def test_a_key_may_be_missing_in_the_first_rows(folder: Path, late: int) -> None:
    first = {"image": "a.png", "question": "q?"}
    summary, rows = convert(folder, [first] * late + [table()])
    assert truths(rows) == [["x"]]
    assert summary["rejected"] == {"no_answer": late}


def test_columns_that_nothing_reads_are_named_once_with_their_count(folder: Path) -> None:
    records = [table(lecture="Long.", note=""), table(question="p?", lecture="Long."), table(question="r?", note=None)]
    summary, _ = convert(folder, records)
    assert summary["unread"] == {"lecture": 2}
    assert summary["stderr"].count("lecture (2)") == 1
    for command in ("check", "inspect"):
        assert data_prep(command, folder / "in.jsonl", "--workers", 1)["unread"] == {"lecture": 2}
    assert data_prep("check", folder / "out.parquet", "--workers", 1)["unread"] == {}


def test_columns_are_named_on_the_command_line(folder: Path) -> None:
    record = {"pic": "a.png", "task": "q?", "question": "other", "gold": "x"}
    names = ("--map", "image=pic,question=task,answer=gold")
    summary, [row] = convert(folder, [record], *names)
    assert (row["extra_info"]["question"], row["extra_info"]["answer"]) == ("q?", "x")
    assert summary["unread"] == {"question": 1}
    assert data_prep("check", folder / "in.jsonl", *names, "--workers", 1)["rows"] == {"read": 1, "bad": 0}
    with pytest.raises(InputError, match="--map names the column none"):
        convert(folder, [record], "--map", "image=none")
    with pytest.raises(
        InputError, match="--map quesion=task: no reader has a field quesion; a table has image, question"
    ):
        convert(folder, [record], "--map", "quesion=task,image=pic,answer=gold")
    with pytest.raises(InputError, match="--map is a list like"):
        convert(folder, [record], "--map", "image")


CHOICES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "a place in a list": ({"choices": ["red", "blue"], "answer": 0}, ["A. red", "B. blue"], ["A", "red"]),
    "a place that pandas wrote": ({"choices": ["red", "blue"], "answer": 1.0}, ["A. red", "B. blue"], ["B", "blue"]),
    "a letter": ({"options": ["red", "blue"], "answer": "(b)"}, ["A. red", "B. blue"], ["B", "blue"]),
    "a text": ({"choices": ["3", "2"], "answer": "2"}, ["A. 3", "B. 2"], ["B", "2"]),
    "letter and text": ({"choices": ["red", "blue"], "answer": "B. blue"}, ["A. red", "B. blue"], ["B", "blue"]),
    "the text of a list": ({"options": "['red', 'blue']", "answer": "A"}, ["A. red", "B. blue"], ["A", "red"]),
    "an object": ({"options": {"A": "red", "B": "blue"}, "answer": "B"}, ["A. red", "B. blue"], ["B", "blue"]),
    "labels": (
        {"choices": {"label": ["1", "2"], "text": ["red", "blue"]}, "answer": "1"},
        ["A. red", "B. blue"],
        ["A", "red"],
    ),
    "objects": (
        {"choices": [{"label": "A", "text": "red"}, {"label": "B", "text": "blue"}], "answer": "A"},
        ["A. red", "B. blue"],
        ["A", "red"],
    ),
    "marks of their own": ({"choices": ["A. red", "B. blue"], "answer": "A"}, ["A. red", "B. blue"], ["A", "red"]),
    "columns": (
        {"A": "red", "B": 1234567.89, "C": float("nan"), "D": "", "answer": "B"},
        ["A. red", "B. 1234567.89"],
        ["B", "1234567.89"],
    ),
    "columns beyond H": (
        {letter: f"<{letter}>" for letter in "ABCDEFGHIJ"} | {"answer": "J"},
        [f"{letter}. <{letter}>" for letter in "ABCDEFGHIJ"],
        ["J", "<J>"],
    ),
    "an empty one between": ({"choices": ["red", None, "blue"], "answer": 2}, ["A. red", "C. blue"], ["C", "blue"]),
    "a text that is another letter": ({"choices": ["B", "x"], "answer": 0}, ["A. B", "B. x"], ["A"]),
    "small letters": ({"a": "red", "b": "blue", "answer": "b"}, ["A. red", "B. blue"], ["B", "blue"]),
    "another name": ({"Options": ["red", "blue"], "answer": "A"}, ["A. red", "B. blue"], ["A", "red"]),
    "columns with a name": ({"Option A": "red", "Option B": "x", "answer": "A"}, ["A. red", "B. x"], ["A", "red"]),
    "numbered columns": ({"option1": "red", "option2": "x", "answer": "1"}, ["A. red", "B. x"], ["A", "red"]),
    "columns from 0": ({"choice_0": "red", "choice_1": "x", "answer": 0}, ["A. red", "B. x"], ["A", "red"]),
    "several right ones": ({"choices": ["red", "blue", "grey"], "answer": "A,C"}, ["A. red", "C. grey"], ["A,C"]),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choices_reach_the_question_and_the_answer_is_one_of_them(folder: Path, case: str) -> None:
    change, lines, answers = CHOICES[case]
    summary, [row] = convert(folder, [table(**change)])
    assert set(lines) <= set(row["prompt"][0]["content"].splitlines())
    assert truths([row]) == [answers]
    assert summary["unread"] == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["red", "blue"], "answer": "green"}, "'green' is none of the choices A, B"),
        ({"choices": ["red", "blue"], "answer": 2}, "'2' is none of the choices"),
        ({"choices": "['2', '1', '0']", "answer": "0"}, "'0' can mean choice A and choice C"),
        ({"choices": ["B", "A"], "answer": "A"}, "'A' can mean choice A and choice B"),
        ({"choices": "red or blue", "answer": "A"}, "choices: must be a list"),
        ({"choices": ["red", "blue"], "answer": float("nan")}, "no answer"),
        ({"option1": "2", "option2": "1", "answer": "2"}, "'2' can mean choice A and choice B"),
        ({"option1": "x", "option2": "y", "answer": 0}, "'0' is none of the choices"),
        ({"option_1": "red", "answer": "A"}, "option_1: the question needs it"),
        ({"image": None}, "image: is missing or null"),
        ({"video": "v.mp4"}, "video: video isn't supported"),
        ({"question": "<video> What happens?"}, "<video>: video isn't supported"),
        ({"video_path": "v.mp4"}, "video_path: video isn't supported"),
        ({"audios": ["a.wav"]}, "audios: audio isn't supported"),
        ({"images": ["b.png"]}, "hold different images"),
        ({"history": [["q", "a"]]}, "history: the question needs it"),
    ],
)
def test_a_row_whose_question_would_lose_something_is_rejected(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        convert(folder, [table(**change)])


def test_hints_and_further_images_are_used(folder: Path) -> None:
    records = [
        table(hint="Look left.", image_2="b.png", image_3=float("nan")),
        table(image=None, image_1="a.png", image_2="b.png", question="Is <image 2> red, as <image 1>?"),
        {"images": ["a.png"], "problem": "<image>Find x.", "answer": "3"},
        {"image": "a.png", "problem": "Find y.", "solution": "<think>So.</think>\n<answer> 3 </answer>"},
        {"instruction": "Read", "input": "the word.", "output": "x", "images": ["a.png"]},
        {"query": "Read.", "response": "x", "images": ["a.png"]},
        {"prompt": [{"role": "user", "content": [{"type": "image"}, {"text": "z?"}]}], "images": ["a.png"], "gt": "3"},
    ]
    summary, rows = convert(folder, records)
    assert [row["prompt"][-1]["content"] for row in rows] == [
        "<image>\n<image>\nLook left.\nq?",
        "Is <image> red, as <image>?",
        "<image>Find x.",
        "<image>\nFind y.",
        "<image>\nRead\nthe word.",
        "<image>\nRead.",
        "<image>z?",
    ]
    assert [row["images"][0]["path"] for row in rows[:2]] == ["a.png", "b.png"]
    assert truths(rows) == [["x"], ["x"], ["3"], ["3"], ["x"], ["x"], ["3"]]
    assert summary["unread"] == {}


def test_a_source_may_be_a_number(folder: Path) -> None:
    assert convert(folder, [table(source=7)])[1][0]["data_source"] == "7"


def test_an_image_beside_its_path_is_used(folder: Path) -> None:
    """MathVista has the image in `decoded_image`, and in `image` the path of a file of another archive."""
    summary, [row] = convert(folder, [table(image="images/1.jpg", decoded_image="a.png")])
    assert row["images"][0]["path"] == "a.png"
    assert summary["unread"] == {"image": 1}


TABLES: dict[str, dict[str, Any]] = {
    "a table of VLMEvalKit": table(index=0, category="color", A="red", B="blue", answer="A"),
    "InfographicVQA": table(questionId="1", answers=["x"], answer_type="single", image_url="https://x/a.png"),
    "VQAv2": table(image_id=1, question_id=10, answers=[{"answer": "x", "answer_id": 1}], answer_type="other"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_with_the_columns_of_a_benchmark_keeps_its_own_name_and_licence(folder: Path, case: str) -> None:
    record = TABLES[case] | {"answer": TABLES[case]["answer"] if "A" in TABLES[case] else None}
    summary, [row] = convert(folder, [record], name="mine.jsonl")
    assert row["data_source"] == "mine"
    assert row["extra_info"]["benchmark"] is None
    assert summary["licences"] == {"mine": "unknown"}


def test_a_text_that_looks_like_a_list_is_one_answer_unless_the_user_says_so(folder: Path) -> None:
    records = [table(answer="[3, 4]"), table(question="p?", answer="['a', 'b']")]
    summary, rows = convert(folder, records)
    assert truths(rows) == [["[3, 4]"], ["['a', 'b']"]]
    assert summary["noted"] == {"answer_like_a_list": 2}
    assert "--answers-are-lists" in summary["stderr"]
    assert truths(convert(folder, records, "--answers-are-lists")[1]) == [["3", "4"], ["a", "b"]]


def test_an_image_cell_can_name_the_row_with_the_image(folder: Path) -> None:
    lines = [
        "index\timage\tquestion\tanswer",
        "0\t2\tq0\tx",
        f"2\t{TEXT}\tq1\tx",
        f"5\t['{TEXT}', '{TEXT}']\tq2\tx",
        "6\t5\tq3\tx",
        "7\t9\tq4\tx",
    ]
    summary, rows = convert(folder, "\n".join(lines), name="in.tsv")
    assert [len(row["images"]) for row in rows] == [1, 1, 2, 2]
    assert {image["bytes"] for row in rows for image in row["images"]} == {PNG}
    assert "9 is neither a file in" in summary["examples"][0]


def test_an_empty_cell_names_no_row(folder: Path) -> None:
    lines = ["index,image,question,answer", ",a.png,q0,x", "5,,q1,x", "6,5,q2,x"]
    summary, rows = convert(folder, "\n".join(lines), name="in.csv")
    assert len(rows) == 1
    assert summary["rejected"] == {"picture_missing": 2}


@pytest.mark.parametrize("name", ["in.tsv", "in.csv"])
def test_a_table_may_have_an_index_and_paths_of_images(folder: Path, name: str) -> None:
    mark = "\t" if name == "in.tsv" else ","
    lines = [["index", "image_path", "question", "answer"], ["7", "a.png", "q?", "x"]]
    summary, [row] = convert(folder, "\n".join(map(mark.join, lines)), name=name)
    assert (row["images"][0]["path"], row["extra_info"]["index"]) == ("a.png", 7)
    assert summary["unread"] == {}


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.binary(), lambda inner: st.lists(inner)))
def test_any_value_is_answers_or_a_row_error(value: Any) -> None:
    with suppress(RowError):
        assert all(fields.answers(value, "answer"))
