"""Weights that were not kept when their run was trained: trained again, if asked for, and compared.

The records stay as they are. Weights count as those of a run only if they are the same bits as
when it was recorded, as they are on the CPU of a machine of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmark.running.coordinator import JobMaker
from benchmark.running.flows import Flow, Task
from benchmark.running.progress import Progress
from benchmark.study import weights
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import JobRecord, Reason, write_bytes
from benchmark.training.job import JobOutcome, execute


def remake(
    study: Study, cells: list[CellKey], keep: weights.Keep, make_job: JobMaker, progress: Progress
) -> Flow:
    """Train what lacks its weights again, and keep those that are the recorded ones."""
    tasks = list(_tasks(study, cells, keep, make_job, progress))
    if tasks:
        yield tasks
    for cell in cells:
        weights.prune(study, cell, keep)
    return []


def _tasks(
    study: Study, cells: list[CellKey], keep: weights.Keep, make_job: JobMaker, progress: Progress
) -> Iterator[Task]:
    for item in weights.lacking(study, cells, keep):
        record = study.jobs(item.cell, "final", item.run.seed)[item.fold]
        what = f"{item.cell.place}: weights of seed {item.run.seed} fold {item.fold}"
        if record is None or record.weights_sha256 is None:
            progress.note(f"{what} cannot be made again: its record has no checksum of them")
            continue
        job = make_job(item.cell, "final", item.run.seed, item.fold, item.run.settings)
        judge = _Judge(study, item, record, what, progress)
        timeout_s = study.protocol.timeout_s
        yield Task(execute, replace(job, keep=True), timeout_s, judge.accept, judge.lost)


@dataclass(frozen=True)
class _Judge:
    """Keeps weights that were made again, if they are those of the record."""

    study: Study
    item: weights.Lacking
    record: JobRecord
    what: str
    progress: Progress

    def lost(self, reason: Reason) -> None:
        """Say that the training did not come through."""
        self.progress.note(f"{self.what} were not made again: {reason}")

    def accept(self, outcome: JobOutcome) -> None:
        """Write the weights if they are the recorded ones, else say why not."""
        met = outcome.record
        if met.status == "failed":
            self.progress.note(f"{self.what} were not made again: {met.reason}: {met.detail}")
        elif outcome.weights is None or met.weights_sha256 != self.record.weights_sha256:
            self.progress.note(
                f"{self.what} came out otherwise than recorded (another machine, device or "
                "library) and were not kept: they are not those of the tables"
            )
        else:
            seed, fold = self.item.run.seed, self.item.fold
            path = weights.path_of(self.study, self.item.cell, seed, fold)
            write_bytes(path, outcome.weights)
            self.progress.note(f"{self.what} made again and kept")
