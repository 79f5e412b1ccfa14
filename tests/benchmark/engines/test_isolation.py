"""What a job does to its process stays there: a guard sees it, an engine replaces the process."""

import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmark.engines.local import LocalEngine
from benchmark.training.job import execute
from tests.meddling import MEDDLERS, PLUGIN, WORST, job, source, toy, truth

WATCH = """
import gc, os, random, signal, sys, threading, time, warnings
import numpy as np
from benchmark.engines.worker import set_up_torch
set_up_torch(1, deterministic=False)
import torch
import benchmark.training.job, protocols.metrics, protocols.discovery
from protocols.method import Method
from benchmark.engines.guard import STATE, Guard
from tests.meddling import MEDDLERS
for name, look in STATE.items():
    look()  # one that raises would see nothing
assert Guard().changed() == []
for name, (body, expected) in MEDDLERS.items():
    guard = Guard()
    exec(body)
    found = guard.changed()
    print(name, expected in found, found, flush=True)
os._exit(0)  # what was done to it ends this process badly
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("c"))


@pytest.fixture
def engine(tmp_path):
    engine = LocalEngine(1, 1, tmp_path / "workers.txt")
    yield engine
    engine.close()


def pid(_):
    return os.getpid()


def meddle(name):
    import torch

    if name == "type":
        torch.set_default_dtype(torch.float64)
    elif name == "seed":
        random.seed(0)
    elif name == "exit":
        sys.exit(0)
    return os.getpid(), str(torch.get_default_dtype())


class Foreign(str):
    """An argument that brings code of its own."""

    @property
    def foreign(self):
        return (str(self),)


def test_a_guard_names_what_was_changed():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", WATCH]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(MEDDLERS)
    assert [line for line in lines if line.split()[1] != "True"] == []


def test_shipped_methods_change_nothing_that_the_guard_sees(engine, data, tmp_path):
    names = ("group", "bfe", "divide_conquer", "triplet", "untrained")
    first = engine.submit(pid, None).result(timeout=60)
    for name in names:
        kept = replace(job(data, name), partial=tmp_path / "partial.pt")  # looks into the method
        engine.submit(execute, kept).result(timeout=60)
    assert engine.submit(pid, None).result(timeout=60) == first
    assert "has changed" not in (tmp_path / "workers.txt").read_text()


def test_a_process_that_was_changed_is_replaced(engine, tmp_path):
    first, kind = engine.submit(meddle, "nothing").result(timeout=60)
    assert engine.submit(meddle, "type").result(timeout=60) == (first, "torch.float64")
    second, after = engine.submit(meddle, "nothing").result(timeout=60)
    assert (second != first, after) == (True, kind)
    with pytest.raises(RuntimeError, match="SystemExit: 0"):
        engine.submit(meddle, "exit").result(timeout=60)
    assert engine.submit(meddle, "nothing").result(timeout=60)[0] != second
    text = (tmp_path / "workers.txt").read_text()
    assert "a job has changed what others would start from: torch's default type" in text


def test_code_that_does_not_ship_has_a_process_of_its_own(tmp_path):
    engine = LocalEngine(2, 1, tmp_path / "workers.txt")
    try:
        ours = engine.submit(pid, None).result(timeout=60)
        one = engine.submit(pid, Foreign("one")).result(timeout=60)
        for _ in range(2):  # a free process with the same code is preferred
            assert engine.submit(pid, Foreign("one")).result(timeout=60) == one
            assert engine.submit(pid, None).result(timeout=60) == ours
        assert engine.submit(pid, Foreign("other")).result(timeout=60) not in (ours, one)
    finally:
        engine.close()


def test_a_job_knows_what_of_its_code_does_not_ship(data, tmp_path):
    ours = job(data, "ms")
    assert ours.foreign == ()
    cell = replace(ours.cell, method="mine", trunk="tiny+imagenet", recipe="own")
    assert replace(ours, cell=cell).foreign == ("method mine", "recipe own")
    assert replace(ours, cell=replace(ours.cell, trunk="timm:resnet18")).foreign == ()


def test_shipped_methods_keep_their_bits_beside_the_worst(engine, data, tmp_path):
    path = tmp_path / "meddler.py"
    path.write_text(source(*WORST))
    found = []
    for method in ("ms", "meddler", "ms"):
        plugins = [path] if method == "meddler" else []
        found.append(engine.submit(execute, job(data, method, plugins)).result(timeout=100))
    assert truth(found[0]) == truth(found[2])
    assert found[0].record.status == "done"
    here = execute(job(data, "ms"))
    assert truth(here) == truth(found[0])


RAISED = {
    "exits": "sys.exit(0)",
    "interrupts": "raise KeyboardInterrupt",
    "ends": "raise GeneratorExit",
    "unspeakable": """
    class Unspeakable(Exception):
        def __str__(self):
            sys.exit(0)
    raise Unspeakable""",
}


@pytest.mark.parametrize("name", RAISED)
def test_whatever_a_method_raises_is_a_record(data, tmp_path, name):
    path = tmp_path / f"{name}.py"
    path.write_text(PLUGIN.format(name=name, body=f"    {RAISED[name].strip()}"))
    outcome = execute(job(data, name, [path]))
    assert (outcome.record.status, outcome.record.reason) == ("failed", "error")
    assert f"({name}.py:" in outcome.record.detail
