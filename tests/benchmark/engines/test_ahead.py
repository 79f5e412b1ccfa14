"""CUDA's driver, started while torch is imported."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmark.cli import make_parser
from benchmark.engines import ahead
from benchmark.running import setup


class Driver:
    """Stands for libcuda: notes what is called, and refuses what it is told to."""

    def __init__(self, refused=()):
        self.called, self.refused = [], refused

    def __getattr__(self, name):
        def call(*arguments):
            self.called.append(name)
            return 999 if name in self.refused else 0

        return call


@pytest.mark.parametrize(
    ("first_device", "refused", "wanted"),
    [
        (False, (), ["cuInit"]),
        (True, (), ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"]),
        (True, ("cuInit",), ["cuInit"]),
        (True, ("cuDeviceGet",), ["cuInit", "cuDeviceGet"]),
    ],
)
def test_the_driver_is_started_as_far_as_it_answers(monkeypatch, first_device, refused, wanted):
    driver = Driver(refused)
    monkeypatch.setattr(ahead.ctypes, "CDLL", lambda name: driver)
    monkeypatch.setattr(ahead.sys, "platform", "linux")
    thread = ahead.start_driver(first_device=first_device)
    assert thread is not None
    thread.join(10)
    assert driver.called == wanted


def test_without_a_driver_nothing_is_started(monkeypatch):
    monkeypatch.setattr(ahead, "DRIVER", "libno-such-driver.so.1")
    assert ahead.start_driver(first_device=True) is None


def test_it_begins_before_torch_is_there():
    code = "import sys, benchmark.engines.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("device", "wanted"), [("auto", ["join"]), ("cpu", [])])
def test_a_command_goes_on_once_the_driver_has_read_the_environment(
    tmp_path, monkeypatch, device, wanted
):
    done = []
    driver = SimpleNamespace(join=lambda limit: done.append("join"))
    monkeypatch.setattr(setup, "start_driver", lambda first_device: driver)
    words = ("run", "--protocol", "toy", "--methods", "ms", "--device", device)
    setup.set_up(make_parser().parse_args([*words, "--out", str(tmp_path / "o")]))
    assert done == wanted


def test_a_worker_sets_every_variable_before_the_driver_reads_them():
    code = """
import os
from benchmark.engines import worker

class Started:
    met = None

    def join(self, limit):
        os._exit(dict(os.environ) != self.met or self.met["CUDA_VISIBLE_DEVICES"] != "7")

def drive(*, first_device):
    Started.met = dict(os.environ)
    return Started()

worker.start_driver = drive
worker.start(None, os.getppid(), 1, os.devnull, False, "7", 2)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
