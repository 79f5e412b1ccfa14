"""The paper's protocol on archives in the official layouts, as users of the real ones run it."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmark.intake.prepare import prepare
from protocols import discovery, manifest
from protocols.datasets._official import Published
from tests import archives

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "tests" / "paper_shaped.py"
EVERYWHERE = Published(240, 48, 120, {"train": (120, 48), "test": (120, 48)})
APART = Published(240, 48, parts={"train": (120, 24), "test": (120, 24)})
QUERIES = Published(240, 48, parts={"train": (120, 24), "query": (48, 24), "gallery": (72, 24)})
FEW = {"cub200": EVERYWHERE, "cars196": EVERYWHERE, "sop": APART, "inshop": QUERIES}


def bring_in(name, folder, root):
    folder.mkdir()
    archive = archives.BUILDERS[name](folder, FEW[name])
    official = replace(discovery.load("dataset", name).OFFICIAL, published=FEW[name])
    return prepare(name, root, archive, official=official)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The four datasets, prepared from their archives."""
    place = tmp_path_factory.mktemp("official")
    for name in FEW:
        bring_in(name, place / name, place / "data")
    return place / "data"


def run(root, out, *words):
    command = [sys.executable, "-m", "benchmark", "run", "--plugin", str(PLUGIN)]
    command += ["--protocol", "paper_shaped", "--root", str(root), "--out", str(out), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{root.parent / 'mlflow.db'}"  # one for all
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_stand_ins_have_the_published_counts():
    for name in FEW:
        published = discovery.load("dataset", name).OFFICIAL.published
        drawn = list(archives.pictures(published))
        assert len(drawn) == published.images
        assert len({picture.label for picture in drawn}) == published.classes
        for part, counts in published.parts.items():
            labels = [picture.label for picture in drawn if picture.part == part]
            assert (len(labels), len(set(labels))) == counts


def test_all_four_datasets_run_to_the_end(root, tmp_path):
    words = ("--datasets", ",".join(FEW), "--trunks", "tiny", "--methods", "contrastive,nsoftmax")
    done = run(root, tmp_path / "out", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = pd.read_csv(tmp_path / "out" / "tables" / "summary.csv")
    assert set(summary.dataset) == set(FEW)
    assert set(summary.method) == {"contrastive", "nsoftmax", "untrained"}
    assert summary["mean"].between(0, 1).all()
    assert (summary.failed_runs == 0).all()
    assert (summary[summary.method != "untrained"].trials == 2).all()


def test_a_resnet_without_weights_runs_a_cub_cell_to_the_end(root, tmp_path):
    words = ("--datasets", "cub200", "--trunks", "resnet50", "--weights", "none", "--trials", "1")
    done = run(root, tmp_path / "out", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = pd.read_csv(tmp_path / "out" / "tables" / "runs.csv")
    assert set(runs.trunk) == {"resnet50"}
    assert (runs.status == "done").all()


def test_a_damaged_photograph_stops_the_study_before_it_starts(tmp_path):
    done = bring_in("cub200", tmp_path / "archive", tmp_path / "data")
    victim = done.folder / manifest.read(done.folder / manifest.FILE, "cub200")[1][7].path
    victim.write_bytes(victim.read_bytes()[:300])
    words = ("--datasets", "cub200", "--trunks", "tiny", "--methods", "contrastive")
    stopped = run(tmp_path / "data", tmp_path / "out", *words)
    assert stopped.returncode == 2
    (line,) = stopped.stderr.strip().splitlines()
    assert victim.name in line
    assert "data prepare" in line or "data check" in line
    assert not (tmp_path / "out" / "records").exists()
