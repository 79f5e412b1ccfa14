"""States of the machine that must not become records: what is lost to them is done again."""

import json
import shutil
import stat
import subprocess

import pandas as pd
import pytest

from tests.running import ROOT, gone, queries, run, start, tables, truth

OUTSIDE = "States of the machine"
PLUGIN = '''"""frail: a method that the machine takes away while a file says so."""
import json, os, signal
from pathlib import Path
import torch
from torch.nn.functional import normalize
from protocols.method import Method, Term
from protocols.space import Real

class Frail(Method):
    """A test method."""
    scale = Real(0.1, 10.0, default=1.0)
    def make_terms(self, spec):
        return [Term(self.loss)]
    def loss(self, embeddings, labels):
        mark = Path(os.environ["FRAIL"])
        begun = Path("out/study.json").exists()  # before that a fault is refused
        fate = mark.read_text() if mark.exists() and begun else ""
        if fate == "die" or (fate == "die later" and self.scale != 1.0):
            os.kill(os.getpid(), signal.SIGKILL)
        if fate == "no memory":
            raise MemoryError
        z = normalize(embeddings)
        same = labels[:, None] == labels
        return ((z @ z.T - same.float()) * self.scale).square().mean()
'''
# A start of Python that kills every worker at once, as a driver or a library would.
POISON = """import os, signal, sys
if "--multiprocessing-fork" in sys.argv and os.path.exists(os.environ["POISON"]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the plugin, and with the study of it that met no fault."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "frail.py").write_text(PLUGIN)
    (folder / "sitecustomize.py").write_text(POISON)
    out = folder / "whole" / "out"
    out.parent.mkdir()
    run(*words(folder), out=out, environment=around(folder))
    return folder


def words(folder, *more):
    return ("--methods", "frail", "--plugin", str(folder / "frail.py"), "--trials", "3", *more)


def around(folder):
    return {
        "FRAIL": str(folder / "mark"),
        "POISON": str(folder / "poison"),
        "PYTHONPATH": f"{folder}:{ROOT}",
    }


@pytest.fixture
def mark(place):
    path = place / "mark"
    yield path
    path.unlink(missing_ok=True)
    (place / "poison").unlink(missing_ok=True)


def studied(place, tmp_path, *more, code=0):
    out = tmp_path / "study" / "out"
    out.parent.mkdir(exist_ok=True)
    return out, run(*words(place, *more), out=out, code=code, environment=around(place))


FATES = {
    "workers killed during all later trials": ("die later", "1 of 3 trials"),
    "card full during the whole search": ("no memory", "no trial"),
}


@pytest.mark.faults
@pytest.mark.parametrize("fault", FATES)
def test_what_the_machine_lost_is_redone(ledger, place, mark, tmp_path, fault):
    outcome = "said in table and exit code 3; `--retry-failed` redoes it to the same bytes"
    with ledger.attempt(OUTSIDE, fault, outcome):
        mark.write_text(FATES[fault][0])
        out, printed = studied(place, tmp_path, code=3)
        assert "lost to the machine" in printed
        assert "--retry-failed" in printed.splitlines()[-1]
        summary = pd.read_csv(out / "tables" / "summary.csv").set_index("method")
        assert (summary.loc["frail", "lost_trials"] >= 2).all()
        process = start("submit", str(out), out=out)  # refused: the words are all that matters
        process.communicate(timeout=60)
        mark.unlink()
        out, printed = studied(place, tmp_path, "--retry-failed")
        assert "jobs are run again" in printed
        assert "--retry-failed" not in printed.splitlines()[-1]
        whole = place / "whole" / "out"
        assert truth(out) == truth(whole)
        assert tables(out) == tables(whole)
        assert queries(out) == queries(whole)
        _, printed = studied(place, tmp_path, "--retry-failed")
        assert "nothing was lost to the machine" in printed
        assert "nothing left to do" in printed


@pytest.mark.faults
def test_no_worker_starts(ledger, place, mark, tmp_path):
    outcome = "exit 5, one line, nothing recorded; run again, it goes on"
    with ledger.attempt(OUTSIDE, "workers die as they start", outcome):
        (place / "poison").touch()
        out, printed = studied(place, tmp_path, code=5)
        one_line(printed, "no job can run here")
        assert not list(out.rglob("*.json"))
        (place / "poison").unlink()
        studied(place, tmp_path)
        assert truth(out) == truth(place / "whole" / "out")


@pytest.mark.faults
def test_workers_that_die_from_some_moment_on(ledger, place, mark, tmp_path):
    outcome = "a known-good job dies too: exit 5, one line, nothing recorded; run again, it goes on"
    with ledger.attempt(OUTSIDE, "workers die from the middle of a study on", outcome):
        out = tmp_path / "study" / "out"
        out.parent.mkdir()
        process = start(
            "run", "--protocol", "toy", *words(place), out=out, environment=around(place)
        )
        while not list(out.rglob("trial-000.json")):
            assert process.poll() is None, process.stdout.read()
        (place / "poison").touch()
        mark.write_text("die")
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 5, printed
        one_line(printed, "a known-good job after it failed too")
        assert gone(process.pid)
        jobs = [json.loads(path.read_text()) for path in out.rglob("*.fold-*.json")]
        assert {job["status"] for job in jobs} == {"done"}
        (place / "poison").unlink()
        mark.unlink()
        studied(place, tmp_path)
        assert truth(out) == truth(place / "whole" / "out")


@pytest.mark.faults
def test_a_file_in_which_workers_write_becomes_a_folder(ledger, place, mark, tmp_path):
    outcome = "no worker can open it: exit 5, one line, nothing recorded; put right, it goes on"
    with ledger.attempt(OUTSIDE, "workers.txt becomes a folder in the middle", outcome):
        out = tmp_path / "study" / "out"
        out.parent.mkdir()
        process = start(
            "run", "--protocol", "toy", *words(place), out=out, environment=around(place)
        )
        while not list(out.rglob("trial-000.json")):
            assert process.poll() is None, process.stdout.read()
        (out / "workers.txt").unlink()
        (out / "workers.txt").mkdir()
        mark.write_text("die")
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 5, printed
        one_line(printed, "a known-good job after it failed too")
        mark.unlink()
        one_line(studied(place, tmp_path, code=2)[1], "workers.txt is a folder")
        (out / "workers.txt").rmdir()
        studied(place, tmp_path)
        assert truth(out) == truth(place / "whole" / "out")


@pytest.mark.faults
@pytest.mark.parametrize("name", [".lock", "log.txt", "workers.txt"])
def test_a_file_that_cannot_be_written(ledger, place, tmp_path, name):
    outcome = "exit 2, one line, nothing started"
    with ledger.attempt(OUTSIDE, "a file of the study that cannot be written", outcome):
        out = tmp_path / "study" / "out"
        shutil.copytree(place / "whole" / "out", out)
        busy(out / name)
        running = subprocess.Popen([out / name, "60"])
        try:
            one_line(studied(place, tmp_path, code=2)[1], f"{name}: Text file busy")
        finally:
            running.kill()
            running.wait()


def busy(path):
    """Put a program in a file's place: while it runs nobody may write to it, not even root."""
    shutil.copy(shutil.which("sleep"), path)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def one_line(printed, says):
    said = [line for line in printed.splitlines() if line.startswith("benchmark: ")]
    assert len(said) == 1, printed
    assert "Traceback" not in printed
    assert says in said[0]
