"""The search of large galleries against a sort of all float64 similarities."""

import numpy as np
import pytest
import torch

from protocols import nearest as module
from protocols import nearest_device, settle
from protocols.nearest import nearest


@pytest.fixture
def small(monkeypatch):
    """Tiles small enough that a few hundred rows fill many of them."""
    for name, value in {"SIDE": 8, "_ROWS": 16, "_COLUMNS": 64}.items():
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def in_full(monkeypatch):
    """Count the queries that float64 had to decide in full."""
    seen, real = [], settle.exact

    def count(search, asking, width):
        if len(asking):
            seen.append(len(asking))
        return real(search, asking, width)

    monkeypatch.setattr(settle, "exact", count)
    return seen


def half_squares(x, by_angle):
    return np.zeros(len(x)) if by_angle else (x.astype(np.float64) ** 2).sum(1) / 2


def sorted_out(queries, items, half, width):
    """Sort every query's float64 similarities, rounded to float32, one query at a time."""
    rows = []
    for i, query in enumerate(queries.astype(np.float64)):
        key = ((query * items.astype(np.float64)).sum(1) - half).astype(np.float32)
        order = np.lexsort((np.arange(len(items)), -key))
        rows.append([j for j in order if queries is not items or j != i][:width])
    return np.array(rows)


def points(rng, n, d, by_angle, copies=0):
    x = rng.normal(size=(n, d)).astype(np.float32)
    x[rng.integers(0, n, copies)] = x[rng.integers(0, n, copies)]
    return x / np.linalg.norm(x, axis=1, keepdims=True) if by_angle else x


@pytest.mark.parametrize("by_angle", [True, False], ids=["angle", "distance"])
@pytest.mark.parametrize("seed", range(12))
def test_own_set_equals_the_sort(seed, by_angle, small, in_full):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(200, 600))
    x = points(rng, n, int(rng.integers(2, 40)), by_angle, copies=n // 3)
    half, width = half_squares(x, by_angle), int(rng.integers(1, 8))
    np.testing.assert_array_equal(nearest(x, x, half, width).column, sorted_out(x, x, half, width))
    assert in_full == []


@pytest.mark.parametrize("by_angle", [True, False], ids=["angle", "distance"])
@pytest.mark.parametrize("seed", range(6))
def test_separate_gallery_equals_the_sort(seed, by_angle, small, in_full):
    rng = np.random.default_rng(seed)
    q, x = points(rng, 150, 12, by_angle), points(rng, 301 + seed, 12, by_angle, copies=90)
    q[:40] = x[:40]
    half = half_squares(x, by_angle)
    np.testing.assert_array_equal(nearest(q, x, half, 5).column, sorted_out(q, x, half, 5))
    assert in_full == []


@pytest.mark.parametrize("held", [500, 5000], ids=["one-sided", "wider tiles"])
def test_little_memory_changes_nothing(held, small, in_full, monkeypatch):
    monkeypatch.setattr(module, "_MAXIMA", held)
    rng = np.random.default_rng(0)
    for by_angle in (True, False):
        x = points(rng, 500, 9, by_angle, copies=100)
        half = half_squares(x, by_angle)
        np.testing.assert_array_equal(nearest(x, x, half, 4).column, sorted_out(x, x, half, 4))
    assert in_full == []


def test_few_queries_at_once_change_nothing(small, in_full, monkeypatch):
    monkeypatch.setattr(module, "_FOUND", 1)
    x = points(np.random.default_rng(0), 400, 9, True, copies=100)
    half = half_squares(x, True)
    np.testing.assert_array_equal(nearest(x, x, half, 4).column, sorted_out(x, x, half, 4))
    assert in_full == []


@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-5])
def test_collapsed_embeddings_are_decided_in_float64(spread, small, in_full):
    rng = np.random.default_rng(3)
    x = np.ones((400, 16), np.float32) + rng.normal(scale=spread, size=(400, 16))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    half = np.zeros(len(x))
    np.testing.assert_array_equal(nearest(x, x, half, 4).column, sorted_out(x, x, half, 4))
    assert sum(in_full) > 0


