"""``plan --detect``: seeds and hours from a pilot, and what is said without one."""

from dataclasses import replace

import pytest

from benchmark.cli import main
from benchmark.commands.detect import pilots
from benchmark.statistics import power
from benchmark.study.folder import load_study
from tests.benchmark.tables.test_frames import PROTOCOL, make, run
from tests.proven import put


def pilot(out, values, seconds):
    """Write a study whose runs took ``seconds`` by method."""
    study = make(out, values)
    for cell in study.cells:
        for seed, value in enumerate(values[cell.method]):
            if isinstance(value, float):
                record = replace(run(cell, seed, value), measured={"seconds": seconds[cell.method]})
                put(study, cell, record)
    return load_study(out)


THREE = {"triplet": [0.40, 0.42, 0.44], "margin": [0.41, 0.44, 0.44], "proxy": [0.5, "oom", 0.5]}
SECONDS = {"triplet": 100.0, "margin": 300.0, "proxy": 1.0}


def test_a_comparison_worked_by_hand(tmp_path):
    (found,) = pilots(pilot(tmp_path, THREE, SECONDS))
    (item,) = found.comparisons  # proxy shares two seeds only
    assert (item.method.method, found.baseline.method) == ("margin", "triplet")
    assert item.differences == pytest.approx([0.01, 0.02, 0.0])
    assert found.family == 2  # proxy was declared all the same
    # 13 seeds: ten more of each
    assert item.hours(13) == pytest.approx(10 * 400 / 3600)
    assert item.hours(2) == 0


def test_the_reference_is_no_comparison(tmp_path):
    values = {**THREE, "untrained": [0.1, 0.2, 0.3]}
    (found,) = pilots(pilot(tmp_path, values, {**SECONDS, "untrained": 1.0}))
    assert [item.method.method for item in found.comparisons] == ["margin"]
    assert found.family == 2


def test_seeds_and_hours_are_printed_within_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    (known,) = pilots(pilot(tmp_path, THREE, SECONDS))
    assert main(["plan", "--detect", "3", "--jobs", "1", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    (seeds,) = power.seeds_for(known.spreads, 0.03)
    (chance,) = power.chances(known.spreads, 0.03, 3)
    assert seeds is not None
    assert 3 < seeds < 100
    line = next(line for line in text.splitlines() if "margin" in line)
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    hours = f"{(seeds - 3) * 400 / 3600:.2f}"
    # The sd is exactly 1 point.
    assert cells == ["margin", "3", "1.00 (0.52–6.28)", str(seeds), f"{100 * chance:.0f} %", hours]
    for said in ("shapes · tiny · adam, against triplet", "3 points of MAP@R", "verdict 'better'",
                 "Holm over 2 comparisons", "Conditional on one search".lower(),
                 "So few pairs leave the sd open"):  # fmt: skip
        assert said in flat


def test_a_difference_inside_the_margin_is_said_to_be_none(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    pilot(tmp_path, THREE, SECONDS)
    assert main(["plan", "--detect", "0.3", "--jobs", "1", "--out", str(tmp_path)]) == 0
    flat = " ".join(capsys.readouterr().out.split())
    assert "0.3 points lie inside the margin of 0.5" in flat
    assert "verdict 'equivalent'" in flat


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
