"""Rows on a frozen trunk: values of independent loops, limits and what is left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from protocols.conformance import SPEC
from protocols.method import Features
from protocols.methods.centred import Centred
from protocols.methods.lda import LDA
from protocols.methods.ncm import NearestClassMean
from protocols.methods.whitened import Whitened
from protocols.space import Real

X = np.array([(0, 1), (2, 1), (4, 1), (6, 4), (1, 5), (3, 6)], np.float32)
LABELS = np.array([0, 0, 1, 1, 2, 2])
PAIRS = ((0, 1), (2, 3), (0, 4), (1, 2))


def fitted(cls, x=X, labels=LABELS, size=None, **settings):
    """A method fitted on ``x``, with as many axes as channels unless said otherwise."""
    size = x.shape[1] if size is None else size
    classes = int(labels.max()) + 1
    spec = replace(SPEC, channels=x.shape[1], labels=labels, classes=classes, embedding_size=size)
    built = cls(spec, **settings).eval()
    asked = []

    def probe(view):
        asked.append(view)
        return x.astype(np.float32)

    built.prepare(probe)
    assert asked == ["vector"]
    return built


def embed(built, x):
    vector = torch.from_numpy(x.astype(np.float32))
    return built(Features(vector[:, :, None, None], vector))["embedding"].double().numpy()


def cosines(x):
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    return z @ z.T


def images(rows=60, channels=7, classes=10, seed=3):
    """Features off centre, of unequal spread and correlated; the labels of their classes."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(channels, channels))
    labels = np.arange(rows) % classes
    centres = 2 * rng.normal(size=(classes, channels))
    return (centres[labels] + rng.normal(size=(rows, channels))) @ mixed + 5, labels


# Cosines of the four pairs, from loops in float64 that share no code with this one.
@pytest.mark.parametrize(
    ("cls", "settings", "expected"),
    [
        (Centred, {}, (0.82219219, 0.29221854, 0.05121475, 0.61394061)),
        (Whitened, {"shrinkage": 0.1}, (0.74995993, 0.42898901, 0.14191068, 0.62153689)),
        (LDA, {"shrinkage": 0.1}, (0.46889104, 0.66873842, 0.16100834, 0.82470527)),
        (LDA, {"shrinkage": 0.5}, (0.68030913, 0.48164856, 0.09724333, 0.71609406)),
        (Whitened, {"shrinkage": 1.0}, (0.82219219, 0.29221854, 0.05121475, 0.61394061)),
        (LDA, {"shrinkage": 1.0}, (0.82219219, 0.29221854, 0.05121475, 0.61394061)),
    ],
)
def test_values_by_hand(cls, settings, expected):
    found = cosines(embed(fitted(cls, **settings), X))
    np.testing.assert_allclose([found[pair] for pair in PAIRS], expected, atol=2e-7)


def test_full_whitening_is_the_limit():
    found = cosines(embed(fitted(Whitened, shrinkage=1e-4), X))
    limit = (0.74026810, 0.44380868, 0.15235834, 0.62327067)
    np.testing.assert_allclose([found[pair] for pair in PAIRS], limit, atol=2e-5)


def test_lda_keeps_the_axes_with_the_largest_ratio():
    variances = embed(fitted(LDA, shrinkage=0.1), X).var(axis=0)
    np.testing.assert_allclose(variances, (10.64455277, 3.19792467), rtol=1e-6)


def loops_whitened(x, shrinkage, size, new):
    """Whitening by the eigenvectors of a covariance summed image by image."""
    mean = sum(x) / len(x)
    s = sum(np.outer(row - mean, row - mean) for row in x) / len(x)
    values, vectors = np.linalg.eig(s)
    order = np.argsort(-values)[:size]
    t = np.trace(s) / len(s)
    axes = [vectors[:, k] / np.sqrt((1 - shrinkage) * values[k] + shrinkage * t) for k in order]
    return np.array([[axis @ (row - mean) for axis in axes] for row in new])


