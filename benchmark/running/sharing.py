"""How many jobs share a GPU: measured with the study's own steps, before it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmark.engines.local import LocalEngine
from benchmark.training.job import Job
from benchmark.training.timing import Load, load_of

WITHIN = 0.95  # of the best joint rate: fewer jobs that reach this much are enough
ROOM = 0.85  # of the card's memory that jobs may take together


def share(engine: LocalEngine, job: Job, a_card: int) -> int:
    """Limit the engine's jobs a card to what pays; return that number.

    Args:
        engine: with ``a_card`` workers on each card.
        job: what is measured: one that trains.
        a_card: the most jobs a card that the cores allow.
    """

    def measure(count: int) -> list[Load]:
        jobs = (replace(job, fold=k % job.protocol.folds) for k in range(count))
        futures = [engine.submit(load_of, made) for made in jobs]
        return [f.result() for f in futures if f.exception() is None]

    chosen = choose(measure, a_card)
    engine.limit(chosen)
    return chosen


def choose(measure: Callable[[int], Sequence[Load]], most: int) -> int:
    """Return the smallest number of jobs whose joint rate is near the best.

    ``measure(n)`` runs n jobs at once and returns what each did; one that failed is missing, and
    so many jobs are then too many.
    """
    alone = measure(1)
    if not alone:
        return 1  # the jobs themselves will say why
    fit = int(ROOM * alone[0].card / alone[0].memory) if alone[0].memory else most
    rates, count = {1: alone[0].steps_s}, max(1, min(most, fit))
    while count > 1:
        loads = measure(count)
        rates[count] = sum(load.steps_s for load in loads) if len(loads) == count else 0.0
        if rates[count] < WITHIN * max(rate for n, rate in rates.items() if n >= count):
            break  # fewer do no better
        count //= 2
    best = max(rates.values())
    return min(count for count, rate in rates.items() if rate >= WITHIN * best)
