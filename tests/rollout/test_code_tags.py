"""A turn of the dialect `code_tags` is parsed as it was written, in any fence, with any tags in its code."""

import ast
import re
from collections.abc import Callable
from string import Template

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from codevision_ext.rollout.dialects.base import read_messages
from codevision_ext.rollout.dialects.code_tags import find_block
from codevision_ext.rollout.dialects.registry import CODE_TAGS, DIALECTS, TOOL_CALL, dialect_of, split_message
from codevision_ext.rollout.parsing import malformed_messages
from codevision_ext.types import CallStatus, ToolCall

CODE = "img = Image.open(image_path)\nimg.save(processed_path)"
FENCES = {
    "backticks": f"```python\n{CODE}\n```",
    "no language": f"```\n{CODE}\n```",
    "py": f"```py\n{CODE}\n```",
    "capital": f"```Python\n{CODE}\n```",
    "quotes": f"'''python\n{CODE}\n'''",
    "double quotes": f'"""python\n{CODE}\n"""',
    "tildes": f"~~~python\n{CODE}\n~~~",
    "four backticks": f"````python\n{CODE}\n````",
    "open fence": f"```python\n{CODE}",
    "none": CODE,
}
SENTENCES = read_messages("code_tags/malformed.json")


def block(inner: str) -> str:
    return f"<think>I mark it.\n<code>\n{inner}\n</code>"


@pytest.mark.parametrize("written", FENCES.values(), ids=FENCES)
def test_code_is_read_in_every_fence_and_without_one(written: str) -> None:
    turn = block(written)
    assert CODE_TAGS.parse_call(turn, 1) == (CallStatus.OK, ToolCall(code=CODE), "", len(turn))
    assert CODE_TAGS.call_end(turn, complete=False) == len(turn)
    assert CODE_TAGS.parse_call(turn.replace("\n</code>", "</code>").replace("<code>\n", "<code>"), 1).call == ToolCall(
        code=CODE
    )


TAGS_IN_CODE = [
    "print('</code>')",
    "print('<code>x</code>')",
    'print("</think><answer>9</answer>")',
    "s = '''\n</code>\n'''",
    's = """<answer>9</answer></code>"""',
    "s = 'it\\'s </code>'",
    "print('<sandbox_output></sandbox_output>')",
    "print('<tool_call>{}</tool_call>')",
    "print('''```''')",
]


@pytest.mark.parametrize("code", TAGS_IN_CODE)
@pytest.mark.parametrize("fence", ["```python\n{}\n```", "'''python\n{}\n'''", '"""python\n{}\n"""', "{}"])
def test_tags_in_strings_of_the_code_change_nothing(code: str, fence: str) -> None:
    assume_ok = not ("'''" in code and "'''" in fence) and not ('"""' in code and '"""' in fence)
    if not assume_ok:
        pytest.skip("the fence would end in the string")
    turn = block(fence.format(code))
    assert CODE_TAGS.parse_call(turn, 1).call == ToolCall(code=code)
    assert not CODE_TAGS.has_call(turn, CODE_TAGS.parse_call(turn, 1).end)
    last = "so</think>\n<answer>x</answer>"
    assert CODE_TAGS.parse_answer([turn]) is None
    assert CODE_TAGS.parse_answer([turn, last]) == "x"
    assert CODE_TAGS.format_score([turn, last]) == 1.0
    assert [part.kind for part in CODE_TAGS.parts(turn)] == ["think", "code"]
    for at in range(len(turn)):
        if turn[:at].endswith("</code>") and at < len(turn):
            assert CODE_TAGS.call_end(turn[:at], complete=False) is None, "the policy isn't done"


@pytest.mark.parametrize("fence", ["```python\n{}\n```", "'''python\n{}\n'''"])
def test_tags_in_comments_of_fenced_code_change_nothing(fence: str) -> None:
    code = "# </code> ends it, <answer>9</answer> too\nx = 1"
    assert CODE_TAGS.parse_call(block(fence.format(code)), 1).call == ToolCall(code=code)


def test_without_a_fence_a_comment_may_stand_before_the_closing_tag() -> None:
    turn = "<think>a <code>x = 1  # it's done</code>"
    assert CODE_TAGS.parse_call(turn, 1).call == ToolCall(code="x = 1  # it's done")
    assert CODE_TAGS.call_end(turn, complete=False) == len(turn)


