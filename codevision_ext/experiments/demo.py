"""Runs `codevision demo`: the stages of a recipe (stages.yaml, run.sh) in order; continues a stopped run.

    OUT/stages/NAME.json   state of a stage: hash of its settings, costs, and whether its output is complete
    OUT/logs/NAME.log      output of the stage's command
    OUT/results.json       results and costs of the run

A finished stage is skipped while its settings and those of all earlier stages are unchanged. Otherwise the stage and
all later stages run again. A stopped stage runs again; verl resumes its trainings itself. Code isn't part of the
settings: after a change of the package, choose a new folder.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from codevision_ext.errors import InfraError, InputError
from codevision_ext.evaluate.results import Costs, read_evaluation, write_evaluation
from codevision_ext.experiments import stage_log
from codevision_ext.experiments.demo_stages import DemoStage, read_stages
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.json_codec import JsonCodec
from codevision_ext.io.processes import Command, available_bytes, end_marked
from codevision_ext.io.progress import Stages

MEMORY_GB = 9.0
"""Free memory that the demo requires at its start, 10^9 bytes."""
DISK_GB = 2.0
MARK = "CODEVISION_DEMO"
"""Environment variable of every process of a run: its folder."""
_POLL_S, _NOTE_S = 0.1, 5.0
"""Seconds between two polls of the command, and between two measurements of its memory, which take 0.1 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """State of a stage that was started."""

    key: str
    """Hash of the settings of this stage and of all earlier stages."""
    done: bool = False
    """True if the output is complete."""
    seconds: float = 0.0
    """Running time over all attempts, seconds."""
    peak_gb: float = 0.0
    """Peak memory of the process tree (sum of PSS, so shared pages count once), 10^9 bytes."""


Check = Callable[[Path, Path, Path], None]
"""Function of the run's folder, the recipe and a folder for temporary files; raises InputError."""
_NOTES: JsonCodec[Note] = JsonCodec(Note)


def run_demo(out: Path, *, recipe: Path, seed: int = 0, until: str | None = None, check: Check | None = None) -> Path:
    """Runs the unfinished stages up to `until` (None: up to the last one), and returns the folder.

    `check` looks for problems before the first stage; None: `preflight`.

    Raises:
        InputError: a problem was found before the first stage.
        InfraError: a stage failed; the message quotes the last error in its log and names the log.
        KeyboardInterrupt: the run was stopped; no process is left, and the same call continues the run.
    """
    every = read_stages(recipe)
    names = [stage.name for stage in every]
    if until is not None and until not in names:
        raise InputError(f"--until {until}: no such stage; there are {', '.join(names)}")
    stages = every if until is None else every[: names.index(until) + 1]
    keys = stage_keys(recipe, every, seed)
    out = out.resolve()  # by one name: what a killed run left is found by it
    with claimed(out):
        pending = [stage for stage in stages if not _finished(out, stage, keys)]
        with Stages(["check", *(stage.name for stage in stages)]) as shown, private_tmp(out) as tmp:
            if pending:
                shown.start("check")
                (check or preflight)(out, recipe, tmp)
                shown.done()
            else:
                shown.skip("check", "nothing to do")
            _forget_changed(out, every, keys)
            for stage in stages:
                if stage not in pending:
                    shown.skip(stage.name, "done before")
                    continue
                shown.start(stage.name)
                if stage is every[-1]:
                    _add_costs(out, every[:-1])
                _run(stage, out, recipe, seed, keys[stage.name], tmp, shown)
                shown.done()
    return out


