"""Tables from hand-made studies: columns, bytes, what is missing, and what people see."""

import io
import random
import re
import subprocess
import sys
from csv import DictReader
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmark.statistics import paired
from benchmark.study.folder import CellKey, Study, load_study
from benchmark.study.looks import look
from benchmark.study.records import ChoiceRecord, RunRecord, TrialRecord
from benchmark.study.selection import BEST_TRIAL
from benchmark.tables import formats, headlines, results
from benchmark.tables.csv_files import to_csv
from benchmark.tables.frames import NAMES, looked_at, make_tables, write_tables
from protocols.errors import BenchmarkError, InvalidInputError
from protocols.protocol import ImagePipeline, Pace, Protocol, SearchRule
from tests.proven import put

PROTOCOL = Protocol(
    name="hand", version=3, summary="", label="by hand", datasets=("shapes",), trunk="tiny",
    recipe="adam", reference="untrained", baseline="triplet", folds=2,
    image=ImagePipeline(resize_px=40, crop_px=32), pace=Pace(1, 1, 1, 1),
    search=SearchRule(trials=2), seeds=3, overrides={"seeds": 3},
)  # fmt: skip
SUMMARY = (
    "protocol,protocol_version,protocol_hash,dataset,trunk,recipe,method,embedding,metric,"
    "n,mean,sd,ci_low,ci_high,ci_kind,trials,failed_runs,"
    "test_classes,test_ci_low,test_ci_high,test_ci_kind,failed_trials,lost_trials"
)
RUNS = (
    "dataset,trunk,recipe,method,seed,status,reason,separated_precision_at_1,"
    "separated_r_precision,separated_map_at_r,concatenated_precision_at_1,"
    "concatenated_r_precision,concatenated_map_at_r,validation_map_at_r,settings,excluded,ties,"
    "embeddings_sha256,parameters_trained,parameters_deployed,images_trained,"
    "images_protocol,images_embedded,phases"
)
TRIALS = "dataset,trunk,recipe,method,number,status,reason,value,fold_0,fold_1,chosen,settings"
PAIRS = (
    "dataset,trunk,recipe,embedding,metric,method_a,method_b,family,n,mean_difference,"
    "ci_low,ci_high,ci_kind,p_sign_flip,p_holm,p_note,probability_a_better,effect_sd,verdict,"
    "test_classes,test_ci_low,test_ci_high,test_ci_kind,p_t,mark,p_equivalent,"
    "ci_low_family,ci_high_family,ci_kind_family,family_size,needs_seeds,p,untested"
)


def metrics(value):
    return {"precision_at_1": value + 0.3, "r_precision": value + 0.1, "map_at_r": value}


def run(cell, seed, value, measured=0.0):
    """A run with ``value`` as its concatenated MAP@R; a word instead is why it failed."""
    fixed = {"id": f"run-{seed}", "cell": cell.id, "seed": seed, "measured": {"s": measured}}
    settings = {"margin": 0.2, "lr": 1e-05, "kind": "é"}
    if isinstance(value, str):
        return RunRecord(**fixed, settings=settings, status="failed", folds=[], reason=value)
    return RunRecord(
        **fixed, settings=settings, status="done", folds=[None, None],
        separated=metrics(value - 0.05), concatenated=metrics(value),
        validation=metrics(value + 0.05), excluded=4, ties=3, embeddings_sha256="ab" * 32,
        counts={"parameters_trained": 70, "images_trained": 640},
    )  # fmt: skip


def search(cell):
    made = {"cell": cell.id, "settings": {"lr": 0.5}}
    yield TrialRecord(id="t0", number=0, status="done", value=0.25, folds=[0.2, 0.3], **made)
    yield TrialRecord(
        id="t1", number=1, status="failed", value=0.0, folds=[0.1, None], reason="oom", **made
    )
    yield ChoiceRecord(id="c", rule="best", trial=0, value=0.25, **made)


def key(method, dataset="shapes", row=None):
    return CellKey(f"{method:_<8}{dataset}", dataset, "tiny", "adam", method, row or method)


