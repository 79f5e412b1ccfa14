"""Trainings that are stopped in the middle go on from their checkpoints: real processes."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.benchmark.running.test_limits import SCRIPT
from tests.running import ROOT, gone, run, start, tables, truth, workers_of

SUITE = "Time that ends"
# As a training of hours, in seconds: slow steps, and checkpoints that do not wait for a minute.
SLOW = '''"""slow: pairs, with a wait in every step."""
import time

from torch.nn.functional import normalize

from benchmark.training import keeper
from protocols.method import Method, Term
from protocols.space import Real

AS_SHIPPED = keeper.EVERY_S, keeper.COST


class Slow(Method):
    """A test method."""

    weight = Real(0.5, 2.0, default=1.0)

    def make_terms(self, spec):
        self.steps = 0
        return [Term(self.pairs)]

    def pairs(self, z, labels):
        self.steps += 1
        # As shipped again before the end, or the process would not be used again.
        keeper.EVERY_S, keeper.COST = (0.2, 0) if self.steps < 38 else AS_SHIPPED
        time.sleep(0.06)
        z, same = normalize(z), labels[:, None] == labels
        return self.weight * (1 + self.steps) * ((z @ z.T) * (1 - 2 * same.float())).mean()
'''
WORDS = ("--methods", "slow", "--plugin", "slow.py", "--trials", "1", "--seeds", "1")


def place(folder):
    """Return an output folder with the method beside it."""
    out = folder / "study" / "out"
    out.parent.mkdir(parents=True)
    (out.parent / "slow.py").write_text(SLOW)
    return out


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A study that nobody stops."""
    out = place(tmp_path_factory.mktemp("straight"))
    run(*WORDS, out=out)
    assert not resumed(out)
    return out


def launch(out, *words, **kwargs):
    return start("run", "--protocol", "toy", *WORDS, *words, out=out, **kwargs)


def begun(out):
    return list((out / "partial").rglob("*.pt"))


def wait_until_begun(process, out):
    """Wait until a training has written a checkpoint."""
    while not begun(out):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def resumed(out):
    """Return the steps at which trainings went on, by record."""
    found = {}
    for path in (out / "records").rglob("*.fold-*.json"):
        steps = json.loads(path.read_text())["measured"].get("resumed")
        if steps:
            found[path.name] = steps
    return found


def assert_as_straight(out, straight):
    assert truth(out) == truth(straight)
    assert tables(out) == tables(straight)
    assert not begun(out)


SAME = "run again, the training goes on from its checkpoint; records and tables byte-identical"


@pytest.mark.faults
def test_a_killed_run_goes_on_in_the_middle_of_a_training(ledger, straight, tmp_path):
    with ledger.attempt(SUITE, "SIGKILL of the coordinator within a training", SAME):
        out = place(tmp_path)
        process = launch(out)
        wait_until_begun(process, out)
        process.kill()
        process.communicate()
        assert gone(process.pid)
        waiting = len(begun(out))
        printed = run(*WORDS, out=out)
        assert f"begun, and going on: {waiting} training" in printed
        assert_as_straight(out, straight)
        assert len(resumed(out)) == waiting
        assert "in 2 parts" in printed


@pytest.mark.faults
def test_a_killed_worker_loses_no_training(ledger, straight, tmp_path):
    outcome = "tried again in the same run, from its checkpoint; records and tables byte-identical"
    with ledger.attempt(SUITE, "SIGKILL of a worker within a training", outcome):
        out = place(tmp_path)
        process = launch(out, "--jobs", "1")
        wait_until_begun(process, out)
        worker = [pid for pid in workers_of(process.pid) if os.getpgid(pid) == pid]
        os.kill(next(pid for pid in worker if pid != process.pid), signal.SIGKILL)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 0, printed
        assert "trying again" in printed
        assert_as_straight(out, straight)
        assert resumed(out)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("name", "whom"),
    [
        ("SIGTERM", "all its processes"),
        ("SIGUSR1", "all its processes"),
        ("SIGHUP", "the coordinator"),
    ],
)
def test_signals_of_a_cluster(ledger, straight, tmp_path, name, whom):
    fault = f"{name} to {whom} within a training"
    outcome = "exit 130, one line that says what is left, no process left; " + SAME
    with ledger.attempt(SUITE, fault, outcome):
        out = place(tmp_path)
        process = launch(out)
        wait_until_begun(process, out)
        everyone = whom == "all its processes"
        for pid in workers_of(process.pid) if everyone else [process.pid]:
            os.kill(pid, getattr(signal, name))
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 130, printed
        last = printed.strip().splitlines()[-1]
        said = rf"benchmark: stopped by {name}; \d+ jobs left, [12] of them begun; run the same"
        assert re.match(said, last), printed
        assert "Traceback" not in printed
        assert gone(process.pid)
        run(*WORDS, out=out)
        assert_as_straight(out, straight)
        assert resumed(out)


