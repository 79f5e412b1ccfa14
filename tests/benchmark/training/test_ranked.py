"""A job under a named rule: folds are joined by it, and a rule that is none starts nothing."""

from dataclasses import replace

import numpy as np
import pytest

from benchmark.study.folder import CellKey
from benchmark.training import splits
from benchmark.training.first_look import first_look
from benchmark.training.job import Job, execute
from benchmark.training.join import JoinJob, join, unpack
from benchmark.training.join import pack as pack_vectors
from benchmark.training.kept import pack
from protocols.discovery import load
from protocols.metrics import per_query
from protocols.protocol import Pace

PACE = Pace(max_steps=8, steps_per_epoch=4, validate_every=8, patience=9)
PROTOCOL = replace(load("protocol", "toy"), pace=PACE, eval_batch=256)
CODE = '''"""sheet: triplet loss, points of a hyperboloid compared."""

import torch

from protocols.methods.triplet import Triplet


class Sheet(Triplet):
    """Lifts its embeddings."""

    ranking = {ranking!r}

    def forward(self, features):
        flat = super().forward(features)["embedding"]
        height = (1 + flat.square().sum(1, keepdim=True)).sqrt()
        return {{"embedding": torch.cat([flat, height], 1)}}
'''


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    return splits.DataSource("toy", load("dataset", "toy").digest(), None, folder)


def job_of(source, path, ranking="hyperboloid", fold=0):
    file = path / "sheet.py"
    file.write_text(CODE.format(ranking=ranking), encoding="utf-8")
    cell = CellKey("id", "toy", "tiny", "adam", "sheet", "sheet")
    recipe = load("recipe", "adam")
    return Job(cell, PROTOCOL, recipe, "final", 0, fold, {}, source, "cpu", (file,), keep=True)


def test_folds_are_tested_and_joined_by_the_rule(source, tmp_path):
    outcomes = [execute(job_of(source, tmp_path, fold=fold)) for fold in (0, 1)]
    test = splits.open_test(source, PROTOCOL)
    parts = [unpack(outcome.vectors)["embeddings"] for outcome in outcomes]
    assert [part.shape for part in parts] == [(len(test), PROTOCOL.embedding_size + 1)] * 2
    for outcome, rows in zip(outcomes, parts, strict=True):
        alone = per_query(rows, test.labels, ranking="hyperboloid", recall_at=test.recall_at)
        assert outcome.record.test == alone.means()
    joined = join(JoinJob(PROTOCOL, source, tuple(o.vectors for o in outcomes)))
    rows = np.concatenate(parts, axis=1)
    given = {"ranking": "hyperboloid", "sheets": 2, "recall_at": test.recall_at}
    assert joined.metrics == per_query(rows, test.labels, **given).means()
    assert joined.metrics != per_query(rows, test.labels, recall_at=test.recall_at).means()


def test_what_cannot_be_compared_fails_its_run_in_words(source):
    """A fold's embeddings that are not finite: the join is a failure of a typed reason."""
    test = splits.open_test(source, PROTOCOL)
    rows = np.zeros((len(test), 4), np.float32)
    rows[1, 2] = np.inf
    vectors = pack_vectors({"embeddings": rows, "normalized": np.asarray(False)})
    fault = join(JoinJob(PROTOCOL, source, (vectors,)))
    assert fault.reason == "error"
    assert fault.detail.startswith(f"InvalidInputError: 1 of {len(test)} embeddings hold NaN")


def test_files_of_the_older_rules_say_what_they_said(source, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("benchmark.training.kept.tensors.pack", lambda _, facts: told.append(facts))
    monkeypatch.setattr("benchmark.training.job.kept.pack", lambda *a: pack(*a) or b"")
    for rule, flag in (("angle", True), ("distance", False), ("hyperboloid", False)):
        vectors = unpack(execute(job_of(source, tmp_path, rule)).vectors)
        new = {"ranking"} if rule == "hyperboloid" else set()
        assert vectors["normalized"].dtype == bool
        assert (bool(vectors["normalized"]), told[-1]["normalize"]) == (flag, flag)
        assert {"ranking"} & vectors.keys() == {"ranking"} & told[-1].keys() == new


def test_a_rule_that_is_none_is_refused_before_anything_starts(source, tmp_path):
    problem = first_look(job_of(source, tmp_path, "dot")).problem
    assert problem == "Sheet: ranking = 'dot', expected angle, distance, hyperboloid"
    assert not first_look(job_of(source, tmp_path)).problem
