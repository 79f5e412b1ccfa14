"""SNR contrastive loss."""

import math
import statistics

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as library
from pytorch_metric_learning.regularizers import ZeroMeanRegularizer
from torch.nn.functional import normalize

from protocols.methods.snr import SNR
from tests.protocols.methods.loops import (
    FIXTURE_LABELS,
    build,
    gradient,
    mean,
    pairs_of,
    random_batch,
    unit,
)


def loop_snr(z, labels, pos_margin, neg_margin, reg_weight):
    u, (positive, negative) = unit(z), pairs_of(labels)

    def d(a, b):
        noise = [x - y for x, y in zip(u[a], u[b], strict=True)]
        return statistics.variance(noise) / statistics.variance(u[a])

    near = [d(a, p) - pos_margin for a, p in positive]
    far = [neg_margin - d(a, n) for a, n in negative]
    hinges = sum(mean(v for v in part if v > 0) for part in (near, far))
    return hinges + reg_weight * mean(abs(math.fsum(row)) for row in u)


def test_snr_equals_loops():
    rng = np.random.default_rng(4)
    for _ in range(60):
        z, labels = random_batch(rng)
        pos, neg, reg = rng.uniform(0, 1, 3).tolist()
        got = build(SNR, pos_margin=pos, neg_margin=neg, reg_weight=reg)(z, labels).item()
        assert got == pytest.approx(loop_snr(z, labels, pos, neg, reg), rel=1e-6, abs=1e-9)


def test_snr_regulariser_sees_unit_embeddings_as_in_the_papers_code():
    rng = np.random.default_rng(9)
    z, labels = random_batch(rng, size=6)
    raw = library.SignalToNoiseRatioContrastiveLoss(
        pos_margin=0.2,
        neg_margin=0.9,
        embedding_regularizer=ZeroMeanRegularizer(),
        embedding_reg_weight=0.5,
    )
    ours = build(SNR, pos_margin=0.2, neg_margin=0.9, reg_weight=0.5)
    assert raw(normalize(z), labels).item() == pytest.approx(ours(z, labels).item(), rel=1e-9)
    assert raw(9 * z, labels) > ours(9 * z, labels) + 1


def test_snr_of_a_flat_row_is_finite():
    z = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 0.0], [0.0, 1.0, 4.0], [2.0, 2.0, 2.0]])
    loss = build(SNR, torch.float32)
    assert loss(z, FIXTURE_LABELS).isfinite()
    assert gradient(loss, z, FIXTURE_LABELS).isfinite().all()
