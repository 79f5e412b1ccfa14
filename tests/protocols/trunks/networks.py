"""Networks and weight files that the tests of trunks share."""

import contextlib
import functools
import sys

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models import get_model

from protocols.discovery import load

# name: (input side, channels, map side) with ordinary weights
SHAPES = {
    "bn_inception": (224, 1024, 7),
    "densenet121": (224, 1024, 7),
    "densenet161": (224, 2208, 7),
    "densenet169": (224, 1664, 7),
    "densenet201": (224, 1920, 7),
    "efficientnet_lite0": (224, 1280, 7),
    "googlenet": (224, 1024, 7),
    "inception_v3": (299, 2048, 8),
    "mobilenet_v2": (224, 1280, 7),
    "resnet50": (224, 2048, 7),
}

WITH_HEADS_INSIDE = ("googlenet", "inception_v3")


@contextlib.contextmanager
def seeded(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def pixels(side, count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 255 * torch.rand(count, 3, side, side, generator=generator)


def settle(network, side=96):
    """Give BatchNorm statistics, scales and shifts that make every layer matter."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    network.eval()
    with seeded(1), torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0.0, 0.3)
        network(torch.randn(4, 3, side, side))
        for norm in norms:
            norm.momentum = 0.1
    return network.eval()


@functools.cache
def settled(name):
    with seeded():
        return settle(load("trunk", name).build())


@functools.cache
def mobilenet_state():
    with seeded():
        return settle(get_model("mobilenet_v2", weights=None), side=32).state_dict()


def saved(folder, state, name="weights.pth"):
    path = folder / name
    torch.save(state, path)
    return path


def forget(*modules):
    for module in modules:
        sys.modules.pop(module, None)


def full(name):
    """Return torchvision's own network, classifier and auxiliary heads included."""
    heads = {"aux_logits": True, "transform_input": True, "init_weights": False}
    options = heads if name in WITH_HEADS_INSIDE else {}
    with seeded(5):
        return settle(get_model(name, weights=None, **options))


def seen_by_classifier(network, images):
    """Return the descriptor that torchvision's own forward pass hands to its classifier."""
    seen = []
    classifier = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    hook = classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(images)
    hook.remove()
    return seen[0]
