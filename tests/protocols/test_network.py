"""Trunk, network and optimiser: BatchNorm policies, groups, input scale, refusals."""

from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from protocols.conformance import SPEC
from protocols.discovery import load
from protocols.errors import InvalidInputError, PluginError
from protocols.method import Batch, Features, Method, ParameterGroup, Term, Wants
from protocols.network import Network
from protocols.optimizer import make_optimizer
from protocols.recipe import BatchNormPolicy, Recipe
from protocols.trunk import InputScale, Trunk
from protocols.trunks.tiny import Tiny, build

POLICIES = get_args(BatchNormPolicy)


class SmallTrunk(Trunk):
    """One convolution with BatchNorm: C = SPEC.channels."""

    channels = SPEC.channels

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, self.channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(self.channels)

    def map(self, images):
        return relu(self.norm(self.conv(images)))


class Proxies(nn.Module):
    """A loss with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(SPEC.embedding_size, SPEC.classes))

    def forward(self, embeddings, labels):
        return nn.functional.cross_entropy(embeddings @ self.weight, labels)


class Normed(Method):
    """A head with BatchNorm, a proxy term, a plain term."""

    def make_head(self, spec):
        return nn.Sequential(
            nn.Linear(spec.channels, spec.embedding_size), nn.BatchNorm1d(spec.embedding_size)
        )

    def make_terms(self, spec):
        return [
            Term(Proxies(), name="proxies", lr=0.5, decay=False),
            Term(lambda z, labels: z.square().mean(), name="size", weight=0.25),
        ]


def network(policy="live", method=Normed):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Network(SmallTrunk(), method(SPEC), policy)


def pixels(count=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 255 * torch.rand(count, 3, 6, 6, generator=generator)


def batch(count=8):
    return Batch(torch.arange(count) % SPEC.classes, torch.arange(count), None, step=0, epoch=0)


def one_step(net):
    views = net(pixels())
    sum(net.method.losses(views, batch()).values()).backward()


# BatchNorm policies.


@pytest.mark.parametrize("policy", POLICIES)
def test_trunk_statistics_move_only_when_live(policy):
    net = network(policy)
    mean = net.trunk.norm.running_mean.clone()
    for _ in range(3):  # as the runner does around every validation
        net.eval()
        net.train()
        net(pixels())
    assert torch.equal(net.trunk.norm.running_mean, mean) == (policy != "live")
    assert net.trunk.norm.training == (policy == "live")
    assert net.trunk.training


def test_frozen_statistics_are_the_ones_used_in_training():
    net = network("frozen_stats").train()
    net.trunk.norm.running_mean.fill_(0.3)
    net.trunk.norm.running_var.fill_(4.0)
    in_training = net.trunk(net.trunk.scale(pixels())).map
    net.eval()
    assert torch.equal(in_training, net.trunk(net.trunk.scale(pixels())).map)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_policy_holds_before_any_change_of_mode(policy):
    net = network(policy)
    assert net.training
    assert net.trunk.norm.training == (policy == "live")


@pytest.mark.parametrize("policy", POLICIES)
def test_scale_and_shift_train_even_where_statistics_are_frozen(policy):
    net = network(policy).train()
    one_step(net)
    for parameter in (net.trunk.norm.weight, net.trunk.norm.bias):
        assert parameter.grad.abs().sum() > 0
    assert net.trunk.conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("policy", POLICIES)
def test_batch_norm_of_the_method_is_always_live(policy):
    net = network(policy).train()
    norm = net.method.head[1]
    before = norm.running_mean.clone()
    one_step(net)
    assert norm.training
    assert not torch.equal(norm.running_mean, before)
    assert norm.weight.grad is not None


@pytest.mark.parametrize("policy", POLICIES)
def test_eval_mode_freezes_everything(policy):
    net = network(policy).train().eval()
    assert not any(module.training for module in net.modules())
    assert torch.equal(net(pixels())["embedding"], net(pixels())["embedding"])


# Parameter groups.


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("method", [Normed, load("method", "group"), load("method", "ms")])
def test_every_trainable_parameter_is_in_exactly_one_group(policy, method):
    net = network(policy, method)
    grouped = [id(p) for group in net.groups() for p in group.parameters]
    trainable = {id(p) for p in net.parameters() if p.requires_grad}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == trainable


def test_groups_are_named_trunk_first():
    assert [group.name for group in network().groups()] == ["trunk", "head", "proxies"]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_optimizer_gives_each_group_its_rate_and_decay(name, family):
    recipe = Recipe("r", "", optimizer=name, lr=0.01, weight_decay=0.1, momentum=0.8)
    groups = [
        ParameterGroup("plain", [nn.Parameter(torch.ones(1))]),
        ParameterGroup("slow", [nn.Parameter(torch.ones(1))], lr_factor=0.1),
        ParameterGroup("own", [nn.Parameter(torch.ones(1))], lr=0.5, lr_factor=7.0, decay=False),
        ParameterGroup("zero", [nn.Parameter(torch.ones(1))], lr=0.0),
    ]
    optimizer = make_optimizer(recipe, groups)
    assert type(optimizer) is family
    met = {g["name"]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert met == {
        "plain": (0.01, 0.1),
        "slow": (pytest.approx(0.001), 0.1),
        "own": (0.5, 0.0),
        "zero": (0.0, 0.1),
    }
    for made, given in zip(optimizer.param_groups, groups, strict=True):
        assert made["params"] == given.parameters
    if name == "rmsprop":
        assert {g["momentum"] for g in optimizer.param_groups} == {0.8}


def test_optimizer_moves_only_what_has_a_rate():
    groups = [
        ParameterGroup("still", [nn.Parameter(torch.ones(1))], lr=0.0),
        ParameterGroup("moves", [nn.Parameter(torch.ones(1))]),
    ]
    optimizer = make_optimizer(Recipe("r", "", optimizer="adam", lr=0.25), groups)
    sum(p.sum() for g in groups for p in g.parameters).backward()
    optimizer.step()
    assert [g.parameters[0].item() for g in groups] == [1.0, pytest.approx(0.75)]


# Terms and views.


def test_losses_are_weighted_and_named():
    method = Normed(SPEC)
    views = {"embedding": torch.full((8, SPEC.embedding_size), 2.0)}
    got = method.losses(views, batch())
    assert set(got) == {"proxies", "size"}
    assert got["size"].item() == pytest.approx(0.25 * 4.0)


def test_term_passes_its_views_in_order_and_float32():
    seen = []

    def loss(a, b, labels):
        seen.extend([a, b, labels])
        return (a - b).sum()

    term = Term(loss, on=("second", "first"))
    views = {"first": torch.ones(2, 1).bfloat16(), "second": torch.full((2, 1), 3.0).double()}
    value = term(views, torch.tensor([0, 1]))
    assert value.item() == 4.0
    assert [t.dtype for t in seen] == [torch.float32, torch.float32, torch.int64]
    assert seen[0].tolist() == [[3.0], [3.0]]


def test_term_gives_the_miners_choice_to_the_loss_without_gradient():
    def miner(z, labels):
        assert not z.requires_grad
        assert not torch.is_grad_enabled()
        return z.argmax()

    def loss(z, labels, mined):
        return z.flatten()[mined]

    z = torch.tensor([[1.0, 5.0]], requires_grad=True)
    Term(loss, miner=miner)({"embedding": z}, torch.tensor([0])).backward()
    assert z.grad.tolist() == [[0.0, 1.0]]


def test_missing_view_is_refused_with_the_views_there_are():
    term = Term(lambda z, labels: z.sum(), on="logits", name="ce")
    views = {"embedding": torch.ones(1, 1), "moment2": torch.ones(1, 1)}
    with pytest.raises(InvalidInputError, match=r"'ce' needs view 'logits'.*embedding, moment2"):
        term(views, torch.tensor([0]))


def test_two_terms_of_one_name_are_refused_since_one_would_hide_the_other():
    class Twins(Method):
        def make_terms(self, spec):
            return [Term(lambda z, labels: z.sum()), Term(lambda z, labels: z.mean())]

    with pytest.raises(PluginError, match=r"Twins: terms named \['loss', 'loss'\]"):
        Twins(SPEC)


# Input scale.


def red():
    image = torch.zeros(1, 3, 2, 2)
    image[:, 0] = 255
    return image


def test_red_pixel_under_the_caffe_scale():
    scale = InputScale(mean=(104, 117, 128), std=(1, 1, 1), factor=1, bgr=True)
    image = red()
    assert scale(image)[0, :, 0, 0].tolist() == [-104, -117, 127]
    assert torch.equal(image, red())


def test_red_pixel_under_the_torchvision_scale():
    wanted = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert InputScale()(red())[0, :, 1, 1].tolist() == pytest.approx(wanted, abs=1e-5)


def test_mean_and_std_are_in_the_order_of_the_trunks_channels():
    scale = InputScale(mean=(1, 2, 3), std=(1, 10, 100), factor=1, bgr=True)
    image = torch.tensor([31.0, 22.0, 13.0]).view(1, 3, 1, 1)  # R, G, B
    assert scale(image).flatten().tolist() == pytest.approx([12, 2, 0.28])


def test_network_scales_its_input_once():
    class Gray(SmallTrunk):
        scale = InputScale(mean=(10, 20, 30), std=(2, 2, 2), factor=1)

    net = Network(Gray(), Normed(SPEC), "live").eval()
    wanted = net.method(net.trunk(Gray.scale(pixels())))["embedding"]
    assert torch.equal(net(pixels())["embedding"], wanted)


# Trunks.


@pytest.mark.parametrize("side", [32, 48, 64])
def test_tiny_declares_what_it_gives(side):
    trunk = build().eval()
    features = trunk(trunk.scale(255 * torch.rand(2, 3, side, side)))
    out = side // 16
    assert features.map.shape == (2, Tiny.channels, out, out)
    assert features.vector.shape == (2, Tiny.channels)
    assert features.map.min() >= 0
    assert Tiny.nonnegative
    torch.testing.assert_close(features.vector, features.map.flatten(2).mean(2))


def test_tiny_scale_maps_bytes_to_minus_one_to_one():
    ends = Tiny.scale(torch.tensor([0.0, 255.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    assert ends[:, 0].flatten().tolist() == [-1, 1]


def test_last_stride_doubles_the_map_and_keeps_the_weights():
    trunk = build().eval()
    kept = {name: value.clone() for name, value in trunk.state_dict().items()}
    images = torch.rand(1, 3, 32, 32)
    assert trunk(images).map.shape[2:] == (2, 2)
    trunk.honour(Wants(last_stride=1), "bdb")
    assert trunk(images).map.shape[2:] == (4, 4)
    assert all(torch.equal(value, kept[name]) for name, value in trunk.state_dict().items())


def test_a_trunk_that_needs_no_edit_is_left_alone():
    trunk, images = build().eval(), torch.rand(1, 3, 32, 32)
    before = trunk(images).map
    trunk.honour(Wants(), "ms")
    trunk.honour(Wants(nonnegative=True, map=True), "horde")
    assert torch.equal(trunk(images).map, before)


class Transformer(SmallTrunk):
    nonnegative = False


@pytest.mark.parametrize("wants", [Wants(nonnegative=True), Wants(last_stride=1)], ids=str)
def test_refusal_names_trunk_and_method(wants):
    with pytest.raises(InvalidInputError) as refusal:
        Transformer().honour(wants, "bdb")
    assert "'bdb'" in str(refusal.value)
    assert "Transformer" in str(refusal.value)


def test_tiny_refuses_weights_it_cannot_have(tmp_path):
    with pytest.raises(InvalidInputError, match=r"no pretrained weights.*w\.pt"):
        build(tmp_path / "w.pt")


def test_features_pool_by_the_mean():
    trunk = SmallTrunk().eval()
    features = trunk(pixels())
    assert isinstance(features, Features)
    torch.testing.assert_close(features.vector, features.map.mean(dim=(2, 3)))
