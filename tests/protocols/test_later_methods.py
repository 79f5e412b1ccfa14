"""Later losses: golden values, slow loops in float64, bounds, and what the library gets wrong."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as library
from torch.nn.functional import normalize

from protocols.conformance import SPEC
from protocols.methods.arcface import ArcFace
from protocols.methods.circle import Circle
from protocols.methods.proxy_anchor import ProxyAnchor
from protocols.methods.recall_at_k import RecallAtK
from protocols.methods.roadmap import Roadmap, overtaking, sup_ap
from protocols.methods.smooth_ap import SmoothAP
from protocols.methods.subcenter_arcface import SubCenterArcFace
from protocols.methods.supcon import SupCon

# Four unit vectors at 0, 60, 90 and 180 degrees.
FIXTURE = torch.tensor([[1, 0], [0.5, math.sqrt(0.75)], [0, 1], [-1, 0]], dtype=torch.float64)
FIXTURE_LABELS = torch.tensor([0, 0, 1, 1])
METHODS = [Circle, SupCon, SmoothAP, RecallAtK, Roadmap, ProxyAnchor, SubCenterArcFace]
every_loss = pytest.mark.parametrize("method", METHODS)
every_class_loss = pytest.mark.parametrize("method", [ProxyAnchor, SubCenterArcFace])


def build(method, dtype=torch.float64, **settings):
    """Return the weighted sum of the terms' losses, in one precision, from a fixed torch seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        terms = method(SPEC, **settings).terms.to(dtype)

    def loss(embeddings, labels):
        return sum(term.weight * term.loss(embeddings, labels) for term in terms)

    loss.terms = terms
    return loss


def gradient(loss, embeddings, labels):
    leaf = embeddings.clone().requires_grad_()
    loss(leaf, labels).backward()
    return leaf.grad


def random_batch(rng, classes=4, size=None):
    """Return (B, D) float64 rows and labels; some classes are alone, some labels repeat a lot."""
    count = int(rng.integers(2, 11))
    size = int(rng.integers(3, 6)) if size is None else size
    z = torch.from_numpy(rng.normal(size=(count, size)))
    return z, torch.from_numpy(rng.integers(0, classes, count))


def cosines(z, w=None):
    z = normalize(z)
    return (z @ (z if w is None else normalize(w)).T).tolist()


def others(labels):
    """Yield (anchor, positives, negatives) positions."""
    y = labels.tolist()
    for i in range(len(y)):
        rest = [j for j in range(len(y)) if j != i]
        yield i, [j for j in rest if y[j] == y[i]], [j for j in rest if y[j] != y[i]]


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values) if values else 0.0


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def log_sum_exp(values):
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


# Golden values.


