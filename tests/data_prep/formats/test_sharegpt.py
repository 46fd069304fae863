"""Do trajectories survive the way to CodeVision-SFT's schema and back, and items the way into ours?"""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.formats.row_errors import Reason, RowError
from data_prep.formats.schema import IMAGE_TAG, Demonstration, Message, SampleType
from data_prep.formats.sharegpt import check_calls, check_turns, from_sharegpt, kind_of, to_sharegpt
from data_prep.formats.turn_text import TOOLS

PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "<" not in text)


@st.composite
def made_up(draw: st.DrawFn) -> Demonstration:
    messages: list[Message] = []
    for turn in range(2 * draw(st.integers(1, 4))):
        role = "assistant" if turn % 2 else "tool" if turn else "user"
        tags = IMAGE_TAG * draw(st.integers(0, 2)) if role != "assistant" else ""
        messages.append(Message(role=role, content=tags + draw(PLAIN)))
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


def names_of(trajectory: Demonstration) -> list[str]:
    return [f"images/{number}.png" for number in range(len(trajectory.images))]


@given(made_up())
def test_a_trajectory_comes_back_the_same(trajectory: Demonstration) -> None:
    item = json.loads(json.dumps(to_sharegpt(trajectory, names_of(trajectory))))
    back = from_sharegpt(item, trajectory.images)
    assert replace(back, extra={}) == trajectory
    assert to_sharegpt(back, names_of(trajectory)) == item


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
    trajectory = from_sharegpt(item, [])
    kept = replace(trajectory, extra=json.loads(json.dumps(trajectory.extra)))
    back = to_sharegpt(kept, [])
    assert back.pop("images") == item.get("images", [])
    assert back == {name: value for name, value in item.items() if name != "images"}


def test_executed_trajectories_come_back_the_same_in_the_published_shape(trajectories: list[Demonstration]) -> None:
    for trajectory in trajectories:
        item = json.loads(json.dumps(to_sharegpt(trajectory, names_of(trajectory))))
        assert item.keys() == {"conversations", "images", "metadata", "system"}
        assert [turn["from"] for turn in item["conversations"]][:2] == ["human", "gpt"]
        back = from_sharegpt(item, trajectory.images)
        assert to_sharegpt(back, names_of(trajectory)) == item
        check_turns(back)
        check_calls(back)
        assert (back.messages, back.images, back.tools) == (
            trajectory.messages,
            trajectory.images,
            trajectory.tools,
        )


def test_the_sample_type_can_be_told_from_the_turns(trajectories: list[Demonstration]) -> None:
    """A wrong turn that is set right looks like two tools; only who planned it knows."""
    told = {(trajectory.sample_type, kind_of(trajectory.messages)) for trajectory in trajectories}
    assert {said for said, _ in told} == set(SampleType) - {SampleType.READ}
    assert {pair for pair in told if pair[0] != pair[1]} <= {(SampleType.ERROR_HANDLING, SampleType.MULTI_TOOL)}


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
    ("change", "reason", "said"),
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
def test_a_bad_item_is_refused_by_its_field(change: dict[str, Any], reason: Reason, said: str) -> None:
    item = good() | change
    with pytest.raises(RowError, match=said) as refused:
        check_all(item)
    assert refused.value.reason is reason


def check_all(item: dict[str, Any]) -> None:
    turns = item["conversations"] or []
    trajectory = from_sharegpt(item, [b""] * sum(str(turn.get("value")).count(IMAGE_TAG) for turn in turns))
    check_turns(trajectory)
    check_calls(trajectory)


def test_a_call_that_can_not_be_read_is_good_where_the_model_was_told() -> None:
    check_all(good() | {"conversations": BROKEN})


def test_a_tag_without_a_image_is_refused() -> None:
    with pytest.raises(RowError, match="1 <image> tags, but 0 images"):
        check_turns(from_sharegpt(good(), []))
