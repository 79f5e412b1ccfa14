"""How long a plan takes at most, from what must wait for what.

A cell's trials go one after the other, because each is suggested from those before it, and its
runs wait for the last. The folds of a trial go side by side, and so do all folds of all runs. No
worker is idle while a job could start, so Graham's bound for list scheduling holds (R. L. Graham,
Bounds on Multiprocessing Timing Anomalies, SIAM J. Appl. Math. 17(2), 1969, theorem 1): all work
over the workers, and besides the longest chain of jobs that wait for each other, less its own
share. Nothing is faster than the longer of the two, so the bound is less than twice the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmark.study.grid import CellPlan


class JobSeconds(NamedTuple):
    """How long a cell's jobs take: three times for one job, none shorter than the one before it.

    ``least`` if each ends as early as patience lets it, ``usual`` if each takes all steps, both
    with the settings expected; ``most`` if each takes all steps with the settings that cost most.
    """

    least: float
    usual: float
    most: float


def at_least(plans: Sequence[CellPlan], seconds: Mapping[str, JobSeconds], workers: int) -> float:
    """Return the seconds that all jobs left take if each takes its least; as :func:`at_most`."""
    times = [(item, seconds[item.cell.id].least) for item in plans if item.cell.id in seconds]
    work = sum(item.jobs_left * least for item, least in times)
    chains = (longest_chain(item) * least for item, least in times)
    return max(work / workers, max(chains, default=0.0))


def at_most(plans: Sequence[CellPlan], seconds: Mapping[str, JobSeconds], workers: int) -> float:
    """Return within how many seconds all jobs left end.

    Args:
        plans: how far each cell has come.
        seconds: of a job, by cell id; cells that are missing count nothing.
        workers: jobs that run at once.
    """
    return _bound([(i, seconds[i.cell.id].most) for i in plans if i.cell.id in seconds], workers)


def usually(plans: Sequence[CellPlan], seconds: Mapping[str, JobSeconds], workers: int) -> float:
    """Return within how many seconds all jobs left end with the settings expected, as above."""
    return _bound([(i, seconds[i.cell.id].usual) for i in plans if i.cell.id in seconds], workers)


def _bound(times: Sequence[tuple[CellPlan, float]], workers: int) -> float:
    work = sum(item.jobs_left * each for item, each in times)
    chains = (longest_chain(item) * each for item, each in times)
    return graham(work, max(chains, default=0.0), workers)


def graham(work_s: float, chain_s: float, workers: int) -> float:
    """Return the seconds in which any order of jobs ends that leaves no worker idle.

    Args:
        work_s: seconds of all jobs, one after the other.
        chain_s: seconds of the longest chain of jobs that wait for each other.
        workers: jobs that run at once.
    """
    return work_s / workers + chain_s * (1 - 1 / workers)


def longest_chain(item: CellPlan) -> int:
    """Return how many of a cell's jobs left must run one after the other."""
    if not item.jobs_left:
        return 0
    trials = 0 if item.chosen or item.failed else max(0, item.trials - item.trials_done)
    return min(item.jobs_left, trials + int(item.runs_done < item.runs))


def width(plans: Sequence[CellPlan]) -> int:
    """Return how many jobs can run at once at most, however many workers there are."""
    return sum(_width(item) for item in plans)


def _width(item: CellPlan) -> int:
    chain = longest_chain(item)
    return item.jobs_left - chain + 1 if chain else 0
