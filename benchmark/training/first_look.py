"""A cell's first steps, taken before a study starts: what can only fail is seen here."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.broken import Spent, first_error, out_of_memory, spent_by
from benchmark.training import device, evaluate, splits
from benchmark.training.job import Job
from benchmark.training.reasons import place_of
from benchmark.training.serving import serving_trunk
from benchmark.training.timing import made_network, stepper
from protocols.discovery import Registry
from protocols.errors import BenchmarkError, InvalidInputError, in_words
from protocols.network import Network
from protocols.packaged import owner
from protocols.weights import unwrapping

_IMAGES = 2  # that the trunk is shown: BatchNorm needs more than one where a map is one pixel
_BESIDE = 6  # images that a plugin embeds together and alone
_ROUNDED = {"fp32": 0.01, "bf16": 0.1}  # what the size of a batch may move, of an embedding's norm


@dataclass(frozen=True)
class FirstLook:
    """What the first steps of a cell showed.

    Attributes:
        cell: the id of the cell; empty where its process died.
        problem: why no job of the cell can succeed and what to do; empty if nothing is seen.
        failed: what the method itself raised; its row of the table will say so.
        note: what was opened and removed in a file of weights, and which installed package it
            is of, or that parameters which never train start at random; empty if nothing.
        memory_mb: the most that torch has taken of its card for this, or on the CPU the worker's
            process so far.
        card_mb: that its card has, 0 on the CPU.
        spent: why that process must not be used again, see :mod:`benchmark.broken`.
    """

    cell: str = ""
    problem: str = ""
    failed: str = ""
    note: str = ""
    memory_mb: int = 0
    card_mb: int = 0
    spent: Spent = ""


def first_look(job: Job) -> FirstLook:
    """Build what ``job`` trains, take one step on a batch of its own, embed one image.

    On a GPU it takes seven, six to rehearse, record and prove a step. Nothing is kept. The trunk is
    shown images of the protocol's size before the method is built, so that what it raises is not
    taken for the method's.
    """
    torch.set_num_threads(job.protocol.threads_per_job)
    try:
        return replace(_seen(job), cell=job.cell.id)
    finally:
        device.tidy(job.device)  # once nothing holds what failed: its error is gone


def _seen(job: Job) -> FirstLook:
    """Return what the first steps showed, or why they failed."""
    place = torch.device(job.device)
    try:
        if place.type == "cuda":
            torch.cuda.reset_peak_memory_stats(place)
        with (
            device.own_stream(place),
            torch.random.fork_rng([place] if place.type == "cuda" else []),
        ):
            network = _look(job)
        note = _of_file(job.weights) if isinstance(job.weights, Path) else _unmoved(job, network)
        card = torch.cuda.mem_get_info(place)[1] if place.type == "cuda" else 0
        return FirstLook(note=note, memory_mb=device.peak_memory_mb(job.device), card_mb=card >> 20)
    except BenchmarkError as error:
        return FirstLook(problem=str(error))
    # Broad, as in execute: whatever a method raises is its own failure.
    except BaseException as error:
        cause, spent = first_error(error), spent_by(error)
        if spent:
            traceback.print_exc()
        if isinstance(cause, MemoryError) or out_of_memory(cause):
            return FirstLook(
                problem="one training step does not fit into memory. Choose a smaller batch_size, "
                "image.crop_px or trunk",
                spent=spent,
            )
        words = in_words(cause).partition("\n")[0][:300]
        return FirstLook(failed=f"{words}{place_of(cause)}", spent=spent)


def _of_file(path: Path) -> str:
    """Return what is to be known of a file of weights, empty if nothing."""
    return "; ".join(words for words in (unwrapping(path), owner(path)) if words)


def _unmoved(job: Job, network: Network) -> str:
    """Return how many parameters start at random and stay so, empty for none."""
    sizes = [(p.numel(), p.requires_grad) for p in network.trunk.parameters()]
    still = sum(size for size, trains in sizes if not trains)
    if job.weights is not None or not job.cell.trains or not still:
        return ""
    return (
        f"trunk {job.cell.trunk} starts at random, and {still:,} of its "
        f"{sum(size for size, _ in sizes):,} parameters never train under {job.cell.method}. "
        "--weights gives it others"
    )


def _look(job: Job) -> Network:
    """Return the network after its first step."""
    check_trunk(job)
    train, validation = splits.open_fold(job.source, job.protocol, job.fold)
    _check_pairs(job, train)
    network = made_network(job, train)
    one = splits.Split(validation.store, validation.index[:1], validation.labels[:1])
    found = evaluate.embed(network, one, job.protocol)
    if not np.isfinite(found).all():
        raise InvalidInputError("the first embedding is not finite: look at the weights")
    if job.foreign:  # the tests of what ships hold its methods to the same
        _check_embedding(job, network, validation)
    if job.cell.trains:
        take = stepper(job, network, train)
        for step in _looked_at(job, network):
            take(step)
    return network


def _check_embedding(job: Job, network: Network, validation: splits.Split) -> None:
    """Raise InvalidInputError where a plugin's embedding makes its row no fair comparison.

    Test images are embedded in batches, in which many lie beside images of their own class: an
    embedding that looks at its batch has seen labels. And a wider one scores higher by itself.
    """
    few = np.linspace(0, len(validation) - 1, min(_BESIDE, len(validation)), dtype=np.int64)

    def embed(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        some = splits.Split(validation.store, validation.index[rows], validation.labels[rows])
        return evaluate.embed(network, some, job.protocol)

    together = embed(few)
    alone = np.concatenate([embed(few[[place]]) for place in range(len(few))])
    far = np.linalg.norm(together - alone, axis=1)
    allowed = _ROUNDED[job.protocol.precision] * np.linalg.norm(alone, axis=1).max()
    if (far > allowed).any():
        raise InvalidInputError(
            f"{job.cell.method!r} on {job.cell.trunk!r} embeds an image otherwise where others are "
            "beside it, so its scores would depend on the order of the test images, in which "
            "classes lie together. In eval mode each row of the embedding must follow from its own "
            "image alone"
        )
    size = job.protocol.embedding_size
    wanted = size + (network.method.ranked_by == "hyperboloid")
    if job.cell.trains and together.shape[1] != wanted:
        raise InvalidInputError(
            f"{job.cell.method!r} embeds an image in {together.shape[1]} numbers, expected "
            f"{wanted}: a wider embedding scores higher by itself. Build the head for "
            "spec.embedding_size, or give all methods more with --set embedding_size=N"
        )


def _looked_at(job: Job, network: Network) -> list[int]:
    """Return the steps to take: the first, and of a recipe that takes two gradients each phase's.

    Such a recipe refuses a method that keeps state, which may begin with a later phase.
    """
    if job.recipe.gradients == 1:
        return [0]
    pace, method = job.protocol.pace, network.method
    phases = method.phases(method.settings, pace.max_steps, pace.steps_per_epoch)
    return sorted({0, *(phase.begins for phase in phases)})


def check_trunk(job: Job) -> None:
    """Raise InvalidInputError unless the trunk turns images of the protocol's size to numbers.

    It reads the trunk's weights and no image of the dataset.
    """
    trunk, name = serving_trunk(job).eval(), job.cell.trunk
    height, width = job.protocol.image.crop_hw
    try:
        with torch.no_grad():
            features = trunk(torch.full((_IMAGES, 3, height, width), 127.0))
    # Whatever a network raises on a size that it was not made for is its answer, but for what a
    # device says.
    except Exception as error:
        if spent_by(error):
            raise
        words = in_words(error).partition("\n")[0][:200]
        raise InvalidInputError(
            f"trunk {name!r} does not take images of {height} x {width} px ({words}). Choose "
            "another image.crop_px, protocol or trunk"
        ) from error
    if not bool(torch.isfinite(features.vector).all()):
        raise InvalidInputError(
            f"trunk {name!r} gives features that are not finite on a grey image: its weights are "
            "damaged. Choose other --weights"
        )


def _check_pairs(job: Job, train: splits.Split) -> None:
    """Raise InvalidInputError where a method compares images of a class and no class has two."""
    method = Registry(job.plugins).load("method", job.cell.method)
    if not job.cell.trains or method.draws != "pairs":
        return
    counts = np.unique(train.labels, return_counts=True)[1]
    if counts.max() < 2:
        raise InvalidInputError(
            f"method {job.cell.method!r} compares images of one class, and each of the "
            f"{len(counts)} training classes of fold {job.fold} has one image. Bring more images a "
            "class, or take a method that draws classes (python -m benchmark list methods)"
        )
