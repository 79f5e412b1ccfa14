"""What killed processes left behind goes, and nothing else does."""

import os
import shutil
import subprocess
import sys

import pytest

from benchmark.cli import main
from benchmark.engines.machine import (
    APPENDED,
    FILES,
    FOLDERS,
    check_own_folder,
    check_places,
    check_writable,
)
from benchmark.study.folder import CellKey, Study
from benchmark.study.leftovers import clean
from benchmark.study.places import cell_id
from benchmark.study.records import RunRecord
from protocols.errors import StoreError
from protocols.specs.toy import PROTOCOL
from tests.proven import put

CELL = CellKey(cell_id({}), "toy", "tiny", "adam", "ms", "ms")


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left(out):
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def touch(out, *names):
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"x")


def test_parts_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path, dead):
    gone = [f"records/toy/tiny/.seed-0.json.{dead}.part", f".study.json.{dead}.part"]
    gone += [f"cache/.toy.u8.{dead}.part", f"queries/a/.seed-0.npz.{dead}.part"]
    kept = [f"tables/.runs.csv.{os.getppid()}.part", "mine.part", f"mlartifacts/.a.{dead}.part"]
    touch(tmp_path, *gone, *kept)
    assert clean(Study(tmp_path, PROTOCOL, (CELL,))) == 4
    assert left(tmp_path) == set(kept)


def test_embeddings_wait_only_for_a_run_that_is_not_recorded(tmp_path):
    study = Study(tmp_path, PROTOCOL, (CELL,))
    put(study, CELL, RunRecord("", CELL.id, 0, {}, "done", [None, None]))
    waiting, done = study.vectors_path(CELL, 1, 0), study.vectors_path(CELL, 0, 0)
    stale = tmp_path / "vectors" / "toy" / "tiny" / "adam" / "ms-00000000" / "seed-0.fold-0.npz"
    touch(tmp_path, *(str(path.relative_to(tmp_path)) for path in (waiting, done, stale)))
    assert clean(study) == 2
    assert list((tmp_path / "vectors").rglob("*.npz")) == [waiting]


@pytest.mark.parametrize("name", [*FILES, "tables/runs.csv"])
@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a link to nothing"])
def test_what_is_no_file_is_one_line_before_anything_starts(tmp_path, name, kind):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    make = {"a folder": path.mkdir, "a pipe": lambda: os.mkfifo(path)}
    make.get(kind, lambda: path.symlink_to(tmp_path / "nowhere"))()
    with pytest.raises(StoreError, match=f"{path.name} is {kind}, expected a file or nothing"):
        check_places(tmp_path)


@pytest.mark.parametrize("name", APPENDED)
def test_a_file_that_cannot_be_added_to_is_one_line_before_anything_starts(tmp_path, name):
    check_writable(tmp_path)
    # While a program runs nobody may write to its file, not even root.
    shutil.copy(shutil.which("sleep"), tmp_path / name)
    (tmp_path / name).chmod(0o755)
    with subprocess.Popen([tmp_path / name, "60"]) as running:
        try:
            with pytest.raises(StoreError, match=f"cannot write to .*{name}: Text file busy"):
                check_writable(tmp_path)
        finally:
            running.kill()
    check_writable(tmp_path)


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_no_folder_is_one_line_too(tmp_path, name):
    check_places(tmp_path)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(StoreError, match=f"{name} is a file, expected a folder or nothing"):
        check_places(tmp_path)


def test_a_linked_folder_or_file_is_used_as_before(tmp_path):
    for name in ("there", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "there" / "log").write_bytes(b"")
    (tmp_path / "out" / "log.txt").symlink_to(tmp_path / "there" / "log")
    (tmp_path / "out" / "records").symlink_to(tmp_path / "there")
    check_places(tmp_path / "out")


@pytest.mark.parametrize("words", [["run", "--protocol", "toy"], ["merge", "a", "b"]])
@pytest.mark.parametrize("out", ["photos", "."])
def test_a_folder_of_other_files_is_refused_and_left_as_it_is(
    words, out, tmp_path, monkeypatch, capsys
):
    names = [f"thing {number}/1.png" for number in range(5)]
    touch(tmp_path / "photos", *names)
    monkeypatch.chdir(tmp_path if out == "photos" else tmp_path / "photos")
    assert main([*words, "--out", out]) == 2
    said = capsys.readouterr().err
    assert f"{out} holds other files (thing 0, thing 1, thing 2 and 2 more)" in said
    assert "a new or an empty folder" in said
    found = (tmp_path / "photos").rglob("*")
    assert sorted(str(p.relative_to(tmp_path / "photos")) for p in found if p.is_file()) == names


def test_a_new_an_empty_and_a_studys_own_folder_are_taken(tmp_path):
    out = tmp_path / "out"
    check_own_folder(out)
    touch(out, ".DS_Store", ".gitignore")
    (out / "lost+found").mkdir()  # of a new volume
    check_own_folder(out)
    Study(out, PROTOCOL).save()
    touch(out, "winner.onnx")
    check_own_folder(out)
    (out / "study.json").unlink()
    with pytest.raises(StoreError, match=r"holds other files \(winner.onnx\)"):
        check_own_folder(out)
    put(Study(out, PROTOCOL), CELL, RunRecord("", CELL.id, 0, {}, "done", []))
    check_own_folder(out)  # records are there: study.json was damaged and deleted, as advised


def test_all_that_a_start_leaves_behind_that_was_killed_goes_on(tmp_path):
    touch(tmp_path, *FILES, *(f"{name}/x" for name in FOLDERS), "mlflow.db", "mlflow.db-journal")
    touch(tmp_path, "search.db", "search.db-wal", "mlartifacts/1/x", "workers.txt")
    (tmp_path / "study.json").unlink()
    check_own_folder(tmp_path)
