"""The Reality Check's losses: golden values, slow loops in float64, corners of float32."""

import math
import statistics
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as library
from pytorch_metric_learning.regularizers import SparseCentersRegularizer, ZeroMeanRegularizer
from torch.nn.functional import normalize

from protocols import paper
from protocols.conformance import SPEC
from protocols.method import Features
from protocols.methods.arcface import ArcFace, with_margin
from protocols.methods.cosface import CosFace
from protocols.methods.fastap import FastAP
from protocols.methods.margin import Margin
from protocols.methods.margin_class import MarginClass
from protocols.methods.nsoftmax import NormalizedSoftmax
from protocols.methods.ntxent import NTXent
from protocols.methods.pretrained import Pretrained
from protocols.methods.proxynca import ProxyNCA, ProxyNCALoss
from protocols.methods.snr import SNR
from protocols.methods.softtriple import SoftTriple, Spread

# Four unit vectors at 0, 60, 90 and 180 degrees.
FIXTURE = torch.tensor([[1, 0], [0.5, math.sqrt(0.75)], [0, 1], [-1, 0]], dtype=torch.float64)
FIXTURE_LABELS = torch.tensor([0, 0, 1, 1])

PAIRS = {
    "ntxent": NTXent,
    "margin": Margin,
    "margin_class": MarginClass,
    "fastap": FastAP,
    "snr": SNR,
}
CLASSES = {
    "proxynca": ProxyNCA,
    "nsoftmax": NormalizedSoftmax,
    "cosface": CosFace,
    "arcface": ArcFace,
    "softtriple": SoftTriple,
}
every_loss = pytest.mark.parametrize("method", [*PAIRS.values(), *CLASSES.values()])
every_class_loss = pytest.mark.parametrize("method", CLASSES.values(), ids=CLASSES)


