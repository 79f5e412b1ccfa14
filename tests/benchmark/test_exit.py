"""A command ends at once, with nothing of its own on stderr, and loses nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAVE = """
import atexit, ctypes, sys, threading, time
from benchmark.__main__ import leave

# A C++ library reports at the interpreter's very end; this one cannot be missed.
ctypes.pythonapi.Py_AtExit(ctypes.CDLL(None).abort)
atexit.register(lambda: print("at exit"))
threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
print("printed")
"""


def run(*words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("code", [0, 3])
def test_leaving_finishes_what_is_open_and_lets_no_library_report(code):
    done = run("-c", LEAVE + f"leave({code})")
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.split("\n") == ["printed", "thread", "at exit", ""]


def test_the_interpreters_own_way_would_let_it_report():
    assert run("-c", LEAVE + "sys.exit(0)").returncode == -signal.SIGABRT


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["list"],
        ["check", "ms"],
        ["plan", "--protocol", "toy", "--methods", "ms"],
        ["data", "list"],
    ],
    ids=" ".join,
)
def test_a_command_that_went_well_says_nothing_on_stderr(tmp_path, words):
    if words[0] == "plan":
        words = [*words, "--out", str(tmp_path / "runs")]
    done = run("-m", "benchmark", *words)
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout
