"""Shipped methods: conformance, golden values, slow loops in float64, limits by hand."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax, normalize

from protocols.conformance import CHECKS, SPEC
from protocols.discovery import Registry
from protocols.methods.contrastive import Contrastive
from protocols.methods.group import Group, GroupLoss, memberships, refine, similarity
from protocols.methods.ms import MultiSimilarity
from protocols.methods.ms_miner import MultiSimilarityMined
from protocols.methods.triplet import Triplet
from protocols.methods.triplet_hard import TripletHard
from protocols.methods.untrained import Untrained

# Four unit vectors at 0, 60, 90 and 180 degrees.
FIXTURE = torch.tensor([[1, 0], [0.5, math.sqrt(0.75)], [0, 1], [-1, 0]], dtype=torch.float64)
FIXTURE_LABELS = torch.tensor([0, 0, 1, 1])


def build(method, **settings):
    """Return the method with its own draws from the generator kept away from other tests."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return method(SPEC, **settings)


def loss(built, embeddings, labels):
    """Return the only term's value in the embeddings' own precision."""
    (term,) = built.terms
    if term.miner is None:
        return term.loss(embeddings, labels)
    return term.loss(embeddings, labels, term.miner(embeddings.detach(), labels))


def gradient(built, embeddings, labels):
    leaf = embeddings.clone().requires_grad_()
    loss(built, leaf, labels).backward()
    return leaf.grad


def random_batch(rng, unit=False):
    """Return (B, D) float64 rows and labels; some classes are alone, some labels repeat a lot."""
    count = int(rng.integers(2, 11))
    z = torch.from_numpy(rng.normal(size=(count, int(rng.integers(2, 6)))))
    return (normalize(z) if unit else z), torch.from_numpy(rng.integers(0, 4, count))


LOSSES = {
    "triplet": lambda: build(Triplet),
    "triplet_hard soft": lambda: build(TripletHard),
    "triplet_hard hinge": lambda: build(TripletHard, soft=False),
    "triplet_hard unit": lambda: build(TripletHard, unit=True),
    "contrastive": lambda: build(Contrastive),
    "ms": lambda: build(MultiSimilarity),
    "ms_miner": lambda: build(MultiSimilarityMined),
}
every_pair_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)


# Every shipped method keeps every rule.


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", Registry().names("method"))
def test_conformance(name, check):
    check(Registry().load("method", name))


# Golden values.

GOLDEN = {
    "batch hard, hinge": (TripletHard, {"soft": False, "margin": 0.2}, 0.44473435),
    "batch hard, hinge, unit": (
        TripletHard,
        {"soft": False, "margin": 0.2, "unit": True},
        0.44473435,
    ),
    "batch hard, soft": (TripletHard, {}, 0.81399844),
    "batch all, non-zero mean": (Triplet, {"margin": 0.2}, 0.65964579),
    "contrastive 0/1": (Contrastive, {"pos_margin": 0.0, "neg_margin": 1.0}, 1.68946869),
    "ms (2, 50, .5)": (MultiSimilarity, {"alpha": 2.0, "beta": 50.0, "base": 0.5}, 0.68461492),
    "ms + miner (2, 50, .5)": (MultiSimilarityMined, {"beta": 50.0}, 0.43381381),
    "ms + miner (2, 40, .5)": (MultiSimilarityMined, {"beta": 40.0}, 0.43381382),
    "ms + miner (2, 50, 1)": (MultiSimilarityMined, {"beta": 50.0, "base": 1.0}, 0.43003603),
}


@pytest.mark.parametrize(("method", "settings", "value"), GOLDEN.values(), ids=GOLDEN)
def test_golden_values(method, settings, value):
    got = loss(build(method, **settings), FIXTURE, FIXTURE_LABELS)
    assert got.item() == pytest.approx(value, rel=0, abs=1e-8)


