"""Tables of a trunk with weights: what it does as it is, in a block above what was trained."""

import math
from dataclasses import replace

import pytest
from scipy import stats

from benchmark.report.answers import answers
from benchmark.report.sections import sections
from benchmark.statistics.paired import FIXED
from benchmark.study.folder import CellKey
from benchmark.tables.frames import make_tables
from benchmark.tables.headlines import headlines
from tests.benchmark.tables.test_frames import PROTOCOL, make, pair

TRUNK = "tiny+made"
VALUES = {
    "triplet": [0.40, 0.42, 0.44],
    "ms": [0.31, 0.29, 0.30],
    "group": [0.20, 0.22, 0.21],
    "pretrained": [0.25, None, None],
    "lda": [0.32, None, None],
}


def cell(method, dataset="shapes", trunk=TRUNK):
    trains = method not in ("lda", "pretrained", "untrained")
    return CellKey(f"{method:_<8}{dataset}", dataset, trunk, "adam", method, method, trains=trains)


def study_of(out, values=VALUES, datasets=("shapes",), protocol=PROTOCOL):
    cells = {cell(m, d): found for d in datasets for m, found in values.items()}
    return make(out, cells, protocol)


@pytest.fixture
def study(tmp_path):
    return study_of(tmp_path)


def main(frame, method):
    rows = frame[(frame.metric == "map_at_r") & (frame.embedding == "concatenated")]
    return rows[rows.method == method].iloc[0]


def test_a_fixed_row_has_one_run_and_no_interval(study):
    tables = make_tables(study)
    found = main(tables.summary, "lda")
    assert (found.n, found["mean"], found.ci_kind) == (1, pytest.approx(0.32), FIXED)
    assert math.isnan(found.ci_low)
    assert math.isnan(found.sd)
    assert list(tables.runs[tables.runs.method == "lda"].status) == ["done"]
    assert main(tables.summary, "ms").ci_kind == "t 95%"


def test_equal_runs_of_an_earlier_version_are_no_evidence_either(tmp_path):
    found = main(make_tables(study_of(tmp_path, {"lda": [0.32] * 3})).summary, "lda")
    assert (found.n, found.ci_kind) == (1, FIXED)


def test_on_a_random_trunk_runs_differ_and_have_an_interval(tmp_path):
    key = cell("untrained", trunk="tiny")
    found = main(make_tables(make(tmp_path, {key: [0.1, 0.11, 0.12]})).summary, "untrained")
    assert (found.n, found.ci_kind) == (3, "t 95%")


def test_differences_to_a_fixed_row_are_one_sample(study):
    found = pair(study, "ms", "lda") if "lda" > "ms" else pair(study, "lda", "ms")
    theirs = stats.ttest_1samp([0.32 - v for v in VALUES["ms"]], 0)
    ends = theirs.confidence_interval(0.95)
    assert (found.n, found.ci_kind, found.family) == (3, "t 95%", None)
    assert found.mean_difference == pytest.approx(0.02)
    assert (found.ci_low, found.ci_high) == pytest.approx((ends.low, ends.high))
    assert found.p_t == pytest.approx(theirs.pvalue)
    both = pair(study, "lda", "pretrained")
    assert (both.n, both.ci_kind) == (1, FIXED)
    assert math.isnan(both.ci_low)


def test_a_baseline_may_be_fixed(tmp_path):
    values = {"lda": [0.3], "ms": [0.35, 0.352, 0.354, 0.35, 0.353, 0.351]}
    study = study_of(tmp_path, values, protocol=replace(PROTOCOL, baseline="lda", seeds=6))
    found = pair(study, "ms", "lda")
    assert (found.family, found.family_size, found.verdict) == ("baseline", 1, "better")
    assert found.mark == "unequal spread"
    assert found.p_holm > found.p_t  # a constant has no noise that could cancel a skew


def test_the_block_stands_above_and_the_caption_says_who_lies_below(study):
    (table,) = headlines(make_tables(study))
    names = [row[0] for row in table.rows]
    frozen = ["lda (frozen)", "pretrained (frozen)"]
    assert names == [*frozen, "triplet (baseline)", "ms", "group"]
    assert [row[-2] for row in table.rows] == ["1/1", "1/1", "3/3", "3/3", "3/3"]
    assert f"{FIXED}, one run: lda, pretrained" in table.caption
    assert "± t 95%; n = 3" in table.caption
    best = "lda: best of 2 rows on the untrained trunk"
    said = f"{best}, not in the family of tests, not below group, ms"
    assert said in table.caption
    assert "verdicts: paired t, Holm over 2 comparisons" in table.caption


def test_across_datasets_a_fixed_row_has_a_mean_without_interval(tmp_path):
    study = study_of(tmp_path, datasets=("shapes", "other"))
    frame = make_tables(study).across
    lda = main(frame, "lda")
    assert (lda["mean"], lda.ci_kind) == (pytest.approx(0.32), FIXED)
    assert math.isnan(lda.mean_ci_low)
    assert lda.gain == pytest.approx(-0.1)
    assert lda.gain_ci_low < lda.gain < lda.gain_ci_high  # the baseline's runs spread
    alone = study_of(tmp_path / "alone", {"lda": [0.3], "pretrained": [0.2]}, ("shapes", "other"))
    alone = main(make_tables(alone).across, "lda")
    assert alone["mean"] == pytest.approx(0.3)
    assert math.isnan(alone["rank"])  # it competes with nothing


def test_the_first_answer_of_the_report_names_who_lies_below(study):
    (answer,) = answers(list(sections(make_tables(study))))
    assert answer.frozen == (
        "2 of 3 trained methods lie below lda (32.00 % MAP@R), the best that the trunk does "
        "untrained (by means, not tested): ms, group."
    )


def test_it_is_said_also_where_nothing_is_compared(tmp_path):
    values = {"triplet": VALUES["triplet"], "lda": [0.32]}
    (answer,) = answers(list(sections(make_tables(study_of(tmp_path, values)))))
    assert (answer.reply, answer.groups) == ("Nothing is compared yet.", {})
    assert answer.frozen.startswith("0 of 1 trained methods lie below lda")
