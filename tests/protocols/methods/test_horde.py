"""HORDE: moments, the authors' losses, the wrapper over any loss."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.discovery import load
from protocols.errors import PluginError
from protocols.method import Wants
from protocols.methods._horde import HighOrder, Moments
from protocols.methods.cgd import Combined
from protocols.methods.horde import Horde
from protocols.methods.horde_ms import HordeMultiSimilarity
from protocols.methods.ms import MultiSimilarity
from protocols.methods.proxynca import ProxyNCA
from protocols.toy_task import SPEC, as_features, build, loss_of, toy_batch, toy_features
from tests.protocols.methods.loops import (
    LINE_LABELS,
    count,
    paper_spec,
)


def test_all_sign_vectors_together_are_the_kernel():
    u, v = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])
    signs = list(itertools.product((-1.0, 1.0), repeat=2))
    for order, number, expected in ((2, 16, 1.0), (3, 64, 1.0)):
        moments = frozen(order, itertools.product(signs, repeat=order))
        phi = [pooled(moments, x.view(1, 2, 1, 1))[-1][0] for x in (u, v)]
        assert len(phi[0]) == number
        assert (phi[0] @ phi[1] / number).item() == pytest.approx(expected)
        assert torch.dot(u, v).item() ** order == expected


def frozen(orders, rows):
    """Return moments whose projections have one row for each tuple of vectors."""
    rows = torch.tensor(list(rows))  # (D, K, c)
    moments = Moments(rows.shape[2], len(rows), orders, None)
    with torch.no_grad():
        for k, projection in enumerate(moments.projections):
            projection.copy_(rows[:, k])
    return moments


def pooled(moments, feature_map):
    return list(moments.pooled(feature_map))


def as_map(*locations):
    return torch.tensor(locations).T.reshape(1, len(locations[0]), 1, len(locations))


def test_pooled_moments_multiply_to_the_mean_of_squares():
    a, b = as_map((1.0, 0.0), (1.0, 1.0)), as_map((2.0, 1.0), (0.0, 1.0))
    signs = list(itertools.product((-1.0, 1.0), repeat=2))
    moments = frozen(2, itertools.product(signs, repeat=2))
    inner = (pooled(moments, a)[0] @ pooled(moments, b)[0].T).item() / 16
    pairs = itertools.product(a.flatten(2)[0].T, b.flatten(2)[0].T)
    slow = sum((x @ y).item() ** 2 for x, y in pairs) / 4
    assert inner == slow == 3.5


def test_moments_under_identity_projections():
    moments = Moments(2, 2, 3, None)
    with torch.no_grad():
        for projection in moments.projections:
            projection.copy_(torch.eye(2))
    found = pooled(moments, as_map((1.0, 2.0), (3.0, 0.0)))
    assert found[0].tolist() == [[5.0, 2.0]]
    assert found[1].tolist() == [[14.0, 4.0]]


@pytest.mark.parametrize("size", [6, None])
def test_the_cascade_equals_direct_products(size):
    moments = Moments(3, 7, 5, size).double()
    maps = torch.rand(4, 3, 2, 5, dtype=torch.float64)
    for order, found in enumerate(pooled(moments, maps), start=2):
        for b in range(4):
            locations = maps[b].flatten(1).T  # (L, 3)
            slow = torch.stack(
                [math.prod(moments.projections[k] @ x for k in range(order)) for x in locations]
            ).mean(0)
            torch.testing.assert_close(found[b], slow)


def test_moments_have_the_papers_sizes():
    moments = Moments(1024, 8 * 1024, 5, 512)
    assert len(moments.projections) == 5
    assert len(moments.embeddings) == 4
    assert sum(p.numel() for p in moments.projections) == 41_943_040
    assert count(moments.embeddings) == 16_777_216
    # The layer of order 1 is the base method's own, with a bias.
    assert MultiSimilarity(paper_spec(1024, 512)).head.weight.numel() == 524_288


def test_frozen_projections_are_signs_outside_the_optimiser_and_inside_the_state():
    method = build(Horde, {"trainable": False})
    projections = list(method.moments.projections)
    assert len(projections) == 5
    assert not list(method.moments.embeddings)
    for projection in projections:
        assert set(projection.unique().tolist()) == {-1.0, 1.0}
    grouped = {id(p) for group in method.groups() for p in group.parameters}
    assert not grouped & {id(p) for p in projections}
    assert sum(name.startswith("moments.projections") for name in method.state_dict()) == 5
    views = method(as_features(toy_features()))
    assert views["moment5"].shape == (32, 8 * SPEC.channels)


def test_contrastive_loss_on_four_unit_vectors():
    z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
    method = Horde(SPEC)
    assert method.contrastive(z, LINE_LABELS).item() == pytest.approx(0.29 + 0.15)


def test_pair_losses_equal_loops():
    rng = np.random.default_rng(3)
    for _ in range(30):
        z = normalize(torch.from_numpy(rng.normal(size=(8, 3))))
        labels = torch.from_numpy(rng.integers(0, 3, 8))
        s, y = (z @ z.T).tolist(), labels.tolist()
        pull, push, total = [], [], 0.0
        for i in range(8):
            mine = [s[i][j] for j in range(8) if j != i and y[j] == y[i]]
            other = [s[i][j] for j in range(8) if y[j] != y[i]]
            pull += [(1 - v) ** 2 for v in mine]
            push += [v - 0.5 for v in other if v > 0.5]
            total += sum(math.log1p(math.exp(-2 * (v - 0.5))) for v in mine) / max(1, len(mine))
            total += sum(math.log1p(math.exp(50 * (v - 0.5))) for v in other) / max(1, len(other))
        slow = sum(pull) / max(1, len(pull)) / 2 + sum(push) / max(1, len(push)) / 2
        method = Horde(SPEC)
        assert method.contrastive(z, labels).item() == pytest.approx(slow)
        assert method.binomial(z, labels).item() == pytest.approx(total)


def test_moments_alone_teach_the_trunk_and_leave_the_embedding():
    method = build(Horde)
    features = toy_features().requires_grad_()
    values = method.losses(method(as_features(features)), toy_batch())
    assert set(values) == {"loss", *(f"moment{k}/loss" for k in range(2, 6))}
    sum(v for name, v in values.items() if name.startswith("moment")).backward()
    assert features.grad.abs().sum() > 0
    assert method.head.weight.grad is None


def test_without_moments_the_base_method_is_left():
    plain, wrapped = build(MultiSimilarity), build(HordeMultiSimilarity)
    features = as_features(toy_features())
    assert torch.equal(plain.head.weight, wrapped.head.weight), "both start alike"
    assert torch.equal(plain(features)["embedding"], wrapped(features)["embedding"])
    own = plain.losses(plain(features), toy_batch())
    assert torch.equal(wrapped.losses(wrapped(features), toy_batch())["loss"], own["loss"])
    assert set(wrapped.eval()(features)) == {"embedding"}


def test_each_order_has_proxies_of_its_own():
    class HordeProxies(HighOrder, ProxyNCA):
        """Proxies on every order."""

    method = build(HordeProxies)
    assert len({id(p) for term in method.terms for p in term.parameters()}) == 5
    names = [group.name for group in method.groups()]
    assert names == ["head", "loss", *(f"moment{k}/loss" for k in range(2, 6)), "moments"]


def test_moments_add_to_what_the_base_wants_and_refuse_a_base_without_terms():
    class HordeCombined(HighOrder, Combined):
        """Two ideas at once."""

    assert HordeCombined.wants == Wants(last_stride=1, map=True, nonnegative=True)
    assert loss_of(build(HordeCombined), toy_features(), toy_batch()).isfinite()
    group = load("method", "group")
    with pytest.raises(PluginError, match=r"HordeGroup.*losses\(\) itself"):
        type("HordeGroup", (HighOrder, group), {})
