"""Checkpoints in the output folder: where they lie, and when they go."""

import os

import pytest

from benchmark.study import partials
from benchmark.study.folder import CellKey, Study
from benchmark.study.leftovers import clean
from benchmark.study.records import JobRecord
from protocols.discovery import load
from protocols.errors import StoreError
from tests.proven import put

CELL = CellKey("a" * 16, "toy", "tiny", "adam", "ms", "ms")


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path, load("protocol", "toy"), (CELL,))


def begun(study, cell=CELL, number=0, fold=0):
    path = partials.path_of(study, cell, "search", number, fold)
    partials.make_room(path)
    path.write_bytes(b"kept")
    return path


def test_a_checkpoint_lies_beside_no_record(study, tmp_path):
    path = begun(study)
    assert path == tmp_path / "partial" / CELL.path / "trial-000.fold-0.pt"
    assert path.is_absolute()


def test_what_is_of_no_use_goes_and_its_folders_too(study):
    waiting, recorded = begun(study), begun(study, fold=1)
    other = begun(study, CellKey("b" * 16, "toy", "tiny", "adam", "ms", "ms"))
    aside = waiting.with_name(waiting.name + ".aside")
    aside.write_bytes(b"")
    put(study, CELL, JobRecord("id", CELL.id, "search", 0, 1, {}, "done"))
    assert partials.tidy(study) == 1
    assert waiting.exists()
    assert not recorded.exists()
    assert not aside.exists()
    assert not other.parent.exists()
    waiting.unlink()
    assert partials.tidy(study) == 0
    assert not (study.out / "partial").exists()


def test_what_the_machine_lost_may_be_asked_for_again(study):
    lost, failed = begun(study), begun(study, fold=1)
    put(study, CELL, JobRecord("id", CELL.id, "search", 0, 0, {}, "failed", "timeout"))
    put(study, CELL, JobRecord("id", CELL.id, "search", 0, 1, {}, "failed", "non_finite"))
    assert partials.tidy(study) == 0
    assert lost.exists()
    assert not failed.exists()


def test_a_part_of_a_dead_process_is_cleaned(study):
    path = begun(study)
    part = path.with_name(f".{path.name}.{2**22 + 1}.part")
    part.write_bytes(b"")
    assert partials.tidy(study) == 1
    assert clean(study) == 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_file_in_the_folders_place_is_one_line(study):
    (study.out / "partial").touch()
    with pytest.raises(StoreError, match=r"cannot make .*Not a directory"):
        begun(study)


def test_a_folder_without_checkpoints_has_none(study):
    assert partials.tidy(study) == 0
    assert os.listdir(study.out) == []
