"""Jobs that the machine loses: who is believed, what is redone, and that it comes out the same."""

import contextlib
import random
from dataclasses import replace
from typing import get_args

import pytest

from benchmark.running import canary
from benchmark.study import failures, grid
from benchmark.study.leftovers import clean
from benchmark.study.lost import done_again, lost_in, put_aside
from benchmark.study.records import Reason
from protocols.errors import MachineError
from tests.made_engine import PROTOCOL, MadeEngine, go_on, lay_out
from tests.proven import put
from tests.running import queries, truth


def retry(study):
    found = [lost for cell in study.all_cells if (lost := lost_in(study, cell))]
    for lost in found:
        put_aside(study, lost)
    return found


def of(stage, *numbers, fate="die", folds=(0, 1)):
    """Return a fault for some trials or seeds."""

    def fault(job):
        hit = getattr(job, "stage", "") == stage and job.number in numbers and job.fold in folds
        return fate if hit else None

    return fault


@pytest.fixture(scope="module")
def never_failed(tmp_path_factory):
    study = lay_out(tmp_path_factory.mktemp("whole") / "out")
    go_on(study, MadeEngine())
    return study


def test_every_reason_is_somebodys():
    assert set(get_args(Reason)) == failures.MACHINES | failures.METHODS
    assert not failures.MACHINES & failures.METHODS
    assert failures.RETRIED <= failures.MACHINES


FATES = {
    "a worker that dies": of("search", 1),
    "one fold of a trial": of("search", 4, folds=(1,)),
    "out of memory": of("search", 0, 5, fate="oom"),
    "too slow": of("search", 2, 3, fate="timeout"),
    "every trial": of("search", *range(7), fate="oom"),
    "three in a row, where a search gives up": of("search", 2, 3, 4),
    "a seed": of("final", 1),
    "all seeds": of("final", 0, 1, fate="oom"),
    "a join": lambda job: None if hasattr(job, "stage") else "die",
}


@pytest.mark.parametrize("fate", FATES)
def test_what_was_lost_is_redone_as_if_it_had_never_failed(fate, never_failed, tmp_path):
    study = lay_out(tmp_path / "out")
    go_on(study, MadeEngine(FATES[fate]))
    assert truth(study.out) != truth(never_failed.out)
    assert retry(study)
    go_on(study, MadeEngine())
    assert truth(study.out) == truth(never_failed.out)
    assert queries(study.out) == queries(never_failed.out)
    assert not retry(study), "a second time finds nothing"
    done = MadeEngine()
    go_on(study, done)
    assert done.jobs == []


@pytest.mark.parametrize("fate", FATES)
def test_what_is_done_again_is_planned_before_it_is_put_aside(fate, tmp_path):
    study = lay_out(tmp_path / "out")
    go_on(study, MadeEngine(FATES[fate]))
    (cell,) = study.cells
    lost = lost_in(study, cell)
    before = truth(study.out)
    without = {cell.id: done_again(study, lost)}
    (planned,) = grid.progress_of(study, study.cells, without)
    assert truth(study.out) == before, "planning changes nothing"
    put_aside(study, lost)
    (found,) = grid.progress_of(study, study.cells)
    assert not planned.ended
    assert replace(planned, jobs_left=0) == replace(found, jobs_left=0)
    again = MadeEngine()
    go_on(study, again)
    if not lost.trials:  # then no other setting comes up, and it is known which jobs run
        assert planned.jobs_left == len(again.jobs)
        assert not list((study.out / "vectors").rglob("*.npz")), "what is joined waits no more"


@pytest.mark.parametrize("case", range(25))
def test_random_losses_and_kills_before_and_during_the_retry(case, never_failed, tmp_path):
    rng, study = random.Random(case), lay_out(tmp_path / "out")
    share = rng.choice((0.1, 0.3, 0.6))

    def weather(job):
        fates = ("die", "oom", "timeout") if hasattr(job, "stage") else ("die",)
        return rng.choice(fates) if rng.random() < share else None

    for start in range(12):
        if start > 4 and rng.random() < 0.5:
            retry(study)
        fault = weather if rng.random() < 0.7 else lambda job: None
        with contextlib.suppress(KeyboardInterrupt):
            go_on(study, MadeEngine(fault, limit=rng.choice((1, 3, 9, 99))))
    go_on(study, MadeEngine())
    retry(study)
    go_on(study, MadeEngine())
    assert truth(study.out) == truth(never_failed.out)
    assert not retry(study)


