"""Recorded steps give the bits of ordinary ones, or are not used and say why."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from benchmark.training import inputs, pictures
from benchmark.training.device_steps import PROOFS, WARM, DeviceSteps
from benchmark.training.feed import Feed
from benchmark.training.steps import HostSteps
from protocols.discovery import Registry, load
from protocols.method import Draw, Method, Term, Wants
from tests.emulator import Emulator, as_on_a_device
from tests.made import draws, square, training

PROTOCOL = load("protocol", "toy")
TRAINED = [n for n in Registry().names("method") if load("method", n).trains]
# What waits for the device in the library's code, without a form of fixed shape here.
WAITING: set[str] = set()
STEPS = WARM + PROOFS + 6


@pytest.fixture(scope="module")
def train():
    return square(PROTOCOL.image.resize_px)


@pytest.fixture(autouse=True)
def _off_the_cpu(monkeypatch):
    as_on_a_device(monkeypatch)


def run(made, recorder, steps=STEPS, groups=1):
    """Take steps; return the steps, all state bit by bit, and the mean losses."""
    taken = DeviceSteps(made, recorder)
    if recorder is not None:
        recorder.written = taken._written
    sampler = draws(made)
    torch.manual_seed(3)
    np.random.seed(3)
    for step, index in zip(range(steps), sampler, strict=False):
        taken.take(Draw(index, step % groups), step, 0.5 + step / 1000)
    state = [v.detach().clone() for v in made.network.state_dict().values()]
    moments = [v.clone() for values in taken._optimizer.state.values() for v in values.values()]
    return taken, [*state, *moments, torch.random.get_rng_state()], taken.means(steps)


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", TRAINED)
def test_a_recorded_step_gives_the_bits_of_an_ordinary_one(train, name):
    recorder = Emulator()
    taken, state, losses = run(training(train, name), recorder)
    _, wanted, losses_wanted = run(training(train, name), None)
    assert same(state, wanted)
    assert losses == losses_wanted
    if name in WAITING:
        assert taken.how.startswith("eager: it waits for the device at ")
    else:
        assert taken.how == "graph"
        assert recorder.recorded >= 1


class OnStages(Method):
    """Reads two stages of its trunk."""

    wants = Wants(stages=2)

    def make_head(self, spec):
        return torch.nn.Linear(sum(spec.stage_channels), spec.embedding_size)

    def make_terms(self, spec):
        return [Term(lambda z, y: (normalize(z) @ normalize(z).T).mean())]

    def forward(self, features):
        pooled = [stage.mean((2, 3)) for stage in features.stages]
        return {"embedding": self.head(torch.cat(pooled, dim=1))}


@pytest.mark.parametrize(
    ("trunk", "method"),
    [("frozen:tiny", "ms"), ("lora8:tiny", "ms"), ("tiny", OnStages), ("lora8:tiny", OnStages)],
)
def test_steps_on_adapted_trunks_and_on_stages_are_recorded(train, trunk, method):
    recorder = Emulator()
    taken, state, losses = run(training(train, method, trunk=trunk), recorder)
    _, wanted, losses_wanted = run(training(train, method, trunk=trunk), None)
    assert same(state, wanted)
    assert losses == losses_wanted
    assert taken.how == "graph"
    assert recorder.recorded >= 1


def test_off_the_cpu_a_step_is_the_cpus_up_to_rounding(train):
    made, other = (training(train, "triplet") for _ in range(2))
    _, state, losses = run(made, None, 4)
    host = HostSteps(other)
    sampler = draws(other)
    for step, index in zip(range(4), sampler, strict=False):
        host.take(Draw(index), step, 0.5 + step / 1000)
    assert losses["loss"] == pytest.approx(host.means(4)["loss"], rel=1e-4)
    for got, want in zip(state, other.network.state_dict().values(), strict=False):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


def test_ordinary_steps_share_one_feed(train, monkeypatch):
    built = []

    class Counted(Feed):
        def __init__(self, *args):
            super().__init__(*args)
            built.append(self)

    monkeypatch.setattr(inputs, "Feed", Counted)
    run(training(train, Plain), None, 4)
    assert len(built) == 1


def test_group_is_recorded_before_and_after_its_warm_start(train):
    recorder, steps = Emulator(), 2 * (WARM + PROOFS + 3)
    made = {"steps": 8 * steps // 2}  # an eighth of it is half of what is taken
    taken, state, _ = run(training(train, "group", **made), recorder, steps)
    _, wanted, _ = run(training(train, "group", **made), None, steps)
    assert (taken.how, recorder.recorded) == ("graph", 2)
    assert same(state, wanted)


def test_a_memory_is_recorded_before_and_after_it_is_used(train):
    recorder, steps = Emulator(), 2 * (WARM + PROOFS + 3)
    made = {"start": 0.5, "memory": 0.3, "steps": steps}
    taken, state, _ = run(training(train, "xbm", **made), recorder, steps)
    _, wanted, _ = run(training(train, "xbm", **made), None, steps)
    assert (taken.how, recorder.recorded) == ("graph", 2)
    assert same(state, wanted)


def test_a_distillation_is_recorded_before_and_after_the_features_teach(train):
    recorder, steps = Emulator(), 2 * (WARM + PROOFS + 3)
    made = {"steps": round(steps / 2 / 0.13)}  # the delay is over half of what is taken later
    taken, state, _ = run(training(train, "s2sd", **made), recorder, steps)
    _, wanted, _ = run(training(train, "s2sd", **made), None, steps)
    assert (taken.how, recorder.recorded) == ("graph", 2)
    assert same(state, wanted)


@pytest.mark.parametrize("sampling", ["distance", "nearest"])
def test_divide_and_conquer_is_recorded_for_each_learner(train, sampling):
    recorder, steps = Emulator(), 4 * (WARM + PROOFS + 2)
    made = {"sampling": sampling, "learners": 4, "finetune": 0.95, "steps": 1000}
    taken, state, _ = run(training(train, "divide_conquer", **made), recorder, steps, 4)
    _, wanted, _ = run(training(train, "divide_conquer", **made), None, steps, 4)
    assert (taken.how, recorder.recorded) == ("graph", 4)
    assert same(state, wanted)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"optimizer": "rmsprop", "momentum": 0.9, "batch_norm": "frozen_stats"},
        {"optimizer": "radam", "weight_decay": 1e-3},
        {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-3},
        {"clip": 0.1},
        {"sharpness": 0.05},
        {"layer_decay": 0.5},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_every_optimiser_is_recorded(train, changes):
    recipe = replace(load("recipe", "adam"), lr=1e-3, **changes)
    recorder = Emulator()
    taken, state, _ = run(training(train, "triplet", recipe=recipe), recorder)
    _, wanted, _ = run(training(train, "triplet", recipe=recipe), None)
    assert taken.how == "graph"
    assert same(state, wanted)


def test_a_head_that_begins_alone_is_recorded_alone_and_with_the_trunk(train):
    steps = 2 * (WARM + PROOFS + 3)
    recipe = replace(load("recipe", "adam"), lr=1e-3, head_first_steps=steps // 2)
    recorder = Emulator()
    taken, state, _ = run(training(train, "triplet", recipe=recipe), recorder, steps)
    _, wanted, _ = run(training(train, "triplet", recipe=recipe), None, steps)
    assert (taken.how, recorder.recorded) == ("graph", 2)
    assert same(state, wanted)


def test_bf16_is_recorded(train):
    protocol = PROTOCOL.derive(precision="bf16")
    taken, state, _ = run(training(train, "ms", protocol=protocol), Emulator())
    _, wanted, _ = run(training(train, "ms", protocol=protocol), None)
    assert taken.how == "graph"
    assert same(state, wanted)


def test_images_that_do_not_fit_travel_box_by_box(train, monkeypatch):
    _, wanted, _ = run(training(train, "bfe"), None)
    monkeypatch.setattr(pictures, "_memory", lambda device: 0)
    split = replace(train, made={})
    made = training(split, "bfe")
    taken, state, _ = run(made, Emulator())
    assert taken._inputs.pictures.resident is None
    assert taken.how == "graph"
    assert same(state, wanted)


class Plain(Method):
    """A loss that can be recorded."""

    def make_terms(self, spec):
        return [Term(self.loss)]

    def loss(self, embeddings, labels):
        z = normalize(embeddings)
        same = (labels[:, None] == labels).float()
        return (z @ z.T - same).square().mean()


class Waits(Plain):
    """Asks for a number."""

    def loss(self, embeddings, labels):
        return super().loss(embeddings, labels) * float(embeddings.detach().norm())


class Draws(Plain):
    """Draws on the host."""

    def loss(self, embeddings, labels):
        return super().loss(embeddings, labels) * torch.rand(())


class DrawsWithNumpy(Plain):
    """Draws from numpy's global generator."""

    def loss(self, embeddings, labels):
        return super().loss(embeddings, labels) * np.random.rand()