def loops_lda(x, labels, shrinkage, size, new):
    """LDA as a generalised eigenproblem: total variance over shrunk variance within classes."""
    mean = sum(x) / len(x)
    s = sum(np.outer(row - mean, row - mean) for row in x) / len(x)
    own = [x[labels == label].mean(axis=0) for label in labels]
    within = sum(np.outer(a - b, a - b) for a, b in zip(x, own, strict=True)) / len(x)
    target = (1 - shrinkage) * within + shrinkage * np.trace(within) / len(s) * np.eye(len(s))
    values, vectors = np.linalg.eig(np.linalg.solve(target, s))
    order = np.argsort(-values.real)[:size]
    axes = [vectors[:, k].real for k in order]
    axes = [axis / np.sqrt(axis @ target @ axis) for axis in axes]
    return np.array([[axis @ (row - mean) for axis in axes] for row in new])


@pytest.mark.parametrize("shrinkage", [1e-3, 0.1, 0.9])
@pytest.mark.parametrize("size", [3, 7])
def test_equal_to_independent_loops_on_new_images(shrinkage, size):
    x, labels = images()
    new = images(rows=9, seed=4)[0]
    found = embed(fitted(Whitened, x, labels, size, shrinkage=shrinkage), new)
    np.testing.assert_allclose(
        cosines(found), cosines(loops_whitened(x, shrinkage, size, new)), atol=2e-5
    )
    found = embed(fitted(LDA, x, labels, size, shrinkage=shrinkage), new)
    np.testing.assert_allclose(
        cosines(found), cosines(loops_lda(x, labels, shrinkage, size, new)), atol=2e-5
    )


def test_ncm_has_the_angles_of_the_likeness_to_every_class_mean():
    x, labels = images()
    new, mean = images(rows=9, seed=4)[0], x.mean(axis=0)
    likeness = []
    for row in new:
        own = []
        for label in range(10):
            towards = x[labels == label].mean(axis=0) - mean
            own.append((row - mean) @ towards / np.linalg.norm(towards))
        likeness.append(own)
    built = fitted(NearestClassMean, x, labels)
    assert embed(built, new).shape == (9, 7)  # the likeness to ten classes has seven dimensions
    np.testing.assert_allclose(cosines(embed(built, new)), cosines(np.array(likeness)), atol=1e-5)


class Unshrunk(LDA):
    """LDA at the limit that its search does not reach."""

    shrinkage = Real(1e-9, 1.0, default=1e-9, log=True)


def test_lda_does_not_change_under_an_affine_map_but_for_its_shrinkage():
    x, labels = images(rows=400)
    x = 20 * np.linalg.qr(x - x.mean(axis=0))[0]  # of even spread: float32 rounds little
    rng = np.random.default_rng(5)
    moved = x @ (np.eye(7) + 0.3 * rng.normal(size=(7, 7))) + 3
    own, other = (embed(fitted(Unshrunk, a, labels, 4), a) for a in (x, moved))
    np.testing.assert_allclose(cosines(own), cosines(other), atol=1e-4)
    own, other = (embed(fitted(LDA, a, labels, 4, shrinkage=0.9), a) for a in (x, moved))
    assert np.abs(cosines(own) - cosines(other)).max() > 0.1  # a test that sees a difference


@pytest.mark.parametrize("cls", [Centred, Whitened, LDA, NearestClassMean])
def test_rows_have_nothing_to_train_and_keep_their_axes_in_their_state(cls):
    x, labels = images()
    built = fitted(cls, x, labels, 5)
    assert (built.trains, list(built.parameters()), built.groups()) == (False, [], [])
    fresh = cls(built.spec).eval()
    fresh.load_state_dict(built.state_dict())
    np.testing.assert_array_equal(embed(fresh, x), embed(built, x))


@pytest.mark.parametrize("cls", [Whitened, LDA, NearestClassMean])
def test_directions_without_variance_in_training_are_left_out(cls):
    x, labels = images()
    x[:, 2] = 0.1
    built = fitted(cls, x, labels)
    new = images(rows=5, seed=4)[0]
    moved = new.copy()
    moved[:, 2] += 1e3
    np.testing.assert_allclose(embed(built, moved), embed(built, new), atol=1e-3)


@pytest.mark.parametrize("cls", [Centred, Whitened, LDA, NearestClassMean])
@pytest.mark.parametrize("kind", ["one image a class", "one image again and again"])
def test_degenerate_training_images_give_finite_embeddings(cls, kind):
    x, _ = images(rows=6)
    labels = np.arange(6)
    if kind == "one image again and again":
        x[:] = x[0]
    assert np.isfinite(embed(fitted(cls, x, labels), images(rows=5, seed=4)[0])).all()
