"""Feature-side methods as jobs: what they cost, what is deployed, what is refused."""

import gc
import re
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from benchmark.broken import BrokenByRecordingError
from benchmark.cli import main
from benchmark.study.folder import CellKey, Study
from benchmark.study.records import RunRecord
from benchmark.study.spending import Spending
from benchmark.tables import costs, results
from benchmark.training import device, evaluate, splits, timing
from benchmark.training import fit as fitting
from benchmark.training import job as jobs
from benchmark.training.device_steps import steps_on
from benchmark.training.draws import Streams
from benchmark.training.evaluate import embed
from benchmark.training.first_look import first_look
from benchmark.training.fit import fit
from benchmark.training.job import Job, build_network, execute
from benchmark.training.join import unpack
from benchmark.training.oracle import unwatched
from benchmark.training.serving import serving_trunk
from benchmark.training.steps import HostSteps
from protocols.discovery import load
from protocols.errors import InvalidInputError
from protocols.method import Method, Term
from protocols.methods._margin import margin_loss
from protocols.protocol import ImagePipeline, Pace
from tests.emulator import as_on_a_device
from tests.proven import put

TOY = load("protocol", "toy")
PROTOCOL = replace(TOY, image=ImagePipeline(32, 32, area=(0.5, 1.0), flip=0.0))
RECIPE = load("recipe", "adam")
METHODS = ("bfe", "cgd", "horde", "horde_ms", "divide_conquer", "group", "triplet_hard")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    digest = load("dataset", "toy").digest()
    return splits.DataSource("toy", digest, None, tmp_path_factory.mktemp("c"))


def make(source, method, protocol=PROTOCOL, trunk="tiny", **settings):
    cell = CellKey("id", "toy", trunk, "adam", method, method)
    return Job(cell, protocol, RECIPE, "final", 0, 0, settings, source, "cpu")


class Gone(nn.Module):
    """What stands where a module was left out of an export."""

    def forward(self, *args):
        raise AssertionError("a module that was not exported is needed")


def exported(network, fresh, side):
    """Return ``fresh`` with the weights of ``network`` that deployment needs and nothing else."""
    needed = {id(p) for p in network.deployed(side)}
    kept = {name for name, p in network.named_parameters() if id(p) in needed}
    state = network.state_dict()
    for name, parameter in fresh.named_parameters():
        parameter.data.fill_(torch.nan)
        if name in kept:
            parameter.data.copy_(state[name])
    for name, buffer in fresh.named_buffers():
        buffer.copy_(state[name])
    fresh.method.terms = nn.ModuleList()
    for name, module in list(fresh.method.named_children()):
        own = {f"method.{name}.{key}" for key, _ in module.named_parameters()}
        if own and not own & kept:
            setattr(fresh.method, name, Gone())
    return fresh


@pytest.mark.parametrize("method", METHODS)
def test_deployed_without_training_heads_equals_what_was_scored(method, source, monkeypatch):
    scored = []
    real = evaluate.score

    def keep(network, split, protocol):
        scored.append((network, split))
        return real(network, split, protocol)

    monkeypatch.setattr(evaluate, "score", keep)
    made = make(source, method)
    outcome = execute(made)
    assert outcome.record.status == "done", outcome.record.detail
    network, test = scored[-1]
    train, _ = splits.open_fold(source, PROTOCOL, 0)
    with torch.random.fork_rng():
        fresh = build_network(replace(made, number=9), train)
    bare = exported(network, fresh.to(memory_format=torch.channels_last), side=32)
    embeddings = unpack(outcome.vectors)["embeddings"]
    assert np.array_equal(embed(bare, test, PROTOCOL), embeddings)
    counts = outcome.record.counts
    assert counts["parameters_deployed"] == sum(
        p.numel() for p in bare.parameters() if not p.isnan().any()
    )
    assert counts["parameters_trained"] >= counts["parameters_deployed"]


