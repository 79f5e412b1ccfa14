"""The pretrained trunk's features reduced by PCA."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from protocols.conformance import SPEC
from protocols.method import Features
from protocols.methods.ntxent import NTXent
from protocols.methods.pretrained import Pretrained


def pretrained(x, size=12):
    spec = replace(SPEC, channels=x.shape[1], embedding_size=size)
    built = Pretrained(spec).eval()
    asked = []

    def probe(view):
        asked.append(view)
        return x

    built.prepare(probe)
    assert asked == ["vector"]
    return built


def embed(built, x):
    vector = torch.from_numpy(x)
    return built(Features(vector[:, :, None, None], vector))["embedding"].numpy()


def angles(x):
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    return z @ z.T


@pytest.mark.parametrize("rows", [100, 9])
def test_pretrained_equals_svd_of_standardised_features(rows):
    rng = np.random.default_rng(13)
    x = (rng.normal(size=(rows, 20)) * rng.uniform(0.1, 30, 20) + 5).astype(np.float32)
    new = (rng.normal(size=(6, 20)) * 10 + 5).astype(np.float32)
    z, other = ((a - x.mean(0)) / x.std(0) for a in (x, new))
    _, values, axes = np.linalg.svd(z - z.mean(0), full_matrices=False)
    kept = axes[: min(12, int((values > 1e-3).sum()))]
    got = embed(pretrained(x), new)
    assert got.shape == (6, 12)
    np.testing.assert_allclose(angles(got), angles(other @ kept.T), atol=1e-4)


def test_pretrained_joins_the_leading_axes_in_the_concatenated_number():
    x = np.random.default_rng(16).normal(size=(60, 20)).astype(np.float32)
    vector = torch.from_numpy(x)
    built = pretrained(x, size=4)
    views = built(Features(vector[:, :, None, None], vector))
    assert views[built.joined].shape == (60, 4 * built.spec.folds)
    np.testing.assert_array_equal(views["embedding"], views[built.joined][:, :4])
    np.testing.assert_allclose(
        angles(views[built.joined].numpy()), angles(embed(pretrained(x, size=8), x)), atol=1e-6
    )


def test_pretrained_drops_what_does_not_vary_in_training():
    rng = np.random.default_rng(14)
    x = rng.normal(size=(50, 6)).astype(np.float32)
    x[:, 2] = 0.1
    built = pretrained(x)
    new = rng.normal(size=(4, 6)).astype(np.float32)
    moved = new.copy()
    moved[:, 2] = 1e3
    np.testing.assert_allclose(embed(built, moved), embed(built, new), atol=1e-3)
    assert embed(built, new).shape == (4, 6)  # no wider than the trunk


def test_pretrained_has_nothing_to_train_and_keeps_its_axes_in_its_state():
    x = np.random.default_rng(15).normal(size=(40, 20)).astype(np.float32)
    built = pretrained(x)
    assert (built.trains, list(built.parameters()), built.groups()) == (False, [], [])
    fresh = Pretrained(built.spec).eval()
    fresh.load_state_dict(built.state_dict())
    np.testing.assert_array_equal(embed(fresh, x), embed(built, x))


def test_other_methods_prepare_nothing():
    def probe(view):
        raise AssertionError(view)

    NTXent(SPEC).prepare(probe)