def build(method, dtype=torch.float64, **settings):
    """Return the only term's loss, in one precision, from a fixed torch seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        (term,) = method(SPEC, **settings).terms
    term.to(dtype)
    return term.loss


def weight_of(loss):
    """Return the (C, D) class vectors of a classification loss; (C * K, D) for SoftTriple."""
    for name in ("proxies", "weight"):
        if hasattr(loss, name):
            return getattr(loss, name)
    return loss.W.T if hasattr(loss, "W") else loss.fc.T


def set_weight(loss, rows):
    with torch.no_grad():
        weight_of(loss).copy_(rows)


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


def pairs_of(labels):
    """Return ordered positive and negative pairs."""
    y = labels.tolist()
    every = [(i, j) for i, j in product(range(len(y)), repeat=2) if i != j]
    return [(i, j) for i, j in every if y[i] == y[j]], [(i, j) for i, j in every if y[i] != y[j]]


def triplets_of(labels):
    positive, negative = pairs_of(labels)
    return [(a, p, n) for a, p in positive for b, n in negative if a == b]


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values) if values else 0.0


def dots(a, b):
    return [[math.fsum(x * y for x, y in zip(u, v, strict=True)) for v in b] for u in a]


def unit(z):
    return normalize(z).tolist()


def log_sum_exp(values):
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def cross_entropy(rows, labels):
    return mean(log_sum_exp(row) - row[y] for row, y in zip(rows, labels.tolist(), strict=True))


# Golden values.


@pytest.mark.parametrize(
    ("method", "settings", "value"),
    [
        (NTXent, {"temperature": 0.5}, 0.98983557),
        (FastAP, {"bins": 4}, 0.29166667),
        (Margin, {"beta": 1.1, "margin": 0.2}, 0.40215781),
        (MarginClass, {"beta": 1.1, "margin": 0.2}, 0.40215781),
    ],
)
def test_golden_values(method, settings, value):
    loss = build(method, **settings)
    assert loss(FIXTURE, FIXTURE_LABELS).item() == pytest.approx(value, rel=0, abs=5e-8)


@pytest.mark.parametrize(
    ("method", "settings", "value"),
    [
        (ProxyNCA, {"scale": 9.0}, 1.64745813),
        (NormalizedSoftmax, {"temperature": 0.05}, 1.83029242),
        (CosFace, {"margin": 0.35, "scale": 64.0}, 11.45640646),
        (ArcFace, {"margin": 28.6, "scale": 64.0}, 13.46549161),
    ],
)
def test_golden_values_with_identity_weights(method, settings, value):
    spec = replace(SPEC, classes=2, embedding_size=2)
    (term,) = method(spec, **settings).terms
    term.double()
    set_weight(term.loss, torch.eye(2, dtype=torch.float64))
    got = term.loss(FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(value, rel=0, abs=5e-8)


# Pair losses against loops.


def loop_ntxent(z, labels, temperature, compat=False):
    s = dots(unit(z), unit(z))
    positive, negative = pairs_of(labels)
    if not negative:
        return 0.0
    values = []
    for i, p in positive:
        others = [s[i][n] / temperature for a, n in negative if a == i]
        lost = log_sum_exp([s[i][p] / temperature, *others]) - s[i][p] / temperature
        values.append(-math.log(math.exp(-lost) + 1e-20) if compat else lost)
    return mean(values)


def loop_margin(z, labels, margin, beta):
    """``beta`` is one number or one for each class."""
    u = unit(z)
    values = []
    for a, p, n in triplets_of(labels):
        edge = beta[int(labels[a])] if isinstance(beta, list) else beta
        values += [
            max(0.0, math.dist(u[a], u[p]) - edge + margin),
            max(0.0, edge - math.dist(u[a], u[n]) + margin),
        ]
    return mean(v for v in values if v > 0)


def loop_fastap(z, labels, bins):
    u, (positive, negative) = unit(z), pairs_of(labels)
    values = []
    for i in range(len(u)):
        mine = [math.dist(u[i], u[p]) ** 2 for a, p in positive if a == i]
        rest = [math.dist(u[i], u[n]) ** 2 for a, n in negative if a == i]
        if not mine:
            continue
        ap = seen = seen_mine = 0.0
        for edge in range(bins + 1):
            near, far = (
                math.fsum(max(0.0, 1 - abs(d - 4 * edge / bins) * bins / 4) for d in part)
                for part in (mine, rest)
            )
            seen, seen_mine = seen + near + far, seen_mine + near
            ap += near * seen_mine / seen if seen else 0.0
        values.append(1 - ap / len(mine))
    return mean(values)


def loop_snr(z, labels, pos_margin, neg_margin, reg_weight):
    u, (positive, negative) = unit(z), pairs_of(labels)

    def d(a, b):
        noise = [x - y for x, y in zip(u[a], u[b], strict=True)]
        return statistics.variance(noise) / statistics.variance(u[a])

    near = [d(a, p) - pos_margin for a, p in positive]
    far = [neg_margin - d(a, n) for a, n in negative]
    hinges = sum(mean(v for v in part if v > 0) for part in (near, far))
    return hinges + reg_weight * mean(abs(math.fsum(row)) for row in u)


@pytest.mark.parametrize("compat", [False, True], ids=["exact", "compat"])
def test_ntxent_equals_loops(compat):
    rng = np.random.default_rng(0)
    for _ in range(100):
        z, labels = random_batch(rng)
        temperature = float(10 ** rng.uniform(-4, 1))
        got = build(NTXent, temperature=temperature, compat=compat)(z, labels).item()
        expected = loop_ntxent(z, labels, temperature, compat)
        assert got == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_margin_equals_loops():
    rng = np.random.default_rng(1)
    for _ in range(60):
        z, labels = random_batch(rng)
        margin, beta = rng.uniform(-0.2, 2.0, 2).tolist()
        got = build(Margin, margin=margin, beta=beta)(z, labels).item()
        assert got == pytest.approx(loop_margin(z, labels, margin, beta), rel=1e-6, abs=1e-9)


def test_margin_class_uses_the_boundary_of_the_anchors_class():
    rng = np.random.default_rng(2)
    for _ in range(60):
        z, labels = random_batch(rng)
        beta = rng.uniform(0.2, 1.6, SPEC.classes).tolist()
        loss = build(MarginClass, margin=0.3)
        with torch.no_grad():
            loss.beta.copy_(torch.tensor(beta))
        got = loss(z, labels).item()
        assert got == pytest.approx(loop_margin(z, labels, 0.3, beta), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("bins", [2, 10, 32])
def test_fastap_equals_loops(bins):
    rng = np.random.default_rng(3)
    for _ in range(40):
        z, labels = random_batch(rng)
        got = build(FastAP, bins=bins)(z, labels).item()
        assert got == pytest.approx(loop_fastap(z, labels, bins), rel=1e-6, abs=1e-9)


def test_snr_equals_loops():
    rng = np.random.default_rng(4)
    for _ in range(60):
        z, labels = random_batch(rng)
        pos, neg, reg = rng.uniform(0, 1, 3).tolist()
        got = build(SNR, pos_margin=pos, neg_margin=neg, reg_weight=reg)(z, labels).item()
        assert got == pytest.approx(loop_snr(z, labels, pos, neg, reg), rel=1e-6, abs=1e-9)


# Classification losses against loops.


def logits_of(loss, z):
    """Return cosines (B, C) as lists."""
    return dots(unit(z), unit(weight_of(loss).detach()))


def loop_proxynca(loss, z, labels, scale, proxy_lr):
    u, w = unit(z), unit(weight_of(loss).detach())
    return cross_entropy([[-scale * math.dist(a, b) ** 2 for b in w] for a in u], labels)


def loop_nsoftmax(loss, z, labels, temperature, weight_lr):
    return cross_entropy([[c / temperature for c in row] for row in logits_of(loss, z)], labels)


def loop_cosface(loss, z, labels, margin, scale, weight_lr):
    rows = logits_of(loss, z)
    for row, y in zip(rows, labels.tolist(), strict=True):
        row[y] -= margin
    return cross_entropy([[scale * c for c in row] for row in rows], labels)


def loop_arcface(loss, z, labels, margin, scale, weight_lr, compat=False):
    rows, m = logits_of(loss, z), math.radians(margin)
    for row, y in zip(rows, labels.tolist(), strict=True):
        angle = math.acos(row[y])
        falls = compat or angle + m <= math.pi
        row[y] = math.cos(angle + m) if falls else row[y] - m * math.sin(m)
    return cross_entropy([[scale * c for c in row] for row in rows], labels)


def loop_softtriple(loss, z, labels, la, gamma, margin, centres, reg_weight, centre_lr):
    w = [unit(rows) for rows in weight_of(loss).detach().reshape(SPEC.classes, centres, -1)]
    rows = []
    for i, x in enumerate(unit(z)):
        row = []
        for c in range(SPEC.classes):
            s = dots([x], w[c])[0]
            share = [math.exp((v - max(s)) / gamma) for v in s]
            similarity = math.fsum(a * b for a, b in zip(share, s, strict=True)) / sum(share)
            row.append(la * (similarity - margin * (c == int(labels[i]))))
        rows.append(row)
    value = cross_entropy(rows, labels)
    spread = [
        math.sqrt(math.dist(w[c][t], w[c][u]) ** 2 + 1e-5)
        for c in range(SPEC.classes)
        for t in range(centres)
        for u in range(t)
    ]
    return value + reg_weight * mean(spread)


LOOPS = {
    ProxyNCA: (loop_proxynca, {"scale": 3.7, "proxy_lr": 0.1}),
    NormalizedSoftmax: (loop_nsoftmax, {"temperature": 0.09, "weight_lr": 0.1}),
    CosFace: (loop_cosface, {"margin": 0.4, "scale": 20.0, "weight_lr": 0.1}),
    ArcFace: (loop_arcface, {"margin": 75.0, "scale": 20.0, "weight_lr": 0.1}),
    SoftTriple: (
        loop_softtriple,
        {
            "la": 12.0,
            "gamma": 0.3,
            "margin": 0.2,
            "centres": 3,
            "reg_weight": 0.4,
            "centre_lr": 0.1,
        },
    ),
}


@pytest.mark.parametrize("method", LOOPS)
def test_classification_losses_equal_loops(method):
    loop, settings = LOOPS[method]
    loss, rng = build(method, **settings), np.random.default_rng(5)
    for _ in range(30):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loop(loss, z, labels, **settings)
        assert loss(z, labels).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("compat", [False, True], ids=["exact", "compat"])
def test_arcface_passes_180_degrees_in_that_test(compat):
    """The rule beyond pi - margin is met, not only the rule before it."""
    loss, rng = build(ArcFace, margin=75.0, compat=compat), np.random.default_rng(5)
    z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
    z[0] = -weight_of(loss)[labels[0]].detach()
    expected = loop_arcface(loss, z, labels, 75.0, 64.0, 0.1, compat)
    assert loss(z, labels).item() == pytest.approx(expected, rel=1e-7)


def test_the_papers_arcface_rises_again_beyond_180_degrees():
    cosine = torch.cos(torch.tensor([100.0, 120.0, 150.0, 170.0]).deg2rad()).double()
    margin = math.radians(60.0)
    assert with_margin(cosine, margin).diff().lt(0).all(), "farther is always worse"
    plain = with_margin(cosine, margin, plain=True)
    angles = torch.tensor([160.0, 180.0, 210.0, 230.0]).deg2rad().double()
    torch.testing.assert_close(plain, angles.cos(), atol=1e-6, rtol=0)
    assert plain[3] > plain[2] > plain[1]


@every_class_loss
def test_class_ids_are_only_names(method):
    loss, rng = build(method), np.random.default_rng(6)
    z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
    expected = loss(z, labels).item()
    order = torch.from_numpy(rng.permutation(SPEC.classes))
    rows = weight_of(loss).detach().reshape(SPEC.classes, -1, SPEC.embedding_size)
    set_weight(loss, rows[order].reshape(-1, SPEC.embedding_size))
    renamed = torch.argsort(order)[labels]
    assert loss(z, renamed).item() == pytest.approx(expected, rel=1e-9)


@every_class_loss
@pytest.mark.parametrize("label", [SPEC.classes, -1])
def test_a_label_out_of_range_raises(method, label):
    labels = torch.tensor([0, label])
    z = torch.ones(2, SPEC.embedding_size, dtype=torch.float64)
    with pytest.raises((IndexError, RuntimeError)):
        build(method)(z, labels)


@every_class_loss
def test_own_weights_have_their_searched_rate_and_start_apart(method):
    name = next(key for key in LOOPS[method][1] if key.endswith("_lr"))
    built = method(SPEC, **{name: 0.03})
    (term,) = built.terms
    assert built.draws == "classes"
    assert term.group().lr == 0.03
    assert term.group().decay
    assert torch.pdist(weight_of(term.loss).detach()).min() > 0


@pytest.mark.parametrize("method", [Margin, MarginClass])
def test_boundary_has_its_searched_rate_and_no_weight_decay(method):
    (term,) = method(SPEC, beta_lr=0.03, beta=0.7).terms
    (beta,) = term.group().parameters
    assert (term.group().lr, term.group().decay) == (0.03, False)
    assert beta.detach() == pytest.approx(0.7)
    assert beta.shape == ((SPEC.classes,) if method is MarginClass else (1,))


# What holds for all.


@every_loss
def test_order_and_lengths_do_not_matter(method):
    loss, rng = build(method), np.random.default_rng(7)
    for _ in range(10):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loss(z, labels).item()
        order = torch.from_numpy(rng.permutation(len(labels)))
        scale = torch.from_numpy(rng.uniform(0.1, 9, (len(z), 1)))
        got = loss((scale * z)[order], labels[order]).item()
        assert got == pytest.approx(expected, rel=1e-8, abs=1e-10)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_duplicates_give_a_finite_gradient(method, dtype):
    """An image drawn twice, and one image shown under two labels."""
    loss, rng = build(method, dtype), np.random.default_rng(8)
    z = torch.from_numpy(rng.normal(size=(8, SPEC.embedding_size))).to(dtype)
    z[1], z[2], z[4] = z[0], z[0], z[5]
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert loss(z, labels).isfinite()
    assert gradient(loss, z, labels).isfinite().all()


@every_class_loss
def test_a_sample_on_its_class_vector_gives_a_finite_gradient(method):
    loss = build(method, torch.float32)
    rows = torch.eye(SPEC.classes, SPEC.embedding_size)  # cosines of exactly 1 and -1
    with torch.no_grad():
        weight_of(loss).view(SPEC.classes, -1, SPEC.embedding_size)[:, 0] = rows
    labels = torch.arange(SPEC.classes)
    for z in (rows, -rows):
        grad = gradient(loss, z, labels)
        assert grad.isfinite().all()
        assert grad.abs().max() < 1e4


# Known faults of the library, absent here.


def sharp_batch():
    """Return hard positives: each nearer to a stranger than to its twin."""
    degrees = torch.tensor([0.0, 40.0, 10.0, 60.0], dtype=torch.float64).deg2rad()
    return torch.stack([degrees.cos(), degrees.sin()], 1), FIXTURE_LABELS


@pytest.mark.parametrize("temperature", [1e-5, 1e-3, 0.1])
def test_ntxent_keeps_the_gradient_of_hard_pairs_in_float32(temperature):
    z, labels = sharp_batch()
    exact = gradient(build(NTXent, temperature=temperature), z, labels)
    single = build(NTXent, torch.float32, temperature=temperature)
    got = gradient(single, z.float(), labels).double()
    assert (got - exact).norm() < 1e-3 * exact.norm()
    if temperature == 1e-3:
        flat = gradient(library.NTXentLoss(temperature=temperature), z.float(), labels)
        assert flat.norm() < 0.5 * exact.norm()


def test_the_papers_ntxent_has_no_gradient_for_hard_pairs_at_its_own_temperature():
    z, labels = sharp_batch()
    settings = paper.best("ntxent", "sop")
    assert settings["compat"] is True
    assert settings["temperature"] == pytest.approx(2.4e-4, rel=0.01)
    old = gradient(build(NTXent, **settings), z, labels)
    exact = gradient(build(NTXent, temperature=settings["temperature"]), z, labels)
    assert old.norm() < 1e-3 * exact.norm()
    assert exact.norm() > 100


def test_proxynca_keeps_samples_far_from_their_proxy_in_float32():
    rows = torch.eye(2)
    z = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # each on the other's proxy
    labels = torch.arange(2)
    ours = ProxyNCALoss(2, 2, scale=400.0)
    theirs = library.ProxyNCALoss(2, 2, softmax_scale=400.0)
    set_weight(ours, rows)
    set_weight(theirs, rows)
    assert ours(z, labels).item() == pytest.approx(800)
    assert ours(torch.tensor([[0.6, 0.8]]), labels[:1]).item() == pytest.approx(160, rel=1e-4)
    grad = gradient(ours, torch.tensor([[0.6, 0.8], [1.0, 0.0]]), labels)
    assert grad[0].norm() > 100
    assert theirs(z, labels).isnan()


def test_arcface_equals_the_library_away_from_its_class_vectors():
    rng, ours = np.random.default_rng(16), build(ArcFace, margin=60.0)
    theirs = library.ArcFaceLoss(SPEC.classes, SPEC.embedding_size, margin=60.0).double()
    set_weight(theirs, weight_of(ours))
    z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
    assert ours(z, labels).item() == pytest.approx(theirs(z, labels).item(), rel=1e-9)
    torch.testing.assert_close(gradient(ours, z, labels), gradient(theirs, z, labels))


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


# SoftTriple.


def test_softtriple_regulariser_is_twice_the_librarys():
    w = torch.from_numpy(np.random.default_rng(10).normal(size=(12, 5)))
    theirs = SparseCentersRegularizer(4, 3)(w).item()
    assert Spread(4)(w).item() == pytest.approx(2 * theirs, rel=1e-4)


def test_merged_centres_give_a_small_gradient():
    w = torch.ones(6, 5).requires_grad_()
    Spread(2)(w).backward()
    assert w.grad.abs().max() < 1e-3


def test_a_single_centre_has_no_regulariser_and_no_use_for_gamma():
    z, labels = random_batch(np.random.default_rng(11), SPEC.classes, SPEC.embedding_size)
    settings = [{}, {"reg_weight": 1.0}, {"gamma": 50.0}]
    values = [build(SoftTriple, centres=1, **s)(z, labels).item() for s in settings]
    assert values == pytest.approx([values[0]] * 3, rel=1e-12)


def test_gamma_is_soft_when_large():
    """Small gamma takes the nearest centre, large gamma the mean of all."""
    loss = build(SoftTriple, gamma=1e-5, reg_weight=0.0)
    soft = build(SoftTriple, gamma=100.0, reg_weight=0.0)
    z, labels = random_batch(np.random.default_rng(12), SPEC.classes, SPEC.embedding_size)
    w = normalize(weight_of(loss).detach()).reshape(SPEC.classes, 10, -1)
    s = torch.einsum("bd,ckd->bck", normalize(z), w)
    for got, logits in ((loss, s.amax(2)), (soft, s.mean(2))):
        logits[torch.arange(len(labels)), labels] -= 0.01
        expected = cross_entropy((20 * logits).tolist(), labels)
        assert got(z, labels).item() == pytest.approx(expected, rel=1e-2)


# Pretrained.


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


def cosines(x):
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
    np.testing.assert_allclose(cosines(got), cosines(other @ kept.T), atol=1e-4)


def test_pretrained_joins_the_leading_axes_in_the_concatenated_number():
    x = np.random.default_rng(16).normal(size=(60, 20)).astype(np.float32)
    vector = torch.from_numpy(x)
    built = pretrained(x, size=4)
    views = built(Features(vector[:, :, None, None], vector))
    assert views[built.joined].shape == (60, 4 * built.spec.folds)
    np.testing.assert_array_equal(views["embedding"], views[built.joined][:, :4])
    np.testing.assert_allclose(
        cosines(views[built.joined].numpy()), cosines(embed(pretrained(x, size=8), x)), atol=1e-6
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
