"""Print the numbers that the main job must keep; run it by hand on a quiet machine.

    python -m tests.measure_main_job [OUT]

Wall time of the main job (at most 300 s on two cores), peak memory of all its processes
together (3 GB), wall time not covered by a running job (5 %), time of ``--help`` (0.3 s) and of
resuming the finished folder (3 s). With OUT the study is kept there.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.running import workers_of

ROOT = Path(__file__).resolve().parent.parent
JOB = ["run", "--methods", "triplet,ms,group"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "benchmark", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def proportional_kb(process: int, kinds: tuple[str, ...] = ("Pss",)) -> int:
    """Return a process's memory, pages it shares counted once among those that share them.

    ``Pss_Anon`` and ``Pss_Shmem`` are what it holds beyond the page cache.
    """
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in kinds)


def timed(words: list[str], cwd: Path, kinds: tuple[str, ...] = ("Pss",)) -> tuple[float, float]:
    """Return wall seconds and peak memory in MB of a command and its children."""
    started, peak, stop = time.perf_counter(), 0, threading.Event()
    process = subprocess.Popen(
        words, cwd=cwd, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.5):
            now = sum(proportional_kb(pid, kinds) for pid in workers_of(process.pid))
            peak = max(peak, now)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - started
    stop.set()
    watcher.join()
    if code:
        raise SystemExit(f"{' '.join(words)} ended with {code}")
    return seconds, peak / 1024


def uncovered(out: Path, wall: float) -> float:
    """Return the share of ``wall`` in which no job ran: a record's time less its job's seconds.

    Jobs are trainings and, at the end of each run, joining and scoring its test embeddings.
    """
    spans = []
    for path in (out / "records").rglob("*.json"):
        measured = json.loads(path.read_text()).get("measured", {})
        seconds = measured["seconds"] if ".fold-" in path.name else measured.get("join_s")
        if seconds is not None:
            end = path.stat().st_mtime
            spans.append((end - seconds, end))
    covered, last = 0.0, 0.0
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, last))
        last = max(last, end)
    return 1 - covered / wall


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(scratch) / "runs").resolve()
        out.parent.mkdir(parents=True, exist_ok=True)
        wall, memory = timed([*command(*JOB), "--out", str(out)], out.parent)
        gap = uncovered(out, wall)
        again = [timed([*command(*JOB), "--out", str(out)], out.parent)[0] for _ in range(5)]
        help_s = [timed(command("--help"), out.parent)[0] for _ in range(5)]
    print(f"main job                     {wall:7.1f} s   of 300")
    print(f"peak memory, all processes   {memory:7.0f} MB  of 3072")
    print(f"wall time without a job      {100 * gap:7.1f} %   of 5")
    print(f"resume of a finished folder  {statistics.median(again):7.2f} s   of 3, median of 5")
    print(f"--help                       {statistics.median(help_s):7.2f} s   of 0.3, median of 5")


if __name__ == "__main__":
    main()