@pytest.mark.parametrize(("method", "settings", "value"), GOLDEN.values(), ids=GOLDEN)
def test_golden_values_through_the_term_in_float32(method, settings, value):
    (term,) = build(method, **settings).terms
    got = term({"embedding": FIXTURE}, FIXTURE_LABELS)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("method", "rows"),
    [
        (
            TripletHard,
            [
                (0.05668612, -0.14967557),
                (-0.53903942, 0.25332861),
                (0.59117387, 0.04371027),
                (-0.10882056, -0.14736330),
            ],
        ),
        (
            MultiSimilarityMined,
            [(0, -0.10825318), (-0.31025635, 0.17912659), (0.43276464, 0), (0, -0.18276464)],
        ),
    ],
    ids=["batch hard, soft", "ms + miner"],
)
def test_golden_gradients(method, rows):
    settings = {"beta": 50.0} if method is MultiSimilarityMined else {}
    got = gradient(build(method, **settings), FIXTURE, FIXTURE_LABELS)
    torch.testing.assert_close(got, torch.tensor(rows, dtype=torch.float64), atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("settings", "value"),
    [({}, 0.315066), ({"soft": False, "margin": 0.1}, 0.025)],
    ids=["soft", "hinge"],
)
def test_batch_hard_on_a_line_by_hand(settings, value):
    # 0, 1 | 3, 5: farthest positives 1 1 2 2, nearest negatives 3 2 2 4.
    line = torch.tensor([[0.0], [1], [3], [5]], dtype=torch.float64)
    got = loss(build(TripletHard, **settings), line, FIXTURE_LABELS)
    assert got.item() == pytest.approx(value, abs=1e-6)


# Triplets against triple loops.


def loop_distances(z):
    z = z.tolist()
    return [[math.dist(a, b) for b in z] for a in z]


def loop_batch_all(z, labels, margin):
    d, y = loop_distances(normalize(z)), labels.tolist()
    values = []
    for a, p, n in product(range(len(y)), repeat=3):
        if a != p and y[a] == y[p] and y[a] != y[n]:
            values.append(max(0.0, margin + d[a][p] - d[a][n]))
    violated = [v for v in values if v > 0]
    return sum(violated) / len(violated) if violated else 0.0


def loop_batch_hard(z, labels, soft, margin, unit):
    d, y = loop_distances(normalize(z) if unit else z), labels.tolist()
    values = []
    for a in range(len(y)):
        worst = None
        for p, n in product(range(len(y)), repeat=2):
            if a != p and y[a] == y[p] and y[a] != y[n]:
                v = d[a][p] - d[a][n]
                worst = v if worst is None else max(worst, v)
        if worst is not None:
            values.append(math.log1p(math.exp(worst)) if soft else max(0.0, margin + worst))
    return sum(values) / len(values) if values else 0.0


def test_triplet_equals_a_triple_loop_on_200_batches():
    rng, positive = np.random.default_rng(0), 0
    for _ in range(200):
        z, labels = random_batch(rng)
        margin = float(rng.uniform(-0.2, 2.0))
        expected = loop_batch_all(z, labels, margin)
        got = loss(build(Triplet, margin=margin), z, labels).item()
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-12)
        positive += expected > 0
    assert positive > 100


@pytest.mark.parametrize("unit", [False, True], ids=["raw", "unit"])
@pytest.mark.parametrize("soft", [False, True], ids=["hinge", "soft"])
def test_batch_hard_equals_a_triple_loop_on_200_batches(soft, unit):
    rng, positive = np.random.default_rng(1), 0
    for _ in range(200):
        z, labels = random_batch(rng)
        margin = float(rng.uniform(0, 1))
        expected = loop_batch_hard(z, labels, soft, margin, unit)
        built = build(TripletHard, soft=soft, margin=margin, unit=unit)
        assert loss(built, z, labels).item() == pytest.approx(expected, rel=1e-6, abs=1e-12)
        positive += expected > 0
    assert positive > 100


def test_batch_hard_ranks_as_it_trains():
    assert build(TripletHard).normalize_embeddings is False
    assert build(TripletHard, unit=True).normalize_embeddings is True


def test_soft_margin_has_no_margin():
    rng = np.random.default_rng(2)
    z, labels = random_batch(rng)
    values = {loss(build(TripletHard, margin=m), z, labels).item() for m in (0.0, 0.5, 1.0)}
    assert len(values) == 1


# Contrastive against a double loop.


