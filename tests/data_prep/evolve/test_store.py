"""The store keeps every result that was written before a SIGKILL, and refuses what isn't its own in one sentence."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codevision_ext.errors import InfraError, InputError
from data_prep.evolve.store import FILE, ResultKey, ResultStore, content_hash

WRITER = """
import sys
from pathlib import Path
from data_prep.evolve.store import ResultKey, ResultStore
store = ResultStore(Path(sys.argv[1]))
for number in range(1_000_000):
    store.put(ResultKey(stage="overlay", content=str(number), backend="b"), bytes([number % 251]) * 5000)
    print(number, flush=True)
"""


def key(content: str, **others: object) -> ResultKey:
    return ResultKey(**{"stage": "overlay", "content": content, "backend": "b", **others})  # type: ignore[arg-type]


def test_a_killed_writer_loses_nothing_that_it_had_reported(tmp_path: Path) -> None:
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            last = -1
            while last < 150:
                last = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            whole_lines = process.stdout.read().split("\n")[:-1]
        last = int([last, *whole_lines][-1])
        with ResultStore(tmp_path) as store:
            assert len(store) >= last + 1
            for number in range(last + 1):
                assert store.get(key(str(number))) == bytes([number % 251]) * 5000
    assert not (tmp_path / f"{FILE}-wal").exists() or (tmp_path / f"{FILE}-wal").stat().st_size == 0


@pytest.mark.parametrize("field", ["stage", "content", "backend", "prompt", "seed"])
def test_every_field_of_a_key_tells_results_apart(tmp_path: Path, field: str) -> None:
    with ResultStore(tmp_path) as store:
        store.put(key("a"), b"1")
        assert store.get(key("a")) == b"1"
        assert store.get(key(**{"content": "a", field: 7 if field == "seed" else "other"})) is None


def test_the_first_result_of_a_key_stays(tmp_path: Path) -> None:
    with ResultStore(tmp_path) as store:
        store.put(key("a"), b"1")
        store.put(key("a"), b"2")
        assert store.get(key("a")) == b"1"
        assert len(store) == 1


def test_threads_may_write_at_once(tmp_path: Path) -> None:
    with ResultStore(tmp_path) as store:

        def write(part: int) -> None:
            for number in range(50):
                store.put(key(f"{part}-{number}"), b"x")

        threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store) == 200


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    ResultStore(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(InputError, match="it has version 99, this program reads 1"):
        ResultStore(tmp_path)


@pytest.mark.parametrize("foreign", ["text", "sqlite"])
def test_a_file_that_is_no_store_is_refused_and_stays(tmp_path: Path, foreign: str) -> None:
    path = tmp_path / FILE
    if foreign == "text":
        path.write_text("not a database, but longer than the head of one. " * 40)
    else:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()
        connection.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="is no store of `evolve`"):
        ResultStore(tmp_path)
    assert path.read_bytes() == before
    shutil.rmtree(tmp_path)
    ResultStore(tmp_path).close()  # the refusal kept no lock


def test_a_folder_in_use_is_refused_until_its_run_ends(tmp_path: Path) -> None:
    with ResultStore(tmp_path), pytest.raises(InputError, match="another run uses it"):
        ResultStore(tmp_path)
    ResultStore(tmp_path).close()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be used"):
        ResultStore(tmp_path / "file")


def test_a_full_disk_is_one_sentence_and_earlier_results_stay(tmp_path: Path) -> None:
    with ResultStore(tmp_path) as store:
        store.put(key("a"), b"1")
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count={pages + 2}")  # SQLite's own disk of a few pages
        with pytest.raises(InfraError, match="its disk is full; free space and give the same command again"):
            store.put(key("b"), b"x" * 100_000)
        assert store.get(key("a")) == b"1"
    with ResultStore(tmp_path) as store:
        assert len(store) == 1


def test_a_hash_depends_on_where_its_parts_end() -> None:
    assert content_hash("ab", "c") != content_hash("a", "bc")
    assert content_hash("ab", b"c") == content_hash(b"ab", "c")
