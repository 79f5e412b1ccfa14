"""Jobs side by side on one card: in turns, and by NVIDIA's Multi-Process Service together."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from textwrap import indent
from typing import Any

from benchmark.engines import mps as service_of
from benchmark.engines.local import LocalEngine
from benchmark.engines.machine import cuda_devices
from benchmark.running import flows
from benchmark.running.flows import Retry, Task
from benchmark.training import splits
from benchmark.training.job import Job, JobOutcome, execute
from tests.gpu.checks import Result
from tests.gpu.failures import BREAKING, job
from tests.gpu.speed import Pace, rate_of
from tests.perf.gpu import SHORTEST, column_hours
from tests.perf.training import Rate

AT_ONCE = (1, 2, 4, 8)
ENOUGH = 2000.0  # tiny steps a second
# What two losses do first: each waits for a file of the other's, so that one breaks the card while
# the other one trains on it.
WAITS = """
import pathlib, time
go = pathlib.Path({go!r})
pathlib.Path({there!r}).touch()
end = time.monotonic() + 40
while not go.exists() and time.monotonic() < end:
    time.sleep(0.02)
if not hasattr(self, "waited"):
    self.waited = True
    time.sleep(2)
"""
BREAKS = """
import pathlib, time
end = time.monotonic() + 40
while not pathlib.Path({there!r}).exists() and time.monotonic() < end:
    time.sleep(0.02)
pathlib.Path({go!r}).touch()
embeddings = embeddings[labels + 1000000]
torch.cuda.synchronize()
"""


def rates_of(engine: LocalEngine, seconds: float) -> dict[int, Pace]:
    """Return the pace of tiny together, by how many jobs run at once."""
    rates: dict[int, Pace] = {}
    engine.start("benchmark.training.job")
    for count in (AT_ONCE[-1], *AT_ONCE):  # the first round only starts the processes
        wait = seconds if rates else 0.2
        futures = [engine.submit(rate_of, ("tiny", "adam", wait)) for _ in range(count)]
        rates[count] = together([future.result() for future in futures])
    return rates


def together(paces: list[Pace]) -> Pace:
    """Return the pace of workers side by side: rates add up, the card's watts are the same."""
    watts = [pace.watts for pace in paces if pace.watts is not None]
    image_s = sum(pace.image_s for pace in paces) / len(paces)
    return Pace(sum(pace.rate for pace in paces), image_s, median(watts) if watts else None)


def judged(rates: dict[int, Pace]) -> tuple[str, dict[str, Any]]:
    """Return rates in words, and as values with the smallest number of jobs near the best."""
    best = max(pace.rate for pace in rates.values())
    chosen = min(count for count, pace in rates.items() if pace.rate >= 0.95 * best)
    text = ", ".join(
        f"{count}: {pace.rate:.0f}" + (f" at {pace.watts:.0f} W" if pace.watts else "")
        for count, pace in sorted(rates.items())
    )
    values = {"rates": {n: p._asdict() for n, p in rates.items()}, "best": best, "chosen": chosen}
    return f"steps a second by jobs: {text}; {chosen} within 5 %", values


def jobs() -> Result:
    """Train side by side on one card."""
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(8, 1, Path(folder) / "workers.txt", devices=cuda_devices("cuda:0"))
        try:
            rates = rates_of(engine, 3.0)
        finally:
            engine.close()
    text, values = judged(rates)
    return Result(values["best"] >= ENOUGH, text, values)


def column() -> Result:
    """Project the hours of the paper's searches on CUB: in turns, and by MPS where it is here.

    Steps are the published protocol's (its trunk, crops, batch, RMSprop, frozen BatchNorm), in
    bf16.
    """
    here = dict(os.environ)
    hours = _hours(None, (1, 4))
    if service_of.program(here) is not None or service_of.running(here) is not None:
        with service_of.serving(here) as service:
            hours |= _hours(service.pipes, (4,))
    text = ", ".join(f"{what} {value:.1f} h" for what, value in hours.items())
    return Result(min(hours.values()) <= 10, text, {"hours": hours})