def make(out: Path, values, protocol=PROTOCOL, shuffle=None, measured=0.0) -> Study:
    """Write a study with ``values`` by method (or by cell), one for each seed, None missing."""
    cells = {m if isinstance(m, CellKey) else key(m): found for m, found in values.items()}
    work = [(cell, record) for cell in cells for record in search(cell)]
    for cell, found in cells.items():
        seeds = enumerate(found)
        work += [(cell, run(cell, s, v, measured)) for s, v in seeds if v is not None]
    order = list(cells)
    if shuffle is not None:
        random.Random(shuffle).shuffle(work)
        random.Random(shuffle).shuffle(order)
    study = Study(out, protocol, tuple(order))
    study.save()
    for cell, record in work:
        put(study, cell, record)
    found = load_study(out)
    assert found is not None
    return found


def csv(study) -> dict[str, bytes]:
    folder = study.out / "tables"
    write_tables(make_tables(study), folder)
    return {name: (folder / f"{name}.csv").read_bytes() for name in NAMES}


def pair(study, a, b, metric="map_at_r"):
    frame = make_tables(study).pairs
    rows = frame[
        (frame.method_a == a) & (frame.method_b == b)
        & (frame.embedding == "concatenated") & (frame.metric == metric)
    ]  # fmt: skip
    assert len(rows) == 1
    return rows.iloc[0]


