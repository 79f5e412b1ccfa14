"""Cells, their identity and how far they have come."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cli import make_parser
from benchmark.running.setup import further_searches, read_protocol
from benchmark.study import datasets, records
from benchmark.study.folder import CellKey, Study, load_study
from benchmark.study.grid import (
    Axes,
    further_search,
    key_of,
    make_cells,
    progress_of,
    save_cells,
    stale_records,
)
from benchmark.study.records import ChoiceRecord, JobRecord, RunRecord, TrialRecord
from benchmark.study.seeds import seed
from benchmark.training.splits import DataSource
from protocols.discovery import Registry
from protocols.discovery import load as load_named
from protocols.errors import InvalidInputError, StoreError
from protocols.knobs import changed
from protocols.protocol import FROZEN_ROWS, digest

PROTOCOL = load_named("protocol", "toy")
TOY = tuple(datasets.find(("toy",), Registry(), None))
GRID = Axes(("ms", "triplet"), TOY, ("tiny",), ("adam",))


def cells(protocol=PROTOCOL, axes=GRID):
    return make_cells(axes, protocol, Registry())


def test_the_reference_row_is_in_every_grid_once():
    names = [cell.method for cell in cells()]
    assert names == ["ms", "triplet", "untrained"]
    with_it = replace(GRID, methods=("untrained", "ms"))
    assert [cell.method for cell in cells(axes=with_it)] == ["untrained", "ms"]


def test_a_trunk_with_weights_has_every_row_that_leaves_it_as_it_is():
    named = replace(GRID, methods=("lda", "ms"))
    found = make_cells(named, PROTOCOL, Registry(), "made")
    frozen = ["pretrained", *FROZEN_ROWS]
    assert [cell.method for cell in found] == list(dict.fromkeys(["lda", "ms", *frozen]))
    published = make_cells(GRID, replace(PROTOCOL, params="published"), Registry(), "made")
    assert [cell.method for cell in published] == ["ms", "triplet", "pretrained"]


@pytest.mark.parametrize(
    ("method", "weights", "searched", "runs"),
    [
        ("untrained", None, False, 2),  # another trunk for each seed
        ("untrained", "made", False, 1),
        ("lda", None, True, 2),
        ("lda", "made", True, 1),
        ("ms", "made", True, 2),
    ],
)
def test_a_row_in_which_nothing_is_drawn_has_one_run(method, weights, searched, runs, tmp_path):
    made = make_cells(replace(GRID, methods=(method,)), PROTOCOL, Registry(), weights)
    key = key_of(made[0], PROTOCOL, Registry(), None)
    study = Study(tmp_path, PROTOCOL, (key,))
    (left,) = progress_of(study, [key])
    trials = PROTOCOL.search.trials if searched else 0
    assert (key.searched, left.trials, left.runs) == (searched, trials, runs)
    assert left.jobs_left == (trials + runs) * PROTOCOL.folds


@pytest.mark.parametrize(
    ("trunk", "runs"), [("prompt10:timm:vit_tiny_patch16_224", 2), ("lora8:tiny", 1)]
)
def test_a_trunk_that_starts_at_random_beside_its_weights_has_a_run_for_each_seed(
    trunk, runs, tmp_path
):
    axes = replace(GRID, methods=("untrained",), trunks=(trunk,))
    found = make_cells(axes, PROTOCOL, Registry(), "made")
    key = key_of(found[0], PROTOCOL, Registry(), None)
    assert found[0].identity.get("trunk_drawn", False) == (runs == 2)
    study = Study(tmp_path, PROTOCOL, (key,))
    assert study.runs_asked(key) == runs
    study.save()
    assert load_study(tmp_path).cells == (key,)


def test_identity_moves_with_every_rule_and_not_with_words_or_seeds():
    base = [cell.id for cell in cells()]
    assert [cell.id for cell in cells(replace(PROTOCOL, summary="x", label="y", seeds=9))] == base
    for change in (
        {"version": PROTOCOL.version + 1},
        {"embedding_size": 64},
        {"batch_size": 8},
        {"pace": replace(PROTOCOL.pace, patience=9)},
        {"search": replace(PROTOCOL.search, trials=9)},
        {"image": replace(PROTOCOL.image, flip=0.5)},
    ):
        assert not {cell.id for cell in cells(replace(PROTOCOL, **change))} & set(base), change


def test_every_field_of_a_protocol_is_hashed_or_words():
    base = PROTOCOL.hash()
    for change in ({"seeds": 3}, {"trunk": "other"}, {"recipe": "other"}, {"datasets": ("emoji",)}):
        assert replace(PROTOCOL, **change).hash() != base
        assert replace(PROTOCOL, **change).rules_hash() == PROTOCOL.rules_hash()
    assert replace(PROTOCOL, summary="", label="", overrides={"a": 1}).hash() == base


def test_derived_protocols_say_what_differs():
    assert PROTOCOL.derive(trials=2, seeds=None, trunk="tiny") is PROTOCOL
    derived = PROTOCOL.derive(trials=7, seeds=5)
    assert (derived.search.trials, derived.seeds) == (7, 5)
    assert derived.overrides == {"trials": 7, "seeds": 5}
    assert derived.hash() != PROTOCOL.hash()


def test_precision_on_the_command_line_makes_a_derived_protocol(tmp_path):
    words = ["plan", "--protocol", "toy", "--out", str(tmp_path / "runs"), "--precision"]
    found = {}
    for precision in ("fp32", "bf16"):
        args = make_parser().parse_args([*words, precision])
        found[precision] = read_protocol(args, Registry())
    assert found["fp32"] is PROTOCOL
    assert found["bf16"].precision == "bf16"
    assert found["bf16"].overrides == {"precision": "bf16"}
    assert found["bf16"].rules_hash() != PROTOCOL.rules_hash()
    assert not {c.id for c in cells(found["bf16"])} & {c.id for c in cells()}


@pytest.fixture
def study(tmp_path):
    found = [(key_of(cell, PROTOCOL, Registry(), None), cell) for cell in cells()]
    study = Study(tmp_path, PROTOCOL).extend([key for key, _ in found], PROTOCOL)
    study.save()
    save_cells(study, found)
    return study


def job(stage, number, fold):
    return JobRecord("j", "c", stage, number, fold, {}, "done")


def test_progress_counts_folds_of_unfinished_units(study):
    ms = next(cell for cell in study.cells if cell.method == "ms")

    def left():
        return progress_of(study, [ms])[0]

    assert (left().jobs_left, left().state) == (8, "todo")
    for record in (job("search", 0, 0), job("search", 0, 1)):
        records.write(study.record_path(ms, record), record)
    assert left().jobs_left == 6
    for record in (
        TrialRecord("t", "c", 0, {}, "done", 0.1, [0.1, 0.1]),
        job("search", 1, 1),
    ):
        records.write(study.record_path(ms, record), record)
    assert (left().jobs_left, left().state) == (5, "partial")
    for record in (
        TrialRecord("t", "c", 1, {}, "done", 0.1, [0.1, 0.1]),
        ChoiceRecord("x", "c", "rule", 0, {}, 0.1),
        RunRecord("r", "c", 0, {}, "done", []),
        RunRecord("r", "c", 1, {}, "failed", []),
    ):
        records.write(study.record_path(ms, record), record)
    assert (left().jobs_left, left().state, left().runs_done) == (0, "done", 2)


def test_a_study_is_read_back_as_it_was_saved(study):
    assert load_study(study.out) == study
    (study.out / "study.json").write_text("{")
    with pytest.raises(StoreError, match="records beside it are kept"):
        load_study(study.out)


def test_more_seeds_are_kept_and_fewer_do_not_take_away(study):
    more, fewer = (replace(PROTOCOL, seeds=seeds) for seeds in (7, 1))
    assert study.extend([], more).protocol.seeds == 7
    assert study.extend([], more).extend([], fewer).protocol.seeds == 7


def test_a_study_begun_with_fewer_seeds_is_unchanged_once_it_has_them_all(tmp_path):
    """It was "changed: seeds 1" for ever, and no row of it could be submitted."""
    fewer, more = (changed(PROTOCOL, {"seeds": PROTOCOL.seeds + by}) for by in (-1, 1))
    shorter = changed(PROTOCOL, {"precision": "bf16"})
    begun = Study(tmp_path, fewer)
    assert begun.protocol.overrides == {"seeds": PROTOCOL.seeds - 1}
    assert begun.extend([], PROTOCOL).protocol == PROTOCOL
    assert begun.extend([], more).protocol.overrides == {"seeds": PROTOCOL.seeds + 1}
    assert begun.extend([], PROTOCOL).extend([], fewer).protocol == PROTOCOL
    assert Study(tmp_path, PROTOCOL).extend([], fewer).protocol == PROTOCOL
    # One that an earlier version left so is mended by the same command, and keeps other changes.
    left = replace(shorter, overrides={**shorter.overrides, "seeds": PROTOCOL.seeds - 1})
    assert Study(tmp_path, left).extend([], shorter).protocol == shorter


def test_a_changed_method_replaces_its_cell_and_is_counted(study):
    old = next(cell for cell in study.cells if cell.method == "ms")
    later = study.extend([replace(old, id="f" * 16)], PROTOCOL)
    assert len(later.cells) == len(study.cells)
    assert stale_records(study) == 0
    assert stale_records(later) == 1


def test_a_further_search_shares_nothing_with_the_first_but_the_rules(study):
    ms = next(cell for cell in study.cells if cell.method == "ms")
    record = next(cell for cell in cells() if cell.method == "ms")
    again = [further_search(ms, record, PROTOCOL, n) for n in (1, 2)]
    assert len({ms.id, *(key.id for key, _ in again)}) == 3
    assert [key.row for key, _ in again] == ["ms (search 2)", "ms (search 3)"]
    for key, found in again:
        assert key.id == found.id == key_id(found)
        assert (key.method, key.axes) == ("ms", ms.axes)
    firsts = {first_seed(key) for key in (ms, *(key for key, _ in again))}
    assert len(firsts) == 3


def key_id(record):
    return digest({**record.identity, "rules": PROTOCOL.rules_hash()}, 16)


def first_seed(cell):
    from benchmark.training.job import Job, _seed

    source = DataSource("toy", "", None, Path())
    recipe = load_named("recipe", "adam")
    return _seed(Job(cell, PROTOCOL, recipe, "search", 0, 0, {}, source, "cpu"), "trunk")


def test_the_first_search_keeps_the_seeds_it_always_had(study):
    ms = next(cell for cell in study.cells if cell.method == "ms")
    assert first_seed(ms) == seed("toy", "tiny", "search", 0, 0, "trunk")


def test_only_what_is_searched_is_searched_again(study):
    found = [(key_of(cell, PROTOCOL, Registry(), None), cell) for cell in cells()]
    again = further_searches(found, PROTOCOL, 3)
    assert [key.row for key, _ in again] == [
        "ms (search 2)", "triplet (search 2)", "ms (search 3)", "triplet (search 3)",
    ]  # fmt: skip
    assert further_searches(found, PROTOCOL, 1) == []
    reference = [pair for pair in found if pair[0].method == "untrained"]
    with pytest.raises(InvalidInputError, match="no method of this grid is searched"):
        further_searches(reference, PROTOCOL, 2)


def test_ten_thousand_cells_are_planned_in_seconds(tmp_path):
    keys = [CellKey(f"{n:016x}", "toy", "tiny", "adam", f"m{n}", f"m{n}") for n in range(10_000)]
    started = time.perf_counter()
    study = Study(tmp_path, PROTOCOL).extend(keys, PROTOCOL)
    assert sum(plan.jobs_left for plan in progress_of(study, study.cells)) == 80_000
    assert time.perf_counter() - started < 10  # 0.2 s alone; a bound against quadratic work
