"""A long study watched from outside: memory, open files, the time it promised, sizes on disk.

``python -m tests.long_run --jobs 2000`` runs the toy protocol over many methods; it prints its
findings (``--write``: into tests/FAULTS.md) and exits with 1 if one of them is not as it should be.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

from tests.running import start, workers_of

FOLDS, SEEDS = 2, 2
TABLE = Path(__file__).parent / "FAULTS.md"
HEADING = "## A long run"
METHODS = ("triplet", "ms", "contrastive", "ntxent", "margin", "nsoftmax", "cosface", "arcface")
METHODS += ("snr", "proxynca", "softtriple", "fastap", "circle", "supcon", "proxy_anchor")
LINE = re.compile(r"\[(\d+)/(\d+) jobs, ([\d.]+) (s|min|h) left\]")
UNIT_S = {"s": 1, "min": 60, "h": 3600}
GROWTH_MB, GROWTH_FILES, OFF = 64, 8, 0.20


def resources(pid):
    """Return (resident MB, open files) of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") >> 20
    return memory, len(os.listdir(f"/proc/{pid}/fd"))


def watch(process, out):
    """Return samples by pid, (records, MB, files) each, until the process ends."""
    samples = {}
    while process.poll() is None:
        time.sleep(2)
        done = sum(1 for _ in (out / "records").rglob("*.fold-*.json"))
        for pid in workers_of(process.pid):
            try:
                samples.setdefault(pid, []).append((done, *resources(pid)))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return samples


def growth(rows, column):
    """Return how much a process grew from its second tenth to its last, in medians."""
    tenth = max(1, len(rows) // 10)
    before, after = (
        median(r[column] for r in part) for part in (rows[tenth : 2 * tenth], rows[-tenth:])
    )
    return before, after


def promised(log):
    """Return (seconds promised after a tenth of the work, seconds it then took)."""
    lines = []
    for line in log.read_text().splitlines():
        if met := LINE.search(line):
            when = datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S")
            lines.append((when, int(met[1]), int(met[2]), float(met[3]) * UNIT_S[met[4]]))
    when, _, _, left = next(row for row in lines if row[1] >= row[2] / 10)
    return left, (lines[-1][0] - when).total_seconds()


def size(paths):
    return sum(path.stat().st_size for path in paths if path.is_file())


def study(jobs, methods):
    """Run a study of about ``jobs`` jobs; return findings as lines, and whether all is well."""
    trials = max(2, round((jobs / len(methods) - SEEDS * FOLDS) / FOLDS))
    words = ("run", "--protocol", "toy", "--trials", str(trials), "--methods", ",".join(methods))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "a" / "out"
        out.parent.mkdir()
        started = time.monotonic()
        with (out.parent / "printed.txt").open("w") as printed:
            process = start(*words, out=out, stdout=printed)
            samples = watch(process, out)
        assert process.returncode == 0, (out.parent / "printed.txt").read_text()[-2000:]
        return findings(out, samples, process.pid, time.monotonic() - started)


def findings(out, samples, coordinator, seconds):
    records = list((out / "records").rglob("*.json"))
    jobs = sum(1 for path in records if json.loads(path.read_text())["kind"] == "job")
    lines, well = [f"{jobs} jobs in {seconds / 60:.0f} minutes."], True
    for pid, rows in samples.items():
        if len(rows) < 20:  # a process that only starts others
            continue
        who = "coordinator" if pid == coordinator else "worker"
        (mb, mb_after), (files, files_after) = growth(rows, 1), growth(rows, 2)
        if mb < 100:  # Python's resource tracker
            continue
        well &= mb_after - mb < GROWTH_MB and files_after - files < GROWTH_FILES
        memory = f"{mb:.0f} MB after a tenth, {mb_after:.0f} MB at the end"
        lines.append(f"{who}: {memory}; open files {files:.0f}, then {files_after:.0f}.")
    left, took = promised(out / "log.txt")
    well &= abs(left - took) <= OFF * took
    lines.append(f"after a tenth of the jobs: {left:.0f} s promised, {took:.0f} s needed.")
    mirror = out.parent.parent / "mlflow.db"
    sizes = {
        "records": size(records),
        "log.txt": size([out / "log.txt"]),
        "search.db": size([out / "search.db"]),
        "mlflow.db": size([mirror]),
        "queries": size((out / "queries").rglob("*")),
    }
    each = ", ".join(f"{name} {total / jobs / 1024:.2f}" for name, total in sizes.items())
    lines.append(f"kB on disk per job: {each}.")
    return lines, well


def write(lines):
    """Replace the last section of tests/FAULTS.md."""
    before = TABLE.read_text(encoding="utf-8").partition(HEADING)[0].rstrip()
    what = "`python -m tests.long_run --write`: the toy protocol over many methods, 2 workers."
    text = "\n".join([before, "", HEADING, "", what, "", *(f"- {line}" for line in lines)])
    TABLE.write_text(text + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--methods", type=lambda text: text.split(","), default=METHODS)
    parser.add_argument("--write", action="store_true", help="put the findings into FAULTS.md")
    args = parser.parse_args()
    lines, well = study(args.jobs, args.methods)
    print("\n".join(f"- {line}" for line in lines))
    if args.write:
        write(lines)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