def shown(study, width=100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for part in formats.render(make_tables(study)):
        console.print(part)
    return console.export_text()


THREE = {
    "triplet": [0.40, 0.42, 0.44],
    "contrastive": [0.30, "oom", 0.34],
    "multi_similarity": [0.50, None, None],
}


def test_the_columns_are_as_promised(tmp_path):
    found = csv(make(tmp_path, THREE))
    heads = {name: content.decode().split("\n")[0] for name, content in found.items()}
    assert heads == {"summary": SUMMARY, "runs": RUNS, "trials": TRIALS, "pairs": PAIRS}
    assert all(b"\r" not in content for content in found.values())


def test_a_summary_line_worked_by_hand(tmp_path):
    study = make(tmp_path, {"triplet": [0.25, 0.5, 0.75]})
    lines = csv(study)["summary"].decode().splitlines()
    assert len(lines) == 1 + 2 * 3
    interval = paired.t_interval([0.25, 0.5, 0.75])
    assert lines[6] == (
        f"hand,3,{PROTOCOL.hash()},shapes,tiny,adam,triplet,concatenated,map_at_r,"
        f"3,0.5,0.25,{interval.low!r},{interval.high!r},t 95%,2,0,"
        ",,,none (no per-query results of seed 0),0,1"
    )


def test_run_lines_show_what_failed_and_what_is_missing(tmp_path):
    lines = csv(make(tmp_path, THREE))["runs"].decode().splitlines()
    settings = '"{""kind"":""é"",""lr"":1e-05,""margin"":0.2}"'
    assert len(lines) == 1 + 3 * 3
    assert lines[1].startswith("shapes,tiny,adam,contrastive,0,done,,0.55,0.35,0.25,0.6")
    assert lines[1].endswith(f"{settings},4,3,{'ab' * 32},70,,640,,,")
    assert lines[2] == f"shapes,tiny,adam,contrastive,1,failed,oom,,,,,,,,{settings},,,,,,,,,"
    assert lines[5] == "shapes,tiny,adam,multi_similarity,1,missing,,,,,,,,,,,,,,,,,,"


def test_trial_lines_show_failed_folds_and_the_choice(tmp_path):
    lines = csv(make(tmp_path, {"triplet": []}))["trials"].decode().splitlines()
    place = "shapes,tiny,adam,triplet"
    assert lines[1] == f'{place},0,done,,0.25,0.2,0.3,True,"{{""lr"":0.5}}"'
    assert lines[2] == f'{place},1,failed,oom,,0.1,,False,"{{""lr"":0.5}}"'


def test_only_done_runs_count_and_failed_ones_are_counted_apart(tmp_path):
    frame = make_tables(make(tmp_path, THREE)).summary
    rows = frame[(frame.metric == "map_at_r") & (frame.embedding == "concatenated")]
    counts = rows.set_index("method")[["n", "failed_runs"]].to_dict("index")
    assert counts == {
        "contrastive": {"n": 2, "failed_runs": 1},
        "multi_similarity": {"n": 1, "failed_runs": 0},
        "triplet": {"n": 3, "failed_runs": 0},
    }


def test_below_three_runs_no_interval_is_shown(tmp_path):
    frame = make_tables(make(tmp_path, THREE)).summary
    few = frame[frame.n < 3]
    assert len(few) == 12
    assert few.ci_low.isna().all()
    assert few.ci_high.isna().all()
    assert (few.ci_kind == "none (n < 3)").all()


def test_a_cell_without_runs_keeps_its_rows(tmp_path):
    frames = make_tables(make(tmp_path, {"triplet": [], "contrastive": []}))
    assert frames.summary.n.tolist() == [0] * 12
    assert frames.summary["mean"].isna().all()
    assert frames.runs.status.tolist() == ["missing"] * 6
    assert frames.pairs.n.tolist() == [0] * 6


def test_a_study_without_cells_has_empty_tables(tmp_path):
    study = make(tmp_path, {})
    assert {name: content.count(b"\n") for name, content in csv(study).items()} == dict.fromkeys(
        NAMES, 1
    )
    assert formats.render(make_tables(study)) == []


@pytest.mark.parametrize("shuffle", range(3))
def test_bytes_do_not_depend_on_order_clock_or_place(tmp_path, shuffle):
    first = csv(make(tmp_path / "a", THREE, measured=1.5))
    other = csv(make(tmp_path / "elsewhere", THREE, shuffle=shuffle, measured=99.0))
    assert first == other


def test_numbers_read_back_as_they_are(tmp_path):
    frames = make_tables(make(tmp_path, {"triplet": [0.1, 0.2, 0.7], "margin": [1 / 3] * 3}))
    for name in NAMES:
        frame = getattr(frames, name)
        again = list(DictReader(io.StringIO(to_csv(frame).decode(), newline="")))
        for column in frame.columns[frame.dtypes == "float64"]:
            read = [float(row[column] or "nan") for row in again]
            assert np.array_equal(frame[column], read, equal_nan=True), column


def test_a_result_may_change_its_own_rows_only(tmp_path):
    values = {m: np.random.default_rng(i).random(30).tolist() for i, m in enumerate("abc")}
    protocol = replace(PROTOCOL, seeds=30)
    whole = make_tables(make(tmp_path / "abc", values, protocol)).pairs
    part = make_tables(make(tmp_path / "ab", {m: values[m] for m in "ab"}, protocol)).pairs
    same = whole[(whole.method_a == "a") & (whole.method_b == "b")].reset_index(drop=True)
    of_family = ("p_holm", "p_equivalent", "verdict", "family_size", "needs_seeds", "mark", "p")
    own = [c for c in same.columns if c not in of_family and not c.endswith("_family")]
    pd.testing.assert_frame_equal(same[own], part[own])
    assert (whole.p_note == "Monte Carlo (9999 flips)").all()


def test_a_difference_reads_method_minus_baseline(tmp_path):
    study = make(tmp_path, {"triplet": [0.4, 0.4, 0.4], "zebra": [0.5, 0.5, 0.5]})
    row = pair(study, "zebra", "triplet")
    assert row.mean_difference == pytest.approx(0.1)
    assert row.family == "baseline"
    study = make(tmp_path / "b", {"triplet": [0.4, 0.4, 0.4], "angular": [0.5, 0.5, 0.5]})
    assert pair(study, "angular", "triplet").mean_difference == pytest.approx(0.1)


def test_unequal_runs_are_paired_on_the_seeds_both_have(tmp_path):
    study = make(
        tmp_path,
        {"triplet": [0.40, 0.10, 0.44, None], "margin": [0.50, "oom", 0.56, 0.9]},
        replace(PROTOCOL, seeds=4),
    )
    row = pair(study, "margin", "triplet")
    assert (row.n, row.ci_kind) == (2, "none (n < 3)")
    assert row.mean_difference == pytest.approx((0.10 + 0.12) / 2)
    assert (row.probability_a_better, row.verdict) == (1.0, "not tested")
    assert pd.isna(row.needs_seeds)  # of a row with failed runs no number of them would do
    assert row.p_note == "n = 2: a sign-flip p needs 6 pairs to reach 0.05"


def test_only_comparisons_with_the_baseline_are_adjusted_and_judged(tmp_path):
    rng = np.random.default_rng(0)
    values = {m: (0.4 + rng.normal(0, 0.001, 8)).tolist() for m in ("triplet", "same", "other")}
    values["better"] = [v + 0.05 for v in values["same"]]
    study = make(tmp_path, values, replace(PROTOCOL, seeds=8))
    frame = make_tables(study).pairs
    assert set(frame[frame.family == "baseline"].method_b) == {"triplet"}
    apart = frame[frame.family.isna()]
    assert len(apart) == 3 * 6
    assert apart.p_holm.isna().all()
    assert apart.verdict.isna().all()
    assert apart.p_sign_flip.notna().all()
    row = pair(study, "better", "triplet")
    assert row.p_holm == pytest.approx(3 * row.p_t)  # three comparisons
    assert (row.p_sign_flip, row.family_size) == (2 / 2**8, 3)
    assert row.ci_low_family < row.ci_low < row.ci_high < row.ci_high_family
    assert row.verdict == "better"
    assert pair(study, "same", "triplet").verdict == "equivalent"


def test_the_reference_is_outside_the_family(tmp_path):
    rng = np.random.default_rng(0)
    values = {m: (0.4 + rng.normal(0, 0.001, 8)).tolist() for m in ("triplet", "margin")}
    values["untrained"] = (0.1 + rng.normal(0, 0.001, 8)).tolist()
    study = make(tmp_path, values, replace(PROTOCOL, seeds=8))
    row = pair(study, "margin", "triplet")
    assert (row.family, row.family_size, row.p_holm) == ("baseline", 1, row.p_t)
    row = pair(study, "untrained", "triplet")
    assert (row.family, row.verdict) == (None, None)
    assert row.p_t < 1e-9
    flat = " ".join(shown(study).split())
    assert "untrained: reference, not in the family of tests, below all others" in flat
    assert "Holm over 1 comparison ·" in flat


def test_pretrained_weights_as_they_come_are_a_reference_too(tmp_path):
    values = {"triplet": [0.4, 0.41, 0.42], "margin": [0.5] * 3, "pretrained": [0.2] * 3}
    study = make(tmp_path, values)
    assert pair(study, "pretrained", "triplet").family is None
    assert pair(study, "margin", "triplet").family_size == 1
    assert "pretrained: reference" in " ".join(shown(study).split())


def test_a_method_below_the_reference_is_named(tmp_path):
    values = {"triplet": [0.4, 0.41, 0.42], "margin": [0.1, 0.1, 0.1], "untrained": [0.2] * 3}
    flat = " ".join(shown(make(tmp_path, values)).split())
    assert "not in the family of tests, not below margin" in flat


def test_a_method_without_a_result_stays_in_the_family(tmp_path):
    rng = np.random.default_rng(0)
    values = {m: (0.4 + rng.normal(0, 0.001, 8)).tolist() for m in ("triplet", "margin")}
    values |= {"lost": ["oom"] * 8, "later": [None] * 8}
    study = make(tmp_path, values, replace(PROTOCOL, seeds=8))
    row = pair(study, "margin", "triplet")
    assert (row.family_size, row.p_holm) == (3, pytest.approx(min(1.0, 3 * row.p_t)))
    assert pair(study, "lost", "triplet").verdict == "not tested"


def test_verdicts_say_at_how_many_seeds_they_were_looked_at(tmp_path):
    rng = np.random.default_rng(0)
    values = {m: (0.4 + rng.normal(0, 0.001, 8)).tolist() for m in ("triplet", "margin")}
    study = make(tmp_path, values, replace(PROTOCOL, seeds=8))
    assert "looked" not in shown(study)  # reading the tables from Python is no look
    looked_at(make_tables(study))
    look(study, 9)
    flat = " ".join(shown(study).split())
    assert "verdicts looked at 2 times (8, 9 seeds; no number of seeds planned)" in flat


def test_failed_runs_take_the_verdict_and_leave_the_family_as_large(tmp_path):
    """What came through is no sample of all: the lowest runs may be those that diverged."""
    rng = np.random.default_rng(3)
    base = 0.4 + rng.normal(0, 0.001, 10)
    values = {
        "triplet": base.tolist(),
        "ms": (base + 0.1).tolist(),
        "margin": [*["non_finite"] * 3, *(base[3:] + 0.1).tolist()],
    }
    study = make(tmp_path / "a", values, replace(PROTOCOL, seeds=10))
    frames = make_tables(study)
    lost, whole = pair(study, "margin", "triplet"), pair(study, "ms", "triplet")
    assert (lost.n, lost.verdict, lost.family_size) == (7, "not tested", 2)
    assert lost.mean_difference == pytest.approx(0.1)
    assert pd.isna(lost.needs_seeds)
    assert (lost.untested, whole.untested) == ("failed runs", None)
    assert np.isnan([lost.p_holm, lost.ci_low_family]).all()
    assert (whole.verdict, whole.family_size) == ("better", 2)
    assert "margin: 3 of 10 runs failed, not ranked and not compared" in " ".join(
        shown(study).split()
    )
    assert looked_at(frames).looks.seen == (10,)
    values["triplet"][4] = "oom"  # against a baseline with failed runs nothing is tested
    study = make(tmp_path / "b", values, replace(PROTOCOL, seeds=10))
    assert {pair(study, m, "triplet").verdict for m in ("ms", "margin")} == {"not tested"}
    assert looked_at(make_tables(study)).looks.seen == ()


def test_the_dagger_says_which_test_judged_and_whom_it_alone_holds_back(tmp_path):
    """A quiet baseline: Student's p of 0.03 is not enough in a family of four without it too."""
    noise = np.array([1, -1, 2, -2, 0.5, -0.5, 1.5, -1.5, 0.2, -0.2])
    quiet = (0.4 + 1e-5 * noise).tolist()
    values = {"triplet": quiet}
    for method, shift in (("ms", 0.0095), ("margin", 0.0), ("proxy", 0.0), ("group", 0.0)):
        values[method] = (0.4 + shift + 0.01 * noise[::-1]).tolist()
    study = make(tmp_path / "a", values, replace(PROTOCOL, seeds=10))
    found = pair(study, "ms", "triplet")
    assert found.mark == "unequal spread"
    assert found.p_t < 0.05 < 4 * found.p_t
    assert found.verdict == "inconclusive"
    flat = " ".join(shown(study).split())
    assert "† spreads too unequal for Student's t: judged by a stricter test" in flat
    assert "holds back" not in flat
    assert found.p > found.p_t
    assert found.p_holm == pytest.approx(min(1, 4 * found.p))
    values["ms"] = (0.4 + 0.015 + 0.01 * noise[::-1]).tolist()
    study = make(tmp_path / "b", values, replace(PROTOCOL, seeds=10))
    found = pair(study, "ms", "triplet")
    assert 4 * found.p_t < 0.05
    held = "a stricter test, which alone holds back ms" in " ".join(shown(study).split())
    assert held == (found.verdict == "inconclusive")


def test_too_few_seeds_for_a_verdict_are_no_look(tmp_path):
    study = make(tmp_path, {"triplet": [0.4, 0.5, None], "margin": [0.4, 0.5, None]})
    assert looked_at(make_tables(study)).looks.seen == ()
    assert not (tmp_path / "looks.json").exists()


def test_without_the_baseline_all_pairs_are_the_family(tmp_path):
    rng = np.random.default_rng(0)
    values = {m: rng.random(6).tolist() for m in "abc"}
    frame = make_tables(make(tmp_path, values, replace(PROTOCOL, seeds=6))).pairs
    assert (frame.family == "all pairs").all()
    one = frame[(frame.embedding == "separated") & (frame.metric == "map_at_r")]
    unmarked = one[one.mark.isna()]
    whole = paired.holm(one.p_t.tolist())
    assert unmarked.p_holm.tolist() == pytest.approx(
        [whole[i] for i in range(3) if one.mark.isna().iloc[i]]
    )
    assert frame.verdict.notna().all()


def test_datasets_are_not_compared_with_each_other(tmp_path):
    cells = {key(m, d): [0.4, 0.5, 0.6] for m in ("triplet", "margin") for d in ("birds", "cars")}
    frames = make_tables(make(tmp_path, cells))
    assert frames.pairs.groupby("dataset").size().to_dict() == {"birds": 6, "cars": 6}
    assert len(headlines.headlines(frames)) == 2


def test_the_baseline_is_found_by_method_and_shown_by_row_name(tmp_path):
    protocol = replace(PROTOCOL, baseline="untrained")
    cells = {key("untrained", row="pretrained"): [0.1, 0.1, 0.1], key("margin"): [0.2, 0.2, 0.2]}
    study = make(tmp_path, cells, protocol)
    assert pair(study, "margin", "pretrained").family == "baseline"
    assert "pretrained (baseline)" in shown(study, 120)


def test_people_see_the_best_first_and_what_is_not_there(tmp_path):
    lines = shown(make(tmp_path, THREE)).splitlines()
    rows = [line for line in lines if re.match(r"\s*(triplet|contr|multi)", line)]
    cells = [re.split(r"\s{2,}", row.strip()) for row in rows]
    assert cells[0][0] == "triplet (baseline)"
    assert cells[0][1:6] == ["72.00", "52.00", "42.00 ± 4.97", "37.00 ± 4.97", "–"]
    assert cells[1] == ["contrastive", "62.00", "42.00", "32.00", "27.00", "-10.00 ?",
                        "2/3, 1 failed", "2, 1 lost"]  # fmt: skip
    assert cells[2] == ["multi_similarity", *"–––––", "1/3", "2, 1 lost"]


def test_trials_that_failed_are_counted_by_whose_fault_it_was(tmp_path):
    study = make(tmp_path, {"triplet": [0.4, 0.5, 0.6], "margin": [0.4, 0.5, 0.6]})
    for name, reasons in {"triplet": ("oom", "crash"), "margin": ("non_finite", None)}.items():
        (cell,) = (cell for cell in study.cells if cell.method == name)
        first, _ = study.trials(cell)
        for number, reason in enumerate(reasons):
            status = {"status": "failed", "value": 0.0, "reason": reason} if reason else {}
            put(study, cell, replace(first, number=number, **status))
    lines = shown(study, 120).splitlines()
    assert [line.split("3/3")[1].strip() for line in lines if "3/3" in line] == [
        "2, 1 failed",
        "2, 2 lost",
    ]
    assert "lost: trials lost to the machine, counted as 0" in " ".join(" ".join(lines).split())
    frame = make_tables(study).summary.drop_duplicates("method").set_index("method")
    assert frame[["trials", "failed_trials", "lost_trials"]].to_numpy().tolist() == [
        [2, 1, 0],
        [2, 0, 2],
    ]


def test_methods_without_a_common_seed_have_no_difference(tmp_path):
    study = make(tmp_path, {"triplet": [0.4, "oom", "oom"], "margin": ["oom", 0.5, 0.6]})
    row = next(line for line in shown(study).splitlines() if line.startswith("margin"))
    assert re.split(r"\s{2,}", row.strip())[1:6] == ["85.00", "65.00", "55.00", "50.00", "–"]


@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_table_fits(tmp_path, width):
    names = {"divide_and_conquer": [0.5, "oom", 0.6], "group": ["oom", "oom", "crash"]}
    text = shown(make(tmp_path, {**THREE, **names}), width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("(baseline)", "± 4.97", "Trials", "multi_similarity", "0/3", "3 failed"):
        assert word in text
    flat = " ".join(text.split())
    for rule in (
        f"hand v3 {PROTOCOL.hash()} · by hand · changed: seeds 3 · trunk tiny · 32 px · 2 folds",
        "2 trials · 3 seeds · selected by map_at_r on validation classes",
        "± t 95%, none (n < 3); n = 2 to 3",
        "– unfinished or failed",
    ):
        assert rule in flat


def test_marks_say_which_differences_count(tmp_path):
    rng = np.random.default_rng(1)
    base = rng.normal(0.4, 0.001, 8)
    shifts = {"triplet": 0, "up": 0.05, "down": -0.05, "level": 0.0001}
    values = {m: (base + s + rng.normal(0, 1e-4, 8)).tolist() for m, s in shifts.items()}
    values["noisy"] = rng.normal(0.4, 0.05, 8).tolist()
    text = shown(make(tmp_path, values, replace(PROTOCOL, seeds=8)))
    marks = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "▲" in marks["up"]
    assert "▼" in marks["down"]
    assert "=" in marks["level"]
    assert "~" in marks["noisy"]
    flat = " ".join(text.split())
    assert "▲ better, ▼ worse, = equivalent (margin 0.5 points), ~ inconclusive" in flat
    assert "verdicts: paired t, Holm over 4 comparisons" in flat
    assert "in brackets: the simultaneous ± for all of them" in flat


def test_a_near_miss_shows_its_p_and_what_is_untested_its_seeds(tmp_path):
    base = [0.40, 0.41, 0.42, 0.43, 0.44, 0.45]
    steps = np.array([-0.002, 0.001, 0.006, 0.012, 0.011, 0.008])
    values = {"triplet": base, "near": (np.array(base) + steps).tolist()}
    values["lost"] = [0.4, 0.41, *["oom"] * 4]
    study = make(tmp_path, values, replace(PROTOCOL, seeds=6))
    row = pair(study, "near", "triplet")
    assert 0.05 < row.p_holm <= 0.1
    text = shown(study, 130)
    assert f"~ p {row.p_holm:.2f}" in next(line for line in text.splitlines() if "near" in line)
    flat = " ".join(text.split())
    assert "~ inconclusive, ? not tested (failed runs) · p: Holm's, of a near miss" in flat
    two = make(
        tmp_path / "two", {"triplet": base[:2], "few": base[1:3]}, replace(PROTOCOL, seeds=2)
    )
    assert "? not tested (needs 3 seeds)" in " ".join(shown(two, 130).split())
    assert "lost: 4 of 6 runs failed, not ranked" in flat


def test_markdown_escapes_and_keeps_its_shape(tmp_path):
    study = make(tmp_path, {**THREE, "a|b*": [0.1, 0.1, 0.1]})
    text = formats.to_format(make_tables(study), "md")["headline.md"].decode()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}
    assert r"| multi\_similarity | – |" in text
    assert r"| a\|b\* | 40.00 |" in text
    assert "| triplet (baseline) | 72.00 | 52.00 | 42.00 ± 4.97 |" in text


def test_latex_escapes_and_keeps_its_shape(tmp_path):
    protocol = replace(PROTOCOL, label="50% & #1 {a} ~ $x^2$")
    study = make(tmp_path, THREE, protocol)
    text = formats.to_format(make_tables(study), "latex")["headline.tex"].decode()
    assert r"50\% \& \#1 \{a\} \textasciitilde{} \$x\textasciicircum{}2\$" in text
    assert r"multi\_similarity & -- & -- & -- & -- & -- & 1/3 & 2, 1 lost \\" in text
    assert r"42.00 $\pm$ 4.97" in text
    assert r"& $-$10.00 ? &" in text
    assert text.isascii()
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = body.split(r"\\")[:-1]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {7}
    bare = re.sub(r"\\[\\{}$&%#_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1


def test_letters_that_latex_lacks_stand_as_code_points():
    assert (
        formats._tex_text("d\u00e9j\u00e0_\u03b2 \u2192 \u00b1")
        == "d\u00e9j\u00e0\\_[U+03B2] [U+2192] $\\pm$"
    )


def test_csv_is_what_the_main_job_writes(tmp_path):
    study = make(tmp_path, THREE)
    files = formats.to_format(make_tables(study), "csv")
    assert files == {f"{name}.csv": content for name, content in csv(study).items()}


def test_parquet_holds_the_four_frames(tmp_path):
    pytest.importorskip("pyarrow")
    frames = make_tables(make(tmp_path, THREE))
    files = formats.to_format(frames, "parquet")
    assert list(files) == [f"{name}.parquet" for name in NAMES]
    for name in NAMES:
        found = pd.read_parquet(io.BytesIO(files[f"{name}.parquet"]))
        assert to_csv(found) == to_csv(getattr(frames, name))


def test_parquet_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise ImportError("no pyarrow")

    frames = make_tables(make(tmp_path, {}))
    monkeypatch.setattr(pd.DataFrame, "to_parquet", refuse)
    with pytest.raises(InvalidInputError, match="pyarrow, which is not installed: install it"):
        formats.to_format(frames, "parquet")


def test_an_unknown_format_names_the_known_ones(tmp_path):
    frames = make_tables(make(tmp_path, {}))
    with pytest.raises(
        BenchmarkError, match=r"no format 'markdown'\..* Known: csv, every-eval-ever, latex, md"
    ):
        formats.to_format(frames, "markdown")


def test_tables_need_no_heavy_package():
    code = (
        "import sys, benchmark.tables.formats, benchmark.statistics.paired;"
        "sys.exit(str({'torch', 'optuna', 'mlflow', 'matplotlib'} & set(sys.modules) or ''))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, stderr=subprocess.PIPE)
    assert not done.stderr.strip(), done.stderr


def test_recalls_stand_in_summary_and_runs_where_a_run_has_them(tmp_path):
    """Runs older than recalls have empty fields, not zeros, and nothing is compared by them."""
    folder = make(tmp_path, THREE)
    key_, *_ = folder.cells
    first = folder.runs(key_)[0]
    more = {"recall_at_10": 0.9, "recall_at_2": 0.7, "map_at_10": 0.4}
    more = replace(
        first,
        concatenated={**first.concatenated, **more},
        separated={**first.separated, **more},
    )
    put(folder, key_, more)
    frames = make_tables(folder)
    added = [c for c in frames.runs.columns if "recall" in c or c.endswith("map_at_10")]
    assert added == [
        f"{e}_{m}" for e in ("separated", "concatenated")
        for m in ("recall_at_2", "recall_at_10", "map_at_10")
    ]  # fmt: skip
    assert frames.runs["concatenated_recall_at_10"].count() == 1
    rows = frames.summary[frames.summary.metric == "recall_at_10"]
    assert rows[["n", "mean"]].to_numpy().tolist() == [[1, 0.9]] * 2
    assert set(rows.test_ci_kind) == {"none (reported alone)"}
    assert not frames.pairs.metric.isin(["recall_at_2", "recall_at_10", "map_at_10"]).any()


def test_a_choice_that_the_rule_does_not_make_is_shown_as_missing(tmp_path):
    study = make(tmp_path, {"ms": [0.4, 0.5]})
    (cell,) = study.cells
    choice = put(study, cell, ChoiceRecord("", cell.id, BEST_TRIAL, 1, {"lr": 0.5}, 0.25))
    assert results.read(study, cell).choice is None
    why = "not what the rule picks from the trials"
    assert study.doubts == {study.record_path(cell, choice): why}


@pytest.mark.parametrize("name", ["trial-000.json", "trial-001.json"])
def test_a_trial_that_is_gone_under_a_choice_is_said(tmp_path, name):
    study = make(tmp_path, {"ms": [0.4, 0.5]})
    (cell,) = study.cells
    (study.folder(cell) / name).unlink()
    results.read(study, cell)
    assert study.doubts == {study.folder(cell) / name: "gone"}
