"""A method's gradient is the derivative of its loss, in the features and all that is learned.

Loops tell whether values are right; a forgotten ``detach`` moves no value. So each method is put
on the toy task in float64, and each tensor is moved a little along a random direction: what the
loss changes by must be what autograd says.
"""

import copy

import pytest
import torch

from protocols.discovery import Registry
from protocols.methods.triplet import Triplet
from protocols.toy_task import build, loss_of, toy_batches, toy_features

MOVE = 1e-6
RELATIVE, ABSOLUTE = 1e-5, 1e-7  # ten times what rounding of the differences came to
FEATURES = "features"
OTHERWISE = {
    "circle": "a weight of a pair counts as a constant, as in the library",
    "contextual": "a step has the gradient that the released code gives it",
    "hier": "an ancestor is chosen by a hard Gumbel-softmax with the soft one's gradient",
    "s2sd": "whoever teaches has no gradient from it",
}
TRAINED = [n for n in Registry().names("method") if Registry().load("method", n).trains]


@pytest.fixture(autouse=True)
def all_in_float64(monkeypatch):
    """Terms cast to float32, in which a loss is too coarse to be differenced."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def loss_at(built, maps, batch):
    """Return a copy of the method and its () loss, with the same draws each time."""
    own = copy.deepcopy(built)  # a loss may fill a memory or move an average
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(batch.step)
        return own, loss_of(own, maps, batch)


def slopes(built, batch):
    """Yield (name, by differences, by autograd) of each tensor along a random direction."""
    maps = toy_features().double().requires_grad_()
    own, loss = loss_at(built, maps, batch)
    leaves = {FEATURES: maps} | {n: p for n, p in own.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, [*leaves.values()], allow_unused=True)
    generator = torch.Generator().manual_seed(5)
    for (name, leaf), gradient in zip(leaves.items(), found, strict=True):
        way = torch.randn(leaf.shape, generator=generator)
        ends = [moved(built, batch, name, sign * MOVE * way) for sign in (1, -1)]
        by_autograd = 0.0 if gradient is None else float((gradient * way).sum())
        yield name, (ends[0] - ends[1]) / (2 * MOVE), by_autograd


def moved(built, batch, name, way):
    """Return the loss where one tensor is moved."""
    own, maps = copy.deepcopy(built), toy_features().double()
    with torch.no_grad():
        (maps if name == FEATURES else dict(own.named_parameters())[name]).add_(way)
        return loss_at(own, maps, batch)[1].item()


def odd_slopes(method):
    """Return where autograd and differences part, at all steps that are looked at."""
    built, odd = build(method).double(), []
    for where, batch in toy_batches(built):
        for name, by_differences, by_autograd in slopes(built, batch):
            if by_autograd != pytest.approx(by_differences, rel=RELATIVE, abs=ABSOLUTE):
                odd.append((name + where, by_differences, by_autograd))
        with torch.no_grad():
            loss_of(built, toy_features().double(), batch)  # a later phase reads what it has kept
    return odd


@pytest.mark.parametrize("name", TRAINED)
def test_a_gradient_is_the_derivative_of_the_loss(name):
    odd = odd_slopes(Registry().load("method", name))
    if name in OTHERWISE:
        assert odd, f"{name} need not be excepted: {OTHERWISE[name]}"
    else:
        assert not odd


class Forgetful(Triplet):
    """A detached head: all values are right, and nothing is learned but through the norm."""

    def forward(self, features):
        views = super().forward(features)
        z = views["embedding"]
        return {"embedding": z.detach() * (z.norm(dim=1, keepdim=True) / z.norm(dim=1).max())}


def test_a_forgotten_detach_is_seen():
    assert {name for name, *_ in odd_slopes(Forgetful)} >= {FEATURES, "head.weight"}
