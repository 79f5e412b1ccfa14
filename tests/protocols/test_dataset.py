"""Which recalls a dataset's literature reports."""

from types import SimpleNamespace

import pytest

from protocols.dataset import recall_at
from protocols.discovery import load
from protocols.errors import InvalidInputError


@pytest.mark.parametrize(
    ("name", "ks"),
    [
        ("cub200", (1, 2, 4, 8)),
        ("cars196", (1, 2, 4, 8)),
        ("sop", (1, 10, 100, 1000)),
        ("inshop", (1, 10, 20, 30)),
        ("emoji", (1, 2, 4, 8)),
        ("folder:somewhere", (1, 2, 4, 8)),
    ],
)
def test_datasets_have_the_recalls_of_their_literature(name, ks):
    assert recall_at(load("dataset", name), name) == ks


@pytest.mark.parametrize("asked", [(), (0, 1), (2, 1), (1, 1), (1.0,), ("1",), (True,)])
def test_refuses_recalls_that_are_none(asked):
    with pytest.raises(InvalidInputError, match=r"'mine' names RECALL_AT = .*rising order"):
        recall_at(SimpleNamespace(RECALL_AT=asked), "mine")
