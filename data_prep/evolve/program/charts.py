"""Makes bar charts, line charts, scatter plots and timelines without written values."""

import math
from typing import Final

from codevision_ext.drawing.targets import Outline, Place, Polyline
from data_prep.evolve.program import measure
from data_prep.evolve.program.canvas import FILLS, Canvas
from data_prep.evolve.program.model import Ask, Figure, Pen, segment, spot

_THINGS: Final = (
    ("visitors", ("Zoo", "Park", "Lake", "Fair", "Pool", "Club", "Hall", "Fort")),
    ("books", ("Ann", "Ben", "Cem", "Dora", "Eva", "Finn", "Gus", "Hana")),
    ("tons of fruit", ("Fig", "Plum", "Pear", "Kiwi", "Lime", "Date", "Nut", "Corn")),
    ("tickets", ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")),
    ("trees", ("North", "East", "South", "West", "Mid", "Hill", "Dale")),
    ("kilometres", ("Ada", "Bo", "Cleo", "Dan", "Ella", "Fay", "Gil", "Ida")),
    ("parcels", ("Van 1", "Van 2", "Van 3", "Van 4", "Van 5", "Van 6", "Van 7")),
    ("goals", ("Reds", "Blues", "Lions", "Bears", "Hawks", "Foxes", "Owls")),
)


def _axes(canvas: Canvas, box: tuple[float, float, float, float], levels: int, step: int) -> float:
    """Draw a left and a lower axis with a mark at every level, and a number at every fifth; return pixels a level."""
    left, top, right, bottom = box
    gap = (bottom - top) / levels
    canvas.path([(left, top - 8), (left, bottom)], "the vertical axis")
    canvas.path([(left, bottom), (right, bottom)], "the horizontal axis")
    for level in range(levels + 1):
        y = bottom - level * gap
        canvas.path([(left - (7 if level % 5 == 0 else 4), y), (left, y)])
        if level % 5 == 0:
            canvas.text((left - 26, y), str(level * step), size=9, clear=False)
    return gap


def bars(pen: Pen) -> Figure:
    """Return a bar chart whose axis has a mark for every step."""
    noun, labels = pen.pick(_THINGS)
    count = pen.whole(4, 5) + pen.level
    labels = tuple(pen.some(labels, count)) if count < len(labels) else labels
    count = len(labels)
    step = pen.pick((1, 2, 4, 5, 10, 20, 3))
    levels = pen.pick((20, 25))
    heights = [pen.whole(3, levels - 2) for _ in labels]
    heights[-1] += -sum(heights) % count
    if heights[-1] > levels - 2 or len(set(heights)) < count:
        raise LookupError("equal bars")
    mean = sum(heights) // count
    cut = pen.whole(min(heights) + 1, max(heights) - 1)
    if mean in heights or cut in heights or cut % 5 == 0 or abs(cut - mean) < 1:
        raise LookupError("level on a bar")
    slot, wide = pen.whole(52, 66), pen.whole(24, 34)
    gap = pen.whole(11, 13)
    left, top = 54, pen.whole(28, 40)
    right, bottom = left + slot * count + 12, top + levels * gap
    canvas = pen.canvas((max(320, 4 * round((right + pen.whole(18, 30)) / 4)), 4 * round((bottom + 40) / 4)))
    _axes(canvas, (left, top, right, bottom), levels, step)
    colour = pen.pick(FILLS)
    tops: list[tuple[Place, Place]] = []
    for at, (label, height) in enumerate(zip(labels, heights, strict=True)):
        x = left + slot * at + slot / 2 - wide / 2 + 6
        y = bottom - height * gap
        canvas.bar((x, y, x + wide, bottom), colour, canvas.ink)
        canvas.text((x + wide / 2, bottom + 16), label, f"name of bar {at + 1}", size=9, clear=False)
        canvas.point_element((x, y), label, f"upper left corner of the bar {label}")
        tops.append(((x, y), (x + wide, y)))
    facts = pen.pick(
        (
            f"The bar chart shows the number of {noun} of {len(labels)} groups; each mark of the axis is {step}.",
            f"The bars give {noun}. From one mark of the axis to the next it is {step}.",
            f"How many {noun} there were is shown by bars, with marks at every {step}.",
            f"The chart compares {', '.join(labels)} by {noun}; one step of the axis is {step}.",
        )
    )
    chosen, other = pen.some([at for at in range(count) if heights[at] < max(heights)], 2)
    value, factor = heights[chosen] * step, pen.whole(2, 9)

    def level(y: float) -> float:
        """Return the value at a height, from pixels."""
        return (bottom - y) / gap * step

    read = Ask(
        knowledge="charts/bar chart/value of a bar",
        tool="horizontal reading line",
        text=f"the number of {noun} of {labels[chosen]}",
        value=value,
        check=lambda: level(tops[chosen][0][1]),
        shapes=(segment((left, tops[chosen][0][1]), tops[chosen][0]),),
        about=f"The horizontal line from the top of the bar {labels[chosen]} to the axis.",
        reason=f"It meets the axis at {heights[chosen]} marks of {step}: {value}.",
    )
    above = [h for h in heights if h > heights[chosen]]
    excess = sum(h - heights[chosen] for h in above) * step
    rest = Ask(
        knowledge="charts/bar chart/excess over a bar",
        tool="horizontal comparison line",
        text=f"the number of {noun} by which all groups with more than {labels[chosen]} exceed {labels[chosen]},"
        " added up",
        value=excess,
        check=lambda: sum(max(0.0, level(t[0][1]) - level(tops[chosen][0][1])) for t in tops),
        shapes=(segment(tops[chosen][1], (right, tops[chosen][1][1])),),
        about=f"The line at the height of {labels[chosen]}, continued to the right end of the chart.",
        reason=f"Bars higher than {value}: {len(above)}. Together they exceed the line by {excess}.",
    )
    over = sum(h > cut for h in heights)
    limit = Ask(
        knowledge="charts/bar chart/threshold",
        tool="threshold line",
        given=f"Every group with more than {cut * step} {noun} gets a prize of {10 * factor + chosen} coins, every"
        f" other group {other + 2} coins.",
        text="the number of coins for all groups together",
        value=over * (10 * factor + chosen) + (count - over) * (other + 2),
        check=lambda: sum((10 * factor + chosen) if t[0][1] < bottom - cut * gap - 1 else other + 2 for t in tops),
        shapes=(segment((left, bottom - cut * gap), (right, bottom - cut * gap)),),
        about=f"The horizontal line at {cut * step} through all bars.",
        reason=f"Above the line end {over} of the {count} bars: {over} x {10 * factor + chosen} + {count - over} x"
        f" {other + 2}.",
    )
    moved = sum(max(0, h - mean) for h in heights) * step
    even = Ask(
        knowledge="charts/bar chart/mean",
        tool="mean line",
        text=f"the smallest number of {noun} that must change their group so that all groups have equally many",
        value=moved,
        check=lambda: sum(abs(level(t[0][1]) - sum(level(u[0][1]) for u in tops) / count) for t in tops) / 2,
        shapes=(segment((left, bottom - mean * gap), (right, bottom - mean * gap)),),
        about=f"The horizontal line at the mean, {mean * step}.",
        reason=f"The bars exceed the mean {mean * step} by {moved} together.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"read": (read, rest), "limit": (limit,), "mean": (even,)})


def dots(pen: Pen) -> Figure:
    """Return measured dots over months, one of which is missing."""
    count = 7 + pen.level
    step, levels = pen.pick((1, 2, 3, 4, 5, 10)), 20
    values = [pen.whole(2, 18) for _ in range(count)]
    gone = pen.whole(2, count - 4)
    low, high = values[gone - 1], values[gone + 1]
    if (low + high) % 2 or abs(low - high) < 3:
        raise LookupError("no whole value between the neighbours")
    inside = (low + high) // 2
    pitch, gap = pen.whole(38, 50), pen.whole(13, 16)
    left, top = 56, pen.whole(28, 40)
    right, bottom = left + pitch * count + 8, top + levels * gap
    canvas = pen.canvas((max(320, 4 * round((right + 24) / 4)), 4 * round((bottom + 40) / 4)))
    _axes(canvas, (left, top, right, bottom), levels, step)
    start = pen.whole(1, 12)
    names = [str(start + n) for n in range(count)]
    places = [spot((left + pitch * (n + 0.8), bottom - value * gap)) for n, value in enumerate(values)]
    for at, (name, place) in enumerate(zip(names, places, strict=True)):
        canvas.path([(place[0], bottom), (place[0], bottom + 5)])
        canvas.text((place[0], bottom + 16), name, size=9, clear=False)
        if at != gone:
            canvas.dot(place, name, f"dot of week {name}", radius=4)
    thing = pen.pick(("the height of a plant in mm", "the water level in cm", "the price in coins", "the load in kg",
                      "the speed in km/h", "the power in kW", "the number of guests"))  # fmt: skip
    facts = pen.pick(
        (
            f"The dots show {thing} in the weeks {names[0]} to {names[-1]}; each mark of the axis is {step}.",
            f"{thing[0].upper()}{thing[1:]} was measured every week. One mark of the axis stands for {step}.",
            f"Week by week the dots give {thing}, with marks at every {step}.",
        )
    )
    known = [place for at, place in enumerate(places) if at != gone]
    if any(
        abs(p[1] - measure.along(known[0], known[-1], (p[0] - known[0][0]) / (known[-1][0] - known[0][0]))[1]) < 9
        for p in known[1:-1]
    ):
        raise LookupError("a dot near the line")

    def level(y: float) -> float:
        """Return the value at a height, from pixels."""
        return (bottom - y) / gap * step

    between = measure.middle(places[gone - 1], places[gone + 1])
    trend = Ask(
        knowledge="charts/line chart/interpolation",
        tool="polyline trend",
        given="Between neighbouring dots the change is even.",
        text=f"the value in week {names[gone]}",
        value=inside * step,
        check=lambda: level(between[1]),
        shapes=(Polyline(points=tuple(known)),),
        about="The polyline through all dots.",
        reason=f"In week {names[gone]} it has the height {inside * step}, halfway between {low * step} and"
        f" {high * step}.",
    )
    price = pen.whole(2, 12)
    reading = Ask(
        knowledge="charts/line chart/reading between dots",
        tool="horizontal reading line",
        given=f"Between neighbouring dots the change is even. A fine of {price} is due for every unit of the value of"
        f" week {names[gone]}.",
        text="the fine",
        value=inside * step * price,
        check=lambda: level(between[1]) * price,
        shapes=(segment((left, between[1]), spot(between)),),
        about=f"The horizontal line from the polyline at week {names[gone]} to the axis.",
        reason=f"It meets the axis at {inside * step}, and {inside * step} x {price} = {inside * step * price}.",
    )
    first, last = places[0], places[-1]
    over = [place for place in known[1:-1] if place[1] < measure.meeting(first, last, place, (place[0], 0.0))[1]]
    bonus = pen.whole(11, 60)
    steady = Ask(
        knowledge="charts/line chart/above an even change",
        tool="line through points",
        given=f"A forecast had the right values of week {names[0]} and week {names[-1]}, and an even change between"
        f" them. {bonus} coins are paid for every measured value above the forecast, and {price} for every other dot.",
        text="the number of coins that are paid",
        value=len(over) * bonus + (len(known) - len(over)) * price,
        check=lambda: sum(
            bonus if measure.cross(measure.vector(first, last), measure.vector(first, p)) < -1 else price for p in known
        ),
        shapes=(segment(first, last),),
        about="The straight line from the first dot to the last one.",
        reason=f"Dots above it: {len(over)} of {len(known)}; {len(over)} x {bonus} + {len(known) - len(over)} x"
        f" {price}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"trend": (trend, reading), "steady": (steady,)})


def scatter(pen: Pen) -> Figure:
    """Return a scatter plot with many dots, two of which have names."""
    canvas = pen.page((420, 560), (340, 440))
    width, height = canvas.size
    left, top, right, bottom = 40, 24, width - 24, height - 36
    canvas.path([(left, top), (left, bottom)], "the vertical axis")
    canvas.path([(left, bottom), (right, bottom)], "the horizontal axis")
    words = pen.pick((("size", "price"), ("age", "height"), ("mass", "length"), ("time", "score"), ("rain", "yield")))
    canvas.text((right - 26, bottom + 16), words[0], size=10, clear=False)
    canvas.text((left + 32, top - 6), words[1], size=10, clear=False)
    places = _spread(pen, (left + 16, top + 20, right - 14, bottom - 16), pen.whole(30, 40) + 5 * pen.level)
    x1, x2 = sorted(pen.some(range(left + 30, right - 30, 5), 2))
    y1, y2 = sorted(pen.some(range(top + 30, bottom - 30, 5), 2))
    if x2 - x1 < 90 or y2 - y1 < 80:
        raise LookupError("a small box")
    places = [p for p in places if min(abs(p[0] - x1), abs(p[0] - x2), abs(p[1] - y1), abs(p[1] - y2)) > 6]
    ends = sorted(places, key=lambda p: p[0])
    one, two = pen.pick(ends[:4]), pen.pick(ends[-4:])
    way, length = measure.vector(one, two), math.dist(one, two)
    off = [measure.cross(way, measure.vector(one, p)) / length for p in places]
    places = [p for p, far in zip(places, off, strict=True) if abs(far) > 8 or p in (one, two)]
    above = sum(far < -8 for far in off)
    within = [p for p in places if x1 < p[0] < x2 and y1 < p[1] < y2]
    if len(within) < 3 or len(places) < 12:
        raise LookupError("few dots")
    names = pen.names(2)
    for place in places:
        canvas.dot(place, radius=3.5)
    for place, name in zip((one, two), names, strict=True):
        canvas.point_element(place, name, f"dot {name}")
        canvas.text((place[0] + 12, place[1] - 12), name)
    worth, other = pen.whole(2, 15), pen.whole(1, 9)
    noun = pen.pick(("houses", "children", "fish", "runners", "fields", "stones"))
    facts = pen.pick(
        (
            f"Each dot of the plot is one of {len(places)} {noun}.",
            f"The plot shows {len(places)} {noun} by {words[0]} and {words[1]}.",
            f"{len(places)} {noun} were measured; the dots give their {words[0]} and {words[1]}.",
        )
    )
    line = Ask(
        knowledge="charts/scatter plot/above a line",
        tool="line through points",
        given=f"A linear rule fits {names[0]} and {names[1]} exactly. Every one of the {noun} with more {words[1]} than"
        f" the rule says counts {worth} points, all others count {other}, also {names[0]} and {names[1]}.",
        text="the number of points of all together",
        value=above * worth + (len(places) - above) * other,
        check=lambda: sum(
            worth if p not in (one, two) and p[1] < measure.meeting(one, two, p, (p[0], p[1] + 1))[1] else other
            for p in places
        ),
        shapes=(segment(one, two),),
        about=f"The line through {names[0]} and {names[1]}.",
        reason=f"{above} dots lie above the line: {above} x {worth} + {len(places) - above} x {other}.",
    )  # fmt: skip
    for x, mark in ((x1, "a"), (x2, "b")):
        canvas.path([(x, bottom - 4), (x, bottom + 4)])
        canvas.text((x, bottom + 14), mark, size=10, clear=False)
    for y, mark in ((y2, "c"), (y1, "d")):
        canvas.path([(left - 4, y), (left + 4, y)])
        canvas.text((left - 14, y), mark, size=10, clear=False)
    gift = pen.whole(2, 15)
    box = Ask(
        knowledge="charts/scatter plot/region",
        tool="box round a region",
        given=f"A jury pays {gift} coins for each of the {noun} with {words[0]} from a to b and {words[1]} from c to"
        " d.",
        text="the number of coins that the jury pays",
        value=gift * len(within),
        check=lambda: gift * sum(measure.inside(p, [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]) for p in places),
        shapes=(Outline(x1=x1, y1=y1, x2=x2, y2=y2),),
        about="The box from a to b and from c to d.",
        reason=f"The box holds {len(within)} dots: {len(within)} x {gift} = {gift * len(within)}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"line": (line,), "box": (box,)})


def _spread(pen: Pen, box: tuple[float, float, float, float], count: int, apart: float = 22) -> list[Place]:
    """Return places in a box (left, top, right, bottom) that are at least `apart` pixels from one another."""
    places: list[Place] = []
    for _ in range(4000):
        place = float(pen.whole(int(box[0]), int(box[2]))), float(pen.whole(int(box[1]), int(box[3])))
        if all((place[0] - x) ** 2 + (place[1] - y) ** 2 >= apart**2 for x, y in places):
            places.append(place)
        if len(places) == count:
            return places
    raise LookupError("no room for the dots")


def timeline(pen: Pen) -> Figure:
    """Return the bars of tasks over hours, of which many run at the same time."""
    count = pen.whole(6, 7) + pen.level
    hours, start = 12, pen.whole(0, 11)
    pitch, row = pen.whole(34, 42), pen.whole(26, 32)
    left, top = 64, 24
    right, bottom = left + hours * pitch, top + count * row + 8
    canvas = pen.canvas((4 * round((right + 22) / 4), 4 * round((bottom + 36) / 4)))
    canvas.path([(left, bottom), (right, bottom)], "the axis of time")
    for hour in range(hours + 1):
        x = left + hour * pitch
        canvas.path([(x, bottom), (x, bottom + 5)])
        if hour % 3 == 0:
            canvas.text((x, bottom + 16), str(start + hour), size=9, clear=False)
    kind = pen.pick(("Task", "Pump", "Crew", "Boat", "Kiln", "Fan"))
    colour = pen.pick(FILLS)
    spans = []
    for at in range(count):
        one = pen.whole(0, hours - 3) + pen.pick((0, 0.5))
        end = min(float(hours), one + pen.whole(2, 6))
        spans.append((one, end))
        y = top + at * row
        canvas.bar((left + one * pitch, y, left + end * pitch, y + row - 12), colour, canvas.ink)
        canvas.text((left - 32, y + row / 2 - 6), f"{kind} {at + 1}", f"name of row {at + 1}", size=9, clear=False)
        ends = (left + one * pitch, y), (left + end * pitch, y)
        canvas.line_element(*ends, f"upper edge of the bar of {kind} {at + 1}")
    moments = [
        t / 4 for t in range(4, 4 * hours - 3)
        if all(min(abs(t / 4 - a), abs(t / 4 - b)) >= 0.24 for a, b in spans)
    ]  # fmt: skip
    running = {t: sum(a < t < b for a, b in spans) for t in moments}
    moments = [t for t in moments if running[t] >= 2]
    if len(moments) < 3:
        raise LookupError("no moment with several tasks")
    now_at, *window_at = pen.some(moments, 3)
    first, second = sorted(window_at)
    if min(second - first, abs(now_at - first), abs(now_at - second)) < 1.2:
        raise LookupError("moments too near")
    power, idle, lot = pen.whole(4, 20), pen.whole(2, 3), pen.whole(5, 19)
    noun = kind.lower()
    facts = pen.pick(
        (
            f"The bars show when each {noun} is at work; the axis gives the hours {start} to {start + hours}.",
            f"Every {noun} works in the hours of its bar, between hour {start} and hour {start + hours}.",
            f"The plan of a day from hour {start} to hour {start + hours} has one bar for each {noun}.",
        )
    )
    words = [_clock(start, moment) for moment in (first, second)]
    time = _clock(start, now_at)

    def across(moment: float) -> float:
        """Return the x of a moment, pixels."""
        return left + moment * pitch

    now = Ask(
        knowledge="charts/timeline/moment",
        tool="vertical reading line",
        given=f"A {noun} at work needs {power} kW, an idle one {idle} kW.",
        text=f"the power in kW that all of them need at {time}",
        value=running[now_at] * power + (count - running[now_at]) * idle,
        check=lambda: sum(power if across(a) < across(now_at) < across(b) else idle for a, b in spans),
        shapes=(segment((across(now_at), top - 10), (across(now_at), bottom)),),
        about=f"The vertical line at {time}.",
        reason=f"It crosses {running[now_at]} bars: {running[now_at]} x {power} + {count - running[now_at]} x {idle}.",
    )
    touched = sum(b > first and a < second for a, b in spans)
    window = Ask(
        knowledge="charts/timeline/window",
        tool="box round a region",
        given=f"Everyone who works for some time between {words[0]} and {words[1]} gets {lot} coins, everybody else"
        f" {idle} coins.",
        text="the number of coins that are paid",
        value=touched * lot + (count - touched) * idle,
        check=lambda: sum(lot if across(b) > across(first) and across(a) < across(second) else idle for a, b in spans),
        shapes=(Outline(x1=across(first), y1=top - 10, x2=across(second), y2=bottom - 5),),
        about=f"The box over all rows from {words[0]} to {words[1]}.",
        reason=f"Bars that reach into the box: {touched} of {count}; {touched} x {lot} + {count - touched} x {idle}.",
    )
    return Figure(canvas=canvas, facts=facts, chains={"moment": (now,), "window": (window,)})


def _clock(start: int, moment: float) -> str:
    """Return a moment as hours and minutes."""
    minutes = round(60 * (start + moment))
    return f"{minutes // 60}:{minutes % 60:02d}"
