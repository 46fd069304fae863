"""Tests that demonstrations and sharegpt items come back unchanged from each other's schema."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message, SampleType
from data_prep.formats.sharegpt import check_calls, check_turns, from_sharegpt, infer_sample_type, to_sharegpt
from data_prep.formats.turn_text import TOOLS

PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "<" not in text)


@st.composite
def random_demonstrations(draw: st.DrawFn) -> Demonstration:
    messages: list[Message] = []
    for turn in range(2 * draw(st.integers(1, 4))):
        role = "assistant" if turn % 2 else "tool" if turn else "user"
        tags = IMAGE_TAG * draw(st.integers(0, 2)) if role != "assistant" else ""
        train = draw(st.sampled_from([None, True, False])) if role == "assistant" else None
        messages.append(Message(role=role, content=tags + draw(PLAIN), train=train))
    count = sum(message.content.count(IMAGE_TAG) for message in messages)
    if system := draw(PLAIN):
        messages.insert(0, Message(role="system", content=system))
    return Demonstration(
        messages=tuple(messages),
        images=tuple(draw(st.binary(max_size=4)) for _ in range(count)),
        sample_type=draw(st.sampled_from(["single-tool", "no-tool"])),
        tools=draw(st.sampled_from(["", TOOLS, json.dumps(json.loads(TOOLS), indent=1)])),
        metadata={"sample_type": "single-tool", "answer": draw(PLAIN)},
        source=draw(st.sampled_from(["", "mine"])),
        licence=draw(st.sampled_from(["", "CC0-1.0"])),
        changes=draw(st.sampled_from([(), ("exif_6",)])),
    )


def names_of(demonstration: Demonstration) -> list[str]:
    return [f"images/{number}.png" for number in range(len(demonstration.images))]


@given(random_demonstrations())
def test_a_demonstration_comes_back_the_same(demonstration: Demonstration) -> None:
    item = json.loads(json.dumps(to_sharegpt(demonstration, names_of(demonstration))))
    back = from_sharegpt(item, demonstration.images)
    assert replace(back, extra={}) == demonstration
    assert to_sharegpt(back, names_of(demonstration)) == item


SYSTEMS = ['Say.\n<tools>\n{"a":1}\n{"b":2}\n</tools>\nNow.', "<tools>\n\n</tools>"]
JSON = st.recursive(st.none() | st.booleans() | st.integers() | PLAIN, lambda inner: st.lists(inner, max_size=3))


@given(
    st.fixed_dictionaries(
        {"conversations": st.just([{"from": "human", "value": "What?"}, {"from": "gpt", "value": "It.", "loss": 1}])},
        optional={
            "images": st.just([]),
            "metadata": st.just('{"b": 1,   "a": "x"}') | st.just({"a": 1}) | st.just(""),
            "system": PLAIN
            | st.just('Say.\n<tools>\n{"a":1}\n{"b":2}\n</tools>\nNow.')
            | st.just("<tools>\n\n</tools>"),
            "id": st.integers(),
            "weight": JSON.filter(lambda value: value is not None),
        },
    )
)
def test_any_item_comes_back_the_same(item: dict[str, Any]) -> None:
    demonstration = from_sharegpt(item, [])
    stored = replace(demonstration, extra=json.loads(json.dumps(demonstration.extra)))
    back = to_sharegpt(stored, [])
    assert back.pop("images") == item.get("images", [])
    assert back == {name: value for name, value in item.items() if name != "images"}


def test_executed_demonstrations_come_back_the_same_in_the_published_shape(demonstrations: list[Demonstration]) -> None:
    for demonstration in demonstrations:
        item = json.loads(json.dumps(to_sharegpt(demonstration, names_of(demonstration))))
        assert item.keys() == {"conversations", "images", "metadata", "system"}
        assert [turn["from"] for turn in item["conversations"]][:2] == ["human", "gpt"]
        back = from_sharegpt(item, demonstration.images)
        assert to_sharegpt(back, names_of(demonstration)) == item
        check_turns(back)
        check_calls(back)
        assert (back.messages, back.images, back.tools) == (
            demonstration.messages,
            demonstration.images,
            demonstration.tools,
        )


def test_the_sample_type_is_inferred_from_the_turns(demonstrations: list[Demonstration]) -> None:
    """A wrong op and its correction look like two needed ops; only the plan tells them apart."""
    pairs = {(demonstration.sample_type, infer_sample_type(demonstration.messages)) for demonstration in demonstrations}
    assert {sample_type for sample_type, _ in pairs} == set(SampleType) - {SampleType.READ}
    assert {pair for pair in pairs if pair[0] != pair[1]} <= {(SampleType.ERROR_HANDLING, SampleType.MULTI_TOOL)}


def good() -> dict[str, Any]:
    return {
        "conversations": [
            {"from": "human", "value": "<image>\nWhat?"},
            {"from": "gpt", "value": "<think>a</think><answer>This.</answer>"},
        ],
        "images": ["a.png"],
        "metadata": '{"sample_type": "no-tool"}',
        "system": "",
    }


CALL = '<think>a</think><tool_call>{"name": "code_image_tool", "arguments": %s}</tool_call>'
BROKEN = [
    {"from": "human", "value": "<image>\nWhat?"},
    {"from": "gpt", "value": CALL % "{}"},
    {"from": "tool", "value": "Image 1."},
    {"from": "gpt", "value": "<think>a</think><answer>This.</answer>"},
]


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"conversations": good()["conversations"][:1]}, Reason.BAD_TURNS, "last turn isn't"),
        ({"conversations": good()["conversations"][::-1]}, Reason.BAD_TURNS, "turn 0 is assistant's"),
        ({"conversations": [{"from": "robot", "value": ""}]}, Reason.BAD_TURNS, "robot"),
        ({"conversations": [{"from": "human"}]}, Reason.BAD_TYPE, "value"),
        ({"conversations": None}, Reason.COLUMN_MISSING, "conversations"),
        ({"metadata": "{"}, Reason.BAD_JSON, "metadata"),
        ({"metadata": "[]"}, Reason.BAD_TYPE, "metadata"),
        ({"system": "<tools>\nnot json\n</tools>"}, Reason.BAD_JSON, "system"),
        ({"conversations": [*BROKEN[:2], {"from": "tool", "value": "<image>"}, BROKEN[3]]}, Reason.BAD_CALL, "turn 1"),
        ({"conversations": [BROKEN[0], {"from": "gpt", "value": "It is this."}]}, Reason.NO_ANSWER, "no <answer>"),
    ],
)  # fmt: skip
def test_a_bad_item_is_refused_by_its_field(change: dict[str, Any], reason: Reason, message: str) -> None:
    item = good() | change
    with pytest.raises(RowError, match=message) as refused:
        check_all(item)
    assert refused.value.reason is reason


def check_all(item: dict[str, Any]) -> None:
    turns = item["conversations"] or []
    demonstration = from_sharegpt(item, [b""] * sum(str(turn.get("value")).count(IMAGE_TAG) for turn in turns))
    check_turns(demonstration)
    check_calls(demonstration)


def test_a_call_that_can_not_be_read_is_allowed_if_it_was_answered_without_an_image() -> None:
    check_all(good() | {"conversations": BROKEN})


def test_a_tag_without_an_image_is_refused() -> None:
    with pytest.raises(RowError, match="1 <image> tags, but 0 images"):
        check_turns(from_sharegpt(good(), []))
