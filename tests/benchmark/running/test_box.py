"""The protocols over the sets that ship: what they plan, and that trainings take all steps."""

from dataclasses import replace

import pytest
import torch

from benchmark.cli import make_parser
from benchmark.running.setup import set_up
from benchmark.study import grid
from benchmark.study.folder import CellKey
from benchmark.training.job import Job, execute
from benchmark.training.splits import DataSource
from protocols.discovery import Registry, load
from protocols.protocol import FROZEN_ROWS
from protocols.recipe import Schedule
from protocols.space import defaults
from protocols.specs import box, box_finetune

SETS = ("emoji", "kanji", "products", "objects")
BOTH = {"box": box.PROTOCOL, "box-finetune": box_finetune.PROTOCOL}


def jobs_planned(tmp_path, *words):
    """Return how many trainings a new study plans, by (dataset, method)."""
    args = make_parser().parse_args(["plan", *words, "--out", str(tmp_path / "out")])
    asked = set_up(args)
    plans = grid.progress_of(asked.study, asked.keys)
    return {(item.cell.dataset, item.cell.method): item.jobs_left for item in plans}


def test_box_plans_sixty_trainings_a_method_and_set(tmp_path):
    planned = jobs_planned(tmp_path, "--protocol", "box", "--methods", "triplet,ms")
    each = {"triplet": 60, "ms": 60, "untrained": 20}
    assert planned == {(name, method): jobs for name in SETS for method, jobs in each.items()}


def test_box_finetune_plans_the_rows_that_leave_the_trunk_as_it_is(tmp_path):
    weights = tmp_path / "made.pth"
    weights.write_bytes(b"opened by no plan")
    words = ("--protocol", "box-finetune", "--methods", "triplet", "--weights", str(weights))
    planned = jobs_planned(tmp_path, *words)
    assert {name for name, _ in planned} == set(SETS)
    jobs = {method: left for (name, method), left in planned.items() if name == "objects"}
    assert {"triplet", "pretrained", *FROZEN_ROWS} == set(jobs)
    assert jobs["triplet"] == jobs["linear_probe"] == (5 + 10) * 2
    assert jobs["lda"] == (5 + 1) * 2, "searched like any method, and one run of nothing random"
    assert jobs["untrained"] == 2


@pytest.mark.parametrize("name", BOTH)
def test_ten_seeds_and_the_four_sets(name):
    protocol = load("protocol", name)
    assert protocol == BOTH[name]
    assert (protocol.seeds, protocol.folds, protocol.datasets) == (10, 2, SETS)
    assert set(protocol.datasets) <= set(Registry().names("dataset"))


PHASED = {"ms": [], "group": ["group loss"], "divide_conquer": ["whole embedding", "joined"]}


@pytest.mark.parametrize("method", PHASED)
@pytest.mark.parametrize("name", BOTH)
def test_no_training_ends_early_and_every_phase_begins(name, method):
    protocol, kind = BOTH[name], load("method", method)
    pace = protocol.pace
    phases = kind.phases(defaults(kind.space("kanji")), pace.max_steps, pace.steps_per_epoch)
    assert [phase.name for phase in phases] == PHASED[method]
    schedule = Schedule(load("recipe", protocol.recipe), pace, phases)
    for step in range(0, pace.max_steps, schedule.interval):
        schedule.note_validation(step, 0)  # nothing improves on step 0
        assert schedule.last == pace.max_steps
    assert set(schedule.begun(pace.max_steps)) == set(PHASED[method])


@pytest.mark.parametrize("name", BOTH)
def test_a_training_of_two_steps_under_these_rules(name, tmp_path):
    rules = BOTH[name]
    protocol = replace(rules, pace=replace(rules.pace, max_steps=2, validate_every=2))
    source = DataSource("toy", load("dataset", "toy").digest(), None, tmp_path)
    recipe = load("recipe", protocol.recipe)
    cell = CellKey("made", "toy", protocol.trunk, recipe.name, "triplet", "triplet")
    torch.manual_seed(0)
    record = execute(
        Job(cell, protocol, recipe, "search", 0, 0, {"margin": 0.2}, source, "cpu")
    ).record
    assert (record.status, record.steps, record.detail) == ("done", 2, "")
    assert [entry["step"] for entry in record.history] == [0, 2]
    assert 0 < record.history[-1]["map_at_r"] <= 1
