"""What is prepared once is all that a worker reads."""

import numpy as np
import pytest

from benchmark.training import splits
from protocols.discovery import load
from protocols.specs.toy import PROTOCOL


@pytest.fixture
def source(tmp_path):
    found = splits.DataSource("toy", load("dataset", "toy").digest(), None, tmp_path)
    splits.prepare(found, PROTOCOL)
    return found


def test_prepared_files_are_enough(source, monkeypatch):
    """A machine that has only them opens folds and test without the dataset."""

    def gone(source):
        raise AssertionError("the dataset was opened")

    monkeypatch.setattr(splits, "_dataset", gone)
    assert all(path.is_file() for path in source.files(PROTOCOL))
    assert {path.parent for path in source.files(PROTOCOL)} == {source.cache}
    train, validation = splits.open_fold(source, PROTOCOL, 0)
    test = splits.open_test(source, PROTOCOL)
    classes = [set(part.labels) for part in (train, validation, test)]
    assert sum(map(len, classes)) == len(set.union(*classes)) == 48


@pytest.mark.parametrize("at", [0, 40, 200, -30])
def test_damaged_labels_are_written_anew(source, at):
    path = source.labels_path
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)
    labels = splits._labels(source)
    dataset = load("dataset", "toy").load()
    assert np.array_equal(labels.labels, dataset.labels)
    assert (labels.classes, labels.parts) == (48, None)


def test_parts_survive():
    parts = np.array(["train", "query", "gallery"])
    found = splits._packed(splits.Labels(np.array([0, 1, 1]), 2, parts))
    assert b"pickle" not in found
