"""What Windows lacks is blocked: reading results works, and running methods is one line."""

import os
import subprocess
import sys

import pytest

from tests.benchmark.tables.test_frames import THREE, make
from tests.running import ROOT

BLOCKED = """
import os, signal, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in ("resource", "fcntl"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
for name in ("resource", "fcntl"):
    sys.modules.pop(name, None)
for module, names in (
    (os, "sched_getaffinity preadv killpg getuid sysconf posix_fadvise"),
    (signal, "SIGKILL SIGUSR1 SIGHUP SIGALRM pthread_sigmask setitimer"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
from benchmark.cli import main
sys.exit(main(sys.argv[1:]))
"""


def blocked(*words):
    command = [sys.executable, "-c", BLOCKED, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ)


@pytest.mark.parametrize("command", ["run", "plan"])
def test_running_methods_is_one_line(tmp_path, command):
    done = blocked(command, "--protocol", "toy", "--methods", "ms", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Linux and macOS only" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_method_is_not_checked():
    done = blocked("check", "ms")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Linux and macOS only" in done.stderr


@pytest.mark.parametrize("command", ["tables", "report"])
def test_results_are_tabulated(tmp_path, command):
    make(tmp_path / "out", THREE)
    done = blocked(command, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_results_are_verified():
    done = blocked("verify", "results")
    assert done.returncode == 0, done.stderr
    assert "0 problems" in done.stderr
