"""Streams that are closed, full, narrow or forced, and places where no worker can start."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from benchmark.study import environment
from tests.running import ROOT, command, start, tables, truth

CHANNELS = "Streams and places"
PRINTING = '''"""Multi-similarity, by an author who likes signs."""

import sys

from protocols.methods.ms import MultiSimilarity

print("read \\udcff ▲", flush=True)


class Loud(MultiSimilarity):
    """Prints what no locale has, and closes nothing."""

    def __init__(self, *words, **names):
        """Say so, on both streams."""
        super().__init__(*words, **names)
        print("made \\udcff 中 ▲", flush=True)
        print("made ±", file=sys.stderr, flush=True)
'''
ASCII = {"PYTHONIOENCODING": "ascii"}


@pytest.fixture
def begun(whole, tmp_path):
    """A copy of the finished study in which the trained row lacks a seed."""
    out = tmp_path / "study" / "out"
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("mlflow.db"))
    lacking = sorted(out.glob("records/**/triplet*/**/seed-1*.json"))
    assert len(lacking) == 3
    for path in lacking:
        path.unlink()
    return out


def finish(out, redirection="", words=("--methods", "triplet"), before=(), **names):
    """Finish the study with its output redirected by a shell; return exit code and output."""
    shell = ["bash", "-c", f'"$@" {redirection}', "_", *before]
    words = ("run", "--protocol", "toy", *words)
    process = start(*words, out=out, before=shell, environment=names)
    printed, _ = process.communicate(timeout=240)
    return process.returncode, printed


REDIRECTIONS = {
    "> /dev/full": ">/dev/full 2>&1",
    "&#124; head -1": "2>&1 | head -1; exit ${PIPESTATUS[0]}",
    "all streams closed": "<&- >&- 2>&-",
    "errors closed": ">/dev/null 2>&-",
}


@pytest.mark.faults
@pytest.mark.parametrize("fault", REDIRECTIONS)
def test_a_stream_that_takes_nothing(ledger, whole, begun, fault):
    outcome = "the study goes on and is recorded whole, exit 0"
    with ledger.attempt(CHANNELS, f"output: {fault}", outcome):
        code, printed = finish(begun, REDIRECTIONS[fault])
        assert code == 0, printed
        assert "Traceback" not in printed
        assert truth(begun) == truth(whole)
        assert tables(begun) == tables(whole)


NARROW = {
    "PYTHONIOENCODING=ascii": ASCII,
    "PYTHONIOENCODING=latin-1, PYTHONUTF8=0": {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
    "LC_ALL=C, PYTHONUTF8=0": {"LC_ALL": "C", "PYTHONUTF8": "0"},
}


@pytest.mark.faults
@pytest.mark.parametrize("fault", NARROW)
def test_an_encoding_without_the_signs(ledger, whole, begun, fault):
    outcome = "signs in plain letters, the same tables, exit 0"
    with ledger.attempt(CHANNELS, f"output: {fault}", outcome):
        code, printed = finish(
            begun, "2>&1 | iconv -f latin1 -t utf8; exit ${PIPESTATUS[0]}", **NARROW[fault]
        )
        assert code == 0, printed
        assert not set(printed) & set("▲▼–…")
        assert "test classes, per cent" in printed
        assert truth(begun) == truth(whole)
        assert tables(begun) == tables(whole)


@pytest.mark.faults
def test_variables_that_ask_for_colours(ledger, begun):
    outcome = "no escape codes, no carriage returns, one line an event"
    with ledger.attempt(CHANNELS, "FORCE_COLOR and others on a pipe of 20 columns", outcome):
        forced = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
        code, printed = finish(begun, **dict.fromkeys(forced, "1"), TERM="xterm", COLUMNS="20")
        assert code == 0, printed
        assert "\x1b" not in printed
        assert "\r" not in printed
        events = [line for line in printed.splitlines() if line.startswith("triplet/toy seed 1")]
        assert len(events) == 3, printed  # two folds and their test
        assert sum("jobs, " in line for line in events) == 2
        (proposed,) = [line for line in printed.splitlines() if line.startswith("next ")]
        assert proposed.endswith(f"--out {begun}")


@pytest.mark.faults
def test_what_a_plugin_prints(ledger, tmp_path):
    outcome = "it is in workers.txt; no job fails of it"
    with ledger.attempt(CHANNELS, "a method that prints what no encoding has", outcome):
        out = tmp_path / "study" / "out"
        out.parent.mkdir()
        plugin = tmp_path / "loud.py"
        plugin.write_text(PRINTING, encoding="utf-8")
        words = ("--methods", "loud", "--plugin", str(plugin), "--trials", "1", "--seeds", "1")
        code, printed = finish(out, words=words, **ASCII)
        assert code == 0, printed
        assert r"read \xff ^" in printed
        said = (out / "workers.txt").read_text(encoding="utf-8")
        assert "made \\xff 中 ▲\n" in said
        assert "made ±\n" in said


def refused(out, says, *before, **names):
    code, printed = finish(out, before=before, **names)
    assert code == 2, printed
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("benchmark: ")]
    assert says in line
    assert [path.name for path in out.rglob("*")] in ([], [".lock"])


PLACES = {
    "too small": "mount -t tmpfs -o size=4k tmpfs /dev/shm",
    "read-only": "mount -t tmpfs -o ro tmpfs /dev/shm",
    "missing": "mount -t tmpfs tmpfs /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9",
}


@pytest.mark.faults
@pytest.mark.parametrize("fault", PLACES)
def test_shared_memory_that_cannot_be_used(ledger, tmp_path, fault):
    own = ["unshare", "-m", "bash", "-c", f'{PLACES[fault]} && exec "$@"', "_"]
    if not shutil.which("unshare") or subprocess.run([*own, "true"]).returncode:
        pytest.skip("no mounts of one's own here: that needs root")
    with ledger.attempt(CHANNELS, f"/dev/shm {fault}", "exit 2, one line, nothing recorded"):
        out = tmp_path / "study" / "out"
        out.parent.mkdir()
        refused(out, "shared memory (/dev/shm) took", *own)


@pytest.mark.faults
@pytest.mark.parametrize("gigabytes", [0.5, 2, 3.7])
def test_too_few_addresses(ledger, tmp_path, gigabytes):
    with ledger.attempt(CHANNELS, "ulimit -v too small", "exit 2, one line, nothing written"):
        out = tmp_path / "study" / "out"
        out.parent.mkdir()
        limited = ("bash", "-c", f'ulimit -v {int(gigabytes * 1e6)}; exec "$@"', "_")
        refused(out, "ulimit -v unlimited", *limited)


@pytest.mark.faults
def test_a_study_from_standard_input(ledger, tmp_path):
    outcome = "exit 2, one line, nothing recorded"
    with ledger.attempt(CHANNELS, "a study started from standard input", outcome):
        out = tmp_path / "out"
        words = command("run", "--protocol", "toy", "--methods", "triplet", out=out)[3:]
        done = subprocess.run(
            [sys.executable, "-"],
            input=f"from benchmark.cli import main\nraise SystemExit(main({words!r}))\n",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 2, done.stdout + done.stderr
        assert "worker processes cannot read it again" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not list(out.rglob("*.json"))


@pytest.mark.faults
def test_a_machine_without_git(ledger, whole, begun, tmp_path):
    with ledger.attempt(CHANNELS, "no git", "said in one line when the run starts; it goes on"):
        (tmp_path / "bin").mkdir()
        for name in ("bash", "env"):
            (tmp_path / "bin" / name).symlink_to(shutil.which(name))
        code, printed = finish(begun, PATH=str(tmp_path / "bin"))
        assert code == 0, printed
        (line,) = [line for line in printed.splitlines() if "nothing of this can be sub" in line]
        assert "git cannot be run" in line
        assert truth(begun).keys() == truth(whole).keys()
        assert re.search(r"jobs left", printed)


@pytest.mark.faults
def test_a_checkout_that_git_does_not_trust(ledger, tmp_path):
    outcome = "said in one line when the run starts, with the remedy"
    if os.getuid() != 0:
        pytest.skip("a checkout of another user needs root")
    with ledger.attempt(CHANNELS, "a checkout of another user (safe.directory)", outcome):
        subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
        os.chown(tmp_path, 12345, 12345)
        os.chown(tmp_path / ".git", 12345, 12345)
        assert "safe.directory" in environment.no_commit(tmp_path)
