"""Names to objects: listing never runs code, a broken plugin breaks only itself."""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cli import main
from protocols import discovery
from protocols.discovery import KINDS, Registry, load
from protocols.errors import PluginError, UnknownNameError
from protocols.method import Method
from protocols.narrowing import space_under
from protocols.recipe import Recipe

GOOD = '''"""Mean of all values, for tests."""

from protocols.method import Method, Term


class Mine(Method):
    """Docstring."""

    def make_terms(self, spec):
        # a comment
        return [Term(lambda z, labels: z.mean())]
'''
BROKEN = {
    "raises": ("raise RuntimeError('half written')\n", "RuntimeError: half written"),
    "imports": ("import no_such_package_anywhere\n", "no_such_package_anywhere"),
    "syntax": ("class Mine(:\n", "SyntaxError"),
}


@pytest.fixture(autouse=True)
def _forget_plugins():
    """Plugins are imported under names of their own; leave none behind."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("dml_plugin_"):
            del sys.modules[name]


def plugin(folder: Path, name: str, text: str = GOOD) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    return path


def installed(folder: Path, kind: str, name: str, module: str) -> None:
    """Lay out an installed distribution with one entry point, as pip leaves it."""
    info = folder / f"{name}_dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[dml_benchmark.{kind}s]\n{name} = {module}\n")


# What ships.


def test_shipped_methods_are_the_files_of_the_folder():
    names = Registry().names("method")
    assert names == sorted(names)
    assert {"contrastive", "group", "ms", "ms_miner", "triplet", "triplet_hard"} <= set(names)
    assert not [name for name in names if name.startswith("_")]


@pytest.mark.parametrize("kind", ["method", "recipe", "protocol"])
def test_everything_shipped_loads(kind):
    registry = Registry()
    for name in registry.names(kind):
        found = registry.load(kind, name)
        assert issubclass(found, Method) if kind == "method" else found.name == name


def test_trunks_and_datasets_load_as_modules():
    assert load("trunk", "tiny").build().channels == load("trunk", "tiny").Tiny.channels
    assert callable(load("dataset", "toy").load)
    assert isinstance(load("recipe", "adam"), Recipe)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_shipped_has_a_one_line_summary(kind):
    registry = Registry()
    for name in registry.names(kind):
        line = registry.summary(kind, name)
        assert line.endswith((".", ":"))
        assert "\n" not in line


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_name_is_refused_with_what_is_known(kind):
    registry = Registry()
    known = registry.names(kind)[0]
    for ask in (registry.check, registry.load, registry.source, registry.code_digest):
        with pytest.raises(UnknownNameError, match=rf"no {kind} '{known}x'.*Did you mean.*{known}"):
            ask(kind, known + "x")


def test_listing_needs_no_torch():
    code = (
        "import sys; from protocols.discovery import KINDS, Registry; r = Registry()\n"
        "for k in KINDS: [(r.summary(k, n), r.code_digest(k, n)) for n in r.names(k)]\n"
        "print('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


# Plugin files.


def test_plugin_is_a_method_under_the_name_of_its_file(tmp_path):
    registry = Registry((plugin(tmp_path, "mine"),))
    assert "mine" in registry.names("method")
    assert "mine" not in registry.names("trunk")
    method = registry.load("method", "mine")
    assert method.__name__ == "Mine"
    assert issubclass(method, Method)
    assert registry.source("method", "mine") == tmp_path / "mine.py"
    assert registry.summary("method", "mine") == "Mean of all values, for tests."
    assert "mine" not in Registry().names("method")


def test_listing_describing_and_digesting_never_run_a_plugin(tmp_path):
    text = f'"""Says so."""\nopen({str(tmp_path / "ran")!r}, "w").close()\n' + GOOD
    registry = Registry((plugin(tmp_path, "noisy", text),))
    registry.names("method")
    assert registry.summary("method", "noisy") == "Says so."
    registry.code_digest("method", "noisy")
    assert not (tmp_path / "ran").exists()
    registry.load("method", "noisy")
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(("text", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_plugin_breaks_only_itself(tmp_path, text, reason):
    bad, good = plugin(tmp_path, "bad", text), plugin(tmp_path, "good")
    registry = Registry((bad, good))
    assert {"bad", "good", "triplet"} <= set(registry.names("method"))
    with pytest.raises(PluginError) as refusal:
        registry.load("method", "bad")
    assert reason in str(refusal.value)
    assert str(bad) in str(refusal.value)
    assert "'bad'" in str(refusal.value)
    for name in ("good", "triplet"):
        assert issubclass(registry.load("method", name), Method)
    assert all(registry.summary("method", name) for name in ("good", "triplet"))


def test_summary_of_a_file_that_does_not_parse_says_so_and_the_digest_refuses(tmp_path):
    registry = Registry((plugin(tmp_path, "bad", "class Mine(:\n"),))
    assert "does not parse" in registry.summary("method", "bad")
    with pytest.raises(PluginError, match=r"bad\.py.*does not parse"):
        registry.code_digest("method", "bad")


def test_summary_without_a_docstring_is_empty(tmp_path):
    registry = Registry((plugin(tmp_path, "bare", "x = 1\n"),))
    assert registry.summary("method", "bare") == ""


@pytest.mark.parametrize("kind", ["protocol", "recipe"])
def test_a_plugin_may_hold_a_protocol_or_a_recipe(tmp_path, kind):
    text = f'"""Mine."""\nopen({str(tmp_path / "ran")!r}, "w").close()\n{kind.upper()} = "rules"\n'
    registry = Registry((plugin(tmp_path, "mine", text),))
    assert "mine" in registry.names(kind)
    assert "mine" not in registry.names("method")
    assert registry.summary(kind, "mine") == "Mine."
    assert not (tmp_path / "ran").exists()
    assert registry.load(kind, "mine") == "rules"
    shipped = {"protocol": "quick", "recipe": "adam"}[kind]
    with pytest.raises(PluginError, match=f"a {kind} '{shipped}' exists already"):
        Registry((plugin(tmp_path, shipped, text),))


def test_plugin_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(PluginError, match=r"nowhere\.py.*no such file"):
        Registry((tmp_path / "nowhere.py",))
    with pytest.raises(PluginError, match="no such file"):
        Registry((tmp_path,))


def test_plugin_may_not_take_the_name_of_a_shipped_method(tmp_path):
    with pytest.raises(PluginError, match=r"'triplet' exists already; rename"):
        Registry((plugin(tmp_path, "triplet"),))


def test_two_plugins_may_not_share_a_name(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    with pytest.raises(PluginError, match="'mine' exists already"):
        Registry((plugin(tmp_path / "a", "mine"), plugin(tmp_path / "b", "mine")))


def test_file_with_two_methods_is_refused_and_says_which(tmp_path):
    text = GOOD + "\n\nclass Other(Mine):\n    pass\n"
    with pytest.raises(PluginError, match=r"expected one Method subclass.*Mine, Other"):
        Registry((plugin(tmp_path, "two", text),)).load("method", "two")


def test_file_without_a_method_is_refused(tmp_path):
    text = "from protocols.methods.triplet import Triplet\n"  # an import defines nothing
    with pytest.raises(PluginError, match=r"expected one Method subclass.*none"):
        Registry((plugin(tmp_path, "empty", text),)).load("method", "empty")


def test_underscored_and_imported_classes_do_not_count(tmp_path):
    text = GOOD.replace("Mine(Method)", "_Base(Method)") + "\n\nclass Mine(_Base):\n    pass\n"
    text = text.replace(
        "import Method, Term", "import Method, Term\nfrom protocols.methods.ms import *"
    )
    assert Registry((plugin(tmp_path, "based", text),)).load("method", "based").__name__ == "Mine"


# Installed plugins.


def test_installed_method_and_trunk_are_found_by_their_entry_points(tmp_path, monkeypatch):
    plugin(tmp_path, "acme_loss")
    (tmp_path / "acme_trunk.py").write_text('"""A trunk."""\nSIZE = 3\n')
    installed(tmp_path, "method", "acme", "acme_loss")
    installed(tmp_path, "trunk", "acme_net", "acme_trunk")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry()
    assert "acme" in registry.names("method")
    assert "acme_net" in registry.names("trunk")
    assert registry.summary("method", "acme") == "Mean of all values, for tests."
    assert "acme_loss" not in sys.modules
    assert registry.load("method", "acme").__name__ == "Mine"
    assert registry.load("trunk", "acme_net").SIZE == 3
    for module in ("acme_loss", "acme_trunk"):
        monkeypatch.delitem(sys.modules, module)


def test_an_entry_point_takes_no_shipped_ones_place_and_no_other_packages(
    tmp_path, monkeypatch, capsys
):
    plugin(tmp_path, "acme_loss")
    plugin(tmp_path, "other_loss")
    installed(tmp_path, "method", "circle", "acme_loss")
    installed(tmp_path, "method", "acme", "acme_loss")
    installed(tmp_path, "method", "other", "other_loss")
    points = tmp_path / "other_dist-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text().replace("other =", "acme ="))
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry()
    with pytest.raises(PluginError, match="'circle': the name of acme_loss of circle-dist, and of"):
        registry.load("method", "circle")
    with pytest.raises(PluginError, match=r"'acme': the name of (acme|other)_loss of .* and of"):
        registry.load("method", "acme")
    assert registry.load("method", "ms").__name__ == "MultiSimilarity"
    assert main(["list", "methods"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "method circle cannot be used: the name of acme_loss of circle-dist" in said


@pytest.mark.parametrize("module", ["no_such_top_module", "no_such_package.method"])
def test_entry_point_without_a_module_breaks_only_itself(tmp_path, monkeypatch, module):
    installed(tmp_path, "method", "ghost", module)
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry()
    assert {"ghost", "ms"} <= set(registry.names("method"))
    with pytest.raises(PluginError, match=rf"'ghost'.*{module}"):
        registry.load("method", "ghost")
    with pytest.raises(PluginError, match="'ghost'"):
        registry.code_digest("method", "ghost")
    assert "ghost" in registry.summary("method", "ghost")
    assert issubclass(registry.load("method", "ms"), Method)


# The digest of a method's code.


def digest(folder: Path, text: str) -> str:
    return Registry((plugin(folder, "mine", text),)).code_digest("method", "mine")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another\n        # and more"),
        ("        # a comment\n", ""),
        ('"""Docstring."""', '"""Another docstring,\n\n    with more to say."""'),
        ('    """Docstring."""\n\n', ""),
        ('"""Mean of all values, for tests."""', "'''Other words.'''"),
        ("make_terms(self, spec):", "make_terms(\n        self,\n        spec\n    ):"),
        ("\n\n\nclass", "\n\n\n\n\nclass"),
        ("[Term(lambda z, labels: z.mean())]", "[ Term( (lambda z,labels: z.mean()) ) ]"),
        ("return [", "'a stray string'\n        return ["),
    ],
)
def test_digest_ignores_comments_docstrings_and_layout(tmp_path, old, new):
    assert GOOD.count(old) == 1
    assert digest(tmp_path, GOOD.replace(old, new)) == digest(tmp_path, GOOD)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("z.mean()", "z.sum()"),
        ("z.mean()", "-z.mean()"),
        ("z.mean()", "1.5 * z.mean()"),
        ("class Mine", "class Ours"),
        ("import Method, Term", "import Method, Term, Wants"),
        ("    def make_terms", "    size = 2\n\n    def make_terms"),
        ('    """Docstring."""', '    """Docstring."""\n\n    paper = "x"'),
    ],
)
def test_digest_notices_code(tmp_path, old, new):
    assert digest(tmp_path, GOOD.replace(old, new)) != digest(tmp_path, GOOD)


def test_digest_is_12_hex_digits_and_repeats(tmp_path):
    first = digest(tmp_path, GOOD)
    assert len(first) == 12
    assert int(first, 16) >= 0
    assert digest(tmp_path, GOOD) == first


def test_digests_of_shipped_methods_differ():
    registry = Registry()
    digests = [registry.code_digest("method", name) for name in registry.names("method")]
    assert len(set(digests)) == len(digests)


# The digest covers the shipped code that a method builds on.

BUILDS_ON_MS = {
    "from the module": "from protocols.methods.ms import MultiSimilarity as Base",
    "from the package": "from protocols.methods import ms\nBase = ms.MultiSimilarity",
    "renamed": "from protocols.methods import triplet, ms as other\nBase = other.MultiSimilarity",
    "plain import": "import protocols.methods.ms\nBase = protocols.methods.ms.MultiSimilarity",
    "import as": "import protocols.methods.ms as m\nBase = m.MultiSimilarity",
    "through the package": "import protocols.methods.ms\nfrom protocols import methods\n"
    "Base = methods.ms.MultiSimilarity",
    "loaded by name": "from protocols.discovery import load\nBase = load('method', 'ms')",
    "in a function": "def base():\n    from protocols.methods.ms import MultiSimilarity\n"
    "    return MultiSimilarity\nBase = base()",
}
SUBCLASS = '\n\n\nclass Mine(Base):\n    """Docstring."""\n'


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Return a copy of the shipped methods that a test may edit; digests are made from it."""
    shutil.copytree(discovery._ROOT / "methods", tmp_path / "shipped" / "methods")
    monkeypatch.setattr(discovery, "_ROOT", tmp_path / "shipped")
    return tmp_path / "shipped" / "methods"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("imports", BUILDS_ON_MS.values(), ids=BUILDS_ON_MS)
