"""Rows of a results folder against their baseline, as the leaderboard compares them."""

from dataclasses import replace

from benchmark.study.scores import HEADLINE
from benchmark.submissions.compared import against
from benchmark.submissions.kept import unchecked
from tests.benchmark.submissions.made_study import PROTOCOL, lay_out


def at_start(row):
    """Return a row whose folds all kept the model of step 0."""
    runs = {
        seed: run.model_copy(update={"best_steps": [0] * len(run.best_steps)})
        for seed, run in row.runs.items()
    }
    return replace(row, runs=runs)


def test_rows_that_never_trained_are_not_tested_here_either(tmp_path):
    methods = ("triplet", "ms", "margin")
    results = lay_out(tmp_path / "results", [("emoji", m) for m in methods])
    rows = [kept.row for kept in unchecked(results)]
    base, ms, margin = (next(r for r in rows if r.cell.method == m) for m in methods)
    whole = against([base, ms, margin], 0, PROTOCOL.seeds, HEADLINE)
    found = against([at_start(base), at_start(ms), margin], 0, PROTOCOL.seeds, HEADLINE)
    assert whole[1].verdict != "not tested"
    assert (found[1].verdict, found[1].needs, found[1].family) == ("not tested", None, 2)
    assert found[2].verdict == whole[2].verdict
