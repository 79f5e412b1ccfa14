"""What holds for every shipped method, or for every loss of a kind."""

import numpy as np
import pytest
import torch

from protocols.conformance import CHECKS, SPEC
from protocols.discovery import Registry
from protocols.methods.antico import AntiCollapse
from protocols.methods.arcface import ArcFace
from protocols.methods.ccl import CenterContrastive
from protocols.methods.circle import Circle
from protocols.methods.contextual import Contextual
from protocols.methods.contrastive import Contrastive
from protocols.methods.cosface import CosFace
from protocols.methods.fastap import FastAP
from protocols.methods.hier import Hier
from protocols.methods.hyp import Hyp
from protocols.methods.margin import Margin
from protocols.methods.margin_class import MarginClass
from protocols.methods.ms import MultiSimilarity
from protocols.methods.ms_miner import MultiSimilarityMined
from protocols.methods.nsoftmax import NormalizedSoftmax
from protocols.methods.ntxent import NTXent
from protocols.methods.pfml import PotentialField
from protocols.methods.proxy_an import ProxyAN
from protocols.methods.proxy_anchor import ProxyAnchor
from protocols.methods.proxynca import ProxyNCA
from protocols.methods.recall_at_k import RecallAtK
from protocols.methods.roadmap import Roadmap
from protocols.methods.siglip import SigLIP
from protocols.methods.smooth_ap import SmoothAP
from protocols.methods.snr import SNR
from protocols.methods.softtriple import SoftTriple
from protocols.methods.subcenter_arcface import SubCenterArcFace
from protocols.methods.supcon import SupCon
from protocols.methods.tcm import ThresholdConsistent
from protocols.methods.triplet import Triplet
from protocols.methods.triplet_hard import TripletHard
from protocols.space import declared
from tests.protocols.methods.loops import (
    FIXTURE,
    build,
    gradient,
    random_batch,
    set_weight,
    weight_of,
)

PAIRS = {
    "triplet": (Triplet, {}),
    "triplet_hard soft": (TripletHard, {}),
    "triplet_hard hinge": (TripletHard, {"soft": False}),
    "triplet_hard unit": (TripletHard, {"unit": True}),
    "contrastive": (Contrastive, {}),
    "ms": (MultiSimilarity, {}),
    "ms_miner": (MultiSimilarityMined, {}),
    "siglip": (SigLIP, {}),
    "tcm": (ThresholdConsistent, {}),
    "hyp": (Hyp, {}),
    "contextual": (Contextual, {}),
}
UNIT = {  # losses of unit vectors, and how exactly their sums repeat in another order
    "triplet": (Triplet, {}, 1e-8),
    "triplet_hard unit": (TripletHard, {"unit": True}, 1e-8),
    "contrastive": (Contrastive, {}, 1e-8),
    "ms": (MultiSimilarity, {}, 1e-8),
    "ms_miner": (MultiSimilarityMined, {}, 1e-8),
    "ntxent": (NTXent, {}, 1e-8),
    "margin": (Margin, {}, 1e-8),
    "margin_class": (MarginClass, {}, 1e-8),
    "fastap": (FastAP, {}, 1e-8),
    "snr": (SNR, {}, 1e-8),
    "proxynca": (ProxyNCA, {}, 1e-8),
    "nsoftmax": (NormalizedSoftmax, {}, 1e-8),
    "cosface": (CosFace, {}, 1e-8),
    "arcface": (ArcFace, {}, 1e-8),
    "softtriple": (SoftTriple, {}, 1e-8),
    "circle": (Circle, {}, 1e-7),
    "supcon": (SupCon, {}, 1e-7),
    "smooth_ap": (SmoothAP, {}, 1e-7),
    "recall_at_k": (RecallAtK, {}, 1e-7),
    "roadmap": (Roadmap, {}, 1e-7),
    "proxy_anchor": (ProxyAnchor, {}, 1e-7),
    "subcenter_arcface": (SubCenterArcFace, {}, 1e-7),
    "siglip": (SigLIP, {}, 1e-8),
    "tcm": (ThresholdConsistent, {}, 1e-8),
    "proxy_an": (ProxyAN, {}, 1e-7),
    "ccl": (CenterContrastive, {}, 1e-8),
    "pfml": (PotentialField, {}, 1e-8),
    "antico": (AntiCollapse, {}, 1e-7),
    "contextual": (Contextual, {}, 1e-7),
}
CLASSES = {
    "proxynca": ProxyNCA,
    "nsoftmax": NormalizedSoftmax,
    "cosface": CosFace,
    "arcface": ArcFace,
    "softtriple": SoftTriple,
    "proxy_anchor": ProxyAnchor,
    "subcenter_arcface": SubCenterArcFace,
    "proxy_an": ProxyAN,
    "ccl": CenterContrastive,
    "pfml": PotentialField,
}
every_pair_loss = pytest.mark.parametrize(("method", "settings"), PAIRS.values(), ids=PAIRS)
every_unit_loss = pytest.mark.parametrize(("method", "settings", "exact"), UNIT.values(), ids=UNIT)
every_class_loss = pytest.mark.parametrize("method", CLASSES.values(), ids=CLASSES)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", Registry().names("method"))
def test_conformance(name, check):
    check(Registry().load("method", name))


