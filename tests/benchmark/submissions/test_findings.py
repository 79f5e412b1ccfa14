"""What a study found, from its rows alone: every figure made again from the files by hand."""

import csv
import json
import re
from dataclasses import replace
from itertools import product
from statistics import fmean, median

import numpy as np
import pytest
from scipy import stats

from benchmark.study.scores import MARKS
from benchmark.submissions import leaderboard
from benchmark.submissions.findings import chosen, cost, page, said, screen
from benchmark.submissions.findings.cost import Cost
from benchmark.submissions.findings.exchanged import exchanges
from benchmark.submissions.findings.parts import parts
from benchmark.submissions.findings.places import places
from benchmark.submissions.findings.spread import gaps, spreads
from benchmark.submissions.findings.studies import Study, studies
from benchmark.submissions.front import first_of, lines_of
from benchmark.submissions.kept import unchecked
from benchmark.submissions.verify import examine
from benchmark.submissions.watched import Watched, WatchedFold
from tests.benchmark.rows import edit
from tests.benchmark.submissions.made_study import PROTOCOL, lay_out, study_of

DATASETS = ("emoji", "kanji", "objects")
METHODS = ("triplet", "ms", "contrastive", "proxy_anchor")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    rows = [(dataset, method) for dataset in DATASETS for method in METHODS]
    return lay_out(tmp_path_factory.mktemp("made") / "results", [*rows, ("kanji", "group")])


@pytest.fixture(scope="module")
def study(results):
    return study_of(results)


def parts_of(study):
    return parts(study, places(study))


def values(results, dataset, method):
    """Return MAP@R of the joined embedding by seed, from the files."""
    paths = sorted((results / "box" / dataset / method).glob("seed-*.json"))
    return np.array([json.loads(p.read_text())["concatenated"]["map_at_r"] for p in paths])


