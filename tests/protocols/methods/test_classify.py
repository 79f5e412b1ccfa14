"""The classifier that only training needs."""

import math

import pytest
import torch

from protocols.methods._classify import Classify


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
