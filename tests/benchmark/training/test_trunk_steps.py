"""A recorded trunk under a loss that is computed anew gives the bits of ordinary steps."""

import itertools
import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize, one_hot

from benchmark.broken import BrokenByRecordingError
from benchmark.training import device, trunk_steps
from benchmark.training.device_steps import MOST, PROOFS, WARM, DeviceSteps, steps_on
from benchmark.training.graphs import CudaRecorder, State
from protocols.discovery import load
from protocols.method import Method, Term, Wants
from tests.benchmark.training.test_device_steps import (
    PROTOCOL,
    Draws,
    OnStages,
    Plain,
    Reads,
    Waits,
    run,
    same,
)
from tests.emulator import Emulator, as_on_a_device
from tests.made import square, training

STEPS = WARM + PROOFS + 10
FROZEN = replace(load("recipe", "adam"), lr=1e-3, batch_norm="frozen_stats")
DECAY = replace(load("recipe", "adam"), optimizer="adamw", lr=1e-3, weight_decay=0.1)
MOMENTUM = replace(load("recipe", "adam"), optimizer="sgd", lr=1e-2, momentum=0.9)


@pytest.fixture(scope="module")
def train():
    return square(PROTOCOL.image.resize_px)


@pytest.fixture(autouse=True)
def _off_the_cpu(monkeypatch):
    as_on_a_device(monkeypatch)


def both(train, method, steps=STEPS, **made):
    """Take steps with a recorder and without; return how, what was recorded, and both states."""
    recorder = Emulator()
    taken, state, losses = run(training(train, method, **made), recorder, steps)
    ordinary, wanted, losses_wanted = run(training(train, method, **made), None, steps)
    assert taken.learnt == ordinary.learnt
    np.testing.assert_equal(losses, losses_wanted)  # to which NaN is equal to NaN
    return taken.how, recorder.recorded, same(state, wanted)


def number(tensor):
    """Wait for a device, and change nothing."""
    return float(tensor.detach().sum() * 0 + 1)


class Proxies(Plain):
    """Learns a proxy for each class, and waits."""

    def make_terms(self, spec):
        return [Term(ProxyLoss(spec), lr=1e-2)]


class ProxyLoss(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(spec.classes, spec.embedding_size))

    def forward(self, embeddings, labels):
        picked = labels[one_hot(labels).sum(0).nonzero()[:, 0] % len(labels)]  # waits
        loss = nn.functional.cross_entropy(normalize(embeddings) @ self.proxies.T, labels)
        return loss + 0.01 * self.proxies[picked].square().sum()


class OnTheHead(Waits):
    """Its loss looks at the weights of its head, which the views reach too."""

    def loss(self, embeddings, labels):
        return super().loss(embeddings, labels) + self.head.weight.square().sum()


class TwoViews(Plain):
    """One view is made of the other; it counts at odd steps only."""

    def make_head(self, spec):
        size = spec.embedding_size
        parts = {"a": nn.Linear(spec.channels, size), "b": nn.Linear(size, size)}
        return nn.ModuleDict({**parts, "alone": nn.Linear(spec.channels, size)})

    def forward(self, features):
        first = self.head["a"](features.vector)
        second, alone = self.head["b"](first), self.head["alone"](features.vector)
        labels = torch.arange(len(first), device=first.device)
        return {"embedding": first, "other": second, "alone": alone, "rows": labels}

    def losses(self, views, batch):
        found = self.loss(views["embedding"], batch.labels) * number(views["embedding"])
        assert views["rows"].dtype == torch.int64
        assert views["embedding"].requires_grad
        assert not views["rows"].requires_grad
        if batch.step % 2:
            found = found + self.loss(views["alone"], batch.labels)
            found = found + self.loss(views["other"], batch.labels)
        return {"loss": found}


class Changes(Waits):
    """Changes a view in place, as it may."""

    def losses(self, views, batch):
        scaled = views["embedding"] * 1
        scaled.mul_(2.0)
        return {"loss": self.loss(scaled, batch.labels)}


class Keeps(Waits):
    """Keeps the views, labels and positions of the step before, as they are."""

    kept = None

    def losses(self, views, batch):
        found = self.loss(views["embedding"], batch.labels)
        if self.kept is not None:
            before, labels, index = self.kept
            found = found + (views["embedding"].detach() - before).norm() * self.head.weight.mean()
            found = found + (labels + index).double().mean().float() * self.head.bias.mean()
        self.kept = views["embedding"].detach(), batch.labels, batch.index
        return {"loss": found}


