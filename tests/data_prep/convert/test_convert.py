"""Tests that published data sets become rows that train: no good row is lost, every bad row is counted."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo
from sets import (
    SETS,
    coded,
    data_prep,
    image_file,
    rl_row,
    scene,
    sharegpt_item,
    wait_for,
    write_json,
    write_parquet,
)

from codevision_ext.errors import InputError
from codevision_ext.task.item import read_item
from data_prep.formats.image_files import normalize_image
from data_prep.formats.row_errors import RowError
from data_prep.formats.schema import CONVERTED_RL_SCHEMA, CONVERTED_SFT_SCHEMA

GOLDEN = Path(__file__).parent / "golden"


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def convert(tmp_path: Path, *words: object, out: str = "out.parquet") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the summary and the rows."""
    summary = data_prep("convert", *words, "--out", tmp_path / out, "--workers", 1)
    return summary, rows_of(tmp_path / out)


@pytest.mark.parametrize("name", SETS)
def test_each_published_schema_becomes_rl_rows(tmp_path: Path, name: str) -> None:
    summary, rows = convert(tmp_path, SETS[name](tmp_path))
    assert summary["rows"] == {"read": 2, "written": 2, "rejected": 0}
    assert pq.read_schema(tmp_path / "out.parquet").remove_metadata() == CONVERTED_RL_SCHEMA
    for row in rows:
        image = Image.open(io.BytesIO(row["images"][0]["bytes"]))
        item = read_item(row, image.size)
        assert item.question == row["extra_info"]["question"] != ""
        assert row["prompt"][-1]["content"] == f"<image>\n{item.question}"
        assert row["extra_info"]["size"] == list(image.size)
        assert row["extra_info"]["licence"] == summary["licences"][row["data_source"]]


def test_what_a_schema_has_of_its_own_is_read(tmp_path: Path) -> None:
    def rows(name: str) -> list[dict[str, Any]]:
        (tmp_path / name.strip("*")).mkdir()
        return convert(tmp_path, SETS[name](tmp_path / name.strip("*")), "--force")[1]

    assert rows("HRBench")[0]["extra_info"]["question"].splitlines()[1:3] == ["A. red", "B. blue"]
    talk, single = rows("ChartQAPro")
    assert talk["extra_info"]["question"] == "Question: What rose?\nAnswer: Sales\nBy how much?"
    assert talk["reward_model"]["ground_truth"] == ["3%"]
    assert single["extra_info"]["question"] == "On costs.\nWhat fell?"
    assert rows("TextVQA")[0]["reward_model"]["ground_truth"] == ["nokia", "toshiba"]
    assert rows("DocVQA")[0]["extra_info"]["index"] == 338
    assert convert(tmp_path, SETS["VTBench"](tmp_path), "--force")[0]["left_out"] == {
        "drawn_instruction": 2,
        "drawn_perception": 2,
    }


def test_files_whose_columns_differ_go_into_one(tmp_path: Path) -> None:
    first = write_parquet(tmp_path / "a.parquet", [rl_row(0, "rotate_90")])
    second = write_parquet(tmp_path / "b.parquet", [rl_row(1, ("crop", "flip_horizontal")), rl_row(2, None)])
    third = write_parquet(
        tmp_path / "c.parquet", [rl_row(3, '["rotate_270"]', reward_model={"ground_truth": ["a", "b"]})]
    )
    _, rows = convert(tmp_path, first, second, third, SETS["DocVQA"](tmp_path))
    assert [row["extra_info"]["transform"] for row in rows] == [
        ["rotate_90"],
        ["crop", "flip_horizontal"],
        None,
        ["rotate_270"],
        None,
        None,
    ]
    assert rows[3]["reward_model"]["ground_truth"] == ["a", "b"]


def sixteen_bit() -> bytes:
    ramp = np.linspace(0, 65535, 64 * 48, dtype=np.uint16).reshape(48, 64)
    return coded(Image.fromarray(ramp), "PNG")


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return coded(scene(), "JPEG", exif=tags.tobytes(), quality=95)


def glass() -> bytes:
    image = scene().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    return coded(image)


def image(data: bytes | None, path: str | None = None) -> list[dict[str, Any]]:
    return [{"bytes": data, "path": path}]


