"""Retrieval metrics: cases worked by hand, a slow second definition, properties, golden values."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocols import settle
from protocols.errors import InvalidInputError
from protocols.metrics import (
    METRICS,
    PerQuery,
    concatenate,
    per_query,
    recalls,
    reported,
    retrieval,
    unit,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.json"


def on_a_line(*positions: float) -> np.ndarray:
    return np.array(positions, dtype=np.float64)[:, None]


def at_angles(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def means(p1: float, rp: float, ap: float) -> dict[str, float]:
    return {"precision_at_1": p1, "r_precision": rp, "map_at_r": ap}


# Slow definition: float64, one pair and one rank at a time, nothing shared with the library.


def slow_order(query, items, skip, normalize):
    def unit_row(row):
        norm = math.sqrt(math.fsum(v * v for v in row))
        return [v / norm for v in row] if norm else list(row)

    keys = []
    for j, item in enumerate(items):
        if j == skip:
            continue
        if normalize:
            a, b = unit_row(query), unit_row(item)
            key = -math.fsum(u * v for u, v in zip(a, b, strict=True))
        else:
            key = math.fsum((u - v) ** 2 for u, v in zip(query, item, strict=True))
        keys.append((key, j))
    return [j for _, j in sorted(keys)]


def slow(embeddings, labels, gallery=None, normalize=True):
    """Return per query (p1, rp, ap) or None where excluded, and the ranked gallery."""
    items, item_labels = (embeddings, labels) if gallery is None else gallery
    items, rows = np.asarray(items, float).tolist(), np.asarray(embeddings, float).tolist()
    scores, orders = [], []
    for i, query in enumerate(rows):
        order = slow_order(query, items, i if gallery is None else None, normalize)
        orders.append(order)
        hits = [item_labels[j] == labels[i] for j in order]
        r = sum(hits)
        if not r:
            scores.append(None)
            continue
        precisions = [sum(hits[: k + 1]) / (k + 1) for k in range(r) if hits[k]]
        scores.append((float(hits[0]), sum(hits[:r]) / r, sum(precisions) / r))
    return scores, orders


def assert_same(got: PerQuery, wanted, orders=None) -> None:
    columns = np.array([[np.nan] * 3 if row is None else row for row in wanted])
    for column, name in enumerate(METRICS):
        np.testing.assert_allclose(
            getattr(got, name), columns[:, column], rtol=0, atol=1e-12, err_msg=name
        )
    if orders is not None:
        for row, order in zip(got.neighbours, orders, strict=True):
            assert row.tolist() == order[: len(row)]


# Five points, by hand.


def test_five_points_on_a_line_by_hand():
    # From 0: B A A B (R = 2); from 1: A first (R = 1); from 3: B, then 0 before 6 by index (A A);
    # from 6: A B (the position 3, then 10); from 10: A first.
    x, labels = on_a_line(0, 1, 3, 6, 10), np.array([0, 1, 0, 0, 1])
    got = per_query(x, labels, normalize=False)
    assert got.precision_at_1.tolist() == [0, 0, 0, 1, 0]
    assert got.r_precision.tolist() == [0.5, 0, 0.5, 0.5, 0]
    assert got.map_at_r.tolist() == [0.25, 0, 0.25, 0.5, 0]
    assert got.neighbours.tolist() == [
        [1, 2, 3, 4],
        [0, 2, 3, 4],
        [1, 0, 3, 4],
        [2, 4, 1, 0],
        [3, 2, 1, 0],
    ]
    assert retrieval(x, labels, normalize=False) == pytest.approx(means(0.2, 0.3, 0.2), abs=1e-15)


def test_five_points_on_a_circle_by_hand():
    # Lengths differ on purpose: only the angle may count.
    x = at_angles(0, 10, 40, 90, 100) * [[1], [50], [0.1], [3], [7]]
    got = per_query(x, np.array([0, 0, 1, 1, 0]))
    assert got.precision_at_1.tolist() == [1, 1, 0, 0, 0]
    assert got.map_at_r.tolist() == [0.5, 0.5, 0, 0, 0]
    assert got.means() == pytest.approx(means(0.4, 0.2, 0.2), abs=1e-15)


def test_lone_class_is_excluded_and_counted_but_stays_in_the_gallery():
    # Without the lone row at 100 degrees the query at 90 would hit its class at 40.
    x = at_angles(0, 10, 40, 90, 100)
    got = per_query(x, np.array([0, 0, 1, 1, 2]))
    assert got.excluded == 1
    assert np.isnan([got.precision_at_1[4], got.r_precision[4], got.map_at_r[4]]).all()
    assert got.map_at_r[:4].tolist() == [1, 1, 0, 0]
    assert got.means() == means(0.5, 0.5, 0.5)
    assert retrieval(x[:4], [0, 0, 1, 1])["map_at_r"] == 0.75


def test_all_lone_is_refused_and_not_zero():
    got = per_query(GOOD, [0, 1, 2])
    assert got.excluded == 3
    for ask in (got.means, lambda: retrieval(GOOD, [0, 1, 2])):
        with pytest.raises(InvalidInputError, match="none of 3 queries has another image"):
            ask()


R10 = {
    (1,): means(1.0, 0.10, 0.10),
    (1, 10): means(1.0, 0.20, 0.12),
    (1, 2): means(1.0, 0.20, 0.20),
    tuple(range(1, 11)): means(1.0, 1.0, 1.0),
    (2,): means(0.0, 0.10, 0.05),
    (10,): means(0.0, 0.10, 0.01),
    (): means(0.0, 0.0, 0.0),
}


@pytest.mark.parametrize("ranks", R10, ids=str)
@pytest.mark.parametrize("separate", [True, False], ids=["gallery", "own set"])
def test_table_of_hits_among_ten_relevant(ranks, separate):
    """A query at 0, items at distances 1..20; R = 10, the given ranks hit, the rest lie behind."""
    late = range(11, 11 + 10 - len(ranks))
    labels = np.array([1 if rank in {*ranks, *late} else 2 for rank in range(1, 21)])
    assert (labels == 1).sum() == 10
    items = on_a_line(*range(1, 21))
    if separate:
        got = per_query(on_a_line(0), [1], gallery=(items, labels), normalize=False)
    else:
        rows = np.concatenate([on_a_line(0), items])
        got = per_query(rows, np.concatenate([[1], labels]), normalize=False)
    first = {name: getattr(got, name)[0] for name in METRICS}
    assert first == pytest.approx(R10[ranks], abs=1e-15)


# Ties and duplicates.


def test_query_is_removed_by_its_index_even_next_to_exact_duplicates():
    x = np.array([[1.0, 2], [1, 2], [1, 2], [-2, 1]])
    got = per_query(x, np.array([0, 1, 0, 1]))
    assert got.neighbours.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    # Row 0 meets the lower index first (class 1), row 2 meets row 0 (its own class).
    assert got.precision_at_1.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("block", [1 << 24, 1], ids=["one block", "row by row"])
def test_exact_duplicates_tie_whatever_their_position(normalize, block, monkeypatch):
    """BLAS sums in an order that depends on the position; duplicates must tie all the same."""
    monkeypatch.setattr(settle, "_ALL", block)
    rng = np.random.default_rng(5)
    for _ in range(25):
        base = rng.normal(size=(int(rng.integers(2, 60)), int(rng.integers(1, 140))))
        source = rng.permutation(np.repeat(np.arange(len(base)), 3))
        got = per_query(base[source], source, normalize=normalize, neighbours=2)
        for i, row in enumerate(got.neighbours):
            twins = [j for j in np.flatnonzero(source == source[i]) if j != i]
            assert row.tolist() == twins


lattice = st.integers(2, 14).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.int64, (n, 2), elements=st.integers(-2, 2)),
        hnp.arrays(np.int64, n, elements=st.integers(0, 3)),
    )
)


@given(lattice)
def test_ties_on_a_lattice_equal_the_slow_version(case):
    """Integer points: distances are exact, ties and duplicates are everywhere."""
    x, labels = case
    scores, orders = slow(x, labels, normalize=False)
    assert_same(per_query(x, labels, normalize=False), scores, orders)


# Random cases against the slow version.


@pytest.mark.parametrize("normalize", [True, False], ids=["angle", "euclid"])
@pytest.mark.parametrize("seed", range(12))
def test_random_sets_equal_the_slow_version(seed, normalize):
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(5, 40)), int(rng.integers(1, 12))
    x = rng.normal(size=(n, int(rng.integers(1, 9))) if normalize else (n, 4)).astype(np.float32)
    if normalize and x.shape[1] == 1:  # one dimension has two angles only: all ties
        x[:] = np.sign(x)
    x[rng.integers(0, n, n // 4)] = x[rng.integers(0, n, n // 4)]  # exact duplicates
    labels = rng.integers(0, classes, n)
    scores, orders = slow(x, labels, normalize=normalize)
    assert_same(per_query(x, labels, normalize=normalize), scores, orders)


@pytest.mark.parametrize("normalize", [True, False], ids=["angle", "euclid"])
@pytest.mark.parametrize("seed", range(6))
def test_separate_gallery_equals_the_slow_version(seed, normalize):
    rng = np.random.default_rng(100 + seed)
    queries, items = rng.normal(size=(15, 5)), rng.normal(size=(25, 5))
    queries[3] = items[7]  # an exact copy in the gallery is a neighbour like any other
    gallery = (items.astype(np.float32), rng.integers(0, 5, 25))
    query_labels = rng.integers(0, 8, 15)  # 5, 6, 7 are not in the gallery
    query_labels[:2] = [7, 4]
    queries = queries.astype(np.float32)
    got = per_query(queries, query_labels, gallery=gallery, normalize=normalize)
    scores, orders = slow(queries, query_labels, gallery, normalize)
    assert_same(got, scores, orders)
    assert got.excluded == int((query_labels >= 5).sum()) > 0


def test_separate_gallery_by_hand():
    # In-Shop style: R counts the gallery's images only, and no query is removed.
    gallery = (on_a_line(1, 2, 3, 4), np.array([7, 8, 7, 8]))
    got = per_query(on_a_line(0, 5, 2), [7, 9, 8], gallery=gallery, normalize=False)
    assert got.excluded == 1  # label 9 is above every gallery label
    assert np.isnan(got.map_at_r[1])
    assert got.map_at_r[[0, 2]].tolist() == [0.5, 0.5]
    assert got.neighbours[2].tolist() == [1, 0, 2, 3]
    assert got.means() == means(1.0, 0.5, 0.5)


def test_query_label_below_every_gallery_label_is_excluded():
    got = per_query(on_a_line(0), [-1], gallery=(on_a_line(1), [3]), normalize=False)
    assert got.excluded == 1
    assert got.neighbours.tolist() == [[0]]


def test_one_item_gallery_is_enough():
    got = per_query(on_a_line(0), ["a"], gallery=(on_a_line(9), ["a"]), normalize=False)
    assert got.means() == means(1.0, 1.0, 1.0)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("values", [1, 100, 1000])
def test_blocks_do_not_change_the_result(values, normalize, monkeypatch):
    rng = np.random.default_rng(3)
    x, labels = rng.normal(size=(83, 17)), rng.integers(0, 9, 83)
    whole = per_query(x, labels, normalize=normalize)
    monkeypatch.setattr(settle, "_ALL", values)
    blocks = per_query(x, labels, normalize=normalize)
    assert_same(blocks, list(zip(*(getattr(whole, m) for m in METRICS), strict=True)))
    np.testing.assert_array_equal(blocks.neighbours, whole.neighbours)


def test_neighbours_are_as_many_as_asked_for_or_as_there_are():
    x, labels = np.random.default_rng(0).normal(size=(8, 3)), [0] * 8
    assert per_query(x, labels).neighbours.shape == (8, 7)
    assert per_query(x, labels, neighbours=2).neighbours.shape == (8, 2)


# Recall@k and MAP@10, which are reported and choose nothing.


def slow_reported(orders, labels, item_labels, recall_at):
    """Return per query {name: value} or None where excluded, from ranked galleries."""
    rows = []
    for i, order in enumerate(orders):
        hits = [item_labels[j] == labels[i] for j in order]
        if not any(hits):
            rows.append(None)
            continue
        row = {f"recall_at_{k}": float(any(hits[:k])) for k in recall_at}
        ranked = [sum(hits[: n + 1]) / (n + 1) for n in range(min(10, len(hits))) if hits[n]]
        rows.append({**row, "map_at_10": sum(ranked) / min(10, sum(hits))})
    return rows


def test_recall_and_map_at_10_by_hand():
    # From 0: misses at 1 and 2, hits at 3 and 4; R = 2, so the sum 1/3 + 2/4 is halved.
    x, labels = on_a_line(0, 1, 2, 3, 4), np.array([0, 1, 1, 0, 0])
    got = per_query(x, labels, normalize=False, recall_at=(1, 2, 3))
    assert [got.values()[f"recall_at_{k}"][0] for k in (1, 2, 3)] == [0, 0, 1]
    assert got.first_hit.tolist() == [3, 2, 1, 2, 1]
    assert got.map_at_10[0] == pytest.approx((1 / 3 + 2 / 4) / 2, abs=1e-15)


def test_map_at_10_looks_at_ten_ranks_of_a_larger_class():
    # 13 relevant items, first, third and twelfth to twenty-second: the last eleven are not seen.
    labels = np.array([1 if rank in {1, 3, *range(12, 23)} else 2 for rank in range(1, 23)])
    items = on_a_line(*range(1, 23))
    got = per_query(on_a_line(0), [1], gallery=(items, labels), normalize=False, recall_at=(1,))
    assert got.map_at_10[0] == pytest.approx((1 + 2 / 3) / 10, abs=1e-15)


@pytest.mark.parametrize("normalize", [True, False], ids=["angle", "euclid"])
@pytest.mark.parametrize("separate", [True, False], ids=["gallery", "own set"])
@pytest.mark.parametrize("seed", range(5))
def test_reported_metrics_equal_the_slow_version(seed, separate, normalize):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(60, 5)).astype(np.float32), rng.integers(0, 18, 60)
    x[rng.integers(0, 60, 15)] = x[rng.integers(0, 60, 15)]
    gallery = (rng.normal(size=(70, 5)).astype(np.float32), rng.integers(0, 16, 70))
    ks = (1, 2, 5, 20, 40, 1000)
    given = {"gallery": gallery} if separate else {}
    got = per_query(x, labels, normalize=normalize, recall_at=ks, neighbours=1, **given)
    _, orders = slow(x, labels, gallery if separate else None, normalize)
    wanted = slow_reported(orders, labels, gallery[1] if separate else labels, ks)
    values = got.values()
    assert tuple(values) == reported(ks) == tuple(got.means())
    for name in reported(ks)[len(METRICS) :]:
        column = [np.nan if row is None else row[name] for row in wanted]
        np.testing.assert_allclose(values[name], column, rtol=0, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(values["recall_at_1"], got.precision_at_1)


@given(st.integers(0, 2**31))
def test_recall_rises_with_k_and_reaches_one(seed):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(40, 3)), rng.integers(0, 12, 40)
    ks = (1, 2, 4, 8, 16, 39)
    means = per_query(x, labels, recall_at=ks).means()
    recalled = [means[f"recall_at_{k}"] for k in ks]
    assert recalled == sorted(recalled)
    assert recalled[-1] == 1.0


def test_recalls_follow_from_the_ranks_alone():
    ranks, excluded = np.array([1, 4, 0, 0]), np.array([False, False, False, True])
    found = recalls(ranks, (1, 4), excluded)
    np.testing.assert_array_equal(found["recall_at_1"], [1, 0, 0, np.nan])
    np.testing.assert_array_equal(found["recall_at_4"], [1, 1, 0, np.nan])


def test_without_recalls_the_three_metrics_alone_are_there():
    got = per_query(GOOD, [0, 0, 0])
    assert tuple(got.means()) == METRICS
    assert got.first_hit is None


def test_asking_for_recalls_moves_no_other_number():
    x, labels = np.random.default_rng(0).normal(size=(200, 6)), np.arange(200) % 70
    plain, more = per_query(x, labels), per_query(x, labels, recall_at=(1, 1000))
    for name in (*METRICS, "neighbours", "tied"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(more, name))


def test_refuses_recall_at_nothing():
    with pytest.raises(InvalidInputError, match=r"recall at \[0, 1\].*1 or more"):
        per_query(GOOD, [0, 0, 0], recall_at=(0, 1))


# Far from the origin.


@pytest.mark.parametrize("offset", [0, 1e3, 1e4, 1e5, 1e6])
@pytest.mark.parametrize("separate", [True, False], ids=["gallery", "own set"])
def test_euclidean_metrics_do_not_depend_on_the_offset(offset, separate):
    """Against float64 distances of the very rows that are given, which an offset has rounded."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 40
    near = rng.normal(size=(40, 8))[labels] + 0.5 * rng.normal(size=(400, 8))
    x = (near + offset * rng.choice([-1, 1, 0.3], 8)).astype(np.float32)
    q, gallery = (x[:90], (x[90:], labels[90:])) if separate else (x, None)
    got = per_query(q, labels[: len(q)], gallery=gallery, normalize=False)
    items = (x[90:] if separate else x).astype(np.float64)
    item_labels = labels[90:] if separate else labels
    distance = ((q.astype(np.float64)[:, None] - items) ** 2).sum(2)
    if not separate:
        np.fill_diagonal(distance, np.inf)
    first = item_labels[np.argmin(distance, axis=1)] == labels[: len(q)]
    np.testing.assert_array_equal(got.precision_at_1, first)
    order = np.argsort(distance, axis=1, kind="stable")[:, :10]
    # Equal distances differ in float64's last bits there; all else stands in its order.
    gaps = np.take_along_axis(distance, order, 1) - np.take_along_axis(distance, got.neighbours, 1)
    assert abs(gaps).max() < 1e-4