def test_digest_of_a_subclass_follows_its_base(tmp_path, shipped, imports):
    text = imports + SUBCLASS
    before = digest(tmp_path, text)
    edit(shipped / "smooth_ap.py", "return", "print(); return")  # of no concern
    edit(shipped / "ms.py", '    """', '    """Other words. ')
    assert digest(tmp_path, text) == before
    edit(shipped / "ms.py", "def make_terms", "changed = True\n\n    def make_terms")
    assert digest(tmp_path, text) != before
    assert Registry((tmp_path / "mine.py",)).load("method", "mine").__name__ == "Mine"


@pytest.mark.parametrize("file", ["horde_ms.py", "_horde.py", "ms.py"])
def test_digest_follows_chains_of_shipped_files(tmp_path, shipped, file):
    assert "from protocols.methods._horde" in (shipped / "horde_ms.py").read_text()
    text = "from protocols.methods.horde_ms import HordeMultiSimilarity as Base" + SUBCLASS
    before = digest(tmp_path, text)
    with (shipped / file).open("a") as code:
        code.write("\n\nCHANGED = True\n")
    assert digest(tmp_path, text) != before


def test_digest_of_a_plugin_that_uses_a_private_file_follows_it(tmp_path, shipped):
    text = "from protocols.methods._classify import *" + "\n" + GOOD
    before = digest(tmp_path, text)
    with (shipped / "_classify.py").open("a") as code:
        code.write("\n\nCHANGED = True\n")
    assert digest(tmp_path, text) != before


