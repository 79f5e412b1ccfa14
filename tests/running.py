"""Studies as a user starts them: processes, what they leave, and what must not be left."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
METHODS = "triplet,ms,group"
TABLES = ("summary", "runs", "trials", "pairs")


def command(*words, out):
    return [sys.executable, "-m", "benchmark", *words, "--out", str(out)]


def start(*words, out, before=(), environment=(), stdout=subprocess.PIPE):
    """Start a command in a session of its own; ``before`` are words to put in front of it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **dict(environment)}
    # One mirror for all: laying out a fresh MLflow database takes longer than a toy study.
    environment.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{out.parent.parent / 'mlflow.db'}")
    return subprocess.Popen(
        [*before, *command(*words, out=out)],
        env=environment,
        cwd=out.parent,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(*words, out, code=0, **kwargs):
    """Run a study on the toy protocol to its end and return what it printed."""
    process = start("run", "--protocol", "toy", *words, out=out, **kwargs)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == code, output
    return output


def tables(out):
    return {name: (out / "tables" / f"{name}.csv").read_bytes() for name in TABLES}


def truth(out):
    """Return every record without what a clock or machine says."""
    found = {}
    for path in sorted((out / "records").rglob("*.json")):
        body = json.loads(path.read_text())
        found[str(path.relative_to(out))] = {
            k: v for k, v in body.items() if k not in ("measured", "sha256")
        }
    return found


def queries(out):
    return {p.name: p.read_bytes() for p in sorted((out / "queries").rglob("*.npz"))}


def weights(out):
    """Return the weights that are kept, by their place."""
    paths = sorted((out / "weights").rglob("*.safetensors"))
    return {str(p.relative_to(out)): p.read_bytes() for p in paths}


def workers_of(pid):
    """Return the pids of processes whose session is ``pid``'s."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def gone(pid, seconds=20):
    deadline = time.monotonic() + seconds
    while workers_of(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not workers_of(pid)
