"""A turn is parsed as it was written, and the error of a malformed call names what to change."""

import json
import re
from collections.abc import Callable
from string import Template

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codevision_ext.rollout.parsing import (
    format_score,
    has_call,
    malformed_messages,
    parse_answer,
    parse_call,
    turn_messages,
)
from codevision_ext.rollout.turn_parts import mask_calls, turn_parts
from codevision_ext.types import CallStatus, ToolCall

GOOD = {"code": "image = image.rotate(90)", "description": "turn", "image_index": 1}


def written(arguments: object = GOOD, name: object = "code_image_tool") -> str:
    return f"<think>a</think><tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def test_a_well_formed_call_is_read() -> None:
    expected = ToolCall(code="image = image.rotate(90)", description="turn", image_index=1)
    assert parse_call(written(), 2) == (CallStatus.OK, expected, "", len(written()))


def test_only_the_code_must_be_given() -> None:
    assert parse_call(written({"code": "x"}), 1).call == ToolCall(code="x", description="", image_index=0)


def test_code_may_hold_real_line_breaks_and_the_closing_tag() -> None:
    raw = '<tool_call>{"name": "code_image_tool", "arguments": {"code": "a = 1\n\tb = \'</tool_call>\'"}}</tool_call>'
    call = parse_call(raw, 1).call
    assert call is not None
    assert call.code == "a = 1\n\tb = '</tool_call>'"


@pytest.mark.parametrize("blank", ["\u00a0", "\ufeff", "\u200b", "\u3000", "\r\n"])
def test_blanks_that_nobody_sees_around_and_in_the_json_change_nothing(blank: str) -> None:
    request = f'{blank}{{{blank}"name":{blank}"code_image_tool", "arguments": {{"code": "x = 1"}}{blank}}}{blank}'
    turn = f"<think>a</think><tool_call>{request}</tool_call>"
    assert parse_call(turn, 1) == (CallStatus.OK, ToolCall(code="x = 1"), "", len(turn))


def test_a_call_that_is_only_thought_is_not_a_call() -> None:
    assert parse_call(f"<think>I could write {written()[16:]}</think><answer>x</answer>", 2).status is CallStatus.NONE
    assert parse_call(f"as in {written()[16:]}</think>{written({'code': 'real'})[16:]}", 2).call == ToolCall(
        code="real"
    )


def test_of_several_calls_each_is_read_where_the_one_before_ended() -> None:
    turn = written() + "<tool_call>{</tool_call> so " + written({"code": "second"})[16:]
    first = parse_call(turn, 2)
    second = parse_call(turn, 2, first.end)
    third = parse_call(turn, 2, second.end)
    assert (first.call and first.call.code, second.status) == (GOOD["code"], CallStatus.BAD_JSON)
    assert third.call == ToolCall(code="second")
    assert not has_call(turn, third.end)


def raw(json_text: str) -> str:
    return f"<think>a</think><tool_call>{json_text}</tool_call>"


