"""A head on a frozen trunk."""

from dataclasses import replace

import torch

from protocols.conformance import SPEC
from protocols.discovery import load
from protocols.method import Batch
from protocols.methods.linear_probe import LinearProbe
from protocols.network import Network


def test_the_trunk_neither_trains_nor_moves_and_is_deployed():
    torch.manual_seed(0)
    trunk = load("trunk", "tiny").build(None)
    spec = replace(SPEC, channels=trunk.channels)
    network = Network(trunk, LinearProbe(spec), "live").train()
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    groups = network.groups()
    assert "trunk" not in {group.name for group in groups}
    optimizer = torch.optim.SGD([p for g in groups for p in g.parameters], lr=0.1)
    labels = torch.arange(8) % SPEC.classes
    for step in range(2):
        views = network(torch.rand(8, 3, 32, 32) * 255)
        losses = network.method.losses(views, Batch(labels, torch.arange(8), None, step, 0))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    for name, value in trunk.state_dict().items():  # BatchNorm's statistics among them
        assert torch.equal(value, before[name]), name
    head = sum(p.numel() for p in network.method.head.parameters())
    whole = sum(p.numel() for p in trunk.parameters()) + head
    assert sum(p.numel() for p in network.deployed(32)) == whole
