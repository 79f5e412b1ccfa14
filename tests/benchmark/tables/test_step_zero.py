"""What people read where final runs kept the model of step 0: that nothing was trained."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmark.report.answers import answers
from benchmark.report.page import render
from benchmark.report.sections import sections
from benchmark.study.folder import CellKey
from benchmark.tables.formats import to_format
from benchmark.tables.frames import looked_at, make_tables
from tests.benchmark.tables.test_frames import PROTOCOL, make, pair, shown
from tests.proven import put

SAID = "kept the untrained model (step 0), as no later validation was better: "
BASE = [0.40, 0.42, 0.44]
TRAINED, START = [[10, 20]] * 3, [[0, 0]] * 3


def key(method, dataset="shapes"):
    trains = method != "untrained"
    return CellKey(f"{method:_<8}{dataset}", dataset, "tiny", "adam", method, method, trains=trains)


def study_of(out, kept, protocol=PROTOCOL, dataset="shapes", **values):
    """Write a study in which the folds of each run kept the models of these steps, by method."""
    cells = {key(m, dataset): values.get(m, BASE) for m in kept}
    study = make(out, cells, protocol)
    for cell in cells:
        for run, steps in zip(study.runs(cell), kept[cell.method], strict=True):
            put(study, cell, replace(run, best_steps=steps))
    return study


def flat(text):
    return " ".join(text.split())


def test_a_footnote_counts_the_folds_that_never_trained(tmp_path):
    kept = {"triplet": TRAINED, "fence": START, "ms": [[0, 20], [10, 0], [10, 10]]}
    study = study_of(tmp_path, {**kept, "untrained": START})
    tables, said = make_tables(study), f"{SAID}fence in 6 of 6 folds, ms in 2 of 6"
    assert flat(shown(study)).endswith(said), "the reference does not train"
    assert said in flat(to_format(tables, "md")["headline.md"].decode())
    assert said in flat(to_format(tables, "latex")["headline.tex"].decode())
    assert f"{said}." in flat(render(tables))


def test_without_such_a_fold_there_is_no_footnote(tmp_path):
    study = study_of(tmp_path, {"triplet": TRAINED, "ms": TRAINED, "untrained": START})
    assert "kept the untrained model" not in shown(study) + render(make_tables(study))


def test_runs_that_failed_and_old_records_kept_nothing(tmp_path):
    failed = [[0, None], [20, 20], [0, 10]]
    study = study_of(
        tmp_path, {"triplet": TRAINED, "ms": failed, "old": [[]] * 3}, ms=["oom", 0.4, 0.4]
    )
    assert f"{SAID}ms in 1 of 4 folds" in flat(shown(study))


def test_each_table_has_its_own_footnote(tmp_path):
    cells = {key(m, d): BASE for m in ("triplet", "ms") for d in ("shapes", "tints")}
    study = make(tmp_path, cells, replace(PROTOCOL, datasets=("shapes", "tints")))
    for run in study.runs(key("ms", "tints")):
        put(study, key("ms", "tints"), replace(run, best_steps=[0, 20]))
    here, there = to_format(make_tables(study), "md")["headline.md"].decode().split("**tints", 1)
    assert "kept the untrained model" not in here
    assert f"{SAID}ms in 3 of 6 folds" in flat(there)


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_two_untrained_rows_are_not_told_to_add_seeds(tmp_path, seeds):
    """Equal runs would need 7 seeds to be called equivalent; no seed makes these any telling."""
    base = np.linspace(0.40, 0.44, seeds).tolist()
    kept = {"triplet": [[0, 0]] * seeds, "fence": [[0, 0]] * seeds}
    protocol = replace(PROTOCOL, seeds=seeds)
    study = study_of(tmp_path, kept, protocol, triplet=base, fence=base)
    row, text = pair(study, "fence", "triplet"), flat(shown(study, 130))
    assert (row.verdict, row.untested, row.family_size) == ("not tested", "both untrained", 1)
    assert pd.isna(row.needs_seeds)
    assert np.isnan([row.p_holm, row.p_equivalent, row.ci_low_family]).all()
    assert "? not tested (both untrained)" in text
    assert "needs" not in text
    tables = make_tables(study)
    assert "? not tested (both untrained)" in render(tables)
    (answer,) = answers(list(sections(tables)))
    assert answer.why == "No comparison could be tested: not tested (both untrained)."
    assert looked_at(tables).looks.seen == ()


def test_one_trained_fold_on_either_side_is_a_comparison(tmp_path):
    kept = {"triplet": START, "fence": [[0, 0], [0, 0], [0, 10]], "ms": TRAINED, "proxy": START}
    study = study_of(tmp_path, kept)
    found = {m: pair(study, m, "triplet") for m in ("fence", "ms", "proxy")}
    assert {m: row.untested for m, row in found.items()} == {
        "fence": None,
        "ms": None,
        "proxy": "both untrained",
    }
    assert {row.family_size for row in found.values()} == {3}, "it stays in the family"
    assert pair(study, "fence", "ms").untested is None, "outside the family nothing is judged"


def test_a_baseline_that_never_trains_is_taken_as_it_is(tmp_path):
    protocol = replace(PROTOCOL, baseline="untrained", reference="other")
    low = [0.30, 0.31, 0.35]
    study = study_of(tmp_path, {"untrained": START, "ms": START}, protocol, ms=low)
    row = pair(study, "ms", "untrained")
    assert (row.verdict, row.untested) == ("worse", None)
