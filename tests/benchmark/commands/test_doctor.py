"""One screen about this place: what is right here, and each thing that can be wrong."""

import os
import re
from importlib import metadata

import pytest

from benchmark.cli import main
from benchmark.commands import doctor
from benchmark.engines import limits
from benchmark.study.folder import Study
from protocols.discovery import load


def screen(capsys, *words, code=0):
    assert main(["doctor", *map(str, words)]) == code
    return capsys.readouterr().out


def test_all_is_right_here(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = screen(capsys, "--out", tmp_path / "none")
    for package in ("torch", "optuna", "mlflow", "faiss-cpu"):
        assert f"{package}=={metadata.version(package)}" in said
    assert f"CPUs            {limits.cpus():g} of {os.cpu_count()}" in said
    assert "nothing found that would stop a study" in said
    lines = [line for line in said.splitlines() if str(tmp_path) not in line]  # paths stay whole
    assert max(map(len, lines)) <= 80


def test_it_changes_nothing(tmp_path, capsys):
    screen(capsys, "--out", tmp_path / "none")
    assert not any(tmp_path.iterdir())


def test_a_study_is_described(tmp_path, capsys):
    Study(tmp_path, load("protocol", "toy")).save()
    said = screen(capsys, "--out", tmp_path)
    assert re.search(r"study +toy v\d+, 0 cells, 0 jobs left, made on nothing yet", said)


def test_a_damaged_study_and_a_missing_package_are_faults(tmp_path, capsys, monkeypatch):
    (tmp_path / "study.json").write_text("{")
    asked = ["torch>=99", "no-such-package>=1", 'ray>=2; extra == "cluster"']
    monkeypatch.setattr(metadata, "requires", lambda name: asked)
    said = screen(capsys, "--out", tmp_path, code=5)
    assert "! packages" in said
    assert "no-such-package>=1 (found none)" in " ".join(said.split())
    assert "! study" in said
    assert "damaged" in said
    assert "2 faults, each marked with !" in said


def test_a_place_that_is_too_small_is_a_fault(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(limits, "memory_bytes", lambda root=None: 600 << 20)
    said = screen(capsys, "--out", tmp_path / "none", code=5)
    assert "! memory" in said
    assert "this place allows 600 MB" in " ".join(said.split())


def test_a_folder_that_cannot_be_written_is_a_fault(tmp_path, capsys):
    (tmp_path / "records").write_text("a file in a folder's place")
    said = screen(capsys, "--out", tmp_path, code=5)
    assert "! folder" in said


def test_own_images_are_listed(tmp_path, capsys):
    said = screen(capsys, "--out", tmp_path / "none", "--root", tmp_path)
    assert f"nothing prepared in {tmp_path}" in " ".join(said.split())


@pytest.mark.parametrize("home", ["/home/somebody", "/"])
def test_the_home_folder_is_not_named(monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    assert doctor._homeless("/home/somebody/runs") == (
        "~/runs" if home != "/" else "/home/somebody/runs"
    )
