"""What the searches chose: the authors' defaults or something else, and where in their ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmark.submissions.findings.studies import Entry, Study
from benchmark.submissions.schema import Trial
from benchmark.tables.diagnostics import edges
from protocols.space import Choice, Hyperparameter, Setting

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
        chosen: by dataset.
        common: what the choices have in common, empty for nothing.
    """

    method: str
    name: str
    default: Setting
    searched: str
    chosen: Mapping[str, Value]
    common: str


@dataclass(frozen=True)
class Worth:
    """What searching was worth.

    Attributes:
        searches: how many there were.
        trials: how many the longest of them tried.
        defaults: how many chose the authors' defaults.
        gain: median over searches of the chosen trial's validation minus the defaults', a
            fraction; None without a search whose first trial came through.
        on_edge: how many choices have a value on a bound of its range.
    """

    searches: int
    trials: int
    defaults: int
    gain: float | None
    on_edge: int


def lines(study: Study) -> Iterator[Line]:
    """Yield every hyperparameter of every method that was searched."""
    for method, own in sorted(study.contestants.items()):
        searched = {d: e for d, e in own.items() if e.row.trials and not e.fault}
        for name in dict.fromkeys(n for entry in searched.values() for n in entry.space):
            found = {
                d: (entry.space[name], _value(entry, name))
                for d, entry in searched.items()
                if _is_searched(entry, name)
            }
            if found:
                parameters = [parameter for parameter, _ in found.values()]
                chosen = {d: value for d, (_, value) in found.items()}
                yield Line(
                    method=method,
                    name=name,
                    default=_one([parameter.default for parameter in parameters]),
                    searched=str(_one([parameter.describe() for parameter in parameters])),
                    chosen=chosen,
                    common=_common(parameters[0], list(chosen.values()), len(study.datasets)),
                )


def worth(study: Study) -> Worth:
    """Return what searching was worth over all searches of the study's first rows."""
    everything = [entry for own in study.contestants.values() for entry in own.values()]
    searched = [entry for entry in everything if entry.row.trials and not entry.fault]
    gains = []
    for entry in searched:
        first = _first(entry)
        if first and first.status == "done" and entry.cell.chosen.value is not None:
            gains.append(entry.cell.chosen.value - first.value)
    return Worth(
        searches=len(searched),
        trials=max((len(entry.row.trials) for entry in searched), default=0),
        defaults=sum(entry.cell.chosen.trial == 0 for entry in searched),
        gain=median(gains) if gains else None,
        on_edge=sum(bool(edges(entry.cell.chosen.settings, entry.space)) for entry in searched),
    )


def _first(entry: Entry) -> Trial | None:
    return next((trial for trial in entry.row.trials if trial.number == 0), None)


def _is_searched(entry: Entry, name: str) -> bool:
    """Return whether the search moved a hyperparameter and chose a value of it."""
    parameter = entry.space.get(name)
    if parameter is None or name not in entry.cell.chosen.settings or parameter.parts < 2:
        return False
    return not isinstance(parameter, Choice) or parameter.searched


def _value(entry: Entry, name: str) -> Value:
    settings = entry.cell.chosen.settings
    sides = [edge.side for edge in edges(settings, entry.space) if edge.name == name]
    return Value(settings[name], entry.space[name].default, sides[0] if sides else "")


def _one(values: Sequence[Setting]) -> Setting:
    """Return what all values are, or that they differ."""
    return values[0] if len(set(map(repr, values))) == 1 else DIFFERS


def _common(parameter: Hyperparameter[Setting], chosen: Sequence[Value], datasets: int) -> str:
    """Return what the values on two datasets or more have in common, empty for nothing."""
    if len(chosen) < 2:
        return ""
    where = f"on all {datasets}" if len(chosen) == datasets else f"on the {len(chosen)} it has"
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
