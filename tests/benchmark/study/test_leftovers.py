"""What killed processes left behind goes, and nothing else does."""

import os
import shutil
import subprocess
import sys

import pytest

from benchmark.engines.machine import (
    APPENDED,
    FILES,
    FOLDERS,
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
