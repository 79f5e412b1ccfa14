"""What a worker does: one training of one fold. The other thing is :mod:`benchmark.training.join`.

Jobs and outcomes are plain data, so they travel to another process or machine. A worker opens
no store of results: the coordinator alone writes.
"""

from __future__ import annotations

import hashlib
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.study import datasets, environment
from benchmark.study.folder import CellKey
from benchmark.study.records import JobRecord, Metrics, Reason
from benchmark.study.seeds import seed
from benchmark.training import device, evaluate, splits
from benchmark.training.fit import Fitted, NonFiniteError, Probe, Streams, contiguous, fit
from benchmark.training.join import pack, stored
from benchmark.training.oracle import Watch, unwatched
from protocols import metrics
from protocols.discovery import Registry
from protocols.errors import DataError, InvalidInputError, described
from protocols.method import Method, TrainSpec
from protocols.network import Network
from protocols.protocol import Protocol, digest
from protocols.recipe import Recipe
from protocols.space import Settings
from protocols.trunk import Trunk


@dataclass(frozen=True)
class Job:
    """One training of one fold of one trial (stage ``search``) or run (stage ``final``)."""

    cell: CellKey
    protocol: Protocol
    recipe: Recipe
    stage: str
    number: int
    fold: int
    settings: Settings
    source: splits.DataSource
    device: str
    plugins: tuple[Path, ...] = ()
    weights: Path | str | None = None

    def files(self) -> tuple[tuple[Path, ...], ...]:
        """Return the files that the job reads; those of one group must lie in one folder."""
        weights = (self.weights,) if isinstance(self.weights, Path) else ()
        alone = ((path,) for path in (*self.plugins, *weights))
        return (self.source.files(self.protocol), *alone)

    def moved(self, place: Callable[[Path], Path]) -> Job:
        """Return the job for a machine where each of its files lies at ``place(file)``."""
        weights = place(self.weights) if isinstance(self.weights, Path) else self.weights
        plugins = tuple(map(place, self.plugins))
        source = self.source.moved(self.protocol, place)
        return replace(self, source=source, plugins=plugins, weights=weights)

    @property
    def foreign(self) -> tuple[str, ...]:
        """Return which of the code that the job runs does not ship, as kinds with names."""
        shipped, cell = Registry(), self.cell
        used = (
            ("method", cell.method),
            ("trunk", cell.trunk.partition("+")[0]),  # what follows says which weights
            ("recipe", cell.recipe),
        )
        return tuple(f"{kind} {name}" for kind, name in used if not shipped.ships(kind, name))

    @property
    def id(self) -> str:
        """Return the job's content address."""
        return digest([self.cell.id, self.stage, self.number, self.fold, self.settings], 16)


@dataclass(frozen=True)
class JobOutcome:
    """A job's record and, for final jobs, the file of test embeddings and per-query metrics."""

    record: JobRecord
    vectors: bytes | None = None


def execute(job: Job) -> JobOutcome:
    """Run ``job`` and return its outcome; a failure is an outcome with a typed reason."""
    started, cpu = time.perf_counter(), time.process_time()
    torch.set_num_threads(job.protocol.threads_per_job)  # whatever an earlier method made of it
    try:
        outcome = _train(job)
    # The one broad place: whatever a method does wrong is a row of the table, not the end; that
    # it asks for the end (sys.exit, KeyboardInterrupt) is wrong too. Ctrl-C reaches no worker.
    except BaseException as error:
        if _breaks_device(error):
            traceback.print_exc()
            os._exit(1)  # a lost worker: the next attempt and all other jobs get a fresh process
        outcome = JobOutcome(failure(job, reason_of(error), _explain(error)))
    measured = {
        **outcome.record.measured,
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
        "peak_memory_mb": device.peak_memory_mb(job.device),
        "environment": {**device.described(job.device), **environment.versions()},
    }
    return replace(outcome, record=replace(outcome.record, measured=measured))