@pytest.mark.parametrize(
    ("method", "settings", "value"),
    [
        (SupCon, {"temperature": 0.5}, 0.98983557),
        (Circle, {"m": 0.25, "gamma": 2.0}, 2.38719381),
        (SmoothAP, {"temperature": 0.1}, 0.13832431),
        (RecallAtK, {"levels": 2}, 0.72696114),
    ],
)
def test_golden_values(method, settings, value):
    got = build(method, **settings)(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(value, rel=0, abs=5e-8)


@pytest.mark.parametrize(
    ("method", "settings", "weight", "value"),
    [
        (ProxyAnchor, {}, "proxies", 18.69636117),
        (SubCenterArcFace, {}, "weight", 13.46549161),
    ],
)
def test_golden_values_with_identity_weights(method, settings, weight, value):
    """Equal sub-centres leave plain ArcFace."""
    (term,) = method(replace(SPEC, classes=2, embedding_size=2), **settings).terms
    rows = torch.eye(2, dtype=torch.float64)
    own = getattr(term.double().loss, weight)
    with torch.no_grad():
        own.copy_(rows if own.ndim == 2 else rows[:, None])
    got = term.loss(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(value, rel=0, abs=5e-8)


# Pair losses against loops.


def loop_supcon(z, labels, temperature):
    s, values = cosines(z), []
    for i, positive, negative in others(labels):
        if not positive:
            values.append(0.0)
            continue
        total = log_sum_exp([s[i][j] / temperature for j in positive + negative])
        values.append(mean(total - s[i][p] / temperature for p in positive))
    return mean(values) if any(negative for _, _, negative in others(labels)) else 0.0


def loop_circle(z, labels, m, gamma):
    s, values = cosines(z), []
    for i, positive, negative in others(labels):
        if not positive or not negative:
            values.append(0.0)
            continue
        near = [-gamma * max(0, 1 + m - s[i][p]) * (s[i][p] - (1 - m)) for p in positive]
        far = [gamma * max(0, s[i][n] + m) * (s[i][n] - m) for n in negative]
        values.append(log_sum_exp([0.0, log_sum_exp(near) + log_sum_exp(far)]))
    return mean(values)


def loop_ap(z, labels, ahead_of_positive, ahead_of_negative):
    """Return 1 - AP from how much a positive and a negative stand ahead, by their lead."""
    s, values = cosines(z), []
    for q, positive, negative in others(labels):
        if not positive:
            continue
        mine = [q, *positive]
        precisions = []
        for i in mine:
            in_class = 1 + math.fsum(ahead_of_positive(s[q][j] - s[q][i]) for j in mine if j != i)
            wrong = math.fsum(ahead_of_negative(s[q][j] - s[q][i]) for j in negative)
            precisions.append(in_class / (in_class + wrong))
        values.append(1 - mean(precisions))
    return mean(values)


def loop_smooth_ap(z, labels, temperature):
    def soft(lead):
        return sigmoid(lead / temperature)

    return loop_ap(z, labels, soft, soft)


def loop_sup_ap(z, labels):
    def negative(lead):
        if lead <= 0:
            return sigmoid(lead / 0.01)
        return sigmoid(lead / 0.01) + 0.5 if lead <= 0.05 else 100 * (lead - 0.05) + 1.44

    return loop_ap(z, labels, lambda lead: float(lead >= 0), negative)


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


def test_supcon_equals_loops():
    rng = np.random.default_rng(0)
    for _ in range(80):
        z, labels = random_batch(rng)
        t = float(10 ** rng.uniform(-2, 0))
        got = build(SupCon, temperature=t)(z, labels).item()
        assert got == pytest.approx(loop_supcon(z, labels, t), rel=1e-8, abs=1e-10)


def test_circle_equals_loops():
    rng = np.random.default_rng(1)
    for _ in range(80):
        z, labels = random_batch(rng)
        m, gamma = float(rng.uniform(0, 1)), float(10 ** rng.uniform(0, 2.5))
        got = build(Circle, m=m, gamma=gamma)(z, labels).item()
        assert got == pytest.approx(loop_circle(z, labels, m, gamma), rel=1e-7, abs=1e-8)


def test_smooth_ap_equals_loops():
    rng = np.random.default_rng(2)
    for _ in range(80):
        z, labels = random_batch(rng)
        t = float(10 ** rng.uniform(-3, -1))
        got = build(SmoothAP, temperature=t)(z, labels).item()
        assert got == pytest.approx(loop_smooth_ap(z, labels, t), rel=1e-6, abs=1e-9)


def test_sup_ap_equals_loops():
    rng = np.random.default_rng(3)
    for _ in range(80):
        z, labels = random_batch(rng)
        assert sup_ap(z, labels).item() == pytest.approx(loop_sup_ap(z, labels), abs=1e-6)


@pytest.mark.parametrize("levels", [1, 3, 5])
def test_recall_at_k_equals_loops(levels):
    rng, ks = np.random.default_rng(4), [2**i for i in range(levels)]
    for _ in range(40):
        z, labels = random_batch(rng)
        t = float(10 ** rng.uniform(-3, -1))
        got = build(RecallAtK, temperature=t, levels=levels)(z, labels).item()
        assert got == pytest.approx(loop_recall(z, labels, t, ks), rel=1e-6, abs=1e-9)


# Proxy losses against loops.


def loop_proxy_anchor(proxies, z, labels, margin, alpha):
    s, y = cosines(z, proxies), labels.tolist()
    near, far = [], []
    for c in range(len(proxies)):
        mine = [-alpha * (s[i][c] - margin) for i in range(len(y)) if y[i] == c]
        rest = [alpha * (s[i][c] + margin) for i in range(len(y)) if y[i] != c]
        if mine:
            near.append(log_sum_exp([0.0, *mine]))
        far.append(log_sum_exp([0.0, *rest]))
    return mean(near) + mean(far)


def loop_subcenter(weight, z, labels, margin, scale):
    m, values = math.radians(margin), []
    every = [cosines(z, centres) for centres in weight]  # (C, B, K)
    for i, y in enumerate(labels.tolist()):
        row = [max(every[c][i]) for c in range(len(every))]
        angle = math.acos(row[y])
        row[y] = math.cos(angle + m) if angle + m <= math.pi else row[y] - m * math.sin(m)
        values.append(log_sum_exp([scale * v for v in row]) - scale * row[y])
    return mean(values)


def test_proxy_anchor_equals_loops():
    rng, loss = np.random.default_rng(5), build(ProxyAnchor, margin=0.2, alpha=20.0)
    proxies = loss.terms[0].loss.proxies.detach()
    for _ in range(40):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loop_proxy_anchor(proxies, z, labels, 0.2, 20.0)
        assert loss(z, labels).item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("centres", [2, 5])
def test_subcenter_arcface_equals_loops(centres):
    rng = np.random.default_rng(6)
    loss = build(SubCenterArcFace, centres=centres, margin=80.0, scale=30.0)
    weight = loss.terms[0].loss.weight.detach()
    assert weight.shape == (SPEC.classes, centres, SPEC.embedding_size)
    for _ in range(40):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loop_subcenter(weight, z, labels, 80.0, 30.0)
        assert loss(z, labels).item() == pytest.approx(expected, rel=1e-8)


def test_subcenter_arcface_has_arcfaces_space():
    space = {**SubCenterArcFace.space("emoji")}
    centres = space.pop("centres")
    assert centres.options == (2, 3, 5)
    assert {k: (p.low, p.high, p.log, p.default) for k, p in space.items()} == {
        k: (p.low, p.high, p.log, p.default) for k, p in ArcFace.space("emoji").items()
    }


@every_class_loss
def test_class_ids_are_only_names(method):
    loss, rng = build(method), np.random.default_rng(7)
    (weight,) = loss.terms.parameters()
    z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
    expected = loss(z, labels).item()
    order = torch.from_numpy(rng.permutation(SPEC.classes))
    with torch.no_grad():
        weight.copy_(weight[order].clone())
    got = loss(z, torch.argsort(order)[labels])
    assert got.item() == pytest.approx(expected, rel=1e-9)


@every_class_loss
@pytest.mark.parametrize("label", [SPEC.classes, -1])
def test_a_label_out_of_range_raises(method, label):
    z = torch.ones(2, SPEC.embedding_size, dtype=torch.float64)
    with pytest.raises((IndexError, RuntimeError)):
        build(method)(z, torch.tensor([0, label]))


@pytest.mark.parametrize(
    ("method", "name"), [(ProxyAnchor, "proxy_lr"), (SubCenterArcFace, "weight_lr")]
)
def test_own_weights_have_their_searched_rate(method, name):
    built = method(SPEC, **{name: 0.03})
    assert built.draws == "classes"
    assert built.terms[0].group().lr == 0.03


# What holds for all.


@every_loss
def test_order_and_lengths_do_not_matter(method):
    loss, rng = build(method), np.random.default_rng(8)
    for _ in range(10):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loss(z, labels).item()
        order = torch.from_numpy(rng.permutation(len(labels)))
        scale = torch.from_numpy(rng.uniform(0.1, 9, (len(z), 1)))
        got = loss((scale * z)[order], labels[order]).item()
        assert got == pytest.approx(expected, rel=1e-7, abs=1e-9)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_duplicates_give_a_finite_gradient(method, dtype):
    """An image drawn twice, and one image shown under two labels."""
    loss, rng = build(method, dtype), np.random.default_rng(9)
    z = torch.from_numpy(rng.normal(size=(8, SPEC.embedding_size))).to(dtype)
    z[1], z[2], z[4] = z[0], z[0], z[5]
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert loss(z, labels).isfinite()
    assert gradient(loss, z, labels).isfinite().all()


def test_a_sample_on_a_sub_centre_gives_a_finite_gradient():
    loss = build(SubCenterArcFace, torch.float32)
    rows = torch.eye(SPEC.classes, SPEC.embedding_size)  # cosines of exactly 1 and -1
    with torch.no_grad():
        loss.terms[0].loss.weight[:, 1] = rows
    for z in (rows, -rows):
        grad = gradient(loss, z, torch.arange(SPEC.classes))
        assert grad.isfinite().all()
        assert grad.abs().max() < 1e4


@pytest.mark.parametrize(
    ("method", "loop", "settings"),
    [
        (Circle, loop_circle, {"m": 0.4, "gamma": 512.0}),
        (SupCon, loop_supcon, {"temperature": 0.01}),
    ],
)
def test_solved_anchors_still_count_when_their_loss_underflows(method, loop, settings):
    """Two solved classes and an unsolved one, in float32."""
    z = torch.eye(6, dtype=torch.float64)[[0, 0, 1, 1, 2, 3]]
    z[5, 0] = 2.0  # nearer to the first class than to its twin
    labels = torch.arange(6) // 2
    expected = loop(z, labels, *settings.values())
    assert expected > 0.5
    got = build(method, torch.float32, **settings)(z.float(), labels)
    assert got.item() == pytest.approx(expected, rel=1e-4)


# Smooth-AP where the library's breaks.

SHAPES = {"4 x 4": (4, 4), "6 x 2": (6, 2), "2 x 6": (2, 6), "4 x 2": (4, 2)}


def shaped_batch(classes, per_class, seed=10):
    labels = torch.arange(classes).repeat_interleave(per_class)
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(len(labels), 5))), labels


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_smooth_ap_of_any_shape_and_order(shape):
    z, labels = shaped_batch(*shape)
    order = torch.from_numpy(np.random.default_rng(11).permutation(len(labels)))
    expected = loop_smooth_ap(z, labels, 0.01)
    ours, theirs = build(SmoothAP), library.SmoothAPLoss(temperature=0.01)
    assert ours(z, labels).item() == pytest.approx(expected, rel=1e-6)
    assert ours(z[order], labels[order]).item() == pytest.approx(expected, rel=1e-6)
    assert theirs(z[order], labels[order]).item() != pytest.approx(expected, rel=1e-3)
    if shape[0] != shape[1]:
        assert theirs(z, labels).item() != pytest.approx(expected, rel=1e-3)
    else:
        assert theirs(z, labels).item() == pytest.approx(expected, rel=1e-3)


