"""Which phases trainings reached, which settings the searches chose, what mattered: as words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark.report.rows import MethodRow
from benchmark.report.searches import MethodSearch
from benchmark.study.scores import NOTHING, per_cent
from benchmark.tables.diagnostics import Edge, PhaseCount


@dataclass(frozen=True)
class ShownSetting:
    """One chosen value; ``edges`` says on which bound of the search it lies, if on any."""

    name: str
    value: str
    edges: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChosenLine:
    """A method's line in the table of chosen settings.

    Attributes:
        name, role: of the method.
        trial: which trial was chosen, a dash where none was.
        trials: of how many, empty without a search.
        validation: its value in per cent, a dash where there is none.
        settings: what was chosen.
        why: what stands in their place where nothing was chosen.
    """

    name: str
    role: str
    trial: str
    trials: str
    validation: str
    settings: tuple[ShownSetting, ...]
    why: str


def chosen(rows: Sequence[MethodRow]) -> list[ChosenLine]:
    """Return a line for every method."""
    return [_chosen(row) for row in rows]


def at_the_edge(rows: Sequence[MethodRow]) -> str:
    """Return which chosen values lie on a bound of their range, empty if none does."""
    return "; ".join(
        f"{row.name} {', '.join(f'{e.name} = {short(e.value)} ({_bound(e)})' for e in row.edges)}"
        for row in rows
        if row.edges
    )


def sliced(searches: Sequence[MethodSearch]) -> tuple[str, list[MethodSearch]]:
    """Return a heading, and the searches whose hyperparameters can be looked at one by one."""
    known = [search for search in searches if search.trials and search.space]
    if any(search.importance for search in known):
        return "What mattered in the searches", known
    return "Single hyperparameters in the searches", known


def reached(rows: Sequence[MethodRow]) -> list[tuple[MethodRow, PhaseCount]]:
    """Return each method with each phase of its final trainings."""
    return [(row, phase) for row in rows for phase in row.phases]


def what_mattered(search: MethodSearch) -> str:
    """Return a search in one line: its hyperparameters with their shares, trials and seconds."""
    shares = [f"{name} {per_cent(share, 0)} %" for name, share in search.importance.items()]
    count = len(search.trials)
    took = f", {search.ends[-1]:,.0f} s" if search.ends else ""
    names = ", ".join(shares or search.space)
    return f"{names} · {count} trial{'s' if count != 1 else ''}{took}"


def short(value: object) -> str:
    """Return a setting in four digits; the record has all."""
    return f"{value:.4g}" if isinstance(value, float) else in_full(value)


def in_full(value: object) -> str:
    """Return a setting as written by hand."""
    if value is None or value == "":
        return NOTHING
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _chosen(row: MethodRow) -> ChosenLine:
    choice = row.choice
    return ChosenLine(
        name=row.name,
        role=row.role,
        trial=NOTHING if choice is None or choice.trial is None else f"trial {choice.trial}",
        trials=f"of {len(row.trials)}" if row.key.searched else "",
        validation=per_cent(choice.value if choice else None),
        settings=tuple(_shown(row)) if row.key.searched else (),
        why=_why(row),
    )


def _shown(row: MethodRow) -> Iterator[ShownSetting]:
    settings = row.choice.settings if row.choice else {}
    for name in sorted(settings, key=str.lower):
        edges = tuple(_bound(edge) for edge in row.edges if edge.name == name)
        yield ShownSetting(name, short(settings[name]), edges)


def _why(row: MethodRow) -> str:
    """Return why a method shows no setting, empty where it does."""
    if row.choice is None:
        return "not chosen yet"
    if not row.key.trains and not row.key.searched:
        return "untouched trunk, nothing is trained"
    if not row.key.searched:
        return "nothing to search"
    return "" if row.choice.settings else NOTHING


def _bound(edge: Edge) -> str:
    return f"{edge.side} bound {short(edge.bound)}"