def test_what_a_recording_broke_runs_again_without_and_so_does_the_rest_of_its_cell(
    tmp_path,
):
    protocol = replace(PROTOCOL, retries=0)
    study, whole = (lay_out(tmp_path / n, protocol=protocol) for n in ("out", "whole"))
    go_on(whole, MadeEngine())
    engine = MadeEngine(of("search", 1, fate="recording"))
    printed = go_on(study, engine)
    assert "a recording broke the device: made up in trial 1 fold 0, trying again" in printed
    tries = [(job.number, job.record_steps) for job in engine.jobs if job.stage == "search"]
    first = [(0, True)] * 2 + [(1, True)] * 2 + [(1, False)] * 2
    assert tries == first + [(n, False) for n in range(2, 7) for _ in range(2)]
    assert not any(job.record_steps for job in engine.jobs if job.stage == "final")
    assert queries(study.out) == queries(whole.out)
    jobs = study.jobs(study.cells[0], "search", 1)
    assert [job.measured["failed_attempts"] for job in jobs] == [["crash"], ["crash"]]
    assert {job.id for job in engine.jobs if job.record_steps} & {
        job.id for job in engine.jobs if not job.record_steps
    } == {job.id for job in jobs}


def test_folds_and_seeds_that_were_not_lost_are_not_trained_again(tmp_path):
    study = lay_out(tmp_path / "out")
    go_on(study, MadeEngine(of("search", 1, folds=(1,))))  # before the sampler models: 3 to 6 move
    retry(study)
    again = MadeEngine()
    go_on(study, again)
    search = [(job.number, job.fold) for job in again.jobs if job.stage == "search"]
    assert search[0] == (1, 1)
    assert {n for n, _ in search} <= {1, 3, 4, 5, 6}
    assert (1, 0) not in search


def test_a_fold_of_a_final_run_that_was_not_lost_is_not_trained_again(tmp_path):
    study = lay_out(tmp_path / "out")
    go_on(study, MadeEngine(of("final", 1, folds=(1,))))
    clean(study)  # what a later start removes is not what waits
    retry(study)
    again = MadeEngine()
    go_on(study, again)
    assert [(job.stage, job.number, job.fold) for job in again.jobs] == [("final", 1, 1)]


def test_what_the_method_did_itself_stays(tmp_path):
    study = lay_out(tmp_path / "out")

    def fault(job):
        if getattr(job, "stage", "") != "search":
            return None
        return {2: "non_finite", 4: "error"}.get(job.number) or ("oom" if job.number == 5 else None)

    go_on(study, MadeEngine(fault))
    path = study.folder(study.cells[0]) / "trial-002.json"
    before = path.stat().st_mtime_ns
    (lost,) = retry(study)
    assert lost.words == "trial 5 (1 oom)"
    again = MadeEngine(of("search", 2, 4, fate="non_finite"))
    go_on(study, again)
    assert path.stat().st_mtime_ns == before
    assert {job.number for job in again.jobs if job.stage == "search"} <= {5, 6}
    assert [t.reason for t in study.trials(study.cells[0])][2] == "non_finite"
    assert not retry(study)


def test_a_trial_that_the_method_failed_is_not_lost_whatever_else_happened_to_it(tmp_path):
    study = lay_out(tmp_path / "out")
    one, other = of("search", 1, fate="oom", folds=(0,)), of("search", 1, fate="non_finite")
    go_on(study, MadeEngine(lambda job: one(job) or other(job)))
    trial = study.trials(study.cells[0])[1]
    assert trial.reason == "non_finite"
    assert not failures.lost(trial)


def test_without_a_trial_there_is_no_choice_and_the_cell_has_failed(tmp_path):
    study = lay_out(tmp_path / "out")
    printed = go_on(study, MadeEngine(of("search", *range(7), fate="oom")))
    (cell,) = study.cells
    assert "chosen" not in printed
    assert study.choice(cell) is None
    assert {(run.status, run.reason) for run in study.runs(cell)} == {("failed", "oom")}
    assert "3 oom" in study.run(cell, 0).detail
    (plan,) = grid.progress_of(study, study.cells)
    assert (plan.state, plan.ended, plan.jobs_left) == ("failed", True, 0)
    assert lost_in(study, cell).most_jobs(study) == (7 + 2) * 2


def test_a_search_that_the_method_failed_is_over(tmp_path):
    study = lay_out(tmp_path / "out")
    go_on(study, MadeEngine(of("search", *range(7), fate="non_finite")))
    (plan,) = grid.progress_of(study, study.cells)
    assert plan.state == "failed"
    assert {run.reason for run in study.runs(study.cells[0])} == {"non_finite"}
    assert not retry(study)


