"""Exported models embed as the study's own did, in every form."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.cli import main
from benchmark.models import export as exporting
from benchmark.models.address import find
from benchmark.models.evaluation import embed_split
from benchmark.models.export import check_target
from benchmark.models.model import load
from benchmark.models.tested import test_images as images_of
from benchmark.study import weights
from benchmark.study.folder import load_study
from protocols.discovery import Registry
from protocols.errors import BenchmarkError, InvalidInputError, StoreError, UnknownNameError
from protocols.metrics import retrieval


@pytest.fixture
def study(toy_study, tmp_path):
    """A copy of the finished study, to break."""
    out = tmp_path / "runs"
    shutil.copytree(toy_study, out)
    return load_study(out)


def embedded(study, path):
    model = load(path, Registry())
    return embed_split(model, images_of(study, study.cells[0], Registry()))


@pytest.mark.parametrize("run", ["ms", "triplet"])
def test_test_images_embed_to_the_recorded_checksum(run, exported, toy_study):
    study = load_study(toy_study)
    address = find(study, run)
    assert address.run == weights.best_run(study, address.cell)
    rows = embedded(study, exported(".safetensors", run))
    assert list(rows.shape) == address.run.embeddings_shape
    assert hashlib.sha256(rows.tobytes()).hexdigest() == address.run.embeddings_sha256


def test_one_fold_alone_is_the_fold_model_of_the_record(exported, toy_study):
    study = load_study(toy_study)
    address = find(study, "ms/seed-0/fold-1")
    assert address.folds == (1,)
    path = exported(".safetensors", address.text)
    joined, alone = embedded(study, exported(".safetensors", "ms/seed-0")), embedded(study, path)
    half = joined.shape[1] // 2
    unit = alone / np.linalg.norm(alone, axis=1, keepdims=True)
    assert np.allclose(joined[:, half:], unit, atol=1e-6)
    told = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert told["origin"]["test"] == study.jobs(address.cell, "final", 0)[1].test


@pytest.mark.parametrize(("form", "apart"), [(".pt2", 1e-5), (".onnx", 1e-4)])
def test_other_forms_agree(form, apart, exported, toy_study):
    if form == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    study = load_study(toy_study)
    rows, other = (embedded(study, exported(f)) for f in (".safetensors", form))
    assert np.abs(rows - other).max() <= apart


def test_a_program_needs_nothing_of_this_program(exported):
    program = torch.export.load(exported(".pt2")).module()
    assert program(torch.zeros(3, 3, 16, 16)).shape == (3, 64)


def test_its_description_says_what_goes_in_and_where_it_is_from(exported, toy_study):
    study = load_study(toy_study)
    path = exported(".safetensors")
    told = json.loads(path.with_name(f"{path.name}.json").read_text())
    address = find(study, "ms")
    assert (told["resize_px"], told["crop_px"], told["scale"]) == (16, 16, None)
    assert told["compare"] == "angle"
    assert told["size"] == 64
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told["origin"]["settings"] == address.run.settings
    assert told["origin"]["classes"] == [12, 12]
    assert told["origin"]["embeddings_sha256"] == address.run.embeddings_sha256


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("nope", UnknownNameError, "no model 'nope'"),
        ("ms/seed-7", InvalidInputError, "no finished seed 7; finished are: 0, 1"),
        ("ms/seed-0/fold-5", InvalidInputError, "folds of this study are 0, 1"),
        ("", InvalidInputError, "expected a name"),
    ],
)
def test_addresses_that_mean_nothing(text, error, words, toy_study):
    with pytest.raises(error, match=words):
        find(load_study(toy_study), text)


def test_every_name_of_a_cell_finds_it(toy_study):
    study = load_study(toy_study)
    cell = next(cell for cell in study.cells if cell.row == "ms")
    for text in ("ms", "toy/tiny/adam/ms", cell.path, f"{cell.path}/", f"{cell.path}/seed-1"):
        assert find(study, text).cell == cell
    address = find(study, "ms/seed-1.fold-0")
    assert find(study, address.text) == address


def test_weights_that_are_gone_name_the_command_that_makes_them(study, tmp_path, capsys):
    address = find(study, "ms")
    other = 1 - address.run.seed
    for path in (study.out / "weights").rglob("*.safetensors"):
        path.unlink()
    words = ["export", "ms", "--out", str(study.out), "--to", str(tmp_path / "x.safetensors")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "python -m benchmark run --protocol toy --methods ms" in said
    assert f"--keep best --out {study.out}" in said
    assert main(["export", f"ms/seed-{other}", *words[2:]]) == 2
    assert "--keep all" in capsys.readouterr().err
    assert not (tmp_path / "x.safetensors").exists()


def test_damaged_weights_are_not_exported(study, tmp_path):
    address = find(study, "ms")
    path = weights.path_of(study, address.cell, address.run.seed, 0)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="not what its record says"):
        exporting.export(study, address, tmp_path / "x.safetensors", Registry(), "a command")


def test_a_model_that_embeds_otherwise_than_recorded_is_not_written(study, tmp_path, monkeypatch):
    real = exporting.networks.rebuild

    def wrong(fold, registry):
        network = real(fold, registry)
        with torch.no_grad():
            network.method.head.bias += 0.01
        return network

    monkeypatch.setattr(exporting.networks, "rebuild", wrong)
    to = tmp_path / "x.safetensors"
    with pytest.raises(StoreError, match="embed otherwise than recorded"):
        exporting.export(study, find(study, "ms"), to, Registry(), "a command")
    assert not to.exists()


def test_a_model_that_is_compared_on_a_hyperboloid_is_not_written(study, tmp_path, monkeypatch):
    real = exporting.networks.unpacked

    def ranked(content, name):
        fold = real(content, name)
        return replace(fold, facts={**fold.facts, "ranking": "hyperboloid"})

    monkeypatch.setattr(exporting.networks, "unpacked", ranked)
    to = tmp_path / "x.safetensors"
    with pytest.raises(InvalidInputError, match="is compared on a hyperboloid, and models outside"):
        exporting.export(study, find(study, "ms"), to, Registry(), "a command")
    assert not to.exists()


def test_a_method_whose_code_changed_is_refused(exported, tmp_path):
    path = exported(".safetensors")
    told = json.loads(path.with_name(f"{path.name}.json").read_text())
    told["origin"]["method_code"] = "000000000000"
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    copy.with_name(f"{copy.name}.json").write_text(json.dumps(told))
    with pytest.raises(StoreError, match="the code of method 'ms' is not that of the model"):
        load(copy, Registry())


def test_models_that_cannot_be_opened(exported, tmp_path):
    path = exported(".pt2")
    lone = tmp_path / "lone.pt2"
    lone.write_bytes(path.read_bytes())
    for file, words in (
        (tmp_path / "x.bin", "ends in .safetensors, .pt2, .onnx"),
        (tmp_path / "gone.pt2", "does not exist"),
        (lone, "lone.pt2.json does not exist"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            load(file, Registry())
    beside = lone.with_name("lone.pt2.json")
    for text, words in (
        ("{}", "it lacks resize_px, crop_px, compare, scale; add that, or export"),
        ('{"resize_px": 9, "crop_px": 1, "scale": null}', "it lacks compare; add that, or export"),
        ("[1]", "holds no object in braces"),
        ("[", "Expecting value"),
        ('{"resize_px": 0, "crop_px": 1, "compare": "angle", "scale": null}', "resize_px 0"),
        ('{"resize_px": 9, "crop_px": 1, "compare": "cosine", "scale": null}', "compare 'cosine'"),
        ('{"resize_px": 9, "crop_px": 1, "compare": "angle", "scale": {"means": []}}', "means"),
        (
            path.with_name(f"{path.name}.json").read_text().replace('"sha256": "', '"sha256": "0'),
            "another file",
        ),
    ):
        beside.write_text(text)
        with pytest.raises(InvalidInputError, match=words):
            load(lone, Registry())
    lone.write_bytes(b"PK nothing")
    beside.write_text('{"resize_px": 9, "crop_px": 9, "compare": "angle", "scale": null}')
    with pytest.raises(StoreError, match=r"not a program of torch\.export"):
        load(lone, Registry())


def test_an_unknown_ending_is_refused_before_anything(tmp_path, capsys):
    with pytest.raises(BenchmarkError, match="ends in"):
        check_target(tmp_path / "x.h5")
    assert main(["export", "ms", "--out", str(tmp_path / "none"), "--to", "x.pth"]) == 2
    met = capsys.readouterr()
    assert (met.out, "ends in .safetensors, .pt2, .onnx" in met.err) == ("", True)


def test_no_weights_are_submitted(submitted):
    assert not [p for p in submitted.rglob("*") if "safetensors" in p.name]
    assert "weights" not in "".join(p.read_text() for p in submitted.rglob("seed-*.json"))


@pytest.mark.parametrize("form", [".pt2", ".onnx"])
def test_a_network_that_counts_its_images_takes_one_at_a_time(form, study, tmp_path, monkeypatch):
    if form == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    real, to = exporting.networks.rebuild, tmp_path / f"x{form}"

    def counting(fold, registry):
        network = real(fold, registry)
        head = network.method.head
        network.method.forward = lambda features: {
            "embedding": head(features.vector).reshape(len(features.vector), -1)
        }
        return network

    monkeypatch.setattr(exporting.networks, "rebuild", counting)
    done = exporting.export(study, find(study, "ms"), to, Registry(), "a command")
    assert done.description.batch == 1
    rows = embedded(study, to)
    run = find(study, "ms").run
    assert list(rows.shape) == run.embeddings_shape
    scored = embedded_score(rows, study)
    assert scored == pytest.approx(run.concatenated["map_at_r"], abs=1e-4)


def embedded_score(rows, study):
    labels = images_of(study, study.cells[0], Registry()).labels
    return retrieval(rows, labels)["map_at_r"]


def test_what_cannot_be_followed_is_one_line(study, tmp_path, monkeypatch):
    real = exporting.networks.rebuild

    def looking(fold, registry):
        network = real(fold, registry)
        head = network.method.head
        network.method.forward = lambda features: {
            "embedding": head(features.vector) * float(features.vector.sum() > -1)
        }
        return network

    monkeypatch.setattr(exporting.networks, "rebuild", looking)
    with pytest.raises(StoreError, match=r"cannot become a program .* Export it as \.safetensors"):
        exporting.export(study, find(study, "ms"), tmp_path / "x.pt2", Registry(), "a command")
    assert not (tmp_path / "x.pt2").exists()
