"""Digits that people wrote belong to one split each, and make rows as printed digits do."""

import io
from itertools import combinations
from string import digits

import numpy as np
import pytest
from PIL import Image

from data_prep.tasks.reading.glyphs import Mix, Writing, draw_rows, draw_test_rows
from data_prep.tasks.reading.handwriting import draw_digit, sample_numbers
from data_prep.tasks.reading.vocabulary import SPLITS

BY_HAND = Mix(writing=Writing.HANDWRITING)


def test_every_sample_belongs_to_one_split_and_every_split_has_many_of_each_digit() -> None:
    numbers = {split: {n for digit in digits for n in sample_numbers(digit, split)} for split in SPLITS}
    assert sum(map(len, numbers.values())) == 1797
    assert all(not numbers[one] & numbers[other] for one, other in combinations(SPLITS, 2))
    assert min(len(sample_numbers(digit, split)) for digit in digits for split in SPLITS) >= 10


@pytest.mark.parametrize("digit", digits)
def test_a_drawn_digit_is_a_sample_of_its_split_cut_to_its_ink(digit: str) -> None:
    drawn = draw_digit(np.random.default_rng(0), digit, "test")
    coverage = np.asarray(drawn)
    assert coverage.max() > 200
    edges = coverage[0].max(), coverage[-1].max(), coverage[:, 0].max(), coverage[:, -1].max()
    assert min(edges) >= 32
    assert drawn.tobytes() != draw_digit(np.random.default_rng(1), digit, "test").tobytes()


def test_rows_by_hand_have_numbers_only_and_the_same_seed_draws_the_same() -> None:
    rows = list(draw_rows(BY_HAND, 60, "train", "train"))
    assert {row.source for row in rows} == {"handwriting"}
    assert all(set(row.answers[0]) <= set(digits) for row in rows)
    assert rows == list(draw_rows(BY_HAND, 60, "train", "train"))
    assert {row.applied for row in rows} >= {(), ("rotate_90",), ("crop",)}


def test_the_six_columns_of_an_item_show_the_same_writing() -> None:
    source, turned, *_ = draw_test_rows(BY_HAND, 1)
    images = [Image.open(io.BytesIO(row.images[0])) for row in (source, turned)]
    assert images[1].transpose(Image.Transpose.ROTATE_90).tobytes() in (
        images[0].tobytes(),
        images[0].transpose(Image.Transpose.ROTATE_180).tobytes(),
    )
