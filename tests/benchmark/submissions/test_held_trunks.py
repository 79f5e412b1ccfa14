"""A row on a trunk that holds another one: its code is looked up file by file in the commit."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmark.submissions.provenance import Code
from protocols.discovery import Registry

ROOT = Path(__file__).parents[3]
OWN = "class Mine:\n    '''A trunk.'''\n\n\ndef build(weights=None):\n    return Mine()\n"


@dataclass
class Commit:
    """What git would give of one commit: the trunks that ship, and files of somebody's own."""

    own: dict[str, str] = field(default_factory=dict)

    def text(self, name):
        path = name.partition(":")[2]
        if path.startswith("protocols/trunks/") and (ROOT / path).is_file():
            return (ROOT / path).read_text(encoding="utf-8")
        return self.own.get(path)

    def named(self, commit, name):
        return [path for path in self.own if path.endswith(f"/{name}")]


def code(**own):
    commit = Commit({f"plugins/{name}.py": text for name, text in own.items()})
    return Code(commit, commit)


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("tiny", False),
        ("frozen:tiny", False),
        ("lora8:timm:vit_tiny_patch16_224", False),
        ("prompt10:timm:vit_tiny_patch16_224", True),
    ],
)
def test_what_ships_has_the_digest_that_a_study_gives_it(name, drawn):
    ((path, digest, random),) = code().trunks("c0", name)
    stem = name.partition(":")[0]
    assert path == f"protocols/trunks/{stem}.py"
    assert digest == Registry().code_digest("trunk", name)
    assert random == drawn


def test_a_plugin_inside_counts_by_its_own_file(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    registry = Registry((tmp_path / "mine.py",))
    ((_, digest, _),) = code(mine=OWN).trunks("c0", "frozen:mine")
    assert digest == registry.code_digest("trunk", "frozen:mine")
    ((_, other, _),) = code(mine=OWN.replace("Mine()", "None")).trunks("c0", "frozen:mine")
    assert other not in (digest, None)
    assert list(code().trunks("c0", "frozen:mine")) == []


def test_names_inside_names_are_read_to_a_bound():
    many = 'ARGUMENT = "TRUNK"\n'
    nested = code(a=many).trunks("c0", "a:" * 30 + "tiny")
    assert [digest for _, digest, _ in nested] == []