def test_contrastive_equals_a_double_loop_on_200_batches():
    rng = np.random.default_rng(3)
    for _ in range(200):
        z, labels = random_batch(rng)
        pos_margin, neg_margin = rng.uniform(-0.2, 2.0, 2).tolist()
        d, y = loop_distances(normalize(z)), labels.tolist()
        pairs = [(a, b) for a, b in product(range(len(y)), repeat=2) if a != b]
        near = [max(0.0, d[a][b] - pos_margin) for a, b in pairs if y[a] == y[b]]
        far = [max(0.0, neg_margin - d[a][b]) for a, b in pairs if y[a] != y[b]]
        expected = 0.0
        for part in (near, far):
            violated = [v for v in part if v > 0]
            expected += sum(violated) / len(violated) if violated else 0.0
        built = build(Contrastive, pos_margin=pos_margin, neg_margin=neg_margin)
        assert loss(built, z, labels).item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


# Multi-similarity against double loops and in closed form.


def loop_mined(s, y, epsilon):
    """Return kept positive and negative pairs; None keeps all of them."""
    n = range(len(y))
    positives = {(i, j) for i in n for j in n if i != j and y[i] == y[j]}
    negatives = {(i, j) for i in n for j in n if y[i] != y[j]}
    if epsilon is None:
        return positives, negatives
    kept_positives, kept_negatives = set(), set()
    for i in n:
        mine = [s[i][j] for j in n if (i, j) in positives]
        theirs = [s[i][j] for j in n if (i, j) in negatives]
        if mine and theirs:
            kept_positives |= {
                (i, j) for j in n if (i, j) in positives and s[i][j] < max(theirs) + epsilon
            }
            kept_negatives |= {
                (i, j) for j in n if (i, j) in negatives and s[i][j] > min(mine) - epsilon
            }
    return kept_positives, kept_negatives


def loop_multi_similarity(z, labels, alpha, beta, base, epsilon=None):
    """Return the loss and its gradient with respect to the cosines."""
    unit, y = normalize(z), labels.tolist()
    s = (unit @ unit.T).tolist()
    positives, negatives = loop_mined(s, y, epsilon)
    total, slope = 0.0, np.zeros((len(y), len(y)))
    for i in range(len(y)):
        near = {j: math.exp(-alpha * (s[i][j] - base)) for a, j in positives if a == i}
        far = {j: math.exp(beta * (s[i][j] - base)) for a, j in negatives if a == i}
        total += math.log1p(sum(near.values())) / alpha + math.log1p(sum(far.values())) / beta
        for sign, terms in ((-1, near), (1, far)):
            for j, e in terms.items():
                slope[i, j] = sign * e / (1 + sum(terms.values())) / len(y)
    return total / len(y), slope


MS_SETTINGS = [(2.0, 50.0, 0.5), (0.5, 5.0, 0.0), (18.0, 75.0, 0.77)]


@pytest.mark.parametrize("mined", [False, True], ids=["all pairs", "mined"])
@pytest.mark.parametrize("settings", MS_SETTINGS, ids=str)
def test_multi_similarity_equals_loops_in_value_and_closed_form_gradient(settings, mined):
    """dL/dS = -w+ on kept positives and +w- on kept negatives, taken back to the embeddings."""
    rng = np.random.default_rng(4)
    values = dict(zip(("alpha", "beta", "base"), settings, strict=True))
    for _ in range(70):
        epsilon = float(rng.uniform(0, 0.5)) if mined else None
        built = (
            build(MultiSimilarityMined, **values, epsilon=epsilon)
            if mined
            else build(MultiSimilarity, **values)
        )
        z, labels = random_batch(rng)
        expected, slope = loop_multi_similarity(z, labels, *settings, epsilon)
        assert loss(built, z, labels).item() == pytest.approx(expected, rel=1e-8, abs=1e-12)
        leaf = z.clone().requires_grad_()
        unit = normalize(leaf)
        (unit @ unit.T * torch.from_numpy(slope)).sum().backward()
        torch.testing.assert_close(gradient(built, z, labels), leaf.grad, rtol=1e-6, atol=1e-10)


def test_mined_pairs_on_the_fixture():
    (term,) = build(MultiSimilarityMined).terms
    a, p, b, n = (index.tolist() for index in term.miner(FIXTURE, FIXTURE_LABELS))
    assert sorted(zip(a, p, strict=True)) == [(1, 0), (2, 3)]
    assert sorted(zip(b, n, strict=True)) == [(1, 2), (2, 0), (2, 1)]