def trials(results, dataset, method):
    lines = (results / "box" / dataset / method / "trials.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def board(results):
    with (results / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [r for r in rows if (r["embedding"], r["metric"]) == ("concatenated", "map_at_r")]


def test_the_first_table_holds_every_mean_interval_and_mark(results, study):
    text = screen.table(study, places(study))
    assert max(map(len, text.splitlines())) <= 80
    assert "the luck of a search is not in the ±" in " ".join(text.split())
    marks = {(r["dataset"], r["method"]): MARKS.get(r["verdict"], "") for r in board(results)}
    for method in METHODS:
        (line,) = re.findall(rf"^{method} .*$", text, flags=re.MULTILINE)
        expected = []
        for dataset in DATASETS:
            own = 100 * values(results, dataset, method)
            half = stats.t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / np.sqrt(len(own))
            expected += [f"{own.mean():.2f}", f"±{half:.2f}", marks[dataset, method]]
        assert line.split()[1:-1] == [word for word in expected if word]


def test_a_method_without_a_dataset_has_a_dash_and_no_rank(study):
    (line,) = re.findall(r"^group .*$", screen.table(study, places(study)), flags=re.MULTILINE)
    assert line.count("–") == 3  # two datasets and the rank
    (own,) = (s for s in places(study) if s.method == "group")
    assert own.rank is None
    assert own.across["note"] == "no row on emoji, objects"
    (ranks,) = (p for p in parts_of(study) if p.slug == "ranks")
    assert "Without a rank: group (no row on emoji, objects)." in ranks.note


def test_ranks_are_those_of_the_means(results, study):
    means = np.array([[values(results, d, m).mean() for m in METHODS] for d in DATASETS])
    expected = stats.rankdata(-means, axis=1).mean(axis=0)
    found = {s.method: s.rank for s in places(study) if s.rank is not None}
    assert found == pytest.approx(dict(zip(METHODS, expected, strict=True)))
    assert [s.rank for s in places(study)][: len(METHODS)] == sorted(found.values())


def test_the_sentence_counts_the_leaderboards_verdicts(results, study):
    verdicts = {
        m: [r["verdict"] for r in board(results) if r["method"] == m]
        for m in METHODS
        if m != "triplet"
    }
    every = [m for m, own in verdicts.items() if own.count("better") == 3]
    none = [m for m, own in verdicts.items() if "better" not in own]
    text = said.found(study)
    assert f"Of 3 methods with a whole row on all 3 datasets, {len(every)} beat" in text
    assert f"{3 - len(every) - len(none)} on some and {len(none)} on none" in text
    all_of_them = [v for own in verdicts.values() for v in own]
    decided = [all_of_them.count(word) for word in ("better", "worse", "equivalent")]
    assert f"Their 9 comparisons: {decided[0]} better, {decided[1]} worse" in text
    assert f"{9 - sum(decided)} inconclusive or not tested." in text


def test_seeds_spread_a_row_by_the_standard_deviation_of_its_runs(results, study):
    for own in spreads(study):
        found = values(results, own.dataset, own.method)
        assert own.seed == pytest.approx(found.std(ddof=1))
        half = stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
        assert own.mean == pytest.approx(half)
        assert own.search is None
    row = next(r for r in board(results) if (r["dataset"], r["method"]) == ("kanji", "ms"))
    (own,) = (s for s in spreads(study) if (s.dataset, s.method) == ("kanji", "ms"))
    half = (float(row["test_ci_high"]) - float(row["test_ci_low"])) / 2
    assert own.classes == pytest.approx(half, abs=1e-6)


def test_the_two_medians_over_rows_are_of_the_same_runs(results):
    """A half-width is of a row's own runs, so the deviation beside it is of these alone."""
    found = study_of(results)
    far = found.by_method["proxy_anchor"]["kanji"].row  # other numbers
    for own in found.contestants.values():
        for entry in own.values():
            entry.row.further.append(replace(far, cell=entry.cell, further=[]))
    places_of = [(d, m) for d in DATASETS for m in METHODS] + [("kanji", "group")]
    middle = 100 * median(values(results, *place).std(ddof=1) for place in places_of)
    half = stats.t.ppf(0.975, 9) * middle / np.sqrt(10)
    assert (
        f"a standard deviation of {middle:.2f} points between seeds; the 95 % interval of a mean "
        f"over seeds is ±{half:.2f}"
    ) in said.moved(found)


def verdicts_by_hand(runs, base):
    """Return verdicts by paired t-tests under Holm, equivalence within half a point first."""
    names = list(runs)
    gaps = np.array([runs[name] - base for name in names])
    error = gaps.std(axis=1, ddof=1) / np.sqrt(gaps.shape[1])
    mean, free = gaps.mean(axis=1), gaps.shape[1] - 1
    differ = holm(2 * stats.t.sf(abs(mean) / error, free))
    alike = holm(stats.t.sf((0.005 - abs(mean)) / error, free))
    words = np.where(mean > 0, "better", "worse")
    words = np.where(differ <= 0.05, words, "inconclusive")
    return dict(zip(names, np.where(alike <= 0.05, "equivalent", words).tolist(), strict=True))


def holm(p):
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(1.0, stepped)[np.argsort(order)]


def searched_again(row, runs):
    """Return a further search of ``row`` whose runs score ``runs``."""
    made = {}
    for seed, run in row.runs.items():
        scores = run.concatenated.model_copy(update={"map_at_r": float(runs[seed])})
        made[seed] = run.model_copy(update={"concatenated": scores})
    return replace(row, runs=made, further=[])


def test_verdicts_under_other_searches_of_the_baseline(results):
    found = study_of(results)
    assert list(exchanges(found)) == []
    assert "searches:" not in said.moved(found)
    entry = found.by_method["triplet"]["emoji"]
    own = values(results, "emoji", "triplet")
    others = {m: values(results, "emoji", m) for m in METHODS if m != "triplet"}
    near = others["ms"] + np.random.default_rng(0).normal(0, 0.001, len(own))
    low = own - 0.3
    entry.row.further.extend(searched_again(entry.row, runs) for runs in (near, low))
    (exchange,) = exchanges(found)
    assert (exchange.dataset, exchange.searches) == ("emoji", 3)
    expected = [verdicts_by_hand(others, base) for base in (own, near, low)]
    assert {m: list(v) for m, v in exchange.verdicts.items()} == {
        m: [own[m] for own in expected] for m in others
    }
    marks = {(r["dataset"], r["method"]): r["verdict"] for r in board(results)}
    assert {m: v[0] for m, v in exchange.verdicts.items()} == {m: marks["emoji", m] for m in others}
    moved = [m for m in exchange.verdicts if len({own[m] for own in expected}) > 1]
    assert list(exchange.verdicts["ms"])[1:] == ["equivalent", "better"]
    verb = "is" if len(moved) == 1 else "are"
    assert said.moved(found).endswith(
        f" {len(moved)} of 3 verdicts against triplet on emoji {verb} not the same under all of "
        f"its 3 searches: {', '.join(moved)}."
    )
    del entry.row.further[-1].runs[9]
    (exchange,) = exchanges(found)
    assert exchange.searches == 2, "a search that lost a run is not exchanged"


def test_what_searching_was_worth(results, study):
    gains, drops, defaults = [], [], 0
    for entry in study.entries:
        own = trials(results, entry.cell.dataset, entry.method)
        best = max(own, key=lambda t: (t["value"], -t["number"]))
        defaults += best["number"] == 0
        if best["number"] == 0:
            continue
        gains.append(best["value"] - own[0]["value"])
        paths = sorted((results / "box" / entry.cell.dataset / entry.method).glob("seed-*.json"))
        again = [json.loads(path.read_text())["validation"]["map_at_r"] for path in paths]
        drops.append(best["value"] - np.mean(again))
    worth = chosen.worth(study)
    assert (worth.searches, worth.defaults) == (len(study.entries), defaults)
    assert worth.gain == pytest.approx(median(gains))
    assert worth.drop == pytest.approx(median(drops))
    side = "lower" if worth.drop >= 0 else "higher"
    told = f"chosen settings validate {100 * abs(median(drops)):.2f} points {side} in the median."
    assert told in said.searching(study)


def test_how_often_settings_drawn_evenly_lie_on_one_side():
    """Against ten thousand draws by the scale that a search draws on."""
    from protocols.space import Choice, Integer, Real

    rng = np.random.default_rng(0)
    every = [
        [Real(0.0, 1.0, default=0.1), Real(0.0, 1.0, default=0.3)],
        [Real(1e-6, 1.0, default=0.01, log=True)] * 3,
        [Integer(1, 10, default=10)] * 3,
        [Integer(16, 512, default=64, log=True)] * 2,
    ]
    for parameters in every:
        drawn = np.array([[p.at(s) for s in rng.random(10_000)] for p in parameters])
        moved = drawn - np.array([[p.default] for p in parameters])
        met = ((moved > 0).all(axis=0) | (moved < 0).all(axis=0)).mean()
        assert chosen._chance(parameters) == pytest.approx(met, abs=0.02)
    assert chosen._chance([every[0][0], Choice(("a", "b"), default="a")]) is None


def test_settings_on_one_side_are_counted_with_what_chance_gives(results, study):
    found = [line for line in chosen.lines(study) if line.chance is not None]
    own = {m: [study.by_method[m][d].cell.chosen.trial for d in DATASETS] for m in METHODS}
    assert {line.method for line in found} == {m for m, trials in own.items() if all(trials)}
    assert {line.method for line in found} <= set(METHODS)  # group lacks two datasets
    met = 0
    for line in found:
        moved = [own[0].value - own[0].default for own in line.chosen.values()]
        met += min(moved) > 0 or max(moved) < 0
    sides = chosen.one_sided(chosen.lines(study))
    assert (sides.settings, sides.met) == (len(found), met)
    assert sides.expected == pytest.approx(sum(line.chance for line in found))
    assert f"Of {len(found)} numeric settings whose searches chose" in said.searching(study)


def test_a_default_on_a_bound_is_not_counted_as_a_choice_of_it(results):
    found = study_of(results)
    before = chosen.worth(found).on_edge
    entry = found.by_method["ms"]["emoji"]
    entry.cell.chosen.settings.update(alpha=entry.space["alpha"].high)
    assert chosen.worth(found).on_edge == before + 1
    entry.space["alpha"] = entry.space["alpha"].starting_at(entry.space["alpha"].high)
    assert chosen.worth(found).on_edge == before


def test_chosen_settings_and_what_they_have_in_common(results, study):
    found = {(line.method, line.name): line for line in chosen.lines(study)}
    line = found["triplet", "margin"]
    for dataset, (own,) in line.chosen.items():
        cell = json.loads((results / "box" / dataset / "triplet" / "cell.json").read_text())
        assert own.value == cell["chosen"]["settings"]["margin"]
    default, picked = line.default, [own.value for (own,) in line.chosen.values()]
    above, below = all(v > default for v in picked), all(v < default for v in picked)
    side = "above" if above else "below"
    assert line.common == f"{side} the default on all 3" * (above or below)
    assert {m for m, _ in found} == {*METHODS, "group"}


@pytest.mark.parametrize(
    ("parameter", "picked", "expected"),
    [
        ("Real", [0.5, 0.5], "the default on all 2"),
        ("Real", [0.7, 0.9], "above the default on all 2"),
        ("Real", [0.1, 0.4], "below the default on all 2"),
        ("Real", [0.0, 0.0], "the same on all 2"),
        ("Real", [0.0, 0.001], "the lower bound on all 2"),
        ("Real", [0.2, 0.9], ""),
        ("Real", [0.9], ""),
        ("Choice", ["a", "a"], "the same on all 2"),
        ("Choice", ["a", "b"], ""),
    ],
)
def test_what_choices_have_in_common(parameter, picked, expected):
    from protocols.space import Choice, Real

    own = Real(0.0, 1.0, default=0.5) if parameter == "Real" else Choice(("a", "b"), default="b")
    edges = ["lower" if v in (0.0, 0.001) else "" for v in picked]
    made = [chosen.Value(v, own.default, e) for v, e in zip(picked, edges, strict=True)]
    assert chosen._common(own, made, len(made), 2) == expected
    if expected:
        assert chosen._common(own, made, len(made), 4) == expected.replace("all 2", "the 2 it has")


def test_defaults_are_those_of_each_dataset():
    from protocols.space import Real

    own = Real(0.0, 1.0, default=0.5)
    made = [chosen.Value(0.6, 0.5), chosen.Value(0.6, 0.7)]
    assert chosen._common(own, [*made, chosen.Value(0.9, 0.5)], 3, 3) == ""
    assert chosen._one([0.5, 0.7]) == "differs"
    assert chosen._one([0.5, 0.5]) == 0.5


def test_the_front_is_the_one_set_that_beats_all_others_and_none_of_its_own():
    """Every set of six methods is tried: one alone has no beaten member and beats all others."""
    rng = np.random.default_rng(0)
    sets = [np.array(inside, bool) for inside in product((False, True), repeat=6)]
    broken = 0  # studies in which methods alike in pairs make a chain
    for _ in range(200):
        scores, seconds = rng.integers(0, 4, 6), 10 * 1.03 ** rng.integers(0, 6, 6)
        higher, same = scores[:, None] > scores, scores[:, None] == scores
        beats = higher & (seconds[:, None] <= 1.05 * seconds)
        beats |= same & (1.05 * seconds[:, None] < seconds)
        good = [own for own in sets if np.array_equal(beats[own].any(axis=0), ~own)]
        (expected,) = good
        every = zip(map(str, range(6)), scores.tolist(), seconds.tolist(), strict=True)
        made = [Cost(name, score, took, 1.0) for name, score, took in every]
        for order in (made, made[::-1]):
            found = {own.method for own in cost.front(order)}
            assert found == {str(n) for n in np.flatnonzero(expected)}
        broken += not np.array_equal(expected, ~beats.any(axis=0))
    assert broken, "no method here is beaten by methods off the front alone"


def test_a_method_that_none_on_the_front_beats_is_on_it():
    """Seconds and means of ``results/box``: the second beats the first, the third the second."""
    made = [
        Cost("a", 0.1683, 7.12, 1.0),
        Cost("b", 0.1707, 7.36, 1.0),
        Cost("c", 0.1759, 7.54, 1.0),
    ]
    assert [own.method for own in cost.front(made)] == ["c", "a"]


def test_costs_are_those_of_the_files(results, study):
    for own in cost.costs(study):
        folders = [results / "box" / dataset / own.method for dataset in DATASETS]
        cells = [json.loads((folder / "cell.json").read_text()) for folder in folders]
        seconds = sum(cell["took"]["cpu_s"] for cell in cells)
        trainings = sum(2 * len(trials(results, d, own.method)) for d in DATASETS)
        trainings += sum(2 * len(list(folder.glob("seed-*.json"))) for folder in folders)
        assert own.hours == pytest.approx(seconds / 3600)
        assert own.training_s == pytest.approx(seconds / trainings)
        expected = fmean(values(results, d, own.method).mean() for d in DATASETS)
        assert own.mean == pytest.approx(expected)
    assert {own.method for own in cost.costs(study)} == set(METHODS)


def test_rows_that_do_not_tell_what_they_took_have_no_costs(results):
    found = study_of(results)
    assert cost.measure_of(found) == "cpu_s"
    rows = [entry.row for own in found.whole.values() for entry in own.values()]
    for row in rows:
        row.cell = row.cell.model_copy(
            update={"took": row.cell.took.model_copy(update={"gpu_s": 7.0})}
        )
    assert cost.measure_of(found) == "gpu_s"
    assert {own.hours for own in cost.costs(found)} == {3 * 7.0 / 3600}
    rows[0].cell = rows[0].cell.model_copy(update={"took": None})
    assert cost.measure_of(found) is None
    assert "cost" not in {part.slug for part in parts_of(found)}


def test_the_page_is_made_of_the_rows_and_verify_sees_another(results):
    path = results / "box" / page.FILE
    assert examine(results, None).problems == []
    kept = path.read_text()
    for part in parts_of(study_of(results)):
        assert part.heading in kept
    path.write_text(kept.replace("beat", "beats", 1))
    ((what, where),) = examine(results, None).problems
    assert where == "box/findings.md"
    assert "is not what the rows make" in what
    path.write_text(kept)
    other = results / "quick"
    other.mkdir()
    (other / page.FILE).write_text("made up\n")
    assert examine(results, None).problems == [("no rows make it: remove it", "quick/findings.md")]
    assert results / "quick" / page.FILE not in leaderboard.write(results)
    assert not (other / page.FILE).exists()
    other.rmdir()


def test_a_readme_beside_the_folder_begins_with_the_first_table(tmp_path):
    rows = [(dataset, method) for dataset in ("emoji", "kanji") for method in METHODS[:2]]
    results = lay_out(tmp_path / "results", rows)
    front, (begin, end) = tmp_path / "README.md", lines_of(results, "box")
    front.write_text("# Mine\n\nno block\n")
    assert front not in leaderboard.write(results)
    front.write_text(f"# Mine\n\n{begin}\nearlier words\n{end}\n\nmore\n")
    assert examine(results, None).problems[0][1] == "../README.md"
    assert leaderboard.write(results) == [front]
    assert examine(results, None).problems == []
    text, found = front.read_text(), (results / "box" / page.FILE).read_text()
    (table,) = re.findall(r"^```text\n.*?^```$", found, flags=re.MULTILINE | re.DOTALL)
    assert table in text
    assert said.found(study_of(results)) in " ".join(text.split())
    assert text.startswith("# Mine\n")
    assert text.endswith(f"{end}\n\nmore\n")
    assert "earlier words" not in text
    assert examine(results, None).problems == []
    front.write_text(f"{text}{begin.replace('results/', 'elsewhere/')}\n")
    assert examine(results, None).problems == [], "of a folder that is not looked at"
    front.write_text(text.replace(end, ""))
    ((what, _),) = examine(results, None).problems
    assert what == f"findings of results/box without the line {end}"
    broken = f"{text.replace(end, '')}\n{begin.replace('results/', 'elsewhere/')}\nkept\n{end}\n"
    front.write_text(broken)
    assert front not in leaderboard.write(results)
    assert front.read_text() == broken, "a block without its end swallows no other"
    front.write_text(f"{text}{begin.replace('/box', '/box-finetune')}\n{end}\n")
    ((what, _),) = examine(results, None).problems
    assert what == "no rows make findings of results/box-finetune: remove the block"


def test_the_protocols_own_trunk_stands_first(study):
    other = Study(study.protocol, "another", "adam", study.by_dataset)
    assert first_of([other, study]) is study
    few = {d: group[:2] for d, group in study.by_dataset.items()}
    assert first_of([Study(study.protocol, "a", "adam", few), other]) is other


def test_one_dataset_is_no_study(tmp_path):
    results = lay_out(tmp_path / "results", [("kanji", "triplet"), ("kanji", "ms")])
    assert not (results / "box" / page.FILE).exists()
    rows = unchecked(results)
    made = leaderboard.tables(results, rows)
    assert studies(made, rows, {PROTOCOL.name: PROTOCOL}) == []


def test_without_the_baseline_there_is_no_study(tmp_path):
    rows = [(dataset, method) for dataset in ("emoji", "kanji") for method in ("ms", "group")]
    results = lay_out(tmp_path / "results", [*rows, ("kanji", "triplet")])
    assert not (results / "box" / page.FILE).exists()


@pytest.fixture
def small(tmp_path):
    rows = [(dataset, method) for dataset in ("emoji", "kanji") for method in METHODS[:3]]
    return lay_out(tmp_path / "results", rows)


def faulty(results, path, change):
    """Change a file of a row with its checksum; return the study and what verify says."""
    edit(results / "box" / path, change)
    leaderboard.write(results)
    return study_of(results), [what for what, _ in examine(results, None).problems]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["chosen"]["settings"].update(alpha="abc"), "alpha='abc'"),
        (lambda c: c["chosen"]["settings"].update(alpha=-1.0), "alpha=-1.0"),
        (lambda c: c["chosen"]["settings"].update(other=1.0), "other"),
        (lambda c: c["space"]["alpha"].update(low=-1.0), "space"),
    ],
    ids=["a text", "below the range", "unknown", "no such space"],
)
def test_a_row_whose_settings_make_no_sense_stops_nothing(small, change, expected):
    found, problems = faulty(small, "kanji/ms/cell.json", change)
    assert any(expected in what for what in problems)
    assert set(found.by_method["ms"]) == {"emoji"}
    assert "no row on kanji" in page.markdown([found])


