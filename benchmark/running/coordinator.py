"""The life of a cell: search, choice, final runs, each step recorded before the next."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from benchmark.mirror.tracking import Tracker
from benchmark.running.flows import Flow, Retry, Task
from benchmark.running.progress import Progress
from benchmark.study import environment, machines, places, records, selection, weights
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import ChoiceRecord, JobRecord, Metrics, Record, RunRecord, TrialRecord
from benchmark.study.suggestions import export, storage_of, suggest
from benchmark.training import oracle
from benchmark.training.job import Job, JobOutcome, execute, failure
from benchmark.training.join import JoinJob, JoinOutcome, join
from protocols import paper
from protocols.errors import StoreError
from protocols.protocol import Protocol
from protocols.space import Settings, Space, described

JobMaker = Callable[[CellKey, str, int, int, Settings], Job]
COPY_RETRY_S = 60.0
RETRIED = ("crash", "oom", "timeout")


@dataclass
class Coordinator:
    """The only process that writes records, the Optuna database and the MLflow mirror.

    Attributes:
        study: the output folder.
        make_job: builds a job from (cell, stage, number, fold, settings).
        space_of: a cell's search space.
        tracker: the mirror.
        progress: what a person sees.
        keep: which runs' weights stay.
        attempts: failed attempts so far, by job id.
        copy_again: when Optuna's database is tried next, on the monotonic clock.
    """

    study: Study
    make_job: JobMaker
    space_of: Callable[[CellKey], Space]
    tracker: Tracker
    progress: Progress
    keep: weights.Keep = weights.DEFAULT
    attempts: dict[str, list[str]] = field(default_factory=dict)
    copy_again: float = 0.0

    def flows(self, cells: list[CellKey]) -> list[Flow]:
        """Return one flow per cell."""
        return [self.cell(cell) for cell in cells]

    def cell(self, cell: CellKey) -> Flow:
        """Search, choose, then hand over to one flow per seed, which may run side by side."""
        choice = self.study.choice(cell)
        if choice is None:
            if self.study.protocol.params == "published" and cell.trains:
                choice = _published(cell)
            else:
                trials = yield from self._search(cell)
                space = described(self.space_of(cell)) if cell.searched else {}
                choice = _choice(cell, trials, space)
            self._record(cell, choice)
        self.progress.chosen(cell, choice)
        return [self.run(cell, choice, seed) for seed in range(self.study.protocol.seeds)]

    def run(self, cell: CellKey, choice: ChoiceRecord, seed: int) -> Flow:
        """Retrain one seed on every fold with the chosen setting, test, join and record."""
        held = self.study.run(cell, seed)
        wanted = places.run_id(cell.id, seed, choice.settings)
        if held and held.id != wanted:
            self.progress.note(f"{cell.row}: seed {seed} was not made with the choice, made again")
        if held is None or held.id != wanted:
            if choice.trial is None and cell.searched:
                record = _failed_run(cell, choice, seed, self.study.trials(cell)[-1])
            else:
                record = yield from self._final(cell, choice, seed)
            self._record(cell, record)
            self.progress.ran(cell, record)
        for fold in range(self.study.protocol.folds):
            self.study.vectors_path(cell, seed, fold).unlink(missing_ok=True)
        weights.prune(self.study, cell, self.keep)
        return []

    def _search(self, cell: CellKey) -> Generator[list[Task], list[Any], list[TrialRecord]]:
        """Return the cell's trials, running those that are missing, one after the other."""
        rule, trials = self.study.protocol.search, self.study.trials(cell)
        budget = self.study.trials_asked(cell)
        while len(trials) < budget and not selection.hopeless(trials, rule.max_failures_in_a_row):
            space, number = self.space_of(cell), len(trials)
            settings = suggest(cell.id, rule, space, trials)
            jobs = yield from self._folds(cell, "search", number, settings)
            trial = _trial(cell, number, settings, jobs, self.study.protocol)
            self._record(cell, trial)
            self.progress.tried(cell, trial)
            trials.append(trial)
            self._copy_search(cell, space, trials)
        return trials

    def _copy_search(self, cell: CellKey, space: Space, trials: list[TrialRecord]) -> None:
        """Copy the trials to Optuna's database; one that is away costs a warning and no job."""
        if time.monotonic() < self.copy_again:
            return
        name = f"{cell.path} [{self.study.protocol.rules_hash()}]"
        try:
            export(storage_of(self.study.out), name, space, trials)
        except StoreError as error:
            self.copy_again = time.monotonic() + COPY_RETRY_S
            self.progress.note(f"{error}. The results are safe; the copy is mended by a next trial")

    def _final(
        self, cell: CellKey, choice: ChoiceRecord, seed: int
    ) -> Generator[list[Task], list[Any], RunRecord]:
        """Return the record of one seed; its test split is opened here for the first time."""
        jobs = yield from self._folds(cell, "final", seed, choice.settings)
        if any(job.status == "failed" for job in jobs):
            return _run(cell, choice, seed, jobs, None)
        job = self.make_job(cell, "final", seed, 0, choice.settings)
        protocol, name = self.study.protocol, f"join {cell.id} {seed}"
        vectors = tuple(
            self.study.vectors_path(cell, seed, k).read_bytes() for k in range(len(jobs))
        )
        task = Task(
            function=join,
            argument=JoinJob(protocol, job.source, vectors, job.device),
            timeout_s=protocol.timeout_s,
            accept=lambda outcome: outcome,
            lost=lambda reason: Retry.AGAIN if self._retry(name, reason) else reason,
        )
        (joined,) = yield [task]
        if not isinstance(joined, JoinOutcome):
            return replace(_run(cell, choice, seed, jobs, None), reason=joined)
        path = self.study.out / "queries" / cell.path / f"seed-{seed}.npz"
        records.write_bytes(path, joined.queries)
        record = _run(cell, choice, seed, jobs, joined)
        checksum = hashlib.sha256(joined.queries).hexdigest()
        return replace(
            record,
            queries={"path": str(path.relative_to(self.study.out)), "sha256": checksum},
            oracle=oracle.claimed(jobs, protocol.selection_metric),
        )

    def _folds(
        self, cell: CellKey, stage: str, number: int, settings: Settings
    ) -> Generator[list[Task], list[Any], list[JobRecord]]:
        """Return the fold jobs of a trial or run; only those not on disk are run."""
        found = self.study.jobs(cell, stage, number)
        jobs = [self.make_job(cell, stage, number, k, settings) for k in range(len(found))]
        missing = [
            k
            for k, (job, record) in enumerate(zip(jobs, found, strict=True))
            if record is None or record.id != job.id or not self._has_vectors(cell, record)
        ]
        done = (yield [self._task(cell, jobs[k]) for k in missing]) if missing else []
        kept = {k: record for k, record in enumerate(found) if record and k not in missing}
        records_of = {**kept, **dict(zip(missing, done, strict=True))}
        return [records_of[k] for k in range(len(found))]

    def _task(self, cell: CellKey, job: Job) -> Task:
        return Task(
            function=execute,
            argument=job,
            timeout_s=self.study.protocol.timeout_s,
            accept=lambda outcome: self._accept(cell, job, outcome),
            lost=lambda reason: self._accept(
                cell, job, JobOutcome(failure(job, reason, f"worker lost: {reason}"))
            ),
        )

    def _accept(self, cell: CellKey, job: Job, outcome: JobOutcome) -> JobRecord | Retry:
        """Record a finished job and return it, unless it shall be tried again."""
        record = outcome.record
        if record.reason in RETRIED and self._retry(job.id, record.reason):
            alone = record.reason == "oom"  # beside the same jobs it would run out of memory again
            how = "trying again alone, after all others" if alone else "trying again"
            self.progress.note(f"{cell.row}: {record.reason} in {_where(job)}, {how}")
            return Retry.ALONE if alone else Retry.AGAIN
        # The commit is this process's: a worker elsewhere has the code, not the checkout.
        here = {**record.measured.get("environment", {}), **environment.commit()}
        failed = self.attempts.pop(job.id, [])
        measured = {**record.measured, "environment": here, "failed_attempts": failed}
        record = replace(record, measured=measured)
        if outcome.vectors is not None:
            records.write_bytes(
                self.study.vectors_path(cell, job.number, job.fold), outcome.vectors
            )
        if outcome.weights is not None:
            path = weights.path_of(self.study, cell, job.number, job.fold)
            records.write_bytes(path, outcome.weights)
        self._record(cell, record)
        self.progress.trained(cell, record)
        return record

    def _retry(self, job: str, reason: str) -> bool:
        """Note a failed attempt; return whether the protocol allows another one."""
        self.attempts.setdefault(job, []).append(reason)
        return len(self.attempts[job]) <= self.study.protocol.retries

    def _record(self, cell: CellKey, record: Record) -> None:
        records.write(self.study.record_path(cell, record), record)
        self.tracker.log(cell, record)

    def _has_vectors(self, cell: CellKey, record: JobRecord) -> bool:
        if record.vectors_sha256 is None:
            return True
        path = self.study.vectors_path(cell, record.number, record.fold)
        if not path.exists():
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == record.vectors_sha256


