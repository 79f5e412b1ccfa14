"""The searches: what they found after how many trials and seconds, and what mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from benchmark.report.charts import (
    XY,
    Axis,
    Line,
    Panel,
    Plot,
    logarithmic,
    spanning,
    thinned,
    whole,
)
from benchmark.study.records import ChoiceRecord, TrialRecord
from benchmark.tables import diagnostics
from protocols.space import Choice, Hyperparameter, Integer, Real, Setting, Space


@dataclass(frozen=True)
class MethodSearch:
    """One method's search.

    Attributes:
        name: of the method.
        trials: its trials, in order.
        chosen: number of the chosen one.
        space: what was searched, empty where an old record lacks it.
        importance: shares by hyperparameter, largest first; empty below 20 trials.
    """

    name: str
    trials: Sequence[TrialRecord]
    chosen: int | None
    space: Space
    importance: Mapping[str, float]

    @property
    def starts(self) -> list[float]:
        """Return the numbers of the trials."""
        return [float(trial.number) for trial in self.trials]

    @property
    def ends(self) -> list[float] | None:
        """Return the seconds spent when each trial had ended, None where that is not known."""
        seconds = [trial.measured.get("seconds") for trial in self.trials]
        known = [float(s) for s in seconds if s is not None]
        return list(accumulate(known)) if known and len(known) == len(seconds) else None


def read_search(
    name: str, trials: Sequence[TrialRecord], choice: ChoiceRecord | None
) -> MethodSearch:
    """Return a method's search from its records."""
    space = diagnostics.space_of(choice)
    return MethodSearch(
        name=name,
        trials=trials,
        chosen=choice.trial if choice else None,
        space=space,
        importance=diagnostics.importance(space, trials),
    )


def by_trial(searches: Sequence[MethodSearch], baseline: str | None) -> tuple[Plot, ...]:
    """Return validation values in per cent, and the best so far, against the trial."""
    return _progress({s.name: (s, s.starts) for s in searches}, baseline, "trials")


def by_seconds(searches: Sequence[MethodSearch], baseline: str | None) -> tuple[Plot, ...]:
    """Return the same against the seconds that a search had taken by then."""
    timed = {s.name: (s, ends) for s in searches if (ends := s.ends)}
    return _progress(timed, baseline, "seconds")


def slices(search: MethodSearch) -> tuple[Plot, ...]:
    """Return a chart of validation values against each hyperparameter, the important first."""
    values = [100 * t.value for t in search.trials if t.status == "done"]
    y = spanning(values, count=4)
    order = [*search.importance, *(name for name in search.space if name not in search.importance)]
    return tuple(_slice(search, name, search.space[name], y) for name in order)


def best_so_far(values: Sequence[XY]) -> list[XY]:
    """Return the running maximum of a search."""
    highest = accumulate((y for _, y in values), max)
    return [(x, y) for (x, _), y in zip(values, highest, strict=True)]


def _progress(
    placed: Mapping[str, tuple[MethodSearch, Sequence[float]]], baseline: str | None, unit: str
) -> tuple[Plot, ...]:
    """Return a chart of each search's values at the given x of its trials, on common axes."""
    known = {name: (s, at) for name, (s, at) in placed.items() if s.trials}
    values = [100 * t.value for s, _ in known.values() for t in s.trials if t.status == "done"]
    reached = (x for _, at in known.values() for x in at)
    panel = Panel(whole(reached), spanning(values, count=4))
    plots = {name: _course(s, at, panel, unit) for name, (s, at) in known.items()}
    other = plots[baseline].thick if baseline in plots else ()
    return tuple(
        plot if name == baseline else replace(plot, dashed=other) for name, plot in plots.items()
    )


def _course(search: MethodSearch, at: Sequence[float], panel: Panel, unit: str) -> Plot:
    where = {t.number: (x, 100 * t.value) for t, x in zip(search.trials, at, strict=True)}
    done = [where[t.number] for t in search.trials if t.status == "done"]
    failed = [where[t.number][0] for t in search.trials if t.status != "done"]
    best = best_so_far(done)
    last = [(at[-1], best[-1][1])] if best else []
    told = f", best {best[-1][1]:.1f} per cent" if best else ""
    return Plot(
        name=search.name,
        panel=panel,
        thick=thinned([*best, *last]),
        steps=True,
        dots=thinned(done),
        crosses=tuple(failed),
        ring=where.get(search.chosen) if search.chosen is not None and best else None,
        words=f"{search.name}: {len(search.trials)} trials, {len(failed)} failed, by {unit}{told}",
    )


def _slice(search: MethodSearch, name: str, parameter: Hyperparameter[Any], y: Axis) -> Plot:
    tried = [t for t in search.trials if name in t.settings]
    points = {t.number: (_at(t.settings[name], parameter), 100 * t.value) for t in tried}
    done: Line = tuple(points[t.number] for t in tried if t.status == "done")
    share = f" · {100 * search.importance[name]:.0f} %" if name in search.importance else ""
    return Plot(
        name=f"{name}{share}",
        panel=Panel(_scale(parameter), y),
        dots=thinned(done),
        crosses=tuple(points[t.number][0] for t in tried if t.status != "done"),
        ring=points.get(search.chosen) if search.chosen is not None else None,
        words=f"{search.name}: validation value of {len(done)} trials against {name}",
    )


def _scale(parameter: Hyperparameter[Any]) -> Axis:
    """Return the axis of a hyperparameter's range, with half a step around options."""
    if isinstance(parameter, Choice):
        options = tuple(str(option) for option in parameter.options)
        ticks = tuple(float(k) for k in range(len(options)))
        return Axis(-0.5, len(options) - 0.5, ticks, names=options)
    assert isinstance(parameter, (Real, Integer))
    low, high = float(parameter.low), float(parameter.high)
    if parameter.log:
        return logarithmic(low, high)
    inner = spanning([low, high], count=4)
    return Axis(low, high, tuple(t for t in inner.ticks if low <= t <= high), inner.decimals)


def _at(value: Setting, parameter: Hyperparameter[Any]) -> float:
    if isinstance(parameter, Choice):
        return float(parameter.options.index(value))
    return float(value)