MALFORMED: dict[tuple[str, str], tuple[str, dict[str, object]]] = {
    ("none", "no_call"): ("<think>a</think>I see a park.", {}),
    ("none", "other_format"): (written().replace("tool_call>", "tool_calls>"), {"format": "<tool_calls>"}),
    ("none", "thought"): (f"<think>I write {written()[16:]} now</think>", {}),
    ("none", "open_answer"): ("<think>a</think><answer>7", {}),
    ("none", "other_answer"): ("<think>a</think>So it is \\boxed{7}", {}),
    ("bad_json", "not_json"): (raw("rotate it"), {}),
    ("bad_json", "syntax"): (raw('{"name" "x"}'), {"line": 1, "column": 9, "reason": "expecting ':' delimiter"}),
    ("bad_json", "single_quotes"): (raw("{'name': 'code_image_tool'}"), {"line": 1, "column": 2}),
    ("bad_json", "escaped"): (raw('{\\"name\\": \\"x\\"}'), {"line": 1, "column": 2}),
    ("bad_json", "comma"): (raw('{\n"name": "x",\n}'), {"line": 3, "column": 1}),
    ("bad_json", "python_word"): (raw('{"name": None}'), {"line": 1, "column": 10}),
    ("bad_json", "bracket"): (raw('{"name": "x"'), {"line": 1, "column": 13}),
    ("bad_json", "quote"): (raw('{"name": "x", "arguments": {"code": "print("a")"}}'), {"line": 1, "column": 45}),
    ("bad_json", "open_string"): (raw('{"name": "x'), {"line": 1, "column": 10}),
    ("bad_json", "backslash"): (raw('{"name": "\\d"}'), {"line": 1, "column": 11}),
    ("bad_json", "fence"): (raw("\n```json\n{}\n```"), {}),
    ("bad_json", "behind"): (raw('{"name": "code_image_tool"} x'), {}),
    ("bad_json", "unclosed"): (written().removesuffix("</tool_call>"), {}),
    ("bad_json", "not_text"): (written({"code": "x = '\ud800'"}), {}),
    ("unknown_tool", "name"): (written(name="zoom<|image_pad|>"), {}),
    ("bad_arguments", "text"): (written(json.dumps(GOOD)), {}),
    ("bad_arguments", "not_an_object"): (written(["rotate"]), {}),
    ("bad_arguments", "unknown"): (written({**GOOD, "index": 1}), {}),
    ("bad_arguments", "code"): (written({"code": "  "}), {}),
    ("bad_arguments", "description"): (written({**GOOD, "description": 3}), {}),
    ("bad_arguments", "image_index"): (written({**GOOD, "image_index": "1"}), {}),
    ("bad_index", "out_of_range"): (written({**GOOD, "image_index": 2}), {"last": 1}),
}


@pytest.mark.parametrize(("status", "kind"), MALFORMED)
def test_each_kind_of_fault_has_its_status_and_its_sentence(status: str, kind: str) -> None:
    turn, words = MALFORMED[status, kind]
    parsed = parse_call(turn, 2)
    assert parsed.status == status
    assert parsed.message == Template(malformed_messages()[status][kind]).substitute(words)
    assert parsed.call is None


def test_there_is_a_sentence_for_every_status_and_a_case_for_every_sentence() -> None:
    others = {CallStatus.OK, CallStatus.BAD_BLOCK}  # no fault, and a fault of the dialect code_tags
    assert set(malformed_messages()) == {str(status) for status in CallStatus} - others
    assert set(MALFORMED) == {(status, kind) for status, kinds in malformed_messages().items() for kind in kinds}


def test_a_message_is_one_sentence() -> None:
    for status, kinds in [*malformed_messages().items(), ("of a turn", turn_messages())]:
        for message in [text for kind, text in kinds.items() if kind != "one_of_several"]:
            assert message.endswith("."), status
            assert len(re.findall(r"[.!?](?:\s|$)", message)) == 1, message


@pytest.mark.parametrize(
    "json_text",
    [
        "",
        "[]",
        '"x"',
        "null",
        "{",
        "{}{}",
        '{"name": "code_image_tool"} x',
        '{"a": tru',
        "'x'",
        "[" * 100_000,
        "9" * 5000,
        "```json\n{}\n```",
    ],
    ids=lambda text: text[:12],
)
def test_what_is_not_one_json_object_is_bad_json(json_text: str) -> None:
    assert parse_call(f"<tool_call>{json_text}</tool_call>", 1).status is CallStatus.BAD_JSON


