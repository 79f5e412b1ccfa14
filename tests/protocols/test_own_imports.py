"""A plugin is one file: what it is made of is the code that its row is known by."""

import sys

import pytest

from protocols.discovery import Registry
from protocols.errors import PluginError
from protocols.own_imports import check_alone

LOSS = '''"""A loss."""
{line}
from protocols.methods.ms import Ms


class Own(Ms):
    """A variant."""
'''
FINE = (
    "import math, numpy.linalg",
    "import torch.nn as nn",
    "from protocols.method import Term",
    "from benchmark.api import run",
    "import pytorch_metric_learning",
    "import sys, builtins, __main__",
    "import that_is_not_there",
    "from __future__ import annotations",
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on Python's path with a loss, a package and a folder without code of its own."""
    (tmp_path / "fence_of_mine.py").write_text("FACTOR = 1\n")
    (tmp_path / "lab_of_mine").mkdir()
    (tmp_path / "lab_of_mine" / "__init__.py").write_text("")
    (tmp_path / "bare_of_mine").mkdir()
    (tmp_path / "bare_of_mine" / "part.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def plugin(folder, line, name="own.py"):
    path = folder / name
    path.write_text(LOSS.format(line=line))
    return path


@pytest.mark.parametrize("line", FINE)
def test_python_what_ships_and_what_is_installed_may_be_imported(folder, line):
    check_alone(plugin(folder, line))


@pytest.mark.parametrize(
    ("line", "name", "file"),
    [
        ("from fence_of_mine import FACTOR", "fence_of_mine", "fence_of_mine.py"),
        ("import math, fence_of_mine as f", "fence_of_mine", "fence_of_mine.py"),
        ("import lab_of_mine.losses", "lab_of_mine", "lab_of_mine/__init__.py"),
        ("from bare_of_mine.part import x", "bare_of_mine", "bare_of_mine"),
        ("def f():\n    import fence_of_mine", "fence_of_mine", "fence_of_mine.py"),
    ],
)
def test_files_of_ones_own_are_refused_by_name(folder, line, name, file):
    with pytest.raises(PluginError, match="a change there would go unseen") as caught:
        check_alone(plugin(folder, line))
    place = line[: line.index("import")].count("\n") + 2
    assert f"imports {name} in line {place}, which is {folder / file}" in str(caught.value)


def test_an_installed_package_of_ones_own_may_be_imported(folder):
    info = folder / "lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("lab_of_mine\n")
    check_alone(plugin(folder, "import lab_of_mine"))


def test_a_relative_import_is_told_that_a_plugin_is_one_file(folder):
    with pytest.raises(PluginError, match="relative import in line 2: a plugin is one file"):
        check_alone(plugin(folder, "from . import helper"))


def test_loading_a_plugin_runs_nothing_of_one_that_imports_another(folder):
    path = plugin(folder, "from fence_of_mine import FACTOR")
    with pytest.raises(PluginError, match="fence_of_mine"):
        Registry((path,)).load("method", "own")
    assert "fence_of_mine" not in sys.modules
    path.write_text("class Own(:\n")
    with pytest.raises(PluginError, match="does not import: SyntaxError"):
        Registry((path,)).load("method", "own")
