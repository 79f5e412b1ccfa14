"""The conformance checks look into every phase of a method, not at its first step alone."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize, relu

from protocols.conformance import CHECKS
from protocols.errors import PluginError
from protocols.method import Method, ParameterGroup, Term, Wants
from protocols.phases import Phase, first_step
from protocols.space import Real
from protocols.toy_task import SPEC, build, toy_batches

BY_NAME = {check.__name__.removeprefix("check_"): check for check in CHECKS}


class Plain(Method):
    """A contrastive loss that keeps every rule and has one phase."""

    margin = Real(0.1, 1.0, default=0.5)

    def make_terms(self, spec):
        return [Term(self.loss)]

    def loss(self, z, labels):
        z = normalize(z)
        same = labels[:, None] == labels
        d = (2 - 2 * z @ z.T).clamp(min=1e-6).sqrt()
        return (same * d).mean() + (~same * relu(self.margin - d)).mean()


class TwoPhases(Plain):
    """Adds :meth:`second` from a share of the budget on; here it is as large as nothing."""

    late = Real(0.1, 0.5, default=0.2)

    @classmethod
    def phases(cls, settings, steps, steps_per_epoch):
        return [Phase("second", first_step(settings["late"], steps))]

    def losses(self, views, batch):
        found = super().losses(views, batch)
        if batch.step >= first_step(self.late, self.spec.steps):
            found["second"] = self.second(views["embedding"], batch)
        return found

    def second(self, z, batch):
        return 0.01 * z.pow(2).mean()


class WithProxies(TwoPhases):
    """Learns from pairs in its first phase, from proxies too in its second."""

    draws = "classes"

    def make_terms(self, spec):
        self.proxies = nn.Parameter(torch.randn(spec.classes, spec.embedding_size))
        return super().make_terms(spec)

    def groups(self):
        return [*super().groups(), ParameterGroup("proxies", [self.proxies], lr=0.01)]

    def second(self, z, batch):
        return cross_entropy(normalize(z) @ normalize(self.proxies).T, batch.labels)


class Gradual(WithProxies):
    """Gives its proxies a weight that grows from 0 at the phase's first step."""

    def second(self, z, batch):
        begins = first_step(self.late, self.spec.steps)
        return super().second(z, batch) * (batch.step - begins) / self.spec.steps


class HeadFirst(WithProxies):
    """Leaves the features alone at first."""

    def make_terms(self, spec):
        found = super().make_terms(spec)
        self.scale = nn.Parameter(torch.ones(()))
        return found

    def groups(self):
        return [*super().groups(), ParameterGroup("scale", [self.scale])]

    def losses(self, views, batch):
        early = {name: view.detach() for name, view in views.items()}
        late = batch.step >= first_step(self.late, self.spec.steps)
        return {
            name: v * self.scale
            for name, v in super().losses(views if late else early, batch).items()
        }


class Remembers(TwoPhases):
    """Compares, in its second phase, with the batch before, which the first phase has kept."""

    def losses(self, views, batch):
        found = super().losses(views, batch)
        self.kept = views["embedding"].detach()
        return found

    def second(self, z, batch):
        assert self.kept.numel(), "nothing is kept"
        return 0.01 * (z - self.kept.mean(0)).pow(2).mean()


class Overlong(TwoPhases):
    """May begin its second phase when the budget is over, which a study refuses by itself."""

    late = Real(0.1, 1.0, default=0.2)


class TaughtInTheMiddle(TwoPhases):
    """Imitates its teacher in its second phase, which is over when the third begins."""

    teacher = 0.9

    @classmethod
    def phases(cls, settings, steps, steps_per_epoch):
        begins = first_step(settings["late"], steps)
        return [Phase("imitates", begins), Phase("alone", begins + 2)]

    def losses(self, views, batch):
        found = super().losses(views, batch)
        begins = first_step(self.late, self.spec.steps)
        if begins <= batch.step < begins + 2:
            gap = normalize(views["embedding"]) - normalize(views["teacher/embedding"])
            found["imitation"] = gap.pow(2).mean()
        return found


