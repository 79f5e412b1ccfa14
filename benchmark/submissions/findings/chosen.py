"""What the searches chose: the authors' defaults or something else, and where in their ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmark.submissions.findings.studies import Entry, Study
from benchmark.submissions.schema import Trial
from benchmark.tables.diagnostics import edges
from protocols.space import Choice, Hyperparameter, Setting, rebuilt


@dataclass(frozen=True)
class Value:
    """A chosen value; ``edge`` is the side of its range that it lies on, empty for none."""

    value: Setting
    edge: str = ""


@dataclass(frozen=True)
class Line:
    """A hyperparameter of a method.

    Attributes:
        method, name: which.
        default: the authors' value, which the first trial tried.
        searched: its range in a few characters.
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
        defaults: how many chose the authors' defaults.
        gain: median over searches of the chosen trial's validation minus the defaults', a
            fraction; None without a search whose first trial came through.
        on_edge: how many choices have a value on a bound of its range.
    """

    searches: int
    defaults: int
    gain: float | None
    on_edge: int


def lines(study: Study) -> Iterator[Line]:
    """Yield every hyperparameter of every method that was searched."""
    for method, own in sorted(study.contestants.items()):
        searched = {d: entry for d, entry in own.items() if entry.row.trials}
        if not searched:
            continue
        spaces = {d: _space(entry) for d, entry in searched.items()}
        for name, parameter in next(iter(spaces.values())).items():
            if not _is_searched(parameter):
                continue
            chosen = {
                d: _value(entry, name, spaces[d])
                for d, entry in searched.items()
                if name in entry.cell.chosen.settings
            }
            if chosen:
                common = _common(parameter, list(chosen.values()))
                default, said = parameter.default, parameter.describe()
                yield Line(method, name, default, said, chosen, common)


def worth(study: Study) -> Worth:
    """Return what searching was worth over all searches of the study's first rows."""
    searched = [
        entry for own in study.contestants.values() for entry in own.values() if entry.row.trials
    ]
    gains = []
    for entry in searched:
        first = _first(entry)
        if first and first.status == "done" and entry.cell.chosen.value is not None:
            gains.append(entry.cell.chosen.value - first.value)
    return Worth(
        searches=len(searched),
        defaults=sum(entry.cell.chosen.trial == 0 for entry in searched),
        gain=median(gains) if gains else None,
        on_edge=sum(bool(edges(entry.cell.chosen.settings, _space(entry))) for entry in searched),
    )


def _first(entry: Entry) -> Trial | None:
    return next((trial for trial in entry.row.trials if trial.number == 0), None)


def _space(entry: Entry) -> dict[str, Hyperparameter[Setting]]:
    return rebuilt({name: bounds.model_dump() for name, bounds in entry.cell.space.items()})


def _is_searched(parameter: Hyperparameter[Setting]) -> bool:
    kept = isinstance(parameter, Choice) and not parameter.searched
    return parameter.parts > 1 and not kept


def _value(entry: Entry, name: str, space: Mapping[str, Hyperparameter[Setting]]) -> Value:
    settings = entry.cell.chosen.settings
    sides = [edge.side for edge in edges(settings, dict(space)) if edge.name == name]
    return Value(settings[name], " and ".join(sides))


def _common(parameter: Hyperparameter[Setting], chosen: Sequence[Value]) -> str:
    """Return what the values on two datasets or more have in common, empty for nothing."""
    values = [one.value for one in chosen]
    if len(values) < 2:
        return ""
    if all(value == parameter.default for value in values):
        return "the default on all"
    if len(set(map(repr, values))) == 1:
        return "the same on all"
    if isinstance(parameter, Choice):
        return ""
    if len({one.edge for one in chosen}) == 1 and chosen[0].edge:
        return f"the {chosen[0].edge} bound on all"
    moved = [float(value) - float(parameter.default) for value in values]
    if all(by > 0 for by in moved):
        return "above the default on all"
    if all(by < 0 for by in moved):
        return "below the default on all"
    return ""
