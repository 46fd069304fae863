"""Tests that every reader of rows refuses the same images and tags, with the same sentence."""

import io
from pathlib import Path

import pytest
from PIL import Image
from sets import coded, rl_row, scene, write_json, write_parquet

from codevision_ext.errors import InputError
from codevision_ext.evaluate.options import read_suites
from codevision_ext.task.row_checks import check_size, check_tags, read_images
from codevision_ext.task.rows import read_prompt
from data_prep import eval_items


@pytest.mark.parametrize("size", [(1, 1), (200, 1), (3, 600), (40_000, 300)])
def test_sizes_that_processors_accept_pass(size: tuple[int, int]) -> None:
    check_size(*size)


@pytest.mark.parametrize("size", [(201, 1), (3, 601), (0, 5)])
def test_sizes_that_processors_refuse_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"an image of {size[0]}x{size[1]} "):
        check_size(*size)


def test_a_tag_may_stand_in_any_message_but_the_assistant_s() -> None:
    user, tool = {"role": "user", "content": "<image>?"}, {"role": "tool", "content": "Image 1.\n<image>"}
    check_tags([user, {"role": "assistant", "content": "image"}, tool], 2)
    with pytest.raises(InputError, match="message 1 is the assistant's and has an <image>"):
        check_tags([user, {"role": "assistant", "content": "<image>"}], 2)
    with pytest.raises(InputError, match="2 <image> tags, but 1 images"):
        check_tags([user, tool], 1)


def test_an_image_that_can_t_be_used_is_named_by_its_number() -> None:
    good = {"bytes": coded(scene())}
    for data, message in {
        b"no image": r"images\[1\]: not an image that can be read",
        coded(scene())[:200]: r"images\[1\]: not an image that can be read",
        coded(Image.new("L", (401, 2))): r"images\[1\]: an image of 401x2 is too narrow",
    }.items():
        with pytest.raises(InputError, match=message):
            read_images([good, {"bytes": data}])


def test_training_and_evaluation_name_the_row_of_an_image_that_is_too_narrow(tmp_path: Path) -> None:
    thin = coded(Image.new("RGB", (900, 4)))
    with pytest.raises(InputError, match=r"rows, row 3: images\[0\]: an image of 900x4 is too narrow"):
        read_prompt(rl_row(images=[{"bytes": thin, "path": None}]), "rows, row 3")
    path = write_parquet(tmp_path / "rows.parquet", [rl_row(), rl_row(1, images=[{"bytes": thin, "path": None}])])
    with pytest.raises(InputError, match=r"rows.parquet, row 1: images\[0\]: an image of 900x4 is too narrow"):
        read_suites([str(path)], eval_items)
    Image.open(io.BytesIO(thin)).save(tmp_path / "thin.png")
    record = {"image": "thin.png", "question": "What is written?", "answer": "x"}
    with pytest.raises(InputError, match=r"thin.json, row 0: images\[0\]: an image of 900x4 is too narrow"):
        read_suites([f"rows={write_json(tmp_path / 'thin.json', [record])}"], eval_items)