class Mixed(Waits):
    """Asks for mixed images, reads their shares, and waits."""

    wants = Wants(mix=0.5)

    def losses(self, views, batch):
        found = self.loss(views["embedding"], batch.labels)
        other = self.loss(views["embedding"], batch.labels[batch.partner])
        return {"loss": batch.share * found + (1 - batch.share) * other}


class Taught(Waits):
    """Imitates its teacher, and waits."""

    teacher = 0.9

    def losses(self, views, batch):
        gap = (views["embedding"] - views["teacher/embedding"]).square().mean()
        assert not views["teacher/embedding"].requires_grad
        return {"loss": self.loss(views["embedding"], batch.labels) + gap}


class Noisy(load("method", "bfe")):
    """Drops by noise on the way to its views, and its loss draws besides."""

    def losses(self, views, batch):
        found = super().losses(views, batch)
        return {name: value * (1 + torch.rand(())) for name, value in found.items()}


class Stages(OnStages):
    """Reads two stages, and its loss waits."""

    def losses(self, views, batch):
        found = super().losses(views, batch)
        return {n: v * number(v) for n, v in found.items()}


@pytest.mark.parametrize(
    ("method", "made"),
    [
        (Proxies, {}),
        (Proxies, {"protocol": PROTOCOL.derive(precision="bf16")}),
        (Waits, {"protocol": PROTOCOL.derive(precision="bf16")}),
        (Draws, {"recipe": FROZEN}),
        (OnTheHead, {}),
        (TwoViews, {}),
        (TwoViews, {"recipe": DECAY}),
        (Changes, {}),
        (Keeps, {}),
        (Mixed, {}),
        (Taught, {"recipe": FROZEN}),
        (Noisy, {}),
        (Stages, {}),
        (Waits, {"trunk": "frozen:tiny"}),
        (Reads, {"trunk": "lora8:tiny"}),
        (Proxies, {"recipe": replace(MOMENTUM, clip=0.1)}),
    ],
)
def test_it_gives_the_bits_of_ordinary_steps(train, method, made):
    how, recorded, equal = both(train, method, **made)
    assert how.startswith("trunk: it ")
    assert recorded == 2
    assert equal


def test_gradients_are_sent_back_as_they_lie_in_memory(train):
    """Products of matrices may round by that on a device."""

    class Turned(Waits):
        def loss(self, embeddings, labels):
            return super().loss(embeddings.t().contiguous().t(), labels)

    taken, _, _ = run(training(train, Turned), Emulator(), STEPS)
    (made,) = taken._recordings.values()
    assert made.views["embedding"].stride() == (16, 1)
    assert made.sent["embedding"].stride() == (1, 16)


