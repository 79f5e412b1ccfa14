"""What is printed reaches any stream in some form, and no stream ends a command."""

import ast
import io
import os
import pty
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmark import streams
from benchmark.cli import main
from benchmark.tables.formats import _LETTERS
from protocols.names import _LOOKALIKES
from tests.drawing import modules

ROOT = Path(__file__).parents[2]
# Letters of authors in the report, and those that names are compared by: neither is printed.
_READ = {*"ř", *"".join(_LOOKALIKES.values())}
FORCED = {name: "1" for name in (*streams.FORCING, *streams.FORCING_BY_1)}


@pytest.fixture
def into(tmp_path):
    """A function that returns a stream in an encoding to a new file in ``tmp_path``."""
    with ExitStack() as files:
        yield lambda name, encoding: streams.stream_to(
            files.enter_context((tmp_path / name).open("wb")).fileno(), encoding
        )


@pytest.fixture
def heard(tmp_path, monkeypatch, into):
    """A function that runs a command on streams of an encoding and returns code and bytes."""

    def hear(encoding, *words):
        out, err = into("out.txt", encoding), into("err.txt", encoding)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = main(words)
            out.flush()
            err.flush()
        return code, (tmp_path / "out.txt").read_bytes(), (tmp_path / "err.txt").read_bytes()

    return hear


