"""Tests that rows have the image, the applied ops and the box that they name."""

import io
from collections import Counter
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from codevision_ext import geometry
from codevision_ext.errors import InputError
from codevision_ext.types import Box
from data_prep.formats.schema import RL_SCHEMA, Row, rl_record
from data_prep.tasks.reading.drawing import (
    FONTS,
    MIN_CONTRAST,
    NOISE,
    RULE_PX,
    TEXT_PX,
    draw_colours,
    draw_text,
    font_stencil,
)
from data_prep.tasks.reading.glyphs import (
    CELL,
    COLUMNS,
    GRID,
    ORIENTATION_OPS,
    UNREADABLE,
    Mix,
    Writing,
    draw_reading_rows,
    draw_rows,
    draw_test_rows,
)
from data_prep.tasks.reading.vocabulary import SPLITS


def image(row: Row) -> Image.Image:
    return Image.open(io.BytesIO(row.images[0]))


def upright(row: Row) -> Image.Image:
    """The row's image with everything that was applied undone."""
    orientation = geometry.compose_all(geometry.orientation_of(op) for op in row.applied if op != "crop")
    return geometry.apply(geometry.inverse(orientation), image(row))


def contrast(image: Image.Image) -> int:
    pixels = np.asarray(image.convert("L"), dtype=int)
    return int(pixels.max() - pixels.min())


@pytest.fixture(scope="module")
def many() -> list[Row]:
    return list(draw_rows(Mix(seed=3), 400, "train", "train"))


def test_the_same_seed_draws_the_same_rows_and_another_seed_others() -> None:
    first, again, other = (list(draw_rows(Mix(seed=seed), 20, "val", "val")) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_asking_for_more_rows_changes_none_of_the_first() -> None:
    few, more = (draw_rows(Mix(), count, "train", "train") for count in (5, 50))
    assert list(few) == list(islice(more, 5))


def test_the_six_columns_of_an_item_show_one_image() -> None:
    rows = list(draw_test_rows(Mix(), 3))
    assert [row.index for row in rows] == list(range(18))
    for item in range(3):
        six = rows[6 * item : 6 * item + 6]
        assert [row.column for row in six] == list(COLUMNS)
        assert [row.applied for row in six] == [(op,) if op else () for op in COLUMNS.values()]
        assert len({upright(row).tobytes() for row in six}) == 1
        assert len({image(row).tobytes() for row in six}) == 6
        assert len({(row.question, row.answers, row.split) for row in six}) == 1


def test_the_shares_are_those_of_the_mix(many: list[Row]) -> None:
    kinds = Counter("source" if not row.applied else "crop" if row.box else "turned" for row in many)
    assert kinds["source"] / len(many) == pytest.approx(1 / 6, abs=0.05)
    assert kinds["crop"] / len(many) == pytest.approx(0.15, abs=0.05)
    assert {row.applied for row in many if not row.box} == {(), *((op,) for op in ORIENTATION_OPS)}
    words = sum(row.question == "What word is written?" for row in many)
    assert words / len(many) == pytest.approx(0.1, abs=0.05)


def test_a_box_is_a_cell_of_the_upright_page_and_holds_all_of_the_text(many: list[Row]) -> None:
    pages = [row for row in many if row.box]
    assert any(len(row.applied) == 2 for row in pages)
    for row in pages:
        assert row.applied[0] == "crop"
        assert row.box is not None
        assert row.size == image(row).size
        page = upright(row)
        assert page.size == (GRID[0] * CELL[0], GRID[1] * CELL[1])
        orientation = geometry.compose_all(geometry.orientation_of(op) for op in row.applied[1:])
        cell = geometry.map_box(row.box, geometry.inverse(orientation), row.size)
        assert (cell.x1 % CELL[0], cell.y1 % CELL[1]) == (0, 0)
        assert (cell.x2 - cell.x1, cell.y2 - cell.y1) == CELL
        inside, rest = page.crop(tuple(map(int, cell))), page.copy()
        assert contrast(inside) >= MIN_CONTRAST
        paper = inside.getpixel((CELL[0] - 1, 0))
        rest.paste(Image.new("RGB", CELL, paper), tuple(map(int, cell[:2])))
        assert contrast(rest) < contrast(inside) / 2


def test_characters_are_tall_enough_and_whole_beside_the_margin_and_above_the_rule() -> None:
    rng = np.random.default_rng(0)
    for font in (font for split in SPLITS for font in FONTS[split]):
        for size in Mix().sizes:
            colours = draw_colours(rng)
            pixels = draw_text(rng, "QMW", partial(font_stencil, font_name=font), size, colours).astype(int)
            assert pixels.shape == (size[1], size[0], 3)
            paper = np.asarray(colours.paper)
            inked = np.abs(pixels - paper).max(axis=2) > 3 * NOISE
            assert inked[-RULE_PX:].all()
            assert inked[:, :RULE_PX].all()
            inked = inked[:-RULE_PX, RULE_PX:]
            assert np.ptp(np.nonzero(inked.any(axis=1))) + 1 >= TEXT_PX[0] - 2
            assert not np.concatenate([inked[0], inked[:, -1]]).any()


def test_ink_and_paper_differ_in_brightness() -> None:
    for seed in range(300):
        colours = draw_colours(np.random.default_rng(seed))
        assert abs(np.mean(colours.ink) - np.mean(colours.paper)) >= MIN_CONTRAST


def test_what_is_to_be_read_is_upright_and_the_rest_is_unreadable() -> None:
    rows = list(draw_reading_rows(Mix(), 120, "read"))
    assert {row.applied for row in rows if row.answers != (UNREADABLE,)} == {()}
    hidden = {row.applied for row in rows if row.answers == (UNREADABLE,)}
    assert hidden == {("crop",), *((op,) for op in ORIENTATION_OPS)}
    assert all((row.box is None) == (row.applied != ("crop",)) for row in rows)
    assert {len(row.answers[0]) for row in draw_reading_rows(Mix(), 30, "letters")} == {1}


def test_a_record_has_the_types_of_the_schema_and_null_where_nothing_was_done() -> None:
    rows = [
        *draw_test_rows(Mix(), 1),
        *(row for row in draw_rows(Mix(crop_share=0.8), 20, "train", "train") if row.box),
    ]
    table = pa.Table.from_pylist([rl_record(row) for row in rows], schema=RL_SCHEMA)
    source = table.slice(0, 1).to_pylist()[0]
    assert source["extra_info"]["transform"] is None
    assert source["extra_info"]["bbox"] is None
    page = table.to_pylist()[-1]
    assert page["extra_info"]["transform"][0] == "crop"
    assert Box(*page["extra_info"]["bbox"]) == rows[-1].box
    for record in (source, page):
        [message] = record["prompt"]
        assert message["role"] == "user"
        assert message["content"] == "<image>\n" + record["extra_info"]["question"]
        assert record["reward_model"] == {"style": "rule", "ground_truth": [record["extra_info"]["answer"]]}
        assert Image.open(io.BytesIO(record["images"][0]["bytes"])).size == tuple(record["extra_info"]["size"])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"words_share": 1.5}, "words_share"),
        ({"crop_share": float("nan")}, "crop_share"),
        ({"crop_share": 0.6, "source_share": 0.6}, "exceed"),
        ({"sizes": ((20, 20),)}, "sizes"),
        ({"sizes": ()}, "sizes"),
        ({"writing": Writing.HANDWRITING, "words_share": 0.1}, "only digits were written by people"),
    ],
)
def test_a_mix_that_cannot_be_drawn_is_refused_by_name(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Mix(**wrong)  # type: ignore[arg-type]
