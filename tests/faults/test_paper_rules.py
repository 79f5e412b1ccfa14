"""The protocol `reality-check` on a stand-in for CUB: BN-Inception, search, patience, phases.

Only what takes hours is smaller: 64 px, 16 steps of the paper's shape, 2 trials, 2 seeds, and an
archive of 240 images. The weights are random, so no number of it says anything about a method.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmark.intake.prepare import prepare
from benchmark.study.folder import load_study
from protocols import discovery
from protocols.datasets._official import Published
from protocols.space import place
from protocols.specs import reality_check
from tests import archives

pytestmark = pytest.mark.faults  # minutes, nox -s faults

ROOT = Path(__file__).parents[2]
FEW = Published(240, 48, 120, {"train": (120, 48), "test": (120, 48)})
STEPS, BEGINS = 16, 2  # Group Loss begins at an eighth of the steps
SMALLER = {
    "image.resize_px": 73,
    "image.crop_px": 64,
    "pace.max_steps": STEPS,
    "pace.steps_per_epoch": 1,
    "pace.validate_every": 1,
    "pace.patience": 0,  # over at step 1, before an eighth
    "search.startup_trials": 1,  # so that the second trial is the Gaussian process's
}
METHODS = ("contrastive", "group")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a finished study under those rules."""
    folder = tmp_path_factory.mktemp("rules")
    archive = archives.BUILDERS["cub200"](folder, FEW)
    official = replace(discovery.load("dataset", "cub200").OFFICIAL, published=FEW)
    prepare("cub200", folder / "data", archive, official=official)
    command = [sys.executable, "-m", "benchmark", "run", "--protocol", "reality-check"]
    command += ["--datasets", "cub200", "--root", str(folder / "data"), "--weights", "none"]
    command += ["--methods", ",".join(METHODS), "--trials", "2", "--seeds", "2"]
    command += [word for key, value in SMALLER.items() for word in ("--set", f"{key}={value}")]
    command += ["--out", str(folder / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


def test_nothing_but_sizes_differs_from_the_paper(study):
    ours, papers = load_study(study).protocol.rules(), reality_check.PROTOCOL.rules()
    assert {name for name in papers if ours[name] != papers[name]} == {
        "image",
        "pace",
        "paces",
        "search",
    }
    assert (ours["search"]["sampler"], ours["folds"], ours["sampler"]) == ("gp", 4, "m_per_class")
    changed = {"trials": 2, "startup_trials": 1}
    assert ours["search"] == {**papers["search"], **changed}


def test_every_cell_is_bn_inception_searched_chosen_and_run(study):
    runs = pd.read_csv(study / "tables" / "runs.csv")
    assert runs.groupby("method").size().to_dict() == {"contrastive": 2, "group": 2, "untrained": 2}
    assert set(runs.trunk) == {"bn_inception"}
    assert (runs.status == "done").all()
    trials = pd.read_csv(study / "tables" / "trials.csv")
    for method in METHODS:
        space = discovery.load("method", method).space("cub200")
        settings = [json.loads(text) for text in trials[trials.method == method].settings]
        assert len({place(space, setting) for setting in settings}) == 2
    summary = pd.read_csv(study / "tables" / "summary.csv")
    assert summary["mean"].between(0, 1).all()
    assert (summary.failed_runs == 0).all()


def test_patience_ends_trainings_and_none_before_its_last_phase(study):
    out = load_study(study)
    steps = {method: [] for method in METHODS}
    for cell in (cell for cell in out.cells if cell.method in METHODS):
        for stage in ("search", "final"):
            for number in range(2):
                for job in out.jobs(cell, stage, number):
                    warm = cell.method == "group" and job.settings["warm_start"]
                    begins = BEGINS if warm else 0
                    expected = {"group loss": begins} if cell.method == "group" else {}
                    assert job.phases == expected
                    assert begins + 1 <= job.steps <= STEPS
                    steps[cell.method].append(job.steps)
    for taken in steps.values():
        assert len(taken) == (2 + 2) * 4, "trials and seeds, on 4 folds"
        assert min(taken) < STEPS
