"""Trials per hour against pytorch-metric-learning's trainer, tester and DataLoader.

A trial is composed: 4 folds of 600 steps and 7 validations. What one step and one validated
image take is measured on both sides, each with the machine's two cores to itself: here two jobs
of one thread side by side, there one process of two threads without or with two loader workers.
Weights, loss, batch, sampler's shape, augmentation and optimiser are the same. That our workers
keep freed memory is part of what is compared; what the other side would gain by it stands in the
details.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmark.engines.local import LocalEngine
from benchmark.training import splits
from benchmark.training.job import Job
from protocols.protocol import ImagePipeline
from tests.perf import peer, pictures
from tests.perf.rows import ROUNDS, Row, in_turn, ratio, shown
from tests.perf.training import Rate, measure

FOLDS, STEPS, VALIDATIONS = 4, 600, 7
PHOTOS = ImagePipeline(resize_px=256, crop_px=227, area=(0.16, 1.0), aspect=(0.75, 1.33))


def emoji(folder: Path) -> list[Row]:
    """Return the rows on emoji at 64 px, at equal precision and with bf16."""
    made = pictures.paced(pictures.job(folder, "emoji"), 80, 40)
    images = len(splits.open_fold(made.source, made.protocol, 0)[1])
    what = "trials/h, emoji 64 px, stock trainer and tester"
    return _rows(folder, made, images, what, ">= 2.0", ">= 3.3")


def photographs(folder: Path) -> list[Row]:
    """Return the rows on 500 x 375 JPEG files seen at 227 of 256 px, stored pixels warm."""
    made = pictures.paced(pictures.job(folder, "photographs", image=PHOTOS), 16, 8)
    what = "trials/h, JPEG 256 px, stock trainer and tester"
    return _rows(folder, made, pictures.CUB_VALIDATION, what, ">= 5.0", "")


def pair(engine: LocalEngine, made: Job) -> Rate:
    """Return the mean rate of as many jobs as the engine runs at once."""
    futures = [engine.submit(measure, replace(made, fold=k)) for k in range(engine.capacity)]
    rates = [future.result() for future in futures]
    return Rate(*(sum(values) / len(rates) for values in zip(*map(_both, rates), strict=True)))


def _both(rate: Rate) -> tuple[float, float]:
    return rate.step_s, rate.validated_s


def _rows(folder: Path, made: Job, images: int, what: str, plain: str, reduced: str) -> list[Row]:
    bf16 = replace(made, protocol=replace(made.protocol, precision="bf16"))
    rates: dict[str, list[Rate]] = {}

    def trial(name: str, work: Callable[[], Rate], at_once: int) -> float:
        rate = work()
        rates.setdefault(name, []).append(rate)
        return _trial_s(rate, images) / at_once

    engine = LocalEngine(2, 1, folder / "workers.txt")
    try:
        with _process(peer.set_up) as stock, _process(peer.set_up_keeping_memory) as kept:

            def peers(pool: ProcessPoolExecutor, workers: int) -> Rate:
                return pool.submit(peer.measure, made, workers).result()

            sides = {
                "fp32": partial(pair, engine, made),
                "bf16": partial(pair, engine, bf16),
                "stock, no workers": partial(peers, stock, 0),
                "stock, 2 workers": partial(peers, stock, 2),
                "no workers, memory kept": partial(peers, kept, 0),
            }
            for work in sides.values():  # stores, caches and processes warm up
                work()
            found = in_turn(
                {
                    name: partial(trial, name, work, 2 if name in ("fp32", "bf16") else 1)
                    for name, work in sides.items()
                }
            )
    finally:
        engine.close()
    best = min((n for n in found if n.startswith("stock")), key=lambda n: sorted(found[n])[2])
    detail = f"better: {best}; a trial of {FOLDS} x ({STEPS} steps + {VALIDATIONS} x {images} "
    detail += f"images): {shown(found)}; ms a step and an image: {_parts(rates)}"
    return [
        Row(f"{what}, {name}", ratio(found[best], found[name]), target, ROUNDS, detail)
        for name, target in (("fp32", plain), ("bf16", reduced))
    ]


@contextmanager
def _process(set_up: Callable[[], None]) -> Iterator[ProcessPoolExecutor]:
    """Start a process of its own for the other side: as much memory and as warm as a script."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=set_up) as pool:
        yield pool


def _trial_s(rate: Rate, images: int) -> float:
    return FOLDS * (STEPS * rate.step_s + VALIDATIONS * images * rate.validated_s)


def _parts(rates: dict[str, list[Rate]]) -> str:
    def middle(values: list[float]) -> float:
        return 1000 * sorted(values)[len(values) // 2]

    return ", ".join(
        f"{name} {middle([r.step_s for r in found]):.1f} and "
        f"{middle([r.validated_s for r in found]):.2f}"
        for name, found in rates.items()
    )
