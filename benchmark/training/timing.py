"""How long a job takes here: a few real steps, measured before a study starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from benchmark.training import device, evaluate, splits
from benchmark.training.device_steps import PROOFS, WARM
from benchmark.training.draws import Draws, Probe, Streams, contiguous, cost
from benchmark.training.fit import make_steps, schedule_of
from benchmark.training.job import Job, build_network
from benchmark.training.placed import placed
from benchmark.training.steps import Training
from protocols.network import Network
from protocols.recipe_search import recipe_of
from protocols.space import Settings

STEPS = 5
SETTLING = WARM + PROOFS + 1  # steps that are not taken as all later ones
WINDOW_S = 2.0  # of steps, of which those count that others take steps in as well
MARK_S = 0.05  # between two looks at how many are done, about
CONTEXT_BYTES = 700 << 20  # that CUDA takes of a card for each process, beside torch's memory

Marks = tuple[tuple[float, int], ...]  # times, and how many steps were done then


@dataclass(frozen=True)
class Load:
    """What a training did to its card while others may have run beside it.

    Attributes:
        marks: how many steps were done at some times by the machine's clock, first and last of
            the window among them.
        memory: bytes that it takes of the card.
        card: bytes of the card.
    """

    marks: Marks
    memory: int
    card: int


def joint_rate(loads: Sequence[Load]) -> float:
    """Return the steps a second of trainings together, while all of them ran.

    0 where there was no such time, as of none.
    """
    begun = max((load.marks[0][0] for load in loads), default=0.0)
    ended = min((load.marks[-1][0] for load in loads), default=0.0)
    if ended <= begun:
        return 0.0
    done = 0.0
    for load in loads:
        times, counts = np.array(load.marks, np.float64).T  # (2, marks)
        done += float(np.diff(np.interp([begun, ended], times, counts))[0])
    return done / (ended - begun)


def load_of(job: Job, *, scored: bool = False) -> Load:
    """Return what training like ``job`` for some seconds does to its card.

    Args:
        job: one that trains.
        scored: whether its validation images are scored too, which may take more memory.
    """
    torch.cuda.reset_peak_memory_stats(job.device)
    try:
        with device.own_stream(torch.device(job.device)), torch.random.fork_rng([job.device]):
            train, validation = splits.open_fold(job.source, job.protocol, job.fold)
            network = made_network(job, train)
            marks = marks_of(stepper(job, network, train), torch.cuda.synchronize)
            if scored:
                evaluate.score(network, validation, job.protocol)
        memory = torch.cuda.max_memory_reserved(job.device) + CONTEXT_BYTES
        return Load(marks, memory, torch.cuda.mem_get_info(job.device)[1])
    finally:
        device.tidy(job.device)


def marks_of(take: Callable[[int], None], wait: Callable[[], None]) -> Marks:
    """Return how many steps were done at some times of a window, by a clock all processes share.

    Args:
        take: starts step n.
        wait: returns once all that were started are done. It is called now and then: a host that
            never waits is far ahead of its device, one that always does keeps it from working.
    """
    wait()
    marks, at_once = [(time.monotonic(), 0)], 1
    while marks[-1][0] - marks[0][0] < WINDOW_S:
        since, count = marks[-1]
        for step in range(count, count + at_once):
            take(SETTLING + step)
        wait()
        marks.append((time.monotonic(), count + at_once))
        if marks[-1][0] - since < MARK_S:
            at_once *= 2
    return tuple(marks)


def job_seconds(job: Job, largest: Settings | None = None) -> tuple[float, float, float]:
    """Return the seconds of ``job``, at least, usually and at most, from a few measured steps.

    At least: it ends as early as patience and a budget in seconds let it. Usually: after all
    steps. At most: after all steps with the settings ``largest`` if those take longer. Opening the
    images and building the network are in all three, and testing, as in a final job.
    """
    try:
        with device.own_stream(torch.device(job.device)):
            least, usual = _job_seconds(job)
            if not largest or not job.cell.trains:
                return least, usual, usual
            device.tidy(job.device)
            recipe = recipe_of(job.recipe, largest)
            larger = replace(job, settings=largest, recipe=recipe)
            return least, usual, max(usual, _job_seconds(larger)[1])
    finally:
        device.tidy(job.device)


def _job_seconds(job: Job) -> tuple[float, float]:
    protocol, place, begun = job.protocol, torch.device(job.device), time.perf_counter()
    train, validation = splits.open_fold(job.source, protocol, job.fold)
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        network = made_network(job, train)
        take = stepper(job, network, train) if job.cell.trains else None
        setup_s = time.perf_counter() - begun  # on a GPU with the steps that settle the others
        step_s = _step_seconds(job, take) if take else 0.0
    first = splits.Split(validation.store, validation.index[:64], validation.labels[:64])
    evaluate.embed(network, first, protocol)
    started = time.perf_counter()
    found = evaluate.embed(network, first, protocol)
    image_s = (time.perf_counter() - started) / len(first)
    rank_s, tests_s = _ranking_seconds(job, network, validation, found.shape[1])
    validated_s = image_s * len(validation) + rank_s
    once_s = setup_s + image_s * splits.count_tests(job.source, protocol) + tests_s
    if not job.cell.trains:  # what is fitted is fitted on the training images
        fitted_s = once_s + validated_s + image_s * len(train)
        return fitted_s, fitted_s
    schedule = schedule_of(network, protocol, job.recipe)
    costs = cost(protocol, type(network.method), job.recipe.gradients)

    def after(steps: int) -> float:
        validations = 1 + -(-steps // schedule.interval)
        return once_s + steps // costs * step_s + validations * validated_s

    least, most = after(schedule.earliest_stop), after(protocol.pace.max_steps)
    if protocol.budget_s is not None:  # over at the first validation after so many seconds
        least = min(least, once_s + validated_s + protocol.budget_s)
    return least, most


def made_network(job: Job, train: splits.Split) -> Network:
    """Return the job's network on its device, as a training has it."""
    return placed(build_network(job, train), torch.device(job.device), job.protocol.precision)


