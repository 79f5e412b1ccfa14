"""``--mps`` from the command line to the workers: the daemon is there before and after them."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.cli import make_parser
from benchmark.commands.jobs import engine_for
from benchmark.engines import local, mps
from benchmark.running import canary, setup
from tests import mps_daemon


class MadeEngine:
    """Notes how it is made, and whether the daemon is there when it is closed."""

    made = []  # noqa: RUF012

    def __init__(self, capacity, threads, log, *, mps, **others):
        self.pipes, self.at_close = mps, None
        assert others["devices"] == ("2",)
        self.made.append(self)

    def start(self, *modules):
        """Do nothing."""

    def close(self):
        self.at_close = self.pipes is not None and (self.pipes / "control").exists()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Pretend that there is a card, with NVIDIA's program and no daemon."""
    for name, value in mps_daemon.install(tmp_path).items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name.startswith("CUDA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(mps, "USUAL", str(tmp_path / "no daemon"))
    for place in (mps, setup):
        monkeypatch.setattr(place, "pick_device", lambda asked: "cuda")
    monkeypatch.setattr(setup, "cuda_devices", lambda device: ("2",))
    monkeypatch.setattr(canary, "check_workers", lambda engine, device: None)
    monkeypatch.setattr(local, "LocalEngine", MadeEngine)
    monkeypatch.setattr(MadeEngine, "made", [])
    return tmp_path


def prepared(machine):
    words = ("--protocol", "toy", "--methods", "ms", "--jobs", "2", "--out", str(machine / "o"))
    return lambda *more: setup.set_up(make_parser().parse_args(["run", *words, *more]))


def test_the_daemon_is_up_before_the_workers_and_ends_after_them(machine):
    asked = prepared(machine)("--mps")
    ready = setup.make_ready(asked)
    assert ready.mps
    with engine_for(Console(), asked, ready, machine) as engine:
        assert engine.pipes.is_relative_to(mps.PLACE)
        assert (engine.pipes / "control").exists()
    assert engine.at_close, "workers first"
    assert not engine.pipes.parent.exists()


def test_without_the_option_nothing_is_started(machine):
    asked = prepared(machine)()
    ready = setup.make_ready(asked)
    with engine_for(Console(), asked, ready, machine) as engine:
        assert (ready.mps, engine.pipes) == (False, None)
    assert not list(Path(os.environ["MADE_MPS"]).iterdir())


def test_a_daemon_that_is_here_is_used_whether_asked_for_or_not(machine, monkeypatch):
    """CUDA goes by it in any case: what follows from that, broken neighbours, must be known."""
    monkeypatch.setattr(mps, "running", lambda environment: machine / "theirs")
    asked = prepared(machine)()
    ready = setup.make_ready(asked)
    with engine_for(Console(), asked, ready, machine) as engine:
        assert (ready.mps, engine.pipes) == (True, machine / "theirs")
