"""One training: the program's own loop, and the bare loop that it is held against."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from benchmark.training import evaluate, splits
from benchmark.training.draws import Draws, Probe, Streams, contiguous
from benchmark.training.fit import fit, make_steps
from benchmark.training.job import Job, build_network
from benchmark.training.oracle import unwatched
from benchmark.training.steps import Training
from protocols.method import Batch
from protocols.network import Network
from protocols.optimizer import make_optimizer
from tests.perf.pictures import paced

WARM_UP = 4  # rounds


@dataclass(frozen=True)
class Rate:
    """Seconds of one training step, and of embedding and scoring one validation image."""

    step_s: float
    validated_s: float


def network_of(job: Job, train: splits.Split) -> Network:
    """Return the network as a job trains it."""
    torch.manual_seed(0)
    device = torch.device(job.device)
    return build_network(job, train).to(memory_format=torch.channels_last).to(device)


def streams() -> Streams:
    """Return the four random sources."""
    return Streams(*(np.random.default_rng(n) for n in range(4)))


def measure(job: Job) -> Rate:
    """Train as the job's pace says and return the rate after its last validation but one.

    Runs on a worker. Validation is the job's own and not counted in the steps.
    """
    train, validation = splits.open_fold(job.source, job.protocol, job.fold)
    network = network_of(job, train)
    steps = job.protocol.pace.validate_every
    left, took = 0.0, {"step": [], "validation": []}

    def validate() -> dict[str, float]:
        nonlocal left
        _wait(job)
        arrived = time.perf_counter()
        took["step"].append((arrived - left) / steps)
        evaluate.score(network, validation, job.protocol)
        left = time.perf_counter()
        took["validation"].append((left - arrived) / len(validation))
        return {"map_at_r": 0.0}

    fit(network, train, validate, job.protocol, job.recipe, streams(), unwatched)
    return Rate(took["step"][-1], median(took["validation"][1:]))


def against(job: Job, bare: Callable[[], float], steps: int, rounds: int) -> list[float]:
    """Return for each round (bare seconds a step) / (fit's seconds a step).

    One training runs through; where it validates, the bare loop takes its turn, so the two
    alternate within one process. The first rounds do not count: the heap still grows.
    """
    train, _ = splits.open_fold(job.source, job.protocol, job.fold)
    network = network_of(job, train)
    left, found = 0.0, []

    def validate() -> dict[str, float]:
        nonlocal left
        _wait(job)
        own = (time.perf_counter() - left) / steps
        found.append(bare() / own)
        left = time.perf_counter()
        return {"map_at_r": 0.0}

    made = paced(job, (WARM_UP + rounds) * steps, steps)
    fit(network, train, validate, made.protocol, made.recipe, streams(), unwatched)
    return found[1 + WARM_UP :]  # the very first stands before any step


def bare_loop(job: Job, steps: int) -> Callable[[], float]:
    """Return a function that takes ``steps`` bare steps and returns the seconds of one.

    Forward, loss, backward and optimiser step on cropped images that are already there: no
    sampling, augmentation, schedule or log. The losses are those of the method.
    """
    train, _ = splits.open_fold(job.source, job.protocol, job.fold)
    network = network_of(job, train).train()
    optimizer = make_optimizer(job.recipe, network.groups())
    labels, sources = contiguous(train.labels), streams()
    made = make_steps(Training(network, train, labels, job.protocol, job.recipe, *sources.pixels))
    draws = Draws(Probe(network, train, job.protocol), labels, sources)
    resident = [_resident(made, next(draws), network, labels) for _ in range(min(steps, 8))]

    def run() -> float:
        started = time.perf_counter()
        for step in range(steps):
            images, batch = resident[step % len(resident)]
            with evaluate.autocast(job.protocol, images.device):
                views = network(images)
            loss = sum(network.method.losses(views, batch).values())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        _wait(job)
        return (time.perf_counter() - started) / steps

    return run


def _resident(steps, draw, network, labels) -> tuple[torch.Tensor, Batch]:
    """Return one batch's images, cropped as ``fit`` crops them, and its labels."""
    images = steps.images(draw)
    index = torch.from_numpy(np.asarray(draw.index)).to(images.device)
    own = torch.from_numpy(labels).to(images.device)[index]
    return images, Batch(own, index, None, 0, 0)


def _wait(job: Job) -> None:
    if job.device.startswith("cuda"):
        torch.cuda.synchronize()
