"""A file appears whole or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from codevision_ext.io.atomic_files import draft_folder, whole_folder, write_whole


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"old and long")
    with path.open("rb") as reader:
        write_whole(path, b"new")
        assert reader.read() == b"old and long"
    assert path.read_bytes() == b"new"


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_draft_of_a_killed_run_goes_with_the_next_run_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    out = tmp_path / "out[1]"
    with draft_folder(out) as living:
        left = living.with_name(".out[1].12345678.draft")
        (left / "half").mkdir(parents=True)
        (tmp_path / ".out[1].mine").mkdir()
        with whole_folder(out, force=False) as folder:
            (folder / "a").write_text("new")
            assert not left.exists()
        assert living.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out[1].mine", "out[1]"]


def test_a_folder_whose_replacement_was_killed_between_two_renames_is_put_back(tmp_path: Path) -> None:
    moved = tmp_path / ".out.12345678.draft" / "replaced"
    moved.mkdir(parents=True)
    (moved / "a").write_text("old")
    with draft_folder(tmp_path / "out"):
        assert (tmp_path / "out" / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_stays_and_a_pipe_gets_the_content(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(target)
    write_whole(link, b"one")
    assert (link.is_symlink(), target.read_bytes()) == (True, b"one")
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        write_whole(pipe, b"two")
        assert read.result(10) == b"two"
    assert pipe.is_fifo()