CALL = '{"name": "code_image_tool", "arguments": {"code": "image.rotate(90)"}}'


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        ("```python\nimage = image.rotate(90)\n```", "a code fence (```)"),
        ("~~~\nimage = image.rotate(90)\n~~~", "a code fence (```)"),
        ("<code>image = image.rotate(90)</code>", "<code>"),
        ("<CODE>x</CODE>", "<code>"),
        (f"<tool_calls>{CALL}</tool_calls>", "<tool_calls>"),
        (f"<function_call>{CALL}</function_call>", "<function_call>"),
        ("<function=code_image_tool><parameter=code>x</parameter></function>", "<function>"),
        ('<invoke name="code_image_tool"><parameter name="code">x</parameter></invoke>', "<invoke>"),
        ("<tool_use><name>code_image_tool</name></tool_use>", "<tool_use>"),
        ("<code_image_tool>x</code_image_tool>", "<code_image_tool>"),
        (f"[TOOL_CALLS][{CALL}]", "[TOOL_CALLS]"),
        ("<|python_tag|>image.rotate(90)", "a special token"),
        ("<\uff5ctool\u2581calls\u2581begin\uff5c>function", "a special token"),
        ("Action: code_image_tool\nAction Input: x", "Action:"),
        (CALL, "JSON without a tag"),
        (f"{CALL}</tool_call>", "JSON without a tag"),
        ("image = image.rotate(90)", "code without a tag"),
        ("import cv2\nx = 1", "code without a tag"),
        ("    x = 5\n    y = images[0].crop((1, 2, 3, 4))\n    z = np.array(y)", "code without a tag"),
        (f"<TOOL_CALL>{CALL}</TOOL_CALL>", "another spelling of these tags"),
        (f'<tool_call id="1">{CALL}</tool_call>', "another spelling of these tags"),
        (f"< tool_call >{CALL}</ tool_call >", "another spelling of these tags"),
        ("<minimax:tool_call>x</minimax:tool_call>", "another spelling of these tags"),
    ],
)
def test_another_format_of_a_call_is_named_to_the_model(reply: str, name: str) -> None:
    for turn in (f"<think>a</think>{reply}", reply):
        parsed = parse_call(turn, 1)
        assert (parsed.status, parsed.call) == (CallStatus.NONE, None)
        assert parsed.message.endswith(f", not {name}; to finish write an <answer>.")


@pytest.mark.parametrize(
    "reply", ["I see <b>a park</b>.", "x < 3 and image > 2", "", "The image = a park? {7}", "<image>"]
)
def test_plain_words_are_taken_for_no_other_format(reply: str) -> None:
    assert parse_call(f"<think>a</think>{reply}", 1).message == malformed_messages()["none"]["no_call"]


@pytest.mark.parametrize(
    "reply", ["<ANSWER>7</ANSWER>", "< answer >7</ answer >", "7</answer>", "<final_answer>7", "Answer: 7"]
)
def test_an_answer_in_another_form_is_told_its_tags(reply: str) -> None:
    assert parse_call(f"<think>a</think>{reply}", 1).message == malformed_messages()["none"]["other_answer"]


TAGS_IN_CODE = [
    "print('</think>')",
    "print('</tool_call>')",
    "# <think> </think> <tool_call> </tool_call>\nimage = image",
    "print('<answer>9</answer>')",
    "s = '<tool_call>{}</tool_call></think>'",
]


@pytest.mark.parametrize("code", TAGS_IN_CODE)
@pytest.mark.parametrize("before", ["", "<think>a</think>", "a</think>", "<think>I use <tool_call> now</think>"])
def test_tags_inside_code_change_nothing(code: str, before: str) -> None:
    turn = before + written({"code": code})[16:]
    assert parse_call(turn, 1).call == ToolCall(code=code)
    assert not has_call(turn, parse_call(turn, 1).end)
    if before == "a</think>":
        assert format_score([turn, LAST.removeprefix("<think>")], prefix="<think>") == 1.0
    else:
        assert format_score([turn, LAST]) == float(bool(before))
    assert parse_answer([turn]) is None
    assert turn_parts(turn)[-1] == ("tool_call", written({"code": code})[16:].split("\n")[1])


def test_a_broken_call_with_tags_in_its_code_is_still_a_broken_call() -> None:
    for before in ("", "<think>a</think>"):
        parsed = parse_call(before + "<tool_call>{'code': 'print(</think>)'}</tool_call>", 1)
        assert (parsed.status, parsed.end) == (CallStatus.BAD_JSON, len(before) + 50)


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", CALL, "x"])
    )
)
def test_masking_a_turn_keeps_its_length_and_changes_only_calls(pieces: list[str]) -> None:
    text = "".join(pieces)
    masked = mask_calls(text)
    assert len(masked) == len(text)
    assert all(a == b or a == "_" for a, b in zip(masked, text, strict=True))
    assert sum(len(part.text) for part in turn_parts(text)) <= len(text) + len("<think>")


@pytest.mark.parametrize("index", [-1, 1, 10**30])
def test_an_index_of_no_image_is_refused(index: int) -> None:
    assert parse_call(written({**GOOD, "image_index": index}), 1).status is CallStatus.BAD_INDEX


@pytest.mark.parametrize("index", [True, 0.0, None, [0], "0"])
def test_an_index_that_is_no_whole_number_is_a_bad_argument(index: object) -> None:
    assert parse_call(written({**GOOD, "image_index": index}), 1).status is CallStatus.BAD_ARGUMENTS


