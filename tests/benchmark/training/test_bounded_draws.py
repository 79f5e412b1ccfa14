"""Every method trains on as many images: draws are bounded, and larger losses pay for theirs."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmark.study.folder import CellKey
from benchmark.tables import costs
from benchmark.training import job, keeper, splits
from benchmark.training.device_steps import DeviceSteps
from benchmark.training.draws import Draws, Probe, Streams
from benchmark.training.first_look import first_look
from benchmark.training.gradients import Gradients
from benchmark.training.job import Job, build_network, execute
from benchmark.training.keeper import Clock, Keeper
from benchmark.training.steps import HostSteps, Parts, Training, batch_of
from protocols.discovery import load
from protocols.errors import InvalidInputError, PluginError
from protocols.method import Draw, Wants
from protocols.methods.proxy_anchor import ProxyAnchor
from protocols.methods.recall_at_k import RecallAtK
from protocols.methods.triplet import Triplet
from protocols.optimizer import make_optimizer
from protocols.protocol import Pace
from tests.benchmark.training.test_resume import Killed, same
from tests.emulator import Emulator, as_on_a_device
from tests.made import draws, square, training

PROTOCOL = load("protocol", "toy")
FROZEN = replace(load("recipe", "adam"), lr=1e-3, batch_norm="frozen_stats")
LARGE = '''"""greedy: triplet loss on several of the protocol's batches."""

from protocols.method import Wants
from protocols.methods.triplet import Triplet


class Greedy(Triplet):
    """Sees {batches} batches at once."""

    wants = Wants(batches={batches}, images_per_class=8)
'''
GREEDY = '''"""greedy: triplet loss on more images than the protocol's."""

from protocols import batches
from protocols.method import Draw
from protocols.methods.triplet import Triplet


class Greedy(Triplet):
    """Draws six times as many."""

    def plan(self, epoch, probe, rng):
        size = {size} * self.spec.batch_size
        for index in batches.balanced(self.spec.labels, size, 4, rng):
            yield Draw(index)
