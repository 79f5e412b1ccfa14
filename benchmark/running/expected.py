"""How long the jobs of a plan take, measured before it starts: at their usual and largest size.

A setting that counts something, such as learned ancestors or proxies of a class, may make a step
take fifty times as long as the authors' default does, and which settings a search will try is not
known before it. So a cell that is still searched is measured twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, NamedTuple

from benchmark.running.bound import JobSeconds, width
from benchmark.study.folder import CellKey, Study
from benchmark.study.grid import CellPlan
from protocols import paper
from protocols.space import Integer, Setting, Settings, Space, defaults

if TYPE_CHECKING:
    from benchmark.engines.local import Engine
    from benchmark.running.coordinator import JobMaker

# Of a job beside its own work: to a worker and back, records and their copies, a run's joining.
# Measured on two cores, which the coordinator shares with two workers.
OVERHEAD_S = 0.5


class Sizes(NamedTuple):
    """Settings of a cell's jobs: the expected ones, and the largest where a search may take them.

    ``largest`` is None where every job left has the settings ``usual``, or the search has no
    number that it could raise.
    """

    usual: Settings
    largest: Settings | None


class Kind(NamedTuple):
    """What says how long a job takes: cells of one kind are measured once."""

    dataset: str
    trunk: str
    recipe: str
    method: str
    settings: tuple[tuple[str, Setting], ...]


def sizes_of(study: Study, item: CellPlan, space_of: Callable[[CellKey], Space]) -> Sizes:
    """Return the settings of the jobs that ``item`` has left."""
    cell = item.cell
    if choice := study.choice(cell):
        return Sizes(choice.settings, None)
    if study.protocol.params == "published" and cell.trains:
        return Sizes(dict(paper.best(cell.method, cell.dataset, study.protocol.batch_size)), None)
    if not cell.searched:
        return Sizes({}, None)
    space = space_of(cell)
    usual, largest = defaults(space), largest_of(space)
    return Sizes(usual, None if largest == usual else largest)


def largest_of(space: Space) -> Settings:
    """Return the defaults, but every whole number as large as a search may take it.

    Whole numbers count what a step works on. Reals do not, and options hardly: of the methods that
    ship, a step of the dearest option takes a tenth longer than the default's.
    """
    return {
        name: parameter.high if isinstance(parameter, Integer) else parameter.default
        for name, parameter in space.items()
    }


def expected(
    plans: Sequence[CellPlan],
    sizes: Callable[[CellPlan], Sizes],
    make: JobMaker,
    engine: Engine,
) -> dict[str, JobSeconds]:
    """Return the seconds of a job by cell id, measured once per method, settings and network.

    On the same network a method may cost four times as much as another. As many jobs are measured
    at once as will run at once, because they slow each other down, most where there are fewer cores
    than jobs. Cells whose job cannot be measured are missing; running them says why.

    Args:
        plans: how far each cell has come.
        sizes: gives the settings of a cell's jobs, see :func:`sizes_of`.
        make: builds a job.
        engine: runs what measures them.
    """
    from benchmark.running.waiting import errors_of, rounds  # here: they import torch
    from benchmark.training.timing import job_seconds

    kinds: dict[Kind, tuple[CellKey, Sizes]] = {}
    kinds_of: dict[str, Kind] = {}
    for item in plans:
        if item.jobs_left:
            size = sizes(item)
            kinds_of[item.cell.id] = kind = _kind(item.cell, size.usual)
            kinds.setdefault(kind, (item.cell, size))
    measured: dict[Kind, JobSeconds] = {}
    for some, count in rounds(list(kinds), engine):
        beside = max(len(some), min(count, width(plans)))
        futures = []
        for kind in islice(cycle(some), beside):
            cell, size = kinds[kind]
            seconds = partial(job_seconds, largest=size.largest)
            futures.append((kind, engine.submit(seconds, make(cell, "search", 0, 0, size.usual))))
        errors = errors_of([future for _, future in futures], engine)
        for (kind, future), error in zip(futures, errors, strict=True):
            if error is None:
                took = JobSeconds(*(OVERHEAD_S + each for each in future.result()))
                measured[kind] = max(took, measured.get(kind, took), key=lambda each: each.most)
    return {cell: measured[kind] for cell, kind in kinds_of.items() if kind in measured}


def _kind(cell: CellKey, settings: Settings) -> Kind:
    chosen = tuple(sorted(settings.items()))
    return Kind(cell.dataset, cell.trunk, cell.recipe, cell.method, chosen)
