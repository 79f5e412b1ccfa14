"""What a recipe makes of gradients, against loops by hand: where from, of what, and its price."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from benchmark.study.folder import CellKey
from benchmark.training import splits
from benchmark.training.draws import cost
from benchmark.training.first_look import first_look
from benchmark.training.gradients import Gradients
from benchmark.training.job import Job, execute
from benchmark.training.steps import HostSteps
from protocols import sharpness
from protocols.discovery import load
from protocols.errors import InvalidInputError
from protocols.method import Draw, Method, ParameterGroup, Term
from protocols.optimizer import groups_under, make_optimizer
from protocols.protocol import Pace
from protocols.recipe import Recipe
from protocols.sharpness import sharp_gradients
from tests.made import draws, square, training

TOY = load("protocol", "toy")
ADAM = replace(load("recipe", "adam"), lr=1e-3)


@pytest.fixture(scope="module")
def train():
    return square(TOY.image.resize_px)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    cache = tmp_path_factory.mktemp("c")
    return splits.DataSource("toy", load("dataset", "toy").digest(), None, cache)


def job(source, recipe, method="ms", pace=None, stage="final"):
    cell = CellKey("id", "toy", "tiny", recipe.name, method, method)
    protocol = TOY if pace is None else replace(TOY, pace=pace)
    return Job(cell, protocol, recipe, stage, 0, 0, {}, source, "cpu")


def take(made, count, step=1):
    """Take ``count`` steps and return what took them."""
    steps = HostSteps(made)
    for number, index in zip(range(count), draws(made), strict=False):
        steps.take(Draw(index), number * step, 1.0)
    return steps


class Valley(nn.Module):
    """The loss ``sum of a (w - c)^4``, in float64."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        self.second = nn.Parameter(torch.tensor([[0.5]], dtype=torch.float64))

    def loss(self):
        return (3 * (self.first - 0.25) ** 4).sum() + (self.second + 1).pow(4).sum()


def test_sam_is_the_hand_loop_of_its_paper():
    """Algorithm 1 with p = 2 over momentum and coupled decay, written with numbers."""
    network = Valley()
    recipe = Recipe("r", "", "sgd", lr=1e-3, momentum=0.9, weight_decay=0.1, sharpness=0.3)
    optimizer = make_optimizer(recipe, [ParameterGroup("all", list(network.parameters()))])
    w, speed = np.array([1.0, -2.0, 0.5]), np.zeros(3)

    def slope(at):
        return np.array([12 * (at[0] - 0.25) ** 3, 12 * (at[1] - 0.25) ** 3, 4 * (at[2] + 1) ** 3])

    def evaluate():
        optimizer.zero_grad(set_to_none=True)
        loss = network.loss()
        loss.backward()
        return {"loss": loss}

    for _ in range(25):
        before = [p.detach().clone() for p in network.parameters()]
        value = sharp_gradients(network, 0.3, evaluate)["loss"].item()
        assert all(map(torch.equal, before, network.parameters())), "weights were not put back"
        assert value == pytest.approx(3 * ((w[:2] - 0.25) ** 4).sum() + (w[2] + 1) ** 4, rel=1e-12)
        optimizer.step()
        g = slope(w)
        speed = 0.9 * speed + slope(w + 0.3 * g / np.sqrt((g**2).sum())) + 0.1 * w
        w = w - 1e-3 * speed
        got = torch.cat([p.detach().flatten() for p in network.parameters()]).numpy()
        np.testing.assert_allclose(got, w, rtol=1e-12, atol=1e-13)  # one of them passes 0


