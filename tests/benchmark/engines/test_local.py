"""Processes of this machine: which devices they share, and which of them are used again."""

import os
from dataclasses import dataclass

import pytest
import torch

from benchmark.engines import local
from benchmark.engines.local import LocalEngine
from benchmark.engines.machine import cuda_devices


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


def environment(name):
    return os.environ[name]


@pytest.fixture
def engine(tmp_path):
    made = []

    def make(capacity, devices=()):
        made.append(LocalEngine(capacity, 1, tmp_path / "workers.txt", devices=devices))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(("spent", "again"), [("", True), ("broken", False), ("crowded", False)])
def test_a_spent_process_is_not_used_again(engine, spent, again):
    workers = engine(1)
    first = workers.submit(outcome, spent).result()
    second = workers.submit(outcome, "").result()
    assert (first.process == second.process) == again
    assert workers.capacity == 1, "the last slot of a device stays"


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


def test_torch_computes_float32_in_full_on_a_gpu(monkeypatch):
    places = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [place.fp32_precision for place in places]
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        for place in places:
            place.fp32_precision = "tf32"
        local.set_up_torch(1, deterministic=False)
        assert [place.fp32_precision for place in places] == ["ieee", "ieee"]
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        for place, word in zip(places, before, strict=True):
            place.fp32_precision = word
