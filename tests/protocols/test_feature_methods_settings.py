"""Published settings, warm start and recipes of the methods that came with code."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from protocols.conformance import SPEC, as_features, build, toy_batch, toy_features
from protocols.discovery import Registry, load
from protocols.errors import InvalidInputError
from protocols.methods.divide_conquer import DivideConquer
from protocols.methods.group import Group
from protocols.methods.triplet_hard import TripletHard
from protocols.optimizer import make_optimizer
from protocols.protocol import Pace
from protocols.recipe import Cycle, Recipe, Schedule
from protocols.space import declared, defaults


@pytest.mark.parametrize(
    ("dataset", "temperature", "anchors"),
    [("cub200", 24.0, 2), ("cars196", 79.0, 3), ("sop", 54.0, 2), ("emoji", 24.0, 2)],
)
def test_group_starts_from_its_published_settings(dataset, temperature, anchors):
    first = defaults(Group.space(dataset))
    assert (first["temperature"], first["anchors"]) == (temperature, anchors)
    assert (first["iterations"], first["ce_weight"], first["warm_start"]) == (1, 1.0, 0.125)
    assert defaults(declared(Group))["temperature"] == 24.0, "other datasets keep theirs"


def test_divide_and_conquer_starts_from_its_published_settings():
    assert defaults(DivideConquer.space("sop"))["learners"] == 8
    assert defaults(DivideConquer.space("inshop"))["finetune"] == 0.95
    first = defaults(DivideConquer.space("cub200"))
    assert (first["learners"], first["finetune"], first["every"]) == (4, 0.3, 2)
    assert (first["boundary"], first["margin"]) == (1.2, 0.2)


@pytest.mark.parametrize("name", Registry().names("method"))
def test_published_settings_lie_inside_the_space(name):
    method = load("method", name)
    for dataset, settings in method.published.items():
        space = method.space(dataset)
        for key, value in settings.items():
            assert space[key].accept(value) == space[key].default == value


def test_the_warm_start_classifies_only_and_then_the_group_loss_joins():
    method = build(Group, {"warm_start": 0.125})  # of 100 steps
    views = method(as_features(toy_features()))
    batch = toy_batch()
    values = {
        step: method.losses(views, replace(batch, step=step))["loss"].item()
        for step in (0, 12, 13, 99)
    }
    logits = method.terms[0].loss.classifier(views["embedding"])
    alone = cross_entropy(logits, batch.labels).item()
    whole = method.terms[0].loss(views["embedding"], batch.labels).item()
    assert alone < whole
    assert values == {0: alone, 12: alone, 13: whole, 99: whole}
    cold = build(Group, {"warm_start": 0.0})
    assert cold.losses(views, replace(batch, step=0))["loss"].item() == pytest.approx(whole)


def test_the_published_head_of_batch_hard():
    spec = replace(SPEC, channels=2048, embedding_size=128)
    first, norm, relu, last = TripletHard(spec).head
    assert (first.in_features, first.out_features, last.out_features) == (2048, 1024, 128)
    assert isinstance(relu, nn.ReLU)
    assert (norm.eps, norm.momentum) == (1e-5, 0.1)  # the paper's 0.9 is the share that is kept
    gram = last.weight @ last.weight.T
    torch.testing.assert_close(gram, torch.eye(128), atol=1e-5, rtol=0)
    assert isinstance(TripletHard(spec, hidden=False).head, nn.Linear)


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
    optimizer = make_optimizer(recipe, build(Group).groups())
    assert isinstance(optimizer, torch.optim.RAdam)
    assert optimizer.param_groups[0]["lr"] == 1.5636637e-4
    assert optimizer.param_groups[0]["weight_decay"] == 6.0597226e-6


def test_two_rules_for_one_rate_are_refused_and_old_recipes_keep_their_values():
    decay = load("recipe", "trinet").decay
    with pytest.raises(InvalidInputError, match="both set the rate"):
        Recipe("x", "", "adam", 1e-3, cycle=Cycle(1), decay=decay)
    assert "decay" not in load("recipe", "adam").values()
    assert load("recipe", "trinet").values()["decay"]["factor"] == 0.001
