"""BN-Inception against the well-known port."""

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from protocols.discovery import load
from protocols.errors import InvalidInputError
from protocols.trunks import bn_inception
from tests.protocols.trunks.networks import saved, settled


def noise(shape, salt):
    """Return numbers in -1..1 that are the same everywhere."""
    x = (torch.arange(torch.Size(shape).numel()) + 7919 * salt + 1) * 2654435761 % 2**32
    x = (x ^ (x >> 15)) * 2246822519 % 2**32
    x = (x ^ (x >> 13)) % 2**24
    return (x.double() / 2**23 - 1).reshape(shape)


def caffe_state():
    """Return a state dict as the well-known port publishes it, with its classifier."""
    state = bn_inception.build().net.state_dict()
    for salt, (key, value) in enumerate(state.items()):
        if value.ndim == 4:
            value.copy_(noise(value.shape, salt) * (6 / value[0].numel()) ** 0.5)
        elif key.endswith(("running_var", "_bn.weight")):
            value.copy_(1 + noise(value.shape, salt) / 2)
        elif value.is_floating_point():
            value.copy_(noise(value.shape, salt) / 5)
    return {
        **state,
        "last_linear.weight": torch.zeros(1000, 1024),
        "last_linear.bias": torch.zeros(1000),
    }


def test_bn_inception_counts():
    state = caffe_state()
    trunk = settled("bn_inception")
    learnt = [key for key in state if not key.endswith(("running_mean", "running_var", "tracked"))]
    assert len(state) == 485
    assert sum(state[key].numel() for key in learnt) == 11_295_240
    assert sum(p.numel() for p in trunk.parameters()) == 11_295_240 - 1_025_000
    assert sum(isinstance(m, _BatchNorm) for m in trunk.modules()) == 69
    assert all(m.bias is not None for m in trunk.modules() if isinstance(m, nn.Conv2d))
    assert state["inception_4e_double_3x3_2.weight"].shape == (256, 256, 3, 3)
    assert state["inception_5b_pool_proj_bn.running_mean"].shape == (128,)


@pytest.mark.parametrize("oldest", [False, True])
def test_bn_inception_computes_what_the_well_known_port_does(tmp_path, oldest):
    state = caffe_state()
    if oldest:  # BatchNorm vectors (1, C), no counters
        state = {
            key: value[None] if "_bn." in key else value
            for key, value in state.items()
            if not key.endswith("tracked")
        }
    trunk = load("trunk", "bn_inception").build(saved(tmp_path, state)).eval()
    assert trunk.pretrained
    images = 100 * noise((1, 3, 64, 96), 999).float()
    with torch.no_grad():
        found = trunk.map(images)
    probe = found[0, [0, 1, 672, 674, 897, 898], 1, 1]
    # from features() of pretrainedmodels 0.7.4 on the same tensors
    expected = [67.4221, 577.18085, 116.33546, 82.82652, 185.50403, 1354.40125]
    assert found.shape == (1, 1024, 2, 3)
    torch.testing.assert_close(probe, torch.tensor(expected), rtol=1e-4, atol=1e-3)
    assert found.mean().item() == pytest.approx(225.37042, rel=1e-5)
    assert found.std().item() == pytest.approx(369.28299, rel=1e-5)


def test_bn_inception_sees_blue_green_red_minus_caffes_mean():
    red = torch.tensor([255.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert bn_inception.BNInception.scale(red).flatten().tolist() == [-104, -117, 127]


@pytest.mark.parametrize(("side", "out"), [(224, 7), (227, 7), (256, 8), (64, 2), (31, 1)])
def test_bn_inception_sizes_that_work(side, out):
    with torch.no_grad():
        assert settled("bn_inception").map(torch.zeros(1, 3, side, side)).shape[2:] == (out, out)


@pytest.mark.parametrize(
    ("size", "near"),
    [
        ((299, 299), "294 or 319"),
        ((224, 299), "294 or 319"),
        ((48, 48), "38 or 63"),
        ((8, 8), "31"),
    ],
)
def test_bn_inception_refuses_sizes_its_branches_disagree_on(size, near):
    words = rf"bn_inception cannot take {size[0]} x {size[1]} px.*that work: {near}$"
    with pytest.raises(InvalidInputError, match=words):
        settled("bn_inception").map(torch.zeros(1, 3, *size))


def test_bn_inception_has_no_weights_under_a_name():
    with pytest.raises(InvalidInputError, match=r"'IMAGENET1K_V1'.*give the file"):
        load("trunk", "bn_inception").build("IMAGENET1K_V1")
