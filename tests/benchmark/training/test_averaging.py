"""Averaged weights and the BatchNorm statistics that belong to them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from benchmark.study.folder import CellKey
from benchmark.training import splits
from benchmark.training.averaging import Average, renew_batch_norm
from benchmark.training.job import Job, execute
from protocols.discovery import load
from protocols.protocol import Pace

BATCHES = [torch.tensor([[7.0], [9.0]]), torch.tensor([[3.0], [5.0]])]


class TwoNorms(nn.Module):
    """A frozen trunk norm before a live head norm."""

    def __init__(self):
        super().__init__()
        self.trunk, self.head = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
        self.trunk.running_mean.fill_(5.0)
        self.trunk.running_var.fill_(4.0)
        self.trunk.eps = 0.0

    def forward(self, x):
        return self.head(self.trunk(x))

    def train(self, mode=True):
        super().train(mode)
        self.trunk.eval()
        return self


def statistics(layer):
    return layer.running_mean.item(), layer.running_var.item()


def test_frozen_statistics_stay_and_live_ones_are_measured():
    network = TwoNorms().eval()
    renew_batch_norm(network, BATCHES)
    assert statistics(network.trunk) == (5.0, 4.0)
    assert statistics(network.head) == (pytest.approx(0.5), pytest.approx(0.5))
    assert network.head.momentum == network.trunk.momentum == 0.1
    assert not network.training


def test_the_librarys_update_destroys_frozen_statistics():
    network = TwoNorms()
    update_bn([batch.clone() for batch in BATCHES], network)
    assert statistics(network.trunk) == (0.0, 1.0), "if this is mended, ours can go"


def test_nothing_is_read_where_nothing_is_live():
    def unread():
        raise AssertionError("a network without live norms needs no images")
        yield

    renew_batch_norm(nn.Linear(1, 1), unread())


def test_the_mean_of_1_2_and_6_is_3_and_buffers_are_the_last():
    layer = nn.BatchNorm1d(1)
    average = Average(layer)
    for value in (1.0, 2.0, 6.0):
        layer.weight.data.fill_(value)
        layer.running_mean.fill_(value)
        layer.num_batches_tracked += 1
        average.add(layer)
    average.load_into(layer)
    assert layer.weight.item() == pytest.approx(3.0)
    assert layer.running_mean.item() == 6.0
    assert layer.num_batches_tracked.item() == 3


@pytest.mark.parametrize("recipe", ["swa", "clr", "swa_clr", "adamw", "paper"])
def test_every_recipe_trains(recipe, tmp_path):
    pace = Pace(max_steps=48, steps_per_epoch=4, validate_every=8, patience=9)
    protocol = replace(load("protocol", "toy"), pace=pace)
    source = splits.DataSource("toy", load("dataset", "toy").digest(), None, tmp_path)
    cell = CellKey("id", "toy", "tiny", recipe, "ms", "ms")
    job = Job(cell, protocol, load("recipe", recipe), "final", 0, 0, {}, source, "cpu")
    record = execute(job).record
    assert record.status == "done", record.detail
    averaged = [row for row in record.history if "averaged" in row]
    assert len(averaged) == ("swa" in recipe), "the average is validated once, even if it loses"
    values = [row["map_at_r"] for row in record.history]
    assert record.validation["map_at_r"] == max(values)
    won = int(np.argmax(values)) == len(values) - 1 and bool(averaged)
    assert record.candidate == ("averaged" if won else "raw")
