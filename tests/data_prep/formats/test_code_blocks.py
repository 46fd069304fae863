"""A reply with code is split into thoughts and blocks, whatever its fences are."""

import pytest

from data_prep.formats.readers.code_blocks import split_reply
from data_prep.formats.row_errors import RowError

CODE = "import cv2\nimg = cv2.imread(image_path)"


@pytest.mark.parametrize(
    "block",
    [
        f"<code>\n```python\n{CODE}\n```\n</code>",
        f"<code>\n'''python\n{CODE}\n'''\n</code>",
        f"<code>```\n{CODE}\n```</code>",
        f"<code>\n{CODE}\n</code>",
        f"<code>{CODE}</code>",
        f"```python\n{CODE}\n```",
        f"```Python \n{CODE}\n```",
        f"```py\n{CODE}\n```",
        f"```\n{CODE}\n```",
        f"'''python\n{CODE}\n'''",
        f"~~~python\n{CODE}\n~~~",
    ],
)
def test_every_fence_and_none_gives_the_same_block(block: str) -> None:
    output = "<sandbox_output><image></sandbox_output>"
    text = f"<think>I draw.\n{block}\n{output}\nIt is 5.</think>\n<answer>5</answer>"
    reply = split_reply(text, "f")
    assert reply.blocks == (("I draw.", CODE),)
    assert reply.conclusion == "It is 5."


def test_blocks_keep_their_order_and_the_thoughts_between_them() -> None:
    first = "<code>\n```python\na = 1\n```\n</code> <sandbox_output>1</sandbox_output>"
    text = f"One {first} two ```python\nb = '''x'''\n``` three"
    reply = split_reply(text, "f")
    assert (reply.blocks, reply.conclusion) == ((("One", "a = 1"), ("two", "b = '''x'''")), "three")


def test_code_keeps_its_indentation_and_its_quotes() -> None:
    code = "def f():\n    '''Draw.'''\n    return \"```\""
    assert split_reply(f"<code>\n```python\n{code}\n```\n</code>", "f").blocks[0][1] == code
    assert split_reply("<code>\n    a = 1\n    b = 2\n</code>", "f").blocks[0][1] == "    a = 1\n    b = 2"


def test_other_text_with_quotes_is_no_block() -> None:
    reply = split_reply("It's '''big''' and 5' long.", "f")
    assert (reply.blocks, reply.conclusion) == ((), "It's '''big''' and 5' long.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("think <code>\n```python\na = 1\n```", r"f: block 1 \(<code>\) has no end"),
        ("think <code>\na = 1", r"f: block 1 \(<code>\) has no end"),
        ("think ```python\na = 1", r"f: block 1 \(```\) has no end"),
        ("think '''python\na = 1", r"f: block 1 \('''python\) has no end"),
        ("a = 1 </code>", r"f: block 1 \(</code>\) begins nowhere"),
        ("```python\na = 1\n``` and ```python\nb = 2", r"f: block 2 \(```\) has no end"),
        ("<code> \n</code>", "f: block 1 has no code"),
        ("```python\n```", "f: block 1 has no code"),
    ],
)
def test_a_block_without_an_end_is_named(text: str, message: str) -> None:
    with pytest.raises(RowError, match=message):
        split_reply(text, "f")
