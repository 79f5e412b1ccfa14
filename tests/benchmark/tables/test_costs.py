"""What a study cost in all: the file, the screen and the report say the same."""

import argparse
import itertools
import math
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest

from benchmark import values
from benchmark.cli import main
from benchmark.study import records
from benchmark.study.folder import load_study
from benchmark.study.spending import spending
from benchmark.tables import costs


@pytest.fixture
def study(toy_study, tmp_path):
    shutil.copytree(toy_study, tmp_path / "out")
    return load_study(tmp_path / "out")


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        (["NVIDIA H100", "NVIDIA H100"], 900),
        (["cpu, 1 thread(s)", "NVIDIA H100"], 900),
        (["NVIDIA H100 + cpu, 1 thread(s)"], None),
        (["cpu, 1 thread(s)"], None),
    ],
)
def test_memory_is_told_of_a_gpu_alone(devices, told):
    """A CPU's worker holds what earlier jobs left, which no method took."""
    measured = [{"peak_memory_mb": 900, "environment": {"device": name}} for name in devices]
    found = costs.mean_of([SimpleNamespace(counts={}, measured=m) for m in measured], costs.MEMORY)
    assert found == told if told else math.isnan(found)


def everything(study):
    return [r for key in study.all_cells for r in (*study.trials(key), *study.runs(key))]


def test_money_is_the_hours_in_which_the_study_worked(study, capsys):
    assert main(["tables", "--out", str(study.out), "--price-per-hour", "36 EUR"]) == 0
    screen = capsys.readouterr().out
    found = pd.read_csv(study.out / "tables" / "costs.csv").set_index("method")
    spans = [span for record in everything(study) for span in record.measured["spans"]]
    moments = sorted({moment for span in spans for moment in (span["start"], span["end"])})
    worked = sum(
        after - before
        for before, after in itertools.pairwise(moments)
        if any(span["start"] <= before and after <= span["end"] for span in spans)
    )
    assert found["machine_h"].sum() == pytest.approx(worked / 3600)
    assert found["money"].sum() == pytest.approx(worked / 100)
    assert set(found["currency"]) == {"EUR"}
    assert found["machine_h"].sum() < found["job_h"].sum(), "two jobs ran at once"
    assert (found["cpu_h"] > 0).all()
    assert (found["gpu_h"] == 0).all()
    assert "at 36 EUR an hour of a machine" in " ".join(screen.split())
    assert "GPU h" not in screen
    assert main(["report", "--out", str(study.out), "--price-per-hour", "36 EUR"]) == 0
    page = (study.out / "report" / "index.html").read_text()
    for method, money in found["money"].items():
        assert f"<td>{costs.small(money)}</td>" in page, method
    assert "at 36 EUR an hour of a machine" in page


def test_energy_that_the_machine_told_is_shared(study, capsys):
    """10 W all the time: Wh are ten times the machine's hours, in every row."""
    for key in study.cells:
        for record in (*study.trials(key), *study.runs(key)):
            for span in record.measured["spans"]:
                span["package_j"] = 10 * (span["end"] - span["start"])
            records.write(study.record_path(key, record), record)
    assert main(["tables", "--out", str(study.out)]) == 0
    found = pd.read_csv(study.out / "tables" / "costs.csv")
    assert found["packages_wh"].tolist() == pytest.approx((10 * found["machine_h"]).tolist())
    assert found[["gpu_wh", "money", "currency"]].isna().all(axis=None)
    said = capsys.readouterr().out
    assert "Packages" in said
    assert "Wh of processor packages" in " ".join(said.split())


def test_older_records_have_no_price(study, capsys):
    key = study.cells[0]
    run = study.runs(key)[0]
    del run.measured["spans"]
    records.write(study.record_path(key, run), run)
    assert main(["tables", "--out", str(study.out), "--price-per-hour", "1 EUR"]) == 0
    found = pd.read_csv(study.out / "tables" / "costs.csv").set_index("method")
    assert found["money"].isna().to_dict() == {m: m == key.row for m in found.index}
    assert found["job_h"].notna().all()
    assert "no price, because older records" in " ".join(capsys.readouterr().out.split())


def test_the_study_is_the_sum_of_its_rows(study):
    every, spent = everything(study), spending(study)
    rows = [spent.of([*study.trials(k), *study.runs(k)]) for k in study.cells]
    whole = spent.of(every)
    for name in ("seconds", "cpu_s", "machine_s", "gpu_s"):
        assert getattr(whole, name) == pytest.approx(sum(getattr(row, name) for row in rows))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.80 EUR", (0.8, "EUR")),
        ("3USD", (3.0, "USD")),
        ("$2.5", (2.5, "$")),
        ("kr 12", (12.0, "kr")),
        (" 1 € ", (1.0, "€")),
    ],
)
def test_prices(text, expected):
    assert values.price(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "1", "EUR", "0 EUR", "-1 EUR", "1e9 EUR", "nan EUR", "1 EU R", "=1 EUR", "1 \u202e"],
)
def test_what_is_no_price(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected an amount and its currency"):
        values.price(text)