# Each fault is in a later phase alone.


class InfiniteAtACorner(TwoPhases):
    """Takes the logarithm of a setting that may be 0."""

    m = Real(0.0, 1.0, default=0.5)

    def second(self, z, batch):
        return z.sum() * 0 + torch.log(torch.tensor(self.m))


class InfiniteByDefault(TwoPhases):
    """Divides by 0 whatever the settings."""

    def second(self, z, batch):
        return z.pow(2).mean() / 0


class NanGradient(TwoPhases):
    """Has a finite value whose slope is not."""

    def second(self, z, batch):
        return (z * 0).sum(1).pow(2).sqrt().mean()


class NanWithoutPositives(TwoPhases):
    """Takes the mean over positive pairs, also where there are none."""

    def second(self, z, batch):
        same = (batch.labels[:, None] == batch.labels).fill_diagonal_(False)
        return torch.cdist(normalize(z), normalize(z))[same].mean()


class Forgotten(WithProxies):
    """Has proxies that no phase uses."""

    def second(self, z, batch):
        return 0.01 * z.pow(2).mean()


class Idle(WithProxies):
    """Has proxies with a gradient of 0 in its second phase."""

    def second(self, z, batch):
        return super().second(z, batch) * 0


class VectorLater(TwoPhases):
    """Returns a loss for each row."""

    def losses(self, views, batch):
        late = batch.step >= first_step(self.late, self.spec.steps)
        rows = views["embedding"].pow(2).mean(1)
        return {"rows": rows} if late else super().losses(views, batch)


class InfiniteInTheMiddle(Plain):
    """Is infinite in its fifth and sixth epoch alone, which are a phase."""

    @classmethod
    def phases(cls, settings, steps, steps_per_epoch):
        return [Phase("odd", 4 * steps_per_epoch), Phase("even", 6 * steps_per_epoch)]

    def losses(self, views, batch):
        fine = batch.epoch not in (4, 5)
        return {name: value / fine for name, value in super().losses(views, batch).items()}


class InfiniteAtTheEnd(TwoPhases):
    """Has a weight that is beyond all bounds at the last step."""

    def second(self, z, batch):
        return z.pow(2).mean() / (self.spec.steps - 1 - batch.step)


class WritesLater(TwoPhases):
    """Doubles the embedding in place."""

    def second(self, z, batch):
        return z.detach().mul_(2).mean()


class DrawsLater(TwoPhases):
    """Draws from a generator that nobody has seeded."""

    def second(self, z, batch):
        return z.pow(2).mean() * (1 + torch.Generator().seed() % 1000)


class CutLater(TwoPhases):
    """Reads a parameter without the view that it made, in a loss on two batches."""

    wants = Wants(batches=2)

    def forward(self, features):
        self.kept = self.head(features.vector)
        return {"embedding": self.kept}

    def second(self, z, batch):
        return self.kept.pow(2).mean()


class MixedLater(TwoPhases):
    """Takes the logarithm of a share that can be 0."""

    wants = Wants(mix=True)

    def losses(self, views, batch):
        found, z = super().losses(views, batch), views["embedding"]
        other = self.loss(z, batch.labels[batch.partner])
        return {**found, "loss": batch.share * found["loss"] + (1 - batch.share) * other}

    def second(self, z, batch):
        return batch.share.log()


class HostInTheMiddle(InfiniteInTheMiddle):
    """Makes a tensor on the host in its fifth and sixth epoch alone."""

    def losses(self, views, batch):
        found = Plain.losses(self, views, batch)
        if batch.epoch in (4, 5):
            found["host"] = (views["embedding"] * torch.ones(SPEC.embedding_size)).mean()
        return found


class NoPhases(TwoPhases):
    """Gives None where phases are expected."""

    @classmethod
    def phases(cls, settings, steps, steps_per_epoch):
        return None


