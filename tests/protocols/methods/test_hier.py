"""HIER: ancestors of triplets, who is related to whom, what is drawn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from protocols.conformance import SPEC
from protocols.methods import _ancestors
from protocols.methods._ancestors import TAU, triplet_sum
from protocols.methods.hier import (
    TRIPLETS,
    Hier,
    draw,
    in_ball,
    picked,
    relatives,
    tree_loss,
)
from protocols.methods.proxy_anchor import ProxyAnchor
from protocols.space import defaults
from tests.protocols.methods.loops import build, random_batch
from tests.protocols.methods.test_hyp import loop_distances

FIRST = [[1.0, 1.2, 1.15], [1.1, 1.0, 0.9], [2.0, 1.5, 0.8]]
SECOND = [[1.0, 2.0, 2.9], [1.8, 1.5, 2.5], [4.0, 3.0, 2.2]]


@pytest.mark.parametrize(
    ("rows", "margin", "expected"),
    [(FIRST, 0.1, 0.3), (FIRST, 1.0, 2.05), (SECOND, 0.1, 0.0), (SECOND, 1.5, 0.8)],
)
def test_golden_values_without_noise(rows, margin, expected):
    d = torch.tensor(rows, dtype=torch.float64)
    got = one_triplet(d, torch.zeros(2, 3, dtype=torch.float64), margin).item()
    assert got == pytest.approx(expected, rel=0, abs=5e-9)


def one_triplet(d, gumbel, margin):
    """Return the loss of the triplet of a (3, A) tensor's rows, by (2, A) noise."""
    j, k = torch.tensor([[1], [0], [0]]), torch.tensor([[2], [0], [0]])
    noise = gumbel[:, None, None].expand(-1, 3, 1, -1)
    return triplet_sum(d, j, k, noise, torch.tensor([True, False, False]), margin)


def loop_triplet(i, j, k, gumbel, margin):
    """Return the loss of three lists of distances."""
    every = range(len(i))
    u = max(every, key=lambda a: gumbel[0][a] - max(i[a], j[a]) / 0.1)
    w = max(every, key=lambda a: gumbel[1][a] - max(i[a], j[a], k[a]) / 0.1)
    if u == w:
        return 0.0
    hinges = (i[u] - i[w], j[u] - j[w], k[w] - k[u])
    return math.fsum(max(0.0, v + margin) for v in hinges)


def test_triplets_equal_loops_and_are_0_where_both_ancestors_agree():
    rng, agreed = np.random.default_rng(0), 0
    for _ in range(200):
        d, margin = rng.uniform(0, 3, (3, 4)), float(rng.uniform(0, 1))
        gumbel = torch.from_numpy(rng.gumbel(size=(2, 4)))
        got = one_triplet(torch.from_numpy(d), gumbel, margin).item()
        expected = loop_triplet(*d.tolist(), gumbel.tolist(), margin)
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-12)
        agreed += expected == 0
    assert 20 < agreed < 180


