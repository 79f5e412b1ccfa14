"""The life of a cell: search, choice, final runs, each step recorded before the next."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.mirror.tracking import Tracker
from benchmark.running import canary, outcomes, search_copy
from benchmark.running.flows import Flow, Retry, Task
from benchmark.running.progress import Progress
from benchmark.study import environment, failures, partials, places, records, selection, weights
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import (
    ChoiceRecord,
    JobRecord,
    Reason,
    Record,
    RunRecord,
    TrialRecord,
)
from benchmark.study.suggestions import suggest
from benchmark.training import oracle
from benchmark.training.job import Job, JobOutcome, execute, failure
from benchmark.training.join import JoinJob, JoinOutcome, join
from benchmark.training.reasons import Fault
from protocols.errors import StoreError
from protocols.space import Settings, Space, described

JobMaker = Callable[[CellKey, str, int, int, Settings], Job]
COPY_RETRY_S = 60.0


@dataclass(frozen=True)
class _Died:
    """A job that died in all its attempts, not recorded yet: the machine may be at fault."""

    job: Job
    outcome: JobOutcome


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
        mps: whether jobs share cards by NVIDIA's MPS, where one that breaks breaks its neighbours.
        attempts: failed attempts so far, by job id.
        streak: how many jobs in a row the machine has lost.
        copy_again: when Optuna's database is tried next, on the monotonic clock.
        tried_alone: ids of the jobs that were given a card of their own.
        unrecorded: ids of the cells whose steps are not recorded, because that broke a device.
    """

    study: Study
    make_job: JobMaker
    space_of: Callable[[CellKey], Space]
    tracker: Tracker
    progress: Progress
    keep: weights.Keep = weights.DEFAULT
    mps: bool = False
    attempts: dict[str, list[str]] = field(default_factory=dict)
    streak: canary.Streak = field(default_factory=canary.Streak)
    copy_again: float = 0.0
    tried_alone: set[str] = field(default_factory=set)
    unrecorded: set[str] = field(default_factory=set)

    def flows(self, cells: list[CellKey]) -> list[Flow]:
        """Return one flow per cell."""
        return [self.cell(cell) for cell in cells]

    def cell(self, cell: CellKey) -> Flow:
        """Search, choose, then hand over to one flow per seed, which may run side by side."""
        choice = self.study.choice(cell)
        # Folders of earlier versions have a choice of nothing where every trial failed.
        if choice is None or (cell.searched and choice.trial is None):
            if self.study.protocol.params == "published" and cell.trains:
                choice = outcomes.published(cell, self.study.protocol)
            else:
                trials = yield from self._search(cell)
                best = selection.choose(trials)
                if best is None and cell.searched:
                    return self._fail(cell, trials)
                space = described(self.space_of(cell)) if cell.searched else {}
                choice = outcomes.choice_of(cell, best, space)
            self._choose(cell, choice)
        self.progress.chosen(cell, choice)
        return [self.run(cell, choice, seed) for seed in range(self.study.runs_asked(cell))]

    def run(self, cell: CellKey, choice: ChoiceRecord, seed: int) -> Flow:
        """Retrain one seed on every fold with the chosen setting, test, join and record."""
        held = self.study.run(cell, seed)
        wanted = places.run_id(cell.id, seed, choice.settings)
        if held and held.id != wanted:
            self.progress.note(
                f"{cell.place}: seed {seed} was not made with the choice, made again"
            )
        if held is None or held.id != wanted:
            held = yield from self._final(cell, choice, seed)
            self._record(cell, held)
            self.progress.ran(cell, held)
        # Of a run that the machine lost they wait: done again, it joins its good folds from them.
        for fold in range(self.study.protocol.folds) if not failures.lost(held) else ():
            self.study.vectors_path(cell, seed, fold).unlink(missing_ok=True)
        weights.prune(self.study, cell, self.keep)
        return []

    def _fail(self, cell: CellKey, trials: list[TrialRecord]) -> list[Flow]:
        """Record that no run can start: there is no setting to choose."""
        for seed in range(self.study.runs_asked(cell)):
            if self.study.run(cell, seed) is None:
                record = outcomes.untried_run(cell, seed, trials)
                self._record(cell, record)
                self.progress.ran(cell, record)
        return []

    def _search(self, cell: CellKey) -> Generator[list[Task], list[Any], list[TrialRecord]]:
        """Return the cell's trials, running those that are missing, one after the other."""
        rule, trials = self.study.protocol.search, self.study.trials(cell)
        budget = self.study.trials_asked(cell)
        while len(trials) < budget and not selection.hopeless(trials, rule.max_failures_in_a_row):
            space, number = self.space_of(cell), len(trials)
            settings = suggest(cell.id, rule, space, trials)
            jobs = yield from self._folds(cell, "search", number, settings)
            trial = outcomes.trial_of(cell, number, settings, jobs, self.study.protocol)
            # Noted first: whoever is killed between the record and its copy leaves a note.
            search_copy.note(self.study, cell)
            self._record(cell, trial)
            self.progress.tried(cell, trial)
            trials.append(trial)
            self._copy_search(cell, space, trials)
        return trials

    def _choose(self, cell: CellKey, choice: ChoiceRecord) -> None:
        """Record the choice, and tell it to Optuna's database where there was a search."""
        trials = self.study.trials(cell)
        if trials:
            search_copy.note(self.study, cell)
        self._record(cell, choice)
        if trials:
            self._copy_search(cell, self.space_of(cell), trials)

    def _copy_search(self, cell: CellKey, space: Space, trials: list[TrialRecord]) -> None:
        """Copy the trials to Optuna's database; one that is away costs a warning and no job.

        That the cell is behind is noted already, and stays noted until it is copied.
        """
        if time.monotonic() < self.copy_again:
            return
        try:
            search_copy.write(self.study, cell, space, trials)
        except StoreError as error:
            self.copy_again = time.monotonic() + COPY_RETRY_S
            self.progress.note(f"{error}. {search_copy.AGAIN}")

    def _final(
        self, cell: CellKey, choice: ChoiceRecord, seed: int
    ) -> Generator[list[Task], list[Any], RunRecord]:
        """Return the record of one seed; its test split is opened here for the first time."""
        jobs = yield from self._folds(cell, "final", seed, choice.settings)
        if any(job.status == "failed" for job in jobs):
            return outcomes.run_of(cell, choice.settings, seed, jobs, None)
        job = self.make_job(cell, "final", seed, 0, choice.settings)
        (joined,) = yield [self._join_task(cell, job)]
        record = outcomes.run_of(cell, choice.settings, seed, jobs, joined)
        if isinstance(joined, Fault):
            if joined.reason == "crash":
                yield from self._prove_place(job, f"{cell.place}: the join of seed {seed}")
            self.streak.ended(cell.method, lost=failures.lost(record))
            return record
        path = self.study.out / "queries" / cell.path / f"seed-{seed}.npz"
        records.write_bytes(path, joined.queries)
        checksum = hashlib.sha256(joined.queries).hexdigest()
        return replace(
            record,
            queries={"path": str(path.relative_to(self.study.out)), "sha256": checksum},
            oracle=oracle.claimed(jobs, self.study.protocol.selection_metric),
        )

    def _join_task(self, cell: CellKey, job: Job) -> Task:
        """Return the joining of the run that ``job`` is a fold of; a Fault where it fails."""
        protocol, seed = self.study.protocol, job.number
        paths = [self.study.vectors_path(cell, seed, k) for k in range(protocol.folds)]

        def accept(joined: JoinOutcome | Fault) -> JoinOutcome | Fault | Retry:
            if isinstance(joined, JoinOutcome) or joined.reason not in failures.RETRIED:
                return joined
            what = f"the join of seed {seed}"
            return self._again(cell, f"join {cell.id} {seed}", joined.reason, what) or joined

        return Task(
            function=join,
            argument=JoinJob(
                protocol, job.source, tuple(path.read_bytes() for path in paths), job.device
            ),
            timeout_s=protocol.timeout_s,
            accept=accept,
            lost=lambda reason: accept(Fault(reason, f"worker lost: {reason}")),
        )

    def _folds(
        self, cell: CellKey, stage: str, number: int, settings: Settings
    ) -> Generator[list[Task], list[Any], list[JobRecord]]:
        """Return the fold jobs of a trial or run; only those not on disk are run.

        One on disk that the machine lost is run again: nothing was made from it yet.
        """
        found = self.study.jobs(cell, stage, number)
        jobs = [self.make_job(cell, stage, number, k, settings) for k in range(len(found))]
        missing = [
            k
            for k, (job, record) in enumerate(zip(jobs, found, strict=True))
            if record is None
            or record.id != job.id
            or failures.lost(record)
            or not self._has_vectors(cell, record)
        ]
        done = (yield [self._task(cell, jobs[k]) for k in missing]) if missing else []
        if died := [end.job for end in done if isinstance(end, _Died)]:
            yield from self._prove_place(died[0], f"{cell.place}: {_where(died[0])}")
        done = [self._keep(cell, e.job, e.outcome) if isinstance(e, _Died) else e for e in done]
        kept = {k: record for k, record in enumerate(found) if record and k not in missing}
        records_of = {**kept, **dict(zip(missing, done, strict=True))}
        return [records_of[k] for k in range(len(found))]

    def _prove_place(self, job: Job, what: str) -> Generator[list[Task], list[Any], None]:
        """Raise MachineError unless a known-good job still runs where ``what`` died."""
        (fault,) = yield [canary.probe(job.device)]
        if fault:
            raise canary.stop(what, fault)

    def _task(self, cell: CellKey, job: Job) -> Task:
        job = replace(job, record_steps=job.record_steps and cell.id not in self.unrecorded)
        if job.partial is not None:
            partials.make_room(job.partial)
        return Task(
            function=execute,
            argument=job,
            timeout_s=self.study.protocol.timeout_s,
            accept=lambda outcome: self._accept(cell, job, outcome),
            lost=lambda reason: self._accept(
                cell, job, JobOutcome(failure(job, reason, f"worker lost: {reason}"))
            ),
        )

    def _accept(
        self, cell: CellKey, job: Job, outcome: JobOutcome
    ) -> JobRecord | Retry | Task | _Died:
        """Record a finished job and return it, unless it shall be tried again or has died."""
        record = outcome.record
        if outcome.spent == "recording" and job.record_steps:
            # Noted; this one does not wait for the protocol's leave.
            self.attempts.setdefault(job.id, []).append("crash")
            self.unrecorded.add(cell.id)
            self.progress.note(
                f"{cell.place}: {record.detail} in {_where(job)}, trying again without recording"
            )
            return self._task(cell, job)
        if record.reason in failures.RETRIED and (
            again := self._again(cell, job.id, record.reason, _where(job))
        ):
            return again
        return _Died(job, outcome) if record.reason == "crash" else self._keep(cell, job, outcome)

    def _keep(self, cell: CellKey, job: Job, outcome: JobOutcome) -> JobRecord:
        """Record a finished job and return its record."""
        record = outcome.record
        self.streak.ended(cell.method, lost=failures.lost(record))
        # The commit is this process's: a worker elsewhere has the code, not the checkout.
        at = environment.commit(files=_plugins_of(cell, job.plugins))
        here = {**record.measured.get("environment", {}), **at}
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
        if job.partial is not None and not failures.lost(record):
            job.partial.unlink(missing_ok=True)
        self.progress.trained(cell, record)
        if words := record.measured.get("checkpoint"):
            self.progress.note(f"{cell.place}: {_where(job)}: {words}")
        return record

    def _again(self, cell: CellKey, job: str, reason: Reason, what: str) -> Retry | None:
        """Say how another attempt at ``what`` is made and return it, None if there is none."""
        again = self._retry(job, reason)
        if again:
            how = " alone, after all others" if again is Retry.ALONE else ""
            self.progress.note(f"{cell.place}: {reason} in {what}, trying again{how}")
        return again

    def _retry(self, job: str, reason: Reason) -> Retry | None:
        """Note a failed attempt; return how another one is made, None if the rules allow none.

        Under MPS a crash may be a neighbour's: whatever the rules, the job is tried alone once,
        unless it was alone already.
        """
        failed = self.attempts.setdefault(job, [])
        failed.append(reason)
        doubtful = self.mps and reason == "crash"
        first = doubtful and job not in self.tried_alone
        if not first and len(failed) > self.study.protocol.retries:
            return None
        # Out of memory: beside the same jobs it would be again.
        if doubtful or reason == "oom":
            self.tried_alone.add(job)
            return Retry.ALONE
        return Retry.AGAIN

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


def _plugins_of(cell: CellKey, plugins: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the files among ``plugins`` that a cell is made of; a file is named as its plugin."""
    parts = (cell.method, cell.dataset, cell.trunk.partition("+")[0].partition(":")[0], cell.recipe)
    return tuple(path for path in plugins if path.stem in parts)


def _where(job: Job) -> str:
    unit = "trial" if job.stage == "search" else "seed"
    return f"{unit} {job.number} fold {job.fold}"
