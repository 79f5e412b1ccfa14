"""Multi-similarity loss on mined pairs."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.methods.ms_miner import MultiSimilarityMined
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    gradient,
    loop_mined,
    loop_multi_similarity,
    random_batch,
)

GOLDEN = [
    ({"beta": 50.0}, 0.43381381),
    ({"beta": 40.0}, 0.43381382),
    ({"beta": 50.0, "base": 1.0}, 0.43003603),
]
NAMES = ["2, 50, .5", "2, 40, .5", "2, 50, 1"]


@pytest.mark.parametrize(("settings", "value"), GOLDEN, ids=NAMES)
def test_golden_values(settings, value):
    got = build(MultiSimilarityMined, **settings)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(value, rel=0, abs=1e-8)


@pytest.mark.parametrize(("settings", "value"), GOLDEN, ids=NAMES)
def test_golden_values_through_the_term_in_float32(settings, value):
    (term,) = build(MultiSimilarityMined, **settings).terms
    got = term({"embedding": FIXTURE}, FIXTURE_LABELS)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(value, rel=1e-5)


def test_golden_gradient():
    got = gradient(build(MultiSimilarityMined, beta=50.0), FIXTURE, FIXTURE_LABELS)
    rows = [(0, -0.10825318), (-0.31025635, 0.17912659), (0.43276464, 0), (0, -0.18276464)]
    torch.testing.assert_close(got, torch.tensor(rows, dtype=torch.float64), atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    "settings", [(2.0, 50.0, 0.5), (0.5, 5.0, 0.0), (18.0, 75.0, 0.77)], ids=str
)
def test_multi_similarity_equals_loops_in_value_and_closed_form_gradient(settings):
    """dL/dS = -w+ on kept positives and +w- on kept negatives, taken back to the embeddings."""
    rng = np.random.default_rng(4)
    values = dict(zip(("alpha", "beta", "base"), settings, strict=True))
    for _ in range(70):
        epsilon = float(rng.uniform(0, 0.5))
        built = build(MultiSimilarityMined, **values, epsilon=epsilon)
        z, labels = random_batch(rng, least=2)
        expected, slope = loop_multi_similarity(z, labels, *settings, epsilon)
        assert built(z, labels).item() == pytest.approx(expected, rel=1e-8, abs=1e-12)
        leaf = z.clone().requires_grad_()
        unit = normalize(leaf)
        (unit @ unit.T * torch.from_numpy(slope)).sum().backward()
        torch.testing.assert_close(gradient(built, z, labels), leaf.grad, rtol=1e-6, atol=1e-10)


def test_mined_pairs_on_the_fixture():
    (term,) = build(MultiSimilarityMined).terms
    a, p, b, n = (index.tolist() for index in term.miner(FIXTURE, FIXTURE_LABELS))
    assert sorted(zip(a, p, strict=True)) == [(1, 0), (2, 3)]
    assert sorted(zip(b, n, strict=True)) == [(1, 2), (2, 0), (2, 1)]


def test_mined_pairs_equal_loops_on_200_batches():
    rng = np.random.default_rng(5)
    for _ in range(200):
        z, labels = random_batch(rng, least=2, unit=True)
        epsilon = float(rng.uniform(0, 0.5))
        (term,) = build(MultiSimilarityMined, epsilon=epsilon).terms
        a, p, b, n = (index.tolist() for index in term.miner(z, labels))
        expected = loop_mined((z @ z.T).tolist(), labels.tolist(), epsilon)
        assert (set(zip(a, p, strict=True)), set(zip(b, n, strict=True))) == expected


def test_a_single_mined_pair_of_each_kind_still_counts():
    # The library's pair losses return 0 here; a nearly trained batch looks like this.
    degrees = torch.tensor([0.0, 20.0, 50.0, 55.0], dtype=torch.float64)
    z = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], dim=1)
    built = build(MultiSimilarityMined, beta=50.0)
    mined = built.terms[0].miner(z, FIXTURE_LABELS)
    assert [index.tolist() for index in mined] == [[1], [0], [1], [2]]
    cos = [math.cos(math.radians(v)) for v in (20, 30)]
    near = math.log1p(math.exp(-2 * (cos[0] - 0.5))) / 2
    far = math.log1p(math.exp(50 * (cos[1] - 0.5))) / 50
    assert built(z, FIXTURE_LABELS).item() == pytest.approx((near + far) / 4, rel=1e-9)


def test_nothing_is_mined_from_perfect_clusters():
    z = torch.tensor([[1.0, 0], [1, 0.01], [0, 1], [0.01, 1]], dtype=torch.float64)
    built = build(MultiSimilarityMined)
    assert built(z, FIXTURE_LABELS).item() == 0.0
    assert gradient(built, z, FIXTURE_LABELS).abs().max() == 0.0