def test_moving_all_rows_alike_changes_nothing_where_float32_can_hold_them():
    """Whole numbers keep all of their digits at 2**20, so every tie must stay one."""
    rng = np.random.default_rng(0)
    x, labels = rng.integers(-4, 5, (120, 3)).astype(np.float64), rng.integers(0, 30, 120)
    here, there = (per_query(x + far, labels, normalize=False) for far in (0, 2.0**20))
    for name in (*METRICS, "neighbours", "tied"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))


# Ties.


def slow_ties(x, labels):
    """Count queries for which another order of equally near rows would give another value."""
    count = 0
    for i, row in enumerate(np.asarray(x, float)):
        key = {j: ((row - other) ** 2).sum() for j, other in enumerate(x) if j != i}
        hits = {j: labels[j] == labels[i] for j in key}
        r = sum(hits.values())
        for distance in sorted(set(key.values())):
            if sum(k < distance for k in key.values()) >= r:
                break
            group = {hits[j] for j, k in key.items() if k == distance}
            if len(group) == 2:
                count += 1
                break
    return count


@given(lattice)
def test_ties_are_counted_where_the_order_of_rows_decides(case):
    x, labels = case
    got = per_query(x, labels, normalize=False)
    assert got.ties == slow_ties(x, labels)


@given(lattice, st.randoms(use_true_random=False))
def test_without_ties_the_order_of_rows_decides_nothing(case, random):
    x, labels = case
    rows = list(range(len(x)))
    random.shuffle(rows)
    one, two = (per_query(x[r], labels[r], normalize=False) for r in (np.arange(len(x)), rows))
    fixed = ~one.tied[rows]
    np.testing.assert_array_equal(one.map_at_r[rows][fixed], two.map_at_r[fixed])


