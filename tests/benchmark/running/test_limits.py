"""Signals and a limit of hours: how a run is told to end."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmark.cli import main, make_parser
from benchmark.running import flows
from benchmark.running.flows import Task
from benchmark.running.limits import Stopped, raise_if_stopped, seconds_of, stoppable
from protocols.errors import InvalidInputError

ROOT = Path(__file__).parents[3]
(SCRIPT,) = re.findall(
    r"```bash\n(#!/bin/bash\n(?:(?!```).)*scontrol requeue.*?)```",
    (ROOT / "docs" / "machines.md").read_text(encoding="utf-8"),
    flags=re.DOTALL,
)


def stopped_by(send, max_hours=None, ending=lambda: None):
    """Return what stops a work that calls ``send`` and then waits; ``ending`` ends it."""

    def work():
        with stoppable(max_hours, time.monotonic()):
            try:
                send()
                time.sleep(30)
            finally:
                ending()

    with pytest.raises(Stopped) as stopped:
        work()
    return stopped.value


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SIGINT", "interrupted"),
        ("SIGTERM", "stopped by SIGTERM"),
        ("SIGUSR1", "stopped by SIGUSR1"),
        ("SIGHUP", "stopped by SIGHUP"),
    ],
)
def test_each_signal_stops_and_says_so(name, words, request):
    number = getattr(signal, name)
    if signal.getsignal(number) is signal.SIG_IGN:  # the tests run under nohup, which is respected
        signal.signal(number, signal.SIG_DFL)
        request.addfinalizer(lambda: signal.signal(number, signal.SIG_IGN))
    before = {n: signal.getsignal(n) for n in signal.valid_signals()}
    stop = stopped_by(lambda: os.kill(os.getpid(), getattr(signal, name)))
    assert (stop.why, stop.time_up) == (words, False)
    assert {n: signal.getsignal(n) for n in signal.valid_signals()} == before


def test_time_that_is_up_stops():
    started = time.monotonic()
    stop = stopped_by(lambda: None, 0.3 / 3600)
    assert time.monotonic() - started < 0.3
    assert (stop.why, stop.time_up) == ("stopped by --max-hours 8.33333e-05", True)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_time_that_was_up_before_it_began_stops_at_once():
    with pytest.raises(Stopped), stoppable(0.001, time.monotonic() - 3600):
        time.sleep(30)


def test_a_run_that_ends_in_time_is_not_stopped():
    with stoppable(0.3 / 3600, time.monotonic()):
        pass
    time.sleep(0.35)


@pytest.mark.parametrize(("hours", "reserve"), [(24, 30.0), (1, 30.0), (0.01, 18.0)])
def test_it_ends_before_its_time_is_up(hours, reserve):
    assert seconds_of(hours) == pytest.approx(hours * 3600 - reserve)


def test_what_a_cluster_sends_again_does_not_disturb_the_ending():
    ended = []

    def ending():
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            os.kill(os.getpid(), number)
        ended.append(True)

    stop = stopped_by(lambda: os.kill(os.getpid(), signal.SIGUSR1), ending=ending)
    assert stop.why == "stopped by SIGUSR1"
    assert ended


class Rings:
    """Sends a signal in its own end, where Python swallows what is raised."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)


class Threads:
    """An engine whose work takes a moment, again and again."""

    lost, capacity = RuntimeError, 1

    def __init__(self, pool):
        self.pool = pool

    def submit(self, function, argument):
        return self.pool.submit(function, argument)


def test_a_stop_that_was_swallowed_ends_the_run_all_the_same(monkeypatch):
    swallowed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda met: swallowed.append(met.exc_type))

    def work():
        for step in range(100):
            if step == 1:
                Rings()
            yield [Task(time.sleep, 0.01, 60.0, lambda found: found, lambda reason: reason)]
        pytest.fail("it went on to its end")

    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(Stopped, match="SIGTERM"),
        stoppable(None, time.monotonic()),
    ):
        flows.run([work()], Threads(pool))
    assert swallowed == [Stopped]
    with stoppable(None, time.monotonic()):
        raise_if_stopped()  # the next work is not stopped by what stopped this one


