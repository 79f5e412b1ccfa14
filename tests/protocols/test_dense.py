"""Losses in fixed shapes equal the library's in value and gradient, whatever the batch."""

from functools import partial

import numpy as np
import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers

from protocols import dense
from protocols.dense import form_of
from protocols.discovery import Registry
from protocols.method import Term, TrainSpec

CLASSES, SIZE = 12, 16
SETTINGS = {
    "circle": [{}, {"m": 0.25, "gamma": 8.0}],
    "contrastive": [{}, {"pos_margin": 0.2, "neg_margin": 1.4}],
    "cosface": [{}],
    "fastap": [{}, {"bins": 57}],
    "margin": [{}, {"beta": 0.9, "margin": -0.1}],
    "margin_class": [{}],
    "ms": [{}, {"alpha": 18.0, "beta": 0.5, "base": 0.2}],
    "ms_miner": [{}, {"epsilon": 0.9}, {"epsilon": 0.0}],
    "proxy_anchor": [{}],
    "softtriple": [{}, {"centres": 1}, {"centres": 3, "reg_weight": 0.7}],
    "supcon": [{}, {"temperature": 0.5}],
    "triplet": [{}, {"margin": 1.0}, {"margin": -0.1}],
}
BATCHES = {
    "balanced": lambda rng: np.repeat(rng.permutation(CLASSES)[:4], 4),
    "mixed": lambda rng: rng.integers(0, CLASSES, 16),
    "one class": lambda rng: np.zeros(16, int),
    "all different": lambda rng: rng.permutation(CLASSES),
    "one stands apart": lambda rng: np.array([0] * 15 + [1]),
    "one pair": lambda rng: np.array([3, 3, 5]),
}


def method(name, **settings):
    labels = np.repeat(np.arange(CLASSES), 4)
    spec = TrainSpec(labels, CLASSES, 32, SIZE, 4, 16, 100, 10)
    torch.manual_seed(0)
    return Registry().load("method", name)(spec, **settings).double()


def terms_of_the_library():
    """Yield an id and a term for every shipped term whose loss the library computes."""
    for name in Registry().names("method"):
        for settings in SETTINGS.get(name, [{}]):
            made = method(name, **settings)
            for term in made.terms if made.trains else ():
                if isinstance(term.loss, losses.BaseMetricLossFunction):
                    yield pytest.param(term, id=f"{name}-{term.name}-{settings}")


def gradients(term, compute, z):
    """Return the value, and the gradients of the embeddings and of the term's parameters."""
    z = z.clone().requires_grad_()
    term.zero_grad(set_to_none=True)
    value = compute(z)
    (value + 0.0 * z.sum()).backward()
    own = [p.grad if p.grad is not None else torch.zeros_like(p) for p in term.parameters()]
    return value.detach(), [z.grad, *own]


