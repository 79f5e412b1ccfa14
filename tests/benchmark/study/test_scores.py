"""Scores as they are printed."""

import math

import pytest

from benchmark.study.scores import EMBEDDINGS, HEADLINE, NOTHING, PARTS, per_cent
from protocols.metrics import METRICS


@pytest.mark.parametrize(
    ("fraction", "options", "printed"),
    [
        (0.12345, {}, "12.35"),
        (1.0, {"digits": 0}, "100"),
        (0.005, {"sign": "+"}, "+0.50"),
        (-0.005, {"sign": "+"}, "-0.50"),
        (-0.00001, {}, "0.00"),
        (-0.00001, {"sign": "+"}, "+0.00"),
        (None, {}, NOTHING),
        (math.nan, {"sign": "+"}, NOTHING),
    ],
)
def test_a_fraction_is_printed_in_per_cent(fraction, options, printed):
    assert per_cent(fraction, **options) == printed


def test_every_metric_of_both_embeddings_is_a_part_and_one_is_the_headline():
    assert len(PARTS) == len(EMBEDDINGS) * len(METRICS) == len(set(PARTS))
    assert HEADLINE in PARTS