JPEG = coded(scene(), "JPEG")
REJECTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a truncated JPEG": ("picture_damaged", "images[0]", {"images": image(JPEG[: len(JPEG) // 2])}),
    "a truncated PNG": ("picture_damaged", "images[0]", {"images": image(coded(scene())[:-400])}),
    "a file that is no image": ("picture_unknown", "images[0]", {"images": image(b"%PDF-1.7 ...")}),
    "an empty file": ("picture_missing", "images", {"images": image(b"")}),
    "a bomb": ("picture_bomb", "images[0]", {"images": image(coded(Image.new("1", (1100, 1000))))}),
    "a path to nowhere": ("picture_missing", "images", {"images": image(None, "gone.png")}),
    "a path out of the folder": ("picture_missing", "images", {"images": image(None, "../x.png")}),
    "no image": ("column_missing", "images", {"images": None}),
    "an unknown op": ("bad_op", "extra_info.transform", {"transform": ["rotate_45"]}),
    "broken JSON in a string": ("bad_op", "extra_info.transform", {"transform": ['["rotate_90"']}),
    "a box with one NaN": ("bad_box", "extra_info.bbox", {"bbox": [1.0, float("nan"), 3.0, 4.0]}),
    "an infinite box": ("bad_box", "extra_info.bbox", {"bbox": [1.0, 2.0, float("inf"), 4.0]}),
    "a box of three": ("bad_box", "extra_info.bbox", {"bbox": [1.0, 2.0, 3.0]}),
    "a box inside out": ("bad_box", "extra_info.bbox", {"bbox": [9.0, 9.0, 1.0, 1.0]}),
    "a box outside": ("box_outside", "box", {"bbox": [0.0, 0.0, 48.0, 64.0]}),
    "a blank answer": ("no_answer", "reward_model.ground_truth", {"reward_model": {"ground_truth": " "}}),
    "two tags": ("bad_turns", "prompt", {"prompt": [{"role": "user", "content": "<image><image>\nWhat?"}]}),
    "an assistant's turn": ("bad_turns", "prompt", {"prompt": [{"role": "assistant", "content": "<image>\nWhat?"}]}),
}  # fmt: skip
"""What is wrong, the reason and the field it is counted and named under, and the change to a good row."""


@pytest.mark.parametrize("decode", [(), ("--decode",)])
def test_every_bad_row_is_counted_by_its_reason_and_none_of_the_good_is_lost(
    tmp_path: Path, decode: tuple[str, ...]
) -> None:
    good = [rl_row(100), rl_row(101)]
    bad = [
        rl_row(index, **({"transform": "rotate_90"} | change)) for index, (_, _, change) in enumerate(REJECTED.values())
    ]
    for row in (*good, *bad):  # one type a column, as a parquet file has it
        transform = row["extra_info"]["transform"]
        row["extra_info"]["transform"] = [transform] if isinstance(transform, str) else transform
    source = write_parquet(tmp_path / "a.parquet", [good[0], *bad, good[1]])
    limits = ("--max-pixels", 1_000_000, "--max-rejected", "100%", "--rejects", tmp_path / "rejects.jsonl")
    summary, rows = convert(tmp_path, source, *limits, *decode)
    assert [row["extra_info"]["index"] for row in rows] == [100, 101]
    faults = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    result = [(fault["row"], fault["reason"], fault["field"]) for fault in faults]
    assert result == [(1 + row, reason, name) for row, (reason, name, _) in enumerate(REJECTED.values())]
    assert sum(summary["rejected"].values()) == summary["rows"]["rejected"] == len(bad)
    assert f"{source}, row 1: images[0]: " in summary["examples"][0]


CHANGED: dict[str, tuple[str, bytes]] = {
    "cmyk": ("cmyk", coded(scene().convert("CMYK"), "JPEG")),
    "16 bits": ("16_bit", sixteen_bit()),
    "an animation": ("first_frame", coded(scene(), "GIF", save_all=True, append_images=[scene(1)])),
    "a bitmap": ("from_bmp", coded(scene(), "BMP")),
    "a camera held upright": ("exif_6", exif(6)),
    "a mirrored camera": ("exif_2", exif(2)),
    "glass": ("flattened", glass()),
}


