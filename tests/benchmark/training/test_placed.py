import copy
import pickle

import pytest
import torch
from torch import nn

from benchmark.training.placed import ImageConvolution, lighten, placed
from protocols.discovery import load
from tests import made


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
@pytest.mark.parametrize("size", [(9, 7), (8, 8)])
def test_weights_of_a_convolution_of_images_get_the_gradient_they_always_got(stride, padding, size):
    plain = nn.Conv2d(3, 5, 3, stride=stride, padding=padding, bias=False).double()
    other = copy.deepcopy(plain)
    lighten(other)
    assert type(other) is ImageConvolution
    images = torch.rand(4, 3, *size, dtype=torch.float64)
    found, wanted = other(images), plain(images)
    assert torch.equal(found, wanted)
    ahead = torch.randn_like(wanted)
    wanted.backward(ahead)
    found.backward(ahead)
    torch.testing.assert_close(other.weight.grad, plain.weight.grad, rtol=1e-12, atol=1e-12)


def test_a_large_batch_takes_an_ordinary_convolution(monkeypatch):
    monkeypatch.setattr("benchmark.training.placed.MOST_PLACES", 2 * 5 * 5 - 1)
    conv = nn.Conv2d(3, 2, 3, bias=False)
    lighten(conv)
    name = conv(torch.rand(2, 3, 5, 5)).grad_fn.name()
    assert "Convolution" in name
    assert "_Convolution" not in name
    assert "_Convolution" in conv(torch.rand(1, 3, 5, 5)).grad_fn.name()


def test_a_copy_and_a_packed_one_compute_the_same():
    conv = nn.Conv2d(3, 2, 3, bias=False)
    lighten(conv)
    images = torch.rand(2, 3, 5, 5)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert type(other) is ImageConvolution
        assert torch.equal(other(images), conv(images))


@pytest.mark.parametrize(("precision", "wanted"), [("fp32", True), ("bf16", False)])
def test_on_a_gpu_whole_float32_takes_it(monkeypatch, precision, wanted):
    network = made.training(made.square(16), "contrastive").network
    monkeypatch.setattr(type(network), "to", lambda self, *place, **words: self)
    placed(network, torch.device("cuda"), precision)
    assert any(isinstance(m, ImageConvolution) for m in network.modules()) is wanted


def test_images_that_want_a_gradient_get_it():
    conv = nn.Conv2d(3, 2, 3, bias=False).double()
    lighten(conv)
    images = torch.rand(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (images,))


def test_frozen_weights_get_none():
    conv = nn.Conv2d(3, 2, 3, bias=False)
    lighten(conv)
    conv.requires_grad_(False)
    assert not conv(torch.rand(2, 3, 5, 5)).requires_grad


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(3, 4, 7, bias=False),
        nn.Conv2d(8, 4, 3, bias=False),
        nn.Conv2d(3, 3, 3, groups=3, bias=False),
        nn.Conv2d(3, 4, 3, dilation=2, bias=False),
        nn.Conv2d(3, 4, 3, padding="same", bias=False),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect", bias=False),
    ],
)
def test_every_other_convolution_stays_what_it_is(other):
    lighten(other)
    assert type(other) is nn.Conv2d


def test_a_network_on_the_cpu_stays_what_it_is():
    network = made.training(made.square(16), "contrastive").network
    assert placed(network, torch.device("cpu"), "fp32") is network
    assert not any(isinstance(m, ImageConvolution) for m in network.modules())


def test_only_the_first_convolution_of_tiny_is_one_of_images():
    trunk = load("trunk", "tiny").build()
    names = list(trunk.state_dict())
    lighten(trunk)
    kinds = [type(m) for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    assert kinds == [ImageConvolution, nn.Conv2d, nn.Conv2d, nn.Conv2d]
    assert list(trunk.state_dict()) == names