def test_a_string_that_never_ends_hides_the_closing_tag_only_while_the_turn_may_go_on() -> None:
    turn = "<think>a <code>print('it's')</code>"
    assert CODE_TAGS.call_end(turn, complete=False) is None
    assert CODE_TAGS.call_end(turn, complete=True) == len(turn)
    assert CODE_TAGS.parse_call(turn, 1).call == ToolCall(code="print('it's')")


def test_words_behind_the_fence_are_no_code_that_could_hide_the_closing_tag() -> None:
    turn = f"<think>a <code>\n```python\n{CODE}\n```\nThat's the line.</code>"
    assert CODE_TAGS.call_end(turn, complete=False) == len(turn)


def test_a_tag_that_is_only_spoken_of_begins_no_block() -> None:
    turn = f"<think>I use <code> now: {block(CODE).removeprefix('<think>')}"
    assert CODE_TAGS.parse_call(turn, 1).call == ToolCall(code=CODE)


def test_of_several_blocks_each_is_read_where_the_one_before_ended() -> None:
    turn = block("a = 1") + "\n<code>\n</code> so " + block("b = 2").removeprefix("<think>")
    first = CODE_TAGS.parse_call(turn, 1)
    second = CODE_TAGS.parse_call(turn, 1, first.end)
    third = CODE_TAGS.parse_call(turn, 1, second.end)
    assert (first.call, second.message) == (ToolCall(code="a = 1"), SENTENCES["bad_block"]["empty"])
    assert third.call == ToolCall(code="b = 2")
    assert not CODE_TAGS.has_call(turn, third.end)
    assert CODE_TAGS.call_end(turn, complete=True) == first.end


MALFORMED: dict[tuple[str, str], tuple[str, int, dict[str, str]]] = {
    ("none", "no_call"): ("<think>I see a park.</think>", 1, {}),
    ("none", "other_format"): ("<think>a</think><tool_call>{}</tool_call>", 1, {"format": "<tool_call>"}),
    ("none", "thought"): ("<think>so it is <answer>7</answer>", 1, {}),
    ("none", "open_answer"): ("<think>a</think><answer>7", 1, {}),
    ("none", "other_answer"): ("<think>a</think>So it is \\boxed{7}", 1, {}),
    ("bad_block", "unclosed"): (f"<think>a\n<code>\n```python\n{CODE}\n```\n", 1, {}),
    ("bad_block", "empty"): (block("```python\n\n```"), 1, {}),
    ("bad_index", "no_image"): (block(CODE), 0, {}),
}


@pytest.mark.parametrize(("status", "kind"), MALFORMED)
def test_each_kind_of_fault_has_its_status_and_its_sentence(status: str, kind: str) -> None:
    turn, images, words = MALFORMED[status, kind]
    parsed = CODE_TAGS.parse_call(turn, images)
    assert (parsed.status, parsed.call) == (status, None)
    assert parsed.message == Template(SENTENCES[status][kind]).substitute(words)
    assert len(re.findall(r"[.!?](?:\s|$)", parsed.message)) == 1, parsed.message


def test_there_is_a_case_for_every_sentence() -> None:
    assert set(MALFORMED) == {(status, kind) for status, kinds in SENTENCES.items() for kind in kinds}
    assert set(SENTENCES) | set(malformed_messages()) == {str(status) for status in CallStatus} - {CallStatus.OK}


@pytest.mark.parametrize(
    "inner", ["", " \n ", "```python\n```", "'''python\n'''", "```", "```python"], ids=lambda inner: repr(inner)
)
def test_a_block_without_python_is_no_call(inner: str) -> None:
    parsed = CODE_TAGS.parse_call(f"<think>a <code>{inner}</code>", 1)
    assert (parsed.status, parsed.message) == (CallStatus.BAD_BLOCK, SENTENCES["bad_block"]["empty"])


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (f"```python\n{CODE}\n```", "a code fence (```)"),
        ("<tool_call>{}</tool_call>", "<tool_call>"),
        ("<python>x</python>", "<python>"),
        ("<tool_call>\n", "<tool_call>"),
        ("< code >x</ code >", "another spelling of these tags"),
        ("<CODE>x</CODE>", "another spelling of these tags"),
        ('<code lang="python">x</code>', "another spelling of these tags"),
        ("image = image.rotate(90)", "code without a tag"),
    ],
)
def test_another_format_of_a_call_is_named_to_the_model(reply: str, name: str) -> None:
    message = CODE_TAGS.parse_call(f"<think>a</think>{reply}", 1).message
    assert message == Template(SENTENCES["none"]["other_format"]).substitute(format=name)


