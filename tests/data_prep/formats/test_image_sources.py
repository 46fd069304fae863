"""Tests that an image is loaded in every form that published sets have, and other values get a sentence."""

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sets import coded, folder_of_images, scene

from data_prep.formats.image_sources import load_image
from data_prep.formats.row_errors import RowError

PNG = coded(scene(3))
TEXT = base64.b64encode(PNG).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of_images(tmp_path)


BASE64 = {
    "plain": TEXT,
    "lines": base64.encodebytes(PNG).decode(),
    "for URLs": base64.urlsafe_b64encode(PNG).decode(),
    "without padding": TEXT.rstrip("="),
    "a data URL": f"data:image/png;base64,{TEXT}",
    "a data URL with codes": "DATA:image/png;charset=utf-8;base64," + TEXT.replace("+", "%2B").replace("/", "%2F"),
    "url": {"url": f"data:image/png;base64,{TEXT}"},
    "image_url": {"image_url": {"url": f"data:image/png;base64,{TEXT}"}},
    "bytes": {"bytes": TEXT, "path": None},
    "bytes as Python prints them": f"b'{TEXT}'",
    "text as bytes": TEXT.encode(),
    "a source": {"type": "base64", "data": TEXT},
}


@pytest.mark.parametrize("form", BASE64)
def test_base64_is_read_in_every_form(tmp_path: Path, form: str) -> None:
    assert load_image(BASE64[form], tmp_path, "image")[0] == PNG


@given(st.binary(max_size=300), st.sampled_from([b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF89a"]), st.integers(1, 80))
def test_base64_of_any_image_comes_back(data: bytes, magic: bytes, width: int) -> None:
    text = base64.b64encode(magic + data).decode()
    broken = "\r\n".join(text[at : at + width] for at in range(0, len(text), width))
    forms = (text, broken, text.rstrip("="), text.translate({43: "-", 47: "_"}), f"data:image/png;base64,{text}")
    for form in forms:
        assert load_image(form, Path("/nonexistent"), "image") == (magic + data, None)


@pytest.mark.parametrize(
    "name",
    ["./a.png", "sub dir\\x y.png", "sub%20dir/x%20y.png", "file://{}/a.png", "file://localhost{}/a.png", "{}/a.png"],
)
def test_paths_of_every_kind_are_read(folder: Path, name: str) -> None:
    assert load_image(name.format(folder), folder, "image")[0].startswith(b"\x89PNG")


def test_a_path_may_begin_at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert load_image("~/a.png", folder, "image")[0].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("https://example.org/a.png", "addresses aren't fetched; download the images"),
        ({"url": "HTTP://example.org/a.png"}, "addresses aren't fetched"),
        ("s3://bucket/a.png", "aws s3 cp"),
        ("gs://bucket/a.png", "gcloud storage cp"),
        ("hf://datasets/a.png", "hf download"),
        ("C:\\data\\a.png", "a path of Windows"),
        ("img\\a.png", "no such file in .*separates no folders"),
        ("file:///etc/hostname", "leads out of"),
        ("..\\a.png", "leads out of"),
        ("%2e%2e/a.png", "leads out of"),
        ("~root/a.png", "no such file"),
        ("a\0b", "isn't a path"),
        ("x" * 300 + ".png", "File name too long"),
        ("?" * 5000, "neither a path nor base64"),
        ("data:image/png;base64,%%%", "can't be decoded"),
        ({}, "neither bytes nor a path"),
        (7, "neither bytes nor a path"),
    ],
)
def test_a_value_that_names_no_image_here_gets_a_sentence(folder: Path, value: Any, message: str) -> None:
    with pytest.raises(RowError, match=message):
        load_image(value, folder, "image")