def stepper(job: Job, network: Network, train: splits.Split) -> Callable[[int], None]:
    """Return what takes step n of those that train the whole network; on a GPU they are settled."""
    labels = contiguous(train.labels)
    streams = Streams(*(np.random.default_rng(n) for n in range(4)))
    draws = Draws(Probe(network, train, job.protocol), labels, streams, job.recipe.gradients)
    made = Training(network, train, labels, job.protocol, job.recipe, *streams.pixels)
    steps, first = make_steps(made), job.recipe.head_first_steps or 0

    def take(step: int) -> None:
        steps.take(next(draws), first + step, 1.0)

    for step in range(SETTLING if job.device.startswith("cuda") else 0):
        take(step)
    return take


def _ranking_seconds(
    job: Job, network: Network, validation: splits.Split, width: int
) -> tuple[float, float]:
    """Return the seconds that one ranking of validation images takes, and those of the test images.

    It is of random embeddings: the time does not depend on them, and neither much on how they are
    compared, so those of a hyperboloid need not be on one.
    """
    ranking = network.method.ranked_by
    ranking = "distance" if ranking == "hyperboloid" else ranking
    shape, place = (len(validation), width), job.device
    rows = np.random.default_rng(0).standard_normal(shape, np.float32)
    started = time.perf_counter()
    evaluate.rank(rows, validation, ranking=ranking, device=place)
    rank_s = time.perf_counter() - started
    evaluate.verify_pairs(rows, validation, ranking=ranking, device=place)
    both_s = time.perf_counter() - started
    tests = splits.count_tests(job.source, job.protocol) / len(validation)
    return rank_s, tests**2 * both_s  # each image against every other


def _step_seconds(job: Job, take: Callable[[int], None]) -> float:
    seconds = []
    for step in range(STEPS):
        started = time.perf_counter()
        take(SETTLING + step)
        if job.device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])
