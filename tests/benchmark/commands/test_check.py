"""``check`` on methods that meddle with their process, or try to end it."""

import re
import subprocess
import sys

import pytest
from rich.console import Console

from benchmark.commands.check import _conditions, _say
from benchmark.commands.row_names import unfit
from protocols.discovery import Registry, load
from protocols.method import Method
from protocols.space import Real
from tests.running import ROOT

METHOD = '''"""A method."""
import random, sys
import torch
from torch.nn.functional import normalize
from protocols.method import Method, Term
{at_import}

class Mine(Method):
    """A test method."""
    def make_terms(self, spec):
        return [Term(self.loss)]
    def loss(self, embeddings, labels):
        {in_method}
        z = normalize(embeddings)
        return (z @ z.T - (labels[:, None] == labels).float()).square().mean()
'''
CODE = "from benchmark.cli import main; import sys; sys.exit(main(['check', sys.argv[1]]))"


def checked(path, at_import, in_method):
    path.write_text(METHOD.format(at_import=at_import, in_method=in_method))
    return subprocess.run(
        [sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, cwd=ROOT
    )


def test_a_method_that_meddles_or_ends_the_process_fails_by_name(tmp_path):
    done = checked(
        tmp_path / "mine.py",
        at_import="torch.set_default_dtype(torch.float64)",
        in_method="sys.setrecursionlimit(900); sys.exit(0)",
    )
    assert done.returncode == 3, done.stderr
    assert "SystemExit: 0" in done.stdout
    _, found, said = done.stdout.partition("fails  It leaves its process as it found it.")
    assert found
    assert "Python's limits, torch's default type" in " ".join(said.split())
    assert said.endswith("checks passed\n")


@pytest.mark.parametrize("name", ["myLoss", "my.loss", "-mine", "ünse", "a" * 65])
def test_names_that_no_row_may_have_are_told_before_a_study(name):
    assert f"no row of results/ can be called {name!r}" in unfit(name)
    assert unfit("my_loss-2") == ""


def test_every_name_that_ships_is_a_name():
    registry = Registry()
    for kind in ("method", "dataset", "trunk", "recipe", "protocol"):
        for name in registry.names(kind):
            if registry.usage(kind, name) == name:
                registry.check(kind, name)
            if kind == "method":
                assert unfit(name) == ""


def test_what_a_check_met_is_told_with_the_line_of_the_method(tmp_path):
    path = tmp_path / "mine.py"
    done = checked(path, at_import="", in_method="assert len(labels) < 2")
    line = path.read_text().splitlines().index("        assert len(labels) < 2") + 1
    assert done.returncode == 3, done.stderr
    assert f"AssertionError:  (mine.py:{line})" in done.stdout


def test_what_is_no_list_of_terms_is_told_with_the_line_of_make_terms(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(METHOD.format(at_import="", in_method="").replace("[Term(self.loss)]", "None"))
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, cwd=ROOT
    )
    assert "Mine.make_terms (mine.py:10) gave None" in " ".join(done.stdout.split())


def test_one_mistake_is_told_once_however_many_claims_it_fails(tmp_path):
    done = checked(tmp_path / "mine.py", at_import="", in_method="self.margn")
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("no attribute 'margn'") == 1
    fails = done.stdout.count("fails  ")
    assert fails > 5
    assert done.stdout.count("      as above\n") == fails - 1


def test_of_two_mistakes_in_turn_the_claim_above_is_named(capsys):
    console, first = Console(width=100), {}
    for claim, wrong in (("One.", "a"), ("Two.", "b"), ("Three.", "a"), ("Four.", "a")):
        assert not _say(console, claim, wrong, first)
    assert _say(console, "Five.", "", first)
    assert capsys.readouterr().out.split("\n")[1:-2:2] == [
        "      a",
        "      b",
        "      as above, under: One.",
        "      as above",
    ]


@pytest.mark.parametrize(
    ("taught", "kept", "refused"),
    [
        (True, "trained", True),
        (False, "trained", False),
        (True, "frozen", False),
    ],
)
def test_a_recipe_under_which_run_will_refuse_it_is_told(taught, kept, refused):
    """Who keeps every claim would else meet it only when a study starts."""

    class Mine(Method):
        """A test method."""

        trunk = kept
        share = Real(0.0, 0.9, default=0.5)

        def make_terms(self, spec):
            self.teacher = self.share if taught else None
            return []

    said = _conditions(Mine)
    assert bool(said) == refused
    for line in said:
        live, named = re.search(r"live \((.*)\)\. Add --recipes (\w+)$", line).groups()
        for name in live.split(", "):
            assert load("recipe", name).batch_norm == "live"
        assert "adam" in live.split(", ")
        assert load("recipe", named).batch_norm == "frozen_stats"
