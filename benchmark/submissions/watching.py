"""Whether a watched training is that of the row's run: its bits, its steps, the scores it kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmark.submissions.budget import interval_of, pace_of
from benchmark.submissions.figures import NEXT_TO_EQUAL, is_whole
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Cell, Run
from benchmark.submissions.watched import Watched, WatchedFold
from protocols.metrics import METRICS

Problem = tuple[str, str]  # message, path below the results folder
_SHOWN = 5  # steps of a list in a message


def faults(row: SubmittedRow) -> Iterator[Problem]:
    """Yield what is wrong with the watched trainings beside a row."""
    for seed, watched in sorted(row.watched.items()):
        path = f"{row.place}/oracle-{seed}.json"
        if watched.seed != seed:
            yield f"holds seed {watched.seed}", path
        elif message := fault_of(row, watched):
            yield message, path


def fault_of(row: SubmittedRow, watched: Watched) -> str:
    """Return why ``watched`` is not of the trainings of a run of ``row``, empty if it may be.

    What stands at other steps than the one that validation chose can be true or made up: like the
    row's numbers themselves, only a rerun tells.
    """
    run, values = row.runs.get(watched.seed), row.values.get(watched.seed)
    if run is None or row.cell is None:
        return f"belongs to no seed-{watched.seed}.json"
    queries = len(values.query) - (run.excluded or 0) if values else None
    return _fault(watched, run, row.cell, queries)


def _fault(watched: Watched, run: Run, cell: Cell, queries: int | None) -> str:
    """Return the same; ``queries`` have an image to find, None where their number is not known."""
    if watched.cell != cell.id:
        return f"belongs to cell {watched.cell}, the row is {cell.id}"
    if run.status != "done" or watched.embeddings_sha256 != run.embeddings_sha256:
        return "ended with other embeddings than the run: expected the same training, bit for bit"
    if len(run.best_steps) != len(run.folds) or None in run.folds:
        return "the run's own folds are not whole, so there is nothing to hold it to"
    if len(watched.folds) != len(run.folds):
        return f"{len(watched.folds)} folds; the run has {len(run.folds)}"
    for number, fold in enumerate(watched.folds):
        found = _steps(fold, cell) or _scores(fold, queries) or _at_best(fold, number, run)
        if found:
            return f"fold {number}: {found}"
    ran = sum(fold.step[-1] for fold in watched.folds) * cell.made_of.rules.batch_size
    own = run.counts.get("images_protocol", ran)  # older rows do not say it
    return "" if own == ran else f"ends after steps of {ran} images; the run took {own}"


def _steps(fold: WatchedFold, cell: Cell) -> str:
    """Return where a training was watched at other steps than those of its validations."""
    lengths = {len(fold.step), *(len(getattr(fold, name)) for name in METRICS)}
    if len(lengths) > 1:
        return "lists of unequal lengths; expected an entry for each validation"
    interval, last = interval_of(cell), fold.step[-1]
    averaged = cell.made_of.recipe.averaging is not None and last > 0
    most = pace_of(cell).max_steps
    if last > most or (last % interval and last != most and not averaged):
        return f"ends at step {last}; the protocol has {most}, validations {interval} apart"
    before, final = range(0, last, interval), [last] * (1 + averaged)
    if len(fold.step) != len(before) + len(final):
        return f"{len(fold.step)} validations; {last} steps have {len(before) + len(final)}"
    expected = [*before, *final]
    if fold.step != expected:
        return f"steps {_some(fold.step)}; validations were at {_some(expected)}"
    return ""


def _scores(fold: WatchedFold, queries: int | None) -> str:
    """Return which metrics contradict one another."""
    for place, step in enumerate(fold.step):
        found = fold.at(place)
        if found["map_at_r"] > found["r_precision"] + NEXT_TO_EQUAL:
            return f"step {step}: map_at_r {found['map_at_r']} above r_precision"
        p1 = found["precision_at_1"]
        if queries and not is_whole(p1 * queries):
            return f"step {step}: precision_at_1 {p1} is no multiple of 1/{queries}"
    return ""


def _at_best(fold: WatchedFold, number: int, run: Run) -> str:
    """Return why the step that validation chose did not score what the run did."""
    best, tested = run.best_steps[number], run.folds[number]
    own = {name: getattr(tested, name) for name in METRICS}
    found = [fold.at(place) for place, step in enumerate(fold.step) if step == best]
    if own in found:
        return ""
    met = found[0] if found else "nothing"
    return f"step {best}, which validation chose, has {met}; the run's fold has {own}"


def _some(steps: Sequence[int]) -> str:
    """Return the first of some steps, for people."""
    return f"{', '.join(map(str, steps[:_SHOWN]))}{' …' * (len(steps) > _SHOWN)}"
