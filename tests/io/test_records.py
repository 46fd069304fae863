"""A record holds exactly what happened, with several writers and after any number of kills."""

import fcntl
import json
import math
import multiprocessing
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_run import crop, detour, hack, invalid, right, terms, wrong
from PIL import Image

from codevision_ext.errors import InputError
from codevision_ext.io.records import (
    Record,
    RecordWriter,
    Turn,
    decode_record,
    encode_record,
    image_path,
    read_last,
    read_records,
    read_spread,
    scored,
)
from codevision_ext.rewards.rubric import score_group
from codevision_ext.types import (
    Box,
    Breakdown,
    EndReason,
    ExecStatus,
    Orientation,
    Outcome,
    Step,
    Task,
    TermScore,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
boxes = st.builds(Box, numbers, numbers, numbers, numbers)
steps = st.builds(
    Step,
    ok=st.booleans(),
    ops=st.lists(st.text()).map(tuple),
    crops=st.lists(boxes, max_size=2).map(tuple),
    node=st.none() | st.integers(0, 9),
    parent=st.none() | st.integers(0, 9),
    net=st.none() | st.sampled_from(Orientation),
    region=st.none() | boxes,
    noop=st.booleans(),
    status=st.none() | st.sampled_from(ExecStatus),
)
records = st.builds(
    Record,
    group=st.text(),
    id=st.text(),
    task=st.builds(
        Task,
        applied=st.lists(st.text(), max_size=2).map(tuple),
        box=st.none() | boxes,
        size=st.none() | st.tuples(st.integers(1, 99), st.integers(1, 99)),
    ),
    observed=st.builds(
        Outcome,
        correct=st.booleans(),
        format=numbers,
        valid=st.booleans(),
        end_reason=st.sampled_from(EndReason),
        steps=st.lists(steps, max_size=3).map(tuple),
    ),
    question=st.text(),
    answer=st.none() | st.text(),
    turns=st.lists(
        st.builds(
            Turn,
            role=st.sampled_from(["user", "assistant", "tool"]),
            text=st.text(),
            images=st.lists(st.text(), max_size=2).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    reward=st.none() | numbers,
    terms=st.dictionaries(
        st.text(), st.builds(TermScore, raw=numbers, weight=numbers, contribution=numbers), max_size=2
    ),
)


@settings(max_examples=40)  # a record takes long to draw
@given(records)
def test_a_record_that_was_written_and_read_is_the_same_record(record: Record) -> None:
    line = encode_record(record)
    assert line.count(b"\n") == 1
    assert decode_record(line, "here") == record


def test_the_line_is_the_published_object_with_ours_beside_it(tmp_path: Path) -> None:
    line = json.loads(encode_record(crop(RecordWriter(tmp_path), "e1")))
    assert line["task"] == {
        "applied": ["crop", "rotate_180"],
        "box": [42, 42, 126, 84],
        "box_frame": "input",
        "drawing": None,
        "size": [252, 252],
    }
    assert line["observed"]["end_reason"] == "answer"
    assert line["observed"]["steps"][1]["net"] == "r180"
    assert line["terms"]["must"] == {"raw": 0.9, "weight": 1.0, "contribution": 0.9}
    assert math.fsum(term["contribution"] for term in line["terms"].values()) == pytest.approx(line["reward"])


def test_fields_that_no_preset_needs_may_be_missing() -> None:
    line = b'{"group":"g","id":"g-0","task":{},"observed":{"correct":true,"format":1,"steps":[{"ok":true}]}}'
    assert decode_record(line, "here").observed.steps == (Step(ok=True),)


def test_a_record_scores_the_same_after_it_was_written_and_read(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    group = [replace(make(writer, f"r{i}"), group="g") for i, make in enumerate((right, crop, detour, wrong, hack))]
    before = [scored(r, b) for r, b in zip(group, score_group(group), strict=True)]
    writer.write(*before)
    again = list(read_records(writer.path))
    assert again == before
    assert [scored(r, b) for r, b in zip(again, score_group(again), strict=True)] == before


def test_an_invalid_rollout_gets_no_reward_rather_than_a_bad_one() -> None:
    breakdown = Breakdown(
        reward=math.nan, terms={"accuracy": TermScore(raw=math.nan, weight=1, contribution=math.nan)}, valid=False
    )
    kept = decode_record(encode_record(scored(invalid("t1"), breakdown)), "here")
    assert kept.reward is None
    assert not kept.terms


def test_a_reward_that_is_not_finite_is_our_bug_and_is_not_written() -> None:
    with pytest.raises(ValueError, match="t1"):
        scored(invalid("t1"), Breakdown(reward=math.inf))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"observed": {"correct": "yes", "format": 1}}, "field observed.correct: must be a valid boolean"),
        ({"observed": {"correct": True}}, "field observed.format: is missing"),
        ({"observed": {"correct": True, "format": 1, "end_reason": "bored"}}, "field observed.end_reason"),
        ({"task": {"box": [1, 2, 3]}}, "field task.box.3: is missing"),
        ({"task": {"aplied": []}}, "field task.aplied: isn't known"),
        ({"reward": math.nan}, "field reward: must be a finite number"),
        ({"step": "3"}, "field step"),
        ({"turns": [{"role": "robot", "text": ""}]}, "field turns.0.role"),
    ],
)
def test_a_bad_line_is_named_by_file_line_and_field(tmp_path: Path, change: dict[str, object], said: str) -> None:
    good = {"group": "g", "id": "g-0", "task": {}, "observed": {"correct": True, "format": 1}}
    path = tmp_path / "some.jsonl"
    path.write_text(f"{json.dumps(good)}\n{json.dumps(good | change)}\n")
    with pytest.raises(InputError) as caught:
        list(read_records(path))
    assert str(caught.value).startswith(f"{path}, line 2: {said}")