def test_a_choice_of_nothing_by_an_earlier_version_is_taken_back(never_failed, tmp_path):
    study = lay_out(tmp_path / "out")
    go_on(study, MadeEngine(of("search", *range(7), fate="oom")))
    (cell,) = study.cells
    kept = never_failed.choice(never_failed.cells[0])
    put(study, cell, replace(kept, trial=None, settings={}, value=None))
    assert [plan.state for plan in grid.progress_of(study, study.cells)] == ["done"]
    assert retry(study)
    go_on(study, MadeEngine())
    assert truth(study.out) == truth(never_failed.out)


def test_removing_the_record_by_hand_does_not_fail_it_again_from_its_folds(never_failed, tmp_path):
    study = lay_out(tmp_path / "out")
    search, final = of("search", 1), of("final", 1)
    go_on(study, MadeEngine(lambda job: search(job) or final(job)))
    folder = study.folder(study.cells[0])
    (folder / "trial-001.json").unlink()
    go_on(study, MadeEngine())  # the choice and later trials go with it
    if (folder / "seed-1.json").exists() and lost_in(study, study.cells[0]).runs:
        (folder / "seed-1.json").unlink()
    go_on(study, MadeEngine())
    assert truth(study.out) == truth(never_failed.out)


def test_a_dead_job_is_recorded_only_if_the_canary_lives(never_failed, tmp_path):
    study = lay_out(tmp_path / "out")
    with pytest.raises(
        MachineError, match=r"one on toy \(tiny, adam\): trial 1 fold 0 died, and a known-good job"
    ):
        go_on(study, MadeEngine(of("search", 1), good=False))
    assert [p.name for p in sorted(study.folder(study.cells[0]).glob("trial-*"))] == [
        "trial-000.fold-0.json",
        "trial-000.fold-1.json",
        "trial-000.json",
    ]
    go_on(study, MadeEngine())
    assert truth(study.out) == truth(never_failed.out)


def test_the_canary_is_asked_once_for_the_folds_that_died_together(tmp_path):
    engine = MadeEngine(of("search", 1))
    go_on(lay_out(tmp_path / "out"), engine)
    assert engine.probes == 1
    assert engine.jobs[0].cell.row == "one"


def test_losses_in_a_row_over_methods_stop_the_study_and_one_method_does_not(tmp_path):
    streak = canary.Streak()
    for _ in range(20):
        streak.ended("one", lost=True)
    streak.ended("two", lost=True)
    streak.ended("two", lost=False)
    for _ in range(3):
        streak.ended("one", lost=True)
        streak.ended("one", lost=True)
    streak.ended("two", lost=True)
    streak.ended("three", lost=True)
    with pytest.raises(MachineError, match="of several methods"):
        streak.ended("two", lost=True)


def test_a_busy_machine_stops_the_study_and_everything_can_be_redone(tmp_path):
    methods = ("one", "three", "two")
    whole, study = lay_out(tmp_path / "whole", methods), lay_out(tmp_path / "out", methods)
    go_on(whole, MadeEngine())
    with pytest.raises(MachineError, match="--retry-failed"):
        go_on(study, MadeEngine(lambda job: "oom"))
    assert sum(len(list(study.folder(c).glob("*.fold-*.json"))) for c in study.cells) < 3 * 3 * 2
    retry(study)
    go_on(study, MadeEngine())
    assert truth(study.out) == truth(whole.out)


def broken_by(culprit):
    """Return a fault: the culprit breaks its card, and the first to run beside it breaks too."""
    hit = []

    def fault(job):
        if not hasattr(job, "stage"):
            return None
        if culprit(job):
            return "crash"
        if not hit and job.stage == "search":
            hit.append(job)
            return "crash"
        return None

    return fault, hit


@pytest.mark.parametrize("retries", [0, 1])
def test_what_broke_beside_another_under_mps_runs_once_more_alone(retries, tmp_path):
    """The innocent comes through, after all others; alone and broken again is its own failure."""
    rules = replace(PROTOCOL, retries=retries)
    study = lay_out(tmp_path / "out", ("one", "two"), rules)
    fault, hit = broken_by(lambda job: job.cell.row == "two" and job.number == 1)
    engine = MadeEngine(fault)
    printed = go_on(study, engine, mps=True)
    assert (
        "one on toy (tiny, adam): crash in trial 0 fold 0, trying again alone, after all others"
        in printed
    )
    order = [(job.cell.row, job.number, job.fold) for job in engine.jobs if job.stage == "search"]
    innocent = (hit[0].cell.row, hit[0].number, hit[0].fold)
    assert innocent == ("one", 0, 0)
    again = order.index(innocent, 1)
    assert ("two", 0, 1) in order[:again], "others first"
    one, two = study.cells
    assert [trial.status for trial in study.trials(one)] == ["done"] * 7
    assert [t.reason for t in study.trials(two)] == [None, "crash", None, None, None, None, None]
    assert [order.count(("two", 1, fold)) for fold in (0, 1)] == [2, 2]
    assert study.jobs(one, "search", 0)[0].measured["failed_attempts"] == ["crash"]