def _trial(
    cell: CellKey, number: int, settings: Settings, jobs: list[JobRecord], protocol: Protocol
) -> TrialRecord:
    """Return a trial's record: mean over folds of the best validation value, or the failure."""
    metric = protocol.selection_metric
    folds = [job.validation[metric] if job.validation else None for job in jobs]
    values = [value for value in folds if value is not None]
    failed = next((job for job in jobs if job.status == "failed"), None)
    return TrialRecord(
        id=places.trial_id(cell.id, number, settings),
        cell=cell.id,
        number=number,
        settings=settings,
        status="failed" if failed else "done",
        reason=failed.reason if failed else None,
        value=protocol.search.failed_score if failed else fmean(values),
        folds=folds,
        measured={"seconds": _total(jobs, "seconds"), "environment": machines.merged(jobs)},
    )


def _choice(
    cell: CellKey, trials: list[TrialRecord], space: dict[str, dict[str, Any]]
) -> ChoiceRecord:
    best = selection.choose(trials)
    settings: Settings = best.settings if best else {}
    trial = best.number if best else None
    rule = selection.BEST_TRIAL if cell.searched else selection.NO_SEARCH
    return ChoiceRecord(
        id=places.choice_id(cell.id, rule, trial, settings),
        cell=cell.id,
        rule=rule,
        trial=trial,
        settings=settings,
        value=best.value if best else None,
        space=space,
    )