def test_rows_of_more_than_one_version_of_a_methods_code_are_named(small):
    assert said.of_several_codes(study_of(small)) == ""
    found, _ = faulty(
        small, "kanji/ms/cell.json", lambda c: c["identity"].update(method_code="0" * 12)
    )
    words = (
        "Rows of ms (emoji / kanji) are of more than one version of the method's code, each that "
        "of the commit which the row names."
    )
    assert said.of_several_codes(found) == words
    assert words in page.markdown([found])


def test_a_seed_that_diverged_takes_the_rank_and_every_mean(small):
    nothing = ("concatenated", "separated", "validation", "embeddings_sha256", "values_sha256")

    def diverge(run):
        run.update(dict.fromkeys(nothing), status="failed", reason="non_finite", folds=[None] * 2)

    found, _ = faulty(small, "kanji/ms/seed-9.json", diverge)
    (own,) = (p for p in places(found) if p.method == "ms")
    assert (own.rank, own.across["note"]) == (None, "9/10 runs on kanji")
    (line,) = re.findall(r"^ms .*$", screen.table(found, places(found)), flags=re.MULTILINE)
    assert "9/10 runs" in line
    assert [p.rank for p in places(found) if p.competes][:2] != [None, None]
    assert "ms" not in {own.method for own in cost.costs(found)}
    assert ("ms", "kanji") not in {(s.method, s.dataset) for s in spreads(found)}
    assert "Of 1 method with a whole row on all 2 datasets" in said.found(found)


