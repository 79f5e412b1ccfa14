"""What is measured before a study starts, on workers that may become fewer meanwhile."""

from types import SimpleNamespace

import pytest

from benchmark.commands import jobs
from benchmark.engines.local import LocalEngine
from benchmark.running import sharing
from benchmark.running.bound import JobSeconds
from benchmark.study.folder import CellKey
from benchmark.study.grid import CellPlan
from benchmark.training.first_look import FirstLook

CELLS = [CellKey(f"id of {row}", "toy", "tiny", "adam", row, row) for row in "abc"]


@pytest.mark.parametrize(
    ("looks", "wanted"),
    [
        ({"a": 700, "b": 900, "c": 800}, ("b", 900)),
        ({"a": "fails", "b": 700, "c": 900}, ("c", 900)),
        ({"a": "fails"}, ("b", 0)),  # the others have begun before
        ({"a": "fails", "b": "fails", "c": 50, "of a row that does not train": 60}, ("c", 60)),
        ({}, ("a", 0)),
    ],
)
def test_how_many_pay_is_measured_by_the_cell_that_took_most_and_did_not_fail(looks, wanted):
    found = [
        FirstLook(cell=f"id of {row}", failed="E")
        if took == "fails"
        else FirstLook(cell=f"id of {row}", memory_mb=took, card_mb=80_000)
        for row, took in looks.items()
    ]
    cell, memory_mb = jobs._to_measure(CELLS, found)
    assert (cell.row, memory_mb) == wanted


@pytest.mark.parametrize("chosen", [0, 1, 4])
def test_that_it_could_not_be_measured_is_said(monkeypatch, capsys, tmp_path, chosen):
    monkeypatch.setattr(sharing, "share", lambda engine, job, cards, memory_mb: chosen)
    monkeypatch.setattr(jobs, "first_job", lambda asked, ready: lambda cell: cell.row)
    ready = SimpleNamespace(devices=("0",), device="cuda")
    engine = LocalEngine(1, 1, tmp_path / "workers.txt")
    jobs._share_cards(None, ready, CELLS[0], 0, engine)
    said = capsys.readouterr().out
    assert ("how many jobs pay on a GPU is not known: a on toy fails" in said) == (not chosen)


LONG, SHORT = 3600.0, 5.0


@pytest.mark.parametrize(
    ("seconds", "fit", "device", "said", "wanted"),
    [
        (SHORT, True, "cuda", {}, ["seconds"]),
        (LONG, True, "cuda", {}, ["seconds", "share", "seconds"]),
        (SHORT, True, "cuda", {"left": 3000}, ["share", "seconds"]),
        (SHORT, False, "cuda", {}, ["share", "seconds"]),
        (None, True, "cuda", {}, ["seconds", "share", "seconds"]),  # could not be measured
        (LONG, True, "cuda", {"jobs": 4}, ["seconds"]),
        (LONG, True, "cpu", {}, ["seconds"]),
        (SHORT, False, "cuda", {"engine": "ray"}, ["seconds"]),
        (LONG, False, "cuda", {"engine": "ray"}, ["seconds", "share", "seconds"]),
        (LONG, False, "cuda", {"engine": "ray", "jobs": 4}, ["seconds", "share", "seconds"]),
        (LONG, False, "cuda", {"engine": "ray", "gpus_per_job": 0.5}, ["seconds"]),
    ],
)
def test_how_many_jobs_pay_is_measured_where_that_pays(
    monkeypatch, seconds, fit, device, said, wanted
):
    done = []
    cell = CellKey("id", "toy", "tiny", "adam", "ms", "ms")
    counts = {"trials": 3, "trials_done": 0, "runs": 3, "runs_done": 0}
    options = {"engine": "local", "jobs": None, "gpus_per_job": None, "left": 12, **said}
    plans = [CellPlan(cell, **counts, jobs_left=options.pop("left"), chosen=False)]
    found = {} if seconds is None else {"id": JobSeconds(*[seconds] * 3)}

    def expected(*rest):
        done.append("seconds")
        return found

    monkeypatch.setattr(jobs, "expected_seconds", expected)
    monkeypatch.setattr(jobs, "_share_cards", lambda *rest: done.append("share"))
    monkeypatch.setattr(sharing, "fit_together", lambda *asked: fit and asked == ([], 1, 8))
    asked = SimpleNamespace(options=SimpleNamespace(**options))
    devices = ("0",) if device == "cuda" and options["engine"] == "local" else ()
    ready = SimpleNamespace(devices=devices, device=device)
    assert jobs.measured(asked, ready, plans, SimpleNamespace(capacity=8), []) is found
    assert done == wanted