def test_without_mps_what_broke_is_tried_again_at_once(tmp_path):
    study = lay_out(tmp_path / "out", ("one", "two"))
    fault, _ = broken_by(lambda job: False)
    engine = MadeEngine(fault)
    assert "alone" not in go_on(study, engine)
    assert [(job.cell.row, job.fold) for job in engine.jobs].index(("one", 0), 1) < 4


@pytest.mark.parametrize(("earlier", "noted"), [("timeout", "timeout"), ("recording", "crash")])
def test_under_mps_an_earlier_failure_of_another_kind_makes_no_one_guilty(earlier, noted, tmp_path):
    study = lay_out(tmp_path / "out")
    fates = iter([earlier, "crash"])

    def fault(job):
        first = getattr(job, "stage", "") == "search" and (job.number, job.fold) == (0, 0)
        return next(fates, None) if first else None

    go_on(study, MadeEngine(fault), mps=True)
    record = study.jobs(study.cells[0], "search", 0)[0]
    assert record.status == "done"
    assert record.measured["failed_attempts"] == [noted, "crash"]


def test_under_mps_a_job_that_had_the_card_alone_and_broke_it_has_failed(tmp_path):
    """It ran alone because it had been out of memory: no neighbour can have broken it there."""
    study = lay_out(tmp_path / "out")
    fates = iter(["oom", "crash"])

    def fault(job):
        first = getattr(job, "stage", "") == "search" and (job.number, job.fold) == (0, 0)
        return next(fates, None) if first else None

    engine = MadeEngine(fault)
    go_on(study, engine, mps=True)
    tries = [job for job in engine.jobs if (job.stage, job.number, job.fold) == ("search", 0, 0)]
    record = study.jobs(study.cells[0], "search", 0)[0]
    assert (len(tries), record.reason) == (2, "crash")
    assert record.measured["failed_attempts"] == ["oom", "crash"]


def of_joins(fate):
    return lambda job: None if hasattr(job, "stage") else fate


def test_a_join_that_raises_keeps_its_reason_and_what_it_said(tmp_path):
    study = lay_out(tmp_path / "out", ("one", "two"))
    hit = []

    def fault(job):
        """Fail the join of what the first cell gives."""
        if hasattr(job, "stage"):
            return None
        hit.append(job)
        return "error" if len(hit) == 1 else None

    go_on(study, MadeEngine(fault))
    runs = [run for cell in study.cells for run in study.runs(cell)]
    assert len(runs) == 4, "all others went on"
    (failed,) = [run for run in runs if run.status == "failed"]
    assert (failed.reason, failed.detail) == ("error", "join: made up")
    assert len(hit) == 4, "what fails for itself is not tried again"
    assert not retry(study), "nor is it the machine's"


def test_a_join_without_memory_is_tried_again_alone_and_then_recorded_as_that(tmp_path):
    study = lay_out(tmp_path / "out")
    printed = go_on(study, MadeEngine(of_joins("oom")))
    again = "one on toy (tiny, adam): oom in the join of seed 1, trying again alone"
    assert again in printed
    runs = study.runs(study.cells[0])
    assert [(run.reason, run.detail) for run in runs] == [("oom", "join: made up")] * 2
    (lost,) = retry(study)
    assert lost.words == "seeds 0, 1 (2 oom)"


def test_a_join_whose_worker_dies_says_so(tmp_path):
    study = lay_out(tmp_path / "out")
    go_on(study, MadeEngine(of_joins("die")))
    detail = study.run(study.cells[0], 0).detail
    assert detail == "join: worker lost: crash"


def test_a_join_that_dies_is_not_recorded_where_the_canary_dies(tmp_path):
    study = lay_out(tmp_path / "out")
    with pytest.raises(MachineError, match="the join of seed"):
        go_on(study, MadeEngine(FATES["a join"], good=False))
    assert study.runs(study.cells[0]) == []
    assert not list(study.folder(study.cells[0]).glob("seed-?.json"))
