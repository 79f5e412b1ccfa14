"""The promised time holds for every order of work that the scheduler can choose."""

import heapq
import random

import pytest
from rich.console import Console

from benchmark.commands.plans import show_expected
from benchmark.running.bound import (
    JobSeconds,
    at_least,
    at_most,
    graham,
    longest_chain,
    usually,
    width,
)
from benchmark.running.progress import _Work, time_left
from benchmark.study.folder import CellKey
from benchmark.study.grid import CellPlan
from tests.promised import span_and_bound


def plan(name, trials, runs, folds, done=0, chosen=False):
    left = (0 if chosen else (trials - done) * folds) + runs * folds
    cell = CellKey(str(name), "toy", "tiny", "adam", "m", "m")
    return CellPlan(cell, trials, done, runs, 0, left, chosen)


def simulate(cells, workers):
    """Return the end and the greatest number at work; cells are lists of stages of seconds.

    A stage's jobs can start when the stage before has ended, earlier cells go first.
    """
    ready = [(n, job) for n, stages in enumerate(cells) for job in stages[0]]
    stage, left = [0] * len(cells), [len(stages[0]) for stages in cells]
    clock, running, most = 0.0, [], 0
    while ready or running:
        ready.sort(key=lambda pair: pair[0])
        while ready and len(running) < workers:
            n, job = ready.pop(0)
            heapq.heappush(running, (clock + job, n))
        most = max(most, len(running))
        clock, n = heapq.heappop(running)
        left[n] -= 1
        if not left[n] and stage[n] + 1 < len(cells[n]):
            stage[n] += 1
            left[n] = len(cells[n][stage[n]])
            ready += [(n, job) for job in cells[n][stage[n]]]
    return clock, most


def grids(count):
    """Yield random plans, each cell's seconds of a job, and folds."""
    draw = random.Random(0)
    for _ in range(count):
        folds, plans = draw.randint(1, 4), []
        for n in range(draw.randint(1, 6)):
            trials = draw.randint(0, 7)
            done, chosen = draw.randint(0, trials), draw.random() < 0.2
            plans.append(plan(n, trials, draw.randint(1, 5), folds, done, chosen))
        yield plans, {p.cell.id: draw.uniform(0.5, 20) for p in plans}, folds, draw


def stages(item, each, folds, draw, least=1.0):
    """Return a cell's stages; a job takes ``each`` seconds, or down to ``least`` of them."""
    chain = longest_chain(item)
    sizes = [folds] * (chain - 1) + [item.runs * folds]
    return [[each * draw.uniform(least, 1) for _ in range(size)] for size in sizes]


@pytest.mark.parametrize("least", [1.0, 0.2])
def test_every_grid_ends_in_time_and_the_promise_is_less_than_twice_that(least):
    for plans, seconds, folds, draw in grids(400):
        workers = draw.randint(1, 9)
        cells = [stages(p, seconds[p.cell.id], folds, draw, least) for p in plans]
        took, most = simulate(cells, workers)
        both = {cell: JobSeconds(least * most, most, 3 * most) for cell, most in seconds.items()}
        promised = usually(plans, both, workers)
        assert at_least(plans, both, workers) - 1e-9 <= took <= promised + 1e-9
        assert at_most(plans, both, workers) == pytest.approx(3 * promised)
        assert most <= width(plans)
        if least == 1.0:
            assert promised < 2 * took + 1e-9


def test_a_single_cell_is_not_divided_by_the_workers():
    alone = plan("a", trials=10, runs=1, folds=1)
    seconds = {"a": JobSeconds(0.5, 4.2, 70.0)}
    assert at_most([alone], seconds, 4) == pytest.approx(11 * 70)
    assert usually([alone], seconds, 4) == pytest.approx(11 * 4.2)
    assert at_least([alone], seconds, 4) == pytest.approx(11 * 0.5)
    assert width([alone]) == 1
    assert at_most([alone], {}, 4) == at_least([alone], {}, 4) == 0


def test_one_worker_does_all_after_each_other():
    assert graham(12.0, 5.0, 1) == 12.0


def test_what_is_done_waits_for_nothing():
    assert longest_chain(CellPlan(plan("a", 3, 2, 2).cell, 3, 3, 2, 2, 0, True)) == 0


def test_the_time_left_counts_what_waits_for_each_other():
    alone = _Work(10, 2.0, chain=10)
    assert time_left([alone], 4, 0.0) == pytest.approx(20)
    for _ in range(5):
        alone.trained(2.0)
    alone.chain -= 5
    other = _Work(0, 2.0, jobs_done=15, done_s=30.0)
    assert time_left([alone, other], 4, 10.0) == pytest.approx(10)


def test_a_study_ends_within_what_its_plan_promises(toy_study):
    """Two workers; --faults does it with four, where a cell's trials still go one by one."""
    span, bound = span_and_bound(toy_study, 2)
    assert 0 < span < bound


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ((138, 187, 187), "at most 34 min"),
        ((138, 187, 370), "at most 68 min"),
        (
            (46, 187, 187),
            "at most 34 min; at least 8 min, if each ends as early as patience lets it",
        ),
        (
            (138, 187, 9000),
            "at most 27.5 h, if searches take the largest numbers, above all that of m; "
            "34 min with the defaults",
        ),
        (
            (46, 187, 9000),
            "at most 27.5 h, if searches take the largest numbers, above all that of m; "
            "34 min with the defaults; at least 8 min, if each ends as early as patience lets it",
        ),
    ],
)
def test_what_may_make_it_far_shorter_is_said(seconds, said, capsys):
    alone = plan("a", trials=10, runs=1, folds=1)
    console = Console(width=300)
    show_expected(console, [alone], {"a": JobSeconds(*seconds)}, 4, "cpu")
    assert capsys.readouterr().out == f"11 jobs left, 4 at once on cpu: {said}\n"


def test_the_search_that_may_take_longest_is_named(capsys):
    plans = [CellPlan(CellKey(m, "toy", "tiny", "adam", m, m), 3, 0, 1, 0, 4, False) for m in "abc"]
    seconds = {"a": JobSeconds(1, 1, 9), "b": JobSeconds(1, 1, 99), "c": JobSeconds(99, 99, 99)}
    show_expected(Console(width=300), plans, seconds, 4, "cpu")
    said = capsys.readouterr().out
    assert "above all" not in said
    show_expected(Console(width=300), plans[:2], seconds, 4, "cpu")
    assert "above all that of b; " in capsys.readouterr().out