def test_the_first_rows_of_a_further_dataset_change_nothing_but_say_so(small):
    """A method needs a row on every dataset for a rank: few rows must not take all ranks."""
    lay_out(small, [(dataset, "proxy_anchor") for dataset in ("emoji", "kanji")])
    lay_out(small, [(dataset, "group") for dataset in ("emoji", "kanji")])
    before = page.markdown([study_of(small)])
    none = "Not covered: products (no valid row); objects (no valid row)."
    assert none in before
    lay_out(small, [("products", "ms"), ("objects", "triplet"), ("objects", "ms")])
    few = "products (no whole row of triplet); objects (whole rows of 2 methods, elsewhere of 5)"
    assert page.markdown([study_of(small)]) == before.replace(none, f"Not covered: {few}.")
    lay_out(small, [("objects", "contrastive")])
    assert list(study_of(small).by_dataset) == ["emoji", "kanji", "objects"]


def test_a_row_under_another_name_than_its_method_stops_nothing(small):
    """``verify`` names it; what is made of the rows must be made all the same."""
    for dataset in ("emoji", "kanji"):
        edit(small / "box" / dataset / "triplet" / "cell.json", lambda c: c.update(row="other"))
    leaderboard.write(small)
    assert not (small / "box" / page.FILE).exists()
    assert examine(small, None).problems


