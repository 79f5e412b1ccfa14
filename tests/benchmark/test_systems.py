"""Without what only Linux and macOS have: results are read, training is refused in one line."""

import subprocess
import sys

import pytest

from tests.benchmark.tables.test_frames import THREE, make

# As on Windows: these modules and names are not there, and whoever asks for one is told so.
ELSEWHERE = """
import os, signal, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "pwd", "grp", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

import subprocess, tempfile, zipfile, rich.console, multiprocessing.spawn
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for name in ("killpg", "setpgid", "getuid", "sched_getaffinity", "O_NONBLOCK"):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGALRM", "SIGKILL", "setitimer", "pthread_sigmask"):
    delattr(signal, name)
from benchmark.cli import main
sys.exit(main(sys.argv[1:]))
"""


def elsewhere(*words):
    return subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *words], capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere") / "out"
    make(folder, THREE)
    return folder


@pytest.mark.parametrize("command", ["tables", "report"])
def test_results_are_read_on_every_system(finished, command):
    done = elsewhere(command, "--out", str(finished))
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_submissions_are_checked_on_every_system():
    done = elsewhere("verify", "results")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 problem(s)" in done.stderr


@pytest.mark.parametrize("words", [["run"], ["plan"], ["check", "ms"]])
def test_training_is_refused_in_one_line(tmp_path, words):
    out = [] if words[0] == "check" else ["--out", str(tmp_path / "out")]
    done = elsewhere(*words, *out)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("benchmark: training needs Linux or macOS")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
