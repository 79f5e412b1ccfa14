"""SIGKILL at random moments, interrupts, two coordinators: the tables come out the same."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from mlflow.tracking import MlflowClient

from tests.running import gone, run, start, tables, truth, weights, workers_of

pytestmark = pytest.mark.slow

WORDS = ("--methods", "triplet")
KILLS = "Processes"


def launch(out):
    return start("run", "--protocol", "toy", *WORDS, out=out)


def wait_a_moment(process, out, rng):
    """Wait until a random moment: of the start, or after some more jobs. Return if it lives."""
    jobs = out / "records"
    if rng.random() < 0.3:
        limit, wanted = time.monotonic() + rng.uniform(0.1, 5.0), 10**6
    else:
        limit = time.monotonic() + 60
        wanted = len(list(jobs.rglob("*.json"))) + rng.randint(1, 6)
    while time.monotonic() < limit and process.poll() is None:
        if len(list(jobs.rglob("*.json"))) >= wanted:
            time.sleep(rng.uniform(0, 0.3))
            break
        time.sleep(0.02)
    return process.poll() is None


def kill_all(ledger, whole, tmp_path, kills):
    """Kill ``kills`` times, going on each time; a finished study is compared and begun anew."""
    rng, done, studies = random.Random(7), 0, []
    while done < kills:
        out = tmp_path / f"study-{len(studies)}" / "out"
        out.parent.mkdir()
        studies.append(out)
        finished = False
        while not finished and done < kills:
            process = launch(out)
            for victim in ("a worker", "the coordinator"):
                if not wait_a_moment(process, out, rng):
                    finished = True
                    break
                pid = process.pid
                if victim == "a worker":
                    # One a process: the protocol allows a job one more attempt.
                    workers = [p for p in workers_of(pid) if os.getpgid(p) == p and p != pid]
                    if not workers:
                        continue
                    pid = rng.choice(workers)
                outcome = "run again, it goes on; tables byte-identical, no process left"
                with ledger.attempt(KILLS, f"SIGKILL of {victim}", outcome):
                    os.kill(pid, signal.SIGKILL)
                    done += 1
                    if victim == "the coordinator":
                        process.wait()
                        assert gone(process.pid), "workers outlive a killed coordinator"
            process.stdout.close()
            process.wait()
            assert gone(process.pid)
    outcome = "records, weights and four tables byte for byte those of the undisturbed run"
    for out in studies:
        with ledger.attempt(KILLS, "study finished after these kills", outcome):
            run(*WORDS, out=out)
            assert truth(out) == truth(whole)
            assert tables(out) == tables(whole)
            assert weights(out) == weights(whole)
    for out in studies:  # after all of them: they share a mirror, and an unfinished one waits in it
        with ledger.attempt(KILLS, "zombie trial or run after these kills", "none in either store"):
            assert_no_zombies(out)
    return done


def assert_no_zombies(out):
    """No trial in Optuna's database and no run in MLflow's waits for anybody."""
    storage = f"sqlite:///{out / 'search.db'}"
    for name in optuna.get_all_study_names(storage):
        trials = optuna.load_study(study_name=name, storage=storage).trials
        assert trials
        assert all(trial.state.is_finished() for trial in trials)
    client = MlflowClient(f"sqlite:///{out.parent.parent / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
    assert not client.search_runs(experiments, "attributes.status = 'RUNNING'")
    tags = [r.data.tags for r in client.search_runs(experiments, max_results=1000)]
    keys = [(t["study_id"], t["record_id"]) for t in tags]  # equal studies have equal records
    assert len(keys) == len(set(keys)), "a record is mirrored twice"


def test_a_few_kills(ledger, whole, tmp_path):
    assert kill_all(ledger, whole, tmp_path, 2) >= 2


@pytest.mark.faults
@pytest.mark.timeout(1800)  # each kill waits for a process to start, seconds on a busy machine
def test_thirty_kills(ledger, whole, tmp_path):
    assert kill_all(ledger, whole, tmp_path, 30) >= 30


@pytest.mark.faults
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [0, 4])
def test_interrupts(ledger, whole, tmp_path, which, moment):
    """At the start (``moment`` 0) and after some jobs."""
    outcome = "exit 130, one line, no process left; run again, same tables"
    name = "Ctrl-C (SIGINT to the group)" if which == signal.SIGINT else "SIGTERM"
    with ledger.attempt(KILLS, name, outcome):
        out = tmp_path / "study" / "out"
        out.parent.mkdir()
        process = launch(out)
        while not (out / "workers.txt").exists():
            time.sleep(0.01)
        while sum(1 for _ in (out / "records").rglob("*.fold-*.json")) < moment:
            time.sleep(0.01)
        send = os.killpg if which == signal.SIGINT else os.kill
        send(process.pid, which)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 130, printed
        assert "Traceback" not in printed
        assert "run the same command again" in printed
        assert gone(process.pid)
        run(*WORDS, out=out)
        assert truth(out) == truth(whole)
        assert tables(out) == tables(whole)


def test_two_coordinators(ledger, tmp_path):
    outcome = "the second leaves with exit 2 and one line; the first is not touched"
    with ledger.attempt(KILLS, "two coordinators in one folder", outcome):
        out = tmp_path / "study" / "out"
        out.parent.mkdir()
        first = launch(out)
        while not (out / "workers.txt").exists():
            time.sleep(0.01)
        printed = run(*WORDS, out=out, code=2)
        assert "another run is at work" in printed
        assert printed.startswith("reading toy\nbenchmark: another run")  # and nothing else
        assert len(printed.strip().splitlines()) == 2
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=60)
        assert first.returncode == 130
        assert gone(first.pid)


SPAWNING = '''"""spawning: its method starts a process that outlives everything."""
import subprocess
from protocols.method import Method, Term
from protocols.space import Real

class Spawning(Method):
    """A test method."""
    scale = Real(0.1, 10.0, default=1.0)
    def make_terms(self, spec):
        child = subprocess.Popen(["sleep", "300"])
        open("/proc/self/fd/1", "a").write(f"child {child.pid}\\n")
        while True:
            pass
    def loss(self, embeddings, labels):
        return embeddings.sum() * self.scale
'''


def test_what_a_method_started_dies_with_it(ledger, tmp_path):
    outcome = "a worker leads a process group, which goes with it"
    with ledger.attempt(KILLS, "SIGKILL while a method's own child process runs", outcome):
        out = tmp_path / "study" / "out"
        out.parent.mkdir()
        (out.parent / "spawning.py").write_text(SPAWNING)
        words = ("--methods", "spawning", "--plugin", "spawning.py")
        process = start("run", "--protocol", "toy", *words, out=out)
        log = out / "workers.txt"
        while not log.exists() or "child" not in log.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        child = int(log.read_text().split("child ")[1].split()[0])
        os.kill(child, 0)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert gone(process.pid)
        with suppress(FileNotFoundError):
            state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
            assert state == "Z", "the method's child process is still at work"
