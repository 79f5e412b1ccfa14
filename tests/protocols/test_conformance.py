"""The conformance checks catch planted faults, and leave the process as they found it."""

import contextlib
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import dropout, normalize, relu

from protocols import conformance
from protocols.conformance import CHECKS, ROWS, SPEC, MethodConformance
from protocols.errors import InvalidInputError
from protocols.method import Draw, Group, Method, Term
from protocols.methods.triplet_hard import TripletHard
from protocols.space import Choice, Real

BY_NAME = {check.__name__.removeprefix("check_"): check for check in CHECKS}


def compact(z, labels, margin=0.5):
    """Return a healthy contrastive loss without own parameters, finite for any batch."""
    z = normalize(z)
    same = labels[:, None] == labels
    d = (2 - 2 * z @ z.T).clamp(min=1e-6).sqrt()
    return (same * d).mean() + (~same * relu(margin - d)).mean()


class Healthy(Method):
    """Keeps every rule."""

    margin = Real(0.1, 1.0, default=0.5)

    def make_terms(self, spec):
        return [Term(self.loss)]

    def loss(self, z, labels):
        return compact(z, labels, self.margin)


# Each fault is one change of the healthy method; each names the check that must catch it.


class DeadSetting(Healthy):
    """A hyperparameter that nothing reads."""

    dead = Real(0.0, 1.0, default=0.5)


class NanWithoutPositives(Healthy):
    """Mean over positive pairs, also where there are none."""

    def loss(self, z, labels):
        same = (labels[:, None] == labels).fill_diagonal_(False)
        d = torch.cdist(normalize(z), normalize(z))
        return super().loss(z, labels) + d[same].mean()


class NanWithoutNegatives(Healthy):
    """Mean over negative pairs, also where there are none."""

    def loss(self, z, labels):
        d = torch.cdist(normalize(z), normalize(z))
        return super().loss(z, labels) - d[labels[:, None] != labels].mean()


class ReversedSign(Healthy):
    """Pushes its own class away."""

    def loss(self, z, labels):
        return -super().loss(z, labels)


class Detached(Healthy):
    """Loses the gradient to the features but not to its own parameter."""

    def make_terms(self, spec):
        self.scale = nn.Parameter(torch.ones(()))
        return [Term(self.loss)]

    def loss(self, z, labels):
        return self.scale * super().loss(z.detach(), labels)


class NeverLearns(Healthy):
    """Owns a parameter that the loss does not use."""

    def make_head(self, spec):
        head = super().make_head(spec)
        head.forgotten = nn.Parameter(torch.ones(3))
        return head


class ZeroGradient(Healthy):
    """Owns a parameter whose gradient is always 0."""

    def make_head(self, spec):
        head = super().make_head(spec)
        head.idle = nn.Parameter(torch.ones(()))
        return head

    def loss(self, z, labels):
        return super().loss(z, labels) + 0 * self.head.idle


class InPlaceFeatures(Healthy):
    """Centres its input in place."""

    def forward(self, features):
        with torch.no_grad():
            features.vector.sub_(features.vector.mean())
            features.map.mul_(0.5)
        return super().forward(features)


class InPlaceLabels(Healthy):
    """Renumbers the labels in place."""

    def loss(self, z, labels):
        value = super().loss(z, labels)
        labels.sub_(labels.min() - 1)
        return value


class NumpyRandom(Healthy):
    """Draws from numpy's global generator."""

    def loss(self, z, labels):
        return super().loss(z, labels) * float(1 + np.random.random())


class PythonRandom(Healthy):
    """Draws from Python's global generator."""

    def loss(self, z, labels):
        return super().loss(z, labels) * (1 + random.random())


class FreshGenerator(Healthy):
    """Draws from a generator that nobody seeds."""

    def loss(self, z, labels):
        return super().loss(z, labels) * float(1 + np.random.default_rng().random())


class DefaultOutside(Healthy):
    """Its default was moved out of the range after it was declared."""

    form = Choice(("a", "b"), default="a")
    form.default = "c"


