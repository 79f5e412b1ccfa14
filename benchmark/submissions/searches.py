"""Further searches beside a row: that they are of its cell, and that none of them is the row.

A row is the first search of its cell, whatever came out of it. Who searches again may say so
beside the row, by number and without gaps, and may not choose. A search is bound to its number:
the number is part of its id, and the id draws its first settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from benchmark.submissions import alike, budget
from benchmark.submissions.identity import Identity
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Cell, Trial, cell_id
from protocols.protocol import digest
from protocols.space import Real, Space

Problem = tuple[str, str]  # message, path below the results folder
REPEAT = "search_repeat"
LOOKED_AT = 10  # searches of a cell whose first settings are compared with a row's
_PROOF = 2  # values that are those of another search, or the only one there is
_SAME = 1e-12  # relative, between one number as two processors compute it
_BESIDE = ("protocol", "protocol_version", "protocol_hash", "seeds", "space")


def name_of(method: str, search: int) -> str:
    """Return the name of a cell's search, as a study calls it; the first one's is the method's."""
    return method if search == 1 else f"{method} (search {search})"


def number_faults(search: SubmittedRow, cell: Cell) -> Iterator[str]:
    """Yield why an identity is not that of the search whose place it lies in."""
    for name in Identity.stated_defaults(cell.identity):
        yield f"identity.{name} {cell.identity[name]!r}: left out where it has that value"
    met = cell.made_of.search_repeat
    if met != search.search - 1:
        whose = "a row is its cell's first search and has none"
        if search.search > 1:
            whose = f"search {search.search} has {search.search - 1}"
        yield f"identity.{REPEAT} {met}: {whose}"


def faults(row: SubmittedRow, cell: Cell) -> Iterator[Problem]:
    """Yield further searches that are not of the row's cell, are out of order, or are copies."""
    for place, search in enumerate(row.further, 2):
        if search.search != place:
            message = f"lies there without search-{place}: searches are numbered without gaps"
            yield message, search.place
            break
    for search in row.further:
        if search.cell is None:
            continue
        path = f"{search.place}/{Cell.file}"
        if not budget.is_searched(cell):
            yield "a further search of a row that searches nothing", path
        if unlike := _unlike(search.cell, cell):
            yield f"{', '.join(unlike)}: not the row's; it is a search of another cell", path
    yield from _copies(row)


def other_search(search: SubmittedRow, cell: Cell, space: Space) -> int | None:
    """Return which other search of the cell draws this one's first settings, None if none does.

    Who searched several times and hands the best one in as the row has made its id right again,
    but its settings are those of the other id. Settings that no id draws say nothing: another
    version of scipy may have other points.
    """
    first, names = _drawn(search, cell, space)
    if not first or not names:
        return None
    plain = {k: v for k, v in cell.identity.items() if k != REPEAT}
    for repeat in range(LOOKED_AT):
        identity = {**plain, REPEAT: repeat} if repeat else plain
        if repeat != search.search - 1 and _draws(cell_id(identity), space, names, first):
            return repeat + 1
    return None


def _drawn(search: SubmittedRow, cell: Cell, space: Space) -> tuple[list[Trial], list[str]]:
    """Return the trials whose settings the cell's id draws, and the names that tell whose."""
    first = search.trials[1 : cell.made_of.rules.search.startup_trials]
    return first, [name for name, parameter in space.items() if isinstance(parameter, Real)]


def _draws(cell: str, space: Space, names: Sequence[str], trials: Sequence[Trial]) -> bool:
    """Return whether some values of a hyperparameter stand on one axis of a cell's points.

    A row does not say which axis is whose. Two values are proof: a point is the same to twelve
    digits by chance once in as many draws as nobody makes.
    """
    from benchmark.study.spread import points  # here: scipy.stats takes long to import

    enough = min(_PROOF, len(trials))
    for axis in next(points(cell, len(space))).T.tolist():
        for name in names:
            offered = [space[name].at(share) for share in axis]
            met = (trial.settings.get(name) for trial in trials)
            if sum(any(_close(value, other) for other in offered) for value in met) >= enough:
                return True
    return False


def _close(met: object, value: float) -> bool:
    return isinstance(met, float) and math.isclose(met, value, rel_tol=_SAME)


def _unlike(cell: Cell, other: Cell) -> list[str]:
    """Return what differs between two cells that should differ in the search's number alone."""
    names = {*cell.identity, *other.identity} - {REPEAT}
    a, b = cell.identity, other.identity
    found = [f"identity.{k}" for k in sorted(names) if digest(a.get(k)) != digest(b.get(k))]
    return found + [k for k in _BESIDE if getattr(cell, k) != getattr(other, k)]


def _copies(row: SubmittedRow) -> Iterator[Problem]:
    """Yield searches whose trials are another's: the seeds differ, so no score is the same."""
    if row.untrained:
        return
    seen: list[tuple[str, set[tuple[float | None, ...]]]] = []
    for search in row.searches:
        scores = {tuple(trial.folds) for trial in search.trials if trial.status == "done"}
        collapsed = alike.all_collapsed(search)
        for place, others in seen:
            if scores and scores <= others and not collapsed:
                yield (
                    f"has the very scores of the trials of {place}",
                    f"{search.place}/trials.jsonl",
                )
        seen.append((search.place, scores))
