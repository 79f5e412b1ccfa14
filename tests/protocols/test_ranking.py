"""Named rules of comparison: on a hyperboloid the order is that of hyperbolic distances."""

import numpy as np
import pytest

from protocols.errors import InvalidInputError, PluginError
from protocols.method import Method, Term
from protocols.methods.triplet_hard import TripletHard
from protocols.metrics import per_query
from protocols.ranking import reflected
from protocols.toy_task import build


def sheet(count, width=8, curvature=0.1, length=2.3, seed=0):
    """Return points of a hyperboloid, from vectors of lengths up to ``length``."""
    rng, k = np.random.default_rng(seed), np.sqrt(curvature)
    u = rng.normal(size=(count, width))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    far = 2 * k * length * rng.random((count, 1))
    return (np.concatenate([np.sinh(far) * u, np.cosh(far)], axis=1) / k).astype(np.float32)


def arcosh(points, curvature):
    """Return distances (N, N) in float64 from X alone, by a loop over pairs."""
    x = points[:, :-1].astype(np.float64)
    height = np.sqrt(1 / curvature + (x**2).sum(1))
    found = np.zeros((len(x), len(x)))
    for i in range(len(x)):
        for j in range(len(x)):
            cosh = curvature * (height[i] * height[j] - sum(x[i] * x[j]))
            found[i, j] = np.arccosh(max(cosh, 1.0)) / np.sqrt(curvature)
    return found


def sorted_out(distances):
    """Return everyone's neighbours by these distances, itself left out."""
    distances = distances.copy()
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :-1]


LABELS = np.arange(200) % 20


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
@pytest.mark.parametrize("curvature", [0.1, 1.0])
def test_the_order_of_200_points_is_that_of_their_distances(curvature, device):
    points = sheet(200, curvature=curvature)
    given = {"ranking": "hyperboloid", "neighbours": 199, "device": device}
    found = per_query(points, LABELS, **given).neighbours
    distances = arcosh(points, curvature)
    expected = sorted_out(distances)
    other = found != expected  # where float32 heights do not tell two apart
    rows = np.nonzero(other)[0]
    assert other.mean() < 0.01
    gaps = distances[rows, found[other]] - distances[rows, expected[other]]
    assert abs(gaps).max(initial=0) < 1e-4


def test_distances_of_the_ball_are_these():
    """Points and distances of the specification: c 0.1, vectors cut at 2.3."""
    k, u = np.sqrt(0.1), np.array([[1, 0], [1, np.sqrt(3)], [0, 3], [-0.5, 0]])
    length = np.linalg.norm(u, axis=1, keepdims=True)
    far = 2 * k * np.minimum(length, 2.3)
    points = (np.concatenate([np.sinh(far) * u / length, np.cosh(far)], 1) / k).astype(np.float32)
    assert points[2] == pytest.approx([0, 6.40280874, 7.14114555])
    cosh = -0.1 * reflected(points).astype(float) @ points.T
    found = np.arccosh(cosh[np.triu_indices(4, 1)]) / k
    expected = [3.68061710, 5.24988782, 3.0, 2.92833330, 4.61992414, 4.77248766]
    assert found == pytest.approx(expected, rel=1e-5)
    near = per_query(points, [0, 0, 1, 1], ranking="hyperboloid").neighbours
    assert near.tolist() == [[3, 1, 2], [2, 0, 3], [1, 3, 0], [0, 1, 2]]


def test_it_is_neither_the_order_of_angles_nor_of_vectors():
    points = sheet(200)
    found = per_query(points, LABELS, ranking="hyperboloid").neighbours
    for rule in ("angle", "distance"):
        assert not np.array_equal(found, per_query(points, LABELS, ranking=rule).neighbours)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_many_points_are_searched_as_few(device):
    """Tiles, and the half of them that serve both ways."""
    points = sheet(2500, curvature=1.0, length=1.5)
    labels = np.arange(2500) % 250
    given = {"ranking": "hyperboloid", "neighbours": 5, "device": device, "recall_at": (1, 400)}
    found = per_query(points, labels, **given)
    similar = (reflected(points).astype(np.float64) @ points.T.astype(np.float64)).astype(
        np.float32
    )
    np.fill_diagonal(similar, -np.inf)
    order = np.argsort(-similar, axis=1, kind="stable")
    assert np.array_equal(found.neighbours, order[:, :5])
    hits = labels[order] == labels[:, None]
    first = hits.argmax(1) + 1
    assert np.array_equal(found.first_hit, np.where(first > 400, 0, first))


def test_folds_are_joined_by_the_sum_of_their_similarities():
    one, two = sheet(200, seed=1), sheet(200, seed=2)
    joined = np.concatenate([one, two], axis=1)
    found = per_query(joined, LABELS, ranking="hyperboloid", sheets=2, neighbours=199).neighbours
    summed = sum(reflected(x).astype(np.float64) @ x.T.astype(np.float64) for x in (one, two))
    assert np.array_equal(found, sorted_out(-summed.astype(np.float32)))


def test_a_gallery_is_searched_by_the_same_rule():
    points = sheet(60)
    labels = np.arange(60) % 6
    given = {"gallery": (points[20:], labels[20:]), "neighbours": 40, "ranking": "hyperboloid"}
    found = per_query(points[:20], labels[:20], **given).neighbours
    distances = arcosh(points, 0.1)[:20, 20:]
    assert np.array_equal(found, np.argsort(distances, axis=1, kind="stable"))


@pytest.mark.parametrize(("shape", "sheets"), [((4, 9), 2), ((4, 2), 2), ((4, 1), 1)])
def test_what_is_no_point_is_refused(shape, sheets):
    with pytest.raises(InvalidInputError, match=r"point.s. of a hyperboloid, of two numbers or mo"):
        reflected(np.ones(shape, np.float32), sheets)


def test_rows_stay_as_they_were():
    points = sheet(20)
    before = points.copy()
    per_query(points, LABELS[:20] % 4, ranking="hyperboloid")
    assert np.array_equal(points, before)


class Plain(Method):
    """Says nothing."""

    def make_terms(self, spec):
        return [Term(lambda z, labels: z.square().mean())]


def ruled(**words):
    return type("Ruled", (Plain,), {"__doc__": "Ruled.", **words})


def test_the_older_flag_says_the_same():
    assert build(Plain).ranked_by == "angle"
    assert build(ruled(normalize_embeddings=False)).ranked_by == "distance"
    assert build(ruled(ranking="distance")).ranked_by == "distance"
    assert build(ruled(ranking="distance", normalize_embeddings=False)).ranked_by == "distance"
    assert build(TripletHard, {"unit": True}).ranked_by == "angle"
    assert build(TripletHard).ranked_by == "distance"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"ranking": "cosine"}, "'cosine', expected angle, distance, hyperboloid"),
        ({"ranking": "angle", "normalize_embeddings": False}, "say ranking alone"),
        ({"ranking": "hyperboloid", "normalize_embeddings": False}, "say ranking alone"),
    ],
)
def test_rules_that_are_none_or_two_are_refused(words, expected):
    with pytest.raises(PluginError, match=expected):
        _ = build(ruled(**words)).ranked_by
