"""Schedules: rates, phases and ends, against torch's own schedulers where it has them."""

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR
from torch.optim.swa_utils import SWALR

from protocols.conformance import SPEC, build
from protocols.discovery import Registry, load
from protocols.errors import InvalidInputError, PluginError
from protocols.method import ParameterGroup
from protocols.optimizer import make_optimizer
from protocols.phases import Phase
from protocols.protocol import Pace
from protocols.recipe import Averaging, Cosine, Cycle, Decay, OptimizerName, Recipe, Schedule

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


def test_cycles_follow_torch_and_keep_the_ratio_of_groups():
    groups = [
        ParameterGroup("a", [parameter()]),
        ParameterGroup("b", [parameter()], lr_factor=100.0),
    ]
    recipe = replace(PLAIN, cycle=Cycle(half_epochs=1, low=1.0, high=3.0))
    schedule, mine = Schedule(recipe, PACE), make_optimizer(recipe, groups)
    base = [group["lr"] for group in mine.param_groups]
    theirs = make_optimizer(recipe, groups)
    scheduler = CyclicLR(theirs, base, [3 * b for b in base], 2, cycle_momentum=False)
    expected = torch_trace(scheduler, theirs, 16)
    got = [[rate * schedule.factor(step) for rate in base] for step in range(16)]
    assert torch.allclose(torch.tensor(got), torch.tensor(expected))
    assert [row[1] / row[0] for row in got] == [pytest.approx(100.0)] * 16
    assert mine.param_groups[0]["betas"] == (0.9, 0.999), "a rate must not touch the betas"
    assert [row[0] for row in got[:5]] == [1, 2, 3, 2, 1]


def test_a_run_under_cycles_ends_on_a_minimum():
    schedule = Schedule(replace(PLAIN, cycle=Cycle(half_epochs=1)), PACE)
    assert schedule.factor(schedule.last) == pytest.approx(0.1)
    assert schedule.interval == 4
    with pytest.raises(InvalidInputError, match="whole cycles of 12 steps"):
        Schedule(replace(PLAIN, cycle=Cycle(half_epochs=3)), PACE)


def test_averaging_anneals_as_torchs_swalr_does():
    groups = [
        ParameterGroup("a", [parameter()], lr=0.01),
        ParameterGroup("b", [parameter()], lr=1.0),
    ]
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


# Phases.

CUB = Pace(max_steps=100_000, steps_per_epoch=100, validate_every=200, patience=4)


def ends(schedule, best=0):
    """Return the step at which a training ends whose best validation was at ``best``."""
    for step in range(0, schedule.pace.max_steps + 1, schedule.interval):
        schedule.note_validation(step, min(best, step))
        if step >= schedule.last:
            return step
    raise AssertionError("it never ended")


@pytest.mark.parametrize(
    ("phases", "best", "expected"),
    [
        ((), 0, 1000),
        ((), 5600, 6600),
        ((Phase("late", 12_500),), 0, 13_400),
        ((Phase("late", 12_500),), 5600, 13_400),
        ((Phase("late", 12_500),), 13_200, 14_200),
        ((Phase("early", 500), Phase("late", 30_000)), 7400, 31_000),
        ((Phase("slow", 60_000, settled=100_000),), 0, 100_000),
        ((Phase("at the end", 99_900),), 0, 100_000),
    ],
)
def test_patience_counts_from_the_last_phase_within_the_same_budget(phases, best, expected):
    schedule = Schedule(PLAIN, CUB, phases)
    if best == 0:
        assert schedule.earliest_stop == expected
    assert ends(schedule, best) == expected
    assert all(step is not None for step in schedule.begun(expected).values())


def test_a_decay_and_a_warm_up_are_phases_of_their_recipe():
    recipe = replace(PLAIN, decay=Decay(start=0.6, end=1.0, factor=0.001))
    schedule = Schedule(recipe, CUB)
    assert schedule.phases == (Phase("decay", 60_000, settled=100_000),)
    assert ends(schedule) == 100_000, "a rate that falls to the end of the budget takes all of it"
    drop = Schedule(replace(PLAIN, decay=Decay(start=3 / 7, end=3 / 7, factor=0.1)), CUB)
    (phase,) = drop.phases
    assert (drop.factor(phase.begins - 1), drop.factor(phase.begins)) == (1.0, 0.1)
    assert ends(drop) > phase.begins
    warm = Schedule(replace(PLAIN, warmup_steps=5000), CUB)
    assert warm.phases == (Phase("full rate", 5000),)
    assert (warm.factor(4998), warm.factor(5000)) == (pytest.approx(0.9998), 1.0)


