"""What jobs spent: shares worked out by hand, random cases against a slow loop, older records."""

import numpy as np
import pytest

from benchmark.study.records import JobRecord, RunRecord, TrialRecord
from benchmark.study.spending import Spending, Spent, spans_of

NOTHING_TOLD = (None,) * 5


def span(start, end, machine="m", **told):
    return {"machine": machine, "start": float(start), "end": float(end), **told}


def run(seed, *spans, cpu_s=1.0):
    seconds = sum(s["end"] - s["start"] for s in spans)
    measured = {"seconds": seconds, "cpu_s": cpu_s, "spans": list(spans)}
    return RunRecord(f"r{seed}", "c", seed, {}, "done", [], measured=measured)


def trial(number, **measured):
    return TrialRecord(f"t{number}", "c", number, {}, "done", 0.5, [], measured=measured)


def test_two_jobs_at_once_share_a_machine():
    """A runs 0 to 10 and B 5 to 10, at 10 W: A has 7.5 s and 75 J, B 2.5 s and 25 J."""
    a, b = run(0, span(0, 10, package_j=100.0)), run(1, span(5, 10, package_j=50.0))
    both = Spending([a, b])
    assert both.of([a]) == Spent(10.0, 1.0, 7.5, 0.0, 75.0, None)
    assert both.of([b]) == Spent(5.0, 1.0, 2.5, 0.0, 25.0, None)
    assert both.of([a, b]) == Spent(15.0, 2.0, 10.0, 0.0, 100.0, None)


def test_merged_studies_of_two_machines_share_nothing():
    """The same hours of two machines are two hours; of one machine, in two folders, one."""
    a, b, c = run(0, span(0, 10)), run(1, span(0, 10, "other")), run(2, span(0, 10))
    assert Spending([a, b]).of([a, b]).machine_s == 20.0
    assert Spending([a, c]).of([a, c]).machine_s == 10.0
    assert Spending([a, b, c]).of([a]).machine_s == 5.0


def test_a_card_is_shared_by_itself():
    """Two cards of one machine: A alone on x for 8 s at 300 W, B and C together on y."""
    a = run(0, span(0, 8, card="x", card_j=2400.0))
    b = run(1, span(0, 8, card="y", card_j=800.0))
    c = run(2, span(4, 8, card="y", card_j=400.0))
    found = Spending([a, b, c])
    assert found.of([a]).gpu_s == 8.0
    assert found.of([a]).gpu_j == 2400.0
    assert found.of([b]).gpu_s == 6.0
    assert found.of([b]).gpu_j == pytest.approx(600.0)
    assert found.of([c]).gpu_s == 2.0
    assert found.of([c]).gpu_j == pytest.approx(200.0)
    assert found.of([a, b, c]).machine_s == pytest.approx(8.0)
    assert found.of([a]).package_j is None


def test_parts_of_an_interrupted_job_count_and_the_pause_does_not():
    a = run(0, span(0, 10, package_j=10.0), span(100, 105, "other", package_j=20.0))
    assert Spending([a]).of([a]) == Spent(15.0, 1.0, 15.0, 0.0, 30.0, None)


def test_one_part_that_does_not_tell_takes_the_sum():
    a = run(0, span(0, 10, package_j=10.0), span(20, 30))
    b = run(1, span(40, 50, package_j=7.0))
    found = Spending([a, b])
    assert found.of([a]).package_j is None
    assert found.of([a, b]).package_j is None
    assert found.of([b]).package_j == 7.0
    assert found.of([a]).machine_s == 20.0


def test_older_records_tell_their_seconds():
    old = RunRecord("r", "c", 0, {}, "done", [], measured={"seconds": 5.0})
    new = run(1, span(0, 10))
    found = Spending([old, new])
    assert found.of([old]) == Spent(5.0, *NOTHING_TOLD)
    assert found.of([old, new]).machine_s is None
    assert found.of([new]).machine_s == 10.0
    assert found.of([]) == Spent(0.0, 0.0, 0.0, 0.0, None, None)


def test_a_trial_that_was_lost_has_nothing_to_tell():
    lost, new = trial(0, seconds=0.0, environment={}), run(1, span(0, 10))
    assert Spending([lost, new]).of([lost, new]).machine_s == 10.0


def test_spans_of_a_run_are_those_of_its_jobs():
    def job(**measured):
        return JobRecord("j", "c", "final", 0, 0, {}, "done", measured=measured)

    told = job(seconds=1.0, spans=[span(0, 1)])
    assert spans_of([told, told, job()]) == {"spans": [span(0, 1), span(0, 1)]}
    assert spans_of([told, job(seconds=1.0)]) == {}, "one of an earlier version"
    assert spans_of([job()]) == {}


@pytest.mark.parametrize("case", range(20))
def test_shares_are_those_of_a_slow_loop(case):
    """Whole seconds are counted one by one; parts add up to the time that was used at all."""
    rng = np.random.default_rng(case)
    made = []
    for seed in range(rng.integers(1, 12)):
        start = int(rng.integers(0, 40))
        at = str(rng.choice(["m", "n"]))
        made.append(run(seed, span(start, start + int(rng.integers(0, 15)), at)))
    expected, used = dict.fromkeys(range(len(made)), 0.0), 0
    spans = [record.measured["spans"][0] for record in made]
    for machine in ("m", "n"):
        for second in range(60):
            there = [
                k
                for k, s in enumerate(spans)
                if s["machine"] == machine and s["start"] <= second < s["end"]
            ]
            used += bool(there)
            for k in there:
                expected[k] += 1 / len(there)
    found = Spending(made)
    for record in made:
        assert found.of([record]).machine_s == pytest.approx(expected[record.seed])
    assert found.of(made).machine_s == pytest.approx(used)
