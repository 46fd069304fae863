"""Makes one HTML page from the folders of runs. The page names the files that a folder lacks.

These files of each folder are read:

results.json                                scores of checkpoints and models
metrics.jsonl                               the numbers of every training step
{eval,rollouts,records}/*.jsonl             records of rollouts, with pictures/ beside them
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2

from codevision_ext.config import WatchSettings
from codevision_ext.errors import InputError
from codevision_ext.evaluate.compare import short_names
from codevision_ext.evaluate.metrics import COLUMNS, Score
from codevision_ext.evaluate.published import published_tables
from codevision_ext.evaluate.results import Evaluation, read_evaluation
from codevision_ext.evaluate.tables import verifier_notes
from codevision_ext.io.atomic_files import write_whole
from codevision_ext.io.records import Record
from codevision_ext.monitor.signals import check_signals
from codevision_ext.report import curves, sources
from codevision_ext.report.images import Album, forget_others
from codevision_ext.report.scores import checkpoint_rows, headlines, setup_of_checkpoints, suite_rows
from codevision_ext.report.sources import MODES, NAMES, RunSource
from codevision_ext.report.trajectories import KINDS, view

LIMIT = 2000
"""Maximum rollouts of a page by default."""


def write_report(
    run_dirs: Sequence[Path], out: Path | None = None, *, inline: bool = False, limit: int = LIMIT
) -> Path:
    """Writes the page about some runs and returns its path.

    Images go into the folder OUT_pictures beside the page. The page names the files that the runs lack.

    Args:
        run_dirs: Folders of the runs; at least one.
        out: File of the page; None: RUN_DIR/report.html for a single run, report.html for several.
        inline: True: images are stored in the page itself, and large images are shrunk.
        limit: Maximum number of rollouts to show; if there are more, the page shows a sample of every record file.

    Raises:
        InputError: a folder is missing or holds nothing of a run, a file in it can't be read, or the page or its
            images can't be written.
    """
    for run_dir in run_dirs:
        if not run_dir.is_dir():
            raise InputError(f"{run_dir}: no such folder")
    target = out or (run_dirs[0] / "report.html" if len(run_dirs) == 1 else Path("report.html"))
    if not target.parent.is_dir():
        raise InputError(f"{target}: can't be written: no folder {target.parent}")
    album = Album(None if inline else target.with_name(f"{target.stem}_pictures"))
    page = render(run_dirs, album, limit).encode()
    try:
        write_whole(target, page)
    except OSError as error:
        raise InputError(f"{target}: can't be written: {error.strerror}") from error
    if album.folder:
        forget_others(album.folder, {name for name, _, _ in album.entries})
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Content of one folder."""

    name: str
    evaluation: Evaluation | None
    """Results of its models; None if the folder has no results.json."""
    metrics: dict[str, curves.Points]

    @property
    def steps(self) -> int:
        """Last training step that was logged; 0 if none was."""
        return max((max(points) for points in self.metrics.values()), default=0)


def render(run_dirs: Sequence[Path], album: Album, limit: int = LIMIT) -> str:
    """Returns the page as text, and adds its images to the album.

    Raises:
        InputError: a folder holds nothing of a run, or a file in it can't be read.
    """
    names = short_names(run_dirs)
    if len(set(names)) < len(names):
        raise InputError(f"{run_dirs[0]}: the same folder occurs twice")
    read = sources.read_sources(run_dirs)
    runs, missing = [], []
    for index, (run_dir, name) in enumerate(zip(run_dirs, names, strict=True)):
        path = run_dir / "results.json"
        run = Run(
            name=name,
            evaluation=read_evaluation(path) if path.exists() else None,
            metrics=curves.read_metrics(run_dir / "metrics.jsonl") if (run_dir / "metrics.jsonl").exists() else {},
        )
        lacks = _lacks(run, [source.path.parent.name for source in read if source.run == index])
        if len(lacks) == 4:
            raise InputError(f"{run_dir}: holds no results.json, metrics.jsonl or records of a run")
        missing += [f"{name}: {sentence}" if len(run_dirs) > 1 else sentence for sentence in lacks]
        runs.append(run)
    chosen = sources.sample(read, limit)
    findings = [(run, finding) for run in runs for finding in check_signals(run.metrics, WatchSettings())]
    (single,) = runs if len(runs) == 1 else [None]
    evaluations = [run.evaluation for run in runs if run.evaluation]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["reading"] = _reading
    environment.filters["percent"] = lambda share: f"{share * 100:.1f}"
    environment.filters["number"] = lambda value: "–" if value is None else curves.short_number(value)
    folder = files("codevision_ext.report")
    script = (folder / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment.from_string((folder / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        runs=runs,
        single=single,
        missing=missing,
        columns=(*COLUMNS, "avg"),
        checkpoint_rows=checkpoint_rows,
        suite_rows=suite_rows,
        setup_of=setup_of_checkpoints,
        headlines=headlines(single.evaluation) if single and single.evaluation else [],
        notes=[note for each in evaluations for note in verifier_notes(each)],
        published=published_tables(
            suite for each in evaluations for model in each.models.values() for suite in model.suites
        ),
        names=NAMES,
        modes=MODES,
        sections=curves.sections([run.metrics for run in runs]),
        findings=findings,
        sources=read,
        summaries=[sources.run_summary(source) for source in read],
        shown=sum(map(len, chosen)),
        kept=sum(len(source.records) for source in read),
        style=(folder / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=f"sha256-{digest}",
        data=_data(runs, read, chosen, album),
        images=_json([list(entry) for entry in album.entries]),
    )


def _lacks(run: Run, folders: Sequence[str]) -> list[str]:
    missing = []
    if run.evaluation is None:
        missing.append("results.json isn't there, so there is no table of results: the evaluation hasn't finished.")
    if not run.metrics:
        missing.append("metrics.jsonl holds no step, so there are no curves: the training hasn't begun.")
    if "eval" not in folders:
        missing.append("eval/ holds no record, so no trajectory is from an evaluation.")
    if not {"rollouts", "records"} & set(folders):
        missing.append("rollouts/ holds no record, so no trajectory is from the training.")
    return missing


def _data(runs: Sequence[Run], read: Sequence[RunSource], chosen: Sequence[Sequence[Record]], album: Album) -> str:
    """Returns the data of the page's script, as JSON that may stand in a script element, and fills the album."""
    items: dict[str, int] = {}
    rollouts = []
    for index, (source, records) in enumerate(zip(read, chosen, strict=True)):
        for record in records:
            item = items.setdefault(sources.item_of(record), len(items))
            rollouts.append(view(record, source.path.parent, album.add) | {"from": index, "item": item})
    many = len(runs) > 1
    return _json(
        {
            "kinds": {key: list(words) for key, words in KINDS.items()},
            "sources": [f"{runs[source.run].name}: {source.label}" if many else source.label for source in read],
            "pair": sources.pair(read, chosen),
            "folder": album.base,
            "rollouts": rollouts,
        }
    )


def _json(value: object) -> str:
    """Returns a value as JSON for a script element; text of a model in it can't close the element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _reading(score: Score) -> str:
    """Returns an accuracy in percent; with undecided answers a range, from all of them wrong to all of them right."""
    low, high = f"{score.accuracy * 100:.1f}", f"{score.upper * 100:.1f}"
    return f"{low} to {high}" if score.undecided else low
