"""The suite of real photographs and scans has questions with one answer and images whose licence is named."""

from collections import Counter

import pytest

from codevision_ext.errors import InputError
from codevision_ext.evaluate.suites import SUITES
from codevision_ext.evaluate.suites.base import read_suite
from data_prep import eval_items
from data_prep.tasks import real_images
from data_prep.tasks.real_images import REAL_IMAGES, RealImage, image_path, read_rows


def test_every_question_has_an_answer_that_its_image_name_does_not_give_away() -> None:
    rows = list(read_rows())
    assert len(rows) == 22
    assert all((row.licence and row.answers and row.question.endswith("?")) or "." in row.question for row in rows)
    assert all(answer.lower() not in row.picture_id for row in rows for answer in row.answers)
    assert {row.picture_id for row in rows} == set(REAL_IMAGES)


def test_the_suite_has_every_question_in_every_column() -> None:
    suite = SUITES["real"]
    items = read_suite(suite, eval_items.generate_items("real", 3, 0))
    assert Counter(item.item.column for item in items) == dict.fromkeys(suite.columns, 3)
    assert len({item.name for item in items}) == len(items) == 30
    again = read_suite(suite, eval_items.generate_items("real", 3, 0))
    assert [item.row["images"] for item in items] == [item.row["images"] for item in again]


def test_an_image_that_no_package_ships_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = RealImage(package="nowhere", path="a.png", licence="CC0-1.0", origin="nobody", questions=())
    with pytest.raises(InputError, match=r"nowhere isn't installed, or has no a\.png"):
        image_path(missing)
    monkeypatch.setattr(real_images, "REAL_IMAGES", {"a": missing})
    with pytest.raises(InputError, match="suite real"):
        list(read_rows())