class Reads(Plain):
    """Fades in."""

    def losses(self, views, batch):
        found = super().losses(views, batch)
        return {name: value * min(1.0, batch.step / 8) for name, value in found.items()}


class Counts(Plain):
    """Has a counter in Python."""

    calls = 0

    def loss(self, embeddings, labels):
        self.calls += 1
        return super().loss(embeddings, labels) / self.calls


class Replaces(Plain):
    """Keeps a tensor of the step before and binds a new one."""

    def __init__(self, spec, **settings):
        super().__init__(spec, **settings)
        self.register_buffer("before", torch.zeros(spec.embedding_size))

    def loss(self, embeddings, labels):
        found = super().loss(embeddings, labels) + (embeddings.mean(0) - self.before).norm()
        self.before = embeddings.detach().mean(0)
        return found


class Remembers(Replaces):
    """Keeps it in place, which is fine."""

    def loss(self, embeddings, labels):
        found = Plain.loss(self, embeddings, labels) + (embeddings.mean(0) - self.before).norm()
        self.before.copy_(embeddings.detach().mean(0))
        return found


HIDDEN = itertools.count(1)


class Hides(Plain):
    """Changes with every call in a way that nothing here can see."""

    def loss(self, embeddings, labels):
        return super().loss(embeddings, labels) * next(HIDDEN)


