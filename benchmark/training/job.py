"""One training of one fold, on a worker; :mod:`benchmark.training.join` joins a run's folds.

Jobs and outcomes are plain data, so they travel to another process or machine. A worker opens
no store of results: the coordinator alone writes. What a worker may leave is a checkpoint.
"""

from __future__ import annotations

import hashlib
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
from benchmark.study.places import job_id
from benchmark.study.records import JobRecord, Metrics, Reason
from benchmark.study.seeds import seed
from benchmark.training import device, evaluate, kept, splits, told
from benchmark.training.draws import Probe, Streams, contiguous, images_per_class, largest
from benchmark.training.fit import Fitted, fit
from benchmark.training.frozen import Fold
from benchmark.training.join import pack, rule_of, stored
from benchmark.training.keeper import Clock, Keeper, NotAsKeptError
from benchmark.training.oracle import Watch, unwatched
from benchmark.training.placed import placed
from benchmark.training.reasons import explain, reason_of
from benchmark.training.serving import serving_trunk, stage_channels
from protocols import metrics
from protocols.discovery import Registry
from protocols.method import Method, TrainSpec
from protocols.network import Network
from protocols.protocol import Protocol
from protocols.recipe import Recipe
from protocols.recipe_search import of_method
from protocols.space import Settings


@dataclass(frozen=True)
class Job:
    """One training of one fold of one trial (stage ``search``) or run (stage ``final``).

    ``partial`` is where it leaves a checkpoint, if the file's folder is there; None for nowhere.
    """

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
    partial: Path | None = None
    keep: bool = False  # a final job's best weights come back with its outcome
    record_steps: bool = True  # whether steps may be recorded, where a device can

    def files(self) -> tuple[tuple[Path, ...], ...]:
        """Return the files that the job reads; those of one group must lie in one folder."""
        weights = (self.weights,) if isinstance(self.weights, Path) else ()
        alone = ((path,) for path in (*self.plugins, *weights))
        return (self.source.files(self.protocol), *alone)

    def moved(self, moved_path: Callable[[Path], Path]) -> Job:
        """Return the job for a machine where each file lies at ``moved_path(file)``."""
        weights = moved_path(self.weights) if isinstance(self.weights, Path) else self.weights
        plugins = tuple(map(moved_path, self.plugins))
        source = self.source.moved(self.protocol, moved_path)
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
        return job_id(self.cell.id, self.stage, self.number, self.fold, self.settings)


@dataclass(frozen=True)
class JobOutcome:
    """A job's record and, for final jobs, the file of test embeddings and per-query metrics.

    ``weights`` is the file of the weights that embed, where the job is to keep it.
    ``spent`` says that the worker's process must not be used again, see :func:`device.spent`.
    """

    record: JobRecord
    vectors: bytes | None = None
    weights: bytes | None = None
    spent: device.Spent = ""


def execute(job: Job) -> JobOutcome:
    """Run ``job`` and return its outcome; a failure is an outcome with a typed reason."""
    clock = Clock(job.device)
    keeper = Keeper(job.partial, job.id, job.device, clock)
    # an earlier job's method may have changed it
    torch.set_num_threads(job.protocol.threads_per_job)
    try:
        outcome = _go_on(job, keeper, clock)
    # The one clause that catches all: a method that fails is a row of the table, the study goes on.
    # That it asks for the end (sys.exit, KeyboardInterrupt) is a failure too: Ctrl-C reaches no
    # worker.
    except BaseException as error:
        cause = device.first_error(error)
        if spent := device.spent(cause):
            traceback.print_exc()
        reason, detail = reason_of(cause, job.files()), explain(cause)
        outcome = JobOutcome(failure(job, reason, detail), spent=spent)
        keeper.failed(reason)
    finally:
        device.tidy(job.device)
    measured = {
        **outcome.record.measured,
        **{name: round(clock.spent()[name], 3) for name in ("seconds", "cpu_s")},
        "spans": clock.spans(),
        **keeper.said(),
        "environment": environment.versions(),
    }
    clock.stop()
    if outcome.spent not in ("broken", "recording"):  # a broken device is asked nothing more
        measured["peak_memory_mb"] = device.peak_memory_mb(job.device)
        measured["environment"] = {**device.recorded(job.device), **environment.versions()}
    return replace(outcome, record=replace(outcome.record, measured=measured))


def failure(job: Job, reason: Reason, detail: str) -> JobRecord:
    """Return the record of a job that failed."""
    return _record(job, status="failed", reason=reason, detail=detail)


def _go_on(job: Job, keeper: Keeper, clock: Clock) -> JobOutcome:
    """Go on from the job's checkpoint, or start where there is none that can be used."""
    try:
        return _train(job, keeper, clock)
    except NotAsKeptError as error:
        keeper.set_aside(str(error))
        return _train(job, keeper, clock)