def test_a_refuted_row_counts_nowhere(small):
    found = study_of(small)
    entry = found.by_method["ms"]["kanji"]
    entry.head["state"] = "refuted"
    (own,) = (p for p in places(found) if p.method == "ms")
    assert (own.rank, own.across["note"]) == (None, "refuted on kanji")
    assert "refuted" in screen.table(found, places(found))


def test_a_row_that_deviates_is_marked(small):
    found = study_of(small)
    found.by_method["ms"]["kanji"].head["deviates"] = True
    assert re.search(r"^ms † ", screen.table(found, places(found)), flags=re.MULTILINE)
    assert "† deviates from the protocol" in " ".join(screen.caption(found, places(found)))


def test_references_are_shown_below_and_not_ranked(tmp_path):
    rows = [(d, m) for d in ("emoji", "kanji") for m in ("triplet", "ms", "whitened")]
    found = study_of(lay_out(tmp_path / "results", rows))
    lines = screen.table(found, places(found)).splitlines()
    assert lines[4].startswith("───")
    assert lines[5].startswith("whitened ")
    assert lines[5].endswith("–")
    assert {p.rank for p in places(found) if p.competes} <= {1.0, 1.5, 2.0}
    assert "whitened" not in {s.method for s in spreads(found)}
    best = {d: found.by_method["whitened"][d].head["mean"] for d in ("emoji", "kanji")}
    entries = [found.by_method[m][d] for d in best for m in ("triplet", "ms")]
    below = sum(e.head["mean"] < best[e.cell.dataset] for e in entries)
    assert f"Of 4 trained rows {below or 'none'} score" in said.below_references(found)
    for entry in entries:
        entry.head["mean"] = best[entry.cell.dataset] - 0.01 * (entry.method == "ms")
    assert said.below_references(found) == (
        "Of 4 trained rows 2 score below the best row of the same dataset that trains no part of "
        "the trunk (by means, not tested): ms on emoji (below whitened), ms on kanji (below "
        "whitened)."
    )