@pytest.mark.parametrize("name", CHANGED)
def test_an_odd_image_becomes_a_plain_one_once(tmp_path: Path, name: str) -> None:
    change, data = CHANGED[name]
    row = rl_row(0, bbox=None, images=image(data))
    summary, [written] = convert(tmp_path, write_parquet(tmp_path / "a.parquet", [row]))
    assert summary["changed"][change] == 1
    assert change in written["extra_info"]["changes"]
    stored = Image.open(io.BytesIO(written["images"][0]["bytes"]))
    assert stored.mode in ("RGB", "L")
    assert not stored.getexif()
    assert written["extra_info"]["size"] == list(stored.size)
    again, [same] = convert(tmp_path, tmp_path / "out.parquet", out="again.parquet")
    assert same["images"] == written["images"]
    assert same["extra_info"] == written["extra_info"]
    assert again["licences"] == summary["licences"]


def test_exif_turns_the_image_as_a_viewer_would(tmp_path: Path) -> None:
    for orientation, op in (
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (6, Image.Transpose.ROTATE_270),
        (8, Image.Transpose.ROTATE_90),
    ):
        row = rl_row(0, bbox=None, images=image(exif(orientation)))
        _, [written] = convert(tmp_path, write_parquet(tmp_path / "a.parquet", [row]), "--force")
        shown = np.asarray(Image.open(io.BytesIO(written["images"][0]["bytes"])), dtype=int)
        expected = np.asarray(scene().transpose(op), dtype=int)
        assert shown.shape == expected.shape
        assert np.abs(shown - expected).mean() < 4


def test_sixteen_bits_keep_their_greys_and_glass_stands_on_white(tmp_path: Path) -> None:
    def written(data: bytes) -> Image.Image:
        row = rl_row(0, bbox=None, images=image(data))
        _, [row] = convert(tmp_path, write_parquet(tmp_path / "a.parquet", [row]), "--force")
        return Image.open(io.BytesIO(row["images"][0]["bytes"]))

    assert np.histogram(written(sixteen_bit()), bins=4, range=(0, 256))[0].tolist() == pytest.approx([768] * 4, abs=8)
    assert written(glass()).getextrema() == ((255, 255),) * 3


def test_bytes_that_need_not_change_are_those_of_the_source(tmp_path: Path) -> None:
    given = [coded(scene(), "JPEG", quality=30), coded(scene(1), "PNG", compress_level=9), coded(scene(2), "WEBP")]
    rows = [rl_row(index, bbox=None, images=image(data)) for index, data in enumerate(given)]
    _, written = convert(tmp_path, write_parquet(tmp_path / "a.parquet", rows))
    assert [row["images"][0]["bytes"] for row in written] == given