def loop_relatives(near):
    n, rows = range(len(near)), near.tolist()
    count = min(20, max(2, len(near) // 2), len(near))
    top = [set(sorted(n, key=lambda j, i=i: -rows[i][j])[:count]) for i in n]
    return [[j for j in n if j != i and j in top[i] and i in top[j]] for i in n]


def test_the_whole_tree_equals_loops():
    rng = np.random.default_rng(1)
    for _ in range(20):
        z, labels = random_batch(rng)
        nodes = torch.from_numpy(rng.normal(size=(5, z.shape[1])))
        margin, noise = float(rng.uniform(0, 1)), draw(len(z), 5)
        d = torch.tensor(loop_distances(z, nodes, 0.1, 2.3), dtype=torch.float64)
        torch.testing.assert_close(in_ball(z, nodes), d)
        among = torch.tensor(loop_distances(z, z, 0.1, 2.3), dtype=torch.float64)
        near = (-among).exp() + (labels[:, None] == labels)
        related, values = loop_relatives(near), []
        uniform, gumbel = (part.double().tolist() for part in noise)
        for i, mine in enumerate(related):
            theirs = [j for j in range(len(z)) if j != i and j not in mine]
            for t in range(TRIPLETS if mine and theirs else 0):
                j = mine[math.floor(uniform[0][i][t] * len(mine))]
                k = theirs[math.floor(uniform[1][i][t] * len(theirs))]
                seen = [gumbel[which][i][t] for which in (0, 1)]
                rows = (d[row].tolist() for row in (i, j, k))
                values.append(loop_triplet(*rows, seen, margin))
        expected = math.fsum(values) / max(1, len(values))
        got = tree_loss(in_ball(z, nodes), near, noise, margin).item()
        assert got == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_picks_are_even_and_never_outside_the_mask():
    mask = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    found = picked(mask, torch.rand(3, 6000))
    counts = [torch.bincount(row, minlength=5).tolist() for row in found]
    assert counts[0][0] == counts[0][2] == 0
    assert all(1850 < counts[0][j] < 2150 for j in (1, 3, 4))
    assert counts[1] == [6000, 0, 0, 0, 0]
    ends = picked(mask[:1], torch.tensor([[0.0, 1 - 2**-24]]))
    assert ends.tolist() == [[1, 4]], "the largest number below 1 is still inside"


def test_no_point_is_its_own_relative_or_negative():
    near = torch.rand(9, 9) + 2 * torch.eye(9)
    related, others = relatives(near)
    assert not related.diagonal().any()
    assert not others.diagonal().any()
    assert torch.equal(related, related.T)
    assert torch.equal(related | others, ~torch.eye(9, dtype=torch.bool))


def test_the_choice_of_an_ancestor_has_a_gradient_of_its_own():
    """Without it only the chosen ancestors would move."""
    d = torch.rand(3, 6, dtype=torch.float64, requires_grad=True)
    one_triplet(d, torch.randn(2, 6, dtype=torch.float64), 5.0).backward()
    assert (d.grad != 0).any(0).all()  # each through the farthest of the three points


def by_autograd(d, j, k, gumbel, able, margin):
    """Return the sum of the losses of triplets from all of them at once."""

    def choice(far, noise):
        soft = (noise - far / TAU).softmax(-1)
        which = soft.argmax(-1)
        hard = torch.nn.functional.one_hot(which, far.shape[-1]).to(soft)
        return hard + (soft - soft.detach()), which

    i, j, k = d[:, None], d[j], d[k]
    two = torch.maximum(i, j)
    low, u = choice(two, gumbel[0])
    high, w = choice(torch.maximum(two, k), gumbel[1])
    hinges = [((low - high) * i).sum(-1), ((low - high) * j).sum(-1), ((high - low) * k).sum(-1)]
    lost = sum((hinge + margin).relu() for hinge in hinges)
    return (lost * (u != w) * able[:, None]).sum()


@pytest.mark.parametrize("block", [1, 4000, 1 << 17])
def test_sum_and_gradient_in_blocks_equal_autograd_over_all_triplets(block, monkeypatch):
    monkeypatch.setattr(_ancestors, "BLOCK", block)
    torch.manual_seed(3)
    moved = 0
    for n, count in ((9, 5), (33, 40)):
        d = (3 * torch.rand(n, count, dtype=torch.float64)).requires_grad_()
        j, k = torch.randint(n, (2, n, TRIPLETS))
        able, margin = torch.rand(n) < 0.7, torch.rand(()).item()
        gumbel = draw(n, count)[1].double()
        expected = by_autograd(d, j, k, gumbel, able, margin)
        got = triplet_sum(d, j, k, gumbel, able, margin)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=0)
        slopes = [torch.autograd.grad(2 * total, d)[0] for total in (got, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-10)
        moved += (slopes[0] != 0).sum()
    assert moved > 1000


def test_the_sum_is_proxy_anchor_and_the_weighted_trees():
    built, plain = build(Hier, weight=2.0), build(ProxyAnchor)
    z, labels = random_batch(np.random.default_rng(2), SPEC.classes, SPEC.embedding_size)
    with torch.no_grad():
        built.terms[0].loss.proxies.copy_(plain.loss.proxies)
    tree = built.terms[1].loss
    noise = built.method.noise(len(z))
    built.method.drawn = noise  # as on a GPU, where it was drawn before
    near = (-in_ball(z)).exp() + (labels[:, None] == labels)
    up = in_ball(tree.ancestors)
    expected = tree_loss(in_ball(z, tree.ancestors), near, noise[:2], 0.1)
    expected = expected + tree_loss(up, (-up).exp(), noise[2:], 0.1)
    expected = plain(z, labels) + 2 * expected
    assert built(z, labels).item() == pytest.approx(expected.item(), rel=1e-9)
    assert expected > plain(z, labels)


def test_ancestors_start_in_the_ball_and_are_no_more_than_a_tree_over_the_images_has():
    many = replace(SPEC, labels=np.arange(900) % 8, embedding_size=64)
    for asked, spec, count in ((512, SPEC, 31), (16, SPEC, 16), (512, many, 512)):
        nodes = Hier(spec, ancestors=asked).terms[1].loss.ancestors
        assert nodes.shape == (count, spec.embedding_size)
    assert nodes.norm(dim=1).mean().item() == pytest.approx(0.9 * 2.3, rel=0.02)
    assert defaults(Hier.space("sop"))["ancestors"] == 512
    assert defaults(Hier.space("emoji"))["ancestors"] == 64


def test_gumbel_noise_is_finite_and_gumbel():
    uniform, gumbel = draw(40, 30)
    assert uniform.shape == (2, 40, TRIPLETS)
    assert gumbel.isfinite().all()
    assert gumbel.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert gumbel.var().item() == pytest.approx(math.pi**2 / 6, rel=0.03)
