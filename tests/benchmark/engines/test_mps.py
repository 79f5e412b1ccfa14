"""NVIDIA's MPS: whose daemon is used, with what it is started, and that nothing of it is left."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.engines import mps, mps_watch
from protocols.errors import InvalidInputError
from tests import mps_daemon

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Return the variables under which the stand-in is found, and no other daemon."""
    monkeypatch.setattr(mps, "USUAL", str(tmp_path / "no daemon"))
    monkeypatch.setattr(mps, "ELSEWHERE", str(tmp_path / "nowhere"))
    # The seconds that a daemon gets for its last clients are cut short.
    text = Path(mps_watch.__file__).read_text().replace("GRACE_S = 5.0", "GRACE_S = 0.3")
    (tmp_path / "watch.py").write_text(text)
    monkeypatch.setattr(mps_watch, "__file__", str(tmp_path / "watch.py"))
    return mps_daemon.install(tmp_path)


def started(made):
    """Return the daemon's process and its variables."""
    return json.loads((Path(made["MADE_MPS"]) / "started.json").read_text())


def processes(made):
    return started(made)[0], int((Path(made["MADE_MPS"]) / "server").read_text())


def gone(numbers, seconds=15.0):
    """Return whether processes are gone, within some seconds."""
    deadline = time.monotonic() + seconds
    while any(Path(f"/proc/{number}").exists() for number in numbers):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_daemon_of_its_own_has_all_cards_and_ends_with_the_study(made):
    own = {**made, "CUDA_VISIBLE_DEVICES": "2", "KEPT": "yes"}
    with mps.serving(own) as service:
        _, variables = started(made)
        assert "CUDA_VISIBLE_DEVICES" not in variables
        assert variables["KEPT"] == "yes"
        assert variables[mps.PIPES] == str(service.pipes)
        assert Path(variables[mps.LOGS]).is_dir()
        assert len(f"{service.pipes}/control_privileged") < 60, "a socket's path is short"
        service.check_used()
        assert service.clients() == [17]
        numbers = processes(made)
        assert all(Path(f"/proc/{number}").exists() for number in numbers)
        assert os.getsid(numbers[0]) != os.getsid(0), "Ctrl-C at a terminal does not reach it"
    assert gone(numbers, 0), "on leaving, not some time later"
    assert (Path(made["MADE_MPS"]) / "quit").exists(), "it was asked to end"
    assert not service.pipes.parent.exists()


def test_one_that_does_not_end_is_killed_with_its_server(made):
    with mps.serving({**made, "MADE_MPS_MODE": "stays"}) as service:
        numbers = processes(made)
    assert gone(numbers, 0)
    assert not service.pipes.parent.exists()


COORDINATOR = """
import os, sys, time
from benchmark.engines import mps
mps.USUAL = mps.ELSEWHERE = "/nowhere"
with mps.serving(dict(os.environ)) as service:
    print(service.pipes, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT]
)
def test_nothing_is_left_of_it_when_the_coordinator_is_killed(made, number):
    """SIGKILL meets the coordinator alone; the others all processes, as a cluster sends them."""
    environment = {**made, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", COORDINATOR]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as coordinator:
        pipes = Path(coordinator.stdout.readline().strip())
        numbers = processes(made)
        every = (*parents(numbers[0]), *numbers)
        if number != signal.SIGKILL:
            for process in every:
                os.kill(process, number)
            time.sleep(0.3)
        waited = [process for process in every if runs(process)]
        coordinator.send_signal(number)
    assert waited == list(every), "they wait for the coordinator's end"
    assert gone(numbers)
    assert gone_path(pipes.parent)


def parents(number):
    yield int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])


def runs(number):
    """Return whether a process is there, and not merely waited for by its parent."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def gone_path(path, seconds=15.0):
    deadline = time.monotonic() + seconds
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not path.exists()


@pytest.mark.parametrize("named", [True, False])
def test_the_users_own_daemon_is_used_and_left_alone(made, named, tmp_path, monkeypatch):
    pipes = tmp_path / "p"
    pipes.mkdir()
    theirs = {**made, mps.PIPES: str(pipes)}
    monkeypatch.setattr(mps, "USUAL", str(pipes))
    ours = theirs if named else made
    assert mps.running(ours) is None
    with subprocess.Popen([tmp_path / mps_daemon.NAME, "-f"], env=theirs) as daemon:
        while not (pipes / "control").exists():
            time.sleep(0.01)
        with mps.serving(ours) as service:
            assert service.pipes == pipes
            service.check_used()
        assert daemon.poll() is None
        assert not (Path(made["MADE_MPS"]) / "quit").exists()
        bare = {**ours, "PATH": "/nowhere"}  # a container may have the socket, not the program
        without = mps.running(bare)
        daemon.kill()
        os.kill(processes(made)[1], signal.SIGKILL)
    assert without == (pipes if named else None)
    assert (pipes / "control").exists()
    assert mps.running(ours) is None, "the socket of one that is gone is no daemon"
    monkeypatch.setattr(mps, "pick_device", lambda asked: "cuda")
    if not named:
        with pytest.raises(InvalidInputError, match="is not on PATH"):
            mps.check("local", "auto", bare)


@pytest.mark.parametrize(
    ("mode", "said"), [("dies", r"did not start \(no card here takes a daemon\)"), ("", "said not")]
)
def test_one_that_does_not_start_is_said_in_a_line(made, mode, said, monkeypatch, tmp_path):
    if not mode:  # no program of NVIDIA's: it starts, says nothing and never answers
        monkeypatch.setattr(mps, "START_S", 0.3)
        (tmp_path / mps_daemon.NAME).write_text("#!/bin/sh\nexec sleep 600\n")
    with (
        pytest.raises(InvalidInputError, match=said) as error,
        mps.serving({**made, "MADE_MPS_MODE": mode}),
    ):
        pass
    assert "\n" not in str(error.value)


def test_a_daemon_by_which_nobody_goes_is_no_service(made):
    with (
        mps.serving({**made, "MADE_MPS_MODE": "serves nobody"}) as service,
        pytest.raises(InvalidInputError, match="used its card without it"),
    ):
        service.check_used()


def test_it_is_refused_where_it_is_of_no_use(made, monkeypatch):
    with pytest.raises(InvalidInputError, match="--engine ray"):
        mps.check("ray", "auto", made)
    with pytest.raises(InvalidInputError, match="run on the CPU"):
        mps.check("local", "cpu", made)
    monkeypatch.setattr(mps, "pick_device", lambda asked: "cuda")
    mps.check("local", "auto", made)
    with pytest.raises(InvalidInputError, match="comes with NVIDIA's driver"):
        mps.check("local", "auto", {**made, "PATH": "/nowhere"})
    with pytest.raises(InvalidInputError, match="not here"), mps.serving({**made, "PATH": "/x"}):
        pass


def test_the_program_is_found_where_containers_have_it(made, monkeypatch, tmp_path):
    monkeypatch.setattr(mps, "ELSEWHERE", str(tmp_path))
    bare = {**made, "PATH": "/nowhere"}
    assert mps.program(bare) == str(tmp_path / mps_daemon.NAME)
    with mps.serving(bare):
        assert started(made)[1]["PATH"] == f"/nowhere:{tmp_path}", "its server lies there too"
