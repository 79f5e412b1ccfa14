"""What the searches chose: the authors' defaults or something else, and where in their ranges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from benchmark.submissions.findings.studies import Entry, Study
from benchmark.submissions.read import SubmittedRow
from benchmark.tables.diagnostics import edges
from protocols.space import Choice, Hyperparameter, Integer, Real, Setting

DIFFERS = "differs"  # in place of a default or a range that is not the same on all datasets


@dataclass(frozen=True)
class Value:
    """A chosen value.

    Attributes:
        value: what was chosen.
        default: the authors' value there, which the first trial tried.
        edge: ``lower`` or ``upper`` where it lies on that bound of its range, else empty.
    """

    value: Setting
    default: Setting
    edge: str = ""


@dataclass(frozen=True)
class Line:
    """A hyperparameter of a method.

    Attributes:
        method, name: which.
        default: the authors' value, or that it differs by dataset.
        searched: its range in a few characters, or the same.
        chosen: by dataset, the row's own search first.
        common: what the choices have in common, empty for nothing.
        chance: that values drawn evenly from their ranges all lie on one side of the default;
            None unless it is a number with a choice on every dataset, nowhere the first trial's.
    """

    method: str
    name: str
    default: Setting
    searched: str
    chosen: Mapping[str, Sequence[Value]]
    common: str
    chance: float | None


@dataclass(frozen=True)
class OneSided:
    """How often all choices of a setting lie on one side of its default, and would by chance.

    Attributes:
        settings: numbers with a choice on every dataset, of a single search each.
        met: those whose choices lie on one side.
        expected: how many would, if values were drawn evenly from their ranges.
    """

    settings: int
    met: int
    expected: float


@dataclass(frozen=True)
class Worth:
    """What searching was worth.

    Attributes:
        searches: how many there were.
        trials: how many the longest of them tried.
        defaults: how many chose the authors' defaults.
        gain: median of the chosen trial's validation minus the defaults', a fraction, over the
            searches that chose something else; None without one whose first trial came through.
        drop: median over the same searches of the chosen trial's validation minus the mean that
            its own final runs have, a fraction; None without one that lost no run.
        on_edge: how many choices have a value on a bound of its range that is not the default.
    """

    searches: int
    trials: int
    defaults: int
    gain: float | None
    drop: float | None
    on_edge: int


def lines(study: Study) -> Iterator[Line]:
    """Yield every hyperparameter of every method that was searched."""
    for method, own in sorted(study.contestants.items()):
        searched = {d: e for d, e in own.items() if e.row.trials and not e.fault}
        for name in dict.fromkeys(n for entry in searched.values() for n in entry.space):
            found = {d: e for d, e in searched.items() if _is_searched(e, name)}
            if found:
                yield _line(method, name, found, len(study.datasets))


def _line(method: str, name: str, found: Mapping[str, Entry], datasets: int) -> Line:
    parameters = {d: entry.space[name] for d, entry in found.items()}
    chosen = {d: list(_values(entry, name)) for d, entry in found.items()}
    every = [value for values in chosen.values() for value in values]
    # The defaults are tried first, and drawn by nobody.
    comparable = len(found) == datasets and all(e.cell.chosen.trial for e in found.values())
    return Line(
        method=method,
        name=name,
        default=_one([parameter.default for parameter in parameters.values()]),
        searched=str(_one([parameter.describe() for parameter in parameters.values()])),
        chosen=chosen,
        common=_common(next(iter(parameters.values())), every, len(found), datasets),
        chance=_chance(list(parameters.values())) if comparable else None,
    )


def one_sided(found: Iterable[Line]) -> OneSided:
    """Return how often the rows' own choices lie on one side of a default, and would by chance."""
    numbers = [line for line in found if line.chance is not None]
    met = 0
    for line in numbers:
        first = [values[0] for values in line.chosen.values()]
        moved = [float(one.value) - float(one.default) for one in first]
        met += all(by > 0 for by in moved) or all(by < 0 for by in moved)
    return OneSided(len(numbers), met, sum(line.chance or 0.0 for line in numbers))


def worth(study: Study) -> Worth:
    """Return what searching was worth over all searches of the study."""
    everything = [entry for own in study.contestants.values() for entry in own.values()]
    searched = [
        (row, row.cell.chosen, entry.space)
        for entry in everything
        for row in entry.searches
        if row.trials and row.cell and not entry.fault
    ]
    gains, drops = [], []
    for row, choice, _ in searched:
        first = next((trial for trial in row.trials if trial.number == 0), None)
        if first and first.status == "done" and choice.trial and choice.value is not None:
            gains.append(choice.value - first.value)
            drops += _drop(row, choice.value, study.protocol.selection_metric)
    return Worth(
        searches=len(searched),
        trials=max((len(row.trials) for row, _, _ in searched), default=0),
        defaults=sum(choice.trial == 0 for _, choice, _ in searched),
        gain=median(gains) if gains else None,
        drop=median(drops) if drops else None,
        on_edge=sum(
            any(edge.value != space[edge.name].default for edge in edges(choice.settings, space))
            for _, choice, space in searched
        ),
    )


def _drop(row: SubmittedRow, value: float, metric: str) -> list[float]:
    """Return how much lower the chosen setting validates once other seeds have trained it.

    Both numbers are of one kind: the metric that chooses, of each fold's best validation, on the
    same validation classes, the mean over folds. The trial's is the highest of many and so too
    high where they differ by luck; that of the runs was chosen by nobody.

    Returns:
        One number; none of a row with a run that diverged, as the others are the lucky ones.
    """
    found = [run.validation for run in row.runs.values()]
    known = [getattr(scores, metric) for scores in found if scores]
    return [value - fmean(known)] if known and len(known) == len(found) else []


def _is_searched(entry: Entry, name: str) -> bool:
    """Return whether the search moved a hyperparameter and chose a value of it."""
    parameter = entry.space.get(name)
    if parameter is None or name not in entry.cell.chosen.settings or parameter.parts < 2:
        return False
    return not isinstance(parameter, Choice) or parameter.searched


def _values(entry: Entry, name: str) -> Iterator[Value]:
    """Yield what each search of a row chose, its own first."""
    for row in entry.searches:
        if row.cell and name in row.cell.chosen.settings:
            settings = row.cell.chosen.settings
            sides = [edge.side for edge in edges(settings, entry.space) if edge.name == name]
            yield Value(settings[name], entry.space[name].default, sides[0] if sides else "")


def _chance(parameters: Sequence[Hyperparameter[Setting]]) -> float | None:
    """Return how often values drawn evenly from these ranges all lie on one side of the default.

    None unless all are numbers.
    """
    below, above = 1.0, 1.0
    for parameter in parameters:
        if not isinstance(parameter, Real | Integer):
            return None
        down, up = _sides(parameter)
        below, above = below * down, above * up
    return below + above


def _sides(parameter: Real | Integer) -> tuple[float, float]:
    """Return which shares of a range, on the scale that is searched, lie below and above."""
    half = 0.5 if isinstance(parameter, Integer) else 0.0  # each whole number has a part of it
    scale = math.log if parameter.log else float
    low, high = scale(parameter.low - half), scale(parameter.high + half)
    ends = (scale(parameter.default + sign * half) for sign in (-1, 1))
    down, upto = ((end - low) / (high - low) for end in ends)
    return down, 1 - upto


def _one(values: Sequence[Setting]) -> Setting:
    """Return what all values are, or that they differ."""
    return values[0] if len(set(map(repr, values))) == 1 else DIFFERS


def _common(
    parameter: Hyperparameter[Setting], chosen: Sequence[Value], found: int, datasets: int
) -> str:
    """Return what the values on ``found`` of the datasets have in common, empty for nothing."""
    if found < 2:
        return ""
    where = f"on all {datasets}" if found == datasets else f"on the {found} it has"
    if all(one.value == one.default for one in chosen):
        return f"the default {where}"
    if len({repr(one.value) for one in chosen}) == 1:
        return f"the same {where}"
    if isinstance(parameter, Choice):
        return ""
    if len({one.edge for one in chosen}) == 1 and chosen[0].edge:
        return f"the {chosen[0].edge} bound {where}"
    moved = [float(one.value) - float(one.default) for one in chosen]
    if all(by > 0 for by in moved):
        return f"above the default {where}"
    if all(by < 0 for by in moved):
        return f"below the default {where}"
    return ""
