"""Once a run's folds are trained: join their test embeddings and score them, on a worker."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.study.records import Metrics
from benchmark.training import device, evaluate, splits
from benchmark.training.reasons import Fault, fault_of
from protocols import metrics
from protocols.protocol import Protocol
from protocols.ranking import Ranking

Vectors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class JoinJob:
    """Join the fold models' test embeddings of one run and score them, on the jobs' device."""

    protocol: Protocol
    source: splits.DataSource
    folds: tuple[bytes, ...]
    device: str = "cpu"

    def files(self) -> tuple[tuple[Path, ...], ...]:
        """Return the files that joining reads, like :meth:`Job.files`."""
        return (self.source.files(self.protocol),)

    def moved(self, moved_path: Callable[[Path], Path]) -> JoinJob:
        """Return the same work for another machine, like :meth:`Job.moved`."""
        return replace(self, source=self.source.moved(self.protocol, moved_path))


@dataclass(frozen=True)
class JoinOutcome:
    """Metrics of the joined embeddings, the run's per-query results as one file, and seconds."""

    metrics: Metrics
    excluded: int
    ties: int
    embeddings_sha256: str
    embeddings_shape: list[int]
    queries: bytes
    seconds: float


def join(job: JoinJob) -> JoinOutcome | Fault:
    """Return the scored join of a run's fold models; a failure has a typed reason, as a job's has.

    What a method embeds may be beyond what can be compared: that fails its run, no other.
    """
    try:
        return _join(job)
    except Exception as error:  # broad, for the reason that execute's is
        return fault_of(error, job.files())
    finally:  # what is held of a card would count as the next job's, and its neighbours lack it
        device.tidy(job.device)


def _join(job: JoinJob) -> JoinOutcome:
    """Return the scored join of a run's fold models.

    Stored per query: what :func:`stored` returns, of each fold model and of the joined embedding,
    and the ten nearest test images under the joined embedding. ``query`` and ``neighbours`` are
    positions in ``index`` and ``labels``, which describe the whole test split.
    """
    started = time.perf_counter()
    folds = [unpack(content) for content in job.folds]
    rule = _rule(folds[0])
    joined = metrics.concatenate([f["embeddings"] for f in folds], normalize=rule == "angle")
    test = splits.open_test(job.source, job.protocol)
    scored = evaluate.rank(joined, test, ranking=rule, sheets=len(folds), device=job.device)
    pairs = evaluate.verify_pairs(joined, test, ranking=rule, device=job.device)
    asked = np.ones(len(test), bool) if test.query is None else test.query
    queries: Vectors = {
        "index": test.index.astype(np.int32),
        "labels": test.labels.astype(np.int32),
        "query": np.flatnonzero(asked).astype(np.int32),
        "neighbours": scored.neighbours.astype(np.int32),
    }
    for name, values in stored(scored).items():
        queries[f"concatenated_{name}"] = values
        queries[f"separated_{name}"] = np.stack([f[name] for f in folds])
    packed = pack(queries)
    return JoinOutcome(
        metrics={**scored.means(), **pairs},
        excluded=scored.excluded,
        ties=scored.ties,
        embeddings_sha256=hashlib.sha256(joined.tobytes()).hexdigest(),
        embeddings_shape=list(joined.shape),
        queries=packed,
        seconds=round(time.perf_counter() - started, 3),
    )


def rule_of(ranking: Ranking) -> Vectors:
    """Return what a fold's file says of how its embeddings are compared.

    The files of all but the newest rule are as they were before rules had names.
    """
    found: Vectors = {"normalized": np.asarray(ranking == "angle")}
    return found | ({"ranking": np.asarray(ranking)} if ranking == "hyperboloid" else {})


def _rule(fold: Vectors) -> Ranking:
    if "ranking" in fold:
        return "hyperboloid"
    return "angle" if bool(fold["normalized"]) else "distance"


def stored(scored: metrics.PerQuery) -> Vectors:
    """Return what is kept of a test's queries, each (Q,), by name.

    The metrics as float32, and ``first_hit`` (int32), the rank from which recall at every k of
    the dataset follows.
    """
    found: Vectors = {name: getattr(scored, name).astype(np.float32) for name in metrics.METRICS}
    if scored.map_at_10 is not None and scored.first_hit is not None:
        found["map_at_10"] = scored.map_at_10.astype(np.float32)
        found["first_hit"] = scored.first_hit.astype(np.int32)
    return found


def pack(arrays: Vectors) -> bytes:
    """Return arrays as the bytes of a compressed npz file; equal arrays, equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(content: bytes) -> Vectors:
    """Return the arrays of :func:`pack`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)