def test_a_class_that_is_one_point_ties_with_itself_only():
    x, labels = np.repeat(on_a_line(0, 5, 9), 4, axis=0), np.repeat([0, 1, 2], 4)
    assert per_query(x, labels, normalize=False).ties == 0


def test_two_classes_at_one_point_tie():
    x, labels = np.repeat(on_a_line(0, 0, 9), 4, axis=0), np.repeat([0, 1, 2], 4)
    got = per_query(x, labels, normalize=False)
    assert got.tied.tolist() == [True] * 8 + [False] * 4
    assert got.precision_at_1.tolist() == [1] * 4 + [0] * 4 + [1] * 4  # the lower index is first


def test_a_tie_that_goes_on_beyond_what_was_looked_at_is_counted():
    x, labels = np.zeros((60, 2)), np.repeat(np.arange(30), 2)
    assert per_query(x + 1, labels, neighbours=1).ties == 60


# Properties.

random_sets = st.tuples(
    st.integers(0, 2**31), st.integers(2, 30), st.integers(2, 6), st.integers(1, 6)
).map(
    lambda v: (
        np.random.default_rng(v[0]).normal(size=(v[1], v[2])),
        np.random.default_rng(v[0] + 1).integers(0, v[3], v[1]),
    )
)


def some_pair(labels):
    """Return whether some class has two rows, so that a mean exists."""
    return len(set(labels)) < len(labels)


