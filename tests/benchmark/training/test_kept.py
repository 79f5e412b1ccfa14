"""The weights of a fold model make it again, to the bit, and hold nothing that only trains."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.models import networks
from benchmark.study.folder import CellKey
from benchmark.training import splits
from benchmark.training.evaluate import embed
from benchmark.training.job import Job, execute
from benchmark.training.join import unpack
from benchmark.training.kept import embedding_state
from protocols.discovery import Registry, load
from protocols.errors import StoreError
from protocols.protocol import ImagePipeline
from tests.benchmark.models.plugins import DISTILLED

TOY = load("protocol", "toy")
PROTOCOL = replace(TOY, image=ImagePipeline(32, 32, area=(0.5, 1.0), flip=0.0))
METHODS = ("bfe", "cgd", "horde", "divide_conquer", "proxy_anchor", "pretrained", "untrained")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    digest = load("dataset", "toy").digest()
    return splits.DataSource("toy", digest, None, tmp_path_factory.mktemp("c"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(source, method, plugins=(), keep=True, trunk="tiny"):
    trains = Registry(tuple(plugins)).load("method", method).trains
    cell = CellKey("id", "toy", trunk, "adam", method, method, trains)
    recipe = load("recipe", "adam")
    where = (cell, PROTOCOL, recipe, "final", 0, 0, {}, source, "cpu")
    return execute(Job(*where, plugins=tuple(plugins), keep=keep))


@pytest.mark.parametrize("method", METHODS)
def test_it_embeds_the_test_images_to_the_recorded_bits(method, source):
    outcome = train(source, method)
    record = outcome.record
    assert record.status == "done", record.detail
    assert record.weights_sha256 == hashlib.sha256(outcome.weights).hexdigest()
    fold = networks.unpacked(outcome.weights, "weights")
    network = networks.rebuild(fold, Registry())
    test = splits.open_test(source, PROTOCOL)
    rows = embed(network, test, PROTOCOL, fold.facts["view"])
    assert hashlib.sha256(rows.tobytes()).hexdigest() == fold.facts["embeddings_sha256"]
    assert np.array_equal(rows, unpack(outcome.vectors)["embeddings"])
    assert np.array_equal(rows[: len(fold.proof)], fold.proof)
    assert fold.facts["spec"]["classes"] == len(np.unique(fold.labels)) == 12


STAGES = '''"""Two stages, for tests."""

from protocols.method import Wants
from protocols.methods.supcon import SupCon


class Stages(SupCon):
    """Embeds from the last stage but one."""

    wants = Wants(stages=2)

    def make_head(self, spec):
        from torch import nn

        return nn.Linear(spec.stage_channels[0], spec.embedding_size)

    def forward(self, features):
        return {"embedding": self.head(features.stages[0].mean(dim=(2, 3)))}
'''


@pytest.mark.parametrize("trunk", ["lora8:tiny", "frozen:tiny"])
def test_a_trunk_inside_another_and_stages_come_back(source, tmp_path, trunk):
    path = tmp_path / "stages.py"
    path.write_text(STAGES)
    outcome = train(source, "stages", (path,), trunk=trunk)
    assert outcome.record.status == "done", outcome.record.detail
    fold = networks.unpacked(outcome.weights, "weights")
    assert fold.facts["spec"]["stage_channels"] == [32, 32]
    network = networks.rebuild(fold, Registry((path,)))
    rows = embed(network, splits.open_test(source, PROTOCOL), PROTOCOL)
    assert np.array_equal(rows[: len(fold.proof)], fold.proof)


@pytest.mark.parametrize(
    ("method", "gone"),
    [
        ("horde", "moments"),
        ("proxy_anchor", "terms"),
        ("divide_conquer", "clusters"),
        ("xbm", "rows"),
        ("supcon_proj", "projector"),
        ("s2sd", "branches"),
    ],
)
def test_what_only_trains_stays_behind(method, gone, source):
    fold = networks.unpacked(train(source, method).weights, "weights")
    assert any(name.startswith("trunk.") for name in fold.state)
    assert any(name.endswith("running_var") for name in fold.state), "buffers that embed are kept"
    assert not any(gone in name for name in fold.state)
    assert not any(name.endswith("num_batches_tracked") for name in fold.state)


def test_a_frozen_teacher_is_not_deployed(source, tmp_path):
    path = tmp_path / "distilled.py"
    path.write_text(DISTILLED)
    outcome = train(source, "distilled", [path])
    assert outcome.record.status == "done", outcome.record.detail
    fold = networks.unpacked(outcome.weights, "weights")
    assert not any("teacher" in name for name in fold.state)
    network = networks.rebuild(fold, Registry((path,)))
    assert any("teacher" in name for name in network.state_dict())


def test_whether_weights_are_kept_changes_no_record(source):
    kept, dropped = train(source, "ms"), train(source, "ms", keep=False)
    assert dropped.weights is None
    assert replace(kept.record, measured={}) == replace(dropped.record, measured={})
    assert kept.vectors == dropped.vectors


def test_code_that_reads_other_weights_is_refused(source):
    fold = networks.unpacked(train(source, "ms").weights, "weights")
    less = {name: values for name, values in fold.state.items() if name != "method.head.bias"}
    wide = {**fold.state, "method.head.bias": np.zeros(7, np.float32)}
    for state in (less, wide):
        with pytest.raises(StoreError, match=r"not that of these weights any more: method.head"):
            networks.rebuild(replace(fold, state=state), Registry())


def test_watching_a_forward_pass_changes_nothing(source):
    network = networks.rebuild(
        networks.unpacked(train(source, "cgd").weights, "weights"), Registry()
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    state = embedding_state(network, 32)
    assert network.training
    assert set(state) < set(before)
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)
