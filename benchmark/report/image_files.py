"""Every chart of the report as PNG and SVG, for papers and slides: drawn from the same values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.report import searches
from benchmark.report.charts import MAX_DOTS, Axis, Mark, Plot, Scatter
from benchmark.report.sections import MAX_PAIRS, ROPE, Section
from benchmark.study.scores import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, THIN, GREY, BAND, ORANGE = "#00558c", "#7fa6c4", "#8a929b", "#e3e6e9", "#a84300"
COLUMNS = 3  # of small charts


@dataclass(frozen=True)
class Intervals:
    """Rows of means with intervals; ``rope`` shades a band around 0, None draws neither."""

    marks: Sequence[Mark]
    label: str
    rope: float | None = None


@dataclass(frozen=True)
class SmallCharts:
    """Small charts beside each other."""

    plots: Sequence[Plot]
    label: str


Drawing = Intervals | SmallCharts | Scatter


def save(section: Section, folder: Path) -> list[Path]:
    """Write the figures of one section as ``NN-what.png`` and ``NN-what.svg``; return them.

    File names are numbers and fixed words, never a method's or a dataset's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    title, files = " · ".join(section.place), []
    for name, drawing, more in _drawings(section):
        words = f"{title} · {more}" if more else title
        with _drawn(drawing, words) as figure:
            for kind in ("png", "svg"):
                path = folder / f"{section.number:02d}-{name}.{kind}"
                figure.savefig(path, dpi=200, metadata={"Date": None} if kind == "svg" else None)
                files.append(path)
    return files


def forest(section: Section) -> str:
    """Return the first chart of a section, means with their intervals, as the text of an SVG."""
    _, drawing, _ = next(_drawings(section))
    written = StringIO()
    with _drawn(drawing, " · ".join(section.place)) as figure:
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def _drawings(section: Section) -> Iterator[tuple[str, Drawing, str]]:
    """Yield (name, what to draw, what to add to the title)."""
    yield "map_at_r", Intervals([row.mark for row in section.rows], "MAP@R in per cent"), ""
    if shown := section.pairs[:MAX_PAIRS]:
        marks = [replace(p.mark, name=f"{p.mark.name} vs {p.other}") for p in shown]
        yield "differences", Intervals(marks, "difference of MAP@R in points", ROPE), ""
    value = f"validation {label_of(section.selection_metric)} in per cent against"
    for name, plots, label in (
        ("learning", section.learning.charts, f"{value} the optimiser step"),
        ("search-by-trial", section.by_trial, f"{value} the trial"),
        ("search-by-seconds", section.by_seconds, f"{value} seconds of training"),
    ):
        if plots:
            yield name, SmallCharts(plots, label), ""
    for number, search in enumerate(section.searches, 1):
        if plots := searches.slices(search):
            yield (
                f"slices-{number:02d}",
                SmallCharts(plots, f"{value} a hyperparameter"),
                search.name,
            )
    if section.agreement.methods > 1:
        yield "validation-and-test", section.agreement.scatter, ""
    for number, chart in enumerate(section.costs, 1):
        yield f"cost-{number}", chart, ""


@contextmanager
def _drawn(drawing: Drawing, title: str) -> Iterator[Figure]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": title, "font.size": 9, "text.parse_math": False}):
        rows = _rows(drawing)
        figure = Figure(figsize=(7, rows), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        if isinstance(drawing, Intervals):
            _intervals(figure.subplots(), drawing)
        elif isinstance(drawing, SmallCharts):
            _small_charts(figure, drawing)
        else:
            _scatter(figure.subplots(), drawing)
        yield figure


def _rows(drawing: Drawing) -> float:
    """Return the height in inches."""
    if isinstance(drawing, Intervals):
        return 1.3 + 0.32 * max(len(drawing.marks), 1)
    if isinstance(drawing, SmallCharts):
        return 0.7 + 1.6 * -(-len(drawing.plots) // COLUMNS)
    return 4.0


def _intervals(axes: Axes, drawing: Intervals) -> None:
    marks = drawing.marks
    if drawing.rope is not None:
        axes.axvspan(-drawing.rope, drawing.rope, color=BAND, linewidth=0)
        axes.axvline(0, color=GREY, linewidth=0.8)
    for row, mark in enumerate(marks):
        dots = mark.dots[:MAX_DOTS]
        axes.plot(dots, [row] * len(dots), "o", color=GREY, markersize=3, alpha=0.7)
        if mark.low is not None and mark.high is not None:
            axes.plot([mark.low, mark.high], [row, row], color=INK, linewidth=2)
        if mark.mean is not None:
            axes.plot([mark.mean], [row], "o", color=INK, markersize=6)
        else:
            axes.annotate(
                f"\N{EN DASH} {mark.note}", (0.01, row), xycoords=("axes fraction", "data")
            )
    axes.set_yticks(range(len(marks)), [mark.name for mark in marks])
    axes.set_ylim(max(len(marks), 1) - 0.5, -0.5)
    axes.set_xlabel(drawing.label)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    _plain(axes, "x")


def _small_charts(figure: Figure, drawing: SmallCharts) -> None:
    height = -(-len(drawing.plots) // COLUMNS)
    boxes = figure.subplots(height, COLUMNS, squeeze=False).ravel()
    for axes, plot in zip(boxes, drawing.plots, strict=False):
        _panel(axes, plot)
    for axes in boxes[len(drawing.plots) :]:
        axes.set_visible(False)
    figure.supxlabel(drawing.label, fontsize=9)


def _panel(axes: Axes, plot: Plot) -> None:
    style = "steps-post" if plot.steps else "default"
    for curve in plot.thin:
        axes.plot(*_xy(curve), color=THIN, linewidth=0.7, alpha=0.8)
    axes.plot(*_xy(plot.dashed), "--", color=ORANGE, linewidth=1, drawstyle=style)
    axes.plot(*_xy(plot.thick), color=INK, linewidth=2, drawstyle=style)
    axes.plot(*_xy(plot.dots), "o", color=THIN, markersize=2.5, clip_on=False)
    low = plot.panel.y.low
    axes.plot(
        plot.crosses, [low] * len(plot.crosses), "x", color=ORANGE, markersize=4, clip_on=False
    )
    if plot.ring:
        circle = axes.plot(*_xy([plot.ring]), "o", color=ORANGE, markersize=7, clip_on=False)
        circle[0].set_fillstyle("none")
    axes.set_title(plot.name, loc="left", fontsize=9)
    _scale(axes, plot.panel.x, plot.panel.y)
    _plain(axes, "y")


def _scatter(axes: Axes, chart: Scatter) -> None:
    for point in chart.points:
        axes.plot([point.x], [point.y], "o", color=INK, markersize=6, clip_on=False)
        if point.anchor:
            at = {"start": "left", "end": "right", "middle": "center"}[point.anchor]
            offset = (point.dx, -point.dy)
            axes.annotate(point.name, (point.x, point.y), offset, textcoords="offset points", ha=at)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    _scale(axes, chart.x, chart.y)
    _plain(axes, "y")


def _scale(axes: Axes, x: Axis, y: Axis) -> None:
    if x.log:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xlim(x.low, x.high)
    axes.set_ylim(y.low, y.high)
    axes.set_xticks(x.ticks, [x.label(tick) for tick in x.ticks])
    axes.set_yticks(y.ticks, [y.label(tick) for tick in y.ticks])


def _plain(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, color=BAND, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    for line in axes.lines:  # a line that reaches over the edge must not shrink the axes
        line.set_in_layout(False)
    axes.spines[["top", "right"]].set_visible(False)


def _xy(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
