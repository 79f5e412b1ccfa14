"""TAR at FAR and OPIS against loops over all pairs, in float64, and against what must hold."""

import json
import math

import numpy as np
import pytest

from protocols import verification as module
from protocols.errors import InvalidInputError
from protocols.verification import CALIBRATED, FARS, LEAST, THRESHOLDS, names, verification

STEP = 2.0**-15


def made(seed, classes=14, most=7, size=6, spread=0.6):
    """Return rows of uneven classes, some with one row, in no order."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, most + 1, classes)
    labels = np.repeat(np.arange(classes) * 7, counts)
    centres = rng.normal(size=(classes, size))
    x = centres[labels // 7] + spread * rng.uniform(0.2, 1.8, (classes, 1))[labels // 7] * (
        rng.normal(size=(len(labels), size))
    )
    order = rng.permutation(len(labels))
    return x[order].astype(np.float32), labels[order]


def likeness(a, b):
    """Return 1 - distance^2 / 2 cut to its step, from numbers that are rounded as documented."""
    found = 1 - sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)) / 2
    return math.floor((found + 1) / STEP)


def rounded(x, by_angle):
    x = np.asarray(x, np.float32)
    if by_angle:
        x = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None]).astype(
            np.float32
        )
        return np.rint(x.astype(np.float64) * 2**20) / 2**20
    middle = (x.min(0) / 2 + x.max(0) / 2).astype(np.float64)
    moved = x.astype(np.float64) - middle
    moved /= 2.0 ** math.ceil(math.log2(np.linalg.norm(moved, axis=1).max()))
    return np.rint(moved * 2**20) / 2**20


def every_pair(x, labels, gallery, by_angle):
    """Return class, class and bin of each pair, from both ends without a gallery."""
    z = rounded(x, by_angle)
    if gallery is None:
        count = range(len(z))
        both = [(i, j) for i in count for j in count if i != j]
        return [(labels[i], labels[j], likeness(z[i], z[j])) for i, j in both]
    other = rounded(gallery[0], by_angle)
    both = [(i, j) for i in range(len(z)) for j in range(len(other))]
    return [(labels[i], gallery[1][j], likeness(z[i], other[j])) for i, j in both]


def lowest(apart, far):
    """Return the lowest bin from which on at most a share of the pairs ``apart`` is accepted."""
    candidates = [0, *(s + 1 for s in set(apart))]
    return min(at for at in candidates if sum(s >= at for s in apart) <= far * len(apart))


def utilities(pairs, d):
    """Return U of each class that has a pair of its own at distance ``d``."""
    found = []
    for label in sorted({a for a, _, _ in pairs}):
        inner = [s * STEP - 1 >= 1 - d**2 / 2 for a, b, s in pairs if a == label == b]
        outer = [s * STEP - 1 >= 1 - d**2 / 2 for a, b, s in pairs if a == label != b]
        if inner and outer:
            t, s = sum(inner) / len(inner), 1 - sum(outer) / len(outer)
            found.append(2 * s * t / (s + t) if s + t else 0.0)
    return found


def by_hand(x, labels, gallery=None, by_angle=True):
    """Return every metric by asking each pair at each threshold."""
    pairs = every_pair(x, labels, gallery, by_angle)
    same = [s for a, b, s in pairs if a == b]
    apart = [s for a, b, s in pairs if a != b]
    allowed = len(apart) / (2 if gallery is None else 1)
    found = {}
    for far in (far for far in FARS if float(far) * allowed >= LEAST):
        at = lowest(apart, float(far))
        found[f"tar_at_far_{far}"] = sum(s >= at for s in same) / len(same)
    if CALIBRATED[0] * allowed < LEAST:
        return found
    ends = [math.sqrt(2 - 2 * (lowest(apart, far) * STEP - 1)) for far in CALIBRATED]
    squares = []
    for part in range(THRESHOLDS):
        u = utilities(pairs, ends[1] + (ends[0] - ends[1]) * (part + 0.5) / THRESHOLDS)
        squares += [(one - sum(u) / len(u)) ** 2 for one in u]
    return {**found, "opis": sum(squares) / len(squares)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("by_angle", [True, False])
def test_counts_are_those_of_a_loop_over_all_pairs(seed, by_angle):
    x, labels = made(seed)
    expected = by_hand(x, labels, by_angle=by_angle)
    got = verification(x, labels, normalize=by_angle)
    assert got.keys() == expected.keys()
    assert "opis" in got
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-12, abs=1e-15), name


def test_queries_in_a_gallery_of_its_own_meet_that_gallery_alone():
    x, labels = made(5, classes=34)
    query = np.arange(len(x)) % 3 == 0
    gallery = (x[~query], labels[~query])
    expected = by_hand(x[query], labels[query], gallery)
    got = verification(x[query], labels[query], gallery=gallery)
    assert got.keys() == expected.keys()
    assert {"opis", "tar_at_far_1e-2"} <= got.keys()
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-12, abs=1e-15), name


def test_three_classes_by_hand():
    """Forty images each at 0 and 10, and a class that is half at 20 and half at 32.

    The nearest pairs of two classes are 10 apart and are half of all, so every threshold with a
    FAR of 1e-1 or less lies just under 10 and accepts none of them. It accepts all pairs within
    the first two classes, and of the third 2 * 190 of 780.
    """
    x = np.repeat([0.0, 10.0, 20.0, 32.0], [40, 40, 20, 20])[:, None]
    got = verification(x, np.repeat([0, 1, 2], 40), normalize=False)
    assert got["tar_at_far_1e-2"] == (780 + 780 + 380) / 2340
    third = 2 * (380 / 780) / (1 + 380 / 780)
    mean = (1 + 1 + third) / 3
    assert got["opis"] == pytest.approx((2 * (1 - mean) ** 2 + (third - mean) ** 2) / 3, rel=1e-12)
    assert got.keys() == {"tar_at_far_1e-2", "opis"}


def test_where_every_class_is_alike_one_threshold_serves_all():
    """Classes at the corners of a simplex, each of the same shape: utilities are equal."""
    corners = np.eye(8, dtype=np.float32)
    x = np.repeat(corners, 8, axis=0) * 4
    x = np.concatenate([x, np.tile(np.eye(8, dtype=np.float32), (8, 1))], axis=1)
    got = verification(x, np.repeat(np.arange(8), 8))
    assert got["opis"] == pytest.approx(0, abs=1e-15)
    assert got["tar_at_far_1e-2"] == 1.0


def test_opis_grows_where_classes_need_thresholds_of_their_own():
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(30, 16)), 10, axis=0)
    noise = rng.normal(size=centres.shape)
    labels = np.repeat(np.arange(30), 10)
    even, uneven = np.full(30, 0.5), np.repeat([0.1, 0.9], 15)
    found = [
        verification(centres + np.repeat(spread, 10)[:, None] * noise, labels)["opis"]
        for spread in (even, uneven)
    ]
    assert found[1] > 3 * found[0]


def test_a_far_that_few_pairs_decide_is_left_out():
    x, labels = made(1, classes=6, most=6)
    pairs = sum(labels[i] != labels[j] for i in range(len(x)) for j in range(i))
    assert 10 < pairs < 1000
    assert verification(x, labels) == {}
    x, labels = made(1, classes=30, most=6)
    found = verification(x, labels)
    assert "tar_at_far_1e-2" in found
    assert "tar_at_far_1e-4" not in found


@pytest.mark.parametrize("labels", [np.zeros(60, int), np.arange(60)])
def test_where_a_kind_of_pair_is_missing_nothing_is_said(labels):
    assert verification(np.random.default_rng(0).normal(size=(60, 3)), labels) == {}


@pytest.mark.parametrize("by_angle", [True, False])
def test_a_collapsed_embedding_accepts_nothing(by_angle):
    labels = np.repeat(np.arange(20), 5)
    found = verification(np.ones((100, 4)), labels, normalize=by_angle)
    assert found == {"tar_at_far_1e-2": 0.0, "opis": 0.0}
    found = verification(np.zeros((100, 4)), labels, normalize=by_angle)
    assert found["tar_at_far_1e-2"] == 0.0


def test_neither_order_nor_tiles_nor_scale_move_a_bit(monkeypatch):
    x, labels = made(3, classes=40)
    order = np.random.default_rng(9).permutation(len(x))
    found = verification(x, labels)
    assert verification(x[order], labels[order]) == found
    assert verification(x * 4, 3 * labels + 1) == found
    apart = verification(x, labels, normalize=False)
    assert verification(x * 4, labels, normalize=False) == apart
    monkeypatch.setattr(module, "_TILE", 17)
    assert verification(x, labels) == found
    assert verification(x, labels, normalize=False) == apart


def test_a_product_of_another_device_gives_the_same_bits():
    torch = pytest.importorskip("torch")
    del torch
    x, labels = made(2, classes=40, size=64)
    product = module._on("cpu")
    pairs = module._pairs(x, labels, None, True, "cpu")
    a, b = pairs.queries, pairs.items
    assert np.array_equal(product(a, b), a @ b.T)
    assert np.array_equal(a @ b.T, np.array([[math.fsum(p * q) for q in b] for p in a]))


def test_a_device_is_asked_for_large_products_alone(monkeypatch):
    """Each answer is waited for: one for every class would take longer than all products."""
    asked, real = [], module._on

    def on(device):
        product = real("cpu")
        return lambda left, right: asked.append((len(left), len(right))) or product(left, right)

    monkeypatch.setattr(module, "_on", on)
    monkeypatch.setattr(module, "_FEW", 40 * 40)
    x, labels = made(2, classes=40, size=64)
    assert verification(x, labels, device="cuda") == verification(x, labels)
    assert asked == 2 * [(len(x), len(x))]


def test_products_of_rounded_rows_are_exact():
    """Whatever the order of a sum: it is a multiple of 2^-40 that float64 holds."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2048)).astype(np.float32)
    z = module._pairs(x, np.arange(50), None, True, "cpu").items[:, :-2]
    whole = (z * 2**20).astype(int).astype(object)
    exact = np.array([[int(sum(a * b)) for b in whole[:5]] for a in whole])
    assert (((z @ z[:5].T) * 2**40).astype(object) == exact).all()


def test_bounds_hold_on_random_sets():
    for seed in range(10):
        x, labels = made(seed, classes=25, spread=0.2 * (seed + 1))
        found = verification(x, labels)
        tar = [found[f"tar_at_far_{far}"] for far in FARS if f"tar_at_far_{far}" in found]
        assert tar == sorted(tar, reverse=True)
        assert all(0 <= value <= 1 for value in tar)
        assert 0 <= found["opis"] <= module.HIGHEST_OPIS
        assert found.keys() <= set(names())
        json.dumps(found, allow_nan=False)


def test_wrong_input_is_refused_as_for_all_metrics():
    with pytest.raises(InvalidInputError, match="NaN or infinity"):
        verification([[1.0, math.nan], [1.0, 0.0]], [0, 0])
    with pytest.raises(InvalidInputError, match="expected"):
        verification([[1.0, 0.0]], [0, 0])