def stage_keys(recipe: Path, stages: Sequence[DemoStage], seed: int) -> dict[str, str]:
    """Returns a hash for each stage, over its branch of run.sh, shared lines, settings, seed and earlier stages.

    Raises:
        InputError: a file is missing or has no such branch.
    """
    script = _text(recipe / "run.sh")
    shared, _, branches = script.partition("\ncase ")
    key, keys = hashlib.sha256(f"{seed}\n{shared}".encode()), {}
    for stage in stages:
        branch = re.search(rf"^  {stage.name}\).*?^    ;;", branches, re.MULTILINE | re.DOTALL)
        if branch is None:
            raise InputError(f"{recipe / 'run.sh'}: has no branch for the stage {stage.name}")
        for part in (branch[0], *(_text(recipe / name) for name in stage.reads)):
            key.update(f"{len(part)}\n{part}".encode())
        keys[stage.name] = key.hexdigest()[:16]
    return keys


def preflight(out: Path, recipe: Path, tmp: Path) -> None:
    """Checks for problems that would end the run later.

    Raises:
        InputError: there is a problem; the message has a remedy.
    """
    for package in ("verl", "ray", "torch", "sglang", "transformers"):
        try:
            version(package)
        except PackageNotFoundError:
            raise InputError(f"{package} isn't installed; `make install` installs everything the demo needs") from None
    free = available_bytes() / 1e9
    if free < MEMORY_GB:
        raise InputError(f"{free:.1f} GB of memory are free, the demo needs {MEMORY_GB:.0f}; end other programs first")
    free = shutil.disk_usage(out).free / 1e9
    if free < DISK_GB:
        raise InputError(f"{out}: {free:.1f} GB are free on this disk, the demo needs {DISK_GB:.0f}")
    words = [sys.executable, "-m", "codevision_ext.preflight.recipe", str(recipe)]
    checked = subprocess.run(words, capture_output=True, text=True, check=False, env=environment(out, 0, tmp))
    if checked.returncode:
        raise InputError(stage_log.last_error(checked.stderr) or f"{recipe}: its settings can't be read")


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Locks the folder of a run for this process and yields its path.

    Raises:
        InputError: the folder can't be made, holds something other than a run, or another run is working in it.
    """
    notes = out / "stages"
    try:
        if out.is_dir() and any(out.iterdir()) and not notes.is_dir():
            raise InputError(f"{out}: holds something that is no demo run; choose another folder")
        notes.mkdir(parents=True, exist_ok=True)
        (out / "logs").mkdir(exist_ok=True)
        lock = (notes / "lock").open("w")
    except OSError as error:
        raise InputError(f"{out}: can't be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{out}: another run is working in this folder") from None
        end_marked(MARK, str(out))  # what a run left that was killed outright; the lock says that no other is alive
        yield


def _run(stage: DemoStage, out: Path, recipe: Path, seed: int, key: str, tmp: Path, shown: Stages) -> None:
    note = _read_note(out, stage.name) or Note(key=key)
    if not stage.resumes:
        _remove(out, stage)
    log = out / "logs" / f"{stage.name}.log"
    start = log.stat().st_size if log.exists() else 0
    words = ["bash", str(recipe / "run.sh"), stage.name]
    _write_note(out, stage.name, note)
    noted, due, status = time.monotonic(), 0.0, None
    shown_at: tuple[int, int, str] | None = None
    with Command(words, env=environment(out, seed, tmp), log=log) as command:
        while status is None:
            time.sleep(_POLL_S)
            status, now = command.poll(), time.monotonic()
            if status is not None or now >= due:
                peak_gb = max(note.peak_gb, command.memory_bytes() / 1e9)
                note = replace(note, seconds=note.seconds + now - noted, peak_gb=peak_gb)
                _write_note(out, stage.name, note)
                noted, due = now, now + _NOTE_S
                where = _where(stage, out, stage_log.tail(log, start))
                if where and where != shown_at:
                    shown.advance(*where)
                    shown_at = where
    if status:
        raise InfraError(
            f"{stage.name} failed: {stage_log.failure_reason(stage_log.tail(log, start), status)}; the log is {log}"
        )
    name, value = stage.note[0], _noted(stage, out)
    if value is not None and value > stage.most:
        _remove(out, stage)  # it would resume from there
        raise InfraError(
            f"{stage.name} failed: it learned nothing: {name} is {value:.2f} in the end, wanted is {stage.most} at "
            f"most; try another seed; the log is {log}"
        )
    _write_note(out, stage.name, replace(note, done=True))


def _where(stage: DemoStage, out: Path, log: str) -> tuple[int, int, str] | None:
    """Returns step, number of steps and a progress note from the command's output; None before the first step."""
    steps = stage_log.steps_done(log)
    if steps is None:
        return None
    value = _noted(stage, out)
    return *steps, "" if value is None else stage.note[1].format(value)


