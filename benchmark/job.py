"""What a worker does: one training of one fold, or joining a run's test embeddings.

Jobs and outcomes are plain data, so they travel to another process or machine. A worker opens
no store of results: the coordinator alone writes.
"""

from __future__ import annotations

import hashlib
import io
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark import data, environment, evaluate
from benchmark.records import JobRecord, Metrics, Reason
from benchmark.seeds import seed
from benchmark.study import CellKey
from benchmark.train import Fitted, NonFiniteError, Streams, contiguous, fit
from protocols import metrics
from protocols.discovery import Registry
from protocols.errors import DataError, InvalidInputError
from protocols.method import Method, TrainSpec
from protocols.network import Network
from protocols.protocol import Protocol, digest
from protocols.recipe import Recipe
from protocols.space import Settings
from protocols.trunk import Trunk

Vectors = dict[str, NDArray[Any]]
_STRICT = 2  # torch's debug mode in which an operation that is not deterministic is an error


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
    source: data.DataSource
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
        source = _moved(self.source, self.protocol, place)
        return replace(self, source=source, plugins=plugins, weights=weights)

    @property
    def id(self) -> str:
        """Return the job's content address."""
        return digest([self.cell.id, self.stage, self.number, self.fold, self.settings], 16)


@dataclass(frozen=True)
class JobOutcome:
    """A job's record and, for final jobs, the file of test embeddings and per-query metrics."""

    record: JobRecord
    vectors: bytes | None = None


@dataclass(frozen=True)
class JoinJob:
    """Join the fold models' test embeddings of one run and score them."""

    protocol: Protocol
    source: data.DataSource
    folds: tuple[bytes, ...]

    def files(self) -> tuple[tuple[Path, ...], ...]:
        """Return the files that joining reads, like :meth:`Job.files`."""
        return (self.source.files(self.protocol),)

    def moved(self, place: Callable[[Path], Path]) -> JoinJob:
        """Return the same work for another machine, like :meth:`Job.moved`."""
        return replace(self, source=_moved(self.source, self.protocol, place))


@dataclass(frozen=True)
class JoinOutcome:
    """Metrics of the joined embeddings, and the run's per-query results as one file."""

    metrics: Metrics
    excluded: int
    embeddings_sha256: str
    embeddings_shape: list[int]
    queries: bytes


def execute(job: Job) -> JobOutcome:
    """Run ``job`` and return its outcome; a failure is an outcome with a typed reason."""
    started, cpu = time.perf_counter(), time.process_time()
    torch.set_num_threads(job.protocol.threads_per_job)  # whatever an earlier method made of it
    try:
        outcome = _train(job)
    # The one broad place: whatever a method does wrong is a row of the table, not the end.
    except Exception as error:
        if _breaks_device(error):
            traceback.print_exc()
            os._exit(1)  # a lost worker: the next attempt and all other jobs get a fresh process
        outcome = JobOutcome(failure(job, reason_of(error), _explain(error)))
    measured = {
        **outcome.record.measured,
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
        "peak_memory_mb": _peak_memory_mb(job.device),
        "environment": {
            "device": _device_name(job.device),
            "deterministic": torch.get_deterministic_debug_mode() == _STRICT,
            **environment.versions(),
        },
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
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)


def join(job: JoinJob) -> JoinOutcome:
    """Return the scored join of a run's fold models.

    Stored per query: each fold model's metrics and the joined embedding's, float32, and the
    ten nearest test images under the joined embedding. ``query`` and ``neighbours`` are
    positions in ``index`` and ``labels``, which describe the whole test split.
    """
    folds = [unpack(content) for content in job.folds]
    normalize = bool(folds[0]["normalized"])
    joined = metrics.concatenate([f["embeddings"] for f in folds], normalize=normalize)
    test = data.open_test(job.source, job.protocol)
    scored = evaluate.rank(joined, test, normalize=normalize)
    asked = np.ones(len(test), bool) if test.query is None else test.query
    queries: Vectors = {
        "index": test.index.astype(np.int32),
        "labels": test.labels.astype(np.int32),
        "query": np.flatnonzero(asked).astype(np.int32),
        "neighbours": scored.neighbours.astype(np.int32),
    }
    for name in metrics.METRICS:
        queries[f"concatenated_{name}"] = getattr(scored, name).astype(np.float32)
        queries[f"separated_{name}"] = np.stack([f[name] for f in folds])
    return JoinOutcome(
        metrics=scored.means(),
        excluded=scored.excluded,
        embeddings_sha256=hashlib.sha256(joined.tobytes()).hexdigest(),
        embeddings_shape=list(joined.shape),
        queries=pack(queries),
    )


def pack(arrays: Vectors) -> bytes:
    """Return arrays as the bytes of a compressed npz file; equal arrays, equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(content: bytes) -> Vectors:
    """Return the arrays of :func:`pack`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)