@pytest.mark.parametrize("recorded", [False, True])
def test_both_passes_of_sam_draw_the_same_on_a_device_unless_it_is_recorded(monkeypatch, recorded):
    """A generator of its own plays that of a card; while a step is recorded none can be set."""
    card, network, drawn = torch.Generator().manual_seed(3), Valley(), []

    def set_state(state, device):
        assert not recorded
        card.set_state(state)

    monkeypatch.setattr(sharpness, "_device", lambda network: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: recorded)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: card.get_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", set_state)

    def evaluate():
        drawn.append((torch.rand(1, generator=card).item(), torch.rand(1).item()))
        network.zero_grad(set_to_none=True)
        loss = network.loss()
        loss.backward()
        return {"loss": loss}

    sharp_gradients(network, 0.3, evaluate, prove=True)
    sharp_gradients(network, 0.3, evaluate)
    on_card, on_host = zip(*drawn, strict=True)
    alone = torch.rand(5, generator=torch.Generator().manual_seed(3)).tolist()
    expected = alone if recorded else [*[alone[0]] * 3, *[alone[1]] * 2]
    assert list(on_card) == pytest.approx(expected, abs=0)
    assert len(set(on_host[:3])) == len(set(on_host[3:])) == 1
    assert len(set(on_host)) == 2


def test_sams_statistics_follow_the_first_pass_alone(train):
    """Its other weights give the same running statistics in a step that starts from the same."""
    sharp, plain = (training(train, "ms", recipe=r) for r in (replace(ADAM, sharpness=5.0), ADAM))
    before = sharp.network.trunk.stages[0][2].running_mean.clone()
    take(sharp, 1), take(plain, 1)
    for name, value in plain.network.named_buffers():
        assert torch.equal(dict(sharp.network.named_buffers())[name], value), name
    assert not torch.equal(sharp.network.trunk.stages[0][2].running_mean, before)
    weights = dict(plain.network.named_parameters())
    moved = [n for n, p in sharp.network.named_parameters() if not torch.equal(p, weights[n])]
    assert moved, "the gradient is that of the weights themselves"


class Plain(Method):
    """A loss without state."""

    def make_terms(self, spec):
        return [Term(self.loss)]

    def loss(self, embeddings, labels):
        z = normalize(embeddings)
        return (z @ z.T - (labels[:, None] == labels).float()).square().mean()


class Noisy(Plain):
    """Draws in its loss."""

    def loss(self, embeddings, labels):
        return super().loss(embeddings + torch.randn_like(embeddings), labels)


class Counts(Plain):
    """Counts its losses, and they depend on it."""

    calls = 0

    def loss(self, embeddings, labels):
        self.calls += 1
        return super().loss(embeddings, labels) / self.calls


class Scratch(Plain):
    """Keeps a number that no later loss looks at, as miners of the library do."""

    def loss(self, embeddings, labels):
        self.last = float(embeddings.detach().norm())
        return super().loss(embeddings, labels)


class Writes(Plain):
    """Keeps the newest mean in a buffer, which the next loss looks at."""

    def __init__(self, spec, **settings):
        super().__init__(spec, **settings)
        self.register_buffer("newest", torch.zeros(spec.embedding_size))

    def loss(self, embeddings, labels):
        found = super().loss(embeddings, labels) + (embeddings.mean(0) - self.newest).norm()
        self.newest.copy_(embeddings.detach().mean(0))
        return found