@given(random_sets, st.randoms(use_true_random=False), st.booleans())
def test_order_of_rows_does_not_matter(case, random, normalize):
    x, labels = case
    assume(some_pair(labels))
    rows = list(range(len(x)))
    random.shuffle(rows)
    expected = retrieval(x, labels, normalize=normalize)
    assert retrieval(x[rows], labels[rows], normalize=normalize) == pytest.approx(expected)


@given(random_sets, st.floats(1e-3, 1e3), st.integers(0, 2**31))
def test_lengths_do_not_matter_when_comparing_by_angle(case, factor, seed):
    x, labels = case
    assume(some_pair(labels))
    each = np.random.default_rng(seed).uniform(0.01, 100, (len(x), 1))
    expected = retrieval(x, labels)
    assert retrieval(x * factor, labels) == pytest.approx(expected)
    assert retrieval(x * each, labels) == pytest.approx(expected)


def test_lengths_matter_when_comparing_by_distance():
    x, labels = np.array([[1.0, 0], [10, 0], [0, 1], [0, 10]]), [0, 0, 1, 1]
    assert retrieval(x, labels)["map_at_r"] == 1.0
    assert retrieval(x, labels, normalize=False)["map_at_r"] == 0.5  # only the rows of length 10


@given(st.one_of(random_sets, lattice), st.booleans())
def test_map_at_r_is_at_most_r_precision_is_at_most_one(case, normalize):
    x, labels = case
    got = per_query(x, labels, normalize=normalize)
    counted = ~np.isnan(got.map_at_r)
    ap, rp, p1 = got.map_at_r[counted], got.r_precision[counted], got.precision_at_1[counted]
    assert (ap >= 0).all()
    assert (ap <= rp + 1e-12).all()
    assert (rp <= 1).all()
    assert ((p1 == 0) | (p1 == 1)).all()
    assert (ap >= p1 / np.maximum(1, len(x)) - 1e-12).all()  # a first hit is worth at least 1/R
    assert got.excluded == sum(1 for label in labels if (labels == label).sum() == 1)


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(2, 5))
def test_perfect_embedding_scores_one(seed, classes, each):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), each))
    x = np.eye(classes)[labels] + rng.normal(scale=1e-3, size=(len(labels), classes))
    assert retrieval(x, labels) == means(1.0, 1.0, 1.0)