class PairsAsPhases(TwoPhases):
    """Gives names with steps where phases are expected."""

    @classmethod
    def phases(cls, settings, steps, steps_per_epoch):
        return [("second", 20)]


FIRST = "at step 10 of 100, where phase 'second' begins"  # at the lower bound of late
SECOND = "at step 20 of 100, where phase 'second' begins"
FAULTS = [
    (InfiniteAtACorner, "finite_at_every_corner", f"-inf for ordinary at .*'m': 0.0.*, {FIRST}"),
    (InfiniteByDefault, "learns_through_every_parameter", f"loss is inf on .* batch, {SECOND}"),
    (NanGradient, "learns_through_every_parameter", f"gradient of .* is not finite, {SECOND}"),
    (NanGradient, "finite_at_every_corner", f"NaN gradient for ordinary at .*, {FIRST}"),
    (NanWithoutPositives, "degenerate_batches", f"loss is nan for labels .*, {SECOND}"),
    (
        Forgotten,
        "learns_through_every_parameter",
        "proxies never learns: it gets no gradient at st",
    ),
    (Idle, "learns_through_every_parameter", "proxies never learns: its gradient is 0 at steps 0,"),
    (VectorLater, "learns_through_every_parameter", rf"must be .* met \(32,\), {SECOND}"),
    (InfiniteInTheMiddle, "learns_through_every_parameter", "step 40 of 100, where phase 'odd'"),
    (InfiniteAtTheEnd, "learns_through_every_parameter", "at step 99 of 100, the last"),
    (WritesLater, "leaves_inputs_alone", "changed view 'embedding' in place"),
    (DrawsLater, "repeats_under_a_seed", f"the same torch seed gave .*, {SECOND}"),
    (CutLater, "parts_are_the_whole", "in parts is .* of its length away|other parameters"),
    (MixedLater, "knows_what_is_mixed", f"loss is -?inf at share 0.0, {SECOND}"),
    (HostInTheMiddle, "runs_on_another_device", r"\(12 float32\)"),
    (NoPhases, "learns_through_every_parameter", "the phases of NoPhases raises TypeError"),
    (PairsAsPhases, "learns_through_every_parameter", "the phases of .* raises AttributeError"),
]


@pytest.mark.parametrize(("fault", "check", "words"), FAULTS)
def test_a_fault_of_a_later_phase_is_found(fault, check, words):
    with pytest.raises((AssertionError, PluginError), match=words):
        BY_NAME[check](fault)


@pytest.mark.parametrize("check", CHECKS, ids=BY_NAME)
@pytest.mark.parametrize(
    "method", [WithProxies, Gradual, HeadFirst, Remembers, Overlong, TaughtInTheMiddle]
)
def test_what_begins_later_keeps_every_rule(method, check):
    check(method)


@pytest.mark.parametrize(
    ("method", "settings", "steps"),
    [
        (Plain, {}, [0]),
        (TwoPhases, {}, [0, 20, 99]),
        (TwoPhases, {"late": 0.45}, [0, 45, 99]),
        (InfiniteInTheMiddle, {}, [0, 40, 60, 99]),
        (Overlong, {"late": 1.0}, [0, 99]),
    ],
)
def test_batches_are_of_the_steps_at_which_something_begins(method, settings, steps):
    batches = [batch for _, batch in toy_batches(build(method, settings))]
    assert [batch.step for batch in batches] == steps
    assert [batch.epoch for batch in batches] == [step // 10 for step in steps]


def test_a_method_without_phases_is_looked_at_no_more_often_than_before(monkeypatch):
    """One loss for each of 2 corners and 4 kinds of features, and for each degenerate batch."""
    steps = []
    original = Plain.losses
    monkeypatch.setattr(
        Plain, "losses", lambda self, v, batch: steps.append(batch.step) or original(self, v, batch)
    )
    BY_NAME["finite_at_every_corner"](Plain)
    BY_NAME["degenerate_batches"](Plain)
    BY_NAME["learns_through_every_parameter"](Plain)
    assert steps == [0] * (2 * 4 + 2 + 1)
