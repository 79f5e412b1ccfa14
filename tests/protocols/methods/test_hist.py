"""HIST: distances to classes, the hypergraph and its network."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import leaky_relu, normalize

from protocols.conformance import SPEC, as_features, toy_features
from protocols.methods.hist import HIDDEN, Distributions, Hist, Hypergraph
from protocols.space import defaults
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cross_entropy,
    random_batch,
)

TWO = torch.eye(2, dtype=torch.float64)
LOG_VARIANCES = torch.tensor([[0.0, 0.0], [math.log(2), 0.0]], dtype=torch.float64)


def classes(means, log_variances, tau=32.0):
    """Return the distributions with given parameters."""
    made = Distributions(*means.shape, tau).double()
    with torch.no_grad():
        made.means.copy_(means)
        made.log_variances.copy_(log_variances)
    return made


def test_golden_distances():
    got = classes(TWO, LOG_VARIANCES).distances(FIXTURE).flatten().tolist()
    expected = [0.0, 1.5, 1.0, 0.14294919, 2.0, 0.0, 4.0, 1.5]
    assert got == pytest.approx(expected, rel=0, abs=5e-9)


@pytest.mark.parametrize(("tau", "expected"), [(1.0, 0.40451022), (32.0, 6.85640646)])
def test_golden_distribution_losses(tau, expected):
    got = classes(TWO, LOG_VARIANCES, tau)(FIXTURE, FIXTURE_LABELS).item()
    assert got == pytest.approx(expected, rel=0, abs=5e-9)


def test_golden_row_of_the_hypergraph():
    graph = Hypergraph(2, 2, alpha=0.9, distances=classes(TWO, LOG_VARIANCES).distances)
    got = graph.propagation(graph.distances(FIXTURE), FIXTURE_LABELS)[0].tolist()
    expected = [0.37918735, 0.34368598, 0.13042228, 0.08357868]
    assert got == pytest.approx(expected, rel=0, abs=5e-9)


def loop_distances(z, means, log_variances):
    found = []
    for x in normalize(z).tolist():
        row = []
        for mu, v in zip(normalize(means).tolist(), log_variances.tolist(), strict=True):
            parts = zip(x, mu, v, strict=True)
            row.append(
                math.fsum((a - b) ** 2 / math.exp(min(max(c, 0.0), 6.0)) for a, b, c in parts)
            )
        found.append(row)
    return found


def loop_graph(m, labels, alpha):
    """Return G; only the classes of the batch are edges."""
    y = labels.tolist()
    here = sorted(set(y))
    h = [
        [1.0 if c == own else math.exp(-alpha * row[c]) for c in here]
        for row, own in zip(m, y, strict=True)
    ]
    nodes = [math.fsum(row) for row in h]
    edges = [math.fsum(row[e] for row in h) for e in range(len(here))]
    return [
        [
            math.fsum(a[e] * b[e] / edges[e] for e in range(len(here))) / math.sqrt(p * q)
            for b, q in zip(h, nodes, strict=True)
        ]
        for a, p in zip(h, nodes, strict=True)
    ]


def test_both_terms_equal_loops():
    rng = np.random.default_rng(0)
    for _ in range(40):
        tau, alpha = float(10 ** rng.uniform(0.6, 1.8)), float(10 ** rng.uniform(-1, 0.6))
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        built = build(Hist, tau=tau, alpha=alpha)
        own, network = (term.loss for term in built.terms)
        with torch.no_grad():
            own.log_variances.copy_(torch.from_numpy(rng.uniform(-1, 7, own.means.shape)))
        m = loop_distances(z, own.means.detach(), own.log_variances.detach())
        expected = cross_entropy([[-tau * v for v in row] for row in m], labels)
        assert own(z, labels).item() == pytest.approx(expected, rel=1e-9)
        g = torch.tensor(loop_graph(m, labels, alpha), dtype=torch.float64)
        hidden = g @ (z @ network.first.weight.T + network.first.bias)
        spread = (hidden.var(0, unbiased=False) + network.norm.eps).sqrt()
        hidden = leaky_relu((hidden - hidden.mean(0)) / spread, 0.1)
        logits = g @ (hidden @ network.second.weight.T + network.second.bias)
        expected = cross_entropy(logits.tolist(), labels)
        assert network(z, labels).item() == pytest.approx(expected, rel=1e-9)


def test_the_hardest_images_keep_their_gradient_in_float32():
    """As probabilities they would underflow: the released code drops them."""
    own = classes(TWO, torch.zeros(2, 2, dtype=torch.float64), 64.0).float()
    z = torch.tensor([[-1.0, 0.01]], requires_grad=True)
    value = own(z, torch.tensor([0]))
    value.backward()
    assert value.item() > 110
    assert z.grad.norm() > 1


def test_variances_start_where_they_learn_and_stop_at_both_ends():
    own = Hist(SPEC).terms[0].loss
    assert own.log_variances.min() > 0
    assert own.log_variances.max() < 1
    wide = classes(TWO, torch.full((2, 2), 60.0, dtype=torch.float64))
    small = classes(TWO, torch.full((2, 2), -60.0, dtype=torch.float64))
    unit = classes(TWO, torch.zeros(2, 2, dtype=torch.float64)).distances(FIXTURE)
    torch.testing.assert_close(small.distances(FIXTURE), unit)
    torch.testing.assert_close(wide.distances(FIXTURE), unit * math.exp(-6))


def test_the_graph_teaches_the_distributions_and_each_parameter_has_one_rate():
    built = build(Hist, distribution_lr=0.03, network_factor=1.0)
    first, second = (term.group() for term in built.terms)
    assert (first.lr, len(first.parameters)) == (0.03, 2)
    assert (second.lr, second.lr_factor, len(second.parameters)) == (None, 1.0, 6)
    z, labels = random_batch(np.random.default_rng(2), SPEC.classes, SPEC.embedding_size)
    built.terms[1].loss(z, labels).backward()
    assert built.terms[0].loss.means.grad.abs().sum() > 0


def test_the_embedding_is_the_layer_norm_of_average_plus_maximum():
    method = Hist(replace(SPEC, embedding_size=6)).eval()
    images = toy_features()
    linear = method.head[0]
    rows = linear(images.mean(dim=(2, 3)) + images.amax(dim=(2, 3)))
    rows = (rows - rows.mean(1, keepdim=True)) / rows.var(1, unbiased=False, keepdim=True).sqrt()
    torch.testing.assert_close(method(as_features(images))["embedding"], rows, rtol=1e-3, atol=1e-3)
    assert method.terms[1].loss.first.out_features == HIDDEN == 512


@pytest.mark.parametrize(
    ("dataset", "tau", "alpha", "distribution_lr", "network_factor"),
    [
        ("cub200", 32.0, 1.1, 1e-1, 5.0),
        ("cars196", 32.0, 0.9, 1e-1, 10.0),
        ("sop", 16.0, 2.0, 1e-2, 10.0),
    ],
)
def test_the_first_trial_is_the_authors_command(
    dataset, tau, alpha, distribution_lr, network_factor
):
    first = defaults(Hist.space(dataset))
    built = Hist(SPEC, **first)
    own, network = (term.group() for term in built.terms)
    assert (built.tau, built.alpha, built.weight) == (tau, alpha, 1.0)
    assert (own.lr, network.lr_factor) == (distribution_lr, network_factor)