class BatchMates(Healthy):
    """Centres embeddings on the batch, in eval too."""

    def forward(self, features):
        z = self.head(features.vector)
        return {"embedding": z - z.mean(0)}


class LiveNorm(Healthy):
    """A BatchNorm without running statistics uses the batch's in eval."""

    def make_head(self, spec):
        norm = nn.BatchNorm1d(spec.channels, track_running_stats=False)
        return nn.Sequential(norm, nn.Linear(spec.channels, spec.embedding_size))


class DropoutInEval(Healthy):
    """Keeps dropping features in eval."""

    def forward(self, features):
        return {"embedding": self.head(dropout(features.vector, 0.5, training=True))}


class LeaksTrainView(Healthy):
    """Its embedding is made with a layer that belongs to a term, which training alone needs."""

    def make_terms(self, spec):
        term = Term(self.loss)
        term.extra = nn.Linear(spec.embedding_size, spec.embedding_size)
        return [term]

    def forward(self, features):
        z = self.head(features.vector)
        for term in self.terms:
            z = z + term.extra(z)
        return {"embedding": z}


class NoEmbedding(Healthy):
    """Gives its embedding in training only."""

    def forward(self, features):
        name = "embedding" if self.training else "vector"
        return {name: self.head(features.vector)}


class SharedParameter(Healthy):
    """Lists a parameter in two optimiser groups."""

    def groups(self):
        return [*super().groups(), Group("again", [self.head.bias])]


class UngroupedParameter(Healthy):
    """Its groups leave a parameter out."""

    def groups(self):
        return [Group("head", [self.head.weight])]


class FrozenInGroup(Healthy):
    """Groups a parameter that does not train."""

    def make_head(self, spec):
        head = super().make_head(spec)
        head.bias.requires_grad_(False)
        return head

    def groups(self):
        return [Group("head", list(self.head.parameters()))]


class Overflow(Healthy):
    """exp without log-sum-exp: beyond float32 at one end of its range."""

    beta = Real(1.0, 200.0, default=2.0, log=True)

    def loss(self, z, labels):
        z = normalize(z)
        negative = labels[:, None] != labels
        far = (negative * (self.beta * (z @ z.T)).exp()).sum(1).log1p() / self.beta
        return super().loss(z, labels) + far.mean()


class ZeroVector(Healthy):
    """Divides by a length that can be 0."""

    def loss(self, z, labels):
        return super().loss(z, labels) + (z / z.norm(dim=1, keepdim=True)).var()

    def make_head(self, spec):
        return nn.Linear(spec.channels, spec.embedding_size, bias=False)


class PlanOutside(Healthy):
    """Draws the position after the last."""

    def plan(self, epoch, probe, rng):
        for _ in range(SPEC.steps_per_epoch):
            yield Draw([*rng.integers(0, ROWS, 8).tolist(), ROWS])


class PlanNegative(Healthy):
    """Draws from the end, as Python indexing allows."""

    def plan(self, epoch, probe, rng):
        return [Draw([-1, 0, 5, 9])] * SPEC.steps_per_epoch


class PlanOneClass(Healthy):
    """Draws batches of one class."""

    def plan(self, epoch, probe, rng):
        return [Draw([0, 1, 2, 3])] * SPEC.steps_per_epoch


class PlanTooShort(Healthy):
    """Runs out in its second epoch."""

    def plan(self, epoch, probe, rng):
        return [Draw([0, 1, 6, 7])] * (SPEC.steps_per_epoch - epoch)


class PlanEmptyBatch(Healthy):
    """Draws a batch without images."""

    def plan(self, epoch, probe, rng):
        return [Draw([])] * SPEC.steps_per_epoch


class UnsavedState(Healthy):
    """Counts its steps in a plain attribute, which no state dict holds."""

    seen = 0

    def loss(self, z, labels):
        self.seen += 1
        return super().loss(z, labels) * (1 + 1 / self.seen)


class SavedState(Healthy):
    """The same count in a buffer: no fault."""

    def make_terms(self, spec):
        self.register_buffer("seen", torch.zeros(()))
        return super().make_terms(spec)

    def loss(self, z, labels):
        self.seen += 1
        return super().loss(z, labels) * (1 + 1 / self.seen.item())


