"""Erased blocks, descriptors and moments: exact answers, slow loops, sizes, refusals."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from protocols.conformance import SPEC, as_features, build, loss_of, toy_batch, toy_features
from protocols.discovery import load
from protocols.errors import InvalidInputError, PluginError
from protocols.method import Features, Method, Term, TrainSpec, Wants, reached
from protocols.methods._batch_hard import batch_hard
from protocols.methods._classify import Classify
from protocols.methods._horde import HighOrder, Moments
from protocols.methods.bfe import BatchFeatureErasing, Branches, erase, soft_batch_hard
from protocols.methods.cgd import COMBINATIONS, DESCRIBE, Combined, gem, split
from protocols.methods.horde import Horde
from protocols.methods.horde_ms import HordeMultiSimilarity
from protocols.methods.ms import MultiSimilarity
from protocols.methods.proxynca import ProxyNCA
from protocols.network import Network


def paper_spec(channels, size, classes=98):
    labels = np.repeat(np.arange(classes), 2)
    return TrainSpec(
        labels, classes, channels, size, folds=4, batch_size=32, steps=100, steps_per_epoch=10
    )


def count(module):
    return sum(p.numel() for p in module.parameters())


def seeded(seed):
    return torch.default_generator.manual_seed(seed)


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng(devices=[]):
        seeded(0)
        yield


@pytest.fixture(scope="module")
def resnet():
    trunk = load("trunk", "resnet50").build(None)
    trunk.set_last_stride(1)
    return trunk


# What several of them share.

LINE = torch.tensor([[0.0], [1.0], [3.0], [5.0]])
LINE_LABELS = torch.tensor([0, 0, 1, 1])


def test_batch_hard_on_a_line():
    v, anchors = batch_hard(LINE, LINE_LABELS)
    torch.testing.assert_close(v[anchors], torch.tensor([-2.0, -1.0, 0.0, -2.0]))
    terms = torch.nn.functional.softplus(v)
    expected = torch.tensor([0.126928, 0.313262, 0.693147, 0.126928])
    torch.testing.assert_close(terms, expected, atol=1e-6, rtol=0)
    assert soft_batch_hard(LINE, LINE_LABELS).item() == pytest.approx(0.315066, abs=1e-6)


def test_the_hinge_is_a_mean_over_all_anchors():
    # Over violated anchors only it would be 0.1.
    method = Combined(SPEC, margin=0.1)
    assert method.rank(LINE, LINE_LABELS).item() == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize(
    ("smoothing", "scale", "temperature", "value"),
    [(0.1, 1.0, 1.0, 0.775543), (0.1, 0.5, 0.5, 0.775543), (0.0, 1.0, 1.0, math.log(2))],
)
def test_smoothing_spreads_over_all_classes_and_temperature_divides(
    smoothing, scale, temperature, value
):
    classify = Classify(1, 4, smoothing=smoothing, temperature=temperature)
    with torch.no_grad():
        classify.classifier.weight.copy_(torch.tensor([[math.log(3)], [0], [0], [0]]) * scale)
        classify.classifier.bias.zero_()
    loss = classify(torch.ones(1, 1), torch.tensor([0]))
    assert loss.item() == pytest.approx(value, abs=1e-6)


# Batch feature erasing.


def test_one_block_is_erased_and_survivors_stay_as_they_are():
    seen = set()
    for seed in range(200):
        seeded(seed)
        erased = erase(torch.ones(2, 3, 4, 4), 0.5, 0.5)
        assert (erased.sum(dim=(2, 3)) == 12).all()
        assert set(erased.unique().tolist()) == {0.0, 1.0}
        assert (erased == erased[0, 0]).all(), "the same block in every image and channel"
        rows, columns = np.nonzero(erased[0, 0].numpy() == 0)
        assert (np.ptp(rows), np.ptp(columns)) == (1, 1)
        seen.add((rows.min(), columns.min()))
    assert seen == set(itertools.product(range(3), range(3)))


@pytest.mark.parametrize(
    ("side", "share", "erased"),
    [(4, 0.5, 2), (5, 0.5, 2), (7, 0.5, 4), (14, 0.5, 7), (24, 0.33, 8), (8, 1.0, 8)],
)
def test_sides_round_half_to_even(side, share, erased):
    out = erase(torch.ones(1, 1, side, side), share, share)[0, 0]
    assert int((out == 0).sum()) == erased**2
    tall = erase(torch.ones(1, 1, side, 3), share, 1.0)[0, 0]
    assert int((tall == 0).all(1).sum()) == erased


def test_the_maximum_of_a_ramp_survives_in_eight_places_of_nine():
    ramp = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    found = {}
    for seed in range(200):
        seeded(seed)
        erased = erase(ramp, 0.5, 0.5)
        place = tuple((erased == 0).nonzero()[0, 2:].tolist())
        found[place] = erased.amax().item()
    assert sorted(found.values()) == [14.0] + [16.0] * 8
    assert found[2, 2] == 14.0
    assert sum(found.values()) / 9 == pytest.approx(15.7778, abs=1e-4)


def test_the_erased_rectangle_equals_a_loop():
    rng = np.random.default_rng(1)
    for seed in range(50):
        rows, columns = (int(n) for n in rng.integers(2, 9, 2))
        height, width = rng.uniform(0.2, 1.0, 2)
        block = torch.from_numpy(rng.normal(size=(2, 3, rows, columns)))
        seeded(seed)
        erased = erase(block, height, width)
        high, wide = round(height * rows), round(width * columns)
        options = []
        for top, left in itertools.product(range(rows - high + 1), range(columns - wide + 1)):
            kept = block.clone()
            for i, j in itertools.product(range(high), range(wide)):
                kept[:, :, top + i, left + j] = 0
            options.append(kept)
        assert any(torch.equal(erased, option) for option in options)


def test_erasing_has_the_papers_size_on_resnet(resnet):
    method = BatchFeatureErasing(paper_spec(2048, 1536))
    network = Network(resnet, method, "live")
    terms = count(method.terms)
    assert count(network) - terms == 31_120_960
    assert sum(p.numel() for p in network.deployed(64)) == 31_120_960
    branches = method.head
    assert count(branches.reduce) == 1_050_112
    assert count(branches.deepen) == 4_462_592
    assert count(branches.embed) == 2_100_224


def test_erasing_is_for_training_only_and_embeds_one_image():
    method = BatchFeatureErasing(paper_spec(64, 1536)).eval()
    features = as_features(torch.rand(3, 64, 6, 6))
    views = method(features)
    assert set(views) == {"embedding"}
    assert views["embedding"].shape == (3, 1536)
    assert not method.normalize_embeddings
    lengths = views["embedding"].norm(dim=1)
    assert (lengths - 1).abs().min() > 0.1, "raw, not of length 1"
    again = method(Features(features.map[:1], features.vector[:1]))["embedding"]
    torch.testing.assert_close(again, views["embedding"][:1])
    assert torch.equal(method(features)["embedding"], views["embedding"]), "no block in eval"


def test_the_global_branch_does_not_see_the_block():
    method = BatchFeatureErasing(SPEC).train()
    outs = []
    for seed in range(6):
        seeded(seed)
        outs.append(method(as_features(toy_features())))
    assert all(torch.equal(out["global"], outs[0]["global"]) for out in outs)
    assert any(not torch.equal(out["part"], outs[0]["part"]) for out in outs)
    whole = torch.cat([outs[0]["global"], outs[0]["part"]], dim=1)
    assert torch.equal(outs[0]["embedding"], whole)


def test_erasing_sums_exactly_four_terms():
    method = build(BatchFeatureErasing)
    values = method.losses(method(as_features(toy_features())), toy_batch())
    assert set(values) == {"global/triplet", "global/class", "part/triplet", "part/class"}
    assert {term.weight for term in method.terms} == {1.0}


@pytest.mark.parametrize(("size", "parts"), [(1536, (512, 1024)), (128, (43, 85)), (32, (11, 21))])
def test_a_third_of_the_embedding_is_global(size, parts):
    views = BatchFeatureErasing(paper_spec(16, size)).train()(as_features(torch.rand(4, 16, 4, 4)))
    assert (views["global"].shape[1], views["part"].shape[1]) == parts


def test_branches_start_as_published():
    branches = Branches(2048, {"global": 512, "part": 1024})
    assert branches.reduce[0].weight.std().item() == pytest.approx((2 / 2048) ** 0.5, rel=0.01)
    assert branches.embed[0].weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.01)
    assert branches.embed[1].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not branches.embed[0].bias.any()


def test_the_bottleneck_starts_as_torch_leaves_it():
    """Convolutions uniform within 1 / sqrt(fan in), BatchNorm scales exactly 1, as released."""
    bottleneck = Branches(2048, {"global": 512, "part": 1024}).deepen
    for layer, fan_in in (("conv1", 2048), ("conv2", 512 * 9), ("conv3", 512)):
        weight = getattr(bottleneck, layer).weight
        bound = fan_in**-0.5
        assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    for norm in (bottleneck.bn1, bottleneck.bn2, bottleneck.bn3):
        assert (norm.weight == 1).all()


# Combined descriptors.

SQUARE = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def test_descriptors_of_four_numbers():
    assert DESCRIBE["S"](SQUARE).item() == 2.5
    assert DESCRIBE["M"](SQUARE).item() == 4.0
    assert DESCRIBE["G"](SQUARE).item() == pytest.approx(2.924018, abs=1e-6)
    assert gem(SQUARE, 1.0).item() == pytest.approx(2.5)
    assert gem(SQUARE.double(), 400.0).item() == pytest.approx(4.0, rel=0.01)


def test_generalised_mean_equals_a_loop():
    maps = torch.rand(3, 5, 4, 6, dtype=torch.float64)
    for b, c in itertools.product(range(3), range(5)):
        values = maps[b, c].flatten().tolist()
        slow = (math.fsum(v**3 for v in values) / len(values)) ** (1 / 3)
        assert gem(maps)[b, c].item() == pytest.approx(slow)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_slices_are_unit_vectors_in_the_order_of_the_name(name):
    method = Combined(SPEC, descriptors=name).eval()
    features = as_features(toy_features())
    embedding = method(features)["embedding"]
    parts = embedding.split(split(SPEC.embedding_size, len(name)), dim=1)
    assert len(parts) == len(name)
    for part, letter, layer in zip(parts, name, method.head, strict=True):
        torch.testing.assert_close(part.norm(dim=1), torch.full((32,), len(name) ** -0.5))
        alone = layer(DESCRIBE[letter](features.map))
        torch.testing.assert_close(normalize(part), normalize(alone))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(32))


def test_there_are_twelve_combinations_and_sizes_add_up():
    every = {"".join(p) for n in (1, 2, 3) for p in itertools.permutations("SMG", n)}
    assert set(COMBINATIONS) <= every
    assert len(COMBINATIONS) == 12
    assert split(128, 3) == [43, 43, 42]
    assert split(1536, 2) == [768, 768]


def test_the_classifier_sees_the_first_descriptor_only():
    # Equal means, other cubes.
    a = torch.tensor([1.0, 1.0, 3.0, 3.0]).view(1, 1, 2, 2).expand(2, 16, 2, 2)
    b = torch.tensor([0.0, 2.0, 2.0, 4.0]).view(1, 1, 2, 2).expand(2, 16, 2, 2)
    for name, same in (("SG", True), ("GS", False)):
        method = Combined(SPEC, descriptors=name).train()
        first = [method(as_features(x))["first"] for x in (a, b)]
        classify = method.terms[1].loss.eval()
        logits = [classify.logits(x) for x in first]
        assert torch.allclose(*logits) is same


def test_combination_has_the_papers_size_on_resnet(resnet):
    method = Combined(paper_spec(2048, 1536), descriptors="SG")
    network = Network(resnet, method, "frozen_stats").train()
    assert count(network) == 26_858_658
    deployed = sum(p.numel() for p in network.deployed(64))
    assert deployed == 26_858_658 - count(method.terms) == 23_508_032 + 2 * 2048 * 768
    norm = method.terms[1].loss.norm
    assert norm.training, "the classifier's BatchNorm is live"
    assert not any(m.training for m in network._trunk_norms())
    with torch.no_grad():
        shape = network.trunk.eval()(torch.zeros(1, 3, 224, 224)).map.shape
    assert shape == (1, 2048, 14, 14)


# Moments.


def test_all_sign_vectors_together_are_the_kernel():
    u, v = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])
    signs = list(itertools.product((-1.0, 1.0), repeat=2))
    for order, number, expected in ((2, 16, 1.0), (3, 64, 1.0)):
        moments = frozen(order, itertools.product(signs, repeat=order))
        phi = [pooled(moments, x.view(1, 2, 1, 1))[-1][0] for x in (u, v)]
        assert len(phi[0]) == number
        assert (phi[0] @ phi[1] / number).item() == pytest.approx(expected)
        assert torch.dot(u, v).item() ** order == expected


def frozen(orders, rows):
    """Return moments whose projections have one row for each tuple of vectors."""
    rows = torch.tensor(list(rows))  # (D, K, c)
    moments = Moments(rows.shape[2], len(rows), orders, None)
    with torch.no_grad():
        for k, projection in enumerate(moments.projections):
            projection.copy_(rows[:, k])
    return moments


def pooled(moments, feature_map):
    return list(moments.pooled(feature_map))


def as_map(*locations):
    return torch.tensor(locations).T.reshape(1, len(locations[0]), 1, len(locations))


def test_pooled_moments_multiply_to_the_mean_of_squares():
    a, b = as_map((1.0, 0.0), (1.0, 1.0)), as_map((2.0, 1.0), (0.0, 1.0))
    signs = list(itertools.product((-1.0, 1.0), repeat=2))
    moments = frozen(2, itertools.product(signs, repeat=2))
    inner = (pooled(moments, a)[0] @ pooled(moments, b)[0].T).item() / 16
    pairs = itertools.product(a.flatten(2)[0].T, b.flatten(2)[0].T)
    slow = sum((x @ y).item() ** 2 for x, y in pairs) / 4
    assert inner == slow == 3.5


def test_moments_under_identity_projections():
    moments = Moments(2, 2, 3, None)
    with torch.no_grad():
        for projection in moments.projections:
            projection.copy_(torch.eye(2))
    found = pooled(moments, as_map((1.0, 2.0), (3.0, 0.0)))
    assert found[0].tolist() == [[5.0, 2.0]]
    assert found[1].tolist() == [[14.0, 4.0]]


@pytest.mark.parametrize("size", [6, None])
def test_the_cascade_equals_direct_products(size):
    moments = Moments(3, 7, 5, size).double()
    maps = torch.rand(4, 3, 2, 5, dtype=torch.float64)
    for order, found in enumerate(pooled(moments, maps), start=2):
        for b in range(4):
            locations = maps[b].flatten(1).T  # (L, 3)
            slow = torch.stack(
                [math.prod(moments.projections[k] @ x for k in range(order)) for x in locations]
            ).mean(0)
            torch.testing.assert_close(found[b], slow)


def test_moments_have_the_papers_sizes():
    moments = Moments(1024, 8 * 1024, 5, 512)
    assert len(moments.projections) == 5
    assert len(moments.embeddings) == 4
    assert sum(p.numel() for p in moments.projections) == 41_943_040
    assert count(moments.embeddings) == 16_777_216
    # The layer of order 1 is the base method's own, with a bias.
    assert MultiSimilarity(paper_spec(1024, 512)).head.weight.numel() == 524_288


def test_frozen_projections_are_signs_outside_the_optimiser_and_inside_the_state():
    method = build(Horde, {"trainable": False})
    projections = list(method.moments.projections)
    assert len(projections) == 5
    assert not list(method.moments.embeddings)
    for projection in projections:
        assert set(projection.unique().tolist()) == {-1.0, 1.0}
    grouped = {id(p) for group in method.groups() for p in group.parameters}
    assert not grouped & {id(p) for p in projections}
    assert sum(name.startswith("moments.projections") for name in method.state_dict()) == 5
    views = method(as_features(toy_features()))
    assert views["moment5"].shape == (32, 8 * SPEC.channels)


def test_contrastive_loss_on_four_unit_vectors():
    z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
    method = Horde(SPEC)
    assert method.contrastive(z, LINE_LABELS).item() == pytest.approx(0.29 + 0.15)


def test_pair_losses_equal_loops():
    rng = np.random.default_rng(3)
    for _ in range(30):
        z = normalize(torch.from_numpy(rng.normal(size=(8, 3))))
        labels = torch.from_numpy(rng.integers(0, 3, 8))
        s, y = (z @ z.T).tolist(), labels.tolist()
        pull, push, total = [], [], 0.0
        for i in range(8):
            mine = [s[i][j] for j in range(8) if j != i and y[j] == y[i]]
            other = [s[i][j] for j in range(8) if y[j] != y[i]]
            pull += [(1 - v) ** 2 for v in mine]
            push += [v - 0.5 for v in other if v > 0.5]
            total += sum(math.log1p(math.exp(-2 * (v - 0.5))) for v in mine) / max(1, len(mine))
            total += sum(math.log1p(math.exp(50 * (v - 0.5))) for v in other) / max(1, len(other))
        slow = sum(pull) / max(1, len(pull)) / 2 + sum(push) / max(1, len(push)) / 2
        method = Horde(SPEC)
        assert method.contrastive(z, labels).item() == pytest.approx(slow)
        assert method.binomial(z, labels).item() == pytest.approx(total)


def test_moments_alone_teach_the_trunk_and_leave_the_embedding():
    method = build(Horde)
    features = toy_features().requires_grad_()
    values = method.losses(method(as_features(features)), toy_batch())
    assert set(values) == {"loss", *(f"moment{k}/loss" for k in range(2, 6))}
    sum(v for name, v in values.items() if name.startswith("moment")).backward()
    assert features.grad.abs().sum() > 0
    assert method.head.weight.grad is None


def test_without_moments_the_base_method_is_left():
    plain, wrapped = build(MultiSimilarity), build(HordeMultiSimilarity)
    features = as_features(toy_features())
    assert torch.equal(plain.head.weight, wrapped.head.weight), "both start alike"
    assert torch.equal(plain(features)["embedding"], wrapped(features)["embedding"])
    own = plain.losses(plain(features), toy_batch())
    assert torch.equal(wrapped.losses(wrapped(features), toy_batch())["loss"], own["loss"])
    assert set(wrapped.eval()(features)) == {"embedding"}


def test_each_order_has_proxies_of_its_own():
    class HordeProxies(HighOrder, ProxyNCA):
        """Proxies on every order."""

    method = build(HordeProxies)
    assert len({id(p) for term in method.terms for p in term.parameters()}) == 5
    names = [group.name for group in method.groups()]
    assert names == ["head", "loss", *(f"moment{k}/loss" for k in range(2, 6)), "moments"]


def test_moments_add_to_what_the_base_wants_and_refuse_a_base_without_terms():
    class HordeCombined(HighOrder, Combined):
        """Two ideas at once."""

    assert HordeCombined.wants == Wants(last_stride=1, map=True, nonnegative=True)
    assert loss_of(build(HordeCombined), toy_features(), toy_batch()).isfinite()
    group = load("method", "group")
    with pytest.raises(PluginError, match=r"HordeGroup.*losses\(\) itself"):
        type("HordeGroup", (HighOrder, group), {})


def test_wrapper_is_a_plugin_of_three_lines():
    source = load("method", "horde_ms").__module__
    text = __import__(source, fromlist=["x"]).__file__
    with open(text, encoding="utf-8") as file:
        code = [line for line in file if line.strip() and not line.strip().startswith('"""')]
    assert len(code) == 3


# Which trunks can serve them.


@pytest.mark.parametrize("name", ["bfe", "cgd"])
@pytest.mark.parametrize("trunk", ["bn_inception", "densenet121", "googlenet"])
def test_trunks_without_a_last_stride_are_refused_by_name(name, trunk):
    built = load("trunk", trunk).build(None)
    with pytest.raises(InvalidInputError, match=f"'{name}'.*{type(built).__name__}"):
        built.honour(load("method", name).wants, name)


class Raw(Method):
    """A method with a parameter that its embedding does not need."""

    def make_terms(self, spec):
        return [Term(torch.nn.Linear(spec.embedding_size, 1))]


def test_deployed_parameters_are_those_that_the_embedding_depends_on():
    method = Raw(SPEC).eval()
    method.head.weight.requires_grad_(False)
    found = reached(method, lambda: method(as_features(toy_features()))["embedding"])
    assert {id(p) for p in found} == {id(p) for p in method.head.parameters()}
    assert not method.head.weight.requires_grad, "frozen ones stay frozen"