def test_lengths_near_the_end_of_float32_do_not_overflow(small, in_full):
    x = points(np.random.default_rng(0), 300, 4, False) * np.float32(1e18)
    half = half_squares(x, False)
    found = nearest(x, x, half, 3).column
    assert sum(in_full) == len(x)
    np.testing.assert_array_equal(found, sorted_out(x, x, half, 3))


def test_full_size_tiles_equal_the_sort(in_full):
    rng = np.random.default_rng(1)
    x = points(rng, 2600, 24, True, copies=800)
    half = np.zeros(len(x))
    np.testing.assert_array_equal(nearest(x, x, half, 10).column, sorted_out(x, x, half, 10))
    assert in_full == []


@pytest.mark.parametrize("by_angle", [True, False], ids=["angle", "distance"])
@pytest.mark.parametrize("own", [True, False], ids=["own set", "gallery"])
@pytest.mark.parametrize("kept", [1, 2000, nearest_device._KEPT], ids=["block", "some", "all"])
def test_candidates_from_torch_end_in_the_same_order(kept, own, by_angle, in_full, monkeypatch):
    """As on another device, here with torch's CPU; copies of one row tie beyond what is kept."""
    monkeypatch.setattr(nearest_device, "_HELD", 7000)
    monkeypatch.setattr(nearest_device, "_KEPT", kept)
    monkeypatch.setattr(nearest_device, "_ALL_KEPT", 0)
    monkeypatch.setattr(nearest_device, "_SUMMED", 300)
    rng = np.random.default_rng(0)
    x = points(rng, 400, 8, by_angle, copies=100)
    x[rng.permutation(400)[:60]] = x[0]
    q = x if own else points(rng, 90, 8, by_angle)
    half = half_squares(x, by_angle)
    found = nearest(q, x, half, 5, "cpu:0").column
    np.testing.assert_array_equal(found, sorted_out(q, x, half, 5))
    assert in_full


def test_candidates_of_a_spread_out_set_need_no_float64(in_full, monkeypatch):
    monkeypatch.setattr(nearest_device.Held, "similarities", None)
    x = points(np.random.default_rng(0), 300, 16, True)
    found = nearest(x, x, np.zeros(300), 5, "cpu:0").column
    np.testing.assert_array_equal(found, sorted_out(x, x, np.zeros(300), 5))
    assert in_full == []


@pytest.mark.parametrize("by_angle", [True, False], ids=["angle", "distance"])
@pytest.mark.parametrize("width", [1, 7, 8, 20, 128, 131, 300, 512])
def test_a_device_adds_in_the_order_of_the_host(width, by_angle):
    """The numbers are of very different sizes, so that another order gives other bits."""
    rng = np.random.default_rng(width)
    x = (rng.normal(size=(50, width)) * 10.0 ** rng.integers(-6, 6, (50, width))).astype(np.float32)
    half = half_squares(x, by_angle)
    row, column = rng.integers(0, 50, (2, 400))
    search = settle.Search(x, x, half, True, np.zeros(50, np.float32))
    held = nearest_device.hold(x, x, half, "cpu:0", True)
    found = held.similarities(torch.from_numpy(row), torch.from_numpy(column)).numpy()
    np.testing.assert_array_equal(found, settle.similarities(search, row, column))
    products = x[row].astype(np.float64) * x[column]
    sums = nearest_device.row_sums(torch.from_numpy(products)).numpy()
    np.testing.assert_array_equal(sums, products.sum(axis=1))


@pytest.mark.parametrize("by_angle", [True, False], ids=["angle", "distance"])
def test_of_a_small_set_all_are_kept_and_sorted_on_the_device(by_angle, in_full):
    x = points(np.random.default_rng(0), 400, 8, by_angle, copies=100)
    x[np.random.default_rng(1).permutation(400)[:60]] = x[0]
    half = half_squares(x, by_angle)
    found = nearest(x, x, half, 5, "cpu:0").column
    np.testing.assert_array_equal(found, sorted_out(x, x, half, 5))
    assert in_full == []


