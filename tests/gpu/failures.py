"""What goes wrong on a GPU is told apart, harms no neighbour and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmark.engines.local import LocalEngine
from benchmark.engines.machine import cuda_devices
from benchmark.study.folder import CellKey
from benchmark.training import splits
from benchmark.training.job import Job, JobOutcome, execute
from protocols.discovery import load
from protocols.protocol import Protocol
from tests.gpu.checks import Result

ROOT = Path(__file__).parent.parent.parent
BREAKING = '''
"""A method that breaks what it runs on."""
import torch
from protocols.method import Method, Term


class Breaking(Method):
    """{name}"""

    def make_terms(self, spec):
        return [Term(self.loss)]

    def loss(self, embeddings, labels):
        {statement}
        return embeddings.square().mean()
'''
STATEMENTS = {
    "no_memory": "torch.empty(1 << 42, device=embeddings.device)",
    "no_handle": "raise RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling "
    "`cublasCreate(handle)`')",
    "asserts": "embeddings = embeddings[labels + 1000000]; torch.cuda.synchronize()",
}
WANTED = {
    "no_memory": ("oom", "crowded"),
    "no_handle": ("oom", "crowded"),
    "asserts": ("crash", "broken"),
}


def job(
    folder: Path,
    method: str,
    protocol: Protocol | None = None,
    plugin: Path | None = None,
    **place: Any,
) -> Job:
    """Return a job on the card, on the first dataset of ``protocol``."""
    protocol = protocol or load("protocol", "toy")
    name = protocol.datasets[0]
    source = splits.DataSource(name, load("dataset", name).digest(), None, folder / "cache")
    trains = plugin is not None or load("method", method).trains
    cell = CellKey("gpu", name, "tiny", "adam", method, method, trains=trains)
    where = {"stage": "search", "number": 0, "fold": 0, **place}
    return Job(
        cell=cell,
        protocol=protocol.on(name),
        recipe=load("recipe", "adam"),
        settings={},
        source=source,
        device="cuda",
        plugins=(plugin,) if plugin else (),
        **where,
    )


def without_clock(outcome: JobOutcome) -> Any:
    """Return what must be the same however often a job runs."""
    return replace(outcome.record, measured={}), outcome.vectors


def toy() -> Result:
    """Run twelve deterministic jobs one after the other and four at once."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = [
            job(folder, method, stage="final", number=seed, fold=fold)
            for method in ("triplet", "group", "ms")
            for seed in range(2)
            for fold in range(2)
        ]
        splits.prepare(made[0].source, made[0].protocol)
        for capacity in (1, 4):
            devices = cuda_devices("cuda:0")
            engine = LocalEngine(
                capacity, 1, folder / "workers.txt", deterministic=True, devices=devices
            )
            try:
                found.append(_all(engine, made))
            finally:
                engine.close()
    details = {o.record.detail for some in found for o in some if o.record.status != "done"}
    words = {o.record.measured.get("step") for some in found for o in some}
    equal = [without_clock(a) == without_clock(b) for a, b in zip(*found, strict=True)]
    text = f"{sum(equal)} of {len(equal)} equal, steps: {words}, failures: {details or 'none'}"
    return Result(all(equal) and not details, text, {})


def _all(engine: LocalEngine, jobs: list[Job]) -> list[JobOutcome]:
    """Return the outcomes of ``jobs``, as many at once as the engine takes."""
    found: list[JobOutcome] = []
    for start in range(0, len(jobs), engine.capacity):
        some = [engine.submit(execute, made) for made in jobs[start : start + engine.capacity]]
        found += [future.result() for future in some]
    return found


def reserved_after(made: Job) -> tuple[str, int, int]:
    """Run a job on a worker; return its status, the bytes that torch then holds, the process."""
    return execute(made).record.status, torch.cuda.memory_reserved(), os.getpid()