def test_mined_pairs_equal_loops_on_200_batches():
    rng = np.random.default_rng(5)
    for _ in range(200):
        z, labels = random_batch(rng, unit=True)
        epsilon = float(rng.uniform(0, 0.5))
        (term,) = build(MultiSimilarityMined, epsilon=epsilon).terms
        a, p, b, n = (index.tolist() for index in term.miner(z, labels))
        expected = loop_mined((z @ z.T).tolist(), labels.tolist(), epsilon)
        assert (set(zip(a, p, strict=True)), set(zip(b, n, strict=True))) == expected


def test_a_single_mined_pair_of_each_kind_still_counts():
    # The library's pair losses return 0 here; a nearly trained batch looks like this.
    degrees = torch.tensor([0.0, 20.0, 50.0, 55.0], dtype=torch.float64)
    z = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], dim=1)
    built = build(MultiSimilarityMined, beta=50.0)
    mined = built.terms[0].miner(z, FIXTURE_LABELS)
    assert [index.tolist() for index in mined] == [[1], [0], [1], [2]]
    cos = [math.cos(math.radians(v)) for v in (20, 30)]
    near = math.log1p(math.exp(-2 * (cos[0] - 0.5))) / 2
    far = math.log1p(math.exp(50 * (cos[1] - 0.5))) / 50
    assert loss(built, z, FIXTURE_LABELS).item() == pytest.approx((near + far) / 4, rel=1e-9)


def test_nothing_is_mined_from_perfect_clusters():
    z = torch.tensor([[1.0, 0], [1, 0.01], [0, 1], [0.01, 1]], dtype=torch.float64)
    built = build(MultiSimilarityMined)
    assert loss(built, z, FIXTURE_LABELS).item() == 0.0
    assert gradient(built, z, FIXTURE_LABELS).abs().max() == 0.0


# All pair losses.


@every_pair_loss
def test_order_of_the_batch_does_not_matter(make):
    rng, built = np.random.default_rng(6), make()
    for _ in range(20):
        z, labels = random_batch(rng)
        order = torch.from_numpy(rng.permutation(len(labels)))
        expected, shuffled = loss(built, z, labels), loss(built, z[order], labels[order])
        assert shuffled.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)


@every_pair_loss
def test_class_ids_are_only_names(make):
    rng, built = np.random.default_rng(7), make()
    for _ in range(20):
        z, labels = random_batch(rng)
        renamed = torch.tensor([3, 0, 2, 1])[labels]
        assert loss(built, z, renamed).item() == loss(built, z, labels).item()


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"triplet_hard soft", "triplet_hard hinge"}))
def test_losses_of_unit_vectors_do_not_see_lengths(name):
    rng, built = np.random.default_rng(8), LOSSES[name]()
    for _ in range(20):
        z, labels = random_batch(rng)
        scaled = z * torch.from_numpy(rng.uniform(0.1, 10, (len(z), 1)))
        assert loss(built, scaled, labels).item() == pytest.approx(loss(built, z, labels).item())


@every_pair_loss
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]], ids=["one class", "all differ"])
def test_batches_without_pairs_give_a_finite_gradient(make, labels):
    grad = gradient(make(), FIXTURE, torch.tensor(labels))
    assert grad.shape == FIXTURE.shape
    assert grad.isfinite().all()


COLLAPSED = {
    "batch hard, hinge": (TripletHard, {"soft": False, "margin": 0.3}, 0.3),
    "batch hard, hinge, unit": (TripletHard, {"soft": False, "margin": 0.3, "unit": True}, 0.3),
    "batch hard, soft": (TripletHard, {}, math.log(2)),
    "batch hard, soft, unit": (TripletHard, {"unit": True}, math.log(2)),
    "batch all": (Triplet, {"margin": 0.3}, 0.3),
}


