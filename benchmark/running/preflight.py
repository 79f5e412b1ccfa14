"""Before a study starts: every new cell takes its first step, and what cannot work is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmark.engines import limits
from benchmark.engines.local import Engine
from benchmark.running.waiting import errors_of, rounds
from benchmark.study.folder import CellKey
from benchmark.study.grid import CellPlan
from benchmark.training.first_look import FirstLook, check_trunk, first_look
from benchmark.training.job import Job
from protocols.errors import BenchmarkError, InvalidInputError

NAMED = 3  # cells that a message names; the rest are counted


def check_trunks(cells: Sequence[CellKey], make: Callable[[CellKey], Job], engine: Engine) -> None:
    """Raise InvalidInputError where a trunk cannot serve a method, or its weights are not its own.

    The first steps show the same, and need decoded images. This needs none, so it comes before
    decoding that takes long.

    Args:
        cells: of which each trunk is asked once for each method.
        make: gives a cell's first job.
        engine: where it is looked at.
    """
    distinct = {(cell.trunk, cell.method): cell for cell in cells}
    found: list[tuple[CellKey, FirstLook]] = []
    for some, _ in rounds(list(distinct.values()), engine):
        futures = [engine.submit(check_trunk, make(cell)) for cell in some]
        errors = zip(some, errors_of(futures, engine), strict=True)
        # What is no problem of the user's, such as a worker that dies, the first steps show again.
        found += [
            (c, FirstLook(problem=str(e))) for c, e in errors if isinstance(e, BenchmarkError)
        ]
    check(found)


def look_first(
    plans: Sequence[CellPlan],
    make: Callable[[CellKey], Job],
    engine: Engine,
    say: Callable[[str], None],
) -> list[FirstLook]:
    """Let every cell that has no trial and no run yet take its first step.

    Args:
        plans: the study's cells.
        make: gives a cell's first job, under its defaults.
        engine: where it runs.
        say: prints a line: a method that fails in its first step keeps no other from running.

    Raises:
        InvalidInputError: cells that cannot work.
    """
    fresh = [
        item.cell
        for item in plans
        if item.jobs_left and not (item.trials_done or item.runs_done or item.cell.repeat)
    ]
    found: list[tuple[CellKey, FirstLook]] = []
    for some, _ in rounds(fresh, engine):
        looks = _looks([make(cell) for cell in some], engine)
        for cell, look in zip(some, looks, strict=True):
            # What used up its process may be a neighbour's doing: memory is shared, and under MPS
            # one that breaks its card breaks all there.
            again = look.spent and len(some) > 1
            found.append((cell, _looks([make(cell)], engine)[0] if again else look))
    check(found)
    for note in dict.fromkeys(look.note for _, look in found if look.note):
        say(note)
    for cell, look in found:
        if look.failed:
            say(f"{cell.place} fails in its first step: {look.failed}")
    return [look for _, look in found]


def _looks(jobs: Sequence[Job], engine: Engine) -> list[FirstLook]:
    """Let ``jobs`` take their first steps at once; a process that dies has broken, too."""
    futures = [engine.submit(first_look, job) for job in jobs]
    errors = errors_of(futures, engine)
    return [
        _failed(error) if error else future.result()
        for future, error in zip(futures, errors, strict=True)
    ]


def _failed(error: BaseException) -> FirstLook:
    """Return the look at a step that did not come back; one that hangs is nobody else's doing."""
    late = isinstance(error, TimeoutError)
    return FirstLook(failed=str(error), spent="" if late else "broken")


def check(found: Sequence[tuple[CellKey, FirstLook]]) -> None:
    """Raise InvalidInputError for the first problem, with the cells that share it."""
    problems: dict[str, list[str]] = {}
    for cell, look in found:
        if look.problem:
            words = problems.setdefault(look.problem, [])
            words.append(cell.place)
    if not problems:
        return
    problem, cells = next(iter(problems.items()))
    more = f" and {len(cells) - NAMED} more" if len(cells) > NAMED else ""
    others = len(problems) - 1
    further = f" Other cells have other problems: {others}." if others else ""
    raise InvalidInputError(
        f"{', '.join(cells[:NAMED])}{more}: {problem.rstrip('.')}. Nothing was started.{further}"
    )


def check_memory(found: Sequence[FirstLook], workers: int) -> None:
    """Raise InvalidInputError where as many jobs as run at once do not fit into memory."""
    most = max((look.memory_mb for look in found), default=0)
    allowed = limits.memory_bytes()
    if allowed is None or most * workers <= allowed >> 20:
        return
    here = allowed >> 20
    fit = here // most
    advice = f"Run with --jobs {fit}" if fit else "Choose a smaller batch_size or image.crop_px"
    raise InvalidInputError(
        f"{workers} jobs at once take {most * workers:,} MB after one step, this place allows "
        f"{here:,} MB. {advice}"
    )