def test_images_seen_for_a_plan_are_counted(source):
    plain = execute(make(source, "divide_conquer", learners=1)).record
    divided = execute(make(source, "divide_conquer", learners=2)).record
    train, validation = splits.open_fold(source, PROTOCOL, 0)
    # 8 epochs of 5 steps, the first 2.4 of them divided: clusters in epochs 0 and 2.
    assert plain.counts["images_embedded"] == len(validation) * len(plain.history)
    extra = divided.counts["images_embedded"] - len(validation) * len(divided.history)
    assert extra == 2 * len(train)
    assert {"seconds", "cpu_s", "train_s", "peak_memory_mb"} <= set(divided.measured)


class Plain(Method):
    """The margin loss of one learner, without any of the rest."""

    def make_terms(self, spec):
        return [Term(lambda z, y: margin_loss(z, y, boundary=1.2, margin=0.2, weighted=True))]

    def forward(self, features):
        return {"embedding": normalize(self.head(features.vector))}


def test_one_learner_is_the_plain_margin_loss_seed_for_seed(source):
    histories = []
    train, validation = splits.open_fold(source, PROTOCOL, 0)
    made = make(source, "divide_conquer", learners=1)
    for method in (None, Plain):
        with torch.random.fork_rng():
            network = build_network(made, train)
            if method:
                torch.manual_seed(jobs._seed(made, "method"))
                network.method = method(network.method.spec)
            torch.manual_seed(1)
            streams = Streams(*(np.random.default_rng(n) for n in range(4)))

            def validate(network=network):
                return evaluate.score(network, validation, PROTOCOL)[0].means()

            histories.append(
                fit(network, train, validate, PROTOCOL, RECIPE, streams, unwatched).history
            )
    assert histories[0] == histories[1]
    assert histories[0][-1]["map_at_r"] > histories[0][0]["map_at_r"]


# A budget in seconds.


def test_matching_cost_is_refused_unless_the_protocol_says_so(tmp_path, capsys):
    words = ["run", "--protocol", "toy", "--match-cost", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "--match-cost: protocol 'toy'" in error
    assert "match_cost_s" in error
    assert not (tmp_path / "out").exists()


def test_a_protocol_that_says_so_ends_training_by_seconds(source):
    with pytest.raises(InvalidInputError, match="same steps"):
        TOY.matching_cost()
    allowed = replace(PROTOCOL, match_cost_s=1e-3, pace=Pace(30, 5, 10, 99))
    assert allowed.rules_hash() == replace(allowed, match_cost_s=None).rules_hash()
    matched = allowed.matching_cost()
    assert matched.rules_hash() != allowed.rules_hash()
    assert matched.overrides == {"match_cost": "0.001 s of training"}
    steps = [execute(make(source, "ms", p)).record.steps for p in (allowed, matched)]
    assert steps == [30, 0]
    roomy = replace(allowed, match_cost_s=1e9).matching_cost()
    assert execute(make(source, "ms", roomy)).record.steps == 30


def test_seconds_and_averaging_do_not_go_together(source):
    matched = replace(PROTOCOL, match_cost_s=1.0).matching_cost()
    made = replace(make(source, "ms", matched), recipe=load("recipe", "swa"))
    outcome = execute(made)
    assert outcome.record.status == "failed"
    assert "budget in seconds" in outcome.record.detail


MISTAKEN = '''"""A method."""
from torch.nn.functional import normalize
from protocols.method import Method, Term

class Mine(Method):
    """Mine."""

    def make_terms(self, spec):
        return [Term(self.hinge)]

    def hinge(self, z, labels):
        {body}
'''


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return normalize(z, dim=5).sum()", "Dimension out of range.* \\(mine\\.py:12\\)$"),
        ("z.sum()", r"term 'loss': Mine\.hinge \(mine\.py:11\) returned NoneType; .*return$"),
        ("return z.sum(1)", r"\(mine\.py:11\) returned a tensor of shape \(\d+,\); .*sum\(\)$"),
    ],
)
def test_a_failure_leads_to_the_method_and_not_to_what_stumbled_over_it(
    source, tmp_path, body, words
):
    path = tmp_path / "mine.py"
    path.write_text(MISTAKEN.format(body=body))
    record = execute(replace(make(source, "mine"), plugins=(path,))).record
    assert (record.status, record.reason) == ("failed", "error")
    assert re.search(words, record.detail), record.detail


