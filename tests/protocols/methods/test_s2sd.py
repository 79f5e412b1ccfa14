"""S2SD: what the embedding imitates, the branches, the wrapper over any loss."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.discovery import load
from protocols.errors import PluginError
from protocols.method import Batch
from protocols.methods._s2sd import WIDTHS, SelfDistilled
from protocols.methods.ms_miner import MultiSimilarityMined
from protocols.methods.proxynca import ProxyNCA
from protocols.methods.s2sd import S2SD
from protocols.toy_task import SPEC, as_features, build, toy_batch, toy_features
from tests.protocols.methods.loops import (
    FIXTURE,
    FIXTURE_LABELS,
    cosines,
    log_sum_exp,
    mean,
    random_batch,
)

TEACHER = torch.tensor([0.0, 30.0, 90.0, 120.0], dtype=torch.float64).deg2rad()
TEACHER = torch.stack([TEACHER.cos(), TEACHER.sin()], 1)


@pytest.mark.parametrize(("heat", "expected"), [(1.0, 0.05928323), (0.1, 0.01149540)])
def test_golden_divergences(heat, expected):
    method = S2SD(SPEC, distil_temperature=heat)
    got = method.imitation(FIXTURE, TEACHER, FIXTURE_LABELS).item()
    assert got == pytest.approx(expected, rel=0, abs=5e-9)


def loop(z, t, heat):
    """Return the mean over rows of KL(softmax of t's row, softmax of z's row), times heat^2."""
    values = []
    for a, b in zip(cosines(z), cosines(t), strict=True):
        a, b = [v / heat for v in a], [v / heat for v in b]
        la, lb = log_sum_exp(a), log_sum_exp(b)
        pairs = zip(a, b, strict=True)
        values.append(math.fsum(math.exp(y - lb) * ((y - lb) - (x - la)) for x, y in pairs))
    return mean(values) * heat**2


def test_divergences_equal_loops():
    rng = np.random.default_rng(0)
    for _ in range(60):
        heat = float(10 ** rng.uniform(-1, 1))
        z, labels = random_batch(rng)
        t = torch.from_numpy(rng.normal(size=(len(z), 7)))
        got = S2SD(SPEC, distil_temperature=heat).imitation(z, t, labels).item()
        assert got == pytest.approx(loop(z, t, heat), rel=1e-8, abs=1e-12)


def test_a_teacher_like_the_embedding_teaches_nothing_and_never_learns():
    method = S2SD(SPEC)
    z, teacher = FIXTURE.clone().requires_grad_(), (3 * FIXTURE).requires_grad_()
    value = method.imitation(z, teacher, FIXTURE_LABELS)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert z.grad.abs().max() < 1e-12
    assert teacher.grad is None


def test_the_terms_are_those_of_the_formula():
    """(L(z) + mean of L(t)) / 2 + distil * mean of the divergences + distil * the features'."""
    method = build(S2SD, {"distil": 7.0, "distil_temperature": 0.5})
    views = method(as_features(toy_features()))
    batch = Batch(toy_batch().labels, torch.arange(32), None, 13, 1)  # of 100: the delay is over
    found = method.losses(views, batch)
    plain = MultiSimilarityMined(SPEC)
    z = views["embedding"]
    expected = plain.terms[0]({"embedding": z}, batch.labels).item() / 2
    for number, width in enumerate(WIDTHS):
        t = views[f"branch{number}"]
        assert t.shape == (32, width * SPEC.embedding_size)
        expected += plain.terms[0]({"embedding": t}, batch.labels).item() / 8
        expected += 7.0 * loop(z.detach().double(), t.detach().double(), 0.5) / 4
    pooled = toy_features().mean(dim=(2, 3)) + toy_features().amax(dim=(2, 3))
    features = 7.0 * loop(z.detach().double(), pooled.double(), 0.5)
    assert found["features"].item() == pytest.approx(features, rel=1e-4)
    total = sum(found.values()).item()
    assert total == pytest.approx(expected + features, rel=1e-4)


def test_the_features_teach_from_the_delay_on():
    method = build(S2SD)
    labels, views = toy_batch().labels, method(as_features(toy_features()))
    for step, teaches in ((0, False), (12, False), (13, True), (99, True)):
        batch = Batch(labels, torch.arange(32), None, step, 0)
        assert (method.losses(views, batch)["features"].item() > 0) == teaches
        assert method.graph_key(batch) == (teaches, None)
    (phase,) = S2SD.phases(method.settings, 100, 10)
    assert (phase.name, phase.begins) == ("features", 13)


def test_branches_teach_the_trunk_and_imitation_teaches_the_head_alone():
    method = build(S2SD)
    features = toy_features().requires_grad_()
    values = method.losses(method(as_features(features)), toy_batch())
    values["branch0/loss"].backward(retain_graph=True)
    assert features.grad.abs().sum() > 0
    assert method.head.weight.grad is None
    method.zero_grad()
    values["branch0/distil"].backward()
    assert method.head.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in method.branches.parameters())


def test_without_branches_the_base_method_is_left():
    plain, wrapped = build(MultiSimilarityMined), build(S2SD)
    features = as_features(toy_features())
    assert torch.equal(plain.head.weight, wrapped.head.weight), "both start alike"
    assert torch.equal(plain(features)["embedding"], wrapped(features)["embedding"])
    own = plain.losses(plain(features), toy_batch())["loss"]
    assert torch.equal(wrapped.losses(wrapped(features), toy_batch())["loss"], own / 2)
    assert set(wrapped.eval()(features)) == {"embedding"}


def test_each_branch_has_proxies_of_its_own():
    class DistilledProxies(SelfDistilled, ProxyNCA):
        """Proxies on every branch."""

    method = build(DistilledProxies)
    assert len({id(p) for term in method.terms for p in term.parameters()}) == 5
    names = [group.name for group in method.groups()]
    assert names == ["head", "loss", *(f"branch{k}/loss" for k in range(4)), "branches"]
    widths = [g.parameters[0].shape[1] for g in method.groups() if g.name.endswith("loss")]
    assert widths == [SPEC.embedding_size * k for k in (1, *WIDTHS)]
    unit = normalize(method(as_features(toy_features()))["branch3"], dim=1)
    assert unit.isfinite().all()


@pytest.mark.parametrize("name", ["group", "xbm"])
def test_a_base_that_computes_its_losses_itself_is_refused(name):
    with pytest.raises(PluginError, match=r"Distilled.*losses\(\) itself"):
        type("Distilled", (SelfDistilled, load("method", name)), {})
