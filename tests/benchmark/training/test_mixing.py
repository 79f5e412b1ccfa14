"""Images are mixed as a method says, and nothing else of a training moves."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from benchmark.study.folder import CellKey
from benchmark.training import pictures, splits, steps
from benchmark.training.first_look import first_look
from benchmark.training.job import Job, execute
from benchmark.training.steps import HostSteps
from protocols.discovery import load
from protocols.errors import PluginError
from protocols.method import Draw, Method, Term, Wants
from protocols.mixing import Mixing, mixed, mixing_of
from protocols.protocol import Pace
from protocols.space import Real
from tests.benchmark.training.test_device_steps import run, same
from tests.benchmark.training.test_resume import killed_at
from tests.benchmark.training.test_resume import same as same_outcome
from tests.emulator import Emulator, as_on_a_device
from tests.made import draws, square, training

PROTOCOL = load("protocol", "toy")
ADAM = replace(load("recipe", "adam"), lr=1e-3)
PACE = Pace(max_steps=12, steps_per_epoch=4, validate_every=6, patience=9)
CODE = '''"""mixture: a classifier of mixed images."""

from protocols.method import Wants
from protocols.methods.nsoftmax import NormalizedSoftmax


class Mixture(NormalizedSoftmax):
    """Weighs the loss of both images."""

    wants = Wants(mix=True{more})

    def losses(self, views, batch):
        (term,) = self.terms
        own, other = (term(views, labels) for labels in (batch.labels, batch.labels[batch.partner]))
        return {{"loss": batch.share * own + (1 - batch.share) * other}}

    def mix_shape(self):
        return {shape}
'''


class Mixture(Method):
    """Pulls an image towards both classes that it shows."""

    wants = Wants(mix=True)
    shape = Real(0.5, 8.0, default=2.0, log=True)

    def mix_shape(self):
        return self.shape

    def make_terms(self, spec):
        return [Term(self.pairs)]

    def losses(self, views, batch):
        (term,) = self.terms
        labels = (batch.labels, batch.labels[batch.partner])
        own, other = (term(views, each) for each in labels)
        return {"loss": batch.share * own + (1 - batch.share) * other}

    def pairs(self, z, labels):
        z, same = normalize(z), (labels[:, None] == labels).float()
        return (z @ z.T - same).square().mean()


class Plain(Mixture):
    """The same on images as they are."""

    wants = Wants()

    def losses(self, views, batch):
        assert batch.partner is None
        assert batch.share is None
        return {term.name: term(views, batch.labels) for term in self.terms}


@pytest.fixture(scope="module")
def train():
    return square(PROTOCOL.image.resize_px)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    return splits.DataSource("toy", load("dataset", "toy").digest(), None, folder)


def job_of(source, path, more="", shape=1.0, stage="search"):
    file = path / "mixture.py"
    file.write_text(CODE.format(more=more, shape=shape), encoding="utf-8")
    cell = CellKey("id", "toy", "tiny", "adam", "mixture", "mixture")
    protocol = replace(PROTOCOL, pace=PACE, eval_batch=256)
    return Job(cell, protocol, ADAM, stage, 0, 0, {}, source, "cpu", (file,))


@pytest.fixture
def whole(monkeypatch):
    """Every share is 1."""
    draw = Mixing.draw
    monkeypatch.setattr(Mixing, "draw", lambda self, rows, rng: (draw(self, rows, rng)[0], 1.0))


def test_a_mixture_is_the_weighted_sum():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (6, 3, 4, 4))).double()
    partner = torch.tensor([3, 1, 0, 5, 4, 2])
    found = mixed(images, partner, torch.tensor(0.7, dtype=torch.float64))
    for row in range(6):
        for own, other, got in zip(
            images[row].ravel(), images[partner[row]].ravel(), found[row].ravel(), strict=True
        ):
            assert float(got) == pytest.approx(0.7 * float(own) + 0.3 * float(other))
    assert torch.equal(found[[1, 4]], images[[1, 4]]), "its own partner stays as it is"


def test_share_1_gives_the_images_own_bits_and_share_0_the_partners():
    images = torch.randn(8, 3, 5, 5)
    partner = torch.arange(8).roll(3)
    assert torch.equal(mixed(images, partner, torch.tensor(1.0)), images)
    assert torch.equal(mixed(images, partner, torch.tensor(0.0)), images[partner])


@pytest.mark.parametrize("part", [0.25, 0.5, 1.0])
def test_partners_are_of_one_permutation_for_a_part_of_the_images(part):
    rng, shares, moved = np.random.default_rng(0), [], []
    for _ in range(400):
        partner, share = Mixing(part, 2.0).draw(16, rng)
        away = np.flatnonzero(partner != np.arange(16))
        assert len(away) <= round(16 * part)
        assert len(np.unique(partner[away])) == len(away)
        shares.append(share)
        moved.append(len(away))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)
    assert np.var(shares) == pytest.approx(1 / 20, abs=0.01)  # of Beta(2, 2)
    assert np.mean(moved) == pytest.approx(15 * part, abs=0.3)  # one in 16 meets itself


@pytest.mark.parametrize("mode", ["host", "device"])
def test_share_1_gives_the_bits_of_no_mixing(train, mode, whole, monkeypatch):
    found = []
    for method in (Mixture, Plain):
        made = training(train, method, recipe=ADAM)
        if mode == "device":
            as_on_a_device(monkeypatch)
            run(made, None, 3)
        else:
            host = HostSteps(made)
            for step, index in zip(range(3), draws(made), strict=False):
                host.take(Draw(index), step, 1.0)
        found.append(list(made.network.state_dict().values()))
    assert same(*found)


def test_crops_are_those_of_every_method(train, monkeypatch):
    """Mixing draws from a stream of its own."""
    seen = []
    monkeypatch.setattr(steps, "mixed", lambda images, *mix: seen.append(images) or images)
    made, plain = (training(train, method, recipe=ADAM) for method in (Mixture, Plain))
    host, other = HostSteps(made), HostSteps(plain)
    for step, index in zip(range(3), draws(made), strict=False):
        host.take(Draw(index), step, 1.0)
        assert torch.equal(other.images(Draw(index)), seen[-1])
    assert len(seen) == 3


def test_a_step_on_mixed_images_is_recorded(train, monkeypatch):
    as_on_a_device(monkeypatch)
    taken, state, losses = run(training(train, Mixture, recipe=ADAM), Emulator())
    _, wanted, losses_wanted = run(training(train, Mixture, recipe=ADAM), None)
    _, unmixed, _ = run(training(train, Plain, recipe=ADAM), None)
    assert taken.how == "graph"
    assert same(state, wanted)
    assert losses == losses_wanted
    assert not same(state, unmixed)


def test_boxes_that_travel_are_mixed_too(train, monkeypatch):
    as_on_a_device(monkeypatch)
    _, wanted, _ = run(training(train, Mixture, recipe=ADAM), None)
    monkeypatch.setattr(pictures, "_memory", lambda device: 0)
    taken, state, _ = run(training(replace(train, made={}), Mixture, recipe=ADAM), Emulator())
    assert taken._inputs.pictures.resident is None
    assert taken.how == "graph"
    assert same(state, wanted)


def test_off_the_cpu_images_are_mixed_as_on_it(train, monkeypatch):
    made, other = (training(train, Mixture, recipe=ADAM) for _ in range(2))
    host, sampler = HostSteps(other), draws(other)
    for step, index in zip(range(4), sampler, strict=False):
        host.take(Draw(index), step, 0.5 + step / 1000)
    as_on_a_device(monkeypatch)
    _, state, losses = run(made, None, 4)
    assert losses["loss"] == pytest.approx(host.means(4)["loss"], rel=1e-4)
    for got, want in zip(state, other.network.state_dict().values(), strict=False):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


def test_what_was_interrupted_goes_on_with_the_same_mixtures(source, tmp_path, monkeypatch):
    made = job_of(source, tmp_path, stage="final")
    whole = execute(made)
    assert whole.record.counts["images_trained"] == 12 * 16
    partial = replace(made, partial=tmp_path / "partial.pt")
    killed_at(monkeypatch, partial, (3, 7))
    outcome = execute(partial)
    assert same_outcome(outcome, whole)
    assert outcome.record.measured["resumed"] == [3, 7]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"more": ", batches=2"}, "mix=True, batches=2.: a loss on several batches sees them one"),
        ({"more": ", batches=0"}, "expected a whole number from 1 on"),
        ({"shape": 0}, r"mix_shape\(\) gives 0, expected a number above 0"),
        ({"shape": "float('nan')"}, r"mix_shape\(\) gives nan, expected a number above 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(source, tmp_path, case, words):
    assert re.search(words, first_look(job_of(source, tmp_path, **case)).problem)
    assert not first_look(job_of(source, tmp_path)).problem


@pytest.mark.parametrize("mix", [-0.1, 1.5, float("nan"), "half"])
def test_a_part_that_is_none_is_refused(mix):
    with pytest.raises(PluginError, match="expected a part of the batch, from 0 to 1"):
        Wants(mix=mix)


def test_most_methods_mix_nothing(train):
    assert mixing_of(training(train, "ms").network.method) is None
