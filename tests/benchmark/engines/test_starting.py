"""Where no worker could start, a study says so and writes nothing."""

import errno
import multiprocessing
import os
import resource
import sys
from types import SimpleNamespace

import pytest

from benchmark.cli import main
from benchmark.engines import starting
from protocols.errors import InvalidInputError

RUN = ["run", "--protocol", "toy", "--methods", "triplet", "--device", "cpu", "--out"]


@pytest.fixture
def one_line(capsys):
    def check(says):
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("benchmark: ")
        assert says in line

    return check


def limit(monkeypatch, *, addresses):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (addresses, resource.RLIM_INFINITY))


def test_here_workers_can_start():
    starting.check_processes(8)
    starting.check_address_space()


@pytest.mark.parametrize("words", [[*RUN, "OUT"], ["check", "ms"]], ids=lambda words: words[0])
def test_too_few_addresses(monkeypatch, tmp_path, one_line, words):
    limit(monkeypatch, addresses=2_000_000 << 10)
    out = tmp_path / "out"
    assert main([str(out) if word == "OUT" else word for word in words]) == 2
    one_line("2.0 GB here (ulimit -v 2000000), torch needs 4.3 GB")
    assert not out.exists()


@pytest.mark.parametrize("addresses", [starting.ADDRESS_SPACE_BYTES, resource.RLIM_INFINITY])
def test_enough_addresses(monkeypatch, addresses):
    limit(monkeypatch, addresses=addresses)
    starting.check_address_space()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.ENOENT, errno.EACCES])
def test_shared_memory_that_takes_a_few_semaphores(monkeypatch, tmp_path, one_line, code):
    taken = []

    def lock():
        if len(taken) == 7:
            raise OSError(code, os.strerror(code))
        taken.append(1)

    context = SimpleNamespace(Lock=lock)
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: context)
    out = tmp_path / "out"
    assert main([*RUN, str(out), "--jobs", "2"]) == 2
    one_line(
        f"2 workers need 10 semaphores, and shared memory (/dev/shm) took 7 ({os.strerror(code)})"
    )
    assert not list(out.rglob("*.json"))


@pytest.mark.parametrize("name", ["<stdin>", "gone.py"])
def test_a_program_that_cannot_be_read_again(monkeypatch, tmp_path, name):
    program = SimpleNamespace(__spec__=None, __file__=str(tmp_path / name))
    monkeypatch.setitem(sys.modules, "__main__", program)
    with pytest.raises(InvalidInputError, match=f"read from {name}, and worker processes cannot"):
        starting.check_processes(1)


def test_a_program_in_a_file_or_without_one(monkeypatch, tmp_path):
    (tmp_path / "mine.py").touch()
    for about in ({"__file__": str(tmp_path / "mine.py")}, {}):  # {}: python -c, a notebook
        program = SimpleNamespace(__spec__=None, **about)
        monkeypatch.setitem(sys.modules, "__main__", program)
        starting.check_processes(1)
