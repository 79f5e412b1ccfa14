"""A finished toy study for the tests of results/, and ways to plant a fault in what it gives."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmark.cli import main
from benchmark.submissions import schema
from protocols.protocol import digest

ROOT = Path(__file__).parent.parent.parent
CLAIM = """\
who = "A. Claimant"
hardware = "a test"
deviations = ""
predecessor = ""
note = ""
"""


def git(folder, *words):
    name = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *name, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def copy_code(root: Path):
    """Copy what rows are compared with: methods, trunks, recipes, and what these are made of."""
    for path in (ROOT / "protocols").rglob("*.py"):
        if path.parent.name in ("protocols", "methods", "trunks", "recipes"):
            target = root / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


def run(out, *words, mirror=None):
    """Run the toy study as a user does; laying out a fresh mirror takes longer than the study."""
    command = [sys.executable, "-m", "benchmark", "run", "--protocol", "toy", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if mirror:
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{mirror}"
    done = subprocess.run(
        [*command, *words], env=environment, cwd=out.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def submit(study, results, *words):
    claim = results.parent / "claim.toml"
    claim.write_text(CLAIM)
    return main(["submit", str(study), "--results", str(results), "--claim", str(claim), *words])


def verify(results, capsys, *words):
    """Return the exit code and the problems printed."""
    capsys.readouterr()
    code = main(["verify", str(results), *words])
    return code, capsys.readouterr().out.splitlines()


def edit(path: Path, change):
    """Change a JSON file of a row and make its ids and checksums agree again."""
    body = json.loads(path.read_text())
    change(body)
    path.write_bytes(schema.pack({k: v for k, v in body.items() if k != "sha256"}))


def edit_trials(row: Path, change):
    """Change the trials of a row and make the checksums agree again."""
    trials = [json.loads(line) for line in (row / "trials.jsonl").read_text().splitlines()]
    change(trials)
    content = schema.pack_trials(trials)
    (row / "trials.jsonl").write_bytes(content)
    sha = hashlib.sha256(content).hexdigest()
    edit(row / "cell.json", lambda body: body.update(trials_sha256=sha))


def reidentify(row: Path, change):
    """Change a row's identity, and make every id that follows from it agree again."""

    def cell(body):
        change(body)
        body["id"] = schema.cell_id(body["identity"])

    edit(row / "cell.json", cell)
    body = json.loads((row / "cell.json").read_text())
    name = body["id"]

    def trial(trials):
        for one in trials:
            one["id"] = digest([name, "trial", one["number"], one["settings"]], 16)

    def run(one):
        one["cell"] = name
        one["id"] = digest([name, "run", one["seed"], one["settings"]], 16)

    edit_trials(row, trial)
    for path in sorted(row.glob("seed-*.json")):
        edit(path, run)