class Vague(Healthy):
    __doc__ = None


class OddDraws(Healthy):
    """Wants batches of a kind that no sampler makes."""

    draws = "triplets"


class AcceptsAnything(Healthy):
    """Swallows unknown settings."""

    def __init__(self, spec, **settings):
        super().__init__(spec, **{k: v for k, v in settings.items() if k == "margin"})


class VectorLoss(Healthy):
    """Returns a loss for each sample instead of one number."""

    def loss(self, z, labels):
        return compact(z, labels, self.margin).expand(len(z))


FAULTS = [
    (DeadSetting, "every_setting_matters", "dead changes nothing"),
    (NanWithoutPositives, "degenerate_batches", "loss is nan"),
    (NanWithoutNegatives, "degenerate_batches", "loss is nan"),
    (ReversedSign, "pulls_classes_apart", "MAP@R went from"),
    (Detached, "learns_through_every_parameter", "detached from the features"),
    (NeverLearns, "learns_through_every_parameter", "head.forgotten never learns"),
    (ZeroGradient, "learns_through_every_parameter", "head.idle never learns"),
    (VectorLoss, "learns_through_every_parameter", r"must be \(\) tensors"),
    (InPlaceFeatures, "leaves_inputs_alone", "input features in place"),
    (InPlaceLabels, "leaves_inputs_alone", "labels in place"),
    (NumpyRandom, "repeats_under_a_seed", "the same torch seed gave"),
    (PythonRandom, "repeats_under_a_seed", "the same torch seed gave"),
    (FreshGenerator, "repeats_under_a_seed", "the same torch seed gave"),
    (DefaultOutside, "declares_itself", r"form='c': expected a \| b"),
    (Vague, "declares_itself", "docstring"),
    (OddDraws, "declares_itself", "draws='triplets'"),
    (AcceptsAnything, "refuses_unknown_settings", "accepted in silence"),
    (BatchMates, "eval_is_deterministic", "batch mates"),
    (LiveNorm, "eval_is_deterministic", "more than 1 value"),  # torch's own words
    (DropoutInEval, "eval_is_deterministic", "two eval passes differ"),
    (NoEmbedding, "eval_is_deterministic", "'embedding' is missing"),
    (LeaksTrainView, "deploys_without_terms", "embedding changes"),
    (SharedParameter, "groups_cover_parameters_once", "two optimiser groups"),
    (UngroupedParameter, "groups_cover_parameters_once", "no optimiser group holds head.bias"),
    (FrozenInGroup, "groups_cover_parameters_once", "frozen parameter"),
    (Overflow, "finite_at_every_corner", "'beta': 200.0"),
    (ZeroVector, "finite_at_every_corner", "for zero at"),
    (PlanOutside, "plan_stays_inside", "outside the training images"),
    (PlanNegative, "plan_stays_inside", "negative position"),
    (PlanOneClass, "plan_stays_inside", "one-class batch"),
    (PlanTooShort, "plan_stays_inside", "epoch 1: only 9 batches"),
    (PlanEmptyBatch, "plan_stays_inside", "empty batch"),
    (UnsavedState, "state_survives", "after loading the state"),
]


@pytest.mark.parametrize(
    ("fault", "check", "words"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS]
)
def test_planted_fault_is_caught_by_the_check_meant_for_it(fault, check, words):
    with pytest.raises((AssertionError, InvalidInputError, ValueError), match=words):
        BY_NAME[check](fault)


@pytest.mark.parametrize("check", CHECKS, ids=BY_NAME)
@pytest.mark.parametrize("method", [Healthy, SavedState])
def test_healthy_method_keeps_every_rule(method, check):
    check(method)


def test_every_check_is_proven_by_a_fault():
    assert {check for _, check, _ in FAULTS} == set(BY_NAME)


def test_default_outside_its_range_fails_where_it_is_written():
    with pytest.raises(InvalidInputError, match=r"default 3.0 lies outside its bounds \[0.0, 1.0"):

        class Wrong(Healthy):
            """Never comes to be."""

            margin = Real(0.0, 1.0, default=3.0)