@pytest.mark.parametrize("options", [{}, {"exif": 6}, {"pnginfo": "XML:com.adobe.xmp"}, {"cut": 12}])
def test_a_png_is_decoded_only_where_something_may_turn_it(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tags, texts = Image.Exif(), PngInfo()
    tags[0x0112] = options.get("exif", 1)
    texts.add_text("Software", "a program")
    if "pnginfo" in options:
        texts.add_itxt(options["pnginfo"], '<x tiff:Orientation="6"/>')
    data = coded(scene(), "PNG", pnginfo=texts, **({"exif": tags} if "exif" in options else {}))
    data = data[: len(data) - options.get("cut", 0)]
    decoded: list[str] = []
    load = PngImageFile.load
    monkeypatch.setattr(PngImageFile, "load", lambda self: (decoded.append("yes"), load(self))[1])
    result = normalize_image(data, decode=False)
    assert bool(decoded) == bool(options)
    assert result.changes == (("exif_6",) if {"exif", "pnginfo"} & set(options) else ())


def test_small_oddities_are_corrected_and_recorded(tmp_path: Path) -> None:
    rows = [
        rl_row(0, ["rot90", "flip_h"], bbox=[float("nan")] * 4),
        rl_row(1, ["none"], bbox=[10.0, 4.0, 64.9, 40.0]),
        rl_row(1, ["crop"], bbox=[10.0, 4.0, 20.0, 40.0]),
    ]
    summary, written = convert(tmp_path, write_parquet(tmp_path / "a.parquet", rows))
    assert summary["changed"] == {"box_clipped": 1, "box_nan": 1, "op_renamed": 1, "renumbered": 1}
    extra = [row["extra_info"] for row in written]
    assert [each["transform"] for each in extra] == [["rotate_90", "flip_horizontal"], None, ["crop"]]
    assert [each["bbox"] for each in extra] == [None, [10.0, 4.0, 64.0, 40.0], [10.0, 4.0, 20.0, 40.0]]
    assert [each["index"] for each in extra] == [0, 1, 1_000_000_000]


def test_the_same_row_twice_is_a_duplicate_wherever_it_comes_from(tmp_path: Path) -> None:
    first = write_parquet(tmp_path / "a.parquet", [rl_row(0), rl_row(1)])
    second = write_parquet(tmp_path / "b.parquet", [rl_row(1), rl_row(2)])
    summary, rows = convert(tmp_path, first, second, "--max-rejected", 1)
    assert summary["rejected"] == {"duplicate_id": 1}
    assert [row["extra_info"]["index"] for row in rows] == [0, 1, 2]


def test_json_in_strings_is_read(tmp_path: Path) -> None:
    image_file(tmp_path / "0.png")
    row = rl_row(0, '["crop", "rotate_90"]', images=["0.png"], bbox="[10, 4, 20, 40]")
    texts = {name: json.dumps(row[name]) for name in ("prompt", "images", "reward_model", "extra_info")}
    _, [written] = convert(tmp_path, write_json(tmp_path / "a.jsonl", [row | texts]))
    assert written["extra_info"]["transform"] == ["crop", "rotate_90"]
    assert written["extra_info"]["bbox"] == [10, 4, 20, 40]


ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "source": ("bad_type", {"data_source": 5}),
    "split": ("bad_type", {"split": 5}),
    "licence": ("bad_type", {"licence": 5}),
    "picture_id": ("bad_type", {"picture_id": 5}),
    "extra_info.benefit": ("bad_type", {"benefit": ["much"]}),
    "text": ("bad_type", {"question": "half a character: \ud800"}),
    "images": ("picture_missing", {"images": ["a\0b.png"]}),
}
"""Field, reason, and what a row of JSON may hold where a column of parquet couldn't."""


def test_values_of_any_type_in_json_are_counted_and_null_may_be_nan(tmp_path: Path) -> None:
    image_file(tmp_path / "a.png")

    def row(index: Any, **changes: Any) -> dict[str, Any]:
        return rl_row(index, **({"transform": "rotate_90", "images": ["a.png"]} | changes))

    good = [row(True), row(2**70), row(7, transform=float("nan"), column=5)]
    source = write_json(tmp_path / "a.jsonl", [*good, *(row(9, **change) for _, change in ODD.values())])
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes())
    log = tmp_path / "rejects.jsonl"
    summary, rows = convert(tmp_path, source, "--max-rejected", "100%", "--rejects", log)
    faults = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(fault["field"], fault["reason"]) for fault in faults] == [(name, why) for name, (why, _) in ODD.items()]
    assert [row["extra_info"]["index"] for row in rows] == [0, 1, 7]
    assert [row["extra_info"]["transform"] for row in rows] == [["rotate_90"], ["rotate_90"], None]
    assert summary["rows"] == {"read": 10, "written": 3, "rejected": 7}


