"""How did the run go, step by step? The numbers of metrics.jsonl as small line charts, ready to be drawn."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codevision_ext.errors import InputError

Points = Mapping[int, float]
"""Step -> value, steps rising."""

WIDTH, WIDE, HEIGHT = 300, 620, 128
"""Of a chart, in its own units; the total reward's is wide."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 8, 12, 20
_MAX_POINTS = 300
"""A longer series is drawn by the means of neighbouring steps."""
_SMOOTH_FROM = 30
"""From this many points on, the bold line is a running mean and the values themselves stand faintly behind it."""

_REWARD, _TOTAL = "reward/", "reward/total"
_STATISTICS = ("mean", "min", "max", "std")
_SHARES = ("_rate", "_share", "_ratio", "accuracy")
"""Names with these endings are shares in [0, 1], shown in per cent; what a reward term gives is none."""

_SECTIONS = (
    ("Reward", re.compile(_REWARD)),
    ("Behaviour", re.compile(r"(rollout|response_length|num_turns|tool)([_/]|$)")),
    ("Validation", re.compile(r"val[-_/]")),
)
_OTHERS = "Everything else that was logged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One signal, drawn: paths in a box of `width` x `height`, y down, the plot between `left` and `right`."""

    key: str
    """As it was logged, without the statistic."""
    title: str
    width: int
    height: int
    left: float
    right: float
    now: str
    """Mean of the last tenth of the steps."""
    before: str
    """Mean of the first tenth."""
    line: str
    faint: str
    """The values behind a smoothed line; empty when the line shows them itself."""
    band: str
    """One standard deviation, or from the smallest to the largest value; empty when neither was logged."""
    band_is: str
    zero: float | None
    """Height of the zero line, where it is in the picture."""
    y_ticks: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]
    points: str
    """JSON for the pointer: a list of [x, y, step, value as text]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Charts that belong together."""

    title: str
    charts: tuple[Chart, ...]
    main: bool
    """False: folded away until somebody asks."""