# The process is left as it was.


def random_states():
    numpy = [np.asarray(part).tolist() for part in np.random.get_state()]
    return random.getstate(), numpy, torch.get_rng_state().tolist()


@pytest.mark.parametrize("check", CHECKS, ids=BY_NAME)
@pytest.mark.parametrize("method", [TripletHard, NumpyRandom, PythonRandom, DropoutInEval])
def test_checks_leave_global_random_state_alone(check, method):
    before = random_states()
    with contextlib.suppress(AssertionError):  # a fault that is found must not leak either
        check(method)
    assert random_states() == before


def test_a_method_that_writes_to_its_labels_does_not_spoil_the_next_check():
    for name in ("leaves_inputs_alone", "degenerate_batches", "pulls_classes_apart"):
        with contextlib.suppress(AssertionError):
            BY_NAME[name](InPlaceLabels)
    assert SPEC.labels.tolist() == sorted(list(range(8)) * 4)
    assert conformance.toy_labels().tolist() == SPEC.labels.tolist()


@pytest.mark.parametrize("name", ["pulls_classes_apart", "learns_through_every_parameter"])
def test_verdict_does_not_depend_on_global_random_state(name, monkeypatch):
    """The same numbers are met from any state of the generators."""
    met = []
    original = conformance.loss_of

    def recorded(*args):
        value = original(*args)
        met.append(value.item())
        return value

    monkeypatch.setattr(conformance, "loss_of", recorded)
    for _ in range(2):
        torch.rand(7)
        np.random.random(3)
        BY_NAME[name](Healthy)
    half = len(met) // 2
    assert half >= 1
    assert met[:half] == met[half:]


def test_checks_keep_their_names_and_claims():
    for check in CHECKS:
        assert check.__name__.startswith("check_")
        assert check.__doc__
        assert getattr(conformance, check.__name__) is check


def test_healthy_corners_are_the_product_of_the_axes():
    class Two(Healthy):
        """Two axes."""

        form = Choice(("a", "b", "c"), default="a")

    assert len(conformance.corners(Two)) == 2 * 3
    assert {"margin": 0.1, "form": "c"} in conformance.corners(Two)


def test_toy_features_are_fresh_non_negative_and_always_the_same():
    first = conformance.toy_features()
    assert first.min() >= 0
    assert torch.equal(first, conformance.toy_features())
    first.zero_()
    assert conformance.toy_features().abs().sum() > 0


# As a pytest class, the way a plugin's own test file uses it.


class TestHealthy(MethodConformance):
    method = Healthy


PLUGIN_TESTS = """
from protocols.conformance import MethodConformance
from tests.protocols.test_conformance import Healthy, ReversedSign


class TestGood(MethodConformance):
    method = Healthy


class TestBad(MethodConformance):
    method = ReversedSign
"""


class Outcomes:
    """A pytest plugin that writes down what ran."""

    def __init__(self):
        self.met = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.met[report.nodeid.split("::", 1)[1]] = report.outcome


def test_a_plugins_own_test_file_runs_every_check_by_name(tmp_path, capsys):
    path = tmp_path / "test_plugin.py"
    path.write_text(PLUGIN_TESTS)
    config = tmp_path / "pytest.ini"
    config.write_text("[pytest]\n")
    outcomes = Outcomes()
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", str(config)]
    code = pytest.main([*options, str(path)], plugins=[outcomes])
    printed = capsys.readouterr().out
    assert code == pytest.ExitCode.TESTS_FAILED, printed
    expected = {f"{cls}::test_{name}" for cls in ("TestGood", "TestBad") for name in BY_NAME}
    assert set(outcomes.met) == expected
    failed = {name for name, outcome in outcomes.met.items() if outcome != "passed"}
    assert failed == {"TestBad::test_pulls_classes_apart"}
    assert "MAP@R went from" in printed


def test_conformance_tests_tell_their_claim():
    for name, check in BY_NAME.items():
        assert getattr(MethodConformance, f"test_{name}").__doc__ == check.__doc__
