"""Distances within a batch: exact in value and gradient, down to rows that are equal."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from torch.nn.functional import normalize

from protocols.conformance import SPEC
from protocols.discovery import Registry
from protocols.methods._distances import ExactDistance, distances, squared_distances

# Every method whose loss looks at Euclidean distances, with settings that keep it alive when all
# embeddings of a batch are close together.
EUCLIDEAN = {
    "triplet": {},
    "contrastive": {},
    "margin": {},
    "margin_class": {},
    "fastap": {},
    "triplet_hard": {"soft": False},
    "triplet_hard unit": {"unit": True},
    "cgd": {},
    "divide_conquer": {"learners": 1, "sampling": "distance"},
    "snr": {},
}


def test_distances_equal_a_loop_and_are_zero_between_equal_rows():
    rng = np.random.default_rng(0)
    rows, others = rng.normal(size=(7, 5)), rng.normal(size=(4, 5))
    others[2] = rows[3]
    got = distances(torch.from_numpy(rows), torch.from_numpy(others))
    slow = [[float(np.sqrt(((a - b) ** 2).sum())) for b in others] for a in rows]
    np.testing.assert_allclose(got.numpy(), slow, rtol=1e-14, atol=0)
    assert got[3, 2] == 0.0
    squared = squared_distances(torch.from_numpy(rows), torch.from_numpy(others))
    np.testing.assert_allclose(squared.numpy(), np.square(slow), rtol=1e-14, atol=0)
    own = distances(torch.from_numpy(rows))
    assert torch.equal(own, own.T)
    assert not own.diagonal().any()


def test_equal_rows_have_a_gradient_of_zero_and_all_others_the_exact_one():
    rows = torch.tensor([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0]], requires_grad=True)
    d = distances(rows)
    (gradient,) = torch.autograd.grad(d[0, 1], rows, retain_graph=True)
    assert torch.equal(gradient, torch.zeros(3, 2))
    (gradient,) = torch.autograd.grad(d[0, 2], rows)
    assert gradient.tolist() == [
        pytest.approx([-0.6, -0.8]),
        [0.0, 0.0],
        pytest.approx([0.6, 0.8]),
    ]


@pytest.mark.parametrize("apart", [1.0, 1e-3, 1e-6, 1e-12])
def test_gradients_pass_finite_differences_however_close(apart):
    rng = np.random.default_rng(1)
    rows = torch.from_numpy(rng.normal(size=(5, 3)) * apart).requires_grad_()
    assert torch.autograd.gradcheck(distances, rows, eps=1e-6 * apart, atol=1e-5, rtol=1e-5)


def test_the_librarys_losses_see_the_same_distances():
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for power in (1, 2):
        got = ExactDistance(normalize_embeddings=True, p=2, power=power)(rows)
        assert torch.equal(got, distances(normalize(rows)) ** power)


def test_the_librarys_own_distance_fails_where_the_exact_one_holds():
    """If this fails the library has changed, and ExactDistance may go."""
    rows = normalize(torch.ones(32, 128) + 4e-4 * torch.randn(32, 128))
    rows.requires_grad_()
    for distance, worst in ((ExactDistance(), 1e-3), (LpDistance(), np.inf)):
        (got,) = torch.autograd.grad(distance(rows).sum(), rows)
        (exact,) = torch.autograd.grad(distance(rows.double()).sum(), rows)
        error = ((got - exact).norm() / exact.norm()).item()
        assert error < worst
    assert error > 0.1


@pytest.mark.parametrize("apart", [4e-4, 4e-5, 4e-6])
@pytest.mark.parametrize("name", EUCLIDEAN)
def test_float32_gradients_near_collapse_are_those_of_float64(name, apart):
    """A usual batch, 8 classes of 4, whose embeddings are ``apart`` from each other."""
    method = Registry().load("method", name.split()[0])
    generator = torch.Generator().manual_seed(3)
    middle = torch.randn(128, generator=generator)
    noise = torch.randn(32, 128, generator=generator) / 16  # its rows are about 1 apart
    rows = normalize(middle, dim=0) + apart * noise
    gradients = {}
    for dtype in (torch.float32, torch.float64):
        torch.default_generator.manual_seed(4)
        term = method(SPEC, **EUCLIDEAN[name]).terms[0].to(dtype)
        leaf = rows.to(dtype, copy=True).requires_grad_()
        torch.default_generator.manual_seed(5)
        term.loss(leaf, torch.arange(8).repeat_interleave(4)).backward()
        gradients[dtype] = leaf.grad.double()
    exact = gradients[torch.float64]
    error = (gradients[torch.float32] - exact).norm() / exact.norm()
    # What is left is the rounding of the unit vectors themselves, 6e-8 of their length.
    assert error < 4e-8 / apart + 1e-6
