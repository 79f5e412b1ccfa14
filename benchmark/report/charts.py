"""Geometry of the report's charts.

Here stand positions only; the templates hold the marks. Horizontal positions are per cent of
a chart's width, so a chart fits a phone and a wide screen without its text being scaled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from benchmark.study.scores import NOTHING

XY = tuple[float, float]
Line = tuple[XY, ...]

MAX_DOTS = 60  # seeds drawn one by one; beyond that they are a smear
MAX_POINTS = 80  # of one curve
_SHIFTS = (
    (9.0, 4.0, "start"),
    (-9.0, 4.0, "end"),
    (0.0, -10.0, "middle"),
    (0.0, 18.0, "middle"),
    (7.0, -6.0, "start"),
    (-7.0, -6.0, "end"),
    (7.0, 15.0, "start"),
    (-7.0, 15.0, "end"),
)
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_ONE_VALUE = 1e-9  # values that differ by less, as a share of the largest, are one value


@dataclass(frozen=True)
class Axis:
    """A scale with round ticks.

    Attributes:
        low, high: values at its ends.
        ticks: round values between them.
        decimals: digits that tell the ticks apart.
        log: whether equal ratios are equally long.
        names: of the ticks, where they are options and not numbers.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    decimals: int = 0
    log: bool = False
    names: tuple[str, ...] = ()

    def holds(self, value: float) -> bool:
        """Return whether ``value`` lies between the ends."""
        return self.low <= value <= self.high

    def at(self, value: float) -> float:
        """Return where ``value`` lies between the ends, in per cent."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return round(100 * (value - low) / (high - low), 2)

    def span(self, low: float, high: float) -> float:
        """Return the length from ``low`` to ``high``, in per cent."""
        return round(self.at(high) - self.at(low), 2)

    def label(self, tick: float, signed: bool = False) -> str:
        """Return a tick's text, with a true minus sign."""
        if self.names:
            return self.names[int(tick)]
        if self.log:
            return minus(f"{tick:g}")
        text = f"{tick:+z.{self.decimals}f}" if signed else f"{tick:z.{self.decimals}f}"
        return minus(text.lstrip("+") if float(text) == 0 else text)


@dataclass(frozen=True)
class Mark:
    """One row of an interval chart, in per cent or points.

    ``dots`` are single seeds; None stands where there is no mean or no interval.
    """

    name: str
    mean: float | None
    low: float | None = None
    high: float | None = None
    dots: tuple[float, ...] = ()
    note: str = ""

    @property
    def values(self) -> list[float]:
        """Return all that an axis must reach."""
        return [v for v in (self.mean, self.low, self.high, *self.dots) if v is not None]


@dataclass(frozen=True)
class Panel:
    """A small chart of curves: two axes on a canvas of fixed size, in its own units."""

    x: Axis
    y: Axis
    width: float = 240.0
    height: float = 132.0
    left: float = 34.0
    bottom: float = 20.0
    edge: float = 6.0

    def px(self, value: float) -> float:
        """Return the canvas position of an x value."""
        return round(self.left + (self.width - self.left - self.edge) * self.x.at(value) / 100, 1)

    def py(self, value: float) -> float:
        """Return the canvas position of a y value."""
        room = self.height - self.bottom - self.edge
        return round(self.height - self.bottom - room * self.y.at(value) / 100, 1)

    def path(self, points: Sequence[XY], steps: bool = False) -> str:
        """Return points as an SVG path; ``steps`` holds each value until the next point."""
        if not points:
            return ""
        parts = [f"M{self.px(points[0][0]):g} {self.py(points[0][1]):g}"]
        for x, y in points[1:]:
            ends = f"H{self.px(x):g}V{self.py(y):g}" if steps else None
            parts.append(ends or f"L{self.px(x):g} {self.py(y):g}")
        return "".join(parts)

    def spots(self, points: Sequence[XY]) -> str:
        """Return points as one SVG path of dots, for a stroke with round ends."""
        return "".join(f"M{self.px(x):g} {self.py(y):g}h0" for x, y in points)


@dataclass(frozen=True)
class Plot:
    """A small chart in the data's own numbers: curves and dots on a panel.

    Attributes:
        name: what stands above it.
        panel: its axes, the same for all charts beside each other.
        thin: single trainings.
        thick: their mean, or the best so far of a search.
        steps: whether ``thick`` and ``dashed`` hold each value until the next.
        dashed: the baseline's thick line, empty in the baseline's own chart.
        dots: kept steps of trainings, or values of trials.
        crosses: x of failed trials.
        ring: the chosen trial.
        words: what is seen, for readers who do not see.
    """

    name: str
    panel: Panel
    thin: tuple[Line, ...] = ()
    thick: Line = ()
    steps: bool = False
    dashed: Line = ()
    dots: Line = ()
    crosses: tuple[float, ...] = ()
    ring: XY | None = None
    words: str = ""


