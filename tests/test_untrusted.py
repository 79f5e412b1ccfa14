"""What comes from outside is data: nothing in it is ever run."""

import ast
import contextlib
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.cli import main, make_parser

ROOT = Path(__file__).parent.parent
FILES = [
    p for package in ("protocols", "benchmark") for p in sorted((ROOT / package).rglob("*.py"))
]
RUNS_DATA = {"pickle", "cPickle", "dill", "shelve", "marshal", "joblib", "cloudpickle", "yaml"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}


def calls(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: k.value for k in node.keywords}, node


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_read_is_run(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.partition(".")[0] for name in names} & RUNS_DATA, f"{path}: {names}"
    for name, words, node in calls(path):
        where = f"{path}:{node.lineno}: {name}"
        assert name not in RUNS_TEXT, where
        assert name not in ("os.system", "os.popen"), where
        shell = words.get("shell")
        assert shell is None or ast.literal_eval(shell) is False, where
        if name in ("np.load", "numpy.load"):
            pickled = words.get("allow_pickle")
            assert pickled is None or ast.literal_eval(pickled) is False, where
        if name in ("torch.load", "load_state_dict_from_url"):
            assert ast.literal_eval(words.get("weights_only", "False")) is True, where
        assert not name.endswith("read_pickle"), where
        if name.endswith(".extractall"):  # names outside the folder, links, devices
            assert ast.literal_eval(words.get("filter", "None")) == "data", where
        if name.endswith("Environment"):
            assert ast.literal_eval(words["autoescape"]) is True, where


def test_the_check_above_sees_what_it_shall(tmp_path):
    for text in (
        "import pickle",
        "eval(x)",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "subprocess.run(x, shell=True)",
        "archive.extractall(here)",
    ):
        path = tmp_path / "bad.py"
        path.write_text(text)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            test_nothing_read_is_run(path)


def test_servers_listen_on_loopback_unless_told_otherwise():
    assert make_parser().parse_args(["ui"]).host == "127.0.0.1"
    assert make_parser().parse_args(["ui", "--host", "0.0.0.0"]).host == "0.0.0.0"


def test_the_docs_say_that_a_plugin_is_code():
    assert "A plugin is code" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


junk = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
OPTIONS = ("--protocol", "--methods", "--datasets", "--trunks", "--recipes", "--seeds", "--trials")
OPTIONS += ("--jobs", "--device", "--engine", "--gpus-per-job", "--weights", "--params", "--root")
options = st.sampled_from((*OPTIONS, "--plugin", "--format"))
commands = st.sampled_from(["run", "plan", "tables", "report", "check", "data", "list", "xyz"])


@given(commands, st.lists(st.tuples(options, junk), max_size=3))
def test_no_command_line_gives_a_traceback(tmp_path_factory, command, given_options):
    """Junk is one line and exit code 2; nothing is trained on the way."""
    words = [w for pair in given_options for w in pair]
    out = tmp_path_factory.mktemp("out")
    err = io.StringIO()
    extra = ["--protocol", "no such protocol"] if command in ("run", "plan") else []
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = main([command, *words, *extra, "--out", str(out)])
    assert code == 2
    assert len(err.getvalue().strip().splitlines()) == 1
    assert not list(out.iterdir())
