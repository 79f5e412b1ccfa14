"""The table of chosen settings, in words."""

import pytest

from benchmark.report import settings
from benchmark.report.charts import Mark
from benchmark.report.rows import MethodRow
from benchmark.report.searches import read_search
from benchmark.study.folder import CellKey
from benchmark.study.records import ChoiceRecord, TrialRecord
from benchmark.study.scores import NOTHING
from protocols.space import Real, described

SPACE = described({"Beta": Real(0.0, 1.0, default=0.5), "alpha": Real(0.1, 10, default=1)})


def a_row(choice=None, trains=True, searched=True):
    key = CellKey("c", "shapes", "tiny", "adam", "ms", "ms", trains, searched)
    trials = [TrialRecord("t", "c", 0, {}, "done", 0.25, [0.25])] if searched else []
    return MethodRow(key, "", [], choice, {}, trials, {}, Mark("ms", None), "", "", 1)


def choose(chosen, trial=0, value=0.25):
    return ChoiceRecord("x", "c", "rule", trial, chosen, value, SPACE)


def test_settings_come_in_order_with_the_bounds_they_lie_on():
    row = a_row(choose({"alpha": 10.0, "Beta": 0.123456}))
    (line,) = settings.chosen([row])
    assert (line.trial, line.trials, line.validation) == ("trial 0", "of 1", "25.00")
    assert [(s.name, s.value, s.edges) for s in line.settings] == [
        ("alpha", "10", ("upper bound 10",)),
        ("Beta", "0.1235", ()),
    ]
    assert line.why == ""
    assert settings.at_the_edge([row, row]) == "; ".join(["ms alpha = 10 (upper bound 10)"] * 2)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (a_row(), "not chosen yet"),
        (a_row(choose({}, None, None), searched=False), "nothing to search"),
        (a_row(choose({}, None, None), trains=False, searched=False), "untouched trunk"),
        (a_row(choose({}, None, None)), NOTHING),
    ],
)
def test_where_nothing_was_chosen_stands_why(row, why):
    (line,) = settings.chosen([row])
    assert line.settings == ()
    assert line.why.startswith(why)
    assert (line.trial, line.validation) == (NOTHING, NOTHING)
    assert settings.at_the_edge([row]) == ""


def test_few_trials_are_told_by_names_and_seconds_alone():
    trials = [
        TrialRecord("t", "c", n, {}, "done", 0.25, [0.25], measured={"seconds": 700.0})
        for n in range(2)
    ]
    searched = read_search("ms", trials, choose({"alpha": 1.0}))
    assert settings.what_mattered(searched) == "Beta, alpha · 2 trials, 1,400 s"
    assert settings.sliced([searched]) == ("Single hyperparameters in the searches", [searched])
    assert settings.sliced([read_search("ms", [], None)])[1] == []