def test_a_head_that_begins_alone_is_recorded_alone_and_with_the_trunk(train):
    steps = 2 * (WARM + PROOFS + 3)
    recipe = replace(FROZEN, head_first_steps=steps // 2)
    how, recorded, equal = both(train, Waits, steps, recipe=recipe)
    assert how.startswith("trunk: it waits")
    assert (recorded, equal) == (4, True)


class NoGradient(Method):
    """Its views need no gradient: all that learns is in the loss."""

    trunk = "frozen"

    def make_head(self, spec):
        return nn.Identity()

    def make_terms(self, spec):
        return [Term(self.loss)]

    def __init__(self, spec, **settings):
        super().__init__(spec, **settings)
        self.head = nn.Linear(spec.channels, spec.classes)

    def forward(self, features):
        return {"embedding": features.vector.detach()}

    def loss(self, embeddings, labels):
        found = nn.functional.cross_entropy(self.head(embeddings), labels)
        return found * number(found)


def test_views_that_need_no_gradient_are_recorded(train):
    assert both(train, NoGradient)[1:] == (2, True)


class Fades(Waits):
    """Its loss changes, at one step in ``every``, a number that its forward pass reads."""

    every, scale = 1, 1.0

    def forward(self, features):
        return {"embedding": self.head(features.vector) * self.scale}

    def losses(self, views, batch):
        if batch.step % self.every == self.every - 1:
            self.scale *= 0.9
        return super().losses(views, batch)


def test_a_trunk_whose_way_depends_on_the_host_is_not_played(train):
    how, _, equal = both(train, Fades)
    assert how.startswith("eager: it waits for the device")
    assert "; the trunk alone differs by " in how
    assert equal


def test_where_bits_may_differ_a_drift_on_the_host_is_none_of_it(train):
    class Drifts(Fades):
        def losses(self, views, batch):
            self.scale *= 1 - 1e-5
            return Waits.losses(self, views, batch)

    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        how, _, equal = both(train, Drifts)
    finally:
        torch.use_deterministic_algorithms(False)
    assert "; the trunk alone differs by " in how
    assert equal


def test_what_changes_later_is_recorded_anew(train):
    class Later(Fades):
        every = WARM + PROOFS + 3

    how, recorded, equal = both(train, Later, 3 * Later.every)
    assert how.startswith("trunk: it waits for the device")
    assert (recorded, equal) == (6, True)


def test_a_pool_whose_graphs_are_gone_is_not_used_again(monkeypatch):
    """The allocator of torch asserts that a pool that is shared has a living graph."""
    pools, used = itertools.count(), []

    class Graph:
        def replay(self):
            pass

    def captured(graph, pool, stream):
        used.append(pool)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(pools))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", captured)
    recorder = CudaRecorder()
    first, second = recorder.record(int), recorder.record(int)
    del first
    third = recorder.record(int)
    assert used[0] == used[1] == used[2]
    del second, third
    fourth = recorder.record(int)
    assert used[3] != used[2]

    def fails(graph, pool, stream):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", fails)
    with pytest.raises(RuntimeError):
        recorder.record(int)
    monkeypatch.setattr(torch.cuda, "graph", captured)
    fifth, sixth = recorder.record(int), recorder.record(int)
    assert used[4] == used[5] != used[3]
    del fifth, sixth
    recorder.record(int)
    assert used[6] not in used[:6], "though one of another pool lives"
    del fourth


def test_recordings_have_an_end(train, monkeypatch):
    monkeypatch.setattr("benchmark.training.device_steps.MOST", 2)

    class Later(Fades):
        every = PROOFS + 1

    how, recorded, equal = both(train, Later, STEPS + 6)
    assert MOST > 2
    assert how.endswith("; the trunk alone changes too often")
    assert (recorded, equal) == (4, True)


class Freezes(Waits):
    """Its loss freezes part of its head once the trunk's recording is proven."""

    def make_head(self, spec):
        size = spec.embedding_size
        return nn.Sequential(nn.Linear(spec.channels, size), nn.BatchNorm1d(size))

    def losses(self, views, batch):
        if batch.step == WARM + PROOFS + 3:
            self.freeze()
        return super().losses(views, batch)


class FreezesItsHead(Freezes):
    def freeze(self):
        self.head.requires_grad_(False)


class FreezesALayer(Freezes):
    def freeze(self):
        self.head[0].requires_grad_(False)


class FreezesStatistics(Freezes):
    def freeze(self):
        self.head[1].eval()


class FreezesBackAndForth(Freezes):
    """Its head learns at two steps of three."""

    def losses(self, views, batch):
        self.head.requires_grad_(batch.step % 3 > 0)
        return Waits.losses(self, views, batch)


@pytest.mark.parametrize("method", [FreezesItsHead, FreezesALayer, FreezesStatistics])
def test_what_a_loss_freezes_is_recorded_anew(train, method):
    how, recorded, equal = both(train, method)
    assert how.startswith("trunk: it waits for the device")
    assert (recorded, equal) == (4, True)


def test_what_a_loss_freezes_again_and_again_is_ordinary_in_the_end(train):
    how, recorded, equal = both(train, FreezesBackAndForth, WARM + 2 * MOST + 6)
    assert how.startswith("eager: it waits for the device")
    assert how.endswith("; the trunk alone changes too often")
    assert (recorded, equal) == (2 * MOST, True)


class Scheduled(Waits):
    """Its loss alone reads a number that changes at one step in ``every``."""

    every, epoch = 6, 0

    def losses(self, views, batch):
        self.epoch = batch.step // self.every
        found = super().losses(views, batch)
        return {name: value / (1 + self.epoch) for name, value in found.items()}


