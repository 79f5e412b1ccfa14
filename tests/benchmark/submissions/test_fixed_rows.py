"""Rows of results/ in which nothing is drawn: how many runs they have, and what a rerun says."""

from types import SimpleNamespace

import pytest

from benchmark.submissions import judging
from benchmark.submissions.read import Rerun, SubmittedRow


def cell(weights="sha256:0", reference=False, seeds=3, drawn=False):
    made_of = SimpleNamespace(weights=weights, trunk_drawn=drawn)
    return SimpleNamespace(made_of=made_of, is_reference=reference, seeds=seeds)


def run(value=0.3, trained=0, sha="a"):
    scores = SimpleNamespace(map_at_r=value)
    return SimpleNamespace(
        counts={"images_trained": trained}, concatenated=scores, embeddings_sha256=sha
    )


def row(*runs, **about):
    return SubmittedRow(runs=dict(enumerate(runs)), cell=cell(**about), claim=claim("a"))


def claim(who):
    return SimpleNamespace(who=who)


@pytest.mark.parametrize(
    ("trained", "about", "asked"),
    [
        (0, {}, 1),
        (0, {"weights": "none"}, 3),  # a random trunk is another for each seed
        (640, {}, 3),
        (0, {"drawn": True}, 3),  # prompts beside the weights too
    ],
)
def test_runs_that_a_row_must_have(trained, about, asked):
    assert row(run(trained=trained), **about).runs_asked == asked


def test_one_run_that_trained_makes_it_a_row_of_seeds():
    assert not row(run(), run(trained=640)).untrained


@pytest.mark.parametrize(
    ("values", "outcome"),
    [([0.3], "confirms"), ([0.3004], "confirms"), ([0.31], "undecided"), ([0.31, 0.32], "refutes")],
)
def test_one_rerun_confirms_a_row_of_one_run(values, outcome):
    runs = {seed: run(value) for seed, value in enumerate(values)}
    assert judging.judge(row(run()), Rerun(runs, challenge=claim("b"))) == outcome