def compare(term, form, z, labels, tolerance=1e-12):
    def library(z):
        if term.miner is None:
            return term.loss(z, labels)
        return term.loss(z, labels, term.miner(z.detach(), labels))

    wanted, gradients_wanted = gradients(term, library, z)
    value, found = gradients(term, lambda z: form(z, labels), z)
    torch.testing.assert_close(value, wanted.reshape(()), rtol=tolerance, atol=tolerance)
    for got, want in zip(found, gradients_wanted, strict=True):
        scale = max(1.0, want.abs().max().item())
        torch.testing.assert_close(got, want, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("term", list(terms_of_the_library()))
def test_a_dense_form_equals_the_librarys_loss_in_value_and_gradient(term, batch):
    form = form_of(term.loss, term.miner)
    if form is None:  # the library's own form waits for nothing
        assert isinstance(term.loss, losses.NormalizedSoftmaxLoss)
        return
    rng = np.random.default_rng(5)
    torch.manual_seed(5)
    for draw in range(6):
        labels = torch.from_numpy(BATCHES[batch](rng))
        z = torch.randn(len(labels), SIZE, dtype=torch.float64) * 10 ** rng.uniform(-1, 1)
        if draw % 3 == 2:  # near their class, so that hinges are satisfied too
            z = z + 30 * torch.randn(CLASSES, SIZE, dtype=torch.float64)[labels]
        compare(term, form, z, labels)


OWN = {
    "bfe": [{}],
    "cgd": [{}, {"margin": 0.9}],
    "divide_conquer": [{"sampling": "nearest"}, {"sampling": "distance", "margin": 0.4}],
    "fastap": [{}, {"bins": 57}],
    "horde": [{}, {"loss": "binomial"}],
    "ntxent": [{}, {"compat": True}, {"temperature": 0.5}],
    "recall_at_k": [{}, {"levels": 2, "temperature": 0.1}],
    "roadmap": [{}],
    "smooth_ap": [{}, {"temperature": 0.1}],
    "snr": [{}, {"pos_margin": 0.3, "neg_margin": 0.5}],
    "triplet_hard": [{}, {"soft": False, "unit": True}],
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("name", "settings"), [(name, some) for name, every in OWN.items() for some in every]
)
def test_a_methods_own_losses_are_the_same_off_the_cpu(name, settings, batch, monkeypatch):
    term = method(name, **settings).terms[0]
    rng = np.random.default_rng(5)
    torch.manual_seed(5)
    for draw in range(6):
        labels = torch.from_numpy(BATCHES[batch](rng))
        z = torch.randn(len(labels), SIZE, dtype=torch.float64) * 10 ** rng.uniform(-1, 1)
        if draw % 3 == 2:
            z = z + 30 * torch.randn(CLASSES, SIZE, dtype=torch.float64)[labels]
        state = torch.get_rng_state()
        for device, on_host in (("cpu", True), ("other", False)):
            torch.set_rng_state(state)  # negatives are drawn
            monkeypatch.setattr(dense, "on_host", lambda tensor, told=on_host: told)
            value, found = gradients(term, partial(term.loss, labels=labels), z)
            if device == "cpu":
                wanted, gradients_wanted = value, found
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12)
        for got, want in zip(found, gradients_wanted, strict=True):
            scale = max(1.0, want.abs().max().item())
            torch.testing.assert_close(got, want, rtol=0, atol=1e-12 * scale)


def test_a_single_mined_pair_of_each_kind_counts_as_the_loss_says():
    """The library returns 0 there; the shipped loss counts it."""
    term = Term(
        losses.MultiSimilarityLoss(reducer=reducers.MeanReducer()),
        miner=miners.MultiSimilarityMiner(epsilon=-0.5),
    )
    labels = torch.tensor([0, 0, 1])
    torch.manual_seed(0)
    met = set()
    for _ in range(300):
        z = torch.randn(3, 4, dtype=torch.float64)
        a, _, b, _ = term.miner(z, labels)
        met.add((len(a), len(b)))
        compare(term, form_of(term.loss, term.miner), z, labels)
    assert (1, 1) in met


@pytest.mark.parametrize(
    ("loss", "miner"),
    [
        (losses.ContrastiveLoss(reducer=reducers.MeanReducer()), None),
        (losses.TripletMarginLoss(swap=True), None),
        (losses.TripletMarginLoss(triplets_per_anchor=3), None),
        (losses.MarginLoss(nu=0.1, reducer=reducers.DivisorReducer()), None),
        (losses.MultiSimilarityLoss(), miners.BatchHardMiner()),
        (losses.MultiSimilarityLoss(embedding_regularizer=torch.nn.Identity()), None),
        (losses.ProxyAnchorLoss(4, 4, weight_regularizer=torch.nn.Identity()), None),
        (type("Own", (losses.ContrastiveLoss,), {})(), None),
        (losses.NTXentLoss(), None),
        (lambda z, labels: z.sum(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_known_to_be_equal_has_no_dense_form(loss, miner):
    assert form_of(loss, miner) is None


def test_a_similarity_turns_the_hinges_round():
    loss = losses.ContrastiveLoss(0.9, 0.6, distance=distances.CosineSimilarity())
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    torch.manual_seed(0)
    for _ in range(20):
        z = torch.randn(6, 3, dtype=torch.float64)
        compare(Term(loss), form_of(loss), z, labels)