def test_a_number_that_only_the_loss_reads_leaves_the_recording(train, monkeypatch):
    monkeypatch.setattr("benchmark.training.device_steps.MOST", 2)
    changes_last = 4 * Scheduled.every + 2  # the last step proves the recording again
    how, recorded, equal = both(train, Scheduled, changes_last)
    assert how.startswith("trunk: it waits for the device")
    assert "often" not in how
    assert (recorded, equal) == (2, True)


@pytest.mark.parametrize("steps", [WARM, 6], ids=["first within the proofs", "later"])
def test_a_number_that_comes_to_matter_later_is_seen(train, steps):
    class Threshold(Scheduled):
        every = steps

        def forward(self, features):
            scale = 2.0 if self.epoch >= 3 else 1.0
            return {"embedding": self.head(features.vector) * scale}

    how, recorded, equal = both(train, Threshold, 4 * steps)
    assert how.startswith("trunk: it waits for the device")
    assert (recorded, equal) == (4, True)


class Rebinds(Waits):
    """Its loss puts a tensor of the way to the views elsewhere, and changes it there later."""

    at = 0

    def __init__(self, spec, **settings):
        super().__init__(spec, **settings)
        self.register_buffer("shift", torch.zeros(spec.embedding_size))

    def forward(self, features):
        return {"embedding": self.head(features.vector) + self.shift}

    def losses(self, views, batch):
        if batch.step == self.at:
            self.shift = self.shift.clone()
        elif batch.step > self.at + PROOFS + 3:
            self.shift += 0.1
        return super().losses(views, batch)


@pytest.mark.parametrize("step", [WARM, WARM + PROOFS + 1], ids=["within the proofs", "later"])
def test_a_tensor_that_has_gone_elsewhere_is_recorded_anew(train, step):
    class Once(Rebinds):
        at = step

    how, recorded, equal = both(train, Once)
    assert how.startswith("trunk: it waits for the device")
    assert (recorded, equal) == (4, True)


@pytest.mark.parametrize(
    ("steps", "kind", "recordings"),
    [(WARM, "eager", 2), (6, "trunk", 8)],
    ids=["first within the proofs", "later"],
)
def test_where_bits_may_differ_a_rare_drift_is_none_of_it(train, steps, kind, recordings):
    class Drifts(Scheduled):
        every = steps

        def forward(self, features):
            return {"embedding": self.head(features.vector) * (1 - 1e-5 * self.epoch)}

    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        how, recorded, equal = both(train, Drifts, 4 * steps)
    finally:
        torch.use_deterministic_algorithms(False)
    assert how.startswith(f"{kind}: it waits for the device")
    assert (recorded, equal) == (recordings, True)


def test_a_counter_that_starts_late_is_proven_once(train, monkeypatch):
    class StartsLate(Scheduled):
        def losses(self, views, batch):
            self.epoch = max(batch.step - WARM - PROOFS - 3, 0)
            return Waits.losses(self, views, batch)

    proven = []
    real = DeviceSteps._trunk_wrong
    monkeypatch.setattr(DeviceSteps, "_trunk_wrong", lambda *args: proven.append(1) or real(*args))
    how, recorded, equal = both(train, StartsLate)
    assert how.startswith("trunk: it waits for the device")
    assert (recorded, equal) == (2, True)
    assert len(proven) == 2 * PROOFS


def test_where_most_steps_would_be_proofs_they_are_ordinary(train, monkeypatch):
    monkeypatch.setattr("benchmark.training.device_steps.MOST", 2)

    class Often(Scheduled):
        every = PROOFS + 1

    how, recorded, equal = both(train, Often, 24)
    assert how.startswith("eager: it waits for the device")
    assert how.endswith("; the trunk alone changes too often")
    assert (recorded, equal) == (2, True)


class WaitsOnTheWay(Plain):
    """Waits on the way to its views."""

    def forward(self, features):
        return {"embedding": self.head(features.vector) * number(features.vector)}


class NotATensor(Waits):
    """Has a view that is a list."""

    def forward(self, features):
        return {**super().forward(features), "rows": [1, 2]}


class LooksBack(Waits):
    """Follows a view back to its parameters inside its loss."""

    def loss(self, embeddings, labels):
        found = super().loss(embeddings, labels)
        (slope,) = torch.autograd.grad(found, self.head.weight, retain_graph=True)
        return found + slope.norm()


