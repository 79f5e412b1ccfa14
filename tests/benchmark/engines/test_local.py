"""Processes of this machine: which devices they share, and which of them are used again."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import torch

from benchmark.engines import local, worker
from benchmark.engines.local import LocalEngine
from benchmark.engines.machine import cuda_devices
from benchmark.engines.mps import PIPES
from benchmark.running import canary, flows
from protocols.errors import MachineError


@pytest.mark.parametrize(
    ("named", "there", "wanted"),
    [
        (None, 2, ("0", "1")),
        ("0,1,2,3", 1, ("0",)),
        ("0,-1,1", 1, ("0",)),
        ("0,0", 1, ("0",)),
        ("1, 0", 2, ("1", "0")),
        ("GPU-aaaa,MIG-bbbb", 2, ("GPU-aaaa", "MIG-bbbb")),
        ("3,1,2", 3, ("3", "1", "2")),
    ],
)
def test_only_devices_that_are_there_get_workers(named, there, wanted, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    if named is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert cuda_devices("cuda") == wanted
    assert cuda_devices(f"cuda:{there - 1}") == wanted[-1:]
    assert cuda_devices("cpu") == ()


@dataclass(frozen=True)
class Outcome:
    """What a job says of its process."""

    process: int
    spent: str


def outcome(spent):
    return Outcome(os.getpid(), spent)


def sleep(seconds):
    time.sleep(seconds)


def environment(name):
    return os.environ[name]


def variables(names):
    return [os.environ[name] for name in names]


@pytest.fixture
def engine(tmp_path):
    made = []

    def make(capacity, devices=(), mps=None):
        log = tmp_path / "workers.txt"
        made.append(LocalEngine(capacity, 1, log, devices=devices, mps=mps))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("spent", "again"), [("", True), ("broken", False), ("recording", False), ("crowded", False)]
)
def test_a_spent_process_is_not_used_again(engine, spent, again):
    workers = engine(1)
    first = workers.submit(outcome, spent).result()
    second = workers.submit(outcome, "").result()
    assert (first.process == second.process) == again
    assert workers.capacity == 1, "the last slot of a device stays"
    workers.close()
    assert workers._retired == []


def test_a_crowded_device_has_one_job_fewer_from_then_on(engine):
    workers = engine(4, ("7", "8"))
    futures = [workers.submit(outcome, "crowded" if n == 1 else "") for n in range(4)]
    for future in futures:
        future.result()
    assert workers.capacity == 3
    names = [workers.submit(environment, "CUDA_VISIBLE_DEVICES") for _ in range(3)]
    assert sorted(name.result() for name in names) == ["7", "7", "8"]
    jobs = workers.submit(environment, "DML_JOBS_A_CARD")
    assert jobs.result() == "2"


def test_a_job_is_told_how_many_share_its_device_by_now(engine):
    workers = engine(4, ("7",))
    first = workers.submit(outcome, "").result().process
    told = workers.submit(environment, "DML_JOBS_A_CARD").result()
    workers.limit(1)
    again = workers.submit(environment, "DML_JOBS_A_CARD").result()
    assert (told, again) == ("4", "1")
    assert workers.submit(outcome, "").result().process == first, "nothing is started anew for it"


def complain(error):
    raise error


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (ValueError("a method's own"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_under_mps_an_error_of_the_device_costs_the_neighbours_and_no_other_does(
    engine, tmp_path, error, stays
):
    workers = engine(2, ("7",), tmp_path / "pipes")
    failing, beside = workers.submit(wait_for, tmp_path / "a"), workers.submit(outcome, "")
    process = beside.result().process
    (tmp_path / "a").touch()
    failing.result()
    with pytest.raises(RuntimeError, match=str(error)[:12]):
        workers.submit(complain, error).result()
    assert [slot.pool is not None for slot in workers._slots] == [False, stays]
    assert (workers.submit(outcome, "").result().process == process) == stays


def wait_for(path):
    """Hold the process until there is a file; return its number."""
    while not path.exists():
        time.sleep(0.02)
    return os.getpid()


def test_a_card_that_mps_broke_waits_until_its_processes_are_gone(engine, tmp_path):
    """MPS lets no new process in while one of the broken ones is there, idle or busy."""
    workers = engine(3, ("7",), tmp_path / "pipes")
    first, second, third = (workers.submit(wait_for, tmp_path / name) for name in "abc")
    for name, future in (("b", second), ("c", third)):
        (tmp_path / name).touch()
        future.result()
    assert workers.submit(outcome, "broken").result().process == second.result()
    assert workers._slots[2].pool is None, "the idle one is replaced"
    assert workers.capacity == 1, "the busy one is waited for"
    (tmp_path / "a").touch()
    process = first.result()
    assert workers.capacity == 3
    again = workers.submit(outcome, "").result().process
    assert again not in (process, second.result(), third.result()), "all three were on that card"
    found = workers.submit(variables, (PIPES, "DML_MPS")).result()
    assert found == [str(tmp_path / "pipes"), "1"]


def test_where_the_mps_daemon_has_ended_no_worker_is_replaced(engine, tmp_path):
    workers = engine(1, ("7",), tmp_path / "pipes")
    workers.submit(outcome, "broken").result()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "control.log").write_text("Start\nUser killed the server\n")
    (tmp_path / "ended").touch()
    with pytest.raises(MachineError, match="User killed the server"):
        workers.submit(outcome, "")


def test_a_job_that_was_promised_a_place_before_its_card_broke_gets_one(engine, tmp_path):
    """The capacity is read first, and a neighbour may be lost before the job is submitted."""
    workers = engine(2, ("7",), tmp_path / "pipes")
    busy, late = workers.submit(wait_for, tmp_path / "a"), workers.submit(sleep, 3600.0)
    workers.cancel(late)
    with pytest.raises(workers.lost):
        late.result()
    assert workers.capacity == 1, "killed at work, it may have left the card broken for all there"
    job = workers.submit(outcome, "")
    (tmp_path / "a").touch()
    assert len({job.result().process, busy.result()}) == 2


def test_a_replaced_process_is_gone_when_the_engine_is_closed(engine, monkeypatch):
    """Replaced, it is killed at once, and by the time of the next call it may still be dying."""
    workers = engine(1)
    first = workers.submit(outcome, "").result().process
    monkeypatch.setattr(local, "_kill", lambda pool: None)  # a death that takes its time
    workers._retire(0)
    monkeypatch.undo()
    workers.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_after_a_death_new_code_runs_where_it_happened(engine):
    workers = engine(3, ("a", "b", "c"))
    running = [workers.submit(sleep, 3600.0) for _ in range(3)]
    workers.cancel(running[0])
    workers.cancel(running[2])
    for future in (running[0], running[2]):
        with pytest.raises(workers.lost):
            future.result()
    workers.cancel(running[1])
    with pytest.raises(workers.lost):
        running[1].result()
    assert workers.submit(environment, "CUDA_VISIBLE_DEVICES").result() == "b"


@pytest.mark.parametrize("kind", ["folder", pytest.param("pipe", marks=pytest.mark.faults)])
def test_a_worker_that_cannot_open_its_log_is_lost_without_a_word(engine, tmp_path, kind, capfd):
    (tmp_path / "workers.txt").mkdir() if kind == "folder" else os.mkfifo(tmp_path / "workers.txt")
    workers = engine(1)
    with pytest.raises(workers.lost):
        workers.submit(outcome, "").result(timeout=60)
    with pytest.raises(MachineError, match="no job can run here"):
        canary.check_workers(workers, "cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.faults
def test_the_canary_lives_in_a_fresh_process_of_its_own(engine):
    workers, found = engine(1), []
    first = workers.submit(outcome, "").result().process

    def flow():
        found.extend((yield [canary.probe("cpu")]))
        return []

    canary.check_workers(workers, "cpu")
    assert workers.submit(outcome, "").result().process == first
    flows.run([flow()], workers)
    assert found == [""]
    assert workers.submit(outcome, "").result().process != first


def test_torch_computes_float32_in_full_on_a_gpu(monkeypatch):
    places = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [place.fp32_precision for place in places]
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        for place in places:
            place.fp32_precision = "tf32"
        worker.set_up_torch(1, deterministic=False)
        assert [place.fp32_precision for place in places] == ["ieee", "ieee"]
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        for place, word in zip(places, before, strict=True):
            place.fp32_precision = word


FIRST_USE = """
import os, sys
from benchmark.engines import cuda, isolation, worker

def start():
    os.environ["CUDA_MODULE_LOADING"] = "LAZY"  # as torch does when it first uses a device

cuda.start = start
worker.start(None, os.getppid(), 1, sys.argv[1], False, sys.argv[2] or None, 1)
spent = isolation.run_alone(lambda _: start(), None).spent
os.write(1, f"spent: {spent}".encode())
os._exit(0)
"""


@pytest.mark.parametrize(("device", "said"), [("0", ""), ("", "changed")])
def test_the_first_use_of_a_device_is_no_change_by_a_job(device, said, tmp_path):
    """Else every job on a GPU would cost a process of its own, and that process' start."""
    log = tmp_path / "workers.txt"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("CUDA_MODULE_LOADING", None)
    words = [sys.executable, "-c", FIRST_USE, str(log), device]
    subprocess.run(words, timeout=100, env=environment, check=True)
    assert log.read_text().splitlines()[-1] == f"spent: {said}"


def test_a_device_that_cannot_start_is_left_to_the_jobs(engine, tmp_path):
    workers = engine(1, ("a",))
    assert workers.submit(outcome, "").result().process
    assert "_start_cuda" in (tmp_path / "workers.txt").read_text()
