"""What is measured before a study starts: which settings, and on workers that may become fewer."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from benchmark.running import expected
from benchmark.running.expected import OVERHEAD_S, Sizes, largest_of, sizes_of
from benchmark.study.folder import CellKey
from benchmark.study.grid import CellPlan
from protocols.space import Choice, Integer, Real

SPACE = {
    "proxies": Integer(1, 15, default=2),
    "margin": Real(0.0, 1.0, default=0.1),
    "form": Choice(("a", "b"), default="a"),
}
USUAL = {"proxies": 2, "margin": 0.1, "form": "a"}


class Workers:
    """Has room for ``capacities``, each time that it is asked, and answers at once."""

    def __init__(self, *capacities):
        self.capacities, self.asked = iter(capacities), []

    @property
    def capacity(self):
        return next(self.capacities)

    def submit(self, function, job):
        self.asked.append((job, function.keywords["largest"]))
        future = Future()
        if job[0] == "fails":
            future.set_exception(RuntimeError("out of memory"))
        else:
            future.set_result((0.5, float(len(self.asked)), 2.0 * len(self.asked)))
        return future


def cell_of(row, **more):
    return CellKey(f"id of {row}", "toy", "tiny", "adam", row, row, **more)


def plan_of(row, left=1):
    return CellPlan(cell_of(row), 0, 0, left, 0, jobs_left=left, chosen=False)


def measured(monkeypatch, plans, sizes, *capacities):
    monkeypatch.setattr(expected, "width", lambda plans: 9)
    workers = Workers(*capacities)
    make = lambda cell, stage, number, fold, settings: (cell.row, settings)  # noqa: E731
    return expected.expected(plans, sizes, make, workers), workers.asked


def test_every_kind_is_measured_while_the_workers_become_fewer(monkeypatch):
    plans = [plan_of(row) for row in "abcd"]
    sizes = lambda item: Sizes({"n": 1}, {"n": 9})  # noqa: E731
    found, asked = measured(monkeypatch, plans, sizes, 3, 2, 2, 2, 2, 2)
    assert asked == [((row, {"n": 1}), {"n": 9}) for row in "abcdd"]
    assert found == {
        f"id of {row}": (OVERHEAD_S + 0.5, OVERHEAD_S + number, OVERHEAD_S + 2 * number)
        for row, number in zip("abcd", (1.0, 2.0, 3.0, 5.0), strict=True)
    }


def test_of_two_measurements_the_one_of_the_longer_bound_counts(monkeypatch):
    """The other job beside it may have slowed down either part of a measurement."""
    times = iter([(0.5, 3.0, 4.0), (0.4, 2.0, 9.0)])

    def submit(self, function, job):
        future = Future()
        future.set_result(next(times))
        return future

    monkeypatch.setattr(Workers, "submit", submit)
    found, _ = measured(monkeypatch, [plan_of("a")], lambda item: Sizes({}, {"n": 9}), 2)
    assert found["id of a"].most == OVERHEAD_S + 9.0


def test_what_cannot_be_measured_or_has_nothing_left_is_missing(monkeypatch):
    plans = [plan_of("a"), plan_of("fails"), plan_of("over", left=0)]
    found, asked = measured(monkeypatch, plans, lambda item: Sizes({}, None), 2)
    assert set(found) == {"id of a"}
    assert asked == [(("a", {}), None), (("fails", {}), None)]


def test_cells_of_one_method_with_other_settings_are_measured_each(monkeypatch):
    repeats = [
        CellPlan(CellKey(f"{n}", "toy", "tiny", "adam", "a", "a"), 0, 0, 1, 0, 1, False)
        for n in range(3)
    ]
    sizes = lambda item: Sizes({"n": int(item.cell.id) // 2}, None)  # noqa: E731
    found, asked = measured(monkeypatch, repeats, sizes, 1, 1)
    assert asked == [(("a", {"n": 0}), None), (("a", {"n": 1}), None)]
    assert found["0"] == found["1"] != found["2"]


def test_only_whole_numbers_are_raised():
    assert largest_of(SPACE) == {**USUAL, "proxies": 15}
    assert largest_of({}) == {}


@pytest.mark.parametrize(
    ("choice", "params", "cell", "wanted"),
    [
        (None, "search", {}, (USUAL, {**USUAL, "proxies": 15})),
        ({"proxies": 7}, "search", {}, ({"proxies": 7}, None)),
        (None, "published", {}, ({"proxies": 3}, None)),
        (None, "published", {"trains": False, "searched": False}, ({}, None)),
        (None, "search", {"searched": False}, ({}, None)),
        ({}, "search", {"searched": False}, ({}, None)),
    ],
)
def test_the_settings_of_the_jobs_left_are_measured(monkeypatch, choice, params, cell, wanted):
    record = None if choice is None else SimpleNamespace(settings=choice)
    protocol = SimpleNamespace(params=params, batch_size=32)
    study = SimpleNamespace(choice=lambda cell: record, protocol=protocol)
    best = {("a", "toy", 32): {"proxies": 3}}
    monkeypatch.setattr(expected.paper, "best", lambda *asked: best[asked])
    item = CellPlan(cell_of("a", **cell), 20, 0, 10, 0, 60, False)
    assert sizes_of(study, item, lambda cell: SPACE) == wanted


def test_a_search_without_a_whole_number_is_measured_once():
    study = SimpleNamespace(choice=lambda cell: None, protocol=SimpleNamespace(params="search"))
    item = CellPlan(cell_of("a"), 20, 0, 10, 0, 60, False)
    space = {"margin": SPACE["margin"]}
    assert sizes_of(study, item, lambda cell: space) == ({"margin": 0.1}, None)
