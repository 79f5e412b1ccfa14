"""A disk that is too small for the decoded images is refused before any is decoded."""

import shutil
from collections import namedtuple
from dataclasses import replace

import pytest
import torch

from benchmark.cli import main
from benchmark.study.pixels import store_path
from benchmark.training import room, splits
from protocols.discovery import load
from protocols.errors import StoreError

PROTOCOL = load("protocol", "toy")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def source(tmp_path):
    return splits.DataSource("toy", load("dataset", "toy").digest(), None, tmp_path / "a" / "cache")


def test_what_is_decoded_takes_no_less_than_is_said_and_then_nothing(source):
    (found,) = room.undecoded([source], PROTOCOL)
    assert (found.title, found.folder) == ("toy", source.cache)
    splits.prepare(source, PROTOCOL)
    size = store_path(source.cache, source.key, PROTOCOL.image.resize_px).stat().st_size
    assert 0.5 * size < found.least <= size
    assert found.images == len(load("dataset", "toy").load(None).labels)
    assert room.undecoded([source], PROTOCOL) == []


def test_datasets_of_one_folder_must_fit_together(source, monkeypatch):
    (one,) = room.undecoded([source], PROTOCOL)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 2 * one.least - 1))
    room.check_room([one])
    room.check_room([one, replace(one, folder=source.cache.parent / "elsewhere")])
    with pytest.raises(StoreError, match=r"take 0\.0 GB at least, and .*cache has 0\.0 GB free"):
        room.check_room([one, one])


def test_a_run_on_a_small_disk_decodes_nothing(tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage
    cut = lambda folder: Usage(0, 0, 300 << 20) if "out" in str(folder) else usage(folder)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", cut)
    monkeypatch.setattr(splits, "count_images", lambda source: 10**9)
    monkeypatch.setattr(room, "count_images", lambda source: 10**9)
    out = tmp_path / "out"
    assert main(["run", "--protocol", "toy", "--methods", "ms", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "GB at least" in said
    assert "0.3 GB free. Make room, or name another place: with --out" in said
    assert not list(out.rglob("*.u8"))


def test_decoding_that_takes_long_is_announced(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(room, "LARGE_BYTES", 1)
    out = tmp_path / "out"
    assert main(["run", "--protocol", "toy", "--methods", "untrained", "--out", str(out)]) == 0
    assert "images of toy, 0.0 GB at least" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_weights_are_looked_at_before_decoding_that_takes_long(
    tmp_path, monkeypatch, capsys, command
):
    weights, out = tmp_path / "weights.pth", tmp_path / "out"
    torch.save({"layer": torch.zeros(3)}, weights)
    decoded = []
    prepare = splits.prepare
    monkeypatch.setattr(splits, "prepare", lambda *asked: decoded.append(1) or prepare(*asked))
    words = [command, "--protocol", "toy", "--methods", "ms,triplet", "--out", str(out)]
    words += ["--trunk", "mobilenet_v2", "--weights", str(weights)]
    said = []
    for least in (1, 10**9):
        monkeypatch.setattr(room, "LARGE_BYTES", least)
        assert main(words) == 2
        said.append(capsys.readouterr().err)
        assert len(decoded) == (least > 1)
    assert said[0] == said[1]
    assert "Nothing was started" in said[0]
    assert str(weights) in said[0].replace("\n", "")