@pytest.mark.parametrize("method", [AntiCollapse, Hier, Hyp])
def test_two_images_of_a_class_are_drawn_where_the_authors_do(method):
    assert method.wants.images_per_class == 2


@every_pair_loss
def test_order_of_the_batch_does_not_matter(method, settings):
    rng, built = np.random.default_rng(6), build(method, **settings)
    for _ in range(20):
        z, labels = random_batch(rng, least=2)
        order = torch.from_numpy(rng.permutation(len(labels)))
        expected, shuffled = built(z, labels), built(z[order], labels[order])
        assert shuffled.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)


@every_unit_loss
def test_order_and_lengths_do_not_matter(method, settings, exact):
    loss, rng = build(method, **settings), np.random.default_rng(7)
    for _ in range(10):
        z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
        expected = loss(z, labels).item()
        order = torch.from_numpy(rng.permutation(len(labels)))
        scale = torch.from_numpy(rng.uniform(0.1, 9, (len(z), 1)))
        got = loss((scale * z)[order], labels[order]).item()
        assert got == pytest.approx(expected, rel=exact, abs=exact / 100)


@every_pair_loss
def test_class_ids_are_only_names_in_a_pair_loss(method, settings):
    rng, built = np.random.default_rng(7), build(method, **settings)
    for _ in range(20):
        z, labels = random_batch(rng, least=2)
        renamed = torch.tensor([3, 0, 2, 1])[labels]
        assert built(z, renamed).item() == built(z, labels).item()


@every_class_loss
def test_class_ids_are_only_names_where_vectors_change_places_too(method):
    loss, rng = build(method), np.random.default_rng(6)
    z, labels = random_batch(rng, SPEC.classes, SPEC.embedding_size)
    expected = loss(z, labels).item()
    order = torch.from_numpy(rng.permutation(SPEC.classes))
    weight = weight_of(loss)
    rows = weight.detach().reshape(SPEC.classes, -1, SPEC.embedding_size)
    set_weight(loss, rows[order].reshape(weight.shape))
    renamed = torch.argsort(order)[labels]
    assert loss(z, renamed).item() == pytest.approx(expected, rel=1e-9)


@every_class_loss
@pytest.mark.parametrize("label", [SPEC.classes, -1])
def test_a_label_out_of_range_raises(method, label):
    z = torch.ones(2, SPEC.embedding_size, dtype=torch.float64)
    with pytest.raises((IndexError, RuntimeError)):
        build(method)(z, torch.tensor([0, label]))


@every_class_loss
def test_own_weights_have_their_searched_rate_and_start_apart(method):
    name = next(key for key in declared(method) if key.endswith("_lr"))
    built = method(SPEC, **{name: 0.03})
    (term,) = built.terms
    assert built.draws == "classes"
    assert term.group().lr == 0.03
    assert term.group().decay
    rows = weight_of(term.loss).detach().reshape(-1, SPEC.embedding_size)
    assert torch.pdist(rows).min() > 0


@every_pair_loss
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]], ids=["one class", "all differ"])
def test_batches_without_pairs_give_a_finite_gradient(method, settings, labels):
    grad = gradient(build(method, **settings), FIXTURE, torch.tensor(labels))
    assert grad.shape == FIXTURE.shape
    assert grad.isfinite().all()


@every_unit_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_duplicates_give_a_finite_gradient(method, settings, exact, dtype):
    """An image drawn twice, and one image shown under two labels."""
    loss, rng = build(method, dtype, **settings), np.random.default_rng(8)
    z = torch.from_numpy(rng.normal(size=(8, SPEC.embedding_size))).to(dtype)
    z[1], z[2], z[4] = z[0], z[0], z[5]
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert loss(z, labels).isfinite()
    assert gradient(loss, z, labels).isfinite().all()


@pytest.mark.parametrize("method", [m for m in CLASSES.values() if m is not SubCenterArcFace])
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
