"""How long a job takes here: a few real steps, measured before a study starts."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import torch

from benchmark.training import evaluate, splits
from benchmark.training.device_steps import PROOFS, WARM
from benchmark.training.fit import Probe, Streams, contiguous, draw_batches, make_steps
from benchmark.training.job import Job, build_network
from benchmark.training.steps import Training
from protocols.network import Network

STEPS = 5
SETTLING = WARM + PROOFS  # steps that are not taken as all later ones


def job_seconds(job: Job) -> float:
    """Return the seconds ``job`` takes if it never stops early, from a few measured steps."""
    protocol, device = job.protocol, torch.device(job.device)
    train, validation = splits.open_fold(job.source, protocol, job.fold)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        network = build_network(job, train).to(memory_format=torch.channels_last).to(device)
        step_s = _step_seconds(job, network, train) if job.cell.trains else 0.0
    first = splits.Split(validation.store, validation.index[:64], validation.labels[:64])
    evaluate.embed(network, first, protocol)
    started = time.perf_counter()
    evaluate.embed(network, first, protocol)
    image_s = (time.perf_counter() - started) / len(first)
    pace = protocol.pace
    steps = pace.max_steps if job.cell.trains else 0
    embedded = (1 + steps // pace.validate_every) * len(validation)
    return steps * step_s + embedded * image_s


def _step_seconds(job: Job, network: Network, train: splits.Split) -> float:
    labels = contiguous(train.labels)
    streams = Streams(*(np.random.default_rng(n) for n in range(3)))
    draws = draw_batches(Probe(network, train, job.protocol), labels, streams)
    made = Training(network, train, labels, job.protocol, job.recipe, streams.augment)
    steps, seconds = make_steps(made), []
    on_cuda = job.device.startswith("cuda")
    for step in range(STEPS + (SETTLING if on_cuda else 0)):
        started = time.perf_counter()
        steps.take(next(draws), step, 1.0)
        if on_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return median(seconds[1 - STEPS :])