@pytest.mark.parametrize(
    ("method", "why"),
    [
        (Waits, "it waits for the device at test_device_steps.py:"),
        (Draws, "it draws at random on the host and has no noise()"),
        (DrawsWithNumpy, "it draws at random on the host and has no noise()"),
        (Reads, "it reads batch.step without graph_key()"),
        (Counts, "it changes method.calls on the host"),
        (Replaces, "it changes method._buffers on the host"),
        (Hides, "a recorded step differs by "),
    ],
)
def test_what_a_recording_would_freeze_is_not_recorded_the_trunk_is(train, method, why):
    recorder = Emulator()
    taken, state, losses = run(training(train, method), recorder)
    if method is Hides:
        assert taken.how.startswith(f"eager: {why}")
        assert "; the trunk alone differs by " in taken.how
        return
    assert taken.how.startswith(f"trunk: {why}")
    assert recorder.recorded == 2, "the way to the views and the way back"
    _, wanted, losses_wanted = run(training(train, method), None)
    assert same(state, wanted)
    assert losses == losses_wanted


def test_a_memory_that_is_written_in_place_is_recorded(train):
    taken, state, _ = run(training(train, Remembers), Emulator())
    _, wanted, _ = run(training(train, Remembers), None)
    assert taken.how == "graph"
    assert same(state, wanted)


def test_a_recording_that_fails_leaves_ordinary_steps(train):
    class Broken(Emulator):
        def record(self, compute):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    taken, state, _ = run(training(train, "triplet"), Broken())
    _, wanted, _ = run(training(train, "triplet"), None)
    why = "(RuntimeError: operation not permitted when stream is capturing)"
    assert taken.how == f"eager: recording failed {why}; the trunk alone fails {why}"
    assert same(state, wanted)


class Fails(Plain):
    """Says what a device says, when its loss is taken for the fourth time."""

    said, taken = "", 0

    def losses(self, views, batch):
        type(self).taken += 1
        if self.taken == WARM + 1:
            raise RuntimeError(self.said)
        return super().losses(views, batch)


def test_a_rehearsal_without_memory_is_told_as_that(train):
    class Full(Fails):
        said = "CUDA out of memory. Tried to allocate 2 GiB"

    taken, _, _ = run(training(train, Full), Emulator())
    why = "there is no memory to rehearse it (RuntimeError: CUDA out of memory. Tried"
    assert taken.how.startswith(f"trunk: {why}")


def test_a_rehearsal_that_breaks_the_device_ends_the_training(train):
    class Asserts(Fails):
        said = "CUDA error: device-side assert triggered"

    with pytest.raises(RuntimeError, match="device-side assert"):
        run(training(train, Asserts), Emulator())


def test_what_a_method_warns_of_at_each_step_is_said_once(train):
    class Warns(Plain):
        def losses(self, views, batch):
            warnings.warn("a word of mine", stacklevel=1)
            return super().losses(views, batch)

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        run(training(train, Warns), None)
    assert [str(each.message) for each in said].count("a word of mine") == 1


def test_more_kinds_of_steps_than_are_recorded_stay_ordinary(train, monkeypatch):
    monkeypatch.setattr("benchmark.training.device_steps.MOST", 2)
    steps = 4 * (WARM + PROOFS + 2)
    made = {"learners": 4, "finetune": 0.95, "steps": 1000}
    recorder = Emulator()
    _, state, _ = run(training(train, "divide_conquer", **made), recorder, steps, 4)
    _, wanted, _ = run(training(train, "divide_conquer", **made), None, steps, 4)
    assert recorder.recorded == 2
    assert same(state, wanted)
