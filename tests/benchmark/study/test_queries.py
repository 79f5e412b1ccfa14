"""A per-query file is read only from its folder and only as its record describes it."""

import hashlib
import io

import numpy as np
import pytest

from benchmark.study.queries import read_queries
from benchmark.study.records import RunRecord


def make_run(out, path="queries/toy/seed-0.npz", sha256=None, **arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    file = out / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(buffer.getvalue())
    sha256 = sha256 or hashlib.sha256(buffer.getvalue()).hexdigest()
    named = {"path": path, "sha256": sha256}
    return RunRecord("i", "c", 0, {}, "done", [], queries=named)


def test_the_arrays_asked_for_are_read(tmp_path):
    run = make_run(tmp_path, labels=np.array([3, 1]), query=np.array([0]), index=np.array([7, 8]))
    arrays = read_queries(tmp_path, run, ("labels", "query"))
    assert {name: values.tolist() for name, values in arrays.items()} == {
        "labels": [3, 1],
        "query": [0],
    }


@pytest.mark.parametrize(
    ("faulty", "reason"),
    [
        ({"path": "elsewhere/seed-0.npz"}, "not in the output folder"),
        ({"path": "queries/../../seed-0.npz"}, "not in the output folder"),
        ({"sha256": "0" * 64}, "not those of its record"),
        ({}, "hold no query"),
    ],
)
def test_any_other_file_is_left_unread_with_a_reason(tmp_path, faulty, reason):
    run = make_run(tmp_path / "out", labels=np.array([3]), **faulty)
    found = read_queries(tmp_path / "out", run, ("labels", "query"))
    assert isinstance(found, str)
    assert "seed 0" in found
    assert reason in found


def test_a_run_without_a_file_has_none(tmp_path):
    run = RunRecord("i", "c", 4, {}, "failed", [])
    assert "seed 4" in str(read_queries(tmp_path, run, ("labels",)))
