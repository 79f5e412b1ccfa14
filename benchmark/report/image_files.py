"""The interval charts as PNG and SVG files, for papers and slides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.report.charts import MAX_DOTS, Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GREY, BAND = "#00558c", "#8a929b", "#e3e6e9"


def save(
    path: Path, marks: Sequence[Mark], title: str, label: str, rope: float = 0.0
) -> list[Path]:
    """Write an interval chart as ``path`` with the suffixes png and svg; return both.

    Args:
        path: without suffix.
        marks: rows from top to bottom.
        title: what is seen.
        label: of the horizontal axis.
        rope: half-width of a shaded band around a line at 0; 0 draws neither.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": title, "font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(7, 1.2 + 0.32 * max(len(marks), 1)), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(label)
        _draw(axes, marks, rope)
        files = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]
        figure.savefig(files[0], dpi=200)
        figure.savefig(files[1], metadata={"Date": None})
    return files


def _draw(axes: Axes, marks: Sequence[Mark], rope: float) -> None:
    if rope:
        axes.axvspan(-rope, rope, color=BAND, linewidth=0)
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
    axes.grid(axis="x", color=BAND, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
