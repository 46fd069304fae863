"""Tests that conversations of every published layout are read, and none loses a call, an image or a video."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from sets import coded, data_prep, folder_of_images, scene, truths
from sets import convert_records as convert

from codevision_ext.errors import InputError
from codevision_ext.rollout.parsing import parse_call
from codevision_ext.types import CallStatus

TEXT = base64.b64encode(coded(scene(3))).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of_images(tmp_path)


THOUGHT = "<think>Now.</think><answer>A</answer>"
CODE = {"code": "image = image.rotate(90, expand=True)"}
CALL = {"name": "code_image_tool", "arguments": json.dumps(CODE)}
OPENING, ENDING = {"role": "user", "content": "<image>q?"}, {"role": "assistant", "content": THOUGHT}
PARTS = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "q?"}]


def chat(*turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [*turns], "images": ["a.png"]} | more


CALLS: dict[str, dict[str, Any]] = {
    "tool_calls": {
        "content": "<think>Turn.</think>",
        "tool_calls": [{"id": "1", "type": "function", "function": CALL}],
    },
    "arguments as an object": {"content": None, "tool_calls": [{"function": CALL | {"arguments": CODE}}]},
    "a call without its wrapper": {"content": "", "tool_calls": [CALL]},
    "the JSON of calls": {"content": "", "tool_calls": json.dumps([{"function": CALL}])},
    "function_call": {"content": None, "function_call": CALL},
    "thoughts beside": {"content": None, "reasoning_content": "Turn.", "tool_calls": [{"function": CALL}]},
    "written already": {
        "content": f"<tool_call>\n{json.dumps(CALL | {'arguments': CODE})}\n</tool_call>",
        "tool_calls": [CALL],
    },
}


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("result", ["Error: boom", "<image>"])
def test_a_call_in_a_field_of_its_own_is_kept(folder: Path, case: str, result: str) -> None:
    tool = {"role": "tool", "content": result, "tool_call_id": "1"}
    turns = (OPENING, {"role": "assistant"} | CALLS[case], tool, ENDING)
    images = ["a.png", "b.png"][: 1 + (result == "<image>")]
    summary, [row] = convert(folder, [chat(*turns, images=images)], to="sft")
    call = row["messages"][1]["content"]
    assert call.count("<tool_call>") == 1
    parsed = parse_call(call, 1)
    assert (parsed.status, parsed.call and parsed.call.code) == (CallStatus.OK, CODE["code"])
    assert call.startswith("<think>Turn.</think>") or "think" not in case
    assert summary["unread"] == {}


def test_a_speaker_of_calls_is_read(folder: Path) -> None:
    turns = [
        {"from": "human", "value": "<image>q?"},
        {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": "Error: boom"},
        {"from": "gpt", "value": THOUGHT},
    ]
    item = {"conversations": turns, "images": ["a.png"]}
    _, [row] = convert(folder, [item], to="sft")
    assert parse_call(row["messages"][1]["content"], 1).status is CallStatus.OK
    with pytest.raises(InputError, match="1 bad_call"):
        convert(folder, [item | {"conversations": [turns[0], turns[1] | {"value": "rotate"}, *turns[2:]]}], to="sft")


IMAGE_PART = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TEXT}"}}
LAYOUTS: dict[str, dict[str, Any]] = {
    "LLaVA": {
        "id": "1",
        "image": "a.png",
        "conversations": [{"from": "human", "value": "<image>q?"}, {"from": "gpt", "value": THOUGHT}],
    },
    "a list in image": {
        "image": ["a.png"],
        "conversations": [{"from": "human", "value": "<image>q?"}, {"from": "gpt", "value": THOUGHT}],
    },
    "roles in conversations": {"image": "a.png", "conversations": [OPENING, ENDING]},
    "parts and images": chat({"role": "user", "content": PARTS}, ENDING),
    "parts": {"messages": [{"role": "user", "content": PARTS}, ENDING]},
    "an empty part": chat({"role": "user", "content": [{"type": "image"}, PARTS[1]]}, ENDING),
    "image_url": {"messages": [{"role": "user", "content": [IMAGE_PART, PARTS[1]]}, ENDING]},
    "texts among parts": {"messages": [{"role": "user", "content": [PARTS[0], "q?"]}, ENDING]},
    "parts of the answer": chat(OPENING, {"role": "assistant", "content": [{"type": "text", "text": THOUGHT}]}),
}


LAYOUTS |= {
    "images of a message": {"messages": [OPENING | {"images": ["a.png"]}, ENDING]},
    "images of a message and of the row": chat(OPENING | {"images": ["a.png"]}, ENDING),
    "one image of a message": {"messages": [OPENING | {"image": {"url": f"data:image/png;base64,{TEXT}"}}, ENDING]},
    "a message without a tag": {"messages": [{"role": "user", "content": "q?", "images": [TEXT]}, ENDING]},
    "an image of a message for its part": {
        "messages": [{"role": "user", "content": [{"type": "image"}, PARTS[1]], "images": "a.png"}, ENDING]
    },
    "images of a turn": {
        "conversations": [
            {"from": "human", "value": "<image_1>q?", "images": ["a.png"]},
            {"from": "gpt", "value": THOUGHT},
        ]
    },
}


@pytest.mark.parametrize("case", LAYOUTS)
@pytest.mark.parametrize("to", ["sft", "rl"])
def test_conversations_of_every_layout_are_read(folder: Path, case: str, to: str) -> None:
    _, [row] = convert(folder, [LAYOUTS[case]], to=to)
    opening = row["messages" if to == "sft" else "prompt"][0]
    assert (opening["role"], opening["content"].replace("\n", "")) == ("user", "<image>q?")
    assert len(row["images"]) == 1
    assert row["messages"][1].items() >= ENDING.items() if to == "sft" else truths([row]) == [["A"]]


CALLED = {"role": "assistant", "content": f"<tool_call>\n{json.dumps(CALL | {'arguments': CODE})}\n</tool_call>"}


def test_images_of_messages_and_of_the_row_stand_in_the_order_of_their_tags(folder: Path) -> None:
    """The row has the image of the first message, and the third message has its own."""
    shown = {"role": "tool", "content": "Now <image>", "images": ["b.png"]}
    for record in (
        chat(OPENING, CALLED, shown, ENDING),
        {"messages": [OPENING | {"images": "a.png"}, CALLED, shown, ENDING]},
    ):
        summary, [row] = convert(folder, [record], to="sft")
        stored = [image["bytes"] for image in row["images"]]
        assert stored == [(folder / "a.png").read_bytes(), (folder / "b.png").read_bytes()]
        assert summary["unread"] == {}


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (OPENING | {"images": ["a.png", "b.png"]}, "messages.images: 2 images in a message with 1 image tags"),
        (OPENING | {"content": "<image><image>q?", "images": ["a.png"]}, "1 images in a message with 2 image tags"),
        (
            OPENING | {"content": PARTS, "images": ["b.png"]},
            "1 images in a message with 0 image tags that have no image",
        ),
        (
            OPENING | {"content": "<image1><image2>q?", "images": ["a.png"]},
            "image tags with the numbers 1, 2, but 1 images",
        ),
        (OPENING | {"images": ["none.png"]}, "none.png: no such file"),
        (OPENING | {"images": ["a.png"], "image": "b.png"}, "messages.image: a message has images in two fields"),
        (OPENING | {"images": ["a.png"], "videos": ["v.mp4"]}, "messages.videos: video isn't supported"),
        (OPENING | {"images": ["a.png"], "audio": "v.wav"}, "messages.audio: audio isn't supported"),
    ],
)
def test_a_message_whose_images_are_not_clear_is_refused_by_its_field(
    folder: Path, turn: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        convert(folder, [{"messages": [turn, ENDING]}], to="sft")


def test_places_that_tags_of_a_text_need_are_not_left_out(folder: Path) -> None:
    objects = {"ref": [], "bbox": [[1, 2, 30, 40]]}
    with pytest.raises(InputError, match="objects: the places in it aren't written into the texts"):
        convert(folder, [chat(OPENING | {"content": "<image>What is in <bbox>?"}, ENDING, objects=objects)], to="sft")
    summary, _ = convert(folder, [chat(OPENING, ENDING, objects=objects)], to="sft")
    assert summary["unread"] == {"objects": 1}


def test_an_image_of_an_assistant_s_message_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="message 1 is the assistant's and has an <image>"):
        convert(folder, [{"messages": [OPENING | {"images": ["a.png"]}, ENDING | {"images": ["b.png"]}]}], to="sft")


MARKS = [
    *[({name: False}, False) for name in ("train", "training", "train_on_turn", "loss")],
    *[({name: 0}, False) for name in ("weight", "loss_weight", "loss_mask", "step_loss_mask", "loss_scale", "train")],
    *(({"weight": 0.0}, False), ({"masked": True}, False), ({"masked": 0}, True), ({"weight": 1.0}, True)),
    *(({"loss": True}, True), ({"loss": None}, None), ({"training": False, "weight": 0, "masked": True}, False)),
]


@pytest.mark.parametrize(("marks", "learned"), MARKS)
def test_marks_of_other_trainers_are_read(folder: Path, marks: dict[str, Any], learned: bool | None) -> None:
    tool = {"role": "tool", "content": "Error: boom"}
    summary, [row] = convert(folder, [chat(OPENING, CALLED | marks, tool, ENDING)], "--no-mask-failed-calls", to="sft")
    assert [turn["train"] for turn in row["messages"]] == [None, learned, None, None]
    assert (summary["unread"], summary["noted"]) == ({}, {})


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"weight": 0.5}, "messages.weight: must be true, false, 1 or 0, not 0.5"),
        ({"loss_mask": [0, 1, 1]}, "messages.loss_mask: must be true, false, 1 or 0, not [0, 1, 1]"),
        ({"train": "no"}, "messages.train: must be true, false, 1 or 0, not 'no'"),
        ({"train": True, "loss": False}, "messages.train: marks that contradict each other: train: true, loss: false"),
        (
            {"train_detail": [{"begin_offset": 0, "end_offset": 3, "train": False}]},
            "messages.train_detail: marks parts",
        ),
    ],
)
def test_a_mark_that_can_not_be_kept_is_refused_by_its_field(folder: Path, marks: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        convert(folder, [chat(OPENING, ENDING | marks)], to="sft")


def test_marks_of_tokens_are_refused_and_marks_of_other_roles_are_named(folder: Path) -> None:
    for name in ("assistant_masks", "completion_mask", "loss_mask"):
        with pytest.raises(InputError, match=f"{name}: a mark for each token"):
            convert(folder, [chat(OPENING, ENDING, **{name: [0, 1]})], to="sft")
    summary, _ = convert(
        folder, [chat(OPENING | {"loss": True}, ENDING), chat(OPENING | {"loss": False}, ENDING)], to="sft"
    )
    assert summary["noted"] == {"not_an_assistant_s": 1}
    assert "a message that isn't the assistant's is marked as learned" in summary["stderr"]


def test_a_mark_of_another_trainer_reaches_sharegpt(folder: Path) -> None:
    turns = [{"from": "human", "value": "<image>q?"}, {"from": "gpt", "value": CALLED["content"], "weight": 0}]
    turns += [{"from": "tool", "value": "Error: boom"}, {"from": "gpt", "value": THOUGHT, "note": "x"}]
    (folder / "in.json").write_text(json.dumps([{"conversations": turns, "images": ["a.png"]}]))
    data_prep("convert", folder / "in.json", "--to", "sft", "--out", folder / "sft.parquet", "--workers", 1)
    data_prep("convert", folder / "sft.parquet", "--to", "sharegpt", "--out", folder / "out", "--workers", 1)
    [written] = json.loads((folder / "out" / "out.json").read_text())
    assert written["conversations"] == turns


def test_a_call_that_is_masked_here_is_masked_in_sharegpt_whose_turns_have_fields_of_their_own(folder: Path) -> None:
    turns = [{"from": "human", "value": "<image>q?"}, {"from": "gpt", "value": CALLED["content"], "note": "x"}]
    turns += [{"from": "tool", "value": "Error: boom"}, {"from": "gpt", "value": THOUGHT}]
    (folder / "in.json").write_text(json.dumps([{"conversations": turns, "images": ["a.png"]}]))
    data_prep("convert", folder / "in.json", "--to", "sharegpt", "--out", folder / "out", "--workers", 1)
    [written] = json.loads((folder / "out" / "out.json").read_text())
    assert written["conversations"] == [turns[0], turns[1] | {"train": False}, *turns[2:]]


def test_the_licence_of_a_published_set_is_not_that_of_other_sets(folder: Path) -> None:
    """Only the rows of CodeVision have its licences; its columns are those of sharegpt and of verl."""
    verl = {"prompt": [OPENING], "images": ["a.png"], "reward_model": {"ground_truth": "A"}, "extra_info": {"index": 1}}
    for record, to in ((LAYOUTS["LLaVA"], "sft"), (LAYOUTS["LLaVA"], "rl"), (verl, "rl")):
        summary, [row] = convert(folder, [record], name="mine.jsonl", to=to)
        assert row["source" if to == "sft" else "data_source"] == "mine"
        assert summary["licences"] == {"mine": "unknown"}
        assert not summary["non_commercial"]


SPOKEN: dict[str, list[dict[str, Any]]] = {
    "roles": [OPENING, ENDING],
    "numbered tags": [OPENING | {"content": "<image_1>q?"}, ENDING],
    "a system message": [{"from": "system", "value": "Be short."}, *LAYOUTS["LLaVA"]["conversations"]],
    "a call of its own": [
        *({"from": "human", "value": "<image>q?"}, {"from": "function_call", "value": json.dumps(CALL)}),
        *({"from": "observation", "value": "Error: boom"}, {"from": "gpt", "value": THOUGHT}),
    ],
}


@pytest.mark.parametrize("case", SPOKEN)
def test_sharegpt_has_the_speakers_that_llama_factory_reads(folder: Path, case: str) -> None:
    item = {"conversations": SPOKEN[case], "images": ["a.png"]}
    (folder / "in.json").write_text(json.dumps([item]))
    data_prep("convert", folder / "in.json", "--to", "sharegpt", "--out", folder / "out", "--workers", 1)
    [written] = json.loads((folder / "out" / "out.json").read_text())
    assert (written["system"] == "Be short.") == (case == "a system message")
    assert {turn["from"] for turn in written["conversations"]} <= {"human", "gpt", "tool"}
    assert written["conversations"][0]["value"] == "<image>q?"
    assert ("<tool_call>" in written["conversations"][1]["value"]) == (case == "a call of its own")


def test_the_tools_of_a_row_may_be_a_list(folder: Path) -> None:
    schema = {"type": "function", "function": {"name": "code_image_tool"}}
    sharegpt = {name: value for name, value in LAYOUTS["LLaVA"].items() if name != "id"}
    for record in (chat(OPENING, ENDING), sharegpt):
        _, [row] = convert(folder, [record | {"tools": [schema]}], to="sft")
        assert json.loads(row["tools"]) == [schema]
    with pytest.raises(InputError, match="tools: must be a JSON list"):
        convert(folder, [chat(OPENING, ENDING, tools=schema)], to="sft")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (chat(OPENING | {"content": "<image><video>q?"}, ENDING), "not_supported"),
        (chat(OPENING, ENDING, videos=["v.mp4"]), "not_supported"),
        ({"conversations": LAYOUTS["LLaVA"]["conversations"], "image": "a.png", "video": "v.mp4"}, "not_supported"),
        (chat({"role": "user", "content": [*PARTS, {"type": "video", "video": "v.mp4"}]}, ENDING), "not_supported"),
        (chat({"role": "user", "content": PARTS}, ENDING, images=["b.png"]), "bad_turns"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}, PARTS[1]]}, ENDING]}, "bad_turns"),
        (chat(OPENING, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": 7}}]}), "bad_call"),
        (chat(OPENING, {"role": "assistant", "tool_calls": [CALL | {"arguments": "{"}]}), "bad_call"),
        (chat(OPENING, {"role": ["assistant"], "content": THOUGHT}), "bad_turns"),
        (chat(OPENING, {"role": "assistant"}), "bad_type"),
        (chat(OPENING, ENDING, changes=3), "bad_type"),
        (chat(OPENING, ENDING, changes="none"), "bad_type"),
    ],
)
def test_a_conversation_that_would_lose_something_is_rejected(
    folder: Path, record: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=f"1 {reason}"):
        convert(folder, [record], to="sft")


def test_a_task_of_a_conversation_has_its_own_answer_and_one_question(folder: Path) -> None:
    short = {"image": "a.png", "conversations": [OPENING, {"role": "assistant", "content": "42"}]}
    column = {"messages": [OPENING], "images": ["a.png"], "solution": "[3, 4]"}
    talk = chat(OPENING, ENDING, {"role": "user", "content": "And now?"}, ENDING)
    assert truths(convert(folder, [short])[1]) == [["42"]]
    summary, rows = convert(folder, [column, talk])
    assert truths(rows) == [["[3, 4]"]]
    assert "several questions" in summary["examples"][0]
    with pytest.raises(InputError, match="0 <image> tags, but 1 images"):
        convert(folder, [chat(OPENING | {"content": "q?"}, ENDING)])
    with pytest.raises(InputError, match="turn 0 is assistant's, not user's"):
        convert(folder, [chat(ENDING, OPENING, ENDING)])


def test_a_prompt_of_content_parts_is_read(folder: Path) -> None:
    record = {"prompt": [{"role": "user", "content": PARTS}], "reward_model": {"ground_truth": 7.0}, "extra_info": {}}
    _, [row] = convert(folder, [record])
    assert row["prompt"] == [OPENING]
    assert truths([row]) == [["7"]]
    for prompt in ("[1, 2] or [3, 4]?", "[Task] Read.", "{x}?"):
        _, [row] = convert(folder, [{"prompt": prompt, "images": ["a.png"], "answer": "x"}])
        assert row["extra_info"]["question"] == prompt
    _, [row] = convert(folder, [{"prompt": json.dumps([OPENING]), "images": ["a.png"], "answer": "x"}])
    assert row["prompt"] == [OPENING]
