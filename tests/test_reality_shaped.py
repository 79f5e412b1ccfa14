"""A study under the paper's own rules (gp, patience, phases, ten seeds) runs to its end."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmark.study.folder import load_study
from protocols.discovery import load
from protocols.space import place
from protocols.specs import reality_check
from tests import running
from tests.reality_shaped import PACE, PROTOCOL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
RULES = ("--plugin", str(ROOT / "tests" / "reality_shaped.py"), "--protocol", "reality_shaped")
STARTUP = PROTOCOL.search.startup_trials


def run(out, mirror, *words):
    command = [sys.executable, "-m", "benchmark", "run", *RULES, "--out", str(out), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{mirror}"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The finished study and what its run printed."""
    folder = tmp_path_factory.mktemp("reality")
    done = run(folder / "out", folder.parent / "mlflow.db", "--methods", "ms,group")
    return folder, done.stdout + done.stderr


def tables(out):
    return {path.name: path.read_bytes() for path in sorted((out / "tables").glob("*.csv"))} | {
        path.name: path.read_bytes() for path in sorted((out / "queries").rglob("*.npz"))
    }


def test_the_rules_are_the_papers():
    ours, papers = PROTOCOL.rules(), reality_check.PROTOCOL.rules()
    differ = {name for name in papers if ours[name] != papers[name]}
    allowed = {"name", "baseline", "image", "pace", "paces", "search", "batch_size", "timeout_s"}
    assert differ <= {*allowed, "embedding_size"}
    assert PROTOCOL.search.sampler == "gp"
    assert (PROTOCOL.seeds, PROTOCOL.folds, PROTOCOL.recipe) == (10, 4, "paper")
    cub = reality_check.CUB
    for pace in (PACE, cub):  # patience is over before an eighth of the budget
        assert (pace.patience + 1) * pace.validate_every < pace.max_steps / 8


def test_no_two_trials_are_the_same_setting(study):
    trials = pd.read_csv(study[0] / "out" / "tables" / "trials.csv")
    assert set(trials.groupby("method").size()) == {PROTOCOL.search.trials}
    for method, group in trials.groupby("method"):
        space = load("method", method).space("toy")
        settings = [json.loads(text) for text in group.settings]
        assert len({place(space, setting) for setting in settings}) == len(settings)
        for name, parameter in space.items():  # each start-up value of a real is its own
            values = {setting[name] for setting in settings[:STARTUP]}
            assert len(values) == STARTUP or parameter.parts < 10
            assert len(values) > 1, name


def test_every_training_reached_the_group_loss_before_it_stopped(study):
    out = load_study(study[0] / "out")
    cell = next(cell for cell in out.cells if cell.method == "group")
    early = 0
    for stage, count in (("search", PROTOCOL.search.trials), ("final", 10)):
        for number in range(count):
            for job in out.jobs(cell, stage, number):
                begins = PACE.max_steps // 8 if job.settings["warm_start"] else 0
                assert job.phases == {"group loss": begins}
                assert job.steps >= begins + 5
                early += job.steps < PACE.max_steps
    assert early, "patience still ends trainings"
    runs = pd.read_csv(study[0] / "out" / "tables" / "runs.csv")
    assert set(runs[runs.method == "group"].phases) == {"group loss 4/4"}
    assert runs[runs.method != "group"].phases.isna().all()
    page = (study[0] / "out" / "report" / "index.html").read_text()
    assert "Phases of the final trainings" in page
    assert "40 of 40" in page


def test_the_plan_shows_phases_beside_the_earliest_stop(study):
    assert "group loss" in study[1]
    assert "0 to 6" in study[1]
    assert "5 to 11" in study[1]


def test_verdict_words_stand_in_the_tables(study):
    pairs = pd.read_csv(study[0] / "out" / "tables" / "pairs.csv")
    decided = pairs[(pairs.embedding == "concatenated") & (pairs.metric == "map_at_r")]
    assert decided.verdict.notna().any()
    assert (decided.n == 10).all()


def test_a_study_cut_short_goes_on_to_the_same_bytes(study):
    folder, whole = study[0], tables(study[0] / "out")
    cut = folder / "cut"
    shutil.copytree(folder / "out", cut)
    before = running.truth(cut)
    for cell in (cut / "records").glob("*/*/*/group-*"):
        # As if it had been stopped after four trials, and some seeds came from elsewhere.
        for path in [*cell.glob("trial-00[4-5]*"), *cell.glob("seed-[89]*"), cell / "choice.json"]:
            path.unlink()
    shutil.rmtree(cut / "tables")
    run(cut, folder.parent / "mlflow.db", "--methods", "ms,group")
    assert tables(cut) == whole
    assert running.truth(cut) == before
