"""An engine that makes up results in place of training, and loses the jobs it is told to lose."""

import hashlib
import io
import math
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
from rich.console import Console

from benchmark.mirror.tracking import NoTracker
from benchmark.running import canary, flows
from benchmark.running.coordinator import Coordinator
from benchmark.running.progress import Progress
from benchmark.study import grid, places
from benchmark.study.aside import set_aside
from benchmark.study.folder import CellKey, Study, load_study
from benchmark.study.records import CellRecord
from benchmark.study.seeds import seed
from benchmark.training.job import Job, JobOutcome, execute, failure
from benchmark.training.join import JoinOutcome, join
from benchmark.training.reasons import Fault
from protocols.protocol import SearchRule
from protocols.space import Real
from protocols.specs.toy import PROTOCOL as TOY

SPACE = {"scale": Real(0.1, 10.0, default=1.0, log=True), "margin": Real(0.0, 1.0, default=0.3)}
PROTOCOL = replace(TOY, retries=1, search=SearchRule(trials=7, startup_trials=3))


class DiedError(Exception):
    """What the engine raises when a worker dies."""


class MadeEngine:
    """Answers at once.

    ``fault(job)`` says what becomes of a job: None for a result, ``die`` for a dead worker,
    ``recording`` for a device that recording its steps broke, or a reason. ``good`` says whether
    the canary lives. ``limit`` ends the study, as a kill would, after so many jobs.
    """

    lost = DiedError
    capacity = 2

    def __init__(self, fault=lambda job: None, *, good=True, limit=math.inf):
        self.fault, self.good, self.limit = fault, good, limit
        self.jobs, self.probes = [], 0

    def submit(self, function, argument):
        future = Future()
        if function is canary.known_good:
            self.probes += 1
            fault, result = None if self.good else "die", 3920.0
        elif function is join:
            fault, result = self.fault(argument), joined(argument)
        else:
            assert function is execute
            if len(self.jobs) >= self.limit:
                raise KeyboardInterrupt
            self.jobs.append(argument)
            fault, result = self.fault(argument), outcome(argument)
        if fault == "die":
            future.set_exception(DiedError())
        elif fault == "recording":
            if argument.record_steps:
                record = failure(argument, "crash", "a recording broke the device: made up")
                result = JobOutcome(record, spent="recording")
            future.set_result(result)
        elif fault and function is join:
            future.set_result(Fault(fault, "made up"))
        elif fault:
            future.set_result(JobOutcome(failure(argument, fault, "made up")))
        else:
            future.set_result(result)
        return future


def number(*names):
    return (seed(*map(str, names)) % 10**6) / 10**6


def outcome(job):
    """Return a result that depends on what the job is, and on nothing else."""
    value = number(job.stage, job.number, job.fold, sorted(job.settings.items()))
    scores = {"map_at_r": value, "precision_at_1": value, "r_precision": value}
    record = replace(
        failure(job, "error", ""), status="done", reason=None, steps=4, best_step=2,
        history=[{"step": 2, **scores}], validation=scores,
    )  # fmt: skip
    if job.stage == "search":
        return JobOutcome(record)
    vectors = repr((job.id, value)).encode()
    checksum = hashlib.sha256(vectors).hexdigest()
    return JobOutcome(replace(record, test=scores, vectors_sha256=checksum), vectors)


def joined(job):
    file, value = io.BytesIO(), number(*job.folds)
    np.savez(file, value=value)
    scores = {"map_at_r": value, "precision_at_1": value, "r_precision": value}
    checksum = hashlib.sha256(file.getvalue()).hexdigest()
    return JoinOutcome(scores, 0, 0, checksum, [8, 4], file.getvalue(), 0.0)


def lay_out(out, methods=("one",), protocol=PROTOCOL):
    """Return a study of made methods in a new folder."""
    keys = []
    for method in methods:
        identity = {"method": method, "rules": protocol.rules()}
        axes = ("toy", "tiny", "adam", method, method)
        key = CellKey(places.cell_id(identity), *axes, trials=protocol.search.trials)
        keys.append(key)
        record = CellRecord(key.id, protocol.name, protocol.version, *axes, identity)
        grid.save_cells(Study(out, protocol), [(key, record)])
    study = Study(out, protocol, tuple(keys))
    study.save()
    return load_study(out)


def make_job(cell, stage, number, fold, settings):
    return Job(cell, PROTOCOL, None, stage, number, fold, settings, None, "cpu")


def go_on(study, engine, copies_from=math.inf, *, mps=False):
    """Do what is missing, as ``run`` does; return what was printed.

    Optuna's database has tests of its own: only with ``copies_from=0`` is anything copied there.
    """
    for cell in study.all_cells:
        set_aside(study, cell)
    printed = io.StringIO()
    plans = grid.progress_of(study, study.all_cells)
    console, log = Console(file=printed, width=200), study.out / "log.txt"
    with Progress(console, plans, log, 2, {}, study.protocol.selection_metric) as progress:
        coordinator = Coordinator(study, make_job, lambda cell: SPACE, NoTracker(), progress)
        coordinator.mps = mps
        coordinator.copy_again = copies_from
        flows.run(coordinator.flows(list(study.all_cells)), engine)
    return printed.getvalue()
