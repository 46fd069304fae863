"""Tests that splits share no text, and that every text has one right answer."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codevision_ext.task.answers import is_correct
from data_prep.tasks.common import font_folder
from data_prep.tasks.reading.drawing import FONTS
from data_prep.tasks.reading.vocabulary import SPLITS, letter_strings, number_words, reads_one_way, words


def texts_of(split: str) -> set[str]:
    return {*number_words(split), *words(split)}


@pytest.mark.parametrize(("one", "other"), list(combinations(SPLITS, 2)))
def test_no_text_and_no_font_serves_two_splits(one: str, other: str) -> None:
    assert not texts_of(one) & texts_of(other)
    assert not set(FONTS[one]) & set(FONTS[other])


def test_letter_strings_hold_no_word_of_any_split() -> None:
    assert not set(letter_strings()) & set().union(*map(texts_of, SPLITS))


def test_every_split_has_enough_of_both_kinds() -> None:
    assert [len(number_words(split)) > 30 and len(words(split)) > 8 for split in SPLITS] == [True] * 3
    assert 0.6 < len(number_words("train")) / sum(len(number_words(split)) for split in SPLITS) < 0.8


def test_every_font_is_there() -> None:
    assert all((font_folder() / f"{font}.ttf").is_file() for fonts in FONTS.values() for font in fonts)


@pytest.mark.parametrize("text", ["689", "108", "TOM", "BID", "NOW", "383"])
def test_a_text_that_reads_after_a_mirror_or_a_half_turn_is_not_used(text: str) -> None:
    assert not reads_one_way(text)
    assert not any(text in texts_of(split) for split in SPLITS)


@given(st.data())
def test_a_text_is_right_for_itself_and_wrong_for_any_other(data: st.DataObject) -> None:
    texts = st.sampled_from([*number_words("test"), *words("test"), *number_words("train"), *words("train")])
    one, other = data.draw(texts), data.draw(texts)
    assert is_correct(one, [other]) is (one == other)
