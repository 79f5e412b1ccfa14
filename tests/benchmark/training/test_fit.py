"""The loop: what it learns from, when it stops, what it keeps."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.study.folder import CellKey
from benchmark.study.seeds import seed
from benchmark.training import job, splits
from benchmark.training.draws import Draws, Probe, Streams, contiguous
from benchmark.training.evaluate import embed
from benchmark.training.fit import fit
from benchmark.training.job import Job, execute
from protocols.discovery import load
from protocols.errors import InvalidInputError
from protocols.method import Draw
from protocols.protocol import Pace

PROTOCOL = load("protocol", "toy")
RECIPE = load("recipe", "adam")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return splits.DataSource(
        "toy", load("dataset", "toy").digest(), None, tmp_path_factory.mktemp("c")
    )


def make(source, method="ms", stage="search", number=0, fold=0, protocol=PROTOCOL, **settings):
    cell = CellKey("id", "toy", "tiny", "adam", method, method, trains=method != "untrained")
    return Job(cell, protocol, RECIPE, stage, number, fold, settings, source, "cpu")


def without_clock(record):
    return replace(record, measured={})


def test_the_same_job_gives_the_same_bits_and_leaves_torch_alone(source):
    torch.manual_seed(1)
    first = execute(make(source, stage="final"))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = execute(make(source, stage="final"))
    assert torch.equal(torch.get_rng_state(), state), "a job changed the global generator"
    assert without_clock(first.record) == without_clock(second.record)
    assert first.vectors == second.vectors


def test_bf16_runs_the_network_in_bfloat16_and_the_losses_in_float32(source, monkeypatch):
    seen, real = set(), job.build_network

    def watched(*args):
        network = real(*args)

        def look(trunk, _, out):
            if trunk.training or torch.is_inference_mode_enabled():  # not where parameters count
                seen.add(("trunk", out.map.dtype))

        network.trunk.register_forward_hook(look)
        losses = network.method.losses

        def kept(views, batch):
            found = losses(views, batch)
            seen.update(("loss", value.dtype) for value in found.values())
            return found

        network.method.losses = kept
        return network

    monkeypatch.setattr(job, "build_network", watched)
    protocol = PROTOCOL.derive(precision="bf16")
    first = execute(make(source, stage="final", protocol=protocol))
    assert seen == {("trunk", torch.bfloat16), ("loss", torch.float32)}
    second = execute(make(source, stage="final", protocol=protocol))
    assert first.vectors == second.vectors
    plain = execute(make(source, stage="final")).record
    assert first.record.status == "done"
    assert first.record.test != plain.test
    for name, value in plain.test.items():
        assert first.record.test[name] == pytest.approx(value, abs=0.1)


def test_another_seed_fold_or_setting_gives_other_numbers(source):
    base = execute(make(source)).record.history
    for other in (make(source, number=1), make(source, fold=1), make(source, base=0.9)):
        assert execute(other).record.history != base


def test_search_never_opens_the_test_split(source, monkeypatch):
    opened = []
    real = splits.open_test
    monkeypatch.setattr(splits, "open_test", lambda *args: opened.append(1) or real(*args))
    execute(make(source, stage="search"))
    assert opened == []
    execute(make(source, stage="final"))
    assert opened == [1]


def test_the_kept_model_is_the_one_that_validated_best(source):
    made = make(source, stage="final", protocol=replace(PROTOCOL, pace=Pace(30, 5, 5, 99)))
    record = execute(made).record
    values = [row["map_at_r"] for row in record.history]
    assert record.validation["map_at_r"] == max(values)
    assert record.best_step == record.history[values.index(max(values))]["step"]
    assert [row["step"] for row in record.history] == [0, 5, 10, 15, 20, 25, 30]


def fitted(source, values, pace, method="ms"):
    """Fit with made-up validation values; return what fit says and the network."""
    made = make(source, method, protocol=replace(PROTOCOL, pace=pace))
    train, _ = splits.open_fold(source, made.protocol, 0)
    network, remaining = job.build_network(made, train), iter(values)
    streams = Streams(*(np.random.default_rng(n) for n in range(4)))
    seen = []

    def validate():
        seen.append({k: v.clone() for k, v in network.state_dict().items()})
        return {"map_at_r": next(remaining)}

    with torch.random.fork_rng():
        return fit(network, train, validate, made.protocol, RECIPE, streams), network, seen


def test_patience_counts_validations_without_improvement(source):
    result, _, _ = fitted(source, [0.1, 0.3, 0.2, 0.3, 0.2, 0.9], Pace(100, 5, 2, 2))
    assert [row["step"] for row in result.history] == [0, 2, 4, 6, 8]
    assert result.best_step == 2


def test_the_untrained_network_is_a_candidate_and_weights_are_restored(source):
    result, network, seen = fitted(source, [0.5, 0.1, 0.1], Pace(4, 2, 2, 9))
    assert result.best_step == 0
    assert all(torch.equal(v, seen[0][k]) for k, v in network.state_dict().items())
    assert any(not torch.equal(v, seen[1][k]) for k, v in network.state_dict().items())


def test_methods_of_one_seed_see_the_same_images_from_the_same_start(source):
    starts, orders = [], []
    for method in ("ms", "triplet"):
        made = make(source, method, stage="final", number=3)
        train, _ = splits.open_fold(source, PROTOCOL, 0)
        with torch.random.fork_rng():
            network = job.build_network(made, train)
        rng = np.random.default_rng(job._seed(made, "batches"))
        streams = Streams(rng, *(np.random.default_rng(0) for _ in range(3)))
        draws = Draws(Probe(network, train, PROTOCOL), contiguous(train.labels), streams)
        orders.append([next(draws).index.tolist() for _ in range(5)])
        starts.append(network.state_dict())
    assert orders[0] == orders[1]
    assert starts[0].keys() == starts[1].keys()
    assert all(torch.equal(starts[0][k], starts[1][k]) for k in starts[0])


def test_embeddings_do_not_depend_on_mode_or_order(source):
    made = make(source)
    train, validation = splits.open_fold(source, PROTOCOL, 0)
    with torch.random.fork_rng():
        network = job.build_network(made, train).train()
    first = embed(network, validation, PROTOCOL)
    assert network.training, "the mode is put back"
    turned = splits.Split(validation.store, validation.index[::-1].copy(), validation.labels[::-1])
    assert np.allclose(embed(network, turned, PROTOCOL)[::-1], first, atol=1e-5)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ([Draw([0, 10**6])], "expected some in"),
        ([Draw([])], "expected some in"),
        ([Draw([0, 1, 9, 17])], "1 batches, expected 5"),
        ([Draw([0, 0])], "one class only"),
    ],
)
def test_a_plan_outside_the_training_images_is_refused(source, draws, message):
    made = make(source)
    train, _ = splits.open_fold(source, PROTOCOL, 0)
    with torch.random.fork_rng():
        network = job.build_network(made, train)
    network.method.plan = lambda epoch, probe, rng: iter(draws)
    streams = Streams(*(np.random.default_rng(n) for n in range(4)))
    planned = Draws(Probe(network, train, PROTOCOL), contiguous(train.labels), streams)
    with pytest.raises(InvalidInputError, match=message):
        list(itertools.islice(planned, 5))


def test_folds_are_disjoint_from_each_other_and_from_the_test_split(source):
    for fold in range(PROTOCOL.folds):
        train, validation = splits.open_fold(source, PROTOCOL, fold)
        test = splits.open_test(source, PROTOCOL)
        parts = [set(split.labels.tolist()) for split in (train, validation, test)]
        assert not parts[0] & parts[1]
        assert not (parts[0] | parts[1]) & parts[2]
        assert len(train) + len(validation) + len(test) == 48 * 8


def test_seeds_are_pinned_names():
    assert seed("toy", "final", 0, 0, "batches") == 4155984997427766589
    assert seed("a", 1) != seed("a1")
    assert 0 <= seed("x") < 2**63