def test_digest_of_a_plugin_of_its_own_depends_on_no_shipped_method(tmp_path, shipped):
    before = digest(tmp_path, GOOD)
    for path in shipped.glob("*.py"):
        with path.open("a") as code:
            code.write("\n\nCHANGED = True\n")
    assert digest(tmp_path, GOOD) == before


def test_a_file_that_names_no_shipped_file_is_digested_all_the_same(tmp_path):
    text = GOOD + "\nfrom protocols.methods import nowhere\nload('method', '../../x')\n"
    assert digest(tmp_path, text) != digest(tmp_path, GOOD)


def rule_before(folder: str, path: Path) -> str:
    """Return a digest by the rule that committed rows were made with: ``from`` imports only."""
    trees = [ast.parse(path.read_text(encoding="utf-8"))]
    seen, waiting = set(), list(trees)
    while waiting:
        for node in ast.walk(waiting.pop()):
            if not isinstance(node, ast.ImportFrom):
                continue
            package, _, name = (node.module or "").rpartition(".")
            if package == f"protocols.{folder}" and name not in seen:
                seen.add(name)
                waiting.append(ast.parse((path.parent / f"{name}.py").read_text("utf-8")))
                trees.append(waiting[-1])
    for tree in trees:
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            first = body[0] if isinstance(body, list) and body else None
            text = first.value if isinstance(first, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                del body[0]
    return hashlib.sha256("\n".join(map(ast.unparse, trees)).encode()).hexdigest()[:12]


# What they quote in f-strings, or spell, was written out otherwise by another Python. prompt10
# builds on timm.
OF_ONE_PYTHON = {"whitened", "timm", "prompt10", "torchvision"}


@pytest.mark.parametrize("kind", ["method", "trunk"])  # those that are part of a cell
def test_digests_of_what_ships_are_what_they_were(kind):
    registry = Registry()
    for name in registry.names(kind):
        expected = rule_before(KINDS[kind], registry.source(kind, name))
        same = registry.code_digest(kind, name) == expected
        assert same == (name not in OF_ONE_PYTHON), name


@pytest.mark.parametrize("kind", ["protocol", "recipe"])
def test_a_plugin_that_calls_itself_otherwise_than_its_file_is_noticed(tmp_path, kind):
    body = {
        "protocol": "from protocols.specs.toy import PROTOCOL as TOY\n"
        "from dataclasses import replace\nPROTOCOL = replace(TOY, name='other')\n",
        "recipe": "from protocols.recipe import Recipe\n"
        "RECIPE = Recipe(name='other', summary='', optimizer='adam', lr=1.0)\n",
    }
    path = tmp_path / "mine.py"
    path.write_text(body[kind])
    with pytest.raises(PluginError, match=r"mine\.py\) calls itself 'other'.*the same word"):
        Registry((path,)).load(kind, "mine")
    path.write_text(body[kind].replace("other", "mine"))
    assert Registry((path,)).load(kind, "mine").name == "mine"


# Names that mislead, and plugins that move the process.


@pytest.mark.parametrize("name", ["=cmd", "a b", "nan", "001", "\u202eevil", "a\u200bb", "-x"])
def test_a_plugin_that_no_table_could_name_is_refused(tmp_path, name):
    with pytest.raises(PluginError, match="the method is named by the file"):
        Registry((plugin(tmp_path, name),))


@pytest.mark.parametrize("name", ["Triplet", "MS", "ｍｓ"])
def test_a_plugin_named_like_what_ships_but_for_case_or_form_is_refused(tmp_path, name):
    with pytest.raises(PluginError, match="differ only by case, Unicode form or letters") as error:
        Registry((plugin(tmp_path, name),))
    assert repr(name) in str(error.value)


def test_two_plugins_that_differ_by_case_are_refused_with_both_names(tmp_path):
    (tmp_path / "other").mkdir()
    files = (plugin(tmp_path, "mine"), plugin(tmp_path / "other", "Mine"))
    with pytest.raises(PluginError, match="'Mine' and 'mine'"):
        Registry(files)


@pytest.mark.parametrize("kind", ["method", "trunk", "dataset"])
def test_an_installed_name_like_another_but_for_case_is_refused_when_asked_for(
    tmp_path, monkeypatch, kind
):
    (tmp_path / "acme.py").write_text('"""Things."""\n')
    installed(tmp_path, kind, "acme", "acme")
    with (tmp_path / "acme_dist-1.0.dist-info" / "entry_points.txt").open("a") as file:
        file.write("Acme = acme\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry()
    with pytest.raises(PluginError, match="'acme' and 'Acme'"):
        registry.check(kind, "acme")
    assert registry.names(kind)  # a list is printed all the same


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import os; os.chdir('/')", "changes the working folder"),
        ("import sys; sys.path.insert(0, '/nowhere')", r"puts folders before others in sys\.path"),
        ("import sys; del sys.path[0]", r"puts folders before others in sys\.path"),
    ],
)
def test_a_plugin_that_moves_the_process_is_refused_and_undone(tmp_path, line, says):
    before = os.getcwd(), list(sys.path)
    registry = Registry((plugin(tmp_path, "mover", f'"""Moves."""\n{line}\n'),))
    with pytest.raises(PluginError, match=says):
        registry.load("method", "mover")
    assert (os.getcwd(), list(sys.path)) == before


def test_a_plugin_may_append_to_the_search_path(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    text = GOOD + "\nimport sys\nsys.path.append('/nowhere')\n"
    assert Registry((plugin(tmp_path, "adder", text),)).load("method", "adder")


@pytest.mark.parametrize("raised", ["SystemExit(0)", "GeneratorExit()", "ValueError('x')"])
def test_what_a_declaration_raises_does_not_end_the_program(tmp_path, raised):
    space = (
        f"\n    @classmethod\n    def space(cls, dataset, bounds='wide'):\n        raise {raised}\n"
    )
    method = Registry((plugin(tmp_path, "ender", GOOD + space),)).load("method", "ender")
    with pytest.raises(PluginError, match=rf"the search space .*{raised[:8]}"):
        space_under(load("protocol", "toy"), "ender", method, "toy", load("recipe", "adam"))
