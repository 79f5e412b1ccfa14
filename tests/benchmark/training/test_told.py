"""What a method is told of classes is of the training classes of its fold, and is on record."""

import gc
import hashlib
import json
from dataclasses import replace
from types import FunctionType, ModuleType

import numpy as np
import pytest

from benchmark.models import networks
from benchmark.study.datasets import Data
from benchmark.study.folder import CellKey
from benchmark.study.grid import Axes, key_of, make_cells
from benchmark.training import splits, told
from benchmark.training.evaluate import embed
from benchmark.training.first_look import first_look
from benchmark.training.job import Job, build_network, execute
from protocols.discovery import Registry, load
from protocols.errors import PluginError
from protocols.method import Wants
from protocols.protocol import Pace
from tests.benchmark.training.test_resume import killed_at
from tests.benchmark.training.test_resume import same as same_outcome

PACE = Pace(max_steps=12, steps_per_epoch=4, validate_every=6, patience=9)
PROTOCOL = replace(load("protocol", "toy"), pace=PACE)
NAMES = [f"stripes {number}" for number in range(48)]
GROUPS = [f"kind {7 * number % 5}" for number in range(48)]
CODE = '''"""inner: a classifier that looks at what it is told."""

import torch

from protocols.method import Term, Wants
from protocols.methods.nsoftmax import NormalizedSoftmax


class Inner(NormalizedSoftmax):
    """Softmax with a penalty on embeddings of a group, or with a name of even length, apart."""

    wants = Wants(side=frozenset({"names", "groups"}))

    def make_terms(self, spec):
        assert len(spec.names) == len(spec.groups) == spec.classes
        kinds = torch.from_numpy(spec.groups) * 2
        self.register_buffer("kinds", kinds + torch.tensor([len(n) % 2 for n in spec.names]))
        return [*super().make_terms(spec), Term(self.together, weight=0.1, name="together")]

    def together(self, z, labels):
        kinds = self.kinds[labels]
        return torch.where(kinds[:, None] == kinds, torch.cdist(z, z), 0.0).mean()
'''


@pytest.fixture
def bare(tmp_path):
    """The toy dataset as it ships: names and no groups."""
    return splits.DataSource("toy", load("dataset", "toy").digest(), None, tmp_path)


@pytest.fixture
def source(bare, monkeypatch):
    """The toy dataset with groups."""
    dataset = replace(load("dataset", "toy").load(), class_groups=GROUPS)
    monkeypatch.setattr(splits, "_dataset", lambda source: dataset)
    splits.prepare(bare, PROTOCOL)
    return bare


def job(source, stage="search", **changes):
    path = source.cache / "inner.py"
    path.write_text(CODE, encoding="utf-8")
    cell = CellKey("id", "toy", "tiny", "adam", "inner", "inner")
    where = (cell, PROTOCOL, load("recipe", "adam"), stage, 0, 0, {}, source, "cpu", (path,))
    return replace(Job(*where), **changes)


@pytest.mark.parametrize("fold", [0, 1])
def test_it_is_of_the_training_classes_by_label(source, fold):
    train, _ = splits.open_fold(source, PROTOCOL, fold)
    found = told.fields(source, train.labels, {"names", "groups"})
    classes = sorted(set(train.labels.tolist()))
    assert found["names"] == tuple(NAMES[number] for number in classes)
    theirs = [GROUPS[number] for number in classes]
    assert found["groups"].tolist() == [sorted(set(theirs)).index(kind) for kind in theirs]
    assert told.fields(source, train.labels, {"names"}).keys() == {"names"}
    assert told.fields(source, train.labels, frozenset()) == {}


def words_of(thing):
    """Return all text that can be reached from ``thing``, but for code and what ships with it."""
    waiting, seen, found = [thing], {}, set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (type, ModuleType, FunctionType)):
            continue
        seen[id(one)] = one
        if isinstance(one, str):
            found.add(one)
        elif isinstance(one, np.ndarray):
            found.update(map(str, one.ravel().tolist()) if one.dtype.kind in "US" else ())
            waiting.append(one.base)
        else:
            waiting += gc.get_referents(one)
    return found


