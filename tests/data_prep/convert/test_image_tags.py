"""Tests that image tags stay where they stand, and that convert and check refuse what training refuses."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from sets import coded, data_prep, scene, write_json

from codevision_ext.errors import InputError

IMAGES = {
    "a.png": scene(),
    "b.png": scene().rotate(90),
    "thin.png": Image.new("RGB", (1206, 6)),
    "narrow.png": Image.new("RGB", (1200, 6)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, image in IMAGES.items():
        (tmp_path / name).write_bytes(coded(image))
    return tmp_path


def rejected(folder: Path, record: Mapping[str, Any], target: str = "rl") -> str:
    """Returns the sentence with which `convert` rejects a record; `check` must have the same one."""
    path = write_json(folder / "rows.json", [record])
    out = ("--out", folder / "out.parquet", "--workers", 1, "--max-rejected", "100%")
    with pytest.raises(InputError) as error:
        data_prep("convert", path, "--to", target, *out)
    [fault] = data_prep("check", path, "--workers", 1)["named"]
    assert f"{path}, row 0: {fault['field']}: {fault['said']}" in str(error.value)
    return f"{fault['field']}: {fault['said']}"


def table(question: str, images: Sequence[str] = ("a.png", "b.png")) -> dict[str, Any]:
    return {"images": list(images), "question": question, "answer": "yes"}


def turns(*values: str, images: Sequence[str] = ("a.png",)) -> dict[str, Any]:
    speakers = ["human", *["gpt", "tool"] * len(values)]
    return {
        "conversations": [{"from": speaker, "value": value} for speaker, value in zip(speakers, values, strict=False)],
        "images": list(images),
    }


ANSWER = "<think>So.</think><answer>A</answer>"


def converted(folder: Path, record: Mapping[str, Any], target: str = "rl") -> dict[str, Any]:
    path = write_json(folder / "rows.json", [record])
    out = folder / "out.parquet"
    data_prep("convert", path, "--to", target, "--out", out, "--workers", 1)
    [row] = pq.read_table(out).to_pylist()
    result: dict[str, Any] = row
    return result


@pytest.mark.parametrize(
    "question",
    [
        "Is the letter in <image> before that in <image>?",
        "Is the letter in <image1> before that in <image2>?",
        "Is the letter in <image_1> before that in <image_2>?",
        "Is the letter in <image:1> before that in <image#2>?",
        "Is the letter in < image > before that in <image/>?",
        "Is the letter in <ImageHere> before that in <image_placeholder>?",
        "Is the letter in <image 1> before that in <image 2>?",
        "Is the letter in <|image_1|> before that in <|image_2|>?",
        "Is the letter in <image_0> before that in <image_1>?",
        "Is the letter in <|vision_start|><|image_pad|><|vision_end|> before that in <Image>?",
    ],
)
def test_tags_inside_a_question_stay_there(folder: Path, question: str) -> None:
    row = converted(folder, table(question))
    assert [message["content"] for message in row["prompt"]] == ["Is the letter in <image> before that in <image>?"]
    assert row["extra_info"]["question"] == "Is the letter in image 1 before that in image 2?"
    assert [image["path"] for image in row["images"]] == ["a.png", "b.png"]
    assert row["extra_info"]["changes"] == (None if question.count("<image>") == 2 else ["image_tags"])


def test_the_number_of_a_tag_chooses_its_image(folder: Path) -> None:
    row = converted(folder, table("<image_2> or <image_1>? Again <image_2>."))
    assert row["prompt"][0]["content"] == "<image> or <image>? Again <image>."
    assert [image["path"] for image in row["images"]] == ["b.png", "a.png", "b.png"]


def test_a_question_without_tags_gets_one_for_each_image_in_front(folder: Path) -> None:
    assert converted(folder, table("Equal?"))["prompt"][0]["content"] == "<image>\n<image>\nEqual?"


def test_tags_of_choices_stay_in_the_choices(folder: Path) -> None:
    row = converted(folder, table("Which is red?") | {"A": "<image 1>", "B": "<image 2>", "answer": "B"})
    assert row["prompt"][0]["content"].startswith("Which is red?\nA. <image>\nB. <image>\n")
    assert row["reward_model"]["ground_truth"] == ["B"]


@pytest.mark.parametrize("target", ["sft", "rl"])
def test_numbered_tags_of_a_conversation_are_read(folder: Path, target: str) -> None:
    record = turns("Compare <image_2> with <image_1>.", ANSWER, images=["a.png", "b.png"])
    row = converted(folder, record, target)
    content = row["messages" if target == "sft" else "prompt"][0]["content"]
    assert content == "Compare <image> with <image>."
    assert [image["path"] for image in row["images"]] == ["b.png", "a.png"]


REJECTED = {
    "more tags than images": (table("<image> and <image>: equal?", ["a.png"]), "2 <image> tags, but 1 images"),
    "fewer tags than images": (table("<image> is what?"), "1 <image> tags, but 2 images"),
    "a number without an image": (
        table("<image_1> and <image_3>?"),
        "question: image tags with the numbers 1, 3, but 2 images",
    ),
    "an image without a number": (table("<image2>?"), "question: image tags with the numbers 2, but 2 images"),
    "tags of two kinds": (
        table("<image> and <image_2>?"),
        "question: some image tags have a number and others have none",
    ),
    "another image under the box": (
        table("<image_2> or <image_1>?") | {"bbox": [1, 1, 9, 9]},
        "box: lies in the first image, but another image is shown first",
    ),
    "a token of the chat template": (
        table("What is <|image_pad|>?", ["a.png"]) | {"question": "<image> is <|image_pad|>?"},
        "prompt: message 0 has <|image_pad|>, which only the chat template may write",
    ),
    "sides that differ too much": (table("What?", ["thin.png"]), "an image of 1206x6 is too narrow"),
}
REJECTED_TURNS = {
    "more tags than images": (turns("<image><image>What?", ANSWER), "2 <image> tags, but 1 images"),
    "no tag": (turns("What?", ANSWER), "0 <image> tags, but 1 images"),
    "a tag in an assistant's text": (
        turns("What?", "<image>" + ANSWER),
        "message 1 is the assistant's and has an <image>; only users and tools show images",
    ),
    "a numbered tag in an assistant's text": (turns("What?", "In <image_1> " + ANSWER), "message 1 is the assistant's"),
    "sides that differ too much": (turns("<image>What?", ANSWER, images=["thin.png"]), "1206x6 is too narrow"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_convert_and_check_refuse_tasks_that_training_refuses(folder: Path, name: str) -> None:
    record, message = REJECTED[name]
    assert message in rejected(folder, record)


@pytest.mark.parametrize("name", REJECTED_TURNS)
def test_convert_and_check_refuse_conversations_that_training_refuses(folder: Path, name: str) -> None:
    record, message = REJECTED_TURNS[name]
    assert message in rejected(folder, record, "sft")


def test_an_image_at_the_limit_is_accepted(folder: Path) -> None:
    assert converted(folder, table("What?", ["narrow.png"]))["extra_info"]["size"] == [1200, 6]


def test_published_prompts_keep_their_tags(folder: Path) -> None:
    prompt = [{"role": "user", "content": "Is <image_2> newer than <image_1>?"}]
    record = {
        "data_source": "x",
        "prompt": json.dumps(prompt),
        "images": ["a.png", "b.png"],
        "reward_model": {"style": "rule", "ground_truth": "yes"},
        "extra_info": {"index": 0, "split": "train"},
    }
    row = converted(folder, record)
    assert row["prompt"][0]["content"] == "Is <image> newer than <image>?"
    assert row["extra_info"]["question"] == "Is image 1 newer than image 2?"
    assert [image["path"] for image in row["images"]] == ["b.png", "a.png"]
