"""The methods that CONTRIBUTING shows are complete: they keep the contract and train."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.running.phases import timetable
from benchmark.study.folder import CellKey
from benchmark.training import splits
from benchmark.training.job import Job, execute
from protocols import conformance_trunk
from protocols.conformance import CHECKS, SPEC
from protocols.discovery import Registry, load
from protocols.errors import InvalidInputError, PluginError
from protocols.method import Batch
from protocols.partition import labels_of
from protocols.protocol import Pace
from protocols.recipe import Averaging
from protocols.source_code import kind_of
from protocols.toy_trunk import Candidate

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SHOWN = {
    code[3:].split(":")[0]: code
    for code in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
}
FILES = {name: code for name, code in SHOWN.items() if kind_of(code) == "method"}
TRUNKS = {"strided": "strided", "lora4": "lora4:strided", "frozen": "frozen:strided"}
HALVES = '''\
"""halves: contrastive pairs, weighed at random in the second half."""

import torch
from torch.nn.functional import normalize

from protocols.method import Method, Term
from protocols.phases import Phase
from protocols.space import Real


class Halves(Method):
    """Pull positives together; every pair counts equally in the first half."""

    scale = Real(0.1, 2.0, default=1.0)

    def make_terms(self, spec):
        return [Term(self.pairs)]

    def losses(self, views, batch):
        self.late = self.graph_key(batch)
        return super().losses(views, batch)

    def pairs(self, z, labels):
        (weights,) = self.drawn or self.noise(len(labels))
        z, same = normalize(z), labels[:, None] == labels
        apart = (z @ z.T) * (1 - 2 * same.float())
        return self.scale * (apart * (weights.to(z.device) if self.late else 1)).mean()

'''


def test_it_shows_what_people_ask_for():
    plans = {"two_crops", "near_classes", "large_recall"}
    asked = {"slow_teacher", "mixup", "on_sheet", "kin"}
    assert set(FILES) == {"memory", "distil", "probe", "two_stages", *plans, *asked}
    assert set(SHOWN) == {*FILES, "strided", "lora4", "discs"}


@pytest.mark.parametrize("name", TRUNKS.values(), ids=TRUNKS)
def test_a_shown_trunk_keeps_its_contract_and_serves_a_study(tmp_path, name):
    files = tuple(tmp_path / f"{shown}.py" for shown in ("strided", "lora4"))
    for path in files:
        path.write_text(SHOWN[path.stem], encoding="utf-8")
    registry = Registry(files)
    inner = registry.inside("trunk", name)
    held = registry.load("trunk", inner).build if inner else None
    candidate = Candidate(registry.load("trunk", name).build, held)
    for check in conformance_trunk.CHECKS:
        check(candidate)
    source = splits.DataSource("toy", load("dataset", "toy").digest(), None, tmp_path)
    cell = CellKey("id", "toy", name, "adam", "triplet", "triplet")
    protocol, recipe = load("protocol", "toy"), load("recipe", "adam")
    job = Job(cell, protocol, recipe, "search", 0, 0, {}, source, "cpu", files)
    record = execute(job).record
    assert record.status == "done", record.detail
    trained, deployed = (record.counts[f"parameters_{w}"] for w in ("trained", "deployed"))
    assert (trained < deployed) == bool(inner)


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
    refused = method.wants.batches > 1 or name == "slow_teacher"  # where BatchNorm is live
    recipe = replace(load("recipe", "adam"), batch_norm="frozen_stats" if refused else "live")
    job = Job(cell, protocol, recipe, "search", 0, 0, {}, source, "cpu", (path,))
    record = execute(job).record
    assert record.status == "done", record.detail
    assert record.steps > 0
    assert record.counts["images_trained"] <= record.steps * protocol.batch_size


def snippet(first):
    """Return the lines of the indented example that begins with ``first``."""
    return re.search(rf"^    {re.escape(first)}\n(?:(?:    .*)?\n)+", TEXT, flags=re.MULTILINE)[0]


def test_the_shown_hooks_do_what_the_text_says(tmp_path):
    hooks = snippet("@classmethod") + snippet("def graph_key(self, batch):")
    path = tmp_path / "halves.py"
    path.write_text(HALVES + hooks, encoding="utf-8")
    method = Registry((path,)).load("method", "halves")
    for check in CHECKS:
        check(method)
    recipe, pace = load("recipe", "adam"), Pace(100, 10, 10, 2)
    times = timetable(method, method.space("toy"), recipe, pace)
    assert times.begins == {"second half": (50, 50)}
    assert times.earliest_stop == (80, 80), "two validations of patience after step 50, and one"
    built = method(SPEC)
    batch = Batch(torch.zeros(4), torch.zeros(4), None, step=SPEC.steps // 2 - 1, epoch=0)
    assert not built.graph_key(batch)
    assert built.graph_key(replace(batch, step=SPEC.steps // 2))
    assert [part.shape for part in built.noise(4)] == [(4, 4)]
    averaging = replace(load("recipe", "swa"), averaging=Averaging(start=0.4))
    with pytest.raises(InvalidInputError, match="'second half' begins at step 50, but"):
        timetable(method, method.space("toy"), averaging, pace)


def test_the_shown_dataset_is_one(tmp_path):
    (tmp_path / "discs.py").write_text(SHOWN["discs"], encoding="utf-8")
    with pytest.raises(PluginError, match=r"holds a dataset, .* entry point"):
        Registry((tmp_path / "discs.py",))
    namespace: dict = {}
    exec(compile(SHOWN["discs"], "discs.py", "exec"), namespace)
    found = namespace["load"]()
    assert found.digest == namespace["digest"]()
    assert len(found.images) == len(found.labels) == 256
    assert found.labels.tolist() == sorted(found.labels)
    assert len(found.class_names) == 32
    first, again = found.images.read(0), namespace["load"]().images.read(0)
    assert np.array_equal(first, again)
    assert first.max() > 0
    known = labels_of(found.labels, 32, None, found.rule, found.digest)
    assert len(splits.class_folds(known, load("protocol", "toy"))) == 2
