"""Code that is edited while a study runs: told from a changed comment, and from half a file."""

import time

import pytest

from benchmark.study.folder import CellKey
from benchmark.training.job import Job, execute
from benchmark.training.same_code import check_code
from protocols.discovery import Registry, load
from protocols.errors import PluginError

CODE = '''"""mine: triplet loss by another name."""

from protocols.methods.triplet import Triplet


class Mine(Triplet):
    """As it is."""

    joined = "embedding"
'''


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def codes_of(plugin):
    registry = Registry((plugin,))
    named = (("method", "mine"), ("trunk", "tiny"))
    return tuple((kind, name, registry.code_digest(kind, name)) for kind, name in named)


def test_what_moves_no_digest_goes_on(plugin):
    codes = codes_of(plugin)
    check_code(codes, (plugin,))
    plugin.write_text(CODE.replace('"""As it is."""', '"""As it was."""') + "\n# a comment\n")
    check_code(codes, (plugin,))


@pytest.mark.parametrize("text", [CODE.replace("embedding", "other"), CODE + "\ndef half("])
def test_an_edit_ends_the_job_before_it_begins_and_undone_it_goes_on(plugin, text):
    cell = CellKey("id", "toy", "tiny", "adam", "mine", "mine")
    protocol, recipe = load("protocol", "toy"), load("recipe", "adam")
    where = (cell, protocol, recipe, "search", 0, 0, {}, None, "cpu", (plugin,))
    codes = codes_of(plugin)
    plugin.write_text(text)
    with pytest.raises(PluginError, match="method 'mine' was edited since this study began"):
        execute(Job(*where, codes=codes))
    plugin.write_text(CODE)
    check_code(codes, (plugin,))


def test_asking_again_costs_a_job_next_to_nothing(plugin):
    codes = codes_of(plugin)
    check_code(codes, (plugin,))
    began = time.process_time()
    for _ in range(10):
        check_code(codes, (plugin,))
    assert time.process_time() - began < 1.0  # 0.05 s alone
