"""One coordinator at a time holds a folder, also where the file system has no locks."""

import errno
import fcntl
import os
import socket
import subprocess
import sys

import pytest

from benchmark.engines import holding
from benchmark.engines.holding import HOLDER, lock
from protocols.errors import StoreError


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def no_locks(request, monkeypatch):
    def refuse(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_second_one_is_refused(tmp_path):
    said = []
    with lock(tmp_path, said.append), pytest.raises(StoreError, match="another run is at work"):
        lock(tmp_path, said.append).__enter__()
    assert not said
    assert not (tmp_path / HOLDER).exists()


def test_without_locks_a_named_holder_stands_for_one_and_goes_with_it(tmp_path, no_locks):
    said = []
    for _ in range(2):
        with lock(tmp_path, said.append):
            assert (tmp_path / HOLDER).read_text() == f"{socket.gethostname()} {os.getpid()}"
    assert len(said) == 2
    assert "has no locks" in said[0]
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_living_holder_is_named(tmp_path, no_locks):
    (tmp_path / HOLDER).write_text(f"{socket.gethostname()} {os.getppid()}")
    with pytest.raises(StoreError, match=f"process {os.getppid()} on .* is at work"):
        lock(tmp_path, print).__enter__()
    (tmp_path / HOLDER).write_text("another-machine 1")
    with pytest.raises(StoreError, match=r"on another-machine is at work.*if it is dead, remove"):
        lock(tmp_path, print).__enter__()
    (tmp_path / HOLDER).write_text("")
    with pytest.raises(StoreError, match="names nobody"):
        lock(tmp_path, print).__enter__()


def test_a_dead_holder_on_this_machine_is_taken_over(tmp_path, no_locks):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / HOLDER).write_text(f"{socket.gethostname()} {dead.pid}")
    with lock(tmp_path, print):
        assert str(os.getpid()) in (tmp_path / HOLDER).read_text()


def test_of_two_that_find_a_dead_holder_the_second_leaves_the_file_of_the_first(
    tmp_path, no_locks, monkeypatch
):
    """The first takes over after the second has seen that the holder is dead."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    holder, first = tmp_path / HOLDER, f"{socket.gethostname()} {os.getppid()}"
    holder.write_text(f"{socket.gethostname()} {dead.pid}")
    check = holding._check_gone

    def slow(*words):
        check(*words)
        holder.unlink()
        holder.write_text(first)

    monkeypatch.setattr(holding, "_check_gone", slow)
    with pytest.raises(StoreError, match="another run has just begun"):
        lock(tmp_path, print).__enter__()
    assert holder.read_text() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == [HOLDER, ".lock"]


def test_a_folder_in_the_place_of_the_lock_is_one_line(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(StoreError, match=r"\.lock cannot be written \(Is a directory\)"):
        lock(tmp_path, print).__enter__()


def test_another_fault_is_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(StoreError, match="cannot lock"):
        lock(tmp_path, print).__enter__()
