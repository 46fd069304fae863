"""Do trajectories survive the way to CodeVision-SFT's schema and back?"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codevision_ext.errors import InputError
from data_prep.schema import IMAGE_TAG, Message, Trajectory
from data_prep.sharegpt import from_sharegpt, to_sharegpt
from data_prep.trajectories import TOOLS

PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "<" not in text)


@st.composite
def made_up(draw: st.DrawFn) -> Trajectory:
    messages: list[Message] = []
    for turn in range(2 * draw(st.integers(1, 4))):
        role = "assistant" if turn % 2 else "tool" if turn else "user"
        tags = IMAGE_TAG * draw(st.integers(0, 2)) if role != "assistant" else ""
        messages.append(Message(role=role, content=tags + draw(PLAIN)))
    count = sum(message.content.count(IMAGE_TAG) for message in messages)
    return Trajectory(
        messages=tuple(messages),
        images=tuple(draw(st.binary(max_size=4)) for _ in range(count)),
        sample_type="single-tool",
        tools=draw(st.sampled_from(["", TOOLS])),
        metadata={"sample_type": "single-tool", "answer": draw(PLAIN)},
    )


def names_of(trajectory: Trajectory) -> list[str]:
    return [f"images/{number}.png" for number in range(len(trajectory.images))]


@given(made_up())
def test_a_trajectory_comes_back_the_same(trajectory: Trajectory) -> None:
    item = json.loads(json.dumps(to_sharegpt(trajectory, names_of(trajectory))))
    assert from_sharegpt(item, trajectory.images, "here") == trajectory


def test_executed_trajectories_come_back_the_same_in_the_published_shape(trajectories: list[Trajectory]) -> None:
    for trajectory in trajectories:
        item = json.loads(json.dumps(to_sharegpt(trajectory, names_of(trajectory))))
        assert item.keys() == {"conversations", "images", "metadata", "system"}
        assert [turn["from"] for turn in item["conversations"]][:2] == ["human", "gpt"]
        back = from_sharegpt(item, trajectory.images, "here")
        assert to_sharegpt(back, names_of(trajectory)) == item
        assert (back.messages, back.images, back.tools) == (
            trajectory.messages,
            trajectory.images,
            trajectory.tools,
        )


def good() -> dict[str, Any]:
    return {
        "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "This."}],
        "images": ["a.png"],
        "metadata": '{"sample_type": "no-tool"}',
        "system": "",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conversations": good()["conversations"][:1]}, "last turn isn't"),
        ({"conversations": good()["conversations"][::-1]}, "turn 0 is assistant's"),
        ({"conversations": [{"from": "robot", "value": ""}]}, "robot"),
        ({"conversations": [{"from": "human"}]}, "value"),
        ({"conversations": None}, "here: "),
        ({"metadata": "{}"}, "sample_type"),
        ({"metadata": "{"}, "here: "),
        ({"metadata": "[]"}, "here: "),
        ({"system": "<tools>\nnot json\n</tools>"}, "here: "),
    ],
)
def test_a_bad_item_is_refused_in_one_sentence(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        from_sharegpt(good() | change, [b""], "here")
    assert str(refused.value).startswith("here: ")


def test_a_tag_without_a_picture_is_refused() -> None:
    with pytest.raises(InputError, match="1 <image> tags, but 0 pictures"):
        from_sharegpt(good(), [], "here")
