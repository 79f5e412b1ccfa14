"""Run the checks named (all by default) on one CUDA device; one line each, and a JSON file.

The checks run in a child process, one after the other. One that breaks the device or hangs ends
the child, and the next one gets a fresh child: nothing a check does keeps the others from
running.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.gpu.checks import CHECKS, function

MARK = "@check "
WORDS = {True: "meets", False: "MISSES", None: "-"}
WHOLE_S = 360.0  # all checks together; what has not begun by then is left out


def main() -> int:
    """Run; the exit code is 1 where a limit was missed or a check failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join(CHECKS)}")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), metavar="FILE")
    parser.add_argument("--seconds", type=float, default=WHOLE_S, help="for all checks")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.checks) - set(CHECKS):
        parser.error(f"no check {sorted(unknown)[0]!r}; there are {', '.join(CHECKS)}")
    names = args.checks or list(CHECKS)
    if args.child:
        return _child(names)
    rows = _supervise(names, args.json, time.monotonic() + args.seconds)
    return int(any(row["passed"] is False for row in rows))


def _supervise(names: list[str], path: Path, deadline: float) -> list[dict[str, Any]]:
    """Run children until every check has a row; print each and write all after each."""
    rows: list[dict[str, Any]] = []
    waiting = list(names)
    while waiting and time.monotonic() < deadline:
        for row in _rows_of_child(tuple(waiting), deadline):
            waiting.remove(row["check"])
            rows.append(row)
            limit = f"limit: {CHECKS[row['check']][1]}"
            line = f"{row['check']:<11} {WORDS[row['passed']]:<7} {row['seconds']:6.1f} s"
            print(f"{line}  {row['text']}  [{limit}]", flush=True)
            path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    for name in waiting:
        print(f"{name:<11} left out: no time", flush=True)
    return rows


def _rows_of_child(names: tuple[str, ...], deadline: float):
    """Yield the rows that one child gives; where it ends early, one for the check it was at."""
    command = [sys.executable, "-m", "tests.gpu", "--child", *names]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(child, lines), daemon=True)
    reader.start()
    at = 0
    began = time.monotonic()
    try:
        while at < len(names):
            limit = min(CHECKS[names[at]][2], max(1.0, deadline - time.monotonic()))
            line = _next(lines, limit + 60.0 * (at == 0))
            if line is None:
                took, text = time.monotonic() - began, "ended its process or took too long"
                yield {"check": names[at], "passed": False, "seconds": took, "text": text}
                return
            yield json.loads(line)
            at, began = at + 1, time.monotonic()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, 9)
        child.wait()
        reader.join()


def _read(child: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            if line.startswith(MARK):
                lines.put(line.removeprefix(MARK))
            else:
                sys.stderr.write(line)
    lines.put(None)


def _next(lines: queue.Queue[str | None], timeout: float) -> str | None:
    try:
        return lines.get(timeout=timeout)
    except queue.Empty:
        return None


def _child(names: list[str]) -> int:
    """Run checks in this process until one breaks its device."""
    from benchmark.broken import first_error, spent_by
    from benchmark.engines.worker import set_up_torch
    from benchmark.training import device

    set_up_torch(1, deterministic=False)
    for name in names:
        started, broken = time.monotonic(), ""
        row: dict[str, Any] = {"check": name}
        try:
            found = function(name)()
            row |= {"passed": found.passed, "text": found.text, "values": found.values}
        except Exception as error:  # the one broad place: the other checks go on
            cause, broken = first_error(error), spent_by(error)
            row |= {"passed": False, "text": f"{type(cause).__name__}: {str(cause)[:300]}"}
            sys.excepthook(type(error), error, error.__traceback__)
        device.tidy("" if broken else "cuda")
        row["seconds"] = round(time.monotonic() - started, 2)
        print(MARK + json.dumps(row), flush=True)
        if broken:
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