def test_a_line_that_is_not_json_and_a_file_that_is_not_there_are_named(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    with pytest.raises(InputError, match=r"some\.jsonl: can't be read: No such file"):
        list(read_records(path))
    path.write_text("{nonsense}\n")
    with pytest.raises(InputError, match=r"some\.jsonl, line 1: isn't JSON"):
        list(read_records(path))


def test_one_line_cannot_smuggle_in_two_records() -> None:
    line = encode_record(invalid("a")).strip()
    with pytest.raises(InputError):
        decode_record(line + b"," + line, "here")


def test_the_last_records_are_read_without_the_first(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.write(*(invalid(f"t{i}") for i in range(10)))
    size = len(encode_record(invalid("t0")))
    assert [r.id for r in read_last(writer.path, 3 * size)] == ["t7", "t8", "t9"]
    assert [r.id for r in read_last(writer.path, 3 * size - 1)] == ["t8", "t9"]
    assert len(read_last(writer.path, 10**6)) == 10


def test_a_bad_last_line_is_named(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.write(invalid("a"))
    with writer.path.open("a") as file:
        file.write('{"group": "g"}\n')
    with pytest.raises(InputError, match="line 2: field id: is missing"):
        read_last(writer.path, 10**6)


def test_a_line_that_a_killed_writer_left_is_cut_off_by_the_next_one(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.write(invalid("a"))
    with writer.path.open("ab") as file:
        file.write(encode_record(invalid("torn"))[:-20])
    assert [r.id for r in read_last(writer.path, 10**6)] == ["a"]
    RecordWriter(tmp_path).write(invalid("b"))
    assert [r.id for r in read_records(writer.path)] == ["a", "b"]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9, 1.0, 2.0])
def test_records_are_read_from_places_spread_over_a_file_and_none_twice(tmp_path: Path, share: float) -> None:
    writer = RecordWriter(tmp_path)
    writer.write(*(invalid(f"t{i}" + "x" * (i % 7)) for i in range(400)))
    size = writer.path.stat().st_size
    numbers = [int(r.id.strip("tx")) for r in read_spread(writer.path, round(size * share), places=8)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == pytest.approx(400 * min(1, share), abs=9)
    assert numbers[-1] - numbers[0] >= 300


def test_a_bad_line_is_named_by_its_number_or_in_a_large_file_by_its_first_byte(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.write(*(invalid(f"t{i}") for i in range(10)))
    first = writer.path.stat().st_size
    with writer.path.open("a") as file:
        file.write('{"group": "g"}\n')
    with pytest.raises(InputError, match=r"records\.jsonl, line 11: field id: is missing"):
        read_spread(writer.path, 10**6)
    with pytest.raises(InputError, match=rf"records\.jsonl, byte {first}: field id: is missing"):
        read_spread(writer.path, writer.path.stat().st_size - 1, places=2)
    with writer.path.open("ab") as file:
        file.truncate(first - 20)
    assert len(read_spread(writer.path, 10**6)) == 9


def test_a_torn_first_line_longer_than_one_look_back_leaves_an_empty_file(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.path.write_bytes(b"x" * 200_000)
    writer.write(invalid("a"))
    assert [r.id for r in read_records(writer.path)] == ["a"]


def _write_many(folder: Path, who: int) -> None:
    writer = RecordWriter(folder)
    for i in range(20):
        writer.write(invalid(f"{who}-{i}-a"), invalid(f"{who}-{i}-b"))


def test_processes_that_write_to_one_file_do_not_mix_their_lines(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(tmp_path, who)) for who in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    ids = [record.id for record in read_records(tmp_path / "records.jsonl")]
    assert len(ids) == 2 * 20 * 2
    assert all(a.removesuffix("-a") == b.removesuffix("-b") for a, b in zip(ids[::2], ids[1::2], strict=True))


def test_a_writer_waits_for_the_one_before(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    thread = threading.Thread(target=writer.write, args=(invalid("b"),))
    with writer.path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread.start()
        thread.join(0.2)
        assert writer.path.stat().st_size == 0
        file.write(encode_record(invalid("a")))
    thread.join()
    assert [r.id for r in read_records(writer.path)] == ["a", "b"]


def test_a_image_is_stored_once_under_the_name_of_its_pixels(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    image = Image.new("RGB", (6, 4), (9, 8, 7))
    name = writer.image(image)
    path = image_path(tmp_path, name)
    assert path == tmp_path / "pictures" / name[:2] / f"{name}.png"
    written = path.stat().st_mtime_ns
    assert writer.image(image.copy()) == name
    assert path.stat().st_mtime_ns == written
    assert writer.image(image.convert("RGBA")) == name
    with Image.open(path) as stored:
        assert stored.tobytes() == image.tobytes()
    assert len(list((tmp_path / "pictures").rglob("*"))) == 2


def test_images_with_the_same_bytes_but_another_shape_are_two_images(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    assert writer.image(Image.new("RGB", (6, 4))) != writer.image(Image.new("RGB", (4, 6)))


def test_contributions_of_the_made_up_terms_sum_to_what_is_said() -> None:
    assert math.fsum(t.contribution for t in terms(accuracy=1.0, turns=-0.5).values()) == 0.5


def test_a_record_of_any_text_can_be_written_and_read(tmp_path: Path) -> None:
    weird = "half \ud83d an emoji, \0, \udc00\ud83d and \U0001f600"
    mended = "half \ufffd an emoji, \0, \ufffd\ufffd and \U0001f600"
    writer = RecordWriter(tmp_path)
    plain = right(writer, "a")
    first, second = (
        replace(plain, question=text, answer=text, turns=(Turn(role="assistant", text=text),))
        for text in (weird, mended)
    )
    writer.write(first, plain)
    assert list(read_records(writer.path)) == [second, plain]


def test_a_record_keeps_the_provenance_of_every_image_of_a_call(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    record = crop(writer, "a")
    one, two = record.observed.steps
    both = replace(record, observed=replace(record.observed, steps=(replace(one, further=two.images),)))
    writer.write(both)
    assert list(read_records(writer.path)) == [both]
