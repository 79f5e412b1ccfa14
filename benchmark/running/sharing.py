"""How many jobs share a GPU: measured with the study's own steps, before it starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmark.engines.local import LocalEngine
from benchmark.engines.machine import default_workers
from benchmark.running.waiting import errors_of
from benchmark.training.first_look import FirstLook
from benchmark.training.job import Job
from benchmark.training.timing import CONTEXT_BYTES, Load, joint_rate, load_of
from protocols.errors import InvalidInputError

WITHIN = 0.95  # of the best joint rate: fewer jobs that reach this much are enough
ROOM = 0.85  # of the card's memory that jobs may take together


def share(engine: LocalEngine, job: Job, cards: int, memory_mb: int = 0) -> int:
    """Limit the engine's jobs a card to what pays, one where that cannot be measured.

    Returns the number, 0 where it could not be measured.

    Args:
        engine: with as many workers on each card as the cores allow.
        job: what is measured: one that trains.
        cards: how many there are.
        memory_mb: of a card that torch takes for a job at least.
    """

    def measure(count: int) -> list[Load]:
        """Run ``count`` jobs on each card: a free worker is found on every card in turn."""
        folds = [k % job.protocol.folds for k in range(count * cards)]
        # One alone shows what memory a job takes, and is scored for that.
        load = partial(load_of, scored=count == 1)
        futures = [engine.submit(load, replace(job, fold=fold)) for fold in folds]
        # For all, also where one fails: what is measured next needs their workers.
        failed = any(errors_of(futures, engine))
        return [] if failed else [future.result() for future in futures]

    chosen = choose(measure, engine.capacity // cards, memory_mb << 20)
    engine.limit(max(1, chosen))
    return chosen


def pays_here(most: int, job: Job, memory_mb: int = 0) -> int:
    """Return how many jobs like ``job`` pay on the GPU that this process was given.

    Args:
        most: jobs at once; fewer where there is no memory for them.
        job: one that trains.
        memory_mb: of the GPU that torch takes for a job at least.

    Raises:
        InvalidInputError: it could not be measured.
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
            chosen = share(engine, job, 1, memory_mb)
        finally:
            engine.close()
    if not chosen:
        raise InvalidInputError(f"{job.cell.row} fails while it is measured")
    return chosen


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


def choose(measure: Callable[[int], Sequence[Load]], most: int, memory: int = 0) -> int:
    """Return the smallest number of jobs whose joint rate is near the best, 0 where none is known.

    Args:
        measure: runs so many jobs at once and returns what each did, nothing where so many fail.
        most: jobs at once.
        memory: bytes that torch takes of the card for a job at least.
    """
    alone = measure(1)
    if not alone:
        return 0
    taken = max(memory + CONTEXT_BYTES, *(load.memory for load in alone))
    count = max(1, min(most, int(ROOM * alone[0].card / taken)))
    # A first round of as many as run starts their processes, and what a card does once for each.
    while count > 1 and not measure(count):
        count //= 2
    rates = {1: joint_rate(alone)}
    while count > 1:
        rates[count] = joint_rate(measure(count))
        if rates[count] < WITHIN * max(rate for n, rate in rates.items() if n >= count):
            break  # fewer do no better
        count //= 2
    best = max(rates.values())
    return min(count for count, rate in rates.items() if rate >= WITHIN * best)
