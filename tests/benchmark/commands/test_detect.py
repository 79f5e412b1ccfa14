"""``plan --detect``: seeds and hours from a pilot, and what is said without one."""

from dataclasses import replace

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.commands.detect import comparisons
from benchmark.statistics import power
from benchmark.study import records
from benchmark.study.folder import load_study
from tests.benchmark.tables.test_frames import PROTOCOL, make, run


def pilot(out, values, seconds):
    """Write a study whose runs took ``seconds`` by method."""
    study = make(out, values)
    for cell in study.cells:
        for seed, value in enumerate(values[cell.method]):
            if isinstance(value, float):
                record = replace(run(cell, seed, value), measured={"seconds": seconds[cell.method]})
                records.write(study.record_path(cell, record), record)
    return load_study(out)


THREE = {"triplet": [0.40, 0.42, 0.44], "margin": [0.41, 0.44, 0.44], "proxy": [0.5, "oom", 0.5]}
SECONDS = {"triplet": 100.0, "margin": 300.0, "proxy": 1.0}


def test_a_comparison_worked_by_hand(tmp_path):
    (found,) = comparisons(pilot(tmp_path, THREE, SECONDS))  # proxy shares two seeds only
    assert (found.method.method, found.baseline.method) == ("margin", "triplet")
    assert found.differences == pytest.approx([0.01, 0.02, 0.0])
    assert found.family == 2
    # 13 seeds: ten more of each
    assert found.hours(13) == pytest.approx(10 * 400 / 3600)
    assert found.hours(2) == 0


def test_seeds_and_hours_are_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    pilot(tmp_path, THREE, SECONDS)
    assert main(["plan", "--detect", "0.5", "--jobs", "1", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    sd = np.std([0.01, 0.02, 0.0], ddof=1)
    whole = power.needed(0.005, sd, 3, 2)
    alone = power.needed(0.005, sd, 3)
    flat = " ".join(text.split())
    assert "0.5 points of MAP@R" in flat
    for found in (whole, alone):
        assert f"{found.seeds[0]} ({found.seeds[1]}–{found.seeds[2]})" in flat
    assert f"{sd * 100:.2f} (0.52–6.28)" in flat  # sd is exactly 1 point
    assert f"{(whole.seeds[0] - 3) * 400 / 3600:.2f}" in flat
    assert "Conditional on one search" in flat
    assert "the sd is little known" in flat


@pytest.mark.parametrize("values", [None, {}, {"margin": [0.1, 0.2, 0.3]}])
def test_without_a_pilot_one_line_says_how_to_run_one(tmp_path, capsys, values):
    if values is not None:
        make(tmp_path, values, PROTOCOL)
    assert main(["plan", "--detect", "0.5", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--detect needs a pilot" in error
    assert "run --methods A,B --seeds 5" in error


@pytest.mark.parametrize("points", ["0", "-1", "nan", "x", "101"])
def test_points_are_above_zero(points, capsys):
    assert main(["plan", "--detect", points]) == 2
    assert "expected points above 0, like 0.5" in capsys.readouterr().err
