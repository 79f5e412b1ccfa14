"""Weights that are missing are trained again, and kept only if they are those of the record."""

import shutil
from concurrent.futures import Future
from dataclasses import replace

import pytest
import torch

from benchmark.running import flows
from benchmark.running.keeping import remake
from benchmark.study import records, weights
from benchmark.study.folder import load_study
from benchmark.training.job import Job
from benchmark.training.splits import DataSource
from protocols.discovery import load


class Inline:
    """An engine that does everything here and now."""

    capacity, lost = 1, ()

    def submit(self, function, argument):
        future = Future()
        future.set_result(function(argument))
        return future


class Notes(list):
    def note(self, text):
        self.append(text)


@pytest.fixture
def study(toy_study, tmp_path):
    shutil.copytree(toy_study, tmp_path / "runs")
    return load_study(tmp_path / "runs")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_job(study):
    source = DataSource("toy", load("dataset", "toy").digest(), None, study.out / "cache")

    def make(cell, stage, number, fold, settings):
        recipe = load("recipe", "adam")
        where = (cell, study.protocol, recipe, stage, number, fold, settings, source, "cpu")
        return Job(*where)

    return make


def made_again(study, keep):
    notes = Notes()
    (cell,) = (cell for cell in study.cells if cell.row == "ms")
    flows.run([remake(study, [cell], keep, make_job(study), notes)], Inline())
    return cell, notes


def files(study):
    return {p: p.read_bytes() for p in (study.out / "weights").rglob("ms-*/*.safetensors")}


def test_they_are_the_same_bits_and_no_record_is_touched(study):
    kept = files(study)
    truth = {p: p.read_bytes() for p in (study.out / "records").rglob("*.json")}
    for path in kept:
        path.unlink()
    cell, notes = made_again(study, "best")
    assert files(study) == kept
    assert notes == [
        f"ms on toy (tiny, adam): weights of seed 0 fold {k} made again and kept" for k in (0, 1)
    ]
    _, notes = made_again(study, "all")
    assert len(files(study)) == 4
    assert len(notes) == 2
    assert weights.lacking(study, [cell], "all") == []
    assert {p: p.read_bytes() for p in (study.out / "records").rglob("*.json")} == truth
    made_again(study, "best")
    assert files(study) == kept


@pytest.mark.parametrize(
    ("sha", "words"),
    [("0" * 64, "came out otherwise than recorded"), (None, "its record has no checksum")],
)
def test_others_than_the_recorded_ones_are_not_kept(sha, words, study):
    kept = files(study)
    for path in kept:
        path.unlink()
    (cell,) = (cell for cell in study.cells if cell.row == "ms")
    for job in study.jobs(cell, "final", 0):
        records.write(study.record_path(cell, job), replace(job, weights_sha256=sha))
    _, notes = made_again(study, "best")
    assert files(study) == {}
    assert all(words in note for note in notes)
    assert len(notes) == 2
