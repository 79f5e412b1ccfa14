"""How fast a GPU is used, as ratios to what the same card can do, and as plain times."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from benchmark.engines.local import LocalEngine
from benchmark.engines.machine import cuda_devices, default_workers
from benchmark.running import flows
from benchmark.running.flows import Task
from benchmark.study.pixels import PixelStore
from benchmark.training import evaluate
from benchmark.training.device import layout
from benchmark.training.device_steps import PROOFS, WARM, DeviceSteps
from benchmark.training.energy import Card
from benchmark.training.graphs import CudaRecorder, Recorder
from benchmark.training.span import uuid_of
from benchmark.training.splits import Split
from benchmark.training.steps import Training, backward, move
from protocols.discovery import load
from protocols.method import Batch, Draw, Method
from protocols.optimizer import make_optimizer
from protocols.protocol import ImagePipeline
from tests import made
from tests.gpu import metrics_check as agreement
from tests.gpu import plugins
from tests.gpu.checks import Result
from tests.gpu.correct import DEVICE, PHOTOS, stream
from tests.gpu.failures import job

ROUNDS = 5
PRECISIONS = {"tiny": "fp32", "bn_inception": "bf16", "resnet50": "bf16"}
SIDES = {"tiny": 64, "bn_inception": 227, "resnet50": 224}


def _photos(side: int, images: int = 160) -> Split:
    """Return ``images`` different ones: of 160 that are larger, each one row further down."""
    rng = np.random.default_rng(0)
    width = np.full(160, 64) if side == 64 else rng.integers(256, 340, 160)
    height, rounds = 64 if side == 64 else 256, -(-images // 160)
    some = made.split(np.stack([np.full(160, height + rounds - 1), width], axis=1)).store
    number = np.arange(images) % 160
    starts = some.starts[number] + 3 * width[number] * (np.arange(images) // 160)
    sizes = np.stack([np.full(images, height), width[number]], axis=1)
    store = PixelStore(some.file, sizes, starts)
    return Split(store, np.arange(images), number // 8 + 20 * (np.arange(images) // 160))


def _training(trunk: str, recipe: str = "adam", method: str | type[Method] = "") -> Training:
    """Return a training in the trunk's precision; ``paper`` is the published protocol's recipe."""
    small = ImagePipeline(64, 64, area=(0.5, 1.0), flip=0.0)
    image = small if trunk == "tiny" else replace(PHOTOS, crop_px=SIDES[trunk])
    protocol = replace(made.TOY.derive(precision=PRECISIONS[trunk]), image=image, eval_batch=256)
    return made.training(
        _photos(SIDES[trunk]),
        method or ("contrastive" if trunk == "tiny" else "ms"),
        protocol=protocol,
        trunk=trunk,
        batch=32,
        embedding=128,
        device=DEVICE,
        recipe=load("recipe", recipe),
    )


def fit() -> Result:
    """Hold whole steps, host work included, against a bare recorded step on still images."""
    found, good = {}, True
    for trunk in SIDES:
        with stream():
            ours, bare = _ours(_training(trunk)), _bare(_training(trunk))
            steps = 200 if trunk == "tiny" else 20
            times: dict[str, list[float]] = {"ours": [], "bare": []}
            for _ in range(ROUNDS):
                times["ours"].append(_seconds(ours, steps))
                times["bare"].append(_seconds(bare, steps))
        ratio = median(times["bare"]) / median(times["ours"])
        good = good and ratio >= (0.5 if trunk == "tiny" else 0.85)
        found[trunk] = {name: 1e3 * median(values) for name, values in times.items()}
        found[trunk]["ratio"] = ratio
        torch.cuda.empty_cache()
    text = "; ".join(
        f"{trunk} {v['ratio']:.2f} ({v['ours']:.2f} ms, graph {v['bare']:.2f} ms)"
        for trunk, v in found.items()
    )
    return Result(good, text, found)


def alone() -> Result:
    """Time steps under a loss that waits: the trunk recorded, and ordinary ones."""
    found: dict[str, dict[str, float]] = {}
    for trunk in ("tiny", "bn_inception"):
        with stream():
            ways = {
                "trunk": _ours(_training(trunk, method=plugins.Picks), "trunk: "),
                "ordinary": _ours(_training(trunk, method=plugins.Picks), "eager: ", None),
            }
            steps = 100 if trunk == "tiny" else 20
            times = {name: [_seconds(way, steps) for _ in range(3)] for name, way in ways.items()}
        found[trunk] = {name: 1e3 * median(values) for name, values in times.items()}
        torch.cuda.empty_cache()
    text = "; ".join(
        f"{trunk} {v['trunk']:.2f} ms, ordinary {v['ordinary']:.2f} ms"
        for trunk, v in found.items()
    )
    return Result(all(v["trunk"] < v["ordinary"] for v in found.values()), text, found)


def _seconds(step: Callable[[], None], count: int) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / count


def _ours(
    training: Training,
    how: str = "graph",
    recorder: Callable[[], Recorder] | None = CudaRecorder,
) -> Callable[[], None]:
    """Return what takes one step as a job takes it, once steps are settled."""
    steps = DeviceSteps(training, recorder and recorder())
    batches = made.draws(training)

    def step() -> None:
        steps.take(Draw(next(batches)), 0, 1.0)

    for _ in range(WARM + PROOFS + 2):
        step()
    if not steps.how.startswith(how):
        raise AssertionError(f"steps are {steps.how}")
    return step


def _bare(training: Training) -> Callable[[], None]:
    """Return a recorded step on still images: forward, loss, backward, optimiser."""
    network, device = training.network, torch.device(DEVICE)
    extent = training.protocol.image.crop_hw
    lie = layout(device, training.protocol.precision)
    images = (torch.rand(32, 3, *extent, device=device) * 255).to(memory_format=lie)
    labels = torch.arange(32, device=device) // 4
    optimizer = make_optimizer(training.recipe, network.groups(), device)

    def step() -> None:
        with evaluate.autocast(training.protocol, device, cached=False):
            views = network(images)
        losses = network.method.losses(views, Batch(labels, labels, None, 0, 0))
        backward(optimizer, losses)
        move(training, optimizer)

    for _ in range(WARM):
        step()
    optimizer.zero_grad(set_to_none=True)
    replay = CudaRecorder().record(step)
    return _Kept(replay, (images, labels, optimizer, network))


class _Kept:
    """A replay that holds the tensors it reads: freed, it would read other memory."""

    def __init__(self, replay: Callable[[], None], held: object) -> None:
        self._replay, self._held = replay, held

    def __call__(self) -> None:
        self._replay()


def validation() -> Result:
    """Embed and score a validation fold of CUB's size."""
    found, good = {}, True
    for trunk, limit in (("tiny", 0.02), ("bn_inception", 0.15)):
        with stream():
            training = _training(trunk)
            fold = _photos(SIDES[trunk], 1466)
            times = []
            for _ in range(4):
                torch.cuda.synchronize()
                started = time.perf_counter()
                evaluate.score(training.network, fold, training.protocol)
                times.append((time.perf_counter() - started) / len(fold) * 1e3)
        found[trunk] = median(times[1:])
        good = good and found[trunk] <= limit
    return Result(good, "; ".join(f"{k} {v:.3f} ms" for k, v in found.items()), found)