@given(lattice, st.booleans())
def test_inputs_are_not_changed(case, normalize):
    x, labels = case[0].astype(np.float32), case[1]
    kept, kept_labels = x.copy(), labels.copy()
    per_query(x, labels, normalize=normalize)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(labels, kept_labels)


# Parity with the library that the Reality Check's numbers came from.


@pytest.mark.parametrize("seed", range(4))
def test_equals_pytorch_metric_learning_without_duplicates(seed):
    torch = pytest.importorskip("torch")
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    rng = np.random.default_rng(seed)
    x = unit(rng.normal(size=(150, 16)).astype(np.float32))
    labels = rng.integers(0, [3, 10, 40, 100][seed], 150)  # the last two with lone classes
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    library = AccuracyCalculator(include=names, k="max_bin_count", device=torch.device("cpu"))
    theirs = library.get_accuracy(torch.from_numpy(x), torch.from_numpy(labels))
    ours = retrieval(x, labels)
    assert [ours[name] for name in METRICS] == pytest.approx([theirs[n] for n in names], abs=1e-6)


# Refusals.

GOOD = np.array([[1.0, 0], [0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("x", "labels", "words"),
    [
        (np.array([[1.0, 0], [np.nan, 1], [1, 1]]), [0, 0, 1], "1 of 3 embeddings"),
        (np.array([[np.inf, 0], [-np.inf, 1], [1, 1]]), [0, 0, 1], "2 of 3 embeddings"),
        (GOOD, [0, 1], r"\(3, 2\) with labels \(2,\)"),
        (GOOD, [[0], [1], [1]], r"labels \(3, 1\)"),
        (GOOD[0], [0, 1], r"embeddings \(2,\)"),
        (GOOD[None], [0], r"embeddings \(1, 3, 2\)"),
        (np.zeros((0, 2)), [], "N >= 1"),
        (GOOD[:1], [0], "at least 2"),
    ],
    ids=["nan", "inf", "count", "label shape", "vector", "cube", "empty", "alone"],
)
def test_refuses_what_it_cannot_rank(x, labels, words):
    with pytest.raises(InvalidInputError, match=words):
        retrieval(x, labels)


def test_refuses_a_bad_gallery_too():
    with pytest.raises(InvalidInputError, match="1 of 2 embeddings"):
        per_query(GOOD, [0, 0, 1], gallery=(np.array([[1.0, np.nan], [0, 1]]), [0, 1]))


# Joining the embeddings of several models.


def test_concatenate_gives_every_model_the_same_weight():
    a, b = np.array([[3.0, 4]], np.float32), np.array([[0.0, 0, 1000]], np.float32)
    np.testing.assert_allclose(concatenate([a, b]), [[0.6, 0.8, 0, 0, 1]], rtol=1e-6)
    np.testing.assert_array_equal(concatenate([a, b], normalize=False), [[3, 4, 0, 0, 1000]])
    assert concatenate([a, b]).dtype == np.float32


@given(st.integers(0, 2**31), st.integers(1, 4))
def test_similarity_of_joined_rows_is_the_mean_of_the_parts(seed, models):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(6, 5)).astype(np.float32) for _ in range(models)]
    whole = unit(concatenate(parts))
    mean = sum(unit(part) @ unit(part).T for part in parts) / models
    np.testing.assert_allclose(whole @ whole.T, mean, atol=1e-5)