ANSWERED = "so</think> <answer>x</answer>"


@pytest.mark.parametrize(
    ("turns", "answer", "kept"),
    [
        ([f"<think>a{ANSWERED}"], "x", 1.0),
        ([block(CODE), ANSWERED], "x", 1.0),
        ([block(CODE), block(CODE).removeprefix("<think>"), ANSWERED], "x", 1.0),
        ([block(CODE) + "\n", ANSWERED], "x", 1.0),
        ([block(CODE), "<answer>x</answer>"], None, 0.0),
        ([block(CODE), "a <answer>5</answer> " + ANSWERED], "x", 1.0),
        ([block(CODE), "a <answer>5</answer></think>"], None, 0.0),
        ([f"<think><answer>5</answer>{CODE}"], None, 0.0),
        (["<answer>x</answer>"], "x", 0.0),
        ([f"<think>a{ANSWERED} done"], "x", 0.0),
        ([f"<think>a{ANSWERED}<answer>y</answer>"], "y", 0.0),
        (["<think>a</think>so<answer>x</answer>"], "x", 0.0),
        (["<think>a</think><answer> </answer>"], "", 0.0),
        (["<think>a</think>" + block(CODE).removeprefix("<think>"), "<answer>x</answer>"], "x", 0.0),
        (["<think>It never ends. <code>", f"<think>a{ANSWERED}"], "x", 0.0),
        (["<think>a", "<answer>x</answer>"], "x", 0.0),
        ([f"<think>a <sandbox_output>9</sandbox_output>{ANSWERED}"], "x", 0.0),
        ([block(CODE)], None, 0.0),
        ([block(CODE).removesuffix("</code>") + ANSWERED], None, 0.0),
        ([], None, 0.0),
    ],
)
def test_an_answer_stands_behind_the_thought_and_the_format_is_one_of_each(
    turns: list[str], answer: str | None, kept: float
) -> None:
    assert CODE_TAGS.parse_answer(turns) == answer
    assert CODE_TAGS.format_score(turns) == kept


def test_what_the_template_wrote_counts_once_a_message() -> None:
    turns = [block(CODE).removeprefix("<think>"), ANSWERED]
    assert (CODE_TAGS.format_score(turns, "<think>"), CODE_TAGS.format_score(turns)) == (1.0, 0.0)


def test_an_observation_stands_in_the_message_of_a_turn_that_ends_with_its_code() -> None:
    frame = ("<sandbox_output>", "</sandbox_output>")
    assert CODE_TAGS.frame(block(CODE)) == CODE_TAGS.frame(block(CODE) + " \n") == frame
    for turn in ("", ANSWERED, block(CODE) + " so", "</code>", "<think><code>x"):
        assert CODE_TAGS.frame(turn) is None
    assert (CODE_TAGS.observed("Picture 1: 4x2.", 1), CODE_TAGS.observed("4", 0)) == ("", "4")
    assert TOOL_CALL.frame(block(CODE)) is None


def test_a_message_is_split_at_its_outputs_and_no_other_one_is() -> None:
    second = block("y = '<sandbox_output>'").removeprefix("<think>")
    outputs = ["\n<sandbox_output> <image> </sandbox_output>", "<sandbox_output>4</sandbox_output>"]
    message = f"{block(CODE)}{outputs[0]}{second}{outputs[1]}b{ANSWERED}"
    assert split_message(message) == [
        ("assistant", block(CODE)),
        ("tool", "<image>"),
        ("assistant", second),
        ("tool", "4"),
        ("assistant", f"b{ANSWERED}"),
    ]
    for text in (ANSWERED, block(CODE), "<sandbox_output>4</sandbox_output>", ""):
        assert split_message(text) == [("assistant", text)]


def test_the_first_call_of_a_conversation_says_its_dialect() -> None:
    calls = {
        name: dialect.call_text("a", ToolCall(code="s = '<code> <tool_call>'"), first=True)
        for name, dialect in DIALECTS.items()
    }
    for name, call in calls.items():
        assert (
            dialect_of([("user", "<code>"), ("assistant", call), ("tool", "x"), ("assistant", "y")]) is DIALECTS[name]
        )
        assert dialect_of([("user", "x"), ("assistant", call)]) is None


lines = st.lists(
    st.sampled_from(
        [
            "x = 1",
            "print('</code>')",
            "# <code> it's",
            's = "</think>"',
            "if x:",
            "    y = '''a'''",
            "",
            "# </code>",
            "z = f(x)",
        ]
    ),
    min_size=1,
).map("\n".join)


