"""Schedules: rates, phases and ends, against torch's own schedulers where it has them."""

from dataclasses import replace

import pytest
import torch
from torch.optim.lr_scheduler import CyclicLR
from torch.optim.swa_utils import SWALR

from protocols.errors import InvalidInputError
from protocols.method import Group
from protocols.optimizer import make_optimizer
from protocols.protocol import Pace
from protocols.recipe import Averaging, Cycle, Recipe, Schedule

PLAIN = Recipe("test", "", "adam", lr=1.0)
PACE = Pace(max_steps=40, steps_per_epoch=2, validate_every=4, patience=2)


def parameter():
    return torch.nn.Parameter(torch.zeros(1))


def torch_trace(scheduler, optimizer, steps):
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(("mode", "shrink"), [("triangular", 1.0), ("triangular2", 0.5)])
def test_cycles_follow_torch_and_keep_the_ratio_of_groups(mode, shrink):
    groups = [Group("a", [parameter()]), Group("b", [parameter()], lr_factor=100.0)]
    recipe = replace(PLAIN, cycle=Cycle(half_epochs=1, low=1.0, high=3.0, shrink=shrink))
    schedule, mine = Schedule(recipe, PACE), make_optimizer(recipe, groups)
    base = [group["lr"] for group in mine.param_groups]
    theirs = make_optimizer(recipe, groups)
    scheduler = CyclicLR(theirs, base, [3 * b for b in base], 2, mode=mode, cycle_momentum=False)
    expected = torch_trace(scheduler, theirs, 16)
    got = [[rate * schedule.factor(step) for rate in base] for step in range(16)]
    assert torch.allclose(torch.tensor(got), torch.tensor(expected))
    assert [row[1] / row[0] for row in got] == [pytest.approx(100.0)] * 16
    assert mine.param_groups[0]["betas"] == (0.9, 0.999), "a rate must not touch the betas"
    if mode == "triangular":
        assert [row[0] for row in got[:5]] == [1, 2, 3, 2, 1]


def test_a_run_under_cycles_ends_on_a_minimum():
    schedule = Schedule(replace(PLAIN, cycle=Cycle(half_epochs=1)), PACE)
    assert schedule.factor(schedule.last) == pytest.approx(0.1)
    assert schedule.interval == 4
    with pytest.raises(InvalidInputError, match="whole cycles of 12 steps"):
        Schedule(replace(PLAIN, cycle=Cycle(half_epochs=3)), PACE)


def test_averaging_anneals_as_torchs_swalr_does():
    groups = [Group("a", [parameter()], lr=0.01), Group("b", [parameter()], lr=1.0)]
    recipe = replace(PLAIN, averaging=Averaging(start=0.5, factor=0.1, anneal_epochs=1))
    schedule, optimizer = Schedule(recipe, PACE), make_optimizer(recipe, groups)
    base = [group["lr"] for group in optimizer.param_groups]
    scheduler = SWALR(optimizer, [0.001, 0.1], anneal_epochs=2, anneal_strategy="linear")
    expected = torch_trace(scheduler, optimizer, 6)
    for step in range(0, 21, 4):
        schedule.note_validation(step, step)
    assert schedule.averaging_from == 20
    got = [[rate * schedule.factor(20 + k) for rate in base] for k in range(6)]
    assert torch.allclose(torch.tensor(got), torch.tensor(expected))
    assert got[1] == [pytest.approx(0.0055), pytest.approx(0.55)]


def test_patience_starts_averaging_instead_of_ending():
    schedule = Schedule(replace(PLAIN, averaging=Averaging(start=0.75)), PACE)
    for step in range(0, 13, 4):
        schedule.note_validation(step, 0)
    assert (schedule.averaging_from, schedule.last) == (12, 22)
    assert [step for step in range(12, 23) if schedule.collects(step)] == [14, 16, 18, 20, 22]
    schedule.note_validation(20, 0)
    assert schedule.last == 22, "early stopping never fires while weights are averaged"


def test_without_averaging_patience_ends_the_run():
    schedule = Schedule(PLAIN, PACE)
    for step, best in ((0, 0), (4, 4), (8, 4), (12, 4)):
        schedule.note_validation(step, best)
        assert schedule.last == 40
    schedule.note_validation(16, 4)
    assert schedule.last == 16
    assert not any(schedule.collects(step) for step in range(41))


def test_under_cycles_only_minima_are_collected():
    recipe = replace(PLAIN, cycle=Cycle(half_epochs=1), averaging=Averaging(start=0.6))
    schedule = Schedule(recipe, PACE)
    for step in range(0, 25, 4):
        schedule.note_validation(step, step)
    collected = [step for step in range(41) if schedule.collects(step)]
    assert collected == [28, 32, 36, 40]
    assert {schedule.factor(step) for step in collected} == {0.1}


def test_a_phase_too_short_to_collect_is_refused():
    with pytest.raises(InvalidInputError, match="collect"):
        Schedule(replace(PLAIN, averaging=Averaging(start=0.99)), PACE)


def test_warmup_rises_to_the_full_rate():
    schedule = Schedule(replace(PLAIN, warmup_steps=4), PACE)
    assert [schedule.factor(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
