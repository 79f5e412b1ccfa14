"""Rows that were told more than images and labels: a mark, a block below, no verdict, no rank."""

from dataclasses import replace

import pytest

from benchmark.commands.detect import pilots
from benchmark.report.answers import answers
from benchmark.report.page import write
from benchmark.report.sections import sections
from benchmark.study.folder import CellKey, competes
from benchmark.tables.comparisons import across_rows
from benchmark.tables.frames import make_tables
from benchmark.tables.headlines import headlines
from tests.benchmark.tables.test_frames import PROTOCOL, make, pair

VALUES = {
    "triplet": [0.40, 0.42, 0.44],
    "ms": [0.31, 0.29, 0.30],
    "kin": [0.60, 0.62, 0.65],
    "untrained": [0.1, 0.11, 0.1],
}
TOLD = {"kin": "names"}


def cell(method, dataset="shapes", told=TOLD):
    made = CellKey(f"{method:_<8}{dataset}", dataset, "tiny", "adam", method, method)
    return replace(made, trains=method != "untrained", side=told.get(method, ""))


def study_of(out, datasets=("shapes",), told=TOLD, protocol=PROTOCOL):
    found = {cell(m, d, told): values for d in datasets for m, values in VALUES.items()}
    return make(out, found, protocol)


@pytest.fixture
def study(tmp_path):
    return study_of(tmp_path)


def test_the_best_of_all_stands_last_with_its_mark_and_why(study):
    (table,) = headlines(make_tables(study))
    assert [row[0] for row in table.rows] == [
        "triplet (baseline)",
        "ms",
        "untrained",
        "kin (told names)",
    ]
    said = "told: kin saw that of the training classes beside images and labels"
    assert said in table.caption
    (plain,) = headlines(make_tables(study_of(study.out / "plain", told={})))
    assert plain.rows[0][0] == "kin"
    assert "told" not in plain.caption


def test_it_is_outside_the_family(study):
    found = pair(study, "kin", "triplet")
    assert found.mean_difference == pytest.approx(0.203333, abs=1e-5)
    assert (found.family, found.verdict) == (None, None)
    judged = pair(study, "ms", "triplet")
    assert (judged.family, judged.family_size) == ("baseline", 1)
    counted = study_of(study.out / "plain", told={})
    assert pair(counted, "kin", "triplet").family == "baseline"
    assert pair(counted, "ms", "triplet").family_size == 2


def test_it_is_outside_all_pairs_too(tmp_path):
    study = study_of(tmp_path, protocol=replace(PROTOCOL, baseline="none"))
    assert pair(study, "ms", "triplet").family == "all pairs"
    assert pair(study, "kin", "ms").family is None


def test_a_baseline_may_be_told(tmp_path):
    told = {"triplet": "names", "kin": "names"}
    study = study_of(tmp_path, told=told)
    assert pair(study, "ms", "triplet").family == "baseline"
    assert competes(cell("triplet", told=told), PROTOCOL)
    assert not competes(cell("kin"), PROTOCOL)


def test_ranks_across_datasets_are_of_the_others(tmp_path):
    study = study_of(tmp_path, ("shapes", "other"))
    tables = make_tables(study)
    methods = {row["method"] for row in across_rows(tables.cells, PROTOCOL)}
    assert methods == {"triplet", "ms", "untrained"}


def test_power_is_planned_for_the_others(study):
    (found,) = pilots(study)
    assert "kin" not in str(found)
    assert "ms" in str(found)


def test_the_report_answers_without_it_and_says_why(study):
    tables = make_tables(study)
    (section,) = sections(tables)
    assert section.heading.startswith("triplet has the highest mean")
    assert [row.name for row in section.table] == ["triplet", "ms", "untrained", "kin"]
    assert {row.name: row.role for row in section.rows}["kin"] == "told names"
    (answer,) = answers([section])
    assert "kin" not in str(answer.groups)
    assert not any("kin" in (pair.mark.name, pair.other) for pair in section.pairs)
    page = write(tables).read_text(encoding="utf-8")
    assert '<span class="tag">told names</span>' in page
    assert 'href="#note-told"' in page
    assert page.count('id="note-told"') == 1
    plain = write(make_tables(study_of(study.out / "plain", told={}))).read_text(encoding="utf-8")
    assert "note-told" not in plain