class AsksHow(Waits):
    """Asks a view what made it."""

    def loss(self, embeddings, labels):
        assert embeddings.grad_fn.next_functions
        return super().loss(embeddings, labels)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (WaitsOnTheWay, ""),
        (NotATensor, ""),
        (LooksBack, "fails (RuntimeError: The differentiated Tensor"),
        (AsksHow, "fails (AttributeError: 'NoneType' object has no attribute 'next_functions')"),
    ],
)
def test_what_does_not_fit_takes_ordinary_steps(train, method, said):
    how, recorded, equal = both(train, method)
    assert how.startswith("eager: it waits for the device at test_")
    assert how.partition("; the trunk alone ")[2].startswith(said)
    assert bool(said) == ("trunk alone" in how)
    assert (recorded, equal) == (0, True)


def test_two_gradients_a_step_are_ordinary_steps(train):
    how, recorded, equal = both(train, Waits, recipe=replace(FROZEN, sharpness=0.05))
    assert how.startswith("eager: it waits for the device at ")
    assert how.endswith("; its recipe takes two gradients a step")
    assert (recorded, equal) == (0, True)


def first_gradients(real):
    """Send back the gradients of the first step for ever."""
    kept = []

    def planted(*args):
        losses, arrived = real(*args)
        kept.append(arrived)
        return losses, kept[0]

    return planted


def without_own(real):
    """Forget the gradients that the loss gives the method's own parameters."""

    def planted(method, *args):
        found = real(method, *args)
        for parameter in method.parameters():
            parameter.grad = None
        return found

    return planted


def without_a_view(real):
    """Forget one view's gradient."""

    def planted(method, views, needing, batch):
        losses, arrived = real(method, views, needing, batch)
        return losses, {name: g for name, g in arrived.items() if name != "other"}

    return planted


@pytest.mark.parametrize(
    ("fault", "method"),
    [(first_gradients, Waits), (without_own, OnTheHead), (without_a_view, TwoViews)],
)
def test_a_fault_is_found_by_the_proof(train, monkeypatch, fault, method):
    monkeypatch.setattr(trunk_steps, "down", fault(trunk_steps.down))
    how, recorded, equal = both(train, method)
    assert how.startswith("eager: it ")
    assert "; the trunk alone differs by " in how
    assert (recorded, equal) == (2, True)


def test_a_step_that_fails_beside_the_ordinary_one_leaves_ordinary_steps(train, monkeypatch):
    def fails(*args):
        raise RuntimeError("a leaf Variable that requires grad\nmore")

    monkeypatch.setattr(trunk_steps.TrunkRecording, "gradients", fails)
    how, _, equal = both(train, Waits)
    assert how.endswith(
        "; the trunk alone fails (RuntimeError: a leaf Variable that requires grad)"
    )
    assert equal


class Once(Emulator):
    """Fails the first time it records."""

    failed = False

    def record(self, compute):
        if not self.failed:
            self.failed = True
            raise RuntimeError("operation not permitted when stream is capturing")
        return super().record(compute)


def test_where_a_whole_step_fails_the_trunk_is_tried(train):
    taken, state, _ = run(training(train, "triplet"), Once(), STEPS)
    _, wanted, _ = run(training(train, "triplet"), None, STEPS)
    why = "recording failed (RuntimeError: operation not permitted when stream is capturing)"
    assert taken.how == f"trunk: {why}"
    assert same(state, wanted)


def test_a_recording_that_breaks_the_device_ends_the_training_by_type(train, monkeypatch):
    monkeypatch.setattr(device, "answers", lambda place: False)
    with pytest.raises(
        BrokenByRecordingError, match="a recording broke the device: RuntimeError: oper"
    ):
        run(training(train, "triplet"), Once(), STEPS)


def test_without_recording_steps_say_so(train):
    made = replace(training(train, "triplet"), record_steps=False)
    steps = steps_on(made, torch.device("cpu"))
    assert steps.how == "eager: a recording broke the device before"


@pytest.mark.parametrize(("other", "apart"), [(1.0, 0.0), (math.nan, math.inf), (1.5, 1.0)])
def test_what_is_no_number_is_infinitely_apart(other, apart):
    before, first, second = (State([torch.tensor([v])]) for v in (0.5, other, 1.0))
    assert first.apart_from(second, before) == apart