def _published(cell: CellKey) -> ChoiceRecord:
    """Return the paper's chosen setting as the choice; set_up has made sure that there is one."""
    settings: Settings = dict(paper.best(cell.method, cell.dataset))
    return ChoiceRecord(
        id=places.choice_id(cell.id, selection.PUBLISHED, None, settings),
        cell=cell.id,
        rule=selection.PUBLISHED,
        trial=None,
        settings=settings,
        value=None,
    )


def _run(
    cell: CellKey,
    choice: ChoiceRecord,
    seed: int,
    jobs: list[JobRecord],
    joined: JoinOutcome | None,
) -> RunRecord:
    """Return the record of one seed from its fold jobs and, unless one failed, their join."""
    failed = next((job for job in jobs if job.status == "failed"), None)
    record = RunRecord(
        id=places.run_id(cell.id, seed, choice.settings),
        cell=cell.id,
        seed=seed,
        settings=choice.settings,
        status="done" if joined else "failed",
        reason=failed.reason if failed else None,
        detail=f"fold {failed.fold}: {failed.detail}" if failed else "",
        folds=[job.test for job in jobs],
        best_steps=[job.best_step for job in jobs],
        phases=[job.phases for job in jobs],
        openings=[f"fold {job.fold}: {line}" for job in jobs for line in job.openings],
        counts=_sum_counts(jobs),
        measured=_sum_measured(jobs),
    )
    if joined is None:
        return record
    return replace(
        record,
        separated=_mean([job.test or {} for job in jobs]),
        concatenated=joined.metrics,
        measured={**record.measured, "join_s": joined.seconds},
        validation=_mean([job.validation or {} for job in jobs]),
        excluded=joined.excluded,
        ties=joined.ties,
        embeddings_sha256=joined.embeddings_sha256,
        embeddings_shape=joined.embeddings_shape,
        openings=[*record.openings, "test labels opened to score the joined embeddings"],
    )


def _failed_run(cell: CellKey, choice: ChoiceRecord, seed: int, last: TrialRecord) -> RunRecord:
    """Return the record of a run that cannot start because no trial came through."""
    record = _run(cell, choice, seed, [], None)
    return replace(record, reason=last.reason, detail="every trial of the search failed")


def _mean(rows: list[Metrics]) -> Metrics:
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def _sum_counts(jobs: list[JobRecord]) -> dict[str, int]:
    """Return images summed over folds, and parameters of one fold's network."""
    total: dict[str, int] = {}
    for job in jobs:
        for name, count in job.counts.items():
            total[name] = count if name.startswith("parameters") else total.get(name, 0) + count
    return total


def _sum_measured(jobs: list[JobRecord]) -> dict[str, Any]:
    """Return seconds summed over folds, the largest memory peak, and the folds' environments."""
    if not jobs:
        return {}
    times = {name: _total(jobs, name) for name in ("seconds", "cpu_s", "train_s")}
    peak = max(job.measured.get("peak_memory_mb", 0) for job in jobs)
    return {**times, "peak_memory_mb": peak, "environment": machines.merged(jobs)}


def _total(jobs: list[JobRecord], name: str) -> float:
    return round(math.fsum(job.measured.get(name, 0.0) for job in jobs), 3)


def _where(job: Job) -> str:
    unit = "trial" if job.stage == "search" else "seed"
    return f"{unit} {job.number} fold {job.fold}"
