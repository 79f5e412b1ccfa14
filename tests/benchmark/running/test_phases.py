"""Phases under the paper's own pace: every method and recipe gets to what it is named for."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.running.phases import timetable
from protocols.discovery import load
from protocols.errors import InvalidInputError
from protocols.protocol import Pace
from protocols.recipe import Schedule
from protocols.specs import emoji, finetune, quick, reality_check, toy
from protocols.toy_task import SPEC, as_features, build, toy_batch, toy_features

CUB, CARS, SOP = reality_check.CUB, reality_check.CARS, reality_check.SOP
PAPER = {"cub200": CUB, "cars196": CARS, "sop": SOP}


def stops(method, settings, recipe, pace):
    """Return the step at which a training that never improves ends, and what it began."""
    phases = load("method", method).phases(settings, pace.max_steps, pace.steps_per_epoch)
    schedule = Schedule(load("recipe", recipe), pace, phases)
    for step in range(0, pace.max_steps + 1, schedule.interval):
        schedule.note_validation(step, 0)
        if step >= schedule.last:
            return step, schedule.begun(step)
    raise AssertionError("it never ended")


@pytest.mark.parametrize("pace", PAPER.values(), ids=PAPER)
def test_under_the_papers_pace_patience_ends_no_training_before_its_last_phase(pace):
    step, begun = stops("group", {"warm_start": 0.125}, "paper", pace)
    assert begun == {"group loss": 12_500}
    assert 12_500 < step < 100_000
    settings = {"learners": 4, "finetune": 0.3}
    step, begun = stops("divide_conquer", settings, "paper", pace)
    assert begun == {"whole embedding": 12_700, "joined": 30_000}
    assert 30_000 < step < 100_000
    for recipe, begins in (("trinet", 60_000), ("group", 42_858)):
        step, begun = stops("ms", {}, recipe, pace)
        assert begun == {"decay": begins}
        assert step > begins
        assert load("recipe", recipe).decay
    assert stops("ms", {}, "paper", pace) == ((pace.patience + 1) * pace.validate_every, {})


@pytest.mark.parametrize("steps", [80, 100, 55, 10])
@pytest.mark.parametrize("finetune", [0.2, 0.3, 0.5, 0.95])
def test_divide_and_conquer_is_joined_at_the_step_it_says(steps, finetune):
    method = load("method", "divide_conquer")
    spec = replace(SPEC, steps=steps)
    built = method(spec, learners=2, finetune=finetune)
    phases = {p.name: p.begins for p in method.phases(built.settings, steps, 10)}
    rng, epochs = np.random.default_rng(0), -(-steps // 10)
    vectors = as_features(toy_features()).vector.numpy()
    planned = [built.plan(epoch, lambda view: vectors, rng) is None for epoch in range(epochs)]
    assert planned.index(True) * 10 == phases["joined"]
    views = {"embedding": built(as_features(toy_features()))["embedding"].detach()}
    seen = []
    built._terms()[0].forward = lambda views, labels: seen.append(views["embedding"].shape[1])
    for epoch in range(epochs):
        batch = replace(toy_batch(), group=0, epoch=epoch, step=10 * epoch)
        built.losses(views, batch)
    assert seen.index(SPEC.embedding_size) * 10 == min(phases["whole embedding"], 10 * epochs)


@pytest.mark.parametrize("share", [0.125, 0.0])
def test_the_group_loss_begins_at_the_step_it_says(share):
    method = load("method", "group")
    built = build(method, {"warm_start": share})
    (phase,) = method.phases(built.settings, SPEC.steps, SPEC.steps_per_epoch)
    views = {"embedding": built(as_features(toy_features()))["embedding"]}
    with_group = []
    built._terms()[0].forward = lambda views, labels: with_group.append(step) or views["embedding"]
    for step in range(SPEC.steps):
        built.losses(views, replace(toy_batch(), step=step))
    assert with_group == list(range(phase.begins, SPEC.steps))


def test_a_timetable_ranges_over_what_the_search_may_try():
    group = load("method", "group")
    table = timetable(group, group.space("cub200"), load("recipe", "paper"), CUB)
    assert table.begins == {"group loss": (0, 12_500)}
    assert table.earliest_stop == (1000, 13_400)
    divided = load("method", "divide_conquer")
    table = timetable(divided, divided.space("cub200"), load("recipe", "group"), CUB)
    assert table.begins["joined"] == (0, 95_000)
    assert table.begins["decay"] == (42_858, 42_858)
    averaged = timetable(group, group.space("cub200"), load("recipe", "swa"), CUB)
    assert averaged.begins["averaging"] == (75_000, 75_000)
    with pytest.raises(InvalidInputError, match="averages weights at step 75000"):
        timetable(divided, divided.space("cub200"), load("recipe", "swa"), CUB)


@pytest.mark.parametrize("spec", [emoji, finetune, quick, reality_check, toy])
def test_every_method_fits_every_protocol_that_ships(spec):
    protocol = spec.PROTOCOL
    paces = (protocol.pace, *protocol.paces.values())
    for name, pace in itertools.product(("group", "divide_conquer", "triplet_hard", "ms"), paces):
        method = load("method", name)
        for recipe in (protocol.recipe, "trinet", "group"):
            table = timetable(method, method.space("cub200"), load("recipe", recipe), pace)
            assert table.earliest_stop[1] <= pace.max_steps


LATE = '''
"""A method whose second loss begins with the last step and one more."""
from protocols.methods.ms import *
from protocols.methods import ms
from protocols.phases import Phase


class Late(next(v for v in vars(ms).values() if getattr(v, "__module__", "") == ms.__name__)):
    """Late."""

    @classmethod
    def phases(cls, settings, steps, steps_per_epoch):
        return (Phase("second loss", steps),)
'''


def test_a_study_is_refused_in_one_line_before_it_starts(tmp_path, capsys):
    (tmp_path / "late.py").write_text(LATE)
    words = ("--plugin", str(tmp_path / "late.py"), "--methods", "late", "--protocol", "toy")
    out = tmp_path / "out"
    assert main(["run", *words, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert (
        "late on toy (tiny, adam): phase 'second loss' begins at step 40, but training ends" in line
    )
    assert not (out / "records").exists()
    pace = Pace(max_steps=40, steps_per_epoch=5, validate_every=20, patience=1)
    assert toy.PROTOCOL.pace == pace