@pytest.mark.parametrize("start", [0.0, 0.1, 3 / 7, 0.6, 0.7, 0.999])
@pytest.mark.parametrize("steps", [7, 10, 48, 500, 100_000])
def test_a_decay_begins_at_the_first_step_with_another_rate(start, steps):
    recipe = replace(PLAIN, decay=Decay(start=start, end=start, factor=0.1))
    pace = Pace(steps, 1, 1, 4)
    expected = next((step for step in range(steps) if step / steps >= start), None)
    if expected is None:
        with pytest.raises(InvalidInputError, match="'decay' begins at step"):
            Schedule(recipe, pace)
        return
    schedule = Schedule(recipe, pace)
    assert schedule.phases[0].begins == expected
    assert schedule.factor(expected) == 0.1


def test_what_a_budget_cannot_hold_is_refused():
    with pytest.raises(InvalidInputError, match=r"'late' begins at step 100000, but training ends"):
        Schedule(PLAIN, CUB, (Phase("late", 100_000),))
    averaged = replace(PLAIN, averaging=Averaging(start=0.75))
    with pytest.raises(InvalidInputError, match=r"averages weights at step 75000"):
        Schedule(averaged, CUB, (Phase("late", 80_000),))
    with pytest.raises(InvalidInputError, match="distinct names"):
        Schedule(PLAIN, CUB, (Phase("a", 1), Phase("a", 2)))
    for begins, settled in ((-1, None), (5, 4)):
        with pytest.raises(PluginError, match="begins at"):
            Phase("odd", begins, settled)


def test_averaging_waits_for_the_phases_too():
    schedule = Schedule(replace(PLAIN, averaging=Averaging()), CUB, (Phase("late", 30_000),))
    assert schedule.earliest_stop == 31_000 + 25_000
    for step in range(0, 31_001, 200):
        assert schedule.averaging_from is None
        schedule.note_validation(step, 0)
    assert schedule.begun(schedule.last) == {"late": 30_000, "averaging": 31_000}


# Published recipes.


def test_trinets_rate_falls_as_published():
    schedule = Schedule(load("recipe", "trinet"), Pace(25_000, 100, 1000, 99))
    for step in (0, 14_999, 15_000):
        assert schedule.factor(step) == 1.0
    assert schedule.factor(20_000) == pytest.approx(0.001 ** (5_000 / 10_000))
    assert schedule.factor(25_000) == 0.001
    assert load("recipe", "trinet").lr == 3e-4


def test_groups_rate_drops_once_and_radam_runs():
    recipe = load("recipe", "group")
    schedule = Schedule(recipe, Pace(70, 1, 10, 99))
    assert [schedule.factor(step) for step in (0, 29, 30, 69)] == [1.0, 1.0, 0.1, 0.1]
    optimizer = make_optimizer(recipe, build(load("method", "group")).groups())
    assert isinstance(optimizer, torch.optim.RAdam)
    assert optimizer.param_groups[0]["lr"] == 1.5636637e-4
    assert optimizer.param_groups[0]["weight_decay"] == 6.0597226e-6


def test_two_rules_for_one_rate_are_refused_and_old_recipes_keep_their_values():
    decay = load("recipe", "trinet").decay
    with pytest.raises(InvalidInputError, match="both set the rate"):
        Recipe("x", "", "adam", 1e-3, cycle=Cycle(1), decay=decay)
    assert "decay" not in load("recipe", "adam").values()
    assert load("recipe", "trinet").values()["decay"]["factor"] == 0.001


def test_a_cosine_falls_as_torchs_does_behind_its_warm_up():
    recipe = replace(PLAIN, optimizer="sgd", warmup_steps=8, cosine=Cosine(end=0.1))
    schedule, optimizer = (
        Schedule(recipe, PACE),
        make_optimizer(recipe, [ParameterGroup("a", [parameter()])]),
    )
    theirs = CosineAnnealingLR(optimizer, T_max=32, eta_min=0.1)
    expected = [row[0] for row in torch_trace(theirs, optimizer, 32)]
    got = [schedule.factor(step) for step in range(8, 40)]
    assert got == pytest.approx(expected, rel=1e-12)
    assert [schedule.factor(step) for step in (0, 3, 7, 8)] == [0.125, 0.5, 1.0, 1.0]
    assert schedule.factor(24) == pytest.approx(0.55), "half the way, half the height"


def test_a_cosine_is_followed_to_its_end():
    schedule = Schedule(replace(PLAIN, warmup_steps=8, cosine=Cosine()), PACE)
    for step in range(0, 40, 4):
        schedule.note_validation(step, 0)
        assert schedule.last == 40
    assert schedule.begun(40) == {"full rate": 8, "cosine": 8}
    with pytest.raises(InvalidInputError, match="'full rate' begins at step 40"):
        Schedule(replace(PLAIN, warmup_steps=40, cosine=Cosine()), PACE)