'''


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    return splits.DataSource("toy", load("dataset", "toy").digest(), None, folder)


def job_of(source, path, code, **changes):
    """Return a first job of the method in ``code``."""
    file = path / "greedy.py"
    file.write_text(code, encoding="utf-8")
    cell = CellKey("id", "toy", "tiny", "adam", "greedy", "greedy")
    protocol = replace(PROTOCOL, **changes)
    return Job(cell, protocol, FROZEN, "search", 0, 0, {}, source, "cpu", (file,))


def test_a_plan_of_more_images_than_the_protocols_is_refused_by_name(source, tmp_path):
    made = job_of(source, tmp_path, GREEDY.format(size="(1 if epoch < 2 else 3)"))
    record = execute(made).record
    assert (record.status, record.reason) == ("failed", "error")
    images = PROTOCOL.batch_size
    expected = f"plan of epoch 2: a batch of {3 * images} images, expected at most {images}"
    assert expected in record.detail


def test_it_is_seen_before_anything_starts(source, tmp_path):
    made = job_of(source, tmp_path, GREEDY.format(size="3"))
    assert f"a batch of {3 * PROTOCOL.batch_size} images" in first_look(made).problem
    assert not first_look(job_of(source, tmp_path, GREEDY.format(size="1"))).problem


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_larger_losses_see_as_many_images_in_fewer_steps(source, tmp_path, batches, monkeypatch):
    steps, take = [], HostSteps.take

    def counted(self, draw, step, factor):
        steps.append((step, len(draw.index)))
        take(self, draw, step, factor)

    monkeypatch.setattr(HostSteps, "take", counted)
    pace = Pace(max_steps=12, steps_per_epoch=4, validate_every=6, patience=9)
    made = job_of(source, tmp_path, LARGE.format(batches=batches), pace=pace)
    record = execute(made).record
    assert record.status == "done", record.detail
    assert [row["step"] for row in record.history] == [0, 6, 12]
    assert steps == [(n, 16 * batches) for n in range(batches - 1, 12, batches)]
    counts = record.counts
    assert counts["images_trained"] == counts["images_protocol"] == 12 * 16
    _, validation = splits.open_fold(source, made.protocol, 0)
    twice = 12 * 16 if batches > 1 else 0
    assert counts["images_embedded"] == 3 * len(validation) + twice


def test_losses_are_means_over_the_steps_that_were_taken(source, tmp_path, monkeypatch):
    losses, of_step = [], Gradients.of_step

    def noted(self, step, evaluate):
        found = of_step(self, step, evaluate)
        losses.append(found["loss"].item())
        return found

    monkeypatch.setattr(Gradients, "of_step", noted)
    pace = Pace(max_steps=10, steps_per_epoch=5, validate_every=5, patience=9)
    history = execute(job_of(source, tmp_path, LARGE.format(batches=3), pace=pace)).record.history
    assert len(losses) == 3
    assert history[1]["loss/loss"] == pytest.approx(losses[0])
    assert history[2]["loss/loss"] == pytest.approx((losses[1] + losses[2]) / 2)


def test_what_was_interrupted_goes_on_bit_for_bit(source, tmp_path, monkeypatch):
    """Also between the batches that one step costs, and in the middle of an epoch."""
    pace = Pace(max_steps=24, steps_per_epoch=5, validate_every=12, patience=9)
    made = job_of(source, tmp_path, LARGE.format(batches=3), pace=pace)
    made, due, clock = replace(made, partial=tmp_path / "partial.pt"), Draws.due, Clock("cpu")

    def until(self, step):
        if step == 9:
            monkeypatch.setattr(keeper, "EVERY_S", 0.0)
        if step == 10:
            raise Killed
        return due(self, step)

    monkeypatch.setattr(Draws, "due", until)
    with pytest.raises(Killed):
        job._go_on(made, Keeper(made.partial, made.id, "cpu", clock), clock)
    monkeypatch.setattr(Draws, "due", due)
    monkeypatch.setattr(keeper, "EVERY_S", math.inf)
    outcome = execute(made)
    assert same(outcome, execute(replace(made, partial=None)))
    assert outcome.record.measured["resumed"] == [10]


def large(method, batches, **wants):
    """Return the method with a loss on so many batches."""
    words = {"__doc__": "Larger.", "wants": replace(method.wants, batches=batches, **wants)}
    return type("Large", (method,), words)


@pytest.mark.parametrize("method", [RecallAtK, ProxyAnchor, Triplet])
def test_two_passes_give_the_gradients_of_one(method):
    """The whole batch at once is computed here in float64, apart from the code that cuts it."""
    train = square(PROTOCOL.image.resize_px)
    made = training(train, large(method, 4), batch=8, recipe=FROZEN)
    network = made.network.double()
    index = next(draws(training(train, Triplet, batch=32)))
    pixels = 255 * torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    parts = Parts(made)
    batch = replace(
        batch_of(made, Draw(index), 0),
        labels=torch.from_numpy(made.labels[index]),
        index=torch.from_numpy(index),
    )
    optimizer = make_optimizer(made.recipe, network.groups())
    images = [lambda n=n: pixels[8 * n : 8 * n + 8].double() for n in range(4)]
    values = parts.gradients(optimizer, images, batch)
    cut = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    whole = network.method.losses(network(pixels.double()), batch)
    sum(whole.values()).backward()
    assert {n: v.item() for n, v in values.items()} == pytest.approx(
        {n: v.item() for n, v in whole.items()}, rel=1e-6
    )
    grads = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert cut.keys() == grads.keys()
    for name, gradient in grads.items():  # losses are computed in float32
        assert (cut[name] - gradient).norm() <= 2e-5 * gradient.norm(), name


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("live", "changes trunk.* as live BatchNorm does"),
        ("dropout", "draws at random, as dropout does"),
        ("head", "changes method.head.* as live BatchNorm does"),
    ],
)
def test_parts_that_are_not_the_whole_are_refused(case, words):
    train = square(PROTOCOL.image.resize_px)
    method = large(Triplet, 2)
    recipe = replace(FROZEN, batch_norm="live" if case == "live" else "frozen_stats")
    made = training(train, method, recipe=recipe, batch=8)
    if case in ("dropout", "head"):
        layer = nn.Dropout(0.1) if case == "dropout" else nn.BatchNorm1d(16)
        made.network.method.head = nn.Sequential(made.network.method.head, layer)
    index = next(draws(training(train, Triplet, batch=16)))
    with pytest.raises(InvalidInputError, match=words):
        HostSteps(made).take(Draw(index), 1, 1.0)


def test_off_the_cpu_they_are_the_same_and_say_why_they_are_not_recorded(monkeypatch):
    as_on_a_device(monkeypatch)
    train = square(PROTOCOL.image.resize_px)
    made, other = (training(train, large(Triplet, 2), batch=8, recipe=FROZEN) for _ in range(2))
    index = [next(draws(training(train, Triplet, batch=16))) for _ in range(3)]
    device, host = DeviceSteps(made, Emulator()), HostSteps(other)
    for step, one in enumerate(index):
        device.take(Draw(one), 2 * step + 1, 0.5)
        host.take(Draw(one), 2 * step + 1, 0.5)
    assert device.how == "eager: its loss sees 2 batches, in two passes"
    assert device.learnt == host.learnt > 0
    assert device.means(3)["loss"] == pytest.approx(host.means(3)["loss"], rel=1e-4)
    wanted = other.network.state_dict()
    for name, got in made.network.state_dict().items():
        want = wanted[name]
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("wants", "pace", "words"),
    [
        (Wants(images_per_class=3), PROTOCOL.pace, "it wants 3 images of a class .* of 16 is no"),
        (Wants(batches=21), PROTOCOL.pace, "a step costs 21, and .* validates every 20 of 40"),
        (Wants(batches=8), PROTOCOL.pace, "24 classes: a batch of 128 with 4 images .* needs 32"),
    ],
)
def test_what_a_protocol_cannot_give_is_refused(wants, pace, words):
    train = square(PROTOCOL.image.resize_px, classes=24)
    method = type("Large", (Triplet,), {"__doc__": "Larger.", "wants": wants})
    made = training(train, method)
    protocol = replace(PROTOCOL, pace=pace)
    streams = Streams(*(np.random.default_rng(n) for n in range(4)))
    with pytest.raises(InvalidInputError, match=words):
        next(Draws(Probe(made.network, train, protocol), made.labels, streams))


@pytest.mark.parametrize("wrong", [{"batches": 0}, {"batches": 1.5}, {"images_per_class": 0}])
def test_wants_below_one_are_refused_where_they_are_written(wrong):
    with pytest.raises(PluginError, match="expected a whole number from 1 on"):
        Wants(**wrong)


PROBE = '''"""greedy: a linear probe on the trunk as it is."""