def _train(job: Job) -> JobOutcome:
    """Train on the fold, keep the best weights; final jobs also test them, once."""
    device = torch.device(job.device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # modules start, drop and mine from torch's generator
        train, validation = data.open_fold(job.source, job.protocol, job.fold)
        network = build_network(job, train).to(memory_format=torch.channels_last).to(device)
        torch.manual_seed(_seed(job, "steps"))
        fitted, train_s = _fit(job, network, train, validation)
        record = _record(
            job,
            status="done",
            steps=fitted.steps,
            best_step=fitted.best_step,
            candidate=fitted.candidate,
            history=fitted.history,
            validation=fitted.validation,
            counts=_counts(network, fitted, len(validation)),
            measured={"train_s": round(train_s, 3)},
        )
        return _test(job, network, record) if job.stage == "final" else JobOutcome(record)


def build_network(job: Job, train: data.Split) -> Network:
    """Return trunk and method on the CPU, from seeds that do not depend on the method."""
    registry, protocol = Registry(job.plugins), job.protocol
    torch.manual_seed(_seed(job, "trunk"))
    name = job.cell.trunk.partition("+")[0]  # what follows says which weights
    trunk: Trunk = registry.load("trunk", name).build(job.weights)
    method: type[Method] = registry.load("method", job.cell.method)
    trunk.honour(method.wants, job.cell.method)
    if method.wants.map:
        _check_map(trunk, job)
    labels = contiguous(train.labels)
    spec = TrainSpec(
        labels=labels,
        classes=int(labels.max()) + 1,
        channels=trunk.channels,
        embedding_size=protocol.embedding_size,
        batch_size=protocol.batch_size,
        steps=protocol.pace.max_steps,
        steps_per_epoch=protocol.pace.steps_per_epoch,
    )
    torch.manual_seed(_seed(job, "method"))
    return Network(trunk, method(spec, **job.settings), job.recipe.batch_norm)


def _check_map(trunk: Trunk, job: Job) -> None:
    """Raise InvalidInputError if the trunk leaves no map larger than 1 x 1 at this size."""
    side = job.protocol.image.crop_px
    with torch.no_grad():
        height, width = trunk.eval()(torch.zeros(1, 3, side, side)).map.shape[2:]
    trunk.train()
    if height * width <= 1:
        raise InvalidInputError(
            f"method {job.cell.method!r} needs a feature map; trunk {job.cell.trunk!r} leaves "
            f"{height} x {width} of {side} px. Choose a protocol with larger images"
        )


def _fit(
    job: Job, network: Network, train: data.Split, validation: data.Split
) -> tuple[Fitted, float]:
    """Return what training left behind and its seconds; a reference row is only validated."""
    started = time.perf_counter()

    network.method.prepare(lambda view: evaluate.extract(network, train, job.protocol, view))

    def validate() -> Metrics:
        return evaluate.score(network, validation, job.protocol)[0].means()

    if not job.cell.trains:
        found = validate()
        return Fitted(validation=found, history=[{"step": 0, **found}]), 0.0
    streams = Streams(
        *(np.random.default_rng(_seed(job, name)) for name in ("batches", "augment", "plan"))
    )
    fitted = fit(network, train, validate, job.protocol, job.recipe, streams)
    return fitted, time.perf_counter() - started


def _test(job: Job, network: Network, record: JobRecord) -> JobOutcome:
    """Open the test split, score the kept weights once, and add what came out."""
    test = data.open_test(job.source, job.protocol)
    scored, embeddings = evaluate.score(network, test, job.protocol)
    vectors = pack(
        {
            "embeddings": embeddings,
            "normalized": np.asarray(network.method.normalize_embeddings),
            **{m: getattr(scored, m).astype(np.float32) for m in metrics.METRICS},
        }
    )
    what = f"{len(test)} test images of {job.source.name}"
    opening = f"{what} opened to score step {record.best_step}"
    record = replace(
        record,
        test=scored.means(),
        excluded=scored.excluded,
        openings=[opening],
        vectors_sha256=hashlib.sha256(vectors).hexdigest(),
    )
    return JobOutcome(record, vectors)


def _moved(
    source: data.DataSource, protocol: Protocol, place: Callable[[Path], Path]
) -> data.DataSource:
    return replace(source, root=None, cache=place(source.files(protocol)[0]).parent)


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


def _counts(network: Network, fitted: Fitted, validated: int) -> dict[str, int]:
    """Return what a training cost in parameters and images, whatever the machine."""
    terms = sum(p.numel() for p in network.method.terms.parameters())
    everything = sum(p.numel() for p in network.parameters())
    learnt = sum(p.numel() for group in network.groups() for p in group.parameters)
    return {
        "parameters_trained": learnt if fitted.images_trained else 0,
        "parameters_deployed": everything - terms,
        "images_trained": fitted.images_trained,
        "images_embedded": validated * len(fitted.history),
    }


def _seed(job: Job, purpose: str) -> int:
    """Return a seed from names; without the method's, so that methods pair up."""
    return seed(job.cell.dataset, job.cell.trunk, job.stage, job.number, job.fold, purpose)


def _explain(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    return f"{type(error).__name__}: {error} ({where})"[:2000]


def _peak_memory_mb(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) >> 20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} thread(s)"
