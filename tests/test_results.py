"""The committed results: they verify, and their search spaces are those of the code."""

from pathlib import Path

import pytest

from benchmark.submissions import git, read
from benchmark.submissions.verify import examine
from protocols.discovery import Registry
from protocols.space import described

RESULTS = Path(__file__).parent.parent / "results"
ROWS = [read.read_row(RESULTS, folder) for folder in read.row_folders(RESULTS)]


def test_there_are_rows_and_they_verify():
    assert ROWS
    assert examine(RESULTS, git.find(RESULTS)).problems == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.place)
def test_a_rows_search_space_is_its_methods(row):
    """What verify cannot see without importing a method: the bounds that a row states."""
    cell, registry = row.cell, Registry()
    if cell.method not in registry.names("method"):
        pytest.skip(f"{cell.method} does not ship here")
    if registry.code_digest("method", cell.method) != cell.identity["method_code"]:
        pytest.skip(f"{cell.method} has been edited since: its earlier bounds are in the history")
    bounds = cell.rules["search"].get("bounds", "wide")
    space = registry.load("method", cell.method).space(cell.dataset, bounds)
    stated = {name: bounds.model_dump() for name, bounds in cell.space.items()}
    assert stated == described(space)