@given(st.text(), st.text(), st.integers(0, 5))
def test_any_code_and_description_survive_the_round_trip(code: str, description: str, index: int) -> None:
    parsed = parse_call(written({"code": code, "description": description, "image_index": index}), 6)
    if code.strip():
        assert parsed.call == ToolCall(code=code, description=description, image_index=index)
    else:
        assert parsed.status is CallStatus.BAD_ARGUMENTS


pieces = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", "x", '{"name": 1}', " "]
    )
    | st.text(max_size=5)
).map("".join)


@given(st.lists(pieces, max_size=3), st.sampled_from(["", "<think>", "<think>\n\n</think>"]))
def test_no_text_breaks_the_reading_of_a_turn(turns: list[str], prefix: str) -> None:
    for turn in turns:
        status, call, message, _ = parse_call(turn, 1)
        assert (call is not None) == (status is CallStatus.OK)
        assert call is not None or message
    assert format_score(turns, prefix) in (0.0, 1.0)
    if format_score(turns, prefix) == 1.0:
        assert parse_answer([*turns[:-1], prefix + turns[-1]])


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ("<think>a</think><answer>x</answer>", 1.0),
        ("  \n<think>a</think><answer>x</answer>\n", 1.0),
        ("<think></think>so<answer> x </answer>", 1.0),
        ("<think>a</think><answer>x</answer> done", 0.0),
        ("<think>a</think><answer>x</answer><answer>y</answer>", 0.0),
        ("<think>a<answer>x</answer></think>", 0.0),
        ("<think>a<answer>x</answer></think><answer>x</answer>", 0.0),
        ("well <think>a</think><answer>x</answer>", 0.0),
        ("<think>a</think><answer>x", 0.0),
        ("<think>a</think>", 0.0),
        ("<think>a<answer>x</answer>", 0.0),
        ("<think>a</think><think>b</think><answer>x</answer>", 0.0),
        ("<answer>x</answer>", 0.0),
        ("<think>a</think><answer> </answer>", 0.0),
        ("", 0.0),
    ],
)
def test_the_format_of_one_turn_is_judged_as_specified(turn: str, expected: float) -> None:
    assert format_score([turn]) == expected


LAST = "<think>b</think><answer>x</answer>"


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([], 0.0),
        ([written(), LAST], 1.0),
        ([written(), written(), LAST], 1.0),
        ([written().replace("<think>a</think>", ""), LAST], 0.0),
        ([LAST, LAST], 0.0),
        ([LAST, written()], 0.0),
        ([written(), written()], 0.0),
    ],
)
def test_the_format_is_judged_per_turn(turns: list[str], expected: float) -> None:
    assert format_score(turns) == expected


def test_what_the_template_wrote_counts_as_part_of_every_turn() -> None:
    turns = [turn.removeprefix("<think>") for turn in (written(), LAST)]
    assert format_score(turns, prefix="<think>") == 1.0
    assert format_score(turns) == 0.0
    assert format_score([written(), LAST], prefix="<think>") == 0.0
    assert format_score(["<answer>x</answer>"], prefix="<think>\n\n</think>\n\n") == 1.0


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([LAST], "x"),
        (["<answer>a</answer><answer> b\nc </answer>"], "b\nc"),
        (["<answer>a</answer><answer>b"], "a"),
        (["<answer>a<answer>b</answer>"], "b"),
        (["<answer>a</answer>b</answer>"], "a"),
        (["<answer></answer>"], ""),
        ([LAST, "The answer is x"], None),
        (["the last line"], None),
        ([], None),
    ],
)
def test_the_answer_is_the_last_closed_one_of_the_last_turn(turns: list[str], expected: str | None) -> None:
    assert parse_answer(turns) == expected


@pytest.mark.parametrize(
    "read", [lambda t: parse_call(t, 1), lambda t: parse_answer([t]), lambda t: format_score([t]), turn_parts]
)
@pytest.mark.parametrize(
    "text",
    ["<answer><think><tool_call>", "</think>", "<tool_call></think>", "\n", "- ", "<code ", '{"', "<tool_call>{\u00a0"],
)
def test_reading_a_long_turn_of_opening_tags_takes_no_quadratic_time(read: Callable[[str], object], text: str) -> None:
    read(text * 100_000)
