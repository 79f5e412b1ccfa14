"""How far training went, counted again from the files of rows that were made."""

import json
import re

import numpy as np
import pytest

from benchmark.site.studies import _shown
from benchmark.submissions.findings import page, said, screen, training
from benchmark.submissions.findings.parts import parts
from benchmark.submissions.findings.places import places
from benchmark.submissions.watched import Watched, WatchedFold
from tests.benchmark.rows import edit
from tests.benchmark.submissions.made_study import lay_out, study_of

DATASETS, METHODS, SEEDS = ("emoji", "kanji"), ("triplet", "ms"), 10


@pytest.fixture
def results(tmp_path):
    rows = [(d, m) for d in DATASETS for m in (*METHODS, "whitened")]
    return lay_out(tmp_path / "results", rows)


def part_of(study):
    (part,) = (p for p in parts(study, places(study)) if p.slug == "training")
    return part


def say(results, dataset, method, seed, **fields):
    edit(results / "box" / dataset / method / f"seed-{seed}.json", lambda run: run.update(fields))


def read(results, dataset, method):
    folder = results / "box" / dataset / method
    return [json.loads((folder / f"seed-{seed}.json").read_text()) for seed in range(SEEDS)]


def test_most_trainings_at_their_last_validation_rank_nothing_at_convergence(results):
    rng = np.random.default_rng(0)
    for dataset in DATASETS:
        for method in METHODS:
            for seed in range(SEEDS):
                steps = rng.choice([200, 400], 2, p=[0.2, 0.8]).tolist()
                say(results, dataset, method, seed, best_steps=steps)
    runs = [run for d in DATASETS for m in METHODS for run in read(results, d, m)]
    steps = np.array([run["best_steps"] for run in runs])
    assert steps.shape == (40, 2)
    last = int((steps == 400).sum())
    assert 40 < last < 80
    study = study_of(results)
    told = (
        f"{last} of 80 final trainings (one a fold) kept the model of their last validation, step "
        "400: this ranks methods after 400 steps, not at convergence."
    )
    assert part_of(study).said == told
    assert told in " ".join(page.front(study).split())
    assert (part_of(study).rows, part_of(study).note) == ((), "")
    assert "*" not in screen.table(study, places(study))


def test_few_trainings_at_their_last_validation_are_said_as_such(results):
    for dataset in DATASETS:
        for method in METHODS:
            for seed in range(SEEDS):
                say(results, dataset, method, seed, best_steps=[200, 400 if seed < 3 else 200])
    assert part_of(study_of(results)).said == (
        "12 of 80 final trainings (one a fold) kept the model of their last validation, step 400; "
        "the others validated best before the end of their budget."
    )


def test_where_seconds_end_a_training_no_record_says_at_which_step(results):
    study = study_of(results)
    pairs = [(entry, run) for entry in study.entries for run in entry.row.runs.values()]
    assert training.kept(pairs, timed=False) is not None
    assert training.kept(pairs, timed=True) is None
    assert training.kept([], timed=False) is None


def test_runs_with_an_untrained_fold_are_counted_and_marked(results):
    for seed in (2, 5, 7):
        say(results, "kanji", "ms", seed, best_steps=[400, 0] if seed < 6 else [0, 0])
    say(results, "emoji", "triplet", 1, best_steps=[0, 200])
    say(results, "emoji", "whitened", 1, best_steps=[0, 0])
    study = study_of(results)
    part, table = part_of(study), screen.table(study, places(study))
    assert "4 of 40 runs kept a fold's untrained model (step 0): " in part.said
    assert "ms on kanji (3 of 10)" in part.said
    assert "triplet on emoji (1 of 10)" in part.said
    assert "whitened" not in part.said
    assert "Student's interval does not describe it." in part.said
    found = {row[:2]: row[2:] for row in part.rows}
    assert set(found) == {("ms", "kanji"), ("triplet", "emoji")}
    for (method, dataset), (runs, untrained, others, tied) in found.items():
        own = read(results, dataset, method)
        without = np.array([0 in run["best_steps"] for run in own])
        values = 100 * np.array([run["concatenated"]["map_at_r"] for run in own])
        assert runs == f"{without.sum()} of 10"
        assert untrained == f"{values[without].mean():.2f}"
        assert others == f"{values[~without].mean():.2f}"
        assert tied == "0.0"
    marked = {line.split()[0]: line.count("*") for line in table.splitlines() if "±" in line}
    assert {m: n for m, n in marked.items() if m in (*METHODS, "whitened")} == {
        "ms": 1,
        "triplet": 1,
        "whitened": 0,
    }
    assert re.search(r"^ms .* ±\d\.\d\d\*.$|^ms .* ±\d\.\d\d\*. ", table, flags=re.MULTILINE)
    assert max(map(len, table.splitlines())) <= 80
    assert "* some runs kept a fold's untrained model" in " ".join(table.split())
    scores = {(e.cell.dataset, e.method): _shown(e).score for e in study.entries}
    assert {at for at, score in scores.items() if "*" in score} == {
        ("kanji", "ms"),
        ("emoji", "triplet"),
    }, "the site's table is marked alike"


def test_the_mark_moves_no_column(results):
    before = screen.table(study_of(results), places(study_of(results))).splitlines()
    say(results, "kanji", "ms", 0, best_steps=[0, 0])
    study = study_of(results)
    after = screen.table(study, places(study)).splitlines()
    (changed,) = [n for n, line in enumerate(before[:6]) if line != after[n]]
    assert [at for at, sign in enumerate(after[changed]) if sign != before[changed][at]] == [
        after[changed].index("*")
    ]


def test_rows_with_many_tied_queries_are_listed(results):
    (run, *_) = read(results, "kanji", "ms")
    queries = run["embeddings_shape"][0]
    say(results, "kanji", "ms", 4, ties=queries // 10)
    say(results, "kanji", "whitened", 4, ties=queries // 10)
    (row,) = part_of(study_of(results)).rows
    means = 100 * np.mean([run["concatenated"]["map_at_r"] for run in read(results, "kanji", "ms")])
    share = 100 * (queries // 10) / queries
    assert row == ("ms", "kanji", "0 of 10", "–", f"{means:.2f}", f"{share:.1f}")


def test_the_oracle_says_where_nothing_had_converged(results):
    for seed in range(4):
        say(results, "kanji", "ms", seed, best_steps=[400, 200 if seed == 0 else 400])
    study = study_of(results)
    assert "trainings that converge" not in said.oracle(study)
    entry = study.by_method["ms"]["kanji"]
    own = [0.1, 0.2]
    fold = WatchedFold(step=[0, 400], precision_at_1=own, r_precision=own, map_at_r=own)
    for seed in range(4):
        entry.row.watched[seed] = Watched.model_construct(seed=seed, folds=[fold, fold])
    assert "7 of 8 of these trainings kept their last validation, step 400: " in said.oracle(study)
    for seed in range(1, 4):
        entry.row.runs[seed] = entry.row.runs[seed].model_copy(update={"best_steps": [200, 400]})
    assert "trainings that converge" not in said.oracle(study)
