"""How many jobs share a GPU: measured with the study's own steps, before it starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmark.engines.local import LocalEngine
from benchmark.engines.machine import default_workers
from benchmark.running.waiting import errors_of
from benchmark.training.first_look import FirstLook
from benchmark.training.job import Job
from benchmark.training.timing import CONTEXT_BYTES, Load, load_of

WITHIN = 0.95  # of the best joint rate: fewer jobs that reach this much are enough
ROOM = 0.85  # of the card's memory that jobs may take together


def share(engine: LocalEngine, job: Job, cards: int) -> int:
    """Limit the engine's jobs a card to what pays; return that number.

    Args:
        engine: with as many workers on each card as the cores allow.
        job: what is measured: one that trains.
        cards: how many there are.
    """

    def measure(count: int) -> list[Load]:
        """Run ``count`` jobs on each card: a free worker is found on every card in turn."""
        folds = [k % job.protocol.folds for k in range(count * cards)]
        futures = [engine.submit(load_of, replace(job, fold=fold)) for fold in folds]
        # For all, also where one fails: what is measured next needs their workers.
        failed = any(errors_of(futures, engine))
        return [] if failed else [future.result() for future in futures]

    chosen = choose(measure, engine.capacity // cards)
    engine.limit(chosen)
    return chosen


def pays_here(most: int, job: Job) -> int:
    """Return how many jobs like ``job`` pay on the GPU that this process was given.

    Args:
        most: jobs at once; fewer where there is no memory for them.
        job: one that trains.
    """
    device, threads = os.environ["CUDA_VISIBLE_DEVICES"], job.protocol.threads_per_job
    count = min(most, default_workers((device,), job.protocol))
    with TemporaryDirectory() as folder:
        engine = LocalEngine(
            count,
            threads,
            Path(folder) / "workers.txt",
            deterministic=not torch.is_deterministic_algorithms_warn_only_enabled(),
            devices=(device,),
        )
        try:
            engine.start("benchmark.training.job")
            return share(engine, job, 1)
        finally:
            engine.close()


def fit_together(looks: Sequence[FirstLook], cells: int, count: int) -> bool:
    """Return whether so many jobs fit on a card together, by what first steps took of it.

    Args:
        looks: at cells whose first step was taken.
        cells: how many there are; one that has begun before, or whose first step failed, is not
            known, and then neither is the answer.
        count: jobs on a card.
    """
    known = [look for look in looks if look.card_mb]
    if not known or len(known) < cells:
        return False
    most = max(look.memory_mb for look in known) + (CONTEXT_BYTES >> 20)
    return count * most <= ROOM * min(look.card_mb for look in known)


def choose(measure: Callable[[int], Sequence[Load]], most: int) -> int:
    """Return the smallest number of jobs whose joint rate is near the best.

    ``measure(n)`` runs n jobs at once and returns what each did, nothing where so many fail.
    """
    alone = measure(1)
    if not alone:
        return 1  # the jobs themselves will say why
    fit = int(ROOM * alone[0].card / alone[0].memory) if alone[0].memory else most
    rates, count = {1: sum(load.steps_s for load in alone)}, max(1, min(most, fit))
    while count > 1:
        rates[count] = sum(load.steps_s for load in measure(count))
        if rates[count] < WITHIN * max(rate for n, rate in rates.items() if n >= count):
            break  # fewer do no better
        count //= 2
    best = max(rates.values())
    return min(count for count, rate in rates.items() if rate >= WITHIN * best)