@pytest.mark.parametrize("fold", [0, 1])
def test_names_of_other_classes_never_reach_a_method(source, fold):
    train, _ = splits.open_fold(source, PROTOCOL, fold)
    own = {NAMES[number] for number in train.labels}
    network = build_network(job(source, fold=fold), train)
    assert words_of(network) & set(NAMES) == own
    assert not words_of(network) & set(GROUPS)  # numbers alone, counted among its own


def test_what_a_dataset_has_not_ends_the_command_before_it_starts(bare, monkeypatch):
    splits.prepare(bare, PROTOCOL)
    found = first_look(job(bare))
    assert "it wants the groups of classes, and dataset 'toy' has none" in found.problem
    dataset = replace(load("dataset", "toy").load(), class_names=[str(n) for n in range(48)])
    monkeypatch.setattr(splits, "_dataset", lambda source: dataset)
    bare.labels_path.unlink()
    found = first_look(job(bare))
    assert "has numbers for names. Take a dataset whose classes have names" in found.problem


def test_groups_are_added_to_what_an_earlier_version_prepared(bare, monkeypatch):
    splits.prepare(bare, PROTOCOL)
    dataset = replace(load("dataset", "toy").load(), class_groups=GROUPS)
    monkeypatch.setattr(splits, "_dataset", lambda source: dataset)
    assert splits.prepare(bare, PROTOCOL) == []
    found = told.fields(bare, dataset.labels, {"groups"})
    assert found["groups"].tolist() == [int(kind[-1]) for kind in GROUPS]


def test_the_record_holds_its_digest_and_the_weights_embed_again(source):
    outcome = execute(job(source, "final", keep=True))
    record = outcome.record
    assert record.status == "done", record.detail
    train, _ = splits.open_fold(source, PROTOCOL, 0)
    found = told.fields(source, train.labels, {"names", "groups"})
    said = json.dumps({"names": list(found["names"]), "groups": found["groups"].tolist()})
    assert record.measured["told_sha256"] == hashlib.sha256(said.encode()).hexdigest()
    fold = networks.unpacked(outcome.weights, "weights")
    network = networks.rebuild(fold, Registry(job(source).plugins))
    assert network.method.spec.names == found["names"]
    assert np.array_equal(network.method.spec.groups, found["groups"])
    rows = embed(network, splits.open_test(source, PROTOCOL), PROTOCOL, fold.facts["view"])
    assert hashlib.sha256(rows.tobytes()).hexdigest() == fold.facts["embeddings_sha256"]


def test_who_asks_for_nothing_is_told_nothing(source):
    cell = CellKey("id", "toy", "tiny", "adam", "triplet", "triplet")
    plain = job(source, cell=cell, plugins=())
    train, _ = splits.open_fold(source, PROTOCOL, 0)
    network = build_network(plain, train)
    assert (network.method.spec.names, network.method.spec.groups) == (None, None)
    assert not words_of(network) & {*NAMES, *GROUPS}
    assert told.in_record(network.method.spec) == {}


def test_it_goes_on_from_a_checkpoint(source, tmp_path, monkeypatch):
    made = job(source, "final")
    whole = execute(made)
    partial = replace(made, partial=tmp_path / "partial.pt")
    killed_at(monkeypatch, partial, (7,))
    outcome = execute(partial)
    assert same_outcome(outcome, whole)
    assert outcome.record.measured["resumed"] == [7]
    assert outcome.record.measured["told_sha256"] == whole.record.measured["told_sha256"]


def test_the_cell_says_what_its_method_is_told(source):
    registry = Registry(job(source).plugins)
    data = Data("toy", "toy", source.digest)
    for name, side in (("inner", "groups and names"), ("triplet", "")):
        cells = make_cells(Axes((name,), (data,), ("tiny",), ("adam",)), PROTOCOL, registry)
        cell = next(cell for cell in cells if cell.method == name)
        assert key_of(cell, PROTOCOL, registry, None).side == side


@pytest.mark.parametrize("side", [{"names"}, frozenset({"texts"}), "names"])
def test_other_words_are_refused(side):
    with pytest.raises(PluginError, match="expected frozenset of groups and names"):
        Wants(side=side)
