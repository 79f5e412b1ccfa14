"""The report's answer, searches, agreement and oracle gap, on a made study; and hostile names."""

import re
from dataclasses import replace

import numpy as np
import pytest

from benchmark.report import gallery, page, rows, searches
from benchmark.report.answers import answers
from benchmark.report.charts import Mark, logarithmic
from benchmark.report.sections import VERDICTS, _opponents, sections
from benchmark.study.records import TrialRecord
from benchmark.tables.frames import make_tables
from protocols.space import Choice, Real, described, rebuilt
from tests.benchmark.report.test_page import (
    EVIL,
    NEAR,
    Page,
    add_pictures,
    add_run,
    html_of,
    make_study,
    queries_file,
)
from tests.measure_report import made_study
from tests.proven import put


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return made_study(tmp_path_factory.mktemp("made"), 6, seeds=6, trials=26, oracle_gap=True)


@pytest.fixture(scope="module")
def section(study):
    return next(sections(make_tables(study)))


@pytest.fixture(scope="module")
def html(study):
    return html_of(study)


# The answer


def pair(name, verdict, n=10, other="base"):
    mark = Mark(name, 1.0, 0.5, 1.5)
    return rows.Pair(other, mark, n, None if n < 6 else 0.01, "", verdict)


def answer_of(section, *compared, **changes):
    (found,) = answers([replace(section, pairs=compared, **changes)])
    return found


@pytest.mark.parametrize(
    ("verdicts", "reply"),
    [
        (["better", "worse", "inconclusive"], "Yes."),
        (["worse", "worse"], "No, all are worse."),
        (["equivalent"], "No, all are equivalent."),
        (["worse", "equivalent"], "No."),
        (["worse", "inconclusive"], "Not shown."),
    ],
)
def test_the_first_screen_answers_the_question(section, verdicts, reply):
    found = answer_of(section, *(pair(f"m{k}", v) for k, v in enumerate(verdicts)))
    assert (found.opponent, found.reply, found.why) == ("base", reply, "")
    assert list(found.groups) == [word for word in VERDICTS if word in verdicts]


def test_the_reference_is_no_answer(section):
    assert list(answers([replace(section, pairs=[pair("untrained", "")])])) == []
    found = answer_of(section, pair("a", "better"), pair("untrained", ""))
    assert (found.reply, list(found.groups)) == ("Yes.", ["better"])


def test_too_few_seeds_are_named(section):
    few = replace(pair("a", "not tested", n=2), spoken="not tested (needs 3 seeds)")
    found = answer_of(section, few)
    assert found.reply == "Not tested."
    assert found.why == "No comparison could be tested: not tested (needs 3 seeds)."
    assert answer_of(section, few, pair("b", "worse")).why == ""


def test_without_a_baseline_the_pairs_are_counted(section):
    found = answer_of(section, pair("a", "better", other="b"), pair("a", "inconclusive", other="c"))
    assert (found.opponent, found.reply) == (None, "1 of 2 pairs differ.")


def test_the_answer_stands_before_everything_else(html):
    text = Page(html).text
    assert text.index("Does anything beat m000 on data0 ?") < text.index("How to read it")
    assert text.index("Does anything beat") < text.index("has the highest mean MAP@R")


# Searches


def test_seconds_add_up_and_old_trials_have_none():
    spent = [{"seconds": 2.0}, {"seconds": 3.5}, {"seconds": 1.0}]
    trials = [
        TrialRecord("t", "c", k, {}, "done", 0.1, [], measured=m) for k, m in enumerate(spent)
    ]
    found = searches.read_search("a", trials, None)
    assert found.ends == [2.0, 5.5, 6.5]
    (chart,) = searches.by_seconds([found], None)
    assert [x for x, _ in chart.dots] == [2.0, 5.5, 6.5]
    old = searches.read_search("b", [*trials[:2], replace(trials[2], measured={})], None)
    assert old.ends is None
    assert searches.by_seconds([old], None) == ()


def test_a_failed_trial_costs_and_does_not_lead():
    trials = [
        TrialRecord("t", "c", 0, {}, "done", 0.1, [], measured={"seconds": 1.0}),
        TrialRecord("t", "c", 1, {}, "failed", 0.0, [], "oom", measured={"seconds": 9.0}),
        TrialRecord("t", "c", 2, {}, "done", 0.3, [], measured={"seconds": 1.0}),
    ]
    (chart,) = searches.by_seconds([searches.read_search("a", trials, None)], None)
    assert chart.thick == ((1.0, 10.0), (11.0, 30.0), (11.0, 30.0))
    assert chart.crosses == (10.0,)


def test_slices_stand_on_the_searched_scale():
    space = {"lr": Real(0.001, 10, default=1.0, log=True), "kind": Choice(("a", "b"), default="a")}
    given = [(0.1, "a", 0.2), (1.0, "b", 0.4)]
    trials = [
        TrialRecord("t", "c", k, {"lr": lr, "kind": kind}, "done", value, [])
        for k, (lr, kind, value) in enumerate(given)
    ]
    found = replace(
        searches.read_search("m", trials, None), space=rebuilt(described(space)), chosen=1
    )
    lr, kind = searches.slices(found)
    assert (lr.panel.x.log, lr.panel.x.at(0.1)) == (True, 50.0)
    assert [lr.panel.x.label(tick) for tick in lr.panel.x.ticks] == ["0.001", "0.1", "10"]
    assert lr.ring == (1.0, 40.0)
    assert [kind.panel.x.label(tick) for tick in kind.panel.x.ticks] == ["a", "b"]
    assert [x for x, _ in kind.dots] == [0.0, 1.0]


