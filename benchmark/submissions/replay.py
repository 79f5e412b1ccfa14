"""Every setting of a search asked for once more: it must follow from the trials before it.

A suggestion is a pure function of the cell's id, the space in the method's own order, and the
trials so far (:func:`benchmark.study.suggestions.suggest`). So whoever changes a trial's score or
setting afterwards has to make all later settings anew, and then to train them. What does not
follow is for a human look: another Optuna or scipy, or another processor, may suggest otherwise.

Under ``gp`` a suggestion takes a second, so there only two are asked for again: those of the
chosen trial and of the last one. A ``random`` search is not looked at: nothing in it follows from
a score.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from itertools import permutations

from benchmark.study.records import TrialRecord
from benchmark.submissions import budget
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Cell
from protocols.errors import InvalidInputError
from protocols.protocol import SearchRule
from protocols.space import Settings, Space

_SAME = 1e-9  # relative, between one number as two processors compute it
_FEW = 5  # hyperparameters whose orders are all tried where their values do not tell it


def looks(search: SubmittedRow) -> Iterator[str]:
    """Yield in a line which setting of a search is the first that does not follow.

    Args:
        search: one without problems: the sampler is given its settings as they are.
    """
    cell = search.cell
    if cell is None or len(search.trials) < 2 or not budget.is_searched(cell):
        return
    rule = SearchRule(**cell.made_of.rules.search.model_dump())
    if rule.sampler == "random":
        return
    if rule.sampler == "gp" and find_spec("torch") is None:
        yield f"{search.place}: its gp search is asked for again only where torch is installed"
        return
    trials = [
        TrialRecord(t.id, cell.id, t.number, t.settings, t.status, t.value, t.folds)
        for t in search.trials
    ]
    drawn = max(0, min(rule.startup_trials, len(trials)) - 1)
    space = _ordered(cell, rule, trials[: 1 + drawn])
    if space is None:
        which = f"s of trials 1 to {drawn} are" if drawn > 1 else " of trial 1 is"
        yield (
            f"{search.place}: the setting{which} not what its id draws: set by hand, or by "
            "another scipy?"
        )
        return
    for number in _asked(cell, rule, len(trials), 1 + drawn):
        if not _follows(cell, rule, space, trials[: number + 1]):
            yield (
                f"{search.place}: the setting of trial {number} does not follow from the trials "
                "before it: was one of their scores changed, or the setting? Or Optuna is another: "
                f"the row has {_optuna(search)}, here is {version('optuna')}"
            )
            return


def _asked(cell: Cell, rule: SearchRule, trials: int, first: int) -> list[int]:
    """Return the numbers of the trials, from ``first`` on, whose settings are asked for again."""
    if rule.sampler != "gp":
        return list(range(first, trials))
    chosen = cell.chosen.trial if cell.chosen else None
    return sorted(n for n in {chosen, trials - 1} if n is not None and n >= first)


def _ordered(cell: Cell, rule: SearchRule, first: Sequence[TrialRecord]) -> Space | None:
    """Return the space in the order in which the first trials were drawn; None if there is none.

    A row's file has the hyperparameters by name, and points have their axes in the method's order.
    """
    space = budget.space_of(cell)
    for names in _orders(cell, space, first[1:]):
        ordered = {name: space[name] for name in names}
        numbers = range(1, len(first))
        if all(_follows(cell, rule, ordered, first[: number + 1]) for number in numbers):
            return ordered
    return None


def _orders(cell: Cell, space: Space, drawn: Sequence[TrialRecord]) -> Iterator[Sequence[str]]:
    """Yield orders of the names, first those in which every value stands on its own axis."""
    from benchmark.study.spread import points  # here: scipy.stats takes long to import

    offered = next(points(cell.id, len(space)))[: len(drawn)].T.tolist()
    fits = {
        name: {
            axis
            for axis, shares in enumerate(offered)
            if all(
                _alike(trial.settings.get(name), parameter.at(share))
                for trial, share in zip(drawn, shares, strict=False)
            )
        }
        for name, parameter in space.items()
    }
    yield from _assigned(fits, {})
    if len(space) <= _FEW:  # points were passed over, because their settings had been tried
        yield from permutations(space)


def _assigned(fits: dict[str, set[int]], taken: dict[int, str]) -> Iterator[Sequence[str]]:
    """Yield every way to give each name an axis of its own, as names in the order of the axes."""
    left = [name for name in fits if name not in taken.values()]
    if not left:
        yield [taken[axis] for axis in sorted(taken)]
        return
    name = min(left, key=lambda one: len(fits[one] - taken.keys()))
    for axis in sorted(fits[name] - taken.keys()):
        yield from _assigned(fits, {**taken, axis: name})


def _follows(cell: Cell, rule: SearchRule, space: Space, trials: Sequence[TrialRecord]) -> bool:
    """Return whether the last trial's setting is what the search suggests after the others."""
    from benchmark.study.suggestions import suggest  # here: Optuna takes long to import

    met = trials[-1].settings
    try:
        wanted: Settings = suggest(cell.id, rule, space, trials[:-1])
    except InvalidInputError:  # no setting is left that was not tried
        return False
    return met.keys() == wanted.keys() and all(_alike(met[name], wanted[name]) for name in met)


def _alike(met: object, wanted: object) -> bool:
    if isinstance(met, float) and isinstance(wanted, float):
        return math.isclose(met, wanted, rel_tol=_SAME)
    return met == wanted


def _optuna(search: SubmittedRow) -> str:
    """Return the Optuna that a row's runs say they were made with."""
    return next((run.environment.optuna for run in search.runs.values()), "none")
