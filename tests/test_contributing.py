"""The methods that CONTRIBUTING shows are complete: they keep the contract and train."""

import re
from pathlib import Path

import pytest

from benchmark.study.folder import CellKey
from benchmark.training import splits
from benchmark.training.job import Job, execute
from protocols.conformance import CHECKS
from protocols.discovery import Registry, load

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = {
    code[3:].split(":")[0]: code
    for code in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
}


def test_it_shows_the_four_that_people_ask_for():
    assert set(FILES) == {"two_crops", "memory", "distil", "near_classes"}


@pytest.mark.parametrize("name", FILES)
def test_a_shown_method_keeps_the_contract_and_trains(tmp_path, name):
    path = tmp_path / f"{name}.py"
    path.write_text(FILES[name], encoding="utf-8")
    method = Registry((path,)).load("method", name)
    for check in CHECKS:
        check(method)
    protocol, digest = load("protocol", "toy"), load("dataset", "toy").digest()
    cell = CellKey("id", "toy", "tiny", "adam", name, name)
    source = splits.DataSource("toy", digest, None, tmp_path)
    recipe = load("recipe", "adam")
    job = Job(cell, protocol, recipe, "search", 0, 0, {}, source, "cpu", (path,))
    record = execute(job).record
    assert record.status == "done", record.detail
    assert record.steps > 0
    assert record.counts["images_trained"] <= record.steps * protocol.batch_size