def memory() -> Result:
    """Run twenty jobs in one worker, which is one process: no job leaves it changed."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        engine = LocalEngine(1, 1, folder / "workers.txt", devices=cuda_devices("cuda:0"))
        try:
            methods = ("triplet", "ms", "group", "bfe") * 5
            protocol = load("protocol", "toy")
            image = replace(protocol.image, resize_px=32, crop_px=32)
            protocol = replace(protocol, image=image)
            found = [
                engine.submit(reserved_after, job(folder, name, protocol)).result()
                for name in methods
            ]
        finally:
            engine.close()
        said = (folder / "workers.txt").read_text(encoding="utf-8")
    held = [size >> 20 for _, size, _ in found]
    statuses = {status for status, _, _ in found}
    processes = len({process for _, _, process in found})
    good = statuses == {"done"} and max(held[4:]) <= max(held[:4]) + 2 and processes == 1
    changes = sorted({line for line in said.splitlines() if line.startswith("a job has changed")})
    text = f"MB held after each: {held}; {statuses}; processes: {processes}; {changes or ''}"
    return Result(good, text, {"held_mb": held, "processes": processes, "changes": changes})


def broken() -> Result:
    """Run jobs that break their device beside one that does not."""
    found, good = {}, True
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        engine = LocalEngine(2, 1, folder / "workers.txt", devices=cuda_devices("cuda:0") * 2)
        try:
            splits.prepare(job(folder, "triplet").source, load("protocol", "toy"))
            engine.submit(execute, job(folder, "triplet")).result()
            for name, statement in STATEMENTS.items():
                plugin = folder / f"{name}.py"
                plugin.write_text(BREAKING.format(name=name, statement=statement))
                beside = engine.submit(execute, job(folder, "ms", number=1))
                failed = engine.submit(execute, job(folder, name, plugin=plugin)).result()
                neighbour = beside.result()
                after = engine.submit(execute, job(folder, "triplet")).result()
                kind = (failed.record.reason, failed.spent)
                well = neighbour.record.status == after.record.status == "done"
                good = good and kind == WANTED[name] and well
                found[name] = [*kind, failed.record.detail[:160], well]
        finally:
            engine.close()
    return Result(good, str({name: value[:2] for name, value in found.items()}), found)


def visible() -> Result:
    """Count devices where CUDA_VISIBLE_DEVICES names some that are not there."""
    identity = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    here = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    code = "from benchmark.engines.machine import cuda_devices; print(cuda_devices('cuda'))"
    found = {}
    for names in (f"{here},99", f"{here},-1,{here}", identity):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": names}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        found[names] = done.stdout.strip() or done.stderr[-200:]
    good = all(found[names] == f"('{names.split(',')[0]}',)" for names in found)
    return Result(good, str(found), {})


KILLED = """
import sys, time
from pathlib import Path
from benchmark.engines.local import LocalEngine
from benchmark.engines.machine import cuda_devices
from tests.gpu import failures
engine = LocalEngine(2, 1, Path(sys.argv[1]), devices=cuda_devices("cuda:0") * 2)
futures = [engine.submit(failures.hold, 1 << 30) for _ in range(2)]
time.sleep(2)
processes = [p for slot in engine._slots for p in slot.pool._processes]
while not all(Path(f"{sys.argv[1]}.{p}").exists() for p in processes):
    time.sleep(0.1)
print(*processes, flush=True)
time.sleep(600)
"""


def hold(size: int) -> None:
    """Hold memory of the card until killed; runs on a worker, which prints nothing else."""
    kept = torch.zeros(size, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    Path(f"{os.readlink('/proc/self/fd/1')}.{os.getpid()}").touch()
    time.sleep(600)
    del kept


def killed() -> Result:
    """Kill a coordinator: its workers end and the card's memory comes back."""
    free = torch.cuda.mem_get_info()[0]
    with tempfile.TemporaryDirectory() as folder:
        log = f"{folder}/workers.txt"
        command = [sys.executable, "-c", KILLED, log]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as coordinator:
            assert coordinator.stdout is not None
            processes = [int(word) for word in coordinator.stdout.readline().split()]
            taken = (free - torch.cuda.mem_get_info()[0]) >> 20
            coordinator.send_signal(signal.SIGKILL)
        time.sleep(5)
    left = [number for number in processes if Path(f"/proc/{number}").exists()]
    held = (free - torch.cuda.mem_get_info()[0]) >> 20
    good = len(processes) == 2 and not left and taken >= 2048 and held < 64
    text = f"{len(processes)} workers held {taken} MB; after 5 s {len(left)} live, {held} MB held"
    return Result(good, text, {})