def test_too_many_bad_rows_and_nothing_is_written(tmp_path: Path) -> None:
    rows = [rl_row(0), rl_row(1, images=image(b"no"))]
    source = write_parquet(tmp_path / "a.parquet", rows)
    with pytest.raises(InputError, match=r"1 of 2 rows are rejected \(1 picture_unknown\).*a.parquet, row 1: images"):
        convert(tmp_path, source)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    assert convert(tmp_path, source, "--max-rejected", "50%")[0]["rows"]["written"] == 1


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"PAR1 but not really", "a.parquet", "a.parquet: can't be read"),
        (b'[{"question": 1}, {', "a.json", "item 1: not JSON"),
        (b'[{"question": 1}', "a.json", "item 1: the list isn't closed"),
        (b"[1, 2]", "a.json", "item 0: must be an object, not int"),
        (b'{"question": "x"}\nnonsense\n', "a.jsonl", "line 2: not JSON"),
        (b"", "a.json", "there are no records in it"),
        (b'[{"shape": "x"}]', "a.json", "no known schema has the columns shape"),
        (b"", "a.txt", "a file's name must end in .parquet, .jsonl, .json, .csv, .tsv"),
    ],
)
def test_a_file_that_can_not_be_read_ends_with_one_sentence(
    tmp_path: Path, content: bytes, name: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        convert(tmp_path, tmp_path / name, *(("--source", "vqa") if b"question" in content else ()))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_box_in_thousandths_is_mapped_to_pixels(tmp_path: Path) -> None:
    with_frame = rl_row(0, bbox=[250.0, 500.0, 500.0, 1000.0], box_frame="relative")
    without_frame = rl_row(1, bbox=[250.0, 500.0, 500.0, 1000.0])
    outside = rl_row(2, bbox=[250.0, 500.0, 500.0, 1100.0])
    first, second = (
        write_parquet(tmp_path / f"{n}.parquet", rows)
        for n, rows in enumerate(([with_frame], [without_frame, outside]))
    )
    extra = [row["extra_info"] for row in convert(tmp_path, first)[1]]
    summary, rows = convert(tmp_path, second, "--box-frame", "relative", "--max-rejected", 1, "--force")
    assert summary["rejected"] == {"box_outside": 1}
    for each in (*extra, *(row["extra_info"] for row in rows)):
        assert (each["bbox"], each["box_frame"]) == ([16.0, 24.0, 32.0, 48.0], "input")
        assert each["changes"] == ["box_relative"]
    with pytest.raises(InputError, match="--box-frame must be one of input, canonical, relative; not 'seen'"):
        convert(tmp_path, first, "--box-frame", "seen")


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    row = rl_row()
    del row["reward_model"]
    source = write_parquet(tmp_path / "a.parquet", [row])
    with pytest.raises(InputError, match="column reward_model of schema codevision-rl is missing"):
        convert(tmp_path, source, "--source", "codevision-rl")


def test_turns_become_sft_rows_and_tasks_do_not(tmp_path: Path) -> None:
    summary, rows = convert(tmp_path, SETS["CodeVision-SFT"](tmp_path), "--to", "sft")
    assert pq.read_schema(tmp_path / "out.parquet").remove_metadata() == CONVERTED_SFT_SCHEMA
    assert summary["licences"] == {"CodeVision-SFT": "CC-BY-NC-4.0"}
    assert summary["non_commercial"]
    assert "may not be used commercially" in summary["stderr"]
    roles = ["system", "user", "assistant", "tool", "assistant"]
    assert [[message["role"] for message in row["messages"]] for row in rows] == [roles] * 2
    assert rows[0]["messages"][0]["content"] == "You are a helpful assistant."
    assert json.loads(rows[0]["tools"])[0]["function"]["name"] == "code_image_tool"
    assert {row["sample_type"] for row in rows} == {"single-tool"}
    drawn = convert(tmp_path, SETS["V-Interaction-400K"](tmp_path), "--to", "sft", "--force")[1]
    assert [len(row["images"]) for row in drawn] == [2, 2]
    assert json.loads(drawn[0]["metadata"])["executed"] is True
    with pytest.raises(InputError, match="2 no_trajectory"):
        convert(tmp_path, SETS["CodeVision-RL"](tmp_path), "--to", "sft", "--force")


def test_sharegpt_to_parquet_and_back_is_the_same_json_and_the_same_images(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = SETS["CodeVision-SFT"](tmp_path / "in")
    data_prep("convert", source, "--to", "sft", "--out", tmp_path / "sft.parquet", "--workers", 1)
    data_prep(
        "convert", tmp_path / "sft.parquet", "--to", "sharegpt", "--out", tmp_path / "codevision_sft", "--workers", 1
    )
    back = tmp_path / "codevision_sft"
    assert json.loads((back / "codevision_sft.json").read_text()) == json.loads(source.read_text())
    for name in (path.name for path in (tmp_path / "in" / "images").iterdir()):
        assert (back / "images" / name).read_bytes() == (tmp_path / "in" / "images" / name).read_bytes()
    entry = json.loads((back / "dataset_info.json").read_text())["codevision_sft"]
    assert entry["columns"] == {"messages": "conversations", "images": "images", "system": "system"}
    for family, template in (("qwen2_5_vl", "qwen2_vl"), ("qwen3_vl", "qwen3_vl")):
        text = (back / f"{family}.yaml").read_text()
        assert f"template: {template}\n" in text
        assert "dataset: codevision_sft\n" in text
    data_prep("convert", back, "--to", "sft", "--out", tmp_path / "again.parquet", "--workers", 1)
    assert rows_of(tmp_path / "again.parquet") == rows_of(tmp_path / "sft.parquet")


def test_one_process_and_two_write_the_same_bytes(tmp_path: Path) -> None:
    rows = [rl_row(index, "rotate_90") for index in range(150)]
    source = write_parquet(tmp_path / "a.parquet", rows)
    for workers in (1, 2):
        data_prep("convert", source, "--out", tmp_path / f"{workers}.parquet", "--workers", workers)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_nothing_or_nothing_after_the_next(tmp_path: Path, how: signal.Signals) -> None:
    source = write_json(tmp_path / "a.jsonl", [rl_row(0, "rotate_90", images=["0.png"])])
    line = source.read_bytes()
    image_file(tmp_path / "0.png")
    with source.open("wb") as file:
        file.writelines(line for _ in range(20_000))
    words = [sys.executable, "-m", "data_prep", "convert", source, "--out", tmp_path / "out.parquet", "--workers", "1"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
    wait_for(lambda: list(tmp_path.glob(".out.parquet.*/*")) or running.poll() is not None)
    running.send_signal(how)
    out, err = running.communicate(timeout=60)
    if how is signal.SIGKILL:
        assert not (tmp_path / "out.parquet").exists()
        assert list(tmp_path.glob(".out.parquet.*"))
        source.write_bytes(line)
        data_prep("convert", source, "--out", tmp_path / "out.parquet", "--workers", 1)
        (tmp_path / "out.parquet").unlink()
    else:
        assert running.returncode == 130, err
        assert out == b""
        assert b"Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "0.png"}


PEAK = """
import pathlib, re, sys
from data_prep.cli.app import app
app(sys.argv[1:], standalone_mode=False)
print(re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""
"""Not getrusage: its maximum begins with the memory of the process that forked."""


def test_memory_does_not_grow_with_a_row_group(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    data = coded(Image.fromarray(noise), "PNG", compress_level=0)

    def peak_mib(count: int) -> float:
        table = pa.Table.from_pylist([rl_row(index, ["crop"], images=image(data)) for index in range(count)])
        source = tmp_path / f"{count}.parquet"
        pq.write_table(
            table, source, row_group_size=count, use_dictionary=False, compression="none", write_batch_size=4
        )
        assert pq.read_metadata(source).num_row_groups == 1
        words = ["convert", source, "--out", tmp_path / "out.parquet", "--force", "--workers", "1"]
        done = subprocess.run([sys.executable, "-c", PEAK, *words], capture_output=True, text=True, check=True)
        return int(done.stdout.splitlines()[-1]) / 1024

    assert peak_mib(1000) - peak_mib(600) < 100  # MiB; the images of the 400 rows between have 300


def test_the_golden_file_is_what_is_written(tmp_path: Path) -> None:
    data_prep("convert", GOLDEN / "in.jsonl", "--out", tmp_path / "out.parquet", "--workers", 1)
    assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(GOLDEN / "out.parquet"))


def test_sharegpt_items_of_unusual_form_come_back_the_same(tmp_path: Path) -> None:
    item = sharegpt_item(tmp_path)
    asked, called, *rest = item["conversations"]
    bare = {name: value for name, value in item.items() if name != "metadata"}
    items = [
        item | {"id": 7, "system": 'Tools:\n<tools>\n{"name":"x"}\n</tools>\nUse them.'},
        bare | {"conversations": [asked, called | {"from": "function_call", "loss": True}, *rest]},
    ]
    write_json(tmp_path / "a.json", items)
    data_prep("convert", tmp_path / "a.json", "--to", "sft", "--out", tmp_path / "sft.parquet", "--workers", 1)
    data_prep("convert", tmp_path / "sft.parquet", "--to", "sharegpt", "--out", tmp_path / "out", "--workers", 1)
    assert json.loads((tmp_path / "out" / "out.json").read_text()) == items


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}, {"comment": b"\xff\xd9"}]
)
def test_a_jpeg_that_is_cut_anywhere_is_found_without_decoding_it(options: dict[str, Any]) -> None:
    data = coded(scene(), "JPEG", **options)
    assert normalize_image(data, decode=False).data == data
    assert normalize_image(b"\xff\xd8\xff" + data[2:], decode=False).size == (64, 48)
    for end in range(2, len(data) - 16, 7):
        with pytest.raises(RowError):
            normalize_image(data[:end], decode=False)