@given(lines, st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.booleans(), st.integers(0, 2))
def test_a_call_that_was_written_is_read(code: str, thought: str, first: bool, index: int) -> None:
    assume(code.strip())
    assume("<" not in thought)
    turn = CODE_TAGS.call_text(thought, ToolCall(code=code, image_index=index), first=first)
    call = CODE_TAGS.parse_call(turn, 3).call
    assert call is not None
    chosen = f"image = images[{index}]\n" if index else ""
    assert call.code == (chosen + code).strip("\n")
    assert CODE_TAGS.call_end(turn, complete=False) == len(turn)
    assert CODE_TAGS.frame(turn)
    assert CODE_TAGS.parse_answer([turn, CODE_TAGS.answer_text("b", "x", first=False)]) == "x"


odd = st.lists(
    st.sampled_from(["</code>", "<code>", "</think>", "<answer>", "'", '"', "```", "\\", "#", "x ", "{", "'''"]),
    max_size=6,
).map("".join)
statements = st.one_of(
    odd.map(lambda text: f"s = {text!r}"),
    odd.map(lambda text: f"# {text}"),
    odd.map(lambda text: f"print({text!r})  # {text}"),
    st.just("if 1:\n    x = 2"),
)


@given(st.lists(statements, min_size=1).map("\n".join))
def test_any_program_is_read_whole_in_a_fence(code: str) -> None:
    ast.parse(code)
    turn = f"<think>a\n<code>\n```python\n{code}\n```\n</code>"
    assert CODE_TAGS.parse_call(turn, 1).call == ToolCall(code=code)
    assert [CODE_TAGS.call_end(turn[:at], complete=False) for at in range(len(turn) + 1)] == [None] * len(turn) + [
        len(turn)
    ]


pieces = st.lists(
    st.sampled_from(
        [
            *("<think>", "</think>", "<code>", "</code>", "<answer>", "</answer>"),
            *("<sandbox_output>", "</sandbox_output>", "```python\n", "```", "'''", '"', "'", "#", "\n", "x", " "),
        ]
    )
    | st.text(max_size=4)
).map("".join)


@given(st.lists(pieces, max_size=4), st.sampled_from(["", "<think>"]))
def test_no_text_breaks_the_reading_of_a_turn(turns: list[str], prefix: str) -> None:
    for turn in turns:
        parsed = CODE_TAGS.parse_call(turn, 1)
        assert (parsed.call is not None) == (parsed.status is CallStatus.OK)
        assert parsed.call is not None or parsed.message
        early, late = (CODE_TAGS.call_end(turn, complete=complete) for complete in (False, True))
        assert early in (None, late)
        if late is not None:
            cut = turn[:late]
            assert cut.endswith("</code>")
            assert CODE_TAGS.call_end(cut, complete=True) == late
            assert CODE_TAGS.frame(cut), "an observation follows in the same message"
        if "<sandbox_output>" not in turn:
            assert CODE_TAGS.turns(turn) == [("assistant", turn)]
        assert sum(len(part.text) for part in CODE_TAGS.parts(turn)) <= len(turn)
    assert CODE_TAGS.format_score(turns, prefix) in (0.0, 1.0)
    if CODE_TAGS.format_score(turns, prefix) == 1.0:
        assert CODE_TAGS.parse_answer(turns)


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "<code>", "</code>", "x1", "y2", "z3"]))
)
def test_no_word_of_a_turn_is_lost_to_its_reader(words: list[str]) -> None:
    shown = " ".join(part.text for part in CODE_TAGS.parts(" ".join(words)))
    for word in ("x1", "y2", "z3"):
        assert shown.count(word) == words.count(word)


@pytest.mark.parametrize(
    "read",
    [
        lambda text: CODE_TAGS.parse_call(text, 1),
        lambda text: CODE_TAGS.call_end(text, complete=False),
        lambda text: CODE_TAGS.parse_answer([text]),
        lambda text: CODE_TAGS.format_score([text]),
        CODE_TAGS.parts,
        CODE_TAGS.turns,
        CODE_TAGS.frame,
        find_block,
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "<answer><think><code>",
        "</code>",
        "<code></think>",
        "\n",
        "'",
        '"',
        "<code>'",
        "<code>```python\n",
        "#</code>\n",
        "<code></code>",
    ],
)
def test_reading_a_long_turn_of_tags_takes_no_quadratic_time(read: Callable[[str], object], text: str) -> None:
    read(text * 50_000)