from protocols.methods.nsoftmax import NormalizedSoftmax


class Greedy(NormalizedSoftmax):
    """Learns a head alone."""

    {line}

    def forward(self, features):
        return {{"embedding": self.head(features.vector{cut})}}
'''


@pytest.mark.parametrize(("line", "cut"), [("trunk = 'frozen'", ""), ("", ".detach()")])
def test_a_probe_deploys_the_trunk_and_trains_the_head(source, tmp_path, line, cut):
    """Cut off by the method or kept still by the runner, the trunk embeds and does not learn."""
    made = job_of(source, tmp_path, PROBE.format(line=line, cut=cut))
    train, _ = splits.open_fold(source, made.protocol, 0)
    with torch.random.fork_rng():
        network = build_network(made, train)
    trunk = sum(p.numel() for p in network.trunk.parameters())
    head = sum(p.numel() for p in network.method.head.parameters())
    own = sum(p.numel() for p in network.method.parameters())
    counts = execute(made).record.counts
    assert counts["parameters_deployed"] == trunk + head
    assert counts["parameters_trained"] == own


def test_under_a_method_that_says_so_the_trunk_stays_as_it_is(source, tmp_path):
    made = job_of(source, tmp_path, PROBE.format(line="trunk = 'frozen'", cut=""))
    made = replace(made, recipe=replace(made.recipe, batch_norm="live"))
    train, _ = splits.open_fold(source, made.protocol, 0)
    with torch.random.fork_rng():
        network = build_network(made, train)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    sources = (np.random.default_rng(1), np.random.default_rng(2))
    given = Training(network, train, train.labels % 4, made.protocol, made.recipe, *sources)
    steps = HostSteps(given)
    for step in range(3):
        steps.take(Draw(range(16 * step, 16 * step + 16)), step, 1.0)
    changed = {n for n, v in network.state_dict().items() if not torch.equal(v, before[n])}
    assert changed
    assert all(name.startswith("method.") for name in changed)
    assert [group.name for group in network.groups()] == ["head", "loss"]
    assert not network.train().trunk.training


def test_a_row_of_other_images_than_the_protocols_is_marked():
    row = {"method": "two", "images_trained": 320.0, "images_protocol": 640.0}
    same = {"method": "one", "images_trained": 640.0, "images_protocol": 640.0}
    old = {"method": "old", "images_trained": 640.0}
    frame = pd.DataFrame([row, same, old], columns=costs.COLUMNS)
    table = costs.render(frame, "")[0].headline
    columns = zip(table.header, zip(*table.rows, strict=True), strict=True)
    cells = {name: list(column) for name, column in columns}
    assert cells["Images"] == ["320 ≠", "640", "640"]
    assert cells["By protocol"][:2] == ["640", "640"]
