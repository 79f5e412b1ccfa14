"""Bad input: one line, exit code 2, nothing started, nothing written."""

import fcntl
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmark.cli import main
from benchmark.commands import methods
from benchmark.engines import machine
from protocols.discovery import load
from protocols.errors import MachineError

ROOT = Path(__file__).parent.parent.parent
PLUGIN = '''"""A method of one's own."""
from protocols.method import Method, Term


class Mine(Method):
    """Pulls all together."""

    def make_terms(self, spec):
        return [Term(lambda z, y: z.square().mean())]
'''


def test_a_machine_at_fault_is_one_line_and_a_code_of_its_own(capsys, monkeypatch):
    def fail(args):
        raise MachineError("no job can run here")

    monkeypatch.setattr(methods, "list_names", fail)
    assert main(["list"]) == 5
    assert capsys.readouterr() == ("", "benchmark: no job can run here\n")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("run --methods mss", ["no method 'mss'", "Did you mean 'ms'"]),
        ("run --methods ms --datasets emoij", ["no dataset 'emoij'", "'emoji'"]),
        ("run --methods ms --trunks tinny", ["no trunk 'tinny'", "'tiny'"]),
        ("run --methods ms --recipes adm", ["no recipe 'adm'", "'adam'"]),
        ("run --protocol qick", ["no protocol 'qick'", "'quick'"]),
        ("run --trails 3", ["unknown argument '--trails'", "'--trials'"]),
        ("run --seeds none", ["--seeds", "whole number"]),
        ("run --seeds 0", ["--seeds", "at least 1"]),
        ("run --methods ,", ["--methods", "names with commas"]),
        ("run --device cuda:99", ["cuda:99", "not there"]),
        ("run --device tpu", ["'tpu'", "expected auto, cpu, cuda"]),
        ("run --mps --device cpu", ["--mps", "share a GPU", "leave it out"]),
        ("plan --mps --engine ray", ["--mps", "--engine ray", "leave it out"]),
        ("run --plugin /nowhere/mine.py", ["/nowhere/mine.py", "no such file"]),
        ("rum", ["rum", "run"]),
        ("list methds", ["methds", "methods"]),
        ("tables", ["no study in", "--out"]),
        ("check no_such", ["no method or trunk 'no_such'"]),
    ],
)
def test_one_line_with_what_to_do(words, parts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("benchmark: ")
    assert printed.err.count("\n") == 1
    for part in parts:
        assert part in printed.err
    assert list(tmp_path.iterdir()) == [], "nothing was started"


def test_a_plugin_that_does_not_import_names_file_and_reason(capsys, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import no_such_package_at_all\n")
    out = tmp_path / "out"
    assert main(f"run --methods broken --plugin {path} --out {out}".split()) == 2
    message = capsys.readouterr().err
    assert "broken.py" in message
    assert "no_such_package_at_all" in message
    assert not out.exists()


def test_an_unwritable_folder_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    words = f"run --protocol toy --methods ms --out {tmp_path / 'file' / 'out'}"
    assert main(words.split()) == 2
    assert "cannot" in capsys.readouterr().err


def test_a_full_disk_is_noticed_before_any_work(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "MIN_FREE_BYTES", 1 << 60)
    assert main(f"run --protocol toy --methods ms --out {tmp_path / 'out'}".split()) == 2
    assert "MB free" in capsys.readouterr().err
    assert not (tmp_path / "out" / "records").exists()


def test_weights_of_another_network_are_refused_before_any_work(capsys, tmp_path):
    torch.save({"some.weight": torch.zeros(2)}, tmp_path / "other.pt")
    words = f"--protocol toy --trunks mobilenet_v2 --weights {tmp_path / 'other.pt'} --methods ms"
    for command in ("run", "plan"):
        assert main(f"{command} {words} --out {tmp_path / 'out'}".split()) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "other.pt do not fit" in line
    assert not (tmp_path / "out" / "records").exists()


def test_a_second_coordinator_is_refused(capsys, tmp_path):
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(f"run --protocol toy --methods ms --out {tmp_path}".split()) == 2
    assert "another run is at work" in capsys.readouterr().err
    assert not (tmp_path / "records").exists()


def tree(folder):
    """Return all below ``folder``, and when each was last written."""
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_a_plan_says_what_and_how_long_and_writes_nothing(capsys, tmp_path, monkeypatch):
    """Neither here, nor in the output folder, the data, beside a plugin or among what is kept."""
    monkeypatch.chdir(tmp_path)
    images = load("dataset", "toy").load(None).images
    for number in range(48):
        path = tmp_path / "photos" / f"class {number // 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.read(number)).save(path)
    assert main(["data", "prepare", "folder:photos", "--root", "data"]) == 0
    for place in ("out", "tmp"):
        (tmp_path / place).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "mine.py").write_text(PLUGIN)
    words = "plan --protocol toy --plugin mine.py --methods mine --seeds 3 --out out --root data"
    before = tree(tmp_path)
    assert main([*words.split(), "--datasets", "folder:photos"]) == 0
    after = tree(tmp_path)
    del before[tmp_path / "tmp"], after[tmp_path / "tmp"]  # what is written there is gone again
    assert after == before
    printed = capsys.readouterr().out
    assert "at most" in printed
    assert "changed from protocol toy: seeds = 3" in printed


def test_lists_name_everything_that_ships(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in ("triplet_hard", "emoji", "tiny", "adam", "quick"):
        assert name in printed


def test_help_answers_without_torch():
    code = (
        "import sys, contextlib, io\n"
        "from benchmark.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main(['run', '--help'])\n"
        "sys.exit(bool({'torch', 'pandas', 'optuna', 'mlflow', 'numpy'} & set(sys.modules)))"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == 0, "help imports something heavy"
    assert time.perf_counter() - started < 5


def test_new_method_writes_a_plugin_that_passes(capsys, tmp_path):
    assert main(f"new-method fresh_idea --folder {tmp_path}".split()) == 0
    assert main(f"check {tmp_path / 'fresh_idea.py'}".split()) == 0
    assert "22 of 22 checks passed" in capsys.readouterr().out
    test = tmp_path / "test_fresh_idea.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert main(f"new-method fresh_idea --folder {tmp_path}".split()) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("class", "a word of Python's own"),
        ("match", "a word of Python's own"),
        ("nan", "spreadsheets read it"),
        ("torch", "a package of that name is installed"),
        ("json", "a package of that name is installed"),
        ("benchmark", "a package of that name is installed"),
    ],
)
def test_new_method_refuses_names_that_break_what_it_prints_next(name, said, capsys, tmp_path):
    assert main(["new-method", name, "--folder", str(tmp_path / "new")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_new_method_says_where_it_cannot_write(capsys, tmp_path):
    (tmp_path / "taken").write_text("")
    assert main(["new-method", "fresh_idea", "--folder", str(tmp_path / "taken")]) == 2
    assert f"cannot write {tmp_path / 'taken' / 'fresh_idea.py'}" in capsys.readouterr().err


def test_a_method_that_shall_ship_has_its_test_with_the_others(capsys, tmp_path, monkeypatch):
    """CONTRIBUTING's first command, in a checkout of which two folders lie elsewhere."""
    shipped, tests = tmp_path / "protocols" / "methods", tmp_path / "tests" / "methods"
    shipped.mkdir(parents=True)
    tests.mkdir(parents=True)
    monkeypatch.setattr(methods, "_SHIPPED", shipped)
    monkeypatch.setattr(methods, "_TESTS", tests)
    monkeypatch.chdir(tmp_path)
    assert main(["new-method", "fresh_idea", "--folder", "protocols/methods"]) == 0
    printed = capsys.readouterr().out
    assert "run --methods fresh_idea,triplet" in printed
    assert [p.name for p in shipped.iterdir()] == ["fresh_idea.py"]
    aside = f"import protocols.methods\nprotocols.methods.__path__.append({str(shipped)!r})\n"
    (tests / "conftest.py").write_text(aside)
    (tested,) = [line for line in printed.splitlines() if line.startswith("test it")]
    words = [sys.executable, "-m", *tested.split("python -m ")[1].split()]
    assert words[-1] == "tests/methods/test_fresh_idea.py"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [*words, "-q", "-p", "no:cacheprovider"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    # by its name: as a plugin the file would be refused, for it bears a shipped one's name
    assert "check it    python -m benchmark check fresh_idea\n" in printed
    # a paper without an entry in references.bib would fail the next run of the tests
    assert 'paper = ""' in (shipped / "fresh_idea.py").read_text()


def test_check_names_what_a_broken_method_breaks(capsys, tmp_path):
    path = tmp_path / "dead.py"
    path.write_text(
        '"""dead."""\n'
        "from protocols.method import Method, Term\n"
        "from protocols.space import Real\n\n\n"
        "class Dead(Method):\n"
        '    """Has a setting that does nothing."""\n\n'
        "    unused = Real(0.0, 1.0, default=0.5)\n\n"
        "    def make_terms(self, spec):\n"
        "        return [Term(lambda z, y: z.square().mean())]\n"
    )
    assert main(["check", str(path)]) == 3
    assert "hyperparameter unused changes nothing" in capsys.readouterr().out


def test_the_next_command_keeps_the_rules(capsys, tmp_path):
    out = tmp_path / "a folder"
    words = ["run", "--protocol", "toy", "--methods", "ms", "--trials", "1", "--seeds", "1"]
    assert main([*words, "--out", str(out)]) == 0
    line = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("next"))
    following = shlex.split(line.removeprefix("next     python -m benchmark "))
    assert main([*following, "--dry-run"]) == 0
    assert "holds a study under other rules" not in capsys.readouterr().err