def test_zero_row_stays_zero():
    np.testing.assert_array_equal(unit(np.zeros((1, 3), np.float32)), np.zeros((1, 3)))
    scores = retrieval([[0.0, 0], [1, 0], [1, 0.1], [0, 1]], [0, 0, 1, 1])
    assert all(math.isfinite(value) for value in scores.values())


# Golden values.

CHANGED = (
    "the metrics' numbers moved. If that is meant: bump the protocol version, add a line under "
    '"Numbers" in CHANGELOG.md, and put these values in tests/golden/metrics.json:\n'
)


def golden_case():
    """Return 90 clustered rows of 9 classes, 6 lone rows, and every tenth row doubled."""
    rng = np.random.default_rng(20200319)
    centres = rng.integers(-9, 10, (9, 6))
    labels = np.concatenate([np.repeat(np.arange(9), 10), np.arange(9, 15)])
    x = rng.integers(-16, 17, (96, 6)) * 1.0
    x[:90] += centres[labels[:90]]
    x[5:90:10] = x[4:90:10]
    return x, labels


def golden_values(x, labels):
    odd = labels % 2 == 1
    results = {
        "angle": per_query(x, labels, recall_at=(1, 4, 40)),
        "euclid": per_query(x, labels, normalize=False, recall_at=(1, 4, 40)),
        "gallery": per_query(x[::3], labels[::3], gallery=(x[1::3], labels[1::3])),
        "odd classes": per_query(x[odd], labels[odd]),
    }
    return {
        "input": hashlib.sha256(x.astype("<i8").tobytes()).hexdigest()[:16],
        "means": {
            name: {**got.means(), "excluded": got.excluded, "ties": got.ties}
            for name, got in results.items()
        },
        "neighbours": {name: got.neighbours[7, :5].tolist() for name, got in results.items()},
    }


def test_golden_values():
    met, pinned = golden_values(*golden_case()), json.loads(GOLDEN.read_text())
    assert met["input"] == pinned["input"], "numpy's generator draws other numbers: new input"
    message = CHANGED + json.dumps(met, indent=2)
    assert met["neighbours"] == pinned["neighbours"], message
    assert met["means"].keys() == pinned["means"].keys(), message
    for name, values in met["means"].items():
        assert values == pytest.approx(pinned["means"][name], rel=0, abs=1e-12), message
