"""Batch-hard triplet loss: mining, both forms, the published head."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from protocols.conformance import SPEC
from protocols.methods._batch_hard import batch_hard
from protocols.methods.bfe import soft_batch_hard
from protocols.methods.triplet_hard import TripletHard
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    LINE,
    LINE_LABELS,
    build,
    gradient,
    loop_distances,
    random_batch,
)

GOLDEN = [
    ({"soft": False, "margin": 0.2}, 0.44473435),
    ({"soft": False, "margin": 0.2, "unit": True}, 0.44473435),
    ({}, 0.81399844),
]
NAMES = ["hinge", "hinge, unit", "soft"]


@pytest.mark.parametrize(("settings", "value"), GOLDEN, ids=NAMES)
def test_golden_values(settings, value):
    got = build(TripletHard, **settings)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(value, rel=0, abs=1e-8)


@pytest.mark.parametrize(("settings", "value"), GOLDEN, ids=NAMES)
def test_golden_values_through_the_term_in_float32(settings, value):
    (term,) = build(TripletHard, **settings).terms
    got = term({"embedding": FIXTURE}, FIXTURE_LABELS)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(value, rel=1e-5)


def test_golden_gradient():
    got = gradient(build(TripletHard), FIXTURE, FIXTURE_LABELS)
    rows = [
        (0.05668612, -0.14967557),
        (-0.53903942, 0.25332861),
        (0.59117387, 0.04371027),
        (-0.10882056, -0.14736330),
    ]
    torch.testing.assert_close(got, torch.tensor(rows, dtype=torch.float64), atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("settings", "value"),
    [({}, 0.315066), ({"soft": False, "margin": 0.1}, 0.025)],
    ids=["soft", "hinge"],
)
def test_batch_hard_on_a_line_by_hand(settings, value):
    # 0, 1 | 3, 5: farthest positives 1 1 2 2, nearest negatives 3 2 2 4.
    line = torch.tensor([[0.0], [1], [3], [5]], dtype=torch.float64)
    got = build(TripletHard, **settings)(line, FIXTURE_LABELS)
    assert got.item() == pytest.approx(value, abs=1e-6)


def test_batch_hard_on_a_line():
    v, anchors = batch_hard(LINE, LINE_LABELS)
    torch.testing.assert_close(v[anchors], torch.tensor([-2.0, -1.0, 0.0, -2.0]))
    terms = torch.nn.functional.softplus(v[anchors])
    expected = torch.tensor([0.126928, 0.313262, 0.693147, 0.126928])
    torch.testing.assert_close(terms, expected, atol=1e-6, rtol=0)
    assert soft_batch_hard(LINE, LINE_LABELS).item() == pytest.approx(0.315066, abs=1e-6)


def loop_batch_hard(z, labels, soft, margin, unit):
    d, y = loop_distances(normalize(z) if unit else z), labels.tolist()
    values = []
    for a in range(len(y)):
        worst = None
        for p, n in product(range(len(y)), repeat=2):
            if a != p and y[a] == y[p] and y[a] != y[n]:
                v = d[a][p] - d[a][n]
                worst = v if worst is None else max(worst, v)
        if worst is not None:
            values.append(math.log1p(math.exp(worst)) if soft else max(0.0, margin + worst))
    return sum(values) / len(values) if values else 0.0


@pytest.mark.parametrize("unit", [False, True], ids=["raw", "unit"])
@pytest.mark.parametrize("soft", [False, True], ids=["hinge", "soft"])
def test_batch_hard_equals_a_triple_loop_on_200_batches(soft, unit):
    rng, positive = np.random.default_rng(1), 0
    for _ in range(200):
        z, labels = random_batch(rng, least=2)
        margin = float(rng.uniform(0, 1))
        expected = loop_batch_hard(z, labels, soft, margin, unit)
        built = build(TripletHard, soft=soft, margin=margin, unit=unit)
        assert built(z, labels).item() == pytest.approx(expected, rel=1e-6, abs=1e-12)
        positive += expected > 0
    assert positive > 100


def test_batch_hard_ranks_as_it_trains():
    assert build(TripletHard).method.normalize_embeddings is False
    assert build(TripletHard, unit=True).method.normalize_embeddings is True


def test_soft_margin_has_no_margin():
    rng = np.random.default_rng(2)
    z, labels = random_batch(rng, least=2)
    values = {build(TripletHard, margin=m)(z, labels).item() for m in (0.0, 0.5, 1.0)}
    assert len(values) == 1


COLLAPSED = {
    "hinge": ({"soft": False, "margin": 0.3}, 0.3),
    "hinge, unit": ({"soft": False, "margin": 0.3, "unit": True}, 0.3),
    "soft": ({}, math.log(2)),
    "soft, unit": ({"unit": True}, math.log(2)),
}


@pytest.mark.parametrize(("settings", "value"), COLLAPSED.values(), ids=COLLAPSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_collapsed_batch(settings, value, dtype):
    z = torch.tensor([[0.3, -1.2, 2.0]], dtype=dtype).expand(8, 3)
    labels, built = torch.arange(8) // 2, build(TripletHard, **settings)
    assert built(z, labels).item() == pytest.approx(value, abs=1e-6)
    assert gradient(built, z, labels).isfinite().all()


def test_the_published_head_of_batch_hard():
    spec = replace(SPEC, channels=2048, embedding_size=128)
    first, norm, relu, last = TripletHard(spec).head
    assert (first.in_features, first.out_features, last.out_features) == (2048, 1024, 128)
    assert isinstance(relu, nn.ReLU)
    assert (norm.eps, norm.momentum) == (1e-5, 0.1)  # the paper's 0.9 is the share that is kept
    gram = last.weight @ last.weight.T
    torch.testing.assert_close(gram, torch.eye(128), atol=1e-5, rtol=0)
    assert isinstance(TripletHard(spec, hidden=False).head, nn.Linear)