def test_collapsed_candidates_are_decided_together(in_full, monkeypatch):
    monkeypatch.setattr(nearest_device, "_ALL_KEPT", 0)
    x = np.repeat(points(np.random.default_rng(0), 2, 8, True), 150, axis=0)
    found = nearest(x, x, np.zeros(300), 5, "cpu:0").column
    np.testing.assert_array_equal(found, sorted_out(x, x, np.zeros(300), 5))
    assert in_full == [300]


def test_where_all_are_wanted_none_is_left_over():
    x = points(np.random.default_rng(0), 9, 4, False, copies=6)
    half = half_squares(x, False)
    np.testing.assert_array_equal(nearest(x, x, half, 8, "cpu:0").column, sorted_out(x, x, half, 8))


@pytest.mark.parametrize("asked", ["old call", "new setting"])
def test_candidates_come_from_whole_float32_products(asked, monkeypatch):
    """Reduced products, which torch can be told to make on a GPU, would exceed the bound.

    Once the newer setting was used, torch's older calls refuse to say anything.
    """
    place, seen, real = torch.backends.cuda.matmul, [], torch.Tensor.topk

    def topk(self, count):
        seen.append((place.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision))
        return real(self, count)

    monkeypatch.setattr(torch.Tensor, "topk", topk)
    try:
        if asked == "old call":
            torch.set_float32_matmul_precision("medium")
        else:
            place.fp32_precision = "tf32"
            with pytest.raises(RuntimeError):
                torch.get_float32_matmul_precision()
        before = place.fp32_precision
        x = points(np.random.default_rng(0), 100, 8, True)
        nearest(x, x, np.zeros(100), 3, "cpu:0")
        assert place.fp32_precision == before == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {("ieee", "ieee")}


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
@pytest.mark.parametrize("by_angle", [True, False], ids=["angle", "distance"])
@pytest.mark.parametrize("seed", range(4))
def test_a_tie_is_a_similarity_equal_to_the_one_before(seed, by_angle, device, small):
    rng = np.random.default_rng(seed)
    x = points(rng, 300, 6, by_angle, copies=200)
    x[rng.permutation(300)[:50]] = x[0]
    half = half_squares(x, by_angle)
    found = nearest(x, x, half, 7, device)
    for i, (columns, tied) in enumerate(zip(found.column, found.tied, strict=True)):
        key = ((x[i].astype(np.float64) * x[columns]).sum(1) - half[columns]).astype(np.float32)
        assert tied.tolist() == [False, *(key[1:] == key[:-1])]
    assert found.tied.any()
    assert not found.tied.all()


def test_runs_behind_the_nearest_are_not_settled(monkeypatch):
    """Two near twins far from the query stand behind the three asked for: their order is idle."""
    asked, real = [], settle.similarities

    def count(search, row, column):
        asked.extend(zip(row.tolist(), column.tolist(), strict=True))
        return real(search, row, column)

    monkeypatch.setattr(settle, "similarities", count)
    degrees = np.radians([0, 10, 25, 45, 80, 80, 80])
    x = np.stack([np.cos(degrees), np.sin(degrees)], 1).astype(np.float32)
    margin = np.full(7, 1e-5, np.float32)
    search = settle.Search(x, x, np.zeros(7), True, margin)
    column = np.arange(1, 7)
    pairs = settle.Pairs(np.zeros(6, np.int64), column, x[column] @ x[0])
    found = settle.order(search, np.array([0]), pairs, 3)
    assert found.column.tolist() == [[1, 2, 3]]
    assert asked == []
    assert settle.order(search, np.array([0]), pairs, 4).column.tolist() == [[1, 2, 3, 4]]
    assert asked == [(0, 4), (0, 5), (0, 6)]