def test_a_narrow_log_range_is_labelled_at_its_ends():
    assert logarithmic(2, 9).ticks == (2, 9)


def test_importance_slices_and_edges_are_shown(html, section):
    text = Page(html).text
    assert "What mattered in the searches" in text
    assert len(section.searches) == 6
    for found in section.searches:
        shares = ", ".join(f"{name} {100 * s:.0f} %" for name, s in found.importance.items())
        assert f"{found.name} {shares or ', '.join(found.space)} · 26 trials" in text
    assert any(found.importance for found in section.searches)
    on_edge = [row.name for row in section.rows if row.edges]
    assert on_edge, "the made searches end on a bound somewhere"
    note = text.split("At the edge of the range:")[1].split("The best value may lie")[0]
    assert all(name in note for name in on_edge)
    assert html.count('class="edge"') == sum(len(row.edges) for row in section.rows)


# Validation, test and the oracle


def test_agreement_is_of_methods_that_train(section):
    found = section.agreement
    assert found.methods == 6
    assert "untrained" not in {point.name for point in found.scatter.points}
    assert found.rho == pytest.approx(1), "made: both rise with the method's number"
    for point in found.scatter.points:
        row = next(row for row in section.rows if row.name == point.name)
        assert point.y == row.scores["separated", "map_at_r"].mean


def test_the_oracle_gap_has_a_table_and_a_note(html, section, tmp_path):
    assert {gap.method for gap in section.agreement.gaps} == {row.name for row in section.rows}
    for gap in section.agreement.gaps:
        assert gap.gap == pytest.approx(0.3)
        assert gap.claimed - gap.selected == pytest.approx(gap.gap)
    text = Page(html).text
    assert "would have claimed up to +0.30 points more" in text
    alike = sum(gap.alike for gap in section.agreement.gaps)
    assert text.count(" alike") == alike == len(section.rows), "made: 0.3 at every seed"
    assert "The oracle gap was asked for" in text
    assert (
        "Test scores at other epochs were never computed"
        in Page(html_of(make_study(tmp_path))).text
    )


# Pictures of pairs


def test_the_two_best_and_the_best_against_the_baseline_are_compared():
    assert _opponents(["a", "b", "base", "c"], "base") == [
        ("base", "a"),
        ("b", "a"),
        ("base", "b"),
        ("base", "c"),
    ]
    assert _opponents(["base", "a"], "base") == [("base", "a")]
    assert _opponents(["a", "b"], None) == [("b", "a")]
    assert _opponents(["a"], "a") == []


# Links and hostile names


def test_every_link_leads_somewhere_in_every_kind_of_study(html, tmp_path):
    pages = [html, html_of(make_study(tmp_path / "one", {"base": 0.4}))]
    pages.append(html_of(make_study(tmp_path / "bare", {"raw": 0.3})))
    for content in pages:
        page = Page(content)
        ids = [a["id"] for _, a in page.tags if "id" in a]
        assert len(ids) == len(set(ids))
        assert {a["href"] for t, a in page.tags if t == "a"} <= {f"#{i}" for i in ids}


PNG = "data:image/png;base64,"
HOSTILE = [
    '"><svg onload=alert(1)>',
    "../../etc/passwd",
    "' onmouseover='alert(1)",
    EVIL,
    "a&amp;b",
]


def test_hostile_names_anywhere_are_text(tmp_path, monkeypatch):
    out = tmp_path / "deep" / "study"
    study = make_study(out, {"base": 0.4, **{name: 0.41 for name in HOSTILE}}, seeds=6)
    add_pictures(study, [9, 9, 0, 0, 0, 1, 1, 1])
    monkeypatch.setattr(gallery, "class_names", lambda *_: HOSTILE[:2])
    for number, key in enumerate(study.cells):
        value = [1, 1, 0.25 * (number % 3), 1, 0.5, 0.0]
        add_run(study, key, 0, 0.4, queries=queries_file(study, f"{number}.npz", NEAR, value))
        space = {name: Real(0.0, 1.0, default=0.1) for name in HOSTILE}
        settings = dict.fromkeys(HOSTILE, 1.0)
        choice = replace(study.choice(key), space=described(space), settings=settings)
        put(study, key, choice)
        rng = np.random.default_rng(number)
        for n in range(20):
            drawn = {name: float(rng.uniform()) for name in HOSTILE}
            trial = TrialRecord("t", key.id, n, drawn, "done", float(rng.uniform()), [0.1, 0.1])
            put(study, key, trial)
    page = Page(html_of(study))
    assert not page.open
    allowed = {"class", "id", "href", "src", "style", "title", "alt", "role", "scope", "loading"}
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "base", "link")
        assert not any(name.startswith("on") for name in attributes), attributes
        if tag in ("a", "img", "span", "b", "td", "th", "summary", "p", "div"):
            known = {n for n in attributes if not n.startswith(("aria-", "data-"))}
            assert known <= allowed | {"width", "height", "tabindex", "colspan", "rowspan"}
        assert (attributes.get("href") or "#").startswith("#")
        assert (attributes.get("src") or PNG).startswith(PNG)
    for name in HOSTILE:
        assert name in page.text
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["study"]


def test_hostile_names_name_no_file(tmp_path):
    study = make_study(tmp_path / "study", {"base": 0.4, "../../up": 0.41}, seeds=3)
    files = page.figures(make_tables(study))
    assert all(re.fullmatch(r"\d\d-[a-z_\d-]+\.(png|svg)", path.name) for path in files)
    assert [path.name for path in tmp_path.iterdir()] == ["study"]
    for path in files:
        if path.suffix == ".svg":
            assert "<script" not in path.read_text()