@pytest.mark.parametrize(("method", "settings", "value"), COLLAPSED.values(), ids=COLLAPSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_collapsed_batch(method, settings, value, dtype):
    z = torch.tensor([[0.3, -1.2, 2.0]], dtype=dtype).expand(8, 3)
    labels, built = torch.arange(8) // 2, build(method, **settings)
    assert loss(built, z, labels).item() == pytest.approx(value, abs=1e-6)
    assert gradient(built, z, labels).isfinite().all()


# Group Loss.

G_FEATURES = torch.tensor([[1, 0, -1], [1, 0, -1], [-1, 0, 1], [0, 1, -1]], dtype=torch.float64)
G_PRIOR = torch.tensor([[1, 0], [0.6, 0.4], [0, 1], [0.3, 0.7]], dtype=torch.float64)
G_STEPS = {  # refined rows 1 and 3, mean negative log likelihood
    1: ((0.777778, 0.222222), (0.343750, 0.656250), 0.16813197),
    2: ((0.925368, 0.074632), (0.456939, 0.543061), 0.17202435),
    3: ((0.987204, 0.012796), (0.673002, 0.326998), 0.28267038),
}


def group_loss(classes, size, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        values = {"temperature": 1.0, "anchors": 1, "ce_weight": 0.0, **settings}
        return GroupLoss(classes, size, **values).double()


def group_case(seed, rows=9, classes=4, size=5):
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, classes, rows))
    return torch.from_numpy(rng.normal(size=(rows, size))), labels


