"""Comparisons beyond one dataset, one search and one set of test classes; studies made by hand."""

import hashlib
import io
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy.special import stdtrit

from benchmark.running import outcomes
from benchmark.statistics import bootstrap
from benchmark.study import records
from benchmark.study.folder import CellKey, Study, load_study
from benchmark.study.records import JobRecord, RunRecord
from benchmark.study.scores import NOTHING
from benchmark.tables import beyond, class_sums, formats
from benchmark.tables.csv_files import to_csv
from benchmark.tables.frames import NAMES, make_tables, write_tables
from benchmark.training.join import JoinOutcome
from protocols.metrics import METRICS
from tests.benchmark.tables.test_frames import PROTOCOL, key, make, metrics, pair
from tests.proven import put

LABELS = np.repeat(np.arange(30), 4)


def per_query(study, name, hits, labels=LABELS, query=None):
    """Store per-query results: every metric is ``hits`` (Q,), of each of two fold models too."""
    query = np.arange(len(labels)) if query is None else query
    arrays = {"labels": labels.astype(np.int32), "query": query.astype(np.int32)}
    for metric in METRICS:
        arrays[f"concatenated_{metric}"] = hits.astype(np.float32)
        arrays[f"separated_{metric}"] = np.stack([hits, hits / 2]).astype(np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    content = buffer.getvalue()
    records.write_bytes(study.out / "queries" / name, content)
    return {"path": f"queries/{name}", "sha256": hashlib.sha256(content).hexdigest()}


def done(cell, seed, value, queries=None):
    return RunRecord(
        id=f"run-{seed}", cell=cell.id, seed=seed, settings={}, status="done", folds=[],
        separated=metrics(value / 2), concatenated=metrics(value), queries=queries,
    )  # fmt: skip


def with_queries(out, hits, protocol=PROTOCOL, **kwargs):
    """Return a study whose runs are (method, seed) to per-query hits."""
    cells = {method: key(method) for method, _ in hits}
    study = Study(out, protocol, tuple(cells.values()))
    study.save()
    for (method, seed), own in hits.items():
        what = per_query(study, f"{method}-{seed}.npz", own, **kwargs)
        record = done(cells[method], seed, float(np.nanmean(own)), what)
        put(study, cells[method], record)
    found = load_study(out)
    assert found is not None
    return found


def random_hits(methods=("triplet", "margin"), seeds=3, seed=0):
    rng = np.random.default_rng(seed)
    rates = rng.beta(2, 3, 30)[LABELS]
    return {
        (m, s): (rng.random(len(LABELS)) < rates).astype(float)
        for m in methods
        for s in range(seeds)
    }


def row(frame, **wanted):
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def main(frame, **wanted):
    return row(frame, embedding="concatenated", metric="map_at_r", **wanted)


def test_test_classes_have_columns_of_their_own(tmp_path):
    hits = random_hits()
    frames = make_tables(with_queries(tmp_path, hits))
    found = main(frames.summary, method="margin")
    own = np.mean([hits["margin", s] for s in range(3)], axis=0)
    drawn = bootstrap.draw_classes("shapes", 30)
    means = [own.reshape(30, 4)[np.repeat(np.arange(30), d)].mean() for d in drawn]
    (low,), (high,) = bootstrap.over_classes(np.array(means)[:, None], 30)
    assert (found.test_classes, found.test_ci_kind) == (30, "class bootstrap 95%")
    assert (found.test_ci_low, found.test_ci_high) == pytest.approx((low, high), abs=1e-6)
    assert low < own.mean() < high
    separated = row(frames.summary, method="margin", embedding="separated", metric="map_at_r")
    assert separated.test_ci_low == pytest.approx(0.75 * low, abs=2e-6)  # mean of hits, hits / 2


def test_a_difference_is_resampled_with_the_same_classes(tmp_path):
    hits = random_hits()
    for s in range(3):  # a difference that is the same in every class
        hits["margin", s] = hits["triplet", s] * 0.5 + 0.25
    frames = make_tables(with_queries(tmp_path, hits))
    found = pair(frames.study, "margin", "triplet")
    single = main(frames.summary, method="triplet")
    width = single.test_ci_high - single.test_ci_low
    assert found.test_ci_high - found.test_ci_low == pytest.approx(width / 2, abs=2e-6)
    assert found.test_classes == 30


def test_a_difference_is_over_the_seeds_both_have(tmp_path):
    hits = random_hits()
    del hits["margin", 1]
    found = pair(with_queries(tmp_path / "a", hits), "margin", "triplet")
    del hits["triplet", 1]
    alone = pair(with_queries(tmp_path / "b", hits), "margin", "triplet")
    assert (found.test_ci_low, found.test_ci_high) == (alone.test_ci_low, alone.test_ci_high)


def test_excluded_queries_and_gallery_images_do_not_count(tmp_path):
    hits = random_hits(("triplet",))
    plain = main(make_tables(with_queries(tmp_path / "a", hits)).summary, method="triplet")
    labels = np.concatenate([LABELS, [77], np.full(9, 5)])  # an excluded class, and a gallery
    more = {k: np.append(v, np.nan) for k, v in hits.items()}
    study = with_queries(tmp_path / "b", more, labels=labels, query=np.arange(len(LABELS) + 1))
    other = main(make_tables(study).summary, method="triplet")
    assert other.test_classes == 30
    assert (other.test_ci_low, other.test_ci_high) == (plain.test_ci_low, plain.test_ci_high)


@pytest.mark.parametrize("case", ["gone", "other", "outside", "less"])
def test_results_that_are_not_the_records_say_so(tmp_path, case):
    hits = random_hits(("triplet",))
    study = with_queries(tmp_path, hits)
    path = tmp_path / "queries" / "triplet-1.npz"
    if case == "gone":
        path.unlink()
    elif case == "other":
        path.write_bytes(path.read_bytes() + b" ")
    elif case == "less":
        np.savez(path, labels=LABELS)
        what = {"path": "queries/triplet-1.npz"}
        what["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        record = done(study.cells[0], 1, 0.4, what)
        put(study, study.cells[0], record)
    else:
        secret = path.replace(tmp_path / "secret.npz")
        what = {"path": "queries/../secret.npz"}
        what["sha256"] = hashlib.sha256(secret.read_bytes()).hexdigest()
        record = done(study.cells[0], 1, 0.4, what)
        put(study, study.cells[0], record)
    found = main(make_tables(study).summary, method="triplet")
    elsewhere = "per-query results of seed 1 not in the output folder"
    why = {
        "gone": elsewhere,
        "outside": elsewhere,
        "other": "per-query results of seed 1 not those of its record",
        "less": "no per-query results of seed 1",
    }
    assert found.test_ci_kind == f"none ({why[case]})"
    assert np.isnan(found.test_ci_low)
    assert found.n == 3


def test_few_classes_have_no_interval(tmp_path):
    hits = {("triplet", s): np.eye(40)[s] for s in range(3)}
    study = with_queries(tmp_path, hits, labels=np.repeat(np.arange(19), 3)[:40])
    found = main(make_tables(study).summary, method="triplet")
    assert found.test_ci_kind == "none (classes < 20)"


def test_sums_are_kept_until_a_run_changes(tmp_path, monkeypatch):
    hits = random_hits(("triplet",))
    study = with_queries(tmp_path, hits)
    before = to_csv(make_tables(study).summary)
    read = []
    whole = class_sums._sum
    monkeypatch.setattr(
        class_sums, "_sum", lambda out, run: read.append(run.seed) or whole(out, run)
    )
    assert to_csv(make_tables(study).summary) == before
    assert read == []
    what = per_query(study, "new.npz", 1 - hits["triplet", 2])
    record = done(study.cells[0], 2, 0.5, what)
    put(study, study.cells[0], record)
    assert to_csv(make_tables(study).summary) != before
    assert read == [2]


def test_damaged_or_unwritable_sums_cost_time_only(tmp_path, monkeypatch):
    study = with_queries(tmp_path, random_hits(("triplet",)))
    before = to_csv(make_tables(study).summary)
    (kept,) = (tmp_path / "cache").rglob("*.npz")
    kept.write_bytes(b"PK\x03\x04 nothing")
    assert to_csv(make_tables(study).summary) == before
    shutil.rmtree(kept.parent)
    kept.parent.write_bytes(b"")  # a file where the folder should be
    assert to_csv(make_tables(study).summary) == before


def test_sums_that_are_not_what_was_written_are_not_used(tmp_path):
    """Whole and of the right runs, but with other numbers: only their checksum tells."""
    study = with_queries(tmp_path, random_hits(("triplet",)))
    before = to_csv(make_tables(study).summary)
    (kept,) = (tmp_path / "cache").rglob("*.npz")
    with np.load(kept) as file:
        arrays = dict(file)
    np.savez(kept, **{**arrays, "sums": arrays["sums"] / 2})
    assert to_csv(make_tables(study).summary) == before


def shown(study, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    for part in formats.render(make_tables(study)):
        console.print(part)
    return console.export_text()


def test_people_see_test_classes_in_a_column_of_their_own(tmp_path):
    text = shown(with_queries(tmp_path, random_hits()))
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    assert "test classes: class bootstrap 95% over 30 classes, with runs and gallery fixed" in flat
    assert "separate from the other ±" in flat


def run_of_folds(cell, seed, scores):
    """Return the record that a run makes of its fold models' test scores (F,)."""
    jobs = [
        JobRecord(
            f"job-{fold}", cell.id, "final", seed, fold, {}, "done",
            test=metrics(score), validation=metrics(0.5),
        )
        for fold, score in enumerate(scores.tolist())
    ]  # fmt: skip
    joined = JoinOutcome(metrics(0.5), 0, 0, "ab" * 32, [1, 1], b"", 0.0)
    return outcomes.run_of(cell, {}, seed, jobs, joined)


def test_pairs_by_seed_are_pairs_by_seed_and_fold(tmp_path):
    """A run is the mean of its folds, so its difference is the mean of the folds' differences.

    The interval that is told is the one of all pairs of folds, clustered by seed.
    """
    seeds, folds = 6, 4
    scores = np.random.default_rng(0).uniform(0.2, 0.6, (2, seeds, folds))
    cells = key("margin"), key("triplet")
    study = Study(tmp_path, replace(PROTOCOL, seeds=seeds, folds=folds), cells)
    study.save()
    for cell, own in zip(cells, scores, strict=True):
        for seed in range(seeds):
            put(study, cell, run_of_folds(cell, seed, own[seed]))
    found = load_study(tmp_path)
    assert found is not None
    pairs = make_tables(found).pairs
    (row,) = pairs[(pairs.embedding == "separated") & (pairs.metric == "map_at_r")].itertuples()
    gaps = (scores[0] - scores[1]) * (1 if row.method_a == "margin" else -1)
    # The standard error over fold pairs clustered by seed, from its definition:
    cluster = (gaps - gaps.mean()).sum(axis=1)
    error = np.sqrt(seeds / (seeds - 1) * (cluster**2).sum()) / gaps.size
    half = stdtrit(seeds - 1, 0.975) * error
    assert row.mean_difference == pytest.approx(gaps.mean())
    assert (row.ci_low, row.ci_high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))


# Across datasets


def spread(datasets, methods, seeds=3, seed=0):
    rng = np.random.default_rng(seed)
    levels = {m: 0.02 * i for i, m in enumerate(methods)}
    return {
        key(m, f"d{d:02}"): (0.3 + levels[m] + rng.normal(0, 0.002, seeds)).tolist()
        for d in range(datasets)
        for m in methods
    }


def test_one_dataset_has_no_table_across(tmp_path):
    study = make(tmp_path, spread(1, ("triplet", "margin")))
    frames = make_tables(study)
    assert len(frames.across) == 0
    write_tables(frames, tmp_path / "tables")
    assert not (tmp_path / "tables" / "across.csv").exists()
    assert list(formats.to_format(frames, "csv")) == [f"{name}.csv" for name in NAMES]


def test_two_datasets_have_means_gains_and_ranks_and_no_critical_differences(tmp_path):
    study = make(tmp_path, spread(2, ("triplet", "margin", "proxy")))
    frames = make_tables(study)
    assert len(frames.across) == 3 * 6
    best = main(frames.across, method="proxy")
    assert (best.datasets, best.runs, best["rank"]) == (2, 6, 1.0)
    assert best.gain == pytest.approx(0.04, abs=0.004)
    assert best.gain_ci_low < best.gain < best.gain_ci_high
    assert best.gain_iqm == pytest.approx(0.04, abs=0.004)
    assert best.ci_kind == "t 95% of means, resampled seeds of IQM and rank"
    assert best.note == "critical differences of 3 methods need 7 datasets, here are 2"
    assert not best.cliques
    assert main(frames.across, method="triplet").gain == 0
    assert "critical differences of 3 methods need 7 datasets" in " ".join(shown(study).split())
    assert list(formats.to_format(frames, "csv"))[-1] == "across.csv"


def test_a_method_that_lacks_a_dataset_is_shown_without_numbers(tmp_path):
    cells = spread(2, ("triplet", "margin"))
    cells[key("proxy", "d00")] = [0.9, 0.9, 0.9]
    cells[key("proxy", "d01")] = ["oom", None, None]
    frames = make_tables(make(tmp_path, cells))
    lacking = main(frames.across, method="proxy")
    assert (lacking.datasets, lacking.runs, lacking.note) == (1, 3, "not whole on d01")
    assert np.isnan(lacking["mean"])
    assert main(frames.across, method="margin")["rank"] == 1.0
    (table,) = beyond.further(frames)
    assert table.rows[-1] == ("proxy", *[NOTHING] * 4)
    assert table.caption.endswith("proxy: not whole on d01")


@pytest.mark.parametrize("lost", [["non_finite"] * 4 + [0.9] * 2, ["oom"] + [0.9] * 5, [0.9] * 5])
def test_a_method_with_failed_or_missing_runs_is_not_ranked_and_moves_nobody(tmp_path, lost):
    protocol = replace(PROTOCOL, seeds=6)
    cells = spread(2, ("triplet", "margin"), 6)
    alone = make_tables(make(tmp_path / "alone", cells, protocol))
    cells[key("proxy", "d00")] = lost
    cells[key("proxy", "d01")] = [0.9] * 6
    frames = make_tables(make(tmp_path / "all", cells, protocol))
    failed = main(frames.across, method="proxy")
    assert (failed.datasets, failed.note) == (1, "not whole on d00")
    assert np.isnan(failed["mean"])
    assert np.isnan(failed["rank"])
    for method in ("triplet", "margin"):
        own, before = (main(f.across, method=method) for f in (frames, alone))
        assert own.equals(before)
        assert own.rank_ci_low <= own["rank"] <= own.rank_ci_high


def test_references_have_a_mean_and_move_nobodys_rank(tmp_path):
    cells = spread(8, ("triplet", "margin", "proxy"))
    alone = make_tables(make(tmp_path / "alone", cells))
    best = {"untrained": 0.9, "whitened": 0.8, "lda": 0.7}
    cells |= {key(m, f"d{d:02}"): [v] * 3 for m, v in best.items() for d in range(8)}
    study = make(tmp_path / "all", cells)
    frames = make_tables(study)
    for method in ("triplet", "margin", "proxy"):
        assert main(frames.across, method=method).equals(main(alone.across, method=method))
    assert main(frames.across, method="proxy")["rank"] == 1
    aside = main(frames.across, method="lda")
    assert (aside["mean"], aside.cliques, aside.note) == (pytest.approx(0.7), "", "")
    assert np.isnan(aside["rank"])
    (table,) = beyond.further(frames)
    assert [row[0] for row in table.rows][3:] == ["untrained", "whitened", "lda"]
    assert "no rank: references without training" in table.caption


def test_a_method_leaves_the_others_means_alone(tmp_path):
    three = spread(2, ("triplet", "margin", "proxy"))
    two = {cell: values for cell, values in three.items() if cell.method != "proxy"}
    whole = main(make_tables(make(tmp_path / "a", three)).across, method="margin")
    part = main(make_tables(make(tmp_path / "b", two)).across, method="margin")
    own = [c for c in whole.index if c.startswith(("mean", "gain"))]
    assert whole[own].tolist() == part[own].tolist()


def test_many_datasets_tell_methods_apart(tmp_path):
    cells = spread(7, ("triplet", "margin"))
    for number, cell in enumerate([c for c in cells if c.method == "triplet"]):
        values = [v + (0.0001 if number % 2 else -0.0001) for v in cells[cell]]
        cells[key("twin", cell.dataset)] = values
    frames = make_tables(make(tmp_path, cells))
    found = {m: main(frames.across, method=m).cliques for m in ("margin", "triplet", "twin")}
    assert found == {"margin": "", "triplet": "1", "twin": "1"}
    text = shown(frames.study)
    assert "cliques: methods with a number in common are not told apart" in " ".join(text.split())


# Repeated searches


def repeated(out, first, further):
    """Return a study of one method searched several times, a list of seeds for each search."""
    study = make(out, {"margin": first, "triplet": first})
    base = next(cell for cell in study.cells if cell.method == "margin")
    again = [
        replace(base, id=f"again{n}", row=f"margin (search {n + 1})", repeat=n)
        for n in range(1, len(further) + 1)
    ]
    study = study.extend(again, PROTOCOL)
    study.save()
    for cell, values in zip(again, further, strict=True):
        for seed, value in enumerate(values):
            record = done(cell, seed, value)
            put(study, cell, record)
    found = load_study(out)
    assert found is not None
    return found


def test_further_searches_leave_the_first_ones_tables_alone(tmp_path):
    once = make_tables(make(tmp_path / "a", {"margin": [0.4, 0.5, 0.6], "triplet": [0.3] * 3}))
    study = make(tmp_path / "b", {"margin": [0.4, 0.5, 0.6], "triplet": [0.3] * 3})
    base = next(cell for cell in study.cells if cell.method == "margin")
    study = study.extend([replace(base, id="again", repeat=1)], study.protocol)
    record = done(study.repeats[0], 0, 0.9)
    put(study, study.repeats[0], record)
    more = make_tables(study)
    for name in NAMES:
        assert to_csv(getattr(once, name)) == to_csv(getattr(more, name))
    assert once.names == NAMES
    assert more.names == (*NAMES, "searches", "variance")


def test_the_spread_is_split_by_source(tmp_path):
    study = repeated(tmp_path, [0.40, 0.42, 0.44], [[0.50, 0.52, 0.54], [0.60, 0.62, 0.64]])
    frames = make_tables(study)
    assert set(frames.variance.method) == {"margin"}
    found = main(frames.variance, method="margin")
    assert (found.searches, found.runs) == (3, 9)
    assert found["mean"] == pytest.approx(0.52)
    assert found.sd_seed == pytest.approx(0.02)
    assert found.sd_search == pytest.approx(np.sqrt(0.01 - 0.0004 / 3))
    assert frames.searches.search.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert frames.searches.method.unique().tolist() == ["margin"]
    text = " ".join(shown(study).split())
    assert "repeated searches" in text
    assert "conditional on one search" in text


def test_searches_are_read_back_in_order_and_leave_with_their_cell(tmp_path):
    study = repeated(tmp_path, [0.4] * 3, [[0.5] * 3, [0.6] * 3])
    base = next(cell for cell in study.cells if cell.method == "margin")
    assert [cell.repeat for cell in study.searches(base)] == [0, 1, 2]
    assert len(study.cells) == 2
    assert len(study.all_cells) == 4
    edited = study.extend([replace(base, id="edited")], study.protocol)
    assert edited.repeats == ()
    same = study.extend([base], study.protocol)
    assert same.repeats == study.repeats


def test_ten_thousand_runs_are_tabulated_in_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)  # making them is not what is timed
    cells = {key(m, f"d{d}"): np.random.default_rng(d).random(50).tolist()
             for d in range(10) for m in ["triplet", *(f"m{i}" for i in range(19))]}  # fmt: skip
    study = make(tmp_path, cells, replace(PROTOCOL, seeds=50))
    started = time.process_time()
    frames = make_tables(study)
    write_tables(frames, tmp_path / "tables")
    assert len(frames.runs) == 10_000
    assert time.process_time() - started < 5


def test_a_cell_key_of_a_further_search_has_a_folder_of_its_own():
    first = CellKey("a" * 16, "birds", "tiny", "adam", "ms", "ms")
    assert replace(first, id="b" * 16, repeat=1).path != first.path
