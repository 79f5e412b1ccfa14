"""Every test of a method has torch randomness of its own."""

import pytest
import torch

from protocols.discovery import load


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def resnet():
    """Return a ResNet-50 without weights whose last stage keeps its resolution."""
    trunk = load("trunk", "resnet50").build(None)
    trunk.set_last_stride(1)
    return trunk