def test_similarity_on_the_fixture():
    expected = [[1, 1, 0, 0.5], [1, 1, 0, 0.5], [0, 0, 1, 0], [0.5, 0.5, 0, 1]]
    torch.testing.assert_close(
        similarity(G_FEATURES), torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("steps", G_STEPS)
def test_refined_memberships_on_the_fixture(steps):
    row1, row3, _ = G_STEPS[steps]
    got = refine(G_PRIOR, similarity(G_FEATURES), steps)
    expected = torch.tensor([(1, 0), row1, (0, 1), row3], dtype=torch.float64)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
    assert torch.equal(got[[0, 2]], G_PRIOR[[0, 2]])  # anchors stay exactly one-hot


@pytest.mark.parametrize("steps", G_STEPS)
def test_group_term_on_the_fixture(steps):
    built = group_loss(2, 3, iterations=steps)
    with torch.no_grad():  # logits whose softmax is the fixture's prior
        built.classifier.bias.zero_()
        log = G_PRIOR[[1, 3]].log()
        built.classifier.weight.copy_(torch.stack([log[0], log[1], torch.zeros(2)], dim=1))
    got = built(G_FEATURES, FIXTURE_LABELS)
    assert got.item() == pytest.approx(G_STEPS[steps][2], rel=0, abs=1e-8)


def test_cross_entropy_is_added_without_temperature():
    x, labels = group_case(0)
    alone, both = group_loss(4, 5, temperature=7.0), group_loss(4, 5, temperature=7.0, ce_weight=1)
    extra = cross_entropy(alone.classifier(x), labels)
    assert both(x, labels).item() == pytest.approx((alone(x, labels) + extra).item(), rel=1e-12)


def loop_group(x, labels, logits, anchors, steps):
    """Return the group term by loops: prior, Pearson, replicator, mean log likelihood."""
    n, classes, seen, prior = len(x), logits.shape[1], {}, []
    for i, y in enumerate(labels.tolist()):
        seen[y] = seen.get(y, 0) + 1
        soft = log_softmax(logits[i], 0).exp().tolist()
        prior.append([float(c == y) for c in range(classes)] if seen[y] <= anchors else soft)
    w = np.maximum(np.corrcoef(x.numpy()), 0)
    for _ in range(steps):
        new = []
        for i in range(n):
            row = [
                prior[i][c] * sum(w[i, j] * prior[j][c] for j in range(n)) for c in range(classes)
            ]
            new.append([v / sum(row) for v in row])
        prior = new
    return sum(-math.log(prior[i][y] + 1e-12) for i, y in enumerate(labels.tolist())) / n


@pytest.mark.parametrize("anchors", [0, 1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_group_term_equals_loops(anchors, steps):
    for seed in range(8):
        x, labels = group_case(seed)
        built = group_loss(4, 5, temperature=3.0, anchors=anchors, iterations=steps)
        expected = loop_group(x, labels, built.classifier(x).detach() / 3.0, anchors, steps)
        assert built(x, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_anchors_stay_one_hot_and_rows_sum_to_one(steps):
    for seed in range(20):
        x, labels = group_case(seed)
        prior = memberships(group_loss(4, 5).classifier(x), labels, anchors=1)
        refined = refine(prior, similarity(x), steps)
        torch.testing.assert_close(refined.sum(1), torch.ones(9, dtype=torch.float64))
        assert (refined >= 0).all()
        anchors = [labels.tolist().index(y) for y in labels.unique()]
        for row in anchors:
            one_hot = torch.eye(4, dtype=torch.float64)[labels[row]]
            assert torch.equal(refined[row], one_hot)


def test_anchors_are_the_first_of_each_class_even_if_the_class_comes_back():
    # Class 0 fills two groups of a batch: still only two anchors, the later ones are soft.
    labels = torch.tensor([0, 1, 0, 2, 0, 0, 1, 1])
    logits = torch.zeros(8, 3, dtype=torch.float64)
    prior = memberships(logits, labels, anchors=2)
    labelled = (prior == 1).any(1).tolist()
    assert labelled == [True, True, True, True, False, False, True, False]
    assert torch.allclose(prior[[4, 5, 7]], torch.full((3, 3), 1 / 3, dtype=torch.float64))
    assert prior.argmax(1)[[0, 1, 2, 3, 6]].tolist() == [0, 1, 0, 2, 1]


def test_group_term_does_not_see_scale_and_shift_of_a_row():
    for seed in range(20):
        x, labels = group_case(seed)
        rng = np.random.default_rng(seed)
        scale, shift = (torch.from_numpy(rng.uniform(0.1, 9, (9, 1))) for _ in range(2))
        prior = memberships(group_loss(4, 5).classifier(x), labels, anchors=1)
        plain, moved = similarity(x), similarity(scale * x - shift)
        torch.testing.assert_close(moved, plain, atol=1e-10, rtol=0)
        torch.testing.assert_close(refine(prior, moved, 2), refine(prior, plain, 2))


@pytest.mark.parametrize("classes", [2, 5, 98])
def test_no_anchors_and_a_uniform_prior_cost_ln_c(classes):
    built = group_loss(classes, 3, anchors=0, iterations=3)
    with torch.no_grad():
        built.classifier.weight.zero_()
        built.classifier.bias.zero_()
    x = torch.tensor([[0.2, -1.0, 4.0]], dtype=torch.float64).expand(6, 3)
    labels = torch.arange(6) % classes
    assert built(x, labels).item() == pytest.approx(math.log(classes), rel=1e-9)


def test_a_sample_without_neighbours_squares_its_own_prior():
    # Three rows that correlate negatively with each other: W is the identity.
    x = torch.tensor([[2, -1, -1], [-1, 2, -1], [-1, -1, 2]], dtype=torch.float64)
    w = similarity(x)
    torch.testing.assert_close(w, torch.eye(3, dtype=torch.float64))
    p = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [1 / 3] * 3], dtype=torch.float64)
    torch.testing.assert_close(refine(p, w, 1), p**2 / (p**2).sum(1, keepdim=True))


@pytest.mark.parametrize("constant", [0.0, 3.7, 0.1])
def test_constant_row_gives_no_nan(constant):
    x, labels = group_case(3)
    x[4] = constant
    built = group_loss(4, 5, iterations=3, ce_weight=1.0)
    leaf = x.clone().requires_grad_()
    value = built(leaf, labels)
    value.backward()
    assert value.isfinite()
    assert leaf.grad.isfinite().all()
    w = similarity(torch.zeros(2, 5, dtype=torch.float64))
    assert torch.equal(w, torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("ce_weight", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 3])
def test_group_loss_passes_gradcheck(ce_weight, steps):
    built = group_loss(3, 4, temperature=2.0, iterations=steps, ce_weight=ce_weight)
    x, labels = group_case(1, rows=6, classes=3, size=4)
    parameters = tuple(built.parameters())

    def value(x, *_):
        return built(x, labels)

    assert torch.autograd.gradcheck(value, (x.requires_grad_(), *parameters))


def test_group_loss_uses_all_training_classes_and_its_own_rate():
    built = build(Group, classifier_lr=0.02)
    (term,) = built.terms
    assert term.loss.classifier.weight.shape == (SPEC.classes, SPEC.embedding_size)
    group = term.group()
    assert group.lr == 0.02
    assert {p.shape for p in group.parameters} == {(8, 12), (8,)}


# The reference row.


def test_untrained_returns_the_trunks_vector_untouched_and_has_nothing_to_train():
    from protocols.method import Features

    built = build(Untrained)
    vector = torch.rand(3, SPEC.channels)
    views = built(Features(vector[:, :, None, None], vector))
    assert views["embedding"] is vector
    assert list(built.parameters()) == []
    assert built.groups() == []
    assert built.trains is False