def test_six_datasets_stand_in_two_blocks_and_eight_of_four_methods_are_tested(study):
    groups = [study.by_dataset[d] for d in DATASETS]
    wide = Study(
        study.protocol, "tiny", "adam", {f"d{n}": groups[n % len(groups)] for n in range(6)}
    )
    text = screen.table(wide, places(wide))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("Method ") == 2
    (ranks,) = (p for p in parts_of(wide) if p.slug == "ranks")
    noted = [p.across["note"] for p in places(wide) if p.rank]
    assert ("not told apart" in ranks.header) == (not any(noted))
    assert "Critical differences of 4 methods need 8 datasets, here are 6." in ranks.note
    untested = "1 is best, references excluded, differences in rank not tested"
    assert untested in " ".join(text.split())
    wide = replace(wide, by_dataset={f"d{n}": groups[n % len(groups)] for n in range(8)})
    assert "differences in rank" not in screen.table(wide, places(wide))


def test_a_cell_that_would_break_the_table_is_escaped():
    assert page._row(("a|b", "<script>")) == r"| a\|b | &lt;script> |"


def test_further_searches_say_how_far_a_search_moves_a_row(results):
    found = study_of(results)
    entry = found.by_method["ms"]["emoji"]
    rows = [found.by_method[m]["emoji"].row for m in ("contrastive", "proxy_anchor")]
    others = [replace(row, cell=entry.cell) for row in rows]  # numbers that are there
    entry.row.further.extend(others)
    (own,) = (s for s in spreads(found) if (s.dataset, s.method) == ("emoji", "ms"))
    groups = np.array([values(results, "emoji", m) for m in ("ms", "contrastive", "proxy_anchor")])
    within = groups.var(axis=1, ddof=1).mean()
    between = max(0.0, groups.mean(axis=1).var(ddof=1) - within / groups.shape[1])
    assert own.searches == 3
    assert own.search[0] == pytest.approx(np.sqrt(between))
    assert own.seed == pytest.approx(np.sqrt(within))
    assert own.row == pytest.approx(groups[0].std(ddof=1))
    for end, share in zip(own.search[1:], own.share[1:], strict=True):
        assert end == pytest.approx(np.sqrt(within * share / (1 - share)))
    assert own.share[0] == pytest.approx(between / (between + within))
    assert own.over.mean == pytest.approx(groups.mean())
    half = stats.t.ppf(0.975, 2) * groups.mean(axis=1).std(ddof=1) / np.sqrt(3)
    assert own.over.mean - own.over.low == pytest.approx(half)
    (part,) = (p for p in parts_of(found) if p.slug == "spread")
    assert [row[:4] for row in part.rows] == [("ms", "emoji", "3", "30/30")]
    assert part.rows[0][-1] == f"{100 * groups.mean():.2f} ±{100 * half:.2f}"
    assert f"1 of {len(spreads(found))} rows were searched more than once. If" in part.said
    f = groups.shape[1] * groups.mean(axis=1).var(ddof=1) / within * 25 / 27
    ratio = np.sqrt(max(0.0, (f - 1) / 10))
    assert f"is {ratio:.2f} times that between the seeds of one search (95 %: " in part.said
    ends = [stats.f.ppf(q, 2, 27) for q in (0.975, 0.025)]
    f = groups.shape[1] * groups.mean(axis=1).var(ddof=1) / within
    low, high = (np.sqrt(1 + max(0.0, f / end - 1)) for end in ends)  # n times the ratio squared
    wide = f"about {np.sqrt(1 + 10 * ratio**2):.1f} times as wide ({low:.1f} to {high:.1f})"
    assert f"a mean over 10 seeds would then be {wide} if it held for another" in part.said
    text = screen.table(found, places(found))
    assert f"an interval that held for other searches too would be {wide}" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert "conditional on one search" in part.said
    assert chosen.worth(found).searches == len(found.entries) + 2
    others[0].runs.pop(9)
    (own,) = (s for s in spreads(found) if (s.dataset, s.method) == ("emoji", "ms"))
    (part,) = (p for p in parts_of(found) if p.slug == "spread")
    assert part.rows[0][3] == "29/30"
    assert "none of them has all its runs and a spread" in part.said
    others[1].cell = others[1].cell.model_copy(deep=True)
    others[1].cell.chosen.settings.update(alpha="x", pos_margin=-9.0, proxy_lr=-1.0)
    assert chosen.worth(found).searches == len(found.entries) + 1, "what cannot be is left out"
    page.markdown([found])


