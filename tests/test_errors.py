"""Every error gives one line, whatever its message is."""

from pathlib import Path

import pytest

from codevision_ext.errors import first_line, last_line


@pytest.mark.parametrize(
    ("error", "first", "last"),
    [
        (EOFError(), "EOFError", "EOFError"),
        (OSError(" \n\t\n"), "OSError", "OSError"),
        (ValueError("one line"), "one line", "one line"),
        (RuntimeError("\n  Traceback:\n  ...\nValueError: the cause\n\n"), "Traceback:", "ValueError: the cause"),
        ("refused\nsee above", "refused", "see above"),
        ("", "no message", "no message"),
    ],
)
def test_the_first_and_the_last_line_of_a_message_are_there_even_where_it_is_empty(
    error: BaseException | str, first: str, last: str
) -> None:
    assert (first_line(error), last_line(error)) == (first, last)


def test_no_module_takes_a_line_of_a_message_that_may_be_empty() -> None:
    root = Path(__file__).parents[1]
    sources = [path for package in ("codevision_ext", "data_prep") for path in (root / package).rglob("*.py")]
    assert len(sources) > 100
    assert [path for path in sources if "str(error).splitlines()" in path.read_text(encoding="utf-8")] == [
        root / "codevision_ext" / "errors.py"
    ]
