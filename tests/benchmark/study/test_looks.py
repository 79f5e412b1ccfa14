"""How often verdicts were looked at, and what was planned: kept in the study's folder."""

import json
from dataclasses import replace

import pytest

from benchmark.study.looks import FILE, Looks, look, plan_seeds, read_looks
from protocols.errors import StoreError
from tests.benchmark.tables.test_frames import key, make


@pytest.fixture
def study(tmp_path):
    return make(tmp_path, {"triplet": [], "margin": []})


def with_seeds(study, seeds):
    return study.extend([], replace(study.protocol, seeds=seeds))


def test_the_plan_can_change_until_the_first_final_run_begins(study):
    assert read_looks(study) == Looks()
    assert plan_seeds(study).planned == 3
    more = with_seeds(study, 10)
    assert plan_seeds(more).planned == 10
    folder = more.folder(key("margin"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seed-0.fold-0.json").write_text("{}")  # a first fold of a first run
    assert plan_seeds(with_seeds(more, 12)).planned == 10
    assert read_looks(study).planned == 10


def test_a_look_at_the_same_or_fewer_seeds_is_no_new_one(study):
    for seeds in (6, 6, 8, 7, 8, 10):
        look(study, seeds)
    assert read_looks(study).seen == (6, 8, 10)


def test_planned_seeds_are_clean_and_added_ones_are_not(study):
    plan_seeds(study)
    assert read_looks(study).sentence() == ""
    look(study, 2)
    assert read_looks(study).sentence() == ("verdicts at 2 of 3 planned seeds: not the final ones")
    look(study, 3)
    assert read_looks(study).clean  # stopping there was decided before
    assert read_looks(study).sentence() == "3 seeds, as planned before the first run"
    look(study, 5)
    assert not read_looks(study).clean
    assert (
        read_looks(study)
        .sentence()
        .startswith("verdicts looked at 3 times (2, 3, 5 seeds; planned 3): adding seeds")
    )


def test_without_a_plan_that_is_said(study):
    look(study, 6)
    assert read_looks(study).sentence() == (
        "6 seeds, no number of seeds planned; verdicts not looked at with fewer"
    )


def test_the_file_is_written_only_when_it_changes(study):
    look(study, 6)
    path = study.out / FILE
    before = path.stat().st_mtime_ns
    look(study, 6)
    assert path.stat().st_mtime_ns == before
    assert json.loads(path.read_text()) == {"planned": None, "seen": [6]}


@pytest.mark.parametrize("text", ["", "[]", '{"planned": 3}', '{"planned": "x", "seen": []}'])
def test_a_damaged_file_is_one_clear_error(study, text):
    (study.out / FILE).write_text(text)
    with pytest.raises(StoreError, match=r"looks\.json is damaged"):
        read_looks(study)
