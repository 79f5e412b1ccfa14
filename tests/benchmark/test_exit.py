"""A command ends at once, with nothing of its own on stderr, and loses nothing."""

import os
import shutil
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


def run(*words, mirror=None, timeout=None):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if mirror:
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{mirror}"
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.parametrize("code", [0, 3])
def test_leaving_finishes_what_is_open_and_lets_no_library_report(code):
    done = run("-c", LEAVE + f"leave({code})")
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.split("\n") == ["printed", "thread", "at exit", ""]


def test_the_interpreters_own_way_would_let_it_report():
    assert run("-c", LEAVE + "sys.exit(0)").returncode == -signal.SIGABRT


STOPPED = """
import os, signal, time
from benchmark import __main__, cli

def command(argv):
    try:
        os.kill(os.getpid(), {number})
        time.sleep(60)
    finally:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            os.kill(os.getpid(), number)  # of a cluster, which may send several

cli.execute = command
{before}
__main__.start()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT"])
def test_a_command_that_is_stopped_says_so_in_one_line(name):
    done = run("-c", STOPPED.format(number=int(getattr(signal, name)), before=""))
    assert done.stderr == "benchmark: interrupted; run the same command again to go on\n"
    assert done.returncode == 130


def test_under_nohup_a_command_outlives_its_terminal():
    hangs_up = "cli.execute = lambda argv: os.kill(os.getpid(), signal.SIGHUP) or 0"
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    done = run("-c", STOPPED.format(number=0, before=f"{hangs_up}\n{ignored}"))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_that_a_command_forks_ends_by_the_signal_itself():
    forks = """
def forks(argv):
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])

cli.execute = forks"""
    done = run("-c", STOPPED.format(number=0, before=forks))
    assert (done.returncode, done.stderr) == (signal.SIGTERM, "")


VERIFIES = """
import os, signal, threading, time
from pathlib import Path
from benchmark import __main__, cli
from benchmark.submissions import checking

checking.read.row_folders = lambda results: [Path(str(n)) for n in range(checking.MANY)]

def long(*_):
    time.sleep(300)

checking._checked = long
cli.execute = lambda argv: checking.checked(Path(), None)
threading.Timer(2, os.kill, (os.getpid(), signal.SIGTERM)).start()
__main__.start()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there rows are checked by processes")
def test_checking_of_rows_ends_with_its_processes():
    done = run("-c", VERIFIES, timeout=60)
    assert done.stderr == "benchmark: interrupted; run the same command again to go on\n"
    assert done.returncode == 130


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["list"],
        ["check", "ms"],
        ["plan", "--protocol", "toy", "--methods", "ms"],
        ["data", "list"],
        ["run", "--protocol", "toy", "--methods", "ms", "--dry-run"],
        ["reproduce", "--table", "published"],
        ["new-method", "fresh_idea"],
    ],
    ids=" ".join,
)
def test_a_command_that_went_well_says_nothing_on_stderr(tmp_path, words):
    option = {"plan": "--out", "run": "--out", "new-method": "--folder"}.get(words[0])
    done = run("-m", "benchmark", *words, *([option, str(tmp_path / "new")] if option else []))
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def study(toy_study, tmp_path_factory):
    """A copy of the finished study, without its mirror, in which ms lacks a seed."""
    out = tmp_path_factory.mktemp("exit") / "out"
    shutil.copytree(toy_study, out, ignore=shutil.ignore_patterns("mlflow.db"))
    seeds = sorted(out.glob("records/**/ms*/**/seed-1*.json"))
    assert seeds
    for path in seeds:
        path.unlink()
    return out


TOY = ["run", "--protocol", "toy", "--methods"]


@pytest.mark.parametrize(
    "words",
    [
        [*TOY, "triplet,ms"],  # trains the seed that is missing, in workers
        [*TOY, "triplet"],  # all of it is there
        ["tables"],
        ["report", "--figures"],
        ["sync"],
    ],
    ids=" ".join,
)
def test_a_command_on_a_study_says_nothing_on_stderr(study, toy_study, words):
    mirror = toy_study / "mlflow.db"  # to lay out a fresh one takes longer than all the rest
    done = run("-m", "benchmark", *words, "--out", str(study), mirror=mirror)
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout


def test_rows_are_handed_in_without_a_word_on_stderr(toy_study, tmp_path):
    done = run("-m", "benchmark", "submit", str(toy_study), "--results", str(tmp_path))
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout


def test_verify_says_how_much_it_checked_and_nothing_else_on_stderr(results):
    done = run("-m", "benchmark", "verify", str(results))
    assert done.returncode == 0, done.stdout
    summary, history, unseen = done.stderr.splitlines()
    assert summary == "3 rows, 0 stale; 0 problems"
    assert history == "commits and earlier versions were looked up in git"
    assert "rerun" in unseen  # what no check can see, and what is the answer to it
