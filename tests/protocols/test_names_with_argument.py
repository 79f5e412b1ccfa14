"""Names that stand for many: timm:NAME, folder:PATH."""

import shutil
import sys
from pathlib import Path

import pytest

from protocols import discovery
from protocols.discovery import Registry, split_name
from protocols.errors import InvalidInputError, PluginError, UnknownNameError
from tests.protocols.trunks.networks import forget

MANY = '''"""Many of them, for tests."""

from pathlib import Path

ARGUMENT = "NUMBER"


def build(weights=None, argument=""):
    return weights, argument


def load(root=None, argument=""):
    return root, argument


def digest(root):
    return root
'''


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Install a module that stands for many trunks and many datasets."""
    (tmp_path / "many_things.py").write_text(MANY)
    info = tmp_path / "many-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: many\nVersion: 1.0\n")
    points = [f"[dml_benchmark.{kind}s]\nmany = many_things" for kind in ("trunk", "dataset")]
    (info / "entry_points.txt").write_text("\n".join(points))
    monkeypatch.syspath_prepend(tmp_path)
    yield Registry()
    forget("many_things")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("tiny", ("tiny", None)),
        ("timm:resnet18", ("timm", "resnet18")),
        ("folder:C:/birds", ("folder", "C:/birds")),
        ("timm:", ("timm", "")),
    ],
)
def test_split_name(name, parts):
    assert split_name(name) == parts


def test_argument_reaches_the_functions_that_take_it(many):
    trunk = many.load("trunk", "many:7")
    assert trunk.build() == (None, "7")
    assert trunk.build("w") == ("w", "7")
    assert trunk.ARGUMENT == "NUMBER"
    dataset = many.load("dataset", "many:C:/birds and bees")
    assert dataset.load() == (None, "C:/birds and bees")
    assert dataset.load(Path("r")) == (Path("r"), "C:/birds and bees")
    assert dataset.digest("r") == "r"


def test_a_name_with_an_argument_is_listed_as_it_is_asked_for(many):
    assert "many" in many.names("trunk")
    assert many.usage("trunk", "many") == many.usage("trunk", "many:7") == "many:NUMBER"
    assert many.usage("trunk", "tiny") == "tiny"
    assert many.usage("method", "ms") == "ms"
    assert "many_things" not in sys.modules


def test_summary_source_and_digest_do_not_depend_on_the_argument(many):
    for ask in (many.summary, many.source, many.code_digest):
        assert ask("trunk", "many") == ask("trunk", "many:7") == ask("dataset", "many:8")
    assert many.summary("trunk", "many:7") == "Many of them, for tests."
    assert "many_things" not in sys.modules


@pytest.mark.parametrize("name", ["many", "many:"])
def test_a_missing_argument_is_asked_for(many, name):
    for ask in (many.check, many.load, many.module):
        with pytest.raises(InvalidInputError, match=rf"'{name}'.*many:NUMBER.*Many of them"):
            ask("trunk", name)


def test_an_argument_too_many_is_refused(many):
    for ask in (many.check, many.load, many.module):
        with pytest.raises(InvalidInputError, match="'tiny' takes no argument, met 'tiny:7'"):
            ask("trunk", "tiny:7")
    many.check("trunk", "many:7")


def test_unknown_names_with_an_argument_get_suggestions():
    with pytest.raises(UnknownNameError, match=r"no trunk 'tim'.*Did you mean 'timm'"):
        Registry().check("trunk", "tim:resnet18")
    with pytest.raises(UnknownNameError, match=r"no method 'ms:3'.*Did you mean 'ms'"):
        Registry().check("method", "ms:3")


def test_a_broken_module_is_reported_by_its_import(many, tmp_path):
    (tmp_path / "many_things.py").write_text("ARGUMENT = (\n")
    many.check("trunk", "many")
    with pytest.raises(PluginError, match=r"'many'.*SyntaxError"):
        many.load("trunk", "many")


@pytest.mark.parametrize(
    ("file", "old", "new", "moves"),
    [
        ("_densenet.py", "relu(super", "abs(super", True),
        ("_torchvision.py", "trunk.pretrained = True", "trunk.pretrained = False", True),
        ("_densenet.py", '    """Huang et al', '    """Gao Huang et al', False),
        ("resnet50.py", "def build(", "def built(", False),
    ],
)
def test_digest_covers_the_private_neighbours(tmp_path, monkeypatch, file, old, new, moves):
    before = Registry().code_digest("trunk", "densenet121")
    shutil.copytree(discovery._ROOT / "trunks", tmp_path / "trunks")
    text = (tmp_path / "trunks" / file).read_text()
    assert text.count(old) == 1
    (tmp_path / "trunks" / file).write_text(text.replace(old, new))
    monkeypatch.setattr(discovery, "_ROOT", tmp_path)
    assert (Registry().code_digest("trunk", "densenet121") != before) == moves