def test_the_cosine_recipe_is_the_loop_by_hand():
    """Momentum without Nesterov's look ahead, coupled decay, warm-up, half a cosine: in numbers."""
    recipe = replace(load("recipe", "sgd_cosine"), lr=0.2, warmup_steps=5, weight_decay=0.01)
    schedule = Schedule(recipe, PACE)
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = make_optimizer(recipe, [ParameterGroup("a", [weight])])
    value, speed = 2.0, 0.0
    for step in range(40):
        optimizer.param_groups[0]["lr"] = recipe.lr * schedule.factor(step)
        weight.grad = torch.tensor([math.sin(step) + value], dtype=torch.float64)
        optimizer.step()
        rate = 0.2 * ((step + 1) / 5 if step < 5 else (1 + math.cos(math.pi * (step - 5) / 35)) / 2)
        speed = 0.9 * speed + math.sin(step) + value + 0.01 * value
        value -= rate * speed
        assert weight.item() == pytest.approx(value, rel=1e-12)
    assert not optimizer.param_groups[0]["nesterov"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cosine": Cosine(), "cycle": Cycle(1)}, "cosine and a cycle or averaging both"),
        ({"cosine": Cosine(), "averaging": Averaging()}, "cosine and a cycle or averaging both"),
        ({"cosine": Cosine(), "decay": Decay(0.5, 0.5, 0.1)}, "decay and cosine both set"),
        ({"sharpness": 0.0}, "sharpness 0.0, expected a radius above 0, or None"),
        ({"sharpness": math.inf}, "sharpness inf, expected"),
        ({"layer_decay": 1.5}, "layer_decay 1.5, expected a factor above 0 and at most 1"),
        ({"head_first_steps": 0}, "head_first_steps 0, expected a whole number"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_when_it_is_read(changes, why):
    with pytest.raises(InvalidInputError, match=why):
        replace(PLAIN, **changes)


def test_fields_that_a_recipe_does_not_use_leave_its_values_as_they_were():
    late = {"decay", "cosine", "sharpness", "layer_decay", "head_first_steps"}
    assert not late & load("recipe", "adam").values().keys()
    assert load("recipe", "sam").values()["sharpness"] == 0.05
    assert load("recipe", "sam").values()["cosine"] == {"end": 0.0}
    assert load("recipe", "layerwise").values()["layer_decay"] == 0.75
    assert load("recipe", "head_first").values()["head_first_steps"] == 100


# Optimisers.


def test_an_unknown_optimiser_is_refused_when_the_recipe_is_read(tmp_path):
    with pytest.raises(InvalidInputError, match=r"recipe 'x': optimizer 'lion', expected one of"):
        Recipe("x", "", "lion", lr=1.0)
    path = tmp_path / "x.py"
    path.write_text(
        "from protocols.recipe import Recipe\n\nRECIPE = Recipe('x', '', 'lion', lr=1.0)\n"
    )
    with pytest.raises(PluginError, match=r"'x'.*optimizer 'lion'"):
        Registry((path,)).load("recipe", "x")


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_every_optimiser_that_a_recipe_may_name_can_be_made(name):
    recipe = replace(PLAIN, optimizer=name, weight_decay=0.1)
    optimizer = make_optimizer(recipe, [ParameterGroup("a", [parameter()])])
    assert type(optimizer).__name__.lower() == name
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1]


def test_sgd_is_heavy_ball_momentum_with_coupled_decay():
    recipe = replace(load("recipe", "sgd"), lr=0.1, momentum=0.9, weight_decay=0.5)
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = make_optimizer(recipe, [ParameterGroup("a", [weight])])
    value, speed = 2.0, 0.0
    for slope in (1.0, -3.0, 0.5, 0.0):
        weight.grad = torch.tensor([slope], dtype=torch.float64)
        optimizer.step()
        speed = 0.9 * speed + slope + 0.5 * value
        value -= 0.1 * speed
        assert weight.item() == pytest.approx(value, rel=1e-12)


def test_the_sgd_recipe_warms_up_and_limits_gradients():
    recipe = load("recipe", "sgd")
    schedule = Schedule(recipe, replace(PACE, max_steps=1000, steps_per_epoch=100))
    assert [schedule.factor(step) for step in (0, 49, 99, 100, 999)] == [0.01, 0.5, 1, 1, 1]
    assert (recipe.momentum, recipe.clip, recipe.batch_norm) == (0.9, 10.0, "frozen_stats")


def test_a_plugin_may_train_its_own_weights_at_a_multiple_of_the_recipes_rate(tmp_path):
    path = tmp_path / "hasty.py"
    path.write_text(HASTY)
    built = Registry((path,)).load("method", "hasty")(SPEC)
    optimizer = make_optimizer(replace(PLAIN, lr=1e-3), built.groups())
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {"head": 1e-3, "proxies": pytest.approx(0.1)}


HASTY = '''"""Proxies at a hundred times the recipe's rate."""

from protocols.method import Method, Term
from protocols.methods.proxynca import ProxyNCALoss


class Hasty(Method):
    """ProxyNCA whose proxies follow the recipe's rate."""

    draws = "classes"

    def make_terms(self, spec):
        loss = ProxyNCALoss(spec.classes, spec.embedding_size, scale=9.0)
        return [Term(loss, name="proxies", lr_factor=100.0)]
'''