def test_the_oracle_gap_is_the_best_epoch_less_the_chosen_one(results):
    found = study_of(results)
    entry, claims = found.by_method["ms"]["emoji"], []
    for seed, run in entry.row.runs.items():
        own = [[fold.map_at_r, fold.map_at_r + 0.01 * seed] for fold in run.folds]
        folds = [
            WatchedFold(step=[200, 400], precision_at_1=o, r_precision=o, map_at_r=o) for o in own
        ]
        entry.row.watched[seed] = Watched.model_construct(seed=seed, folds=folds)
        claims.append(0.01 * seed)
    (gap,) = gaps(found)
    assert (gap.method, gap.dataset, gap.gap.n) == ("ms", "emoji", len(claims))
    assert gap.gap.mean == pytest.approx(fmean(claims))
    assert gap.claimed - gap.selected == pytest.approx(fmean(claims))
    (part,) = (p for p in parts_of(found) if p.slug == "oracle")
    assert "among the up to 2 validations of a training" in part.said
    assert f"claimed {100 * fmean(claims):.2f} points more" in part.said
    assert part.rows[0][-1].startswith(f"{100 * fmean(claims):.2f} ± ")


def test_gaps_that_are_all_alike_have_no_interval(results):
    found = study_of(results)
    entry = found.by_method["ms"]["kanji"]
    for seed, run in entry.row.runs.items():
        own = [[fold.map_at_r + 0.01] for fold in run.folds]
        folds = [WatchedFold(step=[400], precision_at_1=o, r_precision=o, map_at_r=o) for o in own]
        entry.row.watched[seed] = Watched.model_construct(seed=seed, folds=folds)
    (part,) = (p for p in parts_of(found) if p.slug == "oracle")
    assert part.rows[0][-1] == "1.00, all 10 alike"


def test_a_search_that_lost_a_run_does_not_say_how_its_setting_validates_again(small):
    """The seeds that came through are those that were lucky."""
    found = study_of(small)
    entries = [e for own in found.contestants.values() for e in own.values() if e.cell.chosen.trial]
    rest = []
    for entry in entries:
        again = [run.validation.map_at_r for run in entry.row.runs.values()]
        rest.append(entry.cell.chosen.value - np.mean(again))
    assert chosen.worth(found).drop == pytest.approx(median(rest))
    run = entries[0].row.runs[3]
    entries[0].row.runs[3] = run.model_copy(update={"validation": None})
    assert chosen.worth(found).drop == pytest.approx(median(rest[1:]))
