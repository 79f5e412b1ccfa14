"""What is measured before a study starts, on workers that may become fewer meanwhile."""

from concurrent.futures import Future
from types import SimpleNamespace

from benchmark.commands import jobs
from benchmark.study.folder import CellKey


class Workers:
    """Has room for ``capacities``, each time that it is asked, and answers at once."""

    def __init__(self, *capacities):
        self.capacities, self.asked = iter(capacities), []

    @property
    def capacity(self):
        return next(self.capacities)

    def submit(self, function, row):
        self.asked.append(row)
        future = Future()
        future.set_result(float(len(self.asked)))
        return future


def test_every_kind_is_measured_while_the_workers_become_fewer(monkeypatch):
    make = lambda asked, ready: lambda cell, *rest: cell.row  # noqa: E731
    monkeypatch.setattr(jobs, "job_maker", make)
    monkeypatch.setattr(jobs, "width", lambda plans: 9)
    cells = [CellKey(f"id of {row}", "toy", "tiny", "adam", row, row) for row in "abcd"]
    plans = [SimpleNamespace(cell=cell, jobs_left=1) for cell in cells]
    workers = Workers(3, 2, 2, 2, 2, 2)
    found = jobs.expected_seconds(None, SimpleNamespace(device="cuda"), plans, workers)
    assert workers.asked == ["a", "b", "c", "d", "d"]
    assert found == {
        cell.id: jobs.OVERHEAD_S + seconds
        for cell, seconds in zip(cells, (1.0, 2.0, 3.0, 5.0), strict=True)
    }