def test_both_gradients_of_a_step_see_the_same_random_draws(train):
    made = training(train, Noisy, recipe=replace(ADAM, sharpness=1e-9))
    other = training(train, Noisy, recipe=ADAM)
    torch.manual_seed(5)
    take(made, 3)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    take(other, 3)
    assert torch.equal(after, torch.get_rng_state()), "a step draws as often as under any recipe"
    for name, value in other.network.state_dict().items():
        torch.testing.assert_close(made.network.state_dict()[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", [Counts, Writes])
def test_a_method_that_remembers_is_refused_two_gradients(train, method):
    with pytest.raises(InvalidInputError, match=r"two gradients a step.*gives 'loss' another"):
        take(training(train, method, recipe=replace(ADAM, sharpness=0.05)), 1)
    take(training(train, method, recipe=ADAM), 1)


def test_a_number_that_no_loss_looks_at_is_no_state(train):
    take(training(train, Scratch, recipe=replace(ADAM, sharpness=0.05)), 2)


def test_a_memory_that_begins_later_is_refused_before_a_study_starts(source):
    sharp = replace(ADAM, name="sharp", sharpness=0.05)
    found = first_look(job(source, sharp, "xbm"))
    assert "changes method.rows with each" in found.problem
    assert first_look(job(source, sharp, "ms")).problem == ""


def test_two_gradients_cost_two_steps_and_no_image_more(source):
    pace = Pace(max_steps=12, steps_per_epoch=4, validate_every=6, patience=9)
    plain = execute(job(source, ADAM, pace=pace)).record
    sharp = execute(job(source, replace(ADAM, name="s", sharpness=0.05), pace=pace)).record
    assert plain.status == sharp.status == "done", sharp.detail
    assert (plain.steps, sharp.steps) == (12, 12)
    for record in (plain, sharp):
        assert record.counts["images_trained"] == record.counts["images_protocol"] == 12 * 16
    assert [row["step"] for row in sharp.history] == [0, 6, 12]
    assert cost(TOY, load("method", "ms"), 2) == 2
    with pytest.raises(InvalidInputError, match="its recipe takes 2 gradients of a batch, so"):
        cost(replace(TOY, pace=replace(TOY.pace, validate_every=1)), load("method", "ms"), 2)


def test_the_head_learns_alone_at_first_and_the_trunk_starts_afresh(train):
    """Bit for bit two trainings by hand: of a frozen trunk, then of all with no moments of it."""
    made = training(train, "ms", recipe=replace(ADAM, head_first_steps=3))
    start = {n: p.detach().clone() for n, p in made.network.trunk.named_parameters()}
    hand = training(train, "ms", recipe=ADAM)
    network, steps = hand.network, HostSteps(hand)
    taken, other = HostSteps(made), draws(hand)
    for step, index in zip(range(6), draws(made), strict=False):
        taken.take(Draw(index), step, 1.0)
        network.trunk.requires_grad_(step >= 3)
        steps.take(Draw(next(other)), step, 1.0)
        moved = {n: not torch.equal(p, start[n]) for n, p in made.network.trunk.named_parameters()}
        assert set(moved.values()) == {step >= 3}, f"step {step}"
    for name, value in network.state_dict().items():
        assert torch.equal(made.network.state_dict()[name], value), name
    assert all(p.requires_grad for p in made.network.parameters())
    counts = {int(values["step"]) for values in taken._optimizer.state.values()}
    assert counts == {3, 6}, "the trunk's moments begin with its first gradient"


def test_patience_waits_for_the_whole_network():
    made = training(square(16), "ms", recipe=replace(ADAM, head_first_steps=3))
    gradients = Gradients(made.recipe, made.network)
    assert [gradients.head_alone(step) for step in (0, 2, 3, 99)] == [True, True, False, False]
    phases = replace(ADAM, head_first_steps=8).phases(TOY.pace)
    assert [(p.name, p.begins) for p in phases] == [("whole network", 8)]


def test_rates_fall_with_each_layer_below_the_head(train):
    """SGD without momentum moves each layer by its rate times its gradient."""
    recipe = Recipe("r", "", "sgd", lr=0.5, batch_norm="live", layer_decay=0.5)
    made = training(train, "triplet", recipe=recipe)
    groups = groups_under(recipe, made.network)
    assert [g.name for g in groups] == ["trunk 0", "trunk 1", "trunk 2", "trunk 3", "head"]
    assert [g.lr_factor for g in groups] == [0.0625, 0.125, 0.25, 0.5, 1.0]
    before = {n: p.detach().double() for n, p in made.network.named_parameters()}
    take(made, 1)
    for name, parameter in made.network.named_parameters():
        layer = int(name.split(".")[2]) if name.startswith("trunk") else 4
        expected = before[name] - 0.5 * 0.5 ** (4 - layer) * parameter.grad.double()
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-6, atol=1e-7)


def test_a_frozen_trunk_has_no_layers_to_decay(train):
    made = training(train, "linear_probe", recipe=replace(ADAM, layer_decay=0.5))
    assert next(g.name for g in groups_under(made.recipe, made.network)) != "trunk 0"
    take(made, 1)
