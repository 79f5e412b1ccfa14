"""Two jobs of one thread against one job of two threads."""

from __future__ import annotations

from pathlib import Path

from benchmark.engines.local import LocalEngine
from tests.perf import pictures
from tests.perf.rows import ROUNDS, Row, in_turn, ratio, shown
from tests.perf.training import Rate
from tests.perf.trials import pair


def rows(folder: Path) -> list[Row]:
    """Return the row on emoji at 64 px."""
    made = pictures.paced(pictures.job(folder, "emoji"), 80, 40)
    engines = {n: LocalEngine(n, 3 - n, folder / "workers.txt") for n in (1, 2)}

    def job_s(count: int) -> float:
        return _seconds(pair(engines[count], made)) / count

    try:
        for count in engines:
            job_s(count)
        found = in_turn({"one of two threads": lambda: job_s(1), "two of one": lambda: job_s(2)})
    finally:
        for engine in engines.values():
            engine.close()
    value = ratio(found["one of two threads"], found["two of one"])
    what = "trials/h, two jobs of one thread / one of two"
    return [Row(what, value, ">= 1.6", ROUNDS, f"seconds a fold job: {shown(found)}")]


def _seconds(rate: Rate) -> float:
    return 600 * rate.step_s + 7 * 900 * rate.validated_s
