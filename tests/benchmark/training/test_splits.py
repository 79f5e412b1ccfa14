"""What is prepared once is all that a worker reads."""

import io
from dataclasses import replace

import numpy as np
import pytest

from benchmark.study.sides import read_sums
from benchmark.training import splits
from protocols.discovery import load
from protocols.errors import StoreError
from protocols.partition import Labels
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


def turned(content):
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


def cut(content):
    return content[: len(content) // 2]


def reversed_labels(content):
    """A whole file, but of other labels."""
    with np.load(io.BytesIO(content)) as file:
        return splits._packed(
            Labels(file["labels"][::-1], len(file["order"]), None, file["order"]), file["names"]
        )


def longer(content):
    return content + b"\0"


@pytest.mark.parametrize(
    ("which", "change"),
    [(n, change) for n in range(3) for change in (turned, cut, longer)] + [(2, reversed_labels)],
)
def test_a_cache_that_is_not_what_was_written_is_made_anew(source, which, change):
    before = {path: path.read_bytes() for path in source.cache.iterdir()}
    path = source.files(PROTOCOL)[which]
    path.write_bytes(change(before[path]))
    assert splits.prepare(source, PROTOCOL) == [path]
    assert {path: path.read_bytes() for path in source.cache.iterdir()} == before
    assert splits.prepare(source, PROTOCOL) == []


@pytest.mark.parametrize("which", range(3))
def test_a_cache_without_its_own_checksum_is_made_anew(source, which):
    """That of an earlier version has none; another file's does not count."""
    path, other = source.files(PROTOCOL)[which], source.files(PROTOCOL)[which - 1]
    beside = path.with_name(f"{path.name}.sha256")
    beside.unlink()
    assert splits.prepare(source, PROTOCOL) == [path]
    path.write_bytes(other.read_bytes())
    beside.write_bytes(other.with_name(f"{other.name}.sha256").read_bytes())
    assert splits.prepare(source, PROTOCOL) == [path]
    assert splits.prepare(source, PROTOCOL) == []


def test_a_folder_in_a_caches_place_is_one_line(source):
    path = source.files(PROTOCOL)[0]
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError, match=r"u8 is damaged and cannot be removed: .* Remove it"):
        splits.prepare(source, PROTOCOL)


def test_labels_of_an_earlier_version_without_checksums_are_written_anew(source, monkeypatch):
    dataset, size = load("dataset", "toy").load(), source.labels_path.stat().st_size
    summed = replace(dataset, sums=[f"{n:016x}" + "0" * 48 for n in range(len(dataset.labels))])
    monkeypatch.setattr(splits, "_dataset", lambda _: summed)
    assert splits.prepare(source, PROTOCOL) == []
    assert read_sums(source.labels_path) == [f"{n:016x}" for n in range(len(dataset.labels))]
    assert source.labels_path.stat().st_size > size
    assert splits.prepare(source, PROTOCOL) == []


def test_parts_survive():
    parts = np.array(["train", "query", "gallery"])
    found = splits._packed(Labels(np.array([0, 1, 1]), 2, parts, np.arange(2)), ["a", "b"])
    assert b"pickle" not in found
