"""Rows of V-Thinker's sets become tasks and trajectories; their code is run, and what failed is listed."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from sets import coded, scene
from sets import convert_records as convert

from codevision_ext.task.item import read_item
from codevision_ext.types import AnswerKind

IMAGE = Image.new("RGB", (320, 240), "white")
ImageDraw.Draw(IMAGE).polygon([(40, 200), (280, 200), (120, 40)], outline="black")
ImageDraw.Draw(IMAGE).ellipse((200, 30, 260, 90), outline="green")
HEIGHT = "cv2.line(img, (120, 40), (120, 200), (0, 0, 255), 3)"
BASE = "cv2.line(img, (40, 200), (280, 200), (255, 0, 0), 3)"
OPEN = "import cv2\nimage_path = '/mnt/data/0001.png'\nimg = cv2.imread(image_path)\n"
STEP = OPEN + HEIGHT + "\ncv2.imwrite(processed_path, img)\nprint(processed_path)"
SHOWN = (
    "import matplotlib.pyplot as plt\nimg = plt.imread('original.png')\nh, w = img.shape[:2]\n"
    "fig, ax = plt.subplots()\nax.imshow(img)\nax.plot([120, 120], [40, 200], color='red', linewidth=2)\n"
    "ax.axis('off')\nplt.show()"
)


def edited(*lines: tuple[int, int, int, int], size: tuple[int, int] = (320, 240)) -> Image.Image:
    made = IMAGE.copy()
    for line in lines:
        ImageDraw.Draw(made).line(line, fill="red", width=3)
    return made.resize(size)


DRAWN = edited((120, 40, 120, 200))


def block(code: str) -> str:
    return f"<code>\n```python\n{code}\n```\n</code>\n<sandbox_output><image></sandbox_output>\n"


def reply(*codes: str) -> str:
    return "<think>I draw. " + "Again. ".join(map(block, codes)) + "It is 5.</think>\n<answer>5</answer>"


def file(folder: Path, name: str, image: Image.Image) -> str:
    (folder / name).write_bytes(coded(image))
    return name


def row(folder: Path, text: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "question": "<image>\nHow long is the height?",
        "image": file(folder, "image.png", IMAGE),
        "edited_image": file(folder, "edited.png", DRAWN),
        "tool_code": SHOWN,
        "CoT_with_code": text,
        "answer": "5",
        **changes,
    }


def sft(folder: Path, *records: dict[str, Any], words: tuple[object, ...] = ()) -> tuple[Any, list[dict[str, Any]]]:
    summary, rows = convert(folder, list(records), *words, to="sft")
    for each in rows:
        each["metadata"] = json.loads(each["metadata"])
        each["shown"] = [Image.open(io.BytesIO(image["bytes"])) for image in each["images"]]
    return summary, rows


def test_every_block_is_run_and_compared_with_the_published_image(tmp_path: Path) -> None:
    summary, [made] = sft(tmp_path, row(tmp_path, reply(STEP)))
    assert summary["rows"] == {"read": 1, "written": 1, "rejected": 0}
    assert made["metadata"] | {"agreement": 1} == {
        "answer": "5", "id": "r1", "sample_type": "single-tool", "executed": True, "agreement": 1, "blocks": ["ok"],
    }  # fmt: skip
    assert made["metadata"]["agreement"] > 0.95
    assert [image.size for image in made["shown"]] == [(320, 240), (320, 240)]
    assert made["shown"][1].getpixel((120, 100)) == (255, 0, 0)
    user, call, observation, answer = made["messages"]
    path = "If your code processes the image, use: image_path = '/mnt/data/0001.png'"
    assert user["content"] == f"<image>\nHow long is the height?\n{path}"
    assert "<think>I draw.</think>" in call["content"]
    assert observation["content"] == "Picture 1: 320x240.\n/images/processed.png<image>"
    assert answer["content"] == "<think>It is 5.</think><answer>5</answer>"


def test_a_path_in_the_question_is_that_of_the_image(tmp_path: Path) -> None:
    question = "<image>\nHow long?\nimage_path = '/mnt/data/0001.png'"
    _, [made] = sft(tmp_path, row(tmp_path, reply(STEP), question=question), words=("--dialect", "code_tags"))
    assert made["messages"][1]["content"] == question
    assert made["metadata"]["executed"]


def test_a_figure_is_compared_although_it_has_margins(tmp_path: Path) -> None:
    other = file(tmp_path, "other.png", edited((40, 40, 280, 40)))
    _, rows = sft(
        tmp_path,
        row(tmp_path, reply(SHOWN)),
        row(tmp_path, None, id="r2"),
        row(tmp_path, reply(SHOWN), id="r3", edited_image=other, question="How wide?"),
    )
    assert [image.size for image in rows[0]["shown"]] == [(320, 240), (640, 480)]
    assert [each["metadata"]["executed"] for each in rows] == [True, True, True]
    assert [each["metadata"]["agreement"] > 0.85 for each in rows] == [True, True, False]
    assert rows[2]["metadata"]["agreement"] < 0.2


def test_a_step_finds_the_image_and_the_variables_of_the_step_before(tmp_path: Path) -> None:
    both = file(tmp_path, "both.png", edited((120, 40, 120, 200), (40, 200, 280, 200)))
    by_path = f"img = cv2.imread(processed_path)\n{BASE}\ncv2.imwrite(processed_path, img)"
    by_variable = f"{BASE}\ncv2.imwrite('step2.png', img)"
    by_name = f"import cv2\nimg = cv2.imread('step1.png')\n{BASE}\ncv2.imwrite('step2.png', img)"
    first = STEP.replace("processed_path", "'step1.png'")
    records = [
        row(tmp_path, reply(STEP, by_path), edited_image=both),
        row(tmp_path, reply(STEP, by_variable), edited_image=both, id="r2"),
        row(tmp_path, reply(first, by_name), edited_image=both, id="r3"),
    ]
    summary, rows = sft(tmp_path, *records)
    assert summary["faulty"] == {}
    for made in rows:
        assert (made["sample_type"], made["metadata"]["blocks"]) == ("multi-tool", ["ok", "ok"])
        assert len(made["shown"]) == 3
        assert made["metadata"]["agreement"] > 0.9
        assert made["shown"][1].getpixel((120, 100)) == made["shown"][2].getpixel((120, 100)) == (255, 0, 0)
        assert made["shown"][2].getpixel((160, 200)) == (0, 0, 255)


def test_blocks_that_fail_are_listed_and_nothing_good_is_lost(tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.jsonl"
    records = [
        row(tmp_path, reply("1 / 0"), id="r0"),
        row(tmp_path, reply("1 / 0", STEP), id="r1"),
        row(tmp_path, reply("1 / 0"), id="r2", edited_image=None),
        row(tmp_path, reply("open('/etc/passwd')", "while True: pass"), id="r3"),
        row(tmp_path, reply(STEP), id="r4"),
    ]
    summary, rows = sft(tmp_path, *records, words=("--rejects", rejects))
    assert [each["metadata"]["id"] for each in rows] == ["r0", "r1", "r3", "r4"]
    assert [each["metadata"]["executed"] for each in rows] == [False, False, False, True]
    assert [each["metadata"]["blocks"] for each in rows[:3]] == [["error"], ["error", "ok"], ["denied", "timeout"]]
    assert rows[0]["shown"][1].tobytes() == DRAWN.tobytes()
    assert rows[0]["metadata"]["agreement"] is None
    assert rows[1]["metadata"]["agreement"] > 0.95
    assert [message["train"] for message in rows[1]["messages"]] == [None, False, None, None, None, None]
    assert "ZeroDivisionError" in rows[1]["messages"][2]["content"]
    assert summary["faulty"] == {"code_failed": 4, "column_missing": 1}
    assert summary["rejected"] == {"code_failed": 1}
    faults = [json.loads(line) for line in rejects.read_text().splitlines()]
    failed = [(each["row"], each["field"], each["said"]) for each in faults if each["reason"] == "code_failed"]
    assert [(number, field) for number, field, _ in failed] == [
        *((number, "CoT_with_code") for number in (0, 1, 3, 3)),
        (2, "CoT_with_code"),
    ]
    assert failed[0][2].startswith("block 1 of 1 ended as error: ZeroDivisionError: division by zero")
    assert failed[3][2] == "block 2 of 2 ended as timeout"


def test_a_row_that_can_t_be_read_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(coded(scene())[:-400])
    rejects = tmp_path / "rejects.jsonl"
    records = [
        row(tmp_path, reply(STEP)[:60], id="r0"),
        row(tmp_path, None, id="r1", tool_code=None),
        row(tmp_path, reply(STEP), id="r2", edited_image="broken.png"),
        row(tmp_path, reply(STEP), id="r3", image="broken.png"),
        row(tmp_path, reply(STEP), id="r4", answer=float("nan")),
        row(tmp_path, reply(STEP), id="r5", question=None),
        row(tmp_path, reply(STEP), id="r6", question="How wide?"),
    ]
    _, rows = sft(tmp_path, *records, words=("--rejects", rejects))
    assert [each["metadata"]["id"] for each in rows] == ["r2", "r6"]
    assert [each["metadata"]["agreement"] is None for each in rows] == [True, False]
    faults = {each["row"]: each for each in map(json.loads, rejects.read_text().splitlines())}
    assert {number: each["field"] for number, each in faults.items()} == {
        0: "CoT_with_code", 1: "CoT_with_code", 2: "edited_image", 3: "image", 4: "answer", 5: "question",
    }  # fmt: skip
    assert faults[0]["said"] == "block 1 (<code>) has no end"


def test_without_running_the_code_the_published_image_stands_for_one_block(tmp_path: Path) -> None:
    records = [row(tmp_path, reply("1 / 0"), id="r0"), row(tmp_path, reply(STEP, STEP), id="r1")]
    summary, [made] = sft(tmp_path, *records, words=("--no-run-code",))
    assert (made["metadata"]["executed"], made["metadata"]["blocks"]) == (False, ["not_run"])
    assert made["shown"][1].tobytes() == DRAWN.tobytes()
    assert summary["rejected"] == {"no_trajectory": 1}


def test_a_task_keeps_the_edited_image_and_the_code(tmp_path: Path) -> None:
    records = [row(tmp_path, reply(STEP, "a = 1")), row(tmp_path, "x <code>", id="r1"), row(tmp_path, None, id="r2")]
    summary, rows = convert(tmp_path, records)
    assert [each["extra_info"]["codes"] for each in rows] == [[STEP, "a = 1"], None, [SHOWN]]
    assert {each["extra_info"]["edited_image"]["bytes"] for each in rows} == {coded(DRAWN)}
    assert summary["faulty"] == {"bad_call": 1}
    again = convert(tmp_path, _table(tmp_path), name="again.parquet")[1]
    assert [each["extra_info"] for each in again] == [each["extra_info"] for each in rows]


def _table(folder: Path) -> Any:
    import pyarrow.parquet as pq  # noqa: PLC0415 - only here

    return pq.read_table(folder / "out.parquet")


def perception(folder: Path, answer: Any, **changes: Any) -> dict[str, Any]:
    return {
        "id": "p1",
        "image": file(folder, "image.png", IMAGE),
        "question": "Where is A?",
        "answer": answer,
        "python_code": "plt.show()",
        "element_arrtibute": ["{'type': 'point', 'x': 120, 'y': 40, 'label': 'A'}", {"type": "circle", "r": 30}],
        **changes,
    }


@pytest.mark.parametrize(
    "answer",
    ["{'A': (120, 40)}", '{"A": [120, 40]}', {"A": [120, 40]}, [[120, 40]], [120, 40], "(120, 40)", "A: (120.5, 40)"],
)
def test_an_answer_of_places_becomes_coordinates_in_any_form(tmp_path: Path, answer: Any) -> None:
    _, [made] = convert(tmp_path, [perception(tmp_path, answer)])
    item = read_item(made, (320, 240))
    assert item.answer_kind is AnswerKind.COORDINATES
    assert item.answer_share("{'A': (123, 44)}", None) == 1
    assert made["extra_info"]["elements"] == [
        "{'type': 'point', 'x': 120, 'y': 40, 'label': 'A'}",
        '{"type": "circle", "r": 30}',
    ]
    assert made["extra_info"]["codes"] == ["plt.show()"]


def test_places_that_can_t_be_read_or_lie_outside_are_named(tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.jsonl"
    answers = [
        "{'A': (120, 40",
        "{'A': (nan, 40)}",
        {"A": [float("nan"), 40]},
        "{'A': (900, 40)}",
        None,
        "{'A': (1, 2)}",
    ]
    records = [perception(tmp_path, answer, question=f"{n}?") for n, answer in enumerate(answers)]
    records.append(perception(tmp_path, "{'A': (3, 4)}", element_arrtibute="no list", question="6?"))
    _, rows = convert(tmp_path, records, "--rejects", rejects)
    assert [each["extra_info"]["question"] for each in rows] == ["5?", "6?"]
    faults = {each["row"]: each for each in map(json.loads, rejects.read_text().splitlines())}
    assert {number: each["field"] for number, each in faults.items()} == {
        0: "answer", 1: "answer", 2: "answer", 3: "answer", 4: "answer", 6: "element_arrtibute",
    }  # fmt: skip
    assert faults[3]["said"] == "A at (900, 40) lies outside of the image, which is 320x240"


def test_perception_becomes_a_demonstration_that_answers_at_once(tmp_path: Path) -> None:
    _, [made] = sft(tmp_path, perception(tmp_path, "{'A': (120, 40)}"))
    assert [message["content"] for message in made["messages"]] == [
        "<image>\nWhere is A?",
        "<think></think><answer>{'A': (120, 40)}</answer>",
    ]
    assert (made["sample_type"], made["metadata"]["answer"]) == ("no-tool", "{'A': (120, 40)}")
    assert len(made["metadata"]["elements"]) == 2
