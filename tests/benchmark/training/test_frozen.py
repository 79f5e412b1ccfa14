"""Fitted rows: one fit and one validation a trial, features of a fold embedded once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.study.folder import CellKey
from benchmark.training import evaluate, frozen, splits
from benchmark.training.job import Job, build_network, execute
from protocols.discovery import load

PROTOCOL = load("protocol", "toy")


@pytest.fixture
def source(tmp_path):
    made = splits.DataSource("toy", load("dataset", "toy").digest(), None, tmp_path)
    splits.prepare(made, PROTOCOL)
    return made


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(frozen, "_KEPT", frozen._Kept())


@pytest.fixture
def seen(monkeypatch):
    """How many images went through a trunk, in order of the calls."""
    counts = []
    whole = evaluate._extract

    def counted(network, split, protocol, forward):
        counts.append(len(split))
        return whole(network, split, protocol, forward)

    monkeypatch.setattr(evaluate, "_extract", counted)
    return counts


def job(source, method, number=0, stage="search", **settings):
    cell = CellKey("id", "toy", "tiny", "adam", method, method, trains=False)
    return Job(cell, PROTOCOL, load("recipe", "adam"), stage, number, 0, settings, source, "cpu")


def fold_of(one, network=None):
    train, validation = splits.open_fold(one.source, PROTOCOL, one.fold)
    network = network or build_network(one, train).to(memory_format=torch.channels_last)
    return frozen.Fold(network, train, validation, PROTOCOL, "tiny on toy")


@pytest.mark.parametrize("method", ["untrained", "centred", "pretrained", "whitened", "lda", "ncm"])
def test_kept_features_give_the_bits_of_the_whole_network(source, method):
    fold = fold_of(job(source, method))
    fold.fit()
    whole = evaluate.embed(fold.network, fold.validation, PROTOCOL)
    pooled = evaluate.extract(fold.network, fold.validation, PROTOCOL, "vector")
    np.testing.assert_array_equal(evaluate.embed_pooled(fold.network, pooled, PROTOCOL), whole)
    assert fold.validate() == evaluate.score(fold.network, fold.validation, PROTOCOL)[0].means()


def test_a_fold_is_embedded_once_for_all_settings_and_methods(source, seen):
    network = None
    for method, settings in (("lda", {}), ("lda", {"shrinkage": 0.5}), ("whitened", {})):
        fold = fold_of(job(source, method, **settings), network)
        if network is not None:  # the same trunk under another method
            made = build_network(job(source, method, **settings), fold.train)
            made.trunk.load_state_dict(network.trunk.state_dict())
            fold = replace(fold, network=made.to(memory_format=torch.channels_last))
        network = fold.network
        fold.fit()
        fold.validate()
        assert fold.images == len(fold.train)  # counted each time: who kept them is chance
    assert seen == [len(fold.train), len(fold.validation)]


def test_another_trunk_fold_or_pipeline_is_embedded_anew(source, seen):
    fold = fold_of(job(source, "whitened"))
    fold.fit()
    with torch.no_grad():
        next(fold.network.trunk.parameters()).mul_(1.01)
    fold.fit()
    other = replace(PROTOCOL, eval_batch=PROTOCOL.eval_batch // 2)
    replace(fold, protocol=other).fit()
    train, _ = splits.open_fold(source, PROTOCOL, 1)
    replace(fold, train=train).fit()
    assert len(seen) == 4


def test_what_a_method_writes_to_its_features_is_not_kept(source):
    fold = fold_of(job(source, "whitened"))
    fold._probe("vector")[:] = 0
    assert fold._probe("vector").any()


def test_a_method_that_reads_the_map_is_validated_through_the_network(source, seen, monkeypatch):
    fold = fold_of(job(source, "untrained"))
    assert not fold._reads_the_map()
    monkeypatch.setattr(
        type(fold.network.method),
        "forward",
        lambda self, features: {"embedding": features.map.amax(dim=(2, 3))},
    )
    assert fold._reads_the_map()
    assert fold.validate() == evaluate.score(fold.network, fold.validation, PROTOCOL)[0].means()


def test_room_is_bounded_and_the_oldest_goes(monkeypatch):
    monkeypatch.setattr(frozen, "KEPT_BYTES", 3 * 40)
    kept = frozen._Kept()
    for name in "abc":
        kept.put(name, np.zeros(10, np.float32))
    assert kept.get("a") is not None
    kept.put("d", np.zeros(10, np.float32))
    assert [name for name in "abcd" if kept.get(name) is not None] == ["a", "c", "d"]
    kept.put("huge", np.zeros(100, np.float32))
    assert not kept.rows


def test_a_trial_and_a_run_are_recorded_and_test_images_are_not_kept(source):
    trial = execute(job(source, "lda", shrinkage=0.3)).record
    assert (trial.status, trial.steps, trial.test) == ("done", 0, None)
    assert trial.settings == {"shrinkage": 0.3}
    run = execute(job(source, "lda", stage="final", shrinkage=0.3)).record
    test = splits.open_test(source, PROTOCOL)
    assert run.status == "done", run.detail
    (opening,) = run.openings
    assert opening.startswith(f"{len(test)} test images of toy")
    held = [rows.shape[0] for rows in frozen._KEPT.rows.values()]
    train, validation = splits.open_fold(source, PROTOCOL, 0)
    assert held == [len(train), len(validation)] * 2  # a random trunk is another in every job
    assert run.counts["images_trained"] == run.counts["parameters_trained"] == 0
    trunk = load("trunk", "tiny").build(None)
    fitted = trunk.channels + trunk.channels * min(trunk.channels, PROTOCOL.embedding_size)
    whole = fitted + sum(p.numel() for p in trunk.parameters())
    assert run.counts["parameters_deployed"] == whole
