"""How long a job takes here: a few real steps, measured before a study starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from benchmark.training import device, evaluate, splits
from benchmark.training.device_steps import PROOFS, WARM
from benchmark.training.draws import Draws, Probe, Streams, contiguous, cost
from benchmark.training.fit import make_steps
from benchmark.training.job import Job, build_network
from benchmark.training.placed import placed
from benchmark.training.steps import Training
from protocols.network import Network

STEPS = 5
SETTLING = WARM + PROOFS + 1  # steps that are not taken as all later ones
WINDOW_S = 1.0  # that a joint rate is measured for
CONTEXT_BYTES = 700 << 20  # that CUDA takes of a card for each process, beside torch's memory


@dataclass(frozen=True)
class Load:
    """What a training did to its card while others may have run beside it.

    Attributes:
        steps_s: steps a second.
        memory: bytes that it takes of the card.
        card: bytes of the card.
    """

    steps_s: float
    memory: int
    card: int


def load_of(job: Job) -> Load:
    """Return what training like ``job`` for a second does to its card."""
    torch.cuda.reset_peak_memory_stats(job.device)
    try:
        with device.own_stream(torch.device(job.device)), torch.random.fork_rng([job.device]):
            train, _ = splits.open_fold(job.source, job.protocol, job.fold)
            take = stepper(job, made_network(job, train), train)
            started, count = time.perf_counter(), 0
            while time.perf_counter() - started < WINDOW_S:
                take(SETTLING + count)
                count += 1
            torch.cuda.synchronize()
            rate = count / (time.perf_counter() - started)
        memory = torch.cuda.max_memory_reserved(job.device) + CONTEXT_BYTES
        return Load(rate, memory, torch.cuda.mem_get_info(job.device)[1])
    finally:
        device.tidy(job.device)


def job_seconds(job: Job) -> float:
    """Return the seconds ``job`` takes if it never stops early, from a few measured steps.

    Opening the images and building the network are in it, and testing, as in a final job.
    """
    try:
        with device.own_stream(torch.device(job.device)):
            return _job_seconds(job)
    finally:
        device.tidy(job.device)


def _job_seconds(job: Job) -> float:
    protocol, place, begun = job.protocol, torch.device(job.device), time.perf_counter()
    train, validation = splits.open_fold(job.source, protocol, job.fold)
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        network = made_network(job, train)
        setup_s = time.perf_counter() - begun
        step_s = _step_seconds(job, network, train) if job.cell.trains else 0.0
    first = splits.Split(validation.store, validation.index[:64], validation.labels[:64])
    evaluate.embed(network, first, protocol)
    started = time.perf_counter()
    evaluate.embed(network, first, protocol)
    image_s = (time.perf_counter() - started) / len(first)
    pace = protocol.pace
    steps = pace.max_steps if job.cell.trains else 0
    embedded = (1 + steps // pace.validate_every) * len(validation)
    embedded += splits.count_tests(job.source, protocol)
    if not job.cell.trains:  # what is fitted is fitted on these
        embedded += len(train)
    taken = steps // cost(protocol, type(network.method), job.recipe.gradients)
    return setup_s + taken * step_s + embedded * image_s


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


def _step_seconds(job: Job, network: Network, train: splits.Split) -> float:
    take, seconds = stepper(job, network, train), []
    for step in range(STEPS):
        started = time.perf_counter()
        take(SETTLING + step)
        if job.device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])
