"""Recall@k surrogate."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from protocols.methods.recall_at_k import RecallAtK
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    build,
    cosines,
    mean,
    others,
    random_batch,
    sigmoid,
)


def test_golden_value():
    got = build(RecallAtK, levels=2)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(0.72696114, rel=0, abs=5e-8)


def loop_recall(z, labels, temperature, ks):
    s, values = cosines(z), []
    for q, positive, _ in others(labels):
        if not positive:
            continue
        ranks = [
            1
            + math.fsum(sigmoid((s[q][j] - s[q][p]) / temperature) for j in range(len(s)) if j != p)
            for p in positive
        ]
        recalls = [
            min(math.fsum(sigmoid(k - r) for r in ranks), k) / min(k, len(ranks)) for k in ks
        ]
        values.append(1 - mean(recalls))
    return mean(values)


@pytest.mark.parametrize("levels", [1, 3, 5])
def test_recall_at_k_equals_loops(levels):
    rng, ks = np.random.default_rng(4), [2**i for i in range(levels)]
    for _ in range(40):
        z, labels = random_batch(rng)
        t = float(10 ** rng.uniform(-3, -1))
        got = build(RecallAtK, temperature=t, levels=levels)(z, labels).item()
        assert got == pytest.approx(loop_recall(z, labels, t, ks), rel=1e-6, abs=1e-9)


def test_recall_counts_the_query_before_every_positive():
    """A perfect batch of pairs: rank 2 at best, so recall at 1 is sigmoid(1 - 2)."""
    z, labels = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 0), torch.arange(8) // 2
    for row in range(1, 8, 2):
        z[row] += 1e-1 * z[(row + 3) % 8]  # near its twin, not equal: equal ones would tie
    got = build(RecallAtK, temperature=1e-3, levels=1)(z, labels).item()
    assert got == pytest.approx(1 - sigmoid(-1), abs=1e-2)


def test_levels_are_powers_of_two():
    rng = np.random.default_rng(15)
    z, labels = torch.from_numpy(rng.normal(size=(24, 6))), torch.arange(24) % 3
    for levels, ks in product((2, 4), ([1, 2], [1, 2, 4, 8])):
        got = build(RecallAtK, levels=levels)(z, labels).item()
        same = got == pytest.approx(loop_recall(z, labels, 0.01, ks), rel=1e-6)
        assert same == (len(ks) == levels)
