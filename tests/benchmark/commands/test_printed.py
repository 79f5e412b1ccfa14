"""A command that is printed can be pasted into a shell, whatever its folders are called."""

import shlex
from dataclasses import replace

import pytest
from rich.console import Console

from benchmark.cli import main
from benchmark.commands import upkeep
from benchmark.mirror.tracking import Mirror
from benchmark.models import index
from benchmark.study.folder import Study, load_study
from benchmark.study.rules import check_same_rules
from protocols.datasets.folder import own_images
from protocols.errors import DataError, InvalidInputError, StoreError
from protocols.manifest import read_header
from protocols.specs.toy import PROTOCOL

ODD = "it's a folder"


def typed(text):
    """Return the words of each command in ``text`` as a shell splits them, up to its line's end."""
    return [shlex.split(part.split("\n")[0]) for part in text.split("python -m benchmark ")[1:]]


def test_commands_for_a_new_method(tmp_path, capsys):
    folder = tmp_path / ODD
    assert main(["new-method", "fresh_idea", "--folder", str(folder)]) == 0
    check, compare = typed(capsys.readouterr().out)
    assert check == ["check", str(folder / "fresh_idea.py")]
    assert compare[:3] == ["run", "--plugin", str(folder / "fresh_idea.py")]


def test_a_command_for_a_pilot(tmp_path, capsys):
    out = tmp_path / ODD
    assert main(["plan", "--detect", "0.5", "--out", str(out)]) == 2
    (command,) = typed(capsys.readouterr().err)
    assert command[-2:] == ["--out", str(out)]


def test_a_command_that_rebuilds_the_leaderboard(tmp_path, capsys):
    results = tmp_path / ODD
    results.mkdir()
    assert main(["verify", str(results)]) == 2
    found = [line.rpartition(" @ ")[0] for line in capsys.readouterr().out.splitlines()]
    (command, *_) = typed("\n".join(line for line in found if "python" in line))
    assert command == ["verify", str(results), "--rebuild"]


def test_a_command_that_mirrors_later(tmp_path):
    said = []
    study = Study(out=tmp_path / ODD, protocol=PROTOCOL, cells=())
    Mirror(study, said.append, "sqlite:///nowhere.db")._complain("a reason")
    assert typed(said[0]) == [["sync", "--out", str(study.out)]]


def test_a_command_that_prepares_own_images(tmp_path):
    with pytest.raises(Exception, match="is not in") as raised:
        read_header(tmp_path / "manifest.csv", f"folder:{ODD}")
    (command,) = typed(str(raised.value).replace(" DIR.", " DIR\n"))  # a sentence follows
    assert command[:3] == ["data", "prepare", f"folder:{ODD}"]


def test_a_command_that_makes_a_gallery(tmp_path):
    with pytest.raises(InvalidInputError) as raised:
        index.read(tmp_path / ODD)
    (command,) = typed(str(raised.value))
    assert command == ["index", "MODEL", "IMAGES", "--to", str(tmp_path / ODD)]


def test_a_command_after_merging(toy_study, tmp_path, capsys):
    study = replace(load_study(toy_study), out=tmp_path / ODD)
    upkeep._show(Console(width=400), study)
    assert typed(capsys.readouterr().out)[-1] == ["sync", "--out", str(study.out)]


def test_a_command_that_embeds_in_a_form_that_can_be_read(capsys):
    assert main(["evaluate", f"{ODD}.parquet"]) == 2
    words = capsys.readouterr().err.partition("so: ")[2]
    assert shlex.split(words) == ["embed", "MODEL", "IMAGES", "--to", f"{ODD}.npy"]


def test_a_folder_of_its_own_for_other_rules(tmp_path):
    study = Study(out=tmp_path / ODD, protocol=PROTOCOL, cells=())
    with pytest.raises(StoreError) as raised:
        check_same_rules(study, replace(PROTOCOL, batch_size=PROTOCOL.batch_size + 1))
    words = str(raised.value).partition("as with ")[2]
    assert shlex.split(words) == ["--out", f"{study.out}-{PROTOCOL.name}"]


def test_images_in_the_one_part_of_a_folder(tmp_path):
    image = tmp_path / ODD / "train" / "a" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"")
    with pytest.raises(DataError) as raised:
        own_images(str(tmp_path / ODD))
    words = str(raised.value).partition("say ")[2].partition(", or")[0]
    assert shlex.split(words) == [f"folder:{tmp_path / ODD / 'train'}"]