def failure(job: Job, reason: Reason, detail: str) -> JobRecord:
    """Return the record of a job that failed."""
    return _record(job, status="failed", reason=reason, detail=detail)


def reason_of(error: BaseException) -> Reason:
    """Return the typed reason for an exception."""
    if isinstance(error, NonFiniteError):
        return "non_finite"
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "oom"
    if isinstance(error, DataError):
        return "bad_data"
    return "crash"


def _breaks_device(error: BaseException) -> bool:
    """Return whether nothing can run on the device in this process any more.

    After such an error CUDA answers every call with it; being out of memory is none of them.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, RuntimeError) and "CUDA error" in described(error)


def _train(job: Job) -> JobOutcome:
    """Train on the fold, keep the best weights; final jobs also test them, once."""
    place = torch.device(job.device)
    devices = [place] if place.type == "cuda" else []
    if devices:
        torch.cuda.reset_peak_memory_stats(place)
    with torch.random.fork_rng(devices):  # modules start, drop and mine from torch's generator
        train, validation = splits.open_fold(job.source, job.protocol, job.fold)
        network = build_network(job, train).to(memory_format=torch.channels_last).to(place)
        torch.manual_seed(_seed(job, "steps"))
        watch = _watch(job, network)
        fitted, train_s = _fit(job, network, train, validation, watch)
        record = _record(
            job,
            status="done",
            steps=fitted.steps,
            best_step=fitted.best_step,
            candidate=fitted.candidate,
            phases=fitted.phases,
            history=fitted.history,
            validation=fitted.validation,
            counts=_counts(job, network, fitted, len(validation)),
            measured={"train_s": round(train_s, 3)},
        )
        return _test(job, network, record, watch) if job.stage == "final" else JobOutcome(record)


def build_network(job: Job, train: splits.Split) -> Network:
    """Return trunk and method on the CPU, from seeds that do not depend on the method."""
    registry, protocol = Registry(job.plugins), job.protocol
    torch.manual_seed(_seed(job, "trunk"))
    trunk = serving_trunk(job)
    method: type[Method] = registry.load("method", job.cell.method)
    labels = contiguous(train.labels)
    spec = TrainSpec(
        labels=labels,
        classes=int(labels.max()) + 1,
        channels=trunk.channels,
        embedding_size=protocol.embedding_size,
        folds=protocol.folds,
        batch_size=protocol.batch_size,
        steps=protocol.pace.max_steps,
        steps_per_epoch=protocol.pace.steps_per_epoch,
        images_per_class=protocol.images_per_class(method.draws),
    )
    torch.manual_seed(_seed(job, "method"))
    return Network(trunk, method(spec, **job.settings), job.recipe.batch_norm)


def serving_trunk(job: Job) -> Trunk:
    """Return the job's trunk with the edits its method wants, from torch's current generator.

    Raises:
        InvalidInputError: the trunk cannot serve the method; the message names both.
    """
    registry = Registry(job.plugins)
    name = job.cell.trunk.partition("+")[0]  # what follows says which weights
    trunk: Trunk = registry.load("trunk", name).build(job.weights)
    wants = registry.load("method", job.cell.method).wants
    trunk.honour(wants, job.cell.method)
    if wants.map:
        side = job.protocol.image.crop_px
        with torch.no_grad():
            height, width = trunk.eval()(torch.zeros(1, 3, side, side)).map.shape[2:]
        trunk.train()
        if height * width <= 1:
            raise InvalidInputError(
                f"method {job.cell.method!r} needs a feature map; trunk {name!r} leaves "
                f"{height} x {width} of {side} px. Choose a protocol with larger images"
            )
    return trunk


def _fit(
    job: Job,
    network: Network,
    train: splits.Split,
    validation: splits.Split,
    watch: Watch | None,
) -> tuple[Fitted, float]:
    """Return what training left behind and its seconds; a reference row is only validated.

    The seconds are without those of ``watch``.
    """
    started = time.perf_counter()

    probe = Probe(network, train, job.protocol)
    network.method.prepare(probe)

    def validate() -> Metrics:
        return evaluate.score(network, validation, job.protocol)[0].means()

    if not job.cell.trains:
        found = validate()
        if watch:
            watch(0)
        row = {"step": 0, **found}
        return Fitted(validation=found, history=[row], images_forward=probe.images), 0.0
    streams = Streams(
        *(np.random.default_rng(_seed(job, name)) for name in ("batches", "augment", "plan"))
    )
    told = watch or unwatched
    fitted = fit(network, train, validate, job.protocol, job.recipe, streams, told)
    fitted.images_forward += probe.images
    return fitted, time.perf_counter() - started - (watch.seconds if watch else 0.0)


def _watch(job: Job, network: Network) -> Watch | None:
    """Return what scores the test split at every validation, of final runs and on request."""
    if job.stage != "final" or not job.protocol.oracle_gap:
        return None

    def score_test() -> tuple[Metrics, str]:
        scored, _, what = _score_test(job, network)
        return scored.means(), what

    return Watch(score_test)


def _score_test(job: Job, network: Network) -> tuple[metrics.PerQuery, NDArray[np.float32], str]:
    """Open the test split and score the network on it.

    Returns:
        The metrics, what this fold gives to the joined embedding, what was opened, in words.
    """
    test = splits.open_test(job.source, job.protocol)
    scored, embeddings = evaluate.score(network, test, job.protocol)
    if network.method.joined != "embedding":
        embeddings = evaluate.embed(network, test, job.protocol, network.method.joined)
    return scored, embeddings, f"{len(test)} test images of {job.cell.dataset}"


def _test(job: Job, network: Network, record: JobRecord, watch: Watch | None) -> JobOutcome:
    """Score the kept weights once on the test split, and add what came out."""
    scored, embeddings, what = _score_test(job, network)
    vectors = pack(
        {
            "embeddings": embeddings,
            "normalized": np.asarray(network.method.normalize_embeddings),
            **stored(scored),
        }
    )
    opening = f"{what} opened to score step {record.best_step}"
    record = replace(
        record,
        test=scored.means(),
        excluded=scored.excluded,
        ties=scored.ties,
        openings=[*(watch.openings if watch else ()), opening],
        oracle=watch.rows if watch else [],
        vectors_sha256=hashlib.sha256(vectors).hexdigest(),
    )
    return JobOutcome(record, vectors)


def _record(job: Job, **values: Any) -> JobRecord:
    return JobRecord(
        id=job.id,
        cell=job.cell.id,
        stage=job.stage,  # type: ignore[arg-type]
        number=job.number,
        fold=job.fold,
        settings=job.settings,
        **values,
    )


def _counts(job: Job, network: Network, fitted: Fitted, validated: int) -> dict[str, int]:
    """Return what a training cost in parameters and images, whatever the machine.

    Images trained went forward and backward; images embedded went forward only, for validation
    and for what the method asked about its training images.
    """
    learnt = sum(p.numel() for group in network.groups() for p in group.parameters)
    return {
        "parameters_trained": learnt if fitted.images_trained else 0,
        "parameters_deployed": sum(p.numel() for p in network.deployed(job.protocol.image.crop_px)),
        "images_trained": fitted.images_trained,
        "images_embedded": validated * len(fitted.history) + fitted.images_forward,
    }


def _seed(job: Job, purpose: str) -> int:
    """Return a seed from names; without the method's, so that methods pair up.

    Own images count by their content, so their path and their title move no seed.
    """
    again = ("search", job.cell.repeat) if job.cell.repeat else ()
    place = (datasets.identity(job.cell.dataset), job.cell.trunk, *again)
    return seed(*place, job.stage, job.number, job.fold, purpose)


def _explain(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    return f"{described(error)} ({where})"[:2000]
