"""A teacher follows its network, costs what it costs, and is nowhere that embeds."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from benchmark.models import networks
from benchmark.study.folder import CellKey
from benchmark.training import splits
from benchmark.training.device_steps import DeviceSteps
from benchmark.training.first_look import first_look
from benchmark.training.fit import make_steps
from benchmark.training.job import Job, execute
from benchmark.training.kept import embedding_state
from benchmark.training.steps import HostSteps, Parts, batch_of
from protocols.discovery import Registry, load
from protocols.errors import InvalidInputError, PluginError
from protocols.method import Draw, Term, Wants
from protocols.methods.supcon import SupCon
from protocols.methods.untrained import Untrained
from protocols.optimizer import make_optimizer
from protocols.protocol import Pace
from protocols.space import Real
from protocols.teacher import Teacher
from tests.benchmark.training.test_device_steps import run, same
from tests.benchmark.training.test_resume import killed_at
from tests.benchmark.training.test_resume import same as same_outcome
from tests.emulator import Emulator, as_on_a_device
from tests.made import draws, square, training

PROTOCOL = load("protocol", "toy")
FROZEN = replace(load("recipe", "adam"), lr=1e-3, batch_norm="frozen_stats")
PACE = Pace(max_steps=12, steps_per_epoch=4, validate_every=6, patience=9)
CODE = '''"""taught: SupCon near a slow copy of itself."""

from torch.nn.functional import normalize

from protocols.method import Term, Wants
from protocols.methods.supcon import SupCon


class Taught(SupCon):
    """Stays near its teacher."""

    teacher = {teacher}
    wants = Wants(batches={batches})

    def make_terms(self, spec):
        both = ("embedding", "teacher/embedding")
        return [*super().make_terms(spec), Term(self.near, on=both, name="near", weight=5.0)]

    def near(self, z, taught, labels):
        return (normalize(z) - normalize(taught)).square().sum(1).mean()
'''


class Taught(SupCon):
    """Stays near its teacher, by a searched momentum."""

    momentum = Real(0.5, 1.0, default=0.9)

    def make_terms(self, spec):
        self.teacher = self.momentum
        both = ("embedding", "teacher/embedding")
        return [*super().make_terms(spec), Term(self.near, on=both, name="near", weight=5.0)]

    def near(self, z, taught, labels):
        return (normalize(z) - normalize(taught)).square().sum(1).mean()


@pytest.fixture(scope="module")
def train():
    return square(PROTOCOL.image.resize_px)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    return splits.DataSource("toy", load("dataset", "toy").digest(), None, folder)


def job_of(source, path, teacher=0.9, batches=1, stage="search", recipe=FROZEN):
    file = path / "taught.py"
    file.write_text(CODE.format(teacher=teacher, batches=batches), encoding="utf-8")
    cell = CellKey("id", "toy", "tiny", "adam", "taught", "taught")
    protocol = replace(PROTOCOL, pace=PACE, eval_batch=256)
    return Job(cell, protocol, recipe, stage, 0, 0, {}, source, "cpu", (file,), keep=True)


def test_an_average_of_0_then_1_and_1(train):
    """Worked by hand: 0, 0.1, 0.9 * 0.1 + 0.1."""
    network = training(train, Taught, recipe=FROZEN, momentum=0.9).network
    weight, own = network.method.head.weight, network.teacher.method.head.weight
    with torch.no_grad():
        weight.zero_()
        network.begin()
        assert own.unique().tolist() == [0.0]
        weight.fill_(1.0)
    for expected in (0.1, 0.19):
        network.follow()
        assert own.unique().tolist() == pytest.approx([expected])
    assert weight.unique().tolist() == [1.0]


def test_statistics_are_the_students_own(train):
    network = training(train, Taught, recipe=FROZEN).network
    layer = network.trunk.stages[0][2]
    layer.running_mean.fill_(3.0)
    network.follow()
    assert network.teacher.trunk.stages[0][2].running_mean.unique().tolist() == [3.0]


def test_only_training_sees_it(train):
    network = training(train, Taught, recipe=FROZEN).network
    pixels = 255 * torch.rand(4, 3, 16, 16)
    views = network(pixels)
    assert set(views) == {"embedding", "teacher/embedding"}
    assert torch.equal(views["embedding"], views["teacher/embedding"])
    assert not views["teacher/embedding"].requires_grad
    assert set(network.eval()(pixels)) == {"embedding"}
    own = {id(p) for p in network.teacher.parameters()}
    assert not own & {id(p) for group in network.groups() for p in group.parameters}
    assert not own & {id(p) for p in network.deployed(16)}
    assert not [n for n in embedding_state(network, 16) if n.startswith("teacher")]


def test_the_students_gradient_is_that_of_constant_targets(train):
    made = training(train, Taught, recipe=FROZEN)
    network, index = made.network, next(draws(made))
    with torch.no_grad():  # a teacher that is elsewhere
        network.teacher.method.head.weight.mul_(0.5).add_(0.1)
    pixels = 255 * torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    batch = replace(batch_of(made, Draw(index), 0), labels=torch.from_numpy(made.labels[index]))
    found = []
    for constant in (False, True):
        views = network(pixels)
        if constant:
            rows = views["teacher/embedding"].tolist()
            views["teacher/embedding"] = torch.tensor(rows)
        network.zero_grad()
        sum(network.method.losses(views, batch).values()).backward()
        found.append([p.grad for p in network.parameters() if p.grad is not None])
    assert same(*found)
    assert all(p.grad is None for p in network.teacher.parameters())


def test_it_drops_nothing_and_takes_no_statistics(train):
    class Drops(Taught):
        """Drops half of the embedding."""

        def make_head(self, spec):
            return nn.Sequential(super().make_head(spec), nn.Dropout(0.5))

    network = training(train, Drops, recipe=FROZEN).network
    network.eval().train()
    pixels = 255 * torch.rand(4, 3, 16, 16)
    first, second = network(pixels), network(pixels)
    assert not torch.equal(first["embedding"], second["embedding"])
    assert torch.equal(first["teacher/embedding"], second["teacher/embedding"])


def test_it_starts_from_what_the_method_has_fitted(train):
    made = training(train, Taught, recipe=FROZEN)
    with torch.no_grad():
        made.network.method.head.weight.fill_(2.0)  # as prepare() may
    make_steps(made)
    assert made.network.teacher.method.head.weight.unique().tolist() == [2.0]


@pytest.mark.parametrize("momentum", [0.5, 1.0])
def test_a_step_with_a_teacher_is_recorded(train, monkeypatch, momentum):
    as_on_a_device(monkeypatch)
    made = {"recipe": FROZEN, "momentum": momentum}
    taken, state, losses = run(training(train, Taught, **made), Emulator())
    other = training(train, Taught, **made)
    _, wanted, losses_wanted = run(other, None)
    assert taken.how == "graph"
    assert same(state, wanted)
    assert losses == losses_wanted
    assert losses["near"] > 0
    moved = other.network.teacher.method.head.weight != other.network.method.head.weight
    assert moved.any()


def test_off_the_cpu_it_follows_as_on_it(train, monkeypatch):
    as_on_a_device(monkeypatch)
    made, other = (training(train, Taught, recipe=FROZEN) for _ in range(2))
    run(made, None, 4)
    host, sampler = HostSteps(other), draws(other)
    for step, index in zip(range(4), sampler, strict=False):
        host.take(Draw(index), step, 0.5 + step / 1000)
    found = made.network.teacher.state_dict()
    for name, value in other.network.teacher.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def test_two_passes_see_the_same_teacher(train):
    large = type("Large", (Taught,), {"__doc__": "Larger.", "wants": Wants(batches=4)})
    made = training(train, large, batch=8, recipe=FROZEN)
    network = made.network.double()
    index = next(draws(training(train, Taught, batch=32, recipe=FROZEN)))
    pixels = 255 * torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    batch = replace(batch_of(made, Draw(index), 0), labels=torch.from_numpy(made.labels[index]))
    with torch.no_grad():
        network.teacher.method.head.weight.mul_(0.5).add_(0.1)
    optimizer = make_optimizer(made.recipe, network.groups())
    images = [lambda n=n: pixels[8 * n : 8 * n + 8] for n in range(4)]
    Parts(made).gradients(optimizer, images, batch)
    cut = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    sum(network.method.losses(network(pixels), batch).values()).backward()
    whole = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert cut.keys() == whole.keys()
    for name, gradient in whole.items():  # losses are computed in float32
        assert (cut[name] - gradient).norm() <= 2e-5 * gradient.norm(), name


@pytest.mark.parametrize(("batches", "forward"), [(1, 1), (2, 3)])
def test_its_forward_passes_count(source, tmp_path, batches, forward):
    record = execute(job_of(source, tmp_path, batches=batches)).record
    assert record.status == "done", record.detail
    _, validation = splits.open_fold(source, replace(PROTOCOL, pace=PACE), 0)
    counts = record.counts
    assert counts["images_trained"] == counts["images_protocol"] == 12 * 16
    assert counts["images_embedded"] == 3 * len(validation) + forward * 12 * 16
    assert counts["parameters_deployed"] == counts["parameters_trained"]


def test_what_was_interrupted_goes_on_with_its_teacher(source, tmp_path, monkeypatch):
    made = job_of(source, tmp_path, teacher=0.5, stage="final")
    whole = execute(made)
    partial = replace(made, partial=tmp_path / "partial.pt")
    killed_at(monkeypatch, partial, (3, 7))
    outcome = execute(partial)
    assert same_outcome(outcome, whole)
    assert outcome.record.measured["resumed"] == [3, 7]


def test_another_teacher_gives_another_training(source, tmp_path):
    """Or the test above would not see one that is lost."""
    found = [execute(job_of(source, tmp_path, teacher=m)).record.history for m in (0.5, 0.9)]
    assert found[0] != found[1]


def test_what_is_kept_and_built_again_has_none(source, tmp_path):
    made = job_of(source, tmp_path, stage="final")
    fold = networks.unpacked(execute(made).weights, "weights")
    assert not [name for name in fold.state if "teacher" in name]
    network = networks.rebuild(fold, Registry(made.plugins))
    assert network.teacher is None
    assert not [name for name in network.state_dict() if "teacher" in name]


def test_live_batch_norm_is_refused_before_anything_starts(source, tmp_path):
    live = job_of(source, tmp_path, recipe=replace(FROZEN, batch_norm="live"))
    problem = first_look(live).problem
    assert "it has a teacher" in problem
    assert "trunk.stages.0.2 is live. Take a recipe whose batch_norm is frozen_stats" in problem
    named = re.search(r"\(--recipes (\w+)\)", problem)
    assert named, problem
    kept = load("recipe", named[1])  # a recipe that works, as the message says
    assert not first_look(job_of(source, tmp_path, recipe=kept)).problem
    assert not first_look(job_of(source, tmp_path)).problem


@pytest.mark.parametrize("teacher", ["1.5", "True", "-0.1", "float('nan')", "'0.9'"])
def test_a_momentum_that_is_none_is_refused_before_anything_starts(source, tmp_path, teacher):
    problem = first_look(job_of(source, tmp_path, teacher=teacher)).problem
    assert "expected a momentum from 0 to 1" in problem


def test_what_takes_no_step_has_no_teacher(train):
    method = type("Taught", (Untrained,), {"__doc__": "Taught.", "teacher": 0.9})
    with pytest.raises(PluginError, match="it takes none"):
        training(train, method)


def test_a_batch_norm_of_the_method_is_live_under_every_recipe(train):
    class Normed(Taught):
        """Normalises by the batch."""

        def make_head(self, spec):
            return nn.Sequential(super().make_head(spec), nn.BatchNorm1d(spec.embedding_size))

    with pytest.raises(InvalidInputError, match=r"method\.head\.1 is live"):
        training(train, Normed, recipe=FROZEN)


def test_it_has_no_terms(train):
    network = training(train, Taught, recipe=FROZEN).network
    assert isinstance(network.teacher, Teacher)
    assert len(network.method.terms) == 2
    assert not any(isinstance(module, Term) for module in network.teacher.modules())


def test_how_a_teachers_steps_are_taken_on_a_device(train, monkeypatch):
    """A device without a recorder says so, as for every method."""
    as_on_a_device(monkeypatch)
    assert DeviceSteps(training(train, Taught, recipe=FROZEN), None).how.startswith("eager: ")