def _noted(stage: DemoStage, out: Path) -> float | None:
    """Returns the last value of the stage's logged number; None if none was logged yet."""
    return stage_log.last_metrics(out / stage.metrics).get(stage.note[0]) if stage.metrics else None


def _add_costs(out: Path, stages: Sequence[DemoStage]) -> None:
    """Writes the costs of these stages into results.json, before the report, which takes a second or two."""
    notes = [note for stage in stages if (note := _read_note(out, stage.name))]
    costs = Costs(
        minutes=sum(note.seconds for note in notes) / 60,
        peak_rss_gb=max(note.peak_gb for note in notes),
        step_s=stage_log.median_step_s(out / "metrics.jsonl"),
    )
    write_evaluation(out / "results.json", replace(read_evaluation(out), costs=costs))


def _finished(out: Path, stage: DemoStage, keys: dict[str, str]) -> bool:
    note = _read_note(out, stage.name)
    return note is not None and note.done and note.key == keys[stage.name]


def _forget_changed(out: Path, stages: Sequence[DemoStage], keys: dict[str, str]) -> None:
    """Removes the output of stages that ran with other settings, so that nothing resumes from it."""
    for stage in stages:
        note = _read_note(out, stage.name)
        if note is not None and note.key != keys[stage.name]:
            _remove(out, stage)
            for path in (out / "logs" / f"{stage.name}.log", out / "logs" / f"{stage.name}.jsonl"):
                path.unlink(missing_ok=True)
            _note_path(out, stage.name).unlink()


def _remove(out: Path, stage: DemoStage) -> None:
    for name in stage.makes:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _note_path(out: Path, name: str) -> Path:
    return out / "stages" / f"{name}.json"


def _read_note(out: Path, name: str) -> Note | None:
    path = _note_path(out, name)
    return _NOTES.load(path.read_bytes(), str(path)) if path.exists() else None


def _write_note(out: Path, name: str, note: Note) -> None:
    path = _note_path(out, name)
    try:
        write_whole(path, _NOTES.dump(note) + b"\n")
    except OSError as error:
        raise InfraError(f"{path}: can't be written: {error.strerror}") from error


def environment(out: Path, seed: int, tmp: Path) -> dict[str, str]:
    """Returns the commands' environment: this interpreter's programs first, temporary files in `tmp`, its own Ray."""
    ours = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "OUT": str(out),
        "SEED": str(seed),
        "TMPDIR": str(tmp),
        "RAY_TMPDIR": str(tmp),  # a Ray that looks here finds no other cluster to join
        "RAY_DEDUP_LOGS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
        "HYDRA_FULL_ERROR": "1",
        MARK: str(out),
    }
    return {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "MODEL")} | ours


@contextmanager
def private_tmp(out: Path) -> Iterator[Path]:
    """Yields a folder for temporary files; its path is short, since a socket's path has at most 107 bytes.

    Raises:
        InputError: it can't be made.
    """
    name = f"codevision-{os.getuid()}-{hashlib.sha256(str(out).encode()).hexdigest()[:8]}"
    tmp = Path(tempfile.gettempdir()) / name
    if len(str(tmp)) > 40:
        tmp = Path("/tmp") / name
    shutil.rmtree(tmp, ignore_errors=True)  # of a run that was killed
    try:
        tmp.mkdir(mode=0o700)
    except OSError as error:
        raise InputError(f"{tmp}: can't be made for temporary files: {error.strerror}") from error
    try:
        yield tmp
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}; --recipe is a folder like recipe/demo") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: isn't UTF-8") from error