def read_metrics(path: Path) -> dict[str, Points]:
    """Every number of a metrics.jsonl, by name; texts and other values aren't curves and are left out.

    Lines are those of verl's file logger, {"step": 1, "data": {name: number}}, or flat, {"step": 1, name: number}.

    A run that was resumed logs some steps again: the last line of a step counts. What stands behind the last
    line break is still being written, and is left out unless it is whole.

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


def sections(metrics: Mapping[str, Points]) -> list[Section]:
    """The charts of all signals, grouped by the beginning of their name; every number that was logged is in one."""
    families: dict[str, dict[str, Points]] = defaultdict(dict)
    for key, points in metrics.items():
        stem, _, last = key.rpartition("/")
        if stem and last in _STATISTICS:
            families[stem][last] = points
        else:
            families[key]["mean"] = points
    grouped: dict[str, list[Chart]] = {title: [] for title in (*(t for t, _ in _SECTIONS), _OTHERS)}
    for stem in sorted(families, key=lambda s: (s != _TOTAL, s)):
        section = next((title for title, beginning in _SECTIONS if beginning.match(stem)), _OTHERS)
        name = re.sub(r"^(reward|rollout)/", "", stem).replace("_", " ").replace("/", " · ")
        grouped[section].extend(_charts(stem, name, families[stem], from_zero=section != _OTHERS))
    return [Section(title=t, charts=tuple(c), main=t != _OTHERS) for t, c in grouped.items() if c]


def _charts(stem: str, title: str, family: Mapping[str, Points], from_zero: bool) -> Iterator[Chart]:
    """One chart of the mean with its band; without a mean one for each statistic."""
    if "mean" not in family:
        for statistic, points in family.items():
            yield draw(f"{stem}/{statistic}", f"{title} · {statistic}", points, from_zero=from_zero)
        return
    mean, deviation = family["mean"], family.get("std")
    band, band_is = None, ""
    if deviation:
        band = {s: (mean[s] - deviation[s], mean[s] + deviation[s]) for s in mean if s in deviation}
        band_is = "± 1 standard deviation"
    elif "min" in family and "max" in family:
        band = {s: (family["min"][s], family["max"][s]) for s in mean if s in family["min"] and s in family["max"]}
        band_is = "smallest to largest"
    yield draw(stem, title, mean, band=band, band_is=band_is, from_zero=from_zero)


def draw(
    key: str,
    title: str,
    points: Points,
    *,
    band: Mapping[int, tuple[float, float]] | None = None,
    band_is: str = "",
    from_zero: bool = False,
) -> Chart:
    """The chart of one signal with at least one value; `from_zero` keeps 0 in the picture."""
    percent = key.endswith(_SHARES) and not key.startswith(_REWARD)
    width = WIDE if key == _TOTAL else WIDTH
    thin = _thin(list(points.items()))
    steps, values = [x for x, _ in thin], [y for _, y in thin]
    smooth = _running_mean(values, max(2, len(values) // 30)) if len(values) >= _SMOOTH_FROM else values
    edges: list[tuple[float, float, float]] = []
    if band:
        lows, highs = _thin([(s, b[0]) for s, b in band.items()]), _thin([(s, b[1]) for s, b in band.items()])
        edges = [(x, low, high) for (x, low), (_, high) in zip(lows, highs, strict=True)]
    every = [*values, *(e[1] for e in edges), *(e[2] for e in edges), *([0.0] if from_zero else [])]
    ticks = nice_ticks(min(every), max(every))
    bottom, top = min(ticks[0], *every), max(ticks[-1], *every)
    first, last = steps[0], max(steps[-1], steps[0] + 1)

    def at_x(step: float) -> float:
        return round(_LEFT + (step - first) / (last - first) * (width - _LEFT - _RIGHT), 1)

    def at_y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM), 1)

    def path(xs: Sequence[float], ys: Sequence[float]) -> str:
        spots = [f"{at_x(x)},{at_y(y)}" for x, y in zip(xs, ys, strict=True)]
        return "M" + "L".join(spots if len(spots) > 1 else spots * 2)

    outline = [(x, high) for x, _, high in edges] + [(x, low) for x, low, _ in reversed(edges)]
    tenth = max(1, len(points) // 10)
    every_value = list(points.values())
    return Chart(
        key=key,
        title=title,
        width=width,
        height=HEIGHT,
        left=_LEFT,
        right=width - _RIGHT,
        now=number_text(math.fsum(every_value[-tenth:]) / tenth, percent),
        before=number_text(math.fsum(every_value[:tenth]) / tenth, percent),
        line=path(steps, smooth),
        faint=path(steps, values) if smooth is not values else "",
        band=path([x for x, _ in outline], [y for _, y in outline]) + "Z" if outline else "",
        band_is=band_is if outline else "",
        zero=at_y(0.0) if bottom < 0 < top else None,
        y_ticks=tuple((at_y(t), number_text(t, percent)) for t in ticks),
        x_ticks=tuple((at_x(s), f"{s:g}") for s in sorted({steps[0], steps[-1]})),
        points=json.dumps(
            [[at_x(x), at_y(y), f"{x:g}", number_text(y, percent)] for x, y in zip(steps, values, strict=True)],
            separators=(",", ":"),
        ),
    )


def _thin(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """The same series with at most _MAX_POINTS points: means of neighbours."""
    size = math.ceil(len(points) / _MAX_POINTS)
    blocks = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(s for s, _ in b) / len(b), math.fsum(v for _, v in b) / len(b)) for b in blocks]


def _running_mean(values: Sequence[float], reach: int) -> list[float]:
    """Mean over `reach` neighbours on either side, fewer at the ends."""
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [math.fsum(window) / len(window) for window in windows]


def nice_ticks(low: float, high: float) -> list[float]:
    """Two to six round numbers around [low, high]; the outer ones may lie just inside it."""
    if high <= low:
        pad = abs(low) / 2 or 1.0
        low, high = low - (pad if low < 0 else 0.0), high + (pad if low >= 0 else 0.0)
    raw = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(raw))
    size = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    return [i * size for i in range(math.ceil(low / size - 1e-9), math.floor(high / size + 0.35) + 1)]


def number_text(value: float, percent: bool = False) -> str:
    """Short, with the digits that count: `0.125`, `1.32`, `42 %`, `1.2e−06`, `12,345`."""
    value *= 100 if percent else 1
    size = abs(value)
    if 0 < size < 0.0005:
        text = f"{value:.1e}"
    else:
        digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
        text = f"{value:,.{min(digits, 1) if percent else digits}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−") + (" %" if percent else "")