def test_what_a_cluster_sends_while_what_is_left_is_said_does_not_disturb_it():
    said = []

    def ended(stop):
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            os.kill(os.getpid(), number)
        said.append(stop.why)

    def work():
        with stoppable(None, time.monotonic(), ended):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(30)

    with pytest.raises(Stopped):
        work()
    assert said == ["stopped by SIGUSR1"]


COUNTING = """
import os, signal, time
from multiprocessing import resource_tracker
from benchmark.running.limits import start_counting
start_counting()
pid = resource_tracker._resource_tracker._pid
for number in (signal.SIGUSR1, signal.SIGHUP):
    os.kill(pid, number)
    time.sleep(0.2)
    print(os.waitpid(pid, os.WNOHANG), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_multiprocessings_own_process_is_deaf_to_a_cluster():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", COUNTING]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["(0, 0) set()"] * 2, done


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable(None, time.monotonic()):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_limit_outside_the_main_thread_is_refused():
    met = []

    def elsewhere():
        with stoppable(None, time.monotonic()):
            pass
        try:
            with stoppable(1.0, time.monotonic()):
                pass
        except InvalidInputError as error:
            met.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert met == ["--max-hours works in the main thread only"]


@pytest.mark.parametrize("hours", ["0", "-1", "inf", "nan", "soon"])
def test_hours_are_checked(hours, capsys):
    assert main(["run", "--max-hours", hours]) == 2
    assert "expected hours above 0" in capsys.readouterr().err


def test_only_a_run_has_a_limit():
    assert make_parser().parse_args(["run", "--max-hours", "3.9"]).max_hours == 3.9
    with pytest.raises(InvalidInputError, match="--max-hours"):
        make_parser().parse_args(["plan", "--max-hours", "3.9"])


# The script of the README, with SLURM's commands and the study played by others.

STUDY = """#!/bin/bash
echo "$@" >> words
trap 'echo stopped >> words; exit {stopped}' USR1
touch begun
for n in $(seq 50); do sleep 0.1; [ -e finish ] && exit {code}; done
exit 99
"""


def submitted(tmp_path, code=0, stopped=130):
    """Start the script as SLURM would, and wait until the study has begun."""
    for name, text in (
        ("python", STUDY.format(code=code, stopped=stopped)),
        ("scontrol", '#!/bin/bash\necho "$@" >> requeued\n'),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "job.sh").write_text(SCRIPT)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "77", "HOME": "/h"}
    job = subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    return job


def requeued(tmp_path):
    found = tmp_path / "requeued"
    return found.read_text().splitlines() if found.exists() else []


def test_the_script_is_one_that_slurm_and_bash_understand():
    assert subprocess.run(["bash", "-n"], input=SCRIPT, text=True).returncode == 0
    words = re.findall(r"^#SBATCH (.*)$", SCRIPT, flags=re.MULTILINE)
    assert {"--requeue", "--signal=B:USR1@120"} <= {w for line in words for w in line.split()}
    (line,) = re.findall(r"python -m benchmark (.*) &", SCRIPT)
    assert make_parser().parse_args(line.replace('"', "").split()).methods


def test_told_that_its_time_is_up_it_queues_again(tmp_path):
    job = submitted(tmp_path)
    job.send_signal(signal.SIGUSR1)  # to the script alone, as B: says
    assert job.wait(timeout=20) == 130
    assert requeued(tmp_path) == ["requeue 77"]
    words = (tmp_path / "words").read_text().splitlines()
    assert words[0].startswith("-m benchmark run --methods")
    assert words[1:] == ["stopped"]


@pytest.mark.parametrize("code", [0, 2, 3])
def test_a_study_that_ends_by_itself_is_not_queued_again(tmp_path, code):
    job = submitted(tmp_path, code)
    (tmp_path / "finish").touch()
    assert job.wait(timeout=20) == code
    assert requeued(tmp_path) == []


def test_one_that_was_done_when_its_time_was_up_is_not_queued_again(tmp_path):
    job = submitted(tmp_path, stopped=0)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=20) == 0
    assert requeued(tmp_path) == []