# Trunks that cannot serve.


@pytest.mark.parametrize(
    ("method", "trunk", "words"),
    [
        ("horde", "tiny", "'horde' needs a feature map; trunk 'tiny' leaves 1 x 1 of 16 x 16 px"),
        ("bfe", "densenet121", "method 'bfe'.*DenseNet.*last stride"),
    ],
)
def test_a_trunk_that_cannot_serve_ends_the_command_before_it_starts(
    method, trunk, words, tmp_path, capsys
):
    out = tmp_path / "out"
    args = ["run", "--protocol", "toy", "--methods", method, "--trunks", trunk]
    assert main([*args, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert re.search(words, error), error
    assert not (out / "records").exists()


def test_a_transformers_map_is_refused(source):
    pytest.importorskip("timm")
    made = make(source, "cgd", trunk="timm:vit_tiny_patch16_224")
    with pytest.raises(InvalidInputError, match="'cgd' needs a non-negative feature map"):
        serving_trunk(made)


@pytest.mark.parametrize("look", [execute, first_look])
def test_a_network_that_failed_is_gone_when_memory_is_given_back(source, monkeypatch, look):
    networks, left = [], []

    class Fails(HostSteps):
        def take(self, draw, step, factor):
            networks.append(weakref.ref(self._training.network))
            raise ValueError("no more")

    def tidy(name):
        gc.collect()  # as on a GPU
        left.append(networks[-1]())

    monkeypatch.setattr(fitting, "make_steps", Fails)
    monkeypatch.setattr(timing, "make_steps", Fails)
    monkeypatch.setattr(device, "tidy", tidy)
    look(replace(make(source, "ms"), stage="search"))
    assert left == [None]


# The table of costs.


def test_a_recording_that_breaks_the_device_is_an_outcome_and_without_it_is_said(
    source, monkeypatch
):
    class Breaks(HostSteps):
        def take(self, draw, step, factor):
            raise BrokenByRecordingError("a recording broke the device: refused")

    made = make(source, "ms")
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "make_steps", Breaks)
        outcome = execute(made)
    assert (outcome.spent, outcome.record.reason) == ("recording", "crash")
    assert outcome.record.detail.startswith("BrokenByRecordingError: a recording broke the device")
    as_on_a_device(monkeypatch)
    monkeypatch.setattr(fitting, "make_steps", lambda t: steps_on(t, torch.device("cpu")))
    again = replace(made, record_steps=False)
    assert again.id == made.id
    said = execute(again).record.measured["step"]
    assert said == "eager: a recording broke the device before"


def test_costs_are_means_over_runs(tmp_path):
    cell = CellKey("id", "toy", "tiny", "adam", "ms", "ms")
    study = Study(tmp_path, TOY, (cell,))
    for seed, seconds in enumerate((3.0, 5.0)):
        counts = {"parameters_trained": 70, "parameters_deployed": 60, "images_trained": 640}
        measured = {"seconds": seconds, "environment": {"device": "cpu, 1 thread(s)"}}
        run = RunRecord(f"r{seed}", "id", seed, {}, "done", [], counts=counts, measured=measured)
        put(study, cell, run)
    cells = [results.read(study, key) for key in study.cells]
    (row,) = costs.frame(cells, Spending(cells[0].runs), (2.0, "EUR")).to_dict("records")
    assert (row["method"], row["n"], row["seconds"]) == ("ms", 2, 4.0)
    assert (row["parameters_trained"], row["parameters_deployed"]) == (70, 60)
    assert np.isnan(row["images_embedded"])
    assert row["job_h"] == pytest.approx(8 / 3600), "records of an earlier version tell no more"
    assert all(np.isnan(row[name]) for name in costs.TOTALS[1:-1])
    study.save()
    assert main(["tables", "--out", str(tmp_path)]) == 0
    assert "ms,2,70.0,60.0,640.0" in (tmp_path / "tables" / "costs.csv").read_text()