def metrics_check() -> Result:
    """Hold the metrics against the CPU's, and time those of SOP's test set."""
    lines = agreement.check("cuda")
    wrong = [f"{line.check}: {line.result}" for line in lines if not line.held]
    timed = [f"{line.check}: {line.result}" for line in lines if line.result.endswith(" s")]
    values = {line.check: line.result for line in lines}
    return Result(not wrong, f"unequal or slow: {wrong or 'none'}; {'; '.join(timed)}", values)


class Pace(NamedTuple):
    """How fast one worker went beside others.

    Attributes:
        rate: steps a second.
        image_s: seconds of one validation image.
        watts: of the whole card while steps were counted; None where it does not tell.
    """

    rate: float
    image_s: float
    watts: float | None


def rate_of(asked: tuple[str, str, float]) -> Pace:
    """Return how fast steps and validation are, beside other workers.

    Args:
        asked: the names of trunk and recipe, and over how many seconds steps are counted.
    """
    trunk, recipe, seconds = asked
    # A call that leaves the generators moved would cost the next one a process of its own.
    with stream(), torch.random.fork_rng([DEVICE]):
        training = _training(trunk, recipe)
        step = _ours(training)
        torch.cuda.synchronize()
        card = Card(uuid_of(DEVICE))
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            step()
            count += 1
        torch.cuda.synchronize()
        took, joules = time.perf_counter() - started, card.read()
        fold = _photos(SIDES[trunk], 480)
        evaluate.embed(training.network, fold, training.protocol)
        started = time.perf_counter()
        evaluate.embed(training.network, fold, training.protocol)
        image_s = (time.perf_counter() - started) / len(fold)
        return Pace(count / took, image_s, joules and joules / took)


def quick() -> Result:
    """Run the ``quick`` study of three methods: the command, or its jobs where it cannot run."""
    whole = all(importlib.util.find_spec(name) for name in ("optuna", "mlflow", "pandas", "rich"))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        if whole:
            words = ["run", "--methods", "triplet,ms,group", "--out", folder]
            command = [sys.executable, "-m", "benchmark", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise AssertionError(done.stdout[-500:] + done.stderr[-500:])
        else:
            _jobs_of_quick(Path(folder))
        took = time.perf_counter() - started
    what = "the command" if whole else "its 42 jobs (packages for the command are missing)"
    return Result(took <= 30, f"{what}: {took:.1f} s", {"seconds": took, "command": whole})


def _jobs_of_quick(folder: Path) -> None:
    """Run the trainings of the study in the study's order."""
    from benchmark.training import splits
    from benchmark.training.job import execute

    protocol, devices = load("protocol", "quick"), cuda_devices("cuda")
    failed: list[str] = []

    def task(method: str, stage: str, number: int, fold: int) -> Task:
        def accept(outcome):
            if outcome.record.status != "done":
                failed.append(f"{method}: {outcome.record.detail}")
            return outcome

        made_of = job(folder, method, protocol, stage=stage, number=number, fold=fold)
        return Task(execute, made_of, 120.0, accept, lambda reason: failed.append(reason))

    def final(method: str, seed: int):
        yield [task(method, "final", seed, fold) for fold in range(protocol.folds)]
        return []

    def cell(method: str):
        for trial in range(protocol.search.trials if method != "untrained" else 0):
            yield [task(method, "search", trial, fold) for fold in range(protocol.folds)]
        return [final(method, seed) for seed in range(protocol.seeds)]

    engine = LocalEngine(
        default_workers(devices, protocol), 1, folder / "workers.txt", devices=devices
    )
    try:
        engine.start("benchmark.training.job")
        splits.prepare(job(folder, "triplet", protocol).source, protocol)
        names = ("triplet", "ms", "group", "untrained")
        flows.run([cell(name) for name in names], engine)
    finally:
        engine.close()
    if failed:
        raise AssertionError("; ".join(failed)[:300])
