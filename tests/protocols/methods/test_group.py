"""Group Loss: memberships, refinement, its warm start and published settings."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax

from protocols import conformance as toy
from protocols.methods.group import Group, GroupLoss, memberships, refine, similarity
from protocols.space import declared, defaults
from protocols.toy_task import SPEC, as_features, toy_batch, toy_features
from tests.protocols.methods.loops import (
    FIXTURE_LABELS,
    build,
)

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
    extra = torch.nn.functional.cross_entropy(alone.classifier(x), labels)
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


@pytest.mark.parametrize(
    ("dataset", "temperature", "anchors"),
    [("cub200", 24.0, 2), ("cars196", 79.0, 3), ("sop", 54.0, 2), ("emoji", 24.0, 2)],
)
def test_group_starts_from_its_published_settings(dataset, temperature, anchors):
    first = defaults(Group.space(dataset))
    assert (first["temperature"], first["anchors"]) == (temperature, anchors)
    assert (first["iterations"], first["ce_weight"], first["warm_start"]) == (1, 1.0, 0.125)
    assert defaults(declared(Group))["temperature"] == 24.0, "other datasets keep theirs"


def test_the_warm_start_classifies_only_and_then_the_group_loss_joins():
    method = toy.build(Group, {"warm_start": 0.125})  # of 100 steps
    views = method(as_features(toy_features()))
    batch = toy_batch()
    values = {
        step: method.losses(views, replace(batch, step=step))["loss"].item()
        for step in (0, 12, 13, 99)
    }
    logits = method.terms[0].loss.classifier(views["embedding"])
    alone = torch.nn.functional.cross_entropy(logits, batch.labels).item()
    whole = method.terms[0].loss(views["embedding"], batch.labels).item()
    assert alone < whole
    assert values == {0: alone, 12: alone, 13: whole, 99: whole}
    cold = toy.build(Group, {"warm_start": 0.0})
    assert cold.losses(views, replace(batch, step=0))["loss"].item() == pytest.approx(whole)
