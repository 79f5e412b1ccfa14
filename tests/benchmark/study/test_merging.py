"""Studies of the same own images that were prepared under two names: merged, they are one study."""

from dataclasses import replace

import numpy as np
import pytest

from benchmark.study import merging, references
from benchmark.study.folder import CellKey, load_study
from benchmark.study.records import JobRecord, RunRecord
from benchmark.tables.frames import make_tables
from tests.benchmark.tables.test_frames import PROTOCOL, make, shown
from tests.proven import put

RULES = replace(PROTOCOL, seeds=6)
FOLDER, LISTED, OTHER = "folder:shop@12345678", "csv:list@12345678", "csv:list@87654321"


def cell(method, title):
    return CellKey(f"{method:_<12}own", title, "tiny", "adam", method, method)


def with_folds(study):
    """Write the folds of every trial and run, in the words of the jobs that made them."""
    for held in study.cells:
        chosen = study.choice(held).settings
        runs = [replace(run, settings=chosen) for run in study.runs(held)]
        for record in (*study.trials(held), *runs):
            final = isinstance(record, RunRecord)
            number = record.seed if final else record.number
            said = f"48 test images of {held.dataset} opened to score step 10"
            for fold in range(study.protocol.folds):
                job = JobRecord(
                    id="", cell=held.id, stage="final" if final else "search", number=number,
                    fold=fold, settings=record.settings, status="done",
                    openings=[said] if final else [],
                )  # fmt: skip
                put(study, held, job)
            if final:
                lines = [f"fold {fold}: {said}" for fold in range(study.protocol.folds)]
                put(study, held, replace(record, openings=lines))
    return study


def study_of(out, title, methods):
    """A study of own images called ``title``; a method has the same numbers in every study."""
    values = {}
    for method, mean in methods.items():
        drawn = np.random.default_rng(sum(map(ord, method))).normal(0, 0.001, RULES.seeds)
        values[cell(method, title)] = (mean + drawn).tolist()
    return with_folds(make(out, values, RULES))


def merged(studies, out):
    parts = [part for study in studies for part in merging.parts_of(study)]
    assert all(part.held and not part.doubted for part in parts)
    found = merging.conflicts(parts)
    assert found == [], [conflict.words for conflict in found]
    target = merging.together(studies, out)
    target.save()
    merging.carry(target, parts)
    return load_study(out)


def test_two_names_of_the_same_images_make_the_tables_of_one_study(tmp_path):
    base, fresh = {"triplet": 0.4, "ms": 0.5}, {"triplet": 0.4, "margin": 0.45}
    one = study_of(tmp_path / "one", FOLDER, base)
    two = study_of(tmp_path / "two", LISTED, fresh)
    found = merged([one, two], tmp_path / "all")
    straight = study_of(tmp_path / "straight", FOLDER, base | fresh)
    assert {held.dataset for held in found.all_cells} == {FOLDER}
    assert make_tables(found).pairs.equals(make_tables(straight).pairs)
    assert make_tables(found).summary.equals(make_tables(straight).summary)
    assert shown(found) == shown(straight)
    # A third study under yet another name, into what was merged: the name that is known stays.
    third = study_of(tmp_path / "third", "folder:new@12345678", {"triplet": 0.4, "npair": 0.3})
    again = merged([found, third], tmp_path / "more")
    assert {held.dataset for held in again.all_cells} == {FOLDER}


@pytest.mark.parametrize(
    ("title", "agree"), [(LISTED, True), ("csv:@12345678", True), (OTHER, False)]
)
def test_openings_are_compared_by_the_images_and_not_by_their_name(title, agree):
    def record(title, count=48):
        return RunRecord(
            id="", cell="c", seed=0, settings={}, status="done", folds=[],
            openings=[f"fold 0: {count} test images of {title} opened to score step 10"],
        )  # fmt: skip

    assert merging.agree(record(FOLDER), record(title)) == agree
    assert not merging.agree(record(FOLDER), record(title, count=47))
    assert not merging.agree(record(FOLDER), record("toy"))


def test_a_reference_row_measured_under_two_names_is_one(tmp_path):
    def measured(study, title, value=0.5):
        row = references.Reference(
            name="new", dataset="own-12345678", dataset_digest="12345678", file="new.onnx",
            file_sha256="ab", compare="angle", size=8, metrics={"map_at_r": value}, excluded=0,
            ties=0, labels=[0], counts=[1.0], sums={"map_at_r": [value]},
            opening=f"test images of {title} opened to measure new.onnx, not trained here",
        )  # fmt: skip
        return references.write(study, row)

    one = make(tmp_path / "one", {cell("ms", FOLDER): [0.5]}, RULES)
    two = make(tmp_path / "two", {cell("ms", LISTED): [0.5]}, RULES)
    path = measured(one, FOLDER)
    measured(two, LISTED)
    assert merging.reference_files([one, two]) == ({path.name: path}, [])
    measured(two, LISTED, value=0.6)
    (conflict,) = merging.reference_files([one, two])[1]
    assert "the reference row new@own-12345678" in conflict.words


def timed(study, seconds):
    """Write a time of its own into every run of ``study``, which no comparison looks at."""
    for held in study.cells:
        for run in study.runs(held):
            put(study, held, replace(run, measured={**run.measured, "train_s": seconds}))
    return study


def times(study):
    return {run.measured["train_s"] for held in study.cells for run in study.runs(held)}


def test_of_records_that_two_studies_hold_the_first_ones_are_taken_and_counted_once(tmp_path):
    one, two = (timed(study_of(tmp_path / str(s), FOLDER, {"triplet": 0.4}), s) for s in (1.0, 2.0))
    parts = [part for study in (one, two) for part in merging.parts_of(study)]
    target = merging.together([one, two], tmp_path / "all")
    target.save()
    came = merging.carry(target, parts)
    assert came == {one.out: len(parts[0].held), two.out: 0}
    assert times(load_study(target.out)) == {1.0}


def test_what_lies_in_the_target_is_left_as_it_is(tmp_path):
    own = timed(study_of(tmp_path / "own", FOLDER, {"triplet": 0.4}), 1.0)
    other = timed(study_of(tmp_path / "other", FOLDER, {"triplet": 0.4, "ms": 0.5}), 2.0)
    parts = [part for study in (other, own) for part in merging.parts_of(study)]
    target = merging.together([other, own], own.out)
    target.save()
    came = merging.carry(target, parts)
    assert came == {other.out: sum(len(p.held) for p in parts if p.cell.method == "ms")}
    found = load_study(own.out)
    by_method = {h.method: {r.measured["train_s"] for r in found.runs(h)} for h in found.cells}
    assert by_method == {"triplet": {1.0}, "ms": {2.0}}