def _hours(pipes: Path | None, counts: tuple[int, ...]) -> dict[str, float]:
    """Return the projected hours by how many jobs run at once; by MPS where ``pipes`` names it."""
    found: dict[str, float] = {}
    way = "by MPS" if pipes else "in turns"
    with tempfile.TemporaryDirectory() as folder:
        log, cards = Path(folder) / "workers.txt", cuda_devices("cuda:0")
        engine = LocalEngine(max(counts), 1, log, devices=cards, mps=pipes)
        try:
            engine.start("benchmark.training.job")
            for number, count in enumerate((max(counts), *counts)):  # the first starts processes
                asked = ("bn_inception", "paper", 3.0 if number else 0.2)
                futures = [engine.submit(rate_of, asked) for _ in range(count)]
                done = together([future.result() for future in futures])
                rate = Rate(count / done.rate, done.image_s)
                found[f"{count} {way}"] = column_hours(rate, count, SHORTEST)
        finally:
            engine.close()
    return found


def mps() -> Result:
    """Train side by side by MPS, then let one job break the card while another one uses it."""
    here = dict(os.environ)
    if service_of.program(here) is None and service_of.running(here) is None:
        return Result(None, f"no {service_of.PROGRAM} here", {})
    with service_of.serving(here) as service, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        engine = LocalEngine(
            8, 1, folder / "workers.txt", devices=cuda_devices("cuda:0"), mps=service.pipes
        )
        try:
            rates = rates_of(engine, 2.0)
            clients = len(service.clients())
            text, values = judged(rates)
            print(f"mps: {text}; {clients} clients", flush=True)  # also where a job hangs below
            fates = broken_beside(engine, folder)
        finally:
            engine.close()
    culprit, neighbour = fates["breaks"], fates["waits"]
    typed = len(culprit) == 2 and all(fate.startswith("crash") for fate in culprit)
    well = typed and neighbour[-1] == "done" and len(neighbour) <= 2
    good = well and values["best"] >= ENOUGH
    text = f"{text}; {clients} clients; breaks {culprit}, its neighbour {neighbour}"
    return Result(good, text, {**values, "clients": clients, "fates": fates})


@dataclass
class _Fate:
    """What became of a job, attempt by attempt; one that crashed runs once more, alone."""

    seen: list[str] = field(default_factory=list)

    def accept(self, outcome: JobOutcome) -> Any:
        """Take what a worker says."""
        record = outcome.record
        said = f"{record.reason}, {outcome.spent}: {record.detail[:120]}"
        return self._judge("done" if record.status == "done" else said, record.reason == "crash")

    def lost(self, reason: str) -> Any:
        """Take that a worker is gone."""
        return self._judge(f"{reason}, lost", reason == "crash")

    def _judge(self, said: str, broken: bool) -> Any:
        self.seen.append(said)
        return Retry.ALONE if broken and len(self.seen) == 1 else said


def broken_beside(engine: LocalEngine, folder: Path) -> dict[str, list[str]]:
    """Return what became of a job that breaks its card, and of one that trained beside it."""
    names = {"go": str(folder / "go"), "there": str(folder / "there")}
    found: dict[str, _Fate] = {}

    def flow(name: str, made: Job, fate: _Fate) -> flows.Flow:
        yield [Task(execute, made, 60.0, fate.accept, fate.lost)]
        return []

    waiting = []
    for name, lines in (("waits", WAITS), ("breaks", BREAKS)):
        body = indent(lines.format(**names).strip(), " " * 8).strip()
        plugin = folder / f"{name}.py"
        plugin.write_text(BREAKING.format(name=name, statement=body))
        made, found[name] = job(folder, name, plugin=plugin), _Fate()
        splits.prepare(made.source, made.protocol)
        waiting.append(flow(name, made, found[name]))
    flows.run(waiting, engine)
    return {name: fate.seen for name, fate in found.items()}