@dataclass(frozen=True)
class Point:
    """A labelled point of a scatter chart; ``anchor`` is empty where no label fits."""

    name: str
    x: float
    y: float
    kind: str = ""
    dx: float = 0.0
    dy: float = 0.0
    anchor: str = ""


@dataclass(frozen=True)
class Scatter:
    """Points with labels that do not overlap on a chart of at least this size in pixels."""

    x: Axis
    y: Axis
    points: tuple[Point, ...]
    x_label: str
    y_label: str
    width: float = 270.0
    height: float = 240.0

    def top(self, value: float) -> float:
        """Return how far below the upper edge a y value lies, in per cent of the height."""
        return 100 - self.y.at(value)

    @property
    def words(self) -> str:
        """Return what is seen, for readers who do not see."""
        points = (f"{p.name} {number(p.y)} at {number(p.x, 1)}" for p in self.points)
        return f"{self.y_label} against {self.x_label}: {', '.join(points)}"


def number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """Return a number for people, a dash where there is none."""
    if value is None:
        return NOTHING
    return minus(f"{value:+z,.{digits}f}" if signed else f"{value:z,.{digits}f}")


def minus(text: str) -> str:
    """Return ``text`` with a typographic minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def spanning(
    values: Iterable[float], *, zero: bool = False, count: int = 5, room: float = 0.05
) -> Axis:
    """Return an axis that reaches ``values`` with a little room and about ``count`` ticks.

    Args:
        values: finite numbers; none gives the axis from 0 to 1.
        zero: start at 0 exactly, for amounts.
        count: how many ticks are wanted.
        room: left free at an end that is not 0, as a share of what is reached.
    """
    reached = list(values) or [0.0, 1.0]
    low, high = min(reached), max(reached)
    if zero:
        low = min(low, 0.0)
    spread = high - low
    if spread < _ONE_VALUE * max(abs(low), abs(high), 1.0):  # rounding: no tick tells them apart
        spread = 0.0
    free = room * spread or max(0.05 * abs(high), 0.5)
    low, high = (low if zero and low == 0 else low - free), high + free
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * s for s in _STEPS if power * s >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    decimals = next(d for d in range(13) if math.isclose(round(step, d), step, rel_tol=1e-6))
    return Axis(low, high, tuple(round(k * step, 12) for k in range(first, last + 1)), decimals)


def whole(values: Iterable[float]) -> Axis:
    """Return an axis from 0 to the highest value with ticks at whole numbers."""
    high = max(values, default=1.0) or 1.0
    ticks = spanning([0.0, high], zero=True, count=4).ticks
    return Axis(0.0, high, tuple(tick for tick in ticks if tick == int(tick) and tick <= high))


def thinned(points: Sequence[XY]) -> Line:
    """Return at most ``MAX_POINTS`` of a curve's points, first and last included."""
    if len(points) <= MAX_POINTS:
        return tuple(points)
    stride = (len(points) - 1) / (MAX_POINTS - 1)
    return tuple(points[round(k * stride)] for k in range(MAX_POINTS))


def logarithmic(low: float, high: float) -> Axis:
    """Return an axis from ``low`` > 0 to ``high`` with ticks at powers of ten, or at its ends."""
    powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    stride = -(-len(powers) // 4) or 1
    ticks = tuple(10.0**power for power in powers[::stride])
    return Axis(low, high, ticks if len(ticks) > 1 else (low, high), log=True)


def focused(marks: Sequence[Mark], aside: Sequence[Mark], *always: float) -> Axis:
    """Return an axis for ``marks`` that reaches ``aside`` only if they lie near.

    An untouched trunk far below would press all methods into one corner; it is then drawn as
    an arrow at the edge.
    """
    values = [*always, *(v for mark in marks for v in mark.values)]
    far = [v for mark in aside for v in mark.values]
    if values and far:
        reach = max(values) - min(values) or 1.0
        if min(values) - min(far) > reach or max(far) - max(values) > reach:
            far = []
    return spanning([*values, *far])


def place_labels(chart: Scatter) -> Scatter:
    """Return the chart with each label beside, above or below its point where there is room."""
    dots = [_pixels(chart, p) for p in chart.points]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in dots]
    placed = []
    for point, (x, y) in zip(chart.points, dots, strict=True):
        length = 7.0 * len(point.name)
        for dx, dy, anchor in _SHIFTS:
            left = x + dx - {"start": 0.0, "end": length, "middle": length / 2}[anchor]
            box = (left, y + dy - 11, left + length, y + dy + 3)
            inside = box[0] >= 0 and box[2] <= chart.width
            inside &= box[1] >= 0 and box[3] <= chart.height
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                point = replace(point, dx=dx, dy=dy, anchor=anchor)
                break
        placed.append(point)
    return replace(chart, points=tuple(placed))


def _pixels(chart: Scatter, point: Point) -> XY:
    x, y = chart.x.at(point.x), chart.y.at(point.y)
    return x * chart.width / 100, chart.height * (1 - y / 100)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
