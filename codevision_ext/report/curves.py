"""Turns the numbers of metrics.jsonl into small line charts for the report page."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from codevision_ext.errors import InputError

Points = Mapping[int, float]
"""Step -> value, steps rising."""

WIDTH, WIDE, HEIGHT = 300, 620, 128
"""Size of a chart in SVG units; the chart of the total reward is wide."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 8, 12, 20
_MAX_POINTS = 300
"""Maximum number of points in a line; in a longer series, each point is the mean of neighbouring steps."""
_SMOOTH_FROM = 30
"""Minimum number of points at which the bold line is a running mean, with the values as a faint line behind it."""

_REWARD, _TOTAL = "reward/", "reward/total"
_STATISTICS = ("mean", "min", "max", "std")
_SHARES = ("_rate", "_share", "_ratio", "accuracy")
"""Endings of the names of shares in [0, 1], which are shown in percent. Reward terms aren't shares."""

_SECTIONS = (
    ("Reward", re.compile(_REWARD)),
    ("Behaviour", re.compile(r"(rollout|response_length|num_turns|tool)([_/]|$)")),
    ("Validation", re.compile(r"val[-_/]")),
)
_OTHERS = "Everything else that was logged"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlottedLine:
    """One run's values in a chart."""

    run: int
    """Index of the run."""
    now: str
    """Mean of the last tenth of the steps."""
    before: str
    """Mean of the first tenth."""
    path: str
    faint: str
    """Path of the values behind a smoothed line; empty if the line isn't smoothed."""
    points: tuple[tuple[float, float, str, str], ...]
    """Points for the pointer: x, y, step and value as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Chart of one signal: SVG paths in a box of `width` x `height`, y down, with the plot from `left` to `right`."""

    key: str
    """Name in the log, without the statistic."""
    title: str
    width: int
    height: int
    left: float
    right: float
    lines: tuple[PlottedLine, ...]
    """One line per run that logged the signal."""
    band: str
    """Path around one standard deviation, or from the smallest to the largest value; empty if neither was logged, or if
    several runs share the chart."""
    band_is: str
    zero: float | None
    """Height of the zero line; None if it is outside the chart."""
    y_ticks: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]

    @property
    def points(self) -> str:
        """Points of each line for the pointer, as JSON: `[run, points]`."""
        return json.dumps([[line.run, line.points] for line in self.lines], separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Charts that belong together."""

    title: str
    charts: tuple[Chart, ...]
    zeros: tuple[str, ...]
    """Names of the signals that were 0 at every step of every run; they have no chart."""
    main: bool
    """False for a section that is folded."""


def read_metrics(path: Path) -> dict[str, Points]:
    """Returns every number of a metrics.jsonl by name; texts and other values are left out.

    A line is as verl's file logger writes it, {"step": 1, "data": {name: number}}, or flat, {"step": 1, name: number}.

    A resumed run logs some steps again: the last line of a step counts. Text behind the last line break may still be
    written, and is left out unless it is complete.

    Raises:
        InputError: the file can't be read, a line isn't a JSON object, or has no whole number `step`.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    rows: dict[int, dict[str, float]] = {}
    *lines, rest = text.split("\n")
    lines += [rest] if rest.endswith("}") else []
    for number, line in enumerate(lines, start=1):
        row = _row(line, f"{path}, line {number}")
        step = row.pop("step")
        values = row["data"] if isinstance(row.get("data"), dict) else row
        rows[step] = {key: float(value) for key, value in values.items() if _is_number(value)}
    series: dict[str, dict[int, float]] = defaultdict(dict)
    for step in sorted(rows):
        for key, value in rows[step].items():
            series[key][step] = value
    return dict(series)


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: not a JSON object")
    step = row.get("step")
    if not isinstance(step, int) or isinstance(step, bool):
        raise InputError(f"{where}: field step: {step!r} isn't a whole number")
    return row


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def sections(runs: Sequence[Mapping[str, Points]]) -> list[Section]:
    """Returns the charts of all logged numbers, grouped by the beginning of their names, with the runs overlaid.

    Signals that are always 0 are only named.
    """
    families: dict[str, dict[int, dict[str, Points]]] = defaultdict(lambda: defaultdict(dict))
    for run, metrics in enumerate(runs):
        for key, points in metrics.items():
            stem, _, last = key.rpartition("/")
            if stem and last in _STATISTICS:
                families[stem][run][last] = points
            else:
                families[key][run]["mean"] = points
    titles = [*(title for title, _ in _SECTIONS), _OTHERS]
    charts: dict[str, list[Chart]] = {title: [] for title in titles}
    zeros: dict[str, list[str]] = {title: [] for title in titles}
    for stem in sorted(families, key=lambda s: (s != _TOTAL, s)):
        section = next((title for title, beginning in _SECTIONS if beginning.match(stem)), _OTHERS)
        name = re.sub(r"^(reward|rollout)/", "", stem).replace("_", " ").replace("/", " · ")
        logged = [points for family in families[stem].values() for points in family.values()]
        if any(any(points.values()) for points in logged):
            charts[section].extend(_charts(stem, name, families[stem], from_zero=section != _OTHERS))
        else:
            zeros[section].append(name)
    return [
        Section(title=t, charts=tuple(charts[t]), zeros=tuple(zeros[t]), main=t != _OTHERS)
        for t in titles
        if charts[t] or zeros[t]
    ]


def _charts(stem: str, title: str, family: Mapping[int, Mapping[str, Points]], from_zero: bool) -> Iterator[Chart]:
    """Yields a chart of the means, with a band for a single run; runs without a mean get a chart per statistic."""
    means = {run: points["mean"] for run, points in family.items() if "mean" in points}
    for statistic in _STATISTICS:
        others = {r: points[statistic] for r, points in family.items() if r not in means and statistic in points}
        if others:
            yield draw_curves(f"{stem}/{statistic}", f"{title} · {statistic}", others, from_zero=from_zero)
    if not means:
        return
    band, band_is = None, ""
    if len(means) == 1:
        ((run, mean),) = means.items()
        edges = family[run]
        if "std" in edges:
            spread = edges["std"]
            band = {s: (mean[s] - spread[s], mean[s] + spread[s]) for s in mean if s in spread}
            band_is = "± 1 standard deviation"
        elif "min" in edges and "max" in edges:
            low, high = edges["min"], edges["max"]
            band = {s: (low[s], high[s]) for s in mean if s in low and s in high}
            band_is = "smallest to largest"
    yield draw_curves(stem, title, means, band=band, band_is=band_is, from_zero=from_zero)


def draw_curves(
    key: str,
    title: str,
    runs: Mapping[int, Points],
    *,
    band: Mapping[int, tuple[float, float]] | None = None,
    band_is: str = "",
    from_zero: bool = False,
) -> Chart:
    """Returns the chart of one signal from the values of each run, at least one per run; `from_zero` includes 0."""
    percent = key.endswith(_SHARES) and not key.startswith(_REWARD)
    width = WIDE if key == _TOTAL else WIDTH
    thinned = {run: _thin(list(points.items())) for run, points in runs.items()}
    edges: list[tuple[float, float, float]] = []
    if band:
        lows, highs = _thin([(s, b[0]) for s, b in band.items()]), _thin([(s, b[1]) for s, b in band.items()])
        edges = [(x, low, high) for (x, low), (_, high) in zip(lows, highs, strict=True)]
    every = [y for points in thinned.values() for _, y in points]
    every += [*(e[1] for e in edges), *(e[2] for e in edges), *([0.0] if from_zero else [])]
    ticks = nice_ticks(min(every), max(every))
    bottom, top = min(ticks[0], *every), max(ticks[-1], *every)
    start = min(points[0][0] for points in thinned.values())
    end = max(points[-1][0] for points in thinned.values())

    def at_x(step: float) -> float:
        return round(_LEFT + (step - start) / (max(end, start + 1) - start) * (width - _LEFT - _RIGHT), 1)

    def at_y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM), 1)

    def path(xs: Sequence[float], ys: Sequence[float]) -> str:
        spots = [f"{at_x(x)},{at_y(y)}" for x, y in zip(xs, ys, strict=True)]
        return "M" + "L".join(spots if len(spots) > 1 else spots * 2)

    def line(run: int) -> PlottedLine:
        steps, values = [x for x, _ in thinned[run]], [y for _, y in thinned[run]]
        smooth = _running_mean(values, max(2, len(values) // 30)) if len(values) >= _SMOOTH_FROM else values
        logged = list(runs[run].values())
        tenth = max(1, len(logged) // 10)
        return PlottedLine(
            run=run,
            now=short_number(fmean(logged[-tenth:]), percent),
            before=short_number(fmean(logged[:tenth]), percent),
            path=path(steps, smooth),
            faint=path(steps, values) if smooth is not values else "",
            points=tuple(
                (at_x(x), at_y(y), f"{x:g}", short_number(y, percent)) for x, y in zip(steps, values, strict=True)
            ),
        )

    outline = [(x, high) for x, _, high in edges] + [(x, low) for x, low, _ in reversed(edges)]
    return Chart(
        key=key,
        title=title,
        width=width,
        height=HEIGHT,
        left=_LEFT,
        right=width - _RIGHT,
        lines=tuple(line(run) for run in runs),
        band=path([x for x, _ in outline], [y for _, y in outline]) + "Z" if outline else "",
        band_is=band_is if outline else "",
        zero=at_y(0.0) if bottom < 0 < top else None,
        y_ticks=tuple((at_y(t), short_number(t, percent)) for t in ticks),
        x_ticks=tuple((at_x(s), f"{s:g}") for s in sorted({start, end})),
    )


def _thin(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """Returns the series with at most _MAX_POINTS points, which are means of neighbours."""
    size = math.ceil(len(points) / _MAX_POINTS)
    blocks = (points[i : i + size] for i in range(0, len(points), size))
    return [(fmean(s for s, _ in block), fmean(v for _, v in block)) for block in blocks]


def _running_mean(values: Sequence[float], reach: int) -> list[float]:
    """Returns the mean over `reach` neighbours on either side, fewer at the ends."""
    return [fmean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]


def nice_ticks(low: float, high: float) -> list[float]:
    """Returns two to six round numbers around [low, high]; the outer ones may lie just inside it."""
    if high <= low:
        pad = abs(low) / 2 or 1.0
        low, high = low - (pad if low < 0 else 0.0), high + (pad if low >= 0 else 0.0)
    raw = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(raw))
    size = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    return [i * size for i in range(math.ceil(low / size - 1e-9), math.floor(high / size + 0.35) + 1)]


def short_number(value: float, percent: bool = False) -> str:
    """Writes a number with few digits: `0.125`, `1.32`, `42 %`, `1.2e−06`, `12,345`."""
    value *= 100 if percent else 1
    size = abs(value)
    if 0 < size < 0.0005:
        text = f"{value:.1e}"
    else:
        digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
        text = f"{value:,.{min(digits, 1) if percent else digits}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−") + (" %" if percent else "")
