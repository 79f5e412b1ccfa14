"""The checks that need a GPU, rehearsed on the CPU: their code runs and judges as it should."""

import json
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
import torch

from protocols import dense
from tests.emulator import Emulator, as_on_a_device
from tests.gpu import __main__ as supervisor
from tests.gpu import checks, correct, plugins, sharing
from tests.gpu.__main__ import main

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    """Let the CPU play the device: losses of fixed shape, emulated recordings."""
    as_on_a_device(monkeypatch)
    monkeypatch.setattr(correct, "DEVICE", "cpu")
    monkeypatch.setattr(correct, "stream", nullcontext)
    monkeypatch.setattr(correct, "CudaRecorder", Emulator)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    real = correct.DeviceSteps

    def steps(training, recorder):
        taken = real(training, recorder)
        if recorder is not None:
            recorder.written = taken._written
        return taken

    monkeypatch.setattr(correct, "DeviceSteps", steps)


@pytest.mark.parametrize("name", ["crop", "waits", "recipes", "plugins"])
def test_a_check_passes_where_all_is_right(name, monkeypatch):
    monkeypatch.setattr(correct, "FITTED", {"swa": 120, **dict.fromkeys(correct.RECIPES, 120)})
    # The emulator sees no way from a host to a device.
    seen = {method: why for method, why in plugins.FROZEN.items() if method is not plugins.Hosts}
    monkeypatch.setattr(plugins, "FROZEN", seen)
    found = checks.function(name)()
    assert found.passed, found.text


def test_methods_agree_and_a_wrong_one_is_named(monkeypatch):
    monkeypatch.setattr(correct, "TRAINED", ["triplet", "divide_conquer"])
    found = correct.methods()
    assert found.passed, found.text
    monkeypatch.setattr(dense, "mean_of_violated", lambda values, mask: values.sum())
    monkeypatch.setattr(correct, "HostSteps", lambda training: correct.DeviceSteps(training, None))
    monkeypatch.setattr(dense, "on_host", lambda tensor: tensor.numel() == 0)
    real, calls = dense.form_of, []

    def every_other(loss, miner):
        calls.append(loss)
        return real(loss, miner) if len(calls) % 2 == 0 else None  # the host's come first

    monkeypatch.setattr(dense, "form_of", every_other)
    found = correct.methods()
    assert not found.passed
    assert "triplet loss" in found.text


def test_capture_wants_every_method_recorded(monkeypatch):
    monkeypatch.setattr(correct, "TRAINED", ["triplet", "bfe"])
    found = correct.capture()
    assert found.passed, found.text
    assert found.text.startswith("2 of 2 recorded; unequal: none")
    real = correct.recorded
    monkeypatch.setattr(
        correct, "recorded", lambda split, name, *a, **k: _slow(name) or real(split, name, *a, **k)
    )
    found = correct.capture()
    assert found.passed is False
    assert found.text.startswith("1 of 2 recorded; unequal: none")


def _slow(name):
    return ("steps: it waits", True) if name == "bfe" else None


def test_without_a_gpu_every_check_says_so_and_the_next_one_runs(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    path = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "tests.gpu", "card", "memory", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    rows = json.loads(path.read_text())
    assert [(row["check"], row["passed"]) for row in rows] == [("card", False), ("memory", False)]
    assert len(done.stdout.splitlines()) == 2


CHILD = """
import json, sys
for name in sys.argv[1:]:
    row = {"check": name, "passed": True, "text": "", "seconds": 0.0}
    print("@check " + json.dumps(row), flush=True)
"""


def test_one_child_is_enough_where_no_check_breaks_it(tmp_path, monkeypatch):
    started, real = [], subprocess.Popen

    def child(command, **how):
        started.append(command)
        return real([sys.executable, "-c", CHILD, *command[command.index("--child") + 1 :]], **how)

    monkeypatch.setattr(subprocess, "Popen", child)
    names = ["card", "crop", "waits", "recipes", "validation"]
    rows = supervisor._supervise(names, tmp_path / "gpu.json", time.monotonic() + 60)
    assert [row["check"] for row in rows] == names
    assert len(started) == 1


BARE = """
import builtins, sys
real = builtins.__import__
known = {"torch", "torchvision", "numpy", "scipy", "pytorch_metric_learning", "PIL"}
ours = ("protocols", "benchmark", "tests")

def only_known(name, by=None, *rest):
    root, asking = name.split(".")[0], (by or {}).get("__name__", "").split(".")[0]
    third = root not in known and root not in ours and root not in sys.stdlib_module_names
    if asking in ours and third and not rest[-1]:
        raise ModuleNotFoundError(f"{by['__name__']} imports {name}")
    return real(name, by, *rest)

builtins.__import__ = only_known
import tests.gpu.correct, tests.gpu.failures, tests.gpu.sharing, tests.gpu.speed
"""


def test_the_checks_need_no_more_packages_than_a_training():
    """GPU machines are often bare."""
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_without_nvidias_program_mps_is_left_out_with_a_word(monkeypatch):
    for name in ("program", "running"):
        monkeypatch.setattr(sharing.service_of, name, lambda environment: None)
    found = sharing.mps()
    assert (found.passed, found.text) == (None, "no nvidia-cuda-mps-control here")


def test_an_unknown_check_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tests.gpu", "speed"])
    with pytest.raises(SystemExit):
        main()