COMMANDS = {
    "help": [],
    "list": ["list"],
    "datasets": ["data", "list"],
    "plan": ["plan", "--protocol", "toy", "--methods", "triplet,ms", "--out", "STUDY"],
    "detect": ["plan", "--protocol", "toy", "--detect", "1", "--out", "STUDY"],
    "tables": ["tables", "--out", "STUDY"],
    "report": ["report", "--out", "STUDY"],
    "published": ["reproduce", "--table", "published", "--methods", "triplet"],
    "paper": ["reproduce", "--table", "best-hyperparameters", "--dataset", "cub200"],
    "beside": ["reproduce", "--dataset", "cub200", "--out", "STUDY"],
    "check": ["check", "ms"],
    "new": ["new-method", "fresh_idea", "--folder", "NEW"],
    "verify": ["verify", "RESULTS"],
    "submit": ["submit", "STUDY", "--results", "NEW"],
    "again": ["run", "--protocol", "toy", "--methods", "triplet,ms", "--out", "STUDY"],
    "unknown": ["run", "--methods", "größe\udcff", "--out", "NEW"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_every_command_prints_in_every_encoding(heard, toy_study, results, tmp_path, words):
    code = {}
    for encoding in ("utf-8", "ascii", "latin-1"):
        places = {"STUDY": toy_study, "RESULTS": results, "NEW": tmp_path / encoding}
        code[encoding], *said = heard(encoding, *(str(places.get(w, w)) for w in words))
        assert any(said)
        for text in said:
            text.decode(encoding)  # raises where it was not written so
            assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", text)
    assert len(set(code.values())) == 1, code
    assert code["ascii"] in (0, 2)


def test_every_sign_that_the_program_prints_has_a_plain_form():
    unknown = {}
    for name, path in modules("benchmark", "protocols").items():
        if name.endswith(".build"):  # makes a dataset, once; no command
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        about = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                signs = {c for c in node.value if c.isprintable() and not c.isascii()}
                signs -= {*streams.PLAIN, *_LETTERS, *_READ}
                if signs and id(node) not in about:
                    unknown[name] = signs
    assert unknown == {}


@pytest.mark.parametrize(
    ("text", "ascii_form"),
    [
        ("54.1 ± 1.2 ▲", "54.1 +-1.2 ^"),
        ("± none", "+- none"),
        ("toy · tiny – …", "toy * tiny - ..."),
        ("größe 中 😀", r"gr\xf6\xdfe \u4e2d \U0001f600"),
        ("name \udcff", r"name \xff"),
        ("\ud800", r"\ud800"),
    ],
)
def test_signs_in_plain(tmp_path, into, text, ascii_form):
    stream = into("out", "ascii")
    assert stream.write(text + "\n") == len(text) + 1
    assert (tmp_path / "out").read_text("ascii") == ascii_form + "\n"


def test_what_an_encoding_has_is_kept(tmp_path, into):
    stream = into("out", "latin-1")
    stream.write("größe ± 1 · ▼\n")
    assert (tmp_path / "out").read_text("latin-1") == "größe ± 1 · v\n"


def test_nothing_steers_what_is_no_terminal(tmp_path, into):
    stream = into("out", "utf-8")
    stream.write("a\rb\x1b[31mc\x9bd\te\n")
    assert (tmp_path / "out").read_text("utf-8") == r"a\rb\x1b[31mc\x9bd" + "\te\n"


def test_a_full_device_takes_everything():
    with open("/dev/full", "wb") as full:
        stream = streams.stream_to(full.fileno(), "utf-8")
        for _ in range(3):
            print("x" * 100_000, file=stream, flush=True)
        stream.flush()


def test_a_pipe_whose_reader_has_gone_takes_everything():
    reader, writer = os.pipe()
    os.close(reader)
    stream = streams.stream_to(writer, "utf-8")
    print("x" * 100_000, file=stream, flush=True)
    os.close(writer)


def test_a_pipe_that_does_not_block_loses_nothing():
    """Another program may have set that on a shared pipe; a write then takes a part or nothing."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    text = "".join(f"{n}\n" for n in range(60_000))  # more than a pipe holds
    child = subprocess.Popen([sys.executable, "-c", READ_SLOWLY], stdin=reader, stdout=-1)
    os.close(reader)
    stream = streams.stream_to(writer, "ascii")
    stream.write(text)
    stream.flush()
    os.close(writer)
    assert child.communicate(timeout=60)[0].decode() == text


READ_SLOWLY = "import sys, time; time.sleep(0.2); sys.stdout.write(sys.stdin.read())"


def entry(redirection, *words, **environment):
    """Run a command as a shell starts it, with a redirection; return its end and its output."""
    line = f'"$@" {redirection}'
    return subprocess.run(
        ["bash", "-c", line, "_", sys.executable, "-m", "benchmark", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "redirection",
    [
        ">/dev/full",
        ">/dev/full 2>&1",
        ">&-",
        "2>&-",
        "<&- >&- 2>&-",
        "| head -c 1; exit ${PIPESTATUS[0]}",
    ],
)
@pytest.mark.parametrize(("name", "code"), [("recipes", 0), ("recipe", 2)])
def test_no_stream_changes_the_exit_code(redirection, name, code):
    done = entry(redirection, "list", name)
    assert done.returncode == code
    assert b"Error" not in done.stderr
    assert b"Exception" not in done.stderr


def test_a_closed_stream_is_not_what_a_file_gets(tmp_path):
    """The first file to be opened would be standard output, and take what is printed."""
    done = entry(">&-", "new-method", "fresh_idea", "--folder", str(tmp_path))
    assert done.returncode == 0
    made = sorted(tmp_path.iterdir())
    assert [path.name for path in made] == ["fresh_idea.py", "test_fresh_idea.py"]
    for path in made:
        assert "wrote" not in path.read_text()


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
def test_a_poor_locale_ends_nothing(environment):
    done = entry("", "data", "list", **environment)
    assert done.returncode == 0
    assert done.stderr == b""


@pytest.mark.parametrize("shape", [{}, {"COLUMNS": "0"}, {"COLUMNS": "20"}, {"TERM": "dumb"}])
def test_no_variable_colours_a_pipe(shape):
    done = entry("", "list", "recipes", **FORCED, **shape)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert b"\r" not in done.stdout


def test_a_terminal_keeps_its_colours():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    words = [sys.executable, "-m", "benchmark", "list", "recipes"]
    subprocess.run(words, env=environment, stdout=theirs, cwd=ROOT, check=True, timeout=60)
    os.close(theirs)
    assert b"\x1b[" in os.read(ours, 10_000)
    os.close(ours)


def test_pythons_own_streams_would_end_it():
    """The cases above are ones: without :func:`streams.stream_to` they raise."""
    with pytest.raises(UnicodeEncodeError):
        io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True).write("±")
    with pytest.raises(OSError, match="No space"), open("/dev/full", "w") as full:
        print("x", file=full)