@pytest.mark.faults
def test_a_limit_of_hours_is_kept_and_reached_again(ledger, straight, tmp_path):
    outcome = "exit 4 before the time is up, says what is left; run again until 0: byte-identical"
    begun_at = time.monotonic()
    run(*WORDS, out=place(tmp_path / "as fast as now"))
    limit_s = 2 * 0.7 * (time.monotonic() - begun_at)  # it ends at half
    out, codes = place(tmp_path), []
    with ledger.attempt(SUITE, "--max-hours shorter than the study", outcome):
        while not codes or codes[-1]:
            started = time.monotonic()
            process = launch(out, "--max-hours", str(limit_s / 3600))
            printed, _ = process.communicate(timeout=60)
            codes.append(process.returncode)
            assert time.monotonic() - started < limit_s or not codes[-1]
            assert codes[-1] in (0, 4), printed
            assert ("stopped by --max-hours 0.0" in printed) == bool(codes[-1])
            assert gone(process.pid)
            assert len(codes) < 10
        assert len(codes) > 1
        assert_as_straight(out, straight)


@pytest.mark.faults
def test_a_damaged_checkpoint_is_not_used(ledger, straight, tmp_path):
    outcome = "set aside, said in one line, trained anew; byte-identical"
    with ledger.attempt(SUITE, "a bit of a checkpoint flips", outcome):
        out = place(tmp_path)
        process = launch(out)
        wait_until_begun(process, out)
        process.kill()
        process.communicate()
        assert gone(process.pid)
        for path in begun(out):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        printed = run(*WORDS, out=out)
        assert "its checkpoint is set aside, trained anew: it is damaged" in printed
        assert_as_straight(out, straight)
        assert not resumed(out)


@pytest.mark.faults
def test_slurm_requeues_until_all_is_done(ledger, straight, tmp_path):
    """The script of ``docs/machines.md``, with a ``scontrol`` that notes what it is asked for."""
    outcome = "the documented script puts itself into the queue again until all is done"
    with ledger.attempt(SUITE, "SLURM's SIGUSR1 to the batch script, twice", outcome):
        out = place(tmp_path)
        words = ("run", "--protocol", "toy", *WORDS, "--out", str(out))
        line = f"{shlex.join([sys.executable, '-m', 'benchmark', *words])} &"
        script = re.sub(r"^python -m benchmark run .*$", line, SCRIPT, flags=re.MULTILINE)
        assert script != SCRIPT
        (tmp_path / "job.sh").write_text(script)
        asked = tmp_path / "asked"
        (tmp_path / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> {asked}\n')
        (tmp_path / "scontrol").chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
            "SLURM_JOB_ID": "77",
        }
        for turn in range(3):
            job = subprocess.Popen(
                ["bash", tmp_path / "job.sh"],
                cwd=out.parent,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            if turn < 2:
                before = len(list((out / "records").rglob("*.fold-*.json")))
                while not begun(out) or (
                    turn and len(list((out / "records").rglob("*.fold-*.json"))) == before
                ):
                    assert job.poll() is None
                    time.sleep(0.01)
                job.send_signal(signal.SIGUSR1)
            assert job.wait(timeout=120) == (130 if turn < 2 else 0)
            assert gone(job.pid)
        assert asked.read_text().splitlines() == ["requeue 77"] * 2
        assert_as_straight(out, straight)
        assert resumed(out)