def true_missed_ap(z, labels):
    """Return 1 - AP by sorting, the query on top of its list as its own positive."""
    s, y, values = np.array(cosines(z)), labels.numpy(), []
    for q in range(len(y)):
        hits = (y == y[q])[np.argsort(-s[q], kind="stable")]
        if hits.sum() > 1:
            values.append(1 - (np.cumsum(hits) / np.arange(1, len(y) + 1))[hits].mean())
    return mean(values)


def test_smooth_ap_tends_to_average_precision():
    rng = np.random.default_rng(12)
    z, labels = torch.from_numpy(rng.normal(size=(20, 8))), torch.arange(20) % 5
    gaps = [
        abs(build(SmoothAP, temperature=t)(z, labels).item() - true_missed_ap(z, labels))
        for t in (0.1, 0.01, 0.001)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.01


# ROADMAP.


def test_sup_ap_is_an_upper_bound_of_missed_average_precision():
    rng, gaps = np.random.default_rng(13), []
    for _ in range(150):
        z, labels = random_batch(rng)
        gaps.append(sup_ap(z, labels).item() - true_missed_ap(z, labels))
    assert min(gaps) > -1e-9
    assert max(gaps) > 0.1


def test_sup_ap_of_perfect_clusters_is_zero():
    z, labels = torch.eye(3, dtype=torch.float64).repeat_interleave(4, 0), torch.arange(12) // 4
    assert sup_ap(z, labels).item() == pytest.approx(0, abs=1e-12)


def test_positives_that_tie_count_before_each_other():
    z = torch.eye(4, dtype=torch.float64)[[0, 0, 1, 1, 2, 3, 3]]
    z[4, :2] = 1.0  # a stranger that stands before some of the tied
    labels = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    assert sup_ap(z, labels).item() == pytest.approx(loop_sup_ap(z, labels), abs=1e-9)


def test_overtaking_is_at_least_a_step_and_never_flat_where_wrong():
    lead = torch.linspace(-2, 2, 4001, dtype=torch.float64).requires_grad_()
    h = overtaking(lead)
    h.sum().backward()
    assert (h >= (lead > 0)).all()
    assert (h >= 0).all()
    assert (lead.grad[lead > 0] > 0.6).all()
    assert h[lead == 2].item() == pytest.approx(100 * 1.95 + 1.44)


def test_positives_are_counted_without_gradient():
    """Two positives change places: only their leads over the negative matter."""
    z = torch.tensor([[1.0, 0, 0], [0.9, 0.4, 0], [0.8, 0.6, 0], [0, 0, 1]], dtype=torch.float64)
    grad = gradient(sup_ap, z, torch.tensor([0, 0, 0, 1]))
    assert grad.abs().max() < 1e-6  # no negative is near: nothing left to learn


@pytest.mark.parametrize(("weight", "parts"), [(0.0, (1, 0)), (0.3, (0.7, 0.3)), (1.0, (0, 1))])
def test_roadmap_weighs_its_two_terms(weight, parts):
    z, labels = random_batch(np.random.default_rng(14))
    s, (near, far) = cosines(z), ([], [])
    for i, positive, negative in others(labels):
        near += [max(0.0, 0.9 - s[i][p]) for p in positive]
        far += [max(0.0, s[i][n] - 0.6) for n in negative]
    calibration = mean(v for v in near if v > 0) + mean(v for v in far if v > 0)
    loss = build(Roadmap, weight=weight)
    assert [term.name for term in loss.terms] == ["sup_ap", "calibration"]
    expected = parts[0] * loop_sup_ap(z, labels) + parts[1] * calibration
    assert calibration > 0
    assert loss(z, labels).item() == pytest.approx(expected, abs=1e-6)


# Recall@k.


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
