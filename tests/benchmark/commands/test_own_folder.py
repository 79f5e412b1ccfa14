"""Where a study goes that names no folder."""

import shutil
from pathlib import Path

import pytest

from benchmark.cli import main, make_parser
from benchmark.commands.own_folder import settle_folder
from protocols.errors import StoreError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settled(*words):
    args = make_parser().options(list(words))
    return settle_folder(args), args.out


@pytest.mark.parametrize("command", ["run", "plan"])
def test_it_is_runs_unless_that_holds_a_study_of_another_protocol(command, here, toy_study):
    assert settled(command, "--protocol", "box") == ("", Path("runs"))
    shutil.copytree(toy_study, here / "runs")
    assert settled(command, "--protocol", "toy") == ("", Path("runs"))
    line, out = settled(command, "--protocol", "box")
    assert out == Path("runs-box")
    assert line == "runs holds a study under toy, so this one goes to runs-box"
    assert settled(command, "--protocol", "box", "--out", "runs") == ("", Path("runs"))


def test_a_study_file_may_name_it_and_need_not(here, toy_study):
    shutil.copytree(toy_study, here / "runs")
    for name, out in (("named", Path("runs")), ("silent", Path("runs-box"))):
        text = 'protocol = "box"\n' + ('out = "runs"\n' if name == "named" else "")
        (here / f"{name}.toml").write_text(text)
        assert settled("plan", f"{name}.toml")[1] == out


def test_other_rules_of_the_same_protocol_are_refused_there(here, toy_study, capsys):
    shutil.copytree(toy_study, here / "runs")
    assert main(["plan", "--protocol", "toy", "--trials", "9"]) == 2
    assert "runs holds a study under other rules" in capsys.readouterr().err


def test_a_damaged_study_there_is_not_passed_by(here, toy_study):
    shutil.copytree(toy_study, here / "runs")
    (here / "runs" / "study.json").write_text("{")
    with pytest.raises(StoreError, match=r"runs/study\.json"):
        settled("run", "--protocol", "box")


@pytest.mark.parametrize("name", ["nope", "../x", "", "a/b"])
def test_a_protocol_that_is_not_there_is_refused_by_name(name, here, toy_study, capsys):
    shutil.copytree(toy_study, here / "runs")
    assert main(["plan", "--protocol", name]) == 2
    assert f"no protocol {name!r}" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["runs"]


@pytest.mark.slow
def test_a_second_protocol_runs_beside_the_first_and_leads_on_there(here, capsys):
    words = "run --methods ms --trials 1 --seeds 1 --device cpu --keep none --protocol"
    toy = "from dataclasses import replace\n\nfrom protocols.specs.toy import PROTOCOL as TOY\n\n"
    (here / "rules.py").write_text(f'"""Rules."""\n{toy}PROTOCOL = replace(TOY, name="rules")\n')
    assert main([*words.split(), "toy"]) == 0
    assert "--out" not in capsys.readouterr().out.splitlines()[-1]
    for _ in range(2):  # the same command goes on there
        assert main([*words.split(), "rules", "--plugin", "rules.py"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "runs holds a study under toy, so this one goes to runs-rules" in lines
        assert lines[-1].endswith("--out runs-rules")
    assert "nothing left to do in runs-rules" in lines
    assert sorted(path.name for path in here.glob("runs*")) == ["runs", "runs-rules"]