def _train(job: Job, keeper: Keeper, clock: Clock) -> JobOutcome:
    """Train on the fold, keep the best weights; final jobs also test them, once."""
    torch_device = torch.device(job.device)
    cuda = [torch_device] if torch_device.type == "cuda" else []
    if cuda:
        torch.cuda.reset_peak_memory_stats(torch_device)
    # A step is recorded on the stream that it runs on, and CUDA refuses that on the default one.
    # Initial weights, dropout and miners draw from torch's generators: they are put back after.
    with device.own_stream(torch_device), torch.random.fork_rng(cuda):
        train, validation = splits.open_fold(job.source, job.protocol, job.fold)
        network = placed(build_network(job, train), torch_device, job.protocol.precision)
        torch.manual_seed(_seed(job, "steps"))
        watch = keeper.watch = _watch(job, network)
        clock.start_training()
        fitted = _fit(job, network, train, validation, keeper)
        watched = watch.seconds if watch else 0.0
        train_s = clock.spent()["train_s"] - watched if fitted.steps else 0.0
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
            measured={
                "train_s": round(train_s * job.cell.trains, 3),
                "step": fitted.how,
                **told.in_record(network.method.spec),
            },
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
        batch_size=largest(protocol, method),
        steps=protocol.pace.max_steps,
        steps_per_epoch=protocol.pace.steps_per_epoch,
        images_per_class=images_per_class(protocol, method),
        stage_channels=stage_channels(trunk, protocol),
        **told.fields(job.source, train.labels, method.wants.side),
    )
    torch.manual_seed(_seed(job, "method"))
    return Network(trunk, method(spec, **of_method(job.settings)), job.recipe.batch_norm)


def _fit(
    job: Job, network: Network, train: splits.Split, validation: splits.Split, keeper: Keeper
) -> Fitted:
    """Return what training left behind; a reference row is only validated."""
    watched = keeper.watch or unwatched
    if not job.cell.trains:
        return _fit_once(job, network, train, validation, watched)
    probe = Probe(network, train, job.protocol)
    network.method.prepare(probe.function())

    def validate() -> Metrics:
        return evaluate.score(network, validation, job.protocol)[0].means()

    streams = Streams(
        *(np.random.default_rng(_seed(job, name)) for name in ("batches", "augment", "plan", "mix"))
    )
    rules = job.protocol, job.recipe
    fitted = fit(network, train, validate, *rules, streams, watched, keeper, job.record_steps)
    fitted.images_forward += probe.images
    return fitted


def _fit_once(
    job: Job,
    network: Network,
    train: splits.Split,
    validation: splits.Split,
    watched: Callable[[int], None],
) -> Fitted:
    """Return what a method leaves behind that fits itself and takes no step."""
    name = f"{job.cell.trunk} on {job.source.key}"
    fold = Fold(network, train, validation, job.protocol, name)
    fold.fit()
    found = fold.validate()
    watched(0)
    row = {"step": 0, **found}
    return Fitted(validation=found, history=[row], images_forward=fold.images)


def _watch(job: Job, network: Network) -> Watch | None:
    """Return what scores the test split at every validation, of final runs and on request."""
    if job.stage != "final" or not job.protocol.oracle_gap:
        return None

    def score_test() -> tuple[Metrics, str]:
        found, _, _, test = _score_test(job, network)
        return found, _opened(job, test)

    return Watch(score_test)


def _opened(job: Job, test: splits.Split) -> str:
    return f"{len(test)} test images of {job.cell.dataset}"


def _score_test(
    job: Job, network: Network
) -> tuple[Metrics, metrics.PerQuery, NDArray[np.float32], splits.Split]:
    """Open the test split; return the network's scores, those of queries, embeddings, the split."""
    test = splits.open_test(job.source, job.protocol)
    scored, embeddings = evaluate.score(network, test, job.protocol)
    rule = network.method.ranked_by
    pairs = evaluate.verify_pairs(embeddings, test, ranking=rule, device=job.device)
    return {**scored.means(), **pairs}, scored, embeddings, test


def _test(job: Job, network: Network, record: JobRecord, watch: Watch | None) -> JobOutcome:
    """Score the kept weights once on the test split, and add what came out."""
    found, scored, embeddings, test = _score_test(job, network)
    if network.method.joined != "embedding":
        embeddings = evaluate.embed(network, test, job.protocol, network.method.joined)
    rule = rule_of(network.method.ranked_by)
    vectors = pack({"embeddings": embeddings, **rule, **stored(scored)})
    opening = f"{_opened(job, test)} opened to score step {record.best_step}"
    record = replace(
        record,
        test=found,
        excluded=scored.excluded,
        ties=scored.ties,
        openings=[*(watch.openings if watch else ()), opening],
        oracle=watch.rows if watch else [],
        vectors_sha256=hashlib.sha256(vectors).hexdigest(),
    )
    weights = kept.pack(network, job.cell, job.protocol, record, embeddings)
    record = replace(record, weights_sha256=hashlib.sha256(weights).hexdigest())
    return JobOutcome(record, vectors, weights if job.keep else None)


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

    Parameters trained have had a gradient. Images trained went forward and backward, beside them
    is what the protocol's own batches are in as many steps; images embedded went forward only, for
    validation, for what the method asked about its training images, for losses in two passes and
    through a teacher.
    """
    return {
        "parameters_trained": fitted.learnt,
        "parameters_deployed": sum(p.numel() for p in network.deployed(job.protocol.image.crop_px)),
        "images_trained": fitted.images_trained,
        "images_protocol": fitted.steps * job.protocol.batch_size,
        "images_embedded": validated * len(fitted.history) + fitted.images_forward,
    }


def _seed(job: Job, purpose: str) -> int:
    """Return a seed from names, the method's not among them: methods meet the same draws.

    Own images count by their content, so their path and their title move no seed.
    """
    again = ("search", job.cell.repeat) if job.cell.repeat else ()
    shared = (datasets.identity(job.cell.dataset), job.cell.trunk, *again)
    return seed(*shared, job.stage, job.number, job.fold, purpose)
